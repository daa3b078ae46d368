//! Every order of events between a container's lock, its callers and the thread that sweeps.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p ullage-core --test loom --release`
#![cfg(loom)]

use loom::sync::atomic::{AtomicBool, Ordering::*};
use loom::thread;
use parking_lot::lock_api::{GuardSend, RawMutex};
use std::sync::Arc;
use ullage_core::{Alarm, Equality, Lru, New, Probe, Refused, Removed, Shared, Sweep, Sweeper, Tick, Verdict};

/// A lock that loom sees through. (Its atomics are no constants, so it is made on first use.)
struct Lock(std::sync::OnceLock<AtomicBool>);

impl Lock {
    fn held(&self) -> &AtomicBool {
        self.0.get_or_init(|| AtomicBool::new(false))
    }
}

unsafe impl RawMutex for Lock {
    const INIT: Lock = Lock(std::sync::OnceLock::new());
    type GuardMarker = GuardSend;

    fn lock(&self) {
        while !self.try_lock() {
            thread::yield_now();
        }
    }

    fn try_lock(&self) -> bool {
        self.held().compare_exchange(false, true, Acquire, Relaxed).is_ok()
    }

    unsafe fn unlock(&self) {
        self.held().store(false, Release);
    }
}

/// A value that must be dropped by a caller, once: the thread that sweeps only moves it.
struct Value(Arc<std::sync::atomic::AtomicUsize>);

impl Drop for Value {
    fn drop(&mut self) {
        assert_ne!(thread::current().name(), Some("sweeper"));
        self.0.fetch_add(1, SeqCst);
    }
}

struct Same(u32);

impl Equality<u32> for Same {
    type Error = Refused;
    fn verdict(&self, stored: &u32) -> Verdict {
        if *stored == self.0 {
            Verdict::Same
        } else {
            Verdict::Different
        }
    }
    fn ask(&self, _: &u32) -> Result<bool, Refused> {
        unreachable!("every question is decided")
    }
    fn dup(&self, stored: &u32) -> u32 {
        *stored
    }
    fn identity(stored: &u32) -> usize {
        *stored as usize
    }
}

type Cache = Shared<Lru<u32, Value>, Lock>;

/// A container as the binding has it: what the sweeper moves out goes to a pile that callers free.
struct Post {
    cache: std::sync::Mutex<Option<Arc<Cache>>>,
    pile: Arc<loom::sync::Mutex<Vec<Value>>>,
    alarm: Alarm,
}

impl Sweep for Post {
    fn due(&self) -> Tick {
        self.alarm.at()
    }

    fn sweep(&self, now: Tick) {
        let cache = self.cache.lock().unwrap().clone();
        let mut removed = Removed::new();
        self.alarm.answer(|| {
            cache.map_or(Tick::NEVER, |cache| {
                let mut lru = cache.lock();
                lru.expire(now, 1, &mut removed);
                lru.rearm()
            })
        });
        self.pile.lock().unwrap().extend(removed.into_iter().map(|(_, value, _)| value));
    }
}

const NOW: Tick = Tick(100);

fn put(cache: &Cache, key: u32, value: Value, now: Tick) -> Option<Tick> {
    let mut new = New { hash: key, pair: Some((key, value)), weight: 1, ttl: Some(10) };
    let mut removed = Removed::new();
    let alarm = cache
        .ask(&Same(key), |lru, probe: &mut Probe<'_, _, _>| {
            lru.put(probe, &mut new, now, &mut removed)?;
            Ok(lru.alarm())
        })
        .unwrap();
    drop(removed);
    alarm
}

fn cache() -> Arc<Cache> {
    let cache = Shared::behind(Lru::new());
    cache.lock().configure(Some(2), false, None, None);
    Arc::new(cache)
}

struct Scene {
    sweeper: Arc<Sweeper<Post>>,
    cache: Arc<Cache>,
    post: Arc<Post>,
    dropped: Arc<std::sync::atomic::AtomicUsize>,
}

fn scene() -> Scene {
    let (sweeper, cache) = (Arc::new(Sweeper::new()), cache());
    let post =
        Arc::new(Post { cache: std::sync::Mutex::new(Some(cache.clone())), pile: Arc::default(), alarm: Alarm::new() });
    sweeper.watch(&post);
    Scene { sweeper, cache, post, dropped: Arc::default() }
}

fn spawn(sweeper: &Arc<Sweeper<Post>>) -> thread::JoinHandle<()> {
    let sweeper = sweeper.clone();
    thread::Builder::new()
        .name("sweeper".into())
        .spawn(move || {
            while sweeper.wait(|| NOW, Tick(0)) {
                let next = sweeper.sweep(|| NOW);
                sweeper.wake_by(next);
            }
        })
        .unwrap()
}

