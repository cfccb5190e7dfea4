// SPDX-License-Identifier: GPL-2.0

//! A batch: several requests that take effect together.
//!
//! Entries are applied in order, i.e. where they overlap the later one has the last word. As no page
//! is ever seen in between, what counts is what each page ends up with: so the entries are cut into
//! disjoint pieces, each with what all entries that cover it come to.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::{
        gfn::Gfn,
        sched::cond_resched,
        sort::sort, //
    },
    range::GfnRange,
    request::{
        RawEntry,
        Rejection,
        SetRequest, //
    },
    word::{
        Change,
        Word, //
    },
};
use kernel::prelude::*;

/// The most entries of a batch.
pub(crate) const MOST: u32 = 4096;

/// A gfn and the number of an entry are sorted as one integer, which is faster. So the number has
/// as many bits as an offset within a page.
const ENTRY_BITS: u32 = MOST.ilog2();
const _: () = assert!(MOST.is_power_of_two() && ENTRY_BITS <= 12);

/// Entries that have been checked, in order.
pub(crate) struct Batch(KVVec<SetRequest>);

/// A stretch of pages that entries cover, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) range: GfnRange,
    pub(crate) change: Change,
}

impl Batch {
    /// A batch that there's memory for `nr` entries in.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(nr: u32) -> Result<Self> {
        Ok(Self(KVVec::with_capacity(nr as usize, GFP_KERNEL_ACCOUNT)?))
    }

    /// Checks the next entry for a VM that supports the attributes in `supported`, and adds it.
    pub(crate) fn push(&mut self, raw: RawEntry, supported: Attrs) -> Result<(), Rejection> {
        let request = SetRequest::check_entry(raw, supported)?;
        self.0
            .push_within_capacity(request)
            .map_err(|_| Rejection::Number)
    }

    /// Disjoint pieces in the order of their gfns. A list of pages that are next to each other is one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn pieces(&self) -> Result<KVVec<Piece>> {
        let mut keys: KVVec<u64> = KVVec::with_capacity(self.0.len(), GFP_KERNEL_ACCOUNT)?;
        for (request, entry) in self.0.iter().zip(0..) {
            let key = request.range().start().raw() << ENTRY_BITS | entry;
            keys.push(key, GFP_KERNEL_ACCOUNT)?;
        }
        sort(&mut keys);

        let mut joined = Joined(KVVec::with_capacity(self.0.len(), GFP_KERNEL_ACCOUNT)?);
        for key in &keys {
            let request = &self.0[(*key % u64::from(MOST)) as usize];
            if joined
                .end()
                .is_some_and(|end| request.range().start() < end)
            {
                return self.joined_parts();
            }
            joined.push(Piece {
                range: *request.range(),
                change: request.change(),
            })?;
        }
        Ok(joined.0)
    }

    /// As [`Self::pieces`], of entries that overlap.
    fn joined_parts(&self) -> Result<KVVec<Piece>> {
        let mut joined = Joined(KVVec::new());
        for part in &self.parts()? {
            joined.push(*part)?;
        }
        Ok(joined.0)
    }

    /// Disjoint parts in the order of their gfns, all pages of each of which are covered by the same
    /// entries.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn parts(&self) -> Result<KVVec<Piece>> {
        let mut cuts: KVVec<Gfn> = KVVec::with_capacity(2 * self.0.len(), GFP_KERNEL_ACCOUNT)?;
        for request in &self.0 {
            cuts.push(request.range().start(), GFP_KERNEL_ACCOUNT)?;
            cuts.push(request.range().end(), GFP_KERNEL_ACCOUNT)?;
        }
        sort(&mut cuts);

        // Between each two neighbours, some of which may be the same, a part or nothing.
        let mut between: KVVec<Option<Change>> =
            KVVec::with_capacity(cuts.len(), GFP_KERNEL_ACCOUNT)?;
        for _ in &cuts {
            between.push(None, GFP_KERNEL_ACCOUNT)?;
        }
        for request in &self.0 {
            let place = |gfn: Gfn| cuts.partition_point(|cut| *cut < gfn);
            let (first, end) = (place(request.range().start()), place(request.range().end()));
            for covered in &mut between[first..end] {
                let change = request.change();
                *covered = Some(covered.map_or(change, |before| before.then(change)));
            }
            cond_resched();
        }

        let mut parts = KVVec::with_capacity(cuts.len(), GFP_KERNEL_ACCOUNT)?;
        for (pair, covered) in cuts.windows(2).zip(&between) {
            let range = GfnRange::new(pair[0], pair[1]);
            if let Some((range, change)) = range.zip(*covered) {
                parts.push(Piece { range, change }, GFP_KERNEL_ACCOUNT)?;
            }
        }
        Ok(parts)
    }

    /// Who has the last say in what becomes of a page.
    pub(crate) fn last_say(&self, page: Gfn) -> LastSay {
        let page = GfnRange::block(page, 1);
        let mut say = LastSay([None; u64::BITS as usize]);
        for (request, entry) in self.0.iter().zip(0..) {
            if !request.range().contains(&page) {
                continue;
            }
            let mut bits = request.change().about().raw();
            while bits != 0 {
                say.0[bits.trailing_zeros() as usize] = Some(entry);
                bits &= bits - 1;
            }
        }
        say
    }
}

