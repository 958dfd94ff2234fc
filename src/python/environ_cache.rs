//! A cache of environ: most values of a request are those of the last one, and need not be set again.
//!
//! Each thread has its own templates, one for each base environ. A value is added to the template when two requests in
//! a row have it. A key is removed as soon as a request does not have it.

use std::mem;
use std::sync::Arc;

use super::class::{self, Class, Empty, Instance};
use super::client::Disconnected;
use super::deferred_decref::DeferredDecref;
use super::environ::{ALWAYS, Keys, is_on};
use super::input::Input;
use super::interpreter::Python;
use super::object::{Attached, Object, Py, Result};
use crate::exchange::Exchange;
use crate::exchange::names::{self, KNOWN, Name};
use crate::exchange::request::Entries;

/// Names that are cached although their values usually differ from request to request.
const ALSO_CACHED: [Name<'static>; 3] = [names::PATH_INFO, names::REMOTE_ADDR, names::REQUEST_URI];
/// Largest number of keys outside [`KNOWN`] that a thread caches.
const MOST_KEYS: usize = 32;
/// Largest number of templates of a thread.
const MOST_TEMPLATES: usize = 32;
/// Largest length of a cached text, in bytes.
const LONGEST: usize = 256;
/// Largest size of cached stable entries, in bytes.
const MOST_STABLE: usize = 2048;

/// The environ cache of a thread.
#[derive(Default)]
pub(super) struct EnvironCache {
    /// The most recently used template is the first.
    templates: Vec<Template>,
    others: OtherKeys,
}

/// Keys outside [`KNOWN`].
#[derive(Default)]
pub(super) struct OtherKeys(Vec<Py>);

/// A dictionary with the values that the last requests with the same base environ had in common. It is copied for each
/// call.
pub(super) struct Template {
    /// The template of the thread's pool, from which this one was created.
    pool_environ: Py,
    base_environ: Arc<Entries>,
    /// `pool_environ` with the entries of `base_environ`.
    base: Py,
    /// `base` with the values that the last requests added. This is what is copied.
    dict: Py,
    /// Whether the scheme in both is `https`.
    pub(super) https: bool,
    /// Indexed as [`KNOWN`].
    values: Vec<Value>,
    /// The raw stable entries that `dict` already has. Empty when there are none.
    stable: Vec<u8>,
    /// The flags of `stable`, and the number of added values among them.
    stable_result: StableResult,
    /// A value was set in the copy, but not in `dict`.
    copy_differs: bool,
    /// Number of `values` that `dict` has added to `base`.
    added: usize,
    /// Number of added values whose keys the current request has.
    matched: usize,
    /// Number of the current request.
    generation: u32,
    /// `wsgi.input` and `ngx_wsgi.client_disconnected` of the last call, if only `dict` refers to them.
    input: Option<Empty<Input>>,
    client_disconnected: Option<Empty<Disconnected>>,
}

/// The cached value of a key.
struct Value {
    /// The last value. `None` if the key is not cached.
    last: Option<Py>,
    /// `base` has the empty string.
    is_empty_in_base: bool,
    /// `dict` may have another value than `base`.
    is_added: bool,
    /// `dict` has `last`, and so has the copy.
    is_current: bool,
    /// Number of the last request that had the key.
    generation: u32,
}

/// What the entries of a request say beyond their values in environ.
#[derive(Clone, Copy, Default)]
pub(super) struct EnvironFlags {
    /// The client's connection is TLS.
    pub(super) https: bool,
    /// `wsgi.url_scheme` is among them.
    pub(super) scheme_given: bool,
    /// The method is HEAD.
    pub(super) is_head: bool,
}

/// The flags of stable entries, and the number of added values among them.
#[derive(Clone, Copy, Default)]
struct StableResult {
    flags: EnvironFlags,
    matched: usize,
}

/// The objects that belong to one call.
pub(super) struct CallObjects<'py> {
    input: Instance<'py, Input>,
    client_disconnected: Instance<'py, Disconnected>,
}

