//! TransferMap: things in flight, each with a deadline. The structure is `ullage_core::Expiring`; the rest of the
//! mapping's surface is in `python/ullage/_transfer.py`.

use crate::doors::{self, Mapping};
use crate::error::{empty, missing, Error, Result};
use crate::ffi::{attached, default_or_missing, door, instance, Method, Signature};
use crate::hooks::{Callables, Glance, Hooks};
use crate::key::Key;
use crate::lock::{open_to_detached, Shared};
use crate::names::Names;
use crate::reclaim;
use crate::sweep::{self, Swept};
use crate::tell;
use crate::value::{gather, Object};
use crate::walk::{Kind, Walk};
use pyo3::ffi::{PyObject, Py_ssize_t};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyDict, PyList, PyTuple};
use std::ptr::null_mut;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Mutex;
use ullage_core::due::Effort;
use ullage_core::expiring::{Begun, ClaimId, End, Everything, Leaving, OnFull, State};
use ullage_core::{Expiring, Tick};

/// Entries handed over in one piece.
const BATCH: usize = 256;
/// Entries that a call reports, where the sweeper reports the rest.
const A_FEW: usize = 8;
/// Nanoseconds after which the sweeper comes again for what it could not report, since somebody else was at it, or what
/// the callback wants kept and there is no room for.
const AGAIN: u64 = 1_000_000_000;

/// What `ullage.TransferMap` is made of.
#[pyclass(module = "ullage._core", subclass, frozen, weakref, mapping)]
pub(crate) struct TransferMap {
    pub(crate) shared: Shared<Expiring<Object, Object>>,
    pub(crate) hooks: Hooks,
}

impl TransferMap {
    /// Shows everything that is held, under the lock: to be counted or visited, not used.
    pub(crate) fn visit(&self, mut show: impl FnMut(&Object)) {
        for (key, handle) in self.shared.lock().entries() {
            show(key);
            handle.into_iter().for_each(&mut show);
        }
    }

    /// The time; what has expired by then is reported first, if there is a callback to report it to. Some of it, if the
    /// sweeper reports the rest.
    #[inline]
    fn tick(&self) -> Result<Tick> {
        let now = self.hooks.now()?;
        if self.hooks.has_exit() {
            match self.hooks.is_swept() {
                true => self.report_some(now),
                false => self.report_all(now),
            }
        }
        Ok(now)
    }

    /// As [`tick`](Self::tick), and nothing is left to the sweeper.
    fn tick_all(&self) -> Result<Tick> {
        let now = self.hooks.now()?;
        if self.hooks.has_exit() {
            self.report_all(now);
        }
        Ok(now)
    }

    /// As [`tick`](Self::tick), for what only asks whether an entry is over.
    #[inline]
    fn glance(&self) -> Result<Glance> {
        match self.hooks.coarse() {
            Some(coarse) => Ok(coarse),
            None => self.tick().map(Glance::Exact),
        }
    }

    /// Gives the callback a little of what expired.
    #[cold]
    fn report_some(&self, now: Tick) {
        let Some(delivery) = self.hooks.deliver() else { return };
        let batch = self.hand_over(now, A_FEW, Effort::Little);
        if !batch.is_empty() {
            let back = self.report(batch);
            self.put_back(back);
            drop(delivery);
            self.ring_for_waiting(now);
        }
    }

    /// Gives the callback all that expired, in batches.
    #[cold]
    fn report_all(&self, now: Tick) {
        let Some(_delivery) = self.hooks.deliver() else { return };
        let mut back = Vec::new();
        let mut batch = self.hand_over(now, BATCH, Effort::Whole);
        if batch.is_empty() {
            return;
        }
        // Counted once: what is kept in a full map waits again at once.
        let mut left = self.shared.lock().waiting(now);
        while !batch.is_empty() {
            let next = left.min(BATCH);
            left -= next;
            back.extend(self.report(batch));
            batch = self.hand_over(now, next, Effort::Whole);
        }
        // Only now, or it would be handed over again at once.
        self.put_back(back);
    }

