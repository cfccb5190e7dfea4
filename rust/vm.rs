// SPDX-License-Identifier: GPL-2.0

//! A VM and its slots_lock.
//!
//! C header: [`include/linux/kvm_host.h`](srctree/include/linux/kvm_host.h)

use super::{
    bindings,
    gfn::Gfn,
    memslot::MemSlot, //
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit, //
};
use kernel::{
    sync::lock::{
        mutex::MutexBackend,
        Guard,
        Lock, //
    },
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

/// What a VM was created as, see KVM_CREATE_VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawVmType(usize);

impl RawVmType {
    pub(crate) const DEFAULT: Self = Self(bindings::KMA_VM_TYPE_DEFAULT as usize);
    pub(crate) const SW_PROTECTED: Self = Self(bindings::KMA_VM_TYPE_SW_PROTECTED as usize);
    pub(crate) const SEV: Self = Self(bindings::KMA_VM_TYPE_SEV as usize);
    pub(crate) const SEV_ES: Self = Self(bindings::KMA_VM_TYPE_SEV_ES as usize);
    pub(crate) const SNP: Self = Self(bindings::KMA_VM_TYPE_SNP as usize);
    pub(crate) const TDX: Self = Self(bindings::KMA_VM_TYPE_TDX as usize);
}

/// A VM: a `struct kvm` that a callback was given.
///
/// # Invariants
///
/// A reference is to a VM that stays alive as long as the reference.
#[repr(transparent)]
pub(crate) struct Kvm(Opaque<bindings::kvm>);

impl Kvm {
    /// # Safety
    ///
    /// `ptr` must be a valid VM for the duration of `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *const bindings::kvm) -> &'a Self {
        // SAFETY: Valid by the function's contract; `Kvm` is transparent to the C type.
        // INVARIANT: The same.
        unsafe { &*ptr.cast() }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::kvm {
        self.0.get()
    }

    /// What the VM was created as.
    pub(crate) fn vm_type(&self) -> RawVmType {
        // SAFETY: The VM is valid by the type invariant.
        RawVmType(unsafe { bindings::kma_vm_type(self.as_ptr()) })
    }

    /// Does the VM have private memory?
    pub(crate) fn has_private_mem(&self) -> bool {
        // SAFETY: The VM is valid by the type invariant.
        unsafe { bindings::kma_has_private_mem(self.as_ptr()) }
    }

    /// Waits until no thread of KVM acts on what it was allowed before attributes were stored. Sleeps,
    /// for which reason no lock must be held.
    pub(crate) fn wait_for_accesses(&self) {
        // SAFETY: The VM is valid by the type invariant.
        unsafe { bindings::kvm_mem_attr_sync(self.as_ptr()) };
    }

    /// Takes slots_lock. May sleep.
    pub(crate) fn lock_slots(&self) -> SlotsGuard<'_> {
        // SAFETY: slots_lock is initialised before the VM's provider is asked to create state, and
        // is part of the VM, which is alive as long as `self`.
        let lock = unsafe {
            Lock::<(), MutexBackend>::from_raw(bindings::kma_slots_lock(self.as_ptr()).cast())
        };
        SlotsGuard {
            kvm: self,
            _guard: lock.lock(),
        }
    }
}

/// Proof that memslots stay: in a read side section of the VM's SRCU, or with slots_lock held.
#[derive(Clone, Copy)]
pub(crate) struct SlotsStay<'a> {
    _section: PhantomData<&'a Kvm>,
    _not_send: NotThreadSafe,
}

impl SlotsStay<'_> {
    /// # Safety
    ///
    /// That's how it must be for the duration of the lifetime.
    pub(super) unsafe fn new() -> Self {
        Self {
            _section: PhantomData,
            _not_send: NotThreadSafe,
        }
    }
}

/// Proof that slots_lock of [`Self::kvm`] is held.
///
/// Slots neither come nor go as long as it exists, and whoever holds it is the only one that changes
/// the VM's attributes.
#[must_use = "slots_lock is released when the guard is dropped"]
pub(crate) struct SlotsGuard<'a> {
    kvm: &'a Kvm,
    _guard: Guard<'a, (), MutexBackend>,
}

impl<'a> SlotsGuard<'a> {
    /// The VM whose lock it is.
    pub(crate) fn kvm(&self) -> &'a Kvm {
        self.kvm
    }

    /// Looks at the memslots of the first address space that have gfns of `[start, end)`, until `look`
    /// finds something.
    pub(crate) fn find_slot<R>(
        &self,
        start: Gfn,
        end: Gfn,
        mut look: impl FnMut(&MemSlot) -> Option<R>,
    ) -> Option<R> {
        let mut iter = MaybeUninit::uninit();
        let iter = iter.as_mut_ptr();
        // SAFETY: The VM is valid, slots_lock is held, and `iter` is valid for writes.
        unsafe { bindings::kma_slots_start(iter, self.kvm.as_ptr(), start.raw()) };
        // SAFETY: `iter` was initialised above. slots_lock is held, so that what it's in stays.
        while unsafe { bindings::kma_slots_valid(iter, end.raw()) } {
            // SAFETY: `iter` is at a slot, which stays as slots_lock is held.
            let slot = unsafe { MemSlot::from_raw(bindings::kma_slots_slot(iter)) };
            let found = look(slot);
            if found.is_some() {
                return found;
            }
            // SAFETY: `iter` is at a slot.
            unsafe { bindings::kma_slots_next(iter) };
        }
        None
    }
}
