//! Equality that uses the container it is asked for: inserts, removes, clears and expires in the middle of a look-up,
//! raises, panics. The bound holds, nothing is lost or dropped twice, no key is stored twice, and every look-up ends.

mod tracked;

use proptest::prelude::*;
use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::rc::Rc;
use tracked::{key, living, Key, Locked, Tracked};
use ullage_core::due::Effort;
use ullage_core::expiring::{Begun, End, OnFull};
use ullage_core::{Cause, Equality, Expiring, Lru, New, Probe, Refused, Removed, Shared, Tick, Verdict};

const KEYS: u32 = 20;
const HASHES: u32 = 2;
const BOUND: u64 = 9;
/// How often equality may use the container for which it is asked by equality.
const DEPTH: u32 = 3;

#[derive(Debug, PartialEq)]
enum Trouble {
    Refused(Refused),
    Raised,
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Trouble::Refused(refused)
    }
}

/// A panic of foreign code, told from one of a failed test.
struct Foreign;

/// Two maps, and what there is to know of them from outside.
struct World {
    lru: Shared<Lru<Key, Tracked>>,
    expiring: Shared<Expiring<Key, Tracked>>,
    now: Cell<u64>,
    random: Cell<u64>,
    depth: Cell<u32>,
}

/// Counts how deep equality is nested, also when it panics.
struct Deeper<'a>(&'a World);

impl Drop for Deeper<'_> {
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get() - 1);
    }
}

/// A number looked for among keys none of which can be compared on sight.
struct Evil<'a> {
    world: &'a World,
    number: u32,
}

impl Equality<Key> for Evil<'_> {
    type Error = Trouble;

    fn verdict(&self, _: &Key) -> Verdict {
        Verdict::Undecided
    }

    fn ask(&self, stored: &Key) -> Result<bool, Trouble> {
        self.world.mischief()?;
        Ok(stored.0 == self.number)
    }

    fn dup(&self, stored: &Key) -> Key {
        Rc::clone(stored)
    }

    fn identity(stored: &Key) -> usize {
        Rc::as_ptr(stored) as usize
    }
}

fn hash(number: u32) -> u32 {
    number % HASHES
}

impl World {
    fn new(seed: u64) -> Self {
        let mut lru = Lru::new();
        lru.configure(Some(BOUND), true, Some(30), None);
        let mut expiring = Expiring::new();
        expiring.configure(Some(30), Some(BOUND), OnFull::Evict, false);
        World {
            lru: Shared::new(lru),
            expiring: Shared::new(expiring),
            now: Cell::new(0),
            random: Cell::new(seed | 1),
            depth: Cell::new(0),
        }
    }

