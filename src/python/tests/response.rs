//! What becomes of an application's result.

use super::harness::{Reply, code, records};
use crate::exchange::log::Level;
use crate::exchange::names;

const OK: &str = "start_response('200 OK', [])\n";
const TEN: &str = "start_response('200 OK', [('Content-Length', '10')])\n";

/// Runs an application that has called start_response.
fn after(start: &str, rest: &str) -> Reply {
    code(&format!("{start}{rest}")).run()
}

fn errors(reply: &Reply) -> Vec<String> {
    reply.log().into_iter().filter(|(level, _)| *level == Level::Error).map(|(_, record)| record).collect()
}

#[test]
fn a_list_travels_as_one_message() {
    let reply = code("start_response('200 OK', [('X-A', '1')])\nreturn [b'Hello, ', b'', b'world!']").run();
    assert_eq!(reply.status(), "200 OK");
    assert_eq!(reply.fields(), ["X-A: 1"]);
    assert_eq!(reply.text(), "Hello, world!");
    assert_eq!(reply.messages(), [(true, 13, true)]);
    assert!(reply.is_complete());
}

#[test]
fn so_does_a_tuple_and_an_empty_list() {
    assert_eq!(after(OK, "return (b'ab', b'c')").messages(), [(true, 3, true)]);
    assert_eq!(after(OK, "return []").messages(), [(true, 0, true)]);
    assert_eq!(after(OK, "return ()").messages(), [(true, 0, true)]);
    assert_eq!(after(OK, "return iter([b'ab', b'c'])").messages(), [(true, 3, true)]);
}

#[test]
fn a_wrapper_round_a_list_travels_as_one_message_after_close() {
    let reply = after(
        OK,
        "class Response:
    def __iter__(self): return iter([b'ab', b'cd'])
    def close(self): environ['wsgi.errors'].write('closed\\n')
return Response()",
    );
    assert_eq!(reply.messages(), [(true, 4, true)]);
    assert_eq!(reply.log(), [(Level::Error, "closed".to_string())]);
}

#[test]
fn a_generator_is_sent_on_chunk_by_chunk() {
    let reply = after(OK, "return (chunk for chunk in [b'ab', b'', b'cde'])");
    assert_eq!(reply.messages(), [(true, 2, false), (false, 3, false), (false, 0, true)]);
    assert_eq!(reply.text(), "abcde");
}

#[test]
fn the_head_waits_for_the_first_chunk_that_is_not_empty() {
    let reply = code(
        "def steps():
    yield b''
    start_response('201 Made', [])
    yield b''
    yield b'x'
return steps()",
    )
    .run();
    assert_eq!(reply.messages(), [(true, 1, false), (false, 0, true)]);
    assert_eq!(reply.code(), 201);
}

#[test]
fn an_application_that_is_a_generator_calls_start_response_at_its_first_step() {
    let reply = code("start_response('200 OK', [])\nyield b'a'\nyield b'b'").run();
    assert_eq!((reply.text(), reply.is_complete()), ("ab".into(), true));
}

#[test]
fn a_generator_without_a_chunk_has_a_head_and_an_end() {
    assert_eq!(after(OK, "return (chunk for chunk in ())").messages(), [(true, 0, true)]);
    assert_eq!(after(OK, "return (chunk for chunk in (b'', b''))").messages(), [(true, 0, true)]);
}

#[test]
fn write_sends_the_head_at_once_even_when_it_writes_nothing() {
    let reply = code("write = start_response('200 OK', [])\nwrite(b'')\nwrite(b'ab')\nreturn [b'cd']").run();
    assert_eq!(reply.messages(), [(true, 0, false), (false, 2, false), (false, 2, true)]);
    assert_eq!(reply.text(), "abcd");
}

#[test]
fn write_in_a_generator_that_yields_nothing() {
    let reply = code(
        "write = start_response('200 OK', [])
def steps():
    write(b'ab')
    if False: yield
return steps()",
    )
    .run();
    assert_eq!(reply.messages(), [(true, 2, false), (false, 0, true)]);
}

#[test]
fn write_takes_bytes_only() {
    for (value, name) in [("'x'", "str"), ("bytearray(b'x')", "bytearray"), ("None", "NoneType"), ("3", "int")] {
        let reply = code(&format!("start_response('200 OK', [])({value})\nreturn []")).run();
        let record = &reply.failure().record;
        assert!(record.contains(&format!("TypeError: write() takes bytes, not {name}")), "{record}");
    }
    let reply = code("start_response('200 OK', [])()\nreturn []").run();
    assert!(reply.failure().record.contains("write() takes exactly one argument (0 given)"));
}

#[test]
fn write_after_the_call_is_an_error() {
    let reply = code("kept['write'] = start_response('200 OK', [])\nreturn [b'a']").run();
    assert!(reply.is_complete());
    let reply = after(OK, "kept['write'](b'late')\nreturn []");
    let record = &reply.failure().record;
    assert!(record.contains("RuntimeError: write() was called after the call had ended"), "{record}");
}

