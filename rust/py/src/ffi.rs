//! Raw C-API: comparing builtin objects without running Python, and the hot slots and methods of our types.
//!
//! PyO3's own entry to a method costs as much as the look-up behind it. So the few hot doors (`[]`, `in`, `get`,
//! `append`, `begin`, `complete`) are raw functions, hung on the PyO3 type after it is made; the rest is PyO3.

use crate::error::{missing, Error};
use crate::value::Object;
use pyo3::ffi::*;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};
use std::ffi::{c_int, c_void, CStr};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::{addr_of_mut, null_mut};
use ullage_core::Verdict;

/// `hash(object)`, or -1 with an exception set. A string that knows its hash is not asked.
///
/// # Safety
/// `object` is valid and the thread is attached.
#[inline]
pub(crate) unsafe fn hash(object: *mut PyObject) -> Py_hash_t {
    // SAFETY: passed on to the caller.
    unsafe { ready_hash(object).unwrap_or_else(|| PyObject_Hash(object)) }
}

/// The hash of an exact `str` that knows it, or of an exact `int` of one digit.
///
/// # Safety
/// `object` is valid.
#[inline(always)]
pub(crate) unsafe fn ready_hash(object: *mut PyObject) -> Option<Py_hash_t> {
    // SAFETY: the type is compared exactly before a layout is relied on.
    unsafe {
        if is_exactly(object, addr_of_mut!(PyUnicode_Type)) {
            let known = (*object.cast::<PyASCIIObject>()).hash;
            return (known != -1).then_some(known);
        }
        if is_exactly(object, addr_of_mut!(PyLong_Type)) {
            return small_int(object).map(|value| if value == -1 { -2 } else { value });
        }
        None
    }
}

/// An `int` as the interpreter's public headers lay it out (`longintrepr.h`): its size, sign and flags, then digits.
#[repr(C)]
struct Long {
    base: PyObject,
    tag: isize,
    digit: u32,
}

/// Refuses an interpreter that was configured for digits of another width than [`Long`] has.
pub(crate) fn check_digits(py: Python<'_>) -> PyResult<()> {
    let bits: u32 = py.import("sys")?.getattr("int_info")?.getattr("bits_per_digit")?.extract()?;
    if bits == 30 {
        return Ok(());
    }
    Err(pyo3::exceptions::PyImportError::new_err(format!(
        "ullage needs a Python whose ints have 30 bits a digit, not {bits}"
    )))
}

/// The tag of a positive number of one digit: its size, to which 3.12 appends three bits. The middle one may be set.
const ONE_DIGIT: isize = if cfg!(Py_3_12) { 8 } else { 1 };
const MIDDLE: isize = if cfg!(Py_3_12) { 4 } else { 0 };

/// The value of an exact `int` of one digit, read where it lies.
#[inline(always)]
unsafe fn small_int(object: *mut PyObject) -> Option<Py_hash_t> {
    // SAFETY: the caller passes an exact int; every int has room for a digit, whose width `check_digits` has seen.
    let Long { tag, digit, .. } = unsafe { &*object.cast::<Long>() };
    let digit = *digit as Py_hash_t;
    if *tag & !MIDDLE == ONE_DIGIT {
        return Some(digit);
    }
    if cfg!(Py_3_12) {
        // The two lowest bits are 0, 1 or 2 for a positive number, zero and a negative one.
        (*tag < 16).then(|| digit * (1 - (tag & 3)))
    } else {
        matches!(tag, -1 | 0).then(|| digit * tag)
    }
}

