//! `wsgi.file_wrapper`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::channel;

use super::super::Thread;
use super::harness::{Ask, Reply, code, folder, harness, records};
use crate::exchange::log::Level;
use crate::exchange::names::Name;
use crate::exchange::response::Part;

/// A file of 20 bytes.
fn path() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = folder("files").join("twenty");
        std::fs::File::create(&path).unwrap().write_all(b"0123456789abcdefghij").unwrap();
        path
    })
}

fn wrapped(source: &str) -> Ask {
    let ask = code(&format!(
        "import io, os\nwrap = environ['wsgi.file_wrapper']\nfile = open(environ['FILE'], 'rb')\n{source}"
    ));
    ask.with(Name::Other(b"FILE"), path().to_str().unwrap())
}

const OK: &str = "start_response('200 OK', [])\n";

fn after(start: &str, rest: &str) -> Reply {
    wrapped(&format!("{start}{rest}")).run()
}

/// The range of the file that nginx is to send; `None` when Python read it.
fn range(reply: &Reply) -> Option<(u64, u64)> {
    reply.parts().find_map(|part| match part {
        Part::File { offset, length, .. } => Some((*offset, *length)),
        Part::Chunk(_) => None,
    })
}

#[test]
fn a_file_is_sent_by_nginx() {
    let reply = after(OK, "return wrap(file)");
    assert_eq!(range(&reply), Some((0, 20)));
    assert_eq!(reply.messages(), [(true, 20, true)]);
    assert_eq!(reply.text(), "0123456789abcdefghij");
}

#[test]
fn an_object_whose_read_is_that_of_a_file_stands_for_it() {
    let reply = after(OK, "file.read(3)\nreturn wrap(type('P', (), {'read': file.read})())");
    assert_eq!(range(&reply), Some((3, 17)));
}

#[test]
fn from_where_it_stands() {
    assert_eq!(range(&after(OK, "file.seek(5)\nreturn wrap(file)")), Some((5, 15)));
    assert_eq!(range(&after(OK, "file.read(3)\nreturn wrap(file)")), Some((3, 17)));
    assert_eq!(range(&after(OK, "file.seek(20)\nreturn wrap(file)")), None);
    assert_eq!(after(OK, "file.seek(99)\nreturn wrap(file, 10)").messages(), [(true, 0, true)]);
    assert_eq!(range(&after(OK, "return wrap(io.FileIO(os.dup(file.fileno())))")), Some((0, 20)));
}

#[test]
fn as_much_as_content_length_says() {
    let five = "start_response('206 Partial', [('Content-Length', '5')])\n";
    let reply = after(five, "file.seek(2)\nreturn wrap(file)");
    assert_eq!((range(&reply), reply.log()), (Some((2, 5)), Vec::new()));
    let too_much = "start_response('200 OK', [('Content-Length', '50')])\n";
    assert_eq!(after(too_much, "return wrap(file)").failure().status, 500);
}

#[test]
fn head_has_its_length_only() {
    let reply = wrapped(&format!("{OK}return wrap(file)")).head().run();
    assert_eq!((reply.fields(), reply.messages()), (vec!["Content-Length: 20".into()], vec![(true, 0, true)]));
}

#[test]
fn it_is_closed() {
    for call in ["wrap(Mine(file))", "iter(wrap(Mine(file)))"] {
        let reply = after(
            OK,
            &format!(
                "class Mine:
    def __init__(self, file): self.file, self.read = file, file.read
    def close(self): environ['wsgi.errors'].write('closed\\n'); self.file.close()
return {call}"
            ),
        );
        assert_eq!(reply.text(), "0123456789abcdefghij");
        assert_eq!(reply.log(), [(Level::Error, "closed".to_string())]);
    }
}

/// A file that tells of its `close()`, and by which thread and in which context it is called.
const TELLS: &str = "import contextvars, threading
variable = kept.setdefault('variable', contextvars.ContextVar('v', default='unset'))
variable.set('of this call')
thread = threading.get_ident()
class Mine:
    def __init__(self, file): self.file, self.read = file, file.read
    def close(self):
        here = threading.get_ident() == thread
        environ['wsgi.errors'].write(f'closed, {here}, {variable.get()}\\n')
        self.file.close()
";

