//! Memo: the callable behind `lru_cache` and `cache`. It follows `_functoolsmodule.c` of CPython in what it does, and
//! differs in what it makes: a hit makes nothing, neither a tuple of the arguments nor a key.
//!
//! A raw type, since PyO3's entry to a call costs as much as the look-up. Its Python half, the decorators, is in
//! `python/ullage/_memo.py`.

use crate::error::{Error, Result};
use crate::ffi::{self, attached, door, Method};
use crate::key::{Key, Ready};
use crate::lock::{self, Shared};
use crate::reclaim::{self, Account};
use crate::value::Object;
use pyo3::exceptions::{PyReferenceError, PyTypeError};
use pyo3::ffi::*;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use std::ffi::{c_int, c_uint, c_void, CStr};
use std::mem::offset_of;
use std::ptr::{addr_of_mut, null_mut, NonNull};
use std::slice::from_raw_parts;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use ullage_core::{mix, Equality, Lru, New, Plainly, Refused, Removed, Tick, Verdict};

/// No entry has a lifetime, so it is always the same time.
const NOW: Tick = Tick(0);

/// A function with its results.
///
/// A key is what functools makes of the arguments: a lone exact `int` or `str` as it is, else a flat tuple of the
/// positional arguments, then `mark` and the names and values of the others, then, where it is typed, all their types.
#[repr(C)]
struct Memo {
    head: PyObject,
    vectorcall: vectorcallfunc,
    dict: *mut PyObject,
    weak_references: *mut PyObject,
    shared: Shared<Lru<Object, Object>>,
    account: Arc<Account>,
    /// None once the collector has taken them.
    parts: Option<Parts>,
    /// None for no bound. 0 keeps nothing.
    maxsize: Option<usize>,
    typed: bool,
    /// Whether the collector may have to know of what is held. Never false while something collectable is.
    collectable: AtomicBool,
}

struct Parts {
    function: Object,
    /// `functools._CacheInfo`.
    info: Object,
    /// Stands in a key where the names begin.
    mark: Object,
}

/// What a call would have for a key: an equality that can become the key itself.
trait Question: Equality<Object, Error = Error> {
    /// The mixed hash.
    fn hash(&self) -> u32;

    /// The key, made to be stored.
    fn to_key(&self) -> Result<Object>;

    /// Whether the collector may have to know of the key.
    fn is_collectable(&self) -> bool;
}

/// A lone `str` or `int`, which a stored tuple never equals.
impl Question for Key {
    #[inline(always)]
    fn hash(&self) -> u32 {
        self.hash
    }

    fn to_key(&self) -> Result<Object> {
        Ok(self.to_object())
    }

    fn is_collectable(&self) -> bool {
        false
    }
}

/// All other calls: the items of the tuple that would be the key, borrowed from the caller, and their hash.
struct Items<'a> {
    items: &'a [*mut PyObject],
    hash: u32,
}

impl<'a> Items<'a> {
    /// Hashes the items, each once and in order, as a tuple does (xxHash); Python may run.
    ///
    /// # Safety
    /// The items are valid for as long as this is used, and the thread is attached.
    #[inline(always)]
    unsafe fn new(items: &'a [*mut PyObject]) -> Result<Self> {
        let mut hash: u64 = 0x27D4_EB2F_1656_67C5;
        for &item in items {
            // SAFETY: passed on to the caller.
            let lane = match unsafe { ffi::hash(item) } {
                -1 => return Err(raised()),
                lane => lane as u64,
            };
            hash = hash.wrapping_add(lane.wrapping_mul(0xC2B2_AE3D_27D4_EB4F)).rotate_left(31);
            hash = hash.wrapping_mul(0x9E37_79B1_85EB_CA87);
        }
        Ok(Items { items, hash: mix(hash) })
    }
}

