//! Who sleeps and who is woken. README.md names the states and argues that no wake-up is lost.

use std::time::Duration;

use super::parker::Parker;
use super::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, fence, lock};
use super::turn::Turn;

/// Bits of each count in the mirror.
const BITS: u32 = 20;
const MASK: u64 = (1 << BITS) - 1;

/// What a thread does, as its pool counts it. A parked thread is in the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not counted: about to join, parked, or gone.
    Away,
    /// Awake without a job.
    Seeking,
    /// Between the first job of a turn and the turn's end.
    Running,
}

/// One thread of the pool.
pub(super) struct Slot {
    pub(super) phase: Phase,
    pub(super) parker: Arc<Parker>,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Away, parker: Parker::new() }
    }
}

/// How many threads are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) parked: usize,
    pub(super) seeking: usize,
    pub(super) running: usize,
}

impl Counts {
    fn pack(self) -> u64 {
        self.parked as u64 | (self.seeking as u64) << BITS | (self.running as u64) << (2 * BITS)
    }

    fn unpack(word: u64) -> Self {
        let field = |index: u32| (word >> (index * BITS) & MASK) as usize;
        Self { parked: field(0), seeking: field(1), running: field(2) }
    }
}

#[derive(Default)]
struct State {
    /// The parked threads. The one that parked last is woken first: its caches are warm.
    stack: Vec<Arc<Parker>>,
    seeking: usize,
    running: usize,
    wakeups: u64,
}

impl State {
    fn counts(&self) -> Counts {
        Counts { parked: self.stack.len(), seeking: self.seeking, running: self.running }
    }

    fn shift(&mut self, slot: &mut Slot, to: Phase) {
        match slot.phase {
            Phase::Away => {}
            Phase::Seeking => self.seeking -= 1,
            Phase::Running => self.running -= 1,
        }
        match to {
            Phase::Away => {}
            Phase::Seeking => self.seeking += 1,
            Phase::Running => self.running += 1,
        }
        slot.phase = to;
    }
}

/// The threads of a pool, as far as they sleep and wake.
///
/// `waiting` below is always the same counter: the jobs in the queue. A job is counted before it is
/// pushed and until it has been taken.
pub(super) struct Sleep {
    state: Mutex<State>,
    /// The counts as of the last change; `submit` reads it instead of the state.
    mirror: AtomicU64,
    pub(super) turn: Turn,
    has_lock: bool,
}

impl Sleep {
    pub(super) fn new(has_lock: bool, stall: Duration) -> Self {
        Self { state: Mutex::default(), mirror: AtomicU64::new(0), turn: Turn::new(stall), has_lock }
    }

    fn publish(&self, state: &MutexGuard<'_, State>) {
        self.mirror.store(state.counts().pack(), Ordering::Release);
    }

    pub(super) fn counts(&self) -> Counts {
        Counts::unpack(self.mirror.load(Ordering::Acquire))
    }

    /// Whether fewer threads seek than are of use, and another one could.
    fn is_short(&self, counts: Counts, waiting: usize) -> bool {
        let most = if self.has_lock { waiting.min(1) } else { waiting };
        counts.parked > 0 && counts.seeking < most
    }

    /// Whether a thread is to seek the jobs that wait, and after how many nanoseconds to ask again at the latest, if at all.
    /// `look`: as in [`Turn::wants_waiter`].
    #[inline]
    fn is_wanted(&self, counts: Counts, waiting: usize, now: impl FnOnce() -> u64, look: bool) -> (bool, Option<u64>) {
        if waiting == 0 || counts.parked + counts.seeking == 0 {
            // With all threads running, each takes a job as soon as its own has ended.
            return (false, None);
        }
        let wanted = if self.has_lock { self.turn.wants_waiter(now(), look) } else { Ok(()) };
        (wanted.is_ok() && self.is_short(counts, waiting), Some(wanted.err().unwrap_or(self.turn.stall())))
    }

    /// Whether the thread that began a job at `since` has lost its turn to another one, which gets on with the jobs.
    /// Both of them in the middle of a job would take the lock from each other for ever.
    #[inline]
    pub(super) fn has_lost_turn(&self, since: u64, now: u64) -> bool {
        self.has_lock && self.turn.is_anothers(since, now)
    }

    /// Jobs have been counted and pushed, or still wait: wakes a thread for them unless one is on its way, or the thread
    /// that has the turn is about to take them.
    ///
    /// Returns after how many nanoseconds to ask again at the latest, if that is necessary.
    #[inline]
    pub(super) fn wake(&self, waiting: &AtomicUsize, now: impl FnOnce() -> u64) -> Option<u64> {
        self.wake_if_wanted(waiting, now, true)
    }

