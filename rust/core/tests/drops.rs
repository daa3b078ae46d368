//! What leaves, leaves as a value: no key, value, handle or item is dropped under the lock, or twice, or never.

mod tracked;

use proptest::collection::vec;
use proptest::prelude::*;
use std::rc::Rc;
use tracked::{key, living, Key, Locked, Tracked};
use ullage_core::due::Effort;
use ullage_core::expiring::{End, OnFull};
use ullage_core::ring::Fallen;
use ullage_core::{Cause, Equality, Expiring, Lru, New, Probe, Refused, Removed, Ring, Shared, Tick, Verdict};

const KEYS: u32 = 12;

/// The equality of a number with keys, none of which can be compared on sight.
struct Wanted(u32);

impl Equality<Key> for Wanted {
    type Error = Refused;

    fn verdict(&self, _: &Key) -> Verdict {
        Verdict::Undecided
    }

    fn ask(&self, stored: &Key) -> Result<bool, Refused> {
        Ok(stored.0 == self.0)
    }

    fn dup(&self, stored: &Key) -> Key {
        Rc::clone(stored)
    }

    fn identity(stored: &Key) -> usize {
        Rc::as_ptr(stored) as usize
    }
}

fn hash(number: u32) -> u32 {
    number % 3
}

/// Looks for a key with the lock marked as held.
fn ask<C, R>(
    shared: &Shared<C>,
    number: u32,
    mut act: impl FnMut(&mut C, &mut Probe<'_, Key, Wanted>) -> Result<R, Refused>,
) -> Result<R, Refused> {
    shared.ask(&Wanted(number), |core, probe| {
        let _locked = Locked::new();
        act(core, probe)
    })
}

/// Does something that looks for no key with the lock marked as held.
fn lock<C, R>(shared: &Shared<C>, act: impl FnOnce(&mut C) -> R) -> R {
    let mut core = shared.lock();
    let _locked = Locked::new();
    act(&mut core)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 4 } else { 80 }, failure_persistence: None, ..ProptestConfig::default() }
}

