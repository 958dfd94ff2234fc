"""One call at a time: what a request costs in time when nothing else goes on."""

from .. import contenders, rounds
from ..report import Findings, Table, Target, micro, number


def idle(options):
    """p50 of one keep-alive connection, in turns with nginx's `return 200`."""
    findings = Findings("idle")
    table = Table("Idle: one connection, one request at a time", ["server", "req/s", "p50 µs", "p99 µs", "CPU µs"])
    found = {}
    kinds = [contenders.Return200, contenders.Module, *contenders.PEERS]
    running, findings.refused = contenders.start_all(kinds, "hello", 8, options, "idle")
    try:
        options.say("idle latency")
        summaries = rounds.interleave(running, options.rounds, seconds=options.seconds, connections=1)
    finally:
        contenders.stop_all(running)
    for contender, each in summaries.items():
        if each.failures:
            findings.refused.append(f"idle: {contender.name}: {each.failures} errors")
            continue
        found[contender.name] = each
        table.rows.append([contender.name, number(each.rate), micro(each.p50), micro(each.p99), micro(each.cpu)])
    findings.tables.append(table)
    if {contenders.Return200.name, contenders.Module.name} <= found.keys():
        above = found[contenders.Module.name].p50 - found[contenders.Return200.name].p50
        findings.targets.append(Target("idle: p50 above nginx `return 200`", above * 1e6, 25, unit=" µs"))
    return findings
