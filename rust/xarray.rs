// SPDX-License-Identifier: GPL-2.0

//! An XArray of plain values.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)
//!
//! Reference: <https://docs.kernel.org/core-api/xarray.html>
//!
//! The kernel crate's `XArray` holds pointers and is read under its lock. This one holds integers,
//! is read under RCU, and accounts its nodes to the task's memory cgroup.

use super::bindings;
use kernel::{
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// Integers by index, of which at most one at each.
///
/// Readers need no lock. Writers are safe against each other, too, but it's up to the caller that
/// several calls make one change.
///
/// # Invariants
///
/// `xa` is initialised, and holds only value entries and reservations.
#[pin_data(PinnedDrop)]
pub(crate) struct ValueXArray {
    #[pin]
    xa: Opaque<kernel::bindings::xarray>,
}

impl ValueXArray {
    /// An empty array.
    pub(crate) fn new() -> impl PinInit<Self> {
        // INVARIANT: The array is initialised, and empty.
        pin_init!(Self {
            // SAFETY: The slot is valid for writes, and pinned from here on.
            xa <- Opaque::ffi_init(|xa| unsafe { bindings::kma_xa_init_accounted(xa) }),
        })
    }

    fn as_ptr(&self) -> *mut kernel::bindings::xarray {
        self.xa.get()
    }

    /// The value at `index`. Takes RCU only, and may be called in any context.
    pub(crate) fn load(&self, index: u64) -> Option<u64> {
        // SAFETY: The array is initialised by the type invariant; `xa_load` takes RCU itself, and a
        // value entry is no pointer that could dangle afterwards.
        let entry = unsafe { kernel::bindings::xa_load(self.as_ptr(), index as usize) };
        Self::value(entry)
    }

    /// The first index in `[from, last]` with a value, and the value. Takes RCU only.
    pub(crate) fn find(&self, from: u64, last: u64) -> Option<(u64, u64)> {
        let mut index = from as usize;
        // SAFETY: The array is initialised by the type invariant; `xa_find` takes RCU itself, skips
        // reservations, and a value entry is no pointer that could dangle afterwards.
        let entry = unsafe {
            kernel::bindings::xa_find(
                self.as_ptr(),
                &mut index,
                last as usize,
                kernel::bindings::XA_PRESENT,
            )
        };
        Some((index as u64, Self::value(entry)?))
    }

    fn value(entry: *mut c_void) -> Option<u64> {
        // SAFETY: Any entry may be tested.
        if !unsafe { bindings::kma_xa_is_value(entry) } {
            return None;
        }
        // SAFETY: It's a value entry.
        Some(unsafe { bindings::kma_xa_to_value(entry) } as u64)
    }

    /// Makes sure that storing a value at `index` won't allocate. Readers see no value there until
    /// one is stored. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn reserve(&self, index: u64) -> Result {
        // SAFETY: The array is initialised by the type invariant.
        // INVARIANT: Adds a reservation at most.
        to_result(unsafe { bindings::kma_xa_reserve(self.as_ptr(), index as usize) })
    }

    /// Gives up a reservation. A value at `index` stays.
    pub(crate) fn release(&self, index: u64) {
        // SAFETY: The array is initialised by the type invariant.
        unsafe { bindings::kma_xa_release(self.as_ptr(), index as usize) }
    }

    /// Stores a value, of at most 63 bits, where there's a value or a reservation already, without
    /// which the value is lost, with a warning. Doesn't allocate.
    pub(crate) fn store_reserved(&self, index: u64, value: u64) {
        // SAFETY: The array is initialised by the type invariant.
        // INVARIANT: Stores a value entry.
        unsafe { bindings::kma_xa_store_reserved(self.as_ptr(), index as usize, value as usize) }
    }

    /// Removes a value or reservation. Doesn't allocate.
    pub(crate) fn erase(&self, index: u64) {
        // SAFETY: The array is initialised by the type invariant.
        unsafe { kernel::bindings::xa_erase(self.as_ptr(), index as usize) };
    }
}

#[pinned_drop]
impl PinnedDrop for ValueXArray {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The array is initialised by the type invariant, and there's no other reference to
        // it. Value entries need no freeing of their own.
        unsafe { kernel::bindings::xa_destroy(self.as_ptr()) };
    }
}

// SAFETY: An xarray has no tie to the thread that made it, and its entries are integers.
unsafe impl Send for ValueXArray {}

// SAFETY: All methods may be called concurrently, the array has a lock of its own.
unsafe impl Sync for ValueXArray {}
