//! Key: a Python object being looked for: its hash, and how it compares with stored keys.

use crate::error::{Error, Result};
use crate::ffi;
use crate::reclaim;
use crate::value::Object;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use ullage_core::{mix, Equality, Plainly, Verdict};

/// A borrowed key with its hash. Foreign code (`__hash__`) has run by the time there is one.
pub(crate) struct Key {
    object: *mut PyObject,
    pub(crate) hash: u32,
}

impl Key {
    /// Hashes a key; Python may run.
    ///
    /// # Safety
    /// `object` is valid for as long as the key is used, and the thread is attached.
    #[inline]
    pub(crate) unsafe fn new(object: *mut PyObject) -> Result<Key> {
        // SAFETY: passed on to the caller.
        match unsafe { ffi::hash(object) } {
            // -1 is no hash: the exception is set.
            // SAFETY: attached.
            -1 => Err(PyErr::fetch(unsafe { Python::assume_attached() }).into()),
            hash => Ok(Key { object, hash: mix(hash as u64) }),
        }
    }

    /// As [`new`](Self::new), for a method of PyO3's.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> Result<Key> {
        // SAFETY: a `Bound` is valid and attached, and outlives the call that borrowed it.
        unsafe { Key::new(object.as_ptr()) }
    }

    #[inline(always)]
    pub(crate) fn as_object(&self) -> &Object {
        // SAFETY: whoever made the key vouched for it.
        unsafe { Object::borrowed(&self.object) }
    }

    /// A strong reference to the key, to store.
    #[inline]
    pub(crate) fn to_object(&self) -> Object {
        self.as_object().dup()
    }
}

/// A key that knows its hash and can be compared at a glance, as nearly every `str` and `int`.
pub(crate) struct Ready(pub(crate) Key);

impl Ready {
    /// None if it is no such object. Nothing runs.
    ///
    /// # Safety
    /// As for [`Key::new`].
    #[inline(always)]
    pub(crate) unsafe fn new(object: *mut PyObject) -> Option<Ready> {
        // SAFETY: passed on to the caller.
        unsafe { ffi::ready_hash(object) }.map(|hash| Ready(Key { object, hash: mix(hash as u64) }))
    }
}

impl Plainly<Object> for Ready {
    #[inline(always)]
    fn is_plainly(&self, stored: &Object) -> bool {
        // SAFETY: as for `verdict` of a key.
        unsafe { ffi::is_plainly_same(stored.as_ptr(), self.0.object) }
    }
}

impl Equality<Object> for Key {
    type Error = Error;

    #[inline]
    fn verdict(&self, stored: &Object) -> Verdict {
        // SAFETY: both are valid: one by the maker of the key, the other by its own reference.
        unsafe { ffi::verdict(stored.as_ptr(), self.object) }
    }

    #[cold]
    fn ask(&self, stored: &Object) -> Result<bool> {
        // SAFETY: both are valid, and nothing is held.
        unsafe { ffi::ask(stored.as_ptr(), self.object) }
    }

    fn dup(&self, stored: &Object) -> Object {
        stored.dup()
    }

    fn identity(stored: &Object) -> usize {
        stored.as_ptr() as usize
    }

    #[cold]
    fn give_memory_back(&self) -> bool {
        reclaim::flush() > 0
    }
}
