#!/usr/bin/env bash
# Prints the interpreter of a virtual environment that has what tests/requirements.txt names; makes it if need be.
. "$(dirname "$0")/lib.sh"
requirements=$root/tests/requirements.txt

python=$(resolve_python)
venv=$target/venv/$("$python" -c 'import platform; print(platform.python_version())')
if ! cmp -s "$requirements" "$venv/installed.txt" || [ "$(readlink -f "$venv/bin/python")" != "$python" ]; then
  rm -rf "$venv"
  patiently "making a virtual environment for the tests" "$python" -m venv "$venv"
  patiently "installing what the tests need" "$venv/bin/python" -m pip install --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$venv/installed.txt"
fi
echo "$venv/bin/python"
