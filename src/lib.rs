//! nginx-wsgi: Python WSGI applications inside the nginx worker, off its event loop.
pub mod exchange;
pub mod pool;
