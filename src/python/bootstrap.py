"""What nginx-wsgi does in Python: everything that is not on the way of a request.

It runs once per interpreter, in the namespace of the module _ngx_wsgi, where _write, _flush and _log are already.
"""
import atexit
import importlib
import importlib.machinery
import importlib.util
import io
import logging
import os
import re
import signal
import site
import sys
import threading
import traceback
import types
import zlib

EMERG, ALERT, CRIT, ERROR, WARN, NOTICE, INFO, DEBUG = range(1, 9)
PROCESS = os.getpid()
LONGEST_TRACEBACK = 64 * 1024


# ---- what is written ----

class Stream(io.TextIOBase):
    """sys.stdout, sys.stderr and wsgi.errors: lines become records of the error log."""

    mode = "w"
    encoding = "utf-8"
    errors = "backslashreplace"
    line_buffering = True

    def __init__(self, number, name):
        self._number = number
        self.name = name

    def write(self, text):
        if not isinstance(text, str):
            raise TypeError("write() argument must be str, not " + type(text).__name__)
        _write(self._number, text)
        return len(text)

    def flush(self):
        if _flush:  # None once the interpreter takes its modules apart (3.13 closes streams after that)
            _flush(self._number)

    def close(self):
        self.flush()

    def writable(self):
        return True

    def fileno(self):
        return self._number + 1

    def reconfigure(self, **options):
        self.flush()

    @property
    def buffer(self):
        return Binary(self._number, self.name)


class Binary(io.RawIOBase):
    """The bytes below a Stream."""

    mode = "wb"

    def __init__(self, number, name):
        self._number = number
        self.name = name

    def write(self, data):
        data = bytes(data)
        _write(self._number, data)
        return len(data)

    def flush(self):
        if _flush:  # None once the interpreter takes its modules apart (3.13 closes streams after that)
            _flush(self._number)

    def writable(self):
        return True

    def fileno(self):
        return self._number + 1


class RequestTimeout(BaseException):
    """Raised in a call that has run out of its wsgi_request_timeout. The client has been answered by then."""

    __module__ = "ngx_wsgi"


class LogHandler(logging.Handler):
    """A logging handler that writes to nginx's error log at the level that fits the record's."""

    def emit(self, record):
        try:
            _log(severity(record.levelno), self.format(record))
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)


def severity(level):
    for bound, nginx in ((logging.CRITICAL, CRIT), (logging.ERROR, ERROR), (logging.WARNING, WARN), (logging.INFO, INFO)):
        if level >= bound:
            return nginx
    return DEBUG


errors = Stream(1, "<wsgi.errors>")
sys.stdout = Stream(0, "<stdout>")
sys.stderr = Stream(1, "<stderr>")
sys.stdin = open(os.devnull, encoding="utf-8")
logging.lastResort = LogHandler(logging.WARNING)


# ---- the module that applications can import ----

def public_module():
    module = types.ModuleType("ngx_wsgi", "The application server inside nginx.")
    LogHandler.__module__ = module.__name__
    module.LogHandler = LogHandler
    module.RequestTimeout = RequestTimeout
    module.__all__ = ["LogHandler", "RequestTimeout"]
    sys.modules[module.__name__] = module


public_module()


def no_early_hints(headers):
    """wsgi.early_hints where this nginx has no 103 responses: nothing is sent."""


# ---- signals are nginx's ----

def restrict_signals():
    original = signal.signal
    defaults = (signal.SIG_DFL, signal.SIG_IGN)
    told = set()

    def signal_(signalnum, handler):
        """Do nothing: the signals of this process are nginx's. In a child process, as ever."""
        if os.getpid() != PROCESS:
            return original(signalnum, handler)
        before = signal.getsignal(signalnum)
        if callable(handler):
            frame = sys._getframe(1)
            place = "%s:%d" % (frame.f_code.co_filename, frame.f_lineno)
            if (place, signalnum) not in told:
                told.add((place, signalnum))
                _log(WARN, "%s: signal.signal(%r, ...) is ignored: signals of this process belong to nginx"
                     % (place, signalnum))
        elif handler not in defaults:
            raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
        return before

    signal_.__name__ = signal_.__qualname__ = "signal"
    signal.signal = signal_


restrict_signals()


# ---- exceptions and stacks ----

def describe(error):
    """The traceback of an exception and of what caused it, whatever the exception does to prevent that."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip("\n")
        if len(text) <= LONGEST_TRACEBACK:
            return text
        half = LONGEST_TRACEBACK // 2
        left_out = text[half:-half].count("\n")
        return "%s\n  ... %d lines left out ...\n%s" % (text[:half], left_out, text[-half:])
    except BaseException as second:
        try:
            where = "".join(traceback.format_tb(error.__traceback__))
        except BaseException:
            where = ""
        return "%s%s (its text could not be had: %s)" % (where, type(error).__qualname__, type(second).__qualname__)


def stack(ident):
    """Where a thread is, or None."""
    frame = sys._current_frames().get(ident)
    return frame and "".join(traceback.format_stack(frame)).rstrip("\n")


# ---- threads ----

def set_switch_interval(microseconds):
    sys.setswitchinterval(microseconds / 1_000_000)


def name_thread(name):
    threading.current_thread().name = name


def forget_thread():
    active = getattr(threading, "_active", {})
    if isinstance(active.get(threading.get_ident()), threading._DummyThread):
        active.pop(threading.get_ident(), None)


def hide_dummies_from_forks():
    """Before 3.12, a thread that Python did not start could not be the main thread of a fork once it had a Thread object."""
    if "_after_fork" in vars(threading._DummyThread):
        return
    hidden = {}

    def before():
        ident = threading.get_ident()
        if isinstance(threading._active.get(ident), threading._DummyThread):
            hidden[ident] = threading._active.pop(ident)

    def after_in_parent():
        ident = threading.get_ident()
        if ident in hidden:
            threading._active[ident] = hidden.pop(ident)

    os.register_at_fork(before=before, after_in_parent=after_in_parent)


hide_dummies_from_forks()


# ---- finding applications ----

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


# ---- files that nginx may send by itself ----

def sendable(filelike):
    """The descriptor and the position (-1: the descriptor's own) of a file whose bytes are what read() gives."""
    try:
        if isinstance(filelike, io.IOBase):
            # A GzipFile has the descriptor of the compressed file: only what is known to read plainly.
            if type(filelike) in (io.BufferedReader, io.BufferedRandom):
                if type(filelike.raw) is not io.FileIO:
                    return None
            elif type(filelike) is not io.FileIO:
                return None
        descriptor = filelike.fileno()
        if type(descriptor) is not int:
            return None
        if hasattr(filelike, "flush"):
            filelike.flush()
    except Exception:
        return None
    try:
        position = filelike.tell()
    except Exception:
        return descriptor, -1
    return (descriptor, position) if type(position) is int and position >= 0 else None


# ---- the end ----

def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass


def exit_code(error):
    """How a child process ends whose code raised `error`, or returned (None)."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        errors.write(describe(error) + "\n")
        return 1
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xff
    errors.write(str(error.code) + "\n")
    return 1


def leave_if_child(error):
    if os.getpid() != PROCESS:
        code = exit_code(error)
        flush()
        os._exit(code)


def shut_down():
    """What the interpreter does at its end, while it can still be waited for."""
    for step in (threading._shutdown, atexit._run_exitfuncs, flush):
        try:
            step()
        except BaseException as error:
            _log(ERROR, "exception at the end of the interpreter\n" + describe(error))
