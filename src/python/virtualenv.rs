//! Whether a directory is a virtual environment of this Python, and whether its files can be read, found out without any
//! Python.

use std::ffi::{CStr, CString};
use std::fs;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use super::version;

/// The Python that the module was built with, and its standard library.
const BUILT_WITH: &str = env!("WSGI_PYTHON_EXECUTABLE");
const STDLIB: &str = env!("WSGI_PYTHON_STDLIB");

/// Most symbolic links that a path is followed through.
const MOST_LINKS: usize = 40;

/// Checks that `dir` is a virtual environment that this Python can use. The error names what is wrong with it; without
/// one, there may be a doubt to warn of.
pub fn check_virtualenv(dir: &Path) -> Result<Option<String>, String> {
    let settings = check(dir, version())?;
    Ok(other_build(dir, &settings, Path::new(BUILT_WITH), Path::new(STDLIB)))
}

/// Its settings.
fn check(dir: &Path, version: &str) -> Result<String, String> {
    let shown = dir.display();
    if !dir.is_dir() {
        return Err(format!("the virtualenv \"{shown}\" does not exist or is not a directory"));
    }
    let settings = fs::read_to_string(dir.join("pyvenv.cfg")).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("\"{shown}\" is not a virtualenv: it has no pyvenv.cfg"),
        _ => format!("the virtualenv \"{shown}\" cannot be read: pyvenv.cfg: {error}"),
    })?;
    match settings.lines().find_map(version_in) {
        Some(theirs) if minor(theirs) != minor(version) => Err(format!(
            "the virtualenv \"{shown}\" is of Python {theirs}, but this module was built with Python {version}"
        )),
        _ => Ok(settings),
    }
}

/// What to say of a virtual environment that another build of the same version of Python has made: its standard library is
/// used then, with compiled modules that need not fit the library that this module was built with.
fn other_build(dir: &Path, settings: &str, built_with: &Path, stdlib: &Path) -> Option<String> {
    let home = home(settings)?;
    let same =
        |one: &Path, other: &Path| matches!((one.canonicalize(), other.canonicalize()), (Ok(a), Ok(b)) if a == b);
    let theirs = [python_name(), "python3".into(), "python".into()].map(|name| home.join(name));
    let theirs = theirs.iter().find(|python| python.exists())?;
    if !built_with.exists() || same(theirs, built_with) || same(&stdlib_of(&home)?, stdlib) {
        return None;
    }
    let (dir, theirs, ours) = (dir.display(), theirs.display(), built_with.display());
    Some(format!(
        "the virtualenv \"{dir}\" was made by \"{theirs}\", another build of Python than \"{ours}\", which this module was \
         built with: compiled modules may not load; make the virtualenv with \"{ours}\", or the module with PYTHON={theirs}"
    ))
}

/// As in "python3.11".
fn python_name() -> String {
    let (major, minor) = minor(version());
    format!("python{}.{}", major.unwrap_or_default(), minor.unwrap_or_default())
}

/// Where the Python is that has made a virtual environment.
fn home(settings: &str) -> Option<PathBuf> {
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "home").then(|| PathBuf::from(value.trim()))
    };
    settings.lines().find_map(value)
}

fn stdlib_of(home: &Path) -> Option<PathBuf> {
    Some(home.parent()?.join("lib").join(python_name()))
}

/// What this process cannot read of the files that Python needs: `executable`, its virtual environment and its standard
/// library, and other virtual environments.
pub(super) fn unreadable(executable: Option<&Path>, virtualenvs: &[&Path]) -> Option<String> {
    let mut needed: Vec<PathBuf> = virtualenvs.iter().map(|dir| dir.join("pyvenv.cfg")).collect();
    needed.extend(executable.map(Path::to_path_buf));
    let virtualenv = executable.and_then(|executable| executable.parent()?.parent()).map(|dir| dir.join("pyvenv.cfg"));
    let settings = virtualenv.and_then(|file| {
        needed.push(file.clone());
        fs::read_to_string(file).ok()
    });
    let stdlib = settings.and_then(|settings| stdlib_of(&home(&settings)?)).filter(|folder| folder.is_dir());
    needed.push(stdlib.unwrap_or_else(|| STDLIB.into()).join("encodings"));
    let (path, blocked) = needed.iter().find_map(|path| Some((path, blocked(path, MOST_LINKS)?)))?;
    let (user, blocked, path) = (user(), blocked.display(), path.display());
    Some(format!("the user \"{user}\" cannot read \"{blocked}\", and Python needs \"{path}\""))
}

