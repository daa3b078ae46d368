//! The sweeper's thread: when it is started, what it does, and how it passes forks and the interpreter's end. The only
//! place that starts a thread, and, beside `ffi.rs`, that attaches.
//!
//! Detached, it moves what has expired out of containers, and counts, compares and drops nothing (law 3). It attaches
//! only to call a hook with what expired, and to free what is retired, a little at a time, where no write does.

use crate::arenas;
use crate::hooks::monotonic;
use crate::reclaim::{self, Contents};
use crate::value::Object;
use parking_lot::Mutex;
#[cfg(not(Py_3_12))]
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyWeakref, PyWeakrefMethods, PyWeakrefReference};
use pyo3::PyClass;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use ullage_core::{Alarm, Sweep, Sweeper, Tick};

/// Entries moved out under one lock.
pub(crate) const ROUND: usize = 32;
/// Nanoseconds between two looks at least, so that a stream of deadlines is no stream of wake-ups.
const REST: u64 = 10_000_000;
/// Nanoseconds for which writes have a pile to themselves.
const PATIENCE: u64 = 20_000_000;
/// Nanoseconds that the thread frees for in one piece, and how long it then lets others run.
const PIECE: u64 = 100_000;
const BREATH: u64 = 1_000_000;
/// Looks at an empty pile before the thread goes to sleep: waking it up is a system call for whoever evicts next.
const LINGER: u32 = 50;
/// Writes that free fewer references than this within `PATIENCE` are helped.
const ENOUGH: u64 = 4096;

/// A container with deadlines, as the sweeper knows it.
pub(crate) trait Swept: Sync {
    /// Moves out what is due, at most a round, on a thread that is not attached. Gives the next deadline; None if the
    /// container has a hook, which wants an attached thread.
    fn sweep(&self, now: Tick) -> Option<Tick>;

    /// Moves out what is due, and tells the hook; gives the next deadline. Attached.
    fn deliver(&self) -> Tick;

    /// Forgets what a sweeper knew.
    fn disarm(&self);
}

/// Where a container and the sweeper meet. It outlives the container, emptied.
pub(crate) struct Post {
    container: Mutex<Option<Container>>,
    alarm: Alarm,
    /// Whether an attached thread is wanted.
    calls: AtomicBool,
}

struct Container {
    at: NonNull<dyn Swept>,
    /// A weak reference, for calls of hooks, during which it must live.
    weak: Object,
}

// SAFETY: the pointer is used under the post's lock only, and leaves it before the container ends; `Swept` is `Sync`.
unsafe impl Send for Container {}

impl Sweep for Post {
    fn due(&self) -> Tick {
        self.alarm.at()
    }

    fn sweep(&self, now: Tick) {
        let container = self.container.lock();
        self.alarm.answer(|| match &*container {
            None => Tick::NEVER,
            // Memory wins over latency: more is moved out when some of it has been freed.
            Some(_) if reclaim::is_full() => now.after(Some(PATIENCE)),
            // SAFETY: the container takes itself from its post before it ends, for which it waits for this lock.
            Some(container) => unsafe { container.at.as_ref() }.sweep(now).unwrap_or_else(|| {
                self.calls.store(true, Relaxed);
                Tick::NEVER
            }),
        });
    }
}

impl Post {
    /// Calls the hook of a container that still lives. Attached.
    fn deliver(&self, py: Python<'_>) {
        self.calls.store(false, Relaxed);
        // No lock while Python may run: the strong reference keeps the container where it is.
        let Some((at, weak)) = self.container.lock().as_ref().map(|container| (container.at, container.weak.dup()))
        else {
            return;
        };
        let weak = weak.into_bound(py);
        let Some(_alive) = weak.cast::<PyWeakref>().ok().and_then(|weak| weak.upgrade()) else { return };
        // SAFETY: as said.
        self.alarm.answer(|| unsafe { at.as_ref() }.deliver());
    }
}

/// A container's own end of the post; none until it has a deadline.
#[derive(Default)]
pub(crate) struct Watched(OnceLock<Arc<Post>>);

