// SPDX-License-Identifier: GPL-2.0

//! An invalidation of guest mappings, as a guard.
//!
//! C header: `include/linux/kvm_mem_attr.h` of the host series.
//!
//! An invalidation begins with mmu_lock held ([`Begun`]), in which state mappings are zapped, goes on
//! without it ([`Zapped`]), in which state the new attributes are stored, and ends under mmu_lock
//! again ([`Ending`]). Whichever of the three is dropped ends the invalidation, on every path.
//!
//! Locks are taken in the order: 1. slots_lock, 2. mmu_lock.

use super::{
    bindings,
    gfn::Gfn,
    memslot::HugeLevel,
    vm::{
        Kvm,
        SlotsGuard, //
    },
};
use core::mem::ManuallyDrop;
use kernel::types::NotThreadSafe;

/// Which kinds of mappings a zap is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ZapFilter(bindings::kvm_gfn_range_filter);

impl ZapFilter {
    /// Mappings of shared memory.
    pub(crate) const SHARED: Self = Self(bindings::kvm_gfn_range_filter_KVM_FILTER_SHARED);
    /// Mappings of private memory.
    pub(crate) const PRIVATE: Self = Self(bindings::kvm_gfn_range_filter_KVM_FILTER_PRIVATE);
    /// Both.
    pub(crate) const BOTH: Self = Self(Self::SHARED.0 | Self::PRIVATE.0);

    pub(super) fn from_raw(filter: bindings::kvm_gfn_range_filter) -> Self {
        Self(filter)
    }

    pub(super) fn as_raw(self) -> bindings::kvm_gfn_range_filter {
        self.0
    }

    /// Are all kinds of `other` in it?
    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Runs `f` without mmu_lock, with TLBs flushed before if `flush`.
///
/// # Safety
///
/// The caller must hold mmu_lock of `kvm` for write, and holds it again afterwards.
unsafe fn without_mmu_lock<R>(kvm: &Kvm, flush: bool, f: impl FnOnce() -> R) -> R {
    // SAFETY: The VM is valid, and mmu_lock is held by the function's contract.
    unsafe { bindings::kvm_mem_attr_flush_unlock(kvm.as_ptr(), flush) };
    let result = f();
    // SAFETY: The VM is valid, and mmu_lock was released above.
    unsafe { bindings::kvm_mem_attr_lock(kvm.as_ptr()) };
    result
}

/// An invalidation that has begun, with mmu_lock held for write.
///
/// # Invariants
///
/// mmu_lock is held, the invalidation has begun and has at least one range.
#[must_use = "the invalidation ends when it's dropped"]
pub(crate) struct Begun<'a> {
    slots: &'a SlotsGuard<'a>,
    flush: bool,
    _not_send: NotThreadSafe,
}

impl<'a> Begun<'a> {
    /// Begins an invalidation that covers `[start, end)`, and the hugepages that straddle its ends:
    /// a page fault on any of it is retried until the invalidation has ended. With `restricts`, KVM
    /// will ask from now on which accesses are denied.
    pub(crate) fn begin(slots: &'a SlotsGuard<'a>, start: Gfn, end: Gfn, restricts: bool) -> Self {
        let kvm = slots.kvm().as_ptr();
        // SAFETY: The VM is valid, and slots_lock is held.
        unsafe { bindings::kvm_mem_attr_begin(kvm, restricts) };
        // SAFETY: As above; mmu_lock is held and the invalidation has begun.
        unsafe { bindings::kvm_mem_attr_add(kvm, start.raw(), end.raw()) };
        // INVARIANT: The invalidation was begun, with mmu_lock taken, and given a range above.
        Self {
            slots,
            flush: false,
            _not_send: NotThreadSafe,
        }
    }

    /// Zaps the mappings of `[start, end)` that are of a kind in `filter`.
    ///
    /// May drop and retake mmu_lock.
    pub(crate) fn zap(&mut self, start: Gfn, end: Gfn, filter: ZapFilter) {
        // SAFETY: The VM is valid, slots_lock is held, and so is mmu_lock by the type invariant.
        self.flush = unsafe {
            bindings::kvm_mem_attr_zap(
                self.kvm().as_ptr(),
                start.raw(),
                end.raw(),
                filter.as_raw(),
                self.flush,
            )
        };
    }

