//! The only place where what left a container is dropped: after its hook was called, with no lock held, and so many
//! references at a time that nobody is stalled.
//!
//! What is cheap to free (a string, a number, a reference that is not the last) is dropped on the spot. The rest is
//! *retired*: it waits in a pile that the whole process shares, and each write to any container frees a slice of it.
//! Lists, dicts, sets and tuples that nobody else holds are taken apart from the end, their children following; other
//! objects are dropped whole. The sweeper comes for what no write has come for.
//!
//! The collector does not see what is retired: to it these are references from outside, and they go away by themselves.

use crate::hooks::monotonic;
use crate::sweep;
use crate::value::Object;
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::cell::Cell;
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ptr::{addr_of_mut, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

/// References that one write frees; and one more for so many that wait, times the values that they hang on, up to a limit.
/// So one huge value is freed with patience, and of large ones that leave with each write a few dozen wait.
const SLICE: usize = 64;
const PRESSURE: usize = 1024;
const LARGEST_SLICE: usize = 1024;
/// Where more values than this wait, a write frees as many references as it adds besides, up to a limit.
const WAITING_VALUES: usize = 64;
const MOST_ADDED: usize = 16 << 10;
/// References known to be retired from which on no more are: memory wins over latency.
const MOST: usize = 2 << 20;
/// The same for what left together. Room for all is taken at the start, so that nobody waits for it to grow.
const MOST_LOTS: usize = 16 << 10;
/// References that a call that lets go of much (`clear`, `close`, the end of a container) frees itself, at least; and
/// nanoseconds for which it does.
const HANDFUL: usize = 6000;
const SPELL: u64 = 300_000;
/// A container on which no more references hang, so many levels deep, is freed as one.
const FEW: usize = 32;
const DEPTH: usize = 4;
/// Items that are looked at to guess how much hangs on a container.
const LOOKS: usize = 4;
/// Items of a list after which its storage shrinks.
const STEP: usize = 4 << 10;
/// A structure that held more than this takes a while to unmap.
const MANY: usize = 10_000;

/// What a container retired, and what became of it.
#[derive(Default)]
pub(crate) struct Account {
    /// Objects that wait.
    pub(crate) retired: AtomicU64,
    /// The most that ever waited.
    pub(crate) retired_max: AtomicU64,
    /// References freed in slices.
    pub(crate) reclaimed: AtomicU64,
    /// Nanoseconds that this took.
    pub(crate) nanos: AtomicU64,
    /// Whether everything is dropped on the spot.
    pub(crate) inline: AtomicBool,
}

impl Account {
    /// Adds its statistics to a container's.
    pub(crate) fn show(&self, stats: &Bound<'_, PyDict>) -> PyResult<()> {
        let counts = [("retired", &self.retired), ("retired_max", &self.retired_max), ("reclaimed", &self.reclaimed)];
        for (name, count) in counts {
            stats.set_item(name, count.load(Relaxed))?;
        }
        stats.set_item("reclaim_seconds", self.nanos.load(Relaxed) as f64 / 1e9)
    }
}

/// The entries of a map or a ring that was cleared, with the structure that they stood in.
pub(crate) type Contents = Box<dyn Iterator<Item = (Object, Option<Object>)> + Send>;

enum Retired {
    /// Of a tuple, so many items have been taken: null stands in their places.
    Object { object: Object, taken: usize },
    /// With how many there were, and are left.
    Contents { contents: Contents, len: usize, left: usize },
}

/// What left a container together: on the stack is what is taken apart next, what it stood in below.
struct Lot {
    stack: Vec<Retired>,
    account: Arc<Account>,
    objects: u64,
    /// References known to be held by it.
    references: usize,
    /// Whether it is one value, not what stood in a container.
    is_value: bool,
}

struct Pile {
    lots: VecDeque<Lot>,
    references: usize,
    /// How many of the lots are values.
    values: usize,
}

impl Pile {
    /// What left last is freed first: what is small is gone when the call returns, whatever waits.
    fn push(&mut self, lot: Lot) {
        self.references += lot.references;
        self.values += usize::from(lot.is_value);
        self.lots.push_front(lot);
        WAITING.store(self.lots.len(), Relaxed);
    }

    fn pop(&mut self) -> Option<Lot> {
        let lot = self.lots.pop_front()?;
        self.references -= lot.references;
        self.values -= usize::from(lot.is_value);
        WAITING.store(self.lots.len(), Relaxed);
        Some(lot)
    }
}

/// Under this lock lots only come and go: a thread that frees one owns it meanwhile.
static PILE: Mutex<Pile> = Mutex::new(Pile { lots: VecDeque::new(), references: 0, values: 0 });
/// How many lots wait: what a write looks at.
static WAITING: AtomicUsize = AtomicUsize::new(0);
/// References that were ever freed in slices.
static FREED: AtomicU64 = AtomicU64::new(0);
/// Whether the interpreter goes down: nobody would come for what is retired.
static ENDED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether this thread frees a slice: a finalizer that writes to a container frees none within it.
    static BUSY: Cell<bool> = const { Cell::new(false) };
    /// References of the values that this thread retired since it last freed a slice.
    static ADDED: Cell<usize> = const { Cell::new(0) };
}

