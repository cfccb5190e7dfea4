// SPDX-License-Identifier: GPL-2.0

//! What becomes of the contents of memory that's converted.

#![deny(unsafe_code)]

use crate::{
    host::{
        folio::Folio,
        params::{
            default_content_policy,
            ContentPolicyWord, //
        },
    },
    policy::{
        Direction,
        Policies,
        Policy, //
    },
    scope::VmType,
};

/// Bytes that nobody can take for contents that were kept, or for zeros.
const POISON: u8 = 0xab;

/// What a type of VMs does to the contents of pages in one direction: the place for what hardware has
/// to do, such as to encrypt, to decrypt or to accept a page.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// The policies that the type can promise in this direction.
    pub(crate) promised: Policies,
    /// The policies for which [`Self::apply`] has anything to do.
    pub(crate) acts_on: fn(Policy) -> bool,
    /// Makes a policy true for a folio that changes sides, is mapped by nobody, and has no references
    /// if it becomes private.
    pub(crate) apply: fn(&Folio, Policy),
}

impl Step {
    /// The step of a type of VMs in a direction, `None` if it can't convert memory in place.
    pub(crate) fn of(vm_type: VmType, direction: Direction) -> Option<Self> {
        Some(Self {
            promised: Policies::promised(vm_type, direction)?,
            // The host's own mapping of the memory is what all of them are served by.
            acts_on: |policy| policy != Policy::Preserve,
            apply: fill,
        })
    }
}

/// The policy where userspace has named none.
pub(crate) fn default_policy() -> Policy {
    match default_content_policy() {
        ContentPolicyWord::Zero => Policy::Zero,
        ContentPolicyWord::Preserve => Policy::Preserve,
        ContentPolicyWord::None => Policy::None,
    }
}

/// Where memory isn't encrypted. A folio without contents is zeroed when it's first used, which is what
/// [`Policy::Zero`] promises.
fn fill(folio: &Folio, policy: Policy) {
    match policy {
        Policy::Zero if folio.is_uptodate() => folio.fill(0),
        Policy::Zero | Policy::Preserve => {}
        Policy::None => folio.fill(POISON),
    }
}
