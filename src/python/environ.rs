//! The environ dictionary of a call: a copy of a template, filled from the request's snapshot.
//!
//! Each thread has a template of its own, which remembers the values of the last request: most of the next one's are
//! the same, and need not be set again.

use std::mem;

use super::object::{Attached, Object, Py, Result};
use crate::exchange::names::{self, KNOWN, Name};
use crate::exchange::request::Request;

/// Keys that every request sets; the template has them, so that its copies need not grow.
const ALWAYS: [Name<'static>; 14] = [
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
    client_disconnected: Py,
    pub(super) early_hints: Py,
    input: Py,
    raw_uri: Py,
    url_scheme: Py,
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

/// Objects of one call alone.
pub(super) struct Own<'a, 'py> {
    /// `wsgi.input`.
    pub(super) input: &'a Object<'py>,
    /// `ngx_wsgi.client_disconnected`.
    pub(super) client_disconnected: &'a Object<'py>,
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
            https: py.interned("https")?.keep(),
        })
    }

    /// All references, to be released.
    pub(super) fn into_all(self) -> impl Iterator<Item = Py> {
        let Self { known, client_disconnected, early_hints, input, raw_uri, url_scheme, https } = self;
        known.into_iter().chain([client_disconnected, early_hints, input, raw_uri, url_scheme, https])
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
            ("wsgi.url_scheme", &py.interned("http")?),
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

    /// The environ of one call; `template` is that of its pool.
    pub(super) fn environ<'py>(
        &self,
        template: &Object<'py>,
        request: &Request,
        own: &Own<'_, 'py>,
        familiar: &mut Familiar,
    ) -> Result<'py, Environ<'py>> {
        let py = template.py();
        let dict = familiar.template(template)?.copy_dict()?;
        let (mut https, mut scheme_given, mut is_head) = (false, false, false);
        for (name, bytes) in request.entries() {
            match name {
                Name::Known(index) => {
                    match name {
                        names::HTTPS => https = is_on(bytes),
                        names::REQUEST_METHOD => is_head = bytes == b"HEAD",
                        names::REQUEST_URI => {
                            // Known by two names.
                            let uri = py.latin1(bytes)?;
                            dict.set_item(self.known[index as usize].get(py), &uri)?;
                            dict.set_item(self.raw_uri.get(py), &uri)?;
                            continue;
                        }
                        _ => {}
                    }
                    familiar.set(&dict, self.known[index as usize].get(py), index, bytes)?;
                }
                Name::Other(key) => {
                    https = if key == HTTPS { is_on(bytes) } else { https };
                    scheme_given |= key == URL_SCHEME;
                    dict.set_item(&familiar.key(py, key)?, &py.latin1(bytes)?)?;
                }
            }
        }
        if https && !scheme_given {
            dict.set_item(self.url_scheme.get(py), self.https.get(py))?;
        }
        dict.set_item(self.input.get(py), own.input)?;
        dict.set_item(self.client_disconnected.get(py), own.client_disconnected)?;
        Ok(Environ { dict, is_head })
    }
}

/// What a call is told.
pub(super) struct Environ<'py> {
    pub(super) dict: Object<'py>,
    /// The method is HEAD.
    pub(super) is_head: bool,
}

/// Values that differ from request to request, or that are better not kept.
const UNFAMILIAR: [&str; 17] = [
    "AUTH_TYPE",
    "CONTENT_LENGTH",
    "HTTP_AUTHORIZATION",
    "HTTP_COOKIE",
    "HTTP_IF_MODIFIED_SINCE",
    "HTTP_IF_NONE_MATCH",
    "HTTP_RANGE",
    "HTTP_REFERER",
    "HTTP_X_CSRFTOKEN",
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_REAL_IP",
    "HTTP_X_REQUEST_ID",
    "PATH_INFO",
    "QUERY_STRING",
    "REMOTE_PORT",
    "REMOTE_USER",
    "REQUEST_URI",
];
/// So many keys that are not known ones are remembered by a thread.
const MOST_KEYS: usize = 32;
/// A longer value is not remembered.
const LONGEST_VALUE: usize = 256;

