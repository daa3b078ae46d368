//! Expiring: things in flight, each with a deadline.
//!
//! An entry goes one way: live -> waiting (expired, its handle not yet handed over) -> gone (only the key is kept, to
//! tell a late completion from an unknown one) -> forgotten. It stays in its place in the slab and the index all along
//! and moves from one order to the next, so each step is O(1) and copies nothing.

use crate::due::Effort;
use crate::eq::{Equality, Probe};
use crate::refused::Refused;
use crate::removed::{Cause, Removed};
use crate::slab::{Order, Token, WalkId};
use crate::table::Table;
use crate::time::Tick;
use std::collections::HashMap;

/// Keys that are remembered after their entry has gone.
pub const REMEMBERED: usize = 4096;
/// Expired entries that wait for a `pop_expired` that was never called yet; older ones are let go.
pub const UNSEEN: usize = 65_536;
/// Expired entries that one write moves on its way.
const EXPIRE_BUDGET: usize = 8;

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was completed.
    Completed,
    /// It failed.
    Failed,
    /// Its time was over.
    Expired,
    /// It was completed before it began.
    Early,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In flight.
    Live,
    /// In flight, and held open by a claim.
    Claimed,
    /// Gone, for this reason.
    Ended(End),
    /// Never seen, or forgotten.
    Unknown,
}

#[derive(Debug)]
enum Slot<V> {
    Live {
        handle: V,
        begun: Begin,
    },
    /// `hidden`: the key has begun anew, so a look-up must not find this entry. It stands among the live ones until its
    /// deadline, which is over, is taken out of the wheel.
    Waiting {
        handle: V,
        hidden: bool,
    },
    Gone(End),
}

#[derive(Debug)]
struct Claim {
    id: u64,
    holders: usize,
    at: Tick,
}

/// The name of a claim; it stays harmless after its entry is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimId(Token, u64);

/// What to do when a transfer begins and the map is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// Refuse.
    Raise,
    /// Let the one with the nearest deadline expire at once.
    Evict,
}

/// What happened to a transfer that was to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is live.
    Live,
    /// Its completion had come before it; the handle was not taken.
    Completed,
}

/// Counts since the map was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Tally {
    pub begun: u64,
    pub completed: u64,
    pub failed: u64,
    pub expired: u64,
    pub renewed: u64,
    pub replaced: u64,
    pub evicted: u64,
    /// Completions of what had ended already.
    pub late: u64,
    /// Completions that came before their beginning.
    pub early: u64,
    /// Expired entries that left before anyone asked for them.
    pub unseen: u64,
    /// Expired entries that a callback kept.
    pub kept: u64,
    pub high_water: u64,
    /// The longest that an expired entry waited to be moved out, in nanoseconds.
    pub max_lag: u64,
}

/// A map whose entries leave in time.
#[derive(Debug)]
pub struct Expiring<K, V> {
    table: Table<K, Slot<V>>,
    live: Order,
    waiting: Order,
    gone: Order,
    claims: HashMap<u32, Claim>,
    next_claim: u64,
    ttl: u64,
    maxsize: u64,
    on_full: OnFull,
    /// Whether anyone has ever asked for what expired: from then on nothing leaves unseen.
    polled: bool,
    tally: Tally,
    /// What a call does to find what is due: little, if somebody else comes for it.
    effort: Effort,
    closed: bool,
}

/// Entries on their way out; those that were only remembered have no handle.
pub type Leaving<K, V> = Removed<K, Option<V>>;

/// When a transfer began, in milliseconds: 48 bits, aligned so that they fit beside the tag of an enum of pointers.
#[derive(Debug, Clone, Copy)]
struct Begin([u16; 3]);

impl Begin {
    fn at(now: Tick) -> Begin {
        let millis = now.0 / 1_000_000;
        Begin([millis as u16, (millis >> 16) as u16, (millis >> 32) as u16])
    }

