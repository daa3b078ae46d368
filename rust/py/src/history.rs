//! HistoryRing: a list that forgets its oldest items. The structure is `ullage_core::Ring`; the rest of the list's
//! surface is in `python/ullage/_history.py`.

use crate::error::{index, Error, Result};
use crate::ffi::{attached, door, hang, instance, Method, Slots};
use crate::hooks::{Callables, Hooks};
use crate::lock::{open_to_detached, Shared};
use crate::reclaim;
use crate::sweep::{self, Swept};
use crate::tell;
use crate::value::{gather, Object};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::ffi::{self, PyObject, Py_ssize_t};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyDict, PyList, PyTuple};
use std::os::raw::c_int;
use std::ptr::null_mut;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Mutex;
use ullage_core::ring::{Cursor, Fallen};
use ullage_core::{Refused, Ring, Tick};

/// Items that fall off in one piece, between which others may run.
const BATCH: usize = 256;
const RANGE: &str = "HistoryRing index out of range";
const MAX_LENGTH: &str = "HistoryRing already at its maximum size";

/// What `ullage.HistoryRing` is made of.
#[pyclass(module = "ullage._core", subclass, frozen, weakref, mapping)]
pub(crate) struct HistoryRing {
    shared: Shared<Ring<Object>>,
    hooks: Hooks,
}

impl HistoryRing {
    /// Shows everything that is held, under the lock: to be counted or visited, not used.
    pub(crate) fn visit(&self, show: impl FnMut(&Object)) {
        let ring = self.shared.lock();
        ring.range(0..ring.len()).for_each(show);
    }

    /// The time; what is too old by then is let go first.
    #[inline(always)]
    fn tick(&self) -> Result<Tick> {
        let now = self.hooks.now()?;
        if now != Tick(0) {
            self.expire(now);
        }
        Ok(now)
    }

    #[cold]
    fn expire(&self, now: Tick) {
        let mut fallen = Fallen::new();
        self.shared.lock().expire(now, usize::MAX, &mut fallen);
        self.release(fallen);
    }

    /// Tells the hook what fell off, then retires it.
    #[inline]
    fn release(&self, fallen: Fallen<Object>) {
        if !fallen.is_empty() && self.hooks.has_exit() {
            tell::tell_fallen(&self.hooks, fallen.into_iter());
        } else {
            fallen.into_iter().for_each(|item| reclaim::retire(&self.hooks.account, item));
        }
        reclaim::pace();
    }

    fn abandon<I>(&self, items: I)
    where
        I: IntoIterator<Item = Object>,
        I::IntoIter: ExactSizeIterator + Send + 'static,
    {
        let items = items.into_iter();
        reclaim::abandon(&self.hooks.account, items.len(), items.map(|item| (item, None)));
    }

    /// Tells the sweeper of an end of life that is nearer than what it knows.
    fn ring(&self) {
        if self.hooks.is_swept() {
            let alarm = self.shared.lock().alarm();
            self.hooks.watched.ring(alarm);
        }
    }

    fn weigh(&self, item: &Object) -> Result<u64> {
        self.hooks.weigh(|weigher| Ok(weigher.call1((item.bind(weigher.py()),))?.unbind()))
    }

    #[inline(always)]
    fn push(&self, item: Object) -> Result<()> {
        self.hooks.note_collectable(&item);
        // The common ring, bounded by length alone, full: one item in, one out.
        let turned = self.shared.lock().turn(item);
        match turned {
            Ok(oldest) if self.hooks.has_exit() => tell::tell_fallen(&self.hooks, std::iter::once(oldest)),
            Ok(oldest) => reclaim::retire(&self.hooks.account, oldest),
            Err(item) => return self.push_bounded(item),
        }
        reclaim::pace();
        Ok(())
    }

    fn push_bounded(&self, item: Object) -> Result<()> {
        let weight = self.weigh(&item)?;
        let now = self.tick()?;
        let mut fallen = Fallen::new();
        let mut pushed = self.shared.lock().push(item, weight, now, &mut fallen);
        if let Err((item, Refused::NoMemory)) = pushed {
            reclaim::flush();
            pushed = self.shared.lock().push(item, weight, now, &mut fallen);
        }
        self.release(fallen);
        self.ring();
        settle(pushed)
    }

