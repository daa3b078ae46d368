//! Slab: items with small stable names, and the orders they stand in.
//!
//! An item keeps its [`Token`] until it is removed; links are tokens, not pointers, so the list is safe code. A node
//! is 32 bytes for a pair of pointers: half a cache line holds all that one look-up needs.

use crate::growth::{bytes, reserve_one};
use crate::refused::Refused;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const NIL: u32 = u32::MAX;

/// The name of an item in its slab, valid until the item is removed and never across foreign code (law 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token(pub(crate) u32);

impl Token {
    pub(crate) fn some(raw: u32) -> Option<Token> {
        (raw != NIL).then_some(Token(raw))
    }
}

#[derive(Debug)]
pub(crate) struct Node<T> {
    item: Option<T>,
    /// Mixed hash of the key, remembered so that no removal has to ask the key again.
    pub(crate) hash: u32,
    /// The next node in the same bucket of the index.
    pub(crate) chain: u32,
    prev: u32,
    next: u32,
}

/// Items by token, without an order of their own.
#[derive(Debug)]
pub struct Slab<T> {
    nodes: Vec<Node<T>>,
    free: u32,
    /// The number of items that will never be exceeded, as far as that is known.
    most: usize,
}

impl<T> Slab<T> {
    /// An empty slab. Allocates nothing.
    pub const fn new() -> Self {
        Slab { nodes: Vec::new(), free: NIL, most: usize::MAX }
    }

