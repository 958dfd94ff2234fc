#!/usr/bin/env bash
# Prints nginx-conf/hello.conf with the values of this machine and of `make run`'s variables in it:
# APP (a file or MODULE, with :CALLABLE), PORT, THREADS, VENV.
. "$(dirname "$0")/lib.sh"
conf=$root/nginx-conf/hello.conf
here=${WSGI_RUN_FROM:-$PWD} # make changes directories; the user's relative paths mean this one

quote() { # one word of an nginx configuration
  local word=${1//\\/\\\\}
  printf '"%s"' "${word//\"/\\\"}"
}

absolute() { case $1 in /*) echo "$1" ;; *) echo "$here/$1" ;; esac; }

# The directory to import from for the file of an application: the one round its packages.
import_root() {
  local folder
  folder=$(dirname "$1")
  while [ -e "$folder/__init__.py" ]; do folder=$(dirname "$folder"); done
  echo "$folder"
}

# What wsgi_pass gets, and the directories that the application imports from.
read_target() {
  local file=${APP%:*} callable=
  [ "$file" = "$APP" ] || callable=:${APP##*:}
  case $file in
    */* | *.py | *.wsgi)
      file=$(absolute "$file")
      [ -f "$file" ] || fail "APP=$APP: there is no file $file"
      target_words=$(quote "$file$callable")
      path_words="$(quote "$(import_root "$file")") $(quote "$here")"
      ;;
    *)
      target_words=$(quote "$APP")
      path_words=$(quote "$here")
      ;;
  esac
}

main_directives() {
  echo "load_module $(quote "$built/ngx_http_wsgi_module.so");"
  # Workers of root's nginx would become another user, who cannot read what lies in root's home.
  [ "$(id -u)" != 0 ] || echo "user root;"
  [ -n "${APP:-}" ] || return 0
  # nginx keeps no environment by itself; an application under development expects its developer's.
  local name
  while read -r name; do
    case $name in MAKE* | MFLAGS | APP | PORT | THREADS | VENV | LD_* | NGINX* | PYTHON* | PYO3_* | WSGI_RUN_FROM) ;; *) echo "env $name;" ;; esac
  done < <(compgen -e)
}

http_directives() {
  local each
  for each in client_body proxy fastcgi uwsgi scgi wsgi; do echo "    ${each}_temp_path temp/$each;"; done
  [ -n "${APP:-}" ] || return 0
  echo "    wsgi_path $path_words;"
  [ -z "${VENV:-}" ] || echo "    wsgi_virtualenv $(quote "$(absolute "$VENV")");"
}

generate() {
  local line skipping=
  while IFS= read -r line; do
    case $line in
      'load_module '*) main_directives ;;
      'error_log '*) echo "error_log stderr notice;" ;;
      'http {') echo "$line" && http_directives ;;
      *'wsgi_pool default threads='*) echo "    wsgi_pool default threads=$THREADS;" ;;
      *'listen 127.0.0.1:8080;') echo "        listen 127.0.0.1:$PORT;" ;;
      # The hello example's own files: for another application, its block is left out.
      *'location /hello-static/ {') if [ -n "${APP:-}" ]; then skipping=yes; else echo "$line"; fi ;;
      *'}') if [ -n "$skipping" ]; then skipping=; else echo "$line"; fi ;;
      *'wsgi_pass /srv/hello/wsgi.py;') echo "            wsgi_pass $target_words;" ;;
      *'alias /srv/hello/static/;') [ -n "$skipping" ] || echo "            alias $(quote "$root/examples/hello/static/");" ;;
      *) [ -n "$skipping" ] || printf '%s\n' "$line" ;;
    esac
  done <"$conf"
}

case ${PORT:=8080} in *[!0-9]* | '') fail "PORT=$PORT: it is a number" ;; esac
case ${THREADS:=8} in *[!0-9]* | '' | 0) fail "THREADS=$THREADS: it is a number, 1 or more" ;; esac
[ -z "${APP:-}" ] || VENV=${VENV:-${VIRTUAL_ENV:-}} # an activated one is meant as well
[ -z "${VENV:-}" ] || [ -d "$(absolute "$VENV")" ] || fail "VENV=$VENV: there is no such directory"
if [ -n "${APP:-}" ]; then read_target; else target_words=$(quote "$root/examples/hello/wsgi.py"); fi
text=$(generate)
for each in load_module 'error_log stderr' "threads=$THREADS;" "listen 127.0.0.1:$PORT;" "wsgi_pass $target_words;"; do
  [[ $text == *"$each"* ]] || fail "$conf has no line for '$each' any more: bring $0 up to date"
done
printf '# Made by `make run` from nginx-conf/hello.conf: changes are overwritten.\n%s\n' "$text"
