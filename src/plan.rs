// SPDX-License-Identifier: GPL-2.0

//! What a request changes: which pages, and what has to be zapped for that.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::gfn::{
        Gfn,
        PageNumber, //
    },
    range::{
        GfnRange,
        PageRange, //
    },
    runs::{
        Pieces,
        Run,
        Runs, //
    },
    scope::{
        SetZap,
        Zap,
        ZapScope, //
    },
    word::{
        Change,
        Word, //
    },
};

/// The sizes of hugepages, in pages, the largest first.
pub(crate) const HUGEPAGES: [u64; 2] = [1 << 18, 1 << 9];

/// What the change of a range comes to.
///
/// # Invariants
///
/// The words of the first and the last page of `hull` change, as long as nobody else changes them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    hull: GfnRange,
    /// If it's one run that changes: this.
    single: Option<Run>,
    /// Constant if all pages of the hull are to have the same word.
    change: Change,
    policy: SetZap,
    restricts: bool,
}

impl Plan {
    /// Holds a change against what is stored. `None` if it changes nothing.
    ///
    /// The caller must keep others from changing attributes until the plan has been carried out.
    ///
    /// # Errors
    ///
    /// The first page that would have attributes that no page can have.
    pub(crate) fn new(
        range: &GfnRange,
        change: Change,
        stored: &impl Runs,
        policy: SetZap,
    ) -> Result<Option<Self>, Gfn> {
        let mut runs = stored.runs(range);
        let Some(first) = runs.find(|run| change.changes(run.word)) else {
            return Ok(None);
        };
        let word = change.apply(first.word);
        let (mut last, mut nr_runs, mut restricts) = (first, 0, false);
        // Of what's before the last run that changes, and of all that has been seen.
        let (mut uniform, mut uniform_yet) = (true, true);
        for run in core::iter::once(first).chain(runs) {
            let new = change.apply(run.word);
            uniform_yet &= new == word;
            if !change.changes(run.word) {
                continue;
            }
            if !new.is_valid() {
                return Err(run.range.start());
            }
            restricts |= run.word.enforced().is_restricted_by(new.enforced());
            (last, nr_runs, uniform) = (run, nr_runs + 1, uniform_yet);
        }

        // INVARIANT: From the first page that changes to the last.
        Ok(
            GfnRange::new(first.range.start(), last.range.end()).map(|hull| Self {
                hull,
                single: (nr_runs == 1).then_some(first),
                change: if uniform { Change::to(word) } else { change },
                policy,
                restricts,
            }),
        )
    }

    /// The smallest range that has all pages that change.
    pub(crate) fn hull(&self) -> &GfnRange {
        &self.hull
    }

    /// What becomes of each page of the hull.
    pub(crate) fn change(&self) -> Change {
        self.change
    }

    /// What all pages of the hull are to have, if that's the same.
    pub(crate) fn uniform(&self) -> Option<Word> {
        self.change.constant()
    }

    /// Is an access denied afterwards that's allowed now?
    pub(crate) fn restricts(&self) -> bool {
        self.restricts
    }

    /// The same, without what's from `end` on: a page of the hull, but for its first, with one before
    /// it that changes.
    pub(crate) fn shortened(self, end: Gfn) -> Self {
        let cut = |range: GfnRange| GfnRange::new(range.start(), end.min(range.end()));
        let single = self.single.and_then(|run| {
            Some(Run {
                range: cut(run.range)?,
                ..run
            })
        });
        // INVARIANT: The last page changes, as the caller says.
        Self {
            hull: cut(self.hull).unwrap_or(self.hull),
            single,
            ..self
        }
    }

