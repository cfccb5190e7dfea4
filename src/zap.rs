// SPDX-License-Identifier: GPL-2.0

//! Zapping: what a plan says is to go, goes; what KVM wants to zap is cut to what can be mapped.

#![deny(unsafe_code)]

use crate::{
    gmem::{
        Gmem,
        SlotRuns, //
    },
    host::{
        gfn::Gfn,
        invalidation::{
            Begun,
            ZapFilter,
            Zapped, //
        },
        provider::ZapRequest,
        sched::{
            cond_resched,
            signal_pending, //
        },
        vm::{
            RawVmType,
            SlotsGuard, //
        },
    },
    plan::{
        LargerPages,
        Plans, //
    },
    range::GfnRange,
    runs::RUNS_AT_ONCE,
    scope::{
        next_part,
        SlotKind,
        VmType,
        ZapScope, //
    },
    store::Quiesced,
    trace,
    vm::Shared, //
};

impl From<RawVmType> for VmType {
    fn from(raw: RawVmType) -> Self {
        match raw {
            RawVmType::DEFAULT => Self::Default,
            RawVmType::SW_PROTECTED => Self::SwProtected,
            RawVmType::SEV => Self::Sev,
            RawVmType::SEV_ES => Self::SevEs,
            RawVmType::SNP => Self::Snp,
            RawVmType::TDX => Self::Tdx,
            _ => Self::Unknown,
        }
    }
}

impl From<ZapScope> for ZapFilter {
    fn from(scope: ZapScope) -> Self {
        match scope {
            ZapScope::SHARED => Self::SHARED,
            ZapScope::PRIVATE => Self::PRIVATE,
            _ => Self::BOTH,
        }
    }
}

impl From<ZapFilter> for ZapScope {
    fn from(filter: ZapFilter) -> Self {
        Self {
            only_private: filter.contains(ZapFilter::PRIVATE),
            only_shared: filter.contains(ZapFilter::SHARED),
        }
    }
}

impl Quiesced for Zapped<'_> {}

/// How many pages are zapped at a time, and in all at least, if a signal is to be heeded. One that comes
/// earlier waits, so that a caller that is interrupted over and over gets on nevertheless.
const PAGES_AT_ONCE: u64 = 1 << 15;
/// What a stretch that's shorter counts for.
const PAGES_OF_A_STEP: u64 = PAGES_AT_ONCE / RUNS_AT_ONCE as u64;

/// Begins the invalidation of all that `plans` change, and zaps what has to go.
///
/// When there's a signal, `stop` is asked whether to go on no further than to a page, of which the one
/// before changes. It may sleep.
pub(crate) fn zap<'a>(
    slots: &'a SlotsGuard<'a>,
    plans: &Plans<'_>,
    vm: &Shared,
    mut stop: Option<&mut dyn FnMut(Gfn) -> bool>,
) -> Zapped<'a> {
    let hull = plans.hull();
    let mut begun = Begun::begin(slots, hull.start(), hull.end(), plans.restricts());

    let mut larger = LargerPages::default();
    let mut done = 0;
    for (n, plan) in plans.iter().enumerate() {
        if n % RUNS_AT_ONCE == RUNS_AT_ONCE - 1 {
            begun.breathe();
        }
        for (n, run) in plan.runs(&vm.store).enumerate() {
            if n % RUNS_AT_ONCE == RUNS_AT_ONCE - 1 {
                begun.pause(cond_resched);
            }
            let (parts, scope) = if plan.change().changes(run.word) {
                plans.zaps(plan, &run, &vm.store, &mut larger)
            } else {
                ([None, None], ZapScope::BOTH)
            };
            for part in parts.into_iter().flatten() {
                let Some(stop) = &mut stop else {
                    zap_pages(&mut begun, vm, &part, scope);
                    continue;
                };
                for step in steps(slots, &part) {
                    zap_pages(&mut begun, vm, &step, scope);
                    done += step.nr_pages().max(PAGES_OF_A_STEP);
                    if done >= PAGES_AT_ONCE
                        && step.end() < hull.end()
                        && signal_pending()
                        && begun.pause(|| stop(step.end()))
                    {
                        return begun.unlock();
                    }
                }
            }
        }
    }
    begun.unlock()
}

fn zap_pages(begun: &mut Begun<'_>, vm: &Shared, pages: &GfnRange, scope: ZapScope) {
    vm.stats.zapped(pages.nr_pages());
    trace::zap(vm, pages, scope);
    begun.zap(pages.start(), pages.end(), scope.into());
}

/// What of a range is zapped at a time where a signal may end it: little, but for where there's no
/// memslot and so nothing to zap.
fn steps<'a>(
    slots: &'a SlotsGuard<'_>,
    range: &GfnRange,
) -> impl Iterator<Item = GfnRange> + use<'a> {
    let mut rest = Some(*range);
    core::iter::from_fn(move || {
        let all = rest?;
        let slot = slots.find_slot(all.start(), all.end(), |slot| Some(slot.start()));
        let end = Gfn::new(all.start().raw().saturating_add(PAGES_AT_ONCE))
            .max(slot.unwrap_or(all.end()))
            .min(all.end());
        rest = GfnRange::new(end, all.end());
        GfnRange::new(all.start(), end)
    })
}

/// The first part, at or after `from`, of what KVM is about to zap that can have a mapping of the
/// kind that the zap is about. See [`next_part`].
pub(crate) fn next(
    request: &ZapRequest<'_>,
    from: Gfn,
    private_mem: bool,
    vm: &Shared,
) -> Option<(Gfn, Gfn)> {
    let scope = request.filter.into();
    let range = GfnRange::new(request.start, request.end)?;
    let slot = SlotKind {
        user: request.slot.is_user(),
        gmem_only: request.slot.is_gmem_only(),
        private_mem,
    };
    let by_file = |gmem: &Gmem, index| {
        let (gfn, gmem_only) = (request.slot.start(), false);
        gmem.decides_for_guests().then(|| {
            let runs = SlotRuns { gmem, gfn, index };
            next_part(scope, SlotKind { gmem_only, ..slot }, &runs, &range, from)
        })
    };
    // No other slot has a file that says what's private.
    let in_place = slot.gmem_only.then(|| request.slot.with_gmem(by_file));
    let part = in_place
        .flatten()
        .flatten()
        .unwrap_or_else(|| next_part(scope, slot, &vm.store, &range, from));

    let resumed = part.map_or(range.end(), |(start, _)| start);
    if let Some(kept) = GfnRange::new(from, resumed) {
        vm.stats.kept(kept.nr_pages());
        trace::spare(vm, &kept, scope);
    }
    part
}
