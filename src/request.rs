// SPDX-License-Identifier: GPL-2.0

//! What userspace asks for, before and after it has been checked.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::gfn::{
        Gfn,
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
    word::{
        Change,
        Layer,
        Layers, //
    },
};

/// Size of a page as a power of two.
pub(crate) const PAGE_SHIFT: u32 = 12;
const PAGE_MASK: u64 = (1 << PAGE_SHIFT) - 1;

/// The flag of `struct kvm_memory_attributes2` that stands for all addresses.
pub(crate) const WHOLE_LAYER: u64 = 1 << 3;
/// One more than the largest gfn that a range can have.
pub(crate) const GFN_END: u64 = u64::MAX >> PAGE_SHIFT;

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
    /// A content policy, or [`WHOLE_LAYER`].
    pub(crate) flags: u64,
    /// The layer.
    pub(crate) layer: u32,
    /// All of what must be zero, in one.
    pub(crate) zero: u64,
}

impl From<RawRequest> for RawRequest2 {
    fn from(raw: RawRequest) -> Self {
        Self {
            start: raw.address,
            size: raw.size,
            attributes: raw.attributes,
            flags: raw.flags,
            layer: 0,
            zero: 0,
        }
    }
}

/// `struct kvm_memory_attributes_entry`, as userspace has passed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawEntry {
    /// Guest physical address, in bytes.
    pub(crate) address: u64,
    /// Size, in bytes.
    pub(crate) size: u64,
    /// The attributes to set.
    pub(crate) attributes: u64,
    /// The attributes that don't stay as they are.
    pub(crate) mask: u64,
    /// The layer.
    pub(crate) layer: u32,
    /// Must be zero.
    pub(crate) pad: u32,
}

/// `struct kvm_memory_attributes_get`, as userspace has passed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawGet {
    /// Guest physical address, or offset in the file, in bytes.
    pub(crate) start: u64,
    /// Size, in bytes.
    pub(crate) size: u64,
    /// Where the runs are to go.
    pub(crate) runs: u64,
    /// How many there's room for.
    pub(crate) nr: u32,
    /// The layer, or all.
    pub(crate) layer: u32,
    /// Must be zero.
    pub(crate) flags: u64,
    /// All of what else must be zero, in one.
    pub(crate) zero: u64,
}

/// Why a request is refused. All of these but the policy are EINVAL to userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// A flag is set that isn't known, or two that exclude each other.
    Flags,
    /// What must be zero isn't.
    Reserved,
    /// There's no such layer.
    Layer,
    /// No attribute is to change, or one is set that isn't among those that are to change.
    Mask,
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
    /// Address or size of what has neither, as it's a whole layer.
    WholeLayer,
    /// Too many entries, or none.
    Number,
}

