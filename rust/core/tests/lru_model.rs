//! Lru against a naive list: same answers, same order, same entries leaving, whatever is asked of both.

mod keys;

use keys::{hash, Key, Wanted};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;
use ullage_core::slab::WalkId;
use ullage_core::{Cause, Lru, New, Probe, Refused, Removed, Shared, Tick};

const KEYS: u32 = 24;
const NEVER: u64 = u64::MAX;

#[derive(Debug, Clone)]
enum Op {
    Get(u32),
    Put { key: u32, weight: u64, ttl: Option<u64> },
    Overwrite(u32),
    PutIfAbsent { key: u32, weight: u64, ttl: Option<u64> },
    Remove(u32),
    Pop { last: bool, evict: bool },
    MoveToEnd { key: u32, last: bool },
    Touch { key: u32, ttl: Option<u64> },
    Expire(usize),
    SetBound(Option<u64>),
    SetTtl(Option<u64>),
    Clear,
    Walk { backwards: bool },
    Step(usize),
    EndWalk(usize),
    Turn(Turn),
}

/// What happens to the clock.
#[derive(Debug, Clone)]
enum Turn {
    On(u64),
    Back(u64),
    /// By a power of two: to other levels of the wheel.
    Far(u32),
    /// To the end of time.
    End(u64),
}

impl Turn {
    fn apply(&self, now: u64) -> u64 {
        let now = match *self {
            Turn::On(span) => now.saturating_add(span),
            Turn::Back(span) => now.saturating_sub(span),
            Turn::Far(power) => now.saturating_add(1 << power),
            Turn::End(before) => now.max(NEVER - 1 - before),
        };
        now.min(NEVER - 1)
    }
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        10 => (0..30u64).prop_map(Turn::On),
        4 => (0..30u64).prop_map(Turn::Back),
        2 => (0..60u32).prop_map(Turn::Far),
        1 => (0..100u64).prop_map(Turn::End),
    ]
}

fn ttl() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![3 => Just(None), 3 => (1..40u64).prop_map(Some), 1 => (1..60u32).prop_map(|power| Some(1 << power))]
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS;
    prop_oneof![
        8 => key().prop_map(Op::Get),
        12 => (key(), 0..6u64, ttl()).prop_map(|(key, weight, ttl)| Op::Put { key, weight, ttl }),
        4 => (key(), 0..6u64, ttl()).prop_map(|(key, weight, ttl)| Op::PutIfAbsent { key, weight, ttl }),
        4 => key().prop_map(Op::Overwrite),
        3 => key().prop_map(Op::Remove),
        1 => any::<(bool, bool)>().prop_map(|(last, evict)| Op::Pop { last, evict }),
        4 => (key(), any::<bool>()).prop_map(|(key, last)| Op::MoveToEnd { key, last }),
        2 => (key(), ttl()).prop_map(|(key, ttl)| Op::Touch { key, ttl }),
        1 => (0..5usize).prop_map(Op::Expire),
        1 => bound().prop_map(Op::SetBound),
        1 => ttl().prop_map(Op::SetTtl),
        1 => Just(Op::Clear),
        2 => any::<bool>().prop_map(|backwards| Op::Walk { backwards }),
        8 => (0..3usize).prop_map(Op::Step),
        1 => (0..3usize).prop_map(Op::EndWalk),
        6 => turn().prop_map(Op::Turn),
    ]
}

fn bound() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![1 => Just(None), 6 => (1..16u64).prop_map(Some)]
}

/// How a map is configured.
#[derive(Debug, Clone)]
struct Shape {
    bound: Option<u64>,
    weighed: bool,
    ttl: Option<u64>,
    idle: Option<u64>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let idle = prop_oneof![2 => Just(None), 1 => (1..40u64).prop_map(Some)];
    (bound(), any::<bool>(), ttl(), idle).prop_map(|(bound, weighed, ttl, idle)| Shape { bound, weighed, ttl, idle })
}

#[derive(Debug, Clone)]
struct Entry {
    key: u32,
    value: u64,
    weight: u64,
    /// The end of its ttl, and of its idle time if that comes first.
    end: u64,
    at: u64,
}

