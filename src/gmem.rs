// SPDX-License-Identifier: GPL-2.0

//! What the module keeps for the inode of a guest_memfd.
//!
//! It belongs to the memory and not to the VM: it's freed with the inode, which can be after the VM.

#![deny(unsafe_code)]

use crate::{
    host::uapi::GUEST_MEMFD_FLAG_INIT_SHARED,
    scope::ZapScope,
    stats::Alive, //
};
use kernel::prelude::*;

/// The state of an inode.
pub(crate) struct Gmem {
    shared: bool,
    _alive: Alive,
}

impl Gmem {
    /// The state of a new inode, by the flags of KVM_CREATE_GUEST_MEMFD.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(flags: u64) -> Result<KBox<Self>> {
        Ok(KBox::new(
            Self {
                shared: flags & GUEST_MEMFD_FLAG_INIT_SHARED != 0,
                _alive: Alive::gmem_inode(),
            },
            GFP_KERNEL_ACCOUNT,
        )?)
    }

    /// What an invalidation of the inode's memory is about.
    pub(crate) fn scope(&self) -> ZapScope {
        ZapScope::of_gmem(self.shared)
    }
}