    /// The position that a Python index means.
    #[inline]
    fn position(len: usize, index: isize) -> Option<usize> {
        let position = if index < 0 { index + len as isize } else { index };
        usize::try_from(position).ok().filter(|&position| position < len)
    }

    #[inline]
    fn item(&self, index: isize) -> Result<Object> {
        self.tick()?;
        let ring = self.shared.lock();
        let found = Self::position(ring.len(), index).and_then(|position| ring.get(position)).map(Object::dup);
        match found {
            Some(item) => Ok(item),
            None => Err(ring.open().err().map_or_else(|| self::index(RANGE), Error::from)),
        }
    }

    fn snapshot(&self) -> Result<(Vec<Object>, u64)> {
        self.tick()?;
        let ring = self.shared.lock();
        ring.open()?;
        Ok((gather(ring.len(), ring.range(0..ring.len()).map(Object::dup))?, ring.epoch()))
    }

    /// Stands the items in an order that is made from their number, all under one lock.
    fn rearrange(&self, order: impl FnOnce(usize) -> Vec<usize>) -> Result<()> {
        self.tick()?;
        let mut ring = self.shared.lock();
        ring.open()?;
        if !ring.is_empty() {
            ring.prepare()?;
            let order = order(ring.len());
            ring.permute(&order);
        }
        Ok(())
    }

    fn weighed(&self, items: &Bound<'_, PyAny>) -> PyResult<Vec<(Object, u64)>> {
        let mut weighed = Vec::new();
        for item in items.try_iter()? {
            let item = Object::new(&item?);
            self.hooks.note_collectable(&item);
            let weight = self.weigh(&item)?;
            weighed.push((item, weight));
        }
        Ok(weighed)
    }
}

/// An item that was not taken is dropped here, unlocked.
#[inline]
fn settle<T>(outcome: std::result::Result<T, (Object, Refused)>) -> Result<T> {
    outcome.map_err(|(item, refused)| {
        drop(item);
        refuse(refused)
    })
}

#[cold]
fn refuse(refused: Refused) -> Error {
    match refused {
        Refused::Full(_) => index(MAX_LENGTH),
        refused => refused.into(),
    }
}

