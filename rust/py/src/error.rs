//! Every error of the core, and the Python exception it becomes.

use crate::ffi::attached;
use crate::names::Names;
use pyo3::exceptions::{PyIndexError, PyKeyError, PyMemoryError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use ullage_core::Refused;

/// A Python exception on its way out.
///
/// Boxed, so that what the hot doors return fits into registers.
#[derive(Debug)]
pub(crate) struct Error(Box<PyErr>);

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl From<PyErr> for Error {
    #[cold]
    fn from(error: PyErr) -> Self {
        Error(Box::new(error))
    }
}

impl From<Error> for PyErr {
    fn from(Error(error): Error) -> Self {
        *error
    }
}

impl From<Refused> for Error {
    #[cold]
    fn from(refused: Refused) -> Self {
        Error::from(match refused {
            Refused::Undecided | Refused::Unsettled => PyRuntimeError::new_err(
                "the container changed during every comparison of keys; is there a loop in __eq__?",
            ),
            Refused::TooHeavy(heavy) => {
                let (weight, bound) = (heavy.weight, heavy.bound);
                PyValueError::new_err(format!("too heavy: weighs {weight}, more than the {bound} that fit"))
            }
            Refused::Full(crowd) => full(match (crowd.maxsize, crowd.waiting) {
                (maxsize, 0) => format!("full: {maxsize} entries, the maximum, are there"),
                (maxsize, waiting) => {
                    format!("full: at most {maxsize} entries, and {waiting} that expired wait for pop_expired()")
                }
            }),
            Refused::NoMemory => PyMemoryError::new_err("no memory for one more entry"),
            Refused::Closed => {
                PyRuntimeError::new_err("the container is closed (or a subclass did not call super().__init__())")
            }
            Refused::Changed => PyRuntimeError::new_err("container changed size during iteration"),
        })
    }
}

/// `ullage.Full`.
fn full(text: String) -> PyErr {
    attached(|py| match Names::get(py) {
        Ok(names) => match names.full.bind(py).call1((text,)) {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        },
        Err(error) => error,
    })
}

/// `KeyError` with the key itself as its only argument, a tuple too.
#[cold]
pub(crate) fn missing(key: Bound<'_, PyAny>) -> Error {
    PyKeyError::new_err((key.unbind(),)).into()
}

#[cold]
pub(crate) fn empty(what: &str) -> Error {
    PyKeyError::new_err(what.to_owned()).into()
}

#[cold]
pub(crate) fn index(what: &str) -> Error {
    PyIndexError::new_err(what.to_owned()).into()
}
