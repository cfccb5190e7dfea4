// SPDX-License-Identifier: GPL-2.0

//! KUnit: the store against a plain model, over random changes.
//!
//! The model is a sorted list of the pages at which attributes change. After each change, lookups,
//! runs and uniform queries are compared, as is the shape of the tree with what the attributes alone
//! demand. The sequence follows from a seed, and is the same in each run.

use crate::{
    attrs::Attrs,
    batch::Batch,
    host::gfn::Gfn,
    plan::{
        Plan,
        Plans, //
    },
    range::GfnRange,
    readback::{
        self,
        AttrsRun, //
    },
    request::{
        RawEntry,
        GFN_END as END,
        PAGE_SHIFT, //
    },
    runs::{
        Run,
        Runs, //
    },
    scope::SetZap,
    store::{
        AttrStore,
        Exclusive,
        Quiesced,
        Usage, //
    },
    word::{
        Change,
        Layer,
        Layers,
        Word, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A test owns its store, and no guest uses it.
pub(crate) struct Alone;

impl Exclusive for Alone {}
impl Quiesced for Alone {}

const CHUNK_SHIFT: u32 = crate::host::xarray::CHUNK_SHIFT;

/// A generator of numbers that look random (xorshift64*).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number in `[1, n]`, of each magnitude as often as of others.
    fn magnitude(&mut self, n: u64) -> u64 {
        let bits = self.below(u64::from(n.ilog2()) + 1);
        (1 << bits | self.below(1 << bits)).min(n)
    }
}

/// The runs of all pages in order, by their first pages.
struct Model {
    runs: KVec<(u64, Word)>,
    default: Word,
}

impl Model {
    fn new(default: Word) -> Result<Self> {
        let mut runs = KVec::new();
        runs.push((0, default), GFP_KERNEL)?;
        Ok(Self { runs, default })
    }

    /// Position of the run that the page is in.
    fn position(&self, page: u64) -> usize {
        self.runs.partition_point(|(start, _)| *start <= page) - 1
    }

    fn get(&self, page: u64) -> Word {
        self.runs[self.position(page)].1
    }

    /// The first page behind the run that the page is in.
    fn run_end(&self, page: u64) -> u64 {
        self.runs
            .get(self.position(page) + 1)
            .map_or(END, |(start, _)| *start)
    }

    fn set(&mut self, start: u64, end: u64, change: Change) -> Result {
        let mut new = KVec::with_capacity(self.runs.len() + 2, GFP_KERNEL)?;
        let push = |new: &mut KVec<(u64, Word)>, at: u64, word: Word| -> Result {
            if new.last().is_none_or(|(_, last)| *last != word) {
                new.push((at, word), GFP_KERNEL)?;
            }
            Ok(())
        };
        for (i, (from, word)) in self.runs.iter().enumerate() {
            let to = self.runs.get(i + 1).map_or(END, |(start, _)| *start);
            for (a, b, inside) in [(0, start, false), (start, end, true), (end, END, false)] {
                let (a, b) = (a.max(*from), b.min(to));
                if a < b {
                    let word = if inside { change.apply(*word) } else { *word };
                    push(&mut new, a, word)?;
                }
            }
        }
        self.runs = new;
        Ok(())
    }

    /// Is that the [`extent`](AttrStore::extent) of a tree that has these attributes? It reaches no
    /// further than it takes for the last entry, unless that's the only one, and has been one slot of
    /// a larger tree.
    fn reaches(&self, extent: Option<(u64, u32)>) -> bool {
        let mut entries = (0..self.runs.len()).filter(|i| self.runs[*i].1 != self.default);
        let (first, last) = (entries.next(), entries.next_back());
        let Some(first) = first else {
            return extent.is_none();
        };
        let end = self.run_end(self.runs[last.unwrap_or(first)].0);
        let Some((covered, order)) = extent else {
            return false;
        };
        let only = last.is_none() && self.runs[first].0 == 0;
        let needed = (end - 1).checked_ilog2().unwrap_or(0);
        let least = order == needed - needed % CHUNK_SHIFT && (covered == 0) == (end == 1);
        least || only && end == 1 << order
    }

    /// What a tree must consist of that has these attributes, covers pages up to `covered`, and has a
    /// topmost node of `order`.
    fn usage(&self, (covered, order): (u64, u32)) -> Usage {
        let mut usage = Usage::default();
        let mut before: Option<u64> = None;

        for (i, (start, word)) in self.runs.iter().enumerate() {
            let end = self.runs.get(i + 1).map_or(END, |(start, _)| *start);
            let mut at = *start;
            while *word != self.default && at < end {
                let fits = at.trailing_zeros().min((end - at).ilog2()).min(order);
                let block = fits - fits % CHUNK_SHIFT;
                usage.blocks += 1;
                // A single page 0 needs no node.
                let levels = block..=order;
                for level in levels.step_by(CHUNK_SHIFT as usize).filter(|_| covered > 0) {
                    let node = |page: u64| page >> (level + CHUNK_SHIFT);
                    usage.nodes += u64::from(before.is_none_or(|b| node(b) != node(at)));
                }
                before = Some(at);
                at += 1 << block;
            }
        }
        usage
    }
}

fn range(start: u64, end: u64) -> Result<GfnRange> {
    GfnRange::new(Gfn::new(start), Gfn::new(end)).ok_or(EINVAL)
}

/// Some of the attributes of which a page can have any combination.
fn writable_executable(random: &mut Random) -> Attrs {
    Attrs::from_raw(random.below(4) * Attrs::NW.raw())
}

/// One of four layers, the first and the last among them.
fn layer(random: &mut Random) -> u32 {
    [0, 1, 2, Layer::NR - 1][random.below(4) as usize]
}

/// Any change of NW and NX.
fn change(random: &mut Random) -> Change {
    let value = writable_executable(random);
    if random.below(4) != 0 {
        return Change::to(Word::base(value));
    }
    let layer = Layer::new(layer(random)).unwrap_or(Layer::BASE);
    Change::layer(layer, writable_executable(random), value)
}

/// Any layer, or all of them.
fn layers(random: &mut Random) -> Layers {
    if random.below(2) == 0 {
        return Layers::ALL;
    }
    Layers::parse(layer(random)).unwrap_or(Layers::ALL)
}

/// A batch of up to `most` entries, around one place so that many meet.
fn entries(random: &mut Random, pages: u64, most: u64) -> Result<KVec<RawEntry>> {
    let mut entries = KVec::new();
    let around = random.below(pages);
    for _ in 0..1 + random.below(most) {
        let size = random.magnitude(pages.min(1 << 9));
        let near = (around + random.below(4 * size)).min(pages - size);
        let start = if random.below(2) == 0 {
            near >> 6 << 6
        } else {
            near
        };
        // The mask has at least one of the two.
        let mask = (1 + random.below(3)) * Attrs::NW.raw();
        let raw = RawEntry {
            address: start << PAGE_SHIFT,
            size: size << PAGE_SHIFT,
            attributes: writable_executable(random).raw() & mask,
            mask,
            layer: layer(random),
            pad: 0,
        };
        entries.push(raw, GFP_KERNEL)?;
    }
    Ok(entries)
}

/// A store and its model.
struct Pair {
    store: Arc<AttrStore>,
    model: Model,
}

impl Pair {
    fn new(default: Word) -> Result<Self> {
        Ok(Self {
            store: Arc::pin_init(AttrStore::new(default), GFP_KERNEL)?,
            model: Model::new(default)?,
        })
    }

    /// Changes both. What the store isn't asked for is what doesn't change: as a plan has it.
    fn set(&mut self, start: u64, end: u64, change: Change, extra: Extra) -> Result {
        if let Some(plan) = self.plan(&range(start, end)?, change)? {
            self.check_plan(&plan, start, end, change)?;
            self.change(&plan, extra)?;
        }
        self.model.set(start, end, change)
    }

    fn plan(&self, range: &GfnRange, change: Change) -> Result<Option<Plan>> {
        Plan::new(range, change, &*self.store, SetZap::KindThatGoesAway).map_err(|_| EINVAL)
    }

    /// The plan has each page that changes, and no other, and what is set already isn't planned.
    fn check_plan(&self, plan: &Plan, start: u64, end: u64, change: Change) -> Result {
        let changes = |page: u64| change.apply(self.model.get(page)) != self.model.get(page);
        let mut at = start;
        for changed in plan.changed(&*self.store).map(|run| run.range) {
            while at < changed.start().raw() {
                same(!changes(at), "a page that changes isn't planned")?;
                at = self.model.run_end(at).min(changed.start().raw());
            }
            while at < changed.end().raw() {
                same(changes(at), "a page is planned that doesn't change")?;
                at = self.model.run_end(at).min(changed.end().raw());
            }
        }
        while at < end {
            same(!changes(at), "a page that changes isn't planned")?;
            at = self.model.run_end(at);
        }
        let mut at = plan.hull().start().raw();
        while let Some(word) = plan.uniform().filter(|_| at < plan.hull().end().raw()) {
            let new = change.apply(self.model.get(at));
            same(new == word, "a page doesn't become what all do")?;
            at = self.model.run_end(at);
        }
        Ok(())
    }

    fn change(&self, plan: &Plan, extra: Extra) -> Result {
        let (hull, change) = (plan.hull(), plan.change());
        let longer_end = (hull.end().raw() + extra.beyond).min(END);
        let longer = range(hull.start().raw(), longer_end)?;
        // Now and then in vain first, which must leave nothing behind.
        if extra.in_vain {
            self.in_vain(Plans::one(plan))?;
        }
        let mut reserved = self.store.reserve(&Alone, (longer, change))?;
        if longer != *hull {
            reserved.shorten(hull.end())?;
        }
        AttrStore::commit(reserved, &Alone);
        Ok(())
    }

    fn in_vain(&self, plans: Plans<'_>) -> Result {
        let before = self.store.usage();
        drop(self.store.reserve(&Alone, plans)?);
        let after = self.store.usage();
        if after != before {
            pr_err!("before {before:?}, after {after:?}\n");
        }
        same(after == before, "a reservation given up leaves something")
    }

    /// Changes both as entries of a batch say.
    fn set_batch(&mut self, entries: &[RawEntry], in_vain: bool) -> Result {
        let mut batch = Batch::new(entries.len() as u32)?;
        for raw in entries {
            batch
                .push(*raw, Attrs::supported(None))
                .map_err(|_| EINVAL)?;
        }
        let mut plans = KVVec::new();
        for piece in &batch.pieces()? {
            if let Some(plan) = self.plan(&piece.range, piece.change)? {
                plans.push(plan, GFP_KERNEL)?;
            }
        }
        if let Some(plans) = Plans::new(&plans) {
            if in_vain {
                self.in_vain(plans)?;
            }
            AttrStore::commit(self.store.reserve(&Alone, plans)?, &Alone);
        }
        for raw in entries {
            let layer = Layer::new(raw.layer).ok_or(EINVAL)?;
            let attrs = Attrs::from_raw;
            let change = Change::layer(layer, attrs(raw.mask), attrs(raw.attributes));
            let start = raw.address >> PAGE_SHIFT;
            self.model
                .set(start, start + (raw.size >> PAGE_SHIFT), change)?;
        }
        Ok(())
    }

    /// What's read back is what the model has, in as few runs as there can be, as far as there's room.
    fn check_readback(&self, start: u64, end: u64, layers: Layers, room: usize) -> Result {
        let mut runs = KVVec::with_capacity(room, GFP_KERNEL)?;
        let next = readback::read(&*self.store, &range(start, end)?, layers, &mut runs);
        let mut at = start;
        for AttrsRun { range: run, attrs } in &runs {
            same(run.start().raw() == at, "a gap in what's read back")?;
            while at < run.end().raw() {
                same(layers.of(self.model.get(at)) == *attrs, "what's read back")?;
                at = self.model.run_end(at).min(end);
            }
            same(
                at == run.end().raw() && (at == end || layers.of(self.model.get(at)) != *attrs),
                "a run that's read back ends elsewhere",
            )?;
        }
        same(next.raw() == at, "where to go on")?;
        same(at == end || runs.len() == room, "room is left")
    }

    fn check_page(&self, page: u64) -> Result {
        let page = page.min(END - 1);
        same(
            self.store.get(Gfn::new(page)) == self.model.get(page),
            "lookup",
        )
    }

    fn check_uniform(&self, start: u64, end: u64, attrs: Attrs) -> Result {
        let is = |word: Word| word.enforced() == attrs;
        let (mut at, mut uniform) = (start, true);
        while at < end {
            uniform &= is(self.model.get(at));
            at = self.model.run_end(at);
        }
        same(
            self.store.all(&range(start, end)?, is) == uniform,
            "uniform query",
        )
    }

    fn check_runs(&self, start: u64, end: u64) -> Result {
        let mut at = start;
        for run in self.store.runs(&range(start, end)?) {
            let want = Run {
                range: range(at, self.model.run_end(at).min(end))?,
                word: self.model.get(at),
            };
            same(run == want, "run list")?;
            at = run.range.end().raw();
        }
        same(at == end, "end of the run list")
    }

    fn check_shape(&self) -> Result {
        let extent = self.store.extent();
        same(self.model.reaches(extent), "height of the tree")?;
        let usage = extent.map_or(Usage::default(), |e| self.model.usage(e));
        same(self.store.usage() == usage, "shape of the tree")
    }
}

/// What's reserved beside what is stored.
#[derive(Clone, Copy)]
struct Extra {
    /// All of it once, and given up.
    in_vain: bool,
    /// So many pages behind it, which are then left out.
    beyond: u64,
}

const IN_VAIN: Extra = Extra {
    in_vain: true,
    beyond: 0,
};

fn same(condition: bool, what: &str) -> Result {
    if !condition {
        pr_err!("store and model differ: {what}\n");
        return Err(EINVAL);
    }
    Ok(())
}

/// Random changes of the first `pages` pages, each of up to `most` pages.
fn run(default: Word, seed: u64, pages: u64, most: u64, operations: u32) -> Result {
    let mut random = Random(seed);
    let mut pair = Pair::new(default)?;

    for operation in 0..operations {
        let size = random.magnitude(most.min(pages));
        let mut start = random.below(pages - size + 1);
        let mut end = start + size;
        // Half of the boundaries are those of blocks, or next to one.
        if random.below(2) == 0 {
            let order = random.below(u64::from(pages.ilog2()) + 1);
            start = start >> order << order;
            end = (end >> order << order).max(start + 1) + random.below(2);
        }
        let end = end.min(pages);
        let start = start.min(end - 1);

        let value = writable_executable(&mut random);
        let change = change(&mut random);
        let extra = Extra {
            in_vain: operation % 16 == 0,
            beyond: random.magnitude(pages) * u64::from(operation % 4 == 0),
        };
        let changed = if operation % 8 == 1 {
            let entries = entries(&mut random, pages, 12)?;
            pair.set_batch(&entries, operation % 16 == 1)
        } else {
            pair.set(start, end, change, extra)
        };
        let checked = changed.and_then(|()| {
            for page in [
                start,
                end - 1,
                end,
                start.saturating_sub(1),
                random.below(pages),
            ] {
                pair.check_page(page)?;
            }
            let (a, b) = (random.below(pages), random.magnitude(pages));
            pair.check_uniform(a, (a + b).min(END), value)?;
            pair.check_uniform(start, end, value)?;
            pair.check_runs(start.saturating_sub(100), (end + 100).min(END))?;
            let room = 1 + random.below(20) as usize;
            pair.check_readback(a, (a + b).min(END), layers(&mut random), room)?;
            if operation % 64 == 0 {
                pair.check_runs(0, END)?;
                pair.check_shape()?;
            }
            Ok(())
        });
        if let Err(e) = checked {
            pr_err!("seed {seed:#x}, operation {operation}: [{start:#x}, {end:#x}) {change:?}\n");
            return Err(e);
        }
        // Now and then from the beginning, so that the tree grows again.
        if random.below(500) == 0 {
            pair.set(0, END, Change::to(default), IN_VAIN)?;
            pair.check_shape()?;
            same(
                pair.store.usage() == Usage::default(),
                "the store isn't empty",
            )?;
        }
    }
    pr_info!("store and model: seed {seed:#x}, {operations} operations agree\n");
    Ok(())
}

/// The debug kernel takes twenty times as long.
const fn operations(n: u32) -> u32 {
    if cfg!(debug_assertions) || cfg!(CONFIG_KASAN) {
        n / 20
    } else {
        n
    }
}

#[kunit_tests(kvm_memattr_store)]
mod tests {
    use super::*;

    const DEFAULT: Word = Word::NONE;
    const OTHER: Word = Word::from_raw(2);

    #[test]
    fn small_and_fragmented_is_as_the_model() -> Result {
        run(
            DEFAULT,
            0x1234_5678_9abc,
            1 << 12,
            1 << 7,
            operations(60_000),
        )
    }

    #[test]
    fn a_gib_is_as_the_model() -> Result {
        run(DEFAULT, 0xfeed_5eed, 1 << 18, 1 << 18, operations(60_000))
    }

    #[test]
    fn all_there_is_is_as_the_model() -> Result {
        run(DEFAULT, 0xc0ff_ee00_1dea, END, END, operations(5_000))
    }

    #[test]
    fn few_pages_are_as_the_model() -> Result {
        run(DEFAULT, 0x0dd_ba11, 130, 130, operations(40_000))
    }

    #[test]
    fn another_default_is_as_the_model() -> Result {
        run(OTHER, 0xdef_a017, 1 << 18, 1 << 18, operations(40_000))
    }

    #[test]
    fn a_stored_zero_is_not_the_default() -> Result {
        let mut pair = Pair::new(OTHER)?;
        pair.set(64, 128, Change::to(Word::NONE), IN_VAIN)?;
        assert!(pair.store.get(Gfn::new(64)) == Word::NONE);
        assert!(pair.store.get(Gfn::new(128)) == OTHER);
        assert!(pair.store.usage().blocks == 1);
        pair.set(64, 128, Change::to(OTHER), IN_VAIN)?;
        assert!(pair.store.usage() == Usage::default());
        Ok(())
    }

    #[test]
    fn a_tib_is_a_few_blocks() -> Result {
        let mut pair = Pair::new(DEFAULT)?;
        pair.set(
            1 << 20,
            (1 << 20) + (1 << 28),
            Change::to(Word::PRIVATE),
            IN_VAIN,
        )?;
        pair.check_shape()?;
        assert!(pair.store.usage().nodes <= 3);
        // One page less at each end, so one way to the leaves each.
        pair.set(1 << 20, (1 << 20) + 1, Change::to(DEFAULT), IN_VAIN)?;
        pair.set(
            (1 << 20) + (1 << 28) - 1,
            1 << 29,
            Change::to(DEFAULT),
            IN_VAIN,
        )?;
        pair.check_shape()?;
        assert!(pair.store.usage().nodes <= 9);
        Ok(())
    }

    #[test]
    fn pages_one_by_one_become_blocks() -> Result {
        let mut pair = Pair::new(DEFAULT)?;
        for page in (0..4096).rev() {
            pair.set(page, page + 1, Change::to(Word::PRIVATE), IN_VAIN)?;
        }
        pair.check_shape()?;
        assert!(
            pair.store.usage()
                == Usage {
                    blocks: 64,
                    nodes: 1,
                    reservations: 0
                }
        );
        // With more above it, what was the topmost node is one block.
        pair.set(1 << 30, (1 << 30) + 1, Change::to(Word::PRIVATE), IN_VAIN)?;
        pair.check_shape()
    }
}
