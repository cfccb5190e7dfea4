// SPDX-License-Identifier: GPL-2.0

//! Guest frame numbers.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

/// A guest frame number: a guest physical address in units of pages.
///
/// A type of its own, as a gfn must be mixed up neither with an offset into a guest_memfd nor with
/// an address in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Gfn(u64);

impl Gfn {
    /// Creates a gfn from its number.
    #[inline]
    pub(crate) const fn new(gfn: u64) -> Self {
        Self(gfn)
    }

    /// The number.
    #[inline]
    pub(crate) const fn raw(self) -> u64 {
        self.0
    }
}
