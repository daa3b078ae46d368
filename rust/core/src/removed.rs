//! What left, and why. The core never drops a key or a value: it hands them back (law 2).

/// Why an entry left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The user asked for it: deletion, `pop`, `clear`.
    Explicit,
    /// A new value took the place of this one.
    Replaced,
    /// Room was needed.
    Size,
    /// Its time was over.
    Expired,
}

impl Cause {
    /// All causes, in the order of their numbers.
    pub const ALL: [Cause; 4] = [Cause::Explicit, Cause::Replaced, Cause::Size, Cause::Expired];
}

/// Entries on their way out, in the order in which they left. The holder drops them, unlocked.
#[derive(Debug)]
#[must_use = "what is removed must be dropped where foreign code may run"]
pub struct Removed<K, V> {
    // One entry leaves with a write to a full map: that one costs no allocation.
    first: Option<(K, V, Cause)>,
    rest: Vec<(K, V, Cause)>,
}

impl<K, V> Removed<K, V> {
    /// Nothing yet.
    #[inline]
    pub const fn new() -> Self {
        Removed { first: None, rest: Vec::new() }
    }

    /// Whether nothing left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// How many left.
    pub fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Gives every entry to `take`, in the order in which they left.
    #[inline(always)]
    pub fn for_each(self, mut take: impl FnMut(K, V, Cause)) {
        if let Some((key, value, cause)) = self.first {
            take(key, value, cause);
        }
        if !self.rest.is_empty() {
            self.rest.into_iter().for_each(|(key, value, cause)| take(key, value, cause));
        }
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, key: K, value: V, cause: Cause) {
        match self.first {
            None => self.first = Some((key, value, cause)),
            Some(_) => self.push_more(key, value, cause),
        }
    }

    #[cold]
    fn push_more(&mut self, key: K, value: V, cause: Cause) {
        self.rest.push((key, value, cause));
    }
}

impl<K, V> Default for Removed<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> IntoIterator for Removed<K, V> {
    type Item = (K, V, Cause);
    type IntoIter = std::iter::Chain<std::option::IntoIter<Self::Item>, std::vec::IntoIter<Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}
