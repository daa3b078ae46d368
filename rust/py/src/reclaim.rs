//! The only place where what left a container is dropped: after its hook was called, and with no lock held.

use crate::hooks::Hooks;
use crate::value::Object;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::sync::atomic::Ordering::Relaxed;
use ullage_core::{Cause, Removed};

/// Tells the exit hook of everything that left a map, then drops it.
#[inline]
pub(crate) fn release(hooks: &Hooks, removed: Removed<Object, Object>) {
    if !removed.is_empty() && hooks.has_exit() {
        tell(hooks, removed.into_iter());
    }
}

/// As [`release`], one entry at a time: what is dropped is never more than what was told.
#[cold]
pub(crate) fn tell(hooks: &Hooks, removed: impl Iterator<Item = (Object, Object, Cause)>) {
    Python::attach(|py| {
        for (key, value, cause) in removed {
            let Some(hook) = hooks.on_exit() else { continue };
            let arguments = (key.bind(py), value.bind(py), cause_object(py, cause));
            call(py, hooks, &hook, |hook| hook.call1(arguments).map(drop));
        }
    });
}

/// Tells a ring's hook what fell off, in one call, then drops it.
#[cold]
pub(crate) fn tell_fallen(hooks: &Hooks, fallen: impl Iterator<Item = Object>) {
    Python::attach(|py| {
        let items: Vec<_> = fallen.map(|item| item.into_bound(py)).collect();
        if let Some(hook) = hooks.on_exit() {
            call(py, hooks, &hook, |hook| hook.call1((items,)).map(drop));
        }
    });
}

/// Calls a hook whose exceptions must not reach whoever happened to cause the call.
pub(crate) fn call<'py>(
    py: Python<'py>,
    hooks: &Hooks,
    hook: &Object,
    body: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<()>,
) {
    let hook = hook.bind(py);
    // A hook may cause further exits. One written in C makes no Python frame, so the depth is counted here.
    // SAFETY: attached; left again if and only if it was entered.
    let outcome = match unsafe { ffi::Py_EnterRecursiveCall(c" in the exit hook of a container".as_ptr()) } {
        0 => {
            let outcome = body(&hook);
            // SAFETY: entered just above.
            unsafe { ffi::Py_LeaveRecursiveCall() };
            outcome
        }
        _ => Err(PyErr::fetch(py)),
    };
    if let Err(error) = outcome {
        hooks.errors.fetch_add(1, Relaxed);
        error.write_unraisable(py, Some(&hook));
    }
}

/// The member of `ullage.Cause` for a cause.
fn cause_object(py: Python<'_>, cause: Cause) -> Py<PyAny> {
    static CAUSES: PyOnceLock<Vec<Py<PyAny>>> = PyOnceLock::new();
    let causes = CAUSES.get_or_try_init(py, || {
        let class = py.import("ullage._causes")?.getattr("Cause")?;
        let names = ["EXPLICIT", "REPLACED", "SIZE", "EXPIRED"];
        names.iter().map(|name| Ok(class.getattr(name)?.unbind())).collect::<PyResult<_>>()
    });
    match causes {
        Ok(causes) => causes[cause as usize].clone_ref(py),
        Err(error) => {
            error.write_unraisable(py, None);
            py.None()
        }
    }
}