    /// Has what the callback could not keep handed over again.
    fn put_back(&self, back: Vec<(Object, Object)>) {
        for (key, handle) in back {
            let refused = self.shared.lock().put_back(key, handle);
            if let Err((key, handle)) = refused {
                self.retire(key, handle);
            }
        }
        reclaim::pace();
    }

    fn retire(&self, key: Object, handle: Object) {
        reclaim::retire(&self.hooks.account, key);
        reclaim::retire(&self.hooks.account, handle);
    }

    /// Lets go of what left without being handed over.
    #[inline(always)]
    fn release(&self, leaving: Leaving<Object, Object>) {
        leaving.for_each(|key, handle, _| {
            reclaim::retire(&self.hooks.account, key);
            if let Some(handle) = handle {
                reclaim::retire(&self.hooks.account, handle);
            }
        });
        reclaim::pace();
    }

    /// Has the sweeper report what waits: no other call may come.
    #[inline]
    fn ring_for_waiting(&self, now: Tick) {
        if self.hooks.has_exit() && self.is_waiting() {
            self.hooks.watched.ring(Some(now));
        }
    }

    fn is_waiting(&self) -> bool {
        self.shared.lock().waiting(Tick(0)) > 0
    }

    fn abandon(&self, everything: Everything<Object, Object>) {
        reclaim::abandon(&self.hooks.account, everything.len(), everything);
    }

    /// Gives the callback a batch, unlocked. What it wants kept and cannot be kept in its place comes back.
    fn report(&self, batch: Vec<(Object, Object)>) -> Vec<(Object, Object)> {
        let Some(callback) = self.hooks.on_exit() else { return Vec::new() };
        let (mut batch, mut back): (Vec<_>, _) = (batch.into_iter().map(Some).collect(), Vec::new());
        attached(|py| {
            tell::call(py, &self.hooks, &callback, |callback| {
                let pairs = batch.iter().flatten().map(|(key, handle)| (key.bind(py), handle.bind(py)));
                let kept = callback.call1((PyList::new(py, pairs)?,))?;
                if !kept.is_none() {
                    if !kept.hasattr("keys")? {
                        let kind = kept.get_type().name()?;
                        let text = format!("on_expire must return None, or {{key: ttl}} of what to keep; got {kind}");
                        return Err(pyo3::exceptions::PyTypeError::new_err(text));
                    }
                    for entry in &mut batch {
                        // What cannot be kept must not take what comes after it along.
                        if let Err(error) = self.keep_if_asked(&kept, entry) {
                            self.hooks.errors.fetch_add(1, Relaxed);
                            PyErr::from(error).write_unraisable(py, Some(callback));
                            back.extend(entry.take());
                        }
                    }
                }
                Ok(())
            });
            batch.into_iter().flatten().for_each(|(key, handle)| self.retire(key, handle));
            reclaim::pace();
        });
        back
    }

    /// Keeps an entry if the callback's answer names it. One that cannot be put in its place, or whose lifetime cannot
    /// be read, is left with the caller: a handle that may still be in use is never lost.
    fn keep_if_asked(&self, kept: &Bound<'_, PyAny>, entry: &mut Option<(Object, Object)>) -> Result<()> {
        let Some((key, _)) = &*entry else { return Ok(()) };
        let key = key.bind(kept.py());
        if kept.contains(&key)? {
            self.keep(&kept.get_item(key)?, entry)?;
        }
        Ok(())
    }

