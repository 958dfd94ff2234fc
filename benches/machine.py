"""What the kernel tells of processes: CPU time, memory, descriptors."""

import os
import resource
import time
from pathlib import Path

from harness import processes


def family(pid):
    """A process and its descendants."""
    found = [pid]
    for each in found:
        for task in _tasks(each):
            try:
                found += [int(child) for child in Path(f"/proc/{each}/task/{task}/children").read_text().split()]
            except OSError:
                continue
    return found


def _tasks(pid):
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def cpu(pids):
    """The seconds of CPU, user and system, that the processes have used, threads that have ended included.

    From the processes' CPU clocks: /proc/PID/stat tells the same in steps of 10 ms.
    """
    return sum(time.clock_gettime(cpu_clock(pid)) for pid in pids)


def cpu_clock(pid):
    """As clock_getcpuclockid(3) makes it; clock ids are 32 bits with a sign."""
    return ~pid << 3 | 2


def main_thread_cpu(pid):
    """The seconds of CPU that a process's main thread has used, to the nanosecond: nginx's event loop."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def resident(pids):
    return sum(processes.resident(pid) for pid in pids)


def forget_peak(pids):
    """Makes the peak of resident memory what is resident now."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pids):
    """The most memory that was resident since `forget_peak`."""
    total = 0
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        total += int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return total


def raise_descriptor_limit(wanted=65536):
    """As many open files as we may have; children inherit it. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
        except (ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def describe():
    """The machine, in a line."""
    model = "an unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} cores ({model}), Linux {os.uname().release.partition('-')[0]}"