#[pymethods]
impl HistoryRing {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        HistoryRing { shared: Shared::behind(Ring::new()), hooks: Hooks::new() }
    }

    /// Opens the ring. Times in nanoseconds.
    #[pyo3(signature = (maxlen, weigher, max_weight, keep_first, ttl, on_drop, timer, inline))]
    #[allow(clippy::too_many_arguments)]
    fn _configure(
        slf: &Bound<'_, Self>,
        maxlen: Option<usize>,
        weigher: Option<&Bound<'_, PyAny>>,
        max_weight: Option<u64>,
        keep_first: usize,
        ttl: Option<u64>,
        on_drop: Option<&Bound<'_, PyAny>>,
        timer: Option<&Bound<'_, PyAny>>,
        inline: bool,
    ) -> PyResult<()> {
        let HistoryRing { shared, hooks, .. } = slf.get();
        let origin = timer.map(crate::hooks::read_timer).transpose()?.unwrap_or(0.0);
        let callables = Callables {
            weigher: weigher.map(Object::new),
            timer: timer.map(Object::new),
            on_exit: on_drop.map(Object::new),
            origin,
        };
        let cleared = {
            let mut ring = shared.lock();
            let mut cleared = std::mem::take(&mut *ring);
            ring.configure(maxlen, max_weight, keep_first, ttl);
            cleared.clear()
        };
        hooks.account.inline.store(inline, Relaxed);
        drop(hooks.set(callables, ttl.is_some()));
        slf.get().abandon(cleared);
        if hooks.is_swept() {
            open_to_detached(shared);
            hooks.watched.begin(slf)?;
        }
        Ok(())
    }

    // The doors. These bodies stand for the slots' names; `hang_slots` puts raw functions in their place.

    fn __getitem__(&self, _key: &Bound<'_, PyAny>) {}
    fn __setitem__(&self, _index: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>) {}
    fn __delitem__(&self, _index: &Bound<'_, PyAny>) {}
    fn __len__(&self) -> usize {
        0
    }

    /// Adds an item at the front; on a full ring the newest leaves, as with a `deque`.
    #[pyo3(signature = (item, /))]
    fn appendleft(&self, item: &Bound<'_, PyAny>) -> Result<()> {
        let item = Object::new(item);
        self.hooks.note_collectable(&item);
        let weight = self.weigh(&item)?;
        let now = self.tick()?;
        let mut fallen = Fallen::new();
        let pushed = self.shared.lock().push_front(item, weight, now, &mut fallen);
        self.release(fallen);
        self.ring();
        settle(pushed)
    }

    /// Puts an item in front of a position. `IndexError` on a full ring, as with a `deque`.
    #[pyo3(signature = (index, item, /))]
    fn insert(&self, index: isize, item: &Bound<'_, PyAny>) -> Result<()> {
        let item = Object::new(item);
        self.hooks.note_collectable(&item);
        let weight = self.weigh(&item)?;
        let now = self.tick()?;
        let mut ring = self.shared.lock();
        let len = ring.len() as isize;
        let position = if index < 0 { (index + len).max(0) } else { index.min(len) };
        let inserted = ring.insert(position as usize, item, weight, now);
        drop(ring);
        self.ring();
        settle(inserted)
    }

    /// Removes and returns the item at a position, the last by default. `pop(0)` is O(1).
    #[pyo3(signature = (index = -1, /))]
    fn pop(&self, py: Python<'_>, index: isize) -> Result<Py<PyAny>> {
        self.tick()?;
        let mut ring = self.shared.lock();
        ring.open()?;
        let len = ring.len();
        let item = Self::position(len, index).and_then(|position| ring.remove(position));
        drop(ring);
        let what = if len == 0 { "pop from an empty HistoryRing" } else { "pop index out of range" };
        Ok(item.ok_or_else(|| self::index(what))?.into_bound(py).unbind())
    }

    /// Removes everything. The ring is empty at once, whatever happens while its content is freed.
    fn clear(&self) -> Result<()> {
        let cleared = {
            let mut ring = self.shared.lock();
            ring.open()?;
            ring.clear()
        };
        self.abandon(cleared);
        Ok(())
    }

    /// Removes everything for good; the ring raises `RuntimeError` on use from then on.
    fn close(&self) {
        let cleared = self.shared.lock().close();
        self.abandon(cleared);
        drop(self.hooks.set(Callables::default(), false));
    }

    /// Replaces `[start:stop]` by the items of an iterable that has been read and weighed before anything changes.
    fn _splice(&self, start: usize, stop: usize, items: &Bound<'_, PyAny>) -> PyResult<()> {
        let weighed = self.weighed(items)?;
        let now = self.tick()?;
        let mut fallen = Fallen::new();
        let spliced = {
            let mut ring = self.shared.lock();
            let stop = stop.min(ring.len());
            ring.splice(start.min(stop)..stop, weighed, now, &mut fallen)
        };
        self.release(fallen);
        self.ring();
        match spliced {
            Ok(old) => self.abandon(old),
            Err((new, refused)) => {
                drop(new);
                return Err(refuse(refused).into());
            }
        }
        Ok(())
    }

    /// Replaces the items at `start`, `start + step`, ...: as many as there are new ones.
    fn _assign(&self, start: isize, step: isize, items: &Bound<'_, PyAny>) -> PyResult<()> {
        let weighed = self.weighed(items)?;
        let before = self.shared.lock().dropped();
        for (i, (item, weight)) in weighed.into_iter().enumerate() {
            let mut fallen = Fallen::new();
            let old = {
                let mut ring = self.shared.lock();
                let place = start + i as isize * step;
                // What fell off for the heavier ones before has moved those behind it.
                let moved = if place < ring.keep_first() as isize { 0 } else { (ring.dropped() - before) as isize };
                if moved > 0 && place - moved < ring.keep_first() as isize {
                    // This one has fallen off itself.
                    continue;
                }
                match usize::try_from(place - moved).ok().filter(|&position| position < ring.len()) {
                    Some(position) => ring.replace(position, item, weight, &mut fallen),
                    None => break,
                }
            };
            self.release(fallen);
            reclaim::retire(&self.hooks.account, settle(old)?);
            reclaim::pace();
        }
        Ok(())
    }

    /// Removes the items at `start`, `start + step`, ... below `stop`; `step` is positive.
    fn _delete(&self, start: usize, stop: usize, step: usize) -> Result<()> {
        let removed = {
            let mut ring = self.shared.lock();
            ring.open()?;
            ring.prepare()?;
            ring.remove_where(|position| position >= start && position < stop && (position - start) % step.max(1) == 0)
        };
        self.abandon(removed);
        Ok(())
    }

    /// Removes the item at a position if it is still this object. False if another one stands there by now.
    fn _remove_at(&self, position: usize, item: &Bound<'_, PyAny>) -> bool {
        let removed = {
            let mut ring = self.shared.lock();
            let same = ring.get(position).is_some_and(|found| found.as_ptr() == item.as_ptr());
            if same {
                ring.remove(position)
            } else {
                None
            }
        };
        removed.is_some()
    }

    /// Stands the items in the opposite order.
    fn reverse(&self) -> Result<()> {
        self.rearrange(|len| (0..len).rev().collect())
    }

    /// Moves the last `n` items to the front, or, if `n` is negative, the first ones to the end.
    fn _rotate(&self, n: isize) -> Result<()> {
        self.rearrange(|len| {
            let first = len - n.rem_euclid(len as isize) as usize;
            (first..len).chain(0..first).collect()
        })
    }

    /// All items with their weights and the nanoseconds that they have left to live.
    fn _export<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let now = self.tick()?;
        let items: Vec<_> = {
            let ring = self.shared.lock();
            ring.open().map_err(Error::from)?;
            gather(ring.len(), ring.packed().map(|(item, weight, end)| (item.dup(), weight, end)))?
        };
        let items = items.into_iter().map(|(item, weight, end)| (item.into_bound(py), weight, end.remaining(now)));
        PyList::new(py, items)
    }

    /// Appends an item that another ring exported: with the weight that was taken then, whatever it would be now.
    fn _import(&self, item: &Bound<'_, PyAny>, weight: u64, left: Option<u64>) -> Result<()> {
        let now = self.tick()?;
        let item = Object::new(item);
        self.hooks.note_collectable(&item);
        let mut fallen = Fallen::new();
        let pushed = self.shared.lock().push_until(item, weight, now.after(left), &mut fallen);
        self.release(fallen);
        self.ring();
        settle(pushed)
    }

    /// All items and a number that changes with every change but an append.
    fn _snapshot<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyList>, u64)> {
        let (items, epoch) = self.snapshot()?;
        Ok((PyList::new(py, items.into_iter().map(|item| item.into_bound(py)))?, epoch))
    }

    /// Stands the items in another order, if nothing has changed since `_snapshot`.
    fn _permute(&self, order: Vec<usize>, epoch: u64) -> PyResult<()> {
        let mut ring = self.shared.lock();
        if ring.epoch() != epoch || order.len() != ring.len() {
            return Err(PyValueError::new_err("HistoryRing modified during sort"));
        }
        let mut seen = vec![false; ring.len()];
        for &from in &order {
            match seen.get_mut(from) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(PyValueError::new_err("not an order of the items")),
            }
        }
        ring.permute(&order);
        Ok(())
    }

    fn _walk(slf: Bound<'_, Self>, backwards: bool) -> PyResult<RingWalk> {
        slf.get().tick()?;
        let cursor = {
            let ring = slf.get().shared.lock();
            ring.open().map_err(Error::from)?;
            ring.cursor(backwards)
        };
        Ok(RingWalk { ring: Mutex::new(Some(slf.unbind())), cursor: Mutex::new(cursor) })
    }

    #[getter(_maxlen)]
    fn maxlen(&self) -> Option<usize> {
        self.shared.lock().maxlen()
    }

    #[setter(_maxlen)]
    fn set_maxlen(&self, maxlen: Option<usize>) -> Result<()> {
        // In pieces: a ring is made smaller when memory is short, which is no time to gather all that falls off.
        loop {
            let mut fallen = Fallen::new();
            let done = {
                let mut ring = self.shared.lock();
                ring.open()?;
                let step = ring.len().saturating_sub(BATCH);
                let done = maxlen.is_none_or(|maxlen| maxlen >= step);
                ring.set_maxlen(if done { maxlen } else { Some(step) }, &mut fallen);
                done
            };
            self.release(fallen);
            if done {
                return Ok(());
            }
        }
    }

    /// Lets the `n` oldest items fall off, and says how many there were. Pinned items stay.
    fn _evict(&self, n: usize) -> Result<usize> {
        // No more than there are now: `on_drop` may append.
        let n = n.min(self.shared.lock().len());
        let mut left = n;
        loop {
            let mut fallen = Fallen::new();
            let gone = {
                let mut ring = self.shared.lock();
                ring.open()?;
                let before = ring.len();
                ring.evict(left.min(BATCH), &mut fallen);
                before - ring.len()
            };
            self.release(fallen);
            left -= gone;
            if gone < BATCH {
                return Ok(n - left);
            }
        }
    }

    #[getter(_max_weight)]
    fn max_weight(&self) -> Option<u64> {
        self.shared.lock().max_weight()
    }

    #[setter(_max_weight)]
    fn set_max_weight(&self, max_weight: u64) -> Result<()> {
        let mut fallen = Fallen::new();
        {
            let mut ring = self.shared.lock();
            ring.open()?;
            ring.set_max_weight(max_weight, &mut fallen);
        }
        self.release(fallen);
        Ok(())
    }

    /// The total weight of the items; 0 where they have none.
    #[getter]
    fn weight(&self) -> Result<u64> {
        self.tick()?;
        Ok(self.shared.lock().weight())
    }

    /// The number of items that stay at the front whatever falls off.
    #[getter]
    fn keep_first(&self) -> usize {
        self.shared.lock().keep_first()
    }

    /// How many items fell off, by a bound or in time.
    #[getter]
    fn dropped(&self) -> Result<u64> {
        self.tick()?;
        Ok(self.shared.lock().dropped())
    }

    /// The absolute index of the first item that is not pinned, less `keep_first`: what has left at the front.
    #[getter]
    fn offset(&self) -> Result<i64> {
        self.tick()?;
        Ok(self.shared.lock().offset())
    }

    #[getter]
    fn _callback_errors(&self) -> u64 {
        self.hooks.errors.load(Relaxed)
    }

    /// The statistics of what was retired.
    fn _reclaimed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = PyDict::new(py);
        self.hooks.account.show(&stats)?;
        Ok(stats)
    }

    fn __sizeof__(&self) -> usize {
        size_of::<Self>() + 16 + self.shared.lock().bytes()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        self.hooks.traverse(&visit)?;
        if self.hooks.is_collectable() {
            let ring = self.shared.lock();
            for item in ring.range(0..ring.len()) {
                visit.call(item.as_py())?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let cleared = self.shared.lock().clear();
        self.abandon(cleared);
        self.abandon(self.hooks.take_queue());
        drop(self.hooks.set(Callables::default(), false));
    }
}

impl Swept for HistoryRing {
    fn sweep(&self, now: Tick) -> Option<Tick> {
        let mut fallen = Fallen::new();
        let (len, due) = {
            let mut ring = self.shared.lock();
            // Under the lock: whoever gives the container another clock has emptied it under the lock before.
            if !self.hooks.is_swept() {
                return Some(Tick::NEVER);
            }
            if self.hooks.has_exit() {
                return None;
            }
            (ring.expire(now, sweep::ROUND, &mut fallen), ring.rearm())
        };
        if len > 0 {
            let items = fallen.into_iter().map(|item| (item, None));
            reclaim::retire_unseen(&self.hooks.account, len, Box::new(items));
        }
        Some(due)
    }

    fn deliver(&self) -> Tick {
        drop(self.tick());
        self.shared.lock().rearm()
    }

    fn disarm(&self) {
        self.shared.lock().disarm();
    }
}

impl Drop for HistoryRing {
    fn drop(&mut self) {
        self.hooks.watched.end();
        let cleared = self.shared.lock().clear();
        self.abandon(cleared);
        self.abandon(self.hooks.take_queue());
    }
}

/// An iterator over what was there when it was made, less what has fallen off since.
#[pyclass(module = "ullage._core", frozen)]
pub(crate) struct RingWalk {
    ring: Mutex<Option<Py<HistoryRing>>>,
    cursor: Mutex<Cursor>,
}

#[pymethods]
impl RingWalk {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let lock_failed = |_| PyRuntimeError::new_err("an iteration was broken off");
        let ring = self.ring.lock().map_err(lock_failed)?.as_ref().map(|ring| ring.clone_ref(py));
        let Some(ring) = ring else { return Ok(None) };
        ring.get().tick()?;
        let item = {
            let mut cursor = self.cursor.lock().map_err(|_| PyRuntimeError::new_err("an iteration was broken off"))?;
            ring.get().shared.lock().step(&mut cursor).map(Object::dup)
        };
        if item.is_none() {
            let ended = self.ring.lock().map_err(lock_failed)?.take();
            drop(ended);
        }
        Ok(item.map(|item| item.into_bound(py).unbind()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        match self.ring.lock().ok().as_deref() {
            Some(Some(ring)) => visit.call(ring),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let ended = self.ring.lock().ok().and_then(|mut ring| ring.take());
        drop(ended);
    }
}

unsafe extern "C" fn subscript(slf: *mut PyObject, index: *mut PyObject) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: the interpreter calls a slot with an instance of its type and valid arguments.
        let ring = unsafe { instance::<HistoryRing>(slf) };
        // SAFETY: as above; the type is compared exactly before a slice is taken for one.
        unsafe {
            if ffi::PySlice_Check(index) != 0 {
                return slice(ring, index);
            }
            Ok(ring.item(number(index)?)?.into_ptr())
        }
    })
}