/// Lets go of an object that has left a container.
#[inline(always)]
pub(crate) fn retire(account: &Arc<Account>, object: Object) {
    if is_cheap(&object) {
        drop(object);
    } else {
        retire_last(account, object);
    }
}

#[cold]
fn retire_last(account: &Arc<Account>, object: Object) {
    if is_inline(account) || holds_few(&object, &mut { FEW }, DEPTH) || is_full() {
        drop(object);
        return;
    }
    let references = estimate(&object, DEPTH);
    put(account, Retired::object(object), 1, references);
}

/// Takes over what a detached thread has moved out of a container. Nothing is known of it yet but its number.
pub(crate) fn retire_unseen(account: &Arc<Account>, len: usize, contents: Contents) {
    put(account, Retired::contents(contents, len), len as u64, 2 * len);
}

/// Lets go of all that a container held: some now, the rest in slices.
pub(crate) fn abandon<I>(account: &Arc<Account>, len: usize, contents: I)
where
    I: Iterator<Item = (Object, Option<Object>)> + Send + 'static,
{
    if len == 0 || account.inline.load(Relaxed) {
        contents.for_each(drop);
        return;
    }
    put(account, Retired::contents(Box::new(contents), len), len as u64, 2 * len);
    if ENDED.load(Relaxed) {
        // By way of the pile all the same: a container whose end is the end of another would nest without end.
        free(usize::MAX);
        return;
    }
    let begin = monotonic().0;
    free(HANDFUL);
    free_for(SPELL.saturating_sub(monotonic().0 - begin));
    while is_full() && free(SLICE) > 0 {}
}

/// Frees a slice of what is retired, if anything is: what every write does.
#[inline(always)]
pub(crate) fn pace() {
    if is_any() {
        free_slice();
    }
}

#[cold]
fn free_slice() {
    if BUSY.get() {
        return;
    }
    let added = ADDED.take().min(MOST_ADDED);
    let (lots, references, values) = {
        let pile = PILE.lock();
        (pile.lots.len(), pile.references, pile.values)
    };
    let pressure = (references.saturating_mul(values.max(1)) / PRESSURE).min(LARGEST_SLICE);
    free(match values {
        // If nothing else waits, the write that made a large one leave has done enough.
        1 if lots == 1 && added > SLICE => 0,
        ..=WAITING_VALUES => SLICE + pressure,
        _ => SLICE + pressure + added,
    });
}

#[inline(always)]
pub(crate) fn is_any() -> bool {
    WAITING.load(Relaxed) != 0
}

/// No more than this is retired at once, one value aside.
pub(crate) fn is_full() -> bool {
    let pile = PILE.lock();
    pile.references > MOST || pile.lots.len() >= MOST_LOTS
}

/// References that were ever freed in slices.
pub(crate) fn freed() -> u64 {
    FREED.load(Relaxed)
}

