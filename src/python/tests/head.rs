//! What `start_response` accepts and refuses.

use super::harness::{Reply, code};
use crate::exchange::log::Level;

fn start(arguments: &str) -> Reply {
    code(&format!("start_response({arguments})\nreturn [b'x']")).run()
}

fn headers(headers: &str) -> Reply {
    start(&format!("'200 OK', {headers}"))
}

/// The exception line that the application got.
fn refusal(reply: &Reply) -> String {
    assert!(!reply.has_head());
    reply.failure().record.lines().last().unwrap().to_string()
}

#[test]
fn statuses_that_are_accepted() {
    for status in ["200 OK", "404 Not Found", "299 ", "418 A teapot \\xe9", "599 a  b", "600 Beyond", "999 Last"] {
        let reply = start(&format!("'{status}', []"));
        assert_eq!(reply.code().to_string(), status[..3]);
    }
    let reply = start("'200 caf\\xe9', []");
    assert_eq!(reply.deliveries[0].head.as_ref().unwrap().line.as_slice(), b"200 caf\xe9");
    assert_eq!(start("type('Sub', (str,), {})('200 OK'), []").status(), "200 OK");
}

#[test]
fn statuses_that_are_refused() {
    for (status, problem) in [
        ("'200'", "ValueError: the status \"200\" is not three digits, a space and a reason"),
        ("'OK'", "ValueError: the status \"OK\" is not three digits, a space and a reason"),
        ("''", "ValueError: the status \"\" is not three digits, a space and a reason"),
        ("'2000 OK'", "ValueError: the status \"2000 OK\" is not three digits, a space and a reason"),
        ("' 200 OK'", "ValueError: the status \" 200 OK\" is not three digits, a space and a reason"),
        ("'200\\tOK'", "ValueError: the status \"200\\tOK\" is not three digits, a space and a reason"),
        ("'2\\xb20 OK'", "ValueError: the status \"2\\xb20 OK\" is not three digits, a space and a reason"),
        ("'200 OK\\r\\nX: y'", "ValueError: the status \"200 OK\\r\\nX: y\" has a control character"),
        ("'200 OK\\n'", "ValueError: the status \"200 OK\\n\" has a control character"),
        ("'200 \\x00'", "ValueError: the status \"200 \\x00\" has a control character"),
        ("'200 \\x7f'", "ValueError: the status \"200 \\x7f\" has a control character"),
        ("'099 Low'", "ValueError: the status \"099 Low\" is below 100"),
        ("'000 Zero'", "ValueError: the status \"000 Zero\" is below 100"),
        ("'100 Continue'", "an interim one, which a WSGI application cannot send"),
        ("'101 Switching'", "an interim one, which a WSGI application cannot send"),
        ("'200 \\u20ac'", "ValueError: the status has a character beyond latin-1"),
        ("b'200 OK'", "TypeError: the status must be str, not bytes"),
        ("200", "TypeError: the status must be str, not int"),
        ("None", "TypeError: the status must be str, not NoneType"),
    ] {
        let refused = refusal(&start(&format!("{status}, []")));
        assert!(refused.ends_with(problem), "{status}: {refused}");
    }
}

#[test]
fn headers_keep_their_order_case_and_repeats() {
    let reply = headers("[('Set-Cookie', 'a=1'), ('x-lower', ''), ('Set-Cookie', 'b=2'), ('X-Tab', 'a\\tb')]");
    assert_eq!(reply.fields(), ["Set-Cookie: a=1", "x-lower: ", "Set-Cookie: b=2", "X-Tab: a\tb"]);
    let reply = headers("[('X-Latin', 'caf\\xe9 \\x80\\xff')]");
    assert_eq!(reply.fields(), ["X-Latin: caf\u{e9} \u{80}\u{ff}"]);
    let reply = headers("type('L', (list,), {})([type('T', (tuple,), {})(('A', 'b'))])");
    assert_eq!(reply.fields(), ["A: b"]);
    assert_eq!(headers("[(\"!#$%&'*+-.^_`|~09aZ\", 'every token character')]").fields().len(), 1);
}

