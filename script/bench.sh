#!/usr/bin/env bash
# Runs the benchmarks against the nginx and the module that `make build` left. Arguments are those of `python -m benches`;
# ONLY, ROUNDS and DOCS stand for three of them.
. "$(dirname "$0")/lib.sh"
python=$("$root/script/venv.sh" benches)

# The module as the one of 2007 was, with the call on the event loop: to compare with, never to be used.
if grep -q '^on-event-loop *=' "$root/Cargo.toml"; then
  apart=$target/on-event-loop
  CARGO_TARGET_DIR=$apart NGINX=$NGINX FEATURES=on-event-loop "$root/script/build.sh" >/dev/null
  export WSGI_MODULE_ON_EVENT_LOOP=$apart/${built#"$target"/}/ngx_http_wsgi_module.so
else
  say "there is no feature on-event-loop: nothing is compared with it"
fi

options=(--out "$target/bench")
[ -z "${ONLY:-}" ] || options+=(--only "$ONLY")
[ -z "${ROUNDS:-}" ] || options+=(--rounds "$ROUNDS")
[ -z "${DOCS:-}" ] || options+=(--docs)
cd "$root"
export NGINX_BINARY="$built/nginx" WSGI_MODULE="$built/ngx_http_wsgi_module.so"
exec "$python" -m benches "${options[@]}" "$@"
