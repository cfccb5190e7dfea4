// SPDX-License-Identifier: GPL-2.0

//! The word of each page.
//!
//! An entry covers an aligned block of 64^k pages that have the same word; pages without an
//! entry have the default. Blocks are as large as they can be, so that what the store takes follows
//! from the words as they are, and not from how they came about; just the topmost node of the
//! tree is kept even if all of its blocks are the same.
//!
//! Readers take RCU only and may run in any context. There's one writer at a time, see [`Exclusive`],
//! which changes the store in two steps: [`AttrStore::reserve`] may fail and changes nothing that a
//! reader could see, [`AttrStore::commit`] can't fail. What a change costs follows from its two ends
//! and from the number of blocks between them; it's made in short steps.

#![deny(unsafe_code)]

use crate::{
    host::{
        gfn::{
            Gfn,
            PageNumber, //
        },
        sched::cond_resched,
        xarray::{
            Around,
            ValueXArray,
            CHUNK_SHIFT, //
        },
    },
    range::PageRange,
    runs::{
        Pieces,
        Run,
        Runs,
        RUNS_AT_ONCE, //
    },
    word::{
        Change,
        Word, //
    },
};
use core::marker::PhantomData;
use kernel::prelude::*;

/// All indices.
const ALL: (u64, u64) = (0, u64::MAX);

/// Proof that nobody else changes the store.
pub(crate) trait Exclusive {}

/// Proof that no page fault can use the old attributes of what is to change.
pub(crate) trait Quiesced {}

/// What a store consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Blocks that have an entry.
    pub(crate) blocks: u64,
    /// Nodes of the tree.
    pub(crate) nodes: u64,
    /// Reservations that nobody has used or given up: none, outside of a change.
    pub(crate) reservations: u64,
}

/// Words by gfn.
pub(crate) type AttrStore = Store<Gfn>;

/// Words by the number of a page.
#[pin_data]
pub(crate) struct Store<P> {
    #[pin]
    entries: ValueXArray,
    default: Word,
    _pages: PhantomData<fn(P)>,
}

impl<P: PageNumber> Store<P> {
    /// A store in which all pages have the word `default`.
    pub(crate) fn new(default: Word) -> impl PinInit<Self> {
        pin_init!(Self {
            entries <- ValueXArray::new(),
            default,
            _pages: PhantomData,
        })
    }

    /// The word of a page.
    #[inline]
    pub(crate) fn get(&self, page: P) -> Word {
        self.word(self.entries.load(page.raw()))
    }

    #[inline]
    fn word(&self, value: Option<u64>) -> Word {
        value.map_or(self.default, Word::from_raw)
    }

    /// The entry of a word, which the default has none of.
    fn value(&self, word: Word) -> Option<u64> {
        (word != self.default).then_some(word.raw())
    }