impl Question for Items<'_> {
    #[inline(always)]
    fn hash(&self) -> u32 {
        self.hash
    }

    fn to_key(&self) -> Result<Object> {
        // SAFETY: whoever made this vouched for the items; a new tuple is filled before anything sees it.
        unsafe {
            let tuple = Object::from_owned(PyTuple_New(self.items.len() as Py_ssize_t)).ok_or_else(raised)?;
            for (i, &item) in self.items.iter().enumerate() {
                PyTuple_SET_ITEM(tuple.as_ptr(), i as Py_ssize_t, Object::from_borrowed(item).into_ptr());
            }
            Ok(tuple)
        }
    }

    fn is_collectable(&self) -> bool {
        // SAFETY: as above.
        self.items.iter().any(|&item| unsafe { ffi::is_collectable(item) })
    }
}

impl Equality<Object> for Items<'_> {
    type Error = Error;

    #[inline(always)]
    fn verdict(&self, stored: &Object) -> Verdict {
        // SAFETY: whoever made this vouched for the items, and a stored key is valid by its own reference.
        unsafe {
            match ffi::items_of_tuple(stored.as_ptr()) {
                Some(stored) if stored.len() == self.items.len() => ffi::verdict_of_items(stored, self.items, 0),
                _ => Verdict::Different,
            }
        }
    }

    #[cold]
    fn ask(&self, stored: &Object) -> Result<bool> {
        // SAFETY: as for `verdict`; the stored tuple is kept alive by its reference, and its items by the tuple.
        unsafe {
            for (&stored, &item) in ffi::items_of_tuple(stored.as_ptr()).unwrap_or(&[]).iter().zip(self.items) {
                if !ffi::ask(stored, item)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn dup(&self, stored: &Object) -> Object {
        stored.dup()
    }

    fn identity(stored: &Object) -> usize {
        stored.as_ptr() as usize
    }
}

/// The exception that is set.
#[cold]
fn raised() -> Error {
    attached(PyErr::fetch).into()
}

/// The arguments of one call, as the interpreter passes them.
#[derive(Clone, Copy)]
struct Arguments {
    args: *const *mut PyObject,
    nargsf: usize,
    names: *mut PyObject,
}

impl Arguments {
    /// The positional ones, and `more` of those behind them.
    ///
    /// # Safety
    /// There are as many, and they outlive what is done with them.
    #[inline(always)]
    unsafe fn first<'a>(self, more: usize) -> &'a [*mut PyObject] {
        // SAFETY: passed on to the caller; of none there may be no address either.
        unsafe {
            match PyVectorcall_NARGS(self.nargsf) as usize + more {
                0 => &[],
                n => from_raw_parts(self.args, n),
            }
        }
    }
}

/// References to the types among the items of a key: an argument may change its class while it is compared.
struct Held<'a>(&'a [*mut PyObject]);

impl<'a> Held<'a> {
    unsafe fn new(types: &'a [*mut PyObject]) -> Self {
        // SAFETY: the caller passes valid types.
        types.iter().for_each(|&class| unsafe { Py_INCREF(class) });
        Held(types)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: their references are held since `new`.
        self.0.iter().for_each(|&class| unsafe { Py_DECREF(class) });
    }
}

impl Memo {
    /// The instance behind a pointer that one of its slots was called with.
    unsafe fn of<'a>(slf: *mut PyObject) -> &'a Memo {
        // SAFETY: the interpreter calls a slot with an instance of its type, which has no subclasses.
        unsafe { &*slf.cast::<Memo>() }
    }

    fn parts(&self) -> Result<&Parts> {
        self.parts.as_ref().ok_or_else(|| PyReferenceError::new_err("the function has been collected").into())
    }

    /// The stored result of a call, where a glance tells; `Some(None)` where it tells that there is none, a miss. None says
    /// nothing.
    #[inline(always)]
    fn glance(&self, hash: u32, question: &impl Plainly<Object>) -> Option<Option<Object>> {
        lock::glance(&self.shared)?.glance_get(hash, question, Object::dup)
    }

    /// The stored result of a call, or else that of the function.
    #[inline(always)]
    fn answer(&self, question: &impl Question, arguments: Arguments) -> Result<*mut PyObject> {
        match self.glance(question.hash(), question) {
            Some(Some(result)) => Ok(result.into_ptr()),
            Some(None) => self.compute(question, arguments),
            None => self.look(question, arguments),
        }
    }

    #[inline(never)]
    fn look(&self, question: &impl Question, arguments: Arguments) -> Result<*mut PyObject> {
        let hash = question.hash();
        match self.shared.ask(question, |lru, probe| Ok(lru.get(hash, probe, NOW)?.map(Object::dup)))? {
            Some(result) => Ok(result.into_ptr()),
            None => self.compute(question, arguments),
        }
    }

    #[inline(never)]
    fn compute(&self, question: &impl Question, arguments: Arguments) -> Result<*mut PyObject> {
        let Some(result) = self.run(arguments)? else { return Ok(null_mut()) };
        self.store(question, result.dup())?;
        Ok(result.into_ptr())
    }

    /// The answer to a call that gave names, or whose types count.
    ///
    /// # Safety
    /// The arguments are the interpreter's.
    #[inline(never)]
    unsafe fn answer_flat(&self, arguments: Arguments) -> Result<*mut PyObject> {
        // SAFETY: the interpreter passes a tuple of names, and as many values behind the positional arguments.
        unsafe {
            let names = ffi::items_of_tuple(arguments.names).unwrap_or(&[]);
            let given = arguments.first(names.len());
            let (positional, values) = given.split_at(given.len() - names.len());
            let named = if names.is_empty() { 0 } else { 1 + 2 * names.len() };
            let types = if self.typed { given.len() } else { 0 };

            let (mut few, mut many) = ([null_mut(); 16], Vec::new());
            let len = positional.len() + named + types;
            let items = match few.get_mut(..len) {
                Some(few) => few,
                None => {
                    many.try_reserve_exact(len).map_err(Refused::from)?;
                    many.resize(len, null_mut());
                    &mut many[..]
                }
            };
            items[..positional.len()].copy_from_slice(positional);
            if let [mark, pairs @ ..] = &mut items[positional.len()..][..named] {
                *mark = self.parts()?.mark.as_ptr();
                for (pair, (&name, &value)) in pairs.chunks_exact_mut(2).zip(names.iter().zip(values)) {
                    pair.copy_from_slice(&[name, value]);
                }
            }
            for (class, &object) in items[len - types..].iter_mut().zip(given) {
                *class = Py_TYPE(object).cast();
            }
            let _held = Held::new(&items[len - types..]);
            self.answer_items(items, arguments)
        }
    }

    /// The answer to any call but that of one `str` or `int`.
    ///
    /// # Safety
    /// The items are valid throughout, and the arguments the interpreter's.
    #[inline(never)]
    unsafe fn answer_items(&self, items: &[*mut PyObject], arguments: Arguments) -> Result<*mut PyObject> {
        // SAFETY: passed on to the caller.
        self.answer(&unsafe { Items::new(items)? }, arguments)
    }

    /// Calls the function. None if it raised: the exception is set.
    fn run(&self, Arguments { args, nargsf, names }: Arguments) -> Result<Option<Object>> {
        let function = self.parts()?.function.as_ptr();
        // SAFETY: attached, and the arguments are the caller's own; the depth is left if and only if it was entered. A
        // vectorcall must count it itself, or memos of memos of C functions would end the stack.
        unsafe {
            if Py_EnterRecursiveCall(c" while calling a Python object".as_ptr()) != 0 {
                return Ok(None);
            }
            let result = PyObject_Vectorcall(function, args, nargsf, names);
            Py_LeaveRecursiveCall();
            Ok(Object::from_owned(result))
        }
    }

    /// Stores a result. If there is one by now, a bounded memo keeps it and one without a bound takes the new one.
    fn store(&self, question: &impl Question, result: Object) -> Result<()> {
        if !self.collectable.load(Relaxed) && (result.is_collectable() || question.is_collectable()) {
            self.collectable.store(true, Relaxed);
        }
        let hash = question.hash();
        let mut new = New { hash, pair: Some((question.to_key()?, result)), weight: 1, ttl: None };
        let mut removed = Removed::new();
        let stored = self.shared.ask(question, |lru, probe| match lru.spot(hash, probe)? {
            Some(_) if self.maxsize.is_some() => Ok(()),
            found => lru.put_at(found, &mut new, NOW, &mut removed),
        });
        for (key, value, _) in removed {
            reclaim::retire(&self.account, key);
            reclaim::retire(&self.account, value);
        }
        reclaim::pace();
        stored
    }

    /// Empties the memo and its counts.
    fn clear(&self) {
        let fresh = self.fresh();
        let cleared = std::mem::replace(&mut *self.shared.lock(), fresh).clear();
        reclaim::abandon(&self.account, cleared.len(), cleared.map(|(key, value)| (key, Some(value))));
    }

    fn fresh(&self) -> Lru<Object, Object> {
        let mut lru = Lru::new();
        lru.configure(self.maxsize.map(|maxsize| maxsize as u64), false, None, None);
        lru
    }
}

/// Where types do not count: a hit by one `str` or `int` is written out here, and calls nothing. What is not a hit gets its
/// argument without leave to write in front of it, so that there is less to keep meanwhile.
unsafe extern "C" fn call(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    nargsf: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the interpreter passes an instance and arguments that stay valid while it waits for us.
    door(null_mut(), || unsafe {
        if PyVectorcall_NARGS(nargsf) != 1 || !names.is_null() {
            return Ok(answer(slf, args, nargsf, names));
        }
        let seen = Ready::new(*args).and_then(|key| Memo::of(slf).glance(key.0.hash, &key));
        Ok(match seen {
            Some(Some(result)) => result.into_ptr(),
            Some(None) => compute(slf, args),
            None => answer(slf, args, 1, null_mut()),
        })
    })
}

#[inline(never)]
unsafe extern "C" fn answer(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    nargsf: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: as for `call`.
    door(null_mut(), || unsafe {
        let (memo, arguments) = (Memo::of(slf), Arguments { args, nargsf, names });
        if memo.typed || !names.is_null() && PyTuple_GET_SIZE(names) > 0 {
            return memo.answer_flat(arguments);
        }
        match arguments.first(0) {
            [item] if ffi::is_scalar(*item) => memo.answer(&Key::new(*item)?, arguments),
            items => memo.answer_items(items, arguments),
        }
    })
}

/// The answer to a call by one argument for which there is none yet.
#[inline(never)]
unsafe extern "C" fn compute(slf: *mut PyObject, args: *const *mut PyObject) -> *mut PyObject {
    // SAFETY: as for `call`.
    door(null_mut(), || unsafe {
        Memo::of(slf).compute(&Key::new(*args)?, Arguments { args, nargsf: 1, names: null_mut() })
    })
}

/// Where nothing is kept, nothing is hashed.
unsafe extern "C" fn call_uncached(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    nargsf: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: as for `call`.
        let memo = unsafe { Memo::of(slf) };
        memo.shared.lock().count_miss();
        Ok(memo.run(Arguments { args, nargsf, names })?.map_or(null_mut(), Object::into_ptr))
    })
}