    fn keep(&self, ttl: &Bound<'_, PyAny>, pair: &mut Option<(Object, Object)>) -> Result<()> {
        let Some((key, _)) = &*pair else { return Ok(()) };
        let key = key.dup();
        let ttl = Names::nanoseconds(ttl)?;
        // SAFETY: `key` lives until the end of this function.
        let asked = unsafe { Key::new(key.as_ptr()) }?;
        let now = self.hooks.now()?;
        let mut leaving = Leaving::new();
        let kept = self.shared.ask(&asked, |map, probe| {
            map.keep(asked.hash, probe, pair, ttl, now, &mut leaving)?;
            Ok(map.alarm())
        });
        self.release(leaving);
        self.hooks.watched.ring(kept?);
        Ok(())
    }

    fn hand_over(&self, now: Tick, limit: usize, effort: Effort) -> Vec<(Object, Object)> {
        let mut leaving = Leaving::new();
        let batch = self.shared.lock().pop_expired(now, limit, effort, Object::dup, &mut leaving);
        self.release(leaving);
        batch
    }

    #[inline]
    fn begin(&self, key: &Key, handle: Object, ttl: Option<u64>) -> Result<Begun> {
        let now = self.tick()?;
        let object = key.to_object();
        self.hooks.note_collectable(&object);
        self.hooks.note_collectable(&handle);
        let mut pair = Some((object, handle));
        let mut leaving = Leaving::new();
        let begun = self
            .shared
            .ask(key, |map, probe| Ok((map.begin(key.hash, probe, &mut pair, ttl, now, &mut leaving)?, map.alarm())));
        self.release(leaving);
        let (begun, alarm) = begun?;
        self.hooks.watched.ring(alarm);
        self.ring_for_waiting(now);
        Ok(begun)
    }

    #[inline]
    fn end(&self, key: &Key, end: End) -> Result<Option<Object>> {
        let glance = self.glance()?;
        let mut leaving = Leaving::new();
        let handle = self.shared.ask(key, |map, probe| {
            let now = glance.before(map.soonest());
            map.end(key.hash, probe, end, now, &mut leaving)
        });
        self.release(leaving);
        handle
    }

    #[inline]
    fn find(&self, key: &Key) -> Result<Option<(Object, Tick)>> {
        let glance = self.glance()?;
        self.shared.ask(key, |map, probe| {
            let now = glance.before(map.soonest());
            Ok(map.peek(key.hash, probe, now)?.map(|(handle, at)| (handle.dup(), at)))
        })
    }

    /// A completion that came before its beginning.
    #[cold]
    fn remember_early(&self, key: &Key) -> Result<()> {
        let object = key.to_object();
        self.hooks.note_collectable(&object);
        let mut object = Some(object);
        let mut leaving = Leaving::new();
        let outcome = self.shared.ask(key, |map, probe| map.early(key.hash, probe, &mut object, &mut leaving));
        self.release(leaving);
        outcome
    }
}

