// SPDX-License-Identifier: GPL-2.0

//! Numbers of pages: in the guest's physical memory, and in a guest_memfd.
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

/// The number of a page in a guest_memfd: an offset in units of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Index(u64);

impl Index {
    /// Creates an index from its number.
    #[inline]
    pub(crate) const fn new(index: u64) -> Self {
        Self(index)
    }

    /// The number.
    #[inline]
    pub(crate) const fn raw(self) -> u64 {
        self.0
    }
}

/// What has attributes: a gfn of a VM, or a page of a guest_memfd.
pub(crate) trait PageNumber: Copy + Ord + core::fmt::Debug {
    /// Creates it from its number.
    fn new(number: u64) -> Self;
    /// The number.
    fn raw(self) -> u64;
}

impl PageNumber for Gfn {
    #[inline]
    fn new(number: u64) -> Self {
        Self(number)
    }

    #[inline]
    fn raw(self) -> u64 {
        self.0
    }
}

impl PageNumber for Index {
    #[inline]
    fn new(number: u64) -> Self {
        Self(number)
    }

    #[inline]
    fn raw(self) -> u64 {
        self.0
    }
}
