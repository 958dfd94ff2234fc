/*
 * What nginx-sys leaves out: constants that are C macros, and the functions of shim.c.
 */

#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_http.h>

static const ngx_uint_t  NGX_WSGI_CONF_UNSET_UINT = NGX_CONF_UNSET_UINT;
static const ngx_uint_t  NGX_WSGI_USE_CLEAR_EVENT = NGX_USE_CLEAR_EVENT;
static const ngx_uint_t  NGX_WSGI_SOCKADDR_STRLEN = NGX_SOCKADDR_STRLEN;

/*
 * The flags of a request that we use, as wsgi_FLAG() and wsgi_set_FLAG(). nginx-sys has them, too, but bindgen mistakes
 * where bit fields are that follow a field of 16 bits, as they do since nginx 1.29.3.
 */
#define WSGI_REQUEST_FLAGS(flag)                                              \
    flag(allow_ranges)                                                        \
    flag(buffered)                                                            \
    flag(chunked)                                                             \
    flag(count)                                                               \
    flag(disable_not_modified)                                                \
    flag(discard_body)                                                        \
    flag(header_only)                                                         \
    flag(header_sent)                                                         \
    flag(keepalive)                                                           \
    flag(limit_rate_set)                                                      \
    flag(reading_body)                                                        \
    flag(request_body_no_buffering)                                           \
    flag(single_range)

#define WSGI_DECLARE(flag)                                                    \
    ngx_uint_t wsgi_##flag(const ngx_http_request_t *r);                      \
    void wsgi_set_##flag(ngx_http_request_t *r, ngx_uint_t value);

WSGI_REQUEST_FLAGS(WSGI_DECLARE)

/* Writes one record to `log`, behind nginx's usual prefix; `data` may hold any bytes. */
void wsgi_log_write(ngx_uint_t level, ngx_log_t *log, const u_char *data, size_t len);

/* Writes a configuration error; nginx adds file and line when `cf` is at one. */
void wsgi_conf_error(ngx_uint_t level, ngx_conf_t *cf, const u_char *data, size_t len);

/* As above, to a descriptor; any thread may call it. */
void wsgi_log_write_fd(ngx_uint_t level, ngx_fd_t fd, ngx_atomic_uint_t connection, const u_char *data, size_t len);

/* Makes `r` the request that the records of its connection's log name. */
void wsgi_set_log_request(ngx_http_request_t *r);

/* Puts `h`, named `cache-control` or `link`, where nginx's filters look for it. */
ngx_int_t wsgi_header_multi(ngx_http_request_t *r, ngx_table_elt_t *h, ngx_uint_t link);

/* Sends what is in the list of response headers as a 103 response, where this nginx has them and the location wants it. */
ngx_int_t wsgi_send_early_hints(ngx_http_request_t *r);

/* Sends on what the socket did not take, before the head of the response has been sent. */
ngx_int_t wsgi_flush(ngx_http_request_t *r);

/* The number of bytes that `b` has still to give. */
off_t wsgi_buf_size(ngx_buf_t *b);

/* Takes the listening sockets that workers share out of this worker's event loop, or puts them back. */
void wsgi_set_accepting(ngx_uint_t accepting);

/* Whether no client is being served: all connections of clients are idle. */
ngx_uint_t wsgi_is_idle(void);

/* In a child that the application forked: closes the worker's sockets, which are the worker's alone. */
void wsgi_close_connections(void);
