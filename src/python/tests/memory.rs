//! What calls leave behind: references, memory, bytes that nginx still has.

use std::sync::Arc;
use std::thread;

use super::super::Thread;
use super::harness::{code, harness, new_thread, pending};
use crate::exchange::response::{Chunk, End, Part};
use crate::exchange::tests::until;
use crate::exchange::{Exchange, Job};

const OK: &str = "start_response('200 OK', [])\n";

#[test]
fn large_chunks_are_released_by_attached_threads() {
    let deferred = &harness().interpreter.deferred;
    let source = format!(
        "import weakref
class Big(bytes):
    def __del__(self): kept['dead'] = kept.get('dead', 0) + 1
{OK}return [Big(b'x' * 20000), Big(b'y' * 20000)]"
    );
    let reply = code(&source).run();
    let dead = || code(&format!("{OK}return [str(kept.get('dead', 0)).encode()]")).run().text();
    assert_eq!(dead(), "0");
    drop(reply);
    assert_eq!(dead(), "2");
    // And past 1 MiB, by python-main, though no call comes.
    let reply = code(&format!("{OK}return [b'z' * (3 << 20)]")).run();
    assert_eq!(reply.body().len(), 3 << 20);
    drop(reply);
    until("no reference is deferred", || deferred.len() == 0);
}

/// How much memory Python has allocated, in blocks, after a full collection.
const BLOCKS: &str = "import gc, sys
gc.collect()
start_response('200 OK', [])
return [str(sys.getallocatedblocks()).encode()]";

#[test]
fn ten_thousand_calls_leave_nothing_behind() {
    // In a process of its own, where no other test allocates meanwhile.
    super::process::alone("ten_thousand_calls_leave_nothing_behind", || {
        let mut thread = new_thread();
        for source in [
            "start_response('200 OK', [('A', 'b'), ('Content-Length', '5')])\nreturn [b'hello']".to_string(),
            format!("{OK}yield b'ab'\nyield b'x' * 20000"),
            "start_response('200 OK', [])(b'written')\nreturn iter([environ['wsgi.input'].read(), b'b'])".into(),
            "raise ValueError('no')".into(),
            format!("{OK}return [None]"),
            "start_response('200 OK', [('A', 'b\\n')])".into(),
            format!("import os\n{OK}return environ['wsgi.file_wrapper'](open(os.devnull, 'rb'))"),
            format!("environ['wsgi.errors'].write('x\\n')\n{OK}return (b for b in [b'', 'text'])"),
        ] {
            let run = |thread: &mut Thread, times: usize| {
                for _ in 0..times {
                    let pending = code(&source).text_body("body").exchange(true);
                    thread.run(Job::new(Arc::clone(&pending.exchange)));
                    assert!(pending.exchange.ended().is_some());
                }
            };
            let blocks = |thread: &mut Thread| pending(BLOCKS).run_on(thread).text().parse::<i64>().unwrap();
            run(&mut thread, 200);
            let before = blocks(&mut thread);
            let times = 10_000 / 8;
            run(&mut thread, times);
            let after = blocks(&mut thread);
            // A leak is a block per call at least; caches of CPython's come and go.
            assert!(after - before < times as i64 / 2, "{source}: {before} blocks, then {after}");
        }
    });
}

#[test]
fn memory_lent_for_a_body_is_read_or_released() {
    const SIZE: usize = 65_536;
    // Received into what there is when it is waited for; nobody reads the last ones.
    let client = |exchange: &Exchange| {
        let inbox = exchange.inbox().unwrap();
        let mut lent = 0;
        for number in 0..12 {
            until("the body is waited for", || number >= 8 || inbox.is_short_of(0) || exchange.ended().is_some());
            let mut piece = inbox.spare(0);
            lent += usize::from(piece.is_lent());
            // SAFETY: it has room for so many.
            unsafe {
                piece.start().write_bytes(number, SIZE);
                piece.grow(SIZE);
            }
            inbox.feed(piece);
            inbox.flush();
        }
        inbox.close(Ok(()));
        lent
    };
    super::process::alone("memory_lent_for_a_body_is_read_or_released", || {
        let mut python = new_thread();
        let call = |python: &mut Thread| {
            let source = format!(
                "{OK}import tracemalloc
tracemalloc.is_tracing() or tracemalloc.start()
body = environ['wsgi.input']
for number in range(8): assert body.read({SIZE}) == bytes([number]) * {SIZE}, number
return [str(tracemalloc.get_traced_memory()[0]).encode()]"
            );
            let pending = code(&source).stream(4 * SIZE).exchange(true);
            let exchange = Arc::clone(&pending.exchange);
            let feeder = thread::spawn(move || client(&exchange));
            let reply = pending.run_on(python);
            (reply.text().parse::<usize>().unwrap(), feeder.join().unwrap())
        };
        let (mut lent, mut traced) = (0, Vec::new());
        for _ in 0..100 {
            let (memory, pieces) = call(&mut python);
            lent += pieces;
            traced.push(memory);
        }
        assert!(lent >= 700, "{lent} pieces");
        let (first, last) = (traced[10..20].iter().max().unwrap(), traced[90..].iter().max().unwrap());
        assert!(last < &(first + 8 * SIZE), "{traced:?}");
    });
}

