// SPDX-License-Identifier: GPL-2.0

//! Huge-page state: which hugepages can't be used, as their pages differ in attributes.

#![deny(unsafe_code)]

use crate::{
    host::{
        invalidation::{
            Ending,
            Zapped, //
        },
        memslot::{
            HugeLevel,
            NewSlot, //
        },
    },
    plan::Plan,
    range::GfnRange,
    runs::Runs,
    store::AttrStore, //
};

/// The levels at which KVM maps hugepages.
const LEVELS: [HugeLevel; 2] = [HugeLevel::Size2M, HugeLevel::Size1G];

/// Brings the huge-page state up to date with what has been stored for `plan`, and ends the
/// invalidation.
pub(crate) fn finish(zapped: Zapped<'_>, plan: &Plan, store: &AttrStore) {
    // Looking at pages takes time, which is better spent before mmu_lock is taken: slots_lock is
    // held, so that the answers stay true.
    let ends = LEVELS.map(|level| Ends::look(level, plan.hull(), store));

    let mut ending = zapped.lock();
    for end in ends {
        end.record(&mut ending);
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
    fn look(level: HugeLevel, hull: &GfnRange, store: &AttrStore) -> Self {
        let block = |gfn| {
            let range = GfnRange::block(gfn, level.nr_pages());
            Block {
                range,
                mixed: !hull.contains(&range) && !store.is_uniform(&range),
            }
        };
        Self {
            level,
            head: block(hull.start()),
            tail: block(hull.last()),
        }
    }

    fn record(&self, ending: &mut Ending<'_>) {
        for block in [&self.head, &self.tail] {
            let (start, end) = (block.range.start(), block.range.end());
            ending.set_mixed(start, end, self.level, block.mixed);
        }
        if let Some(middle) = GfnRange::new(self.head.range.end(), self.tail.range.start()) {
            ending.set_mixed(middle.start(), middle.end(), self.level, false);
        }
    }
}

/// Sets the huge-page state of a new slot, from what is stored for its gfns.
pub(crate) fn init_slot(slot: &NewSlot<'_>, store: &AttrStore) {
    let Some(range) = GfnRange::new(slot.start(), slot.end()) else {
        return;
    };
    // Each change from one run to the next is within a block, or between two.
    for run in store.runs(&range) {
        for level in LEVELS {
            let block = GfnRange::block(run.range.start(), level.nr_pages());
            if block.start() < run.range.start() && range.contains(&block) {
                slot.set_mixed(block.start(), block.end(), level);
            }
        }
    }
}