#[test]
fn chunks_must_be_bytes() {
    let sorts = [
        ("'text'", "str"),
        ("bytearray(b'x')", "bytearray"),
        ("memoryview(b'x')", "memoryview"),
        ("None", "NoneType"),
        ("7", "int"),
    ];
    for (value, name) in sorts {
        for shape in ["[CHUNK]", "(b'', CHUNK)", "(each for each in [CHUNK])", "iter([CHUNK])"] {
            let reply = after(OK, &format!("return {}", shape.replace("CHUNK", value)));
            assert_eq!(reply.failure().status, 500);
            let expected = format!("application \"code\": it gave a chunk of type {name}; only bytes may be sent");
            assert_eq!(reply.failure().record, expected);
            assert!(!reply.has_head());
        }
    }
    assert_eq!(after(OK, "class Sub(bytes): pass\nreturn [Sub(b'ab')]").text(), "ab");
}

#[test]
fn a_result_must_be_iterable() {
    for (value, name) in [("None", "NoneType"), ("42", "int"), ("object()", "object")] {
        let record = &after(OK, &format!("return {value}")).failure().record.clone();
        assert_eq!(record, &format!("application \"code\": it returned {name}, which is not iterable"));
    }
    let record = &after(OK, "return 'text'").failure().record.clone();
    assert!(record.contains("chunk of type str"), "{record}");
    let record = &after(OK, "return b'bytes'").failure().record.clone();
    assert!(record.contains("chunk of type int"), "{record}");
}

#[test]
fn old_sequence_protocol_iterates() {
    let reply = after(
        OK,
        "class Old:
    def __getitem__(self, index):
        if index == 2: raise IndexError
        return b'ab'
return Old()",
    );
    assert_eq!(reply.text(), "abab");
}

#[test]
fn no_start_response_is_a_failure() {
    for result in ["[]", "[b'x']", "(each for each in [])", "iter([])"] {
        let reply = code(&format!("return {result}")).run();
        let record = &reply.failure().record;
        assert!(record.contains("without calling start_response"), "{record}");
    }
    let record = &code("return (each for each in [b'x'])").run().failure().record.clone();
    assert!(record.contains("it gave a chunk before it called start_response"), "{record}");
}

#[test]
fn an_exception_in_the_call() {
    let reply = code("raise LookupError('gone fishing')").run();
    let failure = reply.failure();
    assert_eq!((failure.status, failure.level), (500, Level::Error));
    let record = &failure.record;
    assert!(record.starts_with("application \"code\": exception in the call\nTraceback (most recent call"), "{record}");
    assert!(record.ends_with("LookupError: gone fishing"), "{record}");
    assert!(record.contains("File \"<test>\", line 2, in application"), "{record}");
}

#[test]
fn causes_are_told() {
    let reply =
        code("try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('outer') from error").run();
    let record = &reply.failure().record;
    assert!(record.contains("ZeroDivisionError") && record.contains("direct cause"), "{record}");
}

#[test]
fn an_exception_after_start_response_but_before_the_head() {
    let reply = after(OK, "raise ValueError('late')");
    assert_eq!((reply.failure().status, reply.has_head()), (500, false));
}

#[test]
fn an_exception_in_a_step_truncates() {
    let reply = code("start_response('200 OK', [])\nyield b'ab'\nraise ValueError('in the middle')").run();
    assert!(reply.has_head());
    let record = &reply.failure().record;
    assert!(record.starts_with("application \"code\": exception in a step of its response\n"), "{record}");
    assert!(record.ends_with("ValueError: in the middle"));
    assert_eq!(reply.text(), "ab");
}

#[test]
fn an_exception_in_iter() {
    let reply = after(OK, "class Bad:\n    def __iter__(self): raise TypeError('no way')\nreturn Bad()");
    assert!(reply.failure().record.ends_with("TypeError: no way"), "{}", reply.failure().record);
}

#[test]
fn every_base_exception_is_caught_everywhere() {
    for raise in ["raise SystemExit(3)", "raise KeyboardInterrupt", "raise GeneratorExit", "raise BaseException('x')"] {
        assert_eq!(code(raise).run().failure().status, 500);
        let step = format!("start_response('200 OK', [])\nyield b'a'\n{raise}");
        assert!(code(&step).run().failure().record.contains("in a step"));
        let close = format!(
            "class Closing:
    def __iter__(self): return iter([b'a'])
    def close(self): {raise}
start_response('200 OK', [])
return Closing()"
        );
        let reply = code(&close).run();
        assert!(reply.failure().record.contains("exception in close()"));
        assert!(!reply.has_head());
    }
    let record = &code("import sys; sys.exit('bye')").run().failure().record.clone();
    assert!(record.ends_with("SystemExit: bye"), "{record}");
}

