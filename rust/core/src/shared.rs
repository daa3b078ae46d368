//! Shared: the one lock of a container, and the loop that settles equality.

use crate::eq::{Equality, Probe};
use crate::refused::Refused;
use parking_lot::lock_api::{Mutex, MutexGuard, RawMutex};

/// A structure that threads share. Under its lock runs core code, and of the binding only `verdict`, `dup` and
/// `visit`: never code that can raise, block or come back here (law 1).
#[derive(Debug)]
pub struct Shared<C, L: RawMutex = parking_lot::RawMutex> {
    core: Mutex<L, C>,
}

impl<C> Shared<C> {
    /// Puts a structure behind a lock that any thread may take.
    pub const fn new(core: C) -> Self {
        Self::behind(core)
    }
}

impl<C, L: RawMutex> Shared<C, L> {
    /// Puts a structure behind a lock of the binding's own.
    pub const fn behind(core: C) -> Self {
        Shared { core: Mutex::new(core) }
    }

    /// The structure, locked. Hold it for a few lines, without foreign code, and without another container's lock.
    #[inline(always)]
    pub fn lock(&self) -> MutexGuard<'_, L, C> {
        self.core.lock()
    }

    /// The lock itself, for what a binding's own kind can do besides.
    pub const fn mutex(&self) -> &Mutex<L, C> {
        &self.core
    }

    /// Performs `act` on the structure, again and again until every question of equality it meets is settled.
    ///
    /// `act` must change nothing before it knows where the key is: it runs once for each round.
    #[inline(always)]
    pub fn ask<K, E: Equality<K>, R>(
        &self,
        eq: &E,
        mut act: impl FnMut(&mut C, &mut Probe<'_, K, E>) -> Result<R, Refused>,
    ) -> Result<R, E::Error> {
        let mut probe = Probe::new(eq);
        loop {
            let answer = act(&mut self.core.lock(), &mut probe);
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Refused::Undecided) => probe.settle()?,
                Err(Refused::NoMemory) if eq.give_memory_back() => {}
                Err(refused) => return Err(refused.into()),
            }
        }
    }
}
