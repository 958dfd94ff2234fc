#!/usr/bin/env bash
# Configures the sources of the distribution's nginx (Debian's package nginx-dev) as its binary was, and prints the
# variables that point nginx-sys to them.
. "$(dirname "$0")/lib.sh"

sources=/usr/share/nginx/src
home=$target/nginx-wsgi/system-objs
[ -e $sources/conf_flags ] || fail "there is no $sources/conf_flags: install Debian's package nginx-dev"
# shellcheck disable=SC1091
. $sources/conf_flags

version=$(PATH=$PATH:/usr/sbin nginx -v 2>&1 | sed -n 's|.*nginx/\([0-9.]*\).*|\1|p')
headers=$(sed -n 's/^#define NGINX_VERSION *"\(.*\)"/\1/p' $sources/src/core/nginx.h)
[ "$version" = "$headers" ] || fail "nginx is $version but nginx-dev is $headers: update both packages"

stamp="$version ${NGX_CONF_FLAGS[*]}"
if [ "$(cat "$home/objs/configured" 2>/dev/null)" != "$stamp" ]; then
  # configure writes a file into the directory that it is called in: links to the sources will do for that.
  mkdir -p "$home"
  for each in auto configure src; do ln -sfn "$sources/$each" "$home/$each"; done
  configure() { cd "$home" && ./configure --builddir="$home/objs" "${NGX_CONF_FLAGS[@]}"; }
  patiently "configuring the sources of nginx $version" configure || fail "nginx's configure failed"
  echo "$stamp" >"$home/objs/configured"
fi
printf 'export NGINX_SOURCE_DIR=%q NGINX_BUILD_DIR=%q\n' "$home" "$home/objs"
