//! What `start_response` is given: checked against PEP 3333 and RFC 9110, so that nothing in it can split a response.

use super::object::{Attached, Kind, NotLatin1, Object, Raised, Result};
use crate::exchange::response::{Fields, Head};

/// Fields that belong to the connection, hence to the server.
const HOP_BY_HOP: [&[u8]; 9] = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"trailers",
    b"transfer-encoding",
    b"upgrade",
];

/// A head that may be sent.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) head: Head,
    /// The value of Content-Length.
    pub(super) declared: Option<u64>,
    /// Names of hop-by-hop fields that were left out.
    pub(super) dropped: Vec<String>,
}

/// Checks the arguments of `start_response`; the fields go into `memory`.
pub(super) fn check<'py>(
    py: Attached<'py>,
    status: &Object<'py>,
    headers: &Object<'py>,
    memory: Vec<u8>,
) -> Result<'py, Start> {
    let mut start = Start { head: Head::default(), declared: None, dropped: Vec::new() };
    check_status(py, status, &mut start.head)?;
    check_fields(py, headers, memory, &mut start)?;
    Ok(start)
}

/// Checks the fields of an interim response. It has no body, hence no length.
pub(super) fn check_hints<'py>(py: Attached<'py>, headers: &Object<'py>) -> Result<'py, Fields> {
    let mut start = Start { head: Head::default(), declared: None, dropped: Vec::new() };
    check_fields(py, headers, Vec::new(), &mut start)?;
    let mut fields = Fields::default();
    let is_fit = |name: &[u8]| ![&b"content-length"[..], b"connection"].iter().any(|no| name.eq_ignore_ascii_case(no));
    start.head.fields.iter().filter(|(name, _)| is_fit(name)).for_each(|(name, value)| fields.push(name, value));
    Ok(fields)
}

fn check_fields<'py>(py: Attached<'py>, headers: &Object<'py>, memory: Vec<u8>, start: &mut Start) -> Result<'py, ()> {
    let list = headers.sequence().filter(|sequence| sequence.list).ok_or_else(|| {
        let message = format!("the headers must be a list of tuples, not {}", headers.type_name());
        Raised::new(py, Kind::Type, &message)
    })?;
    start.head.fields = Fields::with_room(memory, list.len());
    for index in 0..list.len() {
        let Some(item) = list.item(index) else { break };
        check_item(py, index, &item, start)?;
    }
    Ok(())
}

/// A str that must be latin-1; `what` names it.
fn latin1<'a, 'py>(py: Attached<'py>, text: &'a Object<'py>, what: impl Fn() -> String) -> Result<'py, &'a [u8]> {
    text.as_latin1().map_err(|problem| match problem {
        NotLatin1::NotText => Raised::new(py, Kind::Type, &format!("{} must be str, not {}", what(), text.type_name())),
        NotLatin1::Wide => Raised::new(py, Kind::Value, &format!("{} has a character beyond latin-1", what())),
    })
}

fn check_status<'py>(py: Attached<'py>, status: &Object<'py>, head: &mut Head) -> Result<'py, ()> {
    let line = latin1(py, status, || "the status".into())?;
    let refuse = |problem: &str| {
        let message = format!("the status \"{}\" {problem}", line.escape_ascii());
        Err(Raised::new(py, Kind::Value, &message))
    };
    let (code, rest) = line.split_at(line.len().min(3));
    if code.len() != 3 || !code.iter().all(u8::is_ascii_digit) || rest.first() != Some(&b' ') {
        return refuse("is not three digits, a space and a reason");
    }
    if line.iter().any(u8::is_ascii_control) {
        return refuse("has a control character");
    }
    head.status = code.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    match head.status {
        0..=99 => refuse("is below 100"),
        100..=199 => refuse("is an interim one, which a WSGI application cannot send"),
        _ => {
            head.line = line.into();
            Ok(())
        }
    }
}

fn check_item<'py>(py: Attached<'py>, index: usize, item: &Object<'py>, start: &mut Start) -> Result<'py, ()> {
    let Some([name, value]) = item.pair() else {
        let message = format!("header {index} must be a tuple (name, value), not {}", describe(item));
        return Err(Raised::new(py, Kind::Type, &message));
    };
    let name = latin1(py, &name, || format!("the name of header {index}"))?;
    if name.is_empty() || !all_are(name, IN_NAME) {
        let message = format!("\"{}\" is not the name of a header", name.escape_ascii());
        return Err(Raised::new(py, Kind::Value, &message));
    }
    let value = latin1(py, &value, || format!("the value of header {}", name.escape_ascii()))?;
    if !all_are(value, IN_VALUE) {
        let bad = value.iter().find(|&&byte| KINDS[byte as usize] & IN_VALUE == 0).copied().unwrap_or_default();
        let message = format!("the value of header {} has a control character (code {bad})", name.escape_ascii());
        return Err(Raised::new(py, Kind::Value, &message));
    }
    add(py, name, value, start)
}

fn describe(item: &Object<'_>) -> String {
    match item.sequence() {
        Some(sequence) => format!("a {} of {}", item.type_name(), sequence.len()),
        None => item.type_name(),
    }
}

fn add<'py>(py: Attached<'py>, name: &[u8], value: &[u8], start: &mut Start) -> Result<'py, ()> {
    // White space round a value means nothing in HTTP/1, and makes the response malformed in HTTP/2. Django's cookies
    // begin with some.
    let value = value.trim_ascii();
    match name.len() {
        14 if name.eq_ignore_ascii_case(b"Content-Length") => {
            let length = content_length(py, value)?;
            match start.declared.replace(length) {
                None => start.head.fields.push(name, value),
                Some(before) if before == length => {}
                Some(_) => return Err(Raised::new(py, Kind::Value, "there are two different Content-Length headers")),
            }
        }
        10 if name.eq_ignore_ascii_case(b"Connection") && value.eq_ignore_ascii_case(b"close") => {
            start.head.fields.push(name, value);
        }
        2..=19 if HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop)) => {
            start.dropped.push(name.escape_ascii().to_string());
        }
        _ => start.head.fields.push(name, value),
    }
    Ok(())
}

fn content_length<'py>(py: Attached<'py>, value: &[u8]) -> Result<'py, u64> {
    // nginx counts in signed numbers.
    let add = |sum: i64, byte: &u8| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    };
    match value.iter().try_fold(0, add) {
        Some(length) if !value.is_empty() => Ok(length as u64),
        _ => {
            let message = format!("the value of header Content-Length, \"{}\", is not a length", value.escape_ascii());
            Err(Raised::new(py, Kind::Value, &message))
        }
    }
}

/// A `tchar` of RFC 9110.
const IN_NAME: u8 = 1;
/// No control character, or a tab.
const IN_VALUE: u8 = 2;

/// Where each byte may stand.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let code = byte as u8;
        if code.is_ascii_alphanumeric() {
            kinds[byte] |= IN_NAME;
        }
        if !code.is_ascii_control() || code == b'\t' {
            kinds[byte] |= IN_VALUE;
        }
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < others.len() {
        kinds[others[index] as usize] |= IN_NAME;
        index += 1;
    }
    kinds
};

fn all_are(text: &[u8], kind: u8) -> bool {
    text.iter().fold(kind, |kind, &byte| kind & KINDS[byte as usize]) != 0
}