/// Whether two objects are one, the same small int, or the same short string of ASCII. False says nothing. It calls nothing,
/// so that where it is written out no registers need be saved.
///
/// # Safety
/// Both are valid.
#[inline(always)]
pub(crate) unsafe fn is_plainly_same(stored: *mut PyObject, asked: *mut PyObject) -> bool {
    if stored == asked {
        return true;
    }
    // SAFETY: the types are compared exactly before a layout is relied on.
    unsafe {
        let class = Py_TYPE(asked);
        if class == addr_of_mut!(PyLong_Type) {
            Py_TYPE(stored) == class && matches!((small_int(stored), small_int(asked)), (Some(a), Some(b)) if a == b)
        } else {
            class == addr_of_mut!(PyUnicode_Type) && Py_TYPE(stored) == class && is_same_short_str(stored, asked)
        }
    }
}

/// Characters that a glance compares.
const MAX_GLANCE: usize = 64;

#[inline(always)]
unsafe fn is_same_short_str(a: *mut PyObject, b: *mut PyObject) -> bool {
    // SAFETY: the caller passes exact strings; one of compact ASCII has its characters behind its head.
    unsafe {
        let (left, right) = (a.cast::<PyASCIIObject>(), b.cast::<PyASCIIObject>());
        let len = (*left).length;
        len == (*right).length
            && len as usize <= MAX_GLANCE
            && is_compact_ascii(a)
            && is_compact_ascii(b)
            && is_same_memory(left.add(1).cast(), right.add(1).cast(), len as usize)
    }
}

/// Whether the characters of an exact string are ASCII, and stand right behind its head. PyO3 cannot tell on 3.14.
///
/// # Safety
/// `object` is an exact string.
#[inline(always)]
pub(crate) unsafe fn is_compact_ascii(object: *mut PyObject) -> bool {
    // SAFETY: passed on to the caller.
    #[cfg(not(Py_3_14))]
    return unsafe { PyUnicode_IS_COMPACT_ASCII(object) } != 0;
    #[cfg(Py_3_14)]
    {
        let _ = object;
        false
    }
}

/// Compares eight bytes at a time, the last eight perhaps twice.
#[inline(always)]
unsafe fn is_same_memory(a: *const u8, b: *const u8, len: usize) -> bool {
    // SAFETY: nothing is read past `len`.
    unsafe {
        let is_same_word =
            |at: usize| a.add(at).cast::<u64>().read_unaligned() == b.add(at).cast::<u64>().read_unaligned();
        if len < 8 {
            return (0..len).all(|at| *a.add(at) == *b.add(at));
        }
        let mut at = 0;
        while at + 8 < len {
            if !is_same_word(at) {
                return false;
            }
            at += 8;
        }
        is_same_word(len - 8)
    }
}

#[inline]
unsafe fn is_exactly(object: *mut PyObject, class: *mut PyTypeObject) -> bool {
    // SAFETY: the caller passes a valid object.
    unsafe { Py_TYPE(object) == class }
}

/// Whether two objects are equal, as far as that can be told without running Python.
///
/// # Safety
/// Both are valid and the thread is attached.
#[inline]
pub(crate) unsafe fn verdict(stored: *mut PyObject, asked: *mut PyObject) -> Verdict {
    if stored == asked {
        return Verdict::Same;
    }
    // SAFETY: both are valid.
    unsafe { verdict_of_others(stored, asked, 0) }
}

/// Tuples nested deeper, or longer, are left to Python: the work done under a lock is bounded.
const MAX_DEPTH: usize = 3;
const MAX_ITEMS: Py_ssize_t = 16;

unsafe fn verdict_of_others(a: *mut PyObject, b: *mut PyObject, depth: usize) -> Verdict {
    // SAFETY: both are valid; each branch has checked the exact type that it relies on.
    unsafe {
        let class = Py_TYPE(a);
        if class != Py_TYPE(b) {
            return verdict_of_mixed(a, b);
        }
        if class == addr_of_mut!(PyUnicode_Type) {
            return same_str(a, b);
        }
        if class == addr_of_mut!(PyLong_Type) {
            return match (small_int(a), small_int(b)) {
                (Some(a), Some(b)) if a == b => Verdict::Same,
                (None, None) => compare(class, a, b),
                _ => Verdict::Different,
            };
        }
        if class == addr_of_mut!(PyTuple_Type) {
            let len = PyTuple_GET_SIZE(a);
            if len != PyTuple_GET_SIZE(b) {
                return Verdict::Different;
            }
            if len > MAX_ITEMS || depth == MAX_DEPTH {
                return Verdict::Undecided;
            }
            let items = |tuple| items_of_tuple(tuple).unwrap_or(&[]);
            return verdict_of_items(items(a), items(b), depth + 1);
        }
        if is_number(class) || class == addr_of_mut!(PyBytes_Type) {
            return compare(class, a, b);
        }
        Verdict::Undecided
    }
}

