// SPDX-License-Identifier: GPL-2.0

//! What the module keeps for a VM, and what the fault path asks of it.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    debugfs,
    host::{
        debugfs::Folder,
        gfn::Gfn,
        provider::{
            Denied,
            VmRef, //
        },
        vm::SlotsGuard, //
    },
    stats::{
        Alive,
        VmStats, //
    },
    store::{
        AttrStore,
        Exclusive, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        Arc,
        SetOnce, //
    },
};

// Whoever changes a VM's attributes takes slots_lock for that.
impl Exclusive for SlotsGuard<'_> {}

/// What a VM and its debugfs files share.
#[pin_data]
pub(crate) struct Shared {
    /// The attributes by gfn.
    #[pin]
    pub(crate) store: AttrStore,
    /// What has happened.
    pub(crate) stats: VmStats,
}

/// What the module keeps for a VM, from its creation to its destruction.
pub(crate) struct Vm {
    shared: Arc<Shared>,
    /// What an operator sees. Most VMs have no attributes, and none of that either.
    folder: SetOnce<Folder<Shared>>,
    alive: Alive,
}

impl Vm {
    /// The state of a new VM.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<KBox<Self>> {
        let alive = Alive::vm();
        let shared = Arc::pin_init(
            pin_init!(Shared {
                store <- AttrStore::new(Attrs::NONE),
                stats: VmStats::new(),
            }),
            GFP_KERNEL_ACCOUNT,
        )?;

        let vm = Self {
            shared,
            folder: SetOnce::new(),
            alive,
        };
        Ok(KBox::new(vm, GFP_KERNEL_ACCOUNT)?)
    }

    /// The store and the counters.
    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Shows the VM in debugfs, if it isn't there yet. Where there's no memory for that, it's tried again
/// next time: nothing but an operator's view depends on it.
pub(crate) fn show(vm: &VmRef<'_, Vm>) {
    if vm.state.folder.as_ref().is_some() {
        return;
    }
    // Once only.
    let _slots = vm.kvm.lock_slots();
    if vm.state.folder.as_ref().is_none() {
        let folder = debugfs::vm_folder(vm.state.shared.clone(), vm.state.alive.seq());
        let _ = folder.map(|folder| vm.state.folder.populate(folder));
    }
}

/// The attributes that the VM supports.
pub(crate) fn supported(vm: &VmRef<'_, Vm>) -> Attrs {
    Attrs::supported(Some(vm.kvm.has_private_mem()))
}

/// Is the page private? In any context.
#[inline]
pub(crate) fn is_private(vm: &VmRef<'_, Vm>, gfn: Gfn) -> bool {
    let state = vm.state.shared();
    state.stats.asked();
    state.store.get(gfn).is_private()
}

/// Which accesses does the page deny? In any context.
#[inline]
pub(crate) fn denied(vm: &VmRef<'_, Vm>, gfn: Gfn) -> Denied {
    let attrs = vm.state.shared().store.get(gfn);
    Denied {
        read: attrs.contains(Attrs::NR),
        write: attrs.contains(Attrs::NW),
        exec: attrs.contains(Attrs::NX),
    }
}
