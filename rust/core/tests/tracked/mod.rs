//! Objects that tell where they are dropped: never under a lock (laws 1 and 2), and each of them once.

use std::cell::Cell;
use std::rc::Rc;

thread_local! {
    static LIVING: Cell<usize> = const { Cell::new(0) };
    static LOCKED: Cell<bool> = const { Cell::new(false) };
}

/// How many objects of this thread were made and not dropped yet.
pub(crate) fn living() -> usize {
    LIVING.get()
}

/// An object with a number. Its drop stands for foreign code.
#[derive(Debug)]
pub(crate) struct Tracked(pub(crate) u32);

impl Tracked {
    pub(crate) fn new(number: u32) -> Self {
        LIVING.set(LIVING.get() + 1);
        Tracked(number)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        LIVING.set(LIVING.get() - 1);
        // A second panic would end the process and hide the first.
        assert!(!LOCKED.get() || std::thread::panicking(), "{} is dropped under the lock", self.0);
    }
}

/// A key: a shared reference to an object, as a binding has it.
pub(crate) type Key = Rc<Tracked>;

pub(crate) fn key(number: u32) -> Key {
    Rc::new(Tracked::new(number))
}

/// Marks the time during which the lock is held; made right after it is taken, dropped right before it is given back.
pub(crate) struct Locked(());

impl Locked {
    pub(crate) fn new() -> Self {
        assert!(!LOCKED.replace(true), "one lock at a time");
        Locked(())
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        LOCKED.set(false);
    }
}
