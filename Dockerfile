# nginx, the module and Python, as Debian packages them: built in one image, shipped in another.
#
#   docker build -t nginx-wsgi .        (--build-arg SUITE=trixie for Debian 13)
#   docker run -p 8080:8080 nginx-wsgi  serves examples/hello
#
# To serve your own application, mount it and an nginx.conf of your own:
#   docker run -p 8080:8080 -v ./blog:/srv/blog:ro -v ./nginx.conf:/etc/nginx/nginx.conf:ro nginx-wsgi

ARG SUITE=bookworm

FROM rust:1-${SUITE} AS build
ENV NGINX=system
WORKDIR /build
# What is rarely changed comes first, so that its layer can be used again.
COPY Cargo.toml ./
COPY build build
COPY script script
RUN script/setup.sh
COPY . .
RUN script/build.sh
# The hello example's configuration, for a container: every address, logs to the terminal, files that www-data may write.
RUN sed -e 's|^error_log .*|error_log stderr notice;|' \
        -e 's|^pid .*|pid /var/lib/nginx/nginx.pid;|' \
        -e 's|access_log .*|access_log /dev/stdout;|' \
        -e 's|listen 127.0.0.1:8080|listen 8080|' \
        nginx-conf/hello.conf > nginx.conf

FROM debian:${SUITE}-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends nginx python3 \
 && apt-get install -y --no-install-recommends "$(python3 -c 'import sys; print("libpython%d.%d" % sys.version_info[:2])')" \
 && rm -rf /var/lib/apt/lists/* \
 && chown www-data /var/lib/nginx
COPY --from=build /build/target/nginx-wsgi/release-system/ngx_http_wsgi_module.so /usr/lib/nginx/modules/
COPY --from=build /build/nginx.conf /etc/nginx/nginx.conf
COPY examples/hello /srv/hello

# No process of the container is root: neither nginx's master nor its workers.
USER www-data
EXPOSE 8080
# SIGQUIT ends nginx gracefully: calls in flight are answered.
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["python3", "-c", "import http.client, sys; \
c = http.client.HTTPConnection('127.0.0.1', 8080, timeout=4); c.request('HEAD', '/'); \
sys.exit(c.getresponse().status >= 500)"]
CMD ["nginx", "-e", "stderr", "-g", "daemon off;"]
