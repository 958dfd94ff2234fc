//! The environ dictionary of a call: a copy of a template, filled from the request's snapshot.

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
    input: Py,
    url_scheme: Py,
    https: Py,
}

/// What is the same in every call of a pool.
pub(super) struct Common<'a, 'py> {
    /// `wsgi.errors`.
    pub(super) errors: &'a Object<'py>,
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
            input: py.interned("wsgi.input")?.keep(),
            url_scheme: py.interned("wsgi.url_scheme")?.keep(),
            https: py.interned("https")?.keep(),
        })
    }

    /// All references, to be released.
    pub(super) fn into_all(self) -> impl Iterator<Item = Py> {
        self.known.into_iter().chain([self.input, self.url_scheme, self.https])
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

    /// The environ of one call.
    pub(super) fn environ<'py>(
        &self,
        template: &Object<'py>,
        request: &Request,
        input: &Object<'py>,
    ) -> Result<'py, Object<'py>> {
        let py = template.py();
        let environ = template.copy_dict()?;
        let (mut https, mut scheme_given) = (false, false);
        for (name, bytes) in request.entries() {
            let value = py.latin1(bytes)?;
            match name {
                Name::Known(index) => {
                    https = if name == names::HTTPS { is_on(bytes) } else { https };
                    environ.set_item(self.known[index as usize].get(py), &value)?;
                }
                Name::Other(key) => {
                    https = if key == HTTPS { is_on(bytes) } else { https };
                    scheme_given |= key == URL_SCHEME;
                    environ.set_item(&py.latin1(key)?, &value)?;
                }
            }
        }
        if https && !scheme_given {
            environ.set_item(self.url_scheme.get(py), self.https.get(py))?;
        }
        environ.set_item(self.input.get(py), input)?;
        Ok(environ)
    }
}

/// What `HTTPS` may be when the client's side is TLS.
fn is_on(value: &[u8]) -> bool {
    [&b"on"[..], b"1", b"yes", b"true"].iter().any(|word| value.eq_ignore_ascii_case(word))
}
