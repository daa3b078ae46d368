//! Lru: a bounded map; what was used least recently leaves first.
//!
//! Every method is one move of one noun, with `&mut self` and without a lock. Keys are found through a [`Probe`], so
//! each method that takes one may end with `Refused::Undecided` and be called again; until then it has changed nothing.

use crate::due::Effort;
use crate::eq::{Equality, Plainly, Probe};
use crate::growth::{bytes, slot};
use crate::refused::Refused;
use crate::removed::{Cause, Removed};
use crate::slab::{Order, Token, WalkId};
use crate::stats::Stats;
use crate::table::{Cleared, Table};
use crate::time::Tick;

/// Expired entries that one write moves out on its way.
const EXPIRE_BUDGET: usize = 8;

/// A new entry, not stored yet. `pair` is taken only when it is.
#[derive(Debug)]
pub struct New<K, V> {
    /// Mixed hash of the key.
    pub hash: u32,
    /// Key and value.
    pub pair: Option<(K, V)>,
    /// What the entry counts towards the bound.
    pub weight: u64,
    /// Nanoseconds to live; None for the map's own.
    pub ttl: Option<u64>,
}

/// A bounded map in order of use.
#[derive(Debug)]
pub struct Lru<K, V> {
    table: Table<K, V>,
    order: Order,
    bound: u64,
    weight: u64,
    /// Whether entries have lifetimes of the map's own.
    lasting: bool,
    /// What each entry weighs; None if each weighs 1.
    weights: Option<Vec<u64>>,
    ttl: Option<u64>,
    idle: Option<u64>,
    /// The end of each entry's ttl, kept apart from its deadline only where idleness may end it sooner.
    ends: Vec<Tick>,
    /// Changes with every insertion and removal but not with use or expiry: what a running iteration checks.
    epoch: u64,
    stats: Stats,
    /// What a call does to find what is due: little, if somebody else comes for it.
    effort: Effort,
    closed: bool,
}

impl<K, V> Lru<K, V> {
    /// A map that is closed until it is [configured](Self::configure).
    pub const fn new() -> Self {
        Lru {
            table: Table::new(),
            order: Order::new(),
            bound: 0,
            weight: 0,
            lasting: false,
            weights: None,
            ttl: None,
            idle: None,
            ends: Vec::new(),
            epoch: 0,
            stats: Stats::ZERO,
            effort: Effort::Whole,
            closed: true,
        }
    }

    /// Opens the map: its bound (None for none), whether entries have weights, and lifetimes in nanoseconds.
    pub fn configure(&mut self, bound: Option<u64>, weighed: bool, ttl: Option<u64>, idle: Option<u64>) {
        self.bound = bound.unwrap_or(u64::MAX);
        self.weights = weighed.then(Vec::new);
        (self.ttl, self.idle, self.effort, self.closed) = (ttl, idle, Effort::Whole, false);
        self.note_lifetimes();
        self.size_table();
    }

    fn note_lifetimes(&mut self) {
        self.lasting = self.ttl.is_some() || self.idle.is_some();
    }

    /// Lets the table know how large it will get.
    fn size_table(&mut self) {
        let most = if self.weights.is_some() { u64::MAX } else { self.bound };
        self.table.set_most(usize::try_from(most).unwrap_or(usize::MAX));
    }

    // Questions.

    /// The bound on the total weight; None if there is none.
    pub fn bound(&self) -> Option<u64> {
        (self.bound != u64::MAX || self.closed).then_some(self.bound)
    }

    /// Number of live entries. O(1) once what is due was moved out, as by [`expire`](Self::expire); else O(due).
    #[inline]
    pub fn len(&self, now: Tick) -> usize {
        self.order.len() - self.table.count_due(now)
    }

    /// Total weight of what is held, expired entries that have not been moved out included.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// What the map has done.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Bytes allocated for the structure, beside keys and values.
    pub fn bytes(&self) -> usize {
        self.table.bytes() + bytes(&self.ends) + self.weights.as_ref().map_or(0, bytes)
    }

