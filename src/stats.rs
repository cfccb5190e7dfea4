// SPDX-License-Identifier: GPL-2.0

//! Counters, of a VM and in all.

#![deny(unsafe_code)]

use core::fmt;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// An event counter.
struct Counter(Atomic<i64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    fn add(&self, n: i64) {
        self.0.add(n, Relaxed);
    }

    fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// What attributes have been asked for and changed.
struct Events {
    asked: Counter,
    sets: Counter,
    sets_unchanged: Counter,
    pages_set: Counter,
    runs_zapped: Counter,
    pages_zapped: Counter,
    pages_kept: Counter,
}

impl Events {
    const fn new() -> Self {
        Self {
            asked: Counter::new(),
            sets: Counter::new(),
            sets_unchanged: Counter::new(),
            pages_set: Counter::new(),
            runs_zapped: Counter::new(),
            pages_zapped: Counter::new(),
            pages_kept: Counter::new(),
        }
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, counter) in [
            ("asked", &self.asked),
            ("sets", &self.sets),
            ("sets_unchanged", &self.sets_unchanged),
            ("pages_set", &self.pages_set),
            ("runs_zapped", &self.runs_zapped),
            ("pages_zapped", &self.pages_zapped),
            ("pages_kept", &self.pages_kept),
        ] {
            // Counts of pages may get that large.
            writeln!(f, "{name} {}", counter.get() as u64)?;
        }
        Ok(())
    }
}

/// The counters of a VM. Each event is counted in the totals, too.
pub(crate) struct VmStats(Events);

impl VmStats {
    /// Counters of a VM, all zero.
    pub(crate) const fn new() -> Self {
        Self(Events::new())
    }

    fn count(&self, counter: impl Fn(&Events) -> &Counter, n: u64) {
        counter(&self.0).add(n as i64);
        counter(&TOTALS.events).add(n as i64);
    }

    /// The fault path has asked. Only the first time is counted, so that faults of many vCPUs don't
    /// share a cache line that's written to.
    #[inline]
    pub(crate) fn asked(&self) {
        if self.0.asked.get() == 0 && self.0.asked.0.cmpxchg(0, 1, Relaxed).is_ok() {
            TOTALS.events.asked.add(1);
        }
    }

    /// Attributes were set, on a stretch of `nr_pages` pages.
    pub(crate) fn set(&self, nr_pages: u64) {
        self.count(|e| &e.sets, 1);
        self.count(|e| &e.pages_set, nr_pages);
    }

    /// Attributes were set that were set already.
    pub(crate) fn set_unchanged(&self) {
        self.count(|e| &e.sets_unchanged, 1);
    }

    /// A stretch of pages was zapped as its attributes change.
    pub(crate) fn zapped(&self, nr_pages: u64) {
        self.count(|e| &e.runs_zapped, 1);
        self.count(|e| &e.pages_zapped, nr_pages);
    }

    /// Pages were spared by an invalidation of the other kind.
    pub(crate) fn kept(&self, nr_pages: u64) {
        self.count(|e| &e.pages_kept, nr_pages);
    }
}

impl fmt::Display for VmStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Something that's counted as it's made, and as it goes.
pub(crate) struct Alive {
    counter: &'static AliveCounter,
    seq: i64,
}

struct AliveCounter {
    made: Counter,
    alive: Counter,
}

impl AliveCounter {
    const fn new() -> Self {
        Self {
            made: Counter::new(),
            alive: Counter::new(),
        }
    }

    fn count(&'static self) -> Alive {
        self.alive.add(1);
        Alive {
            seq: self.made.0.fetch_add(1, Relaxed) + 1,
            counter: self,
        }
    }
}

impl Alive {
    /// Counts a VM until it's dropped.
    pub(crate) fn vm() -> Self {
        TOTALS.vms.count()
    }

    /// Counts a guest_memfd inode until it's dropped.
    pub(crate) fn gmem_inode() -> Self {
        TOTALS.gmem_inodes.count()
    }

    /// The how manieth it is since the module was loaded.
    pub(crate) fn seq(&self) -> i64 {
        self.seq
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.counter.alive.add(-1);
    }
}

/// Counters since the module was loaded.
pub(crate) struct Totals {
    vms: AliveCounter,
    gmem_inodes: AliveCounter,
    conversions: Counter,
    pages_converted: Counter,
    events: Events,
}

impl Totals {
    /// Memory of a guest_memfd was converted, on a stretch of `nr_pages` pages.
    pub(crate) fn converted(&self, nr_pages: u64) {
        self.conversions.add(1);
        self.pages_converted.add(nr_pages as i64);
    }
}

/// Counters since the module was loaded.
pub(crate) static TOTALS: Totals = Totals {
    vms: AliveCounter::new(),
    gmem_inodes: AliveCounter::new(),
    conversions: Counter::new(),
    pages_converted: Counter::new(),
    events: Events::new(),
};

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "vms {}", self.vms.made.get())?;
        writeln!(f, "vms_alive {}", self.vms.alive.get())?;
        writeln!(f, "gmem_inodes {}", self.gmem_inodes.made.get())?;
        writeln!(f, "gmem_inodes_alive {}", self.gmem_inodes.alive.get())?;
        writeln!(f, "conversions {}", self.conversions.get())?;
        writeln!(f, "pages_converted {}", self.pages_converted.get())?;
        write!(f, "{}", self.events)
    }
}
