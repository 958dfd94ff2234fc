//! A lock like CPython's GIL: whoever has waited for it for a whole interval makes its holder let it go.

use std::collections::VecDeque;

use super::world::{State, World};

pub(super) struct Lock {
    holder: Option<usize>,
    waiters: VecDeque<usize>,
    /// Counts how many times it has been taken.
    taken: u64,
    drop_requested: bool,
    interval: u64,
    /// The holder computes: it hears of a request at once.
    computing: bool,
}

impl Lock {
    pub(super) fn new(interval: u64) -> Self {
        Self { holder: None, waiters: VecDeque::new(), taken: 0, drop_requested: false, interval, computing: false }
    }
}

fn free(state: &mut State) {
    state.lock.holder = None;
    state.lock.computing = false;
    if let Some(&first) = state.lock.waiters.front() {
        state.wake(first);
    }
}

impl World {
    pub(super) fn take_lock(&self, number: usize) {
        let mut state = self.state();
        while state.lock.holder.is_some() {
            let (taken, until) = (state.lock.taken, state.now + state.lock.interval);
            state.lock.waiters.push_back(number);
            state = self.wait(state, number, Some(until));
            state.lock.waiters.retain(|&waiter| waiter != number);
            let Some(holder) = state.lock.holder else { break };
            if state.now >= until && state.lock.taken == taken {
                state.lock.drop_requested = true;
                if state.lock.computing {
                    state.wake(holder);
                }
            }
        }
        state.lock.holder = Some(number);
        state.lock.taken += 1;
        state.lock.drop_requested = false;
    }

    pub(super) fn release_lock(&self, number: usize) {
        let mut state = self.state();
        assert_eq!(state.lock.holder, Some(number), "released by a thread that has not got it");
        free(&mut state);
    }

    /// Computes with the lock for that long, not counting the time for which it was made to let it go.
    pub(super) fn compute(&self, number: usize, time: u64) {
        let mut left = time;
        loop {
            let mut state = self.state();
            let begun = state.now;
            state.lock.computing = true;
            if !state.lock.drop_requested {
                state = self.wait(state, number, Some(begun + left));
            }
            left = left.saturating_sub(state.now - begun);
            state.lock.computing = false;
            if !state.lock.drop_requested {
                if left == 0 {
                    return;
                }
                continue;
            }
            // As CPython does it: another thread takes it before this one may again.
            let taken = state.lock.taken;
            free(&mut state);
            while state.lock.taken == taken && !state.lock.waiters.is_empty() {
                let soon = state.now + 1_000;
                state = self.wait(state, number, Some(soon));
            }
            drop(state);
            self.take_lock(number);
        }
    }

    /// Whether the thread waits, for the lock or for something else.
    pub(super) fn is_asleep(&self, number: usize) -> bool {
        self.state().lock.holder != Some(number)
    }

    /// Lets the lock go, waits for that long, and takes it again.
    pub(super) fn block(&self, number: usize, time: u64) {
        self.release_lock(number);
        let until = self.now() + time;
        while self.now() < until {
            self.sleep_until(number, Some(until));
        }
        self.take_lock(number);
    }
}
