#!/usr/bin/env bash
# Prints the interpreter of a virtual environment that has what requirements.txt in tests (or in the folder that is
# named) asks for; makes it if need be.
. "$(dirname "$0")/lib.sh"
folder=${1:-tests}
requirements=$root/$folder/requirements.txt

python=$(resolve_python)
[ "$folder" = tests ] && prefix='' || prefix=$folder-
venv=$target/venv/$prefix$("$python" -c 'import platform; print(platform.python_version())')
if ! cmp -s "$requirements" "$venv/installed.txt" || [ "$(readlink -f "$venv/bin/python")" != "$python" ]; then
  rm -rf "$venv"
  patiently "making a virtual environment for $folder" "$python" -m venv "$venv"
  patiently "installing what $folder needs" "$venv/bin/python" -m pip install --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$venv/installed.txt"
fi
echo "$venv/bin/python"
