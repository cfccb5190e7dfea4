// SPDX-License-Identifier: GPL-2.0

//! The attributes of each page.
//!
//! Readers take RCU only and may run in any context. Writers hold slots_lock, and change the store in
//! two steps: [`AttrStore::reserve`] may fail and changes nothing that a reader could see,
//! [`AttrStore::commit`] can't fail.
//!
//! One entry a page; a page without an entry has the default attributes.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::{
        gfn::Gfn,
        invalidation::Zapped,
        vm::SlotsGuard,
        xarray::ValueXArray, //
    },
    plan::Plan,
    range::GfnRange,
    runs::{
        Run,
        Runs, //
    },
};
use kernel::prelude::*;

/// Attributes by gfn.
#[pin_data]
pub(crate) struct AttrStore {
    #[pin]
    entries: ValueXArray,
    default: Attrs,
}

impl AttrStore {
    /// A store in which all pages have the attributes `default`.
    pub(crate) fn new(default: Attrs) -> impl PinInit<Self> {
        pin_init!(Self {
            entries <- ValueXArray::new(),
            default,
        })
    }

    /// The attributes of a page.
    #[inline]
    pub(crate) fn get(&self, gfn: Gfn) -> Attrs {
        self.entries
            .load(gfn.raw())
            .map_or(self.default, Attrs::from_raw)
    }

    /// Gets all memory that committing `plan` takes. The reservation is undone when it's dropped
    /// without having been committed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, with the store as it was.
    pub(crate) fn reserve<'a>(
        &'a self,
        slots: &'a SlotsGuard<'a>,
        plan: &Plan,
    ) -> Result<Reserved<'a>> {
        let mut reserved = Reserved {
            store: self,
            _slots: slots,
            range: *plan.hull(),
            attrs: plan.attrs(),
            unused: plan.hull().start(),
        };
        reserved.reserve()?;
        Ok(reserved)
    }

    /// Makes a reservation true. `_zapped` shows that no page fault can use the old attributes any
    /// more.
    pub(crate) fn commit(mut reserved: Reserved<'_>, _zapped: &Zapped<'_>) {
        let (store, range) = (reserved.store, reserved.range);

        // What is stored needs no undoing.
        reserved.unused = range.start();
        if reserved.attrs == store.default {
            // Only what is there, the range can be far larger.
            let mut from = range.start().raw();
            while let Some((index, _)) = store.entries.find(from, range.last().raw()) {
                store.entries.erase(index);
                from = index;
            }
        } else {
            for gfn in range.gfns() {
                store
                    .entries
                    .store_reserved(gfn.raw(), reserved.attrs.raw());
            }
        }
    }
}

impl Runs for AttrStore {
    fn first_run(&self, range: &GfnRange) -> Run {
        let attrs = self.get(range.start());
        let mut end = range.start();

        // From entry to entry, over the gaps, which have the default attributes.
        loop {
            end = match self.entries.find(end.raw(), range.last().raw()) {
                Some((index, _)) if index > end.raw() && attrs == self.default => Gfn::new(index),
                Some((index, word)) if index == end.raw() && Attrs::from_raw(word) == attrs => {
                    Gfn::new(index + 1)
                }
                None if attrs == self.default => range.end(),
                _ => break,
            };
            if end >= range.end() {
                break;
            }
        }

        // A concurrent change can leave an empty run, which isn't one.
        Run {
            range: GfnRange::new(range.start(), end).unwrap_or(GfnRange::block(range.start(), 1)),
            attrs,
        }
    }
}

/// Memory for a change of the store, and the right to make it.
#[must_use = "the reservation is undone when it's dropped"]
pub(crate) struct Reserved<'a> {
    store: &'a AttrStore,
    _slots: &'a SlotsGuard<'a>,
    range: GfnRange,
    attrs: Attrs,
    /// The pages from the start of the range to this one have reservations that nobody uses.
    unused: Gfn,
}

impl Reserved<'_> {
    fn reserve(&mut self) -> Result {
        // Going back to the default removes entries, which allocates nothing.
        if self.attrs == self.store.default {
            return Ok(());
        }
        for gfn in self.range.gfns() {
            self.store.entries.reserve(gfn.raw())?;
            self.unused = Gfn::new(gfn.raw() + 1);
        }
        Ok(())
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(unused) = GfnRange::new(self.range.start(), self.unused) {
            for gfn in unused.gfns() {
                self.store.entries.release(gfn.raw());
            }
        }
    }
}