    fn random(&self, below: u64) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        (x >> 16) % below
    }

    fn tick(&self) -> Tick {
        Tick(self.now.get())
    }

    /// What foreign equality does instead of comparing.
    fn mischief(&self) -> Result<(), Trouble> {
        if self.depth.get() >= DEPTH || self.random(3) > 0 {
            return Ok(());
        }
        self.depth.set(self.depth.get() + 1);
        let _deeper = Deeper(self);
        match self.random(24) {
            0 => Err(Trouble::Raised),
            1 => resume_unwind(Box::new(Foreign)),
            _ => self.act(),
        }
    }

    fn ask<C, R>(
        &self,
        shared: &Shared<C>,
        number: u32,
        mut act: impl FnMut(&mut C, &mut Probe<'_, Key, Evil<'_>>) -> Result<R, Refused>,
    ) -> Result<R, Trouble> {
        shared.ask(&Evil { world: self, number }, |core, probe| {
            let _locked = Locked::new();
            act(core, probe)
        })
    }

    /// Uses one of the maps.
    fn act(&self) -> Result<(), Trouble> {
        let number = self.random(u64::from(KEYS)) as u32;
        if self.random(2) == 0 {
            self.use_lru(number)
        } else {
            self.use_expiring(number)
        }
    }

    fn use_lru(&self, number: u32) -> Result<(), Trouble> {
        let (map, now) = (&self.lru, self.tick());
        let mut removed = Removed::new();
        let done = match self.random(16) {
            0..=6 => {
                let pair = Some((key(number), Tracked::new(number)));
                let mut new = New { hash: hash(number), pair, weight: 1 + self.random(3), ttl: None };
                match number % 2 {
                    0 => self.ask(map, number, |map, probe| map.put(probe, &mut new, now, &mut removed)),
                    _ => self
                        .ask(map, number, |map, probe| map.put_if_absent(probe, &mut new, now, &mut removed).map(drop)),
                }
            }
            7 | 8 => self.ask(map, number, |map, probe| map.get(hash(number), probe, now).map(drop)),
            9..=11 => self.ask(map, number, |map, probe| map.remove(hash(number), probe, now)).map(drop),
            12 => {
                let gone = map.lock().pop(true, Cause::Explicit, now, &mut removed);
                drop(gone);
                Ok(())
            }
            13 => {
                self.now.set(self.now.get() + self.random(20));
                let done = map.lock().expire(self.tick(), 2, &mut removed);
                assert_eq!(done, removed.len());
                Ok(())
            }
            14 => self.ask(map, number, |map, probe| map.move_to_end(hash(number), probe, false, now).map(drop)),
            _ => {
                let cleared = map.lock().clear();
                drop(cleared);
                Ok(())
            }
        };
        drop(removed);
        self.check();
        done
    }

    fn use_expiring(&self, number: u32) -> Result<(), Trouble> {
        let (map, now) = (&self.expiring, self.tick());
        let mut leaving = Removed::new();
        let done = match self.random(16) {
            0..=7 => {
                let mut pair = Some((key(number), Tracked::new(number)));
                let begun = self
                    .ask(map, number, |map, probe| map.begin(hash(number), probe, &mut pair, None, now, &mut leaving));
                match begun {
                    Err(Trouble::Refused(Refused::Full(_))) => Ok(()),
                    begun => begun.map(|begun| assert_eq!(begun == Begun::Live, pair.is_none())),
                }
            }
            8..=10 => {
                let end = End::Failed;
                self.ask(map, number, |map, probe| map.end(hash(number), probe, end, now, &mut leaving)).map(drop)
            }
            11 => {
                let mut early = Some(key(number));
                self.ask(map, number, |map, probe| map.early(hash(number), probe, &mut early, &mut leaving))
            }
            12 => {
                let popped = map.lock().pop_expired(now, 1, Effort::Whole, Rc::clone, &mut leaving).pop();
                drop(popped);
                Ok(())
            }
            13 => self.ask(map, number, |map, probe| map.renew(hash(number), probe, Some(5), now).map(drop)),
            14 => {
                self.now.set(self.now.get() + self.random(20));
                let done = map.lock().expire(self.tick(), 2, &mut leaving);
                assert!(done <= 2);
                Ok(())
            }
            _ => {
                let everything = map.lock().clear();
                drop(everything);
                Ok(())
            }
        };
        drop(leaving);
        self.check();
        done
    }

    /// What holds after every operation, at whatever depth.
    fn check(&self) {
        let lru = self.lru.lock();
        lru.validate();
        assert!(lru.weight() <= BOUND);
        let mut stored: Vec<_> = lru.entries().map(|(key, _)| key.0).collect();
        drop(lru);
        let expiring = self.expiring.lock();
        expiring.validate();
        let mut live: Vec<_> = expiring.iter(self.tick()).map(|(key, ..)| key.0).collect();
        drop(expiring);
        for numbers in [&mut stored, &mut live] {
            numbers.sort_unstable();
            assert!(numbers.windows(2).all(|two| two[0] < two[1]), "no key is stored twice");
        }
    }

    /// What holds when nothing is under way.
    fn check_at_rest(&self) {
        self.check();
        let entries = self.lru.lock().entries().count();
        let expiring: Vec<_> = self.expiring.lock().entries().map(|(_, handle)| handle.is_some()).collect();
        let handles = expiring.iter().filter(|&&handle| handle).count();
        assert_eq!(living(), 2 * entries + expiring.len() + handles, "what is not inside is gone");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 40 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn equality_may_use_the_container(seed: u64) {
        let world = World::new(seed);
        for _ in 0..if cfg!(miri) { 20 } else { 200 } {
            match catch_unwind(AssertUnwindSafe(|| world.act())) {
                Ok(Ok(()) | Err(Trouble::Raised)) => {}
                Ok(Err(trouble)) => panic!("{trouble:?}"),
                Err(panic) if panic.is::<Foreign>() => {}
                Err(panic) => resume_unwind(panic),
            }
            world.check_at_rest();
        }
        drop(world);
        prop_assert_eq!(living(), 0);
    }
}

/// Changes the map whenever it is asked, for a number of times: the stored keys are never those it was asked for.
struct Restless<'a> {
    map: &'a Shared<Lru<Key, Tracked>>,
    asked: Cell<u32>,
    changes: u32,
}

/// Compares on sight.
struct Calm(u32);

impl Equality<Key> for Calm {
    type Error = Refused;

    fn verdict(&self, stored: &Key) -> Verdict {
        match stored.0 == self.0 {
            true => Verdict::Same,
            false => Verdict::Different,
        }
    }

