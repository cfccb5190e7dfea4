// SPDX-License-Identifier: GPL-2.0

//! The inode of a guest_memfd, its invalidate lock, and invalidations of what is mapped of it.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h), `include/linux/kvm_mem_attr.h` of
//! the host series.
//!
//! Locks are taken in the order: 1. invalidate lock, 2. a folio's lock, or mmu_lock. With the
//! invalidate lock held nothing is copied from or to userspace, as a page fault on the file takes it.
//! Whoever handles a memory error lets go of the folio's lock first, which the host series sees to.

use super::{
    bindings,
    folio::Folio,
    gfn::Index,
    invalidation::ZapFilter,
    sched::cond_resched,
    xarray::{
        is_retry,
        new_state,
        restart,
        to_value, //
    },
};
use core::{
    ops::ControlFlow,
    ptr, //
};
use kernel::{
    bindings::{
        xas_pause, //
    },
    sync::rcu,
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

/// How many folios are looked up at a time.
const FOLIOS_AT_ONCE: usize = 32;

/// The inode of a guest_memfd that an ioctl was made on.
///
/// # Invariants
///
/// A reference is to an inode that stays alive as long as the reference.
#[repr(transparent)]
pub(crate) struct GmemInode(Opaque<bindings::inode>);

impl GmemInode {
    /// # Safety
    ///
    /// `ptr` must be a valid inode of a guest_memfd for the duration of `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::inode) -> &'a Self {
        // SAFETY: Valid by the function's contract; `GmemInode` is transparent to the C type.
        // INVARIANT: The same.
        unsafe { &*ptr.cast() }
    }

    fn as_ptr(&self) -> *mut bindings::inode {
        self.0.get()
    }

    /// Size of the file in bytes, which never changes.
    pub(crate) fn size(&self) -> u64 {
        // SAFETY: The inode is valid by the type invariant.
        (unsafe { bindings::kma_inode_size(self.as_ptr()) }) as u64
    }

    /// The inode's number, as `fstat` and `/proc/PID/fdinfo` say it.
    pub(crate) fn number(&self) -> u64 {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { bindings::kma_inode_number(self.as_ptr()) }
    }

    /// Takes the invalidate lock, for writing. May sleep.
    pub(crate) fn lock(&self) -> GmemGuard<'_> {
        // SAFETY: The inode is valid by the type invariant.
        unsafe { bindings::kma_invalidate_lock(self.as_ptr()) };
        // INVARIANT: The lock was taken above.
        GmemGuard {
            inode: self,
            _not_send: NotThreadSafe,
        }
    }
}

/// Proof that the invalidate lock of an inode is held for writing.
///
/// Page faults of userspace on the file wait, its memslots neither come nor go, no page is removed from
/// its page cache but one with a memory error, and whoever holds it is the only one that changes what
/// the inode's state says.
///
/// # Invariants
///
/// The lock is held.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct GmemGuard<'a> {
    inode: &'a GmemInode,
    _not_send: NotThreadSafe,
}

impl GmemGuard<'_> {
    fn inode(&self) -> *mut bindings::inode {
        self.inode.as_ptr()
    }

    /// Unmaps pages `[start, end)` from userspace. A page fault that has found its page already may
    /// still map it afterwards: till then it has a reference to the folio.
    pub(crate) fn unmap(&self, start: Index, end: Index) {
        let nr = end.raw() - start.raw();
        // SAFETY: The inode is valid, and its file can be mapped or not.
        unsafe { bindings::kma_unmap_pages(self.inode(), start.raw() as usize, nr as usize) };
    }

    /// Looks at all folios that have a page of `[start, end)`, in order, until `look` breaks. Lets
    /// others run in between.
    pub(crate) fn folios<B>(
        &self,
        start: Index,
        end: Index,
        mut look: impl FnMut(&Folio) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let last = end.raw() as usize - 1;
        let mut found = [ptr::null_mut(); FOLIOS_AT_ONCE];
        // SAFETY: The inode is valid by the type invariant.
        let pages = unsafe { bindings::kma_pages(self.inode()) };
        let mut state = new_state(pages, start.raw(), 0);
        loop {
            let mut nr = 0;
            let rcu = rcu::read_lock();
            while nr < FOLIOS_AT_ONCE {
                // SAFETY: The state is one of the page cache, and RCU is held since it was begun or
                // paused.
                let entry = unsafe { bindings::kma_xas_next_entry(&mut state, last) };
                if is_retry(entry) {
                    restart(&mut state);
                } else if entry.is_null() {
                    break;
                } else if to_value(entry).is_none() {
                    found[nr] = entry.cast();
                    nr += 1;
                }
            }
            // SAFETY: As above.
            unsafe { xas_pause(&mut state) };
            drop(rcu);

            found[..nr].iter().try_for_each(|folio| {
                // SAFETY: It was found in the page cache, in which all but values are folios, and the
                // lock is held by the type invariant.
                look(unsafe { Folio::from_raw(*folio) })
            })?;
            if nr < FOLIOS_AT_ONCE {
                return ControlFlow::Continue(());
            }
            cond_resched();
        }
    }

    /// Begins an invalidation of pages `[start, end)`: a page fault of a guest on any of them is
    /// retried until it has ended. Nothing is zapped.
    pub(crate) fn begin(&self, start: Index, end: Index) -> GmemInvalidation<'_> {
        self.invalidate(start, end, 0)
    }

    /// As [`Self::begin`], and zaps the guests' mappings that are of a kind in `filter`.
    pub(crate) fn zap(&self, start: Index, end: Index, filter: ZapFilter) -> GmemZapped<'_> {
        GmemZapped(self.invalidate(start, end, filter.as_raw()))
    }

    fn invalidate(
        &self,
        start: Index,
        end: Index,
        filter: bindings::kvm_gfn_range_filter,
    ) -> GmemInvalidation<'_> {
        let (first, behind) = (start.raw() as usize, end.raw() as usize);
        // SAFETY: The inode is a guest_memfd's, and its invalidate lock is held.
        unsafe { bindings::kvm_gmem_invalidate_kinds(self.inode(), first, behind, filter) };
        // INVARIANT: Begun above.
        GmemInvalidation {
            guard: self,
            start,
            end,
        }
    }
}

impl Drop for GmemGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: The lock is held by the type invariant.
        unsafe { bindings::kma_invalidate_unlock(self.inode()) };
    }
}

/// An invalidation of what guests have mapped of a range.
///
/// # Invariants
///
/// The invalidation has begun.
#[must_use = "the invalidation ends when it's dropped"]
pub(crate) struct GmemInvalidation<'a> {
    guard: &'a GmemGuard<'a>,
    start: Index,
    end: Index,
}

impl Drop for GmemInvalidation<'_> {
    fn drop(&mut self) {
        let (first, behind) = (self.start.raw() as usize, self.end.raw() as usize);
        // SAFETY: Begun by the type invariant, on the same range. The lock has been held since, so that
        // the same memslots have the range.
        unsafe { bindings::kvm_gmem_invalidate_end(self.guard.inode(), first, behind) };
    }
}

/// An invalidation that has taken away what had to go.
pub(crate) struct GmemZapped<'a>(#[expect(dead_code, reason = "it ends")] GmemInvalidation<'a>);

/// Empties the batches, on all CPUs, in which folios wait to be put on a list, with a reference each.
/// Sleeps.
pub(crate) fn drain_batches() {
    // SAFETY: An FFI call with no additional requirements.
    unsafe { bindings::lru_add_drain_all() };
}
