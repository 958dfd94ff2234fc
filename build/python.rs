//! The CPython that PYO3_PYTHON names: version, library and headers; the cfgs `Py_3_*` and `Py_GIL_DISABLED`.

use std::process::Command;

const PROBE: &str = "build/probe.py";

pub(crate) fn configure() {
    println!("cargo::rerun-if-changed=build/python.rs");
    println!("cargo::rerun-if-changed={PROBE}");
    println!("cargo::rerun-if-env-changed=PYO3_PYTHON");

    // pyo3-ffi was built with this very interpreter, whatever PATH says by now.
    let Some(interpreter) = pyo3_build_config::get().executable() else {
        crate::fail("no Python interpreter to ask: set PYO3_PYTHON to one");
    };
    for line in probe(interpreter).lines() {
        match line.split_once('=') {
            Some(("version", version)) => println!("cargo::rustc-env=WSGI_PYTHON_VERSION={version}"),
            Some(("executable", path)) => println!("cargo::rustc-env=WSGI_PYTHON_EXECUTABLE={path}"),
            Some(("stdlib", folder)) => println!("cargo::rustc-env=WSGI_PYTHON_STDLIB={folder}"),
            Some(("libdir", folder)) => println!("cargo::rustc-link-search=native={folder}"),
            // The dynamic loader does not look in other than the system's folders by itself.
            Some(("rpath", folder)) if !folder.is_empty() => println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}"),
            _ => {}
        }
    }
    pyo3_build_config::use_pyo3_cfgs();
}

fn probe(interpreter: &str) -> String {
    match Command::new(interpreter).args(["-I", PROBE]).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => crate::fail(&String::from_utf8_lossy(&output.stderr)),
        Err(error) => crate::fail(&format!("cannot run {interpreter}: {error}")),
    }
}
