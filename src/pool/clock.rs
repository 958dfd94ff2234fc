//! The pool's clock.

/// Nanoseconds since the pool was made; never 0.
pub(super) struct Clock {
    #[cfg(not(loom))]
    start: std::time::Instant,
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

/// Time stands still in a loom model.
#[cfg(loom)]
impl Clock {
    pub(super) fn new() -> Self {
        Self {}
    }

    pub(super) fn now(&self) -> u64 {
        1
    }
}
