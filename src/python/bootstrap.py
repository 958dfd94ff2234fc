"""What nginx-wsgi does in Python: everything that is not on the way of a request.

It runs once per interpreter, in the namespace of the module _ngx_wsgi, where _write, _flush and _log are already.
"""
import atexit
import importlib
import io
import logging
import os
import signal
import sys
import threading
import traceback
import types

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


# ---- files that nginx may send by itself ----

BUFFERED = (io.BufferedReader, io.BufferedRandom)


def plain_file(filelike):
    """The file whose own read() the object's read() is, if that gives the bytes of its descriptor and no others.

    A descriptor proves nothing: a GzipFile has that of the compressed file, and many objects hand on fileno() alone.
    """
    read = filelike.read
    if type(filelike) is getattr(sys.modules.get("tempfile"), "_TemporaryFileWrapper", None):
        read = getattr(read, "__wrapped__", read)
    file = read.__self__ if type(read) is types.BuiltinMethodType and read.__name__ == "read" else None
    raw = file.raw if type(file) in BUFFERED else file
    # An attribute of the raw file's own would be read in the place of its methods.
    if type(raw) is io.FileIO and not any(name.startswith("read") for name in vars(raw)):
        return file
    return None


def sendable(filelike):
    """The descriptor and the position (-1: the descriptor's own) of a file whose bytes are what read() gives."""
    try:
        file = plain_file(filelike)
        if file is None:
            return None
        kind = type(file)
        descriptor = kind.fileno(file)
        kind.flush(file)
    except Exception:
        return None
    try:
        return descriptor, kind.tell(file)
    except Exception:
        return descriptor, -1


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