impl Watched {
    /// Has a container watched from now on. Its lock is open to detached threads already.
    pub(crate) fn begin<T: Swept + PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + 'static>(
        &self,
        slf: &Bound<'_, T>,
    ) -> PyResult<()> {
        if self.0.get().is_some() {
            return Ok(());
        }
        let weak = Object::new(PyWeakrefReference::new(slf.as_any())?.as_any());
        let at: &dyn Swept = slf.get();
        let container = Mutex::new(Some(Container { at: NonNull::from(at), weak }));
        let post = Arc::new(Post { container, alarm: Alarm::new(), calls: AtomicBool::new(false) });
        // Making the weak reference may have collected garbage, and so have come here before.
        if self.0.set(post.clone()).is_ok() {
            sweeper().watch(&post);
        }
        Ok(())
    }

    /// Tells the sweeper of a deadline that it does not know of.
    #[inline(always)]
    pub(crate) fn ring(&self, alarm: Option<Tick>) {
        if let Some(at) = alarm {
            self.wake_by(at);
        }
    }

    #[cold]
    fn wake_by(&self, at: Tick) {
        if let Some(post) = self.0.get() {
            post.alarm.set_by(at);
            wake_by(at);
        }
    }

    /// Leaves the post, for the container ends.
    pub(crate) fn end(&self) {
        let container = self.0.get().and_then(|post| post.container.lock().take());
        drop(container.map(|container| container.weak));
    }
}

static SWEEPER: AtomicPtr<Sweeper<Post>> = AtomicPtr::new(std::ptr::null_mut());
static THREAD: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);
/// Threads that were in a hook at a fork. They end when that does, which the end of the interpreter waits for.
static LEFT: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());
/// Whether there is a thread, or there never will be one.
static STARTED: AtomicBool = AtomicBool::new(false);
static ENABLED: AtomicBool = AtomicBool::new(false);
/// Whether it knows that there is a pile.
static ASKED: AtomicBool = AtomicBool::new(false);
/// Structures without entries, whose memory takes a while to give back.
static HUSKS: Mutex<Vec<Contents>> = Mutex::new(Vec::new());

fn sweeper() -> &'static Sweeper<Post> {
    // SAFETY: set when the module is made, and never freed: a thread may be in it.
    unsafe { &*SWEEPER.load(Relaxed) }
}

fn set_sweeper(sweeper: Sweeper<Post>) {
    SWEEPER.store(Box::into_raw(Box::new(sweeper)), Relaxed);
}

/// Whether there is a thread, or there will be one when it is needed.
pub(crate) fn is_enabled() -> bool {
    ENABLED.load(Relaxed)
}

/// Whether there is a thread.
pub(crate) fn is_running() -> bool {
    STARTED.load(Relaxed) && is_enabled()
}

/// Attached.
fn wake_by(at: Tick) {
    if !ENABLED.load(Relaxed) {
        return;
    }
    if !STARTED.swap(true, Relaxed) {
        let sweeper = sweeper();
        // Without a thread, as where the system gives none, the calls of the containers do all there is to do.
        match spawn(|| run(sweeper)) {
            Ok(thread) => {
                *THREAD.lock() = Some(thread);
                arenas::install();
            }
            Err(_) => ENABLED.store(false, Relaxed),
        }
    }
    sweeper().wake_by(at);
}

fn spawn(body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("ullage-sweeper".into()).spawn(body)
}

/// Sees to it that what is retired is freed also if nobody writes.
#[cold]
pub(crate) fn look_after_the_pile() {
    if !ASKED.swap(true, Relaxed) {
        wake_by(monotonic().after(Some(PATIENCE)));
    }
}

/// Sees to it that empty arenas are given back, unless they are wanted again soon.
#[cold]
pub(crate) fn look_after_arenas() {
    wake_by(monotonic().after(Some(PATIENCE)));
}

/// Gives the memory of an empty structure back, on the other thread if there is one.
pub(crate) fn discard(husk: Contents) {
    if is_running() {
        HUSKS.lock().push(husk);
        wake_by(monotonic());
    }
}

fn run(sweeper: &'static Sweeper<Post>) {
    block_signals();
    let (mut rest, mut freed, mut empty) = (Tick(0), 0, LINGER);
    while sweeper.wait(monotonic, rest) {
        let mut next = sweeper.sweep(monotonic);
        let husks = std::mem::take(&mut *HUSKS.lock());
        drop(husks);
        rest = monotonic().after(Some(REST));
        for post in sweeper.watched().iter().filter(|post| post.calls.load(Relaxed)) {
            attach(sweeper, |py| post.deliver(py));
            next = next.min(post.due());
        }
        empty = if reclaim::is_any() { 0 } else { (empty + 1).min(LINGER) };
        ASKED.store(empty < LINGER, Relaxed);
        if empty > 0 && empty < LINGER {
            next = next.min(monotonic().after(Some(PATIENCE)));
        }
        if reclaim::is_any() {
            let by_writes = reclaim::freed() - freed;
            if by_writes < ENOUGH {
                attach(sweeper, |_| {
                    reclaim::free_for(PIECE);
                });
            }
            rest = monotonic().after(Some(if by_writes == 0 { BREATH } else { PATIENCE }));
            next = next.min(rest);
        }
        freed = reclaim::freed();
        if arenas::give_one_back() {
            rest = monotonic().after(Some(BREATH));
            next = next.min(rest);
        }
        sweeper.wake_by(next);
    }
}

