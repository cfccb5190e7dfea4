// SPDX-License-Identifier: GPL-2.0
/*
 * Test-only: what the benchmarks need from inside of the kernel.
 *
 * /sys/kernel/debug/kvm_memattr_bench/:
 *   lookup  write "FD GFN MASK STRIDE COUNT": ask COUNT times whether a page of
 *           the VM is private, as a page fault does.  The i-th page is
 *           GFN + (i * STRIDE & MASK).  Read what came of the last request:
 *           the cycles that it took, and how many of the answers were yes
 *   mixed   write "FD GFN PAGES": count the blocks of 2 MiB there that KVM does not
 *           map as such, as the attributes of their pages differ.  Read the count
 *   drain   write anything: wait until what RCU frees has been freed
 */
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/kvm_host.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/timex.h>
#include <linux/uaccess.h>

struct lookup {
	int fd;
	u64 gfn;
	u64 mask;
	u64 stride;
	u64 count;
};

/* The benchmarks ask one after the other. */
static u64 cycles_taken;
static u64 nr_private;

/* Nobody but KVM gives a file of this name out. */
static bool is_vm(struct file *file)
{
	return !strcmp(file->f_path.dentry->d_name.name, "kvm-vm");
}

static noinline void look_up(struct kvm *kvm, const struct lookup *lookup)
{
	u64 start, i, found = 0;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	start = rdtsc_ordered();
	for (i = 0; i < lookup->count; i++)
		found += kvm_mem_is_private(kvm, lookup->gfn +
					    (i * lookup->stride & lookup->mask));
	cycles_taken = rdtsc_ordered() - start;
	srcu_read_unlock(&kvm->srcu, idx);
	nr_private = found;
}

static ssize_t lookup_write(struct file *file, const char __user *from,
			    size_t size, loff_t *pos)
{
	struct lookup lookup;
	char text[128];
	ssize_t copied;

	copied = simple_write_to_buffer(text, sizeof(text) - 1, pos, from, size);
	if (copied < 0)
		return copied;

	text[copied] = '\0';
	if (sscanf(text, "%d %llu %llu %llu %llu", &lookup.fd, &lookup.gfn,
		   &lookup.mask, &lookup.stride, &lookup.count) != 5)
		return -EINVAL;

	CLASS(fd, vm)(lookup.fd);
	if (fd_empty(vm))
		return -EBADF;
	if (!is_vm(fd_file(vm)))
		return -EINVAL;

	look_up(fd_file(vm)->private_data, &lookup);
	return copied;
}

static ssize_t lookup_read(struct file *file, char __user *to, size_t size,
			   loff_t *pos)
{
	char text[64];
	int length;

	length = scnprintf(text, sizeof(text), "%llu %llu\n", cycles_taken, nr_private);
	return simple_read_from_buffer(to, size, pos, text, length);
}

static const struct file_operations lookup_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = lookup_read,
	.write = lookup_write,
};

#define MIXED	BIT(31)

static bool is_mixed(struct kvm *kvm, gfn_t gfn)
{
	struct kvm_memory_slot *slot = __gfn_to_memslot(__kvm_memslots(kvm, 0), gfn);
	unsigned int shift = KVM_HPAGE_GFN_SHIFT(PG_LEVEL_2M);
	u64 index;

	if (!slot)
		return false;

	index = (gfn >> shift) - (slot->base_gfn >> shift);
	return READ_ONCE(slot->arch.lpage_info[0][index].disallow_lpage) & MIXED;
}

static u64 nr_mixed;

static ssize_t mixed_write(struct file *file, const char __user *from,
			   size_t size, loff_t *pos)
{
	u64 gfn, nr, done;
	char text[128];
	ssize_t copied;
	int idx, vm_fd;
	struct kvm *kvm;

	copied = simple_write_to_buffer(text, sizeof(text) - 1, pos, from, size);
	if (copied < 0)
		return copied;

	text[copied] = '\0';
	if (sscanf(text, "%d %llu %llu", &vm_fd, &gfn, &nr) != 3)
		return -EINVAL;

	CLASS(fd, vm)(vm_fd);
	if (fd_empty(vm))
		return -EBADF;
	if (!is_vm(fd_file(vm)))
		return -EINVAL;

	kvm = fd_file(vm)->private_data;
	nr_mixed = 0;
	idx = srcu_read_lock(&kvm->srcu);
	for (done = 0; done < nr; done += KVM_PAGES_PER_HPAGE(PG_LEVEL_2M))
		nr_mixed += is_mixed(kvm, gfn + done);
	srcu_read_unlock(&kvm->srcu, idx);
	return copied;
}

static ssize_t mixed_read(struct file *file, char __user *to, size_t size,
			  loff_t *pos)
{
	char text[32];
	int length;

	length = scnprintf(text, sizeof(text), "%llu\n", nr_mixed);
	return simple_read_from_buffer(to, size, pos, text, length);
}

static const struct file_operations mixed_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.read = mixed_read,
	.write = mixed_write,
};

static int drain_set(void *data, u64 value)
{
	rcu_barrier();
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(drain_fops, NULL, drain_set, "%llu\n");

static struct dentry *dir;

static int __init bench_init(void)
{
	dir = debugfs_create_dir("kvm_memattr_bench", NULL);
	debugfs_create_file("lookup", 0600, dir, NULL, &lookup_fops);
	debugfs_create_file("mixed", 0600, dir, NULL, &mixed_fops);
	debugfs_create_file_unsafe("drain", 0200, dir, NULL, &drain_fops);

	return 0;
}
module_init(bench_init);

static void __exit bench_exit(void)
{
	debugfs_remove(dir);
}
module_exit(bench_exit);

MODULE_DESCRIPTION("kvm_memattr benchmarks: look into KVM");
MODULE_LICENSE("GPL");