    /// Nanoseconds since, to the millisecond.
    fn age(self, now: Tick) -> u64 {
        let begun = self.0.iter().rev().fold(0, |begun, &digit| begun << 16 | u64::from(digit));
        (now.0 / 1_000_000).saturating_sub(begun) * 1_000_000
    }
}

impl<K, V> Expiring<K, V> {
    /// A map that is closed until it is [configured](Self::configure).
    pub fn new() -> Self {
        Expiring {
            table: Table::new(),
            live: Order::new(),
            waiting: Order::new(),
            gone: Order::new(),
            claims: HashMap::new(),
            next_claim: 0,
            ttl: u64::MAX,
            maxsize: 0,
            on_full: OnFull::Raise,
            polled: false,
            tally: Tally::default(),
            effort: Effort::Whole,
            closed: true,
        }
    }

    /// Opens the map: lifetime in nanoseconds, bound on live entries (None for none), and whether what expires is
    /// surely asked for, by a callback for instance.
    pub fn configure(&mut self, ttl: Option<u64>, maxsize: Option<u64>, on_full: OnFull, polled: bool) {
        self.ttl = ttl.unwrap_or(u64::MAX);
        self.maxsize = maxsize.unwrap_or(u64::MAX);
        (self.on_full, self.polled, self.effort, self.closed) = (on_full, polled, Effort::Whole, false);
    }

    // Questions.

