//! Due: who expires when, at O(1) for each insert, renewal and cancellation.
//!
//! A hierarchical timing wheel (Varghese and Lauck, 1987) without turns: level `l` has 64 slots of `64^l` nanoseconds,
//! and an entry stands at the level of the highest base-64 digit in which its deadline differs from `elapsed`, as in a
//! radix heap. So the earliest entry is in the lowest slot of the lowest level that is not empty, and the place of an
//! entry follows from its deadline alone. Deadlines are exact, and leave in order.
//!
//! A slot whose list happens to be in order (one ttl for all, the usual case) is a queue: it is read from its front
//! and never spread over finer slots. Only a mixed slot is, once for each level, and a little at a time if somebody
//! comes again: until it is, nothing leaves.

use crate::growth::{bytes, slot};
use crate::refused::Refused;
use crate::slab::Token;
use crate::time::Tick;

const DIGIT: u32 = 6;
const SLOTS: usize = 1 << DIGIT;
const LEVELS: usize = 11;
/// How many entries of one mixed slot are looked at to answer a question that spreading the slot would answer exactly.
const GLANCE: usize = 64;
/// How many entries a call that makes little effort moves from a mixed slot to finer ones.
const SOME: usize = 64;
/// No token: the largest number beside which a level has room.
const NIL: u32 = u32::MAX >> 4;
const LEVEL: u32 = NIL.trailing_ones();

/// How much a call does to find what is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Whatever it takes.
    Whole,
    /// A bounded amount: nothing found may mean that there is more to do, and [`Due::soonest`] stays where it is.
    Little,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    at: Tick,
    /// The token before it, and above that the level of the slot it stands in.
    prev: u32,
    next: u32,
}

const BLANK: Node = Node { at: Tick::NEVER, prev: NIL, next: NIL };

impl Node {
    fn prev(&self) -> u32 {
        self.prev & NIL
    }

    fn set_prev(&mut self, raw: u32) {
        self.prev = self.prev & !NIL | raw;
    }

    fn level(&self) -> usize {
        (self.prev >> LEVEL) as usize
    }
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    first: u32,
    last: u32,
    len: u32,
    in_order: bool,
}

const EMPTY: Slot = Slot { first: NIL, last: NIL, len: 0, in_order: true };

#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    level: usize,
    slot: usize,
}

impl Place {
    /// The slot of a level that a tick lies in.
    #[inline]
    fn at_level(level: usize, at: u64) -> Place {
        Place { level, slot: (at >> (DIGIT * level as u32)) as usize & (SLOTS - 1) }
    }

    #[inline]
    fn index(self) -> usize {
        self.level * SLOTS + self.slot
    }
}

/// The deadlines of tokens.
#[derive(Debug)]
pub struct Due {
    /// By token; grown when a token is first given a deadline.
    nodes: Vec<Node>,
    /// All levels, one after the other.
    slots: Vec<Slot>,
    /// A bit for each slot that is not empty, by level; and one for each level that has such a slot.
    occupied: [u64; LEVELS],
    levels: u16,
    /// No deadline is before this tick, though the first may be later: a question about an earlier time is answered.
    soonest: Tick,
    /// When somebody will come for what is due without being told.
    alarm: Tick,
    /// No deadline before this tick is in the wheel, except what was overdue when it came.
    elapsed: u64,
    /// The mixed slot that begins at `elapsed`, while it is being spread over the levels below.
    spreading: Option<Place>,
    len: usize,
}

impl Due {
    /// An empty wheel.
    pub fn new() -> Self {
        Due {
            nodes: Vec::new(),
            slots: Vec::new(),
            occupied: [0; LEVELS],
            levels: 0,
            soonest: Tick::NEVER,
            alarm: Tick::NEVER,
            elapsed: 0,
            spreading: None,
            len: 0,
        }
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        bytes(&self.nodes) + self.slots.capacity() * size_of::<Slot>()
    }

    /// The deadline of a token; never, if it has none.
    #[inline(always)]
    pub fn at(&self, token: Token) -> Tick {
        self.nodes.get(token.0 as usize).map_or(Tick::NEVER, |node| node.at)
    }

    /// Makes sure that [`schedule`](Self::schedule) cannot fail for this token.
    #[inline]
    pub fn reserve(&mut self, token: Token) -> Result<(), Refused> {
        if self.slots.is_empty() {
            self.slots.try_reserve_exact(LEVELS * SLOTS)?;
            self.slots.resize(LEVELS * SLOTS, EMPTY);
        }
        if token.0 >= NIL {
            return Err(Refused::NoMemory);
        }
        slot(&mut self.nodes, token.0, BLANK).map(drop)
    }

    /// Gives a token, reserved before, its deadline in place of the one it had.
    pub fn schedule(&mut self, token: Token, at: Tick) {
        self.cancel(token);
        self.start(token, at);
    }

