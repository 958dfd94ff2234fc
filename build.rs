//! Finds out about the Python and the nginx that the module is built with. Both parts are features of their own.

#[cfg(feature = "module")]
#[path = "build/nginx.rs"]
mod nginx;
#[cfg(feature = "python")]
#[path = "build/python.rs"]
mod python;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "python")]
    python::configure();
    #[cfg(feature = "module")]
    nginx::configure();
}

/// Ends the build with a message that says what is missing, without a panic's noise.
#[cfg(feature = "python")]
fn fail(message: &str) -> ! {
    for line in message.trim_end().lines() {
        println!("cargo::error={line}");
    }
    std::process::exit(1);
}
