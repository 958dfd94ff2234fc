//! The request body as nginx buffered it: pieces in memory and ranges of a temporary file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::{cmp, io};

/// One piece of a buffered body.
#[derive(Debug)]
pub enum Segment {
    /// A piece that nginx kept in memory, copied.
    Memory(Vec<u8>),
    /// A range of a file; the descriptor is the module's own duplicate.
    File {
        /// The file.
        file: File,
        /// Where the range begins, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        length: u64,
    },
}

impl Segment {
    fn length(&self) -> u64 {
        match self {
            Segment::Memory(bytes) => bytes.len() as u64,
            Segment::File { length, .. } => *length,
        }
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Segment::Memory(bytes) => {
                let rest = &bytes[at as usize..];
                let count = cmp::min(rest.len(), buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
            Segment::File { file, offset, length } => {
                let count = cmp::min(length - at, buffer.len() as u64) as usize;
                match file.read_at(&mut buffer[..count], offset + at)? {
                    0 if count > 0 => Err(io::ErrorKind::UnexpectedEof.into()),
                    read => Ok(read),
                }
            }
        }
    }
}

/// A buffered request body.
#[derive(Debug, Default)]
pub struct Body {
    segments: Vec<Segment>,
    length: u64,
}

impl Body {
    /// Appends a piece.
    pub fn push(&mut self, segment: Segment) {
        self.length += segment.length();
        self.segments.push(segment);
    }

    /// The body's length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The whole body, if it is one piece in memory (or empty).
    pub fn in_memory(&self) -> Option<&[u8]> {
        match self.segments.as_slice() {
            [] => Some(&[]),
            [Segment::Memory(bytes)] => Some(bytes),
            _ => None,
        }
    }

    /// Reads up to `buffer.len()` bytes from byte `position`; 0 at the body's end only.
    ///
    /// A file is read with `pread`, which may block: call it without the GIL.
    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut start = 0;
        for segment in &self.segments {
            let end = start + segment.length();
            if position < end {
                return segment.read_at(buffer, position - start);
            }
            start = end;
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file_with(bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("wsgi-body-{}-{}", std::process::id(), bytes.len()));
        let mut file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn read_all(body: &Body, step: usize) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; step]);
        loop {
            match body.read_at(&mut buffer, all.len() as u64).unwrap() {
                0 => return all,
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    }

    #[test]
    fn reads_across_memory_and_file() {
        let mut body = Body::default();
        body.push(Segment::Memory(b"abc".to_vec()));
        body.push(Segment::File { file: file_with(b"--defgh--"), offset: 2, length: 5 });
        body.push(Segment::Memory(b"ij".to_vec()));
        assert_eq!(body.length(), 10);
        assert!(body.in_memory().is_none());
        for step in 1..12 {
            assert_eq!(read_all(&body, step), b"abcdefghij");
        }
        assert_eq!(body.read_at(&mut [0; 4], 99).unwrap(), 0);
    }

    #[test]
    fn a_file_that_was_cut_short_is_an_error() {
        let mut body = Body::default();
        body.push(Segment::File { file: file_with(b"ab"), offset: 0, length: 9 });
        assert_eq!(body.read_at(&mut [0; 4], 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn empty() {
        assert_eq!(Body::default().in_memory(), Some(&[][..]));
        assert_eq!(Body::default().read_at(&mut [0; 4], 0).unwrap(), 0);
    }
}
