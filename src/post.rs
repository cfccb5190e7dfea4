// SPDX-License-Identifier: GPL-2.0

//! Huge-page state: which hugepages can't be used, as their pages differ in attributes.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::{
        invalidation::{
            Ending,
            Zapped, //
        },
        memslot::{
            HugeLevel,
            NewSlot, //
        },
        sched::cond_resched,
    },
    plan::{
        Plan,
        Plans,
        HUGEPAGES, //
    },
    range::GfnRange,
    runs::{
        Runs,
        Unhurried,
        RUNS_AT_ONCE, //
    },
    store::AttrStore,
    word::Word, //
};

/// The levels at which KVM maps hugepages.
const LEVELS: [HugeLevel; 2] = [HugeLevel::Size2M, HugeLevel::Size1G];
/// The number of pages of the smallest hugepage, as a power of two.
const SMALLEST: u32 = HugeLevel::Size2M.nr_pages().ilog2();

// What the plan, which uses only `core`, says itself.
const _: () = assert!(HUGEPAGES[0] == HugeLevel::Size1G.nr_pages());
const _: () = assert!(HUGEPAGES[1] == HugeLevel::Size2M.nr_pages());

/// Brings the huge-page state up to date with what has been stored for `plans`, and ends the
/// invalidation. Where `layered`, the same may be enforced though words differ.
pub(crate) fn finish(zapped: Zapped<'_>, plans: &Plans<'_>, store: &AttrStore, layered: bool) {
    // Looking at pages takes time, which is better spent before mmu_lock is taken: slots_lock is
    // held, so that the answers stay true.
    let only = plans.iter().next().filter(|_| plans.is_one());
    if let Some((plan, word)) = only.and_then(|plan| Some((plan, plan.uniform()?))) {
        let Some(states) = States::look(plan, word, store, layered) else {
            // The blocks around the page were mixed, and are: that's what's recorded.
            return;
        };
        // The lock may be released while the state of many blocks is written: what's stored is in
        // force, so that each state is final.
        states.record(&mut zapped.lock());
        return;
    }

    let mut ending = zapped.lock();
    // Scattered pages are often in one block. All is stored, so that what has been recorded of it for
    // one of them is true for all.
    let mut recorded: [Option<GfnRange>; LEVELS.len()] = [None; LEVELS.len()];
    for plan in plans.iter() {
        let hull = plan.hull();
        for (level, recorded) in LEVELS.into_iter().zip(&mut recorded) {
            if recorded.is_some_and(|block| block.contains(hull)) {
                continue;
            }
            if let Some(word) = plan.uniform() {
                // As above, without mmu_lock.
                let ends = ending.pause(|| {
                    cond_resched();
                    Ends::look(level, hull, word.enforced(), store, &[], None)
                });
                ends.record(&mut ending);
            } else {
                record_runs(level, hull, store, &mut ending);
            }
            *recorded = Some(GfnRange::block(hull.last(), level.nr_pages()));
        }
    }
}

/// The state of the blocks of both levels that a change has touched.
struct States([Ends; 2]);

impl States {
    /// Looks at the blocks at the ends of what `plan` has changed, all of which has become `word`.
    /// `None` if they are as they were, and that's known without a look: a page whose neighbours
    /// differ.
    fn look(plan: &Plan, word: Word, store: &AttrStore, layered: bool) -> Option<Self> {
        let hull = plan.hull();
        let (head, differ) = store.around(hull.start(), SMALLEST);
        let tail = if hull.nr_pages() == 1 {
            if differ && !layered {
                return None;
            }
            head
        } else {
            store.around(hull.last(), SMALLEST).0
        };
        let same = [head, tail];
        let attrs = word.enforced();
        let small = Ends::look(HugeLevel::Size2M, hull, attrs, store, &same, None);
        let large = Ends::look(HugeLevel::Size1G, hull, attrs, store, &same, Some(&small));
        Some(Self([small, large]))
    }

    fn record(&self, ending: &mut Ending<'_>) {
        for ends in &self.0 {
            ends.record(ending);
        }
    }
}

/// The blocks of one level at the two ends of a change. All pages between them have become equal.
struct Ends {
    level: HugeLevel,
    head: Block,
    /// `None` if both ends are in one block.
    tail: Option<Block>,
}

/// A block, and whether its pages differ in attributes.
struct Block {
    range: GfnRange,
    mixed: bool,
}

