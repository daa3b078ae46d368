//! Arenas: whoever frees the last object of a megabyte gives it back to the system, which takes 100 microseconds with
//! the GIL held. Here that is put off: the sweeper's thread does it, without the GIL, unless an allocation takes the
//! memory again first.
//!
//! This is CPython's own hook (`PyObject_SetArenaAllocator`): what was installed before still does all the work. It is
//! also called for the stacks of frames, and not always with the GIL.

use crate::sweep;
use parking_lot::Mutex;
use pyo3::ffi::{PyObjectArenaAllocator, PyObject_GetArenaAllocator, PyObject_SetArenaAllocator};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::OnceLock;

/// Arenas that wait at most; more are given back on the spot, and so is what is smaller, which takes no time.
const MOST: usize = 256;
const LARGE: usize = 256 << 10;

struct System(PyObjectArenaAllocator);

// SAFETY: CPython calls it from whatever thread it runs on.
unsafe impl Send for System {}
// SAFETY: as above; it is never changed.
unsafe impl Sync for System {}

struct Arena {
    start: *mut c_void,
    size: usize,
}

// SAFETY: memory that nobody uses.
unsafe impl Send for Arena {}

static SYSTEM: OnceLock<System> = OnceLock::new();
static EMPTY: Mutex<Vec<Arena>> = Mutex::new(Vec::new());

/// Has arenas that become empty from now on given back by the sweeper's thread. Attached.
pub(crate) fn install() {
    let mut system = MaybeUninit::uninit();
    // SAFETY: attached; the place is filled before it is read.
    let system = unsafe {
        PyObject_GetArenaAllocator(system.as_mut_ptr());
        system.assume_init()
    };
    if SYSTEM.set(System(system)).is_ok() {
        EMPTY.lock().reserve(MOST);
        let mut ours = PyObjectArenaAllocator { ctx: std::ptr::null_mut(), alloc: Some(alloc), free: Some(free) };
        // SAFETY: attached; the functions do what those before them did, only later.
        unsafe { PyObject_SetArenaAllocator(&mut ours) };
    }
}

extern "C" fn alloc(_: *mut c_void, size: usize) -> *mut c_void {
    if size >= LARGE {
        let mut empty = EMPTY.lock();
        if let Some(at) = empty.iter().rposition(|arena| arena.size == size) {
            return empty.swap_remove(at).start;
        }
    }
    match SYSTEM.get() {
        Some(System(PyObjectArenaAllocator { ctx, alloc: Some(alloc), .. })) => alloc(*ctx, size),
        _ => std::ptr::null_mut(),
    }
}

extern "C" fn free(_: *mut c_void, start: *mut c_void, size: usize) {
    let arena = Arena { start, size };
    // No lock for what is small: the stack of a thread that ends, maybe without the GIL, while another thread forks.
    if size < LARGE || !sweep::is_running() {
        return give_back(arena);
    }
    let mut empty = EMPTY.lock();
    if empty.len() == MOST {
        drop(empty);
        return give_back(arena);
    }
    empty.push(arena);
    let first = empty.len() == 1;
    drop(empty);
    if first {
        sweep::look_after_arenas();
    }
}

fn give_back(Arena { start, size }: Arena) {
    if let Some(System(PyObjectArenaAllocator { ctx, free: Some(free), .. })) = SYSTEM.get() {
        free(*ctx, start, size);
    }
}

/// Gives all that wait back to the system, before a fork or the end.
pub(crate) fn give_all_back() {
    while give_one_back() {}
}

/// Gives one that waits back to the system; false if none does. Not many in a row: to unmap is to hold a lock of the
/// kernel's that others may need.
pub(crate) fn give_one_back() -> bool {
    let arena = EMPTY.lock().pop();
    arena.map(give_back).is_some()
}
