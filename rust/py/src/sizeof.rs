//! deep_sizeof: the memory that an object holds, by a bounded walk through what it refers to.

use crate::value::Object;
use pyo3::ffi::{self, PyObject};
use pyo3::prelude::*;
use pyo3::types::{PyFunction, PyModule, PyTuple, PyType};
use std::collections::HashSet;
use std::ffi::{c_int, c_void, CStr};

/// Objects looked at, unless the caller says otherwise.
const LIMIT: usize = 1_000_000;

/// What is still to be looked at, and what has been met; both hold references, for `__sizeof__` may run Python.
struct Tour {
    met: HashSet<usize>,
    objects: Vec<Object>,
    limit: usize,
}

impl Tour {
    /// Enters an object that belongs to what is measured: not a class, module or function, which it only refers to.
    unsafe fn meet(&mut self, object: *mut PyObject) {
        if self.objects.len() < self.limit && self.met.insert(object as usize) {
            // SAFETY: the caller passes a valid object.
            self.objects.push(unsafe { Object::from_borrowed(object) });
        }
    }
}

unsafe extern "C" fn visit(object: *mut PyObject, tour: *mut c_void) -> c_int {
    // SAFETY: `tp_traverse` passes a valid object and what it was given, the one tour that is under way.
    unsafe {
        if !is_shared(object) {
            (*tour.cast::<Tour>()).meet(object);
        }
    }
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

/// Bytes that `objects` hold together: their own size and that of everything reached from them, each object once.
///
/// Classes, modules, functions and the singletons are not counted. An object with `nbytes` (an array, a tensor) counts
/// at least that. After `limit` objects the walk stops, and the rest is not counted. O(objects reached).
#[pyfunction]
#[pyo3(signature = (*objects, limit = LIMIT))]
pub(crate) fn deep_sizeof(objects: &Bound<'_, PyTuple>, limit: usize) -> PyResult<u64> {
    let py = objects.py();
    let sizeof = py.import("sys")?.getattr("getsizeof")?;
    let mut tour = Tour { met: HashSet::new(), objects: Vec::new(), limit };
    for object in objects {
        // SAFETY: items of a tuple are valid.
        unsafe { tour.meet(object.as_ptr()) };
    }
    let (mut next, mut total) = (0, 0_u64);
    while next < tour.objects.len() {
        let object = tour.objects[next].bind(py);
        next += 1;
        total = total.saturating_add(own_size(&object, &sizeof)?);
        let leaf = object.is_instance_of::<PyType>()
            || object.is_instance_of::<PyModule>()
            || object.is_instance_of::<PyFunction>();
        if leaf {
            continue;
        }
        // SAFETY: a collectable type has `tp_traverse`, which visits and does nothing else; nothing else runs here.
        unsafe {
            let class = ffi::Py_TYPE(object.as_ptr());
            if ffi::PyObject_IS_GC(object.as_ptr()) != 0 {
                if let Some(traverse) = (*class).tp_traverse {
                    traverse(object.as_ptr(), visit, std::ptr::from_mut(&mut tour).cast());
                }
            }
        }
    }
    Ok(total)
}

/// `sys.getsizeof`, and what an array says it holds.
fn own_size(object: &Bound<'_, PyAny>, sizeof: &Bound<'_, PyAny>) -> PyResult<u64> {
    let size: u64 = sizeof.call1((object,))?.extract()?;
    // SAFETY: a valid object has a valid type, and a type a name; a builtin static type's has no module in it.
    let builtin = unsafe {
        let class = ffi::Py_TYPE(object.as_ptr());
        let fixed = ffi::PyType_HasFeature(class, ffi::Py_TPFLAGS_HEAPTYPE) == 0;
        fixed && !CStr::from_ptr((*class).tp_name).to_bytes().contains(&b'.')
    };
    if builtin {
        return Ok(size);
    }
    let bytes = object.getattr_opt(pyo3::intern!(object.py(), "nbytes"));
    let bytes = bytes.ok().flatten().and_then(|bytes| bytes.extract::<u64>().ok());
    Ok(size.max(bytes.unwrap_or(0)))
}

/// What an entry of a map weighs under `max_bytes`; items shared between key and value count once.
#[pyfunction]
pub(crate) fn entry_bytes(key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    deep_sizeof(&PyTuple::new(key.py(), [key, value])?, LIMIT)
}
