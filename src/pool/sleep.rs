//! Who sleeps and who is woken. README.md names the states and argues that no wake-up is lost.

use std::time::Duration;

use super::seat::{Phase, Place, Seat};
use super::smooth::Smoothness;
use super::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, fence, lock};

/// Bits of each count in a lane's mirror.
const BITS: u32 = 20;
const MASK: u64 = (1 << BITS) - 1;

/// How often a seeker that watches looks whether the lane's jobs still end.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// How many of a lane's threads are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Asleep.
    pub(super) parked: usize,
    /// Awake without a job.
    pub(super) seeking: usize,
    /// Between the first job of a turn and its end.
    pub(super) running: usize,
    /// One of the seekers watches.
    watching: bool,
}

impl Counts {
    fn pack(self) -> u64 {
        let counts = self.parked as u64 | (self.seeking as u64) << BITS | (self.running as u64) << (2 * BITS);
        counts | u64::from(self.watching) << (3 * BITS)
    }

    fn unpack(word: u64) -> Self {
        let field = |index: u32| (word >> (index * BITS) & MASK) as usize;
        Self { parked: field(0), seeking: field(1), running: field(2), watching: field(3) != 0 }
    }

    /// The watcher is of no use: what it watches is over.
    fn is_watch_idle(self) -> bool {
        self.watching && self.running == 0
    }

    /// The seekers on whom a job can count.
    fn comers(self) -> usize {
        self.seeking - usize::from(self.is_watch_idle()).min(self.seeking)
    }
}

#[derive(Default)]
struct State {
    /// The parked threads; the one that parked last is woken first: its caches are warm.
    stack: Vec<Arc<Seat>>,
    /// The seeker that watches.
    watcher: Option<Arc<Seat>>,
    seeking: usize,
    running: usize,
    wakeups: u64,
}

impl State {
    fn counts(&self) -> Counts {
        let (parked, watching) = (self.stack.len(), self.watcher.is_some());
        Counts { parked, seeking: self.seeking, running: self.running, watching }
    }

    fn shift(&mut self, place: &mut Place, to: Phase) {
        match place.phase {
            Phase::Away => {}
            Phase::Seeking => self.seeking -= 1,
            Phase::Running => self.running -= 1,
        }
        match to {
            Phase::Away => {}
            Phase::Seeking => self.seeking += 1,
            Phase::Running => self.running += 1,
        }
        place.phase = to;
    }
}

/// The threads that share one lock.
struct Lane {
    state: Mutex<State>,
    /// The counts as of the last change; `submit` reads it instead of the state.
    mirror: AtomicU64,
    /// When the seeker got in line for the lock, on the pool's clock; 0: it is not in line.
    in_line: AtomicU64,
    /// Whether its jobs keep the lock.
    smooth: Smoothness,
}

impl Lane {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            mirror: AtomicU64::new(0),
            in_line: AtomicU64::new(0),
            smooth: Smoothness::new(),
        }
    }

    fn publish(&self, state: &MutexGuard<'_, State>) {
        self.mirror.store(state.counts().pack(), Ordering::Release);
    }

    fn counts(&self) -> Counts {
        Counts::unpack(self.mirror.load(Ordering::Acquire))
    }

    /// Wakes the watcher, if there is one, to stand in line.
    #[cold]
    fn rouse(&self) {
        let mut state = lock(&self.state);
        let seat = state.watcher.take();
        self.publish(&state);
        drop(state);
        seat.iter().for_each(|seat| seat.wake());
    }
}

/// The lanes and their sleepers.
///
/// `waiting` below is always the same counter: the jobs in the queue. A job is counted before it is
/// pushed and until it has been taken.
pub(super) struct Sleep {
    lanes: Box<[Lane]>,
    exclusive: bool,
}

impl Sleep {
    pub(super) fn new(lanes: usize, exclusive: bool) -> Self {
        Self { lanes: (0..lanes).map(|_| Lane::new()).collect(), exclusive }
    }

    /// Whether a lane in which `counts` holds should have one more seeker.
    fn wants(&self, counts: Counts, waiting: usize) -> bool {
        let most = if self.exclusive { waiting.min(1) } else { waiting };
        (counts.parked > 0 || counts.is_watch_idle()) && counts.comers() < most
    }

