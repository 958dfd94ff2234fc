//! The Python side, driven as a pool drives it: jobs in, deliveries out.

mod client;
mod environ;
mod environ_cache;
mod files;
pub(super) mod harness;
mod head;
mod import;
mod input;
mod length;
mod logs;
mod memory;
mod process;
mod response;
mod threads;
