"""What the benchmarks found: tables, targets, and where they go."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .paths import DOCS


@dataclass
class Table:
    """Rows of text; the first column is words, the others are numbers."""

    title: str
    columns: list
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def text(self):
        widths = [max(len(row[n]) for row in [self.columns, *self.rows]) for n in range(len(self.columns))]
        lines = [self._line(row, widths) for row in [self.columns, ["-" * width for width in widths], *self.rows]]
        return "\n".join([self.title, "", *lines, *(f"  {note}" for note in self.notes)]) + "\n"

    @staticmethod
    def _line(row, widths):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        return "  ".join(cells).rstrip()

    def markdown(self):
        rows = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([f"**{self.title}**", "", *lines, "", *(f"{note}\n" for note in self.notes)])


@dataclass
class Target:
    """A number that must not be above (or, with `least`, below) its bound."""

    what: str
    value: float
    bound: float
    least: bool = False
    unit: str = "x"

    @property
    def met(self):
        return self.value >= self.bound if self.least else self.value <= self.bound

    def row(self):
        sign = "at least" if self.least else "at most"
        return [self.what, f"{number(self.value)}{self.unit}", f"{sign} {self.bound:g}{self.unit}", verdict(self.met)]


@dataclass
class Findings:
    """What one part of the benchmarks found."""

    part: str
    tables: list = field(default_factory=list)
    targets: list = field(default_factory=list)
    # Rows that are not shown, and why.
    refused: list = field(default_factory=list)
    # Bars for the plot: panel -> [(name, value)].
    bars: dict = field(default_factory=dict)

    def target_table(self):
        rows = [target.row() for target in self.targets]
        return Table(f"Targets: {self.part}", ["what", "found", "wanted", ""], rows)

    def all_tables(self):
        return self.tables + ([self.target_table()] if self.targets else [])

    def text(self):
        refused = [f"refused: {each}" for each in self.refused]
        return "\n".join([*(table.text() for table in self.all_tables()), *refused])

    def markdown(self):
        return "\n".join(table.markdown() for table in self.all_tables())


def verdict(met):
    return "met" if met else "MISSED"


def number(value):
    """Three significant digits, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def micro(seconds):
    return number(seconds * 1e6)


def milli(seconds):
    return number(seconds * 1e3)


def write(directory, findings, head):
    """Writes one part's tables and its raw form."""
    stem = Path(directory) / findings.part
    stem.with_suffix(".txt").write_text(f"{head}\n\n{findings.text()}")
    stem.with_suffix(".md").write_text(f"{head}\n\n{findings.markdown()}")
    raw = {"head": head, **asdict(findings)}
    stem.with_suffix(".json").write_text(json.dumps(raw, indent=1))


def put_in_docs(findings, head, plot=None):
    """Replaces what stands between the part's markers in docs/benchmarks.md, or appends both."""
    begin, end = f"<!-- bench:{findings.part} begin -->", f"<!-- bench:{findings.part} end -->"
    picture = [f"![{findings.part}]({plot})", ""] if plot else []
    block = "\n".join([begin, "", head, "", *picture, findings.markdown(), end])
    text = DOCS.read_text() if DOCS.exists() else "# Benchmarks\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    if pattern.search(text):
        text = pattern.sub(lambda _: block, text)
    else:
        text = text.rstrip("\n") + "\n\n" + block + "\n"
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text(text)
