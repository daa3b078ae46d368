//! Why an operation did not take place. Nothing has changed when one of these is returned.

use std::collections::TryReserveError;

/// The reasons, each of which the binding turns into an exception of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Two keys cannot be told apart without foreign code: settle the question unlocked, then look again.
    Undecided,
    /// Foreign equality changed the container during every one of many look-ups.
    Unsettled,
    /// One entry alone is heavier than the bound.
    TooHeavy {
        /// What the entry weighs.
        weight: u64,
        /// What the container may hold.
        bound: u64,
    },
    /// No room, and the container was told not to make any.
    Full {
        /// Entries that may be live.
        maxsize: u64,
        /// Entries that have expired and wait to be handed over.
        waiting: u64,
    },
    /// The allocator said no.
    NoMemory,
    /// `close()` was called, or the container was never given its bound.
    Closed,
    /// The structure changed under a running iteration.
    Changed,
}

/// A look-up that met a question of equality. No wider than a flag, so that the answer of a look-up fits a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undecided;

impl From<Undecided> for Refused {
    #[inline]
    fn from(_: Undecided) -> Self {
        Refused::Undecided
    }
}

impl From<TryReserveError> for Refused {
    fn from(_: TryReserveError) -> Self {
        Refused::NoMemory
    }
}
