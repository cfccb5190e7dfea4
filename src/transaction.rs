// SPDX-License-Identifier: GPL-2.0

//! A change of attributes, from a checked request to its end.
//!
//! The order is what makes it all or nothing: what can fail comes first, then nothing that a guest or
//! a reader could notice has happened. The types keep to it: there's no commit without a reservation
//! and a zap, and no end of the invalidation but through [`post`].
//!
//! Rights that were taken away may still be in use when that's done: by KVM on the guest's behalf, not
//! by the guest, whose mappings are gone. The wait for it comes last, without locks.
//!
//! Locks are taken in the order: 1. slots_lock, 2. mmu_lock, 3. the store's own.

#![deny(unsafe_code)]

use crate::{
    host::{
        gfn::Gfn,
        provider::VmRef,
        sched::cond_resched, //
    },
    plan::Plan,
    post,
    request::SetRequest,
    runs::Unhurried,
    scope::SetZap,
    store::AttrStore,
    vm::{
        first_in_place,
        Vm, //
    },
    zap, //
};
use kernel::prelude::*;

/// Why a request has failed, and where. What's before that is done if the reason is `EINTR`, and
/// nothing has changed otherwise.
pub(crate) struct Failure<P> {
    pub(crate) error: Error,
    pub(crate) at: P,
}

/// Sets attributes as requested.
///
/// # Errors
///
/// `EPERM` at the first page that is to be private, but of which a guest_memfd says whether it is.
/// `ENOMEM`.
pub(crate) fn set(vm: &VmRef<'_, Vm>, request: &SetRequest) -> Result<(), Failure<Gfn>> {
    let shared = vm.state.shared();
    let (store, stats) = (&shared.store, &shared.stats);

    let slots = vm.kvm.lock_slots();
    if request.attrs().is_private() {
        if let Some(at) = first_in_place(vm, &slots, request.range()) {
            return Err(Failure { error: EPERM, at });
        }
    }
    let stored = Unhurried(store, cond_resched);
    let Some(plan) = Plan::new(request, &stored, SetZap::of(vm.kvm.vm_type().into())) else {
        stats.set_unchanged();
        return Ok(());
    };
    let reserved = store
        .reserve(&slots, plan.hull(), plan.change())
        .map_err(|error| Failure {
            error,
            at: request.range().start(),
        })?;
    let zapped = zap::zap(&slots, &plan, shared);
    AttrStore::commit(reserved, &zapped);
    post::finish(zapped, &plan, store);
    drop(slots);

    if plan.restricts() {
        vm.kvm.wait_for_accesses();
    }
    stats.set(plan.hull().nr_pages());
    Ok(())
}