/// Whether two objects are equal, as Python says. Foreign code runs.
///
/// # Safety
/// Both are valid, the thread is attached, and nothing is held.
pub(crate) unsafe fn ask(stored: *mut PyObject, asked: *mut PyObject) -> Result<bool, Error> {
    // SAFETY: passed on to the caller. The stored one comes first, as in a dict.
    match unsafe { PyObject_RichCompareBool(stored, asked, Py_EQ) } {
        -1 => Err(attached(PyErr::fetch).into()),
        answer => Ok(answer == 1),
    }
}

/// Whether an object is an exact `str` or `int`.
///
/// # Safety
/// It is valid.
#[inline(always)]
pub(crate) unsafe fn is_scalar(object: *mut PyObject) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { is_exactly(object, addr_of_mut!(PyUnicode_Type)) || is_exactly(object, addr_of_mut!(PyLong_Type)) }
}

/// Whether the collector may ever track an object of this type.
///
/// # Safety
/// It is valid.
pub(crate) unsafe fn is_collectable(object: *mut PyObject) -> bool {
    // SAFETY: a valid object has a valid type.
    unsafe { PyType_IS_GC(Py_TYPE(object)) != 0 }
}

/// What an exact tuple holds; None for anything else.
///
/// # Safety
/// `object` is null or valid, and outlives what is done with the items.
#[inline(always)]
pub(crate) unsafe fn items_of_tuple<'a>(object: *mut PyObject) -> Option<&'a [*mut PyObject]> {
    // SAFETY: the type is compared exactly before the layout is relied on; a tuple never changes.
    unsafe {
        if object.is_null() || !is_exactly(object, addr_of_mut!(PyTuple_Type)) {
            return None;
        }
        let items: *const *mut PyObject = std::ptr::addr_of!((*object.cast::<PyTupleObject>()).ob_item).cast();
        Some(std::slice::from_raw_parts(items, PyTuple_GET_SIZE(object) as usize))
    }
}

/// Whether items are equal one by one, as far as that can be told without running Python.
///
/// # Safety
/// All are valid and the thread is attached.
#[inline]
pub(crate) unsafe fn verdict_of_items(left: &[*mut PyObject], right: &[*mut PyObject], depth: usize) -> Verdict {
    let mut verdict = Verdict::Same;
    for (&a, &b) in left.iter().zip(right) {
        if a != b {
            // SAFETY: passed on to the caller.
            match unsafe { verdict_of_others(a, b, depth) } {
                Verdict::Same => {}
                Verdict::Different => return Verdict::Different,
                Verdict::Undecided => verdict = Verdict::Undecided,
            }
        }
    }
    verdict
}

unsafe fn verdict_of_mixed(a: *mut PyObject, b: *mut PyObject) -> Verdict {
    // SAFETY: both are valid.
    unsafe {
        let (left, right) = (Py_TYPE(a), Py_TYPE(b));
        match (is_number(left), is_number(right)) {
            // An int and a bool; a float compares with a large int by calling the interpreter.
            (true, true) if left != addr_of_mut!(PyFloat_Type) && right != addr_of_mut!(PyFloat_Type) => {
                compare(addr_of_mut!(PyLong_Type), a, b)
            }
            (true, true) => Verdict::Undecided,
            // Builtin objects of unlike kinds are unequal; the comparison itself might warn (`str` with `bytes`).
            _ if is_builtin(left) && is_builtin(right) => Verdict::Different,
            _ => Verdict::Undecided,
        }
    }
}