#[pymethods]
impl TransferMap {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        TransferMap { shared: Shared::behind(Expiring::new()), hooks: Hooks::new() }
    }

    /// Opens the map. Times in nanoseconds.
    #[pyo3(signature = (ttl, maxsize, evict, on_expire, timer, inline))]
    fn _configure(
        slf: &Bound<'_, Self>,
        ttl: Option<u64>,
        maxsize: Option<u64>,
        evict: bool,
        on_expire: Option<&Bound<'_, PyAny>>,
        timer: Option<&Bound<'_, PyAny>>,
        inline: bool,
    ) -> PyResult<()> {
        let TransferMap { shared, hooks, .. } = slf.get();
        let origin = timer.map(crate::hooks::read_timer).transpose()?.unwrap_or(0.0);
        let (on_exit, timer) = (on_expire.map(Object::new), timer.map(Object::new));
        let on_full = if evict { OnFull::Evict } else { OnFull::Raise };
        let cleared = {
            let mut map = shared.lock();
            let cleared = map.clear();
            map.configure(ttl, maxsize, on_full, on_exit.is_some());
            cleared
        };
        hooks.account.inline.store(inline, Relaxed);
        drop(hooks.set(Callables { on_exit, timer, origin, weigher: None }, true));
        slf.get().abandon(cleared);
        if hooks.is_swept() {
            open_to_detached(shared);
            shared.lock().be_swept();
            hooks.watched.begin(slf)?;
        }
        Ok(())
    }

    // The doors. These bodies stand for the slots' names; `hang_slots` puts raw functions in their place.

    fn __getitem__(&self, _key: &Bound<'_, PyAny>) {}
    fn __setitem__(&self, _key: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>) {}
    fn __delitem__(&self, _key: &Bound<'_, PyAny>) {}
    fn __len__(&self) -> usize {
        0
    }
    fn __contains__(&self, _key: &Bound<'_, PyAny>) -> bool {
        false
    }

    /// Nanoseconds left for a live `key`, None for ever.
    fn _remaining(&self, key: &Bound<'_, PyAny>) -> Result<Option<u64>> {
        let asked = Key::of(key)?;
        let now = self.hooks.now()?;
        let (_, at) = self.find(&asked)?.ok_or_else(|| missing(key.clone()))?;
        Ok(at.remaining(now))
    }

    /// "live", "claimed", "expired", "completed", "failed" or "unknown".
    fn state(&self, key: &Bound<'_, PyAny>) -> Result<&'static str> {
        let key = Key::of(key)?;
        let now = self.tick()?;
        self.shared.lock().open()?;
        Ok(match self.shared.ask(&key, |map, probe| map.state(key.hash, probe, now))? {
            State::Live => "live",
            State::Claimed => "claimed",
            State::Ended(End::Completed | End::Early) => "completed",
            State::Ended(End::Failed) => "failed",
            State::Ended(End::Expired) => "expired",
            State::Unknown => "unknown",
        })
    }

    /// The deadline of a live `key` on the map's clock; None if it never expires. Raises KeyError.
    fn deadline(&self, key: &Bound<'_, PyAny>) -> Result<Option<f64>> {
        let asked = Key::of(key)?;
        let (_, at) = self.find(&asked)?.ok_or_else(|| missing(key.clone()))?;
        Ok((at != Tick::NEVER).then(|| self.hooks.on_the_clock(at)))
    }

    /// When to look again, on the map's clock: for `loop.call_at`. None if nothing will expire.
    ///
    /// Never after the next deadline. Before it only while more than 64 entries of unlike lifetimes are close together.
    fn next_deadline(&self) -> Result<Option<f64>> {
        let now = self.hooks.now()?;
        let due = {
            let map = self.shared.lock();
            map.open()?;
            map.next_due(now)
        };
        Ok(due.map(|at| self.hooks.on_the_clock(at)))
    }

    /// Puts the deadline of a live `key` off, never nearer; nanoseconds. False if there is none.
    fn _renew(&self, key: &Bound<'_, PyAny>, ttl: Option<u64>) -> Result<bool> {
        let key = Key::of(key)?;
        let now = self.tick()?;
        self.shared.ask(&key, |map, probe| map.renew(key.hash, probe, ttl, now))
    }

    /// Ends the transfer of `key` as failed and returns its handle; `KeyError` if it is not live.
    fn fail(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> Result<Py<PyAny>> {
        let handle = self.end(&Key::of(key)?, End::Failed)?.ok_or_else(|| missing(key.clone()))?;
        Ok(handle.into_bound(py).unbind())
    }

    /// Removes and returns the live pair that began last; `KeyError` if there is none.
    fn popitem(&self, py: Python<'_>) -> Result<(Py<PyAny>, Py<PyAny>)> {
        let now = self.tick()?;
        let mut leaving = Leaving::new();
        let popped = {
            let mut map = self.shared.lock();
            map.open()?;
            map.end_last(now, Object::dup, &mut leaving)
        };
        self.release(leaving);
        let (key, handle) = popped.ok_or_else(|| empty("popitem(): nothing is in flight"))?;
        Ok((key.into_bound(py).unbind(), handle.into_bound(py).unbind()))
    }

    /// The handle of a live `key`; `default`, begun, if there is none.
    #[pyo3(signature = (key, default = None))]
    fn setdefault(&self, py: Python<'_>, key: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> Result<Py<PyAny>> {
        let key = Key::of(key)?;
        let default = default.unwrap_or_else(|| py.None()).into_bound(py);
        let now = self.tick()?;
        let (object, handle) = (key.to_object(), Object::new(&default));
        self.hooks.note_collectable(&object);
        self.hooks.note_collectable(&handle);
        let mut pair = Some((object, handle));
        let mut leaving = Leaving::new();
        let found = self.shared.ask(&key, |map, probe| {
            if let Some((handle, _)) = map.peek(key.hash, probe, now)? {
                return Ok(Some(handle.dup()));
            }
            map.begin(key.hash, probe, &mut pair, None, now, &mut leaving).map(|_| None)
        });
        self.release(leaving);
        let alarm = self.shared.lock().alarm();
        self.hooks.watched.ring(alarm);
        self.ring_for_waiting(now);
        Ok(found?.map_or(default, |handle| handle.into_bound(py)).unbind())
    }

    /// Hands over at most `limit` expired entries as `(key, handle)`, each once, in the order of their deadlines.
    fn _pop_expired<'py>(&self, py: Python<'py>, limit: Option<usize>) -> PyResult<Bound<'py, PyList>> {
        let now = self.hooks.now()?;
        self.shared.lock().open().map_err(Error::from)?;
        let popped = PyList::empty(py);
        let mut left = limit.unwrap_or(usize::MAX);
        while left > 0 {
            let batch = self.hand_over(now, left.min(BATCH), Effort::Whole);
            if batch.is_empty() {
                break;
            }
            left -= batch.len();
            for (key, handle) in batch {
                popped.append((key.into_bound(py), handle.into_bound(py)))?;
            }
        }
        if self.hooks.is_swept() && self.shared.lock().is_husk() {
            self.hooks.watched.ring(Some(now));
        }
        Ok(popped)
    }

    /// Reports what has expired to `on_expire`, if there is one. Returns how many entries wait for `pop_expired`.
    fn expire(&self) -> Result<usize> {
        let now = self.tick_all()?;
        let map = self.shared.lock();
        map.open()?;
        Ok(map.waiting(now))
    }

    /// A context manager that gives the handle, and keeps the entry from expiring until it is left.
    fn claim(slf: Bound<'_, Self>, key: &Bound<'_, PyAny>) -> Result<Claim> {
        slf.get().shared.lock().open()?;
        Ok(Claim { map: slf.unbind(), key: key.clone().unbind(), held: Mutex::default() })
    }

    /// An iterator: 0 keys, 1 handles, 2 items.
    fn _walk(slf: Bound<'_, Self>, kind: u8, backwards: bool) -> PyResult<Walk> {
        slf.get().tick()?;
        slf.get().shared.lock().open().map_err(Error::from)?;
        let id = slf.get().shared.lock().walk(backwards);
        Ok(Walk::over_transfers(slf.unbind(), id, Kind::from_number(kind)))
    }

    /// All live entries with nanoseconds left to live, in the order in which they began.
    fn _export<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let now = self.hooks.now()?;
        let entries: Vec<_> = {
            let map = self.shared.lock();
            map.open().map_err(Error::from)?;
            gather(map.len(now), map.iter(now).map(|(key, handle, at)| (key.dup(), handle.dup(), at.remaining(now))))?
        };
        PyList::new(py, entries.into_iter().map(|(key, handle, at)| (key.into_bound(py), handle.into_bound(py), at)))
    }

    /// Forgets everything, what waits for `pop_expired` included.
    fn clear(&self) -> Result<()> {
        let now = self.hooks.now()?;
        let everything = {
            let mut map = self.shared.lock();
            map.open()?;
            map.count_due(now);
            map.clear()
        };
        self.abandon(everything);
        Ok(())
    }

    /// Forgets everything for good; the map raises `RuntimeError` on use from then on.
    fn close(&self) -> Result<()> {
        let now = self.hooks.now()?;
        let everything = {
            let mut map = self.shared.lock();
            map.count_due(now);
            map.close()
        };
        self.abandon(everything);
        drop(self.hooks.set(Callables::default(), true));
        Ok(())
    }

    #[getter(_bound)]
    fn bound(&self) -> Option<u64> {
        self.shared.lock().maxsize()
    }

    #[setter(_bound)]
    fn set_bound(&self, bound: Option<u64>) -> Result<()> {
        let now = self.tick()?;
        let mut leaving = Leaving::new();
        {
            let mut map = self.shared.lock();
            map.open()?;
            map.set_maxsize(bound, now, &mut leaving);
        }
        self.release(leaving);
        self.tick_all()?;
        Ok(())
    }

    fn _stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let now = self.hooks.now()?;
        let (tally, live, waiting, moved, oldest) = {
            let map = self.shared.lock();
            (map.tally(), map.len(now), map.waiting(now), map.waiting(Tick(0)), map.oldest_age(now))
        };
        let dict = PyDict::new(py);
        for (name, count) in [
            ("begun", tally.begun),
            ("completed", tally.completed),
            ("failed", tally.failed),
            // What is due counts as expired, moved out or not.
            ("expired", tally.expired + (waiting - moved) as u64),
            ("renewed", tally.renewed),
            ("replaced", tally.replaced),
            ("evicted", tally.evicted),
            ("late", tally.late),
            ("early", tally.early),
            ("unseen", tally.unseen),
            ("kept", tally.kept),
            ("high_water", tally.high_water),
            ("callback_errors", self.hooks.errors.load(Relaxed)),
            ("live", live as u64),
            ("waiting", waiting as u64),
        ] {
            dict.set_item(name, count)?;
        }
        dict.set_item("oldest_age", oldest.map(|age| age as f64 / 1e9))?;
        dict.set_item("max_lag", tally.max_lag as f64 / 1e9)?;
        self.hooks.account.show(&dict)?;
        Ok(dict)
    }

    fn __sizeof__(&self) -> usize {
        size_of::<Self>() + 16 + self.shared.lock().bytes()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.hooks.traverse(&visit)?;
        if self.hooks.is_collectable() {
            for (key, handle) in self.shared.lock().entries() {
                visit.call(key.as_py())?;
                if let Some(handle) = handle {
                    visit.call(handle.as_py())?;
                }
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let everything = self.shared.lock().clear();
        self.abandon(everything);
        drop(self.hooks.set(Callables::default(), true));
    }
}

impl Swept for TransferMap {
    fn sweep(&self, now: Tick) -> Option<Tick> {
        let mut leaving = Leaving::new();
        let (due, over, storage) = {
            let mut map = self.shared.lock();
            // Under the lock: whoever gives the container another clock has emptied it under the lock before.
            if !self.hooks.is_swept() {
                return Some(Tick::NEVER);
            }
            map.sweep(now, sweep::ROUND, &mut leaving);
            (map.rearm(), map.soonest() > now, map.shed())
        };
        if !leaving.is_empty() {
            let len = leaving.len();
            let entries = leaving.into_iter().map(|(key, handle, _)| (key, handle));
            reclaim::retire_unseen(&self.hooks.account, len, Box::new(entries));
        }
        drop(storage);
        // A callback is called when all has been moved out.
        (!over || !self.hooks.has_exit()).then_some(due)
    }

    fn deliver(&self) -> Tick {
        let now = self.tick_all().ok().filter(|_| self.is_waiting());
        let again = now.map_or(Tick::NEVER, |now| now.after(Some(AGAIN)));
        let (due, storage) = {
            let mut map = self.shared.lock();
            (map.rearm(), map.shed())
        };
        if let Some(storage) = storage {
            sweep::discard(Box::new(storage));
        }
        due.min(again)
    }

    fn disarm(&self) {
        self.shared.lock().disarm();
    }
}

impl Drop for TransferMap {
    fn drop(&mut self) {
        self.hooks.watched.end();
        let everything = self.shared.lock().clear();
        self.abandon(everything);
    }
}

/// `with map.claim(key) as handle:`. May be entered more than once, also at the same time.
#[pyclass(module = "ullage._core", frozen)]
pub(crate) struct Claim {
    map: Py<TransferMap>,
    key: Py<PyAny>,
    held: Mutex<Vec<ClaimId>>,
}

#[pymethods]
impl Claim {
    fn __enter__(&self, py: Python<'_>) -> Result<Py<PyAny>> {
        let map = self.map.get();
        let key = Key::of(self.key.bind(py))?;
        let now = map.tick()?;
        let claimed = map
            .shared
            .ask(&key, |map, probe| Ok(map.claim(key.hash, probe, now)?.map(|(handle, id)| (handle.dup(), id))))?;
        let (handle, id) = claimed.ok_or_else(|| missing(self.key.bind(py).clone()))?;
        self.held.lock().expect("nothing panics while it is held").push(id);
        Ok(handle.into_bound(py).unbind())
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) -> Result<bool> {
        let id = self.held.lock().expect("nothing panics while it is held").pop();
        if let Some(id) = id {
            self.release(id);
            self.map.get().tick()?;
        }
        Ok(false)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.map)?;
        visit.call(&self.key)
    }
}

