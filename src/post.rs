// SPDX-License-Identifier: GPL-2.0

//! Huge-page state: which hugepages can't be used, as their pages differ in attributes.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::{
        gfn::Gfn,
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
    plan::Plan,
    range::GfnRange,
    runs::{
        Runs,
        Unhurried, //
    },
    store::AttrStore, //
};

/// The levels at which KVM maps hugepages.
const LEVELS: [HugeLevel; 2] = [HugeLevel::Size2M, HugeLevel::Size1G];

/// How many hugepages get their state with mmu_lock held at a stretch: what takes less time than
/// zapping does.
const BLOCKS_AT_ONCE: u64 = 8192;

/// Brings the huge-page state up to date with what has been stored for `plan`, and ends the
/// invalidation.
pub(crate) fn finish(zapped: Zapped<'_>, plan: &Plan, store: &AttrStore) {
    // Looking at pages takes time, which is better spent before mmu_lock is taken: slots_lock is
    // held, so that the answers stay true.
    let small = Ends::look(HugeLevel::Size2M, plan, store, None);
    let large = Ends::look(HugeLevel::Size1G, plan, store, Some(&small));

    let mut ending = zapped.lock();
    for ends in [small, large] {
        ending = ends.record(ending);
    }
}

/// The blocks of one level at the two ends of a change. All pages between them have become equal.
struct Ends {
    level: HugeLevel,
    head: Block,
    tail: Block,
}

/// A block, and whether its pages differ in attributes.
struct Block {
    range: GfnRange,
    mixed: bool,
}

impl Ends {
    /// Looks at the blocks of a level, given what was found at the level below.
    fn look(level: HugeLevel, plan: &Plan, store: &AttrStore, below: Option<&Self>) -> Self {
        let block = |gfn, below: Option<&Block>| {
            let range = GfnRange::block(gfn, level.nr_pages());
            // A block with a mixed one in it needs no look.
            let mixed = below.is_some_and(|b| b.mixed) || is_mixed(&range, plan, store);
            Block { range, mixed }
        };
        Self {
            level,
            head: block(plan.hull().start(), below.map(|b| &b.head)),
            tail: block(plan.hull().last(), below.map(|b| &b.tail)),
        }
    }

    fn record<'a>(&self, mut ending: Ending<'a>) -> Ending<'a> {
        for block in [&self.head, &self.tail] {
            let (start, end) = (block.range.start(), block.range.end());
            ending.set_mixed(start, end, self.level, block.mixed);
        }

        let mut rest = GfnRange::new(self.head.range.end(), self.tail.range.start());
        while let Some(middle) = rest {
            let step = self.level.nr_pages() * BLOCKS_AT_ONCE;
            let end = middle.end().min(Gfn::new(middle.start().raw() + step));
            ending.set_mixed(middle.start(), end, self.level, false);

            rest = GfnRange::new(end, middle.end());
            if rest.is_some() {
                // Nobody uses the state before the invalidation has ended.
                let zapped = ending.unlock();
                cond_resched();
                ending = zapped.lock();
            }
        }
        ending
    }
}

/// Do the pages of a block at an end of what `plan` has changed differ?
///
/// They do if one of those that haven't changed does. The neighbours of the change are asked first:
/// where memory is converted page by page, one of them differs nearly always, and the rest of the
/// block needs no look.
fn is_mixed(block: &GfnRange, plan: &Plan, store: &AttrStore) -> bool {
    let (hull, attrs) = (plan.hull(), plan.attrs());
    let before = GfnRange::new(block.start(), hull.start());
    let after = GfnRange::new(hull.end(), block.end());
    let differs = |rest: GfnRange| !store.uniform(&rest, Attrs::ALL, attrs);

    before.is_some_and(|rest| store.get(rest.last()) != attrs)
        || after.is_some_and(differs)
        || before.is_some_and(differs)
}

/// Sets the huge-page state of a new slot, from what is stored for its gfns.
pub(crate) fn init_slot(slot: &NewSlot<'_>, store: &AttrStore) {
    let Some(range) = GfnRange::new(slot.start(), slot.end()) else {
        return;
    };
    // Each change from one run to the next is within a block, or between two.
    for run in Unhurried(store, cond_resched).runs(&range) {
        for level in LEVELS {
            let block = GfnRange::block(run.range.start(), level.nr_pages());
            if block.start() < run.range.start() && range.contains(&block) {
                slot.set_mixed(block.start(), block.end(), level);
            }
        }
    }
}
