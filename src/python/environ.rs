//! The environ dictionary of a call: a copy of a template, filled from the request's snapshot.

use super::familiar::{OtherKeys, Template, Told};
use super::object::{Attached, Object, Py, Result};
use crate::exchange::names::{self, KNOWN, Name};
use crate::exchange::request::{Iter, Request};

/// Keys that are always there; a request that does not have one leaves it empty.
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

/// The key by which the client's side of TLS is known.
const HTTPS: &[u8] = b"HTTPS";
/// The key that `wsgi_param` may set, too.
const URL_SCHEME: &[u8] = b"wsgi.url_scheme";

/// Keys of environ, each made once.
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

/// What is the same in every call of a pool.
pub(super) struct Common<'a, 'py> {
    /// `wsgi.errors`.
    pub(super) errors: &'a Object<'py>,
    /// `wsgi.early_hints`, where nginx cannot send any.
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

    /// All references, to be released.
    pub(super) fn into_all(self) -> impl Iterator<Item = Py> {
        let Self { known, client_disconnected, early_hints, input, raw_uri, url_scheme, http, https } = self;
        known.into_iter().chain([client_disconnected, early_hints, input, raw_uri, url_scheme, http, https])
    }

    /// The template of a pool's calls.
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

    /// The environ of one call.
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
        let mut told = Told { https: template.https, ..Told::default() };
        match template.has_all(bytes) {
            Some(before) => told = before,
            None => {
                self.fill(&dict, stable, template, others, &mut told)?;
                template.note(bytes, told);
            }
        }
        self.fill(&dict, rest, template, others, &mut told)?;
        if template.has_more() {
            template.take_away(&dict, self, &request.own)?;
            // They may have been known keys, spelt out.
            let spelt_out = request.own.iter().filter(|(name, _)| matches!(name, Name::Other(_)));
            for (name, bytes) in spelt_out {
                dict.set_item(&self.key(py, name)?, &py.latin1(bytes)?)?;
            }
        }
        if told.https != template.https && !told.scheme_given {
            self.set_scheme(&dict, told.https)?;
        }
        Ok(Environ { dict, is_head: told.is_head })
    }

    /// Sets what entries have and the copy of the template has not.
    #[inline]
    fn fill<'py>(
        &self,
        dict: &Object<'py>,
        entries: Iter<'_>,
        template: &mut Template,
        others: &mut OtherKeys,
        told: &mut Told,
    ) -> Result<'py, ()> {
        let py = dict.py();
        for (name, bytes) in entries {
            match name {
                Name::Known(index) => {
                    match name {
                        names::HTTPS => told.https = is_on(bytes),
                        names::REQUEST_METHOD => told.is_head = bytes == b"HEAD",
                        _ => {}
                    }
                    template.set(dict, self, index, bytes)?;
                }
                Name::Other(key) => {
                    told.https = if key == HTTPS { is_on(bytes) } else { told.https };
                    told.scheme_given |= key == URL_SCHEME;
                    template.note_other();
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

    /// The key of a name.
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

/// What a call is told.
pub(super) struct Environ<'py> {
    pub(super) dict: Object<'py>,
    /// The method is HEAD.
    pub(super) is_head: bool,
}

/// What `HTTPS` may be when the client's side is TLS.
pub(super) fn is_on(value: &[u8]) -> bool {
    [&b"on"[..], b"1", b"yes", b"true"].iter().any(|word| value.eq_ignore_ascii_case(word))
}
