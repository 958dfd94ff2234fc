//! The environ dictionary of a call: a copy of a template, filled from the request's snapshot.
//!
//! Each thread has templates of its own, one for each setting that requests come in. They have what is in the setting,
//! and remember the values of the last request in it: most of the next one's are the same, and need not be set again.

use std::mem;
use std::sync::Arc;

use super::object::{Attached, Object, Py, Result};
use crate::exchange::names::{self, KNOWN, Name};
use crate::exchange::request::{Entries, Request};

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

    /// The environ of one call; `template` is that of its pool.
    pub(super) fn environ<'py>(
        &self,
        template: &Object<'py>,
        request: &Request,
        own: &Own<'_, 'py>,
        familiar: &mut Familiar,
    ) -> Result<'py, Environ<'py>> {
        let py = template.py();
        let Familiar { templates, keys } = familiar;
        let template = Template::of(templates, self, template, &request.setting)?;
        let dict = template.dict.get(py).copy_dict()?;
        let (mut https, mut scheme_given, mut is_head) = (template.https, false, false);
        for (name, bytes) in request.own.iter() {
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
                    template.set(&dict, self.known[index as usize].get(py), index, bytes)?;
                }
                Name::Other(key) => {
                    https = if key == HTTPS { is_on(bytes) } else { https };
                    scheme_given |= key == URL_SCHEME;
                    dict.set_item(&familiar_key(keys, py, key)?, &py.latin1(bytes)?)?;
                }
            }
        }
        if https != template.https && !scheme_given {
            self.set_scheme(&dict, https)?;
        }
        dict.set_item(self.input.get(py), own.input)?;
        dict.set_item(self.client_disconnected.get(py), own.client_disconnected)?;
        Ok(Environ { dict, is_head })
    }

    fn set_scheme<'py>(&self, dict: &Object<'py>, https: bool) -> Result<'py, ()> {
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
/// So many templates a thread has.
const MOST_TEMPLATES: usize = 32;
/// A longer value is not remembered.
const LONGEST_VALUE: usize = 256;

/// What a thread remembers of its last requests.
#[derive(Default)]
pub(super) struct Familiar {
    /// The last one used is the first.
    templates: Vec<Template>,
    /// Other keys than the known ones.
    keys: Vec<Py>,
}

/// The environ of the requests in a setting, as far as they have it in common.
struct Template {
    /// The template of the thread's pool, of which it is made.
    of_pool: Py,
    setting: Arc<Entries>,
    /// Each key of [`ALWAYS`] has its value in `values`; the empty string if that is not remembered.
    dict: Py,
    /// By index into [`KNOWN`].
    values: Vec<Value>,
    /// What the scheme in it says.
    https: bool,
}

/// What is known of the values of a key.
struct Value {
    /// The last one; `None`: they are not remembered.
    last: Option<Py>,
    /// The template has the key, and the value from here.
    always: bool,
}

impl Familiar {
    pub(super) fn release(self, py: Attached<'_>) {
        self.templates.into_iter().for_each(|template| template.release(py));
        self.keys.into_iter().for_each(|key| drop(key.release(py)));
    }
}

#[inline]
fn familiar_key<'py>(keys: &mut Vec<Py>, py: Attached<'py>, bytes: &[u8]) -> Result<'py, Object<'py>> {
    if let Some(key) = keys.iter().find(|key| key.get(py).as_latin1() == Ok(bytes)) {
        return Ok(key.get(py).clone());
    }
    let key = py.latin1(bytes)?;
    if keys.len() < MOST_KEYS && bytes.len() <= LONGEST_VALUE {
        keys.push(key.clone().keep());
    }
    Ok(key)
}

impl Template {
    /// The template of `setting` among `all`; made, and put first, if need be.
    #[inline]
    fn of<'a, 'py>(
        all: &'a mut Vec<Self>,
        keys: &Keys,
        of_pool: &Object<'py>,
        setting: &Arc<Entries>,
    ) -> Result<'py, &'a mut Self> {
        let py = of_pool.py();
        let same = |template: &Self| {
            Arc::ptr_eq(&template.setting, setting) && template.of_pool.get(py).as_ptr() == of_pool.as_ptr()
        };
        match all.iter().position(same) {
            Some(at) => all.swap(0, at),
            None => {
                let new = Self::new(keys, of_pool, setting)?;
                while all.len() >= MOST_TEMPLATES {
                    all.pop().into_iter().for_each(|template| template.release(py));
                }
                all.insert(0, new);
            }
        }
        Ok(&mut all[0])
    }

    fn new<'py>(keys: &Keys, of_pool: &Object<'py>, setting: &Arc<Entries>) -> Result<'py, Self> {
        let py = of_pool.py();
        let dict = of_pool.copy_dict()?;
        let mut https = false;
        for (name, bytes) in setting.iter() {
            https = if name == names::HTTPS { is_on(bytes) } else { https };
            let key = match name {
                Name::Known(index) => keys.known[index as usize].get(py).clone(),
                Name::Other(key) => py.latin1(key)?,
            };
            dict.set_item(&key, &py.latin1(bytes)?)?;
        }
        keys.set_scheme(&dict, https)?;
        let value = |(index, key): (usize, &&str)| {
            let name = Name::Known(index as u8);
            let last = if UNFAMILIAR.contains(key) { None } else { Some(py.text("")?.keep()) };
            Ok(Value { last, always: ALWAYS.contains(&name) && setting.get(name).is_none() })
        };
        let values = KNOWN.iter().enumerate().map(value).collect::<Result<_>>()?;
        Ok(Self { of_pool: of_pool.clone().keep(), setting: Arc::clone(setting), dict: dict.keep(), values, https })
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
            if *always {
                self.dict.get(py).set_item(key, &value)?;
            }
            drop(mem::replace(last, value.keep()).release(py));
        }
        Ok(())
    }

    fn release(self, py: Attached<'_>) {
        let Self { of_pool, dict, values, .. } = self;
        for reference in [of_pool, dict].into_iter().chain(values.into_iter().filter_map(|value| value.last)) {
            drop(reference.release(py));
        }
    }
}

/// What `HTTPS` may be when the client's side is TLS.
fn is_on(value: &[u8]) -> bool {
    [&b"on"[..], b"1", b"yes", b"true"].iter().any(|word| value.eq_ignore_ascii_case(word))
}
