#!/usr/bin/env bash
# Checks the dependencies against deny.toml with cargo-deny, which is installed into target/tools where it is missing.
. "$(dirname "$0")/lib.sh"
tools=$target/tools
export PATH=$PATH:$tools/bin
if ! command -v cargo-deny >/dev/null; then
  patiently "installing cargo-deny into $tools, which takes some minutes" \
    env -u CARGO_TARGET_DIR cargo install --locked --root "$tools" cargo-deny
fi

cd "$root"
checks=(licenses bans sources)
# The advisories come from the network.
if log=$(cargo deny fetch db 2>&1); then
  checks+=(advisories)
else
  printf '%s\n' "$log" >&2
fi
cargo deny check "${checks[@]}"
[[ ${checks[*]} == *advisories* ]] || say "NOT CHECKED: advisories. The database of known vulnerabilities could not be fetched."
