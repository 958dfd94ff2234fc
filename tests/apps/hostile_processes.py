"""Applications that start processes, and use signals. /process/NAME calls the function NAME below."""

import concurrent.futures
import faulthandler
import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import gates

TEXT = [("Content-Type", "text/plain")]
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def application(environ, start_response):
    return CASES[environ["PATH_INFO"].rpartition("/")[2]](environ, start_response)


def answer(start_response, text):
    start_response("200 OK", TEXT)
    return [str(text).encode()]


def ended(child):
    """How a child has ended: its exit code, or -signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# ---- fork ----


class Unlucky(Exception):
    pass


def fails():
    raise Unlucky("in the child")


def threaded():
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    return "threads work in the child"


def starts_others():
    status = subprocess.run([sys.executable, "-c", "raise SystemExit(6)"]).returncode
    os._exit(status)


def forks_again():
    """A child's child: what it has opened by then stays open."""
    pipes = [os.pipe() for _ in range(20)]
    child = os.fork()
    if child:
        os._exit(ended(child))
    for reader, writer in pipes:
        os.write(writer, b"x")
        assert os.read(reader, 1) == b"x"
    os._exit(7)


def many_sockets():
    """Nothing of the worker's is left open: connections, listening sockets."""
    sockets = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        sockets += link.startswith("socket:") and is_inet(int(number))
    os._exit(sockets)


def is_inet(descriptor):
    with socket.socket(fileno=os.dup(descriptor)) as one:
        return one.family == socket.AF_INET


CHILDREN = {
    "returns": lambda: "from the child",
    "exits": lambda: sys.exit(3),
    "exits_silently": lambda: os._exit(4),
    "exits_with_text": lambda: sys.exit("a last word"),
    "fails": fails,
    "is_killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "is_terminated": lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60)),
    "is_interrupted": lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(60)),
    "quits": lambda: (os.kill(os.getpid(), signal.SIGQUIT), time.sleep(60)),
    "threaded": threaded,
    "starts_others": starts_others,
    "forks_again": forks_again,
    "sockets": many_sockets,
    "execs": lambda: os.execv("/bin/sh", ["sh", "-c", "exit 5"]),
    "prints": lambda: (print("a word from the child"), logging.getLogger("child").error("a record from the child")),
}


def where_asked(environ, start_response, fork):
    """Forks in the call, in a step, in close(), or in a thread of the application's."""
    place = environ["QUERY_STRING"].partition("-")[2]
    if place == "call":
        return answer(start_response, fork())
    if place == "thread":
        results = []
        thread = threading.Thread(target=lambda: results.append(fork()))
        thread.start()
        thread.join()
        return answer(start_response, results[0])
    start_response("200 OK", TEXT)
    return Steps(fork) if place == "step" else Closes(environ, fork)


class Steps:
    def __init__(self, fork):
        self.steps = iter([lambda: "<", fork, lambda: ">"])

    def __iter__(self):
        return self

    def __next__(self):
        return str(next(self.steps)()).encode()


class Closes:
    def __init__(self, environ, fork):
        self.path, self.fork = environ["test.dir"] + "/closed", fork

    def __iter__(self):
        return iter([b"closing"])

    def close(self):
        worker = os.getpid()
        result = self.fork()
        if os.getpid() == worker:
            with open(self.path, "a") as file:
                file.write(f"{result}\n")


@case
def forks(environ, start_response):
    """A child that does what the query says; the answer is how it ended."""

    def fork():
        child = os.fork()
        return ended(child) if child else CHILDREN[environ["QUERY_STRING"].partition("-")[0]]()

    return where_asked(environ, start_response, fork)


@case
def answers_in_a_child(environ, start_response):
    """What a child gets that answers the request."""
    write = start_response("200 OK", TEXT)
    attempts = {
        "start_response": lambda: start_response("200 OK", TEXT),
        "write": lambda: write(b"small"),
        "large_write": lambda: write(b"large" * 100000),
    }
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            attempts[environ["QUERY_STRING"]]()
            os.write(writer, b"nothing")
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    ended(child)
    with open(reader, "rb") as file:
        return [file.read()]


@case
def forks_and_leaves(environ, start_response):
    """A child that lives on at a gate when the request is over; the answer is its process id."""
    child = os.fork()
    if child:
        return answer(start_response, child)
    gates.wait(environ["test.dir"], environ["QUERY_STRING"])
    return [b"from the child"]


