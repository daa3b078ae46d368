//! What the sweeper's hand-over is built of: the standard library's, or loom's, which tries every order of events.

#[cfg(loom)]
pub(crate) use loom::sync::{atomic::AtomicU64, Condvar, Mutex, MutexGuard};
#[cfg(not(loom))]
pub(crate) use std::sync::{atomic::AtomicU64, Condvar, Mutex, MutexGuard};
