// SPDX-License-Identifier: GPL-2.0

//! KUnit: the store against a plain model, over random changes.
//!
//! The model is a sorted list of the pages at which attributes change. After each change, lookups,
//! runs and uniform queries are compared, as is the shape of the tree with what the attributes alone
//! demand. The sequence follows from a seed, and is the same in each run.

use crate::{
    attrs::{
        Attrs,
        Change, //
    },
    host::gfn::Gfn,
    plan::Plan,
    range::GfnRange,
    request::{
        RawRequest,
        SetRequest,
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
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// A test owns its store, and no guest uses it.
pub(crate) struct Alone;

impl Exclusive for Alone {}
impl Quiesced for Alone {}

/// One more than the largest gfn that a request can name.
const END: u64 = u64::MAX >> PAGE_SHIFT;
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
    runs: KVec<(u64, Attrs)>,
    default: Attrs,
}

impl Model {
    fn new(default: Attrs) -> Result<Self> {
        let mut runs = KVec::new();
        runs.push((0, default), GFP_KERNEL)?;
        Ok(Self { runs, default })
    }

    /// Position of the run that the page is in.
    fn position(&self, page: u64) -> usize {
        self.runs.partition_point(|(start, _)| *start <= page) - 1
    }

    fn get(&self, page: u64) -> Attrs {
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
        let push = |new: &mut KVec<(u64, Attrs)>, at: u64, attrs: Attrs| -> Result {
            if new.last().is_none_or(|(_, last)| *last != attrs) {
                new.push((at, attrs), GFP_KERNEL)?;
            }
            Ok(())
        };
        for (i, (from, attrs)) in self.runs.iter().enumerate() {
            let to = self.runs.get(i + 1).map_or(END, |(start, _)| *start);
            for (a, b, inside) in [(0, start, false), (start, end, true), (end, END, false)] {
                let (a, b) = (a.max(*from), b.min(to));
                if a < b {
                    let attrs = if inside { change.apply(*attrs) } else { *attrs };
                    push(&mut new, a, attrs)?;
                }
            }
        }
        self.runs = new;
        Ok(())
    }

    /// What a tree must consist of that has these attributes, covers pages up to `covered`, and has a
    /// topmost node of `order`.
    fn usage(&self, (covered, order): (u64, u32)) -> Usage {
        let mut usage = Usage::default();
        let mut before: Option<u64> = None;

        for (i, (start, attrs)) in self.runs.iter().enumerate() {
            let end = self.runs.get(i + 1).map_or(END, |(start, _)| *start);
            let mut at = *start;
            while *attrs != self.default && at < end {
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

/// A store and its model.
struct Pair {
    store: Arc<AttrStore>,
    model: Model,
}

impl Pair {
    fn new(default: Attrs) -> Result<Self> {
        Ok(Self {
            store: Arc::pin_init(AttrStore::new(default), GFP_KERNEL)?,
            model: Model::new(default)?,
        })
    }

    /// Changes both. What the store isn't asked for is what doesn't change: as a plan has it.
    fn set(&mut self, start: u64, end: u64, change: Change, extra: Extra) -> Result {
        if let Some(attrs) = change.constant() {
            let raw = RawRequest {
                address: start << PAGE_SHIFT,
                size: (end - start) << PAGE_SHIFT,
                attributes: attrs.raw(),
                flags: 0,
            };
            let request = SetRequest::check(raw, Attrs::ALL).map_err(|_| EINVAL)?;
            if let Some(plan) = Plan::new(&request, &*self.store, SetZap::KindThatGoesAway) {
                self.check_plan(&plan, start, end, attrs)?;
                self.change(plan.hull(), plan.change(), extra)?;
            }
        } else {
            let mut changed = self
                .store
                .runs(&range(start, end)?)
                .filter(|run| change.apply(run.attrs) != run.attrs);
            if let Some(first) = changed.next() {
                let last = changed.last().unwrap_or(first);
                let hull = range(first.range.start().raw(), last.range.end().raw())?;
                self.change(&hull, change, extra)?;
            }
        }
        self.model.set(start, end, change)
    }

    /// The plan has each page that changes, and no other, and what is set already isn't planned.
    fn check_plan(&self, plan: &Plan, start: u64, end: u64, attrs: Attrs) -> Result {
        let mut at = start;
        for changed in plan.changed(&*self.store).map(|run| run.range) {
            while at < changed.start().raw() {
                same(
                    self.model.get(at) == attrs,
                    "a page that changes isn't planned",
                )?;
                at = self.model.run_end(at).min(changed.start().raw());
            }
            while at < changed.end().raw() {
                same(
                    self.model.get(at) != attrs,
                    "a page is planned that doesn't change",
                )?;
                at = self.model.run_end(at).min(changed.end().raw());
            }
        }
        while at < end {
            same(
                self.model.get(at) == attrs,
                "a page that changes isn't planned",
            )?;
            at = self.model.run_end(at);
        }
        Ok(())
    }

    fn change(&self, hull: &GfnRange, change: Change, extra: Extra) -> Result {
        let longer_end = (hull.end().raw() + extra.beyond).min(END);
        let longer = range(hull.start().raw(), longer_end)?;
        // Now and then in vain first, which must leave nothing behind.
        if extra.in_vain {
            let before = self.store.usage();
            drop(self.store.reserve(&Alone, hull, change)?);
            let after = self.store.usage();
            if after != before {
                pr_err!("before {before:?}, after {after:?}\n");
            }
            same(after == before, "a reservation given up leaves something")?;
        }
        let mut reserved = self.store.reserve(&Alone, &longer, change)?;
        if longer != *hull {
            reserved.shorten(hull.end())?;
        }
        AttrStore::commit(reserved, &Alone);
        Ok(())
    }

    fn check_page(&self, page: u64) -> Result {
        let page = page.min(END - 1);
        same(
            self.store.get(Gfn::new(page)) == self.model.get(page),
            "lookup",
        )
    }

    fn check_uniform(&self, start: u64, end: u64, mask: Attrs, value: Attrs) -> Result {
        let value = value.masked(mask);
        let (mut at, mut uniform) = (start, true);
        while at < end {
            uniform &= self.model.get(at).masked(mask) == value;
            at = self.model.run_end(at);
        }
        same(
            self.store.uniform(&range(start, end)?, mask, value) == uniform,
            "uniform query",
        )
    }

    fn check_runs(&self, start: u64, end: u64) -> Result {
        let mut at = start;
        for run in self.store.runs(&range(start, end)?) {
            let want = Run {
                range: range(at, self.model.run_end(at).min(end))?,
                attrs: self.model.get(at),
            };
            same(run == want, "run list")?;
            at = run.range.end().raw();
        }
        same(at == end, "end of the run list")
    }

    fn check_shape(&self) -> Result {
        let usage = self.store.usage();
        same(
            usage
                == self
                    .store
                    .extent()
                    .map_or(Usage::default(), |e| self.model.usage(e)),
            "shape of the tree",
        )
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
fn run(default: Attrs, seed: u64, pages: u64, most: u64, operations: u32) -> Result {
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
        let change = if random.below(4) == 0 {
            Change::masked(writable_executable(&mut random), value)
        } else {
            Change::to(value)
        };
        let extra = Extra {
            in_vain: operation % 16 == 0,
            beyond: random.magnitude(pages) * u64::from(operation % 4 == 0),
        };
        let checked = pair.set(start, end, change, extra).and_then(|()| {
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
            let mask = writable_executable(&mut random);
            pair.check_uniform(a, (a + b).min(END), mask, value)?;
            pair.check_uniform(start, end, Attrs::ALL, value)?;
            pair.check_runs(start.saturating_sub(100), (end + 100).min(END))?;
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

/// The debug kernel takes ten times as long.
const fn operations(n: u32) -> u32 {
    if cfg!(debug_assertions) || cfg!(CONFIG_KASAN) {
        n / 10
    } else {
        n
    }
}

#[kunit_tests(kvm_memattr_store)]
mod tests {
    use super::*;

    const DEFAULT: Attrs = Attrs::NONE;
    const OTHER: Attrs = Attrs::from_raw(2);

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
        pair.set(64, 128, Change::to(Attrs::NONE), IN_VAIN)?;
        assert!(pair.store.get(Gfn::new(64)) == Attrs::NONE);
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
            Change::to(Attrs::PRIVATE),
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
            pair.set(page, page + 1, Change::to(Attrs::PRIVATE), IN_VAIN)?;
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
        pair.set(1 << 30, (1 << 30) + 1, Change::to(Attrs::PRIVATE), IN_VAIN)?;
        pair.check_shape()
    }
}