    /// Says how many items there will be at most, so that no more room than that is taken.
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        bytes(&self.nodes)
    }

    #[inline(always)]
    pub(crate) fn node(&self, raw: u32) -> &Node<T> {
        &self.nodes[raw as usize]
    }

    #[inline(always)]
    pub(crate) fn node_mut(&mut self, raw: u32) -> &mut Node<T> {
        &mut self.nodes[raw as usize]
    }

    /// The node behind a link; None behind the last one. NIL is past every node, so one comparison tells both.
    #[inline(always)]
    pub(crate) fn at(&self, raw: u32) -> Option<&Node<T>> {
        self.nodes.get(raw as usize)
    }

    #[inline(always)]
    fn at_mut(&mut self, raw: u32) -> Option<&mut Node<T>> {
        self.nodes.get_mut(raw as usize)
    }

    /// The item named by `token`.
    #[inline(always)]
    pub fn get(&self, token: Token) -> &T {
        self.node(token.0).item.as_ref().expect("a token names a live item")
    }

    /// The item named by `token`, to change.
    #[inline(always)]
    pub fn get_mut(&mut self, token: Token) -> &mut T {
        self.node_mut(token.0).item.as_mut().expect("a token names a live item")
    }

    /// Makes sure that the next [`insert`](Self::insert) cannot fail, and says which token it will give.
    #[inline(always)]
    pub fn reserve(&mut self) -> Result<Token, Refused> {
        if self.free == NIL {
            // The last number is kept free: it means "none" wherever a token is stored.
            let raw = u32::try_from(self.nodes.len()).ok().filter(|&raw| raw < NIL - 1).ok_or(Refused::NoMemory)?;
            reserve_one(&mut self.nodes, self.most)?;
            self.nodes.push(Node { item: None, hash: 0, chain: NIL, prev: NIL, next: NIL });
            self.free = raw;
        }
        Ok(Token(self.free))
    }

    /// Stores `item` in the place made by [`reserve`](Self::reserve) or left by [`remove`](Self::remove).
    #[inline(always)]
    pub fn insert(&mut self, hash: u32, item: T) -> Token {
        let raw = self.free;
        let node = self.node_mut(raw);
        let free = node.next;
        *node = Node { item: Some(item), hash, chain: NIL, prev: NIL, next: NIL };
        self.free = free;
        Token(raw)
    }

    /// Takes the item out. It must stand in no order and no index any more.
    #[inline(always)]
    pub fn remove(&mut self, token: Token) -> T {
        let free = self.free;
        let node = self.node_mut(token.0);
        node.next = free;
        let item = node.item.take().expect("a token names a live item");
        self.free = token.0;
        item
    }

    /// All items, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.nodes.iter().filter_map(|node| node.item.as_ref())
    }

    /// What stands in at most `n` places, evenly spread; less where places are free. O(n).
    pub fn sample(&self, n: usize) -> impl Iterator<Item = &T> {
        let step = self.nodes.len().div_ceil(n.max(1)).max(1);
        self.nodes.iter().step_by(step).filter_map(|node| node.item.as_ref())
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A doubly linked order over some items of one slab, and the walks that go along it.
///
/// A walk is an iteration that outlives the lock. It meets every item once, whatever is promoted meanwhile: the first
/// promotion under a walk makes it remember what it has still to visit (O(n) once, and only then).
#[derive(Debug)]
pub struct Order {
    first: u32,
    last: u32,
    len: u32,
    walks: Vec<Walk>,
}

#[derive(Debug)]
struct Walk {
    id: WalkId,
    next: u32,
    /// What was the end when the walk began: what is added later is not met.
    end: u32,
    backwards: bool,
    /// What is still to visit, last first, once the order itself can no longer tell.
    rest: Option<Vec<u32>>,
}

/// The name of a walk; unique in the process, so a walk over a structure that was swapped away just ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkId(u64);

impl Order {
    /// An empty order.
    pub const fn new() -> Self {
        Order { first: NIL, last: NIL, len: 0, walks: Vec::new() }
    }

    /// Number of items that stand in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing stands in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The oldest.
    #[inline]
    pub fn first(&self) -> Option<Token> {
        Token::some(self.first)
    }

    /// The newest.
    #[inline]
    pub fn last(&self) -> Option<Token> {
        Token::some(self.last)
    }

    /// What stands behind `token`, towards the newest.
    pub fn next<T>(&self, slab: &Slab<T>, token: Token) -> Option<Token> {
        Token::some(slab.node(token.0).next)
    }

    /// Puts an item that stands in no order at the newest end.
    #[inline(always)]
    pub fn push_last<T>(&mut self, slab: &mut Slab<T>, Token(raw): Token) {
        let last = std::mem::replace(&mut self.last, raw);
        let node = slab.node_mut(raw);
        (node.prev, node.next) = (last, NIL);
        match slab.at_mut(last) {
            Some(node) => node.next = raw,
            None => self.first = raw,
        }
        self.len += 1;
    }

    /// Puts an item that stands in no order at the oldest end.
    pub fn push_first<T>(&mut self, slab: &mut Slab<T>, Token(raw): Token) {
        let first = std::mem::replace(&mut self.first, raw);
        let node = slab.node_mut(raw);
        (node.prev, node.next) = (NIL, first);
        match slab.at_mut(first) {
            Some(node) => node.prev = raw,
            None => self.last = raw,
        }
        self.len += 1;
    }

    /// Takes an item out of the order; walks that were about to visit it go past it.
    #[inline(always)]
    pub fn unlink<T>(&mut self, slab: &mut Slab<T>, Token(raw): Token) {
        let node = slab.node(raw);
        let (prev, next) = (node.prev, node.next);
        if !self.walks.is_empty() {
            self.pass(raw, prev, next);
        }
        match slab.at_mut(prev) {
            Some(node) => node.next = next,
            None => self.first = next,
        }
        match slab.at_mut(next) {
            Some(node) => node.prev = prev,
            None => self.last = prev,
        }
        self.len -= 1;
    }

    #[cold]
    fn pass(&mut self, raw: u32, prev: u32, next: u32) {
        for walk in &mut self.walks {
            let (onwards, back) = if walk.backwards { (prev, next) } else { (next, prev) };
            match (walk.next == raw, walk.end == raw) {
                (true, true) => walk.next = NIL,
                (true, false) => walk.next = onwards,
                (false, true) => walk.end = back,
                (false, false) => {}
            }
        }
    }

    /// Makes `token` the newest.
    #[inline(always)]
    pub fn move_last<T>(&mut self, slab: &mut Slab<T>, token: Token) {
        if !self.walks.is_empty() && self.last != token.0 {
            self.remember_rest(slab);
        }
        self.move_last_unseen(slab, token);
    }

    /// As [`move_last`](Self::move_last), where no walk is under way.
    #[inline(always)]
    pub(crate) fn move_last_unseen<T>(&mut self, slab: &mut Slab<T>, Token(raw): Token) {
        if self.last == raw {
            return;
        }
        let last = std::mem::replace(&mut self.last, raw);
        // A slice of its own: the compiler need not look up where it is after each store.
        let nodes = &mut slab.nodes[..];
        let node = &mut nodes[raw as usize];
        let (prev, next) = (std::mem::replace(&mut node.prev, last), std::mem::replace(&mut node.next, NIL));
        nodes[last as usize].next = raw;
        // Not the last one, so something stands behind it.
        nodes[next as usize].prev = prev;
        match nodes.get_mut(prev as usize) {
            Some(node) => node.next = next,
            None => self.first = next,
        }
    }

    /// Whether a walk is under way.
    #[inline(always)]
    pub(crate) fn is_walked(&self) -> bool {
        !self.walks.is_empty()
    }

    /// Makes `token` the oldest.
    pub fn move_first<T>(&mut self, slab: &mut Slab<T>, token: Token) {
        if self.first != token.0 {
            self.remember_rest(slab);
            self.unlink(slab, token);
            self.push_first(slab, token);
        }
    }

    /// Starts a walk from the oldest to the newest, or backwards.
    pub fn walk(&mut self, backwards: bool) -> WalkId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = WalkId(NEXT.fetch_add(1, Ordering::Relaxed));
        let (next, end) = if backwards { (self.last, self.first) } else { (self.first, self.last) };
        self.walks.push(Walk { id, next, end, backwards, rest: None });
        id
    }

    /// The next item of a walk; None at its end.
    pub fn step<T>(&mut self, slab: &Slab<T>, id: WalkId) -> Option<Token> {
        let walk = self.walks.iter_mut().find(|walk| walk.id == id)?;
        if let Some(rest) = &mut walk.rest {
            while let Some(raw) = rest.pop() {
                if slab.node(raw).item.is_some() {
                    return Some(Token(raw));
                }
            }
            return None;
        }
        let token = Token::some(walk.next)?;
        let node = slab.node(token.0);
        walk.next = match token.0 == walk.end {
            true => NIL,
            false if walk.backwards => node.prev,
            false => node.next,
        };
        Some(token)
    }

    /// Forgets a walk, finished or not.
    pub fn end_walk(&mut self, id: WalkId) {
        self.walks.retain(|walk| walk.id != id);
    }

    /// Whether there is nothing in it, and no walk that remembers something.
    pub fn is_idle(&self) -> bool {
        self.is_empty() && self.walks.is_empty()
    }

    /// Forgets all walks.
    #[inline(always)]
    pub fn end_walks(&mut self) {
        if !self.walks.is_empty() {
            self.walks.clear();
        }
    }

    #[cold]
    fn remember_rest<T>(&mut self, slab: &Slab<T>) {
        for walk in self.walks.iter_mut().filter(|walk| walk.rest.is_none()) {
            let mut rest = Vec::new();
            let mut raw = walk.next;
            while raw != NIL {
                rest.push(raw);
                let node = slab.node(raw);
                raw = match raw == walk.end {
                    true => NIL,
                    false if walk.backwards => node.prev,
                    false => node.next,
                };
            }
            rest.reverse();
            (walk.next, walk.rest) = (NIL, Some(rest));
        }
    }

    /// The tokens from the oldest to the newest.
    pub fn iter<'a, T>(&self, slab: &'a Slab<T>) -> impl Iterator<Item = Token> + 'a {
        let mut raw = self.first;
        std::iter::from_fn(move || {
            let token = Token::some(raw)?;
            raw = slab.node(raw).next;
            Some(token)
        })
    }

    /// The tokens from the newest to the oldest.
    pub fn iter_back<'a, T>(&self, slab: &'a Slab<T>) -> impl Iterator<Item = Token> + 'a {
        let mut raw = self.last;
        std::iter::from_fn(move || {
            let token = Token::some(raw)?;
            raw = slab.node(raw).prev;
            Some(token)
        })
    }

    /// Panics unless links, ends and length agree.
    #[cfg(any(test, feature = "validate"))]
    pub fn validate<T>(&self, slab: &Slab<T>) {
        let forwards: Vec<_> = self.iter(slab).collect();
        let mut backwards: Vec<_> = self.iter_back(slab).collect();
        backwards.reverse();
        assert_eq!(forwards, backwards);
        assert_eq!(forwards.len(), self.len());
        assert!(forwards.iter().all(|token| slab.node(token.0).item.is_some()));
    }
}

impl Default for Order {
    fn default() -> Self {
        Self::new()
    }
}
