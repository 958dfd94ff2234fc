//! Whether a directory is a virtual environment of this Python, found out without any Python.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::version;

/// Checks that `dir` is a virtual environment that this Python can use. The message names what is wrong with it.
pub fn check_virtualenv(dir: &Path) -> Result<(), String> {
    check(dir, version())
}

fn check(dir: &Path, version: &str) -> Result<(), String> {
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
        _ => Ok(()),
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
            assert_eq!(check(&dir, "3.11.2"), Ok(()), "{settings}");
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
}
