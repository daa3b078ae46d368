//! What the compiled part needs of the Python part: looked up once, when the module is made, since an import at the
//! moment of need fails while the interpreter shuts down.

use crate::error::Result;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

pub(crate) struct Names {
    /// `ullage.Full`.
    pub(crate) full: Py<PyAny>,
    /// The members of `ullage.Cause`, in the order of the core's.
    pub(crate) causes: Vec<Py<PyAny>>,
    nanoseconds: Py<PyAny>,
}

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

impl Names {
    pub(crate) fn get(py: Python<'_>) -> PyResult<&Names> {
        NAMES.get_or_try_init(py, || {
            let causes = py.import("ullage._causes")?.getattr("Cause")?;
            let names = ["EXPLICIT", "REPLACED", "SIZE", "EXPIRED"];
            Ok(Names {
                full: py.import("ullage._errors")?.getattr("Full")?.unbind(),
                causes: names.iter().map(|name| Ok(causes.getattr(name)?.unbind())).collect::<PyResult<_>>()?,
                nanoseconds: py.import("ullage._times")?.getattr("nanoseconds")?.unbind(),
            })
        })
    }

    /// A lifetime as users write it, in nanoseconds; `u64::MAX` for ever.
    pub(crate) fn nanoseconds(lifetime: &Bound<'_, PyAny>) -> Result<u64> {
        let names = Names::get(lifetime.py())?;
        let read: Option<u64> = names.nanoseconds.bind(lifetime.py()).call1((lifetime,))?.extract()?;
        Ok(read.unwrap_or(u64::MAX))
    }
}