/// A walk over the list: the keys it has still to meet.
struct Walk {
    id: (WalkId, u64),
    rest: VecDeque<u32>,
    epoch: u64,
}

#[derive(Debug, Default)]
struct Counts {
    hits: u64,
    misses: u64,
    insertions: u64,
    rejected: u64,
    evicted_weight: u64,
    left: [u64; 4],
}

struct Model {
    map: Shared<Lru<Key, u64>>,
    shape: Shape,
    now: u64,
    /// What is held, expired or not, from the least to the most recently used.
    held: Vec<Entry>,
    walks: Vec<Walk>,
    epoch: u64,
    counts: Counts,
    values: u64,
}

fn after(now: u64, span: Option<u64>) -> u64 {
    span.map_or(NEVER, |span| now.saturating_add(span))
}

impl Model {
    fn new(shape: Shape, now: u64) -> Self {
        let mut map = Lru::new();
        map.configure(shape.bound, shape.weighed, shape.ttl, shape.idle);
        Model {
            map: Shared::new(map),
            shape,
            now,
            held: Vec::new(),
            walks: Vec::new(),
            epoch: 0,
            counts: Counts::default(),
            values: 0,
        }
    }

    fn ask<R>(
        &self,
        key: u32,
        act: impl FnMut(&mut Lru<Key, u64>, &mut Probe<'_, Key, Wanted>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        self.map.ask(&Wanted(key), act)
    }

    fn bound(&self) -> u64 {
        self.shape.bound.unwrap_or(u64::MAX)
    }

    fn weight(&self) -> u64 {
        self.held.iter().map(|entry| entry.weight).sum()
    }

    fn live(&self, key: u32) -> Option<usize> {
        self.held.iter().position(|entry| entry.key == key && entry.at > self.now)
    }

    fn lives(&self, ttl: Option<u64>) -> (u64, u64) {
        let end = after(self.now, ttl.or(self.shape.ttl));
        (end, end.min(after(self.now, self.shape.idle)))
    }

    fn use_at(&mut self, position: usize) {
        let mut entry = self.held.remove(position);
        if self.shape.idle.is_some() {
            entry.at = entry.end.min(after(self.now, self.shape.idle));
        }
        self.held.push(entry);
    }

    fn leave(&mut self, position: usize, cause: Cause) -> Entry {
        let entry = self.held.remove(position);
        self.counts.left[cause as usize] += 1;
        match cause {
            Cause::Expired => self.counts.evicted_weight += entry.weight,
            Cause::Size => {
                self.counts.evicted_weight += entry.weight;
                self.epoch += 1;
            }
            _ => self.epoch += 1,
        }
        entry
    }

    /// Checks that what left for `incoming` more weight had to leave, in the right order.
    fn let_go(&mut self, removed: Removed<Key, u64>, incoming: u64) {
        let n = removed.len();
        let removed: Vec<_> = removed.into_iter().collect();
        assert_eq!(removed.len(), n);
        for (key, value, cause) in removed {
            let position = self.held.iter().position(|entry| entry.value == value).expect("it was held");
            if cause == Cause::Size {
                assert!(self.weight() > self.bound() - incoming, "no room was needed");
                assert_eq!(position, 0, "the least recent leaves first");
                assert!(self.held.iter().all(|entry| entry.at > self.now), "the expired leave first");
            } else {
                assert_eq!(cause, Cause::Expired);
                assert!(self.held[position].at <= self.now, "its time was not over");
            }
            let entry = self.leave(position, cause);
            assert_eq!(entry.key, key.number());
        }
        assert!(self.weight() <= self.bound() - incoming);
    }

    fn put(&mut self, key: u32, weight: u64, ttl: Option<u64>, if_absent: bool) {
        let weight = if self.shape.weighed { weight } else { 1 };
        self.values += 1;
        let value = self.values;
        let mut new = New { hash: hash(key), pair: Some((Key::new(key), value)), weight, ttl };
        let mut removed = Removed::new();
        let now = Tick(self.now);
        let answer = self.ask(key, |map, probe| match if_absent {
            true => map.put_if_absent(probe, &mut new, now, &mut removed).map(|found| found.copied()),
            false => map.put(probe, &mut new, now, &mut removed).map(|()| None),
        });
        let live = self.live(key);
        if let Some(position) = live.filter(|_| if_absent) {
            assert_eq!(answer, Ok(Some(self.held[position].value)));
            assert!(removed.is_empty() && new.pair.is_some());
            self.counts.hits += 1;
            self.use_at(position);
            return;
        }
        if weight > self.bound() {
            assert_eq!(answer, Err(Refused::too_heavy(weight, self.bound())));
            assert!(removed.is_empty() && new.pair.is_some());
            self.counts.rejected += 1;
            return;
        }
        assert_eq!(answer, Ok(None));
        assert!(new.pair.is_none());
        let (end, at) = self.lives(ttl);
        if let Some(position) = live {
            let mut removed = removed.into_iter();
            let (old_key, old, cause) = removed.next().expect("the old value leaves");
            let entry = self.held.remove(position);
            assert_eq!((old_key.number(), old, cause), (key, entry.value, Cause::Replaced));
            self.counts.left[Cause::Replaced as usize] += 1;
            self.held.push(Entry { key, value, weight: 0, end, at });
            let mut others = Vec::new();
            others.extend(removed);
            for (other, gone, cause) in others {
                let position = self.held.iter().position(|entry| entry.value == gone).expect("it was held");
                match cause {
                    Cause::Size => {
                        assert!(self.weight() > self.bound() - weight && position == 0);
                        assert!(self.held.iter().all(|entry| entry.at > self.now));
                    }
                    cause => assert!(cause == Cause::Expired && self.held[position].at <= self.now),
                }
                assert_eq!(self.leave(position, cause).key, other.number());
            }
            self.held.last_mut().expect("the entry itself stays").weight = weight;
        } else {
            self.let_go(removed, weight);
            assert!(self.held.iter().all(|entry| entry.key != key), "an expired entry makes way for a new one");
            self.held.push(Entry { key, value, weight, end, at });
            self.counts.insertions += 1;
            self.counts.misses += u64::from(if_absent);
            self.epoch += 1;
        }
    }

    fn apply(&mut self, op: &Op) {
        let now = Tick(self.now);
        let mut removed = Removed::new();
        match *op {
            Op::Get(key) => {
                let seen = self.map.lock().glance_get(hash(key), &Wanted(key), |&value| value);
                match (seen, self.live(key)) {
                    (None, _) => {}
                    (Some(seen), Some(position)) => {
                        assert_eq!(seen, Some(self.held[position].value));
                        self.counts.hits += 1;
                        self.use_at(position);
                    }
                    (Some(seen), None) => {
                        assert_eq!(seen, None, "what is seen at a glance is there");
                        self.counts.misses += 1;
                    }
                }
                let got = self.ask(key, |map, probe| map.get(hash(key), probe, now).map(|value| value.copied()));
                let live = self.live(key);
                assert_eq!(got, Ok(live.map(|position| self.held[position].value)));
                match live {
                    Some(position) => {
                        self.counts.hits += 1;
                        self.use_at(position);
                    }
                    None => self.counts.misses += 1,
                }
            }
            Op::Put { key, weight, ttl } => self.put(key, weight, ttl, false),
            Op::PutIfAbsent { key, weight, ttl } => self.put(key, weight, ttl, true),
            Op::Overwrite(key) => {
                self.values += 1;
                let value = self.values;
                let mut map = self.map.lock();
                match (map.glance_swap(hash(key), &Wanted(key), || value), self.live(key)) {
                    (None, _) => {}
                    (Some(Some(old)), Some(position)) => {
                        assert_eq!(old, std::mem::replace(&mut self.held[position].value, value));
                        self.counts.left[Cause::Replaced as usize] += 1;
                        drop(map);
                        self.use_at(position);
                    }
                    (Some(old), live) => {
                        assert_eq!((old, live), (None, None), "what is seen at a glance is there");
                        let gone = map.supersede(hash(key), || (Key::new(key), value));
                        drop(map);
                        if let Some((old_key, old)) = gone {
                            let entry = self.leave(0, Cause::Size);
                            assert_eq!((old_key.number(), old), (entry.key, entry.value));
                            self.held.push(Entry { key, value, weight: 1, end: NEVER, at: NEVER });
                            self.counts.insertions += 1;
                            self.epoch += 1;
                        }
                    }
                }
            }
            Op::Remove(key) => {
                let gone = self.ask(key, |map, probe| map.remove(hash(key), probe, now)).expect("not refused");
                let live = self.live(key).map(|position| self.leave(position, Cause::Explicit));
                assert_eq!(gone.map(|(key, value)| (key.number(), value)), live.map(|entry| (entry.key, entry.value)));
            }
            Op::Pop { last, evict } => {
                let cause = if evict { Cause::Size } else { Cause::Explicit };
                let gone = self.map.lock().pop(last, cause, now, &mut removed);
                self.let_go_expired(removed);
                let live = |entry: &Entry| entry.at > self.now;
                let position = if last { self.held.iter().rposition(live) } else { self.held.iter().position(live) };
                let live = position.map(|position| self.leave(position, cause));
                assert_eq!(gone.map(|(key, value)| (key.number(), value)), live.map(|entry| (entry.key, entry.value)));
            }
            Op::MoveToEnd { key, last } => {
                let moved = self.ask(key, |map, probe| map.move_to_end(hash(key), probe, last, now));
                let live = self.live(key);
                assert_eq!(moved, Ok(live.is_some()));
                if let Some(position) = live {
                    let entry = self.held.remove(position);
                    self.held.insert(if last { self.held.len() } else { 0 }, entry);
                }
            }
            Op::Touch { key, ttl } => {
                let touched = self.ask(key, |map, probe| map.touch(hash(key), probe, ttl, now));
                let live = self.live(key);
                assert_eq!(touched, Ok(live.is_some()));
                if let Some(position) = live {
                    if ttl.is_some() {
                        (self.held[position].end, self.held[position].at) = self.lives(ttl);
                    }
                    self.use_at(position);
                }
            }
            Op::Expire(budget) => {
                let due = self.held.iter().filter(|entry| entry.at <= self.now).count();
                let done = self.map.lock().expire(now, budget, &mut removed);
                assert_eq!((done, removed.len()), (due.min(budget), due.min(budget)));
                let mut before = 0;
                for (key, value, cause) in removed {
                    let position = self.held.iter().position(|entry| entry.value == value).expect("it was held");
                    let at = self.held[position].at;
                    assert!(cause == Cause::Expired && before <= at && at <= self.now);
                    assert!(self.held.iter().all(|entry| entry.at >= at), "the earliest leaves first");
                    before = at;
                    assert_eq!(self.leave(position, cause).key, key.number());
                }
            }
            Op::SetBound(bound) => {
                self.map.lock().set_bound(bound, now, &mut removed);
                self.shape.bound = bound;
                self.let_go(removed, 0);
            }
            Op::SetTtl(ttl) => {
                self.map.lock().set_ttl(ttl);
                self.shape.ttl = ttl;
            }
            Op::Clear => {
                let cleared = self.map.lock().clear();
                assert_eq!((cleared.len(), cleared.is_empty()), (self.held.len(), self.held.is_empty()));
                self.counts.left[Cause::Explicit as usize] += self.held.len() as u64;
                self.epoch += 1;
                let cleared: Vec<_> = cleared.map(|(key, value)| (key.number(), value)).collect();
                let held: Vec<_> = self.held.drain(..).map(|entry| (entry.key, entry.value)).collect();
                assert_eq!(cleared, held);
            }
            Op::Walk { backwards } => {
                if self.walks.len() < 3 {
                    let id = self.map.lock().walk(backwards);
                    let mut rest: VecDeque<u32> = self.held.iter().map(|entry| entry.key).collect();
                    if backwards {
                        rest.make_contiguous().reverse();
                    }
                    self.walks.push(Walk { id, rest, epoch: self.epoch });
                }
            }
            Op::Step(which) => self.step(which),
            Op::EndWalk(which) => {
                if which < self.walks.len() {
                    let walk = self.walks.remove(which);
                    self.map.lock().end_walk(walk.id.0);
                }
            }
            Op::Turn(ref turn) => self.now = turn.apply(self.now),
        }
    }

    fn let_go_expired(&mut self, removed: Removed<Key, u64>) {
        for (key, value, cause) in removed {
            let position = self.held.iter().position(|entry| entry.value == value).expect("it was held");
            assert!(cause == Cause::Expired && self.held[position].at <= self.now);
            assert_eq!(self.leave(position, cause).key, key.number());
        }
    }

    fn step(&mut self, which: usize) {
        let Some(mut walk) = (which < self.walks.len()).then(|| self.walks.remove(which)) else { return };
        let mut map = self.map.lock();
        let met = map.step(walk.id, Tick(self.now)).map(|met| met.map(|(key, &value)| (key.number(), value)));
        drop(map);
        if walk.epoch != self.epoch {
            assert_eq!(met, Err(Refused::Changed));
        } else {
            let mut next = None;
            while let Some(key) = walk.rest.pop_front() {
                if let Some(position) = self.live(key) {
                    next = Some((key, self.held[position].value));
                    break;
                }
            }
            assert_eq!(met, Ok(next));
        }
        self.walks.insert(which, walk);
    }

    /// Asks the map everything that changes nothing.
    fn compare(&self) {
        let now = Tick(self.now);
        let map = self.map.lock();
        map.validate();
        let live = self.held.iter().filter(|entry| entry.at > self.now);
        let live: Vec<_> = live.map(|entry| (entry.key, entry.value, entry.at)).collect();
        assert_eq!(map.len(now), live.len());
        assert_eq!((map.weight(), map.bound()), (self.weight(), self.shape.bound));
        assert!(map.weight() <= self.bound());
        let seen: Vec<_> = map.iter(now).map(|(key, &value, at)| (key.number(), value, at.0)).collect();
        assert_eq!(seen, live);
        let mut seen: Vec<_> = map.iter_back(now).map(|(key, &value, at)| (key.number(), value, at.0)).collect();
        seen.reverse();
        assert_eq!(seen, live);
        assert_eq!(map.entries().count(), self.held.len());
        // Fewer entries than the wheel glances at, so its answer is exact.
        let due = self.held.iter().map(|entry| entry.at).filter(|&at| at != NEVER).min();
        assert_eq!(map.next_due(), due.map(Tick));
        let stats = map.stats();
        let counts = (stats.hits, stats.misses, stats.insertions, stats.rejected, stats.evicted_weight);
        let expected = &self.counts;
        assert_eq!(
            counts,
            (expected.hits, expected.misses, expected.insertions, expected.rejected, expected.evicted_weight)
        );
        assert_eq!(Cause::ALL.map(|cause| stats.left(cause)), expected.left);
        let left = stats.left(Cause::Explicit) + stats.left(Cause::Size) + stats.left(Cause::Expired);
        assert_eq!(stats.insertions - left, self.held.len() as u64, "what came and did not leave is held");
        drop(map);
        for key in 0..KEYS {
            let got =
                self.ask(key, |map, probe| Ok(map.peek(hash(key), probe, now)?.map(|(&value, at)| (value, at.0))));
            let entry = self.live(key).map(|position| (self.held[position].value, self.held[position].at));
            assert_eq!(got, Ok(entry));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 250 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_as_a_list(
        shape in shape(),
        start in prop_oneof![Just(0), 0..1000u64, (0..63u32).prop_map(|power| 1 << power)],
        ops in vec(op(), 1..if cfg!(miri) { 40 } else { 150 }),
    ) {
        let mut model = Model::new(shape, start);
        for op in &ops {
            model.apply(op);
            model.compare();
        }
        // Everything that goes in comes out, once.
        let held: Vec<_> = model.map.lock().close().map(|(_, value)| value).collect();
        prop_assert_eq!(held, model.held.iter().map(|entry| entry.value).collect::<Vec<_>>());
        prop_assert_eq!(model.ask(0, |map, probe| map.get(hash(0), probe, Tick(0)).map(drop)), Err(Refused::Closed));
    }
}

/// The equality of numbers that compare on sight.
struct Number(u32);

impl ullage_core::Equality<u32> for Number {
    type Error = Refused;

    fn verdict(&self, &stored: &u32) -> ullage_core::Verdict {
        if stored == self.0 {
            ullage_core::Verdict::Same
        } else {
            ullage_core::Verdict::Different
        }
    }

    fn ask(&self, _: &u32) -> Result<bool, Refused> {
        unreachable!("decided on sight")
    }

    fn dup(&self, &stored: &u32) -> u32 {
        stored
    }

    fn identity(&stored: &u32) -> usize {
        stored as usize
    }
}

#[test]
fn grows_and_shrinks() {
    let entries = if cfg!(miri) { 300 } else { 20_000 };
    let validate_every = if cfg!(miri) { 50 } else { 997 };
    let spread = |number: u32| ullage_core::mix(u64::from(number));
    let mut map = Lru::new();
    map.configure(None, false, None, None);
    for number in 0..entries {
        let equality = Number(number);
        let mut new = New { hash: spread(number), pair: Some((number, number)), weight: 1, ttl: None };
        let mut removed = Removed::new();
        map.put(&mut Probe::new(&equality), &mut new, Tick(0), &mut removed).expect("there is room");
        assert!(removed.is_empty());
        if number % validate_every == 0 {
            map.validate();
        }
    }
    let full = map.bytes();
    for number in 0..entries {
        let equality = Number(number);
        let got = map.peek(spread(number), &mut Probe::new(&equality), Tick(0)).map(|got| got.map(|(&value, _)| value));
        assert_eq!(got, Ok(Some(number)));
    }
    // Out again in another order than in; half of them a second time in, so that merges and splits alternate.
    for step in 0..entries {
        let number = (step * 7 + 3) % entries;
        let equality = Number(number);
        let gone = map.remove(spread(number), &mut Probe::new(&equality), Tick(0));
        assert_eq!(gone, Ok(Some((number, number))));
        assert_eq!(map.remove(spread(number), &mut Probe::new(&equality), Tick(0)), Ok(None));
        if step % validate_every == 0 || entries - step < 20 {
            map.validate();
        }
    }
    assert_eq!(map.len(Tick(0)), 0);
    for number in 0..entries {
        let equality = Number(number);
        let mut new = New { hash: spread(number), pair: Some((number, number)), weight: 1, ttl: None };
        map.put(&mut Probe::new(&equality), &mut new, Tick(0), &mut Removed::new()).expect("there is room");
        if number % 2 == 0 {
            let oldest = map.pop(false, Cause::Explicit, Tick(0), &mut Removed::new());
            assert_eq!(oldest, Some((number / 2, number / 2)));
        }
        if number % validate_every == 0 {
            map.validate();
        }
    }
    map.validate();
    assert!(map.bytes() <= full, "places are used again");
}

/// At the end of time an idle entry has no deadline; a use after the clock was turned back gives it one.
#[test]
fn an_idle_entry_outlives_the_end_of_time() {
    let mut map = Lru::new();
    map.configure(None, false, None, Some(50));
    let equality = Number(1);
    let mut new = New { hash: 1, pair: Some((1, 1)), weight: 1, ttl: None };
    map.put(&mut Probe::new(&equality), &mut new, Tick(NEVER - 10), &mut Removed::new()).expect("there is room");
    assert_eq!(map.next_due(), None);
    assert_eq!(map.get(1, &mut Probe::new(&equality), Tick(5)), Ok(Some(&1)));
    map.validate();
    assert_eq!(map.next_due(), Some(Tick(55)));
    assert_eq!((map.len(Tick(54)), map.len(Tick(55))), (1, 0));
}
