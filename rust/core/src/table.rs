//! Table: entries found by key, each with a deadline if it has one. What `Lru` and `Expiring` have in common.

use crate::due::{Due, Effort};
use crate::eq::{Equality, Probe};
use crate::index::Index;
use crate::refused::{Refused, Undecided};
use crate::slab::{Order, Slab, Token};
use crate::time::Tick;

/// Bytes of storage that a table without entries is not worth.
const LARGE: usize = 1 << 20;

/// Entries by key, without an order and without a bound.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    pub(crate) slab: Slab<(K, V)>,
    index: Index,
    due: Option<Box<Due>>,
}

impl<K, V> Table<K, V> {
    pub(crate) const fn new() -> Self {
        Table { slab: Slab::new(), index: Index::new(), due: None }
    }

    /// Says how many entries there will be at most, so that no more room than that is taken.
    pub(crate) fn set_most(&mut self, most: usize) {
        self.slab.set_most(most);
        self.index.set_most(most);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.slab.bytes() + self.index.bytes() + self.due.as_ref().map_or(0, |due| size_of::<Due>() + due.bytes())
    }

    /// Whether there is storage to give back once nothing is in it.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes() > LARGE
    }

    /// The entry for the key that `probe` looks for, expired or not.
    #[inline(always)]
    pub(crate) fn find<E: Equality<K>>(
        &self,
        hash: u32,
        probe: &mut Probe<'_, K, E>,
    ) -> Result<Option<Token>, Undecided> {
        let found = self.index.find(&self.slab, hash, |token| probe.is(&self.slab.get(token).0));
        if found.is_none() {
            probe.missed()?;
        }
        Ok(found)
    }

    /// The entry that a look-up with this hash meets first.
    #[inline(always)]
    pub(crate) fn first(&self, hash: u32) -> Option<Token> {
        self.index.find(&self.slab, hash, |_| true)
    }

    /// Whether any entry ever had a deadline.
    #[inline(always)]
    pub(crate) fn is_timed(&self) -> bool {
        self.due.is_some()
    }

    #[inline(always)]
    pub(crate) fn at(&self, token: Token) -> Tick {
        self.due.as_ref().map_or(Tick::NEVER, |due| due.at(token))
    }

    /// Makes sure that the next insertion, with this deadline, cannot fail, and says which token it will give.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, at: Tick) -> Result<Token, Refused> {
        let token = self.slab.reserve()?;
        self.index.reserve(&mut self.slab)?;
        self.reserve_time(token, at)?;
        Ok(token)
    }

    /// Makes sure that this token can be given this deadline.
    #[inline(always)]
    pub(crate) fn reserve_time(&mut self, token: Token, at: Tick) -> Result<(), Refused> {
        if at == Tick::NEVER {
            return Ok(());
        }
        self.due.get_or_insert_default().reserve(token)
    }

    /// Stores an entry for which room was reserved.
    #[inline(always)]
    pub(crate) fn insert(&mut self, hash: u32, key: K, value: V, at: Tick) -> Token {
        let token = self.slab.insert(hash, (key, value));
        self.index.insert(&mut self.slab, token);
        if let Some(due) = &mut self.due {
            due.start(token, at);
        }
        token
    }

    #[inline(always)]
    pub(crate) fn schedule(&mut self, token: Token, at: Tick) {
        if let Some(due) = &mut self.due {
            due.schedule(token, at);
        }
    }

    /// Takes an entry's deadline away, if it has one.
    #[inline(always)]
    pub(crate) fn cancel(&mut self, token: Token) {
        if let Some(due) = &mut self.due {
            due.cancel(token);
        }
    }

    /// Makes an entry unfindable; it must be taken out by [`forget`](Self::forget) later.
    pub(crate) fn hide(&mut self, token: Token) {
        self.index.remove(&mut self.slab, token);
    }

    /// Takes a hidden entry out.
    pub(crate) fn forget(&mut self, token: Token) -> (K, V) {
        self.cancel(token);
        self.slab.remove(token)
    }

    /// Puts another entry in the place of one that has no deadline, which it gives.
    #[inline(always)]
    pub(crate) fn rename(&mut self, token: Token, hash: u32, entry: (K, V)) -> (K, V) {
        self.index.rename(&mut self.slab, token, hash);
        std::mem::replace(self.slab.get_mut(token), entry)
    }

    /// Takes an entry out. It must stand in no order any more.
    #[inline(always)]
    pub(crate) fn remove(&mut self, token: Token) -> (K, V) {
        self.cancel(token);
        self.index.remove(&mut self.slab, token);
        self.slab.remove(token)
    }

    /// Brings what it takes to remove these entries into the cache, all at once, where the removals would wait for one
    /// after the other.
    pub(crate) fn fetch(&self, tokens: impl Iterator<Item = Token>) {
        for Token(raw) in tokens {
            std::hint::black_box(self.index.head(self.slab.node(raw).hash));
        }
    }

    /// The entry whose deadline came first, if it has come, and that deadline; the entry stays, without it.
    #[inline(always)]
    pub(crate) fn pop_due(&mut self, now: Tick, effort: Effort) -> Option<(Token, Tick)> {
        self.due.as_mut()?.pop(now, effort)
    }

    #[inline(always)]
    pub(crate) fn alarm(&mut self) -> Option<Tick> {
        self.due.as_mut()?.alarm()
    }

    pub(crate) fn rearm(&mut self) -> Tick {
        self.due.as_mut().map_or(Tick::NEVER, |due| due.rearm())
    }

    pub(crate) fn disarm(&mut self) {
        if let Some(due) = &mut self.due {
            due.disarm();
        }
    }

    #[inline]
    pub(crate) fn count_due(&self, now: Tick) -> usize {
        self.due.as_ref().map_or(0, |due| due.count_due(now))
    }

    #[inline]
    pub(crate) fn soonest(&self) -> Tick {
        self.due.as_ref().map_or(Tick::NEVER, |due| due.soonest())
    }

    pub(crate) fn next_due(&self) -> Option<Tick> {
        self.due.as_ref()?.next()
    }

    pub(crate) fn nearest(&self) -> Option<Token> {
        self.due.as_ref()?.nearest()
    }

    #[cfg(any(test, feature = "validate"))]
    pub(crate) fn validate(&self) {
        self.index.validate(&self.slab);
        if let Some(due) = &self.due {
            due.validate();
        }
    }
}

/// All that a map held when it was cleared, oldest first. The map itself is empty at once; this is freed unlocked.
#[derive(Debug)]
#[must_use = "what is removed must be dropped where foreign code may run"]
pub struct Cleared<K, V> {
    pub(crate) table: Table<K, V>,
    pub(crate) order: Order,
}

impl<K, V> Cleared<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl<K, V> Iterator for Cleared<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<(K, V)> {
        let token = self.order.first()?;
        self.order.unlink(&mut self.table.slab, token);
        Some(self.table.slab.remove(token))
    }
}