impl Claim {
    /// Gives one claim back. The clock is not asked, for a timer may raise: what is overdue expires with the next call.
    fn release(&self, id: ClaimId) {
        let (map, mut leaving) = (self.map.get(), Leaving::new());
        let alarm = {
            let mut transfers = map.shared.lock();
            transfers.release(id, Tick(0), &mut leaving);
            transfers.alarm()
        };
        map.release(leaving);
        map.hooks.watched.ring(alarm);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let held = std::mem::take(self.held.get_mut().expect("nothing panics while it is held"));
        held.into_iter().for_each(|id| self.release(id));
    }
}

/// `default` of `complete`, or the error for a key that is not live.
unsafe fn complete_missing(
    map: &TransferMap,
    key: &Key,
    object: *mut PyObject,
    default: *mut PyObject,
) -> Result<*mut PyObject> {
    map.remember_early(key)?;
    // SAFETY: both are arguments of the call.
    unsafe { default_or_missing(object, default) }
}

impl Mapping for TransferMap {
    #[inline(always)]
    fn get(&self, key: &Key) -> Result<Option<Object>> {
        Ok(self.find(key)?.map(|(handle, _)| handle))
    }

    #[inline(always)]
    fn contains(&self, key: &Key) -> Result<bool> {
        Ok(self.find(key)?.is_some())
    }

