//! What the configuration asks for: applications, pools, where Python finds its modules.

use std::path::PathBuf;

/// What `wsgi_pass` and `module` name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where the callable comes from.
    pub source: Source,
    /// The name of the callable in it; may have dots (`api.wsgi_app`).
    pub callable: String,
    /// `name()`: call it once, without arguments, and serve what it returns.
    pub factory: bool,
}

/// Where the callable comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A dotted module name.
    Module(String),
    /// A file, by its absolute path.
    File(PathBuf),
}

/// Why a target cannot be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTarget(pub String);

impl Target {
    /// Parses `MODULE:CALLABLE`, `MODULE:FACTORY()` or `/FILE[:CALLABLE]`. The callable defaults to `application`.
    pub fn parse(text: &str) -> Result<Self, BadTarget> {
        let (place, callable) = match text.rsplit_once(':') {
            Some((place, callable)) if !callable.contains('/') => (place, callable),
            _ => (text, "application"),
        };
        let (callable, factory) = match callable.strip_suffix("()") {
            Some(name) => (name, true),
            None => (callable, false),
        };
        if place.is_empty() {
            return Err(BadTarget(format!("no module or file before \":\" in \"{text}\"")));
        }
        if !is_dotted_name(callable) {
            return Err(BadTarget(format!("\"{callable}\" is not the name of a Python callable in \"{text}\"")));
        }
        let source = if place.starts_with('/') {
            Source::File(place.into())
        } else if is_dotted_name(place) {
            Source::Module(place.to_owned())
        } else if place.contains('/') {
            return Err(BadTarget(format!("the file path \"{place}\" is not absolute")));
        } else {
            return Err(BadTarget(format!("\"{place}\" is not a Python module name")));
        };
        Ok(Self { source, callable: callable.to_owned(), factory })
    }
}

/// Dotted Python identifiers. Letters beyond ASCII are left to Python to judge.
fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(|part| {
        part.chars().next().is_some_and(|first| first == '_' || first.is_alphabetic())
            && part.chars().all(|c| c == '_' || c.is_alphanumeric())
    })
}

/// One application.
#[derive(Clone, Debug)]
pub struct App {
    /// The name of its `wsgi_app`, or the target as `wsgi_pass` spelt it.
    pub name: String,
    /// What to import.
    pub target: Target,
    /// Directories that go to the front of `sys.path`, in order.
    pub path: Vec<PathBuf>,
    /// A virtual environment whose packages it needs.
    pub virtualenv: Option<PathBuf>,
    /// Entries of `os.environ`, set before the import.
    pub env: Vec<(String, String)>,
    /// `file:line` of the directive, for messages.
    pub origin: String,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name in `pool=`.
    pub name: String,
    /// Number of threads.
    pub threads: usize,
    /// How many calls may wait.
    pub queue: usize,
    /// Stack of each thread, in bytes; 0: the system's default.
    pub stack_size: usize,
}

/// Everything that a worker process starts.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The applications; an [`App`]'s index is its identity.
    pub apps: Vec<App>,
    /// The pools; a [`Pool`]'s index is its identity.
    pub pools: Vec<Pool>,
    /// More than one worker process runs these applications.
    pub multiprocess: bool,
    /// The server can send interim responses (103).
    pub early_hints: bool,
    /// `wsgi_switch_interval`.
    pub switch_interval: SwitchInterval,
}

/// How long a thread that wants the GIL waits before the one that has it is made to let it go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchInterval {
    /// CPython's default; less while short calls wait behind long ones.
    Auto,
    /// That many microseconds.
    Fixed(u32),
}

/// CPython's own switch interval, in microseconds.
pub const LONG_SWITCH_INTERVAL: u32 = 5000;

impl SwitchInterval {
    /// The longest that it gets, in microseconds.
    pub fn longest(self) -> u32 {
        match self {
            Self::Auto => LONG_SWITCH_INTERVAL,
            Self::Fixed(interval) => interval,
        }
    }
}

impl Default for Spec {
    fn default() -> Self {
        let switch_interval = SwitchInterval::Auto;
        Self { apps: Vec::new(), pools: Vec::new(), multiprocess: false, early_hints: false, switch_interval }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Source, String, bool) {
        let target = Target::parse(text).unwrap();
        (target.source, target.callable, target.factory)
    }

    fn refused(text: &str) -> String {
        Target::parse(text).unwrap_err().0
    }

    #[test]
    fn the_three_forms() {
        let module = |name: &str| Source::Module(name.into());
        let file = |path: &str| Source::File(path.into());
        assert_eq!(parsed("blog.wsgi"), (module("blog.wsgi"), "application".into(), false));
        assert_eq!(parsed("blog:app"), (module("blog"), "app".into(), false));
        assert_eq!(parsed("blog:api.wsgi"), (module("blog"), "api.wsgi".into(), false));
        assert_eq!(parsed("blog:create_app()"), (module("blog"), "create_app".into(), true));
        assert_eq!(parsed("/srv/app.wsgi"), (file("/srv/app.wsgi"), "application".into(), false));
        assert_eq!(parsed("/srv/app.wsgi:app"), (file("/srv/app.wsgi"), "app".into(), false));
        assert_eq!(parsed("/srv/a:b/app.py"), (file("/srv/a:b/app.py"), "application".into(), false));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(refused("srv/app.wsgi"), "the file path \"srv/app.wsgi\" is not absolute");
        assert_eq!(refused("blog-app:application"), "\"blog-app\" is not a Python module name");
        assert_eq!(refused("blog:1st"), "\"1st\" is not the name of a Python callable in \"blog:1st\"");
        assert_eq!(refused("blog:"), "\"\" is not the name of a Python callable in \"blog:\"");
        assert_eq!(refused(":app"), "no module or file before \":\" in \":app\"");
        assert_eq!(refused("a..b:app"), "\"a..b\" is not a Python module name");
    }
}
