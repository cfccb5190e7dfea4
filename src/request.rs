// SPDX-License-Identifier: GPL-2.0

//! What userspace asks for, before and after it has been checked.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::gfn::{
        Index,
        PageNumber, //
    },
    policy::{
        Policies,
        Policy, //
    },
    range::{
        GfnRange,
        IndexRange,
        PageRange, //
    },
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

/// `struct kvm_memory_attributes2`, as userspace has passed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRequest2 {
    /// Guest physical address, or offset in the file, in bytes.
    pub(crate) start: u64,
    /// Size, in bytes.
    pub(crate) size: u64,
    /// The attributes to set.
    pub(crate) attributes: u64,
    /// A content policy.
    pub(crate) flags: u64,
    /// All of what must be zero, in one.
    pub(crate) zero: u64,
}

impl RawRequest2 {
    /// What both kinds of files have in common: the pages, the attributes and the policy.
    fn check<P: PageNumber>(
        self,
        supported: Attrs,
    ) -> Result<(PageRange<P>, Attrs, Option<Policy>), Rejection> {
        if self.zero != 0 {
            return Err(Rejection::Reserved);
        }
        let policy = Policies::parse(self.flags).map_err(|_| Rejection::Flags)?;
        let attrs = check_attrs(self.attributes, supported)?;
        Ok((check_range(self.start, self.size)?, attrs, policy))
    }
}

/// Why a request is refused. All of these but the policy are EINVAL to userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// A flag is set that isn't known, or two that exclude each other.
    Flags,
    /// What must be zero isn't.
    Reserved,
    /// A content policy, where the contents don't change: EOPNOTSUPP.
    Policy,
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
    /// The range isn't all in the file.
    OutsideFile,
}

fn check_attrs(raw: u64, supported: Attrs) -> Result<Attrs, Rejection> {
    let attrs = Attrs::from_raw(raw);
    if !attrs.is_within(supported) {
        return Err(Rejection::UnsupportedAttributes);
    }
    if !attrs.is_valid() {
        return Err(Rejection::InvalidCombination);
    }
    Ok(attrs)
}

fn check_range<P: PageNumber>(start: u64, size: u64) -> Result<PageRange<P>, Rejection> {
    if size == 0 {
        return Err(Rejection::Empty);
    }
    let Some(end) = start.checked_add(size) else {
        return Err(Rejection::Wraps);
    };
    if (start | size) & PAGE_MASK != 0 {
        return Err(Rejection::Unaligned);
    }
    PageRange::new(P::new(start >> PAGE_SHIFT), P::new(end >> PAGE_SHIFT)).ok_or(Rejection::Empty)
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
        if raw.flags != 0 {
            return Err(Rejection::Flags);
        }
        let attrs = check_attrs(raw.attributes, supported)?;
        let range = check_range(raw.address, raw.size)?;
        // INVARIANT: Checked above.
        Ok(Self { range, attrs })
    }

    /// As [`Self::check`], for the newer struct.
    pub(crate) fn check2(raw: RawRequest2, supported: Attrs) -> Result<Self, Rejection> {
        let (range, attrs, policy) = raw.check(supported)?;
        if policy.is_some() {
            return Err(Rejection::Policy);
        }
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

/// A request that has been checked: convert all pages of a range of a guest_memfd.
///
/// # Invariants
///
/// The file has the range, and supports the attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConvertRequest {
    range: IndexRange,
    attrs: Attrs,
    policy: Option<Policy>,
}

impl ConvertRequest {
    /// Checks a request for a file of `file_size` bytes that supports the attributes in `supported`.
    pub(crate) fn check(
        raw: RawRequest2,
        supported: Attrs,
        file_size: u64,
    ) -> Result<Self, Rejection> {
        let (range, attrs, policy) = raw.check(supported)?;
        if range.end() > Index::new(file_size >> PAGE_SHIFT) {
            return Err(Rejection::OutsideFile);
        }
        // INVARIANT: Checked above.
        Ok(Self {
            range,
            attrs,
            policy,
        })
    }

    /// The pages to convert.
    pub(crate) fn range(&self) -> &IndexRange {
        &self.range
    }

    /// The attributes they're to have.
    pub(crate) fn attrs(&self) -> Attrs {
        self.attrs
    }

    /// The content policy, if there's one asked for.
    pub(crate) fn policy(&self) -> Option<Policy> {
        self.policy
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
    use crate::host::gfn::Gfn;

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

    const OK2: RawRequest2 = RawRequest2 {
        start: 0x1000,
        size: 0x2000,
        attributes: 8,
        flags: 0,
        zero: 0,
    };

    fn rejection2(raw: RawRequest2) -> Option<Rejection> {
        let on_vm = SetRequest::check2(raw, Attrs::PRIVATE).err();
        let on_file = ConvertRequest::check(raw, Attrs::PRIVATE, 1 << 40).err();
        if on_vm == on_file || on_vm == Some(Rejection::Policy) {
            on_file
        } else {
            Some(Rejection::Policy)
        }
    }

    #[test]
    fn a_good_conversion_keeps_its_values() {
        let r = ConvertRequest::check(RawRequest2 { flags: 2, ..OK2 }, Attrs::PRIVATE, 0x3000);
        assert!(r.is_ok_and(|r| r.range().start() == Index::new(1)));
        assert!(r.is_ok_and(|r| r.range().end() == Index::new(3)));
        assert!(r.is_ok_and(|r| r.attrs() == Attrs::PRIVATE));
        assert!(r.is_ok_and(|r| r.policy() == Some(Policy::Preserve)));
        assert!(rejection2(OK2).is_none());
    }

    #[test]
    fn what_must_be_zero_is_checked_first() {
        let raw = RawRequest2 {
            zero: 1,
            flags: 3,
            ..OK2
        };
        assert!(rejection2(raw) == Some(Rejection::Reserved));
    }

    #[test]
    fn flags_of_both_kinds_of_files_are_checked() {
        for flags in [3, 5, 6, 7, 8, 1 << 63] {
            assert!(rejection2(RawRequest2 { flags, ..OK2 }) == Some(Rejection::Flags));
        }
        for flags in [1, 2, 4] {
            let raw = RawRequest2 { flags, ..OK2 };
            assert!(rejection2(raw).is_none());
            let on_vm = SetRequest::check2(raw, Attrs::PRIVATE).err();
            assert!(on_vm == Some(Rejection::Policy));
        }
    }

    #[test]
    fn ranges_of_both_kinds_of_files_are_checked() {
        for (start, size, want) in [
            (0x1000, 0, Rejection::Empty),
            (!PAGE_MASK, 0x2000, Rejection::Wraps),
            (0x1001, 0x1000, Rejection::Unaligned),
            (0x1000, 0x1001, Rejection::Unaligned),
        ] {
            let raw = RawRequest2 { start, size, ..OK2 };
            assert!(rejection2(raw) == Some(want));
        }
    }

    #[test]
    fn a_range_outside_of_the_file_is_refused() {
        for (size, fits) in [(0x3000, true), (0x2fff, false), (0x2000, false), (0, false)] {
            let r = ConvertRequest::check(OK2, Attrs::PRIVATE, size).err();
            assert!(r == (!fits).then_some(Rejection::OutsideFile));
        }
    }
}