    #[inline(always)]
    fn set(&self, key: &Key, handle: Object) -> Result<()> {
        self.begin(key, handle, None).map(drop)
    }

    #[inline(always)]
    fn pop(&self, key: &Key) -> Result<Option<Object>> {
        self.end(key, End::Completed)
    }

    fn len(&self) -> Result<usize> {
        let now = self.tick()?;
        let mut leaving = Leaving::new();
        let len = {
            let mut map = self.shared.lock();
            map.open()?;
            // What is due is moved first, within a budget, so that it need not be counted each time.
            map.sweep(now, self.hooks.moved_by_len(), &mut leaving);
            map.len(now)
        };
        self.release(leaving);
        Ok(len)
    }
}

static BEGIN: Signature<3> = Signature { name: "begin", parameters: ["key", "handle", "ttl"], required: 2 };

unsafe extern "C" fn begin(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    nargs: Py_ssize_t,
    kwnames: *mut PyObject,
) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: as for `subscript`; the arguments are what the interpreter passed.
        let [key, handle, ttl] = unsafe { BEGIN.read(args, nargs, kwnames)? };
        // SAFETY: as above.
        let ttl = if ttl.is_null() { None } else { unsafe { nanoseconds(ttl)? } };
        // SAFETY: as above.
        let (map, key) = unsafe { (instance::<TransferMap>(slf), Key::new(key)?) };
        // SAFETY: the handle is valid.
        let begun = map.begin(&key, unsafe { Object::from_borrowed(handle) }, ttl)?;
        // SAFETY: attached; a new reference to a bool.
        Ok(unsafe { pyo3::ffi::PyBool_FromLong((begun == Begun::Live).into()) })
    })
}