@case
def daemonizes(environ, start_response):
    """The classic double fork."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with open(reader) as file:
            pid = file.read()
        ended(child)
        return answer(start_response, pid)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.write(writer, str(os.getpid()).encode())
    os.close(writer)
    gates.wait(environ["test.dir"], environ["QUERY_STRING"])
    sys.exit(0)


@case
def forks_while_others_work(environ, start_response):
    """Forks again and again while other threads are in the middle of anything."""
    statuses = set()
    for _ in range(20):
        child = os.fork()
        if not child:
            os._exit(9)
        statuses.add(ended(child))
    return answer(start_response, statuses)


@case
def posix_spawns(environ, start_response):
    child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 8"], os.environ)
    return answer(start_response, ended(child))


# ---- subprocess ----

STATE = """
import json, signal, sys
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
ignored = [s for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN and s != signal.SIGPIPE]
print(json.dumps([sorted(blocked), sorted(ignored), [*sys.argv]]))
"""


@case
def signals_of_a_child(environ, start_response):
    """What a child finds blocked and ignored."""
    done = subprocess.run([sys.executable, "-c", STATE], capture_output=True, text=True, check=True)
    return answer(start_response, done.stdout)


@case
def terminates(environ, start_response):
    """A child that would sleep for long ends at the first signal."""
    sleeper = subprocess.Popen([sys.executable, "-c", "print(1, flush=True); import time; time.sleep(300)"], stdout=-1)
    sleeper.stdout.readline()
    sleeper.send_signal(getattr(signal, environ["QUERY_STRING"]))
    sleeper.stdout.close()
    return answer(start_response, sleeper.wait(20))


@case
def times_out(environ, start_response):
    try:
        subprocess.run(["sleep", "300"], timeout=0.1)
    except subprocess.TimeoutExpired:
        return answer(start_response, "expired")


@case
def talks(environ, start_response):
    """Much goes through a child."""
    body = environ["wsgi.input"].read()
    done = subprocess.run(["cat"], input=body, capture_output=True)
    start_response("200 OK", TEXT)
    return [done.stdout]


@case
def descriptors_of_a_child(environ, start_response):
    """What a child inherits besides the standard three; close_fds is off, as os.system and os.popen have it."""
    ours = set(os.listdir("/proc/self/fd"))
    done = subprocess.run(["ls", "/proc/self/fd"], stdout=subprocess.PIPE, text=True, close_fds=False)
    return answer(start_response, json.dumps([len(ours), done.stdout.split()]))


@case
def system(environ, start_response):
    status = os.system("exit 11")
    with os.popen("echo popen") as pipe:
        return answer(start_response, f"{os.waitstatus_to_exitcode(status)} {pipe.read().strip()}")


# ---- multiprocessing ----


def square(number):
    return number * number


def put(queue, number):
    queue.put(square(number))


@case
def multiprocess(environ, start_response):
    """A process, a queue and a pool; by the query's method."""
    context = multiprocessing.get_context(environ["QUERY_STRING"])
    queue = context.Queue()
    process = context.Process(target=put, args=(queue, 7))
    process.start()
    first = queue.get(timeout=30)
    process.join(30)
    with context.Pool(2) as pool:
        others = pool.map(square, range(5))
    return answer(start_response, json.dumps([first, process.exitcode, others]))


@case
def executor(environ, start_response):
    context = multiprocessing.get_context(environ["QUERY_STRING"])
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        return answer(start_response, json.dumps(list(pool.map(square, range(4)))))


@case
def process_that_fails(environ, start_response):
    context = multiprocessing.get_context(environ["QUERY_STRING"])
    process = context.Process(target=fails)
    process.start()
    process.join(30)
    return answer(start_response, process.exitcode)


@case
def process_that_is_terminated(environ, start_response):
    context = multiprocessing.get_context(environ["QUERY_STRING"])
    process = context.Process(target=time.sleep, args=(300,))
    process.start()
    process.terminate()
    process.join(30)
    return answer(start_response, process.exitcode)


# ---- signals ----

seen = []


def handler(number, frame):
    seen.append(number)


WANTED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2)

# What frameworks and libraries do when they are imported. The processes that multiprocessing starts import this, too.
if "ngx_wsgi" in sys.modules:
    for each in WANTED:
        signal.signal(each, handler)
    faulthandler.enable()


@case
def sets_signals(environ, start_response):
    results = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGWINCH):
        try:
            results.append(str(signal.signal(number, handler)))
        except ValueError as error:
            results.append(str(error))
    return answer(start_response, json.dumps(results))


@case
def alarms(environ, start_response):
    """SIGALRM is no end."""
    signal.alarm(1)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    time.sleep(0.2)
    return answer(start_response, "alive")


@case
def blocks(environ, start_response):
    """Blocks all signals of its thread: another gets them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    return answer(start_response, "blocked")


@case
def signals_itself(environ, start_response):
    """A signal for its own thread, which no handler of Python's takes."""
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR2 if environ["QUERY_STRING"] else signal.SIGCHLD)
    return answer(start_response, len(seen))
