//! Doors: the raw slots and methods that every mapping of ours has, over what they do there.

use crate::error::Result;
use crate::ffi::{default_or_missing, default_or_none, door, hang, instance, Signature, Slots};
use crate::key::Key;
use crate::value::Object;
use pyo3::ffi::{PyObject, Py_ssize_t};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::PyClass;
use std::os::raw::c_int;
use std::ptr::null_mut;

/// What is behind the doors.
pub(crate) trait Mapping: PyClass<Frozen = True> + Sync {
    fn get(&self, key: &Key) -> Result<Option<Object>>;
    fn contains(&self, key: &Key) -> Result<bool>;
    fn set(&self, key: &Key, value: Object) -> Result<()>;
    fn pop(&self, key: &Key) -> Result<Option<Object>>;
    fn len(&self) -> Result<usize>;

    /// What `[]` gives for a key that is not there.
    ///
    /// # Safety
    /// Both are the arguments of the slot.
    #[cold]
    unsafe fn missing(_slf: *mut PyObject, key: *mut PyObject) -> Result<*mut PyObject> {
        // SAFETY: passed on.
        unsafe { default_or_missing(key, null_mut()) }
    }
}

unsafe extern "C" fn subscript<M: Mapping>(slf: *mut PyObject, object: *mut PyObject) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: the interpreter calls a slot with an instance of its type and valid arguments.
        let (map, key) = unsafe { (instance::<M>(slf), Key::new(object)?) };
        match map.get(&key)? {
            Some(value) => Ok(value.into_ptr()),
            // SAFETY: as above.
            None => unsafe { M::missing(slf, object) },
        }
    })
}

unsafe extern "C" fn assign<M: Mapping>(slf: *mut PyObject, object: *mut PyObject, value: *mut PyObject) -> c_int {
    door(-1, || {
        // SAFETY: as for `subscript`; a null value means deletion.
        let (map, key) = unsafe { (instance::<M>(slf), Key::new(object)?) };
        if value.is_null() {
            return match map.pop(&key)? {
                Some(_) => Ok(0),
                // SAFETY: as above.
                None => unsafe { default_or_missing(object, null_mut()) }.map(|_| 0),
            };
        }
        // SAFETY: the value is valid.
        map.set(&key, unsafe { Object::from_borrowed(value) })?;
        Ok(0)
    })
}

unsafe extern "C" fn contains<M: Mapping>(slf: *mut PyObject, object: *mut PyObject) -> c_int {
    door(-1, || {
        // SAFETY: as for `subscript`.
        let (map, key) = unsafe { (instance::<M>(slf), Key::new(object)?) };
        Ok(c_int::from(map.contains(&key)?))
    })
}

unsafe extern "C" fn length<M: Mapping>(slf: *mut PyObject) -> Py_ssize_t {
    // SAFETY: as for `subscript`.
    door(-1, || Ok(unsafe { instance::<M>(slf) }.len()? as Py_ssize_t))
}

static GET: Signature<2> = Signature { name: "get", parameters: ["key", "default"], required: 1 };

/// `get(key, default=None)`.
pub(crate) unsafe extern "C" fn get<M: Mapping>(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    nargs: Py_ssize_t,
    kwnames: *mut PyObject,
) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: as for `subscript`; the arguments are what the interpreter passed.
        unsafe {
            let [object, default] = GET.read(args, nargs, kwnames)?;
            let (map, key) = (instance::<M>(slf), Key::new(object)?);
            match map.get(&key)? {
                Some(value) => Ok(value.into_ptr()),
                None => Ok(default_or_none(default)),
            }
        }
    })
}

static POP: Signature<2> = Signature { name: "pop", parameters: ["key", "default"], required: 1 };

/// `pop(key[, default])`.
pub(crate) unsafe extern "C" fn pop<M: Mapping>(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    nargs: Py_ssize_t,
    kwnames: *mut PyObject,
) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: as for `get`.
        unsafe {
            let [object, default] = POP.read(args, nargs, kwnames)?;
            let (map, key) = (instance::<M>(slf), Key::new(object)?);
            match map.pop(&key)? {
                Some(value) => Ok(value.into_ptr()),
                None => default_or_missing(object, default),
            }
        }
    })
}

/// Puts the raw slots on a type.
pub(crate) fn hang_slots<M: Mapping>(py: Python<'_>) -> PyResult<()> {
    let slots = Slots {
        subscript: Some(subscript::<M>),
        assign: Some(assign::<M>),
        contains: Some(contains::<M>),
        length: Some(length::<M>),
        ..Slots::default()
    };
    hang(&py.get_type::<M>(), slots)
}
