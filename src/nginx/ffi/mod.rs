//! The fence towards nginx: what bindgen and the C shim add, and small views on nginx's types.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use nginx_sys::*;

/// Declarations of `extra.h`.
#[allow(missing_docs, non_upper_case_globals, clippy::all, unreachable_pub, dead_code)]
mod extra {
    use nginx_sys::*;
    include!(concat!(env!("OUT_DIR"), "/nginx_extra.rs"));
}
pub(crate) use extra::*;

pub(crate) const OK: ngx_int_t = NGX_OK as ngx_int_t;
pub(crate) const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;
pub(crate) const DONE: ngx_int_t = NGX_DONE as ngx_int_t;

/// An option of a configuration that no directive has set.
pub(crate) const UNSET: usize = usize::MAX;

/// Runs `body`; a panic ends here and becomes `default`, so that none unwinds into nginx.
pub(crate) fn guard<T>(default: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        super::log::alert("a panic in nginx-wsgi's event-loop side");
        default
    })
}

/// The bytes of an nginx string.
///
/// # Safety
/// `string` must be null with length 0, or point to its length of bytes, which stay unchanged for `'a`.
pub(crate) unsafe fn bytes<'a>(string: ngx_str_t) -> &'a [u8] {
    if string.len == 0 || string.data.is_null() {
        return &[];
    }
    // SAFETY: the caller vouches for the pointer and the length.
    unsafe { std::slice::from_raw_parts(string.data, string.len) }
}

/// Copies `source` into `pool`, with a NUL behind it: some of nginx reads on to that.
///
/// # Safety
/// `pool` must be a live pool of the calling thread.
pub(crate) unsafe fn copy_to_pool(pool: *mut ngx_pool_t, source: &[u8]) -> Option<ngx_str_t> {
    // SAFETY: the pool is live; a null answer is handled.
    let data = NonNull::new(unsafe { ngx_pnalloc(pool, source.len() + 1) })?.cast::<u8>().as_ptr();
    // SAFETY: the allocation has room for the source and the NUL, and is new, so it does not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(source.as_ptr(), data, source.len());
        data.add(source.len()).write(0);
    }
    Some(ngx_str_t { len: source.len(), data })
}

/// Moves `value` to the heap and has `pool` drop it when it is destroyed.
///
/// # Safety
/// `pool` must be a live pool of the calling thread.
pub(crate) unsafe fn pool_box<T>(pool: *mut ngx_pool_t, value: T) -> Option<NonNull<T>> {
    unsafe extern "C" fn drop_box<T>(data: *mut c_void) {
        // SAFETY: `data` came from Box::into_raw below, and a pool runs its cleanups once.
        guard((), || drop(unsafe { Box::from_raw(data.cast::<T>()) }));
    }
    // SAFETY: the pool is live; a null answer is handled.
    let cleanup = unsafe { ngx_pool_cleanup_add(pool, 0).as_mut()? };
    let boxed = Box::into_raw(Box::new(value));
    cleanup.handler = Some(drop_box::<T>);
    cleanup.data = boxed.cast();
    NonNull::new(boxed)
}

/// The items of an nginx list, in order.
///
/// # Safety
/// `list` must be an initialised list of `T`, unchanged for `'a`.
pub(crate) unsafe fn list_items<'a, T: 'a>(list: &'a ngx_list_t) -> impl Iterator<Item = &'a T> + Clone {
    let parts = std::iter::successors(Some(&list.part), |part| {
        // SAFETY: `next` is null or the next part of the same list.
        unsafe { part.next.as_ref() }
    });
    parts.flat_map(|part| {
        if part.nelts == 0 {
            return &[][..];
        }
        // SAFETY: a part holds `nelts` initialised items at `elts`.
        unsafe { std::slice::from_raw_parts(part.elts.cast::<T>(), part.nelts) }
    })
}
