//! Threads: what lasts on them, what does not, and how they wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::harness::{code, harness, new_thread, pending, records};
use crate::exchange::log::Level;
use crate::exchange::response::COST;

const OK: &str = "start_response('200 OK', [])\n";

#[test]
fn thread_locals_last_on_a_thread_and_stay_there() {
    let count = format!(
        "import threading
local = kept.setdefault('local', threading.local())
local.count = getattr(local, 'count', 0) + 1
{OK}return [str(local.count).encode()]"
    );
    let mut thread = new_thread();
    let counts: Vec<_> = (0..3).map(|_| pending(&count).run_on(&mut thread).text()).collect();
    assert_eq!(counts, ["1", "2", "3"]);
    let elsewhere = thread::spawn(move || pending(&count).run_on(&mut new_thread()).text());
    assert_eq!(elsewhere.join().unwrap(), "1");
}

#[test]
fn context_variables_do_not_outlast_a_call() {
    let set = format!(
        "import contextvars
variable = kept.setdefault('variable', contextvars.ContextVar('v', default='unset'))
before = variable.get()
variable.set('set')
def steps():
    yield (before + ' ' + variable.get()).encode()
{OK}return steps()"
    );
    let mut thread = new_thread();
    for _ in 0..2 {
        assert_eq!(pending(&set).run_on(&mut thread).text(), "unset set");
    }
}

#[test]
fn a_thread_has_the_name_of_the_system_s() {
    let names = "import threading
start_response('200 OK', [])
return [repr([threading.current_thread().name, threading.current_thread().daemon, threading.get_ident()]).encode()]";
    let run = move || {
        let reply = pending(names).run_on(&mut new_thread());
        (reply.text(), reply.exchange.ended().is_some())
    };
    let (text, ended) = thread::Builder::new().name("default/7".into()).spawn(run).unwrap().join().unwrap();
    assert!(text.starts_with("['default/7', True, ") && ended, "{text}");
    // Its entry is gone with it.
    let left = format!("import threading\n{OK}return [repr([t.name for t in threading.enumerate()]).encode()]");
    assert!(!code(&left).run().text().contains("default/7"));
}

#[test]
fn the_exchange_knows_the_thread_while_it_runs() {
    let pending = code(&format!("import threading\n{OK}yield str(threading.get_ident()).encode()\nyield b''"))
        .window(1)
        .exchange(false);
    let exchange = Arc::clone(&pending.exchange);
    thread::scope(|scope| {
        let runs = scope.spawn(|| pending.run_on(&mut new_thread()));
        while exchange.thread().is_none() || !exchange.is_full() {
            thread::yield_now();
        }
        let ident = exchange.thread().unwrap();
        exchange.credit(1000);
        assert_eq!(runs.join().unwrap().text(), ident.to_string());
    });
    assert_eq!(exchange.thread(), None);
}

#[test]
fn a_call_is_interrupted_though_its_thread_still_waits_for_the_interpreter() {
    let pending = code(
        "import time
end = time.monotonic() + 10
while time.monotonic() < end: pass
print('not interrupted')
return []",
    )
    .exchange(false);
    let number = pending.number;
    assert!(pending.exchange.begin());
    {
        let main = harness().main.lock().unwrap();
        main.interrupt(Arc::clone(&pending.exchange));
        main.log_stack(Arc::clone(&pending.exchange), "interrupted by now".into());
    }
    while !records(number).iter().any(|(_, record)| record == "interrupted by now") {
        thread::yield_now();
    }
    let reply = pending.run_on(&mut new_thread());
    assert!(reply.failure().record.contains("ngx_wsgi.RequestTimeout"), "{:?}", reply.log());
}

