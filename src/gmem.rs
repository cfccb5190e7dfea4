// SPDX-License-Identifier: GPL-2.0

//! What the module keeps for the inode of a guest_memfd, and what is asked of it.
//!
//! It belongs to the memory and not to the VM: it's freed with the inode, which can be after the VM.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::{
        gfn::{
            Gfn,
            Index, //
        },
        gmem::GmemGuard,
        uapi::{
            GUEST_MEMFD_FLAG_INIT_SHARED,
            GUEST_MEMFD_FLAG_MMAP, //
        },
        vm::Kvm,
    },
    policy::Policies,
    range::{
        GfnRange,
        IndexRange, //
    },
    runs::{
        Run,
        Runs, //
    },
    scope::{
        VmType,
        ZapScope, //
    },
    stats::Alive,
    store::{
        Exclusive,
        Store, //
    },
    word::Word, //
};
use kernel::prelude::*;

// Whoever changes what an inode's state says takes its invalidate lock for that.
impl Exclusive for GmemGuard<'_> {}

/// The state of an inode.
#[pin_data]
pub(crate) struct Gmem {
    /// PRIVATE, by page of the file. Changes only if [`Self::in_place`].
    #[pin]
    pub(crate) store: Store<Index>,
    /// The type of the VM that created the file.
    pub(crate) vm_type: VmType,
    /// Does the VM have private memory?
    private_mem: bool,
    in_place: bool,
    _alive: Alive,
}

impl Gmem {
    /// The state of a new inode, by the flags of KVM_CREATE_GUEST_MEMFD.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(kvm: &Kvm, flags: u64) -> Result<Pin<KBox<Self>>> {
        let (vm_type, private_mem) = (kvm.vm_type().into(), kvm.has_private_mem());
        let in_place = flags & GUEST_MEMFD_FLAG_MMAP != 0
            && Policies::promised_at_all(vm_type) != Policies::NONE;
        // What's only ever mapped where a gfn is private has nothing that it could share.
        let shared = flags & GUEST_MEMFD_FLAG_INIT_SHARED != 0 && (in_place || !private_mem);
        let default = if shared { Word::NONE } else { Word::PRIVATE };
        KBox::pin_init(
            pin_init!(Self {
                store <- Store::new(default),
                vm_type,
                private_mem,
                in_place,
                _alive: Alive::gmem_inode(),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Is it the inode that says what's private? If not, the VM does, by gfn.
    pub(crate) fn in_place(&self) -> bool {
        self.in_place
    }

    /// Does it say what's private to a guest? Without private memory, nothing is.
    pub(crate) fn decides_for_guests(&self) -> bool {
        self.in_place && self.private_mem
    }

    /// The attributes that the memory can have, whoever keeps them.
    pub(crate) fn known(&self) -> Attrs {
        if self.private_mem {
            Attrs::PRIVATE
        } else {
            Attrs::NONE
        }
    }

    /// The attributes that can be set.
    pub(crate) fn supported(&self) -> Attrs {
        if self.in_place {
            self.known()
        } else {
            Attrs::NONE
        }
    }

    /// Is the page private? In any context.
    pub(crate) fn is_private(&self, index: Index) -> bool {
        self.store.get(index).is_private()
    }

    /// What an invalidation of some of the inode's memory is about.
    pub(crate) fn scope(&self, range: &IndexRange) -> ZapScope {
        if self.private_mem && !self.in_place {
            return ZapScope::PRIVATE;
        }
        let all = |private| self.store.all(range, |word| word.is_private() == private);
        ZapScope::of_gmem(all(true), all(false))
    }

    /// Empties the store, which may take long. Nobody asks any more what's private, but for who has
    /// begun to.
    pub(crate) fn evict(&self) {
        self.store.clear();
    }
}

/// What's private in a memslot that a guest_memfd backs, by gfn.
pub(crate) struct SlotRuns<'a> {
    pub(crate) gmem: &'a Gmem,
    /// The slot's first gfn.
    pub(crate) gfn: Gfn,
    /// The page of the file that it is.
    pub(crate) index: Index,
}

impl Runs for SlotRuns<'_> {
    fn first_run(&self, range: &GfnRange) -> Run {
        let index = |gfn: Gfn| Index::new(gfn.raw() - self.gfn.raw() + self.index.raw());
        let pages = IndexRange::new(index(range.start()), index(range.end()));
        let Some(run) = pages.map(|pages| self.gmem.store.first_run(&pages)) else {
            return Run {
                range: *range,
                word: Word::NONE,
            };
        };
        let end = Gfn::new(range.start().raw() + run.range.nr_pages());
        Run {
            range: GfnRange::new(range.start(), end).unwrap_or(*range),
            word: run.word,
        }
    }
}
