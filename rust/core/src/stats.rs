//! Stats: what a map has done. Reading them changes none.

use crate::removed::Cause;

/// Counts since the map was made or its counts were cleared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Look-ups that found a live entry.
    pub hits: u64,
    /// Look-ups that found none.
    pub misses: u64,
    /// New entries.
    pub insertions: u64,
    /// Entries refused because they were heavier than the bound.
    pub rejected: u64,
    /// Weight that left for room or in time.
    pub evicted_weight: u64,
    left: [u64; 4],
}

impl Stats {
    pub(crate) const ZERO: Stats =
        Stats { hits: 0, misses: 0, insertions: 0, rejected: 0, evicted_weight: 0, left: [0; 4] };

    /// Entries that left for this cause.
    pub fn left(&self, cause: Cause) -> u64 {
        self.left[cause as usize]
    }

    #[inline]
    pub(crate) fn count(&mut self, cause: Cause, n: u64) {
        self.left[cause as usize] += n;
    }
}