/// Makes room for all that may wait.
pub(crate) fn set_up() {
    let _ = PILE.lock().lots.try_reserve_exact(MOST_LOTS + 64);
}

/// Frees everything, and retires nothing from now on.
pub(crate) fn end() {
    ENDED.store(true, Relaxed);
    while free(usize::MAX) > 0 {}
}

fn is_inline(account: &Account) -> bool {
    ENDED.load(Relaxed) || account.inline.load(Relaxed)
}

fn put(account: &Arc<Account>, retired: Retired, objects: u64, references: usize) {
    let waiting = account.retired.fetch_add(objects, Relaxed) + objects;
    account.retired_max.fetch_max(waiting, Relaxed);
    let is_value = matches!(retired, Retired::Object { .. });
    if is_value {
        ADDED.set(ADDED.get().saturating_add(references));
    }
    let lot = Lot { stack: vec![retired], account: account.clone(), objects, references, is_value };
    PILE.lock().push(lot);
}

/// Frees slices for so many nanoseconds, and says how many references that were.
pub(crate) fn free_for(nanos: u64) -> usize {
    let (begin, mut total) = (monotonic().0, 0);
    while is_any() && monotonic().0 - begin < nanos {
        match free(SLICE) {
            0 => break,
            freed => total += freed,
        }
    }
    total
}

/// Frees at most `budget` references, and says how many. The thread is attached, and holds no lock.
#[cold]
pub(crate) fn free(budget: usize) -> usize {
    if BUSY.replace(true) {
        return 0;
    }
    let _pause = Pause::new();
    let mut left = budget;
    while left > 0 {
        let Some(mut lot) = PILE.lock().pop() else { break };
        let (begin, before) = (monotonic().0, left);
        lot.free(&mut left);
        lot.account.nanos.fetch_add(monotonic().0 - begin, Relaxed);
        lot.account.reclaimed.fetch_add((before - left) as u64, Relaxed);
        FREED.fetch_add((before - left) as u64, Relaxed);
        if !lot.stack.is_empty() {
            PILE.lock().push(lot);
        }
    }
    if is_any() {
        sweep::look_after_the_pile();
    }
    budget - left
}

/// The mark that this thread frees a slice, and an exception put aside meanwhile: one may be on its way, as where a
/// container ends, and a finalizer must neither see it nor lose it.
#[cfg(Py_3_12)]
struct Pause(*mut PyObject);
#[cfg(not(Py_3_12))]
struct Pause([*mut PyObject; 3]);

impl Pause {
    fn new() -> Pause {
        // SAFETY: attached.
        #[cfg(Py_3_12)]
        return Pause(unsafe { ffi::PyErr_GetRaisedException() });
        #[cfg(not(Py_3_12))]
        {
            let [mut kind, mut value, mut traceback] = [null_mut(); 3];
            // SAFETY: attached.
            unsafe { ffi::PyErr_Fetch(&mut kind, &mut value, &mut traceback) };
            Pause([kind, value, traceback])
        }
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // SAFETY: attached; what was fetched, or nothing, which leaves no exception set.
        #[cfg(Py_3_12)]
        unsafe {
            ffi::PyErr_SetRaisedException(self.0)
        };
        #[cfg(not(Py_3_12))]
        {
            let [kind, value, traceback] = self.0;
            // SAFETY: as above.
            unsafe { ffi::PyErr_Restore(kind, value, traceback) };
        }
        BUSY.set(false);
    }
}

