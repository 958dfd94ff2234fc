#!/usr/bin/env bash
# Installs what building (with the argument `test` or `bench`: that, too) needs and this machine lacks: with apt where
# there is apt and we are root; else it says what to install. It does nothing, and quickly so, when nothing is missing.
. "$(dirname "$0")/lib.sh"
purpose=${1:-build}

packages=() # Debian's names of what is missing
reasons=()  # what that is, for everybody else

missing() { # REASON PACKAGE...
  reasons+=("$1")
  shift
  packages+=("$@")
}

header() { # FILE: can the compiler include it?
  printf '#define PCRE2_CODE_UNIT_WIDTH 8\n#include <%s>\n' "$1" | cc -E -x c - >/dev/null 2>&1
}

any() { [ -e "$1" ]; } # called with a pattern: whether it matches anything

libclang() { # bindgen loads the library, and the library its own headers
  { [ -n "${LIBCLANG_PATH:-}" ] || any /usr/lib/llvm-*/lib/libclang*.so* || any /usr/lib*/libclang*.so* ||
    any /usr/lib/*-linux-gnu/libclang*.so*; } &&
    { any /usr/lib/llvm-*/lib/clang/*/include/stddef.h || any /usr/lib*/clang/*/include/stddef.h; }
}

check_build() {
  command -v make >/dev/null || missing "make" make
  [ -e /etc/ssl/certs/ca-certificates.crt ] || [ ! -e /etc/debian_version ] || missing "CA certificates" ca-certificates
  if ! command -v cc >/dev/null; then
    missing "a C compiler (cc), and the development files of libc, PCRE2, zlib and OpenSSL" \
      gcc libc6-dev libpcre2-dev zlib1g-dev libssl-dev
  else
    header stdio.h || missing "the development files of libc (stdio.h)" libc6-dev
    header pcre2.h || missing "the development files of PCRE2 (pcre2.h)" libpcre2-dev
    header zlib.h || missing "the development files of zlib (zlib.h)" zlib1g-dev
    header openssl/ssl.h || missing "the development files of OpenSSL (openssl/ssl.h)" libssl-dev
  fi
  libclang || missing "libclang with its headers, for bindgen" libclang-dev
}

check_python() {
  if ! command -v "$PYTHON" >/dev/null; then
    case $PYTHON in
      python3 | /usr/bin/python3) missing "python3 with its shared library and headers" python3 python3-dev ;;
      */*) fail "PYTHON=$PYTHON: there is no such program" ;;
      *) missing "$PYTHON with its shared library and headers" "$PYTHON" "lib$PYTHON-dev" ;;
    esac
    return
  fi
  local answer package
  answer=$("$PYTHON" "$root/build/probe.py" 2>&1) && return
  package=$(sed -n 's/^package=//p' <<<"$answer")
  answer=$(grep -v '^package=' <<<"$answer")
  [ -n "$package" ] || fail "$answer" # not the distribution's Python: nothing that we could install
  missing "$answer" "$package"
}

check_venv() {
  if ! command -v "$PYTHON" >/dev/null; then
    missing "python3's venv module" "$PYTHON-venv"
  elif ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
    # python3.11-venv is what holds the files; python3-venv would name the default version only.
    missing "the venv module of $PYTHON" "$("$PYTHON" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
  fi
}

check_system_nginx() {
  if ! command -v nginx >/dev/null && [ ! -x /usr/sbin/nginx ]; then
    missing "nginx" nginx
  fi
  [ -e /usr/share/nginx/src/conf_flags ] || missing "nginx's sources and configuration (Debian's package nginx-dev)" nginx-dev
}

check_rust() {
  local oldest version
  oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  version=$(cargo --version 2>/dev/null | cut -d' ' -f2) || true
  if [ -z "$version" ]; then
    missing "Rust $oldest or newer (from rustup.rs, or your distribution's cargo)"
  elif [ "$(printf '%s\n%s\n' "$oldest" "$version" | sort -V | head -n 1)" != "$oldest" ]; then
    missing "Rust $oldest or newer: this one is $version (rustup update)"
  fi
}

check_rust_tools() { # rustup's minimal profile has neither
  local tool
  command -v cargo >/dev/null || return 0 # said already
  for tool in rustfmt clippy; do
    cargo "${tool/rustfmt/fmt}" --version >/dev/null 2>&1 && continue
    if command -v rustup >/dev/null; then
      patiently "installing $tool" rustup component add "$tool" || fail "$tool is missing: rustup component add $tool"
    else
      missing "cargo ${tool/rustfmt/fmt}" "${tool/clippy/rust-clippy}"
    fi
  done
}

check_test() {
  command -v litmus >/dev/null || missing "litmus, the test suite for WebDAV servers" litmus
}

check_bench() {
  command -v wrk >/dev/null || missing "the load generator wrk" wrk
}

# nginx's package starts a server on port 80 when it is installed, unless the policy forbids it.
forbid_services() {
  local policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] && return
  # shellcheck disable=SC2064
  trap "rm -f $policy" EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
}

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  local install=(apt-get install -y --no-install-recommends "${packages[@]}")
  forbid_services
  any /var/lib/apt/lists/*Packages* || patiently "updating the list of packages" apt-get update || return
  patiently "installing ${packages[*]}" "${install[@]}" && return
  # Old lists name files that are gone by now.
  patiently "updating the list of packages" apt-get update && patiently "installing ${packages[*]}" "${install[@]}"
}

check_build
check_python
check_rust
[ "$NGINX" = vendored ] || check_system_nginx
case $purpose in
  test)
    check_venv
    check_rust_tools
    check_test
    ;;
  bench)
    check_venv
    check_bench
    ;;
esac

[ ${#reasons[@]} != 0 ] || exit 0
if [ ${#packages[@]} != 0 ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  [ -z "${WSGI_SETUP_AGAIN:-}" ] || fail "installed, but still missing:" "${reasons[@]}"
  (apt_install) || fail "apt-get could not install: ${packages[*]}"
  NGINX=$NGINX WSGI_SETUP_AGAIN=yes exec "$0" "$@" # some checks need what has only now come
fi
say "missing on this machine:"
printf '  - %s\n' "${reasons[@]}" >&2
if [ ${#packages[@]} = 0 ]; then
  exit 1
elif command -v apt-get >/dev/null; then
  say "install it with: sudo apt-get install ${packages[*]}"
else
  say "Debian's names for the packages: ${packages[*]}"
fi
exit 1
