//! What a thread remembers of its last requests: most of the next one's values are the same, and need not be set again.
//!
//! Each thread has templates of its own, one for each setting that requests come in. A value enters the template when
//! two requests in a row have had it; a key that a request does not have leaves it at once.

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

/// Such as are worth a look, though they differ from request to request as a rule.
const WORTH_A_LOOK: [Name<'static>; 3] = [names::PATH_INFO, names::REMOTE_ADDR, names::REQUEST_URI];
/// So many keys that are not known ones are remembered by a thread.
const MOST_KEYS: usize = 32;
/// So many templates a thread has.
const MOST_TEMPLATES: usize = 32;
/// A longer text is not remembered.
const LONGEST: usize = 256;
/// Nor are stable entries that take more memory, in bytes.
const MOST_STABLE: usize = 2048;

/// What a thread remembers.
#[derive(Default)]
pub(super) struct Familiar {
    /// The last one used is the first.
    templates: Vec<Template>,
    others: OtherKeys,
}

/// Other keys than the known ones.
#[derive(Default)]
pub(super) struct OtherKeys(Vec<Py>);

/// The environ of the requests in a setting, as far as they have it in common.
pub(super) struct Template {
    /// The template of the thread's pool, of which it is made.
    of_pool: Py,
    setting: Arc<Entries>,
    /// What every request in the setting has.
    base: Py,
    /// The same, with what the last requests had besides.
    dict: Py,
    /// What the scheme in both says.
    pub(super) https: bool,
    /// By index into [`KNOWN`].
    values: Vec<Value>,
    /// The stable entries of a request of which all are in `dict` as they were in that request; empty where there is none.
    stable: Vec<u8>,
    /// What came of them.
    seen: Seen,
    /// Something has been set in the copy only.
    is_loose: bool,
    /// How many of `values` differ between `dict` and `base`, and how many of these the request at hand has.
    added: usize,
    met: usize,
    /// Tells requests apart.
    turn: u32,
    /// `wsgi.input` and `ngx_wsgi.client_disconnected` of the last call, which are in `dict`, if nobody else has them.
    input: Option<Empty<Input>>,
    client_disconnected: Option<Empty<Disconnected>>,
}

/// What is known of the values of a key.
struct Value {
    /// The last one; `None`: they are not remembered.
    last: Option<Py>,
    /// `base` has the empty string.
    is_empty_at_first: bool,
    /// `dict` may have another value than `base`.
    is_added: bool,
    /// `dict` has `last`, and so has the copy.
    is_current: bool,
    /// The last request that had the key.
    turn: u32,
}

/// What the entries of a request tell besides.
#[derive(Clone, Copy, Default)]
pub(super) struct Told {
    /// The client's side is TLS.
    pub(super) https: bool,
    /// `wsgi.url_scheme` is among them.
    pub(super) scheme_given: bool,
    /// The method is HEAD.
    pub(super) is_head: bool,
}

/// What entries have told, and how many of them are among those by which `dict` differs.
#[derive(Clone, Copy, Default)]
struct Seen {
    told: Told,
    met: usize,
}

/// Objects of one call alone.
pub(super) struct Own<'py> {
    input: Instance<'py, Input>,
    client_disconnected: Instance<'py, Disconnected>,
}

