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


def take_over_first_streams():
    """Have the streams that Python began with write to the error log, too: sitecustomize may have kept them."""
    for number, stream in enumerate((sys.__stdout__, sys.__stderr__)):
        if type(stream) is io.TextIOWrapper:
            stream.flush()
            stream.__init__(Binary(number, stream.name), "utf-8", "backslashreplace", write_through=True)


take_over_first_streams()
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


# ---- signals: nginx's, and the application's ----

class Signals:
    """What signal.signal and signal.set_wakeup_fd are in a worker."""

    NGINX = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
             signal.SIGALRM, signal.SIGIO, signal.SIGCHLD, signal.SIGPIPE, signal.SIGSYS}
    # Nobody's to handle: the instruction that has failed would be tried again for ever.
    CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}

    def __init__(self):
        self.signal, self.set_wakeup_fd = signal.signal, signal.set_wakeup_fd
        # Other nginx modules may use more.
        used = {number for number in signal.valid_signals() if signal.getsignal(number) is not signal.SIG_DFL}
        self.of_nginx = used | self.NGINX | self.CRASHES
        self.handled = set()
        self.wakeup = None
        self.told = set()
        os.register_at_fork(after_in_child=self.after_fork)

    def set(self, number, handler):
        """As ever, in python-main and in a child process."""
        before = self.signal(number, handler)
        if os.getpid() == PROCESS and callable(handler):
            self.handled.add(number)
            if self.wakeup is None:  # python-main sleeps when a signal comes
                self.wakeup = _watch_signals()
                self.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        return before

    def ignore(self, number, handler, frame):
        """nginx's stay nginx's."""
        before = signal.getsignal(number)
        if callable(handler):
            place = "%s:%d" % (frame.f_code.co_filename, frame.f_lineno)
            if (place, number) not in self.told:
                self.told.add((place, number))
                _log(WARN, "%s: signal.signal(%r, ...) is ignored: signals of this process belong to nginx"
                     % (place, number))
        elif handler not in (signal.SIG_DFL, signal.SIG_IGN):
            raise TypeError("signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a callable object")
        return before

    def wake(self, fd, warn_on_full_buffer):
        """Where none is wanted any more, python-main is woken again."""
        if fd == -1 and self.wakeup is not None and os.getpid() == PROCESS:
            before = self.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        else:
            before = self.set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)
        return -1 if before == self.wakeup else before

    def after_fork(self):
        """The descriptor is the worker's."""
        if self.wakeup is not None:
            self.set_wakeup_fd(-1)
            self.wakeup = None

    def shut_down(self):
        """Handlers go with the interpreter, and with them what keeps a late signal from killing the process."""
        for number in self.handled:
            self.signal(number, signal.SIG_IGN)


signals = Signals()


def replace_signal():
    def signal_(signalnum, handler):
        """Set the handler of a signal that nginx does not use; of others, do nothing. In a child process, as ever."""
        if signalnum in signals.of_nginx and os.getpid() == PROCESS:
            return signals.ignore(signalnum, handler, sys._getframe(1))
        return signals.set(signalnum, handler)

    def set_wakeup_fd(fd, *, warn_on_full_buffer=True):
        return signals.wake(fd, warn_on_full_buffer)

    for function in (signal_, set_wakeup_fd):
        name = function.__name__.rstrip("_")
        function.__name__ = function.__qualname__ = name
        setattr(signal, name, function)


replace_signal()


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

def set_switch_interval(microseconds, set=sys.setswitchinterval):
    set(microseconds / 1_000_000)


def change_switch_interval(before, after, get=sys.getswitchinterval):
    """Unless the application has set an interval of its own."""
    if round(get() * 1_000_000) == before:
        set_switch_interval(after)


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
    # An attribute of the raw file itself would hide its methods.
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
    for step in (threading._shutdown, atexit._run_exitfuncs, signals.shut_down, flush):
        try:
            step()
        except BaseException as error:
            _log(ERROR, "exception at the end of the interpreter\n" + describe(error))
