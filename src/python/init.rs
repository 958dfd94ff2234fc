//! Initialises CPython, once in a process, as it suits a worker of nginx.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::wchar_t;
use pyo3_ffi as ffi;

use super::virtualenv::unreadable;

/// Initialises the interpreter; this thread is its main thread then, and attached. `executable` is what
/// `sys.executable` becomes, and where the standard library and a virtual environment are looked for from.
pub(super) fn initialise(executable: Option<&Path>) -> Result<(), String> {
    try_to_initialise(executable).map_err(|reason| match unreadable(executable, &[]) {
        Some(why) => format!("{reason}: {why}"),
        None => reason,
    })
}

fn try_to_initialise(executable: Option<&Path>) -> Result<(), String> {
    preinitialise()?;
    let mut config = MaybeUninit::<ffi::PyConfig>::uninit();
    // SAFETY: fills all of `config`, which is cleared once below, whatever happens in between.
    let mut config = unsafe {
        ffi::PyConfig_InitPythonConfig(config.as_mut_ptr());
        config.assume_init()
    };
    let result = configure(&mut config, executable).and_then(|()| {
        // SAFETY: a configuration that PyConfig functions have filled; CPython copies it.
        check(unsafe { ffi::Py_InitializeFromConfig(&config) })
    });
    // SAFETY: frees what the functions above put into it.
    unsafe { ffi::PyConfig_Clear(&mut config) };
    result
}

fn preinitialise() -> Result<(), String> {
    let mut config = MaybeUninit::<ffi::PyPreConfig>::uninit();
    // SAFETY: fills all of `config`; CPython copies it.
    unsafe {
        ffi::PyPreConfig_InitPythonConfig(config.as_mut_ptr());
        let mut config = config.assume_init();
        config.parse_argv = 0;
        // nginx leaves no LANG to its workers, and without it everything would be ASCII.
        config.utf8_mode = 1;
        config.coerce_c_locale = 0;
        check(ffi::Py_PreInitialize(&config))
    }
}

fn configure(config: &mut ffi::PyConfig, executable: Option<&Path>) -> Result<(), String> {
    config.parse_argv = 0;
    config.install_signal_handlers = 0;
    config.configure_c_stdio = 0;
    config.pathconfig_warnings = 0;
    if let Some(executable) = executable {
        let path = CString::new(executable.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let config: *mut ffi::PyConfig = config;
        // SAFETY: the fields are those of a configuration that PyConfig_InitPythonConfig has filled.
        unsafe {
            set(config, &raw mut (*config).program_name, &path)?;
            set(config, &raw mut (*config).executable, &path)?;
        }
    }
    let mut arguments: [*const c_char; 1] = [c"nginx".as_ptr()];
    // SAFETY: one NUL-terminated argument.
    check(unsafe { ffi::PyConfig_SetBytesArgv(config, 1, arguments.as_mut_ptr()) })
}

/// # Safety
/// `field` is a string field of `config`.
unsafe fn set(config: *mut ffi::PyConfig, field: *mut *mut wchar_t, value: &CStr) -> Result<(), String> {
    // SAFETY: the caller's promise, and a NUL-terminated value.
    check(unsafe { ffi::PyConfig_SetBytesString(config, field, value.as_ptr()) })
}

fn check(status: ffi::PyStatus) -> Result<(), String> {
    // SAFETY: looks at the status.
    if unsafe { ffi::PyStatus_Exception(status) } == 0 {
        return Ok(());
    }
    let text = |pointer: *const c_char| {
        // SAFETY: null or a NUL-terminated string that is never freed.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned())
    };
    let message = text(status.err_msg).unwrap_or_else(|| format!("it wants to exit with code {}", status.exitcode));
    Err(match text(status.func) {
        Some(function) => format!("{message} ({function})"),
        None => message,
    })
}

/// The interpreter that this thread is attached to.
pub(super) fn current() -> *mut ffi::PyInterpreterState {
    // SAFETY: called by a thread that is attached.
    unsafe { ffi::PyInterpreterState_Get() }
}

/// The version of the linked CPython, as in "3.11.2".
pub fn version() -> &'static str {
    // SAFETY: a NUL-terminated string that is never freed; may be called before Python is initialised.
    let version = unsafe { CStr::from_ptr(ffi::Py_GetVersion()) };
    version.to_str().unwrap_or_default().split(' ').next().unwrap_or_default()
}