    /// An error once [`close`](Self::close) was called.
    #[inline]
    pub fn open(&self) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        Ok(())
    }

    /// Number of live entries. O(1), and O(due) while expired entries have not been moved out yet.
    pub fn len(&self, now: Tick) -> usize {
        self.live.len() - self.table.count_due(now)
    }

    /// Whether no entry is live.
    pub fn is_empty(&self, now: Tick) -> bool {
        self.len(now) == 0
    }

    /// Expired entries whose handle was not handed over yet.
    pub fn waiting(&self, now: Tick) -> usize {
        self.waiting.len() + self.table.count_due(now)
    }

    /// Bound on live entries.
    pub fn maxsize(&self) -> Option<u64> {
        (self.maxsize != u64::MAX).then_some(self.maxsize)
    }

    /// What the map has done.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Nanoseconds since the oldest live entry began.
    pub fn oldest_age(&self, now: Tick) -> Option<u64> {
        self.live.iter(&self.table.slab).find_map(|token| match self.table.slab.get(token).1 {
            Slot::Live { begun, .. } if self.table.at(token) > now => Some(begun.age(now)),
            _ => None,
        })
    }

    /// Bytes allocated for the structure, beside keys and handles.
    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.claims.capacity() * size_of::<(u32, Claim)>()
    }

    /// When the next entry expires, or some time before; now, if some wait already.
    pub fn next_due(&self, now: Tick) -> Option<Tick> {
        if self.waiting.is_empty() {
            self.table.next_due()
        } else {
            Some(now)
        }
    }

    /// A tick before which no time that is asked about makes a difference: nothing is due by then.
    #[inline]
    pub fn soonest(&self) -> Tick {
        self.table.soonest()
    }

    /// Keys and handles of everything held, for the collector.
    pub fn entries(&self) -> impl Iterator<Item = (&K, Option<&V>)> {
        self.table.slab.iter().map(|(key, slot)| match slot {
            Slot::Live { handle, .. } | Slot::Waiting { handle, .. } => (key, Some(handle)),
            Slot::Gone(_) => (key, None),
        })
    }

    /// Live entries in the order in which they began, with their deadlines.
    pub fn iter(&self, now: Tick) -> impl Iterator<Item = (&K, &V, Tick)> {
        self.live.iter(&self.table.slab).filter_map(move |token| self.seen(token, now))
    }

    fn seen(&self, token: Token, now: Tick) -> Option<(&K, &V, Tick)> {
        match self.table.slab.get(token) {
            (key, Slot::Live { handle, .. }) if self.table.at(token) > now => Some((key, handle, self.deadline(token))),
            _ => None,
        }
    }

    /// The deadline of a live entry; a claim puts it off but remembers it.
    fn deadline(&self, token: Token) -> Tick {
        self.claims.get(&token.0).map_or_else(|| self.table.at(token), |claim| claim.at)
    }

    /// The live entry for a key, with its deadline.
    #[inline]
    pub fn peek<E: Equality<K>>(
        &self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        now: Tick,
    ) -> Result<Option<(&V, Tick)>, Refused> {
        let found = self.find_live(hash, probe, now)?;
        Ok(found.and_then(|token| self.seen(token, now)).map(|(_, handle, at)| (handle, at)))
    }

    /// What is known of a key.
    pub fn state<E: Equality<K>>(&self, hash: u32, probe: &mut Probe<'_, K, E>, now: Tick) -> Result<State, Refused> {
        Ok(match self.table.find(hash, probe)? {
            None => State::Unknown,
            Some(token) => match self.table.slab.get(token).1 {
                Slot::Live { .. } if self.claims.contains_key(&token.0) => State::Claimed,
                Slot::Live { .. } if self.table.at(token) > now => State::Live,
                Slot::Live { .. } | Slot::Waiting { .. } => State::Ended(End::Expired),
                Slot::Gone(end) => State::Ended(end),
            },
        })
    }

    #[inline]
    fn find_live<E: Equality<K>>(
        &self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        now: Tick,
    ) -> Result<Option<Token>, Refused> {
        match self.table.find(hash, probe)? {
            Some(token) if self.is_live(token, now) => Ok(Some(token)),
            _ => self.open().map(|()| None),
        }
    }

    #[inline]
    fn is_live(&self, token: Token, now: Tick) -> bool {
        matches!(self.table.slab.get(token).1, Slot::Live { .. }) && self.table.at(token) > now
    }

    // Moves.

    /// Begins a transfer. `pair` is taken unless the answer is that it has completed already.
    #[inline]
    pub fn begin<E: Equality<K>>(
        &mut self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        pair: &mut Option<(K, V)>,
        ttl: Option<u64>,
        now: Tick,
        leaving: &mut Leaving<K, V>,
    ) -> Result<Begun, Refused> {
        let found = self.table.find(hash, probe)?;
        self.open()?;
        let at = now.after(Some(ttl.unwrap_or(self.ttl)));
        if let Some(token) = found {
            match self.table.slab.get(token).1 {
                Slot::Live { .. } if self.table.at(token) > now => {
                    self.table.reserve_time(token, at)?;
                    let (key, handle) = pair.take().expect("a transfer begins once");
                    self.replace(token, key, handle, at, now, leaving);
                    return Ok(Begun::Live);
                }
                Slot::Gone(End::Early) => {
                    self.table.slab.get_mut(token).1 = Slot::Gone(End::Completed);
                    self.tally.begun += 1;
                    self.tally.completed += 1;
                    return Ok(Begun::Completed);
                }
                _ => {}
            }
        }
        self.sweep(now, EXPIRE_BUDGET, leaving);
        self.make_room(now, leaving)?;
        if found.is_some() {
            // Making room may have moved what was found, or let it go: look again.
            if let Some(token) = self.table.find(hash, probe)? {
                self.supersede(token, leaving);
            }
        }
        self.table.reserve(at)?;
        let (key, handle) = pair.take().expect("a transfer begins once");
        let token = self.table.insert(hash, key, Slot::Live { handle, begun: Begin::at(now) }, at);
        self.live.push_last(&mut self.table.slab, token);
        self.tally.begun += 1;
        self.tally.high_water = self.tally.high_water.max(self.live.len() as u64);
        Ok(Begun::Live)
    }

    fn replace(&mut self, token: Token, key: K, handle: V, at: Tick, now: Tick, leaving: &mut Leaving<K, V>) {
        let slot = &mut self.table.slab.get_mut(token).1;
        if let Slot::Live { handle: old, .. } = std::mem::replace(slot, Slot::Live { handle, begun: Begin::at(now) }) {
            leaving.push(key, Some(old), Cause::Replaced);
        }
        self.claims.remove(&token.0);
        self.table.schedule(token, at);
        self.tally.begun += 1;
        self.tally.replaced += 1;
    }

    /// Makes way for a new transfer with the key of an old one. A handle that waits goes on waiting, unfindable.
    #[cold]
    fn supersede(&mut self, token: Token, leaving: &mut Leaving<K, V>) {
        let slot = &mut self.table.slab.get_mut(token).1;
        match std::mem::replace(slot, Slot::Gone(End::Expired)) {
            // If its time is over but nobody has moved it yet, it stays where it is and leaves in its turn.
            Slot::Live { handle, .. } | Slot::Waiting { handle, .. } => {
                *slot = Slot::Waiting { handle, hidden: true };
                self.table.hide(token);
            }
            Slot::Gone(_) => {
                self.gone.unlink(&mut self.table.slab, token);
                leaving.push(self.table.remove(token).0, None, Cause::Explicit);
            }
        }
    }

    /// Lets expired entries out of the way, then, if that is not enough and allowed, the one with the nearest deadline.
    #[inline]
    fn make_room(&mut self, now: Tick, leaving: &mut Leaving<K, V>) -> Result<(), Refused> {
        let waiting = self.waiting.len() as u64;
        if self.polled && waiting >= self.maxsize {
            return Err(Refused::full(self.maxsize, waiting));
        }
        while self.live.len() as u64 >= self.maxsize {
            if self.expire(now, 1, leaving) == 1 {
                continue;
            }
            if self.on_full == OnFull::Raise || !self.evict(now, leaving) {
                return Err(Refused::full(self.maxsize, self.waiting.len() as u64));
            }
        }
        Ok(())
    }

    /// Lets the entry with the nearest deadline expire at once. False if there is none: what is claimed stays.
    fn evict(&mut self, now: Tick, leaving: &mut Leaving<K, V>) -> bool {
        let forever = || self.live.iter(&self.table.slab).find(|token| !self.claims.contains_key(&token.0));
        let Some(token) = self.table.nearest().or_else(forever) else { return false };
        self.tally.evicted += 1;
        self.wait(token, now, now);
        self.trim_waiting(leaving);
        true
    }

    /// Changes the bound on live entries; those with the nearest deadlines expire at once, claimed ones stay.
    pub fn set_maxsize(&mut self, maxsize: Option<u64>, now: Tick, leaving: &mut Leaving<K, V>) {
        self.maxsize = maxsize.unwrap_or(u64::MAX);
        while self.live.len() as u64 > self.maxsize && (self.expire(now, 1, leaving) == 1 || self.evict(now, leaving)) {
        }
    }

    /// Counts what is due as expired, for what is about to be cleared.
    pub fn count_due(&mut self, now: Tick) {
        self.tally.expired += self.table.count_due(now) as u64;
    }

    /// Takes back what was handed over as expired and could not be kept in its place: it waits to be handed over again,
    /// unfindable. A closed map, or one without memory, gives both back, to be dropped.
    pub fn put_back(&mut self, key: K, handle: V) -> Result<(), (K, V)> {
        if self.closed || self.table.slab.reserve().is_err() {
            return Err((key, handle));
        }
        let token = self.table.slab.insert(0, (key, Slot::Waiting { handle, hidden: true }));
        self.waiting.push_last(&mut self.table.slab, token);
        Ok(())
    }

    /// Moves at most `budget` entries whose time is over to those that wait, and says how many.
    #[inline]
    pub fn expire(&mut self, now: Tick, budget: usize, leaving: &mut Leaving<K, V>) -> usize {
        self.expire_due(now, budget, Effort::Whole, leaving)
    }

    /// As [`expire`](Self::expire), in bounded time: to find them may be left to the next call or the sweeper's.
    #[inline]
    pub fn sweep(&mut self, now: Tick, budget: usize, leaving: &mut Leaving<K, V>) -> usize {
        self.expire_due(now, budget, self.effort, leaving)
    }

    #[inline]
    fn expire_due(&mut self, now: Tick, budget: usize, effort: Effort, leaving: &mut Leaving<K, V>) -> usize {
        for done in 0..budget {
            let Some((token, at)) = self.table.pop_due(now, effort) else { return done };
            self.wait(token, at, now);
            self.trim_waiting(leaving);
        }
        budget
    }

    /// live -> waiting.
    fn wait(&mut self, token: Token, at: Tick, now: Tick) {
        self.table.cancel(token);
        self.live.unlink(&mut self.table.slab, token);
        let slot = &mut self.table.slab.get_mut(token).1;
        *slot = match std::mem::replace(slot, Slot::Gone(End::Expired)) {
            Slot::Live { handle, .. } => Slot::Waiting { handle, hidden: false },
            superseded => superseded,
        };
        self.waiting.push_last(&mut self.table.slab, token);
        self.tally.expired += 1;
        self.tally.max_lag = self.tally.max_lag.max(now.0.saturating_sub(at.0));
    }

    /// Until somebody asks for what expired, only so many wait.
    fn trim_waiting(&mut self, leaving: &mut Leaving<K, V>) {
        let most = self.maxsize.min(UNSEEN as u64) as usize;
        while !self.polled && self.waiting.len() > most {
            let Some(token) = self.waiting.first() else { return };
            self.waiting.unlink(&mut self.table.slab, token);
            let (key, slot) = match self.table.slab.get(token).1 {
                Slot::Waiting { hidden: true, .. } => self.table.forget(token),
                _ => self.table.remove(token),
            };
            self.tally.unseen += 1;
            leaving.push(key, slot.into_handle(), Cause::Expired);
        }
    }

    /// Hands over at most `limit` expired entries in the order of their deadlines: waiting -> gone. Each key is remembered
    /// as well as given, so a second reference to it is asked for.
    pub fn pop_expired(
        &mut self,
        now: Tick,
        limit: usize,
        effort: Effort,
        mut dup: impl FnMut(&K) -> K,
        leaving: &mut Leaving<K, V>,
    ) -> Vec<(K, V)> {
        self.polled = true;
        let batch = std::iter::from_fn(|| self.pop_waiting(now, effort, &mut dup)).take(limit).collect();
        self.forget_surplus(leaving);
        batch
    }

    fn pop_waiting(&mut self, now: Tick, effort: Effort, dup: impl FnOnce(&K) -> K) -> Option<(K, V)> {
        if self.waiting.is_empty() {
            let (token, at) = self.table.pop_due(now, effort)?;
            self.wait(token, at, now);
        }
        let token = self.waiting.first()?;
        self.waiting.unlink(&mut self.table.slab, token);
        let (key, slot) = self.table.slab.get_mut(token);
        match std::mem::replace(slot, Slot::Gone(End::Expired)) {
            Slot::Waiting { handle, hidden: true } => {
                let (key, _) = self.table.forget(token);
                Some((key, handle))
            }
            slot => {
                let key = dup(key);
                self.gone.push_last(&mut self.table.slab, token);
                Some((key, slot.into_handle()?))
            }
        }
    }

    /// Enters a key in the memory of those that are gone, and forgets the oldest if there are too many.
    #[inline(always)]
    fn remember(&mut self, token: Token, leaving: &mut Leaving<K, V>) {
        self.gone.push_last(&mut self.table.slab, token);
        if self.gone.len() > REMEMBERED {
            self.forget_oldest(leaving);
        }
    }

    #[inline(always)]
    fn forget_oldest(&mut self, leaving: &mut Leaving<K, V>) {
        if let Some(oldest) = self.gone.first() {
            self.gone.unlink(&mut self.table.slab, oldest);
            leaving.push(self.table.remove(oldest).0, None, Cause::Explicit);
        }
    }

    /// Forgets the oldest of many that went at once.
    fn forget_surplus(&mut self, leaving: &mut Leaving<K, V>) {
        let surplus = self.gone.len().saturating_sub(REMEMBERED);
        self.table.fetch(self.gone.iter(&self.table.slab).take(surplus));
        for _ in 0..surplus {
            self.forget_oldest(leaving);
        }
    }

    /// Ends a live transfer and gives its handle. None if there is no such transfer, counted if it had ended before.
    #[inline(always)]
    pub fn end<E: Equality<K>>(
        &mut self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        end: End,
        now: Tick,
        leaving: &mut Leaving<K, V>,
    ) -> Result<Option<V>, Refused> {
        let Some(token) = self.table.find(hash, probe)? else {
            return self.open().map(|()| None);
        };
        if !self.is_live(token, now) {
            if !matches!(self.table.slab.get(token).1, Slot::Gone(End::Early)) {
                self.tally.late += 1;
            }
            return Ok(None);
        }
        Ok(self.finish(token, end, leaving))
    }

    /// live -> gone.
    #[inline(always)]
    fn finish(&mut self, token: Token, end: End, leaving: &mut Leaving<K, V>) -> Option<V> {
        self.table.cancel(token);
        if !self.claims.is_empty() {
            self.claims.remove(&token.0);
        }
        self.live.unlink(&mut self.table.slab, token);
        let slot = std::mem::replace(&mut self.table.slab.get_mut(token).1, Slot::Gone(end));
        match end {
            End::Failed => self.tally.failed += 1,
            _ => self.tally.completed += 1,
        }
        self.remember(token, leaving);
        slot.into_handle()
    }

    /// Ends the live transfer that began last.
    pub fn end_last(&mut self, now: Tick, dup: impl FnOnce(&K) -> K, leaving: &mut Leaving<K, V>) -> Option<(K, V)> {
        while let Some(token) = self.live.last() {
            if self.is_live(token, now) {
                let key = dup(&self.table.slab.get(token).0);
                return Some((key, self.finish(token, End::Completed, leaving)?));
            }
            // What is over leaves by its deadline, not by its beginning.
            if self.expire(now, 1, leaving) == 0 {
                return None;
            }
        }
        None
    }

    /// Remembers that a completion came before its beginning, unless something is known of the key by now.
    pub fn early<E: Equality<K>>(
        &mut self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        key: &mut Option<K>,
        leaving: &mut Leaving<K, V>,
    ) -> Result<(), Refused> {
        let found = self.table.find(hash, probe)?;
        self.open()?;
        if found.is_none() {
            self.table.reserve(Tick::NEVER)?;
            let key = key.take().expect("a key is remembered once");
            let token = self.table.insert(hash, key, Slot::Gone(End::Early), Tick::NEVER);
            self.tally.early += 1;
            self.remember(token, leaving);
        }
        Ok(())
    }

    /// Puts a live entry's deadline off to `ttl` from now, never nearer. False if there is no such entry.
    pub fn renew<E: Equality<K>>(
        &mut self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        ttl: Option<u64>,
        now: Tick,
    ) -> Result<bool, Refused> {
        let Some(token) = self.find_live(hash, probe, now)? else { return Ok(false) };
        let at = now.after(Some(ttl.unwrap_or(self.ttl))).max(self.deadline(token));
        match self.claims.get_mut(&token.0) {
            Some(claim) => claim.at = at,
            None => {
                self.table.reserve_time(token, at)?;
                self.table.schedule(token, at);
            }
        }
        self.tally.renewed += 1;
        Ok(true)
    }

    /// Keeps a live entry from expiring until the claim is [released](Self::release).
    pub fn claim<E: Equality<K>>(
        &mut self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        now: Tick,
    ) -> Result<Option<(&V, ClaimId)>, Refused> {
        let Some(token) = self.find_live(hash, probe, now)? else { return Ok(None) };
        let at = self.deadline(token);
        self.claims.try_reserve(1)?;
        let claim = self.claims.entry(token.0).or_insert(Claim { id: self.next_claim, holders: 0, at });
        claim.holders += 1;
        let id = ClaimId(token, claim.id);
        self.next_claim += 1;
        self.table.cancel(token);
        match &self.table.slab.get(token).1 {
            Slot::Live { handle, .. } => Ok(Some((handle, id))),
            _ => Ok(None),
        }
    }

    /// Gives a claim back; the last one lets the deadline count again. Nothing, if the entry has ended meanwhile.
    pub fn release(&mut self, ClaimId(token, id): ClaimId, now: Tick, leaving: &mut Leaving<K, V>) {
        let Some(claim) = self.claims.get_mut(&token.0).filter(|claim| claim.id == id) else { return };
        claim.holders -= 1;
        if claim.holders > 0 {
            return;
        }
        let at = claim.at;
        self.claims.remove(&token.0);
        // It had this deadline before the claim or was given a later one: its place in the wheel exists. If it is over
        // by now, the entry leaves after those whose deadlines were nearer.
        self.table.schedule(token, at);
        self.sweep(now, EXPIRE_BUDGET, leaving);
    }

    /// Takes back what was handed over as expired but cannot be freed yet. It is live again, or, if its key has begun
    /// anew or the map is full, waits to be handed over once more.
    pub fn keep<E: Equality<K>>(
        &mut self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        pair: &mut Option<(K, V)>,
        ttl: u64,
        now: Tick,
        leaving: &mut Leaving<K, V>,
    ) -> Result<(), Refused> {
        let found = self.table.find(hash, probe)?;
        self.open()?;
        let known = found.is_some_and(|token| !matches!(self.table.slab.get(token).1, Slot::Gone(_)));
        let at = now.after(Some(ttl));
        if let Some(token) = found.filter(|_| !known) {
            self.supersede(token, leaving);
        }
        self.table.reserve(at)?;
        let (key, handle) = pair.take().expect("a transfer is kept once");
        self.tally.kept += 1;
        let full = self.live.len() as u64 >= self.maxsize && self.expire(now, 1, leaving) == 0;
        if known || full {
            let token = self.table.insert(hash, key, Slot::Waiting { handle, hidden: known }, Tick::NEVER);
            if known {
                self.table.hide(token);
            }
            self.waiting.push_last(&mut self.table.slab, token);
        } else {
            let token = self.table.insert(hash, key, Slot::Live { handle, begun: Begin::at(now) }, at);
            self.live.push_last(&mut self.table.slab, token);
            self.tally.high_water = self.tally.high_water.max(self.live.len() as u64);
        }
        Ok(())
    }

    /// Empties the map in O(1), its memory of keys too; what it held is dropped by the caller.
    pub fn clear(&mut self) -> Everything<K, V> {
        self.claims.clear();
        let orders = [&mut self.live, &mut self.waiting, &mut self.gone].map(std::mem::take);
        Everything { table: std::mem::replace(&mut self.table, Table::new()), orders }
    }

    /// Empties the map for good: whatever needs it from now on is refused.
    pub fn close(&mut self) -> Everything<K, V> {
        self.closed = true;
        self.maxsize = 0;
        self.clear()
    }

    // For whoever comes for what is due: the sweeper.

    /// From now on somebody comes, so that no call needs to do everything itself.
    pub fn be_swept(&mut self) {
        self.effort = Effort::Little;
    }

    /// The next deadline, or some time before, if it is nearer than the one that the sweeper knows of; then it does.
    #[inline(always)]
    pub fn alarm(&mut self) -> Option<Tick> {
        self.table.alarm()
    }

    /// The next deadline, or some time before, for the sweeper.
    pub fn rearm(&mut self) -> Tick {
        self.table.rearm()
    }

    /// Whether there is much storage and nothing in flight.
    pub fn is_husk(&self) -> bool {
        self.live.is_idle() && self.waiting.is_empty() && self.table.is_large()
    }

    /// The storage of a large map that time has emptied; the map starts anew with what it remembers.
    pub fn shed(&mut self) -> Option<Everything<K, V>> {
        if !self.is_husk() {
            return None;
        }
        let (mut table, mut gone) = (Table::new(), Order::new());
        while let Some(old) = self.gone.first().filter(|_| table.reserve(Tick::NEVER).is_ok()) {
            self.gone.unlink(&mut self.table.slab, old);
            let hash = self.table.slab.node(old.0).hash;
            let (key, slot) = self.table.slab.remove(old);
            let token = table.insert(hash, key, slot, Tick::NEVER);
            gone.push_last(&mut table.slab, token);
        }
        let orders = [Order::new(), Order::new(), std::mem::replace(&mut self.gone, gone)];
        Some(Everything { table: std::mem::replace(&mut self.table, table), orders })
    }

    /// There is no sweeper any more that knows of a deadline.
    pub fn disarm(&mut self) {
        self.table.disarm();
    }

    // Walks: iterations that outlive the lock. They go on whatever comes and goes.

    /// Starts a walk over the live entries in the order in which they began.
    pub fn walk(&mut self, backwards: bool) -> WalkId {
        self.live.walk(backwards)
    }

    /// The next live entry of a walk.
    pub fn step(&mut self, walk: WalkId, now: Tick) -> Option<(&K, &V)> {
        while let Some(token) = self.live.step(&self.table.slab, walk) {
            if self.is_live(token, now) {
                return self.seen(token, now).map(|(key, handle, _)| (key, handle));
            }
        }
        None
    }

    /// Forgets a walk.
    pub fn end_walk(&mut self, walk: WalkId) {
        self.live.end_walk(walk);
    }

    /// Panics unless the parts agree and the bounds hold.
    #[cfg(any(test, feature = "validate"))]
    pub fn validate(&self) {
        self.table.validate();
        let mut items = 0;
        for order in [&self.live, &self.waiting, &self.gone] {
            order.validate(&self.table.slab);
            items += order.len();
        }
        assert_eq!(self.table.slab.iter().count(), items);
        assert!(self.live.len() as u64 <= self.maxsize);
        assert!(self.gone.len() <= REMEMBERED);
        let slots =
            |order: &Order| order.iter(&self.table.slab).map(|token| &self.table.slab.get(token).1).collect::<Vec<_>>();
        assert!(slots(&self.live)
            .iter()
            .all(|slot| matches!(slot, Slot::Live { .. } | Slot::Waiting { hidden: true, .. })));
        assert!(slots(&self.waiting).iter().all(|slot| matches!(slot, Slot::Waiting { .. })));
        assert!(slots(&self.gone).iter().all(|slot| matches!(slot, Slot::Gone(_))));
    }
}

/// All that a map held when it was cleared: what was live, what waited, and what was only remembered.
#[derive(Debug)]
#[must_use = "what is removed must be dropped where foreign code may run"]
pub struct Everything<K, V> {
    table: Table<K, Slot<V>>,
    orders: [Order; 3],
}

impl<K, V> Everything<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.orders.iter().map(Order::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K, V> Iterator for Everything<K, V> {
    type Item = (K, Option<V>);

    fn next(&mut self) -> Option<Self::Item> {
        let slab = &mut self.table.slab;
        self.orders.iter_mut().find_map(|order| {
            let token = order.first()?;
            order.unlink(slab, token);
            let (key, slot) = slab.remove(token);
            Some((key, slot.into_handle()))
        })
    }
}

impl<V> Slot<V> {
    fn into_handle(self) -> Option<V> {
        match self {
            Slot::Live { handle, .. } | Slot::Waiting { handle, .. } => Some(handle),
            Slot::Gone(_) => None,
        }
    }
}

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self::new()
    }
}