impl Ends {
    /// Looks at the blocks of a level, given what was found at the level below, and the ranges at the
    /// ends that are known to have the same word, the first and the last of `same`.
    fn look(
        level: HugeLevel,
        hull: &GfnRange,
        attrs: Attrs,
        store: &AttrStore,
        same: &[GfnRange],
        below: Option<&Self>,
    ) -> Self {
        let block = |gfn, same: Option<&GfnRange>, below: Option<&Block>| {
            let range = GfnRange::block(gfn, level.nr_pages());
            // A block with a mixed one in it needs no look, nor does one that's part of what's the
            // same.
            let mixed = below.is_some_and(|b| b.mixed)
                || !same.is_some_and(|same| same.contains(&range))
                    && is_mixed(&range, hull, attrs, store);
            Block { range, mixed }
        };
        let (first, last) = (hull.start(), hull.last());
        let head = block(first, same.first(), below.map(|b| &b.head));
        let tail = (last >= head.range.end()).then(|| {
            let below = below.map(|b| b.tail.as_ref().unwrap_or(&b.head));
            block(last, same.last(), below)
        });
        Self { level, head, tail }
    }

    fn record(&self, ending: &mut Ending<'_>) {
        let mut record = |range: &GfnRange, mixed| {
            ending.set_mixed(range.start(), range.end(), self.level, mixed);
        };

        record(&self.head.range, self.head.mixed);
        let Some(tail) = &self.tail else { return };
        record(&tail.range, tail.mixed);
        if let Some(middle) = GfnRange::new(self.head.range.end(), tail.range.start()) {
            record(&middle, false);
        }
    }
}

/// Do the pages of a block at an end of `hull`, all of which has become `attrs`, differ?
///
/// They do if one of those that haven't changed does. The neighbours of the change are asked first:
/// where memory is converted page by page, one of them differs nearly always, and the rest of the
/// block needs no look.
fn is_mixed(block: &GfnRange, hull: &GfnRange, attrs: Attrs, store: &AttrStore) -> bool {
    let before = GfnRange::new(block.start(), hull.start());
    let after = GfnRange::new(hull.end(), block.end());
    let has = |word: Word| word.enforced() == attrs;
    let differs = |rest: GfnRange| !store.all(&rest, has);

    before.is_some_and(|rest| !has(store.get(rest.last())))
        || after.is_some_and(differs)
        || before.is_some_and(differs)
}

/// Records the state of all blocks of a level that have some of `hull`, from the runs in them.
fn record_runs(level: HugeLevel, hull: &GfnRange, store: &AttrStore, ending: &mut Ending<'_>) {
    let block = |gfn| GfnRange::block(gfn, level.nr_pages());
    let (mut from, end) = (block(hull.start()).start(), block(hull.last()).end());
    let mut looks = 0;
    while let Some(rest) = GfnRange::new(from, end) {
        let mut before = None;
        // The first run that differs from what's before it, within a block: that needs no further look.
        let differs = store.runs(&rest).find(|run| {
            looks += 1;
            if looks % RUNS_AT_ONCE == 0 {
                ending.pause(cond_resched);
            }
            let (at, attrs) = (run.range.start(), run.word.enforced());
            let same = before.replace(attrs).is_none_or(|before| before == attrs);
            !same && block(at).start() < at
        });
        let mixed = differs.map(|run| block(run.range.start()));
        if let Some(same) = GfnRange::new(from, mixed.map_or(end, |block| block.start())) {
            ending.set_mixed(same.start(), same.end(), level, false);
        }
        let Some(mixed) = mixed else { return };
        ending.set_mixed(mixed.start(), mixed.end(), level, true);
        from = mixed.end();
    }
}

/// Sets the huge-page state of a new slot, from what is stored for its gfns.
pub(crate) fn init_slot(slot: &NewSlot<'_>, store: &AttrStore) {
    let Some(range) = GfnRange::new(slot.start(), slot.end()) else {
        return;
    };
    // Each change from one run to the next is within a block, or between two.
    let mut before = None;
    for run in Unhurried(store, cond_resched).runs(&range) {
        let attrs = run.word.enforced();
        let differs = before.is_some_and(|before| before != attrs);
        for level in LEVELS.into_iter().filter(|_| differs) {
            let block = GfnRange::block(run.range.start(), level.nr_pages());
            if block.start() < run.range.start() && range.contains(&block) {
                slot.set_mixed(block.start(), block.end(), level);
            }
        }
        before = Some(attrs);
    }
}
