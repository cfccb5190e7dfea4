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
        Runs,
        RUNS_AT_ONCE, //
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
    /// Teardown of a VM, deletion of a slot. Also of pages that lose rights, whoever says what kind
    /// they are.
    pub(crate) const BOTH: Self = Self {
        only_private: true,
        only_shared: true,
    };
    /// What an invalidation of a guest_memfd is about, by what all of the invalidated memory is.
    pub(crate) fn of_gmem(private: bool, shared: bool) -> Self {
        match (private, shared) {
            (true, _) => Self::PRIVATE,
            (_, true) => Self::SHARED,
            _ => Self::BOTH,
        }
    }

    /// What a change of what's enforced from `old` to `new` zaps: where a request names no kind, that's
    /// decided by the attributes, and for the kind of memory by the VM type's policy.
    pub(crate) fn of_change(policy: SetZap, old: Attrs, new: Attrs) -> Zap {
        match policy {
            // Of both kinds, as the memory may be of another kind than the attributes say, which a
            // guest_memfd decides then.
            _ if old.is_restricted_by(new) => Zap::Pages(Self::BOTH),
            SetZap::KindThatGoesAway if old.is_private() && !new.is_private() => {
                Zap::Pages(Self::PRIVATE)
            }
            SetZap::KindThatGoesAway if !old.is_private() && new.is_private() => {
                Zap::Pages(Self::SHARED)
            }
            _ if new.is_restricted_by(old) => Zap::WhereLarger,
            _ => Zap::Nothing,
        }
    }

    /// Can a page have a mapping that the scope is about?
    fn concerns(self, private: bool) -> bool {
        match (self.only_private, self.only_shared) {
            (true, false) => private,
            (false, true) => !private,
            _ => true,
        }
    }
}

/// What of the pages that change is zapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zap {
    /// Nothing: what's mapped stays right.
    Nothing,
    /// All of them.
    Pages(ZapScope),
    /// Those that become part of a larger page. Pages that only gain rights may stay mapped with the
    /// old ones, but are to be mapped anew where a hugepage has become possible.
    WhereLarger,
}

/// What can be said about a memory slot, as far as zapping goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotKind {
    /// Made by userspace.
    pub(crate) user: bool,
    /// A guest_memfd holds all of its memory, shared or private, and doesn't say which is which.
    pub(crate) gmem_only: bool,
    /// The VM has private memory.
    pub(crate) private_mem: bool,
}

/// The first part of `range`, at or after `from`, that can have a mapping that `scope` is about, as its
/// first page and the page after it.
///
/// Whoever asks holds mmu_lock, and spares as many runs as there are boundaries. So an empty part is
/// answered where none of the next [`RUNS_AT_ONCE`] runs is concerned, up to which nothing is to be
/// zapped: a chance to let others have the lock, and to ask for the rest.
///
/// Where it's not known, all of the range is answered: KVM's own slots have no attributes, and in
/// a slot that a guest_memfd backs alone both kinds of mappings come from the file, so that an
/// invalidation of the file must not spare pages for their attributes.
pub(crate) fn next_part(
    scope: ZapScope,
    slot: SlotKind,
    runs: &impl Runs,
    range: &GfnRange,
    from: Gfn,
) -> Option<(Gfn, Gfn)> {
    let rest = rest_from(range, from)?;

    if !slot.user || slot.gmem_only || !slot.private_mem || scope == ZapScope::BOTH {
        return Some((rest.start(), rest.end()));
    }
    let mut spared = rest.start();
    for run in runs.runs(&rest).take(RUNS_AT_ONCE) {
        if scope.concerns(run.word.is_private()) {
            return Some((run.range.start(), run.range.end()));
        }
        spared = run.range.end();
    }
    (spared < rest.end()).then_some((spared, spared))
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
            if part != Some((Gfn::new(*start), Gfn::new(*end))) {
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
    fn sparing_many_runs_gives_others_a_chance() {
        const NR: usize = 2 * RUNS_AT_ONCE + 2;
        static PAGES: [u8; NR] = {
            let mut pages = [b'.'; NR];
            let mut n = 0;
            while n < NR {
                pages[n] = b'W';
                n += 2;
            }
            pages[NR - 1] = b'P';
            pages
        };
        let (pages, all) = (Pages(&PAGES), range(0, NR as u64));
        let next = |from| next_part(ZapScope::PRIVATE, USER, &pages, &all, from);

        let (once, last) = (Gfn::new(RUNS_AT_ONCE as u64), Gfn::new(NR as u64 - 1));
        let twice = Gfn::new(2 * RUNS_AT_ONCE as u64);
        assert!(next(all.start()) == Some((once, once)));
        assert!(next(once) == Some((twice, twice)));
        assert!(next(twice) == Some((last, all.end())));
        assert!(next(all.end()).is_none());
    }

    #[test]
    fn guest_memfd_zaps_private_only() {
        assert!(parts(ZapScope::PRIVATE, USER, &[(2, 4), (5, 6)]));
    }

    #[test]
    fn teardown_zaps_both_kinds() {
        assert!(parts(ZapScope::BOTH, USER, &[(1, 8)]));
    }

    #[test]
    fn the_file_decides_the_scope_of_its_invalidation() {
        assert!(ZapScope::of_gmem(false, true) == ZapScope::SHARED);
        assert!(ZapScope::of_gmem(true, false) == ZapScope::PRIVATE);
        assert!(ZapScope::of_gmem(false, false) == ZapScope::BOTH);
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
            let zap = |old, new| ZapScope::of_change(SetZap::of(vm_type), old, new);
            for shared in [Attrs::NONE, Attrs::NW, Attrs::RESTRICTIONS] {
                assert!(zap(shared, Attrs::PRIVATE) == Zap::Pages(ZapScope::SHARED));
            }
            assert!(zap(Attrs::PRIVATE, Attrs::NONE) == Zap::Pages(ZapScope::PRIVATE));
            // What a guest_memfd says to be shared may be private by an attribute that nobody asks.
            assert!(zap(Attrs::PRIVATE, Attrs::NW) == Zap::Pages(ZapScope::BOTH));
        }
    }

    #[test]
    fn private_zaps_nothing_without_private_memory() {
        for vm_type in [VmType::Default, VmType::Sev, VmType::SevEs] {
            let zap = |old, new| ZapScope::of_change(SetZap::of(vm_type), old, new);
            assert!(zap(Attrs::NONE, Attrs::PRIVATE) == Zap::Nothing);
            assert!(zap(Attrs::PRIVATE, Attrs::NONE) == Zap::Nothing);
        }
    }

    #[test]
    fn taking_rights_away_zaps_both_kinds_on_every_type() {
        for policy in [SetZap::KindThatGoesAway, SetZap::Nothing] {
            for (old, new) in [
                (Attrs::NONE, Attrs::NW),
                (Attrs::NW, Attrs::NX),
                (Attrs::NX, Attrs::RESTRICTIONS),
            ] {
                assert!(ZapScope::of_change(policy, old, new) == Zap::Pages(ZapScope::BOTH));
            }
        }
    }

    #[test]
    fn granting_rights_zaps_only_for_larger_pages() {
        for policy in [SetZap::KindThatGoesAway, SetZap::Nothing] {
            for (old, new) in [
                (Attrs::NW, Attrs::NONE),
                (Attrs::RESTRICTIONS, Attrs::NX),
                (Attrs::RESTRICTIONS, Attrs::NONE),
            ] {
                assert!(ZapScope::of_change(policy, old, new) == Zap::WhereLarger);
            }
        }
    }
}
