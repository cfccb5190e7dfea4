// SPDX-License-Identifier: GPL-2.0

//! Content policies: what userspace can ask for, and what it gets.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::scope::VmType;

/// Which side pages change to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From shared to private.
    ToPrivate,
    /// From private to shared.
    ToShared,
}

/// What is promised of the contents of pages that change sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// They're zeros.
    Zero,
    /// They stay.
    Preserve,
    /// Nothing.
    None,
}

/// A set of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policies(u64);

impl Policies {
    /// No policy.
    pub(crate) const NONE: Self = Self(0);
    /// All of them.
    pub(crate) const ALL: Self = Self(0b111);

    /// One policy.
    pub(crate) const fn of(policy: Policy) -> Self {
        Self(match policy {
            Policy::Zero => 1 << 0,
            Policy::Preserve => 1 << 1,
            Policy::None => 1 << 2,
        })
    }

    /// The set as userspace knows it: a flag for each policy.
    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// Is the policy in the set?
    pub(crate) const fn contains(self, policy: Policy) -> bool {
        self.0 & Self::of(policy).0 != 0
    }

    /// What a type of VMs can promise in a direction, `None` if it can't convert memory in place.
    ///
    /// What guest and host see of a software-protected VM's memory are the same bytes. So they are for
    /// types without private memory, which have only one direction: what the host couldn't map becomes
    /// something that it can. SEV is one of them, but what its guest has written encrypted is of no use
    /// to the host, and what the guest's caches still hold of it may be written back over what the host
    /// writes. Hardware that tracks the owner of memory has to do something about each page, which
    /// nobody does yet.
    pub(crate) const fn promised(vm_type: VmType, direction: Direction) -> Option<Self> {
        match (vm_type, direction) {
            (VmType::SwProtected, _) => Some(Self::ALL),
            (VmType::Default, Direction::ToShared) => Some(Self::ALL),
            (VmType::Sev | VmType::SevEs, Direction::ToShared) => Some(Self::of(Policy::None)),
            (VmType::Default | VmType::Sev | VmType::SevEs, Direction::ToPrivate) => None,
            (VmType::Snp | VmType::Tdx | VmType::Unknown, _) => None,
        }
    }

    /// What a type of VMs can promise in some direction.
    pub(crate) fn promised_at_all(vm_type: VmType) -> Self {
        [Direction::ToPrivate, Direction::ToShared]
            .into_iter()
            .filter_map(|direction| Self::promised(vm_type, direction))
            .fold(Self::NONE, |all, some| Self(all.0 | some.0))
    }

    /// The policy that userspace's flags ask for, if they ask for one. An error if they have more than
    /// one, or something else.
    pub(crate) fn parse(flags: u64) -> Result<Option<Policy>, Unknown> {
        match flags {
            0 => Ok(None),
            _ => [Policy::Zero, Policy::Preserve, Policy::None]
                .into_iter()
                .find(|policy| flags == Self::of(*policy).0)
                .map(Some)
                .ok_or(Unknown),
        }
    }

    /// What's done where `asked` is asked for, or nothing, and the default is `default`. `None` if the
    /// policy that was asked for isn't in the set; a default that isn't promises nothing instead.
    pub(crate) fn choose(self, asked: Option<Policy>, default: Policy) -> Option<Policy> {
        match asked {
            Some(policy) => self.contains(policy).then_some(policy),
            None if self.contains(default) => Some(default),
            None => Some(Policy::None),
        }
    }
}

/// Flags that ask for no single policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unknown;

#[cfg(any(test, KMA_KUNIT))]
#[cfg_attr(
    KMA_KUNIT,
    allow(unsafe_code),
    kernel::prelude::kunit_tests(kvm_memattr_policy)
)]
mod tests {
    use super::*;

    const EACH: [Policy; 3] = [Policy::Zero, Policy::Preserve, Policy::None];

    #[test]
    fn flags_are_those_of_the_uapi() {
        assert!(Policies::parse(0) == Ok(None));
        assert!(Policies::parse(1) == Ok(Some(Policy::Zero)));
        assert!(Policies::parse(2) == Ok(Some(Policy::Preserve)));
        assert!(Policies::parse(4) == Ok(Some(Policy::None)));
        assert!(Policies::ALL.raw() == 7);
    }

    #[test]
    fn two_policies_and_unknown_flags_are_refused() {
        for flags in [3, 5, 6, 7] {
            assert!(Policies::parse(flags) == Err(Unknown));
        }
        for bit in 3..64 {
            assert!(Policies::parse(1 << bit) == Err(Unknown));
            assert!(Policies::parse(1 << bit | 1) == Err(Unknown));
        }
    }

    #[test]
    fn what_is_asked_for_is_given_or_refused() {
        for policy in EACH {
            for default in EACH {
                assert!(Policies::ALL.choose(Some(policy), default) == Some(policy));
                assert!(Policies::NONE.choose(Some(policy), default).is_none());
            }
        }
    }

    #[test]
    fn the_default_is_never_refused() {
        for default in EACH {
            assert!(Policies::ALL.choose(None, default) == Some(default));
            assert!(Policies::NONE.choose(None, default) == Some(Policy::None));
        }
    }

    #[test]
    fn types_without_private_memory_become_shared_only() {
        for vm_type in [VmType::Default, VmType::Sev, VmType::SevEs] {
            let promised = |direction| Policies::promised(vm_type, direction);
            assert!(promised(Direction::ToPrivate).is_none());
            assert!(promised(Direction::ToShared) == Some(Policies::promised_at_all(vm_type)));
        }
        assert!(Policies::promised_at_all(VmType::Default) == Policies::ALL);
    }

    #[test]
    fn nothing_is_promised_of_what_is_encrypted() {
        for vm_type in [VmType::Sev, VmType::SevEs] {
            let promised = Policies::promised(vm_type, Direction::ToShared);
            let choose = |asked, default| promised.and_then(|set| set.choose(asked, default));
            assert!(choose(Some(Policy::Preserve), Policy::Zero).is_none());
            assert!(choose(Some(Policy::Zero), Policy::Zero).is_none());
            assert!(choose(Some(Policy::None), Policy::Zero) == Some(Policy::None));
            assert!(choose(None, Policy::Zero) == Some(Policy::None));
        }
    }

    #[test]
    fn software_protected_memory_goes_both_ways_with_each_policy() {
        for direction in [Direction::ToPrivate, Direction::ToShared] {
            let promised = Policies::promised(VmType::SwProtected, direction);
            assert!(promised == Some(Policies::ALL));
        }
    }

    #[test]
    fn hardware_that_nobody_serves_converts_nothing() {
        for vm_type in [VmType::Snp, VmType::Tdx, VmType::Unknown] {
            for direction in [Direction::ToPrivate, Direction::ToShared] {
                assert!(Policies::promised(vm_type, direction).is_none());
            }
            assert!(Policies::promised_at_all(vm_type) == Policies::NONE);
        }
    }
}
