//! The lock of a container. Where there is a GIL, every thread that reaches a container holds it, and keeps it for as
//! long as it holds the container's lock, for nothing foreign runs in between (law 1). So the GIL is the lock already:
//! what remains is a flag, which costs no atomic exchange (half the time of a hit) and finds breaches of law 1.

#[cfg(Py_GIL_DISABLED)]
pub(crate) type Lock = parking_lot::RawMutex;
#[cfg(not(Py_GIL_DISABLED))]
pub(crate) type Lock = GilLock;

/// A container's structure behind its lock.
pub(crate) type Shared<C> = ullage_core::Shared<C, Lock>;

#[cfg(not(Py_GIL_DISABLED))]
mod gil {
    use parking_lot::lock_api::{GuardNoSend, RawMutex};
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    /// A flag that says that the holder of the GIL is inside.
    #[derive(Debug)]
    pub(crate) struct GilLock(AtomicBool);

    // SAFETY: only threads that hold the GIL call this: the containers are reached through slots, methods and
    // `tp_traverse` of Python objects, and no thread gives the GIL up while it is inside. So two holders could only be
    // one thread that came back to where it is, which `lock` refuses.
    unsafe impl RawMutex for GilLock {
        #[allow(clippy::declare_interior_mutable_const)]
        const INIT: GilLock = GilLock(AtomicBool::new(false));
        type GuardMarker = GuardNoSend;

        #[inline(always)]
        fn lock(&self) {
            assert!(self.try_lock(), "foreign code came back to a container that it was called under the lock of");
        }

        #[inline(always)]
        fn try_lock(&self) -> bool {
            if self.0.load(Relaxed) {
                return false;
            }
            self.0.store(true, Relaxed);
            true
        }

        #[inline(always)]
        unsafe fn unlock(&self) {
            self.0.store(false, Relaxed);
        }
    }
}
#[cfg(not(Py_GIL_DISABLED))]
pub(crate) use gil::GilLock;
