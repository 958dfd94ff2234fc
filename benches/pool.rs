//! What the pool costs a job: `cargo bench --no-default-features --bench pool`.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ngx_http_wsgi_module::pool::completions::Completions;
use ngx_http_wsgi_module::pool::{Config, Pool, Runner, Task};

/// Jobs per pool or batch.
const BATCH: usize = 1000;

/// A job that does nothing, as big as the module's.
struct Empty(usize);

impl Task for Empty {
    fn is_cancelled(&self) -> bool {
        false
    }
}

fn pool() -> Pool<Empty> {
    Pool::new(Config { capacity: BATCH, ..Config::default() }, |_| ())
}

/// Stops the pool after `left` jobs; no lock.
struct Countdown {
    pool: Pool<Empty>,
    left: usize,
}

impl Runner<Empty> for Countdown {
    fn attach(&mut self) {}

    fn detach(&mut self) {}

    fn run(&mut self, job: Empty) {
        black_box(job.0);
        self.left -= 1;
        if self.left == 0 {
            self.pool.stop();
        }
    }
}

fn fill(pool: &Pool<Empty>) {
    for number in 0..BATCH {
        submit(pool, number);
    }
}

fn submit(pool: &Pool<Empty>, number: usize) {
    assert!(pool.submit(Empty(number)).is_ok());
    black_box(pool.wake());
}

/// Times `work` on new pools, until it has been done for `jobs` jobs; the result is scaled to exactly these.
fn timed(jobs: u64, mut work: impl FnMut(&Pool<Empty>) -> Duration) -> Duration {
    let rounds = jobs.div_ceil(BATCH as u64);
    let total: Duration = (0..rounds).map(|_| work(&pool())).sum();
    total.mul_f64(jobs as f64 / (rounds * BATCH as u64) as f64)
}

fn one_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("one thread");
    group.bench_function("submit", |b| {
        b.iter_custom(|jobs| {
            timed(jobs, |pool| {
                let start = Instant::now();
                fill(pool);
                start.elapsed()
            })
        });
    });
    group.bench_function("submit, take, run", |b| {
        b.iter_custom(|jobs| {
            timed(jobs, |pool| {
                let start = Instant::now();
                fill(pool);
                pool.run_thread(&mut Countdown { pool: pool.clone(), left: BATCH });
                start.elapsed()
            })
        });
    });
    group.finish();
}

/// A lock in the GIL's place.
#[derive(Default)]
struct Gil {
    held: Mutex<bool>,
    freed: Condvar,
}

struct Hand {
    gil: Arc<Gil>,
    done: Arc<AtomicUsize>,
    told: Sender<()>,
}

impl Runner<Empty> for Hand {
    fn attach(&mut self) {
        let mut held = self.gil.held.lock().unwrap();
        while *held {
            held = self.gil.freed.wait(held).unwrap();
        }
        *held = true;
    }

    fn detach(&mut self) {
        *self.gil.held.lock().unwrap() = false;
        self.gil.freed.notify_one();
    }

    fn run(&mut self, job: Empty) {
        black_box(job.0);
        if self.done.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.told.send(()).unwrap();
        }
    }
}

/// Batches of jobs from this thread to others and back; also prints how often one of them was woken.
fn between_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("between threads");
    for (threads, jobs) in [(1, 1), (8, 1), (1, BATCH), (8, BATCH)] {
        let pool = pool();
        let (told, done) = channel();
        let left = Arc::new(AtomicUsize::new(0));
        let gil = Arc::new(Gil::default());
        let handles: Vec<_> = (0..threads)
            .map(|_| {
                let mut hand = Hand { gil: Arc::clone(&gil), done: Arc::clone(&left), told: told.clone() };
                let pool = pool.clone();
                thread::spawn(move || pool.run_thread(&mut hand))
            })
            .collect();
        let mut total = 0;
        group.bench_function(format!("{jobs} at a time, {threads} threads"), |b| {
            b.iter(|| {
                left.store(jobs, Ordering::Release);
                for number in 0..jobs {
                    submit(&pool, number);
                }
                done.recv().unwrap();
                total += jobs;
            });
        });
        eprintln!("wake-ups per job: {:.4}", pool.stats().wakeups as f64 / total as f64);
        pool.stop();
        for handle in handles {
            handle.join().unwrap();
        }
    }
    group.finish();
}

fn completions(c: &mut Criterion) {
    let list = Completions::new(Box::new(|| {
        black_box(());
    }));
    c.bench_function("completion: push and drain", |b| {
        b.iter(|| {
            list.push(1);
            list.drain(|item: usize| {
                black_box(item);
            });
        });
    });
    c.bench_function("completion: 4 coalesced, flush and drain", |b| {
        b.iter(|| {
            (0..4).for_each(|item| list.push_coalesced(item));
            list.flush();
            list.drain(|item| {
                black_box(item);
            });
        });
    });
}

criterion_group!(benches, one_thread, between_threads, completions);
criterion_main!(benches);
