//! LRUCache: a dict that keeps what was used last. The structure is `ullage_core::Lru`; the rest of the dict's surface
//! is in `python/ullage/_lru.py`.

use crate::doors::{self, Mapping};
use crate::error::{empty, missing, Error, Result};
use crate::ffi::{self, attached, Method};
use crate::hooks::{Callables, Hooks};
use crate::key::{Key, Ready};
use crate::lock::{self, open_to_detached, Shared};
use crate::reclaim;
use crate::sweep::{self, Swept};
use crate::tell;
use crate::value::{gather, Object};
use crate::walk::{Kind, Walk};
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyDict, PyList, PyTuple};
use std::sync::atomic::Ordering::Relaxed;
use ullage_core::{Cause, Cleared, Lru, New, Plainly, Probe, Removed, Tick};

/// Entries that are moved out in one piece, between which others may run.
const BATCH: usize = 256;

/// What `ullage.LRUCache` is made of.
#[pyclass(module = "ullage._core", subclass, frozen, weakref, mapping)]
pub(crate) struct LRUCache {
    pub(crate) shared: Shared<Lru<Object, Object>>,
    pub(crate) hooks: Hooks,
}

impl LRUCache {
    /// Shows everything that is held, under the lock: to be counted or visited, not used.
    pub(crate) fn visit(&self, mut show: impl FnMut(&Object)) {
        for (key, value) in self.shared.lock().entries() {
            show(key);
            show(value);
        }
    }

    /// `cache[key]`, `get`: a use.
    #[inline(always)]
    fn find(&self, key: &Key) -> Result<Option<Object>> {
        match lock::glance(&self.shared).and_then(|mut lru| lru.glance_get(key.hash, key, Object::dup)) {
            Some(found) => Ok(found),
            None => self.find_at_length(key),
        }
    }

    #[inline(never)]
    fn find_at_length(&self, key: &Key) -> Result<Option<Object>> {
        let now = self.hooks.now()?;
        self.shared.ask(key, |lru, probe| Ok(lru.get(key.hash, probe, now)?.map(Object::dup)))
    }

    /// `cache[key] = value`.
    #[inline(always)]
    fn store(&self, key: &Key, value: Object, ttl: Option<u64>) -> Result<()> {
        let seen = if ttl.is_none() { self.overwrite(key.hash, key, &value) } else { None };
        match seen {
            Some(true) => Ok(()),
            Some(false) => self.insert(key, &value),
            None => self.put(key, self.weigh(key, value, ttl)?),
        }
    }

    /// Replaces the value of an entry, where that is all there is to it and a glance finds it: the key is not owned. False
    /// if there is no entry with this key; None says nothing.
    #[inline(always)]
    fn overwrite(&self, hash: u32, key: &impl Plainly<Object>, value: &Object) -> Option<bool> {
        if !self.hooks.is_plain() || !self.hooks.is_collectable() && value.is_collectable() {
            return None;
        }
        let Some(old) = lock::glance(&self.shared)?.glance_swap(hash, key, || value.dup())? else { return Some(false) };
        reclaim::retire(&self.hooks.account, old);
        reclaim::pace();
        Some(true)
    }

    /// Puts a new entry in the place of the coldest, where [`overwrite`](Self::overwrite) has just said that its key is in
    /// none. None if nothing was done.
    #[inline(always)]
    fn supersede(&self, key: &Key, value: &Object) -> Option<()> {
        self.hooks.note_collectable(key.as_object());
        let pair = || (key.to_object(), value.dup());
        let (old_key, old) = lock::glance(&self.shared)?.supersede(key.hash, pair)?;
        reclaim::retire(&self.hooks.account, old_key);
        reclaim::retire(&self.hooks.account, old);
        reclaim::pace();
        Some(())
    }

    #[inline(always)]
    fn put(&self, key: &Key, mut new: New<Object, Object>) -> Result<()> {
        let now = self.hooks.now()?;
        let mut removed = Removed::new();
        let stored = self.shared.ask(key, |lru, probe| {
            lru.put(probe, &mut new, now, &mut removed)?;
            Ok(lru.alarm())
        });
        tell::release(&self.hooks, removed);
        self.hooks.watched.ring(stored?);
        Ok(())
    }

