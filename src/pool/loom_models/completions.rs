//! The list on which finished work reaches the event loop.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::super::completions::Completions;
use super::super::sync::lock;
use super::explore;

/// A wake-up that a thread can wait for.
#[derive(Default)]
struct Wakeup {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Wakeup {
    fn wait(&self) {
        let mut count = lock(&self.count);
        while *count == 0 {
            count = self.changed.wait(count).unwrap();
        }
        *count = 0;
    }
}

/// Each producer adds two items; the consumer looks only when it was woken.
fn deliveries(producers: usize, switches: usize, produce: fn(&Completions<usize>)) {
    explore(switches, move || {
        let wakeup = Arc::new(Wakeup::default());
        let list = Arc::new(Completions::new({
            let wakeup = Arc::clone(&wakeup);
            Box::new(move || {
                *lock(&wakeup.count) += 1;
                wakeup.changed.notify_one();
            })
        }));
        let threads: Vec<_> = (0..producers)
            .map(|_| {
                let list = Arc::clone(&list);
                thread::spawn(move || produce(&list))
            })
            .collect();
        let mut seen = 0;
        while seen < 2 * producers {
            wakeup.wait();
            list.drain(|item| seen += item);
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn every_completion_is_seen() {
    deliveries(1, 5, |list| {
        list.push(1);
        list.push(1);
    });
}

#[test]
fn every_completion_of_two_producers_is_seen() {
    deliveries(2, 3, |list| {
        list.push(1);
        list.push(1);
    });
}

#[test]
fn every_coalesced_completion_is_seen() {
    deliveries(2, 3, |list| {
        list.push_coalesced(1);
        list.push_coalesced(1);
        list.flush();
    });
}

#[test]
fn another_completion_may_flush_a_coalesced_one() {
    deliveries(2, 3, |list| {
        list.push_coalesced(1);
        list.push(1);
        list.flush();
    });
}
