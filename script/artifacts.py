"""Reads cargo's JSON messages; prints the paths of the nginx that nginx-sys built and of our module."""
import json
import sys

nginx = module = ""
for line in sys.stdin:
    message = json.loads(line)
    name = message.get("package_id", "")
    if message["reason"] == "build-script-executed" and "nginx-sys" in name:
        nginx = message["out_dir"] + "/objs/nginx"
    elif message["reason"] == "compiler-artifact" and message["target"]["name"] == "ngx_http_wsgi_module":
        module = next(each for each in message["filenames"] if each.endswith(".so"))
print(nginx)
print(module)
