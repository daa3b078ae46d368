//! `ullage._core`: what Python sees of the core. Each class here is the base of the one that users get, whose colder
//! half is in `python/ullage`.

mod error;
mod ffi;
mod history;
mod hooks;
mod key;
mod lock;
mod lru_cache;
mod reclaim;
mod sizeof;
mod transfer;
mod value;
mod walk;

/// The module.
#[pyo3::pymodule(gil_used = false)]
mod _core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::history::{HistoryRing, RingWalk};
    #[pymodule_export]
    use crate::lru_cache::LRUCache;
    #[pymodule_export]
    use crate::sizeof::{deep_sizeof, entry_bytes};
    #[pymodule_export]
    use crate::transfer::{Claim, TransferMap};
    #[pymodule_export]
    use crate::walk::Walk;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        crate::lru_cache::doors(py)?;
        crate::history::doors(py)?;
        crate::transfer::doors(py)
    }
}
