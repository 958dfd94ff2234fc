//! How applications are found and loaded.

use std::path::{Path, PathBuf};

use super::harness::{app, ask, folder, records};
use crate::exchange::log::Level;
use crate::exchange::spec::App;

/// The application of most of these files: it tells which file it is from.
const TELL: &str = "
def application(environ, start_response):
    start_response('200 OK', [])
    return [ANSWER.encode()]
";

fn write(root: &Path, name: &str, source: &str) -> PathBuf {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, source).unwrap();
    path
}

/// A file that answers with a Python expression.
fn telling(root: &Path, name: &str, answer: &str) -> String {
    write(root, name, &format!("ANSWER = {answer}\n{TELL}")).to_str().unwrap().to_string()
}

/// Applications that the shared harness imports, after those of cases.py.
pub(super) fn apps() -> Vec<App> {
    let root = folder("import");
    let mut apps = files(&root);
    apps.extend(modules(&root));
    apps.extend(failures(&root));
    apps
}

fn files(root: &Path) -> Vec<App> {
    write(root, "a/helper_of_a.py", "NAME = 'helper of a'");
    let a = telling(root, "a/app.wsgi", "'a with ' + __import__('helper_of_a').NAME");
    let b = telling(root, "b/app.wsgi", "'b'");
    let plain = telling(root, "b/app.py", "'b, but .py: ' + __file__.rpartition('/')[2]");
    let odd = telling(root, "b/with-dash.and.dots", "__name__");
    let counted = "import itertools\ncount = itertools.count()\n";
    let two = "def first(e, s):\n    s('200 OK', [])\n    return [b'%d' % next(count)]\nsecond = first\n";
    let shared = write(root, "shared.py", &format!("{counted}{two}"));
    let mut apps = vec![
        app("file a", &a, &[]),
        app("file b", &b, &[]),
        app("file b py", &plain, &[]),
        app("odd name", &odd, &[]),
        app("shared first", &format!("{}:first", shared.display()), &[]),
        app("shared second", &format!("{}:second", shared.display()), &[]),
    ];
    for site in ["one", "two"] {
        write(root, &format!("{site}/sameproject/__init__.py"), "");
        write(root, &format!("{site}/sameproject/settings.py"), &format!("NAME = '{site}'"));
        let relative = "__import__('importlib').import_module('.settings', __package__).NAME";
        let file = telling(root, &format!("{site}/sameproject/wsgi.py"), relative);
        apps.push(app(&format!("project {site}"), &file, &[]));
    }
    apps
}

fn modules(root: &Path) -> Vec<App> {
    let mut apps = Vec::new();
    for site in ["m1", "m2"] {
        telling(root, &format!("{site}/samemodule.py"), &format!("'{site}'"));
        apps.push(app(&format!("module {site}"), "samemodule", &[root.join(site)]));
    }
    let nested = format!("ANSWER = 'nested'\n{TELL}class api:\n    class v1: app = staticmethod(application)\n");
    write(root, "m3/nested.py", &nested);
    apps.push(app("dotted callable", "nested:api.v1.app", &[root.join("m3")]));
    let factory =
        format!("made = []\n{TELL}def make():\n    made.append(1)\n    return application\nANSWER = 'made'\n");
    write(root, "m3/factory.py", &factory);
    apps.push(app("factory", "factory:make()", &[root.join("m3")]));
    write(root, "m4/order.py", "raise AssertionError('the wrong one')");
    telling(root, "m3/order.py", "'m3 is first'");
    apps.push(app("path order", "order", &[root.join("m3"), root.join("m4")]));
    telling(root, "m3/environment.py", "__import__('os').environ['WSGI_TEST_ENV']");
    let env = vec![("WSGI_TEST_ENV".to_string(), "caf\u{e9} = yes".to_string())];
    apps.push(App { env, ..app("environment", "environment", &[root.join("m3")]) });
    telling(
        root,
        "m3/runtime.py",
        "repr([__import__('sys').argv, __import__('sys').flags.utf8_mode, \
        __import__('sys').getfilesystemencoding(), __import__('threading').current_thread() is \
        __import__('threading').main_thread()])",
    );
    apps.push(app("runtime", "runtime", &[root.join("m3")]));
    apps.push(with_virtualenv(root));
    apps
}

/// An application that needs a package of a virtual environment (which has no python of its own).
fn with_virtualenv(root: &Path) -> App {
    let mut version = super::super::version().split('.');
    let tag = format!("python{}.{}", version.next().unwrap(), version.next().unwrap());
    write(root, &format!("venv/lib/{tag}/site-packages/only_in_venv.py"), "NAME = 'of the venv'");
    // A name that the standard library has is not taken from there.
    write(root, &format!("venv/lib/{tag}/site-packages/this.py"), "raise AssertionError('not the standard library')");
    telling(root, "m3/uses_venv.py", "__import__('only_in_venv').NAME + str(__import__('json') and '')");
    App { virtualenv: Some(root.join("venv")), ..app("virtualenv", "uses_venv", &[root.join("m3")]) }
}

