//! `ullage._core`: what Python sees of the core. Each class here is the base of the one that users get, whose colder
//! half is in `python/ullage`.

mod arenas;
mod doors;
mod error;
mod ffi;
mod history;
mod hooks;
mod key;
mod lock;
mod lru_cache;
mod memo;
mod names;
mod reclaim;
mod sizeof;
mod sweep;
mod tell;
mod transfer;
mod value;
mod walk;

/// The module.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;
    use pyo3::types::PyType;

    #[pymodule_export]
    use crate::history::{HistoryRing, RingWalk};
    #[pymodule_export]
    use crate::lru_cache::LRUCache;
    #[pymodule_export]
    use crate::memo::memoize;
    #[pymodule_export]
    use crate::reclaim::{flush, reclaim};
    #[pymodule_export]
    use crate::sizeof::{deep_sizeof, entry_bytes};
    #[pymodule_export]
    use crate::sweep::{_after_fork_in_child, _after_fork_in_parent, _before_fork, _end};
    #[pymodule_export]
    use crate::transfer::{Claim, TransferMap};
    #[pymodule_export]
    use crate::walk::Walk;

    /// Gives a subclass of one of ours the raw methods; a decorator for the class that users get.
    #[pyfunction]
    fn with_raw_methods<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
        let methods = if class.is_subclass_of::<LRUCache>()? {
            crate::lru_cache::METHODS
        } else if class.is_subclass_of::<TransferMap>()? {
            crate::transfer::METHODS
        } else if class.is_subclass_of::<HistoryRing>()? {
            crate::history::METHODS
        } else {
            return Err(pyo3::exceptions::PyTypeError::new_err("a subclass of a container is wanted"));
        };
        crate::ffi::hang_methods(class, methods)?;
        Ok(class.clone())
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        // SAFETY: attached. What is retired, and the thread that sweeps, belong to one interpreter.
        if unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) } != 0 {
            return Err(pyo3::exceptions::PyImportError::new_err("ullage cannot be used in a sub-interpreter"));
        }
        crate::ffi::check_digits(py)?;
        // PyO3 looks whether there is an interpreter when it first attaches, which must not be while one goes down.
        Python::attach(|_| ());
        crate::names::Names::get(py)?;
        crate::doors::hang_slots::<LRUCache>(py)?;
        crate::history::hang_slots(py)?;
        crate::doors::hang_slots::<TransferMap>(py)?;
        crate::reclaim::set_up();
        crate::sweep::set_up(module)
    }
}
