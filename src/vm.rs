// SPDX-License-Identifier: GPL-2.0

//! What the module keeps for a VM, and what the fault path asks of it.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    debugfs,
    gmem::Gmem,
    host::{
        debugfs::Folder,
        gfn::Gfn,
        provider::{
            Denied,
            VmRef, //
        },
        vm::{
            SlotsGuard,
            SlotsStay, //
        },
    },
    range::GfnRange,
    stats::{
        Alive,
        VmStats, //
    },
    store::{
        AttrStore,
        Exclusive, //
    },
    waited::Waited,
    word::{
        Layers,
        Word, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
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
    /// The how manieth VM it is since the module was loaded: its name to an operator.
    pub(crate) seq: i64,
}

/// What the module keeps for a VM, from its creation to its destruction.
pub(crate) struct Vm {
    shared: Arc<Shared>,
    /// What an operator sees. Most VMs have no attributes, and none of that either.
    folder: SetOnce<Folder<Shared>>,
    /// Does a guest_memfd say what's private, for some of the memory? Never unset.
    in_place: Atomic<i32>,
    /// Has anything been set in a layer other than the base layer? Never unset.
    layered: Atomic<i32>,
    /// What requests have denied that wait for accesses of KVM's own.
    pub(crate) waited: Waited,
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
        let seq = alive.seq();
        let shared = Arc::pin_init(
            pin_init!(Shared {
                store <- AttrStore::new(Word::NONE),
                stats: VmStats::new(),
                seq,
            }),
            GFP_KERNEL_ACCOUNT,
        )?;

        let vm = Self {
            shared,
            folder: SetOnce::new(),
            in_place: Atomic::new(0),
            layered: Atomic::new(0),
            waited: Waited::new(),
            _alive: alive,
        };
        Ok(KBox::new(vm, GFP_KERNEL_ACCOUNT)?)
    }

    /// Has a guest_memfd been created for the VM that says what's private?
    #[inline]
    fn has_in_place(&self) -> bool {
        self.in_place.load(Relaxed) != 0
    }

    /// Can what's enforced be the same where the words differ?
    pub(crate) fn is_layered(&self) -> bool {
        self.layered.load(Relaxed) != 0
    }

    /// Says that something is set in a layer other than the base layer. slots_lock is held.
    pub(crate) fn set_layered(&self) {
        self.layered.store(1, Relaxed);
    }

    /// The store and the counters.
    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Shows the VM in debugfs, if it isn't there yet. Where there's no memory for that, it's tried again
/// next time: nothing but an operator's view depends on it.
pub(crate) fn show(vm: &VmRef<'_>) {
    if vm.state.folder.as_ref().is_some() {
        return;
    }
    // Once only.
    let _slots = vm.kvm.lock_slots();
    if vm.state.folder.as_ref().is_none() {
        let folder = debugfs::vm_folder(vm.state.shared.clone());
        let _ = folder.map(|folder| vm.state.folder.populate(folder));
    }
}

/// The attributes that the VM supports.
pub(crate) fn supported(vm: &VmRef<'_>) -> Attrs {
    Attrs::supported(Some(vm.kvm.has_private_mem()))
}

/// Is the page private? In any context.
#[inline]
pub(crate) fn is_private(vm: &VmRef<'_>, slots: SlotsStay<'_>, gfn: Gfn) -> bool {
    let state = vm.state.shared();
    state.stats.asked();
    if vm.state.has_in_place() {
        let in_place =
            |gmem: &Gmem, index| gmem.decides_for_guests().then(|| gmem.is_private(index));
        if let Some(private) = vm.with_gmem(slots, gfn, in_place).flatten() {
            return private;
        }
    }
    state.store.get(gfn).is_private()
}

/// The first page of a range of which a guest_memfd says whether it's private, `slots` being held.
pub(crate) fn first_in_place(
    vm: &VmRef<'_>,
    slots: &SlotsGuard<'_>,
    range: &GfnRange,
) -> Option<Gfn> {
    if !vm.state.has_in_place() {
        return None;
    }
    slots.find_slot(range.start(), range.end(), |slot| {
        slot.with_gmem(|gmem, _| gmem.decides_for_guests())?
            .then_some(slot.start().max(range.start()))
    })
}

/// The state of the inode of a new guest_memfd.
///
/// # Errors
///
/// See [`Gmem::new`].
pub(crate) fn new_gmem(vm: &VmRef<'_>, flags: u64) -> Result<Pin<KBox<Gmem>>> {
    let gmem = Gmem::new(vm.kvm, flags)?;
    if gmem.decides_for_guests() {
        vm.state.in_place.store(1, Relaxed);
    }
    Ok(gmem)
}

/// Which accesses does the page deny to somebody whom these layers bind? In any context.
#[inline]
pub(crate) fn denied(vm: &VmRef<'_>, gfn: Gfn, layers: Layers) -> Denied {
    let attrs = layers.of(vm.state.shared().store.get(gfn));
    Denied {
        read: attrs.contains(Attrs::NR),
        write: attrs.contains(Attrs::NW),
        exec: attrs.contains(Attrs::NX),
    }
}
