//! Finished work on its way back to the event loop.

use std::{fmt, mem};

use super::injector::Injector;
use super::sync::{AtomicU8, Ordering};

/// Something was added since the consumer last cleared the flag.
const PENDING: u8 = 1;
/// The consumer has been woken, or is draining, and will look at the list once more.
const NOTIFIED: u8 = 2;

/// A list that any thread adds to and one thread empties. It wakes the consumer only when it must.
///
/// No item is missed. A producer adds to the list *before* it sets the flag, and the consumer clears the flag *before*
/// its last look at the list. Every change of the flag is a read-modify-write, so the changes have one order, and each
/// sees what came before it. If the producer's change comes first, the consumer's last look finds the item. If the
/// consumer's comes first, the producer finds the flag clear, and wakes the consumer.
pub struct Completions<T> {
    list: Injector<T>,
    flag: AtomicU8,
    /// Wakes the consumer.
    wakeup: Box<dyn Fn() + Send + Sync>,
    /// Starts a timer that wakes the consumer.
    wakeup_timer: Box<dyn Fn() + Send + Sync>,
}

impl<T> fmt::Debug for Completions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completions").field("flag", &self.flag).finish_non_exhaustive()
    }
}

impl<T> Completions<T> {
    /// An empty list. `wakeup` wakes the consumer; any thread may call it.
    pub fn new(wakeup: Box<dyn Fn() + Send + Sync>) -> Self {
        Self::with_wakeup_timer(wakeup, Box::new(|| ()))
    }

    /// As [`Self::new`]. `wakeup_timer` starts a timer that wakes the consumer, when the first coalesced item comes. It
    /// bounds the delay of an item when the thread that owes the [`Self::flush`] is held up.
    pub fn with_wakeup_timer(wakeup: Box<dyn Fn() + Send + Sync>, wakeup_timer: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { list: Injector::new(), flag: AtomicU8::new(0), wakeup, wakeup_timer }
    }

    /// Adds an item, and wakes the consumer unless it has been notified already.
    pub fn push(&self, item: T) {
        self.list.push(item);
        if self.flag.fetch_or(PENDING | NOTIFIED, Ordering::AcqRel) & NOTIFIED == 0 {
            (self.wakeup)();
        }
    }

    /// Adds an item without waking the consumer. The caller owes a [`Self::flush`], soon, from any thread: several
    /// items then share one wake-up.
    pub fn push_coalesced(&self, item: T) {
        self.list.push(item);
        if self.flag.fetch_or(PENDING, Ordering::AcqRel) == 0 {
            (self.wakeup_timer)();
        }
    }

    /// Wakes the consumer if something was added and it has not been notified. Cheap otherwise.
    pub fn flush(&self) {
        // The caller sees its own PENDING here, or a later value: then NOTIFIED is set, or the consumer has
        // cleared the flag since and has yet to take its last look. Either way it will find the item.
        if self.flag.load(Ordering::Acquire) == PENDING
            && self.flag.compare_exchange(PENDING, PENDING | NOTIFIED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            (self.wakeup)();
        }
    }

    /// Passes every item to `take`, including those that arrive before it returns. Only the consumer calls it.
    ///
    /// The flag stays set until the list is empty, so an item that arrives before that causes no wake-up.
    pub fn drain(&self, mut take: impl FnMut(T)) {
        let unfinished = Unfinished(self);
        loop {
            while let Some(item) = self.list.pop() {
                take(item);
            }
            self.flag.swap(0, Ordering::AcqRel);
            // The last look, unless it finds something.
            let Some(item) = self.list.pop() else { break };
            self.flag.fetch_or(NOTIFIED, Ordering::AcqRel);
            take(item);
        }
        mem::forget(unfinished);
    }
}

/// Wakes the consumer again when `take` panics: the remaining items must not wait for the next one.
struct Unfinished<'a, T>(&'a Completions<T>);

