//! `wsgi.input` on every kind of body.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::super::Thread;
use super::harness::{Ask, Reply, code, harness};
use crate::exchange::Exchange;
use crate::exchange::body::Segment;
use crate::exchange::inbox::Broken;
use crate::exchange::tests::until;

const TEXT: &str = "one\ntwo\n\nlast line without end";

/// The whole body in memory, in a file, and in pieces of both.
fn bodies(text: &str) -> Vec<Vec<Segment>> {
    let bytes = text.as_bytes();
    let memory = |bytes: &[u8]| Segment::Memory(bytes.to_vec());
    let (first, second) = bytes.split_at(bytes.len() / 2);
    vec![
        vec![memory(bytes)],
        vec![file(bytes)],
        vec![memory(first), file(second)],
        bytes.iter().map(|byte| memory(&[*byte])).collect(),
    ]
}

fn file(bytes: &[u8]) -> Segment {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("wsgi-input-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(b"##").unwrap();
    file.write_all(bytes).unwrap();
    file.write_all(b"##").unwrap();
    Segment::File { file, offset: 2, length: bytes.len() as u64 }
}

fn input(expression: &str) -> Ask {
    code(&format!(
        "body = environ['wsgi.input']
import io
def attempt(call, *arguments):
    try: return call(*arguments)
    except Exception as error: return f'{{type(error).__name__}}: {{error}}'
start_response('200 OK', [])
return [repr({expression}).encode()]"
    ))
}

/// Asserts that the expression gives that for every kind of body.
fn gives(text: &str, expression: &str, expected: &str) {
    for (kind, body) in bodies(text).into_iter().enumerate() {
        let reply = input(expression).body(body).run();
        assert_eq!(reply.text(), expected, "{expression}, body {kind}");
    }
}

#[test]
fn read() {
    gives(TEXT, "body.read()", "b'one\\ntwo\\n\\nlast line without end'");
    gives(
        TEXT,
        "[body.read(3), body.read(2), body.read(0), body.read()]",
        "[b'one', b'\\nt', b'', b'wo\\n\\nlast line without end']",
    );
    gives(TEXT, "[len(body.read(-1)), body.read(), body.read(5), body.read(None)]", "[30, b'', b'', b'']");
    gives(TEXT, "len(body.read(10**30))", "30");
    gives(TEXT, "len(body.read(-10**30))", "30");
    gives(TEXT, "body.read(True)", "b'o'");
    gives("", "[body.read(), body.readline(), body.readlines(), list(body)]", "[b'', b'', [], []]");
}

#[test]
fn read_takes_what_io_takes() {
    let wrong = "[attempt(body.read, x) for x in ('3', 3.0, b'', [])]";
    gives(
        TEXT,
        wrong,
        "[\"TypeError: argument should be integer or None, not 'str'\", \
         \"TypeError: argument should be integer or None, not 'float'\", \
         \"TypeError: argument should be integer or None, not 'bytes'\", \
         \"TypeError: argument should be integer or None, not 'list'\"]",
    );
    gives(TEXT, "attempt(body.read, 1, 2)", "'TypeError: read() takes at most 1 argument (2 given)'");
    gives(TEXT, "body.read(type('I', (), {'__index__': lambda self: 3})())", "b'one'");
    let bad = "attempt(body.read, type('I', (), {'__index__': lambda self: 1 / 0})())";
    gives(TEXT, bad, "'ZeroDivisionError: division by zero'");
}

#[test]
fn lines() {
    gives(TEXT, "body.readline()", "b'one\\n'");
    gives(
        TEXT,
        "[body.readline(2), body.readline(2), body.readline(), body.readline(0), body.readline(-1)]",
        "[b'on', b'e\\n', b'two\\n', b'', b'\\n']",
    );
    gives(TEXT, "list(body)", "[b'one\\n', b'two\\n', b'\\n', b'last line without end']");
    gives(TEXT, "body.readlines()", "[b'one\\n', b'two\\n', b'\\n', b'last line without end']");
    gives(
        TEXT,
        "[body.readlines(5), body.readlines()]",
        "[[b'one\\n', b'two\\n'], [b'\\n', b'last line without end']]",
    );
    gives(TEXT, "[len(body.readlines(n)) for n in (0,)]", "[4]");
    gives(TEXT, "[next(body), body.read(1), next(body)]", "[b'one\\n', b't', b'wo\\n']");
    gives(TEXT, "iter(body) is body", "True");
    gives(TEXT, "attempt(body.readline, 'x')", "\"TypeError: argument should be integer or None, not 'str'\"");
    gives("x", "[next(body), attempt(next, body)]", "[b'x', 'StopIteration: ']");
}

#[test]
fn readinto() {
    gives(TEXT, "[(b := bytearray(5)) and body.readinto(b), b]", "[5, bytearray(b'one\\nt')]");
    gives(TEXT, "[(b := bytearray(50)) and body.readinto(b), bytes(b[:30]) == body.seek(0) or True]", "[30, True]");
    gives(
        TEXT,
        "[body.readinto(bytearray()), body.readinto(memoryview(bytearray(9))[2:4]), body.read(2)]",
        "[0, 2, b'e\\n']",
    );
}

#[test]
fn readinto_fills_a_large_buffer_in_steps() {
    let text: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    let expression = "[body.readinto(b := bytearray(10**6)), body.seek(0), body.read() == b[:588890], any(b[588890:])]";
    for body in [vec![Segment::Memory(text.clone().into_bytes())], vec![file(text.as_bytes())]] {
        assert_eq!(input(expression).body(body).run().text(), "[588890, 0, True, False]");
    }
    let reply = input("0 < body.readinto1(bytearray(10**6)) <= 588890").text_body(&text).run();
    assert_eq!(reply.text(), "True");
}

#[test]
fn readinto_needs_a_writable_buffer() {
    for wrong in ["b'xx'", "'xx'", "None", "3"] {
        let reply = input(&format!("attempt(body.readinto, {wrong}).split(':')[0]")).text_body(TEXT).run();
        assert!(["'BufferError'", "'TypeError'"].contains(&reply.text().as_str()), "{wrong}: {}", reply.text());
    }
}

#[test]
fn seek_and_tell() {
    gives(TEXT, "[body.tell(), body.read(4), body.tell(), body.seek(0), body.read(3)]", "[0, b'one\\n', 4, 0, b'one']");
    gives(
        TEXT,
        "[body.seek(-3, 2), body.read(), body.seek(2, 1), body.read(), body.seek(-32, 1), body.read(3)]",
        "[27, b'end', 32, b'', 0, b'one']",
    );
    gives(
        TEXT,
        "[body.readline(), body.seek(1), body.readline(), body.seek(100), body.readline(), body.read()]",
        "[b'one\\n', 1, b'ne\\n', 100, b'', b'']",
    );
    gives(TEXT, "attempt(body.seek, -1)", "'ValueError: negative seek value -1'");
    gives(TEXT, "attempt(body.seek, 0, 3)", "'ValueError: invalid whence (3, should be 0, 1 or 2)'");
    gives(TEXT, "attempt(body.seek, 'x')", "'TypeError: an integer is required'");
    gives(TEXT, "attempt(body.seek)", "'TypeError: seek() takes 1 or 2 arguments'");
    gives(
        TEXT,
        "[body.seek(2**63 - 1), body.read(), body.readline(), attempt(body.seek, 2**63 - 1, 1) and 0]",
        "[9223372036854775807, b'', b'', 0]",
    );
}

#[test]
fn what_a_file_can_do() {
    gives(
        TEXT,
        "[body.readable(), body.seekable(), body.writable(), body.isatty(), body.closed, body.flush()]",
        "[True, True, False, False, False, None]",
    );
    gives(TEXT, "[body.close(), body.closed, body.read(3)]", "[None, False, b'one']");
    gives(TEXT, "io.TextIOWrapper(body).read()", "'one\\ntwo\\n\\nlast line without end'");
    gives(TEXT, "io.BufferedReader(body).readline()", "b'one\\n'");
    gives(TEXT, "body.read1(1)", "b'o'");
    gives(TEXT, "attempt(type(body))", "\"TypeError: cannot create 'ngx_wsgi.Input' instances\"");
    gives(TEXT, "attempt(type(body).read, 3)[:36]", "\"TypeError: descriptor 'read' for 'ng\"");
}

#[test]
fn a_large_body_in_a_file() {
    let text: String = (0..100_000).map(|number| format!("line {number}\n")).collect();
    let expected = format!("{}", text.len());
    gives_from_file(&text, "sum(len(line) for line in body)", &expected);
    gives_from_file(&text, "sum(iter(lambda: len(body.read(1000)), 0))", &expected);
    gives_from_file(&text, "sum(iter(lambda: len(body.read(100000)), 0))", &expected);
    gives_from_file(&text, "len(body.readlines())", "100000");
    gives_from_file(
        &text,
        "[body.readline(), len(body.read(40000)), body.readline() and body.readline()[:5]]",
        "[b'line 0\\n', 40000, b'line ']",
    );
}

fn gives_from_file(text: &str, expression: &str, expected: &str) {
    assert_eq!(input(expression).body(vec![file(text.as_bytes())]).run().text(), expected, "{expression}");
}

#[test]
fn a_file_that_was_cut_short_is_an_os_error() {
    let Segment::File { file, .. } = file(b"abc") else { unreachable!("a file was asked for") };
    let body = vec![Segment::File { file, offset: 0, length: 1000 }];
    let reply = input("attempt(body.read)").body(body).run();
    assert!(reply.text().starts_with("'OSError: "), "{}", reply.text());
}

#[test]
fn it_outlives_the_call_and_may_be_read_by_any_thread() {
    for body in bodies(TEXT) {
        code("kept['input'] = environ['wsgi.input']\nkept['input'].read(1)\nstart_response('200 OK', [])\nreturn []")
            .body(body)
            .run();
        let reply = code(
            "import threading
body, pieces = kept.pop('input'), []
def reader():
    while piece := body.read(1): pieces.append(piece)
threads = [threading.Thread(target=reader) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
start_response('200 OK', [])
return [b''.join(sorted(pieces))]",
        )
        .run();
        let mut expected = TEXT.as_bytes()[1..].to_vec();
        expected.sort_unstable();
        assert_eq!(reply.body(), expected);
    }
}

/// A call whose body streams; `client` feeds it from another thread.
fn streamed(expression: &str, limit: usize, client: impl Fn(&Exchange) + Send + 'static) -> Reply {
    let pending = input(expression).stream(limit).exchange(true);
    let exchange = Arc::clone(&pending.exchange);
    let feeder = thread::spawn(move || client(&exchange));
    let reply = pending.run();
    feeder.join().unwrap();
    reply
}

/// Feeds the pieces as there is room, then ends the body.
fn feed(pieces: &'static [&'static [u8]]) -> impl Fn(&Exchange) + Send + 'static {
    move |exchange| {
        let inbox = exchange.inbox().unwrap();
        for piece in pieces {
            inbox.feed(piece.to_vec());
            until("there is room", || !inbox.is_paused() || inbox.resume() || exchange.ended().is_some());
        }
        inbox.close(Ok(()));
    }
}

