// SPDX-License-Identifier: GPL-2.0

//! A conversion of a guest_memfd's memory, from a checked request to its end.
//!
//! What can fail comes first, for the whole range: a page with a memory error, memory for the store, a
//! page that is in use by others. Then guests lose their mappings, contents are dealt with, and the
//! store says so. Faults of userspace wait for the invalidate lock meanwhile, faults of guests are
//! retried. A signal may stop the work on contents, at a page: what's before it is converted then.
//!
//! Locks are taken in the order: 1. the invalidate lock, 2. a folio's, 3. mmu_lock, 4. the store's own,
//! the last three one at a time. slots_lock isn't taken: as long as the invalidate lock is held, the file's memslots stay. There's no huge-page
//! state to bring up to date, as a guest_memfd has no hugepages.

#![deny(unsafe_code)]

use crate::{
    content::{
        default_policy,
        Step, //
    },
    gmem::Gmem,
    host::{
        folio::Folio,
        gfn::Index,
        gmem::{
            drain_batches,
            GmemGuard,
            GmemInode,
            GmemZapped, //
        },
        sched::{
            cond_resched,
            fatal_signal_pending,
            signal_pending, //
        },
    },
    plan::changed,
    policy::{
        Direction,
        Policy, //
    },
    range::IndexRange,
    request::ConvertRequest,
    runs::{
        rest_from,
        Unhurried, //
    },
    scope::{
        SetZap,
        Zap,
        ZapScope, //
    },
    stats::TOTALS,
    store::{
        Quiesced,
        Store, //
    },
    transaction::Failure,
    word::{
        Change,
        Word, //
    },
};
use core::ops::ControlFlow;
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    },
};

/// How often references that aren't KVM's own are waited for, a page fault's for instance, and how
/// long each time.
const REFERENCE_TRIES: usize = 50;
const REFERENCE_WAIT: Delta = Delta::from_micros(100);

/// How many folios are looked at before one that kills is, and how many folios' contents are dealt with
/// before any signal is: a caller that is interrupted over and over gets on nevertheless.
const FOLIOS_AT_LEAST: usize = 64;

impl Quiesced for GmemZapped<'_> {}

