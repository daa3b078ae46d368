//! Hooks: the callables that a container was given, and the clock it goes by.

use crate::error::Result;
use crate::ffi::{self, attached};
use crate::reclaim::Account;
use crate::sweep::{self, Watched};
use crate::value::Object;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyBool, PyInt};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use ullage_core::Tick;

/// The callables; None where the container has no such hook.
#[derive(Default)]
pub(crate) struct Callables {
    pub(crate) weigher: Option<Object>,
    pub(crate) timer: Option<Object>,
    pub(crate) on_exit: Option<Object>,
    /// What the timer read when the container was made: its ticks count from there.
    pub(crate) origin: f64,
}

/// The callables behind a lock of their own, with flags that the hot path reads instead.
pub(crate) struct Hooks {
    flags: AtomicU8,
    callables: Mutex<Callables>,
    /// What fell off a ring and its hook has not been told of yet.
    queue: Mutex<Vec<Object>>,
    /// The process that delivers, or did last.
    deliverer: AtomicU32,
    /// Exceptions raised by the exit hook.
    pub(crate) errors: AtomicU64,
    /// What was retired, and what became of it.
    pub(crate) account: Arc<Account>,
    /// Where the sweeper meets the container.
    pub(crate) watched: Watched,
    collectable: AtomicBool,
}

const WEIGHED: u8 = 1;
const TIMER: u8 = 2;
const ON_EXIT: u8 = 4;
const TIMED: u8 = 8;
const DELIVERING: u8 = 16;

/// What `time.monotonic` read at our origin, so that deadlines can be told on the clock that users know.
static MONOTONIC_ORIGIN: LazyLock<f64> = LazyLock::new(|| {
    let elapsed = monotonic().0 as f64 / 1e9;
    let read = |py: Python<'_>| py.import("time")?.getattr("monotonic")?.call0()?.extract::<f64>();
    let origin = attached(|py| read(py).unwrap_or(0.0)) - elapsed;
    // On Unix the two are one clock; what is left is the time between the two readings.
    if cfg!(unix) && origin.abs() < 1.0 {
        0.0
    } else {
        origin
    }
});

impl Hooks {
    pub(crate) fn new() -> Self {
        Hooks {
            flags: AtomicU8::new(0),
            callables: Mutex::default(),
            queue: Mutex::default(),
            deliverer: AtomicU32::new(std::process::id()),
            errors: AtomicU64::new(0),
            account: Arc::default(),
            watched: Watched::default(),
            collectable: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Callables> {
        self.callables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the callables; `timed` if entries have lifetimes. What was there before is given back, to be dropped.
    pub(crate) fn set(&self, callables: Callables, timed: bool) -> Callables {
        let mut flags = if timed { TIMED } else { 0 };
        for (hook, flag) in [(&callables.weigher, WEIGHED), (&callables.timer, TIMER), (&callables.on_exit, ON_EXIT)] {
            flags |= if hook.is_some() { flag } else { 0 };
        }
        self.flags.store(flags, Relaxed);
        std::mem::replace(&mut *self.lock(), callables)
    }

    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags.load(Relaxed) & flag != 0
    }

    #[inline]
    pub(crate) fn has_exit(&self) -> bool {
        self.has(ON_EXIT)
    }

    /// Whether entries have neither weights nor lifetimes, and nobody hears of their leaving.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        !self.has(WEIGHED | TIMED | ON_EXIT)
    }

    pub(crate) fn is_weighed(&self) -> bool {
        self.has(WEIGHED)
    }

    /// Whether deadlines are on the clock that the sweeper reads too.
    pub(crate) fn is_swept(&self) -> bool {
        self.flags.load(Relaxed) & (TIMED | TIMER) == TIMED && sweep::is_enabled()
    }

    /// How many overdue entries `len` moves out, so that they need not be counted again.
    pub(crate) fn moved_by_len(&self) -> usize {
        if self.is_swept() {
            sweep::ROUND
        } else {
            256
        }
    }

    /// From now on the clock is read: an entry has a lifetime.
    pub(crate) fn set_timed(&self) {
        self.flags.fetch_or(TIMED, Relaxed);
    }

    fn get(&self, choose: impl Fn(&Callables) -> &Option<Object>) -> Option<Object> {
        choose(&self.lock()).as_ref().map(Object::dup)
    }

    pub(crate) fn on_exit(&self) -> Option<Object> {
        self.get(|callables| &callables.on_exit)
    }

    pub(crate) fn weigher(&self) -> Option<Object> {
        self.get(|callables| &callables.weigher)
    }

    pub(crate) fn timer(&self) -> Option<Object> {
        self.get(|callables| &callables.timer)
    }

    /// Notes what the container is going to hold.
    #[inline(always)]
    pub(crate) fn note_collectable(&self, object: &Object) {
        if !self.is_collectable() && object.is_collectable() {
            self.collectable.store(true, Relaxed);
        }
    }

    /// Whether the collector may have to know of what is held. Never false while something collectable is.
    #[inline(always)]
    pub(crate) fn is_collectable(&self) -> bool {
        self.collectable.load(Relaxed)
    }

    /// Holds the right to deliver to the exit hook; None if somebody does so already, as when the hook comes back here.
    pub(crate) fn deliver(&self) -> Option<Delivery<'_>> {
        // In a child that was forked while somebody delivered, that somebody is not there any more.
        if self.deliverer.swap(std::process::id(), Relaxed) != std::process::id() {
            self.flags.fetch_and(!DELIVERING, Relaxed);
        }
        let before = self.flags.fetch_or(DELIVERING, Relaxed);
        (before & DELIVERING == 0).then(|| Delivery(self))
    }

