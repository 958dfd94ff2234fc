//! The environ dictionary of a call: a copy of a template, to which the entries of the request are added.

use super::environ_cache::{EnvironFlags, OtherKeys, Template};
use super::object::{Attached, Object, Py, Result};
use crate::exchange::names::{self, KNOWN, Name};
use crate::exchange::request::{Iter, Request};

/// Keys that environ always has. The value is empty when the request has none.
pub(super) const ALWAYS: [Name<'static>; 14] = [
    names::REQUEST_METHOD,
    names::SCRIPT_NAME,
    names::PATH_INFO,
    names::QUERY_STRING,
    names::SERVER_NAME,
    names::SERVER_PORT,
    names::SERVER_PROTOCOL,
    names::REQUEST_URI,
    names::DOCUMENT_ROOT,
    names::REMOTE_ADDR,
    names::REMOTE_PORT,
    names::SERVER_ADDR,
    names::REQUEST_SCHEME,
    names::SERVER_SOFTWARE,
];

/// The key that says whether the client's connection is TLS.
const HTTPS: &[u8] = b"HTTPS";
/// The key of the scheme, which `wsgi_param` may set, too.
const URL_SCHEME: &[u8] = b"wsgi.url_scheme";

/// The keys of environ, each created once.
pub(super) struct Keys {
    /// By index into [`KNOWN`].
    known: Vec<Py>,
    pub(super) client_disconnected: Py,
    pub(super) early_hints: Py,
    pub(super) input: Py,
    raw_uri: Py,
    url_scheme: Py,
    http: Py,
    https: Py,
}

/// The values that are the same in every call of a pool.
pub(super) struct Common<'a, 'py> {
    /// `wsgi.errors`.
    pub(super) errors: &'a Object<'py>,
    /// `wsgi.early_hints`, for an nginx that cannot send any.
    pub(super) early_hints: &'a Object<'py>,
    /// `wsgi.file_wrapper`.
    pub(super) file_wrapper: &'a Object<'py>,
    /// `wsgi.multithread`.
    pub(super) multithread: bool,
    /// `wsgi.multiprocess`.
    pub(super) multiprocess: bool,
}

impl Keys {
    pub(super) fn new(py: Attached<'_>) -> Result<'_, Self> {
        Ok(Self {
            known: KNOWN.iter().map(|key| Ok(py.interned(key)?.keep())).collect::<Result<_>>()?,
            client_disconnected: py.interned("ngx_wsgi.client_disconnected")?.keep(),
            early_hints: py.interned("wsgi.early_hints")?.keep(),
            input: py.interned("wsgi.input")?.keep(),
            raw_uri: py.interned("RAW_URI")?.keep(),
            url_scheme: py.interned("wsgi.url_scheme")?.keep(),
            http: py.interned("http")?.keep(),
            https: py.interned("https")?.keep(),
        })
    }

    /// Returns all references, to be released.
    pub(super) fn into_all(self) -> impl Iterator<Item = Py> {
        let Self { known, client_disconnected, early_hints, input, raw_uri, url_scheme, http, https } = self;
        known.into_iter().chain([client_disconnected, early_hints, input, raw_uri, url_scheme, http, https])
    }

    /// Creates the template of a pool's calls.
    pub(super) fn template<'py>(&self, py: Attached<'py>, common: &Common<'_, 'py>) -> Result<'py, Object<'py>> {
        let template = py.dict()?;
        let empty = py.text("")?;
        for name in ALWAYS {
            if let Name::Known(index) = name {
                template.set_item(self.known[index as usize].get(py), &empty)?;
            }
        }
        let yes = py.bool(true);
        let version = py.pair(&py.int(1)?, &py.int(0)?)?;
        let entries = [
            ("RAW_URI", &empty),
            ("ngx_wsgi.client_disconnected", &py.none()),
            ("wsgi.early_hints", common.early_hints),
            ("wsgi.version", &version),
            ("wsgi.url_scheme", self.http.get(py)),
            ("wsgi.input", &py.none()),
            ("wsgi.errors", common.errors),
            ("wsgi.multithread", &py.bool(common.multithread)),
            ("wsgi.multiprocess", &py.bool(common.multiprocess)),
            ("wsgi.run_once", &py.bool(false)),
            ("wsgi.file_wrapper", common.file_wrapper),
            ("wsgi.input_terminated", &yes),
        ];
        for (key, value) in entries {
            template.set_item(&py.interned(key)?, value)?;
        }
        Ok(template)
    }