/// Strings of the last requests of a thread.
#[derive(Default)]
pub(super) struct Familiar {
    /// The template of the thread's pool, by which it is known again, and the thread's own copy of it. There, each key of
    /// [`ALWAYS`] has its value in `values`; the empty string if that is not remembered.
    template: Option<(Py, Py)>,
    /// By index into [`KNOWN`].
    values: Vec<Value>,
    /// Other keys.
    keys: Vec<Py>,
}

/// What is known of the values of a key.
struct Value {
    /// The last one; `None`: they are not remembered.
    last: Option<Py>,
    /// The template has the key.
    always: bool,
}

impl Familiar {
    pub(super) fn new(py: Attached<'_>) -> Result<'_, Self> {
        let value = |(index, key): (usize, &&str)| {
            let last = if UNFAMILIAR.contains(key) { None } else { Some(py.text("")?.keep()) };
            Ok(Value { last, always: ALWAYS.contains(&Name::Known(index as u8)) })
        };
        let values = KNOWN.iter().enumerate().map(value).collect::<Result<_>>()?;
        Ok(Self { template: None, values, keys: Vec::new() })
    }

    /// The thread's own copy of its pool's template.
    #[inline]
    fn template<'py>(&mut self, of_pool: &Object<'py>) -> Result<'py, Object<'py>> {
        let py = of_pool.py();
        if self.template.as_ref().is_none_or(|(known, _)| known.get(py).as_ptr() != of_pool.as_ptr()) {
            // The first call of the thread, as a rule: nothing is remembered yet.
            let fresh = Self::new(py)?;
            mem::replace(self, fresh).release(py);
            self.template = Some((of_pool.clone().keep(), of_pool.copy_dict()?.keep()));
        }
        Ok(self.template.as_ref().map_or(of_pool, |(_, own)| own.get(py)).clone())
    }

    /// Sets a known key in a copy of the template.
    #[inline]
    fn set<'py>(&mut self, dict: &Object<'py>, key: &Object<'py>, index: u8, bytes: &[u8]) -> Result<'py, ()> {
        let py = dict.py();
        let Some(Value { last, always }) = self.values.get_mut(index as usize) else {
            return dict.set_item(key, &py.latin1(bytes)?);
        };
        let Some(last) = last else {
            return if *always && bytes.is_empty() { Ok(()) } else { dict.set_item(key, &py.latin1(bytes)?) };
        };
        if last.get(py).as_latin1() == Ok(bytes) {
            return if *always { Ok(()) } else { dict.set_item(key, last.get(py)) };
        }
        let value = py.latin1(bytes)?;
        dict.set_item(key, &value)?;
        if bytes.len() <= LONGEST_VALUE {
            if let (true, Some((_, template))) = (*always, &self.template) {
                template.get(py).set_item(key, &value)?;
            }
            drop(mem::replace(last, value.keep()).release(py));
        }
        Ok(())
    }

    #[inline]
    fn key<'py>(&mut self, py: Attached<'py>, bytes: &[u8]) -> Result<'py, Object<'py>> {
        if let Some(key) = self.keys.iter().find(|key| key.get(py).as_latin1() == Ok(bytes)) {
            return Ok(key.get(py).clone());
        }
        let key = py.latin1(bytes)?;
        if self.keys.len() < MOST_KEYS && bytes.len() <= LONGEST_VALUE {
            self.keys.push(key.clone().keep());
        }
        Ok(key)
    }

    pub(super) fn release(self, py: Attached<'_>) {
        let templates = self.template.into_iter().flat_map(|(of_pool, own)| [of_pool, own]);
        let values = self.values.into_iter().filter_map(|value| value.last);
        for reference in templates.chain(values).chain(self.keys) {
            drop(reference.release(py));
        }
    }
}

/// What `HTTPS` may be when the client's side is TLS.
fn is_on(value: &[u8]) -> bool {
    [&b"on"[..], b"1", b"yes", b"true"].iter().any(|word| value.eq_ignore_ascii_case(word))
}