#[test]
fn it_is_closed_when_nginx_has_done_with_it() {
    let closed = [(Level::Error, "closed, True, of this call".to_string())];
    let mut thread = Thread::new(&harness().interpreter);
    let reply = wrapped(&format!("{TELLS}{OK}return wrap(Mine(file))")).exchange(true).run_on(&mut thread);
    let number = reply.number;
    assert_eq!((reply.is_complete(), reply.log()), (true, Vec::new()), "nginx has it still");
    // Another call on the same thread, meanwhile, does not close it.
    assert_eq!(wrapped(&format!("{OK}return [b'x']")).exchange(true).run_on(&mut thread).text(), "x");
    assert_eq!(records(number), []);
    drop(reply);
    thread.attach();
    thread.close_sent();
    thread.close_sent();
    thread.detach();
    assert_eq!(records(number), closed);
}

#[test]
fn the_end_of_the_file_notifies_the_thread() {
    let (notify, notified) = channel();
    let mut thread = Thread::new(&harness().interpreter);
    thread.set_notify(Box::new(move || notify.send(()).unwrap()));
    let reply = wrapped(&format!("{TELLS}{OK}return wrap(Mine(file))")).exchange(true).run_on(&mut thread);
    assert!(notified.try_recv().is_err());
    std::thread::spawn(move || drop(reply)).join().unwrap();
    assert!(notified.try_recv().is_ok());
}

#[test]
fn it_is_closed_at_once_when_there_is_nothing_to_send() {
    for (source, head) in [
        ("start_response('304 Not Modified', [])\nreturn wrap(Mine(file))", false),
        ("start_response('200 OK', [])\nfile.seek(20)\nreturn wrap(Mine(file))", false),
        ("start_response('200 OK', [('Content-Length', '30')])\nreturn wrap(Mine(file))", false),
        ("return wrap(Mine(file))", false),
        ("start_response('200 OK', [])\nreturn wrap(Mine(file))", true),
    ] {
        let ask = wrapped(&format!("{TELLS}{source}"));
        let ask = if head { ask.head() } else { ask };
        let mut thread = Thread::new(&harness().interpreter);
        let reply = ask.exchange(true).run_on(&mut thread);
        let log: Vec<_> = reply.log().into_iter().filter(|(_, record)| record.starts_with("closed")).collect();
        assert_eq!(log, [(Level::Error, "closed, True, of this call".to_string())], "{source}");
    }
}

#[test]
fn a_thread_that_ends_closes_what_is_left() {
    let mut thread = Thread::new(&harness().interpreter);
    let reply = wrapped(&format!("{TELLS}{OK}return wrap(Mine(file))")).exchange(true).run_on(&mut thread);
    drop(thread);
    assert_eq!(reply.log(), [(Level::Error, "closed, True, of this call".to_string())]);
}

#[test]
fn an_exception_in_close_is_logged() {
    let source = "class Closes:
    def __init__(self, file): self.fileno, self.read, self.tell = file.fileno, file.read, file.tell
    def close(self): raise SystemExit('in close')
start_response('200 OK', [])
return wrap(Closes(file))";
    let reply = wrapped(source).run();
    assert_eq!((reply.text(), reply.is_complete()), ("0123456789abcdefghij".into(), true));
    let log = reply.log();
    assert!(log.len() == 1 && log[0].1.contains("exception in close()") && log[0].1.contains("in close"), "{log:?}");
}

#[test]
fn what_is_no_plain_file_is_read() {
    for (filelike, text) in [
        ("io.BytesIO(b'in memory')", "in memory"),
        ("__import__('gzip').GzipFile(fileobj=io.BytesIO(__import__('gzip').compress(b'unpacked')))", "unpacked"),
        (
            "type('R', (), {'data': [b'ab', b'c'], 'read': lambda self, n: self.data.pop(0) if self.data else b''})()",
            "abc",
        ),
        (
            "type('F', (io.FileIO,), {'read': lambda self, n=-1: io.FileIO.read(self, n).upper()})(environ['FILE'])",
            "0123456789ABCDEFGHIJ",
        ),
        // A descriptor of a plain file, and bytes of another kind.
        (
            "type('P', (), {'fileno': lambda self: file.fileno(), 'read': lambda self, n: file.read(n)[::-1]})()",
            "jihgfedcba9876543210",
        ),
        ("setattr(file, 'read', io.BytesIO(b'of its own').read) or file", "of its own"),
        ("setattr(file.raw, 'readinto', lambda room: 0) or file", ""),
        ("type('P', (), {'fileno': file.fileno, 'read': file.read1})()", "0123456789abcdefghij"),
        ("type('N', (), {'fileno': lambda self: 1 / 0, 'read': io.BytesIO(b'no number').read})()", "no number"),
        ("type('N', (), {'fileno': lambda self: -1, 'read': io.BytesIO(b'bad number').read})()", "bad number"),
        ("type('N', (), {'fileno': lambda self: 'x', 'read': io.BytesIO(b'text').read})()", "text"),
    ] {
        let reply = after(OK, &format!("return wrap({filelike})"));
        assert_eq!((range(&reply), reply.text()), (None, text.into()), "{filelike}");
    }
    // A container may lack /sys.
    let sys = Some("/sys/devices/system/cpu/online").filter(|path| std::path::Path::new(path).exists());
    for path in std::iter::once("/proc/version").chain(sys) {
        let reply = after(OK, &format!("return wrap(open('{path}', 'rb'))"));
        assert_eq!((range(&reply), reply.text()), (None, std::fs::read_to_string(path).unwrap()), "{path}");
    }
    let pipe = "reader, writer = os.pipe()\nos.write(writer, b'from a pipe')\nos.close(writer)\nreturn wrap(open(reader, 'rb'))";
    assert_eq!(after(OK, pipe).text(), "from a pipe");
}

