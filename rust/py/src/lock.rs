//! The lock of a container. Where there is a GIL, every attached thread that reaches a container holds it, and keeps it
//! for as long as it holds the container's lock, for nothing foreign runs in between (law 1). So the GIL is the lock
//! already: what remains is a flag, which costs no atomic exchange (half the time of a hit) and finds breaches of law 1.
//!
//! A container that the sweeper watches is reached by a thread that holds no GIL: it is given a real lock then.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

#[cfg(Py_GIL_DISABLED)]
pub(crate) type Lock = parking_lot::RawMutex;
#[cfg(not(Py_GIL_DISABLED))]
pub(crate) type Lock = gil::GilLock;

/// A container's structure behind its lock.
pub(crate) type Shared<C> = ullage_core::Shared<C, Lock>;

/// Opens a container's lock to threads that are not attached. The caller is attached, and not inside.
pub(crate) fn open_to_detached<C>(shared: &Shared<C>) {
    // SAFETY: the lock is not unlocked, only opened.
    #[cfg(not(Py_GIL_DISABLED))]
    unsafe { shared.mutex().raw() }.open();
    #[cfg(Py_GIL_DISABLED)]
    let _ = shared;
}

/// A structure for which the GIL is lock enough, locked; None where it is not. The caller is attached. Taking and giving
/// it back call nothing: where that is written out, a hit saves few registers.
#[inline(always)]
pub(crate) fn glance<C>(shared: &Shared<C>) -> Option<Guard<'_, C>> {
    #[cfg(not(Py_GIL_DISABLED))]
    // SAFETY: what is locked here is unlocked by the guard.
    let is_held = unsafe { shared.mutex().raw() }.hold();
    #[cfg(Py_GIL_DISABLED)]
    let is_held = false;
    is_held.then(|| Guard(shared, PhantomData))
}

/// The guard of a lock that [`glance`] took.
pub(crate) struct Guard<'a, C>(&'a Shared<C>, PhantomData<*const ()>);

impl<C> Deref for Guard<'_, C> {
    type Target = C;

    #[inline(always)]
    fn deref(&self) -> &C {
        // SAFETY: the lock is held.
        unsafe { &*self.0.mutex().data_ptr() }
    }
}

impl<C> DerefMut for Guard<'_, C> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut C {
        // SAFETY: the lock is held, and by this guard alone.
        unsafe { &mut *self.0.mutex().data_ptr() }
    }
}

impl<C> Drop for Guard<'_, C> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the lock is held.
        #[cfg(not(Py_GIL_DISABLED))]
        unsafe { self.0.mutex().raw() }.let_go();
    }
}

#[cfg(not(Py_GIL_DISABLED))]
mod gil {
    use parking_lot::lock_api::{GuardNoSend, RawMutex};
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    const FREE: u8 = 0;
    /// The holder of the GIL is inside.
    const HELD: u8 = 1;
    /// The GIL says nothing about who is inside: the mutex does.
    const OPEN: u8 = 2;

    /// A flag for the holder of the GIL, and a mutex for when that is not enough.
    pub(crate) struct GilLock {
        state: AtomicU8,
        mutex: parking_lot::RawMutex,
    }

    impl GilLock {
        /// Takes the lock if it is the flag alone, and free.
        #[inline(always)]
        pub(super) fn hold(&self) -> bool {
            let is_free = self.state.load(Relaxed) == FREE;
            if is_free {
                self.state.store(HELD, Relaxed);
            }
            is_free
        }

        #[inline(always)]
        pub(super) fn let_go(&self) {
            self.state.store(FREE, Relaxed);
        }

        pub(super) fn open(&self) {
            assert!(self.state.load(Relaxed) != HELD, "the lock of a container was opened from inside");
            self.state.store(OPEN, Relaxed);
        }
    }

    // SAFETY: until the lock is opened, only threads that hold the GIL call this: the containers are reached through
    // slots, methods and `tp_traverse` of Python objects, and no thread gives the GIL up while it is inside. So two
    // holders could only be one thread that came back to where it is, which `lock` refuses. It is opened by a holder of
    // the GIL that is not inside, so nobody is, and from then on every holder has the mutex.
    unsafe impl RawMutex for GilLock {
        #[allow(clippy::declare_interior_mutable_const)]
        const INIT: GilLock = GilLock { state: AtomicU8::new(FREE), mutex: parking_lot::RawMutex::INIT };
        type GuardMarker = GuardNoSend;

        #[inline(always)]
        fn lock(&self) {
            match self.state.load(Relaxed) {
                FREE => self.state.store(HELD, Relaxed),
                OPEN => self.mutex.lock(),
                _ => panic!("foreign code came back to a container that it was called under the lock of"),
            }
        }

        #[inline(always)]
        fn try_lock(&self) -> bool {
            self.hold() || self.state.load(Relaxed) == OPEN && self.mutex.try_lock()
        }

        #[inline(always)]
        unsafe fn unlock(&self) {
            match self.state.load(Relaxed) {
                // SAFETY: the caller holds the lock, and since it is open, that is the mutex.
                OPEN => unsafe { self.mutex.unlock() },
                _ => self.let_go(),
            }
        }
    }
}
