//! Object: a strong reference that the core can hold without Python.

use crate::error::Result;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ptr::NonNull;
use ullage_core::Refused;

/// One strong reference to a Python object. Moving it is free and needs no interpreter; dropping it is foreign code
/// (a finalizer may run), so that happens attached and unlocked, and nowhere but in `reclaim.rs` on purpose.
///
/// Not `Py<PyAny>`: that one asks on every drop whether its thread is attached, and where it is not puts the reference
/// into a global pool. Here a detached drop is a bug, and a debug build says so.
#[repr(transparent)]
#[derive(Debug)]
pub(crate) struct Object(NonNull<ffi::PyObject>);

// SAFETY: a reference is only a number until it is used, and every use takes a `Python` token or runs in a slot.
unsafe impl Send for Object {}
// SAFETY: as above; shared use is `as_ptr`, `dup` and `visit`, all of which the object's own count makes safe.
unsafe impl Sync for Object {}

impl Object {
    /// Takes a second reference to a borrowed object.
    ///
    /// # Safety
    /// `object` is a valid object, and the thread is attached.
    #[inline]
    pub(crate) unsafe fn from_borrowed(object: *mut ffi::PyObject) -> Object {
        // SAFETY: the caller vouches for both; an object pointer is never null.
        unsafe {
            ffi::Py_INCREF(object);
            Object(NonNull::new_unchecked(object))
        }
    }

    /// Looks at a borrowed object.
    ///
    /// # Safety
    /// `object` is a valid object for as long as this is used, and the thread is attached.
    #[inline(always)]
    pub(crate) unsafe fn borrowed(object: &*mut ffi::PyObject) -> &Object {
        // SAFETY: the caller vouches for both; an object is nothing but its pointer, which is not null.
        unsafe { &*std::ptr::from_ref(object).cast::<Object>() }
    }

    /// Takes a reference over; None for null.
    ///
    /// # Safety
    /// A new reference, or null.
    #[inline]
    pub(crate) unsafe fn from_owned(object: *mut ffi::PyObject) -> Option<Object> {
        NonNull::new(object).map(Object)
    }

    pub(crate) fn new(object: &Bound<'_, PyAny>) -> Object {
        // SAFETY: a `Bound` is a valid object and proves that the thread is attached.
        unsafe { Object::from_borrowed(object.as_ptr()) }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }

    /// A second reference; the count changes, nothing foreign runs, so it may be taken under the lock (law 1).
    #[inline]
    pub(crate) fn dup(&self) -> Object {
        // SAFETY: `self` keeps the object alive; only attached threads reach a container's values.
        unsafe { Object::from_borrowed(self.as_ptr()) }
    }

    /// Gives the reference to the interpreter.
    #[inline]
    pub(crate) fn into_ptr(self) -> *mut ffi::PyObject {
        let pointer = self.as_ptr();
        std::mem::forget(self);
        pointer
    }

    pub(crate) fn into_bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        // SAFETY: the one reference that `self` held goes over to the `Bound`.
        unsafe { Bound::from_owned_ptr(py, self.into_ptr()) }
    }

    pub(crate) fn bind<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.dup().into_bound(py)
    }

    /// The reference as PyO3 knows it, for the collector's visits.
    pub(crate) fn as_py(&self) -> &Py<PyAny> {
        // SAFETY: both are `repr(transparent)` over one non-null object pointer, and the borrow keeps it unowned.
        unsafe { &*std::ptr::from_ref(self).cast() }
    }

    /// Whether the collector may ever track an object of this type.
    pub(crate) fn is_collectable(&self) -> bool {
        // SAFETY: `self` keeps the object alive.
        unsafe { crate::ffi::is_collectable(self.as_ptr()) }
    }
}

impl Drop for Object {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the reference is owned; that the thread is attached is law 3, checked in debug builds.
        unsafe {
            debug_assert!(ffi::PyGILState_Check() == 1, "a Python object was dropped on a detached thread");
            ffi::Py_DECREF(self.as_ptr());
        }
    }
}

/// Gathers `most` things or fewer into a vector, without memory for which this is an error and not the end.
pub(crate) fn gather<T>(most: usize, things: impl Iterator<Item = T>) -> Result<Vec<T>> {
    let mut gathered = Vec::new();
    gathered.try_reserve_exact(most).map_err(Refused::from)?;
    gathered.extend(things.take(most));
    Ok(gathered)
}
