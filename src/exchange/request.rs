//! The request as the application will see it: environ entries, and the body.

use std::sync::Arc;

use super::body::Body;
use super::names::{self, Name};

/// Marks an entry whose key follows in full.
const SPELT: u8 = u8::MAX;

/// Largest size of an entry beside its key and its value, in bytes.
const BESIDE: usize = 7;

/// Largest amount of memory that is kept for the next request, in bytes.
pub(super) const MOST_KEPT: usize = 16 << 10;

/// An immutable snapshot of a request, owned and independent of nginx's memory.
#[derive(Debug, Default)]
pub struct Request {
    /// Entries that many requests have in common. Compared by address.
    pub base_environ: Arc<Entries>,
    /// Entries that this request adds or overrides.
    pub own: Entries,
    /// What `wsgi.input` reads.
    pub body: Body,
}

impl Request {
    /// The value of the last entry of `name`.
    pub fn get(&self, name: Name<'_>) -> Option<&[u8]> {
        self.own.get(name).or_else(|| self.base_environ.get(name))
    }
}

/// Entries of environ in one allocation. An entry is
/// `known name: u8` or `255, key length: u16, key`, then `value length: u32, value`.
#[derive(Debug, Default)]
pub struct Entries {
    bytes: Vec<u8>,
    stable: usize,
    /// Memory ran out for an entry.
    lacks: bool,
}

impl Entries {
    /// Reserves memory for `bytes` bytes, a guess that saves reallocations.
    pub fn reserve(&mut self, bytes: usize) {
        let _ = self.bytes.try_reserve(bytes);
    }

    /// Removes the entries. Keeps up to `MOST_KEPT` bytes of their memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        (self.stable, self.lacks) = (0, false);
        self.bytes.shrink_to(MOST_KEPT);
    }

    /// Whether no entry is missing. Clients decide how large the entries are, so memory may run out.
    pub fn is_whole(&self) -> bool {
        !self.lacks
    }

    /// How much memory they have, in bytes.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds an entry whose value is the concatenation of `parts`. A later entry of the same name wins.
    ///
    /// Leaves out a name above 65,535 bytes or a value above 4 GiB, which cannot come from nginx.
    pub fn push_parts(&mut self, name: Name<'_>, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.push_start(name, length) {
            for part in parts {
                self.bytes.extend_from_slice(part);
            }
        }
    }

    /// Adds an entry.
    #[inline]
    pub fn push(&mut self, name: Name<'_>, value: &[u8]) {
        if self.push_start(name, value.len()) {
            self.bytes.extend_from_slice(value);
        }
    }

    /// Adds an entry whose value is a number in decimal.
    pub fn push_number(&mut self, name: Name<'_>, number: u64) {
        self.push(name, itoa::Buffer::new().format(number).as_bytes());
    }

    /// Adds what precedes a value, and reserves memory for the value. Returns false if it is too long or memory runs
    /// out.
    #[inline(always)] // the name is a constant, as a rule
    fn push_start(&mut self, name: Name<'_>, length: usize) -> bool {
        let key = if let Name::Other(key) = name { key.len() } else { 0 };
        if self.bytes.try_reserve(BESIDE + key + length).is_err() {
            self.lacks = true;
            return false;
        }
        let Ok(length) = u32::try_from(length) else { return false };
        let [a, b, c, d] = length.to_ne_bytes();
        match name {
            Name::Known(index) => self.bytes.extend_from_slice(&[index, a, b, c, d]),
            Name::Other(key) => {
                let Ok(key_length) = u16::try_from(key.len()) else { return false };
                self.bytes.push(SPELT);
                self.bytes.extend_from_slice(&key_length.to_ne_bytes());
                self.bytes.extend_from_slice(key);
                self.bytes.extend_from_slice(&[a, b, c, d]);
            }
        }
        true
    }

    /// Adds a request header under `name`, or else under its `HTTP_` name.
    pub fn push_header(&mut self, name: Option<Name<'_>>, lower: &[u8], parts: &[&[u8]]) {
        if let Some(name) = name {
            return self.push_parts(name, parts);
        }
        let mut key = Vec::with_capacity(5 + lower.len());
        http_name(lower, &mut key);
        self.push_parts(Name::Other(&key), parts);
    }

    /// The entries so far are such as the next request is likely to have, too ([`names::is_stable`]). None of that kind
    /// comes behind them, unless spelt out.
    pub fn end_stable(&mut self) {
        debug_assert!(self.iter().all(|(name, _)| names::is_stable(name)));
        self.stable = self.bytes.len();
    }

    /// The raw entries up to [`Self::end_stable`]. Equal bytes mean equal entries.
    pub fn stable_bytes(&self) -> &[u8] {
        &self.bytes[..self.stable]
    }

    /// The entries in the order in which they were added.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.bytes }
    }

    /// The entries up to [`Self::end_stable`], and the rest.
    pub fn parts(&self) -> [Iter<'_>; 2] {
        let (stable, rest) = self.bytes.split_at(self.stable);
        [Iter { rest: stable }, Iter { rest }]
    }

    /// The value of the last entry of `name`.
    pub fn get(&self, name: Name<'_>) -> Option<&[u8]> {
        let same = |key: Name<'_>| match (key, name) {
            (Name::Known(one), Name::Known(other)) => one == other,
            _ => key.bytes() == name.bytes(),
        };
        self.iter().filter(|&(key, _)| same(key)).last().map(|(_, value)| value)
    }
}