/// A Python index as a number.
#[inline]
unsafe fn number(index: *mut PyObject) -> Result<isize> {
    // SAFETY: the caller passes a valid object, attached.
    unsafe {
        if ffi::PyIndex_Check(index) == 0 {
            return Err(not_an_index(index));
        }
        let number = ffi::PyNumber_AsSsize_t(index, ffi::PyExc_IndexError);
        if number == -1 && !ffi::PyErr_Occurred().is_null() {
            return Err(PyErr::fetch(Python::assume_attached()).into());
        }
        Ok(number)
    }
}

#[cold]
unsafe fn not_an_index(index: *mut PyObject) -> Error {
    attached(|py| {
        // SAFETY: passed on.
        let class = unsafe { Bound::from_borrowed_ptr(py, index) }.get_type();
        let name = class.name().map_or_else(|_| "?".into(), |name| name.to_string());
        PyTypeError::new_err(format!("HistoryRing indices must be integers or slices, not {name}")).into()
    })
}

/// `ring[start:stop:step]`: a list, whose items are taken under one lock.
unsafe fn slice(ring: &HistoryRing, index: *mut PyObject) -> Result<*mut PyObject> {
    let (mut start, mut stop, mut step) = (0, 0, 0);
    // SAFETY: a valid slice; its bounds may be objects with `__index__`, so Python may run: before the lock.
    unsafe {
        if ffi::PySlice_Unpack(index, &mut start, &mut stop, &mut step) < 0 {
            return Err(PyErr::fetch(Python::assume_attached()).into());
        }
    }
    ring.tick()?;
    loop {
        let len = ring.shared.lock().len();
        let (mut from, mut to) = (start, stop);
        // SAFETY: plain arithmetic; then a fresh list, of which every place is filled before anyone sees it.
        unsafe {
            let count = ffi::PySlice_AdjustIndices(len as isize, &mut from, &mut to, step);
            // Making a list may collect garbage, and so run Python: before the lock.
            let list = ffi::PyList_New(count);
            if list.is_null() {
                return Err(PyErr::fetch(Python::assume_attached()).into());
            }
            let filled = {
                let items = ring.shared.lock();
                if let Err(refused) = items.open() {
                    drop(items);
                    ffi::Py_DECREF(list);
                    return Err(refused.into());
                }
                // The ring may have changed while the list was made; then the slice means other items.
                let unchanged = items.len() == len;
                if unchanged && step == 1 {
                    for (i, item) in items.range(from as usize..from as usize + count as usize).enumerate() {
                        ffi::PyList_SET_ITEM(list, i as isize, item.dup().into_ptr());
                    }
                } else if unchanged {
                    for i in 0..count {
                        let item =
                            items.get((from + i * step) as usize).map_or(null_mut(), |item| item.dup().into_ptr());
                        ffi::PyList_SET_ITEM(list, i, item);
                    }
                }
                unchanged
            };
            if filled {
                return Ok(list);
            }
            ffi::Py_DECREF(list);
        }
    }
}