unsafe extern "C" fn bind(slf: *mut PyObject, object: *mut PyObject, _class: *mut PyObject) -> *mut PyObject {
    // SAFETY: the interpreter passes an instance of ours, and the object that it was found on, if any.
    unsafe {
        if object.is_null() || object == Py_None() {
            return same(slf, null_mut());
        }
        ffi::PyMethod_New(slf, object)
    }
}

unsafe extern "C" fn same(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: a method is called with a valid instance.
    unsafe { Object::from_borrowed(slf) }.into_ptr()
}

unsafe extern "C" fn reduce(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { PyObject_GetAttrString(slf, c"__qualname__".as_ptr()) }
}

unsafe extern "C" fn cache_info(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: as above.
        let memo = unsafe { Memo::of(slf) };
        let (stats, len) = {
            let lru = memo.shared.lock();
            (lru.stats(), lru.len(NOW))
        };
        let info = &memo.parts()?.info;
        attached(|py| Ok(info.bind(py).call1((stats.hits, stats.misses, memo.maxsize, len))?.into_ptr()))
    })
}

unsafe extern "C" fn cache_clear(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: as above.
        unsafe { Memo::of(slf) }.clear();
        // SAFETY: None is always valid.
        Ok(unsafe { Object::from_borrowed(Py_None()) }.into_ptr())
    })
}