#[test]
fn what_expires_is_moved_once_and_dropped_by_a_caller() {
    loom::model(|| {
        let Scene { sweeper, cache, post, dropped } = scene();
        let thread = spawn(&sweeper);
        // Two entries that are due by `NOW`, one while the thread may be at the other.
        for key in 0..2 {
            if let Some(at) = put(&cache, key, Value(dropped.clone()), Tick(1)) {
                post.alarm.set_by(at);
                sweeper.wake_by(at);
            }
        }
        // An end of its own: the caller frees what it finds, and what is left.
        drop(std::mem::take(&mut *post.pile.lock().unwrap()));
        sweeper.stop();
        thread.join().unwrap();
        drop(std::mem::take(&mut *post.pile.lock().unwrap()));
        let cleared = cache.lock().clear();
        cleared.for_each(drop);
        assert_eq!(dropped.load(SeqCst), 2);
    });
}

#[test]
fn no_deadline_is_missed() {
    loom::model(|| {
        let Scene { sweeper, cache, post, dropped } = scene();
        let at = put(&cache, 1, Value(dropped.clone()), Tick(1)).expect("the first deadline is news");
        let caller = {
            let (sweeper, post) = (sweeper.clone(), post.clone());
            thread::spawn(move || {
                post.alarm.set_by(at);
                sweeper.wake_by(at);
            })
        };
        // Whenever the call comes, the thread wakes, and finds it.
        assert!(sweeper.wait(|| NOW, Tick(0)));
        let next = sweeper.sweep(|| NOW);
        caller.join().unwrap();
        assert_eq!(next, Tick::NEVER);
        assert_eq!(post.pile.lock().unwrap().len(), 1);
        drop(std::mem::take(&mut *post.pile.lock().unwrap()));
    });
}

#[test]
fn a_deadline_that_is_told_during_a_sweep_counts() {
    loom::model(|| {
        let Scene { sweeper, cache, post, dropped } = scene();
        post.alarm.set_by(put(&cache, 1, Value(dropped.clone()), Tick(1)).expect("the first deadline is news"));
        let thread = {
            let sweeper = sweeper.clone();
            thread::spawn(move || sweeper.sweep(|| NOW))
        };
        // News only if the sweeper has seen the cache empty.
        if let Some(at) = put(&cache, 2, Value(dropped.clone()), NOW) {
            post.alarm.set_by(at);
        }
        thread.join().unwrap();
        assert!(post.due() <= Tick(110));
        drop(std::mem::take(&mut *post.pile.lock().unwrap()));
        let cleared = cache.lock().clear();
        cleared.for_each(drop);
    });
}

#[test]
fn a_container_may_end_in_the_middle_of_a_sweep() {
    loom::model(|| {
        let Scene { sweeper, cache, post, dropped } = scene();
        let at = put(&cache, 1, Value(dropped.clone()), Tick(1)).expect("the first deadline is news");
        post.alarm.set_by(at);
        let thread = {
            let sweeper = sweeper.clone();
            thread::spawn(move || sweeper.sweep(|| NOW))
        };
        // What the binding does when the Python object dies: out of the post, then empty.
        drop(post.cache.lock().unwrap().take());
        let cleared = cache.lock().clear();
        cleared.for_each(drop);
        thread.join().unwrap();
        drop(std::mem::take(&mut *post.pile.lock().unwrap()));
        assert_eq!(dropped.load(SeqCst), 1);
        drop(post);
        assert!(sweeper.watched().is_empty());
    });
}

#[test]
fn stopping_ends_the_thread_wherever_it_is() {
    loom::model(|| {
        let Scene { sweeper, .. } = scene();
        let thread = spawn(&sweeper);
        sweeper.wake_by(Tick(1));
        sweeper.stop();
        thread.join().unwrap();
    });
}

#[test]
fn a_thread_that_is_aside_is_not_waited_for_and_another_takes_over() {
    loom::model(|| {
        let Scene { sweeper, post, .. } = scene();
        let thread = {
            let sweeper = sweeper.clone();
            thread::spawn(move || sweeper.aside(|| ()).is_some())
        };
        // As before a fork: either it ends by itself, and is not aside afterwards, or it is, and holds nothing.
        let ends = sweeper.stop();
        let next = sweeper.renew();
        assert_eq!(next.watched().len(), 1);
        let went = thread.join().unwrap();
        assert!(ends || went, "a thread that is aside went there");
        assert!(sweeper.aside(|| ()).is_none());
        drop(post);
    });
}