    fn ask(&self, _: &Key) -> Result<bool, Refused> {
        unreachable!("decided on sight")
    }

    fn dup(&self, stored: &Key) -> Key {
        Rc::clone(stored)
    }

    fn identity(stored: &Key) -> usize {
        Rc::as_ptr(stored) as usize
    }
}

/// Stores a key, the same for all of them hash, without asking anyone.
fn store(map: &Shared<Lru<Key, Tracked>>, number: u32) {
    let mut new = New { hash: 0, pair: Some((key(number), Tracked::new(number))), weight: 1, ttl: None };
    let mut removed = Removed::new();
    map.ask(&Calm(number), |map, probe| map.put(probe, &mut new, Tick(0), &mut removed)).expect("there is room");
}

impl Equality<Key> for Restless<'_> {
    type Error = Refused;

    fn verdict(&self, _: &Key) -> Verdict {
        Verdict::Undecided
    }

    fn ask(&self, stored: &Key) -> Result<bool, Refused> {
        self.asked.set(self.asked.get() + 1);
        if self.asked.get() <= self.changes {
            let cleared = self.map.lock().clear();
            drop(cleared);
            (1..4).for_each(|number| store(self.map, number));
        }
        Ok(stored.0 == 2 && self.asked.get() > self.changes)
    }

    fn dup(&self, stored: &Key) -> Key {
        Rc::clone(stored)
    }

    fn identity(stored: &Key) -> usize {
        Rc::as_ptr(stored) as usize
    }
}

#[test]
fn a_look_up_ends() {
    for (changes, found) in [(0, true), (1, true), (40, true), (300, true), (u32::MAX, false)] {
        let map = Shared::new(Lru::new());
        map.lock().configure(None, false, None, None);
        (1..4).for_each(|number| store(&map, number));
        let restless = Restless { map: &map, asked: Cell::new(0), changes };
        let mut new = New { hash: 0, pair: Some((key(2), Tracked::new(2))), weight: 1, ttl: None };
        let mut removed = Removed::new();
        let put = map.ask(&restless, |map, probe| {
            let _locked = Locked::new();
            map.put(probe, &mut new, Tick(0), &mut removed)
        });
        assert_eq!(put, if found { Ok(()) } else { Err(Refused::Unsettled) });
        assert_eq!((removed.len(), new.pair.is_none()), (usize::from(found), found), "replaced, or not at all");
        assert!(restless.asked.get() < 5000, "rounds are bounded");
        map.lock().validate();
        assert_eq!(map.lock().len(Tick(0)), 3, "no key is stored twice");
        drop((map, new, removed));
        assert_eq!(living(), 0);
    }
}

/// A number among keys that cannot be compared on sight, and how often that was asked.
struct Counting {
    number: u32,
    asked: Cell<usize>,
}

impl Equality<Key> for Counting {
    type Error = Refused;

    fn verdict(&self, _: &Key) -> Verdict {
        Verdict::Undecided
    }

    fn ask(&self, stored: &Key) -> Result<bool, Refused> {
        self.asked.set(self.asked.get() + 1);
        Ok(stored.0 == self.number)
    }

    fn dup(&self, stored: &Key) -> Key {
        Rc::clone(stored)
    }

    fn identity(stored: &Key) -> usize {
        Rc::as_ptr(stored) as usize
    }
}

/// A thousand keys with one hash cost no more questions than a scan of all of them, and few rounds.
#[test]
fn colliding_keys_are_asked_once_each() {
    let keys: u32 = if cfg!(miri) { 100 } else { 1000 };
    let map = Shared::new(Lru::new());
    map.lock().configure(None, false, None, None);
    (0..keys).for_each(|number| store(&map, number));
    let (mut total, mut most_rounds) = (0, 0);
    for number in (0..keys).step_by(37).chain([keys - 1, keys, keys + 1]) {
        let counting = Counting { number, asked: Cell::new(0) };
        let mut rounds = 0;
        let found = map.ask(&counting, |map, probe| {
            rounds += 1;
            map.get(0, probe, Tick(0)).map(|value| value.map(|value| value.0))
        });
        assert_eq!(found, Ok((number < keys).then_some(number)));
        assert!(counting.asked.get() <= keys as usize, "no key is asked twice");
        if number >= keys {
            assert_eq!(counting.asked.get(), keys as usize);
        }
        total += counting.asked.get();
        most_rounds = most_rounds.max(rounds);
    }
    assert!(most_rounds <= 8, "{most_rounds} rounds");
    // On average half of them, as in a scan that stops at the right one.
    let look_ups = keys.div_ceil(37) as usize + 3;
    assert!(total <= look_ups * keys as usize * 2 / 3, "{total} questions in {look_ups} look-ups");
}
