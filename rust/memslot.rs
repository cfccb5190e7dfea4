// SPDX-License-Identifier: GPL-2.0

//! Memory slots.
//!
//! C header: [`include/linux/kvm_host.h`](srctree/include/linux/kvm_host.h)

use super::{
    bindings,
    gfn::Gfn, //
};
use kernel::types::Opaque;

/// The size of a hugepage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HugeLevel {
    /// 2 MiB.
    Size2M,
    /// 1 GiB.
    Size1G,
}

impl HugeLevel {
    /// KVM's number of the level.
    pub(super) const fn as_raw(self) -> i32 {
        match self {
            Self::Size2M => bindings::KMA_PG_LEVEL_2M as i32,
            Self::Size1G => bindings::KMA_PG_LEVEL_1G as i32,
        }
    }

    /// Number of pages of a hugepage.
    pub(crate) const fn nr_pages(self) -> u64 {
        match self {
            Self::Size2M => bindings::KMA_PAGES_PER_2M as u64,
            Self::Size1G => bindings::KMA_PAGES_PER_1G as u64,
        }
    }
}

/// A memory slot: a `struct kvm_memory_slot` that a callback was given.
///
/// # Invariants
///
/// A reference is to a slot that stays valid as long as the reference, and whose gfn range and kind
/// don't change in that time.
#[repr(transparent)]
pub(crate) struct MemSlot(Opaque<bindings::kvm_memory_slot>);

impl MemSlot {
    /// # Safety
    ///
    /// `ptr` must be a valid slot for the duration of `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *const bindings::kvm_memory_slot) -> &'a Self {
        // SAFETY: Valid by the function's contract; `MemSlot` is transparent to the C type.
        // INVARIANT: KVM changes base, size and kind of a slot only by replacing it.
        unsafe { &*ptr.cast() }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::kvm_memory_slot {
        self.0.get()
    }

    /// First gfn of the slot.
    pub(crate) fn start(&self) -> Gfn {
        // SAFETY: The slot is valid by the type invariant.
        Gfn::new(unsafe { bindings::kma_slot_base_gfn(self.as_ptr()) })
    }

    /// First gfn after the slot.
    pub(crate) fn end(&self) -> Gfn {
        // SAFETY: The slot is valid by the type invariant.
        let npages = unsafe { bindings::kma_slot_npages(self.as_ptr()) };
        Gfn::new(self.start().raw() + npages as u64)
    }

    /// Was it made by userspace, as opposed to one that KVM keeps for itself?
    pub(crate) fn is_user(&self) -> bool {
        // SAFETY: The slot is valid by the type invariant.
        unsafe { bindings::kma_slot_is_user(self.as_ptr()) }
    }

    /// Is all of its memory, shared or private, in a guest_memfd?
    pub(crate) fn is_gmem_only(&self) -> bool {
        // SAFETY: The slot is valid by the type invariant.
        unsafe { bindings::kma_slot_is_gmem_only(self.as_ptr()) }
    }
}

/// A slot that's about to be installed, and that nobody else can see yet.
///
/// # Invariants
///
/// slots_lock is held, and the slot's hugepage metadata is allocated.
pub(crate) struct NewSlot<'a>(&'a MemSlot);

impl<'a> NewSlot<'a> {
    /// # Safety
    ///
    /// `slot` must be a slot whose hugepage metadata is allocated, that isn't visible to anybody
    /// else yet. slots_lock must be held.
    pub(super) unsafe fn new(slot: &'a MemSlot) -> Self {
        // INVARIANT: By the function's contract.
        Self(slot)
    }

    /// Marks the hugepages of a level that lie in `[start, end)` and in the slot as having mixed
    /// attributes.
    pub(crate) fn set_mixed(&self, start: Gfn, end: Gfn, level: HugeLevel) {
        // SAFETY: The slot is valid, its metadata is allocated and not in use by others, by the
        // type invariant. Only hugepages that lie fully in the slot are touched.
        unsafe {
            bindings::kvm_arch_slot_set_mixed(
                self.0.as_ptr(),
                start.raw(),
                end.raw(),
                level.as_raw(),
                true,
            )
        }
    }
}

impl core::ops::Deref for NewSlot<'_> {
    type Target = MemSlot;

    fn deref(&self) -> &MemSlot {
        self.0
    }
}