fn ops() -> impl Strategy<Value = Vec<(u8, u32, u64)>> {
    vec((any::<u8>(), 0..KEYS, 0..8u64), 1..if cfg!(miri) { 40 } else { 200 })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn of_an_lru(weighed: bool, ops in ops()) {
        let map = Shared::new(Lru::<Key, Tracked>::new());
        map.lock().configure(Some(7), weighed, Some(20), Some(10));
        let mut now = Tick(0);
        for (op, number, amount) in ops {
            now.0 += amount / 2;
            let mut removed = Removed::new();
            match op % 11 {
                0..=4 => {
                    let weight = if weighed { amount } else { 1 };
                    let pair = Some((key(number), Tracked::new(number)));
                    let mut new = New { hash: hash(number), pair, weight, ttl: (amount > 4).then_some(amount) };
                    let put = match number % 2 {
                        0 => ask(&map, number, |map, probe| map.put(probe, &mut new, now, &mut removed)),
                        _ => ask(&map, number, |map, probe| {
                            map.put_if_absent(probe, &mut new, now, &mut removed).map(drop)
                        }),
                    };
                    prop_assert!(put.is_ok() || weight > map.lock().bound().expect("bounded"));
                }
                5 => ask(&map, number, |map, probe| map.get(hash(number), probe, now).map(drop)).expect("open"),
                6 => drop(ask(&map, number, |map, probe| map.remove(hash(number), probe, now))),
                7 => drop(lock(&map, |map| map.pop(amount % 2 == 0, Cause::Explicit, now, &mut removed))),
                8 => assert!(lock(&map, |map| map.expire(now, 3, &mut removed)) <= 3),
                9 => lock(&map, |map| map.set_bound(Some(amount.max(3)), now, &mut removed)),
                _ if amount == 0 => drop(lock(&map, Lru::clear)),
                _ => lock(&map, |map| map.set_bound(Some(7), now, &mut removed)),
            }
            map.lock().validate();
            drop(removed);
            let entries = map.lock().entries().count();
            prop_assert_eq!(living(), 2 * entries, "what is not in the map is gone");
        }
        drop(lock(&map, Lru::close));
        prop_assert_eq!(living(), 0);
    }

    #[test]
    fn of_an_expiring(evict: bool, polled: bool, ops in ops()) {
        let map = Shared::new(Expiring::<Key, Tracked>::new());
        let on_full = if evict { OnFull::Evict } else { OnFull::Raise };
        map.lock().configure(Some(12), Some(5), on_full, polled);
        let mut now = Tick(0);
        let mut claims = Vec::new();
        for (op, number, amount) in ops {
            now.0 += amount / 2;
            let mut leaving = Removed::new();
            match op % 13 {
                0..=3 => {
                    let mut pair = Some((key(number), Tracked::new(number)));
                    let ttl = (amount > 4).then_some(amount);
                    let _ = ask(&map, number, |map, probe| {
                        map.begin(hash(number), probe, &mut pair, ttl, now, &mut leaving)
                    });
                }
                4 => drop(ask(&map, number, |map, probe| {
                    map.end(hash(number), probe, End::Completed, now, &mut leaving)
                })),
                5 => {
                    let mut early = Some(key(number));
                    ask(&map, number, |map, probe| map.early(hash(number), probe, &mut early, &mut leaving))
                        .expect("open");
                }
                6 => {
                    let mut pair = lock(&map, |map| map.pop_expired(now, 1, Effort::Whole, Rc::clone, &mut leaving).pop());
                    if let Some(number) = pair.as_ref().map(|(key, _)| key.0).filter(|_| amount % 2 == 0) {
                        ask(&map, number, |map, probe| {
                            map.keep(hash(number), probe, &mut pair, 3, now, &mut leaving)
                        })
                        .expect("open");
                    }
                }
                7 => drop(lock(&map, |map| map.end_last(now, Rc::clone, &mut leaving))),
                8 | 9 => {
                    let claim = ask(&map, number, |map, probe| {
                        Ok(map.claim(hash(number), probe, now)?.map(|(_, id)| id))
                    });
                    claims.extend(claim.expect("open"));
                }
                10 => {
                    if let Some(id) = claims.pop() {
                        lock(&map, |map| map.release(id, now, &mut leaving));
                    }
                }
                11 => assert!(lock(&map, |map| map.expire(now, 3, &mut leaving)) <= 3),
                _ if amount == 0 => drop(lock(&map, Expiring::clear)),
                _ => drop(ask(&map, number, |map, probe| map.renew(hash(number), probe, None, now))),
            }
            map.lock().validate();
            drop(leaving);
            let inside: usize = map.lock().entries().map(|(_, handle)| 1 + usize::from(handle.is_some())).sum();
            // A key that was handed over shares its object with the one that is remembered.
            prop_assert_eq!(living(), inside, "what is not in the map is gone");
        }
        drop(lock(&map, Expiring::close));
        prop_assert_eq!(living(), 0);
    }

    #[test]
    fn of_a_ring(weighed: bool, keep_first in 0..3usize, ops in ops()) {
        let ring = Shared::new(Ring::<Tracked>::new());
        ring.lock().configure(Some(8), weighed.then_some(20), keep_first, Some(20));
        let mut now = Tick(0);
        for (op, number, weight) in ops {
            now.0 += weight / 2;
            let mut fallen = Fallen::new();
            let item = || Tracked::new(number);
            let position = number as usize;
            match op % 13 {
                0..=4 => drop(lock(&ring, |ring| ring.push(item(), weight, now, &mut fallen))),
                5 => drop(lock(&ring, |ring| ring.push_front(item(), weight, now, &mut fallen))),
                6 => drop(lock(&ring, |ring| ring.insert(position, item(), weight, now))),
                7 => {
                    if position < lock(&ring, |ring| ring.len()) {
                        drop(lock(&ring, |ring| ring.replace(position, item(), weight, &mut fallen)));
                    }
                }
                8 => drop(lock(&ring, |ring| ring.remove(position))),
                9 => drop(lock(&ring, |ring| ring.remove_where(|position| position % 3 == 1))),
                10 => {
                    let range = lock(&ring, |ring| position.min(ring.len())..ring.len());
                    let new = vec![(item(), weight), (item(), 1)];
                    drop(lock(&ring, |ring| ring.splice(range, new, now, &mut fallen)));
                }
                11 => {
                    let order: Vec<_> = lock(&ring, |ring| (0..ring.len()).rev().collect());
                    lock(&ring, |ring| ring.permute(&order));
                }
                _ if weight == 0 => drop(lock(&ring, Ring::clear)),
                _ => {
                    lock(&ring, |ring| ring.set_maxlen(Some(position.max(3)), &mut fallen));
                    let _ = lock(&ring, |ring| ring.expire(now, 2, &mut fallen));
                }
            }
            drop(fallen);
            ring.lock().validate();
            prop_assert_eq!(living(), ring.lock().len(), "what is not in the ring is gone");
        }
        drop(lock(&ring, Ring::close));
        prop_assert_eq!(living(), 0);
    }
}

/// An error on the way, from foreign equality, leaves nothing behind either.
#[test]
fn of_an_equality_that_raises() {
    struct Raising;
    impl Equality<Key> for Raising {
        type Error = Refused;

        fn verdict(&self, _: &Key) -> Verdict {
            Verdict::Undecided
        }

        fn ask(&self, _: &Key) -> Result<bool, Refused> {
            Err(Refused::Changed)
        }

        fn dup(&self, stored: &Key) -> Key {
            Rc::clone(stored)
        }

        fn identity(stored: &Key) -> usize {
            Rc::as_ptr(stored) as usize
        }
    }
    let map = Shared::new(Lru::<Key, Tracked>::new());
    map.lock().configure(Some(4), false, None, None);
    let put = |number| {
        let mut new = New { hash: 1, pair: Some((key(number), Tracked::new(number))), weight: 1, ttl: None };
        let mut removed = Removed::new();
        map.ask(&Raising, |map, probe| {
            let _locked = Locked::new();
            map.put(probe, &mut new, Tick(0), &mut removed)
        })
    };
    assert_eq!(put(1), Ok(()));
    assert_eq!(put(2), Err(Refused::Changed));
    assert_eq!(living(), 2);
    drop(map);
    assert_eq!(living(), 0);
}