    /// A job has been counted and pushed: wakes a thread if none is on its way to it.
    #[inline]
    pub(super) fn arrived(&self, waiting: &AtomicUsize) {
        // Pairs with the fences in `rest` and `settle`: one of the two sides sees the other.
        fence(Ordering::SeqCst);
        let waiting = waiting.load(Ordering::Relaxed);
        if waiting > 0 {
            self.wake_one(waiting);
        }
    }

    #[inline]
    fn wake_one(&self, waiting: usize) {
        let (mut coming, mut best) = (0, None::<(&Lane, usize)>);
        for lane in &self.lanes {
            let counts = lane.counts();
            if counts.running == 0 {
                // Nobody holds up these seekers.
                coming += counts.comers();
            }
            if self.wants(counts, waiting) && best.is_none_or(|(_, running)| counts.running < running) {
                best = Some((lane, counts.running));
            }
        }
        match best {
            Some((lane, _)) if coming < waiting => self.wake_in(lane, waiting),
            _ => {}
        }
    }

    #[cold]
    fn wake_in(&self, lane: &Lane, waiting: usize) {
        let mut state = lock(&lane.state);
        if !self.wants(state.counts(), waiting) {
            return;
        }
        let seat = match state.stack.pop() {
            Some(seat) => {
                state.seeking += 1;
                seat
            }
            // It is counted as seeking already. While others are parked it sleeps on: it will be of use again.
            None => match state.watcher.take() {
                Some(seat) => seat,
                None => return,
            },
        };
        state.wakeups += 1;
        lane.publish(&state);
        drop(state);
        seat.wake();
    }

    /// The seeker sleeps beside its lane, for a tick, or until somebody needs it. True: the tick is over.
    pub(super) fn watch(&self, place: &Place, tick: Duration, waiting: &AtomicUsize, stopped: &AtomicBool) -> bool {
        let lane = &self.lanes[place.lane];
        let mut state = lock(&lane.state);
        if state.watcher.is_some() || stopped.load(Ordering::Relaxed) {
            return false;
        }
        state.watcher = Some(Arc::clone(&place.seat));
        lane.publish(&state);
        if state.running == 0 {
            // As in `rest`: whoever adds a job from here on finds that nobody comes for it, or the job is seen here.
            fence(Ordering::SeqCst);
            if self.wants(state.counts(), waiting.load(Ordering::Relaxed)) {
                state.watcher = None;
                lane.publish(&state);
                return false;
            }
        }
        drop(state);
        if place.seat.sleep_for(tick) {
            return false; // whoever woke it has taken it off
        }
        let mut state = lock(&lane.state);
        if state.watcher.as_ref().is_some_and(|seat| Arc::ptr_eq(seat, &place.seat)) {
            state.watcher = None;
            lane.publish(&state);
            return true;
        }
        drop(state);
        // It has been taken off at this very moment: its wake-up is on the way, and must not be left for later.
        place.seat.sleep();
        false
    }

    /// Ends whatever the thread did and parks it until it is woken; returns at once when work waits
    /// that nobody seeks, or after a stop. The thread then seeks.
    pub(super) fn rest(&self, place: &mut Place, waiting: &AtomicUsize, stopped: &AtomicBool) {
        let lane = &self.lanes[place.lane];
        let mut state = lock(&lane.state);
        state.shift(place, Phase::Away);
        state.stack.push(Arc::clone(&place.seat));
        lane.publish(&state);
        // Either whoever adds a job from here on finds this thread parked, or the job is seen here.
        fence(Ordering::SeqCst);
        let wanted = self.wants(state.counts(), waiting.load(Ordering::Relaxed));
        if wanted || place.is_summoned() || stopped.load(Ordering::Relaxed) {
            state.stack.pop();
            state.shift(place, Phase::Seeking);
            lane.publish(&state);
            return;
        }
        drop(state);
        place.seat.sleep();
        // Whoever woke it has counted it.
        place.phase = Phase::Seeking;
    }

    /// The seeker has the lock and a job: its turn begins, and another one seeks if work is left.
    pub(super) fn begin_turn(&self, place: &mut Place, waiting: &AtomicUsize) {
        self.settle(place, Phase::Running, waiting);
    }

    /// The thread is gone for good, in whatever phase.
    pub(super) fn leave(&self, place: &mut Place, waiting: &AtomicUsize) {
        if place.phase == Phase::Seeking {
            self.set_in_line(place, 0);
        }
        self.settle(place, Phase::Away, waiting);
    }

