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
    vm::{
        Kvm,
        SlotsStay, //
    },
};
use crate::KvmMemattr;
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

/// The state of a VM, and of a guest_memfd inode. There's one provider, so that what KVM keeps for it
/// is always of these types.
type VmState = <KvmMemattr as Provider>::Vm;
type GmemState = <KvmMemattr as Provider>::Gmem;
/// As it's kept in the VM.
type VmBox = KBox<VmState>;
/// As it's kept in the inode.
type GmemBox = Pin<KBox<GmemState>>;

/// A VM together with what the provider keeps for it.
pub(crate) struct VmRef<'a> {
    /// The VM.
    pub(crate) kvm: &'a Kvm,
    /// The provider's state.
    pub(crate) state: &'a VmState,
}

impl VmRef<'_> {
    /// Passes what the provider keeps for the guest_memfd that backs a gfn, and the page's number
    /// there. `None` if no guest_memfd does, or not any more. `f` must not sleep.
    pub(crate) fn with_gmem<R>(
        &self,
        _slots: SlotsStay<'_>,
        gfn: Gfn,
        f: impl FnOnce(&GmemState, Index) -> R,
    ) -> Option<R> {
        // SAFETY: The VM is valid, and slots stay as long as there's a proof of it.
        let slot = unsafe { bindings::kma_find_slot(self.kvm.as_ptr(), gfn.raw()) };
        if slot.is_null() {
            return None;
        }
        // SAFETY: As above.
        let slot = unsafe { MemSlot::from_raw(slot) };
        slot.with_gmem(|gmem, first| {
            let index = gfn.raw() - slot.start().raw() + first.raw();
            f(gmem, Index::new(index))
        })
    }
}

