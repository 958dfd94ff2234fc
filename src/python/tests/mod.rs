//! The Python side, driven as a pool drives it: jobs in, deliveries out.

mod harness;
mod import;
mod response;