#[test]
fn a_streamed_body() {
    const PIECES: &[&[u8]] = &[b"one\nt", b"wo\n", b"\nlast", b" line"];
    for (expression, expected) in [
        ("body.read()", "b'one\\ntwo\\n\\nlast line'"),
        ("body.read(7)", "b'one\\ntwo'"),
        ("body.read(2**40)", "b'one\\ntwo\\n\\nlast line'"),
        ("[body.read(5), body.read(100), body.read(1)]", "[b'one\\nt', b'wo\\n\\nlast line', b'']"),
        ("list(body)", "[b'one\\n', b'two\\n', b'\\n', b'last line']"),
        ("body.readlines()", "[b'one\\n', b'two\\n', b'\\n', b'last line']"),
        ("[body.readline(2), body.readline(), body.tell(), body.read()]", "[b'on', b'e\\n', 4, b'two\\n\\nlast line']"),
        ("[(b := bytearray(9)) and body.readinto(b), b]", "[9, bytearray(b'one\\ntwo\\n\\n')]"),
        ("b''.join(iter(body.read1, b''))", "b'one\\ntwo\\n\\nlast line'"),
        ("body.seekable()", "False"),
        ("attempt(body.seek, 0)", "'OSError: the request body streams: it cannot be sought in'"),
    ] {
        for limit in [1, 4, 1000] {
            assert_eq!(streamed(expression, limit, feed(PIECES)).text(), expected, "{expression} by {limit}");
        }
    }
    assert_eq!(streamed("body.read()", 4, feed(&[])).text(), "b''");
}

