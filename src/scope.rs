// SPDX-License-Identifier: GPL-2.0

//! Zap scopes: which kind of mappings an invalidation is about.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::gfn::Gfn,
    range::GfnRange,
    runs::{
        rest_from,
        Runs, //
    },
};

/// Which kind of mappings an invalidation is about.
///
/// Both bits of a scope may be set: teardown of a VM and deletion of a slot are about both kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ZapScope {
    /// About private mappings.
    pub(crate) only_private: bool,
    /// About shared mappings.
    pub(crate) only_shared: bool,
}

impl ZapScope {
    /// An MMU notifier event: the memory that backs shared pages goes away or changes. Also an
    /// invalidation of guest_memfd offsets that are shared in place.
    pub(crate) const SHARED: Self = Self {
        only_private: false,
        only_shared: true,
    };
    /// An invalidation of a guest_memfd: the memory that backs private pages goes away.
    pub(crate) const PRIVATE: Self = Self {
        only_private: true,
        only_shared: false,
    };
    /// Teardown of a VM, deletion of a slot.
    pub(crate) const TEARDOWN: Self = Self {
        only_private: true,
        only_shared: true,
    };
    /// A change of attributes: see [`Self::decide`].
    pub(crate) const SET: Self = Self {
        only_private: false,
        only_shared: false,
    };

    /// What an invalidation of a guest_memfd is about, by what the file's memory is.
    pub(crate) fn of_gmem(shared: bool) -> Self {
        if shared {
            Self::SHARED
        } else {
            Self::PRIVATE
        }
    }

    /// The scope of a zap for pages that are to have `attrs`, or `None` for no zap. A scope that
    /// leaves it open, i.e. [`Self::SET`], is decided by the VM type's policy.
    pub(crate) fn decide(self, policy: SetZap, attrs: Attrs) -> Option<Self> {
        match (self, policy) {
            (Self::SET, SetZap::KindThatGoesAway) if attrs.is_private() => Some(Self::SHARED),
            (Self::SET, SetZap::KindThatGoesAway) => Some(Self::PRIVATE),
            (Self::SET, SetZap::Nothing) => None,
            _ => Some(self),
        }
    }

    /// Can a page with these attributes have a mapping that the scope is about?
    fn concerns(self, attrs: Attrs) -> bool {
        match (self.only_private, self.only_shared) {
            (true, false) => attrs.is_private(),
            (false, true) => !attrs.is_private(),
            _ => true,
        }
    }
}

/// What can be said about a memory slot, as far as zapping goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotKind {
    /// Made by userspace.
    pub(crate) user: bool,
    /// A guest_memfd holds all of its memory, shared or private.
    pub(crate) gmem_only: bool,
    /// The VM has private memory.
    pub(crate) private_mem: bool,
}

/// The first part of `range`, at or after `from`, that can have a mapping that `scope` is about.
///
/// Where that's not known, all of the range is answered: KVM's own slots have no attributes, and in
/// a slot that a guest_memfd backs alone both kinds of mappings come from the file, so that an
/// invalidation of the file must not spare pages for their attributes.
pub(crate) fn next_part(
    scope: ZapScope,
    slot: SlotKind,
    runs: &impl Runs,
    range: &GfnRange,
    from: Gfn,
) -> Option<GfnRange> {
    let rest = rest_from(range, from)?;

    if !slot.user || slot.gmem_only || !slot.private_mem || scope == ZapScope::TEARDOWN {
        return Some(rest);
    }
    runs.runs(&rest)
        .find(|run| scope.concerns(run.attrs))
        .map(|run| run.range)
}

/// The types of VMs that KVM has on x86.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmType {
    /// KVM_X86_DEFAULT_VM.
    Default,
    /// KVM_X86_SW_PROTECTED_VM.
    SwProtected,
    /// KVM_X86_SEV_VM.
    Sev,
    /// KVM_X86_SEV_ES_VM.
    SevEs,
    /// KVM_X86_SNP_VM.
    Snp,
    /// KVM_X86_TDX_VM.
    Tdx,
    /// One that didn't exist when this was written.
    Unknown,
}

/// What a VM type wants zapped when attributes are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetZap {
    /// Mappings of the kind that goes away: to private zaps shared, to shared zaps private.
    KindThatGoesAway,
    /// Nothing: no mapping depends on the attributes.
    Nothing,
}

