//! Expiring against a naive table: what is live, what waits to be handed over, what is remembered of a key.

mod keys;

use keys::{hash, Key, Wanted};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use ullage_core::due::Effort;
use ullage_core::expiring::{Begun, ClaimId, End, Leaving, OnFull, State, Tally, REMEMBERED};
use ullage_core::slab::WalkId;
use ullage_core::{Cause, Expiring, Probe, Refused, Removed, Shared, Tick};

const KEYS: u32 = 16;
const NEVER: u64 = u64::MAX;

#[derive(Debug, Clone)]
enum Op {
    Begin(u32, Option<u64>),
    /// Ends a transfer; remembers an early completion if nothing is known of the key.
    End {
        key: u32,
        failed: bool,
    },
    EndLast,
    Renew(u32, Option<u64>),
    Claim(u32),
    Release(usize),
    Expire(usize),
    PopExpired,
    /// Gives back what was handed over.
    Keep(usize, u64),
    Walk(bool),
    Step(usize),
    EndWalk(usize),
    Clear,
    On(u64),
    Far(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..KEYS;
    prop_oneof![
        16 => (key(), ttl()).prop_map(|(key, ttl)| Op::Begin(key, ttl)),
        6 => (key(), any::<bool>()).prop_map(|(key, failed)| Op::End { key, failed }),
        1 => Just(Op::EndLast),
        3 => (key(), ttl()).prop_map(|(key, ttl)| Op::Renew(key, ttl)),
        4 => key().prop_map(Op::Claim),
        4 => (0..6usize).prop_map(Op::Release),
        1 => (0..4usize).prop_map(Op::Expire),
        5 => Just(Op::PopExpired),
        3 => (0..6usize, 1..40u64).prop_map(|(which, ttl)| Op::Keep(which, ttl)),
        1 => any::<bool>().prop_map(Op::Walk),
        5 => (0..3usize).prop_map(Op::Step),
        1 => (0..3usize).prop_map(Op::EndWalk),
        1 => prop_oneof![4 => Just(Op::On(1)), 1 => Just(Op::Clear)],
        6 => (0..25u64).prop_map(Op::On),
        1 => (0..60u32).prop_map(Op::Far),
    ]
}

fn ttl() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![
        4 => Just(None),
        4 => (1..40u64).prop_map(Some),
        1 => (1..60u32).prop_map(|power| Some(1 << power)),
        1 => Just(Some(NEVER)),
    ]
}

#[derive(Debug, Clone)]
struct Shape {
    ttl: Option<u64>,
    maxsize: Option<u64>,
    on_full: OnFull,
    polled: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let maxsize = prop_oneof![1 => Just(None), 3 => (1..12u64).prop_map(Some)];
    let on_full = prop_oneof![Just(OnFull::Raise), Just(OnFull::Evict)];
    (ttl(), maxsize, on_full, any::<bool>()).prop_map(|(ttl, maxsize, on_full, polled)| Shape {
        ttl: ttl.filter(|&ttl| ttl != NEVER),
        maxsize,
        on_full,
        polled,
    })
}

#[derive(Debug, Clone)]
struct Live {
    key: u32,
    handle: u64,
    at: u64,
    claims: Vec<ClaimId>,
}

impl Live {
    /// When it expires unless it is released first.
    fn due(&self) -> u64 {
        if self.claims.is_empty() {
            self.at
        } else {
            NEVER
        }
    }
}

/// An expired entry that was not handed over yet.
#[derive(Debug, Clone)]
struct Waiting {
    key: u32,
    handle: u64,
    /// Its deadline; None for one that came to wait when its deadline was over already, which may leave out of turn.
    at: Option<u64>,
    /// Whether a look-up finds it: its key has not begun anew.
    known: bool,
}

struct Model {
    map: Shared<Expiring<Key, u64>>,
    shape: Shape,
    now: u64,
    /// In the order in which they began.
    live: Vec<Live>,
    waiting: Vec<Waiting>,
    gone: HashMap<u32, End>,
    /// Handed over, and not given back.
    popped: Vec<(Key, u64)>,
    /// Claims of entries that have ended since: releasing them does nothing.
    stale: Vec<ClaimId>,
    walks: Vec<Walk>,
    tally: Tally,
    handles: u64,
}

