//! Ring: a bounded sequence; the oldest leaves first, except for a pinned head.
//!
//! Position `i` of the first `keep_first` items is fixed; behind them stands a window over an endless sequence, of which
//! `fallen` counts what has left at its front. That is what lets an iteration go on from where it was.

use crate::refused::Refused;
use crate::time::Tick;
use std::collections::VecDeque;

/// A bounded sequence.
#[derive(Debug)]
pub struct Ring<T> {
    items: VecDeque<T>,
    /// Weight and end of life of each item, kept only if there is such a bound.
    weights: Option<VecDeque<u64>>,
    ends: Option<VecDeque<Tick>>,
    /// When the sweeper will come.
    alarm: Tick,
    maxlen: usize,
    max_weight: u64,
    weight: u64,
    keep_first: usize,
    ttl: Option<u64>,
    /// Items that left at the front of the window, by the bound or otherwise; fewer, if some were put there.
    fallen: i64,
    /// Items that left by the bound or in time.
    dropped: u64,
    /// Changes with everything but an append that nothing falls off for.
    epoch: u64,
    closed: bool,
    /// Room for what is rearranged; empty between calls.
    scratch: Vec<Part<T>>,
}

/// Items with their weights that a ring did not take, and why.
pub type Spurned<T> = (Vec<(T, u64)>, Refused);

/// A place in the endless sequence, and where the iteration ends.
#[derive(Debug, Clone, Copy)]
pub struct Cursor {
    next: i64,
    end: i64,
    backwards: bool,
}

impl<T> Ring<T> {
    /// A ring that is closed until it is [configured](Self::configure).
    pub const fn new() -> Self {
        Ring {
            items: VecDeque::new(),
            weights: None,
            ends: None,
            alarm: Tick::NEVER,
            maxlen: 0,
            max_weight: u64::MAX,
            weight: 0,
            keep_first: 0,
            ttl: None,
            fallen: 0,
            dropped: 0,
            epoch: 0,
            closed: true,
            scratch: Vec::new(),
        }
    }

    /// Opens the ring: bounds on length and weight (None for none), the number of pinned items, and nanoseconds to live.
    pub fn configure(&mut self, maxlen: Option<usize>, max_weight: Option<u64>, keep_first: usize, ttl: Option<u64>) {
        self.maxlen = maxlen.unwrap_or(usize::MAX);
        self.max_weight = max_weight.unwrap_or(u64::MAX);
        self.weights = max_weight.map(|_| VecDeque::new());
        self.ends = ttl.map(|_| VecDeque::new());
        (self.keep_first, self.ttl, self.closed) = (keep_first, ttl, false);
        // The whole ring at once where that is cheap: the system commits memory page by page.
        if let Some(maxlen) = maxlen.filter(|&maxlen| maxlen <= 1 << 20) {
            let _ = self.items.try_reserve_exact(maxlen);
        }
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

    /// Number of items.
    #[inline]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bound on the number of items.
    pub fn maxlen(&self) -> Option<usize> {
        (self.maxlen != usize::MAX).then_some(self.maxlen)
    }

    /// Bound on the total weight.
    pub fn max_weight(&self) -> Option<u64> {
        self.weights.is_some().then_some(self.max_weight)
    }

    /// Number of pinned items.
    pub fn keep_first(&self) -> usize {
        self.keep_first
    }

    /// Total weight; 0 if items have none.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Items that left by the bound or in time.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The absolute index of the first item, counting all that have left at the front; pinned items do not count.
    pub fn offset(&self) -> i64 {
        self.fallen
    }

    /// Changes with everything but an append that nothing falls off for.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes allocated for the structure, beside the items.
    pub fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<T>()
            + self.weights.as_ref().map_or(0, |weights| weights.capacity() * size_of::<u64>())
            + self.ends.as_ref().map_or(0, |ends| ends.capacity() * size_of::<Tick>())
    }