impl SetZap {
    /// The decision, by VM type.
    ///
    /// An SNP guest's pages change sides with the file's own invalidation only if one file holds
    /// both sides. As long as PRIVATE is set by gfn, the two sides have different pages, and KVM
    /// takes a fault that finds a mapping of another page for a bug of its own (see
    /// `handle_changed_spte()`): so the old mapping has to go here, as on the other types.
    pub(crate) const fn of(vm_type: VmType) -> Self {
        match vm_type {
            VmType::SwProtected | VmType::Snp | VmType::Tdx | VmType::Unknown => {
                Self::KindThatGoesAway
            }
            VmType::Default | VmType::Sev | VmType::SevEs => Self::Nothing,
        }
    }
}

#[cfg(any(test, KMA_KUNIT))]
#[cfg_attr(
    KMA_KUNIT,
    allow(unsafe_code),
    kernel::prelude::kunit_tests(kvm_memattr_scope)
)]
mod tests {
    use super::*;
    use crate::runs::testing::*;

    const USER: SlotKind = SlotKind {
        user: true,
        gmem_only: false,
        private_mem: true,
    };

    fn parts(scope: ZapScope, slot: SlotKind, want: &[(u64, u64)]) -> bool {
        let pages = Pages(b"..PP.P..");
        let all = range(1, 8);
        let mut from = all.start();
        for (start, end) in want {
            let part = next_part(scope, slot, &pages, &all, from);
            if part != Some(range(*start, *end)) {
                return false;
            }
            from = Gfn::new(*end);
        }
        next_part(scope, slot, &pages, &all, from).is_none()
    }

    #[test]
    fn notifier_zaps_shared_only() {
        assert!(parts(ZapScope::SHARED, USER, &[(1, 2), (4, 5), (6, 8)]));
    }

    #[test]
    fn guest_memfd_zaps_private_only() {
        assert!(parts(ZapScope::PRIVATE, USER, &[(2, 4), (5, 6)]));
    }

    #[test]
    fn teardown_zaps_both() {
        assert!(parts(ZapScope::TEARDOWN, USER, &[(1, 8)]));
    }

    #[test]
    fn the_file_decides_the_scope_of_its_invalidation() {
        assert!(ZapScope::of_gmem(true) == ZapScope::SHARED);
        assert!(ZapScope::of_gmem(false) == ZapScope::PRIVATE);
    }

    #[test]
    fn unknown_zaps_all() {
        for scope in [ZapScope::SHARED, ZapScope::PRIVATE] {
            for slot in [
                SlotKind {
                    user: false,
                    ..USER
                },
                SlotKind {
                    gmem_only: true,
                    ..USER
                },
                SlotKind {
                    private_mem: false,
                    ..USER
                },
            ] {
                assert!(parts(scope, slot, &[(1, 8)]));
            }
        }
    }

    #[test]
    fn setting_zaps_the_kind_that_goes_away() {
        for vm_type in [
            VmType::SwProtected,
            VmType::Snp,
            VmType::Tdx,
            VmType::Unknown,
        ] {
            let policy = SetZap::of(vm_type);
            let scope = |attrs| ZapScope::SET.decide(policy, attrs);
            assert!(scope(Attrs::PRIVATE) == Some(ZapScope::SHARED));
            assert!(scope(Attrs::NONE) == Some(ZapScope::PRIVATE));
        }
    }

    #[test]
    fn setting_zaps_nothing_without_private_memory() {
        for vm_type in [VmType::Default, VmType::Sev, VmType::SevEs] {
            let policy = SetZap::of(vm_type);
            assert!(ZapScope::SET.decide(policy, Attrs::PRIVATE).is_none());
            assert!(ZapScope::SET.decide(policy, Attrs::NONE).is_none());
        }
    }

    #[test]
    fn only_setting_leaves_the_scope_open() {
        assert!(!ZapScope::SET.only_private && !ZapScope::SET.only_shared);
        for scope in [ZapScope::SHARED, ZapScope::PRIVATE, ZapScope::TEARDOWN] {
            for attrs in [Attrs::NONE, Attrs::PRIVATE] {
                assert!(scope.decide(SetZap::KindThatGoesAway, attrs) == Some(scope));
            }
        }
    }
}
