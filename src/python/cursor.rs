//! A place in a request body, be it buffered by nginx or still on its way. Nothing of Python's is in here.

use std::cmp;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::fork;
use super::object::CLIENT_GONE;
use crate::exchange::Exchange;
use crate::exchange::inbox::{Broken, Read, Taken};

/// How much is read ahead for small reads and lines, in bytes.
pub(super) const READ_AHEAD: usize = 16 * 1024;

/// Reads some bytes of the body, waiting for a disk or a client (until there are `wanted` bytes, roughly) if need be; 0: its end.
fn read_some(exchange: &Arc<Exchange>, buffer: &mut [u8], position: u64, wanted: usize) -> io::Result<usize> {
    if !exchange.is_streamed() {
        return exchange.request.body.read_at(buffer, position);
    }
    // Its lock may have been the event loop's at the moment of the fork.
    if fork::is_child() {
        return Err(io::Error::new(ErrorKind::ConnectionReset, CLIENT_GONE));
    }
    loop {
        match exchange.read_streamed(buffer) {
            Ok(Read::Bytes(count)) => return Ok(count),
            Ok(Read::Pending) => exchange.wait_streamed(wanted),
            Err(Broken::ClientGone) => return Err(io::Error::new(ErrorKind::ConnectionReset, CLIENT_GONE)),
            Err(Broken::TimedOut) => return Err(io::Error::new(ErrorKind::TimedOut, "the client sends no more")),
        }
    }
}

/// Appends `count` zeros, if there is memory for them: the client decides how much is read.
fn grow(bytes: &mut Vec<u8>, count: usize) -> io::Result<()> {
    bytes.try_reserve(count).map_err(|_| ErrorKind::OutOfMemory)?;
    bytes.resize(bytes.len() + count, 0);
    Ok(())
}

/// A place in a body, with what has been read ahead of it.
#[derive(Default)]
pub(super) struct Cursor {
    /// Where the next byte comes from.
    pub(super) position: u64,
    ahead: Vec<u8>,
    /// Where `ahead` begins in the body.
    ahead_start: u64,
}

impl Cursor {
    /// Where the position is in what has been read ahead.
    fn skip(&self) -> Option<usize> {
        let skip = usize::try_from(self.position.checked_sub(self.ahead_start)?).ok()?;
        (skip <= self.ahead.len()).then_some(skip)
    }

    /// What has been read ahead of the position.
    fn at_hand(&self) -> &[u8] {
        self.skip().map_or(&[], |skip| &self.ahead[skip..])
    }

    /// Takes so many bytes of what has been read ahead.
    fn take(&mut self, length: usize) -> &[u8] {
        let start = self.skip().unwrap_or_default();
        self.position += length as u64;
        &self.ahead[start..start + length]
    }

    /// Some bytes from the position on; none at the end only.
    fn chunk(&mut self, exchange: &Arc<Exchange>) -> io::Result<&[u8]> {
        if self.at_hand().is_empty() {
            self.ahead.resize(READ_AHEAD, 0);
            self.ahead_start = self.position;
            let count = read_some(exchange, &mut self.ahead, self.position, 1);
            self.ahead.truncate(*count.as_ref().unwrap_or(&0));
            count?;
        }
        Ok(self.at_hand())
    }

    /// Fills `target`, or as much of it as the body has; with `once`, as much as there is without waiting for more.
    pub(super) fn read(&mut self, exchange: &Arc<Exchange>, target: &mut [u8], once: bool) -> io::Result<usize> {
        let mut done = 0;
        while done < target.len() && (done == 0 || !once) {
            let rest = &mut target[done..];
            let count = if rest.len() >= READ_AHEAD && self.at_hand().is_empty() {
                let wanted = if once { 1 } else { rest.len() };
                read_some(exchange, rest, self.position, wanted)?
            } else {
                let chunk = self.chunk(exchange)?;
                let count = cmp::min(chunk.len(), rest.len());
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

    /// Takes the next `length` bytes of a streamed body in memory that was lent for them.
    pub(super) fn take_lent(&mut self, exchange: &Arc<Exchange>, length: usize, once: bool) -> Taken {
        let taken = if self.at_hand().is_empty() { exchange.take_streamed(length, once) } else { Taken::Other };
        if let Taken::Whole(piece) = &taken {
            self.position += piece.len() as u64;
        }
        taken
    }

    /// Everything that is left.
    pub(super) fn read_all(&mut self, exchange: &Arc<Exchange>) -> io::Result<Vec<u8>> {
        let (mut all, mut step) = (Vec::new(), READ_AHEAD);
        loop {
            let start = all.len();
            grow(&mut all, step)?;
            let count = self.read(exchange, &mut all[start..], false)?;
            all.truncate(start + count);
            if count < step {
                return Ok(all);
            }
            step = cmp::min(step * 2, 1 << 20);
        }
    }

    /// The next line if it, or `limit` bytes of it, is at hand.
    pub(super) fn line_at_hand(&mut self, limit: usize) -> Option<&[u8]> {
        let ahead = self.at_hand();
        let ahead = &ahead[..cmp::min(ahead.len(), limit)];
        match ahead.iter().position(|&byte| byte == b'\n') {
            Some(at) => Some(self.take(at + 1)),
            None if ahead.len() == limit && limit > 0 => Some(self.take(limit)),
            None => None,
        }
    }

    /// The next `length` bytes if they are at hand.
    pub(super) fn bytes_at_hand(&mut self, length: usize) -> Option<&[u8]> {
        (length > 0 && self.at_hand().len() >= length).then(|| self.take(length))
    }

    /// A line with its end, or at most `limit` bytes of it.
    pub(super) fn read_line(&mut self, exchange: &Arc<Exchange>, limit: usize) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        while line.len() < limit {
            let chunk = self.chunk(exchange)?;
            let chunk = &chunk[..cmp::min(chunk.len(), limit - line.len())];
            let end = chunk.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            let taken = end.unwrap_or(chunk.len());
            line.try_reserve(taken).map_err(|_| ErrorKind::OutOfMemory)?;
            line.extend_from_slice(&chunk[..taken]);
            self.position += taken as u64;
            if end.is_some() || taken == 0 {
                break;
            }
        }
        Ok(line)
    }

    /// Reads up to `limit` bytes into memory that grows with what comes.
    pub(super) fn read_up_to(&mut self, exchange: &Arc<Exchange>, limit: usize, once: bool) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < limit && (all.is_empty() || !once) {
            let start = all.len();
            let step = cmp::min(limit - start, 1 << 20);
            grow(&mut all, step)?;
            let count = self.read(exchange, &mut all[start..], once)?;
            all.truncate(start + count);
            if count < step {
                break;
            }
        }
        Ok(all)
    }
}