#[test]
fn references_are_counted_right() {
    let source = format!(
        "import gc, sys
gc.collect()
result = kept.setdefault('result', [b'some bytes', b'more' * 10000])
{OK}kept['counts'] = [sys.getrefcount(x) for x in (None, True, result, result[0], result[1], (1, 0))]
return result"
    );
    let counts = format!("{OK}return [repr(kept['counts'][2:5]).encode()]");
    let mut thread = new_thread();
    // The second time, the code that made the result is garbage.
    pending(&source).run_on(&mut thread);
    pending(&source).run_on(&mut thread);
    let first = pending(&counts).run_on(&mut thread).text();
    for _ in 0..100 {
        pending(&source).run_on(&mut thread);
    }
    assert_eq!(pending(&counts).run_on(&mut thread).text(), first);
}

#[test]
fn a_failing_payload_of_a_gone_client_is_released_too() {
    let pending = code(&format!("{OK}kept['big'] = big = b'q' * 50000\nreturn [big]")).exchange(false);
    let reply = pending.run();
    reply.exchange.abandon();
    drop(reply);
    let count = code(&format!("import sys\n{OK}return [str(sys.getrefcount(kept['big'])).encode()]")).run().text();
    assert_eq!(count, "2");
}

#[test]
fn parts_know_what_they_hold() {
    let reply = code(&format!("{OK}return [b'a' * 20000, b'b' * 7]")).run();
    assert_eq!(reply.parts().map(Part::length).collect::<Vec<_>>(), [20000, 7]);
    assert!(matches!(reply.deliveries[0].end, Some(End::Complete)));
}

#[test]
fn large_chunks_are_not_copied() {
    let reply = code(&format!("{OK}return [b'a' * 100, b'b' * 16384, b'c' * 100, b'd' * 100, b'e' * 50000]")).run();
    let shapes: Vec<_> = reply
        .parts()
        .map(|part| match part {
            Part::Chunk(Chunk::Owned(bytes)) => (false, bytes.len()),
            Part::Chunk(Chunk::Shared(payload)) => (true, payload.bytes().len()),
            Part::File { .. } => panic!("no file was sent"),
        })
        .collect();
    assert_eq!(shapes, [(false, 100), (true, 16384), (false, 200), (true, 50000)]);
    assert_eq!(reply.body()[16484..16485], *b"c");
}

#[test]
fn a_small_body_travels_with_its_head() {
    for (returned, parts) in [
        ("[b'a' * 4096]", 0),
        ("[b'a' * 4000, b'b' * 96]", 0),
        ("[b'a' * 4097]", 1),
        ("iter([b'a' * 2, b'b' * 2])", 0),
        ("map(bytes, [b'ab', b'c'])", 2),
        ("[]", 0),
    ] {
        let reply = code(&format!("start_response('200 OK', [])\nreturn {returned}")).run();
        assert_eq!((reply.parts().count(), reply.is_complete()), (parts, true), "{returned}");
    }
    let declared = code("start_response('200 OK', [('Content-Length', '2')])\nreturn map(bytes, [b'ab'])").run();
    assert_eq!((declared.parts().count(), declared.text().as_str()), (0, "ab"));
}

#[test]
fn a_long_list_of_small_chunks_goes_out_in_pieces() {
    let reply = code("start_response('200 OK', [])\nreturn [b'0123456789abcdef' * 64] * 3000").window(1 << 19).run();
    let messages = reply.messages();
    assert_eq!(messages.iter().map(|message| message.1).sum::<u64>(), 3000 * 1024);
    assert!(messages.len() >= 3 && messages[0].0 && messages.last().unwrap().2, "{messages:?}");
    assert!(messages.iter().all(|message| message.1 <= 1 << 20));
}
