#!/usr/bin/env bash
# Builds nginx and the module, and puts both where `make run` and the tests look for them. The last two lines of its
# output say where that is.
. "$(dirname "$0")/lib.sh"

options=(--message-format=json-render-diagnostics)
[ "$BUILD" = debug ] || options+=(--release)
[ -z "${FEATURES:-}" ] || options+=(--features "$FEATURES")
if [ "$NGINX" = system ]; then
  options+=(--no-default-features --features module)
  eval "$("$root/script/system_nginx.sh")"
fi
PYO3_PYTHON=$(resolve_python)
export PYO3_PYTHON

say "building nginx ($NGINX) and the module ($BUILD, $("$PYO3_PYTHON" -V)); the first time takes some minutes"
messages=$(mktemp)
ticker=
trap 'rm -f "$messages"; [ -z "$ticker" ] || kill "$ticker"' EXIT
[ -t 2 ] || tick # cargo shows its progress on a terminal only
(cd "$root" && cargo build "${options[@]}") >"$messages"
{ read -r nginx && read -r module; } < <("$PYO3_PYTHON" "$root/script/artifacts.py" <"$messages")

# A new file in the place of the old one: a running nginx has the old one mapped.
put() { # FILE DESTINATION
  cmp -s "$1" "$2" || install -m 755 "$1" "$2"
}
mkdir -p "$built"
if [ "$NGINX" = system ]; then
  nginx=$(PATH=$PATH:/usr/sbin command -v nginx)
  ln -sfn "$nginx" "$built/nginx"
else
  put "$nginx" "$built/nginx"
  nginx=$built/nginx
fi
put "$module" "$built/ngx_http_wsgi_module.so"
echo "nginx: $nginx"
echo "module: $built/ngx_http_wsgi_module.so"
