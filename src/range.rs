// SPDX-License-Identifier: GPL-2.0

//! Ranges of pages.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::host::gfn::{
    Gfn,
    Index,
    PageNumber, //
};

/// A range of gfns.
pub(crate) type GfnRange = PageRange<Gfn>;
/// A range of a guest_memfd's pages.
pub(crate) type IndexRange = PageRange<Index>;

/// A range of pages, `[start, end)`.
///
/// # Invariants
///
/// It isn't empty: `start < end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageRange<P> {
    start: P,
    end: P,
}

impl<P: PageNumber> PageRange<P> {
    /// The range `[start, end)`, or `None` if that's empty.
    pub(crate) fn new(start: P, end: P) -> Option<Self> {
        // INVARIANT: Not empty.
        (start < end).then_some(Self { start, end })
    }

    /// The aligned block of `nr_pages` pages around one. `nr_pages` must be a power of two.
    pub(crate) fn block(page: P, nr_pages: u64) -> Self {
        let start = page.raw() & !(nr_pages - 1);
        // INVARIANT: A block has at least one page, and its number is far from the end of `u64`.
        Self {
            start: P::new(start),
            end: P::new(start + nr_pages),
        }
    }

    /// First page.
    pub(crate) fn start(&self) -> P {
        self.start
    }

    /// First page after the range.
    pub(crate) fn end(&self) -> P {
        self.end
    }

    /// Last page.
    pub(crate) fn last(&self) -> P {
        P::new(self.end.raw() - 1)
    }

    /// Number of pages.
    pub(crate) fn nr_pages(&self) -> u64 {
        self.end.raw() - self.start.raw()
    }

    /// Are all pages of `other` in it?
    pub(crate) fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// The pages that are in `other`, too, or `None` if there's none.
    pub(crate) fn intersection(&self, other: &Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// All of its pages, for tests: what isn't a test has blocks to go by.
    #[cfg(any(test, KMA_KUNIT))]
    pub(crate) fn pages(&self) -> impl Iterator<Item = P> {
        (self.start.raw()..self.end.raw()).map(P::new)
    }
}

#[cfg(any(test, KMA_KUNIT))]
#[cfg_attr(
    KMA_KUNIT,
    allow(unsafe_code),
    kernel::prelude::kunit_tests(kvm_memattr_range)
)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Option<GfnRange> {
        GfnRange::new(Gfn::new(start), Gfn::new(end))
    }

    #[test]
    fn empty_and_reversed_are_no_ranges() {
        assert!(range(5, 5).is_none());
        assert!(range(6, 5).is_none());
        assert!(range(5, 6).is_some());
    }

    #[test]
    fn block_is_aligned() {
        assert!(Some(GfnRange::block(Gfn::new(0), 512)) == range(0, 512));
        assert!(Some(GfnRange::block(Gfn::new(511), 512)) == range(0, 512));
        assert!(Some(GfnRange::block(Gfn::new(512), 512)) == range(512, 1024));
        assert!(Some(GfnRange::block(Gfn::new(7), 1)) == range(7, 8));
    }

    #[test]
    fn contains_only_all_of_it() {
        let outer = range(10, 20);
        for (start, end, inside) in [
            (10, 20, true),
            (10, 11, true),
            (19, 20, true),
            (9, 20, false),
            (10, 21, false),
            (0, 5, false),
        ] {
            let both = outer.zip(range(start, end));
            assert!(both.is_some_and(|(outer, inner)| outer.contains(&inner) == inside));
        }
    }

    #[test]
    fn counts_pages() {
        let r = range(10, 20);
        assert!(r.is_some_and(|r| r.nr_pages() == 10));
        assert!(r.is_some_and(|r| r.last() == Gfn::new(19)));
        assert!(r.is_some_and(|r| r.pages().count() == 10));
    }

    #[test]
    fn intersection_has_what_both_have() {
        let of = |a: Option<GfnRange>, b: Option<GfnRange>| a?.intersection(&b?);
        assert!(of(range(1, 5), range(3, 9)) == range(3, 5));
        assert!(of(range(1, 9), range(3, 5)) == range(3, 5));
        assert!(of(range(1, 3), range(3, 5)).is_none());
    }
}
