// SPDX-License-Identifier: GPL-2.0

//! Giving up the CPU, or the work, where it takes long.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use super::bindings;

/// Lets others run if it's their turn. May sleep, so it's not for where a spinlock is held:
/// CONFIG_DEBUG_ATOMIC_SLEEP checks that.
#[inline]
pub(crate) fn cond_resched() {
    // SAFETY: An FFI call with no additional requirements. In the wrong context it's a bug that
    // the scheduler reports, and no memory is at stake.
    unsafe { bindings::kma_cond_resched() }
}

/// Is the current task being killed?
pub(crate) fn fatal_signal_pending() -> bool {
    // SAFETY: An FFI call with no additional requirements.
    unsafe { bindings::kma_fatal_signal_pending() }
}

/// Is there a signal that the current task is to handle?
pub(crate) fn signal_pending() -> bool {
    // SAFETY: An FFI call with no additional requirements.
    unsafe { bindings::kma_signal_pending() }
}
