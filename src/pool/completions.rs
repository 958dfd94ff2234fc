//! Finished work on its way back to the event loop.

use std::{fmt, mem};

use super::injector::Injector;
use super::sync::{AtomicU8, Ordering};

/// Something was added since the consumer last lowered the flag.
const PENDING: u8 = 1;
/// The consumer has been told (the bell has rung), or is at it, and will look at the list once more.
const TOLD: u8 = 2;

/// A list that any thread adds to and one thread empties, with a bell that rings only when it must.
///
/// No item is forgotten: a producer adds to the list *before* it raises the flag, and the consumer lowers
/// the flag *before* its last look at the list. All of them change the flag by read-modify-write, so these
/// changes have one order, and each sees what came before it. If the producer's came first, the
/// consumer's last look finds the item. If the consumer's came first, the producer finds the flag down, and rings.
pub struct Completions<T> {
    list: Injector<T>,
    flag: AtomicU8,
    bell: Box<dyn Fn() + Send + Sync>,
    late_bell: Box<dyn Fn() + Send + Sync>,
}

impl<T> fmt::Debug for Completions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completions").field("flag", &self.flag).finish_non_exhaustive()
    }
}

impl<T> Completions<T> {
    /// `bell` wakes the consumer; it is called from any thread.
    pub fn new(bell: Box<dyn Fn() + Send + Sync>) -> Self {
        Self::with_late_bell(bell, Box::new(|| ()))
    }

    /// `late_bell` wakes the consumer, too, but after a while: it bounds how long a quiet item can lie unseen when
    /// whoever owes the [`Self::ring`] is held up. It is called when the first quiet item comes.
    pub fn with_late_bell(bell: Box<dyn Fn() + Send + Sync>, late_bell: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { list: Injector::new(), flag: AtomicU8::new(0), bell, late_bell }
    }

    /// Adds an item; rings unless the consumer has been told already.
    pub fn push(&self, item: T) {
        self.list.push(item);
        if self.flag.fetch_or(PENDING | TOLD, Ordering::AcqRel) & TOLD == 0 {
            (self.bell)();
        }
    }

    /// Adds an item without a word. Whoever does owes a [`Self::ring`], from whichever thread, soon:
    /// several items then cost the consumer one wake-up.
    pub fn push_quiet(&self, item: T) {
        self.list.push(item);
        if self.flag.fetch_or(PENDING, Ordering::AcqRel) == 0 {
            (self.late_bell)();
        }
    }

    /// Rings if something was added and the consumer has not been told; else does next to nothing.
    pub fn ring(&self) {
        // The caller sees its own PENDING here, or a later value: then TOLD stands, or the consumer has
        // lowered the flag since and has yet to take its last look. Either way it will find the item.
        if self.flag.load(Ordering::Acquire) == PENDING
            && self.flag.compare_exchange(PENDING, PENDING | TOLD, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            (self.bell)();
        }
    }

    /// Hands every item to `take`, those included that arrive meanwhile. Called by the consumer alone.
    ///
    /// The flag stays up until the list is empty, so that what arrives meanwhile rings no bell.
    pub fn drain(&self, mut take: impl FnMut(T)) {
        let unfinished = Unfinished(self);
        loop {
            while let Some(item) = self.list.pop() {
                take(item);
            }
            self.flag.swap(0, Ordering::AcqRel);
            // The last look; if it finds something, it was not the last.
            let Some(item) = self.list.pop() else { break };
            self.flag.fetch_or(TOLD, Ordering::AcqRel);
            take(item);
        }
        mem::forget(unfinished);
    }
}

/// Rings anew when `take` panics: what is left in the list must not wait for the next item.
struct Unfinished<'a, T>(&'a Completions<T>);

