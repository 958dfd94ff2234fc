# What the scripts share. Source it: it changes nothing but variables.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
BUILD=${BUILD:-release}
NGINX=${NGINX:-vendored}
PYTHON=${PYTHON:-python3}
# A variable of nginx's as well (listening sockets that it inherits): no nginx that we start may see ours.
export -n NGINX

case $BUILD in release | debug) ;; *) echo "BUILD=$BUILD: it is release or debug" >&2; exit 1 ;; esac
case $NGINX in vendored | system) ;; *) echo "NGINX=$NGINX: it is vendored or system" >&2; exit 1 ;; esac

# Where `make build` leaves nginx and the module, for `make run`, the tests and the user.
built=$target/nginx-wsgi/$BUILD
[ "$NGINX" = vendored ] || built=$built-$NGINX

say() { printf '==> %s\n' "$*" >&2; }

fail() {
  printf 'error: %s\n' "$@" >&2
  exit 1
}

# The interpreter itself, not a shim or a virtual environment of it: cargo then sees when another one is chosen.
resolve_python() {
  "$PYTHON" -c 'import os, sys; print(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))'
}

# nap SECONDS: a sleep without a process that could outlive us.
nap() { read -rt "$1" <> <(:) || true; }

# tick: shows now and then that time goes by, until `kill $ticker`.
tick() {
  local begin=$SECONDS
  (while nap 15 && kill -0 $$ 2>/dev/null; do say "... $((SECONDS - begin)) s"; done) &
  ticker=$!
}

# patiently LABEL COMMAND...: runs it, says that it goes on, and shows its output only if it fails.
patiently() {
  local log status=0
  log=$(mktemp)
  say "$1"
  tick
  "${@:2}" >"$log" 2>&1 </dev/null || status=$?
  kill "$ticker"
  [ "$status" = 0 ] || tail -n 40 "$log" >&2
  rm -f "$log"
  return "$status"
}
