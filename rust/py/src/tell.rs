//! Hooks are told here of what left a container, after the fact and with no lock held; then it is retired.

use crate::ffi::{self, attached};
use crate::hooks::Hooks;
use crate::names::Names;
use crate::reclaim;
use crate::value::Object;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::sync::atomic::Ordering::Relaxed;
use ullage_core::{Cause, Removed};

/// Tells the exit hook of everything that left a map, then retires it.
#[inline(always)]
pub(crate) fn release(hooks: &Hooks, removed: Removed<Object, Object>) {
    if !removed.is_empty() {
        if hooks.has_exit() {
            tell(hooks, removed.into_iter());
        } else {
            for (key, value, _) in removed {
                reclaim::retire(&hooks.account, key);
                reclaim::retire(&hooks.account, value);
            }
        }
    }
    reclaim::pace();
}

/// As [`release`], one entry at a time: what is dropped is never more than what was told.
#[cold]
pub(crate) fn tell(hooks: &Hooks, removed: impl Iterator<Item = (Object, Object, Cause)>) {
    attached(|py| {
        for (key, value, cause) in removed {
            let Some(hook) = hooks.on_exit() else { continue };
            let arguments = (key.bind(py), value.bind(py), cause_object(py, cause));
            call(py, hooks, &hook, |hook| hook.call1(arguments).map(drop));
            reclaim::retire(&hooks.account, key);
            reclaim::retire(&hooks.account, value);
            reclaim::pace();
        }
    });
}

/// Tells a ring's hook what fell off, then retires it. What falls while the hook runs, in this thread or another, queues
/// up behind, so that the hook hears of everything once and in order.
#[cold]
pub(crate) fn tell_fallen(hooks: &Hooks, fallen: impl Iterator<Item = Object>) {
    hooks.queue(fallen);
    // A hook that itself makes something fall, for ever, must not keep its caller for ever: the rest waits.
    for _ in 0..MOST_CALLS {
        if hooks.is_queue_empty() {
            return;
        }
        let Some(_delivery) = hooks.deliver() else { return };
        attached(|py| {
            let items = hooks.take_queue();
            if let Some(hook) = hooks.on_exit().filter(|_| !items.is_empty()) {
                call(py, hooks, &hook, |hook| {
                    let list = PyList::new(py, items.iter().map(|item| item.bind(py)))?;
                    hook.call1((list,)).map(drop)
                });
            }
            items.into_iter().for_each(|item| reclaim::retire(&hooks.account, item));
            reclaim::pace();
        });
    }
}

const MOST_CALLS: usize = 10_000;

/// Calls a hook whose exceptions must not reach whoever happened to cause the call.
pub(crate) fn call<'py>(
    py: Python<'py>,
    hooks: &Hooks,
    hook: &Object,
    body: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<()>,
) {
    let hook = hook.bind(py);
    if let Err(error) = ffi::nested(py, || body(&hook)) {
        hooks.errors.fetch_add(1, Relaxed);
        error.write_unraisable(py, Some(&hook));
    }
}

/// The member of `ullage.Cause` for a cause.
fn cause_object(py: Python<'_>, cause: Cause) -> Py<PyAny> {
    match Names::get(py) {
        Ok(names) => names.causes[cause as usize].clone_ref(py),
        Err(error) => {
            error.write_unraisable(py, None);
            py.None()
        }
    }
}
