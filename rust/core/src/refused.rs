//! Why an operation did not take place. Nothing has changed when one of these is returned.

use std::collections::TryReserveError;

/// The reasons, each of which the binding turns into an exception of its own. No wider than a pointer and its tag, so
/// that what a look-up returns fits into registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Two keys cannot be told apart without foreign code: settle the question unlocked, then look again.
    Undecided,
    /// Foreign equality changed the container during every one of many look-ups.
    Unsettled,
    /// One entry alone is heavier than the bound.
    TooHeavy(Box<Heavy>),
    /// No room, and the container was told not to make any.
    Full(Box<Crowd>),
    /// The allocator said no.
    NoMemory,
    /// `close()` was called, or the container was never given its bound.
    Closed,
    /// The structure changed under a running iteration.
    Changed,
}

/// What is too heavy, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heavy {
    /// What the entry weighs.
    pub weight: u64,
    /// What the container may hold.
    pub bound: u64,
}

/// Who takes the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crowd {
    /// Entries that may be live.
    pub maxsize: u64,
    /// Entries that have expired and wait to be handed over.
    pub waiting: u64,
}

impl Refused {
    /// An entry of this weight does not fit into this bound.
    #[cold]
    pub fn too_heavy(weight: u64, bound: u64) -> Self {
        Refused::TooHeavy(Box::new(Heavy { weight, bound }))
    }

    /// There is no room.
    #[cold]
    pub fn full(maxsize: u64, waiting: u64) -> Self {
        Refused::Full(Box::new(Crowd { maxsize, waiting }))
    }
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
