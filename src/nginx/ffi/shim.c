/*
 * nginx's macros as functions, and what differs between its versions.
 */

#include "extra.h"

#include <unistd.h>


/* The Rust side takes these for one another. */
_Static_assert(sizeof(ngx_uint_t) == sizeof(size_t), "ngx_uint_t is not a usize");
_Static_assert(sizeof(ngx_int_t) == sizeof(ssize_t), "ngx_int_t is not an isize");
_Static_assert(sizeof(ngx_msec_t) == sizeof(size_t), "ngx_msec_t is not a usize");
_Static_assert(sizeof(ngx_flag_t) == sizeof(ssize_t), "ngx_flag_t is not an isize");
_Static_assert(sizeof(off_t) == 8, "off_t has not 64 bits");


#define WSGI_DEFINE(flag)                                                     \
                                                                              \
ngx_uint_t                                                                    \
wsgi_##flag(const ngx_http_request_t *r)                                      \
{                                                                             \
    return r->flag;                                                           \
}                                                                             \
                                                                              \
void                                                                          \
wsgi_set_##flag(ngx_http_request_t *r, ngx_uint_t value)                      \
{                                                                             \
    r->flag = value;                                                          \
}

WSGI_REQUEST_FLAGS(WSGI_DEFINE)


void
wsgi_log_write(ngx_uint_t level, ngx_log_t *log, const u_char *data, size_t len)
{
    ngx_log_error(level, log, 0, "%*s", len, data);
}


void
wsgi_log_write_fd(ngx_uint_t level, ngx_fd_t fd, ngx_atomic_uint_t connection, const u_char *data, size_t len)
{
    ngx_log_t        log;
    ngx_open_file_t  file;

    ngx_memzero(&file, sizeof(ngx_open_file_t));
    file.fd = fd;

    ngx_memzero(&log, sizeof(ngx_log_t));
    log.log_level = level;
    log.file = &file;
    log.connection = connection;

    wsgi_log_write(level, &log, data, len);
}


void
wsgi_conf_error(ngx_uint_t level, ngx_conf_t *cf, const u_char *data, size_t len)
{
    ngx_conf_log_error(level, cf, 0, "%*s", len, data);
}


void
wsgi_set_log_request(ngx_http_request_t *r)
{
    ngx_http_set_log_request(r->connection->log, r);
}


ngx_int_t
wsgi_header_multi(ngx_http_request_t *r, ngx_table_elt_t *h, ngx_uint_t link)
{
#if (nginx_version >= 1023000)

    ngx_table_elt_t  **last;

    last = link ? &r->headers_out.link : &r->headers_out.cache_control;

    while (*last) {
        last = &(*last)->next;
    }

    *last = h;
    h->next = NULL;

#else

    ngx_array_t       *headers;
    ngx_table_elt_t  **ph;

    headers = link ? &r->headers_out.link : &r->headers_out.cache_control;

    if (headers->elts == NULL
        && ngx_array_init(headers, r->pool, 1, sizeof(ngx_table_elt_t *)) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ph = ngx_array_push(headers);
    if (ph == NULL) {
        return NGX_ERROR;
    }

    *ph = h;

#endif

    return NGX_OK;
}


ngx_int_t
wsgi_send_early_hints(ngx_http_request_t *r)
{
#if (nginx_version >= 1029000)

    if (ngx_http_send_early_hints(r) == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (r->connection->buffered && ngx_handle_write_event(r->connection->write, 0) != NGX_OK) {
        return NGX_ERROR;
    }

#endif

    return NGX_OK;
}


ngx_int_t
wsgi_flush(ngx_http_request_t *r)
{
    if (!r->connection->buffered) {
        return NGX_OK;
    }

    if (ngx_http_write_filter(r, NULL) == NGX_ERROR) {
        return NGX_ERROR;
    }

    return ngx_handle_write_event(r->connection->write, 0);
}


off_t
wsgi_buf_size(ngx_buf_t *b)
{
    return ngx_buf_size(b);
}


void
wsgi_set_accepting(ngx_uint_t accepting)
{
#if (NGX_HAVE_EPOLLEXCLUSIVE)

    ngx_uint_t         i;
    ngx_listening_t   *ls;
    ngx_connection_t  *c;

    if (!ngx_use_exclusive_accept || ngx_exiting) {
        return;
    }

    ls = ngx_cycle->listening.elts;

    for (i = 0; i < ngx_cycle->listening.nelts; i++) {
        c = ls[i].connection;

        if (c == NULL || ls[i].type != SOCK_STREAM || (accepting != 0) == c->read->active) {
            continue;
        }

#if (NGX_HAVE_REUSEPORT)
        if (ls[i].reuseport) {
            continue;
        }
#endif

        if (accepting) {
            (void) ngx_add_event(c->read, NGX_READ_EVENT, NGX_EXCLUSIVE_EVENT);

        } else {
            (void) ngx_del_event(c->read, NGX_READ_EVENT, NGX_DISABLE_EVENT);
        }
    }

#endif
}


ngx_uint_t
wsgi_is_idle(void)
{
    ngx_uint_t         i;
    ngx_connection_t  *c;

    c = ngx_cycle->connections;

    /* Connections of clients and to upstreams have a pool; listening sockets and our own have none. */

    for (i = 0; i < ngx_cycle->connection_n; i++) {
        if (c[i].fd != (ngx_socket_t) -1 && c[i].pool && !c[i].idle && !c[i].read->channel) {
            return 0;
        }
    }

    return 1;
}


void
wsgi_close_connections(void)
{
    ngx_uint_t         i;
    ngx_connection_t  *c;

    c = ngx_cycle->connections;

    if (c == NULL) {
        return;
    }

    /* close() alone: the child shares the epoll instance with the worker. */

    for (i = 0; i < ngx_cycle->connection_n; i++) {
        if (c[i].fd != (ngx_socket_t) -1) {
            (void) close(c[i].fd);
        }
    }
}
