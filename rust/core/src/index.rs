//! Index: hash -> token. Knows no keys; whoever asks says which item is meant.
//!
//! Linear hashing (Litwin, 1980) over chains through the slab's nodes: three buckets for every entry, split one at
//! a time, given back the same way. So there are no tombstones, no rehash of the whole, and no stall on the way
//! from empty to a million or in weeks of churn.

use crate::growth::{bytes, reserve_one};
use crate::refused::Refused;
use crate::slab::{Slab, Token, NIL};

/// Spreads a 64-bit hash (Python's of an int is the int) over 32 bits, all of which depend on all of it.
#[inline]
pub fn mix(hash: u64) -> u32 {
    let product = u128::from(hash) * 0x9E37_79B9_7F4A_7C15;
    ((product >> 64) ^ (product >> 32)) as u32
}

/// The buckets: heads of chains of tokens.
#[derive(Debug)]
pub struct Index {
    heads: Vec<u32>,
    /// Heads for the most items that there will be, as far as that is known.
    most: usize,
    /// Buckets are numbered by these bits of the hash; those that do not exist yet are still part of the lower half.
    mask: u32,
    len: u32,
}

impl Index {
    /// An empty index. Allocates nothing.
    pub const fn new() -> Self {
        Index { heads: Vec::new(), most: usize::MAX, mask: 0, len: 0 }
    }

    /// Says how many items there will be at most, so that no more room than that is taken.
    pub fn set_most(&mut self, most: usize) {
        self.most = most.saturating_mul(3).saturating_add(4);
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        bytes(&self.heads)
    }

    #[inline(always)]
    fn bucket(&self, hash: u32) -> u32 {
        let bucket = hash & self.mask;
        if (bucket as usize) < self.heads.len() {
            bucket
        } else {
            bucket & (self.mask >> 1)
        }
    }

    /// Where the chain for this hash begins.
    #[inline(always)]
    pub(crate) fn head(&self, hash: u32) -> Option<u32> {
        self.heads.get(self.bucket(hash) as usize).copied()
    }

    /// The first item with this hash that `is` the one. `is` runs under the lock: no foreign code in it (law 1).
    #[inline(always)]
    pub fn find<T>(&self, slab: &Slab<T>, hash: u32, mut is: impl FnMut(Token) -> bool) -> Option<Token> {
        let mut raw = self.head(hash)?;
        while let Some(node) = slab.at(raw) {
            if node.hash == hash && is(Token(raw)) {
                return Some(Token(raw));
            }
            raw = node.chain;
        }
        None
    }

    /// Makes sure that the next [`insert`](Self::insert) cannot fail. A bounded number of splits, O(1).
    #[inline(always)]
    pub fn reserve<T>(&mut self, slab: &mut Slab<T>) -> Result<(), Refused> {
        if self.heads.len() / 3 > self.len as usize {
            return Ok(());
        }
        self.widen(slab)
    }

    #[inline(never)]
    fn widen<T>(&mut self, slab: &mut Slab<T>) -> Result<(), Refused> {
        // Three buckets keep pace with one insertion; one more catches up after a merge.
        for _ in 0..4 {
            self.split(slab)?;
        }
        Ok(())
    }

    /// Enters an item that is not in the index.
    #[inline(always)]
    pub fn insert<T>(&mut self, slab: &mut Slab<T>, Token(raw): Token) {
        let bucket = self.bucket(slab.node(raw).hash);
        let head = &mut self.heads[bucket as usize];
        slab.node_mut(raw).chain = std::mem::replace(head, raw);
        self.len += 1;
    }

    /// Takes an item out: by its token and the hash it was entered with, never by its key.
    #[inline(always)]
    pub fn remove<T>(&mut self, slab: &mut Slab<T>, token: Token) {
        self.unlink(slab, token);
        self.len -= 1;
        if self.heads.len() / 24 > self.len as usize {
            self.merge(slab);
        }
    }

    /// Gives an item another hash.
    #[inline(always)]
    pub fn rename<T>(&mut self, slab: &mut Slab<T>, token: Token, hash: u32) {
        self.unlink(slab, token);
        let Token(raw) = token;
        let bucket = self.bucket(hash) as usize;
        let chain = std::mem::replace(&mut self.heads[bucket], raw);
        let node = slab.node_mut(raw);
        (node.hash, node.chain) = (hash, chain);
    }

    #[inline(always)]
    fn unlink<T>(&mut self, slab: &mut Slab<T>, Token(raw): Token) {
        let node = slab.node(raw);
        let next = node.chain;
        let bucket = self.bucket(node.hash) as usize;
        let head = &mut self.heads[bucket];
        if *head == raw {
            *head = next;
        } else {
            let mut before = *head;
            while slab.node(before).chain != raw {
                before = slab.node(before).chain;
            }
            slab.node_mut(before).chain = next;
        }
    }

    /// Adds one bucket and moves to it what belongs there.
    fn split<T>(&mut self, slab: &mut Slab<T>) -> Result<(), Refused> {
        reserve_one(&mut self.heads, self.most)?;
        let new = self.heads.len() as u32;
        self.heads.push(NIL);
        if new > self.mask {
            self.mask = self.mask * 2 + 1;
        }
        if new == 0 {
            return Ok(());
        }
        let old = new & (self.mask >> 1);
        let (mut stay, mut go) = (NIL, NIL);
        let mut raw = self.heads[old as usize];
        while raw != NIL {
            let node = slab.node_mut(raw);
            let side = if node.hash & self.mask == new { &mut go } else { &mut stay };
            let next = std::mem::replace(&mut node.chain, *side);
            *side = raw;
            raw = next;
        }
        self.heads[old as usize] = stay;
        self.heads[new as usize] = go;
        Ok(())
    }

    /// Gives the last bucket back to the one it was split from.
    #[cold]
    fn merge<T>(&mut self, slab: &mut Slab<T>) {
        let Some(chain) = self.heads.pop() else { return };
        let gone = self.heads.len() as u32;
        if gone == 0 {
            return;
        }
        let into = gone & (self.mask >> 1);
        if gone == self.mask / 2 + 1 {
            self.mask >>= 1;
        }
        if chain != NIL {
            let mut end = chain;
            while slab.node(end).chain != NIL {
                end = slab.node(end).chain;
            }
            let head = &mut self.heads[into as usize];
            slab.node_mut(end).chain = std::mem::replace(head, chain);
        }
    }

    /// Panics unless every item is found in the bucket of its hash, once.
    #[cfg(any(test, feature = "validate"))]
    pub fn validate<T>(&self, slab: &Slab<T>) {
        let mut seen = 0;
        for bucket in 0..self.heads.len() as u32 {
            let mut raw = self.heads[bucket as usize];
            while raw != NIL {
                assert_eq!(self.bucket(slab.node(raw).hash), bucket);
                seen += 1;
                raw = slab.node(raw).chain;
            }
        }
        assert_eq!(seen, self.len);
        assert!(self.heads.is_empty() || self.mask as usize >= self.heads.len() - 1);
        assert!(self.heads.len() < 2 || ((self.mask / 2) as usize) < self.heads.len() - 1);
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}