/// The first directory on the way to `path`, or `path` itself, that this process may not read.
fn blocked(path: &Path, links: usize) -> Option<PathBuf> {
    let mut so_far = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        if !so_far.as_os_str().is_empty() && !may(&so_far, libc::X_OK) {
            return Some(so_far);
        }
        so_far.push(component);
        if let (Ok(target), 1..) = (fs::read_link(&so_far), links) {
            let linked = so_far.parent()?.join(target).join(components.as_path());
            return blocked(&linked, links - 1);
        }
    }
    let mode = if so_far.is_dir() { libc::R_OK | libc::X_OK } else { libc::R_OK };
    (so_far.exists() && !may(&so_far, mode)).then_some(so_far)
}

fn may(path: &Path, mode: i32) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return true };
    // SAFETY: a NUL-terminated path.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), mode, libc::AT_EACCESS) == 0 }
}

/// The name of the user that this process runs as, or its number.
fn user() -> String {
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut buffer = [0; 4096];
    let mut found = ptr::null_mut();
    // SAFETY: fills the entry, with strings in the buffer, if it sets `found` to it.
    unsafe {
        let id = libc::geteuid();
        libc::getpwuid_r(id, entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found);
        found
            .as_ref()
            .map_or_else(|| id.to_string(), |entry| CStr::from_ptr(entry.pw_name).to_string_lossy().into_owned())
    }
}

/// The version in a line of pyvenv.cfg: `version = 3.11.2` (venv), `version_info = 3.11.2.final.0` (virtualenv, uv).
fn version_in(line: &str) -> Option<&str> {
    let (key, value) = line.split_once('=')?;
    matches!(key.trim(), "version" | "version_info").then(|| value.trim())
}

/// Major and minor number.
fn minor(version: &str) -> (Option<&str>, Option<&str>) {
    let mut parts = version.split('.');
    (parts.next(), parts.next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::tests::harness::folder;
    use std::path::PathBuf;

    fn venv(name: &str, settings: Option<&str>) -> PathBuf {
        let dir = folder(&format!("pyvenv-{name}"));
        if let Some(settings) = settings {
            fs::write(dir.join("pyvenv.cfg"), settings).unwrap();
        }
        dir
    }

    #[test]
    fn the_same_minor_version_is_accepted() {
        for settings in ["version = 3.11.7\n", "home=/usr/bin\nversion_info=3.11.0.final.0\n", "home = /usr/bin\n"] {
            let dir = venv("same", Some(settings));
            assert_eq!(check(&dir, "3.11.2").as_deref(), Ok(settings));
        }
    }

    #[test]
    fn another_minor_version_is_refused_by_name() {
        let dir = venv("other", Some("home = /usr/bin\nversion = 3.1.9\n"));
        let problem = check(&dir, "3.11.2").unwrap_err();
        assert!(
            problem.contains("/pyvenv-other") && problem.contains("3.1.9") && problem.contains("3.11.2"),
            "{problem}"
        );
    }

    #[test]
    fn what_is_no_virtualenv_is_refused() {
        let missing = check(Path::new("/nonexistent/venv"), "3.11.2").unwrap_err();
        assert_eq!(missing, "the virtualenv \"/nonexistent/venv\" does not exist or is not a directory");
        let bare = check(&venv("bare", None), "3.11.2").unwrap_err();
        assert!(bare.ends_with("is not a virtualenv: it has no pyvenv.cfg"), "{bare}");
    }

    #[test]
    fn another_build_of_the_same_version_is_doubted() {
        let root = folder("builds");
        for build in ["ours", "theirs"] {
            fs::create_dir_all(root.join(build).join("bin")).unwrap();
            fs::create_dir_all(root.join(build).join("lib").join(python_name())).unwrap();
            fs::write(root.join(build).join("bin").join(python_name()), "").unwrap();
        }
        let of = |build: &str| root.join(build).join("bin");
        let stdlib = |build: &str| root.join(build).join("lib").join(python_name());
        let doubt = |home: &str| {
            let settings = format!("home = {}\nversion = 3.11.2\n", of(home).display());
            other_build(&root, &settings, &of("ours").join(python_name()), &stdlib("ours"))
        };
        assert_eq!(doubt("ours"), None);
        let message = doubt("theirs").unwrap();
        assert!(message.contains(of("theirs").to_str().unwrap()) && message.contains(of("ours").to_str().unwrap()));
        std::os::unix::fs::symlink(root.join("ours"), root.join("link")).unwrap();
        assert_eq!(doubt("link"), None);
        assert_eq!(other_build(&root, "version = 3.11.2\n", &of("ours"), &stdlib("ours")), None, "who knows");
    }
}
