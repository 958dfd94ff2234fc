//! `wsgi.input`: a file-like object on the buffered request body.
//!
//! It holds the exchange, not the request, so it may outlive the call and be read from any thread.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::class::{Attribute, Behaviour, Call, Class, Method, attribute, method, next};
use super::object::{Attached, Kind, Object, Raised, Result};
use crate::exchange::Exchange;
use crate::exchange::body::Body;

/// How much of a file is read ahead for small reads and lines.
const READ_AHEAD: usize = 16 * 1024;

/// A place in a body, with what has been read ahead of it.
#[derive(Default)]
struct Cursor {
    position: u64,
    ahead: Vec<u8>,
    /// Where `ahead` begins in the body.
    ahead_start: u64,
}

impl Cursor {
    /// Some bytes from the position on; none at the end only.
    fn chunk<'a>(&'a mut self, body: &'a Body) -> io::Result<&'a [u8]> {
        if let Some(all) = body.in_memory() {
            return Ok(usize::try_from(self.position).ok().and_then(|start| all.get(start..)).unwrap_or_default());
        }
        let from_ahead = self.position.checked_sub(self.ahead_start).filter(|&skip| skip < self.ahead.len() as u64);
        let skip = match from_ahead {
            Some(skip) => skip as usize,
            None => {
                self.ahead.resize(READ_AHEAD, 0);
                let count = body.read_at(&mut self.ahead, self.position);
                self.ahead.truncate(*count.as_ref().unwrap_or(&0));
                self.ahead_start = self.position;
                count?;
                0
            }
        };
        Ok(&self.ahead[skip..])
    }

    /// Fills `target`, or as much of it as the body has.
    fn read(&mut self, body: &Body, target: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < target.len() {
            let rest = &mut target[done..];
            let count = if rest.len() >= READ_AHEAD && body.in_memory().is_none() {
                body.read_at(rest, self.position)?
            } else {
                let chunk = self.chunk(body)?;
                let count = chunk.len().min(rest.len());
                rest[..count].copy_from_slice(&chunk[..count]);
                count
            };
            if count == 0 {
                break;
            }
            self.position += count as u64;
            done += count;
        }
        Ok(done)
    }

    /// Appends a line with its end, or at most `limit` bytes of it, to `line`.
    fn read_line(&mut self, body: &Body, limit: usize, line: &mut Vec<u8>) -> io::Result<()> {
        while line.len() < limit {
            let chunk = self.chunk(body)?;
            let chunk = &chunk[..chunk.len().min(limit - line.len())];
            if chunk.is_empty() {
                break;
            }
            let end = chunk.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            let taken = end.unwrap_or(chunk.len());
            line.extend_from_slice(&chunk[..taken]);
            self.position += taken as u64;
            if end.is_some() {
                break;
            }
        }
        Ok(())
    }
}

/// The value in a `wsgi.input`.
pub(super) struct Input {
    exchange: Arc<Exchange>,
    cursor: Mutex<Cursor>,
}

impl Input {
    pub(super) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange, cursor: Mutex::default() }
    }

    fn body(&self) -> &Body {
        self.exchange.request.body()
    }

    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on the cursor: without the interpreter when that may mean to wait for a disk.
    fn with_cursor<'py, R: Send>(
        &self,
        py: Attached<'py>,
        work: impl FnOnce(&mut Cursor, &Body) -> io::Result<R> + Send,
    ) -> Result<'py, R> {
        let run = || work(&mut self.cursor(), self.body());
        let result = if self.body().in_memory().is_some() { run() } else { py.detach(run) };
        result.map_err(|error| Raised::from_io(py, &error))
    }

    fn remaining(&self) -> usize {
        usize::try_from(self.body().length().saturating_sub(self.cursor().position)).unwrap_or(usize::MAX)
    }

    fn read<'py>(&self, py: Attached<'py>, limit: Option<usize>) -> Result<'py, Object<'py>> {
        let Some(all) = self.body().in_memory() else {
            let length = py.detach(|| self.remaining()).min(limit.unwrap_or(usize::MAX));
            return py.bytes_from(length, |room| self.cursor().read(self.body(), room));
        };
        let taken = {
            let mut cursor = self.cursor();
            let start = usize::try_from(cursor.position).unwrap_or(usize::MAX).min(all.len());
            let end = start + limit.unwrap_or(usize::MAX).min(all.len() - start);
            cursor.position = cursor.position.max(end as u64);
            &all[start..end]
        };
        py.bytes(taken)
    }

    fn read_line<'py>(&self, py: Attached<'py>, limit: Option<usize>) -> Result<'py, Object<'py>> {
        let limit = limit.unwrap_or(usize::MAX);
        let line = self.with_cursor(py, |cursor, body| {
            let mut line = Vec::new();
            cursor.read_line(body, limit, &mut line).map(|()| line)
        })?;
        py.bytes(&line)
    }

    fn next_line<'py>(py: Attached<'py>, this: &Self) -> Result<'py, Option<Object<'py>>> {
        let line = this.read_line(py, None)?;
        Ok((line.as_bytes() != Some(b"")).then_some(line))
    }
}

