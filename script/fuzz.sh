#!/usr/bin/env bash
# Runs the random cases of tests/fuzz against the nginx and the module that `make build` left. Arguments are pytest's.
. "$(dirname "$0")/lib.sh"
python=$("$root/script/venv.sh")
cd "$root"
export NGINX_BINARY="$built/nginx" WSGI_MODULE="$built/ngx_http_wsgi_module.so"
exec "$python" -m pytest tests/fuzz -s -o 'python_files=fuzz_*.py' "$@"
