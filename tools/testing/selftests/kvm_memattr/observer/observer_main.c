// SPDX-License-Identifier: GPL-2.0
/*
 * Test-only: says who keeps a VM's memory attributes, from outside of both
 * implementations, and breaks what no test can break from userspace.  Count the
 * VMs that are created.  After each command on a VM that set attributes and
 * succeeded, look into the array where KVM itself stores attributes.  With a
 * provider that array stays empty; without one it does not.
 *
 * /sys/kernel/debug/kvm_memattr_observer/:
 *   vms         VMs that were created
 *   sets        calls that returned 0 with attributes != 0, and batches that did
 *   array_used  those after which the VM's own array was not empty
 *   missed      calls that could not be observed, so that the others may lie
 *   poison      written with "FD PAGE": a memory error in that page of the
 *               guest_memfd which the writer has open as FD
 *   vm          questions about a VM's memory, see kvm_memattr_observer.h
 */
#include <linux/debugfs.h>
#include <linux/file.h>
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/uaccess.h>

#include "observer.h"

static atomic_t vms = ATOMIC_INIT(0);
static atomic_t sets = ATOMIC_INIT(0);
static atomic_t array_used = ATOMIC_INIT(0);
static atomic_t unread = ATOMIC_INIT(0);

/* The ioctl's VM, kept from entry to return; the caller's file pins it. */
struct observed_call {
	struct kvm *kvm;
	bool unread;
};

static int set_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct observed_call *call = (struct observed_call *)ri->data;
	struct file *filp = (struct file *)regs_get_kernel_argument(regs, 0);
	unsigned int ioctl = regs_get_kernel_argument(regs, 1);
	void __user *argp = (void __user *)regs_get_kernel_argument(regs, 2);
	struct kvm_memory_attributes attrs;

	call->kvm = filp->private_data;
	call->unread = false;

	switch (ioctl) {
	case KVM_SET_MEMORY_ATTRIBUTES_BATCH:
		return 0;
	/* Their structs begin alike. */
	case KVM_SET_MEMORY_ATTRIBUTES:
	case KVM_SET_MEMORY_ATTRIBUTES2:
	case KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE:
		break;
	default:
		return 1;
	}

	/*
	 * A page that is not there cannot be waited for here.  Whether that
	 * matters is known on return: with a bad pointer the call fails.
	 */
	call->unread = copy_from_user_nofault(&attrs, argp, sizeof(attrs));

	return !call->unread && !attrs.attributes;
}
NOKPROBE_SYMBOL(set_entry);

static int set_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct observed_call *call = (struct observed_call *)ri->data;

	if (regs_return_value(regs))
		return 0;

	if (call->unread) {
		atomic_inc(&unread);
		return 0;
	}

	atomic_inc(&sets);
	if (!xa_empty(&call->kvm->mem_attr_array))
		atomic_inc(&array_used);

	return 0;
}
NOKPROBE_SYMBOL(set_return);

static struct kretprobe set_probe = {
	.kp.symbol_name = "kvm_vm_ioctl",
	.entry_handler = set_entry,
	.handler = set_return,
	.data_size = sizeof(struct observed_call),
	.maxactive = 256,
};

static int create_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	unsigned int ioctl = regs_get_kernel_argument(regs, 1);

	return ioctl != KVM_CREATE_VM;
}
NOKPROBE_SYMBOL(create_entry);

static int create_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if ((int)regs_return_value(regs) >= 0)
		atomic_inc(&vms);

	return 0;
}
NOKPROBE_SYMBOL(create_return);

static struct kretprobe create_probe = {
	.kp.symbol_name = "kvm_dev_ioctl",
	.entry_handler = create_entry,
	.handler = create_return,
	.maxactive = 256,
};

static struct kretprobe *probes[] = { &set_probe, &create_probe };

static int missed_get(void *data, u64 *value)
{
	*value = set_probe.nmissed + create_probe.nmissed + atomic_read(&unread);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(missed_fops, missed_get, NULL, "%llu\n");

static int poison_page(struct file *file, pgoff_t index)
{
	struct folio *folio;
	int r;

	if (file_inode(file)->i_sb->s_magic != GUEST_MEMFD_MAGIC)
		return -EINVAL;

	folio = filemap_get_folio(file->f_mapping, index);
	if (IS_ERR(folio))
		return PTR_ERR(folio);

	/* What is in nobody's batch any more is dealt with without letting go of it. */
	shake_folio(folio);

	/*
	 * The reference goes with the call: without it, a page that a hole takes
	 * away meanwhile would have its error wherever it's used next.
	 */
	r = memory_failure(page_to_pfn(folio_file_page(folio, index)),
			   MF_COUNT_INCREASED | MF_SW_SIMULATED);
	/* guest_memfd keeps the page, so that it counts as busy. */
	return r == -EBUSY ? 0 : r;
}

static ssize_t poison_write(struct file *unused, const char __user *buf,
			    size_t count, loff_t *pos)
{
	unsigned long index;
	char words[64] = {};
	struct file *file;
	unsigned int fd;
	int r;

	if (count >= sizeof(words) || copy_from_user(words, buf, count))
		return -EFAULT;

	if (sscanf(words, "%u %lu", &fd, &index) != 2)
		return -EINVAL;

	file = fget(fd);
	if (!file)
		return -EBADF;

	r = poison_page(file, index);
	fput(file);
	return r ?: count;
}

static const struct file_operations poison_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = poison_write,
};

static struct dentry *dir;

static int __init observer_init(void)
{
	int r;

	r = register_kretprobes(probes, ARRAY_SIZE(probes));
	if (r)
		return r;

	dir = debugfs_create_dir("kvm_memattr_observer", NULL);
	debugfs_create_atomic_t("vms", 0444, dir, &vms);
	debugfs_create_atomic_t("sets", 0444, dir, &sets);
	debugfs_create_atomic_t("array_used", 0444, dir, &array_used);
	debugfs_create_file_unsafe("missed", 0444, dir, NULL, &missed_fops);
	debugfs_create_file("poison", 0200, dir, NULL, &poison_fops);
	debugfs_create_file("vm", 0600, dir, NULL, &observer_vm_fops);

	return 0;
}
module_init(observer_init);

static void __exit observer_exit(void)
{
	debugfs_remove(dir);
	unregister_kretprobes(probes, ARRAY_SIZE(probes));
}
module_exit(observer_exit);

MODULE_DESCRIPTION("kvm_memattr test: observe KVM_SET_MEMORY_ATTRIBUTES, break memory");
MODULE_LICENSE("GPL");