    /// Creates the environ of one call.
    pub(super) fn environ<'py>(
        &self,
        py: Attached<'py>,
        request: &Request,
        template: &mut Template,
        others: &mut OtherKeys,
    ) -> Result<'py, Environ<'py>> {
        let dict = template.copy(py)?;
        let (bytes, [stable, rest]) = (request.own.stable_bytes(), request.own.parts());
        debug_assert!(bytes.is_empty() || rest.clone().all(|(name, _)| !names::is_stable(name)));
        let mut flags = EnvironFlags { https: template.https, ..EnvironFlags::default() };
        match template.cached_flags(bytes) {
            Some(cached) => flags = cached,
            None => {
                self.fill(&dict, stable, template, others, &mut flags)?;
                template.remember_stable(bytes, flags);
            }
        }
        self.fill(&dict, rest, template, others, &mut flags)?;
        if template.has_extra_keys() {
            template.remove_extra_keys(&dict, self, &request.own)?;
            // These may name known keys in full, and have been removed, too.
            let named_in_full = request.own.iter().filter(|(name, _)| matches!(name, Name::Other(_)));
            for (name, bytes) in named_in_full {
                dict.set_item(&self.key(py, name)?, &py.latin1(bytes)?)?;
            }
        }
        if flags.https != template.https && !flags.scheme_given {
            self.set_scheme(&dict, flags.https)?;
        }
        Ok(Environ { dict, is_head: flags.is_head })
    }

    /// Sets the entries that the copy of the template does not have yet, and updates `flags`.
    #[inline]
    fn fill<'py>(
        &self,
        dict: &Object<'py>,
        entries: Iter<'_>,
        template: &mut Template,
        others: &mut OtherKeys,
        flags: &mut EnvironFlags,
    ) -> Result<'py, ()> {
        let py = dict.py();
        for (name, bytes) in entries {
            match name {
                Name::Known(index) => {
                    match name {
                        names::HTTPS => flags.https = is_on(bytes),
                        names::REQUEST_METHOD => flags.is_head = bytes == b"HEAD",
                        _ => {}
                    }
                    template.set(dict, self, index, bytes)?;
                }
                Name::Other(key) => {
                    flags.https = if key == HTTPS { is_on(bytes) } else { flags.https };
                    flags.scheme_given |= key == URL_SCHEME;
                    template.note_other_key();
                    dict.set_item(&others.get(py, key)?, &py.latin1(bytes)?)?;
                }
            }
        }
        Ok(())
    }

    /// Sets a known key.
    #[inline]
    pub(super) fn set<'py>(&self, dict: &Object<'py>, index: u8, value: &Object<'py>) -> Result<'py, ()> {
        if Name::Known(index) == names::REQUEST_URI {
            dict.set_item(self.raw_uri.get(dict.py()), value)?;
        }
        dict.set_item(self.known[index as usize].get(dict.py()), value)
    }

    /// Gives a known key the value that it has in another dict.
    pub(super) fn reset<'py>(&self, dict: &Object<'py>, index: u8, other: &Object<'py>) -> Result<'py, ()> {
        let key = self.known[index as usize].get(dict.py());
        match other.item(key)? {
            Some(value) => self.set(dict, index, &value),
            None => dict.remove_item(key),
        }
    }

    /// Returns the key of a name.
    pub(super) fn key<'py>(&self, py: Attached<'py>, name: Name<'_>) -> Result<'py, Object<'py>> {
        match name {
            Name::Known(index) => Ok(self.known[index as usize].get(py).clone()),
            Name::Other(key) => py.latin1(key),
        }
    }

    pub(super) fn set_scheme<'py>(&self, dict: &Object<'py>, https: bool) -> Result<'py, ()> {
        let scheme = if https { &self.https } else { &self.http };
        dict.set_item(self.url_scheme.get(dict.py()), scheme.get(dict.py()))
    }
}

/// The environ of a call.
pub(super) struct Environ<'py> {
    pub(super) dict: Object<'py>,
    /// The method is HEAD.
    pub(super) is_head: bool,
}

/// Whether a value of `HTTPS` says that the client's connection is TLS.
pub(super) fn is_on(value: &[u8]) -> bool {
    [&b"on"[..], b"1", b"yes", b"true"].iter().any(|word| value.eq_ignore_ascii_case(word))
}