impl MemSlot {
    /// Passes what the provider keeps for the guest_memfd that backs the slot, and the number of the
    /// slot's first page there. `None` if no guest_memfd does, or not any more. `f` must not sleep.
    pub(crate) fn with_gmem<R>(&self, f: impl FnOnce(&GmemState, Index) -> R) -> Option<R> {
        let _rcu = rcu::read_lock();
        // SAFETY: The slot is valid by the type invariant, and RCU is held.
        let data = unsafe { bindings::kma_slot_gmem(self.as_ptr()) };
        if data.is_null() {
            return None;
        }
        // SAFETY: The state was made by `into_foreign` in `gmem_create()`. It's freed an RCU grace
        // period after the file is gone, and the file goes once the slot is found by nobody any more.
        let gmem = unsafe { GmemBox::borrow(data) };
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
    fn vm_create() -> Result<KBox<Self::Vm>>;

    /// The answer to KVM_CHECK_EXTENSION on the VM, or on /dev/kvm, where it must not sleep. `None`
    /// if the extension isn't the provider's.
    fn check_extension(vm: Option<VmRef<'_>>, ext: usize) -> Option<i32>;

    /// A VM ioctl. May sleep. `None` if the command isn't the provider's.
    fn vm_ioctl(vm: VmRef<'_>, cmd: u32, arg: usize) -> Option<Result<i32>>;

    /// Is a gfn private? In any context: RCU only.
    fn is_private(vm: VmRef<'_>, slots: SlotsStay<'_>, gfn: Gfn) -> bool;

    /// Which accesses does a gfn deny? In any context: RCU only. Asked once an invalidation has begun
    /// that said it restricts.
    fn denied(vm: VmRef<'_>, gfn: Gfn) -> Denied;

    /// A slot is about to be installed, with slots_lock held.
    fn slot_init(vm: VmRef<'_>, slot: NewSlot<'_>);

    /// The first part of a range, at or after a gfn, that can have a mapping of a kind to be zapped:
    /// its first page and the page after it. An empty part is one up to which there's no such
    /// mapping, after which others may have the lock. With mmu_lock held: RCU only.
    fn next_zap(vm: VmRef<'_>, zap: &ZapRequest<'_>, from: Gfn) -> Option<(Gfn, Gfn)>;

    /// An inode is being created, with the flags of KVM_CREATE_GUEST_MEMFD. May sleep.
    fn gmem_create(vm: VmRef<'_>, flags: u64) -> Result<Pin<KBox<Self::Gmem>>>;

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

/// The registered provider. Dropping it unregisters the provider.
///
/// # Invariants
///
/// `ops` is registered.
pub(crate) struct Registration {
    ops: &'static bindings::kvm_mem_attr_ops,
}

impl Registration {
    /// Registers [`KvmMemattr`]: VMs that are created from now on use it.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there's a provider already.
    pub(crate) fn new() -> Result<Self> {
        let ops = &Table::OPS;
        // SAFETY: `ops` is static, and its functions keep to the interface's contract.
        to_result(unsafe { bindings::kvm_mem_attr_register(ops) })?;
        // INVARIANT: Registered just now.
        Ok(Self { ops })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: `ops` is registered by the type invariant.
        unsafe { bindings::kvm_mem_attr_unregister(self.ops) }
    }
}

// SAFETY: The table is never written to, and unregistering may be done by any thread.
unsafe impl Send for Registration {}

// SAFETY: There's no method by shared reference.
unsafe impl Sync for Registration {}

/// Where a VM has the pointer to its provider's state.
const DATA_OFFSET: usize = bindings::KMA_OFFSETOF_DATA as usize;

/// The C side of a provider.
struct Table;

/// # Safety
///
/// `kvm` must be valid for the duration of `'a`, with the state that [`Table::vm_create`] returned.
unsafe fn vm_ref<'a>(kvm: *mut bindings::kvm) -> VmRef<'a> {
    // SAFETY: The VM is valid by the function's contract. Its field at that offset is set before any
    // callback and not changed until the VM is destroyed.
    let data = unsafe { kvm.byte_add(DATA_OFFSET).cast::<*mut c_void>().read() };
    // SAFETY: The state was made by `into_foreign` in `vm_create()`, and is taken back only in
    // `vm_destroy()`, after which the VM has no provider.
    let state = unsafe { VmBox::borrow(data) };
    VmRef {
        // SAFETY: By the function's contract.
        kvm: unsafe { Kvm::from_raw(kvm) },
        state,
    }
}

impl Table {
    const OPS: bindings::kvm_mem_attr_ops = bindings::kvm_mem_attr_ops {
        owner: KvmMemattr::THIS_MODULE.as_ptr(),
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
        match KvmMemattr::vm_create() {
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
        drop(unsafe { VmBox::from_foreign(data) });
    }

    /// # Safety
    ///
    /// Called by KVM with NULL, or a VM of this provider.
    unsafe extern "C" fn check_extension(kvm: *mut bindings::kvm, ext: c_long) -> c_int {
        let vm = if kvm.is_null() {
            None
        } else {
            // SAFETY: KVM passes a VM of this provider, and keeps it alive.
            Some(unsafe { vm_ref(kvm) })
        };
        KvmMemattr::check_extension(vm, ext as usize).unwrap_or(ENOIOCTLCMD.to_errno())
    }

    /// # Safety
    ///
    /// Called by KVM with a VM of this provider.
    unsafe extern "C" fn vm_ioctl(kvm: *mut bindings::kvm, cmd: c_uint, arg: c_ulong) -> c_int {
        // SAFETY: KVM passes a VM of this provider, and keeps it alive.
        let vm = unsafe { vm_ref(kvm) };
        from_result(|| KvmMemattr::vm_ioctl(vm, cmd, arg).unwrap_or(Err(ENOIOCTLCMD)))
    }

    /// # Safety
    ///
    /// Called by KVM with a VM of this provider, in a read side section of its SRCU, or with slots_lock
    /// held.
    unsafe extern "C" fn is_private(kvm: *mut bindings::kvm, gfn: bindings::gfn_t) -> bool {
        // SAFETY: KVM passes a VM of this provider, keeps it alive, and looks at slots itself meanwhile.
        let (vm, slots) = unsafe { (vm_ref(kvm), SlotsStay::new()) };
        KvmMemattr::is_private(vm, slots, Gfn::new(gfn))
    }

    /// # Safety
    ///
    /// Called by KVM with a VM of this provider.
    unsafe extern "C" fn denied(kvm: *mut bindings::kvm, gfn: bindings::gfn_t) -> u64 {
        // SAFETY: KVM passes a VM of this provider, and keeps it alive.
        KvmMemattr::denied(unsafe { vm_ref(kvm) }, Gfn::new(gfn)).as_raw()
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
        KvmMemattr::slot_init(unsafe { vm_ref(kvm) }, slot);
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
        let vm = unsafe { vm_ref(kvm) };
        let Some((first, last)) = KvmMemattr::next_zap(vm, &zap, Gfn::new(from)) else {
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
        match KvmMemattr::gmem_create(unsafe { vm_ref(kvm) }, flags) {
            Ok(gmem) => gmem.into_foreign(),
            Err(e) => e.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by KVM, once, with state that `gmem_create()` returned and that nobody uses.
    unsafe extern "C" fn gmem_destroy(data: *mut c_void) {
        // SAFETY: Made by `into_foreign` in `gmem_create()`. KVM calls an RCU grace period after the
        // inode is gone, and whoever borrows it by way of a slot holds RCU.
        drop(unsafe { GmemBox::from_foreign(data) });
    }

    /// # Safety
    ///
    /// Called by KVM, once, with state that `gmem_create()` returned, of an inode without files.
    unsafe extern "C" fn gmem_evict(data: *mut c_void) {
        // SAFETY: Made by `into_foreign` in `gmem_create()`, and destroyed only after this.
        let gmem = unsafe { GmemBox::borrow(data) };
        KvmMemattr::gmem_evict(&gmem);
    }

    /// # Safety
    ///
    /// Called by KVM with state that `gmem_create()` returned.
    unsafe extern "C" fn gmem_is_private(data: *mut c_void, index: c_ulong) -> bool {
        // SAFETY: Made by `into_foreign` in `gmem_create()`, and destroyed only with the inode, on
        // whose behalf KVM calls.
        let gmem = unsafe { GmemBox::borrow(data) };
        KvmMemattr::gmem_is_private(&gmem, Index::new(index as u64))
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
        let gmem = unsafe { GmemBox::borrow(data) };
        KvmMemattr::gmem_filter(&gmem, Index::new(start as u64), Index::new(end as u64)).as_raw()
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
        let (inode, gmem) = unsafe { (GmemInode::from_raw(inode), GmemBox::borrow(data)) };
        from_result(|| KvmMemattr::gmem_ioctl(inode, &gmem, cmd, arg).unwrap_or(Err(ENOIOCTLCMD)))
    }
}
