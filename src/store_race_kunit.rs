// SPDX-License-Identifier: GPL-2.0

//! KUnit: readers of the store against splits, stores and joins.
//!
//! A writer changes a stretch and changes it back, again and again, of each size, in the middle of
//! larger blocks and next to their ends. Readers on other CPUs look pages up all the time. A page of
//! the stretch must have one of its two words, any other page the one that it has always had.

use crate::{
    host::{
        gfn::Gfn,
        sched::cond_resched, //
    },
    range::GfnRange,
    runs::Runs,
    store::AttrStore,
    store_model_kunit::{
        Alone,
        Random, //
    },
    word::{
        Change,
        Word, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        barrier::{
            smp_mb,
            Read,
            Write, //
        },
        Arc,
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue,
};

/// More than a block of each of three sizes, so that there's something to split and to join.
const PAGES: u64 = 3 << 18;
const READERS: i64 = 2;

const OLD: Word = Word::from_raw(5);
const NEW: Word = Word::from_raw(10);

#[pin_data]
struct Race {
    #[pin]
    store: AttrStore,
    /// What all pages have that aren't being changed.
    usual: Word,
    /// Odd while the stretch is another than it was said to be.
    seq: Atomic<i64>,
    start: Atomic<i64>,
    end: Atomic<i64>,
    stop: Atomic<i64>,
    running: Atomic<i64>,
    /// Lookups while the stretch was known.
    checked: Atomic<i64>,
    /// Of these, those that have seen a change, which is undone soon.
    seen: Atomic<i64>,
    bad: Atomic<i64>,
}

impl Race {
    fn read(&self, seed: u64) {
        let mut random = Random(seed);
        while self.stop.load(Relaxed) == 0 {
            let seq = self.seq.load(Acquire);
            let (start, end) = (
                self.start.load(Relaxed) as u64,
                self.end.load(Relaxed) as u64,
            );
            // Near its ends, where slots are split, or anywhere.
            let page = match random.below(3) {
                0 => start.wrapping_add(random.below(130)).wrapping_sub(65) % PAGES,
                1 => end.wrapping_add(random.below(130)).wrapping_sub(65) % PAGES,
                _ => random.below(PAGES),
            };
            let found = self.store.get(Gfn::new(page));
            // A run over several slots, of which the first page is another one.
            let several = GfnRange::block(Gfn::new(page), 128);
            let run = self.store.first_run(&several);
            // What was read is read before the stretch is looked at again.
            smp_mb(Read);
            let known = seq & 1 == 0 && self.seq.load(Relaxed) == seq;

            let good = |page: u64, word: Word| {
                let inside = start <= page && page < end;
                word == self.usual || word == NEW && (inside || !known)
            };
            if !good(page, found) || !good(several.start().raw(), run.word) {
                self.bad.add(1, Relaxed);
            }
            if known {
                self.checked.add(1, Relaxed);
                self.seen.add(i64::from(found == NEW), Relaxed);
            }
            cond_resched();
        }
        self.running.fetch_add(-1, Release);
    }

    fn set(&self, range: &GfnRange, word: Word) -> Result {
        let reserved = self.store.reserve(&Alone, (*range, Change::to(word)))?;
        AttrStore::commit(reserved, &Alone);
        Ok(())
    }

    fn write(&self, rounds: u64) -> Result {
        let mut random = Random(0x5eed);
        for _ in 0..rounds {
            let size = 1 << random.below(19);
            let size = (size - random.below(2) * random.below(size)).max(1);
            let start = match random.below(2) {
                0 => random.below(PAGES - size),
                _ => random.below(PAGES - size) / size * size,
            };
            let range = GfnRange::new(Gfn::new(start), Gfn::new(start + size)).ok_or(EINVAL)?;

            self.seq.add(1, Relaxed);
            smp_mb(Write);
            self.start.store(start as i64, Relaxed);
            self.end.store((start + size) as i64, Relaxed);
            let seq = self.seq.load(Relaxed);
            self.seq.store(seq + 1, Release);

            // Given up, then carried out, then undone.
            drop(self.store.reserve(&Alone, (range, Change::to(NEW)))?);
            self.set(&range, NEW)?;
            cond_resched();
            self.set(&range, self.usual)?;
        }
        Ok(())
    }
}

/// Returns how many lookups were wrong.
fn race(default: Word, usual: Word, rounds: u64) -> Result<i64> {
    let race = Arc::pin_init(
        pin_init!(Race {
            store <- AttrStore::new(default),
            usual,
            seq: Atomic::new(0),
            start: Atomic::new(0),
            end: Atomic::new(0),
            stop: Atomic::new(0),
            running: Atomic::new(READERS),
            checked: Atomic::new(0),
            seen: Atomic::new(0),
            bad: Atomic::new(0),
        }),
        GFP_KERNEL,
    )?;
    if usual != default {
        let all = GfnRange::new(Gfn::new(0), Gfn::new(PAGES)).ok_or(EINVAL)?;
        race.set(&all, usual)?;
    }

    let mut written = Ok(());
    for reader in 0..READERS {
        let race_of_reader = race.clone();
        let spawned = workqueue::system_unbound().try_spawn(GFP_KERNEL, move || {
            race_of_reader.read(0xbeef + reader as u64)
        });
        if spawned.is_err() {
            // Those that do run are told to stop, and nobody waits for this one.
            race.running.fetch_add(-1, Release);
            written = Err(ENOMEM);
        }
    }
    // Until enough of the changes have been seen by others while they lasted.
    while written.is_ok() && race.seen.load(Relaxed) < rounds as i64 {
        written = race.write(rounds);
    }
    race.stop.store(1, Relaxed);
    while race.running.load(Acquire) > 0 {
        fsleep(Delta::from_millis(1));
    }
    // The readers' last instructions are the module's, which may be unloaded next.
    fsleep(Delta::from_millis(20));
    written?;
    pr_info!(
        "readers checked {} lookups, {} saw a change, {} were wrong\n",
        race.checked.load(Relaxed),
        race.seen.load(Relaxed),
        race.bad.load(Relaxed)
    );
    Ok(race.bad.load(Relaxed))
}

const fn rounds() -> u64 {
    if cfg!(CONFIG_KASAN) {
        100
    } else {
        2_000
    }
}

#[kunit_tests(kvm_memattr_store_race)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_old_or_new_in_stored_blocks() -> Result {
        assert!(race(Word::NONE, OLD, rounds())? == 0);
        Ok(())
    }

    #[test]
    fn readers_see_old_or_new_where_nothing_is_stored() -> Result {
        assert!(race(OLD, OLD, rounds())? == 0);
        Ok(())
    }
}
