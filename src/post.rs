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

/// The levels at which KVM maps hugepages, with their sizes in pages.
const LEVELS: [(HugeLevel, u64); 2] = [
    (HugeLevel::Size2M, 1 << 9),
    (HugeLevel::Size1G, 1 << 18), //
];

/// Brings the huge-page state up to date with what has been stored for `plan`, and ends the
/// invalidation.
pub(crate) fn finish(zapped: Zapped<'_>, plan: &Plan, store: &AttrStore) {
    let mut ending = zapped.lock();
    for (level, nr_pages) in LEVELS {
        update(&mut ending, plan.hull(), level, nr_pages, store);
    }
}

/// All pages of `hull` have become equal, so that only the blocks at its ends need to be looked at.
fn update(
    ending: &mut Ending<'_>,
    hull: &GfnRange,
    level: HugeLevel,
    nr_pages: u64,
    store: &AttrStore,
) {
    let head = GfnRange::block(hull.start(), nr_pages);
    let tail = GfnRange::block(hull.last(), nr_pages);

    for block in [head, tail] {
        let mixed = !hull.contains(&block) && !store.is_uniform(&block);
        ending.set_mixed(block.start(), block.end(), level, mixed);
    }
    if let Some(middle) = GfnRange::new(head.end(), tail.start()) {
        ending.set_mixed(middle.start(), middle.end(), level, false);
    }
}

/// Sets the huge-page state of a new slot, from what is stored for its gfns.
pub(crate) fn init_slot(slot: &NewSlot<'_>, store: &AttrStore) {
    let Some(range) = GfnRange::new(slot.start(), slot.end()) else {
        return;
    };
    // Each change from one run to the next is within a block, or between two.
    for run in store.runs(&range) {
        for (level, nr_pages) in LEVELS {
            let block = GfnRange::block(run.range.start(), nr_pages);
            if block.start() < run.range.start() && range.contains(&block) {
                slot.set_mixed(block.start(), block.end(), level);
            }
        }
    }
}