    /// An error once [`close`](Self::close) was called.
    #[inline]
    pub fn open(&self) -> Result<(), Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        Ok(())
    }

    /// When the next entry expires, or some time before.
    pub fn next_due(&self) -> Option<Tick> {
        self.table.next_due()
    }

    /// Everything held, live or not, for the collector.
    pub fn entries(&self) -> impl Iterator<Item = &(K, V)> {
        self.table.slab.iter()
    }

    /// Some of what is held, live or not: at most `n` entries, whatever their age. O(n).
    pub fn sample(&self, n: usize) -> impl Iterator<Item = &(K, V)> {
        self.table.slab.sample(n)
    }

    /// Live entries from the least to the most recently used, with their deadlines.
    pub fn iter(&self, now: Tick) -> impl Iterator<Item = (&K, &V, Tick)> {
        self.order.iter(&self.table.slab).filter_map(move |token| self.seen(token, now))
    }

    /// Live entries from the most to the least recently used, with their deadlines.
    pub fn iter_back(&self, now: Tick) -> impl Iterator<Item = (&K, &V, Tick)> {
        self.order.iter_back(&self.table.slab).filter_map(move |token| self.seen(token, now))
    }

    /// Live entries from the least to the most recently used, with their weights and the ends of their ttl.
    pub fn packed(&self, now: Tick) -> impl Iterator<Item = (&K, &V, u64, Tick)> {
        self.order.iter(&self.table.slab).filter_map(move |token| {
            let (key, value, at) = self.seen(token, now)?;
            let end = if self.idle.is_some() { self.ends[token.0 as usize] } else { at };
            Some((key, value, self.weight_of(token), end))
        })
    }

    fn seen(&self, token: Token, now: Tick) -> Option<(&K, &V, Tick)> {
        let (key, value) = self.table.slab.get(token);
        let at = self.table.at(token);
        (at > now).then_some((key, value, at))
    }

    /// The live entry for a key, looked at without using it, with its deadline.
    pub fn peek<E: Equality<K>>(
        &self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        now: Tick,
    ) -> Result<Option<(&V, Tick)>, Refused> {
        let found = self.find(hash, probe, now)?;
        Ok(found.map(|token| (&self.table.slab.get(token).1, self.table.at(token))))
    }

    /// The entry for a key unless it has expired. A closed map has none, and says so.
    #[inline(always)]
    fn find<E: Equality<K>>(
        &self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        now: Tick,
    ) -> Result<Option<Token>, Refused> {
        match self.table.find(hash, probe)? {
            Some(token) if self.table.at(token) > now => Ok(Some(token)),
            _ => self.open().map(|()| None),
        }
    }

    #[inline]
    fn weight_of(&self, token: Token) -> u64 {
        self.weights.as_ref().map_or(1, |weights| weights[token.0 as usize])
    }

    /// Changes what an entry weighs, and gives what it weighed.
    fn set_weight(&mut self, token: Token, weight: u64) -> u64 {
        let weights = self.weights.as_mut().expect("a map with weights");
        std::mem::replace(&mut weights[token.0 as usize], weight)
    }

    // Moves.

    /// Uses an entry: it becomes the most recent, and its idle time starts again. Counts a hit or a miss.
    #[inline(always)]
    pub fn get<E: Equality<K>>(
        &mut self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        now: Tick,
    ) -> Result<Option<&V>, Refused> {
        let Some(token) = self.find(hash, probe, now)? else {
            self.stats.misses += 1;
            return Ok(None);
        };
        self.stats.hits += 1;
        self.r#use(token, now);
        Ok(Some(&self.table.slab.get(token).1))
    }

    /// What nearly every look-up meets, in few steps that call nothing: nothing has a lifetime, nobody walks, and the
    /// first entry with the hash is the one, or there is none. Some means that: the entry, or that there is none.
    #[inline(always)]
    fn glance(&self, hash: u32, eq: &impl Plainly<K>) -> Option<Option<Token>> {
        if self.lasting || self.table.is_timed() || self.order.is_walked() {
            return None;
        }
        match self.table.first(hash) {
            Some(token) => eq.is_plainly(&self.table.slab.get(token).0).then_some(Some(token)),
            None => self.open().is_ok().then_some(None),
        }
    }

    /// As [`get`](Self::get), where a glance tells; `dup` makes what is given of the value. None says nothing, and has
    /// changed and counted nothing.
    #[inline(always)]
    pub fn glance_get<R>(&mut self, hash: u32, eq: &impl Plainly<K>, dup: impl FnOnce(&V) -> R) -> Option<Option<R>> {
        let Some(token) = self.glance(hash, eq)? else {
            self.stats.misses += 1;
            return Some(None);
        };
        let value = dup(&self.table.slab.get(token).1);
        self.stats.hits += 1;
        self.order.move_last_unseen(&mut self.table.slab, token);
        Some(Some(value))
    }

    /// Stores a value in place of an entry's own, where that is all there is to it and a glance tells: gives the old value, or
    /// that there is no entry with this key. None says nothing, and has changed and made nothing.
    #[inline(always)]
    pub fn glance_swap(&mut self, hash: u32, eq: &impl Plainly<K>, value: impl FnOnce() -> V) -> Option<Option<V>> {
        if self.weights.is_some() {
            return None;
        }
        let Some(token) = self.glance(hash, eq)? else { return Some(None) };
        let old = std::mem::replace(&mut self.table.slab.get_mut(token).1, value());
        self.stats.count(Cause::Replaced, 1);
        self.order.move_last_unseen(&mut self.table.slab, token);
        Some(Some(old))
    }

    /// Puts a new entry in the place of what was used least recently in a full map, which it gives. The key is in no entry.
    /// None where it takes more than that, and nothing has changed.
    #[inline(always)]
    pub fn supersede(&mut self, hash: u32, pair: impl FnOnce() -> (K, V)) -> Option<(K, V)> {
        if self.weights.is_some() || self.lasting || self.table.is_timed() || self.order.is_walked() {
            return None;
        }
        let oldest = self.order.first().filter(|_| self.weight == self.bound)?;
        self.stats.insertions += 1;
        self.stats.count(Cause::Size, 1);
        self.stats.evicted_weight += 1;
        self.epoch += 1;
        self.order.move_last_unseen(&mut self.table.slab, oldest);
        Some(self.table.rename(oldest, hash, pair()))
    }

    /// Counts a look-up that nobody made, since it would have found nothing.
    pub fn count_miss(&mut self) {
        self.stats.misses += 1;
    }

    #[inline(always)]
    fn r#use(&mut self, token: Token, now: Tick) {
        self.order.move_last(&mut self.table.slab, token);
        if self.idle.is_some() {
            let at = now.after(self.idle).min(self.ends[token.0 as usize]);
            self.table.schedule(token, at);
        }
    }

    /// Uses an entry without reading it; with `ttl`, its lifetime starts again. False if there is none.
    pub fn touch<E: Equality<K>>(
        &mut self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        ttl: Option<u64>,
        now: Tick,
    ) -> Result<bool, Refused> {
        let Some(token) = self.find(hash, probe, now)? else { return Ok(false) };
        if ttl.is_some() {
            self.start_life(token, ttl, now)?;
        }
        self.r#use(token, now);
        Ok(true)
    }

    /// Makes an entry the most or the least recent one without using it. False if there is none.
    pub fn move_to_end<E: Equality<K>>(
        &mut self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        last: bool,
        now: Tick,
    ) -> Result<bool, Refused> {
        let Some(token) = self.find(hash, probe, now)? else { return Ok(false) };
        match last {
            true => self.order.move_last(&mut self.table.slab, token),
            false => self.order.move_first(&mut self.table.slab, token),
        }
        Ok(true)
    }

    /// Stores an entry as the most recent one, in place of the one with its key. Others leave until the bound holds.
    #[inline(always)]
    pub fn put<E: Equality<K>>(
        &mut self,
        probe: &mut Probe<'_, K, E>,
        new: &mut New<K, V>,
        now: Tick,
        removed: &mut Removed<K, V>,
    ) -> Result<(), Refused> {
        let found = self.spot(new.hash, probe)?;
        self.put_at(found, new, now, removed)
    }

    /// Where the entry for a key stands, live or not. For [`put_at`](Self::put_at) under the same lock: together they are
    /// `put`, with a look in between.
    #[inline(always)]
    pub fn spot<E: Equality<K>>(&self, hash: u32, probe: &mut Probe<'_, K, E>) -> Result<Option<Token>, Refused> {
        let found = self.table.find(hash, probe)?;
        self.open()?;
        Ok(found)
    }

    /// As [`put`](Self::put), with the place of the key known.
    #[inline(always)]
    pub fn put_at(
        &mut self,
        found: Option<Token>,
        new: &mut New<K, V>,
        now: Tick,
        removed: &mut Removed<K, V>,
    ) -> Result<(), Refused> {
        if self.weights.is_none() {
            // Whatever it was weighed for: the map may have been configured anew since.
            new.weight = 1;
        }
        // Without a bound the total is still a number: it may not pass its end.
        let others = self.weight - found.map_or(0, |token| self.weight_of(token));
        if new.weight > self.bound || self.bound == u64::MAX && new.weight > u64::MAX - others {
            self.stats.rejected += 1;
            return Err(Refused::too_heavy(new.weight, self.bound));
        }
        match found {
            Some(token) if self.table.at(token) > now => return self.replace(token, new, now, removed),
            Some(overdue) => self.leave(overdue, Cause::Expired, removed),
            None => {}
        }
        self.insert(new, now, removed)
    }

    /// Uses the live entry with this key if there is one, else stores the new one. True if it was stored.
    pub fn put_if_absent<E: Equality<K>>(
        &mut self,
        probe: &mut Probe<'_, K, E>,
        new: &mut New<K, V>,
        now: Tick,
        removed: &mut Removed<K, V>,
    ) -> Result<Option<&V>, Refused> {
        if let Some(token) = self.find(new.hash, probe, now)? {
            self.stats.hits += 1;
            self.r#use(token, now);
            return Ok(Some(&self.table.slab.get(token).1));
        }
        self.put(probe, new, now, removed)?;
        self.stats.misses += 1;
        Ok(None)
    }

    #[inline(always)]
    fn insert(&mut self, new: &mut New<K, V>, now: Tick, removed: &mut Removed<K, V>) -> Result<(), Refused> {
        self.make_room(new.weight, now, removed);
        let end = now.after(new.ttl.or(self.ttl));
        let at = end.min(now.after(self.idle));
        // A use may bring the deadline nearer, so that it has its place also if it is never so far.
        let token = self.table.reserve(if self.idle.is_some() { Tick(0) } else { at })?;
        if let Some(weights) = &mut self.weights {
            *slot(weights, token.0, 0)? = new.weight;
        }
        if self.idle.is_some() {
            *slot(&mut self.ends, token.0, Tick::NEVER)? = end;
        }
        self.weight += new.weight;
        self.stats.insertions += 1;
        let (key, value) = new.pair.take().expect("a new entry is stored once");
        self.table.insert(new.hash, key, value, at);
        self.order.push_last(&mut self.table.slab, token);
        self.change();
        Ok(())
    }

    #[inline(always)]
    fn replace(
        &mut self,
        token: Token,
        new: &mut New<K, V>,
        now: Tick,
        removed: &mut Removed<K, V>,
    ) -> Result<(), Refused> {
        self.start_life(token, new.ttl, now)?;
        let (key, value) = new.pair.take().expect("a new entry is stored once");
        let old = std::mem::replace(&mut self.table.slab.get_mut(token).1, value);
        self.stats.count(Cause::Replaced, 1);
        removed.push(key, old, Cause::Replaced);
        self.order.move_last(&mut self.table.slab, token);
        if self.weights.is_some() {
            // Weightless while others leave for it; being the newest, it stays.
            self.weight -= self.set_weight(token, 0);
            self.make_room(new.weight, now, removed);
            self.set_weight(token, new.weight);
            self.weight += new.weight;
        }
        Ok(())
    }

    /// Starts an entry's lifetime anew.
    #[inline(always)]
    fn start_life(&mut self, token: Token, ttl: Option<u64>, now: Tick) -> Result<(), Refused> {
        let end = now.after(ttl.or(self.ttl));
        let at = end.min(now.after(self.idle));
        self.table.reserve_time(token, at)?;
        if self.idle.is_some() {
            *slot(&mut self.ends, token.0, Tick::NEVER)? = end;
        }
        self.table.schedule(token, at);
        Ok(())
    }

    /// Notes that an entry came or went: no walk that runs can go on.
    #[inline(always)]
    fn change(&mut self) {
        self.epoch += 1;
        self.order.end_walks();
    }

    /// Lets entries leave, expired ones first, until `weight` more fits.
    #[inline(always)]
    fn make_room(&mut self, weight: u64, now: Tick, removed: &mut Removed<K, V>) {
        let _ = self.sweep(now, EXPIRE_BUDGET, removed);
        while self.weight > self.bound - weight {
            if self.sweep(now, 1, removed) == 0 {
                let Some(oldest) = self.order.first() else { break };
                self.leave(oldest, Cause::Size, removed);
            }
        }
    }

    #[inline(always)]
    fn leave(&mut self, token: Token, cause: Cause, removed: &mut Removed<K, V>) {
        let (key, value) = self.take(token, cause);
        removed.push(key, value, cause);
    }

    #[inline(always)]
    fn take(&mut self, token: Token, cause: Cause) -> (K, V) {
        let weight = self.weight_of(token);
        self.weight -= weight;
        self.order.unlink(&mut self.table.slab, token);
        self.stats.count(cause, 1);
        if cause == Cause::Expired || cause == Cause::Size {
            self.stats.evicted_weight += weight;
        }
        if cause != Cause::Expired {
            self.change();
        }
        self.table.remove(token)
    }

    /// Moves out at most `budget` entries whose time is over, and says how many.
    #[inline(always)]
    pub fn expire(&mut self, now: Tick, budget: usize, removed: &mut Removed<K, V>) -> usize {
        match self.table.is_timed() {
            true => self.expire_due(now, budget, Effort::Whole, removed),
            false => 0,
        }
    }

    /// As [`expire`](Self::expire), in bounded time: to find them may be left to the next call or the sweeper's.
    #[inline(always)]
    pub fn sweep(&mut self, now: Tick, budget: usize, removed: &mut Removed<K, V>) -> usize {
        match self.table.is_timed() {
            true => self.expire_due(now, budget, self.effort, removed),
            false => 0,
        }
    }

    #[inline(never)]
    fn expire_due(&mut self, now: Tick, budget: usize, effort: Effort, removed: &mut Removed<K, V>) -> usize {
        for done in 0..budget {
            let Some((token, _)) = self.table.pop_due(now, effort) else { return done };
            self.leave(token, Cause::Expired, removed);
        }
        budget
    }

    /// Takes the live entry with this key out.
    pub fn remove<E: Equality<K>>(
        &mut self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
        now: Tick,
    ) -> Result<Option<(K, V)>, Refused> {
        let found = self.find(hash, probe, now)?;
        Ok(found.map(|token| self.take(token, Cause::Explicit)))
    }

    /// Takes the most or the least recent live entry out.
    pub fn pop(&mut self, last: bool, cause: Cause, now: Tick, removed: &mut Removed<K, V>) -> Option<(K, V)> {
        loop {
            let token = if last { self.order.last() } else { self.order.first() }?;
            if self.table.at(token) > now {
                return Some(self.take(token, cause));
            }
            self.leave(token, Cause::Expired, removed);
        }
    }

    /// Changes the bound; what is too much for it leaves.
    pub fn set_bound(&mut self, bound: Option<u64>, now: Tick, removed: &mut Removed<K, V>) {
        self.bound = bound.unwrap_or(u64::MAX);
        self.size_table();
        self.make_room(0, now, removed);
    }

    /// Changes how long later entries live, in nanoseconds.
    pub fn set_ttl(&mut self, ttl: Option<u64>) {
        self.ttl = ttl;
        self.note_lifetimes();
    }

    /// Empties the map in O(1); what it held is dropped by the caller.
    pub fn clear(&mut self) -> Cleared<K, V> {
        self.change();
        self.weight = 0;
        self.stats.count(Cause::Explicit, self.order.len() as u64);
        Cleared { table: self.renew_table(), order: std::mem::take(&mut self.order) }
    }

    fn renew_table(&mut self) -> Table<K, V> {
        if let Some(weights) = &mut self.weights {
            *weights = Vec::new();
        }
        self.ends = Vec::new();
        let table = std::mem::replace(&mut self.table, Table::new());
        self.size_table();
        table
    }

    /// Empties the map for good: whatever needs it from now on is refused.
    pub fn close(&mut self) -> Cleared<K, V> {
        self.closed = true;
        self.bound = 0;
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

    /// The storage of a large map that time has emptied; the map starts anew with little.
    pub fn shed(&mut self) -> Option<Cleared<K, V>> {
        let large = self.order.is_idle() && self.table.is_large();
        large.then(|| Cleared { table: self.renew_table(), order: Order::new() })
    }

    /// There is no sweeper any more that knows of a deadline.
    pub fn disarm(&mut self) {
        self.table.disarm();
    }

    // Walks: iterations that outlive the lock.

    /// Starts a walk, and gives the epoch that its steps must name.
    pub fn walk(&mut self, backwards: bool) -> (WalkId, u64) {
        (self.order.walk(backwards), self.epoch)
    }

    /// The next live entry of a walk; refused if entries came or went since it began.
    pub fn step(&mut self, (walk, epoch): (WalkId, u64), now: Tick) -> Result<Option<(&K, &V)>, Refused> {
        if epoch != self.epoch {
            return Err(Refused::Changed);
        }
        while let Some(token) = self.order.step(&self.table.slab, walk) {
            if self.table.at(token) > now {
                let (key, value) = self.table.slab.get(token);
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }

    /// Forgets a walk.
    pub fn end_walk(&mut self, walk: WalkId) {
        self.order.end_walk(walk);
    }

    /// Panics unless the parts agree and the bound holds.
    #[cfg(any(test, feature = "validate"))]
    pub fn validate(&self) {
        self.table.validate();
        self.order.validate(&self.table.slab);
        assert_eq!(self.table.slab.iter().count(), self.order.len());
        assert_eq!(self.weight, self.order.iter(&self.table.slab).map(|token| self.weight_of(token)).sum::<u64>());
        assert!(self.weight <= self.bound);
    }
}

impl<K, V> Default for Lru<K, V> {
    fn default() -> Self {
        Self::new()
    }
}
