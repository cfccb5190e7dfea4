// SPDX-License-Identifier: GPL-2.0

//! kvm-memattr: per-page memory attributes for KVM.
//!
//! The crate root registers the provider, and does nothing else. A request's way goes through
//! `ioctl`, `request`, `plan`, `store`, `zap` and `post`, in the order that `transaction` keeps; one
//! for a guest_memfd goes through `ioctl`, `request` and `conversion`.

#[path = "../rust/lib.rs"]
mod host;

mod attrs;
mod batch;
mod content;
mod conversion;
mod debugfs;
mod gmem;
mod ioctl;
mod plan;
mod policy;
mod post;
mod range;
mod readback;
mod request;
mod runs;
mod scope;
mod stats;
mod store;
mod trace;
mod transaction;
mod vm;
mod waited;
mod word;
mod zap;

use host::{
    debugfs::Folder,
    gfn::{
        Gfn,
        Index, //
    },
    gmem::GmemInode,
    invalidation::ZapFilter,
    memslot::NewSlot,
    provider::{
        Denied,
        Provider,
        Registration,
        VmRef,
        ZapRequest, //
    },
    vm::SlotsStay,
};
use kernel::prelude::*;
use word::Layers;

module! {
    type: KvmMemattr,
    name: "kvm_memattr",
    authors: ["The kvm-memattr developers"],
    description: "Per-page memory attributes for KVM",
    license: "GPL",
}

// Fields are dropped in order: the provider goes before what it uses.
struct KvmMemattr {
    _registration: Registration,
    _folder: Folder<&'static stats::Totals>,
}

impl kernel::Module for KvmMemattr {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let folder = debugfs::module_folder()?;
        Ok(Self {
            // The last step: VMs can be created from here on.
            _registration: Registration::new()?,
            _folder: folder,
        })
    }
}

impl Provider for KvmMemattr {
    type Vm = vm::Vm;
    type Gmem = gmem::Gmem;

    fn vm_create() -> Result<KBox<vm::Vm>> {
        vm::Vm::new()
    }

    fn check_extension(vm: Option<VmRef<'_>>, ext: usize) -> Option<i32> {
        ioctl::check_extension(vm.as_ref(), ext)
    }

    fn vm_ioctl(vm: VmRef<'_>, cmd: u32, arg: usize) -> Option<Result<i32>> {
        ioctl::vm_ioctl(&vm, cmd, arg)
    }

    fn is_private(vm: VmRef<'_>, slots: SlotsStay<'_>, gfn: Gfn) -> bool {
        vm::is_private(&vm, slots, gfn)
    }

    fn denied(vm: VmRef<'_>, gfn: Gfn) -> Denied {
        vm::denied(&vm, gfn, Layers::ALL)
    }

    fn slot_init(vm: VmRef<'_>, slot: NewSlot<'_>) {
        post::init_slot(&slot, &vm.state.shared().store);
    }

    fn next_zap(vm: VmRef<'_>, zap: &ZapRequest<'_>, from: Gfn) -> Option<(Gfn, Gfn)> {
        zap::next(zap, from, vm.kvm.has_private_mem(), vm.state.shared())
    }

    fn gmem_create(vm: VmRef<'_>, flags: u64) -> Result<Pin<KBox<gmem::Gmem>>> {
        vm::new_gmem(&vm, flags)
    }

    fn gmem_evict(gmem: &gmem::Gmem) {
        gmem.evict();
    }

    fn gmem_is_private(gmem: &gmem::Gmem, index: Index) -> bool {
        gmem.is_private(index)
    }

    fn gmem_filter(gmem: &gmem::Gmem, start: Index, end: Index) -> ZapFilter {
        let range = range::IndexRange::new(start, end);
        range.map_or(ZapFilter::BOTH, |range| gmem.scope(&range).into())
    }

    fn gmem_ioctl(
        inode: &GmemInode,
        gmem: &gmem::Gmem,
        cmd: u32,
        arg: usize,
    ) -> Option<Result<i32>> {
        ioctl::gmem_ioctl(inode, gmem, cmd, arg)
    }
}
