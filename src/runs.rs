// SPDX-License-Identifier: GPL-2.0

//! Runs: stretches of pages with the same word.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::{
    host::gfn::{
        Gfn,
        PageNumber, //
    },
    range::PageRange,
    word::{
        Change,
        Word, //
    },
};

/// A stretch of pages with the same word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run<P = Gfn> {
    /// The pages.
    pub(crate) range: PageRange<P>,
    /// The word of each of them.
    pub(crate) word: Word,
}

/// Something that knows the word of each page.
pub(crate) trait Runs<P: PageNumber = Gfn> {
    /// The longest run from the first page of `range` on, within `range`.
    fn first_run(&self, range: &PageRange<P>) -> Run<P>;

    /// All runs of `range`, in order. Neighbours differ in their words, unless these change
    /// meanwhile.
    fn runs(&self, range: &PageRange<P>) -> RunIter<'_, Self, P> {
        RunIter {
            source: self,
            rest: Some(*range),
        }
    }

    /// Is something true of the words of all pages of `range`?
    fn all(&self, range: &PageRange<P>, is: impl Fn(Word) -> bool) -> bool {
        self.runs(range).all(|run| is(run.word))
    }

    /// As [`Self::all`], for somebody in a hurry: also if there's more to look at than that allows.
    fn all_at_a_glance(&self, range: &PageRange<P>, is: impl Fn(Word) -> bool) -> bool {
        let mut runs = self.runs(range).take(RUNS_AT_A_GLANCE);
        runs.all(|run| is(run.word))
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

/// How many runs of a plan are dealt with while mmu_lock, or the store's lock, is held at a stretch. The
/// plans of a batch are as a rule one run each, and share one flush.
pub(crate) const RUNS_AT_ONCE: usize = 64;

/// How many runs somebody in a hurry looks at: those of a block of 2 MiB, whatever it has.
const RUNS_AT_A_GLANCE: usize = 512;

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

/// What changes, piece by piece.
pub(crate) trait Pieces<P: PageNumber = Gfn> {
    /// How many there are.
    fn nr(&self) -> usize;
    /// One of them: its pages, and what becomes of them.
    fn piece(&self, n: usize) -> (PageRange<P>, Change);
}

/// The only one.
impl<P: PageNumber> Pieces<P> for (PageRange<P>, Change) {
    fn nr(&self) -> usize {
        1
    }

    fn piece(&self, _n: usize) -> (PageRange<P>, Change) {
        *self
    }
}

/// Attributes of a few pages, for tests.
#[cfg(any(test, KMA_KUNIT))]
pub(crate) mod testing {
    use super::*;
    use crate::{
        attrs::Attrs,
        range::GfnRange,
        word::Layer, //
    };

    /// The pages from gfn 0 on, one character each: `P` is private, `W` not writable, `X` not
    /// executable, `R` not even readable, `w` and `x` the same by layer 1, `.` nothing of that, as are
    /// all further pages.
    pub(crate) struct Pages(pub(crate) &'static [u8]);

    impl Pages {
        pub(crate) fn word(&self, gfn: Gfn) -> Word {
            match self.0.get(gfn.raw() as usize) {
                Some(b'P') => Word::PRIVATE,
                Some(b'W') => Word::base(Attrs::NW),
                Some(b'X') => Word::base(Attrs::NX),
                Some(b'R') => Word::base(Attrs::RESTRICTIONS),
                Some(b'w') => layer_1(Attrs::NW).apply(Word::NONE),
                Some(b'x') => layer_1(Attrs::NX).apply(Word::NONE),
                _ => Word::NONE,
            }
        }
    }

    impl Runs for Pages {
        fn first_run(&self, range: &GfnRange) -> Run {
            let word = self.word(range.start());
            let end = range.pages().find(|gfn| self.word(*gfn) != word);
            Run {
                range: GfnRange::new(range.start(), end.unwrap_or(range.end())).unwrap_or(*range),
                word,
            }
        }
    }

    /// Layer 1 gets these restrictions.
    pub(crate) fn layer_1(attrs: Attrs) -> Change {
        let layer = Layer::new(1).unwrap_or(Layer::BASE);
        Change::layer(layer, Attrs::RESTRICTIONS, attrs)
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
    use crate::{
        attrs::Attrs,
        range::GfnRange, //
    };

    #[test]
    fn runs_alternate_and_cover_the_range() {
        let pages = Pages(b"..PP.P");
        let mut runs = pages.runs(&range(1, 8));
        for (start, end, word) in [
            (1, 2, Word::NONE),
            (2, 4, Word::PRIVATE),
            (4, 5, Word::NONE),
            (5, 6, Word::PRIVATE),
            (6, 8, Word::NONE),
        ] {
            let range = range(start, end);
            assert!(runs.next() == Some(Run { range, word }));
        }
        assert!(runs.next().is_none());
    }

    #[test]
    fn all_means_each_page() {
        let pages = Pages(b"..PP.P");
        let private = |start, end| pages.all(&range(start, end), Word::is_private);
        assert!(private(2, 4));
        assert!(!private(2, 5));
        assert!(!private(1, 4));
        assert!(pages.all(&range(6, 1000), |word| word == Word::NONE));
        // What isn't asked for may differ.
        let readable = |word: Word| !word.enforced().contains(Attrs::NR);
        assert!(pages.all(&range(0, 8), readable));
    }

    #[test]
    fn a_glance_is_not_endless() {
        // Each page differs from the next one, and one can be executed.
        struct Stripes(u64);
        impl Runs for Stripes {
            fn first_run(&self, range: &GfnRange) -> Run {
                let at = range.start();
                let odd = layer_1(if at.raw() % 2 == 0 {
                    Attrs::NONE
                } else {
                    Attrs::NX
                });
                Run {
                    range: GfnRange::block(at, 1),
                    word: odd.apply(Word::base(if at.raw() == self.0 {
                        Attrs::NW
                    } else {
                        Attrs::NX
                    })),
                }
            }
        }
        let all = range(0, 1 << 10);
        let denied = |word: Word| word.enforced().masked(Attrs::NX) == Attrs::NX;
        for (differs, seen) in [(0, true), (510, true), (512, false), (1022, false)] {
            let stripes = Stripes(differs);
            assert!(!stripes.all(&all, denied));
            assert!(stripes.all_at_a_glance(&all, denied) != seen);
        }
    }

    #[test]
    fn rest_starts_no_earlier_than_the_range() {
        assert!(rest_from(&range(5, 9), Gfn::new(0)) == Some(range(5, 9)));
        assert!(rest_from(&range(5, 9), Gfn::new(7)) == Some(range(7, 9)));
        assert!(rest_from(&range(5, 9), Gfn::new(9)).is_none());
    }
}