    /// The item at a position.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.items.get(index)
    }

    /// All items, or those of a range.
    #[inline]
    pub fn range(&self, range: std::ops::Range<usize>) -> impl DoubleEndedIterator<Item = &T> + ExactSizeIterator {
        self.items.range(range)
    }

    /// All items with their weights and ends of life.
    pub fn packed(&self) -> impl Iterator<Item = (&T, u64, Tick)> {
        let weight = |i: usize| self.weights.as_ref().map_or(0, |weights| weights[i]);
        let end = |i: usize| self.ends.as_ref().map_or(Tick::NEVER, |ends| ends[i]);
        self.items.iter().enumerate().map(move |(i, item)| (item, weight(i), end(i)))
    }

    /// When the next item leaves.
    pub fn next_due(&self) -> Option<Tick> {
        self.ends.as_ref()?.get(self.keep_first).copied()
    }

    fn pinned(&self) -> usize {
        self.keep_first.min(self.len())
    }

    /// Whether an item of this weight can be held beside the pinned ones.
    fn admit(&self, weight: u64, position: usize) -> Result<(), Refused> {
        let Some(weights) = &self.weights else { return Ok(()) };
        let pinned: u64 = weights.range(..self.pinned()).sum();
        let replaced = if position < self.pinned() { weights[position] } else { 0 };
        let bound = self.max_weight.saturating_sub(pinned - replaced);
        if weight > bound {
            return Err(Refused::too_heavy(weight, bound));
        }
        Ok(())
    }

    // Moves. What falls off goes to `fallen`, in order.

    /// Adds an item at the end of a full ring that is bounded by length alone, and gives the oldest, which leaves for
    /// it. The item itself comes back if the ring is not like that: then [`push`](Self::push) knows what to do.
    #[inline(always)]
    pub fn turn(&mut self, item: T) -> Result<T, T> {
        let plain = self.weights.is_none() && self.ends.is_none() && self.keep_first == 0;
        if self.items.len() != self.maxlen || !plain {
            return Err(item);
        }
        let Some(oldest) = self.items.pop_front() else { return Err(item) };
        self.items.push_back(item);
        self.fallen += 1;
        self.dropped += 1;
        self.epoch += 1;
        Ok(oldest)
    }

    /// Adds an item at the end; the oldest that is not pinned leaves if the ring is full.
    #[inline]
    pub fn push(&mut self, item: T, weight: u64, now: Tick, fallen: &mut Fallen<T>) -> Result<(), (T, Refused)> {
        if self.len() >= self.maxlen || self.weights.is_some() || self.ends.is_some() || self.closed {
            return self.push_until(item, weight, now.after(self.ttl), fallen);
        }
        if let Err(error) = self.items.try_reserve(1) {
            return Err((item, error.into()));
        }
        self.items.push_back(item);
        Ok(())
    }

    /// As [`push`](Self::push), for an item with an end of life of its own: one that was in a ring before.
    pub fn push_until(&mut self, item: T, weight: u64, end: Tick, fallen: &mut Fallen<T>) -> Result<(), (T, Refused)> {
        if let Err(refused) = self.open().and_then(|()| self.admit(weight, self.len())) {
            return Err((item, refused));
        }
        if self.pinned() >= self.maxlen {
            return Err((item, Refused::full(self.maxlen as u64, 0)));
        }
        while self.len() >= self.maxlen || self.weight > self.max_weight - weight {
            self.fall(fallen);
        }
        if let Err(refused) = self.reserve(1) {
            return Err((item, refused));
        }
        self.items.push_back(item);
        self.weight += self.weights.as_mut().map_or(0, |weights| {
            weights.push_back(weight);
            weight
        });
        if let Some(ends) = &mut self.ends {
            // In order, also if the clock was turned back.
            let last = ends.back().copied().unwrap_or_default();
            ends.push_back(end.max(last));
        }
        Ok(())
    }

    fn reserve(&mut self, room: usize) -> Result<(), Refused> {
        self.items.try_reserve(room)?;
        if let Some(weights) = &mut self.weights {
            weights.try_reserve(room)?;
        }
        if let Some(ends) = &mut self.ends {
            ends.try_reserve(room)?;
        }
        Ok(())
    }

    /// Lets the oldest item that is not pinned leave.
    #[inline]
    fn fall(&mut self, fallen: &mut Fallen<T>) {
        if let Some(item) = self.cut(self.pinned()) {
            self.fallen += 1;
            self.dropped += 1;
            self.epoch += 1;
            fallen.push(item);
        }
    }

    #[inline]
    fn cut(&mut self, position: usize) -> Option<T> {
        let item = if position == 0 { self.items.pop_front() } else { self.items.remove(position) }?;
        if let Some(weights) = &mut self.weights {
            self.weight -= weights.remove(position).unwrap_or(0);
        }
        if let Some(ends) = &mut self.ends {
            ends.remove(position);
        }
        Some(item)
    }

    /// Lets go of at most `budget` items whose time is over, and says how many.
    pub fn expire(&mut self, now: Tick, budget: usize, fallen: &mut Fallen<T>) -> usize {
        let before = self.dropped;
        while self.dropped - before < budget as u64 && self.next_due().is_some_and(|end| end <= now) {
            self.fall(fallen);
        }
        (self.dropped - before) as usize
    }

    /// The next end of life if it is nearer than the one that the sweeper knows of; then it does.
    #[inline]
    pub fn alarm(&mut self) -> Option<Tick> {
        let due = self.next_due()?;
        (due < self.alarm).then(|| self.rearm())
    }

    /// The next end of life, for the sweeper.
    pub fn rearm(&mut self) -> Tick {
        self.alarm = self.next_due().unwrap_or(Tick::NEVER);
        self.alarm
    }

    /// There is no sweeper any more that knows of an end of life.
    pub fn disarm(&mut self) {
        self.alarm = Tick::NEVER;
    }

    /// Adds an item at the front; on a full ring the newest leaves, as with a deque.
    pub fn push_front(&mut self, item: T, weight: u64, now: Tick, fallen: &mut Fallen<T>) -> Result<(), (T, Refused)> {
        // The last of the pinned items, if there are that many, is pinned no more.
        let unpinned = if self.len() < self.keep_first { usize::MAX } else { self.keep_first.wrapping_sub(1) };
        if let Err(refused) = self.open().and_then(|()| self.admit(weight, unpinned)).and_then(|()| self.reserve(1)) {
            return Err((item, refused));
        }
        while self.len() >= self.maxlen || self.weight > self.max_weight - weight {
            let Some(newest) = self.cut(self.len().wrapping_sub(1)) else { break };
            self.dropped += 1;
            fallen.push(newest);
        }
        self.place(0, item, weight, now);
        self.fallen -= i64::from(self.keep_first == 0);
        Ok(())
    }

    /// Puts an item in front of a position. A full ring refuses, as a deque does.
    pub fn insert(&mut self, position: usize, item: T, weight: u64, now: Tick) -> Result<(), (T, Refused)> {
        let full = self.len() >= self.maxlen || self.weight > self.max_weight.saturating_sub(weight);
        let maxsize = self.maxlen as u64;
        let refuse = if full { Err(Refused::full(maxsize, 0)) } else { Ok(()) };
        if let Err(refused) = self.open().and_then(|()| self.admit(weight, position)).and(refuse) {
            return Err((item, refused));
        }
        if let Err(refused) = self.reserve(1) {
            return Err((item, refused));
        }
        self.place(position.min(self.len()), item, weight, now);
        Ok(())
    }

    fn place(&mut self, position: usize, item: T, weight: u64, now: Tick) {
        self.items.insert(position, item);
        if let Some(weights) = &mut self.weights {
            weights.insert(position, weight);
            self.weight += weight;
        }
        if let Some(ends) = &mut self.ends {
            // In order, so that the front is always what leaves next: no later than what stands behind it.
            let before = position.checked_sub(1).map_or(Tick::default(), |before| ends[before]);
            let behind = ends.get(position).copied().unwrap_or(Tick::NEVER);
            ends.insert(position, now.after(self.ttl).max(before).min(behind));
        }
        self.epoch += 1;
    }

    /// Puts an item in the place of another, which is given back; others leave if it is too heavy for all to stay.
    pub fn replace(
        &mut self,
        mut position: usize,
        item: T,
        weight: u64,
        fallen: &mut Fallen<T>,
    ) -> Result<T, (T, Refused)> {
        if let Err(refused) = self.open().and_then(|()| self.admit(weight, position)) {
            return Err((item, refused));
        }
        if let Some(weights) = &mut self.weights {
            self.weight -= std::mem::replace(&mut weights[position], 0);
            while self.weight > self.max_weight - weight {
                let pinned = self.pinned();
                if pinned == position {
                    // Not itself, but what comes after it.
                    let Some(item) = self.cut(position + 1) else { break };
                    self.dropped += 1;
                    fallen.push(item);
                } else {
                    self.fall(fallen);
                    position -= usize::from(pinned < position);
                }
            }
            if let Some(weights) = &mut self.weights {
                weights[position] = weight;
            }
            self.weight += weight;
        }
        self.epoch += 1;
        Ok(std::mem::replace(&mut self.items[position], item))
    }

    /// Takes the item at a position out.
    #[inline]
    pub fn remove(&mut self, position: usize) -> Option<T> {
        let item = self.cut(position)?;
        // A deletion at the front moves the window, and a running iteration with it.
        self.fallen += i64::from(position == 0 && self.keep_first == 0);
        self.epoch += 1;
        Some(item)
    }

    /// Takes out every item at a position that `leaves` says.
    pub fn remove_where(&mut self, mut leaves: impl FnMut(usize) -> bool) -> Vec<T> {
        let mut removed = Vec::new();
        let front = (0..self.len()).take_while(|&position| leaves(position)).count();
        let all = self.take_all();
        for (position, part) in all.into_iter().enumerate() {
            if position < front || leaves(position) {
                removed.push(part.item);
            } else {
                self.put_back(part);
            }
        }
        self.fallen += if self.keep_first == 0 { front as i64 } else { 0 };
        removed
    }

    /// Puts items in the place of a range; what is then too much leaves, oldest first. Gives what was in the range.
    pub fn splice(
        &mut self,
        range: std::ops::Range<usize>,
        new: Vec<(T, u64)>,
        now: Tick,
        fallen: &mut Fallen<T>,
    ) -> Result<Vec<T>, Spurned<T>> {
        let heaviest = new.iter().map(|&(_, weight)| weight).max().unwrap_or(0);
        let total = new.iter().try_fold(self.weight, |sum, &(_, weight)| sum.checked_add(weight));
        let countable = match total {
            // All of them stand here for a moment, so their sum has to be a number.
            None if self.weights.is_some() => Err(Refused::too_heavy(u64::MAX, self.max_weight)),
            _ => Ok(()),
        };
        let admit = self.open().and_then(|()| self.admit(heaviest, usize::MAX)).and(countable);
        let reserve = admit.and_then(|()| self.reserve(new.len())).and_then(|()| self.prepare());
        if let Err(refused) = reserve {
            return Err((new, refused));
        }
        let mut all = self.take_all();
        let end = now.after(self.ttl);
        let new = new.into_iter().map(|(item, weight)| Part { item, weight, end });
        let old = all.splice(range, new).map(|part| part.item).collect();
        // Ends stay in order: nothing outlives what stands behind it.
        let mut soonest = Tick::NEVER;
        for part in all.iter_mut().rev() {
            soonest = soonest.min(part.end);
            part.end = soonest;
        }
        all.into_iter().for_each(|part| self.put_back(part));
        self.shrink(fallen);
        Ok(old)
    }

    /// Stands the items in another order: `order[i]` is the old position of what comes to position `i`.
    pub fn permute(&mut self, order: &[usize]) {
        let mut parts: Vec<Option<Part<T>>> = self.take_all().into_iter().map(Some).collect();
        let mut ends: Vec<Tick> = parts.iter().flatten().map(|part| part.end).collect();
        ends.sort_unstable();
        for (&from, end) in order.iter().zip(ends) {
            if let Some(part) = parts[from].take() {
                self.put_back(Part { end, ..part });
            }
        }
    }

    /// Takes the memory that [`permute`](Self::permute), [`remove_where`](Self::remove_where) and
    /// [`splice`](Self::splice) work in, so that they cannot run out of it half way.
    pub fn prepare(&mut self) -> Result<(), Refused> {
        self.scratch.try_reserve_exact(self.items.len())?;
        Ok(())
    }

    fn take_all(&mut self) -> Vec<Part<T>> {
        self.epoch += 1;
        self.weight = 0;
        let mut weights = self.weights.as_mut().map(std::mem::take).unwrap_or_default().into_iter();
        let mut ends = self.ends.as_mut().map(std::mem::take).unwrap_or_default().into_iter();
        let mut parts = std::mem::take(&mut self.scratch);
        parts.extend(self.items.drain(..).map(|item| Part {
            item,
            weight: weights.next().unwrap_or(0),
            end: ends.next().unwrap_or(Tick::NEVER),
        }));
        parts
    }

    fn put_back(&mut self, part: Part<T>) {
        self.items.push_back(part.item);
        if let Some(weights) = &mut self.weights {
            weights.push_back(part.weight);
            self.weight += part.weight;
        }
        if let Some(ends) = &mut self.ends {
            ends.push_back(part.end);
        }
    }

    fn shrink(&mut self, fallen: &mut Fallen<T>) {
        while self.len() > self.maxlen || self.weight > self.max_weight {
            if self.pinned() == self.len() {
                // Only pinned items are left: the newest of them makes way.
                let Some(item) = self.cut(self.len().wrapping_sub(1)) else { return };
                self.dropped += 1;
                self.epoch += 1;
                fallen.push(item);
            } else {
                self.fall(fallen);
            }
        }
    }

    /// Lets the `n` oldest items that are not pinned leave, as if room were needed.
    pub fn evict(&mut self, n: usize, fallen: &mut Fallen<T>) {
        for _ in 0..n.min(self.len() - self.pinned()) {
            self.fall(fallen);
        }
    }

    /// Changes the bound on the number of items; the oldest leave.
    pub fn set_maxlen(&mut self, maxlen: Option<usize>, fallen: &mut Fallen<T>) {
        self.maxlen = maxlen.unwrap_or(usize::MAX);
        self.shrink(fallen);
    }

    /// Changes the bound on the total weight; the oldest leave. Only for a ring made with one.
    pub fn set_max_weight(&mut self, max_weight: u64, fallen: &mut Fallen<T>) {
        self.max_weight = max_weight;
        self.shrink(fallen);
    }

    /// Empties the ring in O(1); what it held is dropped by the caller.
    pub fn clear(&mut self) -> VecDeque<T> {
        self.fallen += (self.len() - self.pinned()) as i64;
        self.epoch += 1;
        self.weight = 0;
        self.weights = self.weights.take().map(|_| VecDeque::new());
        self.ends = self.ends.take().map(|_| VecDeque::new());
        std::mem::take(&mut self.items)
    }

    /// Empties the ring for good: whatever needs it from now on is refused.
    pub fn close(&mut self) -> VecDeque<T> {
        self.closed = true;
        self.maxlen = 0;
        self.clear()
    }

    /// The place of a position in the endless sequence: pinned items keep theirs, the others count what fell.
    fn absolute(&self, position: usize) -> i64 {
        position as i64 + if position < self.keep_first { 0 } else { self.fallen }
    }

    /// Starts an iteration over what is here now.
    pub fn cursor(&self, backwards: bool) -> Cursor {
        let front = self.absolute(0);
        let back = self.len().checked_sub(1).map_or(front, |last| self.absolute(last) + 1);
        match backwards {
            false => Cursor { next: front, end: back, backwards },
            true => Cursor { next: back - 1, end: front, backwards },
        }
    }

    /// The next item of an iteration. What fell off meanwhile is passed over, what was appended is not met.
    pub fn step(&self, cursor: &mut Cursor) -> Option<&T> {
        let pinned = self.keep_first as i64;
        let in_window = |place: i64| pinned == 0 || place >= pinned;
        if in_window(cursor.next) && cursor.next < pinned + self.fallen {
            match (cursor.backwards, pinned) {
                (false, _) => cursor.next = pinned + self.fallen,
                (true, 0) => return None,
                (true, _) => cursor.next = pinned - 1,
            }
        }
        if if cursor.backwards { cursor.next < cursor.end } else { cursor.next >= cursor.end } {
            return None;
        }
        let position = cursor.next - if in_window(cursor.next) { self.fallen } else { 0 };
        cursor.next += if cursor.backwards { -1 } else { 1 };
        self.items.get(usize::try_from(position).ok()?)
    }

    /// Panics unless the parts agree and the bounds hold.
    #[cfg(any(test, feature = "validate"))]
    pub fn validate(&self) {
        assert!(self.len() <= self.maxlen);
        if let Some(weights) = &self.weights {
            assert_eq!(weights.len(), self.len());
            assert_eq!(weights.iter().sum::<u64>(), self.weight);
            assert!(self.weight <= self.max_weight);
        }
        if let Some(ends) = &self.ends {
            assert_eq!(ends.len(), self.len());
            assert!(ends.iter().is_sorted());
        }
    }
}

#[derive(Debug)]
struct Part<T> {
    item: T,
    weight: u64,
    end: Tick,
}

/// What fell off, in order.
#[derive(Debug)]
#[must_use = "what falls off must be dropped where foreign code may run"]
pub struct Fallen<T> {
    first: Option<T>,
    rest: Vec<T>,
}

impl<T> Fallen<T> {
    /// Nothing yet.
    #[inline]
    pub const fn new() -> Self {
        Fallen { first: None, rest: Vec::new() }
    }

    #[inline]
    fn push(&mut self, item: T) {
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.rest.push(item),
        }
    }

    /// Whether nothing fell.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl<T> Default for Fallen<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> IntoIterator for Fallen<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self::new()
    }
}
