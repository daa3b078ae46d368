//! Shared: the one lock, the loop that settles equality, and what has left but is not yet dropped.

use crate::eq::{Equality, Probe};
use crate::refused::Refused;
use parking_lot::{Mutex, MutexGuard};

/// A structure that threads share. Under its lock runs core code, and of the binding only `verdict`, `dup` and
/// `visit`: never code that can raise, block or come back here (law 1).
#[derive(Debug)]
pub struct Shared<C> {
    core: Mutex<C>,
}

impl<C> Shared<C> {
    /// Puts a structure behind a lock.
    pub const fn new(core: C) -> Self {
        Shared { core: Mutex::new(core) }
    }

    /// The structure, locked. Hold it for a few lines, without foreign code, and without another container's lock.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, C> {
        self.core.lock()
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
                Err(refused) => return Err(refused.into()),
            }
        }
    }
}