#[test]
fn a_streamed_body_that_breaks() {
    let broken = |how| {
        move |exchange: &Exchange| {
            let inbox = exchange.inbox().unwrap();
            inbox.feed(b"ab".to_vec());
            inbox.close(Err(how));
        }
    };
    let gone = streamed("attempt(body.read)", 100, broken(Broken::ClientGone)).text();
    assert_eq!(gone, format!("'ConnectionResetError: [Errno {}] the client has gone'", libc::ECONNRESET));
    let late = streamed("attempt(body.readline)", 100, broken(Broken::TimedOut)).text();
    assert_eq!(late, format!("'TimeoutError: [Errno {}] the client sends no more'", libc::ETIMEDOUT));
    assert_eq!(
        streamed("[body.read(2), attempt(body.read)[:10]]", 100, broken(Broken::TimedOut)).text(),
        "[b'ab', 'TimeoutErr']"
    );
}

#[test]
fn who_waits_for_a_body_lets_others_run() {
    let pending = input("body.read()").stream(100).exchange(true);
    let (exchange, interpreter) = (Arc::clone(&pending.exchange), &harness().interpreter);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| pending.run_on(&mut Thread::new(interpreter)));
        // Another call runs to its end while the first one waits: it would not if that kept the interpreter.
        assert!(code("start_response('200 OK', [])\nreturn []").run().is_complete());
        assert!(exchange.ended().is_none());
        exchange.inbox().unwrap().feed(b"there".to_vec());
        exchange.inbox().unwrap().close(Ok(()));
        assert_eq!(waiting.join().unwrap().text(), "b'there'");
    });
}