struct Walk {
    id: WalkId,
    /// What was live when it began and still is; must be met, if it was not yet.
    owed: HashSet<u64>,
    met: HashSet<u64>,
}

impl Model {
    fn new(shape: Shape, now: u64) -> Self {
        let mut map = Expiring::new();
        map.configure(shape.ttl, shape.maxsize, shape.on_full, shape.polled);
        Model {
            map: Shared::new(map),
            shape,
            now,
            live: Vec::new(),
            waiting: Vec::new(),
            gone: HashMap::new(),
            popped: Vec::new(),
            stale: Vec::new(),
            walks: Vec::new(),
            tally: Tally::default(),
            handles: 0,
        }
    }

    fn ask<R>(
        &self,
        key: u32,
        act: impl FnMut(&mut Expiring<Key, u64>, &mut Probe<'_, Key, Wanted>) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        self.map.ask(&Wanted(key), act)
    }

    fn maxsize(&self) -> usize {
        self.shape.maxsize.map_or(usize::MAX, |maxsize| maxsize as usize)
    }

    fn live_at(&self, key: u32) -> Option<usize> {
        self.live.iter().position(|live| live.key == key)
    }

    fn waits(&self, key: u32) -> bool {
        self.waiting.iter().any(|waiting| waiting.known && waiting.key == key)
    }

    fn after(&self, ttl: Option<u64>) -> u64 {
        ttl.or(self.shape.ttl).map_or(NEVER, |ttl| self.now.saturating_add(ttl))
    }

    /// What is over by now stops being live.
    fn tick(&mut self) {
        let now = self.now;
        let (over, live) = std::mem::take(&mut self.live).into_iter().partition(|live| live.due() <= now);
        self.live = live;
        let over: Vec<Live> = over;
        for live in over {
            self.waiting.push(Waiting { key: live.key, handle: live.handle, at: Some(live.at), known: true });
        }
    }

    /// The entry leaves those that wait; it must have been its turn.
    fn take_waiting(&mut self, handle: u64) -> Waiting {
        let position = self.waiting.iter().position(|waiting| waiting.handle == handle).expect("it waited");
        let waiting = self.waiting.remove(position);
        if let Some(at) = waiting.at {
            assert!(self.waiting.iter().flat_map(|waiting| waiting.at).all(|other| at <= other), "not its turn");
        }
        waiting
    }

    /// Checks that what left unasked had to.
    fn let_go(&mut self, leaving: Leaving<Key, u64>) -> Vec<(u32, Option<u64>, Cause)> {
        let mut others = Vec::new();
        for (key, handle, cause) in leaving {
            if let (Some(handle), Cause::Expired) = (handle, cause) {
                assert!(!self.shape.polled, "nothing leaves unseen once anyone asks");
                assert!(self.waiting.len() > self.maxsize(), "nothing leaves unseen before it is too much");
                assert_eq!(self.take_waiting(handle).key, key.number());
                self.tally.unseen += 1;
            } else {
                others.push((key.number(), handle, cause));
            }
        }
        others
    }

    fn begin(&mut self, key: u32, ttl: Option<u64>) {
        self.handles += 1;
        let handle = self.handles;
        let mut pair = Some((Key::new(key), handle));
        let mut leaving = Removed::new();
        let now = Tick(self.now);
        let answer = self.ask(key, |map, probe| map.begin(hash(key), probe, &mut pair, ttl, now, &mut leaving));
        let at = self.after(ttl);
        if let Some(position) = self.live_at(key) {
            assert_eq!((answer, pair.is_none()), (Ok(Begun::Live), true));
            let old = std::mem::replace(&mut self.live[position], Live { key, handle, at, claims: Vec::new() });
            assert_eq!(self.let_go(leaving), [(key, Some(old.handle), Cause::Replaced)]);
            self.stale.extend(old.claims);
            self.tally.begun += 1;
            self.tally.replaced += 1;
            for walk in &mut self.walks {
                // The new one stands where the old one stood.
                if walk.owed.remove(&old.handle) {
                    let _ = walk.owed.insert(handle);
                }
            }
            return;
        }
        if self.gone.get(&key) == Some(&End::Early) {
            assert_eq!((answer, pair.is_some()), (Ok(Begun::Completed), true));
            assert!(leaving.is_empty());
            let _ = self.gone.insert(key, End::Completed);
            self.tally.begun += 1;
            self.tally.completed += 1;
            return;
        }
        let full = self.live.len() >= self.maxsize();
        let crowded = self.shape.polled && self.waiting.len() >= self.maxsize();
        let evictable = self.shape.on_full == OnFull::Evict && self.live.iter().any(|live| live.claims.is_empty());
        if answer != Ok(Begun::Live) {
            assert!(matches!(answer, Err(Refused::Full(_))));
            assert!(crowded || full && !evictable, "there was room");
            assert!(pair.is_some());
            assert_eq!(self.let_go(leaving), []);
            return;
        }
        assert!(!full || evictable, "there was no room");
        assert!(pair.is_none());
        if full {
            let nearest = self.live.iter().map(Live::due).min();
            let still = self.held();
            let evicted = self.live.iter().position(|live| !still.contains(&live.handle) || self.waits_in_map(live));
            let evicted = self.live.remove(evicted.expect("one made room"));
            assert!(evicted.claims.is_empty(), "what is claimed stays");
            assert_eq!(Some(evicted.at), nearest, "the nearest deadline makes room");
            self.waiting.push(Waiting { key: evicted.key, handle: evicted.handle, at: Some(self.now), known: true });
            self.tally.evicted += 1;
        }
        let others = self.let_go(leaving);
        match self.gone.remove(&key) {
            Some(_) => assert_eq!(others, [(key, None, Cause::Explicit)]),
            None => assert_eq!(others, []),
        }
        self.waiting.iter_mut().filter(|waiting| waiting.key == key).for_each(|waiting| waiting.known = false);
        self.live.push(Live { key, handle, at, claims: Vec::new() });
        self.tally.begun += 1;
    }

    /// All handles in the map.
    fn held(&self) -> HashSet<u64> {
        self.map.lock().entries().filter_map(|(_, handle)| handle.copied()).collect()
    }

    /// Whether the map does not count as live what the model does.
    fn waits_in_map(&self, live: &Live) -> bool {
        let map = self.map.lock();
        let seen = map.iter(Tick(self.now)).any(|(_, &handle, _)| handle == live.handle);
        !seen
    }

    fn apply(&mut self, op: &Op) {
        let now = Tick(self.now);
        let mut leaving = Removed::new();
        match *op {
            Op::Begin(key, ttl) => self.begin(key, ttl),
            Op::End { key, failed } => {
                let end = if failed { End::Failed } else { End::Completed };
                let ended = self.ask(key, |map, probe| map.end(hash(key), probe, end, now, &mut leaving));
                assert!(leaving.is_empty());
                if let Some(position) = self.live_at(key) {
                    let live = self.live.remove(position);
                    assert_eq!(ended, Ok(Some(live.handle)));
                    self.finish(live, end);
                    return;
                }
                assert_eq!(ended, Ok(None));
                if self.waits(key) || self.gone.get(&key).is_some_and(|&end| end != End::Early) {
                    self.tally.late += 1;
                }
                let mut early = Some(Key::new(key));
                self.ask(key, |map, probe| map.early(hash(key), probe, &mut early, &mut leaving)).expect("not refused");
                assert!(leaving.is_empty());
                let unknown = !self.waits(key) && !self.gone.contains_key(&key);
                assert_eq!(early.is_none(), unknown);
                if unknown {
                    let _ = self.gone.insert(key, End::Early);
                    self.tally.early += 1;
                }
            }
            Op::EndLast => {
                let ended = self.map.lock().end_last(now, Key::dup, &mut leaving);
                assert_eq!(self.let_go(leaving), []);
                let last = self.live.pop();
                let expected = last.as_ref().map(|live| (live.key, live.handle));
                assert_eq!(ended.map(|(key, handle)| (key.number(), handle)), expected);
                if let Some(live) = last {
                    self.finish(live, End::Completed);
                }
            }
            Op::Renew(key, ttl) => {
                let renewed = self.ask(key, |map, probe| map.renew(hash(key), probe, ttl, now));
                let at = self.after(ttl);
                let live = self.live_at(key);
                assert_eq!(renewed, Ok(live.is_some()));
                if let Some(position) = live {
                    self.live[position].at = self.live[position].at.max(at);
                    self.tally.renewed += 1;
                }
            }
            Op::Claim(key) => {
                let claim = self
                    .ask(key, |map, probe| Ok(map.claim(hash(key), probe, now)?.map(|(&handle, id)| (handle, id))))
                    .expect("not refused");
                let live = self.live_at(key);
                assert_eq!(claim.map(|(handle, _)| handle), live.map(|position| self.live[position].handle));
                if let (Some((_, id)), Some(position)) = (claim, live) {
                    self.live[position].claims.push(id);
                }
            }
            Op::Release(which) => self.release(which),
            Op::Expire(budget) => {
                let before = self.map.lock().tally().expired;
                let done = self.map.lock().expire(now, budget, &mut leaving);
                let expired = self.map.lock().tally().expired - before;
                assert!(done <= budget && expired == done as u64);
                assert_eq!(self.let_go(leaving), []);
            }
            Op::PopExpired => self.pop_expired(),
            Op::Keep(which, ttl) => self.keep(which, ttl),
            Op::Walk(backwards) => {
                if self.walks.len() < 3 {
                    let id = self.map.lock().walk(backwards);
                    let owed = self.live.iter().map(|live| live.handle).collect();
                    self.walks.push(Walk { id, owed, met: HashSet::new() });
                }
            }
            Op::Step(which) => self.step(which),
            Op::EndWalk(which) => {
                if which < self.walks.len() {
                    let walk = self.walks.remove(which);
                    self.map.lock().end_walk(walk.id);
                }
            }
            Op::Clear => {
                let everything: Vec<_> = self.map.lock().clear().map(|(key, handle)| (key.number(), handle)).collect();
                let live = self.live.drain(..).map(|live| {
                    self.stale.extend(live.claims);
                    (live.key, Some(live.handle))
                });
                let live: Vec<_> = live.collect();
                let waiting = self.waiting.drain(..).map(|waiting| (waiting.key, Some(waiting.handle)));
                let mut expected: Vec<_> = live.into_iter().chain(waiting).collect();
                expected.extend(self.gone.drain().map(|(key, _)| (key, None)));
                let mut everything = everything;
                everything.sort_unstable();
                expected.sort_unstable();
                assert_eq!(everything, expected);
                for walk in &mut self.walks {
                    walk.owed.clear();
                }
            }
            Op::On(span) => self.now = self.now.saturating_add(span).min(NEVER - 1),
            Op::Far(power) => self.now = self.now.saturating_add(1 << power).min(NEVER - 1),
        }
    }

    fn finish(&mut self, live: Live, end: End) {
        self.stale.extend(live.claims);
        let _ = self.gone.insert(live.key, end);
        match end {
            End::Failed => self.tally.failed += 1,
            _ => self.tally.completed += 1,
        }
    }

    fn release(&mut self, which: usize) {
        let held: Vec<_> = self.live.iter().flat_map(|live| live.claims.iter().copied()).collect();
        let Some(&id) = held.iter().chain(&self.stale).nth(which) else { return };
        let mut leaving = Removed::new();
        self.map.lock().release(id, Tick(self.now), &mut leaving);
        if let Some(position) = self.live.iter().position(|live| live.claims.contains(&id)) {
            let live = &mut self.live[position];
            let claim = live.claims.iter().position(|&claim| claim == id).expect("claimed");
            let _ = live.claims.swap_remove(claim);
            if live.due() <= self.now {
                let live = self.live.remove(position);
                self.waiting.push(Waiting { key: live.key, handle: live.handle, at: None, known: true });
            }
        } else if let Some(position) = self.stale.iter().position(|&stale| stale == id) {
            let _ = self.stale.swap_remove(position);
        }
        assert_eq!(self.let_go(leaving), []);
    }

    fn pop_expired(&mut self) {
        self.shape.polled = true;
        let mut leaving = Removed::new();
        let popped = self.map.lock().pop_expired(Tick(self.now), 1, Effort::Whole, Key::dup, &mut leaving).pop();
        assert_eq!(self.let_go(leaving), []);
        assert_eq!(popped.is_some(), !self.waiting.is_empty());
        if let Some((key, handle)) = popped {
            let waiting = self.take_waiting(handle);
            assert_eq!(waiting.key, key.number());
            if waiting.known {
                let _ = self.gone.insert(waiting.key, End::Expired);
            }
            self.popped.push((key, handle));
        }
    }

    fn keep(&mut self, which: usize, ttl: u64) {
        if which >= self.popped.len() {
            return;
        }
        let (key, handle) = self.popped.remove(which);
        let number = key.number();
        let mut pair = Some((key, handle));
        let mut leaving = Removed::new();
        let now = Tick(self.now);
        self.ask(number, |map, probe| map.keep(hash(number), probe, &mut pair, ttl, now, &mut leaving))
            .expect("not refused");
        assert!(pair.is_none());
        self.tally.kept += 1;
        for walk in &mut self.walks {
            // It comes back as the newest, so a walk may meet it, again or not at all.
            let _ = (walk.owed.remove(&handle), walk.met.remove(&handle));
        }
        let others = self.let_go(leaving);
        let known = self.live_at(number).is_some() || self.waits(number);
        match self.gone.remove(&number) {
            Some(_) => assert_eq!(others, [(number, None, Cause::Explicit)]),
            None => assert_eq!(others, []),
        }
        if known || self.live.len() >= self.maxsize() {
            self.waiting.push(Waiting { key: number, handle, at: None, known: !known });
        } else {
            let at = self.after(Some(ttl));
            self.live.push(Live { key: number, handle, at, claims: Vec::new() });
        }
    }

    fn step(&mut self, which: usize) {
        let Some(walk) = self.walks.get_mut(which) else { return };
        let met = self.map.lock().step(walk.id, Tick(self.now)).map(|(key, &handle)| (key.number(), handle));
        match met {
            Some((key, handle)) => {
                assert!(walk.met.insert(handle), "met twice");
                assert!(self.live.iter().any(|live| (live.key, live.handle) == (key, handle)), "not live");
                let _ = walk.owed.remove(&handle);
            }
            None => {
                let missed = self.live.iter().find(|live| walk.owed.contains(&live.handle));
                assert!(missed.is_none(), "{missed:?} was live all along and not met");
            }
        }
    }

    fn compare(&mut self) {
        self.tick();
        let now = Tick(self.now);
        let map = self.map.lock();
        map.validate();
        let live: Vec<_> = self.live.iter().map(|live| (live.key, live.handle, live.at)).collect();
        let seen: Vec<_> = map.iter(now).map(|(key, &handle, at)| (key.number(), handle, at.0)).collect();
        assert_eq!(seen, live);
        assert_eq!((map.len(now), map.is_empty(now)), (live.len(), live.is_empty()));
        assert!(live.len() <= self.maxsize());
        assert_eq!(map.waiting(now), self.waiting.len());
        let handles: HashSet<_> = map.entries().filter_map(|(_, handle)| handle.copied()).collect();
        let expected =
            live.iter().map(|&(_, handle, _)| handle).chain(self.waiting.iter().map(|waiting| waiting.handle));
        assert_eq!(handles, expected.collect());
        assert_eq!(map.entries().count(), live.len() + self.waiting.len() + self.gone.len());
        let next = map.next_due(now);
        if self.waiting.is_empty() {
            let due = self.live.iter().map(Live::due).filter(|&at| at != NEVER).min();
            assert_eq!(next, due.map(Tick));
        } else {
            assert!(next.is_some_and(|next| next <= now));
        }
        let tally = map.tally();
        assert!(tally.high_water >= live.len() as u64);
        self.tally.expired = tally.expired;
        (self.tally.high_water, self.tally.max_lag) = (tally.high_water, tally.max_lag);
        assert_eq!(tally, self.tally);
        drop(map);
        for key in 0..KEYS {
            let state = match (self.live_at(key), self.waits(key), self.gone.get(&key)) {
                (Some(position), ..) if self.live[position].claims.is_empty() => State::Live,
                (Some(_), ..) => State::Claimed,
                (None, true, _) => State::Ended(End::Expired),
                (None, false, Some(&end)) => State::Ended(end),
                _ => State::Unknown,
            };
            assert_eq!(self.ask(key, |map, probe| map.state(hash(key), probe, now)), Ok(state));
            let found =
                self.ask(key, |map, probe| Ok(map.peek(hash(key), probe, now)?.map(|(&handle, at)| (handle, at.0))));
            assert_eq!(
                found,
                Ok(self.live_at(key).map(|position| (self.live[position].handle, self.live[position].at)))
            );
        }
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 4 } else { cases }, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn behaves_as_a_table(
        shape in shape(),
        start in prop_oneof![Just(0), 0..1000u64, (0..63u32).prop_map(|power| 1 << power)],
        ops in vec(op(), 1..if cfg!(miri) { 40 } else { 150 }),
    ) {
        let mut model = Model::new(shape, start);
        for op in &ops {
            model.apply(op);
            model.compare();
        }
        // Each expired entry is handed over once, in order, and then there are no more.
        model.now = NEVER - 1;
        model.compare();
        while !model.waiting.is_empty() {
            model.pop_expired();
            model.compare();
        }
        model.pop_expired();
    }
}

proptest! {
    #![proptest_config(config(60))]

    /// A clock that is turned back: nothing is lost, nothing leaves twice, and the bound holds.
    #[test]
    fn bears_a_clock_turned_back(
        shape in shape(),
        ops in vec((0..6u8, 0..KEYS, 1..50u64, -40..40i64), 1..if cfg!(miri) { 40 } else { 200 }),
    ) {
        let mut map = Expiring::new();
        map.configure(shape.ttl, shape.maxsize, shape.on_full, shape.polled);
        let map = Shared::new(map);
        let (mut now, mut inside, mut claims) = (1000u64, HashSet::new(), Vec::new());
        for (step, (op, key, ttl, turn)) in ops.into_iter().enumerate() {
            now = now.saturating_add_signed(turn);
            let handle = step as u64;
            let mut leaving = Removed::new();
            let mut left = Vec::new();
            let (tick, wanted) = (Tick(now), Wanted(key));
            match op {
                0 | 1 => {
                    let mut pair = Some((Key::new(key), handle));
                    let begun = map.ask(&wanted, |map, probe| {
                        map.begin(hash(key), probe, &mut pair, Some(ttl), tick, &mut leaving)
                    });
                    prop_assert_eq!(begun == Ok(Begun::Live), pair.is_none());
                    if pair.is_none() {
                        inside.insert(handle);
                    }
                }
                2 => left.extend(
                    map.ask(&wanted, |map, probe| map.end(hash(key), probe, End::Failed, tick, &mut leaving))
                        .expect("not refused"),
                ),
                3 => left.extend(map.lock().pop_expired(tick, 1, Effort::Whole, Key::dup, &mut leaving).into_iter().map(|(_, handle)| handle)),
                4 => left.extend(map.lock().end_last(tick, Key::dup, &mut leaving).map(|(_, handle)| handle)),
                _ => {
                    let claim = map.ask(&wanted, |map, probe| {
                        Ok(map.claim(hash(key), probe, tick)?.map(|(_, id)| id))
                    });
                    claims.extend(claim.expect("not refused"));
                    if let Some(id) = claims.get(ttl as usize % 7).copied() {
                        map.lock().release(id, tick, &mut leaving);
                    }
                }
            }
            left.extend(leaving.into_iter().filter_map(|(_, handle, _)| handle));
            for handle in left {
                prop_assert!(inside.remove(&handle), "left twice");
            }
            let map = map.lock();
            map.validate();
            prop_assert_eq!(map.entries().filter_map(|(_, handle)| handle.copied()).collect::<HashSet<_>>(), inside.clone());
            prop_assert!(map.len(tick) as u64 <= shape.maxsize.unwrap_or(u64::MAX));
        }
    }
}

/// A map with short decided keys, to be filled with many.
fn begin(map: &Shared<Expiring<Key, u64>>, number: u32, ttl: u64, now: u64) -> Result<Begun, Refused> {
    let mut pair = Some((Key::new(number * 2), u64::from(number)));
    map.ask(&Wanted(number * 2), |map, probe| {
        map.begin(number, probe, &mut pair, Some(ttl), Tick(now), &mut Removed::new())
    })
}

#[test]
fn forgets_the_oldest_of_many_keys() {
    let extra = 10;
    let many = if cfg!(miri) { 50 } else { REMEMBERED as u32 + extra };
    let map = Shared::new(Expiring::new());
    map.lock().configure(None, None, OnFull::Raise, false);
    let mut forgotten = Vec::new();
    for number in 0..many {
        assert_eq!(begin(&map, number, 1, 0), Ok(Begun::Live));
        let mut leaving = Removed::new();
        let ended =
            map.ask(&Wanted(number * 2), |map, probe| map.end(number, probe, End::Completed, Tick(0), &mut leaving));
        assert_eq!(ended, Ok(Some(u64::from(number))));
        forgotten.extend(leaving.into_iter().map(|(key, handle, _)| (key.number() / 2, handle)));
    }
    map.lock().validate();
    assert_eq!(forgotten, (0..many.saturating_sub(REMEMBERED as u32)).map(|number| (number, None)).collect::<Vec<_>>());
    assert_eq!(map.lock().entries().count(), (many as usize).min(REMEMBERED));
}

/// What a batch hands over is remembered like what goes alone: the oldest keys are forgotten, and given back.
#[test]
fn a_batch_forgets_the_oldest_keys() {
    let (bound, extra) = if cfg!(miri) { (50, 0) } else { (REMEMBERED as u32, 300) };
    let map = Shared::new(Expiring::new());
    map.lock().configure(None, None, OnFull::Raise, true);
    for number in 0..bound + extra {
        assert_eq!(begin(&map, number, 1, 0), Ok(Begun::Live));
    }
    let mut leaving = Removed::new();
    let batch = map.lock().pop_expired(Tick(1), usize::MAX, Effort::Whole, Key::dup, &mut leaving);
    map.lock().validate();
    assert!(batch.iter().map(|(_, handle)| *handle).eq(0..u64::from(bound + extra)));
    assert!(leaving.into_iter().map(|(key, handle, _)| (key.number() / 2, handle)).eq((0..extra).map(|n| (n, None))));
    assert_eq!(map.lock().entries().count(), bound as usize);
}

/// However many are due when one of them begins anew, what waits stays in the order of deadlines.
#[test]
fn a_key_that_begins_anew_keeps_the_order() {
    let map = Shared::new(Expiring::new());
    map.lock().configure(None, None, OnFull::Raise, true);
    for number in 0..100 {
        assert_eq!(begin(&map, number, u64::from(number) + 1, 0), Ok(Begun::Live));
    }
    assert_eq!(begin(&map, 70, 1000, 500), Ok(Begun::Live));
    map.lock().validate();
    assert_eq!(map.lock().len(Tick(500)), 1);
    assert_eq!(map.lock().waiting(Tick(500)), 100);
    let popped =
        std::iter::from_fn(|| map.lock().pop_expired(Tick(500), 1, Effort::Whole, Key::dup, &mut Removed::new()).pop());
    let popped: Vec<_> = popped.map(|(_, handle)| handle).collect();
    assert_eq!(popped, (0..100).collect::<Vec<_>>());
    assert_eq!(map.lock().len(Tick(500)), 1);
}

#[test]
fn a_closed_map_refuses() {
    let map = Shared::new(Expiring::new());
    map.lock().configure(None, None, OnFull::Raise, true);
    assert_eq!(begin(&map, 1, 1, 0), Ok(Begun::Live));
    assert_eq!(map.lock().close().count(), 1);
    assert_eq!(begin(&map, 1, 1, 0), Err(Refused::Closed));
    let mut early = Some(Key::new(2));
    let answer = map.ask(&Wanted(2), |map, probe| map.early(1, probe, &mut early, &mut Removed::new()));
    assert_eq!((answer, early.is_some()), (Err(Refused::Closed), true));
    assert_eq!(map.lock().entries().count(), 0);
}
