// SPDX-License-Identifier: GPL-2.0

//! What requests have denied that wait for accesses of KVM's own which may still use it.
//!
//! Who asks for the same while they wait must not return any earlier, though there's nothing left to
//! set.

#![deny(unsafe_code)]

use crate::{
    host::{
        gfn::Gfn,
        vm::SlotsGuard, //
    },
    range::GfnRange, //
};
use kernel::sync::atomic::{
    Acquire,
    Atomic,
    Relaxed,
    Release, //
};

/// The requests of a VM that wait.
pub(crate) struct Waited {
    nr: Atomic<i32>,
    /// One range around all that they have denied something of, as long as there are any: its first
    /// page, and the one behind it. Both are of who holds slots_lock.
    start: Atomic<u64>,
    end: Atomic<u64>,
}

/// A request that waits. It's over when this is dropped.
#[must_use = "the wait is over when it's dropped"]
pub(crate) struct Waiting<'a>(&'a Waited);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.nr.fetch_sub(1, Release);
    }
}

impl Waited {
    pub(crate) fn new() -> Self {
        Self {
            nr: Atomic::new(0),
            start: Atomic::new(0),
            end: Atomic::new(0),
        }
    }

    fn range(&self, _slots: &SlotsGuard<'_>) -> Option<GfnRange> {
        // If there's none, all that have waited have seen the last of their accesses.
        if self.nr.load(Acquire) == 0 {
            return None;
        }
        let (start, end) = (self.start.load(Relaxed), self.end.load(Relaxed));
        GfnRange::new(Gfn::new(start), Gfn::new(end))
    }

    /// Counts a request that has denied something of `range`, and is going to wait.
    pub(crate) fn wait(&self, slots: &SlotsGuard<'_>, range: &GfnRange) -> Waiting<'_> {
        let around = self.range(slots).unwrap_or(*range);
        let start = around.start().min(range.start());
        let end = around.end().max(range.end());
        self.start.store(start.raw(), Relaxed);
        self.end.store(end.raw(), Relaxed);
        self.nr.add(1, Relaxed);
        Waiting(self)
    }

    /// May a request wait that has denied something of `range`?
    pub(crate) fn has(&self, slots: &SlotsGuard<'_>, range: &GfnRange) -> bool {
        self.range(slots)
            .is_some_and(|around| around.intersection(range).is_some())
    }
}
