// SPDX-License-Identifier: GPL-2.0
/*
 * Test-only: what KVM takes a VM's memory for, many pages at a time.  A test
 * that asked a guest would wait for a VM exit with each page.
 */
#include <linux/cleanup.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/uaccess.h>

#include "kvm_memattr_observer.h"
#include "observer.h"

/* Words of answers between two looks at whether others want the CPU. */
#define STEP	64

#define MOST_ZAPS	(SZ_4M / sizeof(struct kma_gfns))

/* Nobody but KVM gives a file of this name out. */
static bool is_vm(struct file *file)
{
	return !strcmp(file->f_path.dentry->d_name.name, "kvm-vm");
}

static long observe_private(struct kvm *kvm, const struct kma_observe *o)
{
	u64 nr_words = DIV_ROUND_UP(o->end - o->start, 64);
	u64 __user *to = u64_to_user_ptr(o->buffer);
	u64 words[STEP], done, i, bit;
	gfn_t gfn = o->start;
	int idx;

	if (o->room / sizeof(u64) < nr_words)
		return -ENOSPC;

	for (done = 0; done < nr_words; done += i) {
		/* A page of a memslot may be asked for in its guest_memfd. */
		idx = srcu_read_lock(&kvm->srcu);
		for (i = 0; i < STEP && done + i < nr_words; i++) {
			words[i] = 0;
			for (bit = 0; bit < 64 && gfn < o->end; bit++, gfn++)
				words[i] |= (u64)kvm_mem_is_private(kvm, gfn) << bit;
		}
		srcu_read_unlock(&kvm->srcu, idx);
		if (copy_to_user(to + done, words, i * sizeof(u64)))
			return -EFAULT;
		cond_resched();
	}
	return nr_words;
}

/* As kvm_unmap_gfn_range() asks, with the lock that it is called with. */
static u64 slot_zaps(struct kvm *kvm, struct kvm_gfn_range *range,
		     struct kma_gfns *found, u64 most)
{
	const struct kvm_mem_attr_ops *ops = kvm_mem_attr_provider(kvm);
	gfn_t from = range->start, start, end;
	u64 nr = 0;

	write_lock(&kvm->mmu_lock);
	while (nr < most && from < range->end &&
	       ops->next_zap(kvm, range, from, &start, &end)) {
		found[nr++] = (struct kma_gfns) { .start = start, .end = end };
		from = end;
	}
	write_unlock(&kvm->mmu_lock);
	return nr;
}

static long observe_zaps(struct kvm *kvm, const struct kma_observe *o)
{
	u64 most = o->room / sizeof(struct kma_gfns), nr = 0;
	struct kvm_memslot_iter iter;
	int idx;

	if (!kvm_mem_attr_provider(kvm))
		return -EOPNOTSUPP;
	if (!most || most > MOST_ZAPS)
		return -EINVAL;

	struct kma_gfns *found __free(kvfree) = kvcalloc(most, sizeof(*found), GFP_KERNEL);
	if (!found)
		return -ENOMEM;

	idx = srcu_read_lock(&kvm->srcu);
	kvm_for_each_memslot_in_gfn_range(&iter, __kvm_memslots(kvm, 0), o->start, o->end) {
		struct kvm_memory_slot *slot = iter.slot;
		struct kvm_gfn_range range = {
			.slot = slot,
			.start = max(o->start, slot->base_gfn),
			.end = min(o->end, slot->base_gfn + slot->npages),
			.attr_filter = o->what,
		};

		nr += slot_zaps(kvm, &range, found + nr, most - nr);
	}
	srcu_read_unlock(&kvm->srcu, idx);

	if (copy_to_user(u64_to_user_ptr(o->buffer), found, nr * sizeof(*found)))
		return -EFAULT;
	return nr;
}

static u32 huge_page(struct kvm *kvm, gfn_t gfn, int level)
{
	struct kvm_memory_slot *slot = __gfn_to_memslot(__kvm_memslots(kvm, 0), gfn);
	unsigned int shift = KVM_HPAGE_GFN_SHIFT(level);
	u64 index;

	/* KVM has words for the parts at both ends of a slot, too, that mean nothing. */
	if (!slot || gfn + KVM_PAGES_PER_HPAGE(level) > slot->base_gfn + slot->npages)
		return KMA_NO_HUGE_PAGE;

	index = (gfn >> shift) - (slot->base_gfn >> shift);
	return READ_ONCE(slot->arch.lpage_info[level - PG_LEVEL_2M][index].disallow_lpage);
}

static long observe_huge(struct kvm *kvm, const struct kma_observe *o)
{
	u32 __user *to = u64_to_user_ptr(o->buffer);
	u64 nr_pages, nr, done, i;
	u32 words[STEP];
	int idx;

	if (o->what != PG_LEVEL_2M && o->what != PG_LEVEL_1G)
		return -EINVAL;

	nr_pages = KVM_PAGES_PER_HPAGE(o->what);
	if (!IS_ALIGNED(o->start, nr_pages) || !IS_ALIGNED(o->end, nr_pages))
		return -EINVAL;

	nr = (o->end - o->start) / nr_pages;
	if (o->room / sizeof(u32) < nr)
		return -ENOSPC;

	for (done = 0; done < nr; done += i) {
		idx = srcu_read_lock(&kvm->srcu);
		for (i = 0; i < STEP && done + i < nr; i++)
			words[i] = huge_page(kvm, o->start + (done + i) * nr_pages, o->what);
		srcu_read_unlock(&kvm->srcu, idx);

		if (copy_to_user(to + done, words, i * sizeof(u32)))
			return -EFAULT;
		cond_resched();
	}
	return nr;
}

static long observe(struct file *unused, unsigned int cmd, unsigned long arg)
{
	struct kma_observe o;
	struct kvm *kvm;

	if (copy_from_user(&o, (void __user *)arg, sizeof(o)))
		return -EFAULT;
	if (o.start >= o.end)
		return -EINVAL;

	CLASS(fd, vm)(o.vm_fd);
	if (fd_empty(vm))
		return -EBADF;
	if (!is_vm(fd_file(vm)))
		return -EINVAL;

	kvm = fd_file(vm)->private_data;
	switch (cmd) {
	case KMA_OBSERVE_PRIVATE:
		return observe_private(kvm, &o);
	case KMA_OBSERVE_ZAPS:
		return observe_zaps(kvm, &o);
	case KMA_OBSERVE_HUGE:
		return observe_huge(kvm, &o);
	default:
		return -ENOTTY;
	}
}

const struct file_operations observer_vm_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.unlocked_ioctl = observe,
};
