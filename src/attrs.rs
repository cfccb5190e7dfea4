// SPDX-License-Identifier: GPL-2.0

//! Attributes as userspace has them: which there are, and which go together.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use core::fmt;

/// The attributes of a page, `KVM_MEMORY_ATTRIBUTE_*`.
///
/// 0 means no restriction and shared, which is what a page is when nobody has said anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attrs(u64);

impl Attrs {
    /// No attribute.
    pub(crate) const NONE: Self = Self(0);
    /// Not readable. Comes with [`Self::NW`] and [`Self::NX`] only.
    pub(crate) const NR: Self = Self(1 << 0);
    /// Not writable.
    pub(crate) const NW: Self = Self(1 << 1);
    /// Not executable.
    pub(crate) const NX: Self = Self(1 << 2);
    /// Guest private. Comes without a restriction only.
    pub(crate) const PRIVATE: Self = Self(1 << 3);

    /// The attributes that deny accesses, as a mask.
    pub(crate) const RESTRICTIONS: Self = Self(Self::NR.0 | Self::NW.0 | Self::NX.0);

    /// Creates a word of attributes, whether they're valid or not.
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The attributes as userspace has them.
    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// The attributes that are in `mask`, too.
    pub(crate) const fn masked(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }

    /// These attributes and those in `others`.
    pub(crate) const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Is PRIVATE set?
    pub(crate) const fn is_private(self) -> bool {
        self.0 & Self::PRIVATE.0 != 0
    }

    /// Are all attributes of `other` set?
    pub(crate) const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Can a page have these attributes? Mappings that can be written or executed but not read don't
    /// exist, and private memory can't be restricted.
    pub(crate) const fn is_valid(self) -> bool {
        let restrictions = self.masked(Self::RESTRICTIONS).0;
        let readable = restrictions & Self::NR.0 == 0;
        (readable || restrictions == Self::RESTRICTIONS.0)
            && !(self.is_private() && restrictions != 0)
    }

    /// Does a page with `new` deny an access that one with these attributes allows?
    pub(crate) const fn is_restricted_by(self, new: Self) -> bool {
        !self.contains(new.masked(Self::RESTRICTIONS))
    }

    /// What a VM supports, by whether it has private memory. `None` stands for any VM.
    pub(crate) const fn supported(has_private_mem: Option<bool>) -> Self {
        match has_private_mem {
            Some(false) => Self::RESTRICTIONS,
            Some(true) | None => Self(Self::RESTRICTIONS.0 | Self::PRIVATE.0),
        }
    }
}

/// Shows the names of the attributes.
impl fmt::Display for Attrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = [
            (Self::NR, "NR"),
            (Self::NW, "NW"),
            (Self::NX, "NX"),
            (Self::PRIVATE, "PRIVATE"),
        ]
        .iter()
        .filter(|(attr, _)| self.contains(*attr))
        .map(|(_, name)| name);

        f.write_str(names.next().unwrap_or(&"NONE"))?;
        for name in names {
            write!(f, "|{name}")?;
        }
        Ok(())
    }
}

#[cfg(any(test, KMA_KUNIT))]
#[cfg_attr(
    KMA_KUNIT,
    allow(unsafe_code),
    kernel::prelude::kunit_tests(kvm_memattr_attrs)
)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_uapi() {
        assert!(Attrs::NR.raw() == 1);
        assert!(Attrs::NW.raw() == 2);
        assert!(Attrs::NX.raw() == 4);
        assert!(Attrs::PRIVATE.raw() == 8);
        assert!(Attrs::from_raw(8).is_private());
        assert!(!Attrs::from_raw(!8).is_private());
    }

    #[test]
    fn each_unsupported_bit_is_told() {
        for bit in 0..64 {
            let word = Attrs::from_raw(1 << bit);
            assert!(Attrs::supported(Some(true)).contains(word) == (bit <= 3));
            assert!(Attrs::supported(Some(false)).contains(word) == (bit <= 2));
        }
        assert!(Attrs::supported(Some(false)).contains(Attrs::NONE));
    }

    #[test]
    fn six_words_are_valid() {
        for raw in 0..16 {
            let want = matches!(raw, 0 | 2 | 4 | 6 | 7 | 8);
            assert!(Attrs::from_raw(raw).is_valid() == want);
        }
    }

    #[test]
    fn taking_away_a_right_restricts() {
        let (all, none) = (Attrs::RESTRICTIONS, Attrs::NONE);
        assert!(none.is_restricted_by(Attrs::NW));
        assert!(Attrs::NW.is_restricted_by(Attrs::NX));
        assert!(Attrs::NW.is_restricted_by(all));
        assert!(Attrs::PRIVATE.is_restricted_by(Attrs::NX));
        assert!(!all.is_restricted_by(Attrs::NX));
        assert!(!Attrs::NW.is_restricted_by(Attrs::NW));
        assert!(!Attrs::NW.is_restricted_by(none));
        assert!(!none.is_restricted_by(Attrs::PRIVATE));
    }

    #[test]
    fn a_system_supports_what_any_vm_does() {
        assert!(Attrs::supported(None) == Attrs::supported(Some(true)));
    }
}