    /// From now on entries have lifetimes, and the sweeper comes for those that are over.
    fn be_timed(slf: &Bound<'_, Self>) -> PyResult<()> {
        let LRUCache { hooks, shared, .. } = slf.get();
        hooks.set_timed();
        if hooks.is_swept() {
            open_to_detached(shared);
            shared.lock().be_swept();
            hooks.watched.begin(slf)?;
        }
        Ok(())
    }

    /// An entry ready to be stored: weighed, with nothing held.
    #[inline(always)]
    fn weigh(&self, key: &Key, value: Object, ttl: Option<u64>) -> Result<New<Object, Object>> {
        let object = key.to_object();
        self.hooks.note_collectable(&object);
        self.hooks.note_collectable(&value);
        let weight = self.hooks.weigh(|weigher| {
            let py = weigher.py();
            Ok(weigher.call1((object.bind(py), value.bind(py)))?.unbind())
        })?;
        Ok(New { hash: key.hash, pair: Some((object, value)), weight, ttl })
    }

    /// Tells the hook of an entry that goes to the caller.
    fn tell_taken(&self, key: Object, value: Object, cause: Cause) -> (Object, Object) {
        if self.hooks.has_exit() {
            tell::tell(&self.hooks, std::iter::once((key.dup(), value.dup(), cause)));
        }
        (key, value)
    }

    /// Moves out what is due first, within a budget, so that it need not be counted each time.
    fn len_of_timed(&self, now: Tick) -> Result<usize> {
        let mut removed = Removed::new();
        let len = {
            let mut lru = self.shared.lock();
            lru.open()?;
            lru.sweep(now, self.hooks.moved_by_len(), &mut removed);
            lru.len(now)
        };
        tell::release(&self.hooks, removed);
        Ok(len)
    }

    /// Lets go of what a cleared map held, after telling the hook.
    fn let_go(&self, cleared: Cleared<Object, Object>) {
        if self.hooks.has_exit() {
            tell::tell(&self.hooks, cleared.map(|(key, value)| (key, value, Cause::Explicit)));
        } else {
            self.abandon(cleared);
        }
    }

    fn abandon(&self, cleared: Cleared<Object, Object>) {
        reclaim::abandon(&self.hooks.account, cleared.len(), cleared.map(|(key, value)| (key, Some(value))));
    }

    /// Copies of some live entries, made under the lock, used outside it.
    fn snapshot(&self, n: usize, newest_first: bool) -> Result<Vec<(Object, Object, Tick)>> {
        let now = self.hooks.now()?;
        let lru = self.shared.lock();
        lru.open()?;
        let dup = |(key, value, at): (&Object, &Object, Tick)| (key.dup(), value.dup(), at);
        let most = n.min(lru.len(now));
        match newest_first {
            true => gather(most, lru.iter_back(now).take(n).map(dup)),
            false => gather(most, lru.iter(now).take(n).map(dup)),
        }
    }

    fn pairs<'py>(&self, py: Python<'py>, n: usize, newest_first: bool) -> PyResult<Bound<'py, PyList>> {
        let entries = self.snapshot(n, newest_first)?;
        PyList::new(py, entries.into_iter().map(|(key, value, _)| (key.into_bound(py), value.into_bound(py))))
    }
}

/// The truth of an argument that is True where it was not given; None is given, and false.
enum Truth {
    Absent,
    Of(bool),
}

impl Truth {
    fn is_true(&self) -> bool {
        matches!(self, Truth::Absent | Truth::Of(true))
    }
}

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.is_truthy().map(Truth::Of)
    }
}