#[inline]
fn is_number(class: *mut PyTypeObject) -> bool {
    class == addr_of_mut!(PyLong_Type) || class == addr_of_mut!(PyFloat_Type) || class == addr_of_mut!(PyBool_Type)
}

fn is_builtin(class: *mut PyTypeObject) -> bool {
    // SAFETY: only the address of None is taken, and its type read, which never changes.
    let none = unsafe { Py_TYPE(Py_None()) };
    is_number(class)
        || class == addr_of_mut!(PyUnicode_Type)
        || class == addr_of_mut!(PyBytes_Type)
        || class == addr_of_mut!(PyTuple_Type)
        || class == none
}

/// Asks the type itself, past the interpreter's check of the recursion depth, which could raise and so collect garbage.
/// Only for types whose comparison is C and calls nothing.
unsafe fn compare(class: *mut PyTypeObject, a: *mut PyObject, b: *mut PyObject) -> Verdict {
    // SAFETY: the caller passes a type with such a comparison, and objects that it knows.
    unsafe {
        let Some(richcompare) = (*class).tp_richcompare else { return Verdict::Undecided };
        let answer = richcompare(a, b, Py_EQ);
        if answer == Py_True() {
            Py_DECREF(answer);
            Verdict::Same
        } else if answer == Py_False() {
            Py_DECREF(answer);
            Verdict::Different
        } else {
            // Not one of those types after all, or no memory: left to Python. NotImplemented is never freed.
            PyErr_Clear();
            Verdict::Undecided
        }
    }
}

#[inline]
unsafe fn same_str(a: *mut PyObject, b: *mut PyObject) -> Verdict {
    // SAFETY: both are exact strings; contents are read only if they are in canonical form.
    unsafe {
        if PyUnicode_IS_READY(a) == 0 || PyUnicode_IS_READY(b) == 0 {
            return Verdict::Undecided;
        }
        let len = (*a.cast::<PyASCIIObject>()).length;
        let kind = PyUnicode_KIND(a);
        if len != (*b.cast::<PyASCIIObject>()).length || kind != PyUnicode_KIND(b) {
            return Verdict::Different;
        }
        let bytes = len as usize * kind as usize;
        let (left, right) = (PyUnicode_DATA(a).cast::<u8>(), PyUnicode_DATA(b).cast::<u8>());
        if std::slice::from_raw_parts(left, bytes) == std::slice::from_raw_parts(right, bytes) {
            Verdict::Same
        } else {
            Verdict::Different
        }
    }
}

extern "C" {
    // Exported by every CPython from 3.10 on, though private: `type.__dict__` along the MRO, borrowed, no exception.
    fn _PyType_Lookup(class: *mut PyTypeObject, name: *mut PyObject) -> *mut PyObject;
    /// A method of `object`, bound.
    pub(crate) fn PyMethod_New(function: *mut PyObject, object: *mut PyObject) -> *mut PyObject;
}

/// The integer that an object stands for, if it fits into a machine's word.
pub(crate) fn index(object: &Bound<'_, PyAny>) -> PyResult<isize> {
    // SAFETY: a `Bound` is valid and attached; the exception to raise always exists.
    match unsafe { PyNumber_AsSsize_t(object.as_ptr(), PyExc_OverflowError) } {
        -1 => PyErr::take(object.py()).map_or(Ok(-1), Err),
        index => Ok(index),
    }
}

/// The attribute of an object's class, as the interpreter finds its special methods.
pub(crate) fn lookup_special<'py>(object: &Bound<'py, PyAny>, name: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: both are valid, and the borrowed answer is made strong before anything else runs.
    unsafe { Bound::from_borrowed_ptr_or_opt(object.py(), _PyType_Lookup(Py_TYPE(object.as_ptr()), name.as_ptr())) }
}

