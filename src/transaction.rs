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
    batch::{
        Batch,
        Piece, //
    },
    host::{
        gfn::Gfn,
        provider::VmRef,
        sched::{
            cond_resched,
            signal_pending, //
        },
        vm::SlotsGuard,
    },
    plan::{
        Plan,
        Plans, //
    },
    post,
    range::GfnRange,
    request::SetRequest,
    runs::{
        Pieces,
        Runs,
        Unhurried, //
    },
    scope::SetZap,
    store::AttrStore,
    vm::first_in_place,
    word::{
        Change,
        Word, //
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

/// Sets attributes as requested. Answers the end of the range.
///
/// # Errors
///
/// `EPERM` at the first page that is to be private, but of which a guest_memfd says whether it is.
/// `EINVAL` at the first page that has, in another layer, what excludes the new attributes. `ENOMEM`.
pub(crate) fn set(vm: &VmRef<'_>, request: &SetRequest) -> Result<Gfn, Failure<Gfn>> {
    set_locked(vm, request, vm.kvm.lock_slots(), false)
}

/// Sets attributes as requested, until there's a signal. Answers the first page that it hasn't got to:
/// the end of the range, unless there was one.
///
/// # Errors
///
/// As [`set`], and `EINTR`. Nothing has changed then.
pub(crate) fn set_resumable(vm: &VmRef<'_>, request: &SetRequest) -> Result<Gfn, Failure<Gfn>> {
    let slots = vm.kvm.lock_slots();
    // Of whoever has had to wait. Later on there's always some progress.
    if signal_pending() {
        let at = request.range().start();
        return Err(Failure { error: EINTR, at });
    }
    set_locked(vm, request, slots, true)
}

fn set_locked(
    vm: &VmRef<'_>,
    request: &SetRequest,
    slots: SlotsGuard<'_>,
    resumable: bool,
) -> Result<Gfn, Failure<Gfn>> {
    let (range, change) = (request.range(), request.change());
    let plan = plan(vm, &slots, range, change).map_err(|(error, at)| Failure { error, at })?;
    let Some(plan) = plan else {
        vm.state.shared().stats.set_unchanged();
        release(vm, slots, range, false, change.denies());
        return Ok(range.end());
    };
    let plans = Plans::one(&plan);
    let stopped = carry_out(vm, slots, plans, range, change.denies(), resumable);
    let stopped = stopped.map_err(|error| Failure {
        error,
        at: range.start(),
    })?;
    Ok(stopped.unwrap_or(range.end()))
}

/// Why a batch has failed, and the first entry that's to blame, if one is. Nothing has changed.
pub(crate) struct BatchFailure {
    pub(crate) error: Error,
    pub(crate) entry: Option<u32>,
}

impl<E: Into<Error>> From<E> for BatchFailure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            entry: None,
        }
    }
}

/// Makes all changes of a batch, in one step for whoever changes attributes, and with one
/// invalidation.
///
/// # Errors
///
/// `EPERM` and `EINVAL` as [`set`]. `ENOMEM`.
pub(crate) fn set_batch(vm: &VmRef<'_>, batch: &Batch) -> Result<(), BatchFailure> {
    let pieces = batch.pieces()?;
    let mut plans = KVVec::with_capacity(pieces.len(), GFP_KERNEL_ACCOUNT)?;
    let denies = pieces.iter().any(|piece| piece.change.denies());
    let hull = hull(&pieces).ok_or(EINVAL)?;

    let slots = vm.kvm.lock_slots();
    for piece in &pieces {
        match plan(vm, &slots, &piece.range, piece.change) {
            Ok(Some(plan)) => plans.push(plan, GFP_KERNEL_ACCOUNT)?,
            Ok(None) => {}
            Err(_) => return Err(first_bad(vm, &slots, batch)?),
        }
        cond_resched();
    }
    let Some(plans) = Plans::new(&plans) else {
        vm.state.shared().stats.set_unchanged();
        release(vm, slots, &hull, false, denies);
        return Ok(());
    };
    carry_out(vm, slots, plans, &hull, denies, false)?;
    Ok(())
}