#[test]
fn exceptions_that_cannot_be_shown() {
    let record = &code(
        "class Mean(Exception):
    def __str__(self): raise ValueError('no text')
raise Mean()",
    )
    .run()
    .failure()
    .record
    .clone();
    assert!(record.contains("Mean"), "{record}");
    let record = &code(
        "class Meaner(Exception):
    @property
    def __cause__(self): raise SystemExit
    @property
    def __suppress_context__(self): raise SystemExit
raise Meaner()",
    )
    .run()
    .failure()
    .record
    .clone();
    assert!(record.contains("Meaner"), "{record}");
}

#[test]
fn a_traceback_without_end_is_shortened() {
    let record = &code("def one(): return two()\ndef two(): return one()\nraise ValueError('x' * 100000)").run();
    let record = &record.failure().record;
    assert!(record.len() < 70_000 && record.contains("lines left out ..."), "{} bytes", record.len());
    assert!(record.contains("ValueError: xxx") && record.ends_with("xxx"));
    let record = &code("def one(): return two()\ndef two(): return one()\nreturn one()").run().failure().record.clone();
    assert!(record.len() < 70_000 && record.starts_with("application \"code\": exception in the call\nTraceback"));
    assert!(record.contains("RecursionError: "), "{}", record.len());
}

#[test]
fn recursion_is_an_exception_like_others() {
    let record = &code("def deeper(): return deeper()\nreturn deeper()").run().failure().record.clone();
    assert!(record.contains("RecursionError: maximum recursion depth exceeded"), "{record}");
}

#[test]
fn close_is_called_once_whatever_happens() {
    let result = "class Result:
    def __init__(self, *steps): self.steps = iter(steps)
    def __iter__(self): return self
    def __next__(self):
        step = next(self.steps)
        if isinstance(step, Exception): raise step
        return step
    def close(self): environ['wsgi.errors'].write('closed\\n')
";
    for (start, steps) in
        [(OK, ""), (OK, "b'a', b'b'"), (OK, "b'a', ValueError()"), (OK, "'text'"), ("", "b'x'"), (TEN, "b'0123456789'")]
    {
        let reply = after(start, &format!("{result}return Result({steps})"));
        assert_eq!(errors(&reply).iter().filter(|record| *record == "closed").count(), 1, "{start} {steps}");
    }
    let reply = after(OK, &format!("{result}class Bad(Result):\n    def __iter__(self): 1 / 0\nreturn Bad()"));
    assert_eq!(errors(&reply), ["closed"]);
}

#[test]
fn an_exception_in_close_after_a_stream_truncates_it() {
    let reply = after(
        OK,
        "class Result:
    def __iter__(self): yield b'ab'
    def close(self): raise ValueError('in close')
return Result()",
    );
    assert_eq!(reply.messages(), [(true, 2, false), (false, 0, true)]);
    assert!(reply.failure().record.ends_with("ValueError: in close"));
}

#[test]
fn an_exception_in_close_after_one_in_a_step_is_told_too() {
    let reply = after(
        OK,
        "class Result:
    def __iter__(self):
        raise ValueError('first')
        yield
    def close(self): raise ValueError('second')
return Result()",
    );
    assert!(reply.failure().record.ends_with("ValueError: first"));
    assert!(errors(&reply)[0].ends_with("ValueError: second"));
}

#[test]
fn a_close_that_is_no_method() {
    let reply = after(OK, "class Result(list):\n    close = None\nreturn Result([b'a'])");
    assert!(reply.failure().record.contains("TypeError: 'NoneType' object is not callable"));
}

#[test]
fn a_list_that_grows_while_it_is_sent_cannot_be() {
    // A subclass is iterated by its own rules.
    let reply = after(OK, "class Mine(list):\n    def __iter__(self): yield b'mine'\nreturn Mine([b'theirs'])");
    assert_eq!(reply.text(), "mine");
}

#[test]
fn nothing_of_a_call_is_logged_elsewhere() {
    let reply = after(OK, "environ['wsgi.errors'].write('only here\\n')\nreturn [b'']");
    assert_eq!(errors(&reply), ["only here"]);
    assert!(records(0).iter().all(|(_, record)| record != "only here"));
}

#[test]
fn the_iterator_may_be_another_object_than_the_result() {
    let reply = after(
        OK,
        "class Result:
    def __iter__(self):
        self.passed = True
        yield b'a'
    def close(self):
        assert self.passed
        environ['wsgi.errors'].write('closed\\n')
return Result()",
    );
    assert_eq!((reply.text(), errors(&reply)), ("a".into(), vec!["closed".to_string()]));
}

#[test]
fn a_generator_is_closed_when_it_fails_elsewhere() {
    let reply = code(
        "def steps():
    try:
        yield 'text'
    finally:
        environ['wsgi.errors'].write('finally\\n')
start_response('200 OK', [])
return steps()",
    )
    .with(names::SERVER_NAME, "x")
    .run();
    assert!(reply.failure().record.contains("chunk of type str"));
    assert_eq!(errors(&reply), ["finally"]);
}
