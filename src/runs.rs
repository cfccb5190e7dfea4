// SPDX-License-Identifier: GPL-2.0

//! Runs: stretches of pages with the same attributes.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::gfn::{
        Gfn,
        PageNumber, //
    },
    range::PageRange, //
};

/// A stretch of pages with the same attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run<P = Gfn> {
    /// The pages.
    pub(crate) range: PageRange<P>,
    /// The attributes of each of them.
    pub(crate) attrs: Attrs,
}

/// Something that knows the attributes of each page.
pub(crate) trait Runs<P: PageNumber = Gfn> {
    /// The longest run from the first page of `range` on, within `range`.
    fn first_run(&self, range: &PageRange<P>) -> Run<P>;

    /// All runs of `range`, in order. Neighbours differ in their attributes, unless these change
    /// meanwhile.
    fn runs(&self, range: &PageRange<P>) -> RunIter<'_, Self, P> {
        RunIter {
            source: self,
            rest: Some(*range),
        }
    }

    /// Do all pages of `range` have, of the attributes in `mask`, those in `value`?
    fn uniform(&self, range: &PageRange<P>, mask: Attrs, value: Attrs) -> bool {
        self.runs(range).all(|run| run.attrs.masked(mask) == value)
    }
}

/// Iterator over the runs of a range.
pub(crate) struct RunIter<'a, R: ?Sized, P = Gfn> {
    source: &'a R,
    rest: Option<PageRange<P>>,
}

impl<P: PageNumber, R: Runs<P> + ?Sized> Iterator for RunIter<'_, R, P> {
    type Item = Run<P>;

    #[inline]
    fn next(&mut self) -> Option<Run<P>> {
        let rest = self.rest?;
        let run = self.source.first_run(&rest);
        self.rest = PageRange::new(run.range.end(), rest.end());
        Some(run)
    }
}

/// The pages of `range` from `from` on, or `None` if there's none.
pub(crate) fn rest_from<P: PageNumber>(range: &PageRange<P>, from: P) -> Option<PageRange<P>> {
    PageRange::new(from.max(range.start()), range.end())
}

/// The same runs for somebody who may sleep, which excludes whoever holds mmu_lock, and lets others
/// run between two of them.
pub(crate) struct Unhurried<'a, R>(pub(crate) &'a R, pub(crate) fn());

impl<P: PageNumber, R: Runs<P>> Runs<P> for Unhurried<'_, R> {
    fn first_run(&self, range: &PageRange<P>) -> Run<P> {
        self.1();
        self.0.first_run(range)
    }
}

/// Attributes of a few pages, for tests.
#[cfg(any(test, KMA_KUNIT))]
pub(crate) mod testing {
    use super::*;
    use crate::range::GfnRange;

    /// The pages from gfn 0 on, one character each: `P` is private, `W` not writable, `X` not
    /// executable, `R` not even readable, `.` nothing of that, as are all further pages.
    pub(crate) struct Pages(pub(crate) &'static [u8]);

    impl Pages {
        pub(crate) fn attrs(&self, gfn: Gfn) -> Attrs {
            match self.0.get(gfn.raw() as usize) {
                Some(b'P') => Attrs::PRIVATE,
                Some(b'W') => Attrs::NW,
                Some(b'X') => Attrs::NX,
                Some(b'R') => Attrs::RESTRICTIONS,
                _ => Attrs::NONE,
            }
        }
    }

    impl Runs for Pages {
        fn first_run(&self, range: &GfnRange) -> Run {
            let attrs = self.attrs(range.start());
            let end = range.pages().find(|gfn| self.attrs(*gfn) != attrs);
            Run {
                range: GfnRange::new(range.start(), end.unwrap_or(range.end())).unwrap_or(*range),
                attrs,
            }
        }
    }

    pub(crate) fn range(start: u64, end: u64) -> GfnRange {
        GfnRange::new(Gfn::new(start), Gfn::new(end)).unwrap_or(GfnRange::block(Gfn::new(start), 1))
    }
}

#[cfg(any(test, KMA_KUNIT))]
#[cfg_attr(
    KMA_KUNIT,
    allow(unsafe_code),
    kernel::prelude::kunit_tests(kvm_memattr_runs)
)]
mod tests {
    use super::testing::*;
    use super::*;

    #[test]
    fn runs_alternate_and_cover_the_range() {
        let pages = Pages(b"..PP.P");
        let mut runs = pages.runs(&range(1, 8));
        for (start, end, attrs) in [
            (1, 2, Attrs::NONE),
            (2, 4, Attrs::PRIVATE),
            (4, 5, Attrs::NONE),
            (5, 6, Attrs::PRIVATE),
            (6, 8, Attrs::NONE),
        ] {
            let range = range(start, end);
            assert!(runs.next() == Some(Run { range, attrs }));
        }
        assert!(runs.next().is_none());
    }

    #[test]
    fn uniform_means_each_page() {
        let pages = Pages(b"..PP.P");
        assert!(pages.uniform(&range(2, 4), Attrs::ALL, Attrs::PRIVATE));
        assert!(!pages.uniform(&range(2, 4), Attrs::ALL, Attrs::NONE));
        assert!(!pages.uniform(&range(2, 5), Attrs::ALL, Attrs::PRIVATE));
        assert!(!pages.uniform(&range(1, 4), Attrs::ALL, Attrs::PRIVATE));
        assert!(pages.uniform(&range(6, 1000), Attrs::ALL, Attrs::NONE));
        // What isn't asked for may differ.
        assert!(pages.uniform(&range(0, 8), Attrs::from_raw(7), Attrs::NONE));
    }

    #[test]
    fn rest_starts_no_earlier_than_the_range() {
        assert!(rest_from(&range(5, 9), Gfn::new(0)) == Some(range(5, 9)));
        assert!(rest_from(&range(5, 9), Gfn::new(7)) == Some(range(7, 9)));
        assert!(rest_from(&range(5, 9), Gfn::new(9)).is_none());
    }
}