/// The number of the last entry that says what becomes of a bit of a page's word, by bit.
pub(crate) struct LastSay([Option<u32>; u64::BITS as usize]);

impl LastSay {
    /// The last entry with a say in any of these bits, to blame if a page can't have them.
    pub(crate) fn in_any_of(&self, bits: Word) -> Option<u32> {
        let bits = (0..)
            .zip(&self.0)
            .filter(|(bit, _)| bits.raw() >> bit & 1 != 0);
        bits.filter_map(|(_, last)| *last).max()
    }
}

/// Pieces in order, each as long as it can be.
struct Joined(KVVec<Piece>);

impl Joined {
    /// The first page behind what there is.
    fn end(&self) -> Option<Gfn> {
        self.0.last().map(|piece| piece.range.end())
    }

    /// Adds a piece that doesn't begin before that.
    fn push(&mut self, next: Piece) -> Result {
        if let Some(last) = self.0.last_mut() {
            if last.range.end() == next.range.start() && last.change == next.change {
                last.range =
                    GfnRange::new(last.range.start(), next.range.end()).unwrap_or(next.range);
                return Ok(());
            }
        }
        Ok(self.0.push(next, GFP_KERNEL_ACCOUNT)?)
    }
}

#[cfg(KMA_KUNIT)]
#[allow(unsafe_code)]
#[kunit_tests(kvm_memattr_batch)]
mod tests {
    use super::*;
    use crate::runs::testing::range;

    fn raw(start: u64, end: u64, attributes: u64, mask: u64) -> RawEntry {
        RawEntry {
            address: start << 12,
            size: (end - start) << 12,
            attributes,
            mask,
            layer: 0,
            pad: 0,
        }
    }

    fn batch(entries: &[RawEntry]) -> Result<Batch> {
        let mut batch = Batch::new(8)?;
        for raw in entries {
            batch
                .push(*raw, Attrs::supported(None))
                .map_err(|_| EINVAL)?;
        }
        Ok(batch)
    }

    /// Are these the pieces, with what becomes of a page with NW?
    fn are(entries: &[RawEntry], want: &[(u64, u64, u64)]) -> Result<bool> {
        let pieces = batch(entries)?.pieces()?;
        let want = want
            .iter()
            .map(|(start, end, raw)| (range(*start, *end), Word::base(Attrs::from_raw(*raw))));
        let nw = Word::base(Attrs::NW);
        Ok(pieces
            .iter()
            .map(|piece| (piece.range, piece.change.apply(nw)))
            .eq(want))
    }

    #[test]
    fn a_bad_entry_is_refused() -> Result {
        let mut batch = Batch::new(1)?;
        let supported = Attrs::supported(None);
        let bad = batch.push(raw(1, 2, 1, 7), supported).err();
        assert!(bad == Some(Rejection::InvalidCombination));
        assert!(batch.push(raw(1, 2, 2, 7), supported).is_ok());
        assert!(batch.push(raw(1, 2, 2, 7), supported).err() == Some(Rejection::Number));
        Ok(())
    }

