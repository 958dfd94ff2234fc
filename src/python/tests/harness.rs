//! One interpreter for all tests of the process, and calls made in it as a pool thread makes them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError, Weak, mpsc};

use super::super::{BuildInfo, Interpreter, Main, Thread};
use crate::exchange::body::{Body, Segment};
use crate::exchange::inbox::Inbox;
use crate::exchange::log::{self, Level, Origin, Sink};
use crate::exchange::names::{self, Name};
use crate::exchange::request::{Entries, Request};
use crate::exchange::response::{End, Failure, Part};
use crate::exchange::spec::{App, Pool, Spec, Target};
use crate::exchange::{CallParams, Completions, Delivery, Exchange, Job};

/// The applications of most tests: one per function of this file.
const CASES: &str = include_str!("cases.py");

/// What has been logged: at which level, of which connection.
#[derive(Debug)]
struct Recorder(Mutex<Vec<(Level, u64, String)>>);

static RECORDER: Recorder = Recorder(Mutex::new(Vec::new()));

impl Sink for Recorder {
    fn write(&'static self, level: Level, connection: u64, record: &[u8]) {
        let record = String::from_utf8_lossy(record).into_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((level, connection, record));
    }
}

/// Records of one origin; 0: of no call. Without what stands behind them about the request.
pub(super) fn records(connection: u64) -> Vec<(Level, String)> {
    let bare = |record: String| record.split(", client: ").next().unwrap_or_default().to_owned();
    whole_records(connection).into_iter().map(|(level, record)| (level, bare(record))).collect()
}

/// As [`records`], with that.
pub(super) fn whole_records(connection: u64) -> Vec<(Level, String)> {
    let all = RECORDER.0.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter().filter(|(_, of, _)| *of == connection).map(|(l, _, r)| (*l, r.clone())).collect()
}

/// Where this process keeps its files, until it ends.
fn root() -> PathBuf {
    std::env::temp_dir().join(format!("wsgi-python-{}", std::process::id()))
}

extern "C" fn remove_root() {
    let _ = std::fs::remove_dir_all(root());
}

/// An empty directory of this process's.
pub(in crate::python) fn folder(name: &str) -> PathBuf {
    static AT_EXIT: Once = Once::new();
    // SAFETY: registers a function that may run at the end of the process.
    AT_EXIT.call_once(|| unsafe { assert_eq!(libc::atexit(remove_root), 0) });
    let folder = root().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// An application's entry in the specification.
pub(super) fn app(name: &str, target: &str, path: &[PathBuf]) -> App {
    App {
        name: name.into(),
        target: Target::parse(target).unwrap(),
        path: path.to_vec(),
        virtualenv: None,
        env: Vec::new(),
        origin: "nginx.conf:7".into(),
    }
}

pub(super) fn build_info() -> BuildInfo {
    BuildInfo { executable: env!("WSGI_PYTHON_EXECUTABLE").into() }
}

/// The interpreter of this process and its applications.
pub(super) struct Harness {
    pub(super) interpreter: Arc<Interpreter>,
    pub(super) main: Mutex<Main>,
    apps: HashMap<String, usize>,
}

impl Harness {
    /// Starts an interpreter; once in a process.
    pub(super) fn start(apps: Vec<App>) -> Self {
        log::install(&RECORDER);
        let names = apps.iter().enumerate().map(|(index, app)| (app.name.clone(), index)).collect();
        let pool = |name: &str, threads| Pool { name: name.into(), threads, queue: 10, stack_size: 0 };
        let pools = vec![pool("default", 4), pool("single", 1)];
        let spec = Spec { apps, pools, multiprocess: true, early_hints: true, ..Spec::default() };
        let (sender, receiver) = mpsc::channel();
        let main = Main::start(spec, build_info(), move |interpreter| {
            sender.send(Arc::clone(interpreter)).unwrap();
            Vec::new()
        });
        Self { interpreter: receiver.recv().unwrap(), main: Mutex::new(main.unwrap()), apps: names }
    }

    pub(super) fn index(&self, app: &str) -> usize {
        *self.apps.get(app).unwrap_or_else(|| panic!("no application {app}"))
    }
}

/// The harness that all tests share.
pub(super) fn harness() -> &'static Harness {
    static HARNESS: OnceLock<Harness> = OnceLock::new();
    HARNESS.get_or_init(|| {
        let folder = folder("cases");
        std::fs::write(folder.join("wsgi_cases.py"), CASES).unwrap();
        let apps = CASES.lines().filter_map(|line| line.strip_prefix("def ")?.split_once("(environ, start_response)"));
        let mut apps: Vec<_> =
            apps.map(|(name, _)| app(name, &format!("wsgi_cases:{name}"), std::slice::from_ref(&folder))).collect();
        apps.extend(super::import::apps());
        Harness::start(apps)
    })
}

