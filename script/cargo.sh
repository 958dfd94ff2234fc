#!/usr/bin/env bash
# cargo, in the project's directory, with the Python and the nginx that were chosen.
. "$(dirname "$0")/lib.sh"
cd "$root"
[ "$NGINX" = vendored ] || eval "$("$root/script/system_nginx.sh")"
PYO3_PYTHON=$(resolve_python) exec cargo "$@"