impl Lot {
    fn free(&mut self, left: &mut usize) {
        let before = *left;
        while let Some(top) = self.stack.last_mut().filter(|_| *left > 0) {
            let (item, other) = match top.take_apart(left) {
                Step::Child(item, other) => (item, other),
                Step::Paused => break,
                Step::Whole => {
                    *left = left.saturating_sub(1);
                    match self.stack.pop() {
                        Some(Retired::Contents { contents: husk, len, .. }) if len > MANY => sweep::discard(husk),
                        whole => drop(whole),
                    }
                    continue;
                }
            };
            // What is nearly empty is finished first, so that a chain is no deep stack; else the child comes first, so
            // that many children are no long one.
            let nearly_empty = top.len() <= FEW;
            let at = self.stack.len() - usize::from(nearly_empty);
            for child in [Some(item), other].into_iter().flatten() {
                self.stack.insert(at, Retired::object(child));
            }
        }
        self.references = self.references.saturating_sub(before - *left);
        let objects = self.stack.first().map_or(0, |first| match first {
            Retired::Contents { left, .. } => *left as u64,
            Retired::Object { .. } => 1,
        });
        self.account.retired.fetch_sub(std::mem::replace(&mut self.objects, objects) - objects, Relaxed);
    }
}

/// How far something was taken apart.
enum Step {
    /// What stood in it last wants a turn of its own; of a pair, both may.
    Child(Object, Option<Object>),
    /// As far as the budget went.
    Paused,
    /// Nothing is in it any more, or it cannot be taken apart: it is to be dropped whole.
    Whole,
}

/// Frees at most `budget` references of what containers have retired, everything by default. Returns how many.
#[pyfunction]
#[pyo3(signature = (budget = None))]
pub(crate) fn reclaim(budget: Option<i128>) -> PyResult<usize> {
    match budget {
        Some(budget @ ..=-1) => Err(PyValueError::new_err(format!("budget must be at least 0; got {budget}"))),
        _ => Ok(free(budget.and_then(|budget| budget.try_into().ok()).unwrap_or(usize::MAX))),
    }
}

/// Frees everything that containers have retired, and what that retires. Returns how many references that were.
#[pyfunction]
pub(crate) fn flush() -> usize {
    std::iter::from_fn(|| Some(free(usize::MAX)).filter(|&freed| freed > 0)).sum()
}

impl Retired {
    fn object(object: Object) -> Retired {
        Retired::Object { object, taken: 0 }
    }

    fn contents(contents: Contents, len: usize) -> Retired {
        Retired::Contents { contents, len, left: len }
    }

    /// Takes items out from the end and frees them, up to one that is not freed easily.
    fn take_apart(&mut self, left: &mut usize) -> Step {
        if let Retired::Object { object, .. } = self {
            if is_cheap(object) || size(object).is_none() {
                return Step::Whole;
            }
            // SAFETY: the object is valid and ours alone. Untracked, it cannot be found through the collector, so nobody
            // sees it half taken apart; its deallocator expects that it may be.
            unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
        }
        while *left > 0 {
            *left -= 1;
            let Some((item, other)) = self.pop() else { return Step::Whole };
            match (free_if_easy(item, left), other.and_then(|other| free_if_easy(other, left))) {
                (None, None) => {}
                (Some(item), other) => return Step::Child(item, other),
                (None, Some(other)) => return Step::Child(other, None),
            }
        }
        Step::Paused
    }

    /// Takes the last item or pair out; None if there is none.
    fn pop(&mut self) -> Option<(Object, Option<Object>)> {
        let (object, taken) = match self {
            Retired::Contents { contents, left, .. } => {
                *left = left.saturating_sub(1);
                return contents.next();
            }
            Retired::Object { object, taken } => (object, taken),
        };
        let last = size(object)?.checked_sub(*taken + 1)?;
        let raw = object.as_ptr();
        // SAFETY: each branch has compared the exact type; the container is ours alone and has a last item.
        unsafe {
            if is_exactly(object, addr_of_mut!(ffi::PyList_Type)) {
                let item = ffi::PyList_GET_ITEM(raw, last as isize);
                (*raw.cast::<ffi::PyVarObject>()).ob_size = last as isize;
                if last % STEP == 0 {
                    shrink(raw.cast(), last);
                }
                return Object::from_owned(item).map(|item| (item, None));
            }
            if is_exactly(object, addr_of_mut!(ffi::PyTuple_Type)) {
                *taken += 1;
                return take_tuple_item(raw, last).map(|item| (item, None));
            }
            if is_exactly(object, addr_of_mut!(ffi::PySet_Type)) {
                return or_whole(ffi::PySet_Pop(raw)).map(|item| (item, None));
            }
            let pair = or_whole(pop_pair(raw))?;
            Some((take_tuple_item(pair.as_ptr(), 0)?, take_tuple_item(pair.as_ptr(), 1)))
        }
    }

