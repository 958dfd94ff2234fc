"""Files that a disk fails to give: a library that is preloaded into nginx (see faults.c)."""

import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def environ(directory, path):
    """The environment of an nginx that cannot read the files with `path` in their path, after the first 64 KiB."""
    library = directory / "faults.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    # The address sanitizer wants to be the first library, unless it is told otherwise.
    sanitizer = f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0".lstrip(":")
    return {"LD_PRELOAD": str(library), "FAULTY_PATH": path, "ASAN_OPTIONS": sanitizer}