/// A call to be made.
pub(super) struct Ask {
    harness: &'static Harness,
    app: usize,
    pool: usize,
    request: Request,
    window: u64,
    body: Body,
    inbox: Option<Box<Inbox>>,
}

/// A call of that application, by GET.
pub(super) fn ask(app: &str) -> Ask {
    Ask::on(harness(), app)
}

/// A call of an application whose body this is.
pub(super) fn code(source: &str) -> Ask {
    ask("code").with(Name::Other(b"CODE"), source)
}

impl Ask {
    pub(super) fn on(harness: &'static Harness, app: &str) -> Self {
        let request = Request::default();
        let app = harness.index(app);
        Self { harness, app, pool: 0, request, window: 1 << 20, body: Body::default(), inbox: None }
            .with(names::REQUEST_METHOD, "GET")
    }

    pub(super) fn with(mut self, name: Name<'_>, value: &str) -> Self {
        self.request.own.push(name, value.as_bytes());
        self
    }

    pub(super) fn with_bytes(mut self, name: Name<'_>, value: &[u8]) -> Self {
        self.request.own.push(name, value);
        self
    }

    /// What was given so far is stable.
    pub(super) fn end_stable(mut self) -> Self {
        self.request.own.end_stable();
        self
    }

    pub(super) fn base_environ(mut self, base_environ: &Arc<Entries>) -> Self {
        self.request.base_environ = Arc::clone(base_environ);
        self
    }

    pub(super) fn query(self, query: &str) -> Self {
        self.with(names::QUERY_STRING, query)
    }

    pub(super) fn head(self) -> Self {
        self.with(names::REQUEST_METHOD, "HEAD")
    }

    pub(super) fn pool(mut self, pool: usize) -> Self {
        self.pool = pool;
        self
    }

    pub(super) fn window(mut self, window: u64) -> Self {
        self.window = window;
        self
    }

    pub(super) fn body(mut self, segments: Vec<Segment>) -> Self {
        for segment in segments {
            self.body.push(segment);
        }
        self
    }

    /// The body streams, through an inbox of that size.
    pub(super) fn stream(mut self, limit: usize) -> Self {
        self.inbox = Some(Box::new(Inbox::new(limit)));
        self
    }

    pub(super) fn text_body(self, text: &str) -> Self {
        self.body(vec![Segment::Memory(text.into())])
    }

    /// Makes the exchange; every message is taken as it comes, and credited if `credit`.
    pub(super) fn exchange(mut self, credit: bool) -> Pending {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        self.request.body = self.body;
        let deliveries = Arc::new(Mutex::new(Vec::new()));
        let completions = Arc::new_cyclic(|completions: &Weak<Completions>| {
            let wakeup = || {
                let (completions, sink) = (Weak::clone(completions), Arc::clone(&deliveries));
                Box::new(move || take_completions(&completions, credit, &sink))
            };
            Completions::with_wakeup_timer(wakeup(), wakeup())
        });
        let origin = Origin { connection: number, sink: None };
        let params =
            CallParams { app: self.app, pool: self.pool, window: self.window, origin, inbox: self.inbox, owner: 1 };
        let exchange = Exchange::new(self.request, params, Arc::clone(&completions));
        Pending { harness: self.harness, exchange, deliveries, number, _completions: completions }
    }

    /// Makes the call, on this thread.
    pub(super) fn run(self) -> Reply {
        self.exchange(true).run()
    }
}

/// Takes every message as it comes.
fn take_completions(completions: &Weak<Completions>, credit: bool, sink: &Mutex<Vec<Delivery>>) {
    let Some(completions) = completions.upgrade() else { return };
    completions.drain(|exchange: Arc<Exchange>| {
        let delivery = exchange.take();
        if credit {
            exchange.credit(delivery.parts.iter().map(Part::held).sum());
        }
        sink.lock().unwrap().push(delivery);
    });
}

