//! nginx-wsgi: Python WSGI applications inside the nginx worker, off its event loop.
//!
//! Three worlds, and what crosses between them:
//!
//! * `nginx` runs on the event-loop thread alone and is all that touches nginx;
//! * [`pool`] hands work to threads, and knows neither nginx nor Python;
//! * `python` runs on the pool's threads and on one of its own, and is all that touches CPython;
//! * [`exchange`] is the owned data that they pass to one another.
//!
//! Neither of nginx and python knows the other. This file alone ties them, in `Engine`.
#![warn(missing_docs)]

// Loom's models are of the pool alone.
#[cfg(not(loom))]
pub mod exchange;
#[cfg(feature = "module")]
mod nginx;
pub mod pool;
#[cfg(feature = "python")]
pub mod python;

#[cfg(feature = "module")]
mod engine;
#[cfg(feature = "module")]
use engine::{Engine, check_virtualenv, forbid_python_here, python_version, unreadable_python};
