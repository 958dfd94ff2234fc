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
        rig.submit_call(call);
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
        rig.submit_call(call);
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
        rig.submit_call(call);
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
