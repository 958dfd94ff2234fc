//! `wsgi.input`: a file-like object on the request body, be it buffered by nginx or still on its way.
//!
//! It holds the exchange, not the request, so it may outlive the call and be read from any thread.

use std::cmp;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::class::{Attribute, Behaviour, Class, Method};
use super::cursor::{Cursor, READ_AHEAD};
use super::deferred_decref::{Blank, DeferredDecref};
use super::fork;
use super::object::{Attached, Kind, Object, Raised, Result};
use super::shim::{Call, attribute, method, next};
use crate::exchange::Exchange;
use crate::exchange::inbox::Taken;
use crate::exchange::piece::{Piece, Room};

/// The value in a `wsgi.input`.
pub(super) struct Input {
    exchange: Arc<Exchange>,
    /// A thread that holds the lock may wait for a disk or a client. So attached threads only try to lock it, unless
    /// the whole body is in memory.
    cursor: Mutex<Cursor>,
    /// Releases lent memory that nobody reads any more, if the body streams.
    deferred: Option<Arc<DeferredDecref>>,
}

/// Size of the smallest reads of a stream for which memory is lent, in bytes.
const LENT_FROM: usize = 32 * 1024;

impl Input {
    pub(super) fn new(exchange: Arc<Exchange>, deferred: &Arc<DeferredDecref>) -> Self {
        let deferred = exchange.is_streamed().then(|| Arc::clone(deferred));
        Self { exchange, cursor: Mutex::default(), deferred }
    }

    fn cursor(&self) -> MutexGuard<'_, Cursor> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the whole body if it is in memory in one piece.
    fn in_memory(&self) -> Option<&[u8]> {
        if self.exchange.is_streamed() { None } else { self.exchange.request.body.in_memory() }
    }

    /// Runs `work` on the cursor, detached if it may have to wait.
    fn waiting<'py, R: Send>(
        &self,
        py: Attached<'py>,
        work: impl FnOnce(&mut Cursor, &Arc<Exchange>) -> io::Result<R> + Send,
    ) -> Result<'py, R> {
        let run = || work(&mut self.cursor(), &self.exchange);
        let result = if self.in_memory().is_some() { run() } else { py.detach(run) };
        result.map_err(|error| Raised::from_io(py, &error))
    }

    fn read<'py>(&self, py: Attached<'py>, limit: Option<usize>, once: bool) -> Result<'py, Object<'py>> {
        if let Some(all) = self.in_memory() {
            let taken = {
                let mut cursor = self.cursor();
                let rest = all.get(cmp::min(cursor.position, all.len() as u64) as usize..).unwrap_or_default();
                let taken = &rest[..cmp::min(rest.len(), limit.unwrap_or(usize::MAX))];
                cursor.position += taken.len() as u64;
                taken
            };
            return py.bytes(taken);
        }
        if let (Some(limit), Ok(mut cursor)) = (limit, self.cursor.try_lock()) {
            if let Some(bytes) = cursor.bytes_at_hand(limit) {
                return py.bytes(bytes);
            }
        }
        let Some(limit) = limit.or_else(|| self.most()) else {
            let all = self.waiting(py, Cursor::read_all)?;
            return py.bytes(&all);
        };
        // A read of a GiB of a stream may return a few bytes, so not all of the memory is reserved.
        if self.exchange.is_streamed() && limit > 1 << 20 {
            let some = self.waiting(py, |cursor, exchange| cursor.read_up_to(exchange, limit, once))?;
            return py.bytes(&some);
        }
        if let Some(bytes) = self.read_lent(py, limit, once)? {
            return Ok(bytes);
        }
        let length = cmp::min(limit, self.most().unwrap_or(limit));
        py.bytes_from(length, |room| self.cursor().read(&self.exchange, room, once))
    }

    /// Reads from a stream what was received into memory that an earlier read lent, if any. Lends memory for later
    /// reads.
    fn read_lent<'py>(&self, py: Attached<'py>, length: usize, once: bool) -> Result<'py, Option<Object<'py>>> {
        let Some(deferred) = self.deferred.as_ref().filter(|_| length >= LENT_FROM && !fork::is_child()) else {
            return Ok(None);
        };
        let take = || {
            let mut cursor = self.cursor.try_lock().ok()?;
            Some((cursor.take_lent(&self.exchange, length, once), cursor.position))
        };
        let Some((mut taken, position)) = take() else { return Ok(None) };
        let blank = || Some(Box::new(Blank::new(py, length, deferred).ok()?) as Box<dyn Room>);
        self.exchange.lend_streamed(length, position, blank);
        if let Taken::Pending = taken {
            let wanted = if once { 1 } else { length };
            self.waiting(py, |_, exchange| {
                exchange.wait_streamed(wanted);
                Ok(())
            })?;
            taken = take().map_or(Taken::Other, |(taken, _)| taken);
        }
        match taken {
            Taken::Whole(piece) => bytes_of(py, piece).map(Some),
            _ => Ok(None),
        }
    }

    /// Upper bound of the body's length, if it is known.
    fn most(&self) -> Option<usize> {
        (!self.exchange.is_streamed()).then(|| self.exchange.request.body.length() as usize)
    }

    fn read_line<'py>(&self, py: Attached<'py>, limit: Option<usize>) -> Result<'py, Object<'py>> {
        let limit = limit.unwrap_or(usize::MAX);
        if let Some(all) = self.in_memory() {
            let taken = {
                let mut cursor = self.cursor();
                let rest = all.get(cmp::min(cursor.position, all.len() as u64) as usize..).unwrap_or_default();
                let rest = &rest[..cmp::min(rest.len(), limit)];
                let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
                cursor.position += end as u64;
                &rest[..end]
            };
            return py.bytes(taken);
        }
        if let Ok(mut cursor) = self.cursor.try_lock() {
            if let Some(line) = cursor.line_at_hand(limit) {
                return py.bytes(line);
            }
        }
        let line = self.waiting(py, |cursor, exchange| cursor.read_line(exchange, limit))?;
        py.bytes(&line)
    }

    fn next_line<'py>(py: Attached<'py>, this: &Self) -> Result<'py, Option<Object<'py>>> {
        let line = this.read_line(py, None)?;
        Ok((line.as_bytes() != Some(b"")).then_some(line))
    }
}

