"""Where things are; importing it makes the tests' harness importable."""

import sys
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
ROOT = BENCHES.parent
APPS = BENCHES / "apps"
DOCS = ROOT / "docs" / "benchmarks.md"

sys.path.insert(0, str(ROOT / "tests"))
