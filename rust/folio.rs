// SPDX-License-Identifier: GPL-2.0

//! The folios of a guest_memfd.
//!
//! C header: [`include/linux/pagemap.h`](srctree/include/linux/pagemap.h)

use super::{
    bindings,
    gfn::Index, //
};
use kernel::types::Opaque;

/// A folio in the page cache of a guest_memfd.
///
/// # Invariants
///
/// A reference is to a folio that was found in the page cache of an inode whose invalidate lock is held
/// for writing, since then and as long as the reference. So the page cache keeps it, with a reference
/// count for each page: truncation takes the lock, and a guest_memfd's folios are neither reclaimed nor
/// migrated. What may still be removed has a memory error, or was taken out of use for fear of one,
/// and that isn't anything else's memory before the machine is booted again.
#[repr(transparent)]
pub(crate) struct Folio(Opaque<bindings::folio>);

impl Folio {
    /// # Safety
    ///
    /// `ptr` must be a folio of a guest_memfd's page cache, and the invalidate lock of its inode held for
    /// writing since it was found there, for the duration of `'a`.
    pub(super) unsafe fn from_raw<'a>(ptr: *mut bindings::folio) -> &'a Self {
        // SAFETY: Valid by the function's contract; `Folio` is transparent to the C type.
        // INVARIANT: By the function's contract.
        unsafe { &*ptr.cast() }
    }

    fn as_ptr(&self) -> *mut bindings::folio {
        self.0.get()
    }

    /// First page of the folio.
    pub(crate) fn index(&self) -> Index {
        // SAFETY: The folio is in a page cache by the type invariant, so that its index is stable.
        Index::new(unsafe { bindings::kma_folio_index(self.as_ptr()) } as u64)
    }

    /// Number of pages.
    pub(crate) fn nr_pages(&self) -> u64 {
        // SAFETY: The folio is valid by the type invariant.
        (unsafe { bindings::kma_folio_nr_pages(self.as_ptr()) }) as u64
    }

    /// References beside those of the page cache: of user mappings, of get_user_pages(), of page faults
    /// that are under way, of batches in which folios wait for something.
    pub(crate) fn has_other_references(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant.
        let count = unsafe { bindings::kma_folio_ref_count(self.as_ptr()) };
        i64::from(count) != self.nr_pages() as i64
    }

    /// Has it got a memory error?
    pub(crate) fn is_poisoned(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::kma_folio_is_poisoned(self.as_ptr()) }
    }

    /// Has it got contents? If not, it's zeroed before it's used.
    pub(crate) fn is_uptodate(&self) -> bool {
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::kma_folio_is_uptodate(self.as_ptr()) }
    }

    /// Fills it with a byte, which is its contents from then on. Sleeps: a page fault may be about to
    /// zero a folio that hasn't got contents yet, for which it holds the folio's lock.
    pub(crate) fn fill(&self, byte: u8) {
        let folio = self.as_ptr();
        // SAFETY: The folio is valid by the type invariant. Its lock nests inside of the invalidate
        // lock, which is held.
        unsafe { bindings::kma_folio_lock(folio) };
        // SAFETY: The folio is valid by the type invariant, and nobody but guest and host, which have
        // no mapping of it by now, relies on what's in it.
        unsafe { bindings::kma_folio_fill(folio, byte) };
        // SAFETY: The folio is valid by the type invariant.
        unsafe { bindings::kma_folio_mark_uptodate(folio) };
        // SAFETY: The folio was locked above.
        unsafe { bindings::kma_folio_unlock(folio) };
    }
}
