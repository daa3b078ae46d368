//! Sweeper: what the one background thread of a process looks at, and when.
//!
//! It sleeps until the next deadline of anything it watches: an idle process has no wake-ups. It holds weak references
//! only. The thread itself belongs to the binding, which starts it, and stops it before a fork and before the end.

use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard};
use crate::time::Tick;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

/// What has deadlines.
pub trait Sweep: Send + Sync {
    /// When there will be something to do; [`Tick::NEVER`] if nothing.
    fn due(&self) -> Tick;

    /// Moves out what is due by now, a bounded number of entries, without foreign code.
    fn sweep(&self, now: Tick);
}

/// When something wants to be looked at: told by those who use it, and by whoever looks.
#[derive(Debug)]
pub struct Alarm(AtomicU64);

impl Alarm {
    /// Never.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Alarm(AtomicU64::new(Tick::NEVER.0))
    }

    /// When to look.
    pub fn at(&self) -> Tick {
        Tick(self.0.load(Relaxed))
    }

    /// Asks for a look at this time, or before.
    pub fn set_by(&self, at: Tick) {
        self.0.fetch_min(at.0, Relaxed);
    }

    /// Looks; `look` says when to look again. What others ask for after `look` has unlocked what it looks at counts too:
    /// the alarm is off before, not after.
    pub fn answer(&self, look: impl FnOnce() -> Tick) {
        self.0.store(Tick::NEVER.0, Relaxed);
        self.set_by(look());
    }
}

/// The rendezvous of the thread that sweeps with all others.
#[derive(Debug)]
pub struct Sweeper<S> {
    state: Mutex<State>,
    bell: Condvar,
    watched: Mutex<Vec<Weak<S>>>,
}

#[derive(Debug)]
struct State {
    /// When to look next.
    next: Tick,
    /// Whether the thread is where it may have to wait for others, holding nothing.
    aside: bool,
    stopped: bool,
}

impl<S: Sweep> Sweeper<S> {
    /// A sweeper that watches nothing.
    pub fn new() -> Self {
        Self::watching(Vec::new())
    }

    fn watching(watched: Vec<Weak<S>>) -> Self {
        let state = State { next: Tick::NEVER, aside: false, stopped: false };
        Sweeper { state: Mutex::new(state), bell: Condvar::new(), watched: Mutex::new(watched) }
    }

    // For everybody.

    /// Watches something for as long as it lives. Its deadlines are told by [`wake_by`](Self::wake_by).
    pub fn watch(&self, one: &Arc<S>) {
        let mut watched = lock(&self.watched);
        if watched.len() == watched.capacity() {
            watched.retain(|other| other.strong_count() > 0);
        }
        watched.push(Arc::downgrade(one));
    }

    /// Everything watched that still lives.
    pub fn watched(&self) -> Vec<Arc<S>> {
        lock(&self.watched).iter().filter_map(Weak::upgrade).collect()
    }

    /// Sees to it that the thread looks at this time, or before.
    pub fn wake_by(&self, at: Tick) {
        let mut state = lock(&self.state);
        if at < state.next {
            state.next = at;
            // The thread that wakes up finds the lock free.
            drop(state);
            self.bell.notify_one();
        }
    }

    /// Ends the thread. True if it ends by itself; false if it is aside, and may wait for the caller there.
    pub fn stop(&self) -> bool {
        let mut state = lock(&self.state);
        state.stopped = true;
        self.bell.notify_one();
        !state.aside
    }

    /// A sweeper that watches what this one did, for another thread, once this one was stopped.
    pub fn renew(&self) -> Self {
        Self::watching(std::mem::take(&mut lock(&self.watched)))
    }

    // For the thread that sweeps.

    /// Sleeps until there is something to do, but not before `rest` is over. False once it was stopped.
    pub fn wait(&self, clock: impl Fn() -> Tick, rest: Tick) -> bool {
        let mut state = lock(&self.state);
        while !state.stopped {
            if state.next == Tick::NEVER {
                state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let left = state.next.max(rest).0.saturating_sub(clock().0);
            if left == 0 {
                state.next = Tick::NEVER;
                return true;
            }
            let waited = self.bell.wait_timeout(state, Duration::from_nanos(left));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    /// Sweeps everything that is due, in turns, until nothing is or the thread was stopped. Gives the next deadline.
    pub fn sweep(&self, clock: impl Fn() -> Tick) -> Tick {
        loop {
            let (mut next, mut more) = (Tick::NEVER, false);
            for one in self.watched() {
                let now = clock();
                if one.due() <= now {
                    one.sweep(now);
                    more |= one.due() <= now;
                }
                next = next.min(one.due());
                if lock(&self.state).stopped {
                    return next;
                }
            }
            if !more {
                return next;
            }
        }
    }

    /// Does something that may have to wait for other threads. Not at all, once stopped.
    pub fn aside<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        {
            let mut state = lock(&self.state);
            if state.stopped {
                return None;
            }
            state.aside = true;
        }
        let outcome = act();
        lock(&self.state).aside = false;
        Some(outcome)
    }
}

impl<S: Sweep> Default for Sweeper<S> {
    fn default() -> Self {
        Self::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