/// Does something attached, if the interpreter still is.
#[cfg(Py_3_12)]
fn attach(sweeper: &Sweeper<Post>, act: impl FnOnce(Python<'_>)) {
    sweeper.aside(|| Python::try_attach(act));
}

/// Does something attached.
///
/// CPython before 3.12 makes the state of a thread under a lock that a child forked meanwhile would wait for, for ever. So
/// it is made here, where a fork waits for the thread, and not when it is aside.
#[cfg(not(Py_3_12))]
fn attach(sweeper: &Sweeper<Post>, act: impl FnOnce(Python<'_>)) {
    struct Attached(*mut ffi::PyThreadState);

    impl Drop for Attached {
        fn drop(&mut self) {
            // SAFETY: attached with this state, which goes.
            unsafe {
                ffi::PyThreadState_Clear(self.0);
                ffi::PyThreadState_DeleteCurrent();
            }
        }
    }

    // SAFETY: the interpreter waits for this thread before it ends. The state is the thread's own; one that was never
    // used holds nothing.
    unsafe {
        let state = ffi::PyThreadState_New(ffi::PyInterpreterState_Main());
        if state.is_null() {
            return;
        }
        let went = sweeper.aside(|| {
            ffi::PyEval_RestoreThread(state);
            let _attached = Attached(state);
            Python::try_attach(act);
        });
        if went.is_none() {
            ffi::PyThreadState_Delete(state);
        }
    }
}

/// Signals are the interpreter's threads' business.
fn block_signals() {
    // SAFETY: a set on the stack, filled before it is used.
    #[cfg(unix)]
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, std::ptr::null_mut());
    }
}

/// Before a fork: the thread, which the child would not have, ends; it holds no lock even if it has yet to.
#[pyfunction]
pub(crate) fn _before_fork() {
    let ends = sweeper().stop();
    let thread = THREAD.lock().take();
    if ends {
        drop(thread.map(JoinHandle::join));
    } else {
        let mut left = LEFT.lock();
        left.retain(|thread| !thread.is_finished());
        left.extend(thread);
    }
    // Neither side may have a thread for them.
    arenas::give_all_back();
}

/// After a fork, in the parent: another thread goes on if there is something to do.
#[pyfunction]
pub(crate) fn _after_fork_in_parent() {
    start_again();
    if reclaim::is_any() || !sweeper().watched().is_empty() {
        wake_by(monotonic());
    }
}

/// After a fork, in the child: the first deadline starts a thread.
#[pyfunction]
pub(crate) fn _after_fork_in_child() {
    start_again();
    std::mem::forget(std::mem::take(&mut *LEFT.lock()));
    for post in sweeper().watched() {
        post.alarm.answer(|| Tick::NEVER);
        if let Some(container) = &*post.container.lock() {
            // SAFETY: as in `Post::sweep`.
            unsafe { container.at.as_ref() }.disarm();
        }
    }
}

fn start_again() {
    set_sweeper(sweeper().renew());
    STARTED.store(false, Relaxed);
    ASKED.store(false, Relaxed);
}

/// At exit: ends the thread, and frees what is retired. Nothing is put off from now on.
#[pyfunction]
pub(crate) fn _end(py: Python<'_>) {
    ENABLED.store(false, Relaxed);
    sweeper().stop();
    // A thread may be waiting to attach.
    let threads = THREAD.lock().take().into_iter().chain(std::mem::take(&mut *LEFT.lock()));
    py.detach(|| threads.for_each(|thread| drop(thread.join())));
    reclaim::end();
    arenas::give_all_back();
}

/// Makes ready, and has the interpreter tell of forks and of its end.
pub(crate) fn set_up(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    set_sweeper(Sweeper::new());
    ENABLED.store(std::env::var_os("ULLAGE_SWEEPER").is_none_or(|value| value != "0"), Relaxed);
    if is_enabled() {
        // The first thread of a process costs as much as four later ones: paid here, not by the write that needs it.
        let _ = spawn(|| ()).map(JoinHandle::join);
    }
    py.import("atexit")?.call_method1("register", (module.getattr("_end")?,))?;
    let os = py.import("os")?;
    if os.hasattr("register_at_fork")? {
        let hooks = pyo3::types::PyDict::new(py);
        hooks.set_item("before", module.getattr("_before_fork")?)?;
        hooks.set_item("after_in_parent", module.getattr("_after_fork_in_parent")?)?;
        hooks.set_item("after_in_child", module.getattr("_after_fork_in_child")?)?;
        os.call_method("register_at_fork", (), Some(&hooks))?;
    }
    Ok(())
}