/// A call that has been submitted.
pub(super) struct Pending {
    harness: &'static Harness,
    pub(super) exchange: Arc<Exchange>,
    pub(super) deliveries: Arc<Mutex<Vec<Delivery>>>,
    pub(super) number: u64,
    _completions: Arc<Completions>,
}

impl Pending {
    /// Makes the call, on this thread, as a pool thread would.
    pub(super) fn run(self) -> Reply {
        let mut thread = Thread::new(&self.harness.interpreter);
        self.run_on(&mut thread)
    }

    pub(super) fn run_on(self, thread: &mut Thread) -> Reply {
        thread.run(Job::new(Arc::clone(&self.exchange)));
        thread.detach();
        self.reply()
    }

    pub(super) fn reply(self) -> Reply {
        let deliveries = std::mem::take(&mut *self.deliveries.lock().unwrap());
        Reply { deliveries, number: self.number, exchange: self.exchange }
    }
}

/// What came of a call.
pub(super) struct Reply {
    /// Every message by itself.
    pub(super) deliveries: Vec<Delivery>,
    pub(super) number: u64,
    pub(super) exchange: Arc<Exchange>,
}

impl Reply {
    fn head(&self) -> &crate::exchange::response::Head {
        self.deliveries.iter().find_map(|delivery| delivery.head.as_ref()).expect("no head was sent")
    }

    pub(super) fn has_head(&self) -> bool {
        self.deliveries.iter().any(|delivery| delivery.head.is_some())
    }

    pub(super) fn status(&self) -> String {
        String::from_utf8(self.head().line.to_vec()).unwrap()
    }

    pub(super) fn code(&self) -> u16 {
        self.head().status
    }

    /// Header fields as `Name: value`.
    pub(super) fn fields(&self) -> Vec<String> {
        let latin1 = |bytes: &[u8]| bytes.iter().map(|&byte| byte as char).collect::<String>();
        self.head().fields.iter().map(|(name, value)| format!("{}: {}", latin1(name), latin1(value))).collect()
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.deliveries.iter().flat_map(|delivery| &delivery.parts)
    }

    /// The body; what nginx would send from a file is read from it.
    pub(super) fn body(&self) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let mut body: Vec<u8> = self.deliveries.iter().flat_map(with_head).copied().collect();
        for part in self.parts() {
            match part {
                Part::Chunk(chunk) => body.extend_from_slice(chunk.bytes()),
                Part::File { file, offset, length, .. } => {
                    let mut bytes = vec![0; *length as usize];
                    file.read_exact_at(&mut bytes, *offset).unwrap();
                    body.extend_from_slice(&bytes);
                }
            }
        }
        body
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body()).unwrap()
    }

    fn end(&self) -> &End {
        let ends: Vec<_> = self.deliveries.iter().filter_map(|delivery| delivery.end.as_ref()).collect();
        assert_eq!(ends.len(), 1, "a call has one end");
        ends[0]
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.end(), End::Complete)
    }

    pub(super) fn failure(&self) -> &Failure {
        match self.end() {
            End::Failed(failure) => failure,
            End::Complete => panic!("the call did not fail; it sent {:?}", self.text()),
        }
    }

    /// Records that were written with this call's origin.
    pub(super) fn log(&self) -> Vec<(Level, String)> {
        records(self.number)
    }

    /// How the messages were cut: (head, bytes, end) of each.
    pub(super) fn messages(&self) -> Vec<(bool, u64, bool)> {
        let length = |it: &Delivery| with_head(it).len() as u64 + it.parts.iter().map(Part::length).sum::<u64>();
        self.deliveries.iter().map(|it| (it.head.is_some(), length(it), it.end.is_some())).collect()
    }
}

/// A thread besides the one that [`Call::run`] has.
pub(super) fn new_thread() -> Thread {
    Thread::new(&harness().interpreter)
}

/// A call of `source` that is about to be run.
pub(super) fn pending(source: &str) -> Pending {
    code(source).exchange(true)
}

/// The body that travels with a head.
fn with_head(delivery: &Delivery) -> &[u8] {
    delivery.head.as_ref().map_or(&[], |head| head.fields.body())
}