    /// The time; 0 where nothing has a lifetime. A timer may run Python.
    #[inline(always)]
    pub(crate) fn now(&self) -> Result<Tick> {
        match self.flags.load(Relaxed) & (TIMED | TIMER) {
            flags if flags & TIMED == 0 => Ok(Tick(0)),
            TIMED => Ok(monotonic()),
            _ => self.ask_timer(),
        }
    }

    /// A coarse reading of the clock, where that is the kernel's and no hook waits to hear of what is over.
    #[inline(always)]
    pub(crate) fn coarse(&self) -> Option<Glance> {
        (self.flags.load(Relaxed) & (TIMED | TIMER | ON_EXIT) == TIMED).then(|| Glance::Coarse(coarse()))
    }

    #[cold]
    fn ask_timer(&self) -> Result<Tick> {
        attached(|py| self.ask_timer_of(py))
    }

    fn ask_timer_of(&self, py: Python<'_>) -> Result<Tick> {
        let origin = self.lock().origin;
        let Some(timer) = self.timer() else { return Ok(monotonic()) };
        let timer = timer.into_bound(py);
        let seconds = ffi::nested(py, || read_timer(&timer))? - origin;
        // Never is later than any reading.
        Ok(Tick(((seconds * 1e9).round() as u64).min(Tick::NEVER.0 - 1)))
    }

    /// A tick as the container's clock shows it, in seconds.
    pub(crate) fn on_the_clock(&self, at: Tick) -> f64 {
        let origin = if self.has(TIMER) { self.lock().origin } else { *MONOTONIC_ORIGIN };
        origin + at.0 as f64 / 1e9
    }

    fn lock_queue(&self) -> MutexGuard<'_, Vec<Object>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn queue(&self, fallen: impl Iterator<Item = Object>) {
        self.lock_queue().extend(fallen);
    }

    pub(crate) fn is_queue_empty(&self) -> bool {
        self.lock_queue().is_empty()
    }

    pub(crate) fn take_queue(&self) -> Vec<Object> {
        std::mem::take(&mut *self.lock_queue())
    }

    /// What an entry weighs, by the weigher; 1 without one. Python may run.
    #[inline(always)]
    pub(crate) fn weigh(&self, arguments: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Py<PyAny>>) -> Result<u64> {
        if !self.is_weighed() {
            return Ok(1);
        }
        self.ask_weigher(arguments)
    }

    #[cold]
    fn ask_weigher(&self, arguments: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Py<PyAny>>) -> Result<u64> {
        attached(|py| {
            let Some(weigher) = self.weigher() else { return Ok(1) };
            let weigher = weigher.into_bound(py);
            Ok(ffi::nested(py, || read_weight(arguments(&weigher)?.bind(py)))?)
        })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let callables = self.lock();
        for hook in [&callables.weigher, &callables.timer, &callables.on_exit].into_iter().flatten() {
            visit.call(hook.as_py())?;
        }
        drop(callables);
        for item in self.lock_queue().iter() {
            visit.call(item.as_py())?;
        }
        Ok(())
    }
}

