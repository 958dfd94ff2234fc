"""Large bodies: MB/s, CPU per MB and memory, beside what nginx does with a file and the peers do with the same."""

import statistics

from .. import client, contenders, machine, nginx
from ..report import Findings, Table, Target, number

MIB = 1 << 20
COLUMNS = ["server", "MB/s", "CPU ms/MB", "RSS +MB"]
OURS = contenders.Module.name


class StaticFiles(contenders.Contender):
    """nginx's own way with a file."""

    sendfile = "on"

    def launch(self, app, threads):
        alias = f"alias {self.directory.parent}/; sendfile {self.sendfile}; dav_methods PUT;"
        self.front(f"location / {{ {alias} }} location = / {{ return 200; }}")


class WithSendfile(StaticFiles):
    name = "nginx, static file, sendfile on"


class WithoutSendfile(StaticFiles):
    name = "nginx, static file, sendfile off"
    sendfile = "off"


class PutFile(StaticFiles):
    name = "nginx alone, DAV PUT to a file"


class Streamed(contenders.Module):
    """Our module with the body handed over as it comes."""

    name = "nginx-wsgi, wsgi_request_buffering off"

    def launch(self, app, threads):
        http = nginx.python(f"threads={threads} queue=1024")
        locations = f"location / {{ wsgi_pass {app}; wsgi_request_buffering off; }}"
        self.nginx = nginx.start(self.directory, nginx.conf(locations, http))
        self.port = self.nginx.port


class Transfer:
    """One kind of large body, by all servers that know it."""

    def __init__(self, part, size, options):
        self.options, self.size = options, size
        self.findings = Findings(part)
        self.found = {}

    def run(self, kinds, move):
        """`move(contender)` carries one body and returns the seconds."""
        running, left_out = contenders.start_all(kinds, "transfers", 8, self.options, self.findings.part)
        self.findings.refused += left_out
        try:
            self.measure(running, move)
        finally:
            contenders.stop_all(running)
        return self

    def measure(self, running, move):
        samples = {contender: [] for contender in running}
        for turn in range(self.options.rounds + 1):
            for contender in running:
                self.options.say(f"{self.findings.part}: {contender.name}")
                try:
                    sample = self.once(contender, move)
                except (OSError, client.Failed) as failure:
                    self.findings.refused.append(f"{self.findings.part}: {contender.name}: {failure}")
                    samples[contender] = None
                    continue
                if turn and samples[contender] is not None:  # the first turn is the warm-up
                    samples[contender].append(sample)
        for contender, each in samples.items():
            if each:
                self.found[contender.name] = [statistics.median(numbers) for numbers in zip(*each)]

    def once(self, contender, move):
        """MB/s, CPU seconds per MB, and how far memory rose for it; of as many bodies as a burst has time for."""
        pids = contender.pids()
        machine.forget_peak(pids)
        memory, cpu = machine.resident(pids), machine.cpu(pids)
        seconds, megabytes = 0, 0
        while seconds < self.options.seconds:
            seconds += move(contender)
            megabytes += self.size / 1e6
        return megabytes / seconds, (machine.cpu(pids) - cpu) / megabytes, machine.peak(pids) - memory

    def tabulate(self, title):
        table = Table(title, COLUMNS)
        for name, (rate, cpu, memory) in sorted(self.found.items(), key=lambda item: -item[1][0]):
            table.rows.append([name, number(rate), number(cpu * 1e3), number(memory / 1e6)])
        self.findings.tables.append(table)
        self.findings.bars[f"{title}: MB/s"] = [(name, each[0]) for name, each in self.found.items()]
        return self.findings

    def target(self, what, value, bound, least=False, unit="x"):
        self.findings.targets.append(Target(what, value, bound, least, unit))

    def ratio(self, column, name, other):
        return self.found[name][column] / self.found[other][column]


def zeros(options, size):
    """A file of that size, for the servers to send."""
    path = options.directory / "zeros"
    if not path.exists() or path.stat().st_size != size:
        with open(path, "wb") as file:
            for _ in range(size // MIB):
                file.write(bytes(MIB))
    return path


def stream(options):
    size = options.stream_mib * MIB
    zeros(options, size)
    part = Transfer("stream", size, options)
    kinds = (contenders.Module, WithoutSendfile, *contenders.PEERS)

    def move(contender):
        path = "/zeros" if isinstance(contender, StaticFiles) else f"/stream?{size}"
        return client.download(contender.port, path, size)

    part.run(kinds, move)
    findings = part.tabulate(f"Stream of {options.stream_mib} MiB in pieces of 64 KiB, one client")
    if {OURS, WithoutSendfile.name} <= part.found.keys():
        part.target("stream: MB/s / static file without sendfile", part.ratio(0, OURS, WithoutSendfile.name), 0.9, True)
        part.target("stream: RSS growth", part.found[OURS][2] / MIB, 4, unit=" MiB")
        peers = [peer.name for peer in contenders.PEERS if peer.name in part.found]
        if peers:
            best = max(peers, key=lambda name: part.found[name][0])
            part.target(f"stream: MB/s / the fastest peer ({best})", part.ratio(0, OURS, best), 1, True)
    return findings


def file(options):
    size = options.stream_mib * MIB
    path = zeros(options, size)
    part = Transfer("file", size, options)

    def move(contender):
        return client.download(
            contender.port, "/zeros" if isinstance(contender, StaticFiles) else f"/file?{path}", size
        )

    part.run((contenders.Module, WithSendfile, *contenders.PEERS), move)
    findings = part.tabulate(f"wsgi.file_wrapper of a file of {options.stream_mib} MiB, one client")
    if {OURS, WithSendfile.name} <= part.found.keys():
        part.target("file: MB/s / static file with sendfile", part.ratio(0, OURS, WithSendfile.name), 0.97, True)
        part.target("file: CPU / static file with sendfile", part.ratio(1, OURS, WithSendfile.name), 1.05)
    return findings


def upload(options):
    size = options.upload_mib * MIB
    part = Transfer("upload", size, options)

    def move(contender):
        put = isinstance(contender, PutFile)
        return client.upload(contender.port, "/uploaded" if put else "/upload", size, "PUT" if put else "POST")

    part.run((contenders.Module, Streamed, PutFile, *contenders.PEERS), move)
    findings = part.tabulate(f"Upload of {options.upload_mib} MiB, read in pieces of 64 KiB, one client")
    if {OURS, PutFile.name} <= part.found.keys():
        part.target("upload, buffered: CPU / nginx's own reading (PUT)", part.ratio(1, OURS, PutFile.name), 1.2)
    if {Streamed.name, contenders.Granian.name} <= part.found.keys():
        part.target("upload, unbuffered: CPU / Granian", part.ratio(1, Streamed.name, contenders.Granian.name), 1.2)
    return findings
