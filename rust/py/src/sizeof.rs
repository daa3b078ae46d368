//! deep_sizeof: the memory that an object holds, by a bounded walk through what it refers to.

use crate::ffi::lookup_special;
use crate::history::HistoryRing;
use crate::lru_cache::LRUCache;
use crate::transfer::TransferMap;
use crate::value::Object;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyFrame, PyTuple};
use std::collections::HashSet;
use std::ffi::{c_int, c_void, CStr};
use std::hash::{BuildHasherDefault, Hasher};
use std::ptr::{addr_of_mut, null_mut};

/// Objects looked at, unless the caller says otherwise.
const LIMIT: usize = 1_000_000;

/// What is still to be looked at, and what has been met. All of it is kept alive, for `__sizeof__` may run Python.
struct Tour {
    met: HashSet<usize, BuildHasherDefault<Identity>>,
    objects: Vec<Object>,
    total: u64,
    left: usize,
}

/// A hasher for addresses, which need no mixing but of their low bits, always the same.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("addresses are hashed as one number")
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Tour {
    /// Counts an object that belongs to what is measured, once. A class, module or function is only referred to.
    unsafe fn meet(&mut self, object: *mut PyObject) {
        // SAFETY: the caller passes a valid object; layouts are read of exact types only.
        unsafe {
            // Something with one reference is not met twice by way of references.
            let once = ffi::Py_REFCNT(object) == 1;
            match leaf_size(object) {
                Some(size) if once && self.left > 0 => {
                    self.left -= 1;
                    self.total = self.total.saturating_add(size);
                }
                _ => self.meet_again(object),
            }
        }
    }

    /// As [`meet`](Self::meet), for what may be met in more than one way.
    unsafe fn meet_again(&mut self, object: *mut PyObject) {
        // SAFETY: as above.
        unsafe {
            if self.left > 0 && !is_shared(object) && self.met.insert(object as usize) {
                self.left -= 1;
                self.total = self.total.saturating_add(leaf_size(object).unwrap_or(0));
                self.objects.push(Object::from_borrowed(object));
            }
        }
    }

    /// Meets what an object refers to.
    fn follow(&mut self, object: &Bound<'_, PyAny>) {
        if let Ok(cache) = object.cast::<LRUCache>() {
            return cache.get().visit(|object| self.meet_held(object));
        }
        if let Ok(ring) = object.cast::<HistoryRing>() {
            return ring.get().visit(|object| self.meet_held(object));
        }
        if let Ok(map) = object.cast::<TransferMap>() {
            return map.get().visit(|object| self.meet_held(object));
        }
        if crate::memo::visit(object, |object| self.meet_held(object)) {
            return;
        }
        // The frame of a generator refers to the module around it, which is not its own (before 3.11).
        if object.is_exact_instance_of::<PyFrame>() {
            for around in ["f_globals", "f_builtins", "f_back"] {
                self.met.extend(object.getattr(around).ok().map(|around| around.as_ptr() as usize));
            }
        }
        // SAFETY: a collectable type has `tp_traverse`, which visits and does nothing else; nothing else runs here.
        unsafe {
            let raw = object.as_ptr();
            if ffi::PyDict_Check(raw) != 0 {
                // The collector is not shown the keys of a dict of strings; those of others, it is.
                let (mut position, mut key, mut value) = (0, null_mut(), null_mut());
                while ffi::PyDict_Next(raw, &mut position, &mut key, &mut value) != 0 {
                    self.meet_again(key);
                }
            }
            if ffi::PyObject_IS_GC(raw) != 0 {
                if let Some(traverse) = (*ffi::Py_TYPE(raw)).tp_traverse {
                    traverse(raw, visit, std::ptr::from_mut(self).cast());
                }
            }
        }
    }

    fn meet_held(&mut self, object: &Object) {
        // SAFETY: a container holds valid objects.
        unsafe { self.meet(object.as_ptr()) }
    }
}

unsafe extern "C" fn visit(object: *mut PyObject, tour: *mut c_void) -> c_int {
    // SAFETY: `tp_traverse` passes a valid object and what it was given, the one tour that is under way.
    unsafe { (*tour.cast::<Tour>()).meet(object) };
    0
}

/// Whether an object belongs to the program rather than to whoever refers to it.
unsafe fn is_shared(object: *mut PyObject) -> bool {
    // SAFETY: the caller passes a valid object.
    unsafe {
        ffi::PyType_Check(object) != 0
            || ffi::PyModule_Check(object) != 0
            || ffi::PyFunction_Check(object) != 0
            || ffi::PyCFunction_Check(object) != 0
            || ffi::PyCode_Check(object) != 0
            || object == ffi::Py_None()
            || object == ffi::Py_True()
            || object == ffi::Py_False()
            || object == ffi::Py_Ellipsis()
            || object == ffi::Py_NotImplemented()
    }
}

