//! Due: who expires when, at O(1) for each insert, renewal and cancellation.
//!
//! A hierarchical timing wheel (Varghese and Lauck, 1987) without turns: level `l` has 64 slots of `64^l` nanoseconds,
//! and an entry stands at the level of the highest base-64 digit in which its deadline differs from `elapsed`, as in a
//! radix heap. So the earliest entry is in the lowest slot of the lowest level that is not empty, and the place of an
//! entry follows from its deadline alone. Deadlines are exact, and leave in order.
//!
//! A slot whose list happens to be in order (one ttl for all, the usual case) is a queue: it is read from its front
//! and never spread over finer slots. Only a mixed slot is, once for each level.

use crate::growth::slot;
use crate::refused::Refused;
use crate::slab::{Token, NIL};
use crate::time::Tick;

const DIGIT: u32 = 6;
const SLOTS: usize = 1 << DIGIT;
const LEVELS: usize = 11;
/// How many entries of one mixed slot are looked at to answer a question that spreading the slot would answer exactly.
const GLANCE: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Node {
    at: Tick,
    prev: u32,
    next: u32,
}

const BLANK: Node = Node { at: Tick::NEVER, prev: NIL, next: NIL };

#[derive(Debug, Clone, Copy)]
struct Slot {
    first: u32,
    last: u32,
    len: u32,
    in_order: bool,
}

const EMPTY: Slot = Slot { first: NIL, last: NIL, len: 0, in_order: true };

#[derive(Debug)]
struct Level {
    occupied: u64,
    slots: [Slot; SLOTS],
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Place {
    level: usize,
    slot: usize,
}

/// The deadlines of tokens.
#[derive(Debug)]
pub struct Due {
    /// By token; grown when a token is first given a deadline.
    nodes: Vec<Node>,
    levels: Vec<Level>,
    /// No deadline before this tick is in the wheel, except what was overdue when it came.
    elapsed: u64,
    len: usize,
}

impl Due {
    /// An empty wheel.
    pub fn new() -> Self {
        Due { nodes: Vec::new(), levels: Vec::new(), elapsed: 0, len: 0 }
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.levels.capacity() * size_of::<Level>()
    }

    /// The deadline of a token; never, if it has none.
    #[inline]
    pub fn at(&self, token: Token) -> Tick {
        self.nodes.get(token.0 as usize).map_or(Tick::NEVER, |node| node.at)
    }

    /// Makes sure that [`schedule`](Self::schedule) cannot fail for this token.
    #[inline]
    pub fn reserve(&mut self, token: Token) -> Result<(), Refused> {
        if self.levels.is_empty() {
            self.levels.try_reserve_exact(LEVELS)?;
            self.levels.resize_with(LEVELS, || Level { occupied: 0, slots: [EMPTY; SLOTS] });
        }
        slot(&mut self.nodes, token.0, BLANK).map(drop)
    }

    /// Gives a token, reserved before, its deadline in place of the one it had.
    #[inline]
    pub fn schedule(&mut self, token: Token, at: Tick) {
        self.cancel(token);
        if at != Tick::NEVER {
            self.node(token.0).at = at;
            self.link(token.0, at);
            self.len += 1;
        }
    }

    /// Takes a token's deadline away.
    #[inline]
    pub fn cancel(&mut self, token: Token) {
        let at = self.at(token);
        if at != Tick::NEVER {
            self.unlink(token.0, at);
            self.node(token.0).at = Tick::NEVER;
            self.len -= 1;
        }
    }

    /// Takes out the entry with the earliest deadline, if that is not after `now`.
    pub fn pop(&mut self, now: Tick) -> Option<(Token, Tick)> {
        if self.len == 0 {
            self.elapsed = self.elapsed.max(now.0);
            return None;
        }
        loop {
            let place = self.earliest()?;
            let start = self.start(place);
            if start > now.0.max(self.elapsed) {
                // Still before the earliest slot, so every entry keeps the digit that places it.
                self.elapsed = self.elapsed.max(now.0);
                return None;
            }
            let slot = &self.levels[place.level].slots[place.slot];
            if slot.in_order || place.level == 0 {
                // A slot of one tick is mixed only by what was overdue when it came.
                let token = self.earliest_in(slot);
                let at = self.at(token);
                if at > now {
                    return None;
                }
                self.cancel(token);
                return Some((token, at));
            }
            self.elapsed = self.elapsed.max(start);
            self.spread(place);
        }
    }