/// Appends the environ key of a header to `key`: in upper case, with underscores for hyphens, as CGI and nginx have it.
pub fn http_name(header: &[u8], key: &mut Vec<u8>) {
    key.extend_from_slice(b"HTTP_");
    key.extend(header.iter().map(|&byte| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }));
}

/// Iterator over [`Entries`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Name<'a>, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (&mark, rest) = self.rest.split_first()?;
        let (name, rest) = if mark == SPELT {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (key, rest) = rest.split_at_checked(u16::from_ne_bytes(*length) as usize)?;
            (Name::Other(key), rest)
        } else {
            (Name::Known(mark), rest)
        };
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
        self.rest = rest;
        Some((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_order() {
        let mut entries = Entries::default();
        entries.reserve(64);
        entries.push_header(names::of_header(b"host"), b"host", &[b"example.org"]);
        entries.end_stable();
        entries.push_parts(names::PATH_INFO, &[b"/a", b"/b"]);
        entries.push_header(None, b"x-frob", &[b""]);
        entries.push(Name::Other(b"UID_SET"), b"1");
        let all: Vec<_> = entries.iter().map(|(name, value)| (name.bytes(), value)).collect();
        let [stable, rest] = entries.parts();
        assert_eq!((stable.count(), rest.count()), (1, 3));
        let expected: Vec<(&[u8], &[u8])> =
            vec![(b"HTTP_HOST", b"example.org"), (b"PATH_INFO", b"/a/b"), (b"HTTP_X_FROB", b""), (b"UID_SET", b"1")];
        assert_eq!(all, expected);
    }

    #[test]
    fn the_last_entry_of_a_name_wins() {
        let mut entries = Entries::default();
        entries.push(names::HTTPS, b"on");
        entries.push(Name::Other(b"HTTPS"), b"off");
        assert_eq!(entries.get(names::HTTPS), Some(&b"off"[..]));
        assert_eq!(entries.get(names::AUTH_TYPE), None);
    }

    #[test]
    fn a_request_has_its_own_say() {
        let (mut base_environ, mut own) = (Entries::default(), Entries::default());
        base_environ.push(names::SERVER_NAME, b"a");
        base_environ.push(names::SERVER_PORT, b"80");
        own.push(names::SERVER_NAME, b"b");
        let request = Request { base_environ: Arc::new(base_environ), own, body: Body::default() };
        assert_eq!(request.get(names::SERVER_NAME), Some(&b"b"[..]));
        assert_eq!(request.get(names::SERVER_PORT), Some(&b"80"[..]));
    }

    #[test]
    fn a_name_that_is_too_long_is_left_out_whole() {
        let mut entries = Entries::default();
        entries.push(Name::Other(&vec![b'A'; 70_000]), b"x");
        entries.push(names::HTTPS, b"on");
        assert_eq!(entries.iter().count(), 1);
    }
}