impl<T> Drop for Unfinished<'_, T> {
    fn drop(&mut self) {
        self.0.flag.swap(PENDING | NOTIFIED, Ordering::AcqRel);
        (self.0.wakeup)();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Arc, Mutex};
    use std::thread;

    fn counted<T: Send + 'static>() -> (Completions<T>, Arc<AtomicUsize>) {
        let wakeups = Arc::new(AtomicUsize::new(0));
        let wakeup = Arc::clone(&wakeups);
        (
            Completions::new(Box::new(move || {
                wakeup.fetch_add(1, Ordering::SeqCst);
            })),
            wakeups,
        )
    }

    fn drained<T>(list: &Completions<T>) -> Vec<T> {
        let mut items = Vec::new();
        list.drain(|item| items.push(item));
        items
    }

    #[test]
    fn the_consumer_is_woken_once_until_the_list_was_drained() {
        let (list, wakeups) = counted();
        (0..5).for_each(|item| list.push(item));
        assert_eq!(wakeups.load(Ordering::SeqCst), 1);
        assert_eq!(drained(&list), [0, 1, 2, 3, 4]);
        list.push(5);
        assert_eq!(wakeups.load(Ordering::SeqCst), 2);
        assert_eq!(drained(&list), [5]);
    }

    #[test]
    fn coalesced_items_wake_the_consumer_when_flushed() {
        let (list, wakeups) = counted();
        list.flush();
        assert_eq!(wakeups.load(Ordering::SeqCst), 0, "nothing is pending");
        list.push_coalesced(1);
        list.push_coalesced(2);
        assert_eq!(wakeups.load(Ordering::SeqCst), 0);
        list.flush();
        list.flush();
        assert_eq!(wakeups.load(Ordering::SeqCst), 1);
        list.push_coalesced(3);
        list.push(4);
        list.flush();
        assert_eq!(wakeups.load(Ordering::SeqCst), 1, "the consumer has been notified and has not looked yet");
        assert_eq!(drained(&list), [1, 2, 3, 4]);
        list.flush();
        assert_eq!(wakeups.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_first_coalesced_item_starts_the_timer() {
        let wakeups = Arc::new(AtomicUsize::new(0));
        let started = Arc::clone(&wakeups);
        let wakeup_timer = move || {
            started.fetch_add(1, Ordering::SeqCst);
        };
        let list = Completions::with_wakeup_timer(Box::new(|| ()), Box::new(wakeup_timer));
        list.push_coalesced(1);
        list.push_coalesced(2);
        assert_eq!(wakeups.load(Ordering::SeqCst), 1);
        assert_eq!(drained(&list), [1, 2]);
        list.push(3);
        list.push_coalesced(4);
        assert_eq!(wakeups.load(Ordering::SeqCst), 1, "the consumer has been notified");
        assert_eq!(drained(&list), [3, 4]);
        list.push_coalesced(5);
        assert_eq!(wakeups.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn what_arrives_during_a_drain_is_taken_by_it_without_a_wakeup() {
        let (list, wakeups) = counted();
        list.push(3);
        let mut items = Vec::new();
        list.drain(|item| {
            items.push(item);
            if item > 0 {
                list.push(item - 1);
            }
        });
        assert_eq!(items, [3, 2, 1, 0]);
        assert_eq!(wakeups.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_panic_of_the_consumer_strands_nothing() {
        let (list, wakeups) = counted();
        list.push(1);
        list.push(2);
        let taken = catch_unwind(AssertUnwindSafe(|| list.drain(|_| panic!("on purpose"))));
        assert!(taken.is_err());
        assert_eq!(wakeups.load(Ordering::SeqCst), 2);
        assert_eq!(drained(&list), [2]);
    }

    /// A consumer that looks only when it was woken sees every item.
    fn relay(produce: impl Fn(&Completions<usize>, usize) + Send + Sync + 'static) {
        const PRODUCERS: usize = 3;
        const ITEMS: usize = 20_000;
        let (sender, woken): (_, Receiver<()>) = channel();
        let sender = Mutex::new(sender);
        let list = Arc::new(Completions::new(Box::new(move || {
            let _ = sender.lock().unwrap().send(());
        })));
        let produce = Arc::new(produce);
        let threads: Vec<_> = (0..PRODUCERS)
            .map(|_| {
                let (list, produce) = (Arc::clone(&list), Arc::clone(&produce));
                thread::spawn(move || (0..ITEMS).for_each(|item| produce(&list, item)))
            })
            .collect();
        let mut seen = 0;
        while seen < PRODUCERS * ITEMS {
            woken.recv().unwrap();
            list.drain(|_| seen += 1);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(seen, PRODUCERS * ITEMS);
    }

    #[test]
    fn no_item_is_missed_by_a_consumer_that_waits_for_wakeups() {
        relay(|list, item| list.push(item));
    }

    #[test]
    fn no_coalesced_item_is_missed_either() {
        relay(|list, item| {
            list.push_coalesced(item);
            if item % 4 == 3 {
                list.flush();
            }
        });
    }
}
