//! What a call can learn of its client, and tell it early.

use std::thread;
use std::time::Duration;

use super::super::Thread;
use super::harness::{Reply, code, harness};
use crate::exchange::Job;
use crate::exchange::response::Fields;
use crate::exchange::tests::until;

const OK: &str = "start_response('200 OK', [])\n";

fn answer(expression: &str) -> String {
    let source = format!("event = environ['ngx_wsgi.client_disconnected']\n{OK}return [repr({expression}).encode()]");
    code(&source).run().text()
}

#[test]
fn a_client_that_is_there() {
    assert_eq!(answer("event.is_set()"), "False");
    assert_eq!(
        answer("[event.wait(0), event.wait(-1), event.wait(0.01), event.wait(timeout=0.01)]"),
        "[False, False, False, False]"
    );
    assert_eq!(answer("type(event).__name__"), "'ClientDisconnected'");
}

#[test]
fn bad_arguments() {
    for (call, message) in [
        ("wait('x')", "must be real number, not str"),
        ("wait(float('nan'))", "a number of seconds cannot be NaN"),
        ("wait(1, 2)", "wait() takes at most 1 argument (2 given)"),
        ("wait(time=1)", "unexpected keyword arguments"),
        ("wait(1, timeout=1)", "unexpected keyword arguments"),
        ("is_set(1)", "is_set() takes no arguments (1 given)"),
    ] {
        let reply = code(&format!("environ['ngx_wsgi.client_disconnected'].{call}")).run();
        assert!(reply.failure().record.contains(message), "{call}: {}", reply.failure().record);
    }
}

#[test]
fn a_client_that_leaves() {
    let source = format!(
        "event = environ['ngx_wsgi.client_disconnected']
environ['wsgi.errors'].write(f'{{event.wait()}} {{event.is_set()}} {{event.wait(9)}}\\n')
{OK}return []"
    );
    let pending = code(&source).exchange(true);
    let exchange = pending.exchange.clone();
    let run = thread::spawn(move || {
        let mut thread = Thread::new(&harness().interpreter);
        thread.run(Job::new(pending.exchange.clone()));
        thread.detach();
        pending.reply()
    });
    until("it runs", || exchange.is_running());
    thread::sleep(Duration::from_millis(20));
    assert!(!run.is_finished());
    exchange.abandon();
    let log = run.join().unwrap().log();
    assert_eq!(log[0].1, "True True True", "{log:?}");
}

#[test]
fn a_watcher_that_outlives_the_call_is_released() {
    let source = format!(
        "import threading
event = environ['ngx_wsgi.client_disconnected']
found = kept.setdefault('found', [])
watcher = kept['watcher'] = threading.Thread(target=lambda: found.append(event.wait()))
watcher.start()
{OK}return []"
    );
    assert_eq!(code(&source).run().code(), 200);
    let reply = code(&format!("kept['watcher'].join(10)\n{OK}return [repr(kept['found']).encode()]")).run();
    assert_eq!(reply.text(), "[False]");
}

fn hints(reply: &Reply) -> Vec<String> {
    let text = |fields: &Fields| {
        let lines = fields.iter().map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
        lines.collect::<Vec<_>>().join("; ")
    };
    reply.deliveries.iter().flat_map(|delivery| delivery.hints.iter().map(text)).collect()
}

#[test]
fn hints_go_out_before_the_head() {
    let reply = code(&format!(
        "hint = environ['wsgi.early_hints']
hint([('Link', '</a.css>; rel=preload'), ('Link', '</b.js>'), ('Content-Length', '5'), ('Connection', 'close')])
assert hint([]) is None
hint([('X-Second', '1')])
{OK}hint([('X-Third', '1')])
yield b'body'
hint([('X-Late', '1')])"
    ))
    .run();
    assert_eq!(hints(&reply), ["Link: </a.css>; rel=preload; Link: </b.js>", "X-Second: 1", "X-Third: 1"]);
    assert_eq!(reply.text(), "body");
}

#[test]
fn bad_hints_are_refused() {
    for (call, message) in [
        ("hint()", "early_hints() takes exactly one argument (0 given)"),
        ("hint('x')", "the headers must be a list of tuples, not str"),
        ("hint([('Link', 'a\\nb')])", "the value of header Link has a control character"),
        ("hint([('a b', 'c')])", "is not the name of a header"),
        ("hint([('Link', b'c')])", "the value of header Link must be str, not bytes"),
    ] {
        let reply = code(&format!("hint = environ['wsgi.early_hints']\n{call}")).run();
        assert!(reply.failure().record.contains(message), "{call}: {}", reply.failure().record);
    }
}

#[test]
fn hints_without_end_wait_for_the_client() {
    let pending = code("while True: environ['wsgi.early_hints']([('X', 'y' * 1000)])").window(4000).exchange(false);
    let exchange = pending.exchange.clone();
    let run = thread::spawn(move || pending.run());
    until("the window is full", || exchange.is_full());
    thread::sleep(Duration::from_millis(20));
    assert!(!run.is_finished());
    exchange.abandon();
    assert!(run.join().unwrap().log().is_empty(), "it was told by an exception, as by write()");
}