    /// The runs of the hull, in order: all that change, and unless it's a single one all others.
    pub(crate) fn runs<'a>(&self, stored: &'a impl Runs) -> impl Iterator<Item = Run> + 'a {
        // A single one is known already.
        let several = self.single.is_none().then(|| stored.runs(&self.hull));
        self.single.into_iter().chain(several.into_iter().flatten())
    }

    /// The runs of the hull whose words change, in order.
    #[cfg(any(test, KMA_KUNIT))]
    pub(crate) fn changed<'a>(&self, stored: &'a impl Runs) -> impl Iterator<Item = Run> + 'a {
        let change = self.change;
        self.runs(stored)
            .filter(move |run| change.changes(run.word))
    }

    /// Will something be true of the words of all pages of a part of the hull, at a glance?
    fn comes_to(&self, part: &GfnRange, is: impl Fn(Word) -> bool, stored: &impl Runs) -> bool {
        match self.uniform() {
            Some(word) => is(word),
            None => stored.all_at_a_glance(part, |word| is(self.change.apply(word))),
        }
    }
}

/// All that changes at once: plans of disjoint ranges, in order.
///
/// # Invariants
///
/// There's at least one.
#[derive(Clone, Copy)]
pub(crate) struct Plans<'a>(&'a [Plan]);

impl<'a> Plans<'a> {
    /// Several plans. `None` if there's none. They must be disjoint and in order.
    pub(crate) fn new(plans: &'a [Plan]) -> Option<Self> {
        // INVARIANT: Checked here.
        (!plans.is_empty()).then_some(Self(plans))
    }

    /// A single one.
    pub(crate) fn one(plan: &'a Plan) -> Self {
        // INVARIANT: This one.
        Self(core::slice::from_ref(plan))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a Plan> {
        self.0.iter()
    }

    /// Is it a single one?
    pub(crate) fn is_one(&self) -> bool {
        self.0.len() == 1
    }

    /// The smallest range that has all pages that change.
    pub(crate) fn hull(&self) -> GfnRange {
        let first = self.0[0].hull;
        let last = self.0[self.0.len() - 1].hull;
        GfnRange::new(first.start(), last.end()).unwrap_or(first)
    }

    /// Is an access denied afterwards that's allowed now?
    pub(crate) fn restricts(&self) -> bool {
        self.iter().any(Plan::restricts)
    }

    /// What of a run that `plan` changes is to be zapped, at most two parts, and of which kind. The runs
    /// are to be asked about in order, and `larger` to be the same for all.
    pub(crate) fn zaps(
        &self,
        plan: &Plan,
        run: &Run,
        stored: &impl Runs,
        larger: &mut LargerPages,
    ) -> ([Option<GfnRange>; 2], ZapScope) {
        let (old, new) = (run.word.enforced(), plan.change.apply(run.word).enforced());
        match ZapScope::of_change(plan.policy, old, new) {
            Zap::Nothing => ([None, None], ZapScope::BOTH),
            Zap::Pages(scope) => ([Some(run.range), None], scope),
            Zap::WhereLarger => (
                self.parts_of_larger_pages(run, new, stored, larger),
                ZapScope::BOTH,
            ),
        }
    }

    /// The parts of a run, at its two ends, that will be in hugepages in which they can't be now.
    ///
    /// A hugepage that is within the run has been possible before, as all its pages are the same.
    fn parts_of_larger_pages(
        &self,
        run: &Run,
        new: Attrs,
        stored: &impl Runs,
        larger: &mut LargerPages,
    ) -> [Option<GfnRange>; 2] {
        let mut part = |gfn: Gfn| {
            HUGEPAGES
                .into_iter()
                .zip(&mut larger.0)
                .find_map(|(nr_pages, asked)| {
                    let block = GfnRange::block(gfn, nr_pages);
                    if run.range.contains(&block) {
                        return None;
                    }
                    let known = asked.filter(|known| known.block == block);
                    let answer = known.unwrap_or_else(|| LargerPage {
                        block,
                        attrs: new,
                        possible: self.come_to(&block, &|word| word.enforced() == new, stored),
                    });
                    *asked = Some(answer);
                    // Pages that come to something else make it impossible as well.
                    (answer.possible && answer.attrs == new).then_some(block)
                })
                .and_then(|block| run.range.intersection(&block))
        };
        let head = part(run.range.start());
        if head.is_some_and(|head| head.end() == run.range.end()) {
            return [head, None];
        }
        [head, part(run.range.last())]
    }

    /// Will something be true of the words of all pages of a block? A glance has to do, as mmu_lock is
    /// held meanwhile, and may do, as a page may be zapped in vain.
    fn come_to(&self, block: &GfnRange, is: &impl Fn(Word) -> bool, stored: &impl Runs) -> bool {
        let first = self
            .0
            .partition_point(|plan| plan.hull.end() <= block.start());
        let mut at = block.start();
        for plan in &self.0[first..] {
            let Some(part) = plan.hull.intersection(block) else {
                break;
            };
            let before = GfnRange::new(at, part.start());
            if !plan.comes_to(&part, is, stored)
                || before.is_some_and(|r| !stored.all_at_a_glance(&r, is))
            {
                return false;
            }
            at = part.end();
        }
        GfnRange::new(at, block.end()).is_none_or(|rest| stored.all_at_a_glance(&rest, is))
    }
}

/// Whether a hugepage becomes possible.
#[derive(Clone, Copy)]
struct LargerPage {
    block: GfnRange,
    /// With what is enforced on its pages.
    attrs: Attrs,
    possible: bool,
}

/// The last answer about hugepages of each size, since many scattered pages may be in one.
#[derive(Default)]
pub(crate) struct LargerPages([Option<LargerPage>; HUGEPAGES.len()]);

impl Pieces for Plans<'_> {
    fn nr(&self) -> usize {
        self.0.len()
    }

