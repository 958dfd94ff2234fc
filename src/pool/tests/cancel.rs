//! Capacity, and jobs that are cancelled while they wait.

use super::*;

fn config(capacity: usize) -> Config {
    Config { capacity, ..Config::default() }
}

#[test]
fn capacity_bounds_what_waits() {
    let mut rig = Rig::new(config(3));
    let (dropped, states) = channel();
    let calls: Vec<_> = (0..3).map(|_| Call::new(|_| ()).telling(&dropped)).collect();
    let handles: Vec<_> = calls.iter().map(Call::handle).collect();
    for call in calls {
        rig.pool.submit(call).unwrap();
    }
    assert!(rig.pool.submit(Call::new(|_| ())).is_err());
    assert!(handles[1].cancel(&rig.pool));
    assert_eq!(rig.pool.queued(), 2);
    rig.submit(|_| ());
    assert!(rig.pool.submit(Call::new(|_| ())).is_err());
    rig.start(1);
    assert_eq!(receive(&states, 3), [TAKEN, CANCELLED, TAKEN]);
    eventually("all jobs are done", || rig.pool.queued() == 0);
    (0..3).for_each(|_| rig.submit(|_| ()));
    rig.finish();
}

#[test]
fn capacity_is_exact_with_many_producers() {
    let rig = Rig::new(config(100));
    let accepted: usize = thread::scope(|scope| {
        let pool = &rig.pool;
        let producers: Vec<_> = (0..4)
            .map(|_| scope.spawn(move || (0..100).filter(|_| pool.submit(Call::new(|_| ())).is_ok()).count()))
            .collect();
        producers.into_iter().map(|producer| producer.join().unwrap()).sum()
    });
    assert_eq!((accepted, rig.pool.queued()), (100, 100));
    rig.finish();
}

#[test]
fn cancelled_jobs_are_dropped_without_the_lock() {
    let mut rig = Rig::new(config(10));
    let (dropped, states) = channel();
    for _ in 0..10 {
        let call = Call::new(|_| ()).telling(&dropped);
        let handle = call.handle();
        rig.pool.submit(call).unwrap();
        assert!(handle.cancel(&rig.pool));
    }
    rig.start(2);
    assert_eq!(receive(&states, 10), [CANCELLED; 10]);
    eventually("both are parked", || rig.pool.stats().parked == 2);
    assert_eq!(rig.gil().acquired(), 0);
    rig.finish();
}

#[test]
fn cancelled_jobs_do_not_pile_up_while_no_thread_takes_any() {
    const CAPACITY: usize = 40;
    let mut rig = Rig::new(config(CAPACITY));
    let (sender, receiver) = channel();
    let (dropped, states) = channel();
    let most = crate::pool::queue::most_dead(CAPACITY);
    let (mut live, mut gone) = (0, 0);
    for round in 0..1000 {
        // Every 50th stays, between others that come and go.
        if round % 50 == 0 {
            let sender = sender.clone();
            rig.submit(move |_| sender.send(round).unwrap());
            live += 1;
        }
        let call = Call::new(|_| ()).telling(&dropped);
        let handle = call.handle();
        rig.pool.submit(call).unwrap();
        assert!(handle.cancel(&rig.pool));
        assert_eq!(rig.pool.queued(), live);
        gone += states.try_iter().count();
        let kept = round + 1 - gone;
        assert!(kept <= most + 1, "{kept} cancelled jobs were kept");
    }
    rig.start(1);
    assert_eq!(receive(&receiver, live), (0..1000).step_by(50).collect::<Vec<_>>());
    rig.finish();
}

#[test]
fn a_sweep_finds_the_jobs_in_a_blocked_threads_deque() {
    const CAPACITY: usize = 8;
    let mut rig = Rig::new(config(CAPACITY));
    let (release, blocked) = channel::<()>();
    let (began, begun) = channel();
    let (sender, receiver) = channel();
    rig.submit(move |gil| {
        began.send(()).unwrap();
        gil.without(|| blocked.recv().unwrap());
    });
    let (told, in_deque) = channel();
    let calls: Vec<_> = (1..CAPACITY)
        .map(|number| {
            let sender = sender.clone();
            Call::new(move |_| sender.send(number).unwrap()).telling(&told)
        })
        .collect();
    let handles: Vec<_> = calls.iter().map(Call::handle).collect();
    for call in calls {
        rig.pool.submit(call).unwrap();
    }
    rig.start(1);
    receive(&begun, 1);
    assert!(handles[0].cancel(&rig.pool) && handles[2].cancel(&rig.pool));
    let (dropped, states) = channel();
    for _ in 0..2 * crate::pool::queue::most_dead(CAPACITY) {
        let call = Call::new(|_| ()).telling(&dropped);
        let handle = call.handle();
        rig.pool.submit(call).unwrap();
        assert!(handle.cancel(&rig.pool));
    }
    assert!(states.try_iter().count() > 0, "nothing was swept");
    assert_eq!(in_deque.try_iter().collect::<Vec<_>>(), [CANCELLED; 2]);
    assert_eq!(rig.pool.queued(), CAPACITY - 3);
    release.send(()).unwrap();
    assert_eq!(receive(&receiver, CAPACITY - 3), [2, 4, 5, 6, 7]);
    rig.finish();
}
