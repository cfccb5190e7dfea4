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
        vm::{
            RawVmType,
            SlotsGuard, //
        },
    },
    plan::Plan,
    range::GfnRange,
    scope::{
        next_part,
        SlotKind,
        VmType,
        ZapScope, //
    },
    store::Quiesced,
    vm::Shared,
    KvmMemattr,
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

/// How many runs are zapped with mmu_lock held at a stretch.
const RUNS_AT_ONCE: usize = 64;

/// Begins the invalidation of all that `plan` changes, and zaps what has to go.
pub(crate) fn zap<'a>(slots: &'a SlotsGuard<'a>, plan: &Plan, vm: &Shared) -> Zapped<'a> {
    let hull = plan.hull();
    let mut begun = Begun::begin(slots, hull.start(), hull.end(), plan.restricts());

    for (zapped, (range, scope)) in plan.zaps(&vm.store).enumerate() {
        if zapped % RUNS_AT_ONCE == RUNS_AT_ONCE - 1 {
            begun.pause();
        }
        begun.zap(range.start(), range.end(), scope.into());
        vm.stats.zapped(range.nr_pages());
    }
    begun.unlock()
}

/// The first part, at or after `from`, of what KVM is about to zap that can have a mapping of the
/// kind that the zap is about.
pub(crate) fn next(
    request: &ZapRequest<'_>,
    from: Gfn,
    private_mem: bool,
    vm: &Shared,
) -> Option<GfnRange> {
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
    let in_place = slot
        .gmem_only
        .then(|| request.slot.with_gmem::<KvmMemattr, _>(by_file));
    let part = in_place
        .flatten()
        .flatten()
        .unwrap_or_else(|| next_part(scope, slot, &vm.store, &range, from));

    let resumed = part.map_or(range.end(), |part| part.start());
    if let Some(kept) = GfnRange::new(from, resumed) {
        vm.stats.kept(kept.nr_pages());
    }
    part
}