#[test]
fn a_gzip_file_on_disk_is_unpacked() {
    let path = folder("gzip").join("packed.gz");
    let reply = code(
        "import gzip
with gzip.open(environ['FILE'], 'wb') as file: file.write(b'unpacked')
start_response('200 OK', [])
return environ['wsgi.file_wrapper'](gzip.open(environ['FILE'], 'rb'))",
    )
    .with(Name::Other(b"FILE"), path.to_str().unwrap())
    .run();
    assert_eq!((range(&reply), reply.text()), (None, "unpacked".into()));
}

#[test]
fn what_was_written_is_flushed() {
    let reply = code(
        "import tempfile
file = tempfile.TemporaryFile()
file.write(b'just written')
file.seek(5)
start_response('200 OK', [])
return environ['wsgi.file_wrapper'](file)",
    )
    .run();
    assert_eq!((range(&reply), reply.text()), (Some((5, 7)), "written".into()));
    let reply = code(
        "import tempfile
file = tempfile.NamedTemporaryFile()
file.write(b'named')
file.seek(0)
start_response('200 OK', [])
return environ['wsgi.file_wrapper'](file)",
    )
    .run();
    assert_eq!((range(&reply), reply.text()), (Some((0, 5)), "named".into()));
}

#[test]
fn a_text_file_fails_by_its_chunks() {
    let reply = after(OK, "return wrap(open(environ['FILE']))");
    assert!(reply.failure().record.contains("it gave a chunk of type str"));
}

#[test]
fn arguments() {
    for (call, message) in [
        ("wrap()", "FileWrapper() missing required argument"),
        ("wrap(file, 1, 2)", "FileWrapper() takes at most 2 arguments"),
        ("wrap(file, oops=1)", "TypeError: "),
        ("iter(wrap(file, 'x')).__next__()", "TypeError: "),
    ] {
        let record = &after(OK, &format!("return {call}")).failure().record.clone();
        assert!(record.contains(message), "{call}: {record}");
    }
    assert_eq!(after(OK, "return [repr([len(b) for b in wrap(file, 6)]).encode()]").text(), "[6, 6, 6, 2]");
    assert_eq!(
        after(OK, "return [repr([len(b) for b in wrap(filelike=file, blksize=15)]).encode()]").text(),
        "[15, 5]"
    );
    let reply = after(OK, "w = wrap(file)\nreturn [repr([w.filelike is file, w.blksize, iter(w) is w]).encode()]");
    assert_eq!(reply.text(), "[True, 8192, True]");
}

#[test]
fn a_wrapper_in_a_cycle_is_collected() {
    let reply = code(
        "import gc, weakref
class Mine: read = None
mine = Mine()
mine.wrapper = environ['wsgi.file_wrapper'](mine)
gone = weakref.ref(mine)
del mine
gc.collect()
start_response('200 OK', [])
return [repr(gone()).encode()]",
    )
    .run();
    assert_eq!(reply.text(), "None");
}

#[test]
fn an_error_while_reading() {
    let reply = after(OK, "file.close()\nreturn wrap(file)");
    assert!(reply.failure().record.contains("ValueError: "), "{}", reply.failure().record);
    let reply = after(OK, "return wrap(object())");
    assert!(reply.failure().record.contains("AttributeError: 'object' object has no attribute 'read'"));
}