unsafe extern "C" fn assign(slf: *mut PyObject, index: *mut PyObject, value: *mut PyObject) -> c_int {
    door(-1, || {
        // SAFETY: as for `subscript`.
        let ring = unsafe { instance::<HistoryRing>(slf) };
        // SAFETY: as for `subscript`; a null value means deletion.
        unsafe {
            if ffi::PySlice_Check(index) != 0 {
                return assign_slice(slf, index, value);
            }
            assign_at(ring, number(index)?, value)
        }
    })
}

/// `ring[index] = value`, or a deletion if there is none.
unsafe fn assign_at(ring: &HistoryRing, index: isize, value: *mut PyObject) -> Result<c_int> {
    // SAFETY: the caller passes a value that is null or valid.
    unsafe {
        ring.tick()?;
        if value.is_null() {
            let removed = {
                let mut items = ring.shared.lock();
                items.open()?;
                HistoryRing::position(items.len(), index).and_then(|position| items.remove(position))
            };
            return removed.map(|_| 0).ok_or_else(|| self::index(RANGE));
        }
        let item = Object::from_borrowed(value);
        ring.hooks.note_collectable(&item);
        let weight = ring.weigh(&item)?;
        let mut fallen = Fallen::new();
        let replaced = {
            let mut items = ring.shared.lock();
            items.open()?;
            HistoryRing::position(items.len(), index).map(|position| items.replace(position, item, weight, &mut fallen))
        };
        ring.release(fallen);
        reclaim::retire(&ring.hooks.account, settle(replaced.ok_or_else(|| self::index(RANGE))?)?);
        reclaim::pace();
        ring.ring();
        Ok(0)
    }
}

