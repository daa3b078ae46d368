//! The sweeper's rendezvous, and how containers tell it of deadlines. (Orders of events: `loom.rs`.)
#![cfg(not(loom))]

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use ullage_core::due::Effort;
use ullage_core::expiring::{End, Expiring, OnFull, State, REMEMBERED};
use ullage_core::ring::Fallen;
use ullage_core::{Lru, New, Refused, Removed, Ring, Sweep, Sweeper, Tick};

/// Something that is due so many times, a round each.
struct Chore {
    due: AtomicU64,
    rounds: AtomicU64,
    swept: Mutex<Vec<Tick>>,
}

impl Chore {
    fn new(due: u64, rounds: u64) -> Arc<Chore> {
        Arc::new(Chore { due: AtomicU64::new(due), rounds: AtomicU64::new(rounds), swept: Mutex::default() })
    }
}

impl Sweep for Chore {
    fn due(&self) -> Tick {
        Tick(self.due.load(SeqCst))
    }

    fn sweep(&self, now: Tick) {
        self.swept.lock().unwrap().push(now);
        if self.rounds.fetch_sub(1, SeqCst) == 1 {
            self.due.store(u64::MAX, SeqCst);
        }
    }
}

fn clock() -> impl Fn() -> Tick + Copy {
    let begin = Instant::now();
    move || Tick(begin.elapsed().as_nanos() as u64)
}

#[test]
fn what_is_due_is_swept_until_nothing_is_and_the_next_deadline_is_told() {
    let sweeper = Sweeper::new();
    let (due, later, never) = (Chore::new(5, 3), Chore::new(50, 1), Chore::new(u64::MAX, 1));
    for chore in [&due, &later, &never] {
        sweeper.watch(chore);
    }
    assert_eq!(sweeper.sweep(|| Tick(10)), Tick(50));
    assert_eq!(due.swept.lock().unwrap().len(), 3);
    assert!(later.swept.lock().unwrap().is_empty() && never.swept.lock().unwrap().is_empty());
}

#[test]
fn the_dead_are_forgotten() {
    let sweeper = Sweeper::new();
    for _ in 0..1000 {
        sweeper.watch(&Chore::new(0, 1));
    }
    let alive = Chore::new(7, 1);
    sweeper.watch(&alive);
    assert_eq!(sweeper.watched().len(), 1);
    assert_eq!(sweeper.sweep(|| Tick(0)), Tick(7));
    drop(alive);
    assert_eq!(sweeper.sweep(|| Tick(100)), Tick::NEVER);
}

#[test]
fn it_sleeps_until_the_earliest_call_but_rests_first() {
    let (sweeper, clock) = (Sweeper::<Chore>::new(), clock());
    sweeper.wake_by(Tick(clock().0 + 50_000_000));
    sweeper.wake_by(Tick(clock().0 + 5_000_000));
    sweeper.wake_by(Tick(clock().0 + 90_000_000));
    assert!(sweeper.wait(clock, Tick(0)));
    let woken = clock();
    assert!(woken.0 >= 5_000_000);
    sweeper.wake_by(woken);
    let rest = Tick(woken.0 + 20_000_000);
    assert!(sweeper.wait(clock, rest) && clock() >= rest);
}

#[test]
fn stopping_wakes_it_and_what_it_watched_goes_to_its_successor() {
    let sweeper = Arc::new(Sweeper::new());
    let chore = Chore::new(9, 1);
    sweeper.watch(&chore);
    let thread = {
        let sweeper = sweeper.clone();
        std::thread::spawn(move || sweeper.wait(|| Tick(0), Tick(0)))
    };
    std::thread::sleep(Duration::from_millis(5));
    assert!(sweeper.stop());
    assert!(!thread.join().unwrap());
    assert!(sweeper.aside(|| ()).is_none());
    let next = sweeper.renew();
    assert!(sweeper.watched().is_empty());
    assert_eq!(next.sweep(|| Tick(0)), Tick(9));
    assert_eq!(next.aside(|| 5), Some(5));
}

struct Same(u32);