    fn piece(&self, n: usize) -> (GfnRange, Change) {
        (self.0[n].hull, self.0[n].change)
    }
}

/// The runs of a range whose words a change makes others.
pub(crate) fn changed<'a, P: PageNumber + 'a>(
    stored: &'a impl Runs<P>,
    range: &PageRange<P>,
    change: Change,
) -> impl Iterator<Item = Run<P>> + 'a {
    stored
        .runs(range)
        .filter(move |run| change.changes(run.word))
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
        runs::testing::*,
        word::Layer, //
    };

    const STORED: Pages = Pages(b"..PP.P..");

    fn to(attrs: Attrs) -> Change {
        Change::layer(Layer::BASE, Attrs::supported(None), attrs)
    }

    fn planned(stored: &impl Runs, start: u64, end: u64, change: Change) -> Option<Plan> {
        Plan::new(&range(start, end), change, stored, SetZap::KindThatGoesAway).unwrap_or(None)
    }

    fn plan_on(stored: &impl Runs, start: u64, end: u64, attrs: Attrs) -> Option<Plan> {
        planned(stored, start, end, to(attrs))
    }

    fn plan(start: u64, end: u64, attrs: Attrs) -> Option<Plan> {
        plan_on(&STORED, start, end, attrs)
    }

    /// All that's zapped, in order.
    fn all_zaps<'a>(
        plans: Plans<'a>,
        stored: &'a impl Runs,
    ) -> impl Iterator<Item = (GfnRange, ZapScope)> + 'a {
        let mut larger = LargerPages::default();
        plans
            .iter()
            .flat_map(move |plan| plan.changed(stored).map(move |run| (plan, run)))
            .flat_map(move |(plan, run)| {
                let (parts, scope) = plans.zaps(plan, &run, stored, &mut larger);
                parts.into_iter().flatten().map(move |part| (part, scope))
            })
    }

    /// Does the plan zap these ranges, and nothing else?
    fn zaps(plan: &Plan, stored: &impl Runs, scope: ZapScope, want: &[(u64, u64)]) -> bool {
        all_zaps(Plans::one(plan), stored)
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
            && all_zaps(Plans::one(&plan), &stored).eq([
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
                Run {
                    range: before.unwrap_or(*range),
                    word: Word::base(if before.is_some() {
                        Attrs::NW
                    } else {
                        Attrs::NONE
                    }),
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

    #[test]
    fn other_layers_stay_and_bind() {
        let stored = Pages(b"ww.W");
        // What's denied already is nothing new, and isn't given back.
        let nw = planned(&stored, 0, 4, to(Attrs::NW));
        assert!(nw.is_some_and(|plan| plan.restricts()
            && plan.uniform().is_none()
            && *plan.hull() == range(0, 3)
            && zaps(&plan, &stored, ZapScope::BOTH, &[(2, 3)])));
        let none = planned(&stored, 0, 4, layer_1(Attrs::NONE));
        assert!(none.is_some_and(|plan| !plan.restricts()
            && plan.uniform() == Some(Word::NONE)
            && *plan.hull() == range(0, 2)));
        assert!(planned(&stored, 0, 2, layer_1(Attrs::NW)).is_none());
    }

    #[test]
    fn what_comes_to_the_same_is_known_to() {
        let stored = Pages(b".WwX");
        let uniform = |start, end, change| {
            planned(&stored, start, end, change).is_some_and(|plan| {
                plan.uniform().is_some() && plan.change().constant() == plan.uniform()
            })
        };
        assert!(uniform(0, 2, to(Attrs::NX)));
        // Another layer's restriction stays.
        assert!(!uniform(0, 3, to(Attrs::NX)));
        // What's behind the last page that changes doesn't count.
        assert!(uniform(0, 4, layer_1(Attrs::NONE)));
        // But what's between does.
        let between = Pages(b".w.");
        let plan = planned(&between, 0, 3, layer_1(Attrs::NW));
        assert!(plan.is_some_and(|p| p.uniform().is_some() && *p.hull() == range(0, 3)));
        let between = Pages(b"wWw");
        let plan = planned(&between, 0, 3, layer_1(Attrs::NONE));
        assert!(plan.is_some_and(|p| p.uniform().is_none() && *p.hull() == range(0, 3)));
    }

    #[test]
    fn the_first_page_that_cannot_be_is_told() {
        let policy = SetZap::KindThatGoesAway;
        let bad = |pages, change| Plan::new(&range(0, 8), change, &Pages(pages), policy).err();
        assert!(bad(b"...w.w", to(Attrs::PRIVATE)) == Some(Gfn::new(3)));
        assert!(bad(b"..P", layer_1(Attrs::NX)) == Some(Gfn::new(2)));
        assert!(bad(b"..P", layer_1(Attrs::NONE)).is_none());
        let drop_nw = Change::layer(Layer::BASE, Attrs::NW, Attrs::NONE);
        assert!(bad(b"WW.R", drop_nw) == Some(Gfn::new(3)));
        assert!(bad(b"WW.X", drop_nw).is_none());
    }

    #[test]
    fn plans_of_one_batch_know_of_each_other() {
        let stored = Pages(b"W...W...W");
        let two = [
            plan_on(&stored, 0, 1, Attrs::NONE),
            plan_on(&stored, 4, 5, Attrs::NONE),
        ];
        let [Some(a), Some(b)] = two else {
            assert!(two[0].is_some() && two[1].is_some());
            return;
        };
        let zapped = |plans: &[Plan], want: &[GfnRange]| {
            Plans::new(plans).is_some_and(|plans| {
                all_zaps(plans, &stored)
                    .map(|(range, _)| range)
                    .eq(want.iter().copied())
            })
        };
        // The third page keeps hugepages from being possible.
        assert!(zapped(&[a, b], &[]));
        let c = plan_on(&stored, 8, 9, Attrs::NONE);
        assert!(c.is_some());
        let Some(c) = c else { return };
        assert!(zapped(&[a, b, c], &[range(0, 1), range(4, 5), range(8, 9)]));
        assert!(Plans::new(&[a, b, c]).is_some_and(|plans| plans.hull() == range(0, 9)));
        assert!(Plans::new(&[]).is_none());
    }

    #[test]
    fn a_shortened_plan_ends_where_it_is_told() {
        let long = plan(0, 8, Attrs::PRIVATE).map(|plan| plan.shortened(Gfn::new(5)));
        assert!(is(long, range(0, 5), ZapScope::SHARED, &[(0, 2), (4, 5)]));
        let single = plan(6, 8, Attrs::PRIVATE).map(|plan| plan.shortened(Gfn::new(7)));
        assert!(is(single, range(6, 7), ZapScope::SHARED, &[(6, 7)]));
    }
}