/// `PySequence_GetItem`: what C code takes a sequence by. The length has been added to a negative index already.
unsafe extern "C" fn item(slf: *mut PyObject, index: Py_ssize_t) -> *mut PyObject {
    door(null_mut(), || {
        if index < 0 {
            return Err(self::index(RANGE));
        }
        // SAFETY: as for `subscript`.
        Ok(unsafe { instance::<HistoryRing>(slf) }.item(index)?.into_ptr())
    })
}

/// `PySequence_SetItem` and `PySequence_DelItem`, as [`item`].
unsafe extern "C" fn assign_item(slf: *mut PyObject, index: Py_ssize_t, value: *mut PyObject) -> c_int {
    door(-1, || {
        if index < 0 {
            return Err(self::index(RANGE));
        }
        // SAFETY: as for `subscript`.
        unsafe { assign_at(instance::<HistoryRing>(slf), index, value) }
    })
}

/// Slices are assigned and deleted by Python code, which reads like a list's documentation.
#[cold]
unsafe fn assign_slice(slf: *mut PyObject, index: *mut PyObject, value: *mut PyObject) -> Result<c_int> {
    attached(|py| {
        // SAFETY: arguments of the slot.
        let (ring, index) = unsafe { (Bound::from_borrowed_ptr(py, slf), Bound::from_borrowed_ptr(py, index)) };
        // SAFETY: a value that is not null is valid.
        match unsafe { Bound::from_borrowed_ptr_or_opt(py, value) } {
            Some(value) => ring.call_method1("_set_slice", (index, value))?,
            None => ring.call_method1("_del_slice", (index,))?,
        };
        Ok(0)
    })
}

