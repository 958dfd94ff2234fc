//! The environ cache, and the objects that a thread uses again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::Thread;
use super::harness::{Ask, ask, code, new_thread};
use crate::exchange::names::{self, Name};
use crate::exchange::request::Entries;

const OK: &str = "start_response('200 OK', [])\n";

/// A base environ with a name that requests may have, too.
fn base_environ() -> Arc<Entries> {
    let mut base_environ = Entries::default();
    base_environ.push(names::SERVER_NAME, b"of the base");
    Arc::new(base_environ)
}

/// A call with `base_environ` that returns the value of an expression.
fn value(expression: &str, base_environ: &Arc<Entries>) -> Ask {
    code(&format!("{OK}return [repr({expression}).encode()]")).base_environ(base_environ)
}

fn text(thread: &mut Thread, ask: Ask) -> String {
    ask.exchange(true).run_on(thread).text()
}

/// A small generator of numbers that look random.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn environ_is_the_request_whatever_came_before() {
    let stable = [names::SERVER_NAME, names::HTTP_HOST, names::HTTP_ACCEPT, names::CONTENT_TYPE];
    let others = [
        names::PATH_INFO,
        names::QUERY_STRING,
        names::REQUEST_URI,
        names::REMOTE_PORT,
        names::HTTP_COOKIE,
        Name::Other(b"HTTP_X_OTHER"),
        Name::Other(b"PATH_INFO"),
        Name::Other(b"HTTP_HOST"),
    ];
    let given = "sorted(item for item in environ.items() if type(item[1]) is str and item[0] != 'CODE')";
    let source = format!("{OK}return [repr({given}).encode()]");
    let always = ["SCRIPT_NAME", "SERVER_PROTOCOL", "DOCUMENT_ROOT", "REMOTE_ADDR", "SERVER_ADDR", "REQUEST_SCHEME"];
    let empty = always.into_iter().chain(["SERVER_SOFTWARE", "SERVER_PORT", "PATH_INFO", "QUERY_STRING"]);
    let empty: Vec<_> = empty.chain(["REQUEST_URI", "RAW_URI", "REMOTE_PORT"]).collect();
    let (base_environ, mut thread, mut dice) = (base_environ(), new_thread(), Dice(1));
    for _ in 0..1000 {
        let mut expected: BTreeMap<String, String> = empty.iter().map(|&key| (key.into(), String::new())).collect();
        let fixed = [("REQUEST_METHOD", "GET"), ("SERVER_NAME", "of the base"), ("wsgi.url_scheme", "http")];
        expected.extend(fixed.map(|(key, value)| (key.into(), value.into())));
        let mut ask = ask("code").base_environ(&base_environ);
        // Some requests are as the last one, some are quite another.
        let alike = dice.below(3) > 0;
        for (index, name) in stable.into_iter().chain(others).enumerate() {
            if index == stable.len() {
                ask = ask.end_stable().with(Name::Other(b"CODE"), &source);
            }
            let is_stable = index < stable.len();
            let times = if alike && is_stable { 1 } else { dice.below(if alike { 2 } else { 3 }) };
            for _ in 0..times {
                let long = "x".repeat(300 * (dice.below(20) == 0) as usize);
                let value = format!("{}{long}", ["a", "b", ""][dice.below(if alike { 1 } else { 3 }) as usize]);
                ask = ask.with(name, &value);
                let key = String::from_utf8(name.bytes().to_vec()).unwrap();
                if key == "REQUEST_URI" {
                    expected.insert("RAW_URI".into(), value.clone());
                }
                expected.insert(key, value);
            }
        }
        let expected: Vec<_> = expected.iter().map(|(key, value)| format!("('{key}', '{value}')")).collect();
        assert_eq!(text(&mut thread, ask), format!("[{}]", expected.join(", ")));
    }
}

#[test]
fn objects_that_nobody_has_kept_serve_the_next_call() {
    let (base_environ, mut thread) = (base_environ(), new_thread());
    let objects = "(environ['wsgi.input'], environ['ngx_wsgi.client_disconnected'], start_response)";
    let expression = format!("[id(it) for it in {objects}] + [environ['wsgi.input'].read()]");
    let mut of = |body: &str| text(&mut thread, value(&expression, &base_environ).text_body(body));
    let first = of("one");
    assert_eq!(of("two"), first.replace("one", "two"));
    assert_eq!(of("three"), first.replace("one", "three"));
}

#[test]
fn objects_that_somebody_has_kept_stay_as_they_are() {
    let (base_environ, mut thread) = (base_environ(), new_thread());
    let keep = format!("kept['environ'], kept['start'] = environ, start_response\n{OK}return [b'']");
    let pending = code(&keep).base_environ(&base_environ).text_body("mine").exchange(true);
    let exchange = Arc::clone(&pending.exchange);
    pending.run_on(&mut thread);
    let others = "environ['wsgi.input'] is not kept['environ']['wsgi.input'] and start_response is not kept['start']";
    for _ in 0..2 {
        assert_eq!(text(&mut thread, value(others, &base_environ)), "True");
    }
    let mine = "(kept['environ']['wsgi.input'].read(), environ['wsgi.input'].read())";
    assert_eq!(text(&mut thread, value(mine, &base_environ).text_body("other")), "(b'mine', b'other')");
    // What the thread has of it keeps nothing alive.
    assert_eq!(
        text(&mut thread, value("[kept.pop('environ') and None, kept.pop('start') and None]", &base_environ)),
        "[None, None]"
    );
    assert_eq!(Arc::strong_count(&exchange), 1);
}

#[test]
fn a_call_leaves_nothing_of_itself_with_its_thread() {
    let (base_environ, mut thread) = (base_environ(), new_thread());
    for source in ["return [b'']", "raise ValueError", "return environ['wsgi.input']", "x = environ\nreturn iter('')"] {
        let pending = code(&format!("{OK}{source}")).base_environ(&base_environ).text_body("a").exchange(true);
        let exchange = Arc::clone(&pending.exchange);
        pending.run_on(&mut thread);
        assert_eq!(Arc::strong_count(&exchange), 1, "{source}");
    }
}

#[test]
fn an_object_between_two_calls_has_no_call() {
    let (base_environ, mut thread) = (base_environ(), new_thread());
    let path = "/of the thread that waits";
    for _ in 0..3 {
        text(&mut thread, value("0", &base_environ).with(names::PATH_INFO, path));
    }
    let search = format!(
        "import gc
found = []
for it in gc.get_objects():
    if type(it) is dict and it.get('PATH_INFO') == '{path}':
        for step in (it['wsgi.input'].read, it['ngx_wsgi.client_disconnected'].is_set, lambda: next(it['wsgi.input'])):
            try: found.append(step())
            except RuntimeError as error: found.append(str(error))
{OK}return [repr(found).encode()]"
    );
    assert_eq!(code(&search).run().text(), "['its call has ended', 'its call has ended', 'its call has ended']");
    let own = "environ['wsgi.input'].read()";
    assert_eq!(text(&mut thread, value(own, &base_environ).text_body("own")), "b'own'");
}
