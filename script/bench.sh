#!/usr/bin/env bash
# Runs the benchmarks against the nginx and the module that `make build` left. Arguments are those of `python -m benches`;
# ONLY, ROUNDS and DOCS stand for three of them.
. "$(dirname "$0")/lib.sh"
python=$("$root/script/venv.sh" benches)

# Apache's mod_wsgi is built against the Apache that is here, if one is (Debian: apache2-dev).
if command -v apxs >/dev/null && ! "$python" -c 'import mod_wsgi' 2>/dev/null; then
  # Its build looks for python3-config on PATH: that of this Python has to be the first.
  PATH=$(dirname "$(resolve_python)"):$PATH patiently "building mod_wsgi for Apache" \
    "$python" -m pip install --disable-pip-version-check mod_wsgi==5.0.2 || say "mod_wsgi cannot be built: not compared"
fi

# The module as the one of 2007 was, with the call on the event loop: to compare with, never to be used.
apart=$target/on-event-loop
CARGO_TARGET_DIR=$apart NGINX=$NGINX FEATURES=on-event-loop "$root/script/build.sh" >/dev/null
export WSGI_MODULE_ON_EVENT_LOOP=$apart/${built#"$target"/}/ngx_http_wsgi_module.so

options=(--out "$target/bench")
[ -z "${ONLY:-}" ] || options+=(--only "$ONLY")
[ -z "${ROUNDS:-}" ] || options+=(--rounds "$ROUNDS")
[ -z "${DOCS:-}" ] || options+=(--docs)
cd "$root"
export NGINX_BINARY="$built/nginx" WSGI_MODULE="$built/ngx_http_wsgi_module.so"
exec "$python" -m benches "${options[@]}" "$@"
