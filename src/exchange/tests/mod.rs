//! The contract, from both sides.

mod inbox;

use super::response::{COST, Chunk};
use super::*;
use std::time::{Duration, Instant};

/// Waits for what another thread does, and fails when it does not.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::yield_now();
    }
}

fn exchange(window: u64) -> (Arc<Exchange>, Arc<Completions>) {
    let completions = Arc::new(Completions::new(Box::new(|| ())));
    let params = CallParams { app: 0, pool: 0, window, origin: Origin::default(), inbox: None, owner: 7 };
    (Exchange::new(Request::default(), params, Arc::clone(&completions)), completions)
}

fn chunk(bytes: &[u8]) -> Option<Part> {
    Some(Part::Chunk(Chunk::Owned(bytes.to_vec())))
}

fn notifications(completions: &Completions) -> usize {
    let mut count = 0;
    completions.drain(|_| count += 1);
    count
}

#[test]
fn messages_between_two_looks_travel_together() {
    let (exchange, completions) = exchange(1000);
    assert!(exchange.begin());
    assert_eq!(exchange.send(Some(Head::default()), chunk(b"ab"), None), Ok(true));
    assert_eq!(exchange.send(None, chunk(b"cd"), None), Ok(true));
    exchange.end(End::Complete);
    assert_eq!(notifications(&completions), 1);
    let delivery = exchange.take();
    assert!(delivery.head.is_some() && delivery.end.is_some());
    let [Part::Chunk(both)] = &delivery.parts[..] else { panic!("small chunks are joined") };
    assert_eq!(both.bytes(), b"abcd");
    assert!(!exchange.is_running() && exchange.ended() >= exchange.began());
}

#[test]
fn a_message_after_a_look_notifies_again() {
    let (exchange, completions) = exchange(100);
    assert!(exchange.begin());
    exchange.send(None, chunk(b"a"), None).unwrap();
    assert_eq!(notifications(&completions), 1);
    exchange.take();
    exchange.send(None, chunk(b"b"), None).unwrap();
    assert_eq!(notifications(&completions), 1);
    exchange.end(End::Complete);
    assert_eq!(notifications(&completions), 0, "notified already and not yet looked at");
    assert!(exchange.take().end.is_some());
}

/// An exchange whose thread has filled the window, and waits for room.
fn waiting(window: u64) -> (Arc<Exchange>, Arc<Completions>, std::thread::JoinHandle<Result<(), Gone>>) {
    let (exchange, completions) = exchange(window);
    assert!(exchange.begin());
    assert_eq!(exchange.send(None, chunk(b"abcd"), None), Ok(false));
    let waiting = Arc::clone(&exchange);
    let thread = std::thread::spawn(move || waiting.wait_room());
    (exchange, completions, thread)
}

#[test]
fn the_window_holds_the_thread_until_credit_comes() {
    let (exchange, _completions, thread) = waiting(4);
    std::thread::sleep(Duration::from_millis(20));
    assert!(!thread.is_finished() && exchange.is_full());
    exchange.credit(COST);
    assert!(exchange.is_full(), "these were 4 bytes and what a piece costs");
    exchange.credit(1);
    assert_eq!(thread.join().unwrap(), Ok(()));
}

#[test]
fn a_window_counts_what_pieces_cost() {
    let (exchange, _completions) = exchange(10 * COST);
    assert!(exchange.begin());
    for number in 1.. {
        let has_room = exchange.send(None, chunk(b"a"), None).unwrap();
        assert_eq!(exchange.take().parts.iter().map(Part::held).sum::<u64>(), COST + 1);
        if !has_room {
            assert_eq!(number, 10);
            break;
        }
    }
    exchange.credit(10 * (COST + 1));
    let joined: u64 = std::iter::repeat_with(|| exchange.send(None, chunk(b"a"), None))
        .take_while(|sent| *sent == Ok(true))
        .count() as u64
        + 1;
    assert_eq!(joined, 9 * COST, "they are joined while nobody takes them");
    assert_eq!(exchange.take().parts.iter().map(Part::held).sum::<u64>(), 10 * COST);
}