    /// Lets others have mmu_lock while `f` runs, which may sleep, with nothing left to flush. The
    /// invalidation goes on.
    pub(crate) fn pause<R>(&mut self, f: impl FnOnce() -> R) -> R {
        // SAFETY: mmu_lock is held by the type invariant.
        // INVARIANT: It's held again, the invalidation has gone on.
        let result = unsafe { without_mmu_lock(self.kvm(), self.flush, f) };
        self.flush = false;
        result
    }

    /// Lets others have mmu_lock if they wait for it, or for the CPU, with nothing left to flush then.
    pub(crate) fn breathe(&mut self) {
        // No gfn is in this range: it's all that's done.
        self.zap(Gfn::new(0), Gfn::new(0), ZapFilter::BOTH);
    }

    /// Flushes TLBs if anything was zapped, and releases mmu_lock.
    pub(crate) fn unlock(self) -> Zapped<'a> {
        let this = ManuallyDrop::new(self);
        // SAFETY: The VM is valid and mmu_lock is held by the type invariant.
        unsafe { bindings::kvm_mem_attr_flush_unlock(this.kvm().as_ptr(), this.flush) };
        // INVARIANT: The invalidation goes on; its destructor doesn't run.
        Zapped {
            slots: this.slots,
            _not_send: NotThreadSafe,
        }
    }

    fn kvm(&self) -> &'a Kvm {
        self.slots.kvm()
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        // SAFETY: The VM is valid and mmu_lock is held by the type invariant.
        unsafe { bindings::kvm_mem_attr_flush_unlock(self.kvm().as_ptr(), self.flush) };
        // INVARIANT: The invalidation goes on, and is ended by dropping the guard.
        drop(Zapped {
            slots: self.slots,
            _not_send: NotThreadSafe,
        });
    }
}

/// An invalidation in progress, without mmu_lock: the time to store.
///
/// # Invariants
///
/// The invalidation has begun, all its mappings are zapped and flushed, and mmu_lock isn't held.
#[must_use = "the invalidation ends when it's dropped"]
pub(crate) struct Zapped<'a> {
    slots: &'a SlotsGuard<'a>,
    _not_send: NotThreadSafe,
}

impl<'a> Zapped<'a> {
    /// Takes mmu_lock for the last part of the invalidation.
    pub(crate) fn lock(self) -> Ending<'a> {
        let this = ManuallyDrop::new(self);
        // SAFETY: The VM is valid, and mmu_lock isn't held by the type invariant.
        unsafe { bindings::kvm_mem_attr_lock(this.slots.kvm().as_ptr()) };
        // INVARIANT: mmu_lock was taken above, the invalidation goes on.
        Ending {
            slots: this.slots,
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for Zapped<'_> {
    fn drop(&mut self) {
        // INVARIANT: `self` isn't used again, the invalidation is carried on.
        drop(
            Self {
                slots: self.slots,
                _not_send: NotThreadSafe,
            }
            .lock(),
        );
    }
}

/// The last part of an invalidation, with mmu_lock held for write again.
///
/// # Invariants
///
/// The invalidation has begun, and mmu_lock is held.
#[must_use = "the invalidation ends when it's dropped"]
pub(crate) struct Ending<'a> {
    slots: &'a SlotsGuard<'a>,
    _not_send: NotThreadSafe,
}

impl Ending<'_> {
    /// Lets others have mmu_lock while `f` runs, which may sleep. The invalidation goes on.
    pub(crate) fn pause<R>(&mut self, f: impl FnOnce() -> R) -> R {
        // SAFETY: mmu_lock is held by the type invariant.
        // INVARIANT: It's held again, the invalidation has gone on.
        unsafe { without_mmu_lock(self.slots.kvm(), false, f) }
    }

    /// Records, in all memslots, whether the hugepages of a level that lie in `[start, end)` have
    /// mixed attributes. May drop and retake mmu_lock.
    pub(crate) fn set_mixed(&mut self, start: Gfn, end: Gfn, level: HugeLevel, mixed: bool) {
        // SAFETY: The VM is valid, slots_lock is held, and so is mmu_lock by the type invariant.
        unsafe {
            bindings::kvm_mem_attr_set_mixed(
                self.slots.kvm().as_ptr(),
                start.raw(),
                end.raw(),
                level.as_raw(),
                mixed,
            )
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        // SAFETY: The VM is valid, mmu_lock is held and the invalidation has begun by the type
        // invariant.
        unsafe { bindings::kvm_mem_attr_end_unlock(self.slots.kvm().as_ptr()) };
    }
}
