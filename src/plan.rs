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
    range::GfnRange,
    request::SetRequest,
    runs::Runs,
    scope::{
        SetZap,
        ZapScope, //
    },
};

/// What a request changes.
///
/// # Invariants
///
/// The attributes of the first and the last page of `hull` differ from `attrs`, as long as nobody
/// changes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    hull: GfnRange,
    /// All pages of the hull change.
    all: bool,
    attrs: Attrs,
    scope: Option<ZapScope>,
}

impl Plan {
    /// Holds a request against what is stored. `None` if it changes nothing.
    ///
    /// The caller must keep others from changing attributes until the plan has been carried out.
    pub(crate) fn new(request: &SetRequest, stored: &impl Runs, policy: SetZap) -> Option<Self> {
        let attrs = request.attrs();
        let mut changed = changed(stored, request.range(), attrs);
        let first = changed.next()?;
        let last = changed.last();
        let end = last.unwrap_or(first).end();

        // INVARIANT: From the first page that changes to the last.
        Some(Self {
            hull: GfnRange::new(first.start(), end)?,
            all: last.is_none(),
            attrs,
            scope: ZapScope::SET.decide(policy, attrs),
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

    /// Which kind of mappings is to be zapped, if any.
    pub(crate) fn scope(&self) -> Option<ZapScope> {
        self.scope
    }

    /// The stretches of pages whose attributes change, in order.
    pub(crate) fn changed<'a>(&self, stored: &'a impl Runs) -> impl Iterator<Item = GfnRange> + 'a {
        // A single stretch is known already.
        let single = self.all.then_some(self.hull);
        let several = (!self.all).then(|| changed(stored, &self.hull, self.attrs));
        single.into_iter().chain(several.into_iter().flatten())
    }
}

fn changed<'a>(
    stored: &'a impl Runs,
    range: &GfnRange,
    attrs: Attrs,
) -> impl Iterator<Item = GfnRange> + 'a {
    stored
        .runs(range)
        .filter(move |run| run.attrs != attrs)
        .map(|run| run.range)
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

    fn plan(start: u64, end: u64, attrs: Attrs) -> Option<Plan> {
        let raw = RawRequest {
            address: start << 12,
            size: (end - start) << 12,
            attributes: attrs.raw(),
            flags: 0,
        };
        let request = SetRequest::check(raw, Attrs::PRIVATE).ok()?;
        Plan::new(&request, &STORED, SetZap::KindThatGoesAway)
    }

    fn is(plan: Option<Plan>, hull: GfnRange, changed: &[(u64, u64)]) -> bool {
        let Some(plan) = plan else { return false };
        *plan.hull() == hull
            && plan
                .changed(&STORED)
                .eq(changed.iter().map(|(start, end)| range(*start, *end)))
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
        assert!(is(
            plan(0, 8, Attrs::PRIVATE),
            range(0, 8),
            &[(0, 2), (4, 5), (6, 8)]
        ));
        assert!(is(plan(0, 8, Attrs::NONE), range(2, 6), &[(2, 4), (5, 6)]));
        assert!(is(plan(3, 6, Attrs::PRIVATE), range(4, 5), &[(4, 5)]));
        assert!(is(plan(3, 4, Attrs::NONE), range(3, 4), &[(3, 4)]));
    }

    #[test]
    fn the_kind_that_goes_away_is_planned() {
        let to_private = plan(0, 8, Attrs::PRIVATE).and_then(|p| p.scope());
        assert!(to_private == Some(ZapScope::SHARED));
        let to_shared = plan(0, 8, Attrs::NONE).and_then(|p| p.scope());
        assert!(to_shared == Some(ZapScope::PRIVATE));
    }
}
