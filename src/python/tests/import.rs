//! How applications are found and loaded.

use super::harness::app;
use crate::exchange::spec::App;

/// Applications that the shared harness imports.
pub(super) fn apps() -> Vec<App> {
    vec![app("missing", "no_such_module:application", &[])]
}
