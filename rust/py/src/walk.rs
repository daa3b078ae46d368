//! Walk: an iterator over a cache or a transfer map. It holds no lock between two steps.

use crate::error::{Error, Result};
use crate::lru_cache::LRUCache;
use crate::transfer::TransferMap;
use crate::value::Object;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use std::sync::Mutex;
use ullage_core::slab::WalkId;

/// What an iterator yields.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Keys,
    Values,
    Items,
}

impl Kind {
    pub(crate) fn from_number(number: u8) -> Kind {
        match number {
            0 => Kind::Keys,
            1 => Kind::Values,
            _ => Kind::Items,
        }
    }
}

enum Over {
    Cache(Py<LRUCache>, u64),
    Transfers(Py<TransferMap>),
}

struct Course {
    over: Over,
    id: WalkId,
}

/// An iterator over keys, values or items.
#[pyclass(module = "ullage._core", frozen)]
pub(crate) struct Walk {
    /// None once it has come to its end.
    course: Mutex<Option<Course>>,
    kind: Kind,
}

impl Walk {
    pub(crate) fn over_cache(cache: Py<LRUCache>, id: WalkId, epoch: u64, kind: Kind) -> Walk {
        Walk { course: Mutex::new(Some(Course { over: Over::Cache(cache, epoch), id })), kind }
    }

    pub(crate) fn over_transfers(map: Py<TransferMap>, id: WalkId, kind: Kind) -> Walk {
        Walk { course: Mutex::new(Some(Course { over: Over::Transfers(map), id })), kind }
    }

    fn step(&self, py: Python<'_>) -> Result<Option<(Object, Object)>> {
        // What is walked over, made strong: the timer may run Python, and must not find this iterator locked.
        let (over, id) = match &*self.course.lock().expect("nothing panics while it is held") {
            None => return Ok(None),
            Some(Course { over: Over::Cache(cache, epoch), id }) => (Over::Cache(cache.clone_ref(py), *epoch), *id),
            Some(Course { over: Over::Transfers(map), id }) => (Over::Transfers(map.clone_ref(py)), *id),
        };
        let dup = |(key, value): (&Object, &Object)| (key.dup(), value.dup());
        match &over {
            Over::Cache(cache, epoch) => {
                let now = cache.get().hooks.now()?;
                let mut lru = cache.get().shared.lock();
                Ok(lru.step((id, *epoch), now)?.map(dup))
            }
            Over::Transfers(map) => {
                let now = map.get().hooks.now()?;
                let mut transfers = map.get().shared.lock();
                Ok(transfers.step(id, now).map(dup))
            }
        }
    }

    fn end(&self) {
        let course = self.course.lock().ok().and_then(|mut course| course.take());
        match &course {
            Some(Course { over: Over::Cache(cache, _), id }) => cache.get().shared.lock().end_walk(*id),
            Some(Course { over: Over::Transfers(map), id }) => map.get().shared.lock().end_walk(*id),
            None => {}
        }
    }
}

#[pymethods]
impl Walk {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.step(py) {
            Ok(Some((key, value))) => Ok(Some(match self.kind {
                Kind::Keys => key.into_bound(py).unbind(),
                Kind::Values => value.into_bound(py).unbind(),
                Kind::Items => (key.into_bound(py), value.into_bound(py)).into_pyobject(py)?.into_any().unbind(),
            })),
            Ok(None) => {
                self.end();
                Ok(None)
            }
            Err(error) => Err(Error::into(error)),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.course.lock().ok().as_deref() {
            Some(Some(Course { over: Over::Cache(cache, _), .. })) => visit.call(cache),
            Some(Some(Course { over: Over::Transfers(map), .. })) => visit.call(map),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        self.end();
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.end();
    }
}
