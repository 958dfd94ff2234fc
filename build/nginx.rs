//! The nginx that nginx-sys was built with: our C shim, the declarations that nginx-sys lacks, and what the linker
//! must do so that the module stays in memory.

use std::env;
use std::path::{Path, PathBuf};

const SHIM: &str = "src/nginx/ffi/shim.c";
const EXTRA: &str = "src/nginx/ffi/extra.h";

/// Versions from which on nginx has something that the code asks for, and the cfg that says so.
const SINCE: [(u64, &str); 2] = [
    (1_023_000, "nginx_1_23"), // headers of one name are linked by `next`
    (1_029_000, "nginx_1_29"), // ngx_http_send_early_hints()
];

/// What a C compiler needs to know to read nginx's headers.
struct Headers {
    includes: Vec<PathBuf>,
    defines: Vec<String>,
}

pub(crate) fn configure() {
    for file in ["build/nginx.rs", SHIM, EXTRA] {
        println!("cargo::rerun-if-changed={file}");
    }
    let headers = Headers {
        includes: env::split_paths(&metadata("INCLUDE")).collect(),
        defines: defines().split_whitespace().map(str::to_owned).collect(),
    };
    cfgs();
    compile_shim(&headers);
    generate_extra(&headers);
    // nginx closes its modules when a cycle ends, while our threads may still run.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // A symbol that this nginx does not have must show when it loads the module, not at the first call.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,now");
}

/// A variable that nginx-sys hands to the packages that depend on it; cargo runs us again when one changes.
fn metadata(name: &str) -> String {
    env::var(format!("DEP_NGINX_{name}"))
        .unwrap_or_else(|_| crate::fail(&format!("nginx-sys did not set DEP_NGINX_{name}")))
}

/// The -D options of nginx's own makefile. nginx-sys 0.5.0 prints them in cargo's old syntax, where the variable that
/// results is called METADATA.
fn defines() -> String {
    let old = env::var("DEP_NGINX_METADATA").ok();
    old.and_then(|value| value.strip_prefix("cflags=").map(str::to_owned)).unwrap_or_else(|| metadata("CFLAGS"))
}

/// `ngx_feature = "http_v3"` and the like, as nginx-sys itself has them, and `nginx_1_x` for the versions that matter.
fn cfgs() {
    println!("cargo::rustc-check-cfg=cfg(ngx_feature, values({}))", metadata("FEATURES_CHECK"));
    for feature in metadata("FEATURES").split(',') {
        println!("cargo::rustc-cfg=ngx_feature=\"{feature}\"");
    }
    let version: u64 = metadata("VERSION_NUMBER").trim().parse().unwrap_or_default();
    for (since, cfg) in SINCE {
        println!("cargo::rustc-check-cfg=cfg({cfg})");
        if version >= since {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
}

fn compile_shim(headers: &Headers) {
    let mut build = cc::Build::new();
    build.file(SHIM).includes(&headers.includes).flag("-Wall").flag("-Wextra").flag("-Wno-unused-parameter");
    for define in &headers.defines {
        build.flag(define);
    }
    build.compile("wsgi_shim");
}

/// Declarations of `extra.h` as Rust. nginx's own types in them are those of nginx-sys: the module that includes the
/// file brings them into scope.
fn generate_extra(headers: &Headers) {
    let includes = headers.includes.iter().map(|folder| format!("-I{}", folder.display()));
    let bindings = bindgen::Builder::default()
        .header(EXTRA)
        .clang_args(includes.chain(headers.defines.iter().cloned()))
        .allowlist_item("wsgi_.*|NGX_WSGI_.*")
        .allowlist_recursively(false)
        .layout_tests(false)
        .use_core()
        .rust_edition(bindgen::RustEdition::Edition2024)
        .generate();
    let out = Path::new(&env::var_os("OUT_DIR").unwrap_or_default()).join("nginx_extra.rs");
    match bindings.map(|bindings| bindings.write_to_file(&out)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => crate::fail(&format!("cannot write {}: {error}", out.display())),
        Err(error) => crate::fail(&format!("bindgen cannot read {EXTRA}: {error}")),
    }
}