unsafe extern "C" fn size_of_memo(slf: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    // SAFETY: as above.
    unsafe { PyLong_FromSize_t(size_of::<Memo>() + Memo::of(slf).shared.lock().bytes()) }
}

unsafe extern "C" fn traverse(slf: *mut PyObject, visit: visitproc, arg: *mut c_void) -> c_int {
    // SAFETY: the collector passes an instance, which has a type; what it is shown is held, and only visited.
    unsafe {
        let memo = Memo::of(slf);
        let show = |object: *mut PyObject| if object.is_null() { 0 } else { visit(object, arg) };
        let parts = memo.parts.iter().flat_map(|parts| [&parts.function, &parts.info, &parts.mark]).map(Object::as_ptr);
        let mut code = [Py_TYPE(slf).cast(), memo.dict].into_iter().chain(parts).map(show).find(|&code| code != 0);
        // A memo of strings and numbers is not walked, however large.
        if code.is_none() && memo.collectable.load(Relaxed) {
            let lru = memo.shared.lock();
            let mut held = lru.entries().flat_map(|(key, value)| [key.as_ptr(), value.as_ptr()]);
            code = held.find_map(|object| Some(show(object)).filter(|&code| code != 0));
        }
        code.unwrap_or(0)
    }
}

unsafe extern "C" fn clear(slf: *mut PyObject) -> c_int {
    // SAFETY: the collector passes an instance that nothing else reaches any more.
    unsafe {
        let memo = slf.cast::<Memo>();
        (*memo).clear();
        drop((*memo).parts.take());
        // Last: what is deallocated through a dict, as `__wrapped__` is, does not nest without end.
        drop(Object::from_owned(std::mem::replace(&mut (*memo).dict, null_mut())));
    }
    0
}