impl Familiar {
    /// The template for a request in `setting`, made if need be, and the other keys; `of_pool` is the pool's template.
    #[inline]
    pub(super) fn parts<'py>(
        &mut self,
        keys: &Keys,
        of_pool: &Object<'py>,
        setting: &Arc<Entries>,
    ) -> Result<'py, (&mut Template, &mut OtherKeys)> {
        let py = of_pool.py();
        let all = &mut self.templates;
        let same = |template: &Template| {
            Arc::ptr_eq(&template.setting, setting) && template.of_pool.get(py).as_ptr() == of_pool.as_ptr()
        };
        match all.iter().position(same) {
            Some(at) => all.swap(0, at),
            None => {
                let new = Template::new(keys, of_pool, setting)?;
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
    fn new<'py>(keys: &Keys, of_pool: &Object<'py>, setting: &Arc<Entries>) -> Result<'py, Self> {
        let py = of_pool.py();
        let base = of_pool.copy_dict()?;
        let mut https = false;
        for (name, bytes) in setting.iter() {
            https = if name == names::HTTPS { is_on(bytes) } else { https };
            base.set_item(&keys.key(py, name)?, &py.latin1(bytes)?)?;
        }
        keys.set_scheme(&base, https)?;
        let dict = base.copy_dict()?;
        let value = |index| {
            let name = Name::Known(index);
            let remembered = names::is_stable(name) || WORTH_A_LOOK.contains(&name);
            let last = if remembered { Some(py.text("")?.keep()) } else { None };
            let is_empty_at_first = ALWAYS.contains(&name) && setting.get(name).is_none();
            Ok(Value { last, is_empty_at_first, is_added: false, is_current: is_empty_at_first, turn: 0 })
        };
        Ok(Self {
            of_pool: of_pool.clone().keep(),
            setting: Arc::clone(setting),
            values: (0..KNOWN.len() as u8).map(value).collect::<Result<_>>()?,
            base: base.keep(),
            dict: dict.keep(),
            https,
            stable: Vec::new(),
            seen: Seen::default(),
            is_loose: false,
            added: 0,
            met: 0,
            turn: 0,
            input: None,
            client_disconnected: None,
        })
    }

    /// Makes the objects of a call, and has them in the next copy.
    pub(super) fn lend<'py>(
        &mut self,
        py: Attached<'py>,
        python: &Python,
        deferred: &Arc<DeferredDecref>,
        exchange: &Arc<Exchange>,
    ) -> Result<'py, Own<'py>> {
        let (keys, classes, dict) = (&python.keys, &python.classes, self.dict.get(py));
        let input = Input::new(Arc::clone(exchange), deferred);
        let input = lend(&mut self.input, dict, keys.input.get(py), classes.input.get(py), input)?;
        let event = Disconnected::new(Arc::clone(exchange));
        let (key, class) = (keys.client_disconnected.get(py), classes.disconnected.get(py));
        let client_disconnected = lend(&mut self.client_disconnected, dict, key, class, event)?;
        Ok(Own { input, client_disconnected })
    }

    /// Takes back the objects of a call that has ended.
    pub(super) fn take_back<'py>(&mut self, keys: &Keys, own: Own<'py>) -> Result<'py, ()> {
        let py = own.input.py();
        let dict = self.dict.get(py);
        take_back(&mut self.input, dict, keys.input.get(py), own.input)?;
        take_back(&mut self.client_disconnected, dict, keys.client_disconnected.get(py), own.client_disconnected)
    }

    /// A copy for the next request.
    #[inline]
    pub(super) fn copy<'py>(&mut self, py: Attached<'py>) -> Result<'py, Object<'py>> {
        self.turn = self.turn.wrapping_add(1);
        self.met = 0;
        self.dict.get(py).copy_dict()
    }

    /// What stable entries tell, if the copy has them already.
    #[inline]
    pub(super) fn has_all(&mut self, stable: &[u8]) -> Option<Told> {
        self.is_loose = false;
        if stable.is_empty() || self.stable != stable {
            self.stable.clear();
            return None;
        }
        self.met = self.seen.met;
        Some(self.seen.told)
    }

    /// Stable entries have been set, and told that.
    pub(super) fn note(&mut self, stable: &[u8], told: Told) {
        if !self.is_loose && stable.len() <= MOST_STABLE {
            self.stable.extend_from_slice(stable);
            self.seen = Seen { told, met: self.met };
        }
    }

    /// Sets a known key in the copy.
    #[inline]
    pub(super) fn set<'py>(&mut self, copy: &Object<'py>, keys: &Keys, index: u8, bytes: &[u8]) -> Result<'py, ()> {
        let py = copy.py();
        let Some(value) = self.values.get_mut(index as usize) else {
            self.is_loose = true;
            return keys.set(copy, index, &py.latin1(bytes)?);
        };
        let is_first = mem::replace(&mut value.turn, self.turn) != self.turn;
        let Some(last) = &mut value.last else {
            if is_first && value.is_empty_at_first && bytes.is_empty() {
                return Ok(());
            }
            self.is_loose = true;
            return keys.set(copy, index, &py.latin1(bytes)?);
        };
        self.met += usize::from(is_first && value.is_added);
        if last.get(py).as_latin1() != Ok(bytes) {
            let new = py.latin1(bytes)?;
            keys.set(copy, index, &new)?;
            value.is_current = false;
            if bytes.len() <= LONGEST {
                drop(mem::replace(last, new.keep()).release(py));
            }
            self.is_loose = true;
        } else if !value.is_current {
            for dict in [copy, self.dict.get(py)] {
                keys.set(dict, index, last.get(py))?;
            }
            if !mem::replace(&mut value.is_added, true) {
                self.added += 1;
                self.met += 1;
            }
            value.is_current = true;
        }
        Ok(())
    }

    /// Notes that another key than the known ones has been set in the copy.
    #[inline]
    pub(super) fn note_other(&mut self) {
        self.is_loose = true;
    }

    /// Whether the copy has keys that the request at hand does not have.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        self.met != self.added
    }

    /// Takes them away, from the copy and for the next requests.
    #[cold]
    pub(super) fn take_away<'py>(&mut self, copy: &Object<'py>, keys: &Keys, own: &Entries) -> Result<'py, ()> {
        let py = copy.py();
        // Stable ones may not have been looked at.
        for (name, _) in own.iter() {
            if let Name::Known(index) = name {
                self.values.get_mut(index as usize).into_iter().for_each(|value| value.turn = self.turn);
            }
        }
        for (index, value) in self.values.iter_mut().enumerate() {
            if value.is_added && value.turn != self.turn {
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
        let Self { of_pool, base, dict, values, input, client_disconnected, .. } = self;
        for reference in [of_pool, base, dict].into_iter().chain(values.into_iter().filter_map(|value| value.last)) {
            drop(reference.release(py));
        }
        input.into_iter().for_each(|input| input.release(py));
        client_disconnected.into_iter().for_each(|event| event.release(py));
    }
}

/// An instance with this value, which `dict` has, too.
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

/// Keeps an instance for the next call if only `dict` has it besides; else it is none of `dict`'s affair any more.
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
