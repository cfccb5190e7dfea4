// SPDX-License-Identifier: GPL-2.0

//! The provider interface of the host series, as a trait.
//!
//! C header: `include/linux/kvm_mem_attr.h` of the host series.

use super::{
    bindings,
    gfn::{
        Gfn,
        Index, //
    },
    gmem::GmemInode,
    invalidation::ZapFilter,
    memslot::{
        MemSlot,
        NewSlot, //
    },
    vm::Kvm,
};
use core::marker::PhantomData;
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    sync::rcu,
    types::ForeignOwnable,
    ModuleMetadata, //
};

/// The state of a VM as it's kept in the VM.
type VmBox<P> = KBox<<P as Provider>::Vm>;
/// The state of a guest_memfd inode as it's kept in the inode.
type GmemBox<P> = Pin<KBox<<P as Provider>::Gmem>>;

/// A VM together with what the provider keeps for it.
pub(crate) struct VmRef<'a, T> {
    /// The VM.
    pub(crate) kvm: &'a Kvm,
    /// The provider's state.
    pub(crate) state: &'a T,
}

impl<T> VmRef<'_, T> {
    /// Passes what the provider keeps for the guest_memfd that backs a gfn, and the page's number
    /// there. `None` if no guest_memfd does, or not any more. `f` must not sleep.
    pub(crate) fn with_gmem<P: Provider<Vm = T>, R>(
        &self,
        gfn: Gfn,
        f: impl FnOnce(&P::Gmem, Index) -> R,
    ) -> Option<R> {
        // SAFETY: The VM is valid. Whoever has a VM to ask about a gfn is in a read side section of its
        // SRCU, or holds slots_lock, and so slots stay.
        let slot = unsafe { bindings::kma_find_slot(self.kvm.as_ptr(), gfn.raw()) };
        if slot.is_null() {
            return None;
        }
        // SAFETY: As above.
        let slot = unsafe { MemSlot::from_raw(slot) };
        slot.with_gmem::<P, R>(|gmem, first| {
            let index = gfn.raw() - slot.start().raw() + first.raw();
            f(gmem, Index::new(index))
        })
    }
}

impl MemSlot {
    /// Passes what the provider keeps for the guest_memfd that backs the slot, and the number of the
    /// slot's first page there. `None` if no guest_memfd does, or not any more. `f` must not sleep.
    pub(crate) fn with_gmem<P: Provider, R>(
        &self,
        f: impl FnOnce(&P::Gmem, Index) -> R,
    ) -> Option<R> {
        let _rcu = rcu::read_lock();
        // SAFETY: The slot is valid by the type invariant, and RCU is held.
        let data = unsafe { bindings::kma_slot_gmem(self.as_ptr()) };
        if data.is_null() {
            return None;
        }
        // SAFETY: The state was made by `into_foreign` in `gmem_create()`, by the provider of the VM
        // whose file and slot it is. It's freed an RCU grace period after the slot has lost it.
        let gmem = unsafe { GmemBox::<P>::borrow(data) };
        // SAFETY: The slot is valid by the type invariant.
        let first = unsafe { bindings::kma_slot_pgoff(self.as_ptr()) };
        Some(f(&gmem, Index::new(first as u64)))
    }
}

/// Accesses that a page denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Denied {
    /// It can't be read.
    pub(crate) read: bool,
    /// It can't be written.
    pub(crate) write: bool,
    /// It can't be executed.
    pub(crate) exec: bool,
}

impl Denied {
    #[inline]
    fn as_raw(self) -> u64 {
        let bit = |denied, bit| if denied { u64::from(bit) } else { 0 };
        bit(self.read, bindings::KMA_MEM_R)
            | bit(self.write, bindings::KMA_MEM_W)
            | bit(self.exec, bindings::KMA_MEM_X)
    }
}

/// What to zap: the part of a slot that KVM is about to zap, before the provider has its say.
pub(crate) struct ZapRequest<'a> {
    /// The slot, not to be looked up again.
    pub(crate) slot: &'a MemSlot,
    /// First gfn of the range.
    pub(crate) start: Gfn,
    /// First gfn after the range.
    pub(crate) end: Gfn,
    /// The kinds of mappings that the zap is about.
    pub(crate) filter: ZapFilter,
}