unsafe extern "C" fn deallocate(slf: *mut PyObject) {
    // SAFETY: the last reference is gone; the instance was made by `memoize`, and its type by `make_type`.
    unsafe {
        let (memo, class) = (slf.cast::<Memo>(), Py_TYPE(slf));
        PyObject_GC_UnTrack(slf.cast());
        if !(*memo).weak_references.is_null() {
            PyObject_ClearWeakRefs(slf);
        }
        clear(slf);
        addr_of_mut!((*memo).shared).drop_in_place();
        addr_of_mut!((*memo).account).drop_in_place();
        PyObject_GC_Del(slf.cast());
        Py_DECREF(class.cast());
    }
}

/// A memo of `function`; `maxsize` an integer, negative for 0, or None for no bound.
#[pyfunction]
pub(crate) fn memoize<'py>(
    function: Bound<'py, PyAny>,
    maxsize: Bound<'py, PyAny>,
    typed: bool,
    info: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    if !function.is_callable() {
        return Err(PyTypeError::new_err("the first argument must be callable"));
    }
    let maxsize = match maxsize.is_none() {
        true => None,
        false => Some(ffi::index(&maxsize)?.max(0) as usize),
    };
    let mark = py.get_type::<PyAny>().call0()?;
    let class = CLASS.get_or_try_init(py, || make_type(py))?.bind(py).as_type_ptr();
    // SAFETY: the type is ours; what it allocates is zeroed, and filled before anything else runs.
    unsafe {
        let allocated = PyType_GenericAlloc(class, 0);
        let memo = NonNull::new(allocated.cast::<Memo>()).ok_or_else(|| PyErr::fetch(py))?.as_ptr();
        (*memo).vectorcall = match maxsize {
            Some(0) => call_uncached,
            _ if typed => answer,
            _ => call,
        };
        (*memo).maxsize = maxsize;
        (*memo).typed = typed;
        let [function, info, mark] = [function, info, mark].map(|object| Object::new(&object));
        addr_of_mut!((*memo).parts).write(Some(Parts { function, info, mark }));
        addr_of_mut!((*memo).account).write(Arc::default());
        addr_of_mut!((*memo).shared).write(Shared::behind((*memo).fresh()));
        Ok(Bound::from_owned_ptr(py, allocated))
    }
}

