// SPDX-License-Identifier: GPL-2.0

//! What userspace asks for, before and after it has been checked.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::gfn::Gfn,
    range::GfnRange, //
};

/// Size of a page as a power of two.
pub(crate) const PAGE_SHIFT: u32 = 12;
const PAGE_MASK: u64 = (1 << PAGE_SHIFT) - 1;

/// `struct kvm_memory_attributes`, as userspace has passed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRequest {
    /// Guest physical address, in bytes.
    pub(crate) address: u64,
    /// Size, in bytes.
    pub(crate) size: u64,
    /// The attributes to set.
    pub(crate) attributes: u64,
    /// Must be zero.
    pub(crate) flags: u64,
}

/// Why a request is refused. All of these are EINVAL to userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// A flag is set, none is known.
    Flags,
    /// An attribute is set that the VM doesn't support.
    UnsupportedAttributes,
    /// Each attribute is supported, but no page can have all of them at once.
    InvalidCombination,
    /// The range is empty.
    Empty,
    /// The range wraps, or ends exactly at the end of the address space.
    Wraps,
    /// Address or size aren't multiples of the page size.
    Unaligned,
}

/// A request that has been checked: set the attributes of all pages of a range to a word.
///
/// # Invariants
///
/// The VM that it was checked for supports the attributes, and a page can have them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetRequest {
    range: GfnRange,
    attrs: Attrs,
}

impl SetRequest {
    /// Checks a request for a VM that supports the attributes in `supported`.
    pub(crate) fn check(raw: RawRequest, supported: Attrs) -> Result<Self, Rejection> {
        let attrs = Attrs::from_raw(raw.attributes);

        if raw.flags != 0 {
            return Err(Rejection::Flags);
        }
        if !attrs.is_within(supported) {
            return Err(Rejection::UnsupportedAttributes);
        }
        if !attrs.is_valid() {
            return Err(Rejection::InvalidCombination);
        }
        if raw.size == 0 {
            return Err(Rejection::Empty);
        }
        let Some(end) = raw.address.checked_add(raw.size) else {
            return Err(Rejection::Wraps);
        };
        if (raw.address | raw.size) & PAGE_MASK != 0 {
            return Err(Rejection::Unaligned);
        }

        let (start, end) = (raw.address >> PAGE_SHIFT, end >> PAGE_SHIFT);
        let Some(range) = GfnRange::new(Gfn::new(start), Gfn::new(end)) else {
            return Err(Rejection::Empty);
        };
        // INVARIANT: Checked above.
        Ok(Self { range, attrs })
    }

    /// The pages whose attributes are to be set.
    pub(crate) fn range(&self) -> &GfnRange {
        &self.range
    }

    /// The attributes they're to have.
    pub(crate) fn attrs(&self) -> Attrs {
        self.attrs
    }
}

#[cfg(any(test, KMA_KUNIT))]
#[cfg_attr(
    KMA_KUNIT,
    allow(unsafe_code),
    kernel::prelude::kunit_tests(kvm_memattr_request)
)]
mod tests {
    use super::*;

    const OK: RawRequest = RawRequest {
        address: 0x1000,
        size: 0x2000,
        attributes: 8,
        flags: 0,
    };

    fn rejection(raw: RawRequest) -> Option<Rejection> {
        SetRequest::check(raw, Attrs::PRIVATE).err()
    }

    #[test]
    fn a_good_request_keeps_its_values() {
        let r = SetRequest::check(OK, Attrs::PRIVATE);
        assert!(r.is_ok_and(|r| r.range().start() == Gfn::new(1)));
        assert!(r.is_ok_and(|r| r.range().end() == Gfn::new(3)));
        assert!(r.is_ok_and(|r| r.attrs() == Attrs::PRIVATE));
    }

    #[test]
    fn each_flag_is_refused() {
        for bit in 0..64 {
            assert!(
                rejection(RawRequest {
                    flags: 1 << bit,
                    ..OK
                }) == Some(Rejection::Flags)
            );
        }
    }

    #[test]
    fn each_unknown_attribute_is_refused() {
        for bit in 0..64 {
            let raw = RawRequest {
                attributes: 1 << bit,
                ..OK
            };
            let want = (bit != 3).then_some(Rejection::UnsupportedAttributes);
            assert!(rejection(raw) == want);
        }
    }

    #[test]
    fn private_is_refused_where_it_is_not_supported() {
        assert!(SetRequest::check(OK, Attrs::NONE).err() == Some(Rejection::UnsupportedAttributes));
    }

    #[test]
    fn each_invalid_combination_is_refused() {
        for attributes in 0..16 {
            let raw = RawRequest { attributes, ..OK };
            let want = match attributes {
                0 | 2 | 4 | 6 | 7 | 8 => None,
                _ => Some(Rejection::InvalidCombination),
            };
            assert!(SetRequest::check(raw, Attrs::supported(None)).err() == want);
        }
    }

    #[test]
    fn empty_range_is_refused() {
        assert!(rejection(RawRequest { size: 0, ..OK }) == Some(Rejection::Empty));
    }

    #[test]
    fn wrapping_range_is_refused() {
        let last = !PAGE_MASK;
        for (address, size) in [
            (last, 0x1000),
            (last, 0x2000),
            (0x1000, last),
            (1, u64::MAX),
        ] {
            assert!(
                rejection(RawRequest {
                    address,
                    size,
                    ..OK
                }) == Some(Rejection::Wraps)
            );
        }
        assert!(rejection(RawRequest {
            address: 0,
            size: last,
            ..OK
        })
        .is_none());
    }

    #[test]
    fn unaligned_range_is_refused() {
        for (address, size) in [(0x1001, 0x1000), (0x1000, 0x1001), (0x800, 0x800), (0, 1)] {
            assert!(
                rejection(RawRequest {
                    address,
                    size,
                    ..OK
                }) == Some(Rejection::Unaligned)
            );
        }
    }
}