    fn len(&self) -> usize {
        match self {
            Retired::Contents { .. } => usize::MAX,
            Retired::Object { object, taken } => size(object).unwrap_or(0) - taken,
        }
    }
}

/// Frees an object if few references hang on it; else gives it back.
#[inline]
fn free_if_easy(object: Object, left: &mut usize) -> Option<Object> {
    if !is_cheap(&object) {
        let mut few = FEW;
        if !holds_few(&object, &mut few, DEPTH) {
            return Some(object);
        }
        *left = left.saturating_sub(FEW - few);
    }
    drop(object);
    None
}

/// Gives back the end of a list's storage, as `list_resize` does: a large one takes a while to unmap as a whole.
unsafe fn shrink(list: *mut ffi::PyListObject, items: usize) {
    // SAFETY: the caller's list is its own and has so many items; storage that was not moved stays valid.
    #[cfg(not(Py_GIL_DISABLED))]
    unsafe {
        let bytes = items.max(1) * size_of::<*mut PyObject>();
        let storage = ffi::PyMem_Realloc((*list).ob_item.cast(), bytes);
        if !storage.is_null() {
            (*list).ob_item = storage.cast();
            (*list).allocated = items.max(1) as isize;
        }
    }
    #[cfg(Py_GIL_DISABLED)]
    let _ = (list, items);
}

/// Whether dropping this reference frees one object at most: it is not the last, or the object refers to nothing.
#[inline(always)]
fn is_cheap(object: &Object) -> bool {
    // SAFETY: a valid object has a valid type, and the thread is attached.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) > 1 || ffi::PyType_IS_GC(ffi::Py_TYPE(object.as_ptr())) == 0 }
}

#[inline]
fn is_exactly(object: &Object, class: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a valid object has a type.
    unsafe { ffi::Py_TYPE(object.as_ptr()) == class }
}

/// The number of items of a container that can be taken apart; None for any other object.
fn size(object: &Object) -> Option<usize> {
    let raw = object.as_ptr();
    // SAFETY: each branch has compared the exact type.
    let size = unsafe {
        if is_exactly(object, addr_of_mut!(ffi::PyList_Type)) {
            ffi::PyList_GET_SIZE(raw)
        } else if is_exactly(object, addr_of_mut!(ffi::PyDict_Type)) {
            ffi::PyDict_Size(raw)
        } else if is_exactly(object, addr_of_mut!(ffi::PyTuple_Type)) {
            ffi::PyTuple_GET_SIZE(raw)
        } else if is_exactly(object, addr_of_mut!(ffi::PySet_Type)) && has_no_weak_reference(raw) {
            ffi::PySet_Size(raw)
        } else {
            return None;
        }
    };
    Some(size as usize)
}

/// Whether nobody can come to hold a set again by a weak reference, which none of the other containers can have.
unsafe fn has_no_weak_reference(set: *mut PyObject) -> bool {
    // SAFETY: the caller passes an exact set.
    unsafe { (*set.cast::<ffi::PySetObject>()).weakreflist.is_null() }
}