fn failures(root: &Path) -> Vec<App> {
    let sources = [
        ("raises", "raise LookupError('at import')", ""),
        ("exits", "import sys; sys.exit('leaving')", ""),
        ("syntax", "def broken(:", ""),
        ("imports", "import no_such_thing", ""),
        ("lacks", "app = 1", ""),
        ("uncallable", "application = 42", ""),
        ("no factory", "make = 42", ":make()"),
        ("factory raises", "def make(): raise ValueError('in the factory')", ":make()"),
        ("factory none", "def make(): pass", ":make()"),
    ];
    let bad = |(name, source, callable): (&str, &str, &str)| {
        let file = write(root, &format!("bad/{}.py", name.replace(' ', "_")), source);
        app(name, &format!("{}{callable}", file.display()), &[])
    };
    let mut apps: Vec<_> = sources.map(bad).into();
    apps.push(app("missing module", "no_such_module.wsgi:application", &[]));
    apps.push(app("missing file", "/nonexistent/app.wsgi", &[]));
    apps
}

fn answer(app: &str) -> String {
    ask(app).run().text()
}

#[test]
fn files_of_the_same_name_are_different_applications() {
    assert_eq!(answer("file a"), "a with helper of a");
    assert_eq!(answer("file b"), "b");
    assert_eq!(answer("file b py"), "b, but .py: app.py");
    assert!(answer("odd name").starts_with("_wsgi_"), "{}", answer("odd name"));
}

#[test]
fn a_file_with_two_applications_is_loaded_once() {
    let numbers = [answer("shared first"), answer("shared second")];
    assert_eq!(numbers, ["0", "1"]);
}

#[test]
fn packages_of_the_same_name_are_kept_apart() {
    assert_eq!([answer("project one"), answer("project two")], ["one", "two"]);
    let warned = records(0);
    let warning = warned.iter().find(|(level, record)| *level == Level::Warn && record.contains("sameproject"));
    assert!(warning.is_some_and(|(_, record)| record.contains("is in use already")), "{warned:?}");
}

#[test]
fn modules_of_the_same_name_are_kept_apart() {
    assert_eq!([answer("module m1"), answer("module m2")], ["m1", "m2"]);
}

#[test]
fn callables_and_factories() {
    assert_eq!(answer("dotted callable"), "nested");
    assert_eq!(answer("factory"), "made");
}

#[test]
fn where_modules_are_found() {
    assert_eq!(answer("path order"), "m3 is first");
    assert_eq!(answer("virtualenv"), "of the venv");
}

#[test]
fn what_an_application_finds_at_its_import() {
    assert_eq!(answer("environment"), "caf\u{e9} = yes");
    assert_eq!(answer("runtime"), "[['nginx'], 1, 'utf-8', True]");
}

#[test]
fn an_application_that_cannot_be_imported() {
    for (name, problem) in [
        ("raises", "LookupError: at import"),
        ("exits", "SystemExit: leaving"),
        ("syntax", "SyntaxError: "),
        ("imports", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("lacks", "lacks.py\" has no \"application\""),
        ("uncallable", "\"application\" in \""),
        ("uncallable", "uncallable.py\" is not callable, but int"),
        ("no factory", "is not callable, but int"),
        ("factory raises", "ValueError: in the factory"),
        ("factory none", "what \"make()\" returned in \""),
        ("missing module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("missing file", "the file \"/nonexistent/app.wsgi\" cannot be read: No such file or directory"),
    ] {
        let reply = ask(name).run();
        assert_eq!(reply.failure().status, 500);
        let short = format!("application \"{name}\" could not be imported, see above");
        assert_eq!((&reply.failure().record, reply.failure().level), (&short, Level::Error));
        let told = records(0);
        let start = format!("application \"{name}\" (in nginx.conf:7) could not be imported: ");
        let told: Vec<_> = told.iter().filter(|(_, record)| record.starts_with(&start)).collect();
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert!(told[0].0 == Level::Error && told[0].1.contains(problem), "{name}: {told:?}");
    }
}

#[test]
fn its_traceback_begins_with_its_own_file() {
    ask("raises").run();
    let told = records(0);
    let record = told.iter().find(|(_, record)| record.contains("LookupError: at import")).unwrap();
    assert!(!record.1.contains("<ngx_wsgi>") && !record.1.contains("importlib"), "{}", record.1);
    assert!(record.1.contains("bad/raises.py\", line 1"), "{}", record.1);
}