#[pymethods]
impl LRUCache {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        LRUCache { shared: Shared::behind(Lru::new()), hooks: Hooks::new() }
    }

    /// Opens the cache. Times in nanoseconds.
    #[pyo3(signature = (maxsize, weigher, ttl, idle, on_evict, timer, inline))]
    #[allow(clippy::too_many_arguments)]
    fn _configure(
        slf: &Bound<'_, Self>,
        maxsize: Option<u64>,
        weigher: Option<&Bound<'_, PyAny>>,
        ttl: Option<u64>,
        idle: Option<u64>,
        on_evict: Option<&Bound<'_, PyAny>>,
        timer: Option<&Bound<'_, PyAny>>,
        inline: bool,
    ) -> PyResult<()> {
        let cache = slf.get();
        let origin = timer.map(crate::hooks::read_timer).transpose()?.unwrap_or(0.0);
        let callables = Callables {
            weigher: weigher.map(Object::new),
            timer: timer.map(Object::new),
            on_exit: on_evict.map(Object::new),
            origin,
        };
        let cleared = {
            let mut lru = cache.shared.lock();
            let cleared = lru.clear();
            lru.configure(maxsize, weigher.is_some(), ttl, idle);
            cleared
        };
        cache.hooks.account.inline.store(inline, Relaxed);
        drop(cache.hooks.set(callables, false));
        cache.abandon(cleared);
        match ttl.or(idle) {
            Some(_) => Self::be_timed(slf),
            None => Ok(()),
        }
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

    // Looking.

    /// The value for `key` without using it, or `default`.
    #[pyo3(signature = (key, default = None))]
    fn peek(&self, key: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> Result<Option<Py<PyAny>>> {
        let key = Key::of(key)?;
        let now = self.hooks.now()?;
        let found =
            self.shared.ask(&key, |lru, probe| Ok(lru.peek(key.hash, probe, now)?.map(|(value, _)| value.dup())))?;
        Ok(attached(|py| found.map(|value| value.into_bound(py).unbind())).or(default))
    }

    /// Nanoseconds left to live, None for ever.
    fn _expires_in(&self, key: &Bound<'_, PyAny>) -> Result<Option<u64>> {
        let asked = Key::of(key)?;
        let now = self.hooks.now()?;
        let found = self.shared.ask(&asked, |lru, probe| Ok(lru.peek(asked.hash, probe, now)?.map(|(_, at)| at)))?;
        found.map(|at| at.remaining(now)).ok_or_else(|| missing(key.clone()))
    }

    fn _coldest<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Bound<'py, PyList>> {
        self.pairs(py, n, false)
    }

    fn _hottest<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Bound<'py, PyList>> {
        self.pairs(py, n, true)
    }

    /// At most `n` pairs, whatever their age: fewer where entries have left.
    fn _scattered<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Bound<'py, PyList>> {
        let pairs = {
            let lru = self.shared.lock();
            gather(n.min(lru.len(Tick(0))), lru.sample(n).map(|(key, value)| (key.dup(), value.dup())))?
        };
        PyList::new(py, pairs.into_iter().map(|(key, value)| (key.into_bound(py), value.into_bound(py))))
    }

    /// All entries, oldest first, with their weights and the nanoseconds left of their ttl.
    fn _export<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let now = self.hooks.now()?;
        let entries: Vec<_> = {
            let lru = self.shared.lock();
            lru.open().map_err(Error::from)?;
            gather(
                lru.len(now),
                lru.packed(now).map(|(key, value, weight, end)| (key.dup(), value.dup(), weight, end)),
            )?
        };
        let entries = entries
            .into_iter()
            .map(|(key, value, weight, end)| (key.into_bound(py), value.into_bound(py), weight, end.remaining(now)));
        PyList::new(py, entries)
    }

    /// Stores an entry that another cache exported: with the weight that was taken then, whatever it would be now.
    fn _import(
        slf: &Bound<'_, Self>,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        weight: u64,
        left: Option<u64>,
    ) -> Result<()> {
        let key = Key::of(key)?;
        if left.is_some() {
            Self::be_timed(slf)?;
        }
        let pair = (key.to_object(), Object::new(value));
        slf.get().hooks.note_collectable(&pair.0);
        slf.get().hooks.note_collectable(&pair.1);
        slf.get().put(&key, New { hash: key.hash, pair: Some(pair), weight, ttl: Some(left.unwrap_or(u64::MAX)) })
    }

    /// An iterator: 0 keys, 1 values, 2 items.
    fn _walk(slf: Bound<'_, Self>, kind: u8, backwards: bool) -> PyResult<Walk> {
        slf.get().shared.lock().open().map_err(Error::from)?;
        let (id, epoch) = slf.get().shared.lock().walk(backwards);
        Ok(Walk::over_cache(slf.unbind(), id, epoch, Kind::from_number(kind)))
    }

    // Using.

    /// Counts as a use of `key` without reading it; with `ttl` (nanoseconds) its lifetime starts again.
    fn _touch(slf: &Bound<'_, Self>, key: &Bound<'_, PyAny>, ttl: Option<u64>) -> Result<bool> {
        let (cache, key) = (slf.get(), Key::of(key)?);
        if ttl.is_some() {
            Self::be_timed(slf)?;
        }
        let now = cache.hooks.now()?;
        let touch =
            |lru: &mut Lru<_, _>, probe: &mut Probe<'_, _, _>| Ok((lru.touch(key.hash, probe, ttl, now)?, lru.alarm()));
        let (touched, alarm) = cache.shared.ask(&key, touch)?;
        cache.hooks.watched.ring(alarm);
        Ok(touched)
    }

    /// Moves `key` to the end that is evicted last, or, with `last=False`, first.
    #[pyo3(signature = (key, last = Truth::Absent), text_signature = "($self, key, last=True)")]
    fn move_to_end(&self, key: &Bound<'_, PyAny>, last: Truth) -> Result<()> {
        let last = last.is_true();
        let asked = Key::of(key)?;
        let now = self.hooks.now()?;
        match self.shared.ask(&asked, |lru, probe| lru.move_to_end(asked.hash, probe, last, now))? {
            true => Ok(()),
            false => Err(missing(key.clone())),
        }
    }

    /// Stores a value with a lifetime of its own, in nanoseconds.
    fn _set(slf: &Bound<'_, Self>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>, ttl: Option<u64>) -> Result<()> {
        let key = Key::of(key)?;
        if ttl.is_some() {
            Self::be_timed(slf)?;
        }
        slf.get().store(&key, Object::new(value), ttl)
    }

    /// The value for `key`; `default`, stored, if there is none.
    #[pyo3(signature = (key, default = None))]
    fn setdefault(&self, py: Python<'_>, key: &Bound<'_, PyAny>, default: Option<Py<PyAny>>) -> Result<Py<PyAny>> {
        let key = Key::of(key)?;
        let default = default.unwrap_or_else(|| py.None()).into_bound(py);
        if self.hooks.is_weighed() && self.contains(&key)? {
            // A default that is not stored is not weighed either.
            if let Some(value) = self.find(&key)? {
                return Ok(value.into_bound(py).unbind());
            }
        }
        let mut new = self.weigh(&key, Object::new(&default), None)?;
        let now = self.hooks.now()?;
        let mut removed = Removed::new();
        let found = self.shared.ask(&key, |lru, probe| {
            let found = lru.put_if_absent(probe, &mut new, now, &mut removed)?.map(Object::dup);
            Ok((found, lru.alarm()))
        });
        tell::release(&self.hooks, removed);
        let (found, alarm) = found?;
        self.hooks.watched.ring(alarm);
        Ok(found.map_or(default, |value| value.into_bound(py)).unbind())
    }

    // Removing.

    /// Removes and returns the pair used last, or, with `last=False`, least recently. `KeyError` if empty.
    #[pyo3(signature = (last = Truth::Absent), text_signature = "($self, last=True)")]
    fn popitem(&self, py: Python<'_>, last: Truth) -> Result<(Py<PyAny>, Py<PyAny>)> {
        let last = last.is_true();
        let now = self.hooks.now()?;
        let mut removed = Removed::new();
        let popped = {
            let mut lru = self.shared.lock();
            lru.open()?;
            lru.pop(last, Cause::Explicit, now, &mut removed)
        };
        tell::release(&self.hooks, removed);
        let (key, value) = popped.ok_or_else(|| empty("popitem(): the cache is empty"))?;
        let (key, value) = self.tell_taken(key, value, Cause::Explicit);
        Ok((key.into_bound(py).unbind(), value.into_bound(py).unbind()))
    }

    fn _evict<'py>(&self, py: Python<'py>, n: usize) -> PyResult<Bound<'py, PyList>> {
        let now = self.hooks.now()?;
        let evicted = PyList::empty(py);
        for _ in 0..n {
            let mut removed = Removed::new();
            let popped = {
                let mut lru = self.shared.lock();
                lru.open().map_err(Error::from)?;
                lru.pop(false, Cause::Size, now, &mut removed)
            };
            tell::release(&self.hooks, removed);
            let Some((key, value)) = popped else { break };
            let (key, value) = self.tell_taken(key, value, Cause::Size);
            evicted.append((key.into_bound(py), value.into_bound(py)))?;
        }
        Ok(evicted)
    }

    /// Removes everything whose time is over, and returns how many entries that were.
    fn expire(&self) -> Result<usize> {
        let now = self.hooks.now()?;
        let mut total = 0;
        loop {
            let mut removed = Removed::new();
            let done = {
                let mut lru = self.shared.lock();
                lru.open()?;
                lru.expire(now, BATCH, &mut removed)
            };
            total += done;
            tell::release(&self.hooks, removed);
            if done < BATCH {
                return Ok(total);
            }
        }
    }

    /// Removes everything. The cache is empty at once, whatever happens while its content is freed.
    fn clear(&self) -> Result<()> {
        let cleared = {
            let mut lru = self.shared.lock();
            lru.open()?;
            lru.clear()
        };
        self.let_go(cleared);
        Ok(())
    }

    /// Removes everything for good; the cache raises `RuntimeError` on use from then on.
    fn close(&self) {
        let cleared = self.shared.lock().close();
        self.let_go(cleared);
        drop(self.hooks.set(Callables::default(), false));
    }

    // The bound, and what is known.

    #[getter(_bound)]
    fn bound(&self) -> Option<u64> {
        self.shared.lock().bound()
    }

    #[setter(_bound)]
    fn set_bound(&self, bound: Option<u64>) -> Result<()> {
        let now = self.hooks.now()?;
        // In pieces: a cache is made smaller when memory is short, which is no time to gather all that leaves.
        loop {
            let mut removed = Removed::new();
            let done = {
                let mut lru = self.shared.lock();
                lru.open()?;
                let weight = lru.weight();
                let step = weight.saturating_sub((BATCH as u64).max(weight / 64));
                let done = bound.is_none_or(|bound| bound >= step);
                lru.set_bound(if done { bound } else { Some(step) }, now, &mut removed);
                done
            };
            tell::release(&self.hooks, removed);
            if done {
                return Ok(());
            }
        }
    }

    /// The total weight of the entries, or their number where there is no weigher.
    #[getter]
    fn currsize(&self) -> Result<u64> {
        if !self.hooks.is_weighed() {
            return Ok(self.len()? as u64);
        }
        if self.shared.lock().open().is_ok() {
            self.expire()?;
        }
        Ok(self.shared.lock().weight())
    }

    fn _stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let now = self.hooks.now()?;
        let (stats, len, weight, bound) = {
            let lru = self.shared.lock();
            (lru.stats(), lru.len(now), lru.weight(), lru.bound())
        };
        let dict = PyDict::new(py);
        for (name, count) in [
            ("hits", stats.hits),
            ("misses", stats.misses),
            ("insertions", stats.insertions),
            ("rejected", stats.rejected),
            ("explicit", stats.left(Cause::Explicit)),
            ("replaced", stats.left(Cause::Replaced)),
            ("evictions", stats.left(Cause::Size)),
            ("expirations", stats.left(Cause::Expired)),
            ("evicted_weight", stats.evicted_weight),
            ("callback_errors", self.hooks.errors.load(Relaxed)),
            ("entries", len as u64),
            ("weight", if self.hooks.is_weighed() { weight } else { len as u64 }),
        ] {
            dict.set_item(name, count)?;
        }
        dict.set_item("maxsize", bound)?;
        self.hooks.account.show(&dict)?;
        Ok(dict)
    }

    fn __sizeof__(&self) -> usize {
        size_of::<Self>() + 16 + self.shared.lock().bytes()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.hooks.traverse(&visit)?;
        // A cache of strings and numbers is not walked, however large.
        if self.hooks.is_collectable() {
            // Law 5: a plain blocking lock. Its holders never wait for the interpreter.
            for (key, value) in self.shared.lock().entries() {
                visit.call(key.as_py())?;
                visit.call(value.as_py())?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let cleared = self.shared.lock().clear();
        self.abandon(cleared);
        drop(self.hooks.set(Callables::default(), false));
    }
}

impl Swept for LRUCache {
    fn sweep(&self, now: Tick) -> Option<Tick> {
        let mut removed = Removed::new();
        let (due, _storage) = {
            let mut lru = self.shared.lock();
            // Under the lock: whoever gives the container another clock has emptied it under the lock before.
            if !self.hooks.is_swept() {
                return Some(Tick::NEVER);
            }
            if self.hooks.has_exit() {
                return None;
            }
            lru.sweep(now, sweep::ROUND, &mut removed);
            (lru.rearm(), lru.shed())
        };
        if !removed.is_empty() {
            let len = removed.len();
            let entries = removed.into_iter().map(|(key, value, _)| (key, Some(value)));
            reclaim::retire_unseen(&self.hooks.account, len, Box::new(entries));
        }
        Some(due)
    }

    fn deliver(&self) -> Tick {
        drop(self.expire());
        self.shared.lock().rearm()
    }

    fn disarm(&self) {
        self.shared.lock().disarm();
    }
}

impl Drop for LRUCache {
    fn drop(&mut self) {
        self.hooks.watched.end();
        let cleared = self.shared.lock().clear();
        self.abandon(cleared);
    }
}

impl Mapping for LRUCache {
    #[inline(always)]
    fn get(&self, key: &Key) -> Result<Option<Object>> {
        self.find(key)
    }

    #[inline(always)]
    fn glance(&self, key: &Ready) -> Option<Option<Object>> {
        lock::glance(&self.shared)?.glance_get(key.0.hash, key, Object::dup)
    }

    #[inline(always)]
    fn glance_set(&self, key: &Ready, value: &Object) -> Option<bool> {
        self.overwrite(key.0.hash, key, value)
    }

    #[inline(always)]
    fn insert(&self, key: &Key, value: &Object) -> Result<()> {
        match self.supersede(key, value) {
            Some(()) => Ok(()),
            None => self.put(key, self.weigh(key, value.dup(), None)?),
        }
    }

    #[inline(always)]
    fn contains(&self, key: &Key) -> Result<bool> {
        let now = self.hooks.now()?;
        self.shared.ask(key, |lru, probe| Ok(lru.peek(key.hash, probe, now)?.is_some()))
    }

    #[inline(always)]
    fn set(&self, key: &Key, value: Object) -> Result<()> {
        self.store(key, value, None)
    }

    fn pop(&self, key: &Key) -> Result<Option<Object>> {
        let now = self.hooks.now()?;
        let taken = self.shared.ask(key, |lru, probe| lru.remove(key.hash, probe, now))?;
        Ok(taken.map(|(key, value)| self.tell_taken(key, value, Cause::Explicit).1))
    }

    #[inline]
    fn len(&self) -> Result<usize> {
        let now = self.hooks.now()?;
        if now != Tick(0) {
            return self.len_of_timed(now);
        }
        let lru = self.shared.lock();
        lru.open()?;
        Ok(lru.len(now))
    }

    /// `__missing__` of a subclass, else `KeyError`.
    #[cold]
    unsafe fn missing(slf: *mut PyObject, object: *mut PyObject) -> Result<*mut PyObject> {
        attached(|py| {
            // SAFETY: both are valid arguments of the slot.
            let (slf, key) = unsafe { (Bound::from_borrowed_ptr(py, slf), Bound::from_borrowed_ptr(py, object)) };
            match ffi::lookup_special(&slf, pyo3::intern!(py, "__missing__")) {
                Some(_) => Ok(slf.call_method1(pyo3::intern!(py, "__missing__"), (key,))?.into_ptr()),
                None => Err(missing(key)),
            }
        })
    }
}

/// The raw methods.
pub(crate) const METHODS: &[Method] = &[
    Method::with_names(
        c"get",
        doors::get::<LRUCache>,
        c"get($self, /, key, default=None)\n--\n\nThe value for `key`, which counts as a use, or `default`.",
    ),
    Method::with_names(
        c"pop",
        doors::pop::<LRUCache>,
        c"pop($self, /, key, default=...)\n--\n\nRemoves `key` and returns its value, or `default`; KeyError without one.",
    ),
];