impl<T> Drop for Unfinished<'_, T> {
    fn drop(&mut self) {
        self.0.flag.swap(PENDING | TOLD, Ordering::AcqRel);
        (self.0.bell)();
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
        let rings = Arc::new(AtomicUsize::new(0));
        let bell = Arc::clone(&rings);
        (
            Completions::new(Box::new(move || {
                bell.fetch_add(1, Ordering::SeqCst);
            })),
            rings,
        )
    }

    fn drained<T>(list: &Completions<T>) -> Vec<T> {
        let mut items = Vec::new();
        list.drain(|item| items.push(item));
        items
    }

    #[test]
    fn the_bell_rings_once_until_the_list_was_drained() {
        let (list, rings) = counted();
        (0..5).for_each(|item| list.push(item));
        assert_eq!(rings.load(Ordering::SeqCst), 1);
        assert_eq!(drained(&list), [0, 1, 2, 3, 4]);
        list.push(5);
        assert_eq!(rings.load(Ordering::SeqCst), 2);
        assert_eq!(drained(&list), [5]);
    }

    #[test]
    fn quiet_items_ring_when_told_to() {
        let (list, rings) = counted();
        list.ring();
        assert_eq!(rings.load(Ordering::SeqCst), 0, "nothing is pending");
        list.push_quiet(1);
        list.push_quiet(2);
        assert_eq!(rings.load(Ordering::SeqCst), 0);
        list.ring();
        list.ring();
        assert_eq!(rings.load(Ordering::SeqCst), 1);
        list.push_quiet(3);
        list.push(4);
        list.ring();
        assert_eq!(rings.load(Ordering::SeqCst), 1, "the consumer has been told and has not looked yet");
        assert_eq!(drained(&list), [1, 2, 3, 4]);
        list.ring();
        assert_eq!(rings.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn the_first_quiet_item_is_told_to_the_late_bell() {
        let rings = Arc::new(AtomicUsize::new(0));
        let late = Arc::clone(&rings);
        let late_bell = move || {
            late.fetch_add(1, Ordering::SeqCst);
        };
        let list = Completions::with_late_bell(Box::new(|| ()), Box::new(late_bell));
        list.push_quiet(1);
        list.push_quiet(2);
        assert_eq!(rings.load(Ordering::SeqCst), 1);
        assert_eq!(drained(&list), [1, 2]);
        list.push(3);
        list.push_quiet(4);
        assert_eq!(rings.load(Ordering::SeqCst), 1, "the consumer has been told");
        assert_eq!(drained(&list), [3, 4]);
        list.push_quiet(5);
        assert_eq!(rings.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn what_arrives_during_a_drain_is_taken_by_it_and_rings_no_bell() {
        let (list, rings) = counted();
        list.push(3);
        let mut items = Vec::new();
        list.drain(|item| {
            items.push(item);
            if item > 0 {
                list.push(item - 1);
            }
        });
        assert_eq!(items, [3, 2, 1, 0]);
        assert_eq!(rings.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_panic_of_the_consumer_strands_nothing() {
        let (list, rings) = counted();
        list.push(1);
        list.push(2);
        let taken = catch_unwind(AssertUnwindSafe(|| list.drain(|_| panic!("on purpose"))));
        assert!(taken.is_err());
        assert_eq!(rings.load(Ordering::SeqCst), 2);
        assert_eq!(drained(&list), [2]);
    }

    /// A consumer that looks only when the bell has rung sees every item.
    fn relay(produce: impl Fn(&Completions<usize>, usize) + Send + Sync + 'static) {
        const PRODUCERS: usize = 3;
        const ITEMS: usize = 20_000;
        let (sender, rung): (_, Receiver<()>) = channel();
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
            rung.recv().unwrap();
            list.drain(|_| seen += 1);
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(seen, PRODUCERS * ITEMS);
    }

    #[test]
    fn no_item_is_missed_by_a_consumer_that_waits_for_the_bell() {
        relay(|list, item| list.push(item));
    }

    #[test]
    fn no_quiet_item_is_missed_either() {
        relay(|list, item| {
            list.push_quiet(item);
            if item % 4 == 3 {
                list.ring();
            }
        });
    }
}