fn check_attrs(raw: u64, supported: Attrs) -> Result<Attrs, Rejection> {
    let attrs = Attrs::from_raw(raw);
    if !supported.contains(attrs) {
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

/// A request that has been checked: set attributes of all pages of a range.
///
/// # Invariants
///
/// The VM that it was checked for supports the attributes, and a page can have them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetRequest {
    range: GfnRange,
    change: Change,
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
        Ok(Self {
            range,
            change: Change::layer(Layer::BASE, supported, attrs),
        })
    }

    /// As [`Self::check`], for the newer struct.
    pub(crate) fn check2(raw: RawRequest2, supported: Attrs) -> Result<Self, Rejection> {
        if raw.zero != 0 {
            return Err(Rejection::Reserved);
        }
        let policy = Policies::parse(raw.flags & !WHOLE_LAYER).map_err(|_| Rejection::Flags)?;
        let layer = Layer::new(raw.layer).ok_or(Rejection::Layer)?;
        let supported = layer.supported(supported);
        let attrs = check_attrs(raw.attributes, supported)?;
        let range = if raw.flags & WHOLE_LAYER == 0 {
            check_range(raw.start, raw.size)?
        } else if raw.start | raw.size == 0 {
            GfnRange::new(Gfn::new(0), Gfn::new(GFN_END)).ok_or(Rejection::Empty)?
        } else {
            return Err(Rejection::WholeLayer);
        };
        if policy.is_some() {
            return Err(Rejection::Policy);
        }
        // INVARIANT: Checked above.
        Ok(Self {
            range,
            change: Change::layer(layer, supported, attrs),
        })
    }

    /// As [`Self::check`], for an entry of a batch.
    pub(crate) fn check_entry(raw: RawEntry, supported: Attrs) -> Result<Self, Rejection> {
        if raw.pad != 0 {
            return Err(Rejection::Reserved);
        }
        let layer = Layer::new(raw.layer).ok_or(Rejection::Layer)?;
        let supported = layer.supported(supported);
        let (mask, attrs) = (Attrs::from_raw(raw.mask), Attrs::from_raw(raw.attributes));
        if !supported.contains(mask) || !supported.contains(attrs) {
            return Err(Rejection::UnsupportedAttributes);
        }
        if mask == Attrs::NONE || !mask.contains(attrs) {
            return Err(Rejection::Mask);
        }
        // With none or all of the restrictions that stay as they are: if no page can have either, it
        // can't have anything between.
        let kept = Attrs::from_raw(Attrs::RESTRICTIONS.raw() & !mask.raw());
        if !attrs.is_valid() && !attrs.with(kept).is_valid() {
            return Err(Rejection::InvalidCombination);
        }
        // INVARIANT: Checked above.
        Ok(Self {
            range: check_range(raw.address, raw.size)?,
            change: Change::layer(layer, mask, attrs),
        })
    }

    /// The pages whose attributes are to be set.
    pub(crate) fn range(&self) -> &GfnRange {
        &self.range
    }

    /// What becomes of each of them.
    pub(crate) fn change(&self) -> Change {
        self.change
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
        if raw.zero != 0 {
            return Err(Rejection::Reserved);
        }
        let policy = Policies::parse(raw.flags).map_err(|_| Rejection::Flags)?;
        // Layers are a VM's.
        if raw.layer != 0 {
            return Err(Rejection::Layer);
        }
        let attrs = check_attrs(raw.attributes, supported)?;
        let range: IndexRange = check_range(raw.start, raw.size)?;
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

/// A request that has been checked: read back the attributes of all pages of a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GetRequest<P> {
    range: PageRange<P>,
    layers: Layers,
    room: u32,
}

impl<P: PageNumber> GetRequest<P> {
    /// Checks a request.
    pub(crate) fn check(raw: RawGet) -> Result<Self, Rejection> {
        if raw.zero != 0 {
            return Err(Rejection::Reserved);
        }
        if raw.flags != 0 {
            return Err(Rejection::Flags);
        }
        if raw.nr == 0 {
            return Err(Rejection::Number);
        }
        Ok(Self {
            range: check_range(raw.start, raw.size)?,
            layers: Layers::parse(raw.layer).ok_or(Rejection::Layer)?,
            room: raw.nr,
        })
    }

    /// The pages.
    pub(crate) fn range(&self) -> &PageRange<P> {
        &self.range
    }

    /// The layers whose attributes are asked for.
    pub(crate) fn layers(&self) -> Layers {
        self.layers
    }

    /// The number of runs that there's room for.
    pub(crate) fn room(&self) -> u32 {
        self.room
    }
}

impl GetRequest<Index> {
    /// As [`Self::check`], for a file of `file_size` bytes.
    pub(crate) fn check_file(raw: RawGet, file_size: u64) -> Result<Self, Rejection> {
        let request = Self::check(raw)?;
        if request.range.end() > Index::new(file_size >> PAGE_SHIFT) {
            return Err(Rejection::OutsideFile);
        }
        // It has no layers but the base layer, which is all that it has.
        if ![Layers::ALL, Layers::only(Layer::BASE)].contains(&request.layers) {
            return Err(Rejection::Layer);
        }
        Ok(request)
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
    use crate::word::Word;

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
        assert!(r.is_ok_and(|r| r.change().apply(Word::NONE) == Word::PRIVATE));
        assert!(r.is_ok_and(|r| r.change().sets_private() && !r.change().sets_layered()));
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
        layer: 0,
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
        for flags in [3, 5, 6, 7, 16, 1 << 63] {
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

    fn set2(raw: RawRequest2) -> Result<SetRequest, Rejection> {
        SetRequest::check2(raw, Attrs::supported(None))
    }

    #[test]
    fn layers_are_numbered_and_have_no_private() {
        let raw = |layer, attributes| RawRequest2 {
            layer,
            attributes,
            ..OK2
        };
        assert!(set2(raw(15, 2)).is_ok_and(|r| r.change().sets_layered()));
        assert!(set2(raw(0, 2)).is_ok_and(|r| !r.change().sets_layered()));
        assert!(set2(raw(16, 2)).err() == Some(Rejection::Layer));
        assert!(set2(raw(u32::MAX, 2)).err() == Some(Rejection::Layer));
        for layer in 1..16 {
            assert!(set2(raw(layer, 8)).err() == Some(Rejection::UnsupportedAttributes));
            let of_file = ConvertRequest::check(raw(layer, 8), Attrs::PRIVATE, 1 << 40).err();
            assert!(of_file == Some(Rejection::Layer));
        }
    }

    #[test]
    fn a_whole_layer_has_no_range() {
        let whole = RawRequest2 {
            start: 0,
            size: 0,
            attributes: 0,
            flags: WHOLE_LAYER,
            layer: 1,
            zero: 0,
        };
        let r = set2(whole);
        assert!(r.is_ok_and(|r| r.range().start() == Gfn::new(0)));
        assert!(r.is_ok_and(|r| r.range().end() == Gfn::new(GFN_END)));
        for (start, size) in [(0x1000, 0), (0, 0x1000), (1, 0)] {
            let raw = RawRequest2 {
                start,
                size,
                ..whole
            };
            assert!(set2(raw).err() == Some(Rejection::WholeLayer));
        }
        let with_policy = RawRequest2 {
            flags: WHOLE_LAYER | 1,
            ..whole
        };
        assert!(set2(with_policy).err() == Some(Rejection::Policy));
        let of_file = ConvertRequest::check(whole, Attrs::PRIVATE, 1 << 40).err();
        assert!(of_file == Some(Rejection::Flags));
    }

    const ENTRY: RawEntry = RawEntry {
        address: 0x1000,
        size: 0x2000,
        attributes: 2,
        mask: 15,
        layer: 0,
        pad: 0,
    };

    fn entry(raw: RawEntry) -> Option<Rejection> {
        SetRequest::check_entry(raw, Attrs::supported(None)).err()
    }

    #[test]
    fn an_entry_has_a_mask() {
        let masked = |mask, attributes| {
            entry(RawEntry {
                mask,
                attributes,
                ..ENTRY
            })
        };
        assert!(entry(ENTRY).is_none());
        assert!(masked(0, 0) == Some(Rejection::Mask));
        assert!(masked(4, 2) == Some(Rejection::Mask));
        assert!(masked(16, 0) == Some(Rejection::UnsupportedAttributes));
        assert!(masked(15, 16) == Some(Rejection::UnsupportedAttributes));
        // What a page can have by what it has already.
        assert!(masked(1, 1).is_none());
        assert!(masked(7, 1) == Some(Rejection::InvalidCombination));
        assert!(masked(3, 1) == Some(Rejection::InvalidCombination));
        assert!(masked(3, 3).is_none());
        assert!(masked(10, 10) == Some(Rejection::InvalidCombination));
        assert!(masked(8, 8).is_none());
        assert!(masked(1, 0).is_none());
    }

    #[test]
    fn the_rest_of_an_entry_is_checked() {
        assert!(entry(RawEntry { pad: 1, ..ENTRY }) == Some(Rejection::Reserved));
        let layer = |layer, mask| {
            entry(RawEntry {
                layer,
                mask,
                ..ENTRY
            })
        };
        assert!(layer(15, 7).is_none());
        assert!(layer(15, 15) == Some(Rejection::UnsupportedAttributes));
        assert!(layer(16, 7) == Some(Rejection::Layer));
        for (address, size, want) in [
            (0x1000, 0, Rejection::Empty),
            (!PAGE_MASK, 0x2000, Rejection::Wraps),
            (0x1001, 0x1000, Rejection::Unaligned),
        ] {
            let raw = RawEntry {
                address,
                size,
                ..ENTRY
            };
            assert!(entry(raw) == Some(want));
        }
    }

    #[test]
    fn what_is_read_back_is_checked() {
        let ok = RawGet {
            start: 0x1000,
            size: 0x2000,
            runs: 0,
            nr: 1,
            layer: 0,
            flags: 0,
            zero: 0,
        };
        let of_vm = |raw| GetRequest::<Gfn>::check(raw).err();
        let of_file = |raw| GetRequest::check_file(raw, 0x3000).err();
        assert!(of_vm(ok).is_none() && of_file(ok).is_none());
        for (raw, want) in [
            (RawGet { zero: 1, ..ok }, Rejection::Reserved),
            (RawGet { flags: 1, ..ok }, Rejection::Flags),
            (RawGet { nr: 0, ..ok }, Rejection::Number),
            (RawGet { layer: 16, ..ok }, Rejection::Layer),
            (RawGet { size: 0, ..ok }, Rejection::Empty),
            (RawGet { start: 1, ..ok }, Rejection::Unaligned),
            (
                RawGet {
                    size: !PAGE_MASK,
                    ..ok
                },
                Rejection::Wraps,
            ),
        ] {
            assert!(of_vm(raw) == Some(want) && of_file(raw) == Some(want));
        }
        let all = RawGet { layer: !0, ..ok };
        assert!(of_vm(all).is_none() && of_file(all).is_none());
        let first = RawGet { layer: 1, ..ok };
        assert!(of_vm(first).is_none() && of_file(first) == Some(Rejection::Layer));
        let longer = RawGet { size: 0x3000, ..ok };
        assert!(of_vm(longer).is_none() && of_file(longer) == Some(Rejection::OutsideFile));
    }
}
