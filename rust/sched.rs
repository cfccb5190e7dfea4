// SPDX-License-Identifier: GPL-2.0

//! Giving up the CPU in long work.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use super::bindings;

/// Lets others run if it's their turn. May sleep.
#[inline]
pub(crate) fn cond_resched() {
    // SAFETY: An FFI call with no additional requirements but that of the context, which lockdep
    // checks.
    unsafe { bindings::kma_cond_resched() }
}
