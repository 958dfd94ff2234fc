//! What needs a process of its own: a beginning that fails, an end, a fork.

use std::collections::HashMap;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::super::{Main, Thread, forbid_on_this_thread};
use super::harness::{app, build_info, code, folder, harness, records};
use crate::exchange::log::Level;
use crate::exchange::spec::{App, Pool, Spec};

/// Set in a process that a test started for itself: which test.
const MARK: &str = "WSGI_TEST_ALONE";

/// Runs `body` in a process of its own, and fails if it does.
pub(super) fn alone(test: &str, body: impl FnOnce()) {
    if let Some(output) = child(test, body, &[]) {
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// In the test's own process: runs `body`, and ends it. Else starts that process; what it said is returned.
fn child(test: &str, body: impl FnOnce(), environment: &[(&str, &str)]) -> Option<Output> {
    if std::env::var(MARK).as_deref() == Ok(test) {
        body();
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--nocapture", "--test-threads=1"]).env(MARK, test);
    command.envs(environment.iter().copied().collect::<HashMap<_, _>>());
    Some(command.output().unwrap())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn spec(apps: Vec<App>) -> Spec {
    let pool = Pool { name: "default".into(), threads: 2, queue: 10, stack_size: 0 };
    Spec { apps, pools: vec![pool], ..Spec::default() }
}

#[test]
fn an_interpreter_that_cannot_start_answers_every_call() {
    let test = "an_interpreter_that_cannot_start_answers_every_call";
    let body = || {
        let reply = code("").run();
        let record = &reply.failure().record;
        assert_eq!((reply.failure().status, reply.failure().level), (500, Level::Error));
        assert!(record.starts_with("Python could not be initialised: "), "{record}");
        let told: Vec<_> = records(0).into_iter().filter(|(level, _)| *level == Level::Alert).collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].1.starts_with("Python could not be initialised: "), "{told:?}");
        assert!(harness().main.lock().unwrap().stop(Duration::from_secs(10)));
    };
    let home = folder("no-python-here");
    if let Some(output) = child(test, body, &[("PYTHONHOME", home.to_str().unwrap())]) {
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// Starts python-main with one application and one thread; the thread runs until the sender is dropped.
fn start_and_stop(source: &str, within: Duration) -> (bool, Duration) {
    let folder = folder("stop");
    std::fs::write(folder.join("stopping.py"), source).unwrap();
    let (stop_thread, stopped) = mpsc::channel::<()>();
    let apps = vec![app("stopping", "stopping:application", &[folder])];
    let mut main = Main::start(spec(apps), build_info(), move |interpreter| {
        let interpreter = interpreter.clone();
        vec![thread::spawn(move || {
            let mut thread = Thread::new(&interpreter);
            thread.attach();
            thread.detach();
            let _ = stopped.recv();
        })]
    })
    .unwrap();
    drop(stop_thread);
    let begun = Instant::now();
    (main.stop(within), begun.elapsed())
}

const AT_EXIT: &str = "import atexit, os, sys, threading
def application(environ, start_response): pass
atexit.register(lambda: os.write(1, b'<atexit>'))
class Last:
    def __del__(self): os.write(1, b'<del>')
last = Last()
threading.Thread(target=lambda: (threading.main_thread().join, os.write(1, b'<thread>'))).start()
print('unfinished', end='')
";

#[test]
fn the_end_runs_what_python_runs_at_its_end() {
    let test = "the_end_runs_what_python_runs_at_its_end";
    let body = || {
        let (done, _) = start_and_stop(AT_EXIT, Duration::from_secs(20));
        assert!(done);
    };
    if let Some(output) = child(test, body, &[]) {
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        for mark in ["<thread>", "<atexit>", "<del>"] {
            assert_eq!(said.matches(mark).count(), 1, "{mark} in {said}");
        }
        assert!(said.contains("unfinished"), "{said}");
    }
}

#[test]
fn an_end_that_takes_too_long_is_called_off() {
    let test = "an_end_that_takes_too_long_is_called_off";
    let body = || {
        let source = "import atexit, os, time
def application(environ, start_response): pass
atexit.register(time.sleep, 3600)
class Last:
    def __del__(self): os.write(1, b'<del>')
last = Last()";
        let (done, took) = start_and_stop(source, Duration::from_millis(300));
        assert!(!done && took < Duration::from_secs(10), "{took:?}");
    };
    if let Some(output) = child(test, body, &[]) {
        assert!(output.status.success() && !text(&output).contains("<del>"), "{}", text(&output));
    }
}

#[test]
fn a_thread_of_the_application_that_never_ends_calls_the_end_off_too() {
    let test = "a_thread_of_the_application_that_never_ends_calls_the_end_off_too";
    let body = || {
        let source = "import threading, time
def application(environ, start_response): pass
threading.Thread(target=time.sleep, args=(3600,)).start()";
        assert!(!start_and_stop(source, Duration::from_millis(300)).0);
    };
    if let Some(output) = child(test, body, &[]) {
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[test]
fn a_daemon_thread_is_left_where_it_is() {
    let test = "a_daemon_thread_is_left_where_it_is";
    let body = || {
        let source = "import threading, time
def application(environ, start_response): pass
def work():
    while True: time.sleep(0.0001)
for _ in range(4): threading.Thread(target=work, daemon=True).start()";
        assert!(start_and_stop(source, Duration::from_secs(20)).0);
        // Time for the threads to come back to an interpreter that is no more.
        thread::sleep(Duration::from_millis(50));
    };
    if let Some(output) = child(test, body, &[]) {
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// A call that forks; what the child does is `source`, and how it ended is the answer.
fn forked(source: &str) -> String {
    let source = format!(
        "import os, sys, signal
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.dup2(writer, 2)
{source}
os.close(writer)
said = open(reader, 'rb').read()
status = os.waitpid(pid, 0)[1]
start_response('200 OK', [])
return [repr((os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status), said)).encode()]"
    );
    code(&source).run().text()
}

#[test]
fn a_fork_that_returns_from_the_call_ends_quietly() {
    super::process::alone("a_fork_that_returns_from_the_call_ends_quietly", || {
        for (child, ended) in [
            ("    return [b'from the child']", "(0, b'')"),
            ("    return None", "(0, b'')"),
            ("    sys.exit(7)", "(7, b'')"),
            ("    sys.exit()", "(0, b'')"),
            ("    sys.exit('complaint')", "(1, b'complaint\\n')"),
            ("    def steps():\n        yield b'x'\n        sys.exit(3)\n    return steps()", "(0, b'')"),
            (
                "    print('to stderr', file=sys.stderr); print('unfinished', end=''); return []",
                "(0, b'to stderr\\nunfinished')",
            ),
            ("    environ['wsgi.errors'].write('x\\n'); os._exit(5)", "(5, b'x\\n')"),
            ("    import logging; logging.getLogger('child').error('logged'); os._exit(0)", "(0, b'logged\\n')"),
        ] {
            assert_eq!(forked(child), ended, "{child}");
        }
        for (child, error) in [
            ("    raise ValueError('in the child')", "ValueError: in the child"),
            ("    start_response('200 OK', [])", "RuntimeError: a child process that os.fork() made cannot answer"),
        ] {
            let raised = forked(child);
            assert!(raised.starts_with("(1, b\"Traceback") || raised.starts_with("(1, b'Traceback"), "{raised}");
            assert!(raised.contains(error), "{raised}");
        }
    });
}

#[test]
fn a_fork_may_have_its_signals() {
    super::process::alone("a_fork_may_have_its_signals", || {
        // As nginx has: a handler that only takes note.
        extern "C" fn note(_signal: i32) {}
        // SAFETY: installs a handler that does nothing.
        unsafe { libc::signal(libc::SIGTERM, note as extern "C" fn(i32) as usize) };
        assert_eq!(forked("    os.kill(os.getpid(), signal.SIGTERM); os._exit(9)"), "(-15, b'')");
        // Even one that comes before the child has taken its first step: on one processor, it waits for its parent.
        let at_once = "import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
codes = set()
for _ in range(50):
    pid = os.fork()
    if pid == 0:
        while True: os.sched_yield()
    os.kill(pid, 15)
    codes.add(os.WTERMSIG(os.waitpid(pid, 0)[1]))
start_response('200 OK', [])
return [repr(codes).encode()]";
        assert_eq!(code(at_once).run().text(), "{15}");
        let handled =
            "    signal.signal(signal.SIGTERM, lambda *_: os._exit(4)); os.kill(os.getpid(), 15); os._exit(9)";
        assert_eq!(forked(handled), "(4, b'')");
    });
}

#[test]
fn multiprocessing_and_subprocess_work() {
    super::process::alone("multiprocessing_and_subprocess_work", || {
        let reply = code(
            "import multiprocessing, subprocess, sys
process = multiprocessing.get_context('fork').Process(target=sys.exit, args=(6,))
process.start()
process.join(20)
spawned = multiprocessing.get_context('spawn').Process(target=sys.exit, args=(8,))
spawned.start()
spawned.join(60)
version = subprocess.run([sys.executable, '-c', 'import sys; print(sys.version_info[:2])'], capture_output=True)
start_response('200 OK', [])
return [repr((process.exitcode, spawned.exitcode, version.stdout.decode().strip() == str(sys.version_info[:2]))).encode()]",
        )
        .run();
        assert_eq!(reply.text(), "(6, 8, True)");
    });
}

#[test]
fn a_fork_at_import_ends_there() {
    let test = "a_fork_at_import_ends_there";
    let body = || {
        let source = "import os, sys
pid = os.fork()
if pid: os.write(1, b'<child %d>' % os.WEXITSTATUS(os.waitpid(pid, 0)[1]))
else: sys.exit(11)
def application(environ, start_response): pass";
        assert!(start_and_stop(source, Duration::from_secs(20)).0);
    };
    if let Some(output) = child(test, body, &[]) {
        let said = text(&output);
        assert!(output.status.success() && said.matches("<child 11>").count() == 1, "{said}");
    }
}

#[test]
fn the_python_of_a_virtual_environment_is_the_executable() {
    let test = "the_python_of_a_virtual_environment_is_the_executable";
    let body = || {
        let folder = folder("executable");
        let venv = folder.join("venv");
        let made = Command::new(build_info().executable).args(["-m", "venv", "--without-pip"]).arg(&venv).status();
        assert!(made.unwrap().success());
        let source = "import os, sys
os.write(1, f'<{sys.executable} {sys.prefix} {sys.prefix != sys.base_prefix}>'.encode())
def application(environ, start_response): pass";
        std::fs::write(folder.join("prefix.py"), source).unwrap();
        let apps = vec![App { virtualenv: Some(venv.clone()), ..app("prefix", "prefix:application", &[folder]) }];
        let (sender, receiver) = mpsc::channel();
        let mut main = Main::start(spec(apps), build_info(), move |_| {
            sender.send(()).unwrap();
            Vec::new()
        })
        .unwrap();
        receiver.recv().unwrap();
        println!("<{0}/bin/python {0} True>", venv.display());
        assert!(main.stop(Duration::from_secs(20)));
    };
    if let Some(output) = child(test, body, &[]) {
        let said = text(&output);
        let marks: Vec<_> = said.split(['<', '>']).filter(|part| part.contains("/bin/python")).collect();
        assert!(output.status.success() && marks.len() == 2 && marks[0] == marks[1], "{said}");
    }
}

#[test]
fn the_event_loop_s_thread_must_not_enter_python() {
    let interpreter = &harness().interpreter;
    let entered = thread::scope(|scope| {
        let forbidden = scope.spawn(|| {
            forbid_on_this_thread();
            Thread::new(interpreter).attach();
        });
        forbidden.join()
    });
    assert_eq!(entered.is_err(), cfg!(debug_assertions));
}
