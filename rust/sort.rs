// SPDX-License-Identifier: GPL-2.0

//! Sorting. The sorts of `core` take much of the stack at each level of their recursion, which the
//! kernel's stack doesn't have.
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

/// Sorts in place. Neither recurses nor allocates, and isn't stable. May sleep.
pub(crate) fn sort<T: Copy + Ord>(items: &mut [T]) {
    /// # Safety
    ///
    /// `a` and `b` must be valid `T`s.
    unsafe extern "C" fn compare<T: Ord>(a: *const c_void, b: *const c_void) -> c_int {
        // SAFETY: By the function's contract.
        let (a, b) = unsafe { (&*a.cast::<T>(), &*b.cast::<T>()) };
        match a.cmp(b) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    if items.is_sorted() {
        return;
    }
    // SAFETY: All items are valid, and stay so as they are `Copy`, i.e. no more than their bytes.
    unsafe {
        bindings::sort_nonatomic(
            items.as_mut_ptr().cast(),
            items.len(),
            size_of::<T>(),
            Some(compare::<T>),
            None,
        )
    };
}
