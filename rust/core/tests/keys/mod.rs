//! Keys for the models: a few hashes for all of them, and every second one cannot be compared on sight.

use std::rc::Rc;
use ullage_core::{mix, Equality, Refused, Verdict};

/// A number as an object: two equal ones need not be the same one.
#[derive(Debug)]
pub(crate) struct Key(Rc<u32>);

impl Key {
    pub(crate) fn new(number: u32) -> Self {
        Key(Rc::new(number))
    }

    pub(crate) fn number(&self) -> u32 {
        *self.0
    }

    /// A second reference, as a binding would take one.
    pub(crate) fn dup(&self) -> Self {
        Key(Rc::clone(&self.0))
    }
}

/// The hash of a number: one of seven, so that keys collide.
pub(crate) fn hash(number: u32) -> u32 {
    mix(u64::from(number % 7))
}

/// The equality of one number with stored keys. Odd ones have to be asked.
pub(crate) struct Wanted(pub(crate) u32);

impl Equality<Key> for Wanted {
    type Error = Refused;

    fn verdict(&self, stored: &Key) -> Verdict {
        match stored.number() {
            number if number % 2 == 1 => Verdict::Undecided,
            number if number == self.0 => Verdict::Same,
            _ => Verdict::Different,
        }
    }

    fn ask(&self, stored: &Key) -> Result<bool, Refused> {
        Ok(stored.number() == self.0)
    }

    fn dup(&self, stored: &Key) -> Key {
        stored.dup()
    }

    fn identity(stored: &Key) -> usize {
        Rc::as_ptr(&stored.0) as usize
    }
}
