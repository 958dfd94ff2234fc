//! What is in environ.

use std::sync::Arc;

use super::super::Thread;
use super::harness::{Ask, ask, code, harness};
use crate::exchange::names::{self, KNOWN, Name};
use crate::exchange::request::Entries;

/// What a Python expression of `environ` gives, as text.
fn of(ask: Ask, expression: &str) -> String {
    let source = format!("start_response('200 OK', [])\nreturn [repr({expression}).encode()]");
    ask.with(Name::Other(b"CODE"), &source).run().text()
}

#[test]
fn wsgi_keys() {
    for (key, value) in [
        ("wsgi.version", "(1, 0)"),
        ("wsgi.url_scheme", "'http'"),
        ("wsgi.multithread", "True"),
        ("wsgi.multiprocess", "True"),
        ("wsgi.run_once", "False"),
        ("wsgi.input_terminated", "True"),
    ] {
        assert_eq!(of(ask("code"), &format!("environ['{key}']")), value, "{key}");
    }
    assert_eq!(of(ask("code"), "type(environ)"), "<class 'dict'>");
    assert_eq!(of(ask("code"), "all(type(key) is str for key in environ)"), "True");
}

#[test]
fn one_thread_is_not_multithread() {
    assert_eq!(of(ask("code").pool(1), "environ['wsgi.multithread']"), "False");
}

#[test]
fn the_scheme_follows_https() {
    for (https, scheme) in [("on", "https"), ("1", "https"), ("ON", "https"), ("off", "http"), ("", "http")] {
        let ask = ask("code").with(names::HTTPS, https);
        assert_eq!(of(ask, "environ['wsgi.url_scheme']"), format!("'{scheme}'"), "{https}");
    }
    let by_param = ask("code").with(Name::Other(b"HTTPS"), "on");
    assert_eq!(of(by_param, "environ['wsgi.url_scheme']"), "'https'");
    let last_wins = ask("code").with(names::HTTPS, "on").with(Name::Other(b"HTTPS"), "off");
    assert_eq!(of(last_wins, "(environ['HTTPS'], environ['wsgi.url_scheme'])"), "('off', 'http')");
    let spelt_out = ask("code").with(names::HTTPS, "on").with(Name::Other(b"wsgi.url_scheme"), "gopher");
    assert_eq!(of(spelt_out, "environ['wsgi.url_scheme']"), "'gopher'");
}

#[test]
fn requests_in_many_settings_take_turns_on_one_thread() {
    let base_environ = |number: usize| {
        let mut entries = Entries::default();
        entries.push_number(names::SERVER_PORT, number as u64);
        if number % 2 == 1 {
            entries.push(names::HTTPS, b"on");
        }
        Arc::new(entries)
    };
    let base_environs: Vec<_> = (0..40).map(base_environ).collect();
    let mut thread = Thread::new(&harness().interpreter);
    let expression =
        "[environ.get(key) for key in ('SERVER_PORT', 'HTTPS', 'wsgi.url_scheme', 'PATH_INFO', 'HTTP_HOST')]";
    let mut of = |ask: Ask| {
        let source = format!("start_response('200 OK', [])\nreturn [repr({expression}).encode()]");
        ask.with(Name::Other(b"CODE"), &source).exchange(true).run_on(&mut thread).text()
    };
    for round in 0..3 {
        for (number, base_environ) in base_environs.iter().enumerate() {
            let path = format!("/{number}/{}", round / 2);
            let plain = || ask("code").base_environ(base_environ).with(names::PATH_INFO, &path);
            let rest = format!("'{path}', None]");
            if number % 2 == 1 {
                assert_eq!(of(plain()), format!("['{number}', 'on', 'https', {rest}"));
                let off = plain().with(Name::Other(b"HTTPS"), "off");
                assert_eq!(of(off), format!("['{number}', 'off', 'http', {rest}"));
            } else {
                assert_eq!(of(plain()), format!("['{number}', None, 'http', {rest}"));
                let on = plain().with(Name::Other(b"HTTPS"), "on");
                assert_eq!(of(on), format!("['{number}', 'on', 'https', {rest}"));
            }
            let otherwise = plain().with(names::SERVER_PORT, "1").with(names::HTTP_HOST, "a");
            assert!(of(otherwise).starts_with("['1', "));
        }
    }
}

#[test]
fn values_are_latin1() {
    let ask = ask("code").with_bytes(names::PATH_INFO, b"/caf\xc3\xa9/\xff");
    assert_eq!(of(ask, "environ['PATH_INFO'].encode('latin-1')"), "b'/caf\\xc3\\xa9/\\xff'");
}

#[test]
fn known_and_other_keys() {
    let ask = ask("code")
        .with(names::SCRIPT_NAME, "/app")
        .with(names::of_header(b"host").unwrap(), "example.org:8080")
        .with(Name::Other(b"HTTP_X_FROB"), "1")
        .with(Name::Other(b"UID_SET"), "");
    let keys = "[environ[key] for key in ('SCRIPT_NAME', 'HTTP_HOST', 'HTTP_X_FROB', 'UID_SET')]";
    assert_eq!(of(ask, keys), "['/app', 'example.org:8080', '1', '']");
}

#[test]
fn the_last_entry_of_a_name_wins() {
    let ask = ask("code").query("a=1").with(Name::Other(b"QUERY_STRING"), "b=2");
    assert_eq!(of(ask, "environ['QUERY_STRING']"), "'b=2'");
}

#[test]
fn every_known_name_arrives_under_its_key() {
    let mut ask = ask("code");
    for index in 0..KNOWN.len() {
        ask = ask.with(Name::Known(index as u8), &format!("value {index}"));
    }
    let text = of(ask, "'\\n'.join(f'{key}={value}' for key, value in environ.items() if type(value) is str)");
    for (index, key) in KNOWN.iter().enumerate() {
        let expected = format!("{key}=value {index}\\n");
        assert!(text.contains(&expected), "{key} in {text}");
    }
}

#[test]
fn each_call_has_its_own() {
    let first = of(ask("code"), "environ.update(LEFT='1', **{'wsgi.version': 0})");
    assert_eq!(first, "None");
    assert_eq!(of(ask("code"), "('LEFT' in environ, environ['wsgi.version'])"), "(False, (1, 0))");
}

#[test]
fn the_validator_of_the_standard_library_is_content() {
    let reply = code(
        "from wsgiref.validate import validator
def application(environ, start_response):
    environ['wsgi.input'].read(10)
    environ['wsgi.errors'].write('')
    environ['wsgi.errors'].writelines([])
    environ['wsgi.errors'].flush()
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'valid']
import warnings
with warnings.catch_warnings():
    warnings.simplefilter('error')
    return validator(application)(environ, start_response)",
    )
    .with(names::SERVER_NAME, "localhost")
    .with(names::SERVER_PORT, "80")
    .with(names::SERVER_PROTOCOL, "HTTP/1.1")
    .with(names::PATH_INFO, "/")
    .query("")
    .run();
    assert_eq!(reply.text(), "valid");
    assert!(reply.is_complete());
}