/// The smallest range that has all pieces, which are in order.
fn hull(pieces: &[Piece]) -> Option<GfnRange> {
    let (first, last) = (pieces.first()?, pieces.last()?);
    GfnRange::new(first.range.start(), last.range.end())
}

/// The failure of a batch of which some page would end up with what it can't have.
fn first_bad(
    vm: &VmRef<'_>,
    slots: &SlotsGuard<'_>,
    batch: &Batch,
) -> Result<BatchFailure, BatchFailure> {
    let stored = Unhurried(&vm.state.shared().store, cond_resched);
    let mut first = BatchFailure::from(EINVAL);
    let mut blame = |error, entry: Option<u32>| {
        if entry.is_some_and(|entry| first.entry.is_none_or(|first| entry < first)) {
            first = BatchFailure { error, entry };
        }
    };
    for Piece { range, change } in &batch.parts()? {
        if change.sets_private() {
            if let Some(at) = first_in_place(vm, slots, range) {
                blame(EPERM, batch.last_say(at).in_any_of(Word::PRIVATE));
            }
        }
        // The same for all pages of a part.
        let mut last_say = None;
        for run in stored.runs(range) {
            let new = change.apply(run.word);
            if !new.is_valid() {
                let last_say = last_say.get_or_insert_with(|| batch.last_say(range.start()));
                blame(EINVAL, last_say.in_any_of(new.conflict()));
            }
        }
    }
    Ok(first)
}

/// Holds a change against what is stored, and against what guest_memfds say.
fn plan(
    vm: &VmRef<'_>,
    slots: &SlotsGuard<'_>,
    range: &GfnRange,
    change: Change,
) -> Result<Option<Plan>, (Error, Gfn)> {
    if change.sets_private() {
        if let Some(at) = first_in_place(vm, slots, range) {
            return Err((EPERM, at));
        }
    }
    let stored = Unhurried(&vm.state.shared().store, cond_resched);
    let policy = SetZap::of(vm.kvm.vm_type().into());
    Plan::new(range, change, &stored, policy).map_err(|at| (EINVAL, at))
}

/// Does what's planned, of a request for `range` that `denies` something or not. Answers where it has
/// stopped if a signal has ended it, which may happen to a single plan that is `resumable`.
///
/// # Errors
///
/// `ENOMEM`, with nothing changed.
fn carry_out(
    vm: &VmRef<'_>,
    slots: SlotsGuard<'_>,
    plans: Plans<'_>,
    range: &GfnRange,
    denies: bool,
    resumable: bool,
) -> Result<Option<Gfn>> {
    let shared = vm.state.shared();
    let (store, stats) = (&shared.store, &shared.stats);

    let mut reserved = store.reserve(&slots, plans)?;
    if plans.iter().any(|plan| plan.change().sets_layered()) {
        vm.state.set_layered();
    }
    let mut stopped = None;
    // Where it can't be stopped for lack of memory, it isn't.
    let mut stop = |at| {
        stopped = reserved.shorten(at).is_ok().then_some(at);
        stopped.is_some()
    };
    let zapped = zap::zap(&slots, &plans, shared, resumable.then_some(&mut stop));
    let shortened = stopped.and_then(|at| Some(plans.iter().next()?.shortened(at)));
    let done = shortened.as_ref().map_or(plans, Plans::one);
    AttrStore::commit(reserved, &zapped);
    post::finish(zapped, &done, store, vm.state.is_layered());
    release(vm, slots, range, plans.restricts(), denies);

    let pages = (0..done.nr()).map(|n| done.piece(n).0.nr_pages());
    stats.set(pages.sum());
    Ok(stopped)
}

/// Ends a request for `range`, after which nobody uses a right to it that it asked to be taken away: it
/// waits if it has taken away one (`restricts`), or if it `denies` what another request may just have
/// taken away, whose wait isn't over.
fn release(vm: &VmRef<'_>, slots: SlotsGuard<'_>, range: &GfnRange, restricts: bool, denies: bool) {
    let waited = &vm.state.waited;
    let wait = restricts || denies && waited.has(&slots, range);
    // Counted under slots_lock: who takes it next knows.
    let waiting = wait.then(|| waited.wait(&slots, range));
    drop(slots);

    if waiting.is_some() {
        vm.kvm.wait_for_accesses();
    }
}
