//! Ring against a naive list: same items, same order, same items falling off; and iterations that go on meanwhile.

use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::VecDeque;
use ullage_core::ring::{Cursor, Fallen};
use ullage_core::{Refused, Ring, Tick};

const NEVER: u64 = u64::MAX;

/// A place in the ring, in thousandths of its length; may be just past the end.
type Share = usize;

#[derive(Debug, Clone)]
enum Op {
    Push(u64),
    PushFront(u64),
    Insert(Share, u64),
    Replace(Share, u64),
    Remove(Share),
    /// Takes out the items at positions whose bit is set.
    RemoveWhere(u64),
    Splice(Share, Share, Vec<u64>),
    Reverse,
    Rotate(Share),
    SetMaxlen(Option<usize>),
    SetMaxWeight(u64),
    Expire(usize),
    Evict(usize),
    Clear,
    Cursor(bool),
    Step(usize),
    EndCursor(usize),
    On(u64),
    Back(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let share = || 0..1100usize;
    let weight = || prop_oneof![20 => 0..7u64, 1 => Just(u64::MAX / 2), 1 => Just(u64::MAX)];
    prop_oneof![
        16 => weight().prop_map(Op::Push),
        2 => weight().prop_map(Op::PushFront),
        2 => (share(), weight()).prop_map(|(at, weight)| Op::Insert(at, weight)),
        3 => (share(), weight()).prop_map(|(at, weight)| Op::Replace(at, weight)),
        3 => share().prop_map(Op::Remove),
        1 => any::<u64>().prop_map(Op::RemoveWhere),
        2 => (share(), share(), vec(weight(), 0..6)).prop_map(|(from, to, new)| Op::Splice(from, to, new)),
        1 => Just(Op::Reverse),
        1 => share().prop_map(Op::Rotate),
        1 => maxlen().prop_map(Op::SetMaxlen),
        1 => (1..30u64).prop_map(Op::SetMaxWeight),
        2 => (0..4usize).prop_map(Op::Expire),
        1 => (0..4usize).prop_map(Op::Evict),
        1 => Just(Op::Clear),
        3 => any::<bool>().prop_map(Op::Cursor),
        16 => (0..4usize).prop_map(Op::Step),
        1 => (0..4usize).prop_map(Op::EndCursor),
        4 => (0..20u64).prop_map(Op::On),
        1 => (0..20u64).prop_map(Op::Back),
    ]
}

fn maxlen() -> impl Strategy<Value = Option<usize>> {
    prop_oneof![1 => Just(None), 4 => (1..12usize).prop_map(Some)]
}

#[derive(Debug, Clone)]
struct Shape {
    maxlen: Option<usize>,
    max_weight: Option<u64>,
    keep_first: usize,
    ttl: Option<u64>,
}

fn shape() -> impl Strategy<Value = Shape> {
    let max_weight = prop_oneof![2 => Just(None), 4 => (1..40u64).prop_map(Some), 1 => Just(Some(u64::MAX))];
    let keep_first = prop_oneof![2 => Just(0), 1 => 1..5usize];
    let ttl = prop_oneof![1 => Just(None), 1 => (1..60u64).prop_map(Some)];
    (maxlen(), max_weight, keep_first, ttl).prop_map(|(maxlen, max_weight, keep_first, ttl)| Shape {
        maxlen,
        max_weight,
        keep_first,
        ttl,
    })
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Item {
    name: u64,
    weight: u64,
    end: u64,
}

/// An iteration: the names it has still to meet, as long as nothing but appends happens.
struct Iteration {
    cursor: Cursor,
    rest: VecDeque<u64>,
    epoch: u64,
    steps_left: usize,
}

struct Model {
    ring: Ring<u64>,
    shape: Shape,
    now: u64,
    items: Vec<Item>,
    offset: i64,
    dropped: u64,
    iterations: Vec<Iteration>,
    names: u64,
}

impl Model {
    fn new(shape: Shape, now: u64) -> Self {
        let mut ring = Ring::new();
        ring.configure(shape.maxlen, shape.max_weight, shape.keep_first, shape.ttl);
        Model { ring, shape, now, items: Vec::new(), offset: 0, dropped: 0, iterations: Vec::new(), names: 0 }
    }

    fn maxlen(&self) -> usize {
        self.shape.maxlen.unwrap_or(usize::MAX)
    }

    fn max_weight(&self) -> u64 {
        self.shape.max_weight.unwrap_or(u64::MAX)
    }

    fn weight_of(&self, items: &[Item]) -> u64 {
        items.iter().map(|item| item.weight).sum()
    }

    fn weight(&self) -> u64 {
        self.weight_of(&self.items)
    }

    fn pinned(&self) -> usize {
        self.shape.keep_first.min(self.items.len())
    }

    fn position(&self, share: Share) -> usize {
        self.items.len() * share / 1000
    }

    fn fresh(&mut self, weight: u64) -> (u64, u64) {
        self.names += 1;
        (self.names, if self.shape.max_weight.is_some() { weight } else { 0 })
    }

    fn end(&self) -> u64 {
        self.shape.ttl.map_or(NEVER, |ttl| self.now.saturating_add(ttl))
    }

    /// The oldest that is not pinned falls off.
    fn fall(&mut self) -> u64 {
        let pinned = self.pinned();
        self.offset += 1;
        self.dropped += 1;
        self.items.remove(pinned).name
    }

    fn fits(&self, weight: u64) -> bool {
        self.items.len() < self.maxlen()
            && self.max_weight().checked_sub(weight).is_some_and(|room| self.weight() <= room)
    }

    fn push(&mut self, weight: u64) {
        let (name, weight) = self.fresh(weight);
        let mut fallen = Fallen::new();
        let answer = self.ring.push(name, weight, Tick(self.now), &mut fallen);
        let bound = self.max_weight().saturating_sub(self.weight_of(&self.items[..self.pinned()]));
        if weight > bound {
            assert_eq!(answer, Err((name, Refused::too_heavy(weight, bound))));
            assert!(fallen.is_empty());
            return;
        }
        if self.pinned() >= self.maxlen() {
            assert_eq!(answer, Err((name, Refused::full(self.maxlen() as u64, 0))));
            assert!(fallen.is_empty());
            return;
        }
        assert_eq!(answer, Ok(()));
        let mut fell = Vec::new();
        while !self.fits(weight) {
            fell.push(self.fall());
        }
        assert_eq!(fallen.into_iter().collect::<Vec<_>>(), fell);
        let end = self.items.last().map_or(0, |last| last.end).max(self.end());
        self.items.push(Item { name, weight, end });
    }

    fn push_front(&mut self, weight: u64) {
        let (name, weight) = self.fresh(weight);
        let mut fallen = Fallen::new();
        let answer = self.ring.push_front(name, weight, Tick(self.now), &mut fallen);
        // It becomes the first of the pinned ones; the last of them is pinned no more.
        let pinned = self.items.len().min(self.shape.keep_first.saturating_sub(1));
        let bound = self.max_weight().saturating_sub(self.weight_of(&self.items[..pinned]));
        if weight > bound {
            assert_eq!(answer, Err((name, Refused::too_heavy(weight, bound))));
            assert!(fallen.is_empty());
            return;
        }
        assert_eq!(answer, Ok(()));
        let mut fell = Vec::new();
        while !self.fits(weight) {
            fell.push(self.items.pop().expect("not empty").name);
            self.dropped += 1;
        }
        assert_eq!(fallen.into_iter().collect::<Vec<_>>(), fell);
        self.place(0, name, weight);
        self.offset -= i64::from(self.shape.keep_first == 0);
    }

    fn place(&mut self, position: usize, name: u64, weight: u64) {
        let before = position.checked_sub(1).map_or(0, |before| self.items[before].end);
        let behind = self.items.get(position).map_or(NEVER, |behind| behind.end);
        self.items.insert(position, Item { name, weight, end: self.end().max(before).min(behind) });
    }

    fn insert(&mut self, share: Share, weight: u64) {
        let position = self.position(share);
        let (name, weight) = self.fresh(weight);
        let answer = self.ring.insert(position, name, weight, Tick(self.now));
        if self.fits(weight) {
            assert_eq!(answer, Ok(()));
            self.place(position.min(self.items.len()), name, weight);
        } else {
            let (given_back, refused) = answer.expect_err("there is no room");
            assert_eq!(given_back, name);
            assert!(matches!(refused, Refused::Full(_) | Refused::TooHeavy(_)));
        }
    }

    fn replace(&mut self, share: Share, weight: u64) {
        let mut position = self.position(share);
        if position >= self.items.len() {
            return;
        }
        let (name, weight) = self.fresh(weight);
        let mut fallen = Fallen::new();
        let answer = self.ring.replace(position, name, weight, &mut fallen);
        let pinned = self.weight_of(&self.items[..self.pinned()])
            - if position < self.pinned() { self.items[position].weight } else { 0 };
        let bound = self.max_weight() - pinned;
        if weight > bound {
            assert_eq!(answer, Err((name, Refused::too_heavy(weight, bound))));
            assert!(fallen.is_empty());
            return;
        }
        assert_eq!(answer, Ok(self.items[position].name));
        (self.items[position].name, self.items[position].weight) = (name, 0);
        let mut fell = Vec::new();
        while self.weight() > self.max_weight() - weight {
            if self.pinned() == position {
                fell.push(self.items.remove(position + 1).name);
                self.dropped += 1;
            } else {
                position -= usize::from(self.pinned() < position);
                fell.push(self.fall());
            }
        }
        assert_eq!(fallen.into_iter().collect::<Vec<_>>(), fell);
        self.items[position].weight = weight;
    }

    fn splice(&mut self, from: Share, to: Share, new: &[u64]) {
        let ends = (self.position(from), self.position(to));
        let range = ends.0.min(ends.1).min(self.items.len())..ends.0.max(ends.1).min(self.items.len());
        let new: Vec<_> = new.iter().map(|&weight| self.fresh(weight)).collect();
        let mut fallen = Fallen::new();
        let answer = self.ring.splice(range.clone(), new.clone(), Tick(self.now), &mut fallen);
        let heaviest = new.iter().map(|&(_, weight)| weight).max().unwrap_or(0);
        let bound = self.max_weight() - self.weight_of(&self.items[..self.pinned()]);
        let countable = new.iter().try_fold(self.weight(), |sum, &(_, weight)| sum.checked_add(weight)).is_some();
        if heaviest > bound || !countable {
            let (given_back, refused) = answer.expect_err("one is too heavy, or the sum is no number");
            assert!(given_back == new && matches!(refused, Refused::TooHeavy(_)) && fallen.is_empty());
            return;
        }
        let end = self.end();
        let new = new.into_iter().map(|(name, weight)| Item { name, weight, end });
        let old: Vec<_> = self.items.splice(range, new).map(|item| item.name).collect();
        assert_eq!(answer, Ok(old));
        for position in (1..self.items.len()).rev() {
            self.items[position - 1].end = self.items[position - 1].end.min(self.items[position].end);
        }
        let fell = self.shrink();
        assert_eq!(fallen.into_iter().collect::<Vec<_>>(), fell);
    }

    fn shrink(&mut self) -> Vec<u64> {
        let mut fell = Vec::new();
        while self.items.len() > self.maxlen() || self.weight() > self.max_weight() {
            if self.pinned() == self.items.len() {
                fell.push(self.items.pop().expect("not empty").name);
                self.dropped += 1;
            } else {
                fell.push(self.fall());
            }
        }
        fell
    }

    fn permute(&mut self, order: &[usize]) {
        self.ring.permute(order);
        let ends: Vec<_> = self.items.iter().map(|item| item.end).collect();
        self.items = order.iter().zip(ends).map(|(&from, end)| Item { end, ..self.items[from] }).collect();
    }

    fn apply(&mut self, op: &Op) {
        let mut fallen = Fallen::new();
        match *op {
            Op::Push(weight) => self.push(weight),
            Op::PushFront(weight) => self.push_front(weight),
            Op::Insert(share, weight) => self.insert(share, weight),
            Op::Replace(share, weight) => self.replace(share, weight),
            Op::Remove(share) => {
                let position = self.position(share);
                let gone = self.ring.remove(position);
                let expected = (position < self.items.len()).then(|| self.items.remove(position).name);
                assert_eq!(gone, expected);
                self.offset += i64::from(gone.is_some() && position == 0 && self.shape.keep_first == 0);
            }
            Op::RemoveWhere(bits) => {
                let leaves = |position: usize| bits >> (position % 64) & 1 == 1;
                let gone = self.ring.remove_where(leaves);
                let front = (0..self.items.len()).take_while(|&position| leaves(position)).count();
                let mut expected = Vec::new();
                let mut position = 0;
                self.items.retain(|item| {
                    let leaves = leaves(position);
                    position += 1;
                    if leaves {
                        expected.push(item.name);
                    }
                    !leaves
                });
                assert_eq!(gone, expected);
                self.offset += if self.shape.keep_first == 0 { front as i64 } else { 0 };
            }
            Op::Splice(from, to, ref new) => self.splice(from, to, new),
            Op::Reverse => self.permute(&(0..self.items.len()).rev().collect::<Vec<_>>()),
            Op::Rotate(share) => {
                let (len, by) = (self.items.len(), self.position(share));
                self.permute(&(0..len).map(|position| (position + by) % len).collect::<Vec<_>>());
            }
            Op::SetMaxlen(maxlen) => {
                self.ring.set_maxlen(maxlen, &mut fallen);
                self.shape.maxlen = maxlen;
                let fell = self.shrink();
                assert_eq!(fallen.into_iter().collect::<Vec<_>>(), fell);
            }
            Op::SetMaxWeight(max_weight) => {
                if self.shape.max_weight.is_some() {
                    self.ring.set_max_weight(max_weight, &mut fallen);
                    self.shape.max_weight = Some(max_weight);
                    let fell = self.shrink();
                    assert_eq!(fallen.into_iter().collect::<Vec<_>>(), fell);
                }
            }
            Op::Evict(n) => {
                self.ring.evict(n, &mut fallen);
                let n = n.min(self.items.len() - self.pinned());
                let fell: Vec<_> = (0..n).map(|_| self.fall()).collect();
                assert_eq!(fallen.into_iter().collect::<Vec<_>>(), fell);
            }
            Op::Expire(budget) => {
                let done = self.ring.expire(Tick(self.now), budget, &mut fallen);
                let mut fell = Vec::new();
                while fell.len() < budget
                    && self
                        .items
                        .get(self.shape.keep_first)
                        .is_some_and(|item| item.end != NEVER && item.end <= self.now)
                {
                    fell.push(self.fall());
                }
                assert_eq!(done, fell.len());
                assert_eq!(fallen.into_iter().collect::<Vec<_>>(), fell);
            }
            Op::Clear => {
                let all = self.ring.clear();
                self.offset += (self.items.len() - self.pinned()) as i64;
                assert_eq!(Vec::from(all), self.items.drain(..).map(|item| item.name).collect::<Vec<_>>());
            }
            Op::Cursor(backwards) => self.iterate(backwards),
            Op::Step(which) => self.step(which),
            Op::EndCursor(which) => {
                if which < self.iterations.len() {
                    let _ = self.iterations.remove(which);
                }
            }
            Op::On(span) => self.now = self.now.saturating_add(span).min(NEVER - 1),
            Op::Back(span) => self.now = self.now.saturating_sub(span),
        }
    }

    fn iterate(&mut self, backwards: bool) {
        if self.iterations.len() == 4 {
            return;
        }
        let mut rest: VecDeque<u64> = self.items.iter().map(|item| item.name).collect();
        if backwards {
            rest.make_contiguous().reverse();
        }
        let (epoch, steps_left) = (self.ring.epoch(), rest.len());
        self.iterations.push(Iteration { cursor: self.ring.cursor(backwards), rest, epoch, steps_left });
    }

    fn step(&mut self, which: usize) {
        let Some(iteration) = self.iterations.get_mut(which) else { return };
        let met = self.ring.step(&mut iteration.cursor).copied();
        if iteration.epoch == self.ring.epoch() {
            // Nothing is met twice, nothing that is still there is left out, nothing new is met.
            let held = |name: &u64| self.items.iter().any(|item| item.name == *name);
            let mut expected = iteration.rest.pop_front();
            while expected.is_some_and(|name| !held(&name)) {
                expected = iteration.rest.pop_front();
            }
            assert_eq!(met, expected);
        }
        if met.is_some() {
            iteration.steps_left = iteration.steps_left.checked_sub(1).expect("no more steps than there were items");
        }
    }

    fn compare(&self) {
        self.ring.validate();
        let names: Vec<_> = self.items.iter().map(|item| item.name).collect();
        assert_eq!(self.ring.range(0..self.ring.len()).copied().collect::<Vec<_>>(), names);
        assert_eq!((self.ring.len(), self.ring.is_empty()), (names.len(), names.is_empty()));
        assert!((0..=names.len()).all(|position| self.ring.get(position) == names.get(position)));
        assert_eq!((self.ring.maxlen(), self.ring.max_weight()), (self.shape.maxlen, self.shape.max_weight));
        assert_eq!(self.ring.weight(), self.weight());
        assert_eq!((self.ring.offset(), self.ring.dropped()), (self.offset, self.dropped));
        let due = self.items.get(self.shape.keep_first).filter(|_| self.shape.ttl.is_some());
        assert_eq!(self.ring.next_due(), due.map(|item| Tick(item.end)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 350 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_as_a_list(
        shape in shape(),
        start in prop_oneof![Just(0), 0..1000u64, Just(NEVER - 100)],
        ops in vec(op(), 1..if cfg!(miri) { 40 } else { 150 }),
    ) {
        let mut model = Model::new(shape, start);
        for op in &ops {
            model.apply(op);
            model.compare();
        }
        let all = model.ring.close();
        prop_assert_eq!(Vec::from(all), model.items.iter().map(|item| item.name).collect::<Vec<_>>());
        prop_assert_eq!(model.ring.push(0, 0, Tick(0), &mut Fallen::new()), Err((0, Refused::Closed)));
    }
}

#[test]
fn an_iteration_outlives_all_that_it_began_with() {
    for keep_first in [0, 2] {
        for backwards in [false, true] {
            let mut ring = Ring::new();
            ring.configure(Some(5), None, keep_first, None);
            let push = |ring: &mut Ring<u32>, item| ring.push(item, 0, Tick(0), &mut Fallen::new()).expect("open");
            (0..5).for_each(|item| push(&mut ring, item));
            let mut cursor = ring.cursor(backwards);
            assert_eq!(ring.step(&mut cursor), Some(&if backwards { 4 } else { 0 }));
            (5..50).for_each(|item| push(&mut ring, item));
            // Only what is pinned is still there.
            let rest: Vec<_> = std::iter::from_fn(|| ring.step(&mut cursor).copied()).collect();
            assert_eq!(
                rest,
                if keep_first == 0 {
                    vec![]
                } else if backwards {
                    vec![1, 0]
                } else {
                    vec![1]
                }
            );
        }
    }
}
