#!/usr/bin/env bash
# Runs the tests with the CPython and the nginx of each Debian suite in SUITES: in folders made by debootstrap, with a
# clone of what is committed here, `make test` and `make integration NGINX=system`. One line for each run says how it
# went. Needs root, debootstrap and a Rust toolchain by rustup. MATRIX_DIR/SUITE.base is made once and used again.
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || fail "make matrix needs root: it makes folders by debootstrap and calls chroot"
command -v debootstrap >/dev/null || fail "debootstrap is missing"
rustup=${RUSTUP_HOME:-$HOME/.rustup}
[ -d "$rustup" ] || fail "there is no $rustup: the folders use this machine's Rust toolchain, as rustup installs it"
own_mounts "$@"
folder=$(realpath -m "${MATRIX_DIR:-$target/matrix}")
failed=0
mkdir -p "$folder"

inside() { # COMMAND...: in the clone
  chroot "$folder/$suite" /usr/bin/env -i -C /srv/nginx-wsgi HOME=/srv LANG=C.UTF-8 CARGO_TERM_COLOR=never \
    "${lent_rust[@]}" PIP_CERT=/etc/ssl/certs/ca-certificates.crt "$@"
}

attempt() { # NAME COMMAND...
  local log=$folder/$suite.$1.log begin=$SECONDS result=passed
  say "$suite: ${*:2}, with its output in $log"
  if ! inside "${@:2}" >"$log" 2>&1 </dev/null; then
    result=FAILED failed=1
    tail -n 25 "$log" >&2
  fi
  printf '%-8s  %-30s  %s in %d s%s\n' "$suite" "${*:2}" "$result" $((SECONDS - begin)) "$(tally "$log")"
}

tally() { # LOG: what pytest counted
  sed -n 's/^=* \([0-9].*\(passed\|failed\|error\).*\) in [0-9].*$/: \1/p' "$1" | tail -n 1
}

for suite in ${SUITES:-bookworm trixie sid}; do
  debian "$suite" "$folder/$suite.base" "$folder/$suite" git make
  lend_rust "$folder/$suite"
  git clone -q "$root" "$folder/$suite/srv/nginx-wsgi"
  attempt test make test
  attempt integration make integration NGINX=system
  say "$suite: $(inside sh -c 'python3 -V; nginx -v' 2>&1 | paste -sd' ')"
done
exit $failed
