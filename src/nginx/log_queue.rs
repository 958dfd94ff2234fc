//! A list of lines for the event loop to write, with a bound. What exceeds it is dropped and counted.

use std::collections::VecDeque;
use std::mem;

/// Largest size of the list, in bytes.
const CAPACITY: usize = 1 << 20;
/// What a line costs beside its text, in bytes.
const LINE_COST: usize = 64;

/// Lines that wait. A record is in it with all of its lines, or is dropped as a whole.
pub(crate) struct LogQueue<T> {
    lines: VecDeque<(T, usize)>,
    bytes: usize,
    /// Number of records that were dropped since that was last reported, and the severest level among them.
    dropped: Option<(u64, u8)>,
    /// When it was last reported.
    reported: i64,
}

impl<T> Default for LogQueue<T> {
    fn default() -> Self {
        Self { lines: VecDeque::new(), bytes: 0, dropped: None, reported: 0 }
    }
}

/// What [`LogQueue::take`] gives.
pub(crate) struct Taken<T> {
    pub(crate) lines: Vec<T>,
    /// Number of records that were dropped, and the severest level among them, where it is time to report that.
    pub(crate) dropped: Option<(u64, u8)>,
    /// Something is left.
    pub(crate) more: bool,
}

impl<T> LogQueue<T> {
    /// Whether an empty list would take a record of that size.
    pub(crate) fn has_room_for(lines: usize, bytes: usize) -> bool {
        bytes + lines * LINE_COST <= CAPACITY
    }

    /// Adds the lines of a record, whose text has that many bytes, or drops it. True: the consumer has to be woken.
    pub(crate) fn add(&mut self, lines: Vec<T>, bytes: usize, level: u8) -> bool {
        let was_idle = self.lines.is_empty() && self.dropped.is_none();
        let size = bytes + lines.len() * LINE_COST;
        if self.bytes + size > CAPACITY {
            let (count, severest) = self.dropped.unwrap_or((0, level));
            self.dropped = Some((count + 1, severest.min(level)));
        } else if !lines.is_empty() {
            let each = size / lines.len();
            self.bytes += each * lines.len();
            self.lines.extend(lines.into_iter().map(|line| (line, each)));
        } else {
            return false;
        }
        was_idle
    }

    /// Takes up to `most` lines. What was dropped is reported when the list is empty, and once a second until then.
    pub(crate) fn take(&mut self, most: usize, second: i64) -> Taken<T> {
        let count = most.min(self.lines.len());
        let mut lines = Vec::with_capacity(count);
        for (line, size) in self.lines.drain(..count) {
            self.bytes -= size;
            lines.push(line);
        }
        let more = !self.lines.is_empty();
        let mut dropped = None;
        if self.dropped.is_some() && (!more || self.reported != second) {
            self.reported = second;
            dropped = mem::take(&mut self.dropped);
        }
        Taken { lines, dropped, more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_their_order_and_a_few_at_a_time() {
        let mut list = LogQueue::default();
        assert!(list.add(vec![1, 2], 2, 4), "the first wakes the consumer");
        assert!(!list.add(vec![3], 1, 4), "it has been woken");
        let taken = list.take(2, 0);
        assert_eq!((taken.lines, taken.more), (vec![1, 2], true));
        assert!(!list.add(vec![4], 1, 4), "it will come back");
        let taken = list.take(2, 0);
        assert_eq!((taken.lines, taken.more), (vec![3, 4], false));
        assert!(list.add(vec![5], 1, 4), "it has gone to sleep");
        assert_eq!(list.take(2, 0).dropped, None);
    }

    #[test]
    fn what_exceeds_the_bound_is_dropped_and_reported() {
        let mut list = LogQueue::default();
        let mut kept = 0;
        while list.dropped.is_none() {
            list.add(vec![kept], 1000, 5);
            kept += 1;
            assert!(kept < 2000, "no bound");
        }
        list.add(vec![0], 1000, 3);
        let taken = list.take(1, 7);
        assert_eq!((taken.dropped, taken.more), (Some((2, 3)), true), "once a second while there is more");
        list.add(vec![0, 0, 0], 3000, 5);
        assert_eq!(list.take(1, 7).dropped, None);
        assert_eq!(list.take(1, 8).dropped, Some((1, 5)));
        list.add(vec![0, 0, 0, 0], 4000, 5);
        let taken = list.take(usize::MAX, 8);
        assert_eq!((taken.dropped, taken.more), (Some((1, 5)), false), "and when it is empty");
        assert_eq!(taken.lines.len(), kept - 1 - 3);
        assert_eq!(list.bytes, 0);
    }

    #[test]
    fn a_record_that_is_too_long_for_an_empty_list_is_reported() {
        let mut list = LogQueue::<()>::default();
        assert!(list.add(Vec::new(), usize::MAX / 2, 4));
        assert_eq!(list.take(1, 0).dropped, Some((1, 4)));
    }
}