    /// When to look again: never after the earliest deadline, and before it only if more than a few entries stand
    /// in one mixed slot.
    pub fn next(&self) -> Option<Tick> {
        let place = self.earliest()?;
        let slot = &self.levels[place.level].slots[place.slot];
        if slot.in_order {
            return Some(self.at(Token(slot.first)));
        }
        let earliest = self.at(self.earliest_in(slot));
        Some(if slot.len as usize <= GLANCE { earliest } else { earliest.min(Tick(self.start(place))) })
    }

    /// The entry that will leave next: exact, unless more than a few entries stand in one mixed slot.
    pub fn nearest(&self) -> Option<Token> {
        let place = self.earliest()?;
        Some(self.earliest_in(&self.levels[place.level].slots[place.slot]))
    }

    /// How many deadlines are not after `now`. Looks at slots, and at the entries of the one slot that `now` lies in.
    pub fn count_due(&self, now: Tick) -> usize {
        let mut due = 0;
        for (level, Level { occupied, slots }) in self.levels.iter().enumerate() {
            let mut left = *occupied;
            while left != 0 {
                let slot = left.trailing_zeros() as usize;
                left &= left - 1;
                let start = self.start(Place { level, slot });
                if start > now.0.max(self.elapsed) {
                    return due;
                }
                let slot = &slots[slot];
                let width = 1u64.checked_shl(DIGIT * level as u32).unwrap_or(u64::MAX);
                if start.saturating_add(width - 1) <= now.0 {
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
            let here = Token::some(raw)?.0;
            raw = self.nodes[here as usize].next;
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
        Place { level: level as usize, slot: (at >> (DIGIT * level)) as usize & (SLOTS - 1) }
    }

    /// The first tick of a slot.
    fn start(&self, Place { level, slot }: Place) -> u64 {
        let shift = DIGIT * level as u32;
        let above = shift + DIGIT;
        let high = self.elapsed.checked_shr(above).unwrap_or(0).checked_shl(above).unwrap_or(0);
        high | (slot as u64) << shift
    }

    fn earliest(&self) -> Option<Place> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        Some(Place { level, slot: self.levels[level].occupied.trailing_zeros() as usize })
    }

    #[inline]
    fn link(&mut self, raw: u32, at: Tick) {
        let place = self.place(at);
        let level = &mut self.levels[place.level];
        let slot = &mut level.slots[place.slot];
        let last = std::mem::replace(&mut slot.last, raw);
        slot.len += 1;
        if last == NIL {
            level.occupied |= 1 << place.slot;
            (slot.first, slot.in_order) = (raw, true);
        } else {
            let before = &mut self.nodes[last as usize];
            before.next = raw;
            if before.at > at {
                slot.in_order = false;
            }
        }
        let node = self.node(raw);
        (node.prev, node.next) = (last, NIL);
    }

    #[inline]
    fn unlink(&mut self, raw: u32, at: Tick) {
        let place = self.place(at);
        let Node { prev, next, .. } = self.nodes[raw as usize];
        if prev != NIL {
            self.node(prev).next = next;
        }
        if next != NIL {
            self.node(next).prev = prev;
        }
        let level = &mut self.levels[place.level];
        let slot = &mut level.slots[place.slot];
        slot.len -= 1;
        if prev == NIL {
            slot.first = next;
        }
        if next == NIL {
            slot.last = prev;
        }
        if slot.len == 0 {
            level.occupied &= !(1 << place.slot);
        }
    }

    /// Spreads a mixed slot, whose first tick is `elapsed`, over the levels below.
    #[cold]
    fn spread(&mut self, place: Place) {
        let level = &mut self.levels[place.level];
        level.occupied &= !(1 << place.slot);
        let mut raw = std::mem::replace(&mut level.slots[place.slot], EMPTY).first;
        while raw != NIL {
            let Node { at, next, .. } = self.nodes[raw as usize];
            self.link(raw, at);
            raw = next;
        }
    }

    /// Panics unless every entry stands where its deadline says.
    #[cfg(any(test, feature = "validate"))]
    pub fn validate(&self) {
        let mut seen = 0;
        for (level, Level { occupied, slots }) in self.levels.iter().enumerate() {
            for (slot, list) in slots.iter().enumerate() {
                assert_eq!(occupied >> slot & 1 == 1, list.len > 0);
                let entries: Vec<_> = self.entries(list).collect();
                assert_eq!(entries.len(), list.len as usize);
                assert_eq!(entries.last().copied().unwrap_or(NIL), list.last);
                let ats: Vec<_> = entries.iter().map(|&raw| self.at(Token(raw))).collect();
                assert!(!list.in_order || ats.is_sorted());
                assert!(ats.iter().all(|&at| self.place(at) == Place { level, slot }));
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
