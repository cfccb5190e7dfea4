// SPDX-License-Identifier: GPL-2.0

//! Being a good neighbour to other tasks.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use super::bindings;

/// Lets other tasks run if the scheduler wants that. To be called in loops whose length userspace
/// chooses, with no spinlock held.
#[inline]
pub(crate) fn cond_resched() {
    // SAFETY: May be called in any context that may sleep; where it mustn't be, the kernel's
    // debugging reports it, and no memory safety is lost.
    unsafe { bindings::kma_cond_resched() }
}