/// A memory attributes provider. See `struct kvm_mem_attr_ops` for the contexts in which its
/// functions are called.
pub(crate) trait Provider: ModuleMetadata + Sized + 'static {
    /// State of a VM.
    type Vm: Send + Sync + 'static;
    /// State of a guest_memfd inode. Dropped in an RCU callback: must not sleep.
    type Gmem: Send + Sync + 'static;

    /// The state of a VM that's being created. May sleep.
    fn vm_create() -> Result<VmBox<Self>>;

    /// The answer to KVM_CHECK_EXTENSION on the VM, or on /dev/kvm, where it must not sleep. `None`
    /// if the extension isn't the provider's.
    fn check_extension(vm: Option<VmRef<'_, Self::Vm>>, ext: usize) -> Option<i32>;

    /// A VM ioctl. May sleep. `None` if the command isn't the provider's.
    fn vm_ioctl(vm: VmRef<'_, Self::Vm>, cmd: u32, arg: usize) -> Option<Result<i32>>;

    /// Is a gfn private? In any context: RCU only.
    fn is_private(vm: VmRef<'_, Self::Vm>, gfn: Gfn) -> bool;

    /// Which accesses does a gfn deny? In any context: RCU only. Asked once an invalidation has begun
    /// that said it restricts.
    fn denied(vm: VmRef<'_, Self::Vm>, gfn: Gfn) -> Denied;

    /// A slot is about to be installed, with slots_lock held.
    fn slot_init(vm: VmRef<'_, Self::Vm>, slot: NewSlot<'_>);

    /// The first part of a range, at or after a gfn, that can have a mapping of a kind to be zapped:
    /// its first page and the page after it. An empty part is one up to which there's no such
    /// mapping, after which others may have the lock. With mmu_lock held: RCU only.
    fn next_zap(vm: VmRef<'_, Self::Vm>, zap: &ZapRequest<'_>, from: Gfn) -> Option<(Gfn, Gfn)>;

    /// An inode is being created, with the flags of KVM_CREATE_GUEST_MEMFD. May sleep.
    fn gmem_create(vm: VmRef<'_, Self::Vm>, flags: u64) -> Result<GmemBox<Self>>;

    /// The inode goes away. May sleep. Others may still be looking at the state.
    fn gmem_evict(gmem: &Self::Gmem);

    /// Is a page of the inode private? In any context: RCU only.
    fn gmem_is_private(gmem: &Self::Gmem, index: Index) -> bool;

    /// The kinds of mappings that an invalidation of pages `[start, end)` of the inode is about. With
    /// the invalidate lock held.
    fn gmem_filter(gmem: &Self::Gmem, start: Index, end: Index) -> ZapFilter;

    /// An ioctl on a file of the inode. May sleep. `None` if the command isn't the provider's.
    fn gmem_ioctl(
        inode: &GmemInode,
        gmem: &Self::Gmem,
        cmd: u32,
        arg: usize,
    ) -> Option<Result<i32>>;
}

/// A registered provider. Dropping it unregisters the provider.
///
/// # Invariants
///
/// `ops` is registered.
pub(crate) struct Registration<P: Provider> {
    ops: &'static bindings::kvm_mem_attr_ops,
    _provider: PhantomData<P>,
}

impl<P: Provider> Registration<P> {
    /// Registers `P`: VMs that are created from now on use it.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there's a provider already.
    pub(crate) fn new() -> Result<Self> {
        let ops = &Table::<P>::OPS;
        // SAFETY: `ops` is static, and its functions keep to the interface's contract.
        to_result(unsafe { bindings::kvm_mem_attr_register(ops) })?;
        // INVARIANT: Registered just now.
        Ok(Self {
            ops,
            _provider: PhantomData,
        })
    }
}

impl<P: Provider> Drop for Registration<P> {
    fn drop(&mut self) {
        // SAFETY: `ops` is registered by the type invariant.
        unsafe { bindings::kvm_mem_attr_unregister(self.ops) }
    }
}

// SAFETY: The table is never written to, and unregistering may be done by any thread.
unsafe impl<P: Provider> Send for Registration<P> {}

// SAFETY: There's no method by shared reference.
unsafe impl<P: Provider> Sync for Registration<P> {}

/// Where a VM has the pointer to its provider's state.
const DATA_OFFSET: usize = bindings::KMA_OFFSETOF_DATA as usize;

/// The C side of a provider.
struct Table<P>(PhantomData<P>);

/// # Safety
///
/// `kvm` must be valid for the duration of `'a`, with the state of `P` that [`Table::vm_create`]
/// returned.
unsafe fn vm_ref<'a, P: Provider>(kvm: *mut bindings::kvm) -> VmRef<'a, P::Vm> {
    // SAFETY: The VM is valid by the function's contract. Its field at that offset is set before any
    // callback and not changed until the VM is destroyed.
    let data = unsafe { kvm.byte_add(DATA_OFFSET).cast::<*mut c_void>().read() };
    // SAFETY: The state was made by `into_foreign` in `vm_create()`, and is taken back only in
    // `vm_destroy()`, after which the VM has no provider.
    let state = unsafe { VmBox::<P>::borrow(data) };
    VmRef {
        // SAFETY: By the function's contract.
        kvm: unsafe { Kvm::from_raw(kvm) },
        state,
    }
}

impl<P: Provider> Table<P> {
    const OPS: bindings::kvm_mem_attr_ops = bindings::kvm_mem_attr_ops {
        owner: P::THIS_MODULE.as_ptr(),
        vm_create: Some(Self::vm_create),
        vm_destroy: Some(Self::vm_destroy),
        check_extension: Some(Self::check_extension),
        vm_ioctl: Some(Self::vm_ioctl),
        is_private: Some(Self::is_private),
        denied: Some(Self::denied),
        slot_init: Some(Self::slot_init),
        next_zap: Some(Self::next_zap),
        gmem_create: Some(Self::gmem_create),
        gmem_evict: Some(Self::gmem_evict),
        gmem_destroy: Some(Self::gmem_destroy),
        gmem_is_private: Some(Self::gmem_is_private),
        gmem_filter: Some(Self::gmem_filter),
        gmem_ioctl: Some(Self::gmem_ioctl),
    };

    /// # Safety
    ///
    /// Called by KVM with a VM under construction.
    unsafe extern "C" fn vm_create(_kvm: *mut bindings::kvm) -> *mut c_void {
        match P::vm_create() {
            Ok(state) => state.into_foreign(),
            Err(e) => e.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by KVM, once, with state that `vm_create()` returned, for a VM that nobody uses.
    unsafe extern "C" fn vm_destroy(data: *mut c_void) {
        // SAFETY: Made by `into_foreign` in `vm_create()`. KVM makes no other call for the VM at the
        // same time or later, so nothing is borrowed.
        drop(unsafe { VmBox::<P>::from_foreign(data) });
    }

    /// # Safety
    ///
    /// Called by KVM with NULL, or a VM of this provider.
    unsafe extern "C" fn check_extension(kvm: *mut bindings::kvm, ext: c_long) -> c_int {
        let vm = if kvm.is_null() {
            None
        } else {
            // SAFETY: KVM passes a VM of this provider, and keeps it alive.
            Some(unsafe { vm_ref::<P>(kvm) })
        };
        P::check_extension(vm, ext as usize).unwrap_or(ENOIOCTLCMD.to_errno())
    }

    /// # Safety
    ///
    /// Called by KVM with a VM of this provider.
    unsafe extern "C" fn vm_ioctl(kvm: *mut bindings::kvm, cmd: c_uint, arg: c_ulong) -> c_int {
        // SAFETY: KVM passes a VM of this provider, and keeps it alive.
        let vm = unsafe { vm_ref::<P>(kvm) };
        from_result(|| P::vm_ioctl(vm, cmd, arg).unwrap_or(Err(ENOIOCTLCMD)))
    }

    /// # Safety
    ///
    /// Called by KVM with a VM of this provider.
    unsafe extern "C" fn is_private(kvm: *mut bindings::kvm, gfn: bindings::gfn_t) -> bool {
        // SAFETY: KVM passes a VM of this provider, and keeps it alive.
        P::is_private(unsafe { vm_ref::<P>(kvm) }, Gfn::new(gfn))
    }

    /// # Safety
    ///
    /// Called by KVM with a VM of this provider.
    unsafe extern "C" fn denied(kvm: *mut bindings::kvm, gfn: bindings::gfn_t) -> u64 {
        // SAFETY: KVM passes a VM of this provider, and keeps it alive.
        P::denied(unsafe { vm_ref::<P>(kvm) }, Gfn::new(gfn)).as_raw()
    }

    /// # Safety
    ///
    /// Called by KVM with a VM of this provider, slots_lock held, and a slot that isn't visible yet.
    unsafe extern "C" fn slot_init(kvm: *mut bindings::kvm, slot: *mut bindings::kvm_memory_slot) {
        // SAFETY: KVM passes a slot that is valid during the call.
        let slot = unsafe { MemSlot::from_raw(slot) };
        // SAFETY: KVM calls with slots_lock held, once the slot's metadata is allocated.
        let slot = unsafe { NewSlot::new(slot) };
        // SAFETY: KVM passes a VM of this provider, and keeps it alive.
        P::slot_init(unsafe { vm_ref::<P>(kvm) }, slot);
    }

    /// # Safety
    ///
    /// Called by KVM with a VM of this provider, mmu_lock held, a valid range, and `start` and `end`
    /// valid for writes.
    unsafe extern "C" fn next_zap(
        kvm: *mut bindings::kvm,
        range: *const bindings::kvm_gfn_range,
        from: bindings::gfn_t,
        start: *mut bindings::gfn_t,
        end: *mut bindings::gfn_t,
    ) -> bool {
        // SAFETY: KVM passes a valid range.
        let range = unsafe { &*range };
        let zap = ZapRequest {
            // SAFETY: The slot of a range that's being zapped stays valid until that's done.
            slot: unsafe { MemSlot::from_raw(range.slot) },
            start: Gfn::new(range.start),
            end: Gfn::new(range.end),
            filter: ZapFilter::from_raw(range.attr_filter),
        };
        // SAFETY: KVM passes a VM of this provider, and keeps it alive.
        let vm = unsafe { vm_ref::<P>(kvm) };
        let Some((first, last)) = P::next_zap(vm, &zap, Gfn::new(from)) else {
            return false;
        };
        // SAFETY: KVM passes pointers that are valid for writes.
        unsafe {
            *start = first.raw();
            *end = last.raw();
        }
        true
    }

    /// # Safety
    ///
    /// Called by KVM with a VM of this provider.
    unsafe extern "C" fn gmem_create(kvm: *mut bindings::kvm, flags: u64) -> *mut c_void {
        // SAFETY: KVM passes a VM of this provider, and keeps it alive.
        match P::gmem_create(unsafe { vm_ref::<P>(kvm) }, flags) {
            Ok(gmem) => gmem.into_foreign(),
            Err(e) => e.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by KVM, once, with state that `gmem_create()` returned and that nobody uses.
    unsafe extern "C" fn gmem_destroy(data: *mut c_void) {
        // SAFETY: Made by `into_foreign` in `gmem_create()`, and not borrowed, as the inode is gone.
        drop(unsafe { GmemBox::<P>::from_foreign(data) });
    }

    /// # Safety
    ///
    /// Called by KVM, once, with state that `gmem_create()` returned, of an inode without files.
    unsafe extern "C" fn gmem_evict(data: *mut c_void) {
        // SAFETY: Made by `into_foreign` in `gmem_create()`, and destroyed only after this.
        let gmem = unsafe { GmemBox::<P>::borrow(data) };
        P::gmem_evict(&gmem);
    }

    /// # Safety
    ///
    /// Called by KVM with state that `gmem_create()` returned.
    unsafe extern "C" fn gmem_is_private(data: *mut c_void, index: c_ulong) -> bool {
        // SAFETY: Made by `into_foreign` in `gmem_create()`, and destroyed only with the inode, on
        // whose behalf KVM calls.
        let gmem = unsafe { GmemBox::<P>::borrow(data) };
        P::gmem_is_private(&gmem, Index::new(index as u64))
    }

    /// # Safety
    ///
    /// Called by KVM with state that `gmem_create()` returned.
    unsafe extern "C" fn gmem_filter(
        data: *mut c_void,
        start: c_ulong,
        end: c_ulong,
    ) -> bindings::kvm_gfn_range_filter {
        // SAFETY: Made by `into_foreign` in `gmem_create()`, and destroyed only with the inode, on
        // whose behalf KVM calls.
        let gmem = unsafe { GmemBox::<P>::borrow(data) };
        P::gmem_filter(&gmem, Index::new(start as u64), Index::new(end as u64)).as_raw()
    }

    /// # Safety
    ///
    /// Called by KVM with an inode that is alive, and its state, that `gmem_create()` returned.
    unsafe extern "C" fn gmem_ioctl(
        inode: *mut bindings::inode,
        data: *mut c_void,
        cmd: c_uint,
        arg: c_ulong,
    ) -> c_int {
        // SAFETY: Made by `into_foreign` in `gmem_create()`, and destroyed only with the inode, which
        // the file that the ioctl is made on keeps alive.
        let (inode, gmem) = unsafe { (GmemInode::from_raw(inode), GmemBox::<P>::borrow(data)) };
        from_result(|| P::gmem_ioctl(inode, &gmem, cmd, arg).unwrap_or(Err(ENOIOCTLCMD)))
    }
}