/// A size as `io` takes it: absent, `None` and below 0 mean no limit.
fn size<'py>(py: Attached<'py>, argument: Option<&Object<'py>>) -> Result<'py, Option<usize>> {
    let Some(argument) = argument.filter(|argument| !argument.is_none()) else { return Ok(None) };
    match argument.to_index()? {
        Some(size) => Ok(usize::try_from(size).ok()),
        None => {
            let message = format!("argument should be integer or None, not '{}'", argument.type_name());
            Err(Raised::new(py, Kind::Type, &message))
        }
    }
}

type This<'a, 'py> = Call<'a, 'py, Input>;

fn read<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    let limit = size(call.py, call.optional("read")?)?;
    call.this.read(call.py, limit)
}

fn readline<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    let limit = size(call.py, call.optional("readline")?)?;
    call.this.read_line(call.py, limit)
}

fn readlines<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    // As for every file: the hint stops after the line that reaches it, and 0 is no hint.
    let hint = size(call.py, call.optional("readlines")?)?.filter(|&hint| hint > 0);
    let (mut lines, mut total) = (Vec::new(), 0);
    while hint.is_none_or(|hint| total < hint) {
        let Some(line) = Input::next_line(call.py, call.this)? else { break };
        total += line.as_bytes().map_or(0, <[u8]>::len);
        lines.push(line);
    }
    call.py.list(lines)
}

fn readinto<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    let (py, input) = (call.py, call.this);
    let buffer = call.only("readinto")?;
    match buffer.fill_buffer(|room| input.cursor().read(input.body(), room))? {
        Ok(count) => py.int(count as u64),
        Err(error) => Err(Raised::from_io(py, &error)),
    }
}

fn seek<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    let (py, input) = (call.py, call.this);
    let integer = |index: usize| match call.arguments.get(index).map(|argument| argument.to_index()).transpose()? {
        Some(None) => Err(Raised::new(py, Kind::Type, "an integer is required")),
        Some(value) => Ok(value),
        None => Ok(None),
    };
    let (offset, whence) = (integer(0)?, integer(1)?.unwrap_or(0));
    let Some(offset) = offset.filter(|_| call.arguments.len() <= 2) else {
        return Err(Raised::new(py, Kind::Type, "seek() takes 1 or 2 arguments"));
    };
    if !(0..=2).contains(&whence) {
        return Err(Raised::new(py, Kind::Value, &format!("invalid whence ({whence}, should be 0, 1 or 2)")));
    }
    let position = input.with_cursor(py, |cursor, body| {
        let base = [0, cursor.position, body.length()][whence as usize];
        let position = base.checked_add_signed(offset as i64);
        cursor.position = position.unwrap_or(cursor.position);
        Ok(position)
    })?;
    match position {
        Some(position) => py.int(position),
        None => Err(Raised::new(py, Kind::Value, &format!("negative seek value {offset}"))),
    }
}

fn tell<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    call.nothing("tell")?;
    let position = call.this.with_cursor(call.py, |cursor, _| Ok(cursor.position))?;
    call.py.int(position)
}

fn yes<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    call.nothing("this method")?;
    Ok(call.py.bool(true))
}

fn no<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    call.nothing("this method")?;
    Ok(call.py.bool(false))
}

fn nothing<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    call.nothing("this method")?;
    Ok(call.py.none())
}

impl Class for Input {
    const NAME: &'static std::ffi::CStr = c"ngx_wsgi.Input";
    const DOC: &'static std::ffi::CStr = c"The request body.";

    fn methods() -> Vec<Method> {
        vec![
            method!(Input, c"read", read, c"Read up to so many bytes, or all that is left."),
            method!(Input, c"read1", read, c"Read up to so many bytes, or all that is left."),
            method!(Input, c"readline", readline, c"Read a line, or up to so many bytes of it."),
            method!(Input, c"readlines", readlines, c"Read lines until there are so many bytes of them, or all."),
            method!(Input, c"readinto", readinto, c"Fill a buffer; return the number of bytes read."),
            method!(Input, c"readinto1", readinto, c"Fill a buffer; return the number of bytes read."),
            method!(Input, c"seek", seek, c"Go to a position."),
            method!(Input, c"tell", tell, c"Return the position."),
            method!(Input, c"readable", yes, c"True."),
            method!(Input, c"seekable", yes, c"True."),
            method!(Input, c"writable", no, c"False."),
            method!(Input, c"isatty", no, c"False."),
            method!(Input, c"flush", nothing, c"Do nothing."),
            method!(Input, c"close", nothing, c"Do nothing: the server closes the body."),
        ]
    }

    fn attributes() -> Vec<Attribute> {
        vec![attribute!(Input, c"closed", |py, _: &Input| Ok(Some(py.bool(false))), c"False.")]
    }

    fn behaviour() -> Behaviour {
        Behaviour { next: Some(next!(Input, Input::next_line)), ..Behaviour::default() }
    }
}
