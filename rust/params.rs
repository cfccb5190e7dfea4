// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, which `params.c` has.

use super::bindings;

/// The words that `default_content_policy` can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentPolicyWord {
    /// `zero`.
    Zero,
    /// `preserve`.
    Preserve,
    /// `none`.
    None,
}

/// What `default_content_policy` is. It doesn't change as long as the module is loaded.
pub(crate) fn default_content_policy() -> ContentPolicyWord {
    // SAFETY: An FFI call with no additional requirements.
    match unsafe { bindings::kma_default_content_policy() } {
        0 => ContentPolicyWord::Zero,
        1 => ContentPolicyWord::Preserve,
        _ => ContentPolicyWord::None,
    }
}
