// SPDX-License-Identifier: GPL-2.0

//! Sorting. The sorts of `core` take kilobytes of the stack at each level of their recursion, which
//! the kernel's stack doesn't have.
//!
//! C header: [`include/linux/sort.h`](srctree/include/linux/sort.h)

use super::bindings;
use core::{
    cmp::Ordering,
    ffi::{
        c_int,
        c_void, //
    },
};

/// Sorts in place, by what `key` says. Neither recurses nor allocates, and isn't stable. May sleep.
pub(crate) fn sort_by_key<T: Copy, K: Ord>(items: &mut [T], key: fn(&T) -> K) {
    /// # Safety
    ///
    /// `a` and `b` must be valid `T`s, and `key` the address of a function as that of `sort_by_key()`.
    unsafe extern "C" fn compare<T, K: Ord>(
        a: *const c_void,
        b: *const c_void,
        key: *const c_void,
    ) -> c_int {
        // SAFETY: By the function's contract.
        let (a, b, key) = unsafe { (&*a.cast(), &*b.cast(), *key.cast::<fn(&T) -> K>()) };
        match key(a).cmp(&key(b)) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    if items.is_sorted_by_key(key) {
        return;
    }
    // SAFETY: All items are valid, and stay so as they are `Copy`, i.e. no more than their bytes. `key`
    // is alive for the length of the call.
    unsafe {
        bindings::sort_r_nonatomic(
            items.as_mut_ptr().cast(),
            items.len(),
            size_of::<T>(),
            Some(compare::<T, K>),
            None,
            (&raw const key).cast(),
        )
    };
}