#[test]
fn who_waits_for_room_lets_others_run() {
    let source = format!("{OK}yield b'x' * 100\nyield b'y' * 100\nyield b'z'");
    let pending = code(&source).window(200).exchange(false);
    let exchange = Arc::clone(&pending.exchange);
    thread::scope(|scope| {
        let runs = scope.spawn(|| pending.run_on(&mut new_thread()));
        while !exchange.is_full() {
            thread::yield_now();
        }
        assert!(code(&format!("{OK}return [b'']")).run().is_complete());
        assert!(exchange.ended().is_none());
        exchange.credit(COST + 100);
        while !exchange.is_full() {
            thread::yield_now();
        }
        exchange.credit(COST + 100);
        let reply = runs.join().unwrap();
        assert_eq!((reply.text().len(), reply.is_complete()), (201, true));
    });
}

/// Runs a call, and has the client go when the application says so.
fn gone_at(source: &str, when: &str) -> (Vec<(Level, String)>, bool) {
    let pending = code(source).window(50).exchange(false);
    let (exchange, number) = (Arc::clone(&pending.exchange), pending.number);
    let done = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        let runs = scope.spawn(|| {
            let reply = pending.run_on(&mut new_thread());
            done.store(true, Ordering::Release);
            reply.deliveries.iter().any(|delivery| delivery.end.is_some())
        });
        while !done.load(Ordering::Acquire) {
            let waits = when == "full" && exchange.is_full();
            if waits || records(number).iter().any(|(_, record)| record == when) {
                exchange.abandon();
                break;
            }
            thread::yield_now();
        }
        runs.join().unwrap()
    });
    assert!(!exchange.is_running());
    (records(number), ended)
}

const CLOSING: &str = "import time
class Result:
    def __init__(self, steps): self.steps = steps
    def __iter__(self): return self.steps
    def close(self): print('closed')
start_response('200 OK', [])
";

#[test]
fn a_client_that_goes_ends_the_iteration() {
    let steps = "def steps():
    while True: yield b'x' * 100
return Result(steps())";
    let (log, ended) = gone_at(&format!("{CLOSING}{steps}"), "full");
    assert_eq!((log, ended), (vec![(Level::Notice, "closed".to_string())], false));
}

#[test]
fn a_client_that_goes_ends_an_iteration_that_gives_nothing() {
    let steps = "def steps():
    print('begun')
    while True:
        time.sleep(0.001)
        yield b''
return Result(steps())";
    let (log, ended) = gone_at(&format!("{CLOSING}{steps}"), "begun");
    assert_eq!((log.last().unwrap().1.as_str(), ended), ("closed", false));
}

#[test]
fn write_tells_an_application_that_its_client_has_gone() {
    let source = "write = start_response('200 OK', [])
while True: write(b'x' * 100)";
    let (log, ended) = gone_at(source, "full");
    assert_eq!((log, ended), (Vec::new(), false), "it is told, and its exception is no news");
    let caught = "write = start_response('200 OK', [])
try:
    while True: write(b'x' * 100)
except OSError as error:
    print(type(error).__name__, error)
return []";
    let (log, _) = gone_at(caught, "full");
    assert_eq!(log, [(Level::Notice, "BrokenPipeError the client has gone".to_string())]);
}

#[test]
fn a_failure_that_nobody_waits_for_is_logged() {
    let source = "print('go')
import time
while not kept.pop('gone', False): time.sleep(0.001)
raise ValueError('unheard')";
    let pending = code(source).exchange(false);
    let (exchange, number) = (Arc::clone(&pending.exchange), pending.number);
    thread::scope(|scope| {
        let runs = scope.spawn(|| pending.run_on(&mut new_thread()));
        while records(number).is_empty() {
            thread::yield_now();
        }
        exchange.abandon();
        code("kept['gone'] = True\nstart_response('200 OK', [])\nreturn []").run();
        assert!(runs.join().unwrap().deliveries.iter().all(|delivery| delivery.end.is_none()));
    });
    assert!(records(number)[1].1.ends_with("ValueError: unheard"), "{:?}", records(number));
}

