//! Time as a number. The core never reads a clock (law 7).

/// Nanoseconds since the origin of the container's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// Later than every other tick: what is due then is never due.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// This tick and `span` nanoseconds; [`NEVER`](Self::NEVER) if that is past the end of time or `span` is None.
    #[inline]
    pub fn after(self, span: Option<u64>) -> Tick {
        span.map_or(Tick::NEVER, |span| Tick(self.0.saturating_add(span)))
    }

    /// Nanoseconds from `now` to this tick, 0 if it has passed; None for [`NEVER`](Self::NEVER).
    pub fn remaining(self, now: Tick) -> Option<u64> {
        (self != Tick::NEVER).then(|| self.0.saturating_sub(now.0))
    }
}