impl EnvironCache {
    /// Returns the template for requests with `base_environ`, created on the first use, and the other keys.
    /// `pool_environ` is the pool's template.
    #[inline]
    pub(super) fn template<'py>(
        &mut self,
        keys: &Keys,
        pool_environ: &Object<'py>,
        base_environ: &Arc<Entries>,
    ) -> Result<'py, (&mut Template, &mut OtherKeys)> {
        let py = pool_environ.py();
        let all = &mut self.templates;
        let same = |template: &Template| {
            Arc::ptr_eq(&template.base_environ, base_environ)
                && template.pool_environ.get(py).as_ptr() == pool_environ.as_ptr()
        };
        match all.iter().position(same) {
            Some(at) => all.swap(0, at),
            None => {
                let new = Template::new(keys, pool_environ, base_environ)?;
                while all.len() >= MOST_TEMPLATES {
                    all.pop().into_iter().for_each(|template| template.release(py));
                }
                all.insert(0, new);
            }
        }
        Ok((&mut all[0], &mut self.others))
    }

    pub(super) fn release(self, py: Attached<'_>) {
        self.templates.into_iter().for_each(|template| template.release(py));
        self.others.0.into_iter().for_each(|key| drop(key.release(py)));
    }
}

impl OtherKeys {
    #[inline]
    pub(super) fn get<'py>(&mut self, py: Attached<'py>, bytes: &[u8]) -> Result<'py, Object<'py>> {
        if let Some(key) = self.0.iter().find(|key| key.get(py).as_latin1() == Ok(bytes)) {
            return Ok(key.get(py).clone());
        }
        let key = py.latin1(bytes)?;
        if self.0.len() < MOST_KEYS && bytes.len() <= LONGEST {
            self.0.push(key.clone().keep());
        }
        Ok(key)
    }
}