    #[test]
    fn what_is_disjoint_is_sorted() -> Result {
        assert!(are(
            &[raw(5, 6, 4, 7), raw(1, 2, 2, 7), raw(2, 3, 0, 7)],
            &[(1, 2, 2), (2, 3, 0), (5, 6, 4)],
        )?);
        Ok(())
    }

    #[test]
    fn pages_next_to_each_other_are_one_piece() -> Result {
        assert!(are(
            &[
                raw(5, 6, 4, 7),
                raw(3, 4, 4, 7),
                raw(4, 5, 4, 7),
                raw(7, 8, 4, 7),
                raw(8, 9, 4, 4)
            ],
            &[(3, 6, 4), (7, 8, 4), (8, 9, 6)],
        )?);
        // Where others overlap, too.
        assert!(are(
            &[raw(0, 4, 2, 7), raw(1, 2, 4, 7), raw(2, 3, 4, 7)],
            &[(0, 1, 2), (1, 3, 4), (3, 4, 2)],
        )?);
        Ok(())
    }

    #[test]
    fn where_entries_overlap_the_later_one_wins() -> Result {
        assert!(are(
            &[raw(0, 8, 4, 7), raw(2, 4, 0, 7), raw(6, 9, 6, 7)],
            &[(0, 2, 4), (2, 4, 0), (4, 6, 4), (6, 9, 6)],
        )?);
        // The same pages again.
        assert!(are(&[raw(1, 2, 4, 7), raw(1, 2, 0, 7)], &[(1, 2, 0)])?);
        Ok(())
    }

    #[test]
    fn parts_are_covered_by_the_same_entries() -> Result {
        let batch = batch(&[raw(0, 8, 4, 7), raw(8, 9, 4, 7), raw(2, 4, 4, 7)])?;
        assert!(batch.pieces()?.len() == 1);
        let parts = batch.parts()?;
        assert!(parts.iter().map(|part| part.range).eq([
            range(0, 2),
            range(2, 4),
            range(4, 8),
            range(8, 9)
        ]));
        Ok(())
    }

    #[test]
    fn the_last_entry_that_has_a_say_is_to_blame() -> Result {
        let layer = |raw: RawEntry, layer| RawEntry { layer, ..raw };
        let batch = batch(&[
            raw(0, 8, 4, 7),
            raw(2, 4, 0, 2),
            layer(raw(2, 6, 4, 7), 3),
            raw(9, 10, 4, 7),
        ])?;
        let (nw, nx) = (Word::base(Attrs::NW), Word::base(Attrs::NX));
        assert!(batch.last_say(Gfn::new(2)).in_any_of(nw) == Some(1));
        assert!(batch.last_say(Gfn::new(2)).in_any_of(nx) == Some(0));
        assert!(batch.last_say(Gfn::new(4)).in_any_of(nw) == Some(0));
        assert!(batch
            .last_say(Gfn::new(4))
            .in_any_of(Word::PRIVATE)
            .is_none());
        assert!(batch.last_say(Gfn::new(8)).in_any_of(nw).is_none());
        assert!(batch.last_say(Gfn::new(9)).in_any_of(nw) == Some(3));
        Ok(())
    }

    #[test]
    fn as_many_as_there_may_be_are_sorted() -> Result {
        let mut batch = Batch::new(MOST)?;
        for n in 0..u64::from(MOST) {
            // Odd, so that each page comes once, and no two are next to each other.
            let page = 2 * (n * 1237 % u64::from(MOST));
            batch
                .push(raw(page, page + 1, 2, 2), Attrs::supported(None))
                .map_err(|_| EINVAL)?;
        }
        let pieces = batch.pieces()?;
        assert!(pieces.len() == MOST as usize);
        assert!(pieces
            .iter()
            .zip(0..)
            .all(|(piece, n)| piece.range == range(2 * n, 2 * n + 1)));
        Ok(())
    }

    #[test]
    fn where_masks_differ_both_count() -> Result {
        // NX is added, and NW dropped where the second one is.
        assert!(are(
            &[raw(0, 4, 4, 4), raw(2, 6, 0, 2)],
            &[(0, 2, 6), (2, 4, 4), (4, 6, 0)],
        )?);
        Ok(())
    }
}
