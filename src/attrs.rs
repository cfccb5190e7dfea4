// SPDX-License-Identifier: GPL-2.0

//! The attribute word: which bits there are, and which words are valid.
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
    /// Guest private.
    pub(crate) const PRIVATE: Self = Self(1 << 3);

    /// Creates a word of attributes, whether they're valid or not.
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The word as userspace and the store have it.
    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// Is PRIVATE set?
    pub(crate) const fn is_private(self) -> bool {
        self.0 & Self::PRIVATE.0 != 0
    }

    /// Are all attributes of the word in `supported`?
    pub(crate) const fn is_within(self, supported: Self) -> bool {
        self.0 & !supported.0 == 0
    }

    /// What a VM supports, by whether it has private memory. `None` stands for any VM.
    pub(crate) const fn supported(has_private_mem: Option<bool>) -> Self {
        match has_private_mem {
            Some(false) => Self::NONE,
            Some(true) | None => Self::PRIVATE,
        }
    }
}

/// Shows the names of the attributes.
impl fmt::Display for Attrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_private() { "PRIVATE" } else { "NONE" })
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
    fn private_is_bit_3() {
        assert!(Attrs::PRIVATE.raw() == 8);
        assert!(Attrs::from_raw(8).is_private());
        assert!(!Attrs::from_raw(!8).is_private());
    }

    #[test]
    fn each_unsupported_bit_is_told() {
        for bit in 0..64 {
            let word = Attrs::from_raw(1 << bit);
            assert!(word.is_within(Attrs::supported(Some(true))) == (bit == 3));
            assert!(!word.is_within(Attrs::supported(Some(false))));
        }
        assert!(Attrs::NONE.is_within(Attrs::supported(Some(false))));
    }

    #[test]
    fn a_system_supports_what_any_vm_does() {
        assert!(Attrs::supported(None) == Attrs::PRIVATE);
    }
}