#[test]
fn headers_that_are_refused() {
    for (list, problem) in [
        ("(('A', 'b'),)", "TypeError: the headers must be a list of tuples, not tuple"),
        ("{'A': 'b'}", "TypeError: the headers must be a list of tuples, not dict"),
        ("None", "TypeError: the headers must be a list of tuples, not NoneType"),
        ("iter([])", "TypeError: the headers must be a list of tuples, not list_iterator"),
        ("[['A', 'b']]", "TypeError: header 0 must be a tuple (name, value), not a list of 2"),
        ("[('A', 'b'), ('C',)]", "TypeError: header 1 must be a tuple (name, value), not a tuple of 1"),
        ("[('A', 'b', 'c')]", "TypeError: header 0 must be a tuple (name, value), not a tuple of 3"),
        ("['AB']", "TypeError: header 0 must be a tuple (name, value), not str"),
        ("[(b'A', 'b')]", "TypeError: the name of header 0 must be str, not bytes"),
        ("[('A', b'b')]", "TypeError: the value of header A must be str, not bytes"),
        ("[('A', 7)]", "TypeError: the value of header A must be str, not int"),
        ("[('A', None)]", "TypeError: the value of header A must be str, not NoneType"),
        ("[('', 'b')]", "ValueError: \"\" is not the name of a header"),
        ("[('A B', 'b')]", "ValueError: \"A B\" is not the name of a header"),
        ("[('A:', 'b')]", "ValueError: \"A:\" is not the name of a header"),
        ("[('A\\r\\nB', 'b')]", "ValueError: \"A\\r\\nB\" is not the name of a header"),
        ("[('\\xe9', 'b')]", "ValueError: \"\\xe9\" is not the name of a header"),
        ("[('\\u20ac', 'b')]", "ValueError: the name of header 0 has a character beyond latin-1"),
        ("[('A', 'b\\nC: d')]", "ValueError: the value of header A has a control character (code 10)"),
        ("[('A', 'b\\r')]", "ValueError: the value of header A has a control character (code 13)"),
        ("[('A', '\\x00')]", "ValueError: the value of header A has a control character (code 0)"),
        ("[('A', '\\x7f')]", "ValueError: the value of header A has a control character (code 127)"),
        ("[('A', '\\u20ac')]", "ValueError: the value of header A has a character beyond latin-1"),
        ("[('A', '\\ud800')]", "ValueError: the value of header A has a character beyond latin-1"),
    ] {
        assert_eq!(refusal(&headers(list)), problem, "{list}");
    }
}

#[test]
fn content_lengths() {
    for good in ["'1'", "' 1 '", "'01'"] {
        assert!(headers(&format!("[('Content-Length', {good})]")).is_complete(), "{good}");
    }
    let reply = headers("[('content-length', '1'), ('Content-Length', '1')]");
    assert_eq!(reply.fields(), ["content-length: 1"]);
    let two = refusal(&headers("[('Content-Length', '1'), ('Content-Length', '2')]"));
    assert_eq!(two, "ValueError: there are two different Content-Length headers");
    for bad in
        ["-1", "+1", "1.0", "0x1", "", " ", "1 2", "1,1", "9223372036854775808", "99999999999999999999999", "\\xb2"]
    {
        let refused = refusal(&headers(&format!("[('Content-Length', '{bad}')]")));
        assert!(refused.starts_with("ValueError: the value of header Content-Length, "), "{bad}: {refused}");
    }
}

#[test]
fn white_space_round_a_value_is_left_out() {
    let reply = headers("[('X-A', ' a b\\t'), ('Set-Cookie', '  c=d'), ('X-Empty', ' '), ('Content-Length', ' 0 ')]");
    assert_eq!(reply.fields(), ["X-A: a b", "Set-Cookie: c=d", "X-Empty: ", "Content-Length: 0"]);
}

#[test]
fn hop_by_hop_headers_are_dropped_and_told() {
    for name in [
        "Keep-Alive",
        "proxy-authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Trailers",
        "TRANSFER-ENCODING",
        "Upgrade",
    ] {
        let reply = headers(&format!("[('{name}', 'x'), ('X-A', '1')]"));
        assert_eq!(reply.fields(), ["X-A: 1"]);
        let told = format!("application \"code\": the hop-by-hop header {name} is the server's to set; it is dropped");
        assert_eq!(reply.log(), [(Level::Warn, told)]);
    }
    assert_eq!(headers("[('Connection', 'keep-alive')]").fields(), [""; 0]);
    assert_eq!(headers("[('Connection', 'Close')]").fields(), ["Connection: Close"]);
    assert_eq!(headers("[('Connection', 'close')]").log(), []);
}

