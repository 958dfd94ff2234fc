//! The list on which finished work reaches the event loop.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::super::completions::Completions;
use super::super::sync::lock;
use super::explore;

/// A bell that a thread can wait for.
#[derive(Default)]
struct Bell {
    rings: Mutex<usize>,
    rang: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rings = lock(&self.rings);
        while *rings == 0 {
            rings = self.rang.wait(rings).unwrap();
        }
        *rings = 0;
    }
}

/// Each producer adds two items; the consumer looks when the bell has rung, and only then.
fn deliveries(producers: usize, switches: usize, produce: fn(&Completions<usize>)) {
    explore(switches, move || {
        let bell = Arc::new(Bell::default());
        let list = Arc::new(Completions::new({
            let bell = Arc::clone(&bell);
            Box::new(move || {
                *lock(&bell.rings) += 1;
                bell.rang.notify_one();
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
            bell.wait();
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
fn every_quiet_completion_is_seen() {
    deliveries(2, 3, |list| {
        list.push_quiet(1);
        list.push_quiet(1);
        list.ring();
    });
}

#[test]
fn a_quiet_completion_may_be_announced_by_a_loud_one() {
    deliveries(2, 3, |list| {
        list.push_quiet(1);
        list.push(1);
        list.ring();
    });
}
