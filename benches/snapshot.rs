//! What crosses between the event loop and a thread, without either: `cargo bench --no-default-features --bench snapshot`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use ngx_http_wsgi_module::exchange::body::Body;
use ngx_http_wsgi_module::exchange::log::Origin;
use ngx_http_wsgi_module::exchange::names;
use ngx_http_wsgi_module::exchange::request::{Entries, Request};
use ngx_http_wsgi_module::exchange::response::{End, Fields, Head};
use ngx_http_wsgi_module::exchange::{CallParams, Completions, Exchange};

/// What a browser sends with a page's first request.
const HEADERS: [(&[u8], &[u8]); 14] = [
    (b"host", b"www.example.org"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-US,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"referer", b"https://www.example.org/articles/2026/11/a-page-with-a-long-name"),
    (b"connection", b"keep-alive"),
    (b"cookie", b"csrftoken=0123456789abcdef0123456789abcdef; sessionid=abcdefghijklmnopqrstuvwxyz012345"),
    (b"upgrade-insecure-requests", b"1"),
    (b"sec-fetch-dest", b"document"),
    (b"sec-fetch-mode", b"navigate"),
    (b"sec-fetch-site", b"same-origin"),
    (b"x-unheard-of", b"of any use"),
    (b"priority", b"u=0, i"),
];

fn entries(headers: &[(&[u8], &[u8])]) -> Entries {
    let mut entries = Entries::default();
    entries.reserve(1500);
    entries.push(names::REQUEST_METHOD, b"GET");
    entries.push(names::SCRIPT_NAME, b"");
    entries.push(names::PATH_INFO, b"/articles/2026/11/another-page");
    entries.push(names::QUERY_STRING, b"page=2");
    entries.push(names::REQUEST_URI, b"/articles/2026/11/another-page?page=2");
    entries.push(names::SERVER_PROTOCOL, b"HTTP/1.1");
    entries.push(names::REMOTE_ADDR, b"192.0.2.17");
    entries.push_number(names::REMOTE_PORT, 50_123);
    for (name, value) in headers {
        entries.push_header(names::of_header(name), name, &[value]);
    }
    entries
}

fn snapshot(criterion: &mut Criterion) {
    criterion.bench_function("entries of a request of wrk", |bencher| bencher.iter(|| entries(&HEADERS[..1])));
    criterion.bench_function("entries of a browser's request", |bencher| bencher.iter(|| entries(&HEADERS)));
    let browsers = entries(&HEADERS);
    criterion.bench_function("read back, a browser's", |bencher| {
        bencher.iter(|| {
            for entry in browsers.iter() {
                black_box(entry);
            }
        });
    });
}

/// A call with a small response, from its request to what the event loop takes.
fn exchange(criterion: &mut Criterion) {
    let completions = Arc::new(Completions::new(Box::new(|| ())));
    let base_environ = Arc::new(Entries::default());
    let call = || {
        let request =
            Request { base_environ: Arc::clone(&base_environ), own: entries(&HEADERS[..1]), body: Body::default() };
        let params = CallParams { app: 0, pool: 0, window: 1 << 18, origin: Origin::default(), inbox: None, owner: 1 };
        let exchange = Exchange::new(request, params, Arc::clone(&completions));
        exchange.begin();
        let mut fields = Fields::with_room(exchange.memory(), 2);
        fields.push(b"Content-Type", b"text/plain");
        fields.push(b"Content-Length", b"12");
        fields.push_body(b"Hello World!");
        let head = Head { status: 200, line: b"200 OK"[..].into(), fields, length: Some(12) };
        let _ = exchange.send(Some(head), None, Some(End::Complete));
        completions.drain(|exchange| drop(black_box(exchange.take())));
        exchange.abandon()
    };
    criterion.bench_function("exchange, both ways", |bencher| bencher.iter(call));
}

criterion_group!(benches, snapshot, exchange);
criterion_main!(benches);
