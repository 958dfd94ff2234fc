//! What Python code writes, and where it arrives.

use super::harness::{Reply, code, records, whole_records};
use crate::exchange::log::Level;
use crate::exchange::names;
use crate::exchange::tests::until;

fn run(source: &str) -> Vec<(Level, String)> {
    let reply: Reply = code(&format!("import sys, logging\n{source}\nstart_response('200 OK', [])\nreturn []")).run();
    assert!(reply.is_complete(), "{:?}", reply.failure());
    reply.log()
}

fn at(level: Level, records: &[&str]) -> Vec<(Level, String)> {
    records.iter().map(|record| (level, record.to_string())).collect()
}

#[test]
fn streams_write_lines_at_their_levels() {
    assert_eq!(run("print('to stdout')"), at(Level::Notice, &["to stdout"]));
    assert_eq!(run("print('to stderr', file=sys.stderr)"), at(Level::Error, &["to stderr"]));
    assert_eq!(run("environ['wsgi.errors'].write('to errors\\n')"), at(Level::Error, &["to errors"]));
    assert_eq!(run("environ['wsgi.errors'].writelines(['a', 'b\\n', 'c'])"), at(Level::Error, &["ab", "c"]));
}

#[test]
fn a_line_is_one_record_however_it_is_written() {
    assert_eq!(run("print('a', end=''); print('b', 3, end=' '); print('c')"), at(Level::Notice, &["ab 3 c"]));
    assert_eq!(
        run("sys.stderr.write('one\\ntwo\\nthr'); sys.stderr.write('ee\\n')"),
        at(Level::Error, &["one\ntwo", "three"])
    );
    assert_eq!(run("print('no end', end='')"), at(Level::Notice, &["no end"]));
    assert_eq!(run("print('flushed', end='', flush=True); print('rest')"), at(Level::Notice, &["flushed", "rest"]));
    assert_eq!(run("print()"), []);
}

#[test]
fn odd_characters() {
    assert_eq!(run("print('\\u20ac \\ud800 \\x00')"), at(Level::Notice, &["\u{20ac} \\ud800 \0"]));
    assert_eq!(run("sys.stdout.buffer.write(b'\\xe2\\x82\\xac raw\\n')"), at(Level::Notice, &["\u{20ac} raw"]));
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let records = run("for _ in range(100): sys.stdout.write('x' * 10000)");
    assert_eq!(records.iter().map(|(_, record)| record.len()).sum::<usize>(), 1_000_000);
    assert!(records.len() >= 3);
}

#[test]
fn streams_are_text_files() {
    let reply = code(
        "import sys
def attempt(call, *arguments):
    try: return call(*arguments)
    except Exception as error: return type(error).__name__
stream = sys.stderr
start_response('200 OK', [])
return [repr([stream.writable(), stream.readable(), stream.isatty(), stream.encoding, stream.fileno(), stream.closed,
    stream.write(''), stream.close(), stream.closed, attempt(stream.write, b'x'), attempt(stream.write), attempt(stream.read),
    stream.name, stream.reconfigure(line_buffering=True), stream.errors, sys.stdin.read(), sys.stdout.fileno()]).encode()]",
    )
    .run();
    let expected = "[True, False, False, 'utf-8', 2, False, 0, None, False, 'TypeError', 'TypeError', 'UnsupportedOperation', \
                    '<stderr>', None, 'backslashreplace', '', 1]";
    assert_eq!(reply.text(), expected);
}