    /// Gives a token, reserved before and without a deadline, one.
    #[inline(always)]
    pub fn start(&mut self, token: Token, at: Tick) {
        if at != Tick::NEVER {
            self.node(token.0).at = at;
            self.link(token.0, at);
            self.len += 1;
        }
    }

    /// Takes a token's deadline away, if it has one.
    #[inline(always)]
    pub fn cancel(&mut self, token: Token) {
        let at = self.at(token);
        if at != Tick::NEVER {
            self.unlink(token.0, at);
            self.node(token.0).at = Tick::NEVER;
            self.len -= 1;
        }
    }

    /// A tick before which nothing is due; the earliest deadline itself may be later.
    #[inline]
    pub fn soonest(&self) -> Tick {
        self.soonest
    }

    /// Takes out the entry with the earliest deadline, if that is not after `now`.
    #[inline(always)]
    pub fn pop(&mut self, now: Tick, effort: Effort) -> Option<(Token, Tick)> {
        if now < self.soonest {
            return None;
        }
        self.look(now, effort)
    }

    fn look(&mut self, now: Tick, effort: Effort) -> Option<(Token, Tick)> {
        let mut steps = if effort == Effort::Whole { usize::MAX } else { SOME };
        loop {
            if let Some(place) = self.spreading {
                self.spread(place, &mut steps);
                if self.spreading.is_some() {
                    return None;
                }
            }
            let Some(place) = self.earliest() else {
                self.elapsed = self.elapsed.max(now.0);
                self.soonest = Tick::NEVER;
                return None;
            };
            let start = self.first_tick(place);
            if start > now.0.max(self.elapsed) {
                // Still before the earliest slot, so every entry keeps the digit that places it.
                self.elapsed = self.elapsed.max(now.0);
                self.soonest = Tick(start);
                return None;
            }
            let slot = &self.slots[place.index()];
            if slot.in_order || place.level == 0 {
                // A slot of one tick is mixed only by what was overdue when it came.
                let token = self.earliest_in(slot);
                let at = self.at(token);
                if at > now {
                    self.soonest = at;
                    return None;
                }
                self.cancel(token);
                return Some((token, at));
            }
            self.elapsed = self.elapsed.max(start);
            self.spreading = Some(place);
        }
    }

    /// The earliest deadline, or some time before, if whoever comes for what is due does not know of it yet; then it
    /// does.
    #[inline(always)]
    pub fn alarm(&mut self) -> Option<Tick> {
        (self.soonest < self.alarm).then(|| self.rearm())
    }

    /// The earliest deadline, or some time before, for whoever comes for what is due.
    pub fn rearm(&mut self) -> Tick {
        self.alarm = self.soonest;
        self.alarm
    }

    /// Nobody will come unless told.
    pub fn disarm(&mut self) {
        self.alarm = Tick::NEVER;
    }

    /// When to look again: never after the earliest deadline, and before it only if more than a few entries stand
    /// in one mixed slot.
    pub fn next(&self) -> Option<Tick> {
        let next = |place: Place| {
            let slot = &self.slots[place.index()];
            let earliest = self.at(self.earliest_in(slot));
            match slot.in_order || slot.len as usize <= GLANCE {
                true => earliest,
                false => earliest.min(Tick(self.first_tick(place))),
            }
        };
        self.firsts().map(next).min()
    }

    /// The entry that will leave next: exact, unless more than a few entries stand in one mixed slot.
    pub fn nearest(&self) -> Option<Token> {
        self.firsts().map(|place| self.earliest_in(&self.slots[place.index()])).min_by_key(|&token| self.at(token))
    }

    /// The slots of which one has the earliest entry.
    fn firsts(&self) -> impl Iterator<Item = Place> {
        let spreading = self.spreading.filter(|place| self.slots[place.index()].len > 0);
        self.earliest().into_iter().chain(spreading)
    }

    /// How many deadlines are not after `now`. Looks at slots, and at the entries of the one slot that `now` lies in.
    pub fn count_due(&self, now: Tick) -> usize {
        if now < self.soonest {
            return 0;
        }
        let mut due = 0;
        for level in 0..LEVELS {
            let mut left = self.occupied[level];
            while left != 0 {
                let place = Place { level, slot: left.trailing_zeros() as usize };
                left &= left - 1;
                let start = self.first_tick(place);
                if start > now.0.max(self.elapsed) {
                    break;
                }
                let slot = &self.slots[place.index()];
                let width = 1u64.checked_shl(DIGIT * level as u32).unwrap_or(u64::MAX);
                let all_due = slot.in_order && self.at(Token(slot.last)) <= now;
                if all_due || start.saturating_add(width - 1) <= now.0 {
                    due += slot.len as usize;
                } else {
                    let entries = self.entries(slot).map(|raw| self.at(Token(raw)) <= now);
                    due += match slot.in_order {
                        true => entries.take_while(|&due| due).count(),
                        false => entries.filter(|&due| due).count(),
                    };
                }
            }
        }
        due
    }

