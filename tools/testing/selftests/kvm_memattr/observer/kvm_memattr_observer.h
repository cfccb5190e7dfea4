/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a test can ask about a VM's memory in the kernel, by ioctl on
 * /sys/kernel/debug/kvm_memattr_observer/vm. Of mainline's VMs and of the
 * module's alike: through the functions that KVM itself asks.
 */
#ifndef KVM_MEMATTR_OBSERVER_H
#define KVM_MEMATTR_OBSERVER_H

#include <linux/bits.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/* The gfns [start, end) of a VM, and where the answers go. */
struct kma_observe {
	__s32 vm_fd;
	/* OBSERVE_HUGE: the level, 2 or 3. OBSERVE_ZAPS: the kinds of mappings. */
	__u32 what;
	__u64 start;
	__u64 end;
	__u64 buffer;
	/* Of the buffer, in bytes. */
	__u64 room;
};

#define KMA_MAPPED_SHARED	BIT(0)
#define KMA_MAPPED_PRIVATE	BIT(1)

struct kma_gfns {
	__u64 start;
	__u64 end;
};

/* A huge page that is not there, as no slot has all of it. */
#define KMA_NO_HUGE_PAGE	(~0u)
/* Of what is: some pages of it are private and some are not. */
#define KMA_HUGE_MIXED		BIT(31)

/* A bit for each gfn, in words of 64: is it private, as a page fault asks. */
#define KMA_OBSERVE_PRIVATE	_IOWR('k', 1, struct kma_observe)
/*
 * The parts of slots that a zap of mappings of these kinds is cut to, as struct
 * kma_gfns. Returns how many; what there is no room for is left out. A VM of
 * mainline's has no such thing.
 */
#define KMA_OBSERVE_ZAPS	_IOWR('k', 2, struct kma_observe)
/* A word for each huge page: how many reasons there are not to use it. */
#define KMA_OBSERVE_HUGE	_IOWR('k', 3, struct kma_observe)

#endif /* KVM_MEMATTR_OBSERVER_H */