    fn settle(&self, place: &mut Place, to: Phase, waiting: &AtomicUsize) {
        let lane = &self.lanes[place.lane];
        let mut state = lock(&lane.state);
        state.shift(place, to);
        lane.publish(&state);
        drop(state);
        // Whoever added a job before the change may have counted on this seeker: look after it.
        self.arrived(waiting);
    }

    /// Has this very thread come, however many others seek: at once if it is parked, else after its job.
    pub(super) fn summon(&self, lane: usize, seat: &Arc<Seat>) {
        let lane = &self.lanes[lane];
        let mut state = lock(&lane.state);
        // Under the mutex: `rest` finds either the flag set or the thread not yet on the stack that is searched here.
        seat.summoned.store(true, Ordering::Release);
        let Some(place) = state.stack.iter().position(|other| Arc::ptr_eq(other, seat)) else { return };
        state.stack.remove(place);
        state.seeking += 1;
        state.wakeups += 1;
        lane.publish(&state);
        drop(state);
        seat.wake();
    }

    /// Wakes every thread; the flag that they look at has been set.
    pub(super) fn wake_all(&self) {
        for lane in &self.lanes {
            let mut state = lock(&lane.state);
            for seat in std::mem::take(&mut state.stack) {
                state.seeking += 1;
                seat.wake();
            }
            if let Some(seat) = state.watcher.take() {
                seat.wake();
            }
            lane.publish(&state);
        }
    }

    /// Notes that the lane's seeker stands in line for the lock since `now`, or (0) no longer does.
    pub(super) fn set_in_line(&self, place: &Place, now: u64) {
        if self.exclusive {
            self.lanes[place.lane].in_line.store(now, Ordering::Relaxed);
        }
    }

    /// Since when the lane's seeker has stood in line.
    #[inline]
    pub(super) fn in_line_since(&self, place: &Place) -> Option<u64> {
        match self.lanes[place.lane].in_line.load(Ordering::Relaxed) {
            0 => None,
            since => Some(since),
        }
    }

    /// Whether the seeker had better watch than stand in line, or than park where nothing runs or waits.
    pub(super) fn should_watch(&self, place: &Place, waiting: &AtomicUsize, now: u64) -> bool {
        let smooth = self.smooth(place);
        let is_idle = || waiting.load(Ordering::Relaxed) == 0 && !self.is_lane_busy(place);
        self.exclusive && smooth.is_smooth(now) && (smooth.is_active() || is_idle())
    }

    /// Whether the jobs of the thread's lane keep its lock, or there is none.
    #[inline]
    pub(super) fn is_smooth(&self, place: &Place, now: u64) -> bool {
        !self.exclusive || self.smooth(place).is_smooth(now)
    }

    /// What is known of the thread's lane.
    #[inline]
    pub(super) fn smooth(&self, place: &Place) -> &Smoothness {
        &self.lanes[place.lane].smooth
    }

    /// Jobs have been added: where the watched lane is stuck, the watcher need not wait for its tick to find out.
    #[inline]
    pub(super) fn look_for_stuck(&self, now: impl Fn() -> u64) {
        let watched = |counts: Counts| counts.watching && counts.running > 0;
        for lane in self.lanes.iter().filter(|lane| watched(lane.counts())) {
            if lane.smooth.is_stuck(now()) {
                lane.rouse();
            }
        }
    }

    /// A job of the thread's has taken so long: if that tells against what the watcher is there for, it is woken.
    #[inline]
    pub(super) fn note_job(&self, place: &Place, took: u64, now: u64) {
        let lane = &self.lanes[place.lane];
        if lane.smooth.is_doubtful(took, now) {
            lane.rouse();
        }
    }

    /// Whether a call runs, or may be blocked, in the thread's lane.
    pub(super) fn is_lane_busy(&self, place: &Place) -> bool {
        self.lanes[place.lane].counts().running > 0
    }

    /// The threads that have no job.
    #[inline]
    pub(super) fn free(&self) -> usize {
        self.lanes.iter().map(|lane| lane.counts()).map(|counts| counts.parked + counts.seeking).sum()
    }

    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// The counts of all lanes, and how many wake-ups there have been.
    pub(super) fn totals(&self) -> (Counts, u64) {
        self.lanes.iter().fold((Counts::default(), 0), |(sum, wakeups), lane| {
            let state = lock(&lane.state);
            let counts = state.counts();
            let sum = Counts {
                parked: sum.parked + counts.parked,
                seeking: sum.seeking + counts.seeking,
                running: sum.running + counts.running,
                watching: false,
            };
            (sum, wakeups + state.wakeups)
        })
    }
}