/// Converts memory as requested.
pub(crate) fn convert(
    inode: &GmemInode,
    gmem: &Gmem,
    request: &ConvertRequest,
) -> Result<(), Failure<Index>> {
    let start = request.range().start();
    let fail = |error| move |at| Failure { error, at };
    if !gmem.in_place() {
        return Err(fail(EPERM)(start));
    }
    let Some((step, policy)) = step(gmem, request) else {
        return Err(fail(EOPNOTSUPP)(start));
    };

    let guard = inode.lock();
    let Some(plan) = Plan::new(gmem, request) else {
        return Ok(());
    };
    let hull = plan.hull;
    plan.find(&guard, start, Folio::is_poisoned)
        .map_err(|found| found.failure(EHWPOISON, start))?;
    let mut reserved = gmem
        .store
        .reserve(&guard, (hull, Change::to(plan.word)))
        .map_err(|error| fail(error)(start))?;

    // From here on no guest begins to use a page, so that its references go away.
    let _begun = guard.begin(hull.start(), hull.end());
    if plan.word.is_private() {
        settle(&guard, &plan).map_err(|found| found.failure(EAGAIN, start))?;
    }

    let zapped = guard.zap(hull.start(), hull.end(), plan.goes_away.into());
    let mut done = hull.end();
    if (step.acts_on)(policy) {
        let mut folios = 0;
        // Where it can't be stopped for lack of memory, it isn't.
        let stop = |folio: &Folio| -> ControlFlow<()> {
            // One that has gone bad since is left alone.
            if !folio.is_poisoned() {
                (step.apply)(folio, policy);
            }
            folios += 1;
            let end = Index::new(folio.index().raw() + folio.nr_pages());
            if folios >= FOLIOS_AT_LEAST
                && end < hull.end()
                && signal_pending()
                && reserved.shorten(end).is_ok()
            {
                done = end;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let _ = plan.folios(&guard, start, stop);
    }
    Store::commit(reserved, &zapped);

    let pages = done.raw() - hull.start().raw();
    TOTALS.converted(pages);
    if done < hull.end() {
        return Err(fail(EINTR)(done));
    }
    Ok(())
}

/// What is done to the contents, `None` if that's not supported.
fn step(gmem: &Gmem, request: &ConvertRequest) -> Option<(Step, Policy)> {
    let direction = if request.attrs().is_private() {
        Direction::ToPrivate
    } else {
        Direction::ToShared
    };
    let step = Step::of(gmem.vm_type, direction)?;
    let policy = step.promised.choose(request.policy(), default_policy())?;
    Some((step, policy))
}

/// Waits until all pages that become private are used by nobody else, with nothing mapped by userspace.
///
/// # Errors
///
/// The first page that is in use.
fn settle(guard: &GmemGuard<'_>, plan: &Plan<'_>) -> Result<(), Found> {
    guard.unmap(plan.hull.start(), plan.hull.end());

    let mut tries = 0;
    // What was used by nobody else stays so: page faults of userspace wait, and those that have found
    // their page before have a reference.
    let mut from = plan.hull.start();
    while let Err(found) = plan.find(guard, from, Folio::has_other_references) {
        let Found::Folio(index) = found else {
            return Err(found);
        };
        from = index;
        // Batches are drained at once, and once more when all page faults that were under way have
        // ended: these may have left a folio that they've made in one.
        if tries == 0 || tries == REFERENCE_TRIES {
            drain_batches();
        } else if tries > REFERENCE_TRIES {
            return Err(found);
        } else {
            fsleep(REFERENCE_WAIT);
        }
        tries += 1;
        // Page faults that had found their pages before the lock was taken may have mapped them since.
        guard.unmap(index, plan.hull.end());
    }
    Ok(())
}

/// Why a walk through folios has ended early.
#[derive(Clone, Copy)]
enum Found {
    /// At this one.
    Folio(Index),
    /// The task is being killed.
    Killed,
}

impl Found {
    /// Why the request fails, and where: with `error` at what was found.
    fn failure(self, error: Error, start: Index) -> Failure<Index> {
        let (error, at) = match self {
            Self::Folio(index) => (error, index),
            Self::Killed => (EINTR, start),
        };
        Failure { error, at }
    }
}

/// What a request changes.
///
/// # Invariants
///
/// The first and the last page of `hull` aren't yet what they're to be, as long as the invalidate lock
/// is held.
struct Plan<'a> {
    gmem: &'a Gmem,
    hull: IndexRange,
    word: Word,
    /// The kind of mappings that goes away.
    goes_away: ZapScope,
}

impl<'a> Plan<'a> {
    /// Holds a request against what is stored. `None` if it changes nothing.
    fn new(gmem: &'a Gmem, request: &ConvertRequest) -> Option<Self> {
        let word = Word::base(request.attrs());
        let stored = Unhurried(&gmem.store, cond_resched);
        let mut runs = changed(&stored, request.range(), Change::to(word));
        let first = runs.next()?;
        let last = runs.last().unwrap_or(first);
        let (old, new) = (first.word.enforced(), word.enforced());
        let zap = ZapScope::of_change(SetZap::KindThatGoesAway, old, new);
        // INVARIANT: From the first page that changes to the last.
        Some(Self {
            gmem,
            hull: IndexRange::new(first.range.start(), last.range.end())?,
            word,
            goes_away: match zap {
                Zap::Pages(scope) => scope,
                Zap::Nothing | Zap::WhereLarger => ZapScope::BOTH,
            },
        })
    }

    /// Looks at all folios of the pages that change, in order from `from` on, until `look` breaks.
    fn folios<B>(
        &self,
        guard: &GmemGuard<'_>,
        from: Index,
        mut look: impl FnMut(&Folio) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let Some(rest) = rest_from(&self.hull, from) else {
            return ControlFlow::Continue(());
        };
        let stored = Unhurried(&self.gmem.store, cond_resched);
        let mut runs = changed(&stored, &rest, Change::to(self.word));
        runs.try_for_each(|run| guard.folios(run.range.start(), run.range.end(), &mut look))
    }

    /// Finds the first folio of the pages that change, from `from` on, that `is` true of. There may be
    /// many, and nothing has changed yet: who is killed needn't look at all of them.
    fn find(
        &self,
        guard: &GmemGuard<'_>,
        from: Index,
        is: impl Fn(&Folio) -> bool,
    ) -> Result<(), Found> {
        let mut folios = 0;
        match self.folios(guard, from, |folio| {
            folios += 1;
            if is(folio) {
                ControlFlow::Break(Found::Folio(folio.index()))
            } else if folios % FOLIOS_AT_LEAST == 0 && fatal_signal_pending() {
                ControlFlow::Break(Found::Killed)
            } else {
                ControlFlow::Continue(())
            }
        }) {
            ControlFlow::Break(found) => Err(found),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}