unsafe extern "C" fn length(slf: *mut PyObject) -> Py_ssize_t {
    door(-1, || {
        // SAFETY: as for `subscript`.
        let ring = unsafe { instance::<HistoryRing>(slf) };
        ring.tick()?;
        let items = ring.shared.lock();
        items.open()?;
        Ok(items.len() as Py_ssize_t)
    })
}

unsafe extern "C" fn append(slf: *mut PyObject, item: *mut PyObject) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: as for `subscript`.
        unsafe {
            instance::<HistoryRing>(slf).push(Object::from_borrowed(item))?;
            Ok(Object::from_borrowed(ffi::Py_None()).into_ptr())
        }
    })
}

/// Puts the raw slots on the type.
pub(crate) fn hang_slots(py: Python<'_>) -> PyResult<()> {
    let slots = Slots {
        subscript: Some(subscript),
        assign: Some(assign),
        length: Some(length),
        item: Some((item, assign_item)),
        ..Slots::default()
    };
    hang(&py.get_type::<HistoryRing>(), slots)
}

/// The raw methods.
pub(crate) const METHODS: &[Method] = &[Method::with_one(
    c"append",
    append,
    c"append($self, item, /)\n--\n\nAdds an item at the end; what is too much for the bounds falls off. O(1).",
)];
