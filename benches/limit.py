"""The limit: a plain loop round the application, on the same libpython that the servers embed."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from .paths import APPS, BENCHES


def build(directory):
    """Compiles five lines round Py_BytesMain; returns the program."""
    variable = sysconfig.get_config_var
    library = "python" + variable("LDVERSION")
    program = Path(directory) / "plain_python"
    command = ["cc", "-O2", str(BENCHES / "limit.c"), "-o", str(program), "-I", sysconfig.get_path("include")]
    command += [f"-L{variable('LIBDIR')}", f"-Wl,-rpath,{variable('LIBDIR')}", f"-l{library}"]
    subprocess.run(command, check=True)
    return program


def microseconds(program, app, seconds=1.0):
    """CPU per call of the application."""
    packages = sysconfig.get_path("purelib")
    environ = {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": os.pathsep.join([str(APPS), packages])}
    command = [str(program), str(BENCHES / "loop.py"), app, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environ})
    if done.returncode != 0:
        raise RuntimeError(f"the plain loop of {app} failed:\n{done.stderr}")
    return float(done.stdout)
