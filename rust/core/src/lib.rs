//! The containers of ullage, without Python.
//!
//! | file | noun |
//! |---|---|
//! | [`slab`] | items with small stable names, and the orders they stand in |
//! | [`index`] | hash -> token; knows no keys |
//! | [`eq`] | equality that may have to be asked outside the lock |
//! | [`due`] | who expires when: a timing wheel |
//! | `table` | slab, index and wheel together: what the two maps have in common |
//! | [`lru`] | bounded map, least recently used leaves first |
//! | [`expiring`] | bounded map whose entries leave in time |
//! | [`ring`] | bounded sequence, oldest leaves first |
//! | [`shared`] | the one lock, and the loop that settles equality |
//! | [`sweeper`] | what the one background thread looks at, and when |
//!
//! The laws, in six lines: no foreign code runs under the lock; what leaves is handed back, never dropped here; a token
//! does not outlive foreign code; time is an argument; a call is O(1) unless it returns O(n); the bound holds after
//! every call.
#![forbid(unsafe_code)]

pub mod due;
pub mod eq;
pub mod expiring;
mod growth;
pub mod index;
pub mod lru;
mod refused;
mod removed;
pub mod ring;
pub mod shared;
pub mod slab;
mod stats;
pub mod sweeper;
mod sync;
mod table;
mod time;

pub use eq::{Equality, Plainly, Probe, Verdict};
pub use expiring::Expiring;
pub use index::mix;
pub use lru::{Lru, New};
pub use refused::{Refused, Undecided};
pub use removed::{Cause, Removed};
pub use ring::Ring;
pub use shared::Shared;
pub use stats::Stats;
pub use sweeper::{Alarm, Sweep, Sweeper};
pub use table::Cleared;
pub use time::Tick;