/// The right to call the exit hook, until it is dropped.
pub(crate) struct Delivery<'a>(&'a Hooks);

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        self.0.flags.fetch_and(!DELIVERING, Relaxed);
    }
}

/// A reading of the clock that is made exact only where that makes a difference.
#[derive(Clone, Copy)]
pub(crate) enum Glance {
    Exact(Tick),
    /// The kernel's own note of the time: a fifth of the cost, and late by a tick of the kernel, 1 to 10 ms.
    Coarse(Tick),
}

/// So much later than a coarse reading it may be in truth, with much to spare.
const LATE: u64 = 100_000_000;

impl Glance {
    /// The time, where nothing is due before `soonest`. Reads a clock at most: nothing foreign runs.
    #[inline(always)]
    pub(crate) fn before(self, soonest: Tick) -> Tick {
        match self {
            Glance::Coarse(now) if now.after(Some(LATE)) >= soonest => monotonic(),
            Glance::Coarse(now) | Glance::Exact(now) => now,
        }
    }
}

#[cfg(unix)]
fn read_clock(clock: libc::clockid_t) -> Tick {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid, and the clock is one that the platform has.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Tick(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// The monotonic clock, as `time.monotonic` reads it.
#[cfg(unix)]
pub(crate) fn monotonic() -> Tick {
    read_clock(libc::CLOCK_MONOTONIC)
}

/// The monotonic clock as of the kernel's last tick.
#[cfg(target_os = "linux")]
fn coarse() -> Tick {
    read_clock(libc::CLOCK_MONOTONIC_COARSE)
}

#[cfg(not(target_os = "linux"))]
fn coarse() -> Tick {
    monotonic()
}

/// The monotonic clock, from the first reading on.
#[cfg(not(unix))]
pub(crate) fn monotonic() -> Tick {
    static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    Tick(ORIGIN.elapsed().as_nanos() as u64)
}

/// A timer's reading in seconds.
pub(crate) fn read_timer(timer: &Bound<'_, PyAny>) -> PyResult<f64> {
    let reading = timer.call0()?;
    let seconds = match reading.extract::<f64>() {
        Err(error) if error.is_instance_of::<PyTypeError>(reading.py()) => {
            let name = reading.get_type().name()?;
            return Err(PyTypeError::new_err(format!("timer returned {name}; it must return a number of seconds")));
        }
        known => known?,
    };
    if seconds.is_finite() {
        Ok(seconds)
    } else {
        Err(PyValueError::new_err(format!("timer returned {seconds}; it must return a number of seconds")))
    }
}

/// A weigher's answer: an int, or what counts as one, such as numpy's.
fn read_weight(weight: &Bound<'_, PyAny>) -> PyResult<u64> {
    let index = intern!(weight.py(), "__index__");
    if weight.is_instance_of::<PyBool>() || !(weight.is_instance_of::<PyInt>() || weight.hasattr(index)?) {
        let name = weight.get_type().name()?;
        return Err(PyTypeError::new_err(format!("weigher must return an integer, not {name}")));
    }
    match weight.extract::<u64>() {
        Err(error) if error.is_instance_of::<PyOverflowError>(weight.py()) => {
            if weight.call_method0(index)?.lt(0)? {
                return Err(PyValueError::new_err(format!("weigher must return an integer >= 0; got {weight}")));
            }
            // Heavier than any bound: refused as too heavy.
            Ok(u64::MAX)
        }
        known => known,
    }
}