/// A lifetime as users write it. None is the map's own.
unsafe fn nanoseconds(ttl: *mut PyObject) -> Result<Option<u64>> {
    // SAFETY: an argument of the call, whose exact type is compared before it is read.
    unsafe {
        if pyo3::ffi::PyFloat_CheckExact(ttl) != 0 {
            let nanos = pyo3::ffi::PyFloat_AS_DOUBLE(ttl) * 1e9;
            // The usual lifetime, below a century. Python reads all others, and complains of those that are none.
            if (1.0..3e18).contains(&nanos) {
                return Ok(Some(nanos.round_ties_even() as u64));
            }
        }
        if pyo3::ffi::PyLong_CheckExact(ttl) != 0 {
            let mut overflow = 0;
            let seconds = pyo3::ffi::PyLong_AsLongLongAndOverflow(ttl, &mut overflow);
            if (1..3_000_000_000).contains(&seconds) {
                return Ok(Some(seconds as u64 * 1_000_000_000));
            }
        }
    }
    attached(|py| {
        // SAFETY: an argument of the call.
        let ttl = unsafe { Bound::from_borrowed_ptr(py, ttl) };
        if ttl.is_none() {
            return Ok(None);
        }
        Names::nanoseconds(&ttl).map(Some)
    })
}

static COMPLETE: Signature<2> = Signature { name: "complete", parameters: ["key", "default"], required: 1 };

