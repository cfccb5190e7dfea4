// SPDX-License-Identifier: GPL-2.0

//! What the module keeps for a VM, and what the fault path asks of it.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    debugfs,
    host::{
        debugfs::Folder,
        gfn::Gfn,
        provider::VmRef,
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
    sync::Arc, //
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
    _folder: Folder<Shared>,
    _alive: Alive,
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
            _folder: debugfs::vm_folder(shared.clone(), alive.seq())?,
            shared,
            _alive: alive,
        };
        Ok(KBox::new(vm, GFP_KERNEL_ACCOUNT)?)
    }

    /// The store and the counters.
    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
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