#[test]
fn the_window_grows_for_a_client_that_keeps_up() {
    let (exchange, _completions) = exchange(400);
    assert!(exchange.begin());
    let steps = [(400, false, 400), (100, true, 400), (200, true, 800), (800, true, 1600), (1600, true, 1600)];
    for (bytes, to_client, window) in steps {
        while !exchange.is_full() {
            exchange.send(None, chunk(b"a"), None).unwrap();
        }
        if to_client {
            exchange.taken(bytes)
        } else {
            exchange.credit(bytes)
        }
        assert_eq!(exchange.window(), window, "{bytes} bytes");
    }
    exchange.send(None, chunk(b"a"), None).unwrap();
    exchange.taken(1);
    assert_eq!(exchange.window(), 1600, "not full, so nobody waited");
    exchange.narrow();
    assert_eq!(exchange.window(), 400);
}

#[test]
fn a_gone_client_releases_the_thread_and_drops_what_it_sends() {
    let (exchange, completions, thread) = waiting(1);
    assert!(matches!(exchange.abandon(), (false, None)));
    assert!(exchange.owner() == 0 && exchange.take().is_empty());
    assert_eq!(thread.join().unwrap(), Err(Gone));
    notifications(&completions);
    assert_eq!(exchange.send(None, chunk(b"x"), None), Err(Gone));
    assert_eq!(notifications(&completions), 0);
}

#[test]
fn a_call_abandoned_in_the_queue_never_begins() {
    let (exchange, completions) = exchange(1);
    let job = Job::new(Arc::clone(&exchange));
    assert!(exchange.abandon().0);
    assert!(crate::pool::Task::is_cancelled(&job));
    assert!(!exchange.begin());
    drop(job);
    assert_eq!(notifications(&completions), 0);
}

#[test]
fn a_job_that_is_lost_still_answers() {
    let (exchange, completions) = exchange(1);
    let job = Job::new(Arc::clone(&exchange));
    assert!(exchange.begin());
    drop(job);
    assert_eq!(notifications(&completions), 1);
    let End::Failed(failure) = exchange.take().end.unwrap() else { panic!("not a failure") };
    assert_eq!(failure.status, 500);
}

#[test]
fn a_refused_job_says_nothing() {
    let (exchange, completions) = exchange(1);
    Job::new(exchange).refused();
    assert_eq!(notifications(&completions), 0);
}

#[test]
fn interim_responses_travel_before_the_head_and_take_room() {
    let (exchange, completions) = exchange(200);
    let hint = |value: &[u8]| {
        let mut fields = Fields::default();
        fields.push(b"Link", value);
        fields
    };
    assert!(exchange.begin());
    assert_eq!(exchange.send_hints(hint(b"</a>")), Ok(true));
    assert_eq!(exchange.send_hints(hint(&[b'x'; 40])), Ok(false));
    exchange.send(Some(Head::default()), None, None).unwrap();
    assert_eq!(notifications(&completions), 1);
    let delivery = exchange.take();
    assert_eq!(delivery.hints.len(), 2);
    exchange.credit(delivery.hints.iter().map(Fields::held).sum());
    assert!(delivery.head.is_some() && !exchange.is_full());
}

#[test]
fn a_watcher_is_told_when_the_request_is_given_up() {
    let (exchange, _completions) = exchange(4);
    assert!(exchange.begin());
    assert!(!exchange.wait_deserted(Some(Duration::from_millis(1))));
    let watched = Arc::clone(&exchange);
    let thread = std::thread::spawn(move || watched.wait_deserted(None));
    std::thread::sleep(Duration::from_millis(20));
    assert!(!thread.is_finished() && !exchange.is_deserted());
    exchange.abandon();
    assert!(thread.join().unwrap() && exchange.is_deserted());
}

#[test]
fn a_watcher_is_released_by_the_end_of_the_call() {
    let (exchange, _completions) = exchange(4);
    assert!(exchange.begin());
    let watched = Arc::clone(&exchange);
    let thread = std::thread::spawn(move || watched.wait_deserted(None));
    std::thread::sleep(Duration::from_millis(20));
    exchange.end(End::Complete);
    assert!(!thread.join().unwrap());
    exchange.abandon();
    assert!(!exchange.wait_deserted(None), "the client had everything");
}
