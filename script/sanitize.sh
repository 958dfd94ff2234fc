#!/usr/bin/env bash
# Runs the integration tests with AddressSanitizer in nginx and in the module. Arguments are pytest's.
. "$(dirname "$0")/lib.sh"
python=$("$root/script/venv.sh")
apart=$target/sanitize

# Rust has the sanitizer behind a switch for unstable flags; with a target named, build scripts are left alone.
host=$(rustc -vV | sed -n 's/^host: //p')
env CARGO_TARGET_DIR="$apart" CARGO_BUILD_TARGET="$host" NGINX="$NGINX" BUILD=debug \
  RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes" \
  NGX_CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address -DNGX_DEBUG_PALLOC" NGX_LDFLAGS=-fsanitize=address \
  "$root/script/build.sh"

# CPython keeps some of its memory to the end, and the sanitizer keeps what was freed for a while: whether memory grows
# is a question for the other builds. A stack for signals is faulthandler's to set.
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1:use_sigaltstack=0
cd "$root"
export NGINX_BINARY=$apart/nginx-wsgi/debug/nginx WSGI_MODULE=$apart/nginx-wsgi/debug/ngx_http_wsgi_module.so
# Left out: the sanitizer's own locks do not survive a fork (one that another thread held at that moment is never free in the
# child); it reports a crash that an application causes on purpose; it must be the first library, so no other can be preloaded; and its own memory counts as the worker's.
leave_out=(test_soak_short.py::test_requests_leave_no_memory_behind test_slow_clients.py::test_memory_does_not_follow
  test_hostile_processes.py::test_fork test_hostile_processes.py::test_many_forks_under_load
  'test_ends.py::test_the_master_starts_another_worker[segfault]'
  test_log_outputs.py::test_rotation_never_makes_a_thread_write_to_another_file
  test_log_outputs.py::test_a_log_that_is_no_file_neither_stalls_nor_grows)
exec "$python" -m pytest tests "${leave_out[@]/#/--deselect=}" "$@"