#[test]
fn logging_without_configuration() {
    let records = run("log = logging.getLogger('unconfigured')
log.info('too little'); log.warning('careful %d', 7); log.error('bad'); log.critical('worse')");
    let expected = [(Level::Warn, "careful 7"), (Level::Error, "bad"), (Level::Crit, "worse")];
    assert_eq!(records, expected.map(|(level, record)| (level, record.to_string())));
}

#[test]
fn logging_through_the_handler() {
    let records = run("import logging.config
logging.config.dictConfig({
    'version': 1, 'disable_existing_loggers': False,
    'formatters': {'f': {'format': '%(name)s: %(message)s'}},
    'handlers': {'nginx': {'class': 'ngx_wsgi.LogHandler', 'formatter': 'f'}},
    'loggers': {'configured': {'handlers': ['nginx'], 'level': 'DEBUG', 'propagate': False}},
})
log = logging.getLogger('configured')
log.debug('d'); log.info('i'); log.log(35, 'between'); log.log(99, 'beyond')
try: 1 / 0
except ZeroDivisionError: log.exception('failed')");
    let levels: Vec<_> = records.iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, [Level::Debug, Level::Info, Level::Warn, Level::Crit, Level::Error]);
    assert_eq!(records[0].1, "configured: d");
    assert!(records[4].1.starts_with("configured: failed\nTraceback") && records[4].1.ends_with("division by zero"));
}

#[test]
fn a_record_that_cannot_be_formatted() {
    let records = run("logging.getLogger('broken').error('%d', 'text')");
    assert!(records.iter().any(|(_, record)| record.contains("--- Logging error ---")), "{records:?}");
}

#[test]
fn warnings_and_what_nobody_can_raise() {
    let records = run("class Bad:
    def __del__(self): raise ValueError('in del')
Bad()");
    let text: String = records.into_iter().map(|(_, record)| record + "\n").collect();
    assert!(text.contains("Exception ignored ") && text.contains("ValueError: in del"), "{text}");
    assert!(run("import warnings; warnings.warn('look out')")[0].1.contains("UserWarning: look out"));
}

#[test]
fn threads_of_the_application_log_outside_the_call() {
    let records_of_call = run("import threading
thread = threading.Thread(target=lambda: print('from a thread of mine\\nand unfinished', end=''))
thread.start(); thread.join()");
    assert_eq!(records_of_call, []);
    assert!(records(0).contains(&(Level::Notice, "from a thread of mine".into())));
    // The rest comes with the thread's very end, which join() does not wait for.
    until("the rest is logged", || records(0).contains(&(Level::Notice, "and unfinished".into())));
}

#[test]
fn signals_are_left_to_nginx() {
    let records = run("import signal
def handler(*_): pass
before = signal.getsignal(signal.SIGTERM)
for _ in range(3): assert signal.signal(signal.SIGTERM, handler) is before
assert signal.getsignal(signal.SIGTERM) is before
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
assert signal.signal.__name__ == 'signal'");
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0].0, Level::Warn);
    assert!(records[0].1.starts_with("<test>:6: signal.signal(") && records[0].1.contains("is ignored"), "{records:?}");
    for wrong in ["signal.signal(1000, print)", "signal.signal(1)", "signal.signal(1, 'x')"] {
        let source =
            format!("import signal\ntry: {wrong}\nexcept (TypeError, ValueError): pass\nelse: raise AssertionError");
        assert_eq!(run(&source), []);
    }
}

#[test]
fn a_record_of_the_server_s_tells_of_the_request() {
    for source in [
        "start_response('200 OK', [('Content-Length', '1')])\nreturn [b'ab']",
        "start_response('200 OK', [('Content-Length', '1')])\nyield b'a'\nraise ValueError('late')",
        "start_response('200 OK', [('Upgrade', 'h2c')])\nreturn []",
    ] {
        let asked = code(source).with(names::REQUEST_URI, "/a?b").with(names::SERVER_PROTOCOL, "HTTP/1.1");
        let reply = asked.with(names::REMOTE_ADDR, "192.0.2.1").run();
        let told = whole_records(reply.number);
        assert_eq!(told.len(), 1);
        assert!(told[0].1.ends_with(", client: 192.0.2.1, request: \"GET /a?b HTTP/1.1\""), "{told:?}");
    }
}