unsafe extern "C" fn complete(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    nargs: Py_ssize_t,
    kwnames: *mut PyObject,
) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: as for `subscript`; the arguments are what the interpreter passed.
        let [object, default] = unsafe { COMPLETE.read(args, nargs, kwnames)? };
        // SAFETY: as above.
        let (map, key) = unsafe { (instance::<TransferMap>(slf), Key::new(object)?) };
        match map.end(&key, End::Completed)? {
            Some(handle) => Ok(handle.into_ptr()),
            // SAFETY: as above.
            None => unsafe { complete_missing(map, &key, object, default) },
        }
    })
}

/// The raw methods.
pub(crate) const METHODS: &[Method] = &[
    Method::with_names(
        c"begin",
        begin,
        c"begin($self, /, key, handle, ttl=None)\n--\n\nPuts `handle` in flight under `key`, for `ttl` seconds or the map's own.\n\nReturns False if the completion of `key` had come before, and then does not keep the handle. O(1).",
    ),
    Method::with_names(
        c"complete",
        complete,
        c"complete($self, /, key, default=...)\n--\n\nEnds the transfer of `key` and returns its handle, or `default`; KeyError without one.\n\nA completion of what had ended counts as late; one of an unknown key waits for its `begin`. O(1).",
    ),
    Method::with_names(c"get", doors::get::<TransferMap>, c"get($self, /, key, default=None)\n--\n\nThe handle of a live `key`, or `default`."),
    Method::with_names(
        c"pop",
        doors::pop::<TransferMap>,
        c"pop($self, /, key, default=...)\n--\n\nRemoves `key` and returns its handle, or `default`; KeyError without one.",
    ),
];
