//! Doors: the raw slots and methods that every mapping of ours has, over what they do there.

use crate::error::Result;
use crate::ffi::{default_or_missing, default_or_none, door, hang, instance, Signature, Slots};
use crate::key::{Key, Ready};
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

    /// As `get`, where a glance tells: Some is the answer. None says nothing, and nothing was done.
    #[inline(always)]
    fn glance(&self, _key: &Ready) -> Option<Option<Object>> {
        None
    }

    /// As `set`, where a glance tells; false where it tells that there is no such entry yet. None says nothing. Unless it is
    /// true, nothing was done.
    #[inline(always)]
    fn glance_set(&self, _key: &Ready, _value: &Object) -> Option<bool> {
        None
    }

    /// As `set`, where `glance_set` has just said that there is no such entry.
    fn insert(&self, key: &Key, value: &Object) -> Result<()> {
        self.set(key, value.dup())
    }

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

// What is hot is written out in the door itself, and calls nothing; the rest is a function of its own behind it.

unsafe extern "C" fn subscript<M: Mapping>(slf: *mut PyObject, object: *mut PyObject) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: the interpreter calls a slot with an instance of its type and valid arguments.
        unsafe {
            Ok(match Ready::new(object).and_then(|key| instance::<M>(slf).glance(&key)) {
                Some(Some(value)) => value.into_ptr(),
                Some(None) => absent::<M>(slf, object),
                None => look::<M>(slf, object),
            })
        }
    })
}

#[inline(never)]
unsafe extern "C" fn look<M: Mapping>(slf: *mut PyObject, object: *mut PyObject) -> *mut PyObject {
    door(null_mut(), || {
        // SAFETY: as for `subscript`.
        let (map, key) = unsafe { (instance::<M>(slf), Key::new(object)?) };
        // SAFETY: as above.
        Ok(map.get(&key)?.map_or_else(|| unsafe { absent::<M>(slf, object) }, Object::into_ptr))
    })
}

#[cold]
unsafe extern "C" fn absent<M: Mapping>(slf: *mut PyObject, object: *mut PyObject) -> *mut PyObject {
    // SAFETY: as for `subscript`.
    door(null_mut(), || unsafe { M::missing(slf, object) })
}

unsafe extern "C" fn assign<M: Mapping>(slf: *mut PyObject, object: *mut PyObject, value: *mut PyObject) -> c_int {
    // SAFETY: as for `subscript`; a null value means deletion.
    door(-1, || unsafe {
        if value.is_null() {
            return Ok(delete::<M>(slf, object));
        }
        let borrowed = Object::borrowed(&value);
        Ok(match Ready::new(object).and_then(|key| instance::<M>(slf).glance_set(&key, borrowed)) {
            Some(true) => 0,
            Some(false) => insert::<M>(slf, object, value),
            None => store::<M>(slf, object, value),
        })
    })
}

#[inline(never)]
unsafe extern "C" fn insert<M: Mapping>(slf: *mut PyObject, object: *mut PyObject, value: *mut PyObject) -> c_int {
    // SAFETY: as for `assign`.
    door(-1, || unsafe {
        instance::<M>(slf).insert(&Key::new(object)?, Object::borrowed(&value))?;
        Ok(0)
    })
}

#[inline(never)]
unsafe extern "C" fn store<M: Mapping>(slf: *mut PyObject, object: *mut PyObject, value: *mut PyObject) -> c_int {
    door(-1, || {
        // SAFETY: as for `subscript`.
        let (map, key, value) = unsafe { (instance::<M>(slf), Key::new(object)?, Object::from_borrowed(value)) };
        map.set(&key, value)?;
        Ok(0)
    })
}

#[inline(never)]
unsafe extern "C" fn delete<M: Mapping>(slf: *mut PyObject, object: *mut PyObject) -> c_int {
    door(-1, || {
        // SAFETY: as for `subscript`.
        let (map, key) = unsafe { (instance::<M>(slf), Key::new(object)?) };
        match map.pop(&key)? {
            Some(_) => Ok(0),
            // SAFETY: as above.
            None => unsafe { default_or_missing(object, null_mut()) }.map(|_| 0),
        }
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
    // SAFETY: as for `subscript`; the arguments are what the interpreter passed.
    door(null_mut(), || unsafe {
        let seen = match nargs {
            1 | 2 if kwnames.is_null() => Ready::new(*args).and_then(|key| instance::<M>(slf).glance(&key)),
            _ => None,
        };
        Ok(match seen {
            Some(Some(value)) => value.into_ptr(),
            Some(None) => default_or_none(if nargs == 2 { *args.add(1) } else { null_mut() }),
            None => get_slowly::<M>(slf, args, nargs, kwnames),
        })
    })
}

#[inline(never)]
unsafe extern "C" fn get_slowly<M: Mapping>(
    slf: *mut PyObject,
    args: *const *mut PyObject,
    nargs: Py_ssize_t,
    kwnames: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: as for `get`.
    door(null_mut(), || unsafe {
        let [object, default] = GET.read(args, nargs, kwnames)?;
        let (map, key) = (instance::<M>(slf), Key::new(object)?);
        Ok(map.get(&key)?.map_or_else(|| default_or_none(default), Object::into_ptr))
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