/// What `sys.getsizeof` says of the commonest objects that refer to nothing.
unsafe fn leaf_size(object: *mut PyObject) -> Option<u64> {
    // SAFETY: the caller passes a valid object; each layout is that of the exact type.
    unsafe {
        let class = ffi::Py_TYPE(object);
        if class == addr_of_mut!(ffi::PyFloat_Type) {
            Some((*class).tp_basicsize as u64)
        } else if class == addr_of_mut!(ffi::PyBytes_Type) {
            Some(((*class).tp_basicsize + ffi::Py_SIZE(object)) as u64)
        } else if class == addr_of_mut!(ffi::PyUnicode_Type) && crate::ffi::is_compact_ascii(object) {
            Some(size_of::<ffi::PyASCIIObject>() as u64 + (*object.cast::<ffi::PyASCIIObject>()).length as u64 + 1)
        } else {
            None
        }
    }
}

/// Bytes that `objects` hold together: their own size and that of everything reached from them, each object once.
///
/// Classes, modules, functions and the singletons are not counted. An object with `nbytes` (an array, a tensor) counts
/// at least that. After `limit` objects the walk stops, and the rest is not counted. O(objects reached).
#[pyfunction]
#[pyo3(signature = (*objects, limit = LIMIT))]
pub(crate) fn deep_sizeof(objects: &Bound<'_, PyTuple>, limit: usize) -> PyResult<u64> {
    let py = objects.py();
    let mut tour = Tour { met: HashSet::default(), objects: Vec::new(), total: 0, left: limit };
    for object in objects {
        // SAFETY: items of a tuple are valid.
        unsafe { tour.meet(object.as_ptr()) };
    }
    let mut next = 0;
    while next < tour.objects.len() {
        let object = tour.objects[next].bind(py);
        next += 1;
        // SAFETY: valid.
        if unsafe { leaf_size(object.as_ptr()) }.is_none() {
            tour.total = tour.total.saturating_add(own_size(&object)?);
            tour.follow(&object);
        }
    }
    Ok(tour.total)
}

extern "C" {
    // Exported by every CPython from 3.10 on, though private: `sys.getsizeof`. -1 with an exception set.
    fn _PySys_GetSizeOf(object: *mut PyObject) -> usize;
}

/// `sys.getsizeof`, and what an array says it holds.
///
/// Both are asked of the class. An instance that has an answer to everything (a mock, a remote or lazy object) makes
/// another object to answer with, in which the walk would not end.
fn own_size(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = object.py();
    if let Some(method) = lookup_special(object, pyo3::intern!(py, "__sizeof__")) {
        // SAFETY: a valid object.
        let known = unsafe {
            ffi::PyFunction_Check(method.as_ptr()) != 0
                || ffi::Py_TYPE(method.as_ptr()) == addr_of_mut!(ffi::PyMethodDescr_Type)
        };
        if !known {
            return py.get_type::<PyAny>().call_method1(pyo3::intern!(py, "__sizeof__"), (object,))?.extract();
        }
    }
    // SAFETY: a valid object, attached, nothing held.
    let size = match unsafe { _PySys_GetSizeOf(object.as_ptr()) } {
        usize::MAX => return Err(PyErr::fetch(py)),
        size => size as u64,
    };
    // SAFETY: a valid object has a valid type, and a type a name; a builtin static type's has no module in it.
    let builtin = unsafe {
        let class = ffi::Py_TYPE(object.as_ptr());
        let fixed = ffi::PyType_HasFeature(class, ffi::Py_TPFLAGS_HEAPTYPE) == 0;
        fixed && !CStr::from_ptr((*class).tp_name).to_bytes().contains(&b'.')
    };
    if builtin {
        return Ok(size);
    }
    let name = pyo3::intern!(py, "nbytes");
    let bytes = lookup_special(object, name).and_then(|_| object.getattr(name).ok()?.extract::<u64>().ok());
    Ok(size.max(bytes.unwrap_or(0)))
}

/// What an entry of a map weighs under `max_bytes`; what key and value share counts once.
#[pyfunction]
pub(crate) fn entry_bytes(key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    deep_sizeof(&PyTuple::new(key.py(), [key, value])?, LIMIT)
}
