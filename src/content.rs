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
    pub(crate) policies: Policies,
    /// Makes a policy true for a folio that changes sides, is mapped by nobody, and has no references
    /// if it becomes private. Not called for [`Policy::Preserve`] unless [`Self::always`].
    pub(crate) apply: fn(&Folio, Policy),
    /// Is [`Self::apply`] to be called even if contents are preserved?
    pub(crate) always: bool,
}

/// The steps of a type of VMs, by direction.
pub(crate) struct Steps {
    to_private: Option<Step>,
    to_shared: Option<Step>,
}

impl Steps {
    /// The decision, by VM type.
    ///
    /// What guest and host see of a software-protected VM's memory are the same bytes. So they are for
    /// types without private memory, which have only one direction: what the host couldn't map becomes
    /// something that it can. Hardware that encrypts memory, or tracks its owner, needs a step of its
    /// own, without which its memory isn't converted in place.
    pub(crate) const fn of(vm_type: VmType) -> Self {
        const PLAIN: Option<Step> = Some(Step {
            policies: Policies::ALL,
            apply: fill,
            always: false,
        });
        match vm_type {
            VmType::SwProtected => Self {
                to_private: PLAIN,
                to_shared: PLAIN,
            },
            VmType::Default | VmType::Sev | VmType::SevEs => Self {
                to_private: None,
                to_shared: PLAIN,
            },
            VmType::Snp | VmType::Tdx | VmType::Unknown => Self {
                to_private: None,
                to_shared: None,
            },
        }
    }

    /// Can memory be converted in place?
    pub(crate) const fn any(&self) -> bool {
        self.to_private.is_some() || self.to_shared.is_some()
    }

    /// The step in a direction, `None` if the type hasn't got it.
    pub(crate) const fn step(&self, direction: Direction) -> Option<Step> {
        match direction {
            Direction::ToPrivate => self.to_private,
            Direction::ToShared => self.to_shared,
        }
    }

    /// The policies that are supported in some direction.
    pub(crate) fn policies(&self) -> Policies {
        [self.to_private, self.to_shared]
            .into_iter()
            .flatten()
            .fold(Policies::NONE, |all, step| all.or(step.policies))
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