/// Returns a piece of a body as a bytes object: the object that it was received into, if that is full.
fn bytes_of<'py>(py: Attached<'py>, piece: Piece) -> Result<'py, Object<'py>> {
    if piece.len() < piece.room() {
        return py.bytes(piece.bytes());
    }
    let room = piece.into_memory().err().and_then(|room| room.into_any().downcast::<Blank>().ok());
    // SAFETY: the piece fills its memory, which is the object's contents.
    let bytes = room.and_then(|blank| unsafe { blank.written(py) });
    bytes.ok_or_else(|| Raised::new(py, Kind::Runtime, "the body is in memory that was not lent for it"))
}

/// Parses a size as `io` does: absent, `None` and negative mean no limit.
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
    call.this.read(call.py, limit, false)
}

/// As `read`, but returns what is available.
fn read1<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    let limit = size(call.py, call.optional("read1")?)?;
    call.this.read(call.py, Some(limit.unwrap_or(READ_AHEAD)), true)
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
        lines.try_reserve(1).map_err(|_| Raised::from_io(call.py, &ErrorKind::OutOfMemory.into()))?;
        lines.push(line);
    }
    call.py.list(lines)
}

fn readinto<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    fill(call, false)
}

fn readinto1<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    fill(call, true)
}

fn fill<'py>(call: &This<'_, 'py>, once: bool) -> Result<'py, Object<'py>> {
    let (py, input) = (call.py, call.this);
    let buffer = call.only("readinto")?;
    let count = buffer.fill_buffer(once, |room| input.cursor().read(&input.exchange, room, once))?;
    py.int(count as u64)
}

/// Parses an optional argument that must be an integer.
fn integer<'py>(call: &This<'_, 'py>, index: usize) -> Result<'py, Option<isize>> {
    let Some(argument) = call.arguments.get(index) else { return Ok(None) };
    match argument.to_index()? {
        None => Err(Raised::new(call.py, Kind::Type, "an integer is required")),
        value => Ok(value),
    }
}

fn seek<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    let (py, input) = (call.py, call.this);
    let (offset, whence) = (integer(call, 0)?, integer(call, 1)?.unwrap_or(0));
    let Some(offset) = offset.filter(|_| call.arguments.len() <= 2) else {
        return Err(Raised::new(py, Kind::Type, "seek() takes 1 or 2 arguments"));
    };
    if input.exchange.is_streamed() {
        return Err(Raised::new(py, Kind::Os, "the request body streams: it cannot be sought in"));
    }
    if !(0..=2).contains(&whence) {
        return Err(Raised::new(py, Kind::Value, &format!("invalid whence ({whence}, should be 0, 1 or 2)")));
    }
    let position = input.waiting(py, |cursor, exchange| {
        let base = [0, cursor.position, exchange.request.body.length()][whence as usize];
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
    let position = call.this.waiting(call.py, |cursor, _| Ok(cursor.position))?;
    call.py.int(position)
}

fn seekable<'py>(call: &This<'_, 'py>) -> Result<'py, Object<'py>> {
    call.nothing("seekable")?;
    Ok(call.py.bool(!call.this.exchange.is_streamed()))
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
            #[cfg(test)]
            method!(Input, c"_panic", |_| panic!("as the test wants it"), c"Panic."),
            method!(Input, c"read", read, c"Read up to so many bytes, or all that is left."),
            method!(Input, c"read1", read1, c"Read up to so many bytes, without waiting for all of them."),
            method!(Input, c"readline", readline, c"Read a line, or up to so many bytes of it."),
            method!(Input, c"readlines", readlines, c"Read lines until there are so many bytes of them, or all."),
            method!(Input, c"readinto", readinto, c"Fill a buffer; return the number of bytes read."),
            method!(Input, c"readinto1", readinto1, c"Fill a buffer; return the number of bytes read."),
            method!(Input, c"seek", seek, c"Go to a position."),
            method!(Input, c"tell", tell, c"Return the position."),
            method!(Input, c"readable", yes, c"True."),
            method!(Input, c"seekable", seekable, c"Whether seek() works: not in a body that streams."),
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