#[test]
fn a_cancelled_call_never_reaches_python() {
    let pending = code("print('reached')").exchange(true);
    let number = pending.number;
    pending.exchange.abandon();
    assert!(pending.run().deliveries.is_empty());
    assert_eq!(records(number), []);
}

#[test]
fn calls_at_the_same_time() {
    let source = "import time
start_response('200 OK', [])
def steps():
    for number in range(20):
        if number % 5 == 0: time.sleep(0.001)
        yield environ['QUERY_STRING'].encode() * number
return steps()";
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let mut thread = new_thread();
                for round in 0..10 {
                    let mark = format!("<{number}.{round}>");
                    let reply = code(source).query(&mark).exchange(true).run_on(&mut thread);
                    assert_eq!(reply.text(), mark.repeat(190));
                }
            });
        }
    });
}

#[test]
fn stacks_are_logged_for_the_request_that_asks() {
    let source = "import time
def deep_in_here():
    while not kept.pop('enough', False): time.sleep(0.001)
deep_in_here()
start_response('200 OK', [])
return []";
    let pending = code(source).exchange(true);
    let (exchange, number) = (Arc::clone(&pending.exchange), pending.number);
    thread::scope(|scope| {
        let runs = scope.spawn(|| pending.run_on(&mut new_thread()));
        while exchange.thread().is_none() {
            thread::yield_now();
        }
        let main = harness().main.lock().unwrap();
        main.log_stack(Arc::clone(&exchange), "no output for 60 s".into());
        while records(number).is_empty() {
            thread::yield_now();
        }
        let (level, record) = records(number).remove(0);
        assert_eq!(level, Level::Error);
        assert!(record.starts_with("no output for 60 s\n  File "), "{record}");
        code("kept['enough'] = True\nstart_response('200 OK', [])\nreturn []").run();
        assert!(runs.join().unwrap().is_complete());
        // After its end, there is no stack to tell of.
        main.log_stack(Arc::clone(&exchange), "too late".into());
        while records(number).len() < 2 {
            thread::yield_now();
        }
        assert_eq!(records(number)[1].1, "too late");
    });
}

#[test]
fn c_code_that_calls_back_finds_its_thread() {
    // ctypes looks for the thread by PyGILState_Ensure, as many an extension does.
    let source = format!(
        "import ctypes, threading
local, seen = threading.local(), []
local.mark = 'mine'
integers = (ctypes.c_int * 4)(3, 1, 2, 0)
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
def comparing(a, b):
    seen.append(getattr(local, 'mark', 'another thread'))
    return a[0] - b[0]
ctypes.CDLL(None).qsort(integers, 4, 4, compare(comparing))
{OK}return [repr((list(integers), set(seen))).encode()]"
    );
    assert_eq!(code(&source).run().text(), "([0, 1, 2, 3], {'mine'})");
}

#[test]
fn event_loops_and_executors_work_in_calls() {
    let source = format!(
        "import asyncio, concurrent.futures
async def work():
    await asyncio.sleep(0)
    return await asyncio.get_running_loop().run_in_executor(None, lambda: 'done')
with concurrent.futures.ThreadPoolExecutor(2) as executor: total = sum(executor.map(int, '1234'))
{OK}return [f'{{asyncio.run(work())}} {{total}}'.encode()]"
    );
    for _ in 0..2 {
        assert_eq!(code(&source).run().text(), "done 10");
    }
}

#[test]
fn a_panic_in_what_python_calls_is_an_exception() {
    let reply = code("environ['wsgi.input']._panic()").run();
    let record = &reply.failure().record;
    assert!(record.ends_with("SystemError: panic in nginx-wsgi: as the test wants it"), "{record}");
    assert!(records(0).contains(&(Level::Alert, "panic in nginx-wsgi: as the test wants it".into())));
    // It did not poison anything.
    assert_eq!(
        code("start_response('200 OK', [])\nreturn [environ['wsgi.input'].read()]").text_body("x").run().text(),
        "x"
    );
}