static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Shows the keys and results of a memo, under its lock: to be counted, not used. False if the object is none.
pub(crate) fn visit(object: &Bound<'_, PyAny>, mut show: impl FnMut(&Object)) -> bool {
    if !CLASS.get(object.py()).is_some_and(|class| object.get_type().is(class)) {
        return false;
    }
    // SAFETY: the type was compared just now.
    let memo = unsafe { Memo::of(object.as_ptr()) };
    for (key, result) in memo.shared.lock().entries() {
        show(key);
        show(result);
    }
    true
}

fn make_type(py: Python<'_>) -> PyResult<Py<PyType>> {
    let offset = |name: &'static CStr, offset: usize| PyMemberDef {
        name: name.as_ptr(),
        type_code: Py_T_PYSSIZET,
        offset: offset as Py_ssize_t,
        flags: Py_READONLY,
        ..PyMemberDef::default()
    };
    let mut members = [
        offset(c"__vectorcalloffset__", offset_of!(Memo, vectorcall)),
        offset(c"__dictoffset__", offset_of!(Memo, dict)),
        offset(c"__weaklistoffset__", offset_of!(Memo, weak_references)),
        PyMemberDef::default(),
    ];
    let dictionary = PyGetSetDef {
        name: c"__dict__".as_ptr(),
        get: Some(PyObject_GenericGetDict),
        set: Some(PyObject_GenericSetDict),
        ..PyGetSetDef::default()
    };
    // The type points at these for as long as it lives, which is as long as the process.
    let attributes = Box::leak(Box::new([dictionary, PyGetSetDef::default()]));
    let slot = |slot: c_int, pfunc: *mut c_void| PyType_Slot { slot, pfunc };
    let mut slots = [
        slot(Py_tp_doc, c"A function that remembers its results.".as_ptr() as *mut c_void),
        slot(Py_tp_call, PyVectorcall_Call as *mut c_void),
        slot(Py_tp_descr_get, bind as *mut c_void),
        slot(Py_tp_traverse, traverse as *mut c_void),
        slot(Py_tp_clear, clear as *mut c_void),
        slot(Py_tp_dealloc, deallocate as *mut c_void),
        slot(Py_tp_methods, METHODS.as_ptr() as *mut c_void),
        slot(Py_tp_getset, attributes.as_mut_ptr().cast()),
        slot(Py_tp_members, members.as_mut_ptr().cast()),
        slot(0, null_mut()),
    ];
    let flags = Py_TPFLAGS_DEFAULT
        | Py_TPFLAGS_HAVE_GC
        | Py_TPFLAGS_HAVE_VECTORCALL
        | Py_TPFLAGS_METHOD_DESCRIPTOR
        | Py_TPFLAGS_IMMUTABLETYPE
        | Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = PyType_Spec {
        name: c"ullage._core.Memo".as_ptr(),
        basicsize: size_of::<Memo>() as c_int,
        itemsize: 0,
        flags: flags as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: each slot has a function of the slot's own type, and what the type keeps lives as long as it.
    let class = unsafe { Bound::from_owned_ptr_or_err(py, PyType_FromSpec(&mut spec))? };
    Ok(class.cast_into::<PyType>()?.unbind())
}

static METHODS: [Method; 7] = [
    Method::without(c"cache_info", cache_info, c"cache_info($self, /)\n--\n\nHits, misses, maxsize and currsize."),
    Method::without(c"cache_clear", cache_clear, c"cache_clear($self, /)\n--\n\nForgets all results and counts."),
    Method::without(c"__reduce__", reduce, c"Pickled by its qualified name, as a function is."),
    Method::without(c"__copy__", same, c"Itself, as of a function."),
    Method::with_one(c"__deepcopy__", same, c"Itself, as of a function."),
    Method::without(c"__sizeof__", size_of_memo, c"Bytes, without keys and results."),
    Method::END,
];