impl ullage_core::Equality<u32> for Same {
    type Error = Refused;
    fn verdict(&self, stored: &u32) -> ullage_core::Verdict {
        match *stored == self.0 {
            true => ullage_core::Verdict::Same,
            false => ullage_core::Verdict::Different,
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

fn put(lru: &mut Lru<u32, u32>, key: u32, ttl: Option<u64>, now: Tick) -> Option<Tick> {
    let mut new = New { hash: key, pair: Some((key, key)), weight: 1, ttl };
    let (same, mut removed) = (Same(key), Removed::new());
    let mut probe = ullage_core::Probe::new(&same);
    lru.put(&mut probe, &mut new, now, &mut removed).unwrap();
    drop(removed);
    lru.alarm()
}

#[test]
fn a_cache_tells_of_a_nearer_deadline_once() {
    let mut lru = Lru::new();
    lru.configure(None, false, None, None);
    assert_eq!(put(&mut lru, 1, None, Tick(0)), None);
    assert_eq!(put(&mut lru, 2, Some(100), Tick(0)), Some(Tick(100)));
    assert_eq!(put(&mut lru, 3, Some(200), Tick(0)), None);
    assert_eq!(put(&mut lru, 4, Some(50), Tick(0)), Some(Tick(50)));
    let mut removed = Removed::new();
    assert_eq!(lru.expire(Tick(60), 9, &mut removed), 1);
    // Asked at 60, nothing was due: the next deadline, or some time before it.
    let next = lru.rearm();
    assert!(Tick(60) < next && next <= Tick(100));
    assert_eq!(put(&mut lru, 5, Some(100), Tick(60)), None);
    lru.disarm();
    assert!(lru.alarm().is_some() && lru.alarm().is_none());
    drop(removed);
}

#[test]
fn a_large_cache_that_time_has_emptied_gives_its_storage_back() {
    let mut lru = Lru::new();
    lru.configure(None, false, Some(10), None);
    for key in 0..100_000 {
        put(&mut lru, key, None, Tick(0));
    }
    assert!(lru.shed().is_none());
    let full = lru.bytes();
    let mut removed = Removed::new();
    assert_eq!(lru.expire(Tick(10), usize::MAX, &mut removed), 100_000);
    drop(removed);
    assert!(lru.shed().is_some_and(|storage| storage.is_empty()));
    assert!(lru.bytes() < full / 100 && lru.rearm() == Tick::NEVER);
    lru.validate();
    assert_eq!(put(&mut lru, 7, None, Tick(20)), Some(Tick(30)));
    lru.validate();
}

#[test]
fn a_ring_tells_of_its_next_end_of_life_once() {
    let mut ring = Ring::new();
    ring.configure(None, None, 1, Some(100));
    let mut fallen = Fallen::new();
    for item in 0..3 {
        ring.push(item, 1, Tick(item), &mut fallen).unwrap();
    }
    // The first item is pinned.
    assert_eq!(ring.alarm(), Some(Tick(101)));
    assert_eq!(ring.alarm(), None);
    assert_eq!(ring.expire(Tick(101), 9, &mut fallen), 1);
    assert_eq!(ring.rearm(), Tick(102));
    assert_eq!(ring.expire(Tick(500), 9, &mut fallen), 1);
    assert_eq!(ring.rearm(), Tick::NEVER);
    assert_eq!(fallen.into_iter().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_large_map_of_transfers_that_time_has_emptied_gives_its_storage_back_and_remembers() {
    let mut map = Expiring::new();
    map.configure(Some(10), None, OnFull::Raise, false);
    let begin = |map: &mut Expiring<u32, u32>, key: u32, now| {
        let (same, mut pair, mut leaving) = (Same(key), Some((key, key)), Removed::new());
        map.begin(key, &mut ullage_core::Probe::new(&same), &mut pair, None, Tick(now), &mut leaving).unwrap();
    };
    let state = |map: &Expiring<u32, u32>, key: u32| {
        map.state(key, &mut ullage_core::Probe::new(&Same(key)), Tick(30)).unwrap()
    };
    for key in 0..100_000 {
        begin(&mut map, key, 0);
    }
    assert!(!map.is_husk() && map.shed().is_none());
    let (full, mut leaving) = (map.bytes(), Removed::new());
    while !map.pop_expired(Tick(10), 1000, Effort::Whole, |&key| key, &mut leaving).is_empty() {}
    drop(leaving);
    assert!(map.is_husk() && map.shed().is_some_and(|storage| storage.is_empty()));
    assert!(map.bytes() < full / 10 && !map.is_husk() && map.rearm() == Tick::NEVER);
    map.validate();
    assert_eq!(state(&map, 99_999), State::Ended(End::Expired));
    assert_eq!(state(&map, 99_999 - REMEMBERED as u32), State::Unknown);
    begin(&mut map, 7, 20);
    assert_eq!((map.len(Tick(20)), map.alarm()), (1, Some(Tick(30))));
    map.validate();
}