/// About how many references hang on an object, as a look at a few of its items tells.
fn estimate(object: &Object, depth: usize) -> usize {
    let Some(items) = size(object).filter(|&items| items > 0 && depth > 0) else { return 1 };
    let raw = object.as_ptr();
    let (mut seen, mut below) = (0, 0);
    let mut look = |item: *mut PyObject| {
        // SAFETY: borrowed from the container, looked at and not kept; nothing runs in between.
        if let Some(item) = unsafe { Object::from_owned(item) }.map(ManuallyDrop::new) {
            seen += 1;
            below += if is_cheap(&item) { 1 } else { estimate(&item, depth - 1) };
        }
    };
    // SAFETY: each branch has compared the exact type, and stays within the container.
    unsafe {
        if is_exactly(object, addr_of_mut!(ffi::PyList_Type)) {
            (0..items.min(LOOKS)).for_each(|i| look(ffi::PyList_GET_ITEM(raw, (items - 1 - i) as isize)));
        } else if is_exactly(object, addr_of_mut!(ffi::PyTuple_Type)) {
            (0..items.min(LOOKS)).for_each(|i| look(ffi::PyTuple_GET_ITEM(raw, (items - 1 - i) as isize)));
        } else if is_exactly(object, addr_of_mut!(ffi::PyDict_Type)) {
            let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
            for _ in 0..LOOKS {
                if ffi::PyDict_Next(raw, &mut at, &mut key, &mut value) == 0 {
                    break;
                }
                look(value);
            }
        }
    }
    items.saturating_add(items.saturating_mul(below) / seen.max(1))
}

/// Whether all that hangs on a container is a few references, which are taken off `few`.
fn holds_few(object: &Object, few: &mut usize, depth: usize) -> bool {
    let Some(rest) = size(object).filter(|_| depth > 0).and_then(|size| few.checked_sub(size)) else { return false };
    *few = rest;
    // SAFETY: the items are borrowed from the container, looked at and not kept; nothing runs in between.
    unsafe {
        let raw = object.as_ptr();
        let mut is_easy = |item: *mut PyObject| {
            let Some(item) = Object::from_owned(item).map(ManuallyDrop::new) else { return true };
            is_cheap(&item) || holds_few(&item, few, depth - 1)
        };
        if is_exactly(object, addr_of_mut!(ffi::PyList_Type)) {
            return (0..ffi::PyList_GET_SIZE(raw)).all(|i| is_easy(ffi::PyList_GET_ITEM(raw, i)));
        }
        if is_exactly(object, addr_of_mut!(ffi::PyTuple_Type)) {
            return (0..ffi::PyTuple_GET_SIZE(raw)).all(|i| is_easy(ffi::PyTuple_GET_ITEM(raw, i)));
        }
        if is_exactly(object, addr_of_mut!(ffi::PyDict_Type)) {
            let (mut at, mut key, mut value) = (0, null_mut(), null_mut());
            while ffi::PyDict_Next(raw, &mut at, &mut key, &mut value) != 0 {
                if !is_easy(key) || !is_easy(value) {
                    return false;
                }
            }
            return true;
        }
        // What a set holds cannot be looked at without changing it.
        ffi::PySet_Size(raw) == 0
    }
}

/// An item of a tuple that nobody else holds. Null takes its place.
unsafe fn take_tuple_item(tuple: *mut PyObject, at: usize) -> Option<Object> {
    // SAFETY: the caller vouches for tuple and place; the reference moves.
    unsafe {
        let item = ffi::PyTuple_GET_ITEM(tuple, at as isize);
        ffi::PyTuple_SET_ITEM(tuple, at as isize, null_mut());
        Object::from_owned(item)
    }
}

/// `dict.popitem`, which compares no keys.
unsafe fn pop_pair(dict: *mut PyObject) -> *mut PyObject {
    static POPITEM: LazyLock<usize> = LazyLock::new(|| {
        // SAFETY: attached; the method of a type that is never freed, or null.
        unsafe { ffi::PyObject_GetAttrString(addr_of_mut!(ffi::PyDict_Type).cast(), c"popitem".as_ptr()) as usize }
    });
    let popitem = *POPITEM as *mut PyObject;
    // SAFETY: a method of `dict`, called with a dict.
    unsafe { ffi::PyObject_Vectorcall(popitem, &dict, 1, null_mut()) }
}

/// What a call gave; where it failed, for want of memory, the object is dropped whole instead.
unsafe fn or_whole(given: *mut PyObject) -> Option<Object> {
    // SAFETY: attached; a new reference or null.
    unsafe {
        if given.is_null() {
            ffi::PyErr_Clear();
        }
        Object::from_owned(given)
    }
}