    /// Gets all memory that changing `pieces` takes. The reservation is undone when it's dropped
    /// without having been committed.
    ///
    /// There must be a piece. The pieces must be in order and disjoint, and the first and the last page
    /// of each ones that change.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, with the store as it was.
    pub(crate) fn reserve<'a, E: Exclusive, S: Pieces<P>>(
        &'a self,
        _writer: &'a E,
        pieces: S,
    ) -> Result<Reserved<'a, P, S>> {
        // Gives back what it has got when it's dropped, in each of the following returns.
        let mut reserved = Reserved {
            store: self,
            pieces,
            begun: 0,
            before: self.extent(),
            shortened: None,
            committed: false,
        };
        // What one piece stores must not take the ways to another one.
        let hold = reserved.pieces.nr() > 1;
        for n in 0..reserved.pieces.nr() {
            let (range, _) = reserved.pieces.piece(n);
            let (first, last) = (range.start().raw(), range.last().raw());
            reserved.begun = n + 1;
            // The blocks that tile a range are slots of the nodes on the ways to its two ends. The
            // last one first, since it makes the tree large enough for both.
            let order = block_order(range.end(), &range);
            self.entries.reserve(last, order, hold)?;
            if !PageRange::block(range.last(), 1 << order).contains(&range) {
                self.entries
                    .reserve(first, block_order(range.start(), &range), hold)?;
            }
            if hold {
                cond_resched();
            }
        }
        Ok(reserved)
    }

    /// Makes a reservation true. `_quiesced` shows that no page fault can use the old attributes any
    /// more. Sleeps if it takes long.
    pub(crate) fn commit<S: Pieces<P>, Q: Quiesced>(
        mut reserved: Reserved<'_, P, S>,
        _quiesced: &Q,
    ) {
        let store = reserved.store;
        reserved.committed = true;

        for (range, change) in reserved.each() {
            let mut at = range.start();
            while at < range.end() {
                at = store.commit_step(at, &range, change);
                cond_resched();
            }
        }

        if let Some((end, last)) = reserved.shortened {
            store.entries.release_from(end.raw());
            store.entries.release(last.raw(), u32::MAX);
        }

        // Only now, as one piece may be joined with what another one needs.
        let mut entries = store.entries.lock();
        for (n, (range, _)) in reserved.each().enumerate() {
            if n % RUNS_AT_ONCE == RUNS_AT_ONCE - 1 {
                drop(entries);
                cond_resched();
                entries = store.entries.lock();
            }
            entries.join(range.start().raw(), ALL, u32::MAX);
            if !PageRange::block(range.start(), 1 << CHUNK_SHIFT).contains(&range) {
                entries.join(range.last().raw(), ALL, u32::MAX);
            }
        }
        if reserved.before.is_some() && entries.extent() > reserved.before {
            // What was the topmost node isn't any more.
            entries.join(0, ALL, u32::MAX);
        }
        // A reservation at page 0 takes a node, the entry itself may need none.
        entries.shrink();
    }

    /// Changes the slot at `at`, or the node that it's the first slot of. Returns the first page
    /// behind what has been changed.
    ///
    /// Each step frees one node at most, other than those that become empty or uniform by it.
    fn commit_step(&self, at: P, range: &PageRange<P>, change: Change) -> P {
        let index = at.raw();
        let mut entries = self.entries.lock();
        let slot = entries.look(index);
        let Some(order) = slot.order else {
            // What is erased makes the tree smaller, to which nothing else happens: all that's to be
            // stored at is within the tree since it was reserved.
            kernel::warn_on!(change.apply(self.default) != self.default);
            return range.end();
        };

        let leaf = PageRange::block(at, 1 << CHUNK_SHIFT);
        let (last, order, new) = match change.constant() {
            Some(word)
                if order == 0 && leaf.start() == at && range.contains(&leaf) && !slot.in_head =>
            {
                (leaf.last(), CHUNK_SHIFT, self.value(word))
            }
            _ => (
                P::new(slot.last),
                order,
                self.value(change.apply(self.word(slot.value))),
            ),
        };

        if slot.value != new || slot.reserved || order != 0 {
            entries.set(index, order, new);
        }
        let end = P::new(last.raw() + 1);
        // With the last slot of a node, its fate is known.
        if PageRange::block(last, 1 << (order + CHUNK_SHIFT)).end() == end {
            let within = (range.start().raw(), range.last().raw());
            entries.join(last.raw(), within, u32::MAX);
        }
        end
    }

    /// Gives all pages the default. Sleeps if it takes long.
    pub(crate) fn clear(&self) {
        self.entries.clear();
    }

    /// What's known of the block of 2^order pages around one without a look at each page: a range of
    /// pages that have the same attributes as the one, and whether it's certain that not all of the
    /// others in the block have the same.
    pub(crate) fn around(&self, page: P, order: u32) -> (PageRange<P>, bool) {
        let Around { same, differ } = self.entries.lock().around(page.raw(), order);
        let end = P::new(same.1.saturating_add(1));
        let same = PageRange::new(P::new(same.0), end);
        (same.unwrap_or(PageRange::block(page, 1)), differ)
    }

    /// The last page that the tree as it is has a slot for, and the order of its largest slots.
    /// `None` if it's empty.
    pub(crate) fn extent(&self) -> Option<(u64, u32)> {
        self.entries.extent()
    }

    /// Counts blocks and nodes, by a walk through all of them. Not atomic with regard to changes.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        let Some((last, top)) = self.entries.extent() else {
            return usage;
        };

        let mut at = 0;
        loop {
            let slot = self.entries.look(at);
            usage.blocks += u64::from(slot.value.is_some());
            usage.reservations += u64::from(slot.reserved);
            // A node is counted at its first slot. A single entry at 0 needs none.
            let orders = slot.order.unwrap_or(top)..=top;
            for order in orders.step_by(CHUNK_SHIFT as usize).filter(|_| last != 0) {
                let node = PageRange::block(P::new(at), 1 << (order + CHUNK_SHIFT));
                usage.nodes += u64::from(node.start().raw() == at);
            }
            if slot.last >= last {
                return usage;
            }
            at = slot.last + 1;
            cond_resched();
        }
    }
}

