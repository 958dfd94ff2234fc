//! `environ["ngx_wsgi.client_disconnected"]`: an event, set when the request is given up while its call runs.

use std::ffi::CStr;
use std::sync::Arc;

use super::class::{Class, Method};
use super::fork;
use super::object::{Object, Result};
use super::shim::{Call, method};
use crate::exchange::Exchange;

/// The value in such an event. Threads of the application's may wait for it as long as they like: it holds no request.
pub(super) struct Disconnected(Arc<Exchange>);

impl Disconnected {
    pub(super) fn new(exchange: Arc<Exchange>) -> Self {
        Self(exchange)
    }
}

fn is_set<'py>(call: &Call<'_, 'py, Disconnected>) -> Result<'py, Object<'py>> {
    call.nothing("is_set")?;
    Ok(call.py.bool(call.this.0.is_deserted()))
}

/// `wait(timeout=None)`: until it is set, or never will be because the call has ended.
fn wait<'py>(call: &Call<'_, 'py, Disconnected>) -> Result<'py, Object<'py>> {
    let timeout = call.optional("wait")?.filter(|timeout| !timeout.is_none());
    let timeout = timeout.map_or(Ok(None), |timeout| timeout.to_seconds())?;
    let exchange = &call.this.0;
    // Its lock may have been another thread's at the moment of the fork.
    let set = if fork::is_child() || exchange.is_deserted() {
        exchange.is_deserted()
    } else {
        call.py.detach(|| exchange.wait_deserted(timeout))
    };
    Ok(call.py.bool(set))
}

impl Class for Disconnected {
    const NAME: &'static CStr = c"ngx_wsgi.ClientDisconnected";
    const DOC: &'static CStr = c"An event that is set when nobody waits for the response any more.";

    fn methods() -> Vec<Method> {
        vec![
            method!(Disconnected, c"is_set", is_set, c"Whether nobody waits for the response any more."),
            method!(
                Disconnected,
                c"wait",
                wait,
                c"wait(timeout=None): wait until it is set or the call has ended; return whether it is set.",
                "timeout"
            ),
        ]
    }
}
