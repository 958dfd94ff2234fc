//! Content-Length, and responses that have no body.

use super::harness::{Ask, Reply, code};
use crate::exchange::log::Level;

const TEN: &str = "start_response('200 OK', [('Content-Length', '10')])\n";

/// Runs an application that has called start_response.
fn after(start: &str, rest: &str) -> Reply {
    code(&format!("{start}{rest}")).run()
}

fn errors(reply: &Reply) -> Vec<String> {
    reply.log().into_iter().filter(|(level, _)| *level == Level::Error).map(|(_, record)| record).collect()
}

#[test]
fn content_length_ends_the_response_when_it_is_reached() {
    let reply = code(
        "start_response('200 OK', [('Content-Length', '4')])
yield b'ab'
yield b'cd'
environ['wsgi.errors'].write('went on\\n')",
    )
    .run();
    assert_eq!(reply.messages(), [(true, 2, false), (false, 2, true)]);
    assert!(reply.is_complete());
    assert_eq!(errors(&reply), ["went on"]);
}

#[test]
fn a_failure_after_that_is_only_logged() {
    let reply =
        code("start_response('200 OK', [('Content-Length', '2')])\nyield b'ab'\nraise ValueError('late')").run();
    assert!(reply.is_complete());
    assert!(errors(&reply)[0].ends_with("ValueError: late"));
}

#[test]
fn what_is_longer_than_content_length_is_cut_and_told() {
    let told = "application \"code\": the response is longer than its Content-Length of 10; the rest is dropped";
    for result in [
        "[b'0123456789', b'ab']",
        "[b'0123', b'456789abc', b'']",
        "(each for each in [b'0123456', b'789abc', b'd'])",
        "(each for each in [b'0123456789', b'', b'abc', b'd'])",
        "iter([b'0123456789abc'])",
    ] {
        let reply = after(TEN, &format!("return {result}"));
        assert_eq!((reply.text(), reply.is_complete()), ("0123456789".into(), true), "{result}");
        assert_eq!(errors(&reply), [told], "{result}");
    }
    let reply = code(&format!("write = {TEN}write(b'0123456789ab')\nwrite(b'c')\nreturn [b'd']")).run();
    assert_eq!((reply.text(), errors(&reply)), ("0123456789".into(), vec![told.to_string()]));
    let reply = code(&format!("write = {TEN}write(b'0123456789')\nreturn [b'', b'd']")).run();
    assert_eq!((reply.text(), errors(&reply)), ("0123456789".into(), vec![told.to_string()]));
}

#[test]
fn an_endless_response_is_left_at_its_content_length() {
    let reply = after(TEN, "import itertools\nreturn itertools.repeat(b'0123')");
    assert_eq!((reply.text(), reply.is_complete()), ("0123012301".into(), true));
}

#[test]
fn what_is_shorter_than_content_length_fails() {
    for result in ["[b'0123']", "[]", "iter([b'0123'])"] {
        let reply = after(TEN, &format!("return {result}"));
        assert_eq!((reply.failure().status, reply.has_head()), (500, false));
        assert!(reply.failure().record.contains("of the 10 bytes of its Content-Length"), "{}", reply.failure().record);
    }
    let reply = after(TEN, "return (each for each in [b'0123'])");
    let record = &reply.failure().record;
    assert_eq!(record, "application \"code\": the response ends after 4 of the 10 bytes of its Content-Length");
    assert!(reply.has_head());
}

#[test]
fn content_length_0() {
    let zero = "start_response('200 OK', [('Content-Length', '0')])\n";
    assert_eq!(after(zero, "return []").messages(), [(true, 0, true)]);
    let reply = after(zero, "return (each for each in [b'x'])");
    assert_eq!((reply.text(), reply.is_complete(), errors(&reply).len()), (String::new(), true, 1));
}

fn head(source: &str) -> Ask {
    code(source).head()
}

#[test]
fn head_requests_have_no_body_but_run_and_close() {
    let reply = head("start_response('200 OK', [('Content-Length', '10')])\nreturn []").run();
    assert_eq!((reply.messages(), reply.fields()), (vec![(true, 0, true)], vec!["Content-Length: 10".to_string()]));
    let reply =
        head("start_response('200 OK', [])\nyield b'ab'\nyield b'cd'\nenviron['wsgi.errors'].write('ran\\n')").run();
    assert_eq!((reply.text(), reply.is_complete()), (String::new(), true));
    assert_eq!(errors(&reply), ["ran"]);
    let reply = head("start_response('200 OK', [])(b'ab')\nreturn [b'cd']").run();
    assert_eq!(reply.text(), "");
}

#[test]
fn head_of_a_complete_response_tells_its_length() {
    assert_eq!(head("start_response('200 OK', [])\nreturn [b'abc']").run().fields(), ["Content-Length: 3"]);
    assert_eq!(head("start_response('200 OK', [])\nreturn []").run().fields(), [""; 0]);
    assert_eq!(head("start_response('200 OK', [])\nyield b'abc'").run().fields(), [""; 0]);
}

#[test]
fn statuses_without_a_body() {
    for status in ["204 No Content", "304 Not Modified"] {
        let reply = code(&format!("start_response('{status}', [('Content-Length', '10')])\nreturn []")).run();
        assert!(reply.is_complete());
        let reply = code(&format!("start_response('{status}', [])\nreturn [b'abc', b'd']")).run();
        assert_eq!((reply.text(), reply.is_complete(), errors(&reply).len()), (String::new(), true, 1));
        assert!(errors(&reply)[0].contains("has no body"));
    }
}