    #[inline]
    fn wake_if_wanted(&self, waiting: &AtomicUsize, now: impl FnOnce() -> u64, look: bool) -> Option<u64> {
        // Pairs with the fences in `rest` and `settle`: one of the two sides sees the other.
        fence(Ordering::SeqCst);
        let waiting = waiting.load(Ordering::Relaxed);
        let (wanted, again) = self.is_wanted(self.counts(), waiting, now, look);
        if wanted {
            self.wake_one(waiting);
        }
        again
    }

    #[cold]
    fn wake_one(&self, waiting: usize) {
        let mut state = lock(&self.state);
        if !self.is_short(state.counts(), waiting) {
            return;
        }
        let Some(parker) = state.stack.pop() else { return };
        state.seeking += 1;
        state.wakeups += 1;
        self.publish(&state);
        drop(state);
        parker.unpark();
    }

    /// Ends whatever the thread did and parks it until it is woken. Returns at once when jobs wait that nobody is about to
    /// take, when the thread has been notified, or after a stop. The thread then seeks.
    ///
    /// If it parks while jobs wait, it first calls `again` with the nanoseconds within which [`Self::wake`] is owed.
    pub(super) fn rest(
        &self,
        slot: &mut Slot,
        waiting: &AtomicUsize,
        stopped: &AtomicBool,
        now: impl FnOnce() -> u64,
        again: impl FnOnce(u64),
    ) {
        let mut state = lock(&self.state);
        state.shift(slot, Phase::Away);
        state.stack.push(Arc::clone(&slot.parker));
        self.publish(&state);
        // Either whoever adds a job from here on finds this thread parked, or the job is seen here.
        fence(Ordering::SeqCst);
        let (wanted, after) = self.is_wanted(state.counts(), waiting.load(Ordering::Relaxed), now, false);
        if wanted || slot.parker.is_notified() || stopped.load(Ordering::Relaxed) {
            state.stack.pop();
            state.shift(slot, Phase::Seeking);
            self.publish(&state);
            return;
        }
        drop(state);
        after.map(again);
        slot.parker.park();
        // Whoever woke it has counted it.
        slot.phase = Phase::Seeking;
    }

    /// The thread has the lock and a job: its turn begins, and another one seeks if jobs are left and it is of use.
    /// Returns what [`Self::wake`] does.
    pub(super) fn begin_turn(&self, slot: &mut Slot, waiting: &AtomicUsize, now: u64) -> Option<u64> {
        self.settle(slot, Phase::Running, waiting, now)
    }

    /// The thread is gone for good, in whatever phase. Returns what [`Self::wake`] does.
    pub(super) fn leave(&self, slot: &mut Slot, waiting: &AtomicUsize, now: u64) -> Option<u64> {
        if slot.phase == Phase::Seeking {
            self.turn.set_waiter(0);
        }
        self.settle(slot, Phase::Away, waiting, now)
    }

    fn settle(&self, slot: &mut Slot, to: Phase, waiting: &AtomicUsize, now: u64) -> Option<u64> {
        let mut state = lock(&self.state);
        state.shift(slot, to);
        self.publish(&state);
        drop(state);
        // Whoever added a job before the change may have counted on this thread: look after it.
        self.wake_if_wanted(waiting, || now, false)
    }

    /// Has this very thread come between two jobs, however many others seek: at once if it is parked.
    pub(super) fn notify(&self, parker: &Arc<Parker>) {
        let mut state = lock(&self.state);
        // Under the mutex: `rest` finds either the notification or the thread not yet on the stack.
        parker.set_notified();
        let Some(place) = state.stack.iter().position(|other| Arc::ptr_eq(other, parker)) else { return };
        state.stack.remove(place);
        state.seeking += 1;
        state.wakeups += 1;
        self.publish(&state);
        drop(state);
        parker.unpark();
    }

    /// Wakes every thread; the flag that they look at has been set.
    pub(super) fn wake_all(&self) {
        let mut state = lock(&self.state);
        for parker in std::mem::take(&mut state.stack) {
            state.seeking += 1;
            parker.unpark();
        }
        self.publish(&state);
    }

    /// The counts, and how many times a thread has been woken for work.
    pub(super) fn totals(&self) -> (Counts, u64) {
        let state = lock(&self.state);
        (state.counts(), state.wakeups)
    }
}
