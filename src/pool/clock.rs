//! The pool's clock.

/// Nanoseconds since the pool was made; never 0.
pub(super) struct Clock {
    #[cfg(not(loom))]
    start: std::time::Instant,
    /// Number of times that the clock was read. Not loom's atomic, or loom would try every order of the reads.
    #[cfg(loom)]
    looks: std::sync::atomic::AtomicU64,
}

#[cfg(not(loom))]
impl Clock {
    pub(super) fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }

    #[inline]
    pub(super) fn now(&self) -> u64 {
        #[cfg(test)]
        if let Some(now) = super::simulation::now() {
            return now;
        }
        self.start.elapsed().as_nanos() as u64 + 1
    }
}

/// In a loom model each look at the clock is a nanosecond after the last.
#[cfg(loom)]
impl Clock {
    pub(super) fn new() -> Self {
        Self { looks: std::sync::atomic::AtomicU64::new(0) }
    }

    pub(super) fn now(&self) -> u64 {
        self.looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1
    }
}
