// SPDX-License-Identifier: GPL-2.0

//! What a request changes: which pages, and what has to be zapped for that.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::{
    attrs::{
        Attrs,
        Change, //
    },
    host::gfn::{
        Gfn,
        PageNumber, //
    },
    range::{
        GfnRange,
        PageRange, //
    },
    request::SetRequest,
    runs::{
        Run,
        Runs, //
    },
    scope::{
        SetZap,
        Zap,
        ZapScope, //
    },
};

/// The sizes of hugepages, in pages, the largest first.
pub(crate) const HUGEPAGES: [u64; 2] = [1 << 18, 1 << 9];

/// What a request changes.
///
/// # Invariants
///
/// The attributes of the first and the last page of `hull` differ from `attrs`, as long as nobody
/// changes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    hull: GfnRange,
    /// If it's one run that changes: this.
    single: Option<Run>,
    attrs: Attrs,
    policy: SetZap,
    restricts: bool,
}

impl Plan {
    /// Holds a request against what is stored. `None` if it changes nothing.
    ///
    /// The caller must keep others from changing attributes until the plan has been carried out.
    pub(crate) fn new(request: &SetRequest, stored: &impl Runs, policy: SetZap) -> Option<Self> {
        let attrs = request.attrs();
        let mut runs = changed(stored, request.range(), attrs);
        let first = runs.next()?;
        let (mut last, mut nr_runs) = (first, 1);
        let mut restricts = first.attrs.is_restricted_by(attrs);
        for run in runs {
            restricts |= run.attrs.is_restricted_by(attrs);
            (last, nr_runs) = (run, nr_runs + 1);
        }

        // INVARIANT: From the first page that changes to the last.
        Some(Self {
            hull: GfnRange::new(first.range.start(), last.range.end())?,
            single: (nr_runs == 1).then_some(first),
            attrs,
            policy,
            restricts,
        })
    }

    /// The smallest range that has all pages that change. All pages of it are to have
    /// [`Self::attrs`].
    pub(crate) fn hull(&self) -> &GfnRange {
        &self.hull
    }

    /// The attributes to be.
    pub(crate) fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// What becomes of each page of the hull.
    pub(crate) fn change(&self) -> Change {
        Change::to(self.attrs)
    }

    /// Is an access denied afterwards that's allowed now?
    pub(crate) fn restricts(&self) -> bool {
        self.restricts
    }

    /// The runs of the hull whose attributes change, in order.
    pub(crate) fn changed<'a>(&self, stored: &'a impl Runs) -> impl Iterator<Item = Run> + 'a {
        // A single one is known already.
        let several = self
            .single
            .is_none()
            .then(|| changed(stored, &self.hull, self.attrs));
        self.single.into_iter().chain(several.into_iter().flatten())
    }

    /// What is to be zapped, in order, and of which kind.
    pub(crate) fn zaps<'a>(
        &'a self,
        stored: &'a impl Runs,
    ) -> impl Iterator<Item = (GfnRange, ZapScope)> + 'a {
        self.changed(stored).flat_map(move |run| {
            let (parts, scope) = match ZapScope::of_change(self.policy, run.attrs, self.attrs) {
                Zap::Nothing => ([None, None], ZapScope::BOTH),
                Zap::Pages(scope) => ([Some(run.range), None], scope),
                Zap::WhereLarger => (self.parts_of_larger_pages(&run, stored), ZapScope::BOTH),
            };
            parts.into_iter().flatten().map(move |part| (part, scope))
        })
    }

    /// The parts of a run, at its two ends, that will be in hugepages in which they can't be now.
    ///
    /// A hugepage that is within the run has been possible before, as all its pages are the same.
    fn parts_of_larger_pages(&self, run: &Run, stored: &impl Runs) -> [Option<GfnRange>; 2] {
        let part = |gfn: Gfn| {
            HUGEPAGES
                .into_iter()
                .map(|nr_pages| GfnRange::block(gfn, nr_pages))
                .find(|block| !run.range.contains(block) && self.becomes_uniform(block, stored))
                .and_then(|block| run.range.intersection(&block))
        };
        let head = part(run.range.start());
        if head.is_some_and(|head| head.end() == run.range.end()) {
            return [head, None];
        }
        [head, part(run.range.last())]
    }

    /// Will all pages of a block that has some of the hull be the same?
    fn becomes_uniform(&self, block: &GfnRange, stored: &impl Runs) -> bool {
        let before = GfnRange::new(block.start(), self.hull.start().min(block.end()));
        let after = GfnRange::new(self.hull.end().max(block.start()), block.end());
        [before, after]
            .into_iter()
            .flatten()
            .all(|rest| stored.uniform(&rest, Attrs::ALL, self.attrs))
    }
}

/// The runs of a range whose attributes aren't yet what they're to be.
pub(crate) fn changed<'a, P: PageNumber + 'a>(
    stored: &'a impl Runs<P>,
    range: &PageRange<P>,
    attrs: Attrs,
) -> impl Iterator<Item = Run<P>> + 'a {
    stored.runs(range).filter(move |run| run.attrs != attrs)
}

#[cfg(any(test, KMA_KUNIT))]
#[cfg_attr(
    KMA_KUNIT,
    allow(unsafe_code),
    kernel::prelude::kunit_tests(kvm_memattr_plan)
)]
mod tests {
    use super::*;
    use crate::{
        request::RawRequest,
        runs::testing::*, //
    };

    const STORED: Pages = Pages(b"..PP.P..");

