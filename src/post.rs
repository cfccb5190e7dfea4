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
        HUGEPAGES, //
    },
    range::GfnRange,
    runs::{
        Runs,
        Unhurried, //
    },
    store::AttrStore, //
};

/// The levels at which KVM maps hugepages.
const LEVELS: [HugeLevel; 2] = [HugeLevel::Size2M, HugeLevel::Size1G];
/// The number of pages of the smallest hugepage, as a power of two.
const SMALLEST: u32 = HugeLevel::Size2M.nr_pages().ilog2();

// What the plan, which uses only `core`, says itself.
const _: () = assert!(HUGEPAGES[0] == HugeLevel::Size1G.nr_pages());
const _: () = assert!(HUGEPAGES[1] == HugeLevel::Size2M.nr_pages());

/// Brings the huge-page state up to date with what has been stored for `plan`, and ends the
/// invalidation.
pub(crate) fn finish(zapped: Zapped<'_>, plan: &Plan, store: &AttrStore) {
    // Looking at pages takes time, which is better spent before mmu_lock is taken: slots_lock is
    // held, so that the answers stay true.
    let hull = plan.hull();
    let (head, differ) = store.around(hull.start(), SMALLEST);
    let tail = if hull.nr_pages() == 1 {
        if differ {
            // The blocks around the page were mixed, and are: that's what's recorded.
            return;
        }
        head
    } else {
        store.around(hull.last(), SMALLEST).0
    };
    let same = [head, tail];
    let small = Ends::look(HugeLevel::Size2M, plan, store, &same, None);
    let large = Ends::look(HugeLevel::Size1G, plan, store, &same, Some(&small));

    // The lock may be released while the state of many blocks is written: what's stored is in force,
    // so that each state is final.
    let mut ending = zapped.lock();
    for ends in [small, large] {
        ends.record(&mut ending);
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
    /// ends that are known to have the same attributes.
    fn look(
        level: HugeLevel,
        plan: &Plan,
        store: &AttrStore,
        same: &[GfnRange; 2],
        below: Option<&Self>,
    ) -> Self {
        let block = |gfn, same: &GfnRange, below: Option<&Block>| {
            let range = GfnRange::block(gfn, level.nr_pages());
            // A block with a mixed one in it needs no look, nor does one that's part of what's the
            // same.
            let mixed = below.is_some_and(|b| b.mixed)
                || !same.contains(&range) && is_mixed(&range, plan, store);
            Block { range, mixed }
        };
        let (first, last) = (plan.hull().start(), plan.hull().last());
        let head = block(first, &same[0], below.map(|b| &b.head));
        let tail = (last >= head.range.end()).then(|| {
            let below = below.map(|b| b.tail.as_ref().unwrap_or(&b.head));
            block(last, &same[1], below)
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
