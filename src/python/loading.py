"""How applications are found and imported. Runs behind bootstrap.py, in the same namespace."""
import importlib
import importlib.machinery
import importlib.util
import os
import re
import site
import sys
import traceback
import zlib


class Unusable(Exception):
    """What is wrong with a target, in words that need no traceback."""


def put(directory, index):
    """Have a directory at that place of sys.path."""
    directory = os.path.abspath(directory)
    while directory in sys.path:
        sys.path.remove(directory)
    sys.path.insert(index, directory)


def add_virtualenv(directory):
    """Have the packages of a virtual environment found before the installed ones, after the standard library."""
    tag = "python%d.%d%s" % (sys.version_info[:2] + ("t" if "t" in getattr(sys, "abiflags", "") else "",))
    before = list(sys.path)
    site.addsitedir(os.path.join(directory, "lib", tag, "site-packages"))
    new = [entry for entry in sys.path if entry not in before]
    installed = (index for index, entry in enumerate(before)
                 if os.path.basename(entry) in ("site-packages", "dist-packages"))
    index = next(installed, len(before))
    sys.path[:] = before[:index] + new + before[index:]


def unique_name(path):
    """A module name for a file, the same in every process."""
    return "_wsgi%s_%08x" % (re.sub(r"\W+", "_", os.path.splitext(path)[0]), zlib.crc32(os.fsencode(path)))


class Uncached(importlib.machinery.SourceFileLoader):
    """For files of any suffix: app.wsgi must not share the bytecode file of app.py."""

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def execute(name, path, folder=None):
    """Load a file as the module `name`, once; with a folder, as that package."""
    if name in sys.modules:
        return sys.modules[name]
    plain = importlib.machinery.SourceFileLoader if path.endswith(".py") else Uncached
    spec = importlib.util.spec_from_file_location(
        name, path, loader=plain(name, path), submodule_search_locations=folder and [folder])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return sys.modules.get(name, module)


def same_file(first, second):
    try:
        return os.path.samefile(first, second)
    except (OSError, TypeError, ValueError):
        return False


def import_from(dotted, folders):
    """Import a module. If its name is another application's, loaded from elsewhere, give it a name of its own."""
    top, _, rest = dotted.partition(".")
    loaded = sys.modules.get(top)
    if loaded is None or not folders:
        return importlib.import_module(dotted)
    spec = importlib.machinery.PathFinder.find_spec(top, [os.path.abspath(folder) for folder in folders])
    if spec is None or not spec.has_location or same_file(spec.origin, getattr(loaded, "__file__", None)):
        return importlib.import_module(dotted)
    name = unique_name(spec.origin)
    _log(WARN, 'a module "%s" from %s is in use already: %s is loaded as "%s"; where it imports "%s" it gets the other'
         % (top, getattr(loaded, "__file__", "elsewhere"), spec.origin, name, top))
    places = spec.submodule_search_locations
    module = execute(name, spec.origin, places[0] if places else None)
    return importlib.import_module(name + "." + rest) if rest else module


def import_file(path, index):
    """Load a file: as part of its package if it is in one, else by itself."""
    try:
        open(path, "rb").close()
    except OSError as error:
        raise Unusable('the file "%s" cannot be read: %s' % (path, error.strerror))
    folder, base = os.path.split(path)
    stem, suffix = os.path.splitext(base)
    parts = [stem]
    while (suffix == ".py" and parts[0].isidentifier() and os.path.basename(folder).isidentifier()
           and os.path.isfile(os.path.join(folder, "__init__.py"))):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    put(folder, index)
    if len(parts) == 1:
        return execute(unique_name(path), path)
    if parts[-1] == "__init__":
        parts.pop()
    return import_from(".".join(parts), [folder])


class DjangoSettings:
    """Which Django project this interpreter has: it can have one, and a second would be served the first's pages."""

    NAME = "DJANGO_SETTINGS_MODULE"

    def __init__(self):
        self.chosen = None

    def __enter__(self):
        # A wsgi.py sets it where it is not set already: let it, to see what it wants.
        if self.chosen:
            os.environ.pop(self.NAME, None)

    def __exit__(self, *_):
        wanted = os.environ.get(self.NAME)
        if self.chosen is None:
            self.chosen = wanted
            return
        os.environ[self.NAME] = self.chosen
        if wanted not in (None, self.chosen):
            raise Unusable(
                'it wants the Django settings "%s", but another application of this worker has "%s", and an interpreter '
                'has one Django project: serve it by an nginx of its own' % (wanted, self.chosen))


django_settings = DjangoSettings()


def load(is_file, place, name, is_factory, path, environment):
    for folder in reversed(path):
        put(folder, 0)
    with django_settings:
        for key, value in environment:
            os.environ[key] = value
        module = import_file(place, len(path)) if is_file else import_from(place, path)
    target = module
    for attribute in name.split("."):
        try:
            target = getattr(target, attribute)
        except AttributeError:
            raise Unusable('"%s" has no "%s"' % (place, name)) from None
    if is_factory:
        if not callable(target):
            raise Unusable('"%s" in "%s" is not callable, but %s' % (name, place, type(target).__name__))
        target = target()
    if not callable(target):
        what = 'what "%s()" returned' % name if is_factory else '"%s"' % name
        raise Unusable('%s in "%s" is not callable, but %s' % (what, place, type(target).__name__))
    return target


def own_frame(frame):
    name = frame.tb_frame.f_code.co_filename
    return name == __file__ or name.startswith("<frozen importlib")


def load_or_explain(*target):
    """The application and None, or None and why there is none."""
    try:
        application = load(*target)
        leave_if_child(None)
        return application, None
    except Unusable as error:
        return None, str(error)
    except BaseException as error:
        leave_if_child(error)
        trace = error.__traceback__
        while trace and own_frame(trace):
            trace = trace.tb_next
        return None, describe(error.with_traceback(trace))
