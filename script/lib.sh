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

# own_mounts "$@": starts the script anew, where what it mounts is seen by itself only and goes when it ends.
own_mounts() {
  [ -n "${WSGI_OWN_MOUNTS:-}" ] || WSGI_OWN_MOUNTS=yes exec unshare --mount "$0" "$@"
  unset WSGI_OWN_MOUNTS
}

# debian SUITE BASE FOLDER [PACKAGE...]: a bare Debian in FOLDER, a copy of BASE, which is made once and used again.
debian() {
  local packages
  packages=$(IFS=, && echo "${*:4}")
  if [ ! -e "$2" ]; then
    rm -rf "$2.new"
    patiently "debootstrap $1" debootstrap --variant=minbase --include="ca-certificates${packages:+,$packages}" "$1" "$2.new"
    mv "$2.new" "$2"
  fi
  rm -rf --one-file-system "$3"
  cp -a "$2" "$3"
  cp -L /etc/resolv.conf /etc/hosts "$3/etc/"
  # What makes this machine's connections trusted, a proxy's authority for one.
  cp -rL /usr/local/share/ca-certificates "$3/usr/local/share/"
  chroot "$3" update-ca-certificates >/dev/null 2>&1
  mount -t proc proc "$3/proc"
  mount --bind /dev "$3/dev"
}

# lend_rust FOLDER: the Rust toolchain that this machine has, where Docker's image of rust has its own, and the
# environment that finds it there.
lent_rust=(CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup
  PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
lend_rust() {
  mkdir -p "$1/usr/local/cargo" "$1/usr/local/rustup"
  mount --bind "${CARGO_HOME:-$HOME/.cargo}" "$1/usr/local/cargo"
  mount --bind "${RUSTUP_HOME:-$HOME/.rustup}" "$1/usr/local/rustup"
}