/// Runs the body of a raw door: an error becomes the exception, a panic too, and the door's error value is returned.
#[inline]
pub(crate) fn door<T>(failed: T, body: impl FnOnce() -> Result<T, Error>) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => raise(error, failed),
        Err(panic) => fail(panic.as_ref(), failed),
    }
}

#[cold]
fn raise<T>(error: Error, failed: T) -> T {
    attached(|py| PyErr::from(error).restore(py));
    failed
}

#[cold]
fn fail<T>(panic: &(dyn std::any::Any + Send), failed: T) -> T {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    let error = pyo3::exceptions::PySystemError::new_err(format!("ullage has a bug, please report it: {text}"));
    attached(|py| error.restore(py));
    failed
}

/// Runs what a raw door leaves the fast path for. The thread is attached by contract, but PyO3 did not see it happen,
/// and would put off every drop of a `Py`: so it is told; unless the interpreter is going down, when PyO3 refuses.
pub(crate) fn attached<T>(body: impl FnOnce(Python<'_>) -> T) -> T {
    let mut body = Some(body);
    let mut run = |py: Python<'_>| body.take().expect("runs once")(py);
    // SAFETY: doors are called by the interpreter, with its lock held.
    Python::try_attach(&mut run).unwrap_or_else(|| unsafe { Python::attach_unchecked(&mut run) })
}

/// Calls a hook. One that is written in C makes no Python frame, so that coming back for ever would end the stack: the
/// depth is counted here.
pub(crate) fn nested<T>(py: Python<'_>, body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // SAFETY: attached; left again if and only if it was entered.
    if unsafe { Py_EnterRecursiveCall(c" in a hook of a container".as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let outcome = body();
    // SAFETY: entered just above.
    unsafe { Py_LeaveRecursiveCall() };
    outcome
}

/// The instance behind a pointer that one of its own slots was called with.
///
/// # Safety
/// `object` is an instance of `T` or of a subclass: what the interpreter guarantees a slot and a method descriptor.
#[inline]
pub(crate) unsafe fn instance<'a, T: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync>(
    object: *mut PyObject,
) -> &'a T {
    // SAFETY: the caller vouches for the type; a frozen class is shared freely; the interpreter keeps it alive.
    unsafe {
        let py = Python::assume_attached();
        let borrowed = pyo3::Borrowed::from_ptr(py, object);
        let instance: *const T = borrowed.cast_unchecked::<T>().get();
        &*instance
    }
}

/// The parameters of a `METH_FASTCALL | METH_KEYWORDS` method.
pub(crate) struct Signature<const N: usize> {
    pub(crate) name: &'static str,
    pub(crate) parameters: [&'static str; N],
    pub(crate) required: usize,
}

impl<const N: usize> Signature<N> {
    /// The arguments of a call, put where their names say; null where none was given.
    ///
    /// # Safety
    /// The three are what the interpreter passed to the method.
    #[inline(always)]
    pub(crate) unsafe fn read(
        &'static self,
        args: *const *mut PyObject,
        nargs: Py_ssize_t,
        kwnames: *mut PyObject,
    ) -> Result<[*mut PyObject; N], Error> {
        let given = nargs as usize;
        let mut found = [null_mut(); N];
        for (i, place) in found.iter_mut().enumerate() {
            if i < given {
                // SAFETY: `i` is below the number of positional arguments.
                *place = unsafe { *args.add(i) };
            }
        }
        if !kwnames.is_null() || given > N || (self.required > 0 && found[self.required - 1].is_null()) {
            // SAFETY: passed on.
            unsafe { self.read_names(&mut found, args, given, kwnames)? };
        }
        Ok(found)
    }

    #[cold]
    unsafe fn read_names(
        &self,
        found: &mut [*mut PyObject; N],
        args: *const *mut PyObject,
        given: usize,
        kwnames: *mut PyObject,
    ) -> Result<(), Error> {
        let Signature { name, parameters, required } = self;
        let complain = |text: String| Err(pyo3::exceptions::PyTypeError::new_err(text).into());
        if given > N {
            return complain(format!("{name}() takes at most {N} arguments ({given} given)"));
        }
        // SAFETY: the interpreter passes a tuple of names, and as many values behind the positional arguments.
        unsafe {
            let py = Python::assume_attached();
            let names = if kwnames.is_null() { 0 } else { PyTuple_GET_SIZE(kwnames) };
            for i in 0..names {
                // Read as it stands, for a subclass of `str` may say something else of itself.
                let keyword = Bound::from_borrowed_ptr(py, PyTuple_GET_ITEM(kwnames, i));
                let keyword = keyword.cast_unchecked::<PyString>().to_string_lossy();
                match parameters.iter().position(|&parameter| parameter == keyword) {
                    Some(at) if found[at].is_null() => found[at] = *args.add(given).offset(i),
                    Some(_) => return complain(format!("{name}() got multiple values for argument '{keyword}'")),
                    None => return complain(format!("{name}() got an unexpected keyword argument '{keyword}'")),
                }
            }
        }
        match found[..*required].iter().position(|place| place.is_null()) {
            None => Ok(()),
            Some(i) => complain(format!("{name}() missing required argument: '{}'", parameters[i])),
        }
    }
}

/// The raw slots of a type; those that are None stay PyO3's.
#[derive(Default)]
pub(crate) struct Slots {
    pub(crate) subscript: Option<binaryfunc>,
    pub(crate) assign: Option<objobjargproc>,
    pub(crate) contains: Option<objobjproc>,
    pub(crate) length: Option<lenfunc>,
    /// For a sequence: what C code takes it by.
    pub(crate) item: Option<(ssizeargfunc, ssizeobjargproc)>,
}

/// A raw method: its definition, with a docstring whose first line is the signature.
#[repr(transparent)]
pub(crate) struct Method(PyMethodDef);

// SAFETY: a definition is never changed, and all that it points at is static.
unsafe impl Sync for Method {}

impl Method {
    /// What ends a table of methods.
    pub(crate) const END: Method = Method(PyMethodDef::zeroed());

    /// A method without arguments.
    pub(crate) const fn without(name: &'static CStr, function: PyCFunction, doc: &'static CStr) -> Self {
        Self::new(name, PyMethodDefPointer { PyCFunction: function }, METH_NOARGS, doc)
    }

    /// A method with one argument.
    pub(crate) const fn with_one(name: &'static CStr, function: PyCFunction, doc: &'static CStr) -> Self {
        Self::new(name, PyMethodDefPointer { PyCFunction: function }, METH_O, doc)
    }

    /// A method whose arguments have names.
    pub(crate) const fn with_names(
        name: &'static CStr,
        function: PyCFunctionFastWithKeywords,
        doc: &'static CStr,
    ) -> Self {
        let function = PyMethodDefPointer { PyCFunctionFastWithKeywords: function };
        Self::new(name, function, METH_FASTCALL | METH_KEYWORDS, doc)
    }

    const fn new(name: &'static CStr, ml_meth: PyMethodDefPointer, ml_flags: c_int, doc: &'static CStr) -> Self {
        Method(PyMethodDef { ml_name: name.as_ptr(), ml_meth, ml_flags, ml_doc: doc.as_ptr() })
    }
}

/// Hangs raw methods on the class that users get. The interpreter calls a C method fast only on instances of the very
/// class that its descriptor was made for, so the base class would not do.
pub(crate) fn hang_methods(class: &Bound<'_, PyType>, methods: &'static [Method]) -> PyResult<()> {
    // SAFETY: a heap type that Python made has the table, and so has its base, which is one of ours.
    unsafe {
        let (raw, base) = (class.as_type_ptr(), (*class.as_type_ptr()).tp_base);
        // Python gave it slots that go by `__getitem__`, which would take what is still negative from the end once more.
        let (ours, theirs) = ((*raw).tp_as_sequence, (*base).tp_as_sequence);
        (*ours).sq_item = (*theirs).sq_item;
        (*ours).sq_ass_item = (*theirs).sq_ass_item;
    }
    for Method(definition) in methods {
        // SAFETY: the definition is static and is only read; its function has the type that its flags say.
        let (name, descriptor) = unsafe {
            let raw = PyDescr_NewMethod(class.as_type_ptr(), std::ptr::from_ref(definition).cast_mut());
            (CStr::from_ptr(definition.ml_name), Bound::from_owned_ptr_or_err(class.py(), raw)?)
        };
        class.setattr(name.to_str().expect("a name in ASCII"), descriptor)?;
    }
    Ok(())
}

/// A default that was given, or None.
///
/// # Safety
/// `default` is null or valid; the thread is attached.
pub(crate) unsafe fn default_or_none(default: *mut PyObject) -> *mut PyObject {
    // SAFETY: None is always valid.
    unsafe { Object::from_borrowed(if default.is_null() { Py_None() } else { default }) }.into_ptr()
}

/// A default that was given, or `KeyError`.
///
/// # Safety
/// `key` is valid, `default` null or valid; the thread is attached.
#[cold]
pub(crate) unsafe fn default_or_missing(key: *mut PyObject, default: *mut PyObject) -> Result<*mut PyObject, Error> {
    if default.is_null() {
        // SAFETY: the caller vouches for the key.
        return Err(attached(|py| missing(unsafe { Bound::from_borrowed_ptr(py, key) })));
    }
    // SAFETY: the caller vouches for the default.
    Ok(unsafe { Object::from_borrowed(default) }.into_ptr())
}

/// Hangs raw slots on a type that has no instances and no subclasses yet.
pub(crate) fn hang(class: &Bound<'_, PyType>, slots: Slots) -> PyResult<()> {
    let raw = class.as_type_ptr();
    // SAFETY: a heap type made by PyO3 with `mapping` has both tables, in the type object itself.
    let (mapping, sequence) = unsafe { ((*raw).tp_as_mapping, (*raw).tp_as_sequence) };
    // SAFETY: the type is ours alone until the module is published; a slot's function has the slot's own type.
    unsafe {
        if let Some(function) = slots.subscript {
            (*mapping).mp_subscript = Some(function);
            rewrap(class, "__getitem__", function as *mut c_void)?;
        }
        if let Some(function) = slots.assign {
            (*mapping).mp_ass_subscript = Some(function);
            rewrap(class, "__setitem__", function as *mut c_void)?;
            rewrap(class, "__delitem__", function as *mut c_void)?;
        }
        if let Some(function) = slots.contains {
            (*sequence).sq_contains = Some(function);
            rewrap(class, "__contains__", function as *mut c_void)?;
        }
        if let Some(function) = slots.length {
            (*mapping).mp_length = Some(function);
            rewrap(class, "__len__", function as *mut c_void)?;
        }
        if let Some((item, assign)) = slots.item {
            (*sequence).sq_item = Some(item);
            (*sequence).sq_ass_item = Some(assign);
            (*sequence).sq_length = slots.length;
        }
    }
    Ok(())
}

/// Points the descriptor of a special method at the raw slot, which is what subclasses and explicit calls go by.
unsafe fn rewrap(class: &Bound<'_, PyType>, name: &str, function: *mut c_void) -> PyResult<()> {
    let descriptor = class.getattr("__dict__")?.get_item(name)?;
    // SAFETY: the type is compared exactly; it is public, and its layout is the same in every supported version.
    unsafe {
        assert!(is_exactly(descriptor.as_ptr(), addr_of_mut!(PyWrapperDescr_Type)), "{name} is a slot of its type");
        (*descriptor.as_ptr().cast::<PyWrapperDescrObject>()).d_wrapped = function;
    }
    Ok(())
}