    fn plan_on(stored: &impl Runs, start: u64, end: u64, attrs: Attrs) -> Option<Plan> {
        let raw = RawRequest {
            address: start << 12,
            size: (end - start) << 12,
            attributes: attrs.raw(),
            flags: 0,
        };
        let request = SetRequest::check(raw, Attrs::supported(None)).ok()?;
        Plan::new(&request, stored, SetZap::KindThatGoesAway)
    }

    fn plan(start: u64, end: u64, attrs: Attrs) -> Option<Plan> {
        plan_on(&STORED, start, end, attrs)
    }

    /// Does the plan zap these ranges, and nothing else?
    fn zaps(plan: &Plan, stored: &impl Runs, scope: ZapScope, want: &[(u64, u64)]) -> bool {
        plan.zaps(stored)
            .eq(want.iter().map(|(start, end)| (range(*start, *end), scope)))
    }

    fn is(plan: Option<Plan>, hull: GfnRange, scope: ZapScope, zapped: &[(u64, u64)]) -> bool {
        plan.is_some_and(|plan| *plan.hull() == hull && zaps(&plan, &STORED, scope, zapped))
    }

    #[test]
    fn setting_what_is_set_is_no_plan() {
        assert!(plan(2, 4, Attrs::PRIVATE).is_none());
        assert!(plan(3, 4, Attrs::PRIVATE).is_none());
        assert!(plan(0, 2, Attrs::NONE).is_none());
        assert!(plan(6, 600, Attrs::NONE).is_none());
    }

    #[test]
    fn only_what_changes_is_planned() {
        let (shared, private) = (ZapScope::SHARED, ZapScope::PRIVATE);
        assert!(is(
            plan(0, 8, Attrs::PRIVATE),
            range(0, 8),
            shared,
            &[(0, 2), (4, 5), (6, 8)]
        ));
        assert!(is(
            plan(0, 8, Attrs::NONE),
            range(2, 6),
            private,
            &[(2, 4), (5, 6)]
        ));
        assert!(is(
            plan(3, 6, Attrs::PRIVATE),
            range(4, 5),
            shared,
            &[(4, 5)]
        ));
        assert!(is(plan(3, 4, Attrs::NONE), range(3, 4), private, &[(3, 4)]));
    }

    #[test]
    fn each_run_is_zapped_for_what_it_was() {
        let stored = Pages(b".PW.");
        let plan = plan_on(&stored, 0, 4, Attrs::NW);
        assert!(plan.is_some_and(|plan| plan.restricts()
            && plan.zaps(&stored).eq([
                (range(0, 1), ZapScope::BOTH),
                (range(1, 2), ZapScope::BOTH),
                (range(3, 4), ZapScope::BOTH),
            ])));
    }

    #[test]
    fn only_taking_rights_away_restricts() {
        let stored = Pages(b"WXR.P");
        let restricts = |start, end, attrs| {
            plan_on(&stored, start, end, attrs).is_some_and(|plan| plan.restricts())
        };
        assert!(restricts(0, 1, Attrs::NX));
        assert!(restricts(0, 3, Attrs::RESTRICTIONS));
        assert!(restricts(2, 4, Attrs::NW));
        assert!(restricts(4, 5, Attrs::NW));
        assert!(!restricts(0, 5, Attrs::NONE));
        assert!(!restricts(0, 5, Attrs::PRIVATE));
        assert!(!restricts(2, 3, Attrs::NX));
    }

    #[test]
    fn grants_are_zapped_where_larger_pages_become_possible() {
        // The one page that kept hugepages of both sizes from being possible.
        let one = Pages(b"....W");
        let plan = plan_on(&one, 0, 8, Attrs::NONE);
        assert!(plan.is_some_and(|p| zaps(&p, &one, ZapScope::BOTH, &[(4, 5)])));

        // Another one keeps them from it afterwards, too.
        let two = Pages(b"W...W");
        let plan = plan_on(&two, 2, 8, Attrs::NONE);
        assert!(plan.is_some_and(|p| zaps(&p, &two, ZapScope::BOTH, &[])));
        // Unless both are granted.
        let plan = plan_on(&two, 0, 8, Attrs::NONE);
        assert!(plan.is_some_and(|p| zaps(&p, &two, ZapScope::BOTH, &[(0, 1), (4, 5)])));
        // What differs stays so: executing is still denied.
        let nx = Pages(b"X...R");
        let plan = plan_on(&nx, 4, 5, Attrs::NX);
        assert!(plan.is_some_and(|p| zaps(&p, &nx, ZapScope::BOTH, &[])));
    }

    #[test]
    fn what_was_a_hugepage_stays_one_when_granted() {
        struct Until(u64);
        // All pages before one gfn aren't writable.
        impl Runs for Until {
            fn first_run(&self, range: &GfnRange) -> Run {
                let before = GfnRange::new(range.start(), range.end().min(Gfn::new(self.0)));
                let attrs = if before.is_some() {
                    Attrs::NW
                } else {
                    Attrs::NONE
                };
                Run {
                    range: before.unwrap_or(*range),
                    attrs,
                }
            }
        }
        let granted = |until, want: &[(u64, u64)]| {
            let stored = Until(until);
            plan_on(&stored, 0, until, Attrs::NONE)
                .is_some_and(|plan| zaps(&plan, &stored, ZapScope::BOTH, want))
        };
        // All of a 1 GiB page.
        assert!(granted(1 << 18, &[]));
        // Two 2 MiB pages of one: a page of 1 GiB becomes possible.
        assert!(granted(1024, &[(0, 1024)]));
        // One page of 1 GiB, and the start of a second.
        assert!(granted((1 << 18) + 8, &[(1 << 18, (1 << 18) + 8)]));
    }
}
