#!/usr/bin/env bash
# Serves examples/hello, or the application that APP names, in the foreground: see `make help`.
. "$(dirname "$0")/lib.sh"
PORT=${PORT:-8080}
home=$target/run
mkdir -p "$home/logs" "$home/temp"

"$root/script/run_conf.sh" >"$home/nginx.conf"
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; }
if listens; then fail "port $PORT is in use: end what uses it, or name another: make run PORT=$((PORT + 1))"; fi

stop() {
  stopped=yes
  kill -TERM "$nginx" 2>/dev/null || true
}

# Whether make blocks SIGINT (signal 2): it does once it has got one, passes none on, and waits for us.
make_blocks_interrupts() {
  local key value
  while read -r key value; do
    if [ "$key" = SigBlk: ]; then return $((!(0x$value & 2))); fi
  done <"/proc/$PPID/status"
}

# Whether make was killed, or interrupted alone (a terminal's Ctrl-C reaches us and nginx as well).
make_has_ended() {
  local parent
  read -r _ _ _ parent _ <"/proc/$$/stat"
  [ "$parent" = "$PPID" ] || return 0
  [ -z "$blocked_before" ] && make_blocks_interrupts 2>/dev/null
}

welcome() {
  say "serving ${APP:-examples/hello} on http://127.0.0.1:$PORT (Ctrl-C stops it)"
  say "access log: $home/logs/access.log; configuration: $home/nginx.conf"
  [ -z "${APP:-}" ] || return 0
  cat >&2 <<END

  Try, in another terminal:
    curl http://127.0.0.1:$PORT/environ                 what the application is told
    curl -N http://127.0.0.1:$PORT/stream               ten lines, one by one
    curl http://127.0.0.1:$PORT/sleep?s=5 &             a slow call ...
    curl http://127.0.0.1:$PORT/hello-static/hello.css  ... delays nobody else
    curl http://127.0.0.1:$PORT/wsgi-status             what the threads are at (a page for browsers)
  Serve your own: make run APP=path/to/wsgi.py:application PORT=9000 THREADS=16

END
}

# nginx goes when we do, however we end.
with=()
if setpriv --pdeathsig TERM true 2>/dev/null; then with=(setpriv --pdeathsig TERM); fi
blocked_before=
if make_blocks_interrupts 2>/dev/null; then blocked_before=yes; fi
stopped=
trap stop INT TERM HUP
"${with[@]}" "$built/nginx" -e stderr -p "$home/" -c "$home/nginx.conf" -g 'daemon off;' &
nginx=$!
greeted=
while kill -0 "$nginx" 2>/dev/null; do
  if [ -z "$greeted" ] && listens; then greeted=yes && welcome; fi
  [ -n "$stopped" ] || ! make_has_ended || stop
  nap 0.2
done
status=0
wait "$nginx" || status=$?
[ -n "$stopped" ] || exit "$status"
say "stopped"