impl Template {
    fn new<'py>(keys: &Keys, pool_environ: &Object<'py>, base_environ: &Arc<Entries>) -> Result<'py, Self> {
        let py = pool_environ.py();
        let base = pool_environ.copy_dict()?;
        let mut https = false;
        for (name, bytes) in base_environ.iter() {
            https = if name == names::HTTPS { is_on(bytes) } else { https };
            base.set_item(&keys.key(py, name)?, &py.latin1(bytes)?)?;
        }
        keys.set_scheme(&base, https)?;
        let dict = base.copy_dict()?;
        let value = |index| {
            let name = Name::Known(index);
            let remembered = names::is_stable(name) || ALSO_CACHED.contains(&name);
            let last = if remembered { Some(py.text("")?.keep()) } else { None };
            let is_empty_in_base = ALWAYS.contains(&name) && base_environ.get(name).is_none();
            Ok(Value { last, is_empty_in_base, is_added: false, is_current: is_empty_in_base, generation: 0 })
        };
        Ok(Self {
            pool_environ: pool_environ.clone().keep(),
            base_environ: Arc::clone(base_environ),
            values: (0..KNOWN.len() as u8).map(value).collect::<Result<_>>()?,
            base: base.keep(),
            dict: dict.keep(),
            https,
            stable: Vec::new(),
            stable_result: StableResult::default(),
            copy_differs: false,
            added: 0,
            matched: 0,
            generation: 0,
            input: None,
            client_disconnected: None,
        })
    }

    /// Creates the objects of a call, or uses the last call's again. The next copy has them.
    pub(super) fn lend<'py>(
        &mut self,
        py: Attached<'py>,
        python: &Python,
        deferred: &Arc<DeferredDecref>,
        exchange: &Arc<Exchange>,
    ) -> Result<'py, CallObjects<'py>> {
        let (keys, classes, dict) = (&python.keys, &python.classes, self.dict.get(py));
        let input = Input::new(Arc::clone(exchange), deferred);
        let input = lend(&mut self.input, dict, keys.input.get(py), classes.input.get(py), input)?;
        let event = Disconnected::new(Arc::clone(exchange));
        let (key, class) = (keys.client_disconnected.get(py), classes.disconnected.get(py));
        let client_disconnected = lend(&mut self.client_disconnected, dict, key, class, event)?;
        Ok(CallObjects { input, client_disconnected })
    }

    /// Takes back the objects of a call that has ended, for the next one.
    pub(super) fn take_back<'py>(&mut self, keys: &Keys, objects: CallObjects<'py>) -> Result<'py, ()> {
        let py = objects.input.py();
        let dict = self.dict.get(py);
        take_back(&mut self.input, dict, keys.input.get(py), objects.input)?;
        take_back(&mut self.client_disconnected, dict, keys.client_disconnected.get(py), objects.client_disconnected)
    }

    /// Copies `dict` for the next request.
    #[inline]
    pub(super) fn copy<'py>(&mut self, py: Attached<'py>) -> Result<'py, Object<'py>> {
        self.generation = self.generation.wrapping_add(1);
        self.matched = 0;
        self.dict.get(py).copy_dict()
    }

    /// Returns the flags of stable entries if the copy already has them all.
    #[inline]
    pub(super) fn cached_flags(&mut self, stable: &[u8]) -> Option<EnvironFlags> {
        self.copy_differs = false;
        if stable.is_empty() || self.stable != stable {
            self.stable.clear();
            return None;
        }
        self.matched = self.stable_result.matched;
        Some(self.stable_result.flags)
    }

    /// Remembers stable entries that have been set, with their flags, if `dict` has them all.
    pub(super) fn remember_stable(&mut self, stable: &[u8], flags: EnvironFlags) {
        if !self.copy_differs && stable.len() <= MOST_STABLE {
            self.stable.extend_from_slice(stable);
            self.stable_result = StableResult { flags, matched: self.matched };
        }
    }

    /// Sets a known key in the copy, and in `dict` if the last request had the same value.
    #[inline]
    pub(super) fn set<'py>(&mut self, copy: &Object<'py>, keys: &Keys, index: u8, bytes: &[u8]) -> Result<'py, ()> {
        let py = copy.py();
        let Some(value) = self.values.get_mut(index as usize) else {
            self.copy_differs = true;
            return keys.set(copy, index, &py.latin1(bytes)?);
        };
        let is_first = mem::replace(&mut value.generation, self.generation) != self.generation;
        let Some(last) = &mut value.last else {
            if is_first && value.is_empty_in_base && bytes.is_empty() {
                return Ok(());
            }
            self.copy_differs = true;
            return keys.set(copy, index, &py.latin1(bytes)?);
        };
        self.matched += usize::from(is_first && value.is_added);
        if last.get(py).as_latin1() != Ok(bytes) {
            let new = py.latin1(bytes)?;
            keys.set(copy, index, &new)?;
            value.is_current = false;
            if bytes.len() <= LONGEST {
                drop(mem::replace(last, new.keep()).release(py));
            }
            self.copy_differs = true;
        } else if !value.is_current {
            for dict in [copy, self.dict.get(py)] {
                keys.set(dict, index, last.get(py))?;
            }
            if !mem::replace(&mut value.is_added, true) {
                self.added += 1;
                self.matched += 1;
            }
            value.is_current = true;
        }
        Ok(())
    }

    /// Notes that a key outside [`KNOWN`] has been set in the copy.
    #[inline]
    pub(super) fn note_other_key(&mut self) {
        self.copy_differs = true;
    }

    /// Whether the copy has keys that the current request does not have.
    #[inline]
    pub(super) fn has_extra_keys(&self) -> bool {
        self.matched != self.added
    }

    /// Removes these keys from the copy and from `dict`.
    #[cold]
    pub(super) fn remove_extra_keys<'py>(&mut self, copy: &Object<'py>, keys: &Keys, own: &Entries) -> Result<'py, ()> {
        let py = copy.py();
        // Cached stable entries have not been visited for this request.
        for (name, _) in own.iter() {
            if let Name::Known(index) = name {
                self.values.get_mut(index as usize).into_iter().for_each(|value| value.generation = self.generation);
            }
        }
        for (index, value) in self.values.iter_mut().enumerate() {
            if value.is_added && value.generation != self.generation {
                for dict in [copy, self.dict.get(py)] {
                    keys.reset(dict, index as u8, self.base.get(py))?;
                }
                (value.is_added, value.is_current) = (false, false);
                self.added -= 1;
            }
        }
        Ok(())
    }

    fn release(self, py: Attached<'_>) {
        let Self { pool_environ, base, dict, values, input, client_disconnected, .. } = self;
        let values = values.into_iter().filter_map(|value| value.last);
        for reference in [pool_environ, base, dict].into_iter().chain(values) {
            drop(reference.release(py));
        }
        input.into_iter().for_each(|input| input.release(py));
        client_disconnected.into_iter().for_each(|event| event.release(py));
    }
}

/// Returns an instance that holds `value`, and that `dict` refers to under `key`.
#[inline]
fn lend<'py, T: Class>(
    place: &mut Option<Empty<T>>,
    dict: &Object<'py>,
    key: &Object<'py>,
    class: &Object<'py>,
    value: T,
) -> Result<'py, Instance<'py, T>> {
    if let Some(empty) = place.take() {
        return Ok(empty.fill(dict.py(), value));
    }
    let instance = class::instantiate(class, value)?;
    dict.set_item(key, &instance)?;
    Ok(instance)
}

/// Keeps an instance for the next call if only `dict` refers to it; otherwise removes it from `dict`.
#[inline]
fn take_back<'py, T: Class>(
    place: &mut Option<Empty<T>>,
    dict: &Object<'py>,
    key: &Object<'py>,
    instance: Instance<'py, T>,
) -> Result<'py, ()> {
    *place = instance.empty(1);
    if place.is_none() { dict.set_item(key, &dict.py().none()) } else { Ok(()) }
}