#[test]
fn arguments() {
    for arguments in ["", "'200 OK'", "'200 OK', [], None, None", "status='200 OK', headers=[]", "'200 OK', [], oops=1"]
    {
        let refused = refusal(&start(arguments));
        assert!(refused.starts_with("TypeError: start_response takes two arguments"), "{arguments}: {refused}");
    }
    assert!(start("'200 OK', [], None").is_complete());
    assert!(start("'200 OK', [], exc_info=None").is_complete());
    assert!(code("start_response(*('200 OK', []), **{})\nreturn []").run().is_complete());
}

#[test]
fn a_second_call_needs_exc_info() {
    let reply = code("start_response('200 OK', [])\nstart_response('200 OK', [])\nreturn []").run();
    assert_eq!(refusal(&reply), "AssertionError: start_response was called a second time, without exc_info");
    let reply = code(
        "start_response('200 OK', [('A', 'b'), ('Content-Length', '99')])
try:
    1 / 0
except ZeroDivisionError:
    import sys
    start_response('500 Oops', [('C', 'd')], sys.exc_info())
return [b'sorry']",
    )
    .run();
    assert_eq!(
        (reply.status(), reply.fields(), reply.text()),
        ("500 Oops".into(), vec!["C: d".into()], "sorry".into())
    );
}

#[test]
fn a_failed_call_may_be_made_again() {
    let reply = code(
        "try:
    start_response('200 OK', [('A', 'b\\n')])
except ValueError:
    start_response('200 OK', [('A', 'b')])
return [b'x']",
    )
    .run();
    assert_eq!(reply.fields(), ["A: b"]);
}

#[test]
fn exc_info_after_the_head_is_raised_again() {
    let reply = code(
        "import sys
def fail(): raise ValueError('deep down')
write = start_response('200 OK', [])
write(b'ab')
try:
    fail()
except ValueError:
    start_response('500 Oops', [], sys.exc_info())
return []",
    )
    .run();
    let record = &reply.failure().record;
    assert!(record.contains("ValueError: deep down") && record.contains(", in fail"), "{record}");
    assert_eq!((reply.status(), reply.text()), ("200 OK".into(), "ab".into()));
}

#[test]
fn exc_info_must_be_one() {
    for value in ["42", "()", "(1, 2)", "[None, ValueError(), None]"] {
        let refused = refusal(&start(&format!("'200 OK', [], {value}")));
        assert_eq!(refused, "TypeError: exc_info must be a tuple as sys.exc_info() returns it", "{value}");
    }
    let after_head = "start_response('200 OK', [])(b'a')\nstart_response('500 Oops', [], (None, 'x', None))\nreturn []";
    let record = &code(after_head).run().failure().record.clone();
    assert!(record.ends_with("TypeError: exc_info[1] is not an exception"), "{record}");
}

#[test]
fn start_response_after_the_call_is_an_error() {
    code("kept['start'] = start_response\nstart_response('200 OK', [])\nreturn []").run();
    let reply = code("start_response('200 OK', [])\nkept['start']('200 OK', [])\nreturn []").run();
    assert_eq!(refusal(&reply), "AssertionError: start_response was called after the call had ended");
}

#[test]
fn what_a_refused_application_does_then_is_its_own() {
    let reply = code("try: start_response('bad', [])\nexcept ValueError: pass\nreturn [b'x']").run();
    assert!(reply.failure().record.contains("without calling start_response"));
}

#[test]
fn its_type_cannot_be_called() {
    let reply = code("type(start_response)()").run();
    assert_eq!(refusal(&reply), "TypeError: cannot create 'ngx_wsgi.StartResponse' instances");
    let reply = code("import copy; copy.copy(start_response)").run();
    assert!(refusal(&reply).starts_with("TypeError: cannot"), "{}", refusal(&reply));
}