    fn entries<'a>(&'a self, slot: &Slot) -> impl Iterator<Item = u32> + 'a {
        let mut raw = slot.first;
        std::iter::from_fn(move || {
            let here = raw;
            raw = self.nodes.get(here as usize)?.next;
            Some(here)
        })
    }

    fn earliest_in(&self, slot: &Slot) -> Token {
        let glance = if slot.in_order { 1 } else { GLANCE };
        let entries = self.entries(slot).take(glance);
        Token(entries.min_by_key(|&raw| self.at(Token(raw))).expect("an occupied slot has an entry"))
    }

    #[inline]
    fn node(&mut self, raw: u32) -> &mut Node {
        &mut self.nodes[raw as usize]
    }

    #[inline]
    fn place(&self, at: Tick) -> Place {
        let at = at.0.max(self.elapsed);
        let level = (63 - ((at ^ self.elapsed) | 1).leading_zeros()) / DIGIT;
        Place::at_level(level as usize, at)
    }

    /// The first tick of a slot.
    fn first_tick(&self, Place { level, slot }: Place) -> u64 {
        let shift = DIGIT * level as u32;
        let above = shift + DIGIT;
        let high = self.elapsed.checked_shr(above).unwrap_or(0).checked_shl(above).unwrap_or(0);
        high | (slot as u64) << shift
    }

    fn earliest(&self) -> Option<Place> {
        let level = (self.levels != 0).then(|| self.levels.trailing_zeros() as usize)?;
        Some(Place { level, slot: self.occupied[level].trailing_zeros() as usize })
    }

    #[inline(never)]
    fn link(&mut self, raw: u32, at: Tick) {
        let place = self.place(at);
        self.soonest = self.soonest.min(at);
        let slot = &mut self.slots[place.index()];
        let last = std::mem::replace(&mut slot.last, raw);
        slot.len += 1;
        if last == NIL {
            self.occupied[place.level] |= 1 << place.slot;
            self.levels |= 1 << place.level;
            (slot.first, slot.in_order) = (raw, true);
        } else {
            let before = &mut self.nodes[last as usize];
            before.next = raw;
            if before.at > at {
                slot.in_order = false;
            }
        }
        let level = (place.level as u32) << LEVEL;
        let node = self.node(raw);
        (node.prev, node.next) = (level | last, NIL);
    }

    #[inline(never)]
    fn unlink(&mut self, raw: u32, at: Tick) {
        let node = self.nodes[raw as usize];
        let place = Place::at_level(node.level(), at.0.max(self.elapsed));
        let (prev, next) = (node.prev(), node.next);
        if prev != NIL {
            self.node(prev).next = next;
        }
        if next != NIL {
            self.node(next).set_prev(prev);
        }
        let slot = &mut self.slots[place.index()];
        slot.len -= 1;
        if prev == NIL {
            slot.first = next;
        }
        if next == NIL {
            slot.last = prev;
        }
        if slot.len == 0 {
            self.vacate(place);
        }
    }

    #[inline]
    fn vacate(&mut self, place: Place) {
        let occupied = &mut self.occupied[place.level];
        *occupied &= !(1 << place.slot);
        if *occupied == 0 {
            self.levels &= !(1 << place.level);
        }
    }

    /// Spreads a mixed slot, which begins at `elapsed`, over the levels below, in so many steps at most.
    #[cold]
    fn spread(&mut self, place: Place, steps: &mut usize) {
        while self.slots[place.index()].len > 0 {
            let Some(left) = steps.checked_sub(1) else { return };
            *steps = left;
            let raw = self.slots[place.index()].first;
            let at = self.nodes[raw as usize].at;
            self.unlink(raw, at);
            self.link(raw, at);
        }
        self.spreading = None;
    }

    /// Panics unless every entry stands where its deadline says.
    #[cfg(any(test, feature = "validate"))]
    pub fn validate(&self) {
        let mut seen = 0;
        for level in 0..LEVELS {
            assert_eq!(self.levels >> level & 1 == 1, self.occupied[level] != 0);
            for (slot, list) in self.slots.iter().skip(level * SLOTS).take(SLOTS).enumerate() {
                assert_eq!(self.occupied[level] >> slot & 1 == 1, list.len > 0);
                let entries: Vec<_> = self.entries(list).collect();
                assert_eq!(entries.len(), list.len as usize);
                assert_eq!(entries.last().copied().unwrap_or(NIL), list.last);
                let ats: Vec<_> = entries.iter().map(|&raw| self.at(Token(raw))).collect();
                assert!(!list.in_order || ats.is_sorted());
                let here = Place { level, slot };
                assert!(entries.iter().all(|&raw| self.nodes[raw as usize].level() == level));
                assert!(self.spreading == Some(here) || ats.iter().all(|&at| self.place(at) == here));
                assert!(ats.iter().all(|&at| at >= self.soonest));
                seen += entries.len();
            }
        }
        assert_eq!(seen, self.len);
    }
}

impl Default for Due {
    fn default() -> Self {
        Self::new()
    }
}
