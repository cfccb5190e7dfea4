/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The log of the pages that the guest of kvm_memattr_rwx.h has written: its slot's
 * bitmap, or the rings of its vCPUs if it has been created with some.
 */
#ifndef KVM_MEMATTR_RWX_LOG_H
#define KVM_MEMATTR_RWX_LOG_H

#include <asm/barrier.h>
#include <linux/bitmap.h>

#include "kvm_memattr_rwx.h"

/* More than any test writes between two looks at it. */
#define RWX_RING	4096

struct rwx_log {
	struct kvm_vm *vm;
	u64 nr_pages;
	/* What of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 is enabled. */
	u64 manual;
	/* By page, as of the last look. */
	unsigned long *dirty;
};

static inline void rwx_log_init(struct rwx_log *log, struct rwx_guest *g, u64 manual)
{
	*log = (struct rwx_log) {
		.vm = g->vm,
		.nr_pages = g->nr_pages,
		.manual = manual,
		.dirty = bitmap_zalloc(g->nr_pages),
	};
	if (manual)
		vm_enable_cap(log->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, manual);
}

static inline void rwx_log_free(struct rwx_log *log)
{
	free(log->dirty);
}

static inline void rwx_log_set(struct rwx_log *log, bool on)
{
	vm_mem_region_set_flags(log->vm, KMA_SLOT, on ? KVM_MEM_LOG_DIRTY_PAGES : 0);
}

/* How many entries the ring had. */
static inline u32 rwx_log_drain(struct rwx_log *log, struct kvm_vcpu *vcpu)
{
	struct kvm_dirty_gfn *ring = vcpu_map_dirty_ring(vcpu), *entry;
	u32 nr = 0;

	for (;; nr++, vcpu->fetch_index++) {
		entry = &ring[vcpu->fetch_index % vcpu->dirty_gfns_count];
		/* KVM has written the rest of the entry before its flags. */
		if (smp_load_acquire(&entry->flags) != KVM_DIRTY_GFN_F_DIRTY)
			return nr;
		TEST_ASSERT(entry->slot == KMA_SLOT && entry->offset < log->nr_pages,
			    "page %llu of slot %u is dirty", entry->offset, entry->slot);
		set_bit(entry->offset, log->dirty);
		/* It may be used again, as it has been read. */
		smp_store_release(&entry->flags, KVM_DIRTY_GFN_F_RESET);
	}
}

/* What has been written since the last time is write-protected again. */
static inline void rwx_log_fetch(struct rwx_log *log)
{
	struct kvm_vcpu *vcpu;
	u32 nr = 0;

	if (log->vm->dirty_ring_size) {
		bitmap_zero(log->dirty, log->nr_pages);
		list_for_each_entry(vcpu, &log->vm->vcpus, list)
			nr += rwx_log_drain(log, vcpu);
		TEST_ASSERT_EQ(kvm_vm_reset_dirty_ring(log->vm), nr);
		return;
	}

	kvm_vm_get_dirty_log(log->vm, KMA_SLOT, log->dirty);
	if (log->manual)
		kvm_vm_clear_dirty_log(log->vm, KMA_SLOT, log->dirty, 0, log->nr_pages);
}

static inline void rwx_log_assert(struct rwx_log *log, u64 page, bool dirty)
{
	TEST_ASSERT(test_bit(page, log->dirty) == dirty, "page %lu is %sdirty", page,
		    dirty ? "not " : "");
}

/* Logging is on, and everything that is mapped is clean and protected. */
static inline void rwx_log_begin(struct rwx_log *log)
{
	rwx_log_set(log, true);
	rwx_log_fetch(log);
	if (!(log->manual & KVM_DIRTY_LOG_INITIALLY_SET))
		return;
	for (u64 page = 0; page < log->nr_pages; page++)
		rwx_log_assert(log, page, true);
}

#endif /* KVM_MEMATTR_RWX_LOG_H */