/// The order of the largest block of `range` at an end of it, its first page or the page behind its
/// last one: that of the first or the last of the largest blocks that tile it.
fn block_order<P: PageNumber>(boundary: P, range: &PageRange<P>) -> u32 {
    let order = boundary
        .raw()
        .trailing_zeros()
        .min(range.nr_pages().ilog2());
    order - order % CHUNK_SHIFT
}

impl<P: PageNumber> Runs<P> for Store<P> {
    #[inline]
    fn first_run(&self, range: &PageRange<P>) -> Run<P> {
        let wanted = range.last().raw();
        let (value, mut last) = self.entries.stretch(range.start().raw(), |_| wanted);
        let word = self.word(value);

        while last < wanted {
            let same = |next| self.word(next) == word;
            let (next, next_last) =
                self.entries
                    .stretch(last + 1, |next| if same(next) { wanted } else { 0 });
            if !same(next) {
                break;
            }
            last = next_last;
        }

        let end = P::new(last.saturating_add(1).min(range.end().raw()));
        Run {
            range: PageRange::new(range.start(), end).unwrap_or(*range),
            word,
        }
    }

    /// Looks no further than the first block that differs.
    fn all(&self, range: &PageRange<P>, is: impl Fn(Word) -> bool) -> bool {
        let (mut at, wanted) = (range.start().raw(), range.last().raw());
        loop {
            let right = |found| is(self.word(found));
            let (found, last) = self
                .entries
                .stretch(at, |found| if right(found) { wanted } else { 0 });
            if !right(found) {
                return false;
            }
            if last >= wanted {
                return true;
            }
            at = last + 1;
        }
    }
}

/// Memory for a change of the store, and the right to make it.
#[must_use = "the reservation is undone when it's dropped"]
pub(crate) struct Reserved<'a, P: PageNumber, S: Pieces<P>> {
    store: &'a Store<P>,
    pieces: S,
    /// How many of the pieces something has been reserved for.
    begun: usize,
    /// The extent of the tree before.
    before: Option<(u64, u32)>,
    /// Where a single piece ends that was shortened, and what was its last page.
    shortened: Option<(P, P)>,
    committed: bool,
}

impl<P: PageNumber, S: Pieces<P>> Reserved<'_, P, S> {
    /// Leaves out what's from `end` on, which must be within the only piece and not its start. Whether
    /// that succeeds or not, the reservation is to be committed then.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, with the reservation as good as it was.
    pub(crate) fn shorten(&mut self, end: P) -> Result {
        let (all, _) = self.pieces.piece(0);
        let range = PageRange::new(all.start(), end).ok_or(EINVAL)?;
        // The blocks at both ends may get smaller. Where this fails it leaves splits and nodes, all of
        // which are stored over.
        let entries = &self.store.entries;
        entries.reserve(range.last().raw(), block_order(end, &range), false)?;
        entries.reserve(
            range.start().raw(),
            block_order(range.start(), &range),
            false,
        )?;
        self.shortened = Some((end, all.last()));
        Ok(())
    }

    /// The pieces that have been begun, as far as they're to be changed.
    fn each(&self) -> impl Iterator<Item = (PageRange<P>, Change)> + '_ {
        (0..self.begun).map(|n| {
            let (range, change) = self.pieces.piece(n);
            let Some((end, _)) = self.shortened else {
                return (range, change);
            };
            let shorter = PageRange::new(range.start(), end);
            (shorter.unwrap_or(range), change)
        })
    }
}

impl<P: PageNumber, S: Pieces<P>> Drop for Reserved<'_, P, S> {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        // What is split is joined before something is erased, for which the tree may become smaller,
        // and only up to what was the topmost node.
        let largest = self.before.map_or(0, |(_, order)| order);
        let entries = &self.store.entries;
        let ends = || {
            self.each()
                .flat_map(|(range, _)| [range.start().raw(), range.last().raw()])
        };
        for end in ends() {
            entries.lock().join(end, ALL, largest);
            cond_resched();
        }
        for end in ends() {
            entries.release(end, largest);
            cond_resched();
        }
        if self.store.extent() != self.before {
            self.store.entries.lock().shrink();
        }
    }
}
