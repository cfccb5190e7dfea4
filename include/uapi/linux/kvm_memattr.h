/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Per-page memory attributes of KVM guests: what the kvm_memattr module adds
 * to <linux/kvm.h>.
 *
 * Everything that mainline defines keeps its number and its meaning. Each
 * definition is under #ifndef: a kernel tree with the host series applied has
 * the same symbols, with the same values, in its own <linux/kvm.h>.
 */
#ifndef _UAPI_LINUX_KVM_MEMATTR_H
#define _UAPI_LINUX_KVM_MEMATTR_H

#include <linux/const.h>
#include <linux/ioctl.h>
#include <linux/kvm.h>
#include <linux/types.h>

/*
 * Attributes beside KVM_MEMORY_ATTRIBUTE_PRIVATE: what the guest, and KVM on its
 * behalf, must not do to a page. A page that is not readable (NR) is neither
 * writable nor executable, i.e. NR comes with NW and NX only; a private page has
 * none of them. Windows' five protections are:
 *
 *	no access		NR | NW | NX
 *	read			NW | NX
 *	read and execute	NW
 *	read and write		NX
 *	all			0
 */
#ifndef KVM_MEMORY_ATTRIBUTE_NR
#define KVM_MEMORY_ATTRIBUTE_NR		_BITULL(0)
#endif
#ifndef KVM_MEMORY_ATTRIBUTE_NW
#define KVM_MEMORY_ATTRIBUTE_NW		_BITULL(1)
#endif
#ifndef KVM_MEMORY_ATTRIBUTE_NX
#define KVM_MEMORY_ATTRIBUTE_NX		_BITULL(2)
#endif

/*
 * Flags of KVM_EXIT_MEMORY_FAULT, beside KVM_MEMORY_EXIT_FLAG_PRIVATE: the access
 * that the attributes deny. An exit has at most one of them, and then no other
 * flag: WRITE if the access writes, else EXEC if it fetches an instruction, else
 * READ; an instruction that KVM emulates and that changes what it reads may be told
 * as READ. KVM_RUN makes the access again unless the VMM changes the guest's state.
 */
#ifndef KVM_MEMORY_EXIT_FLAG_READ
#define KVM_MEMORY_EXIT_FLAG_READ	_BITULL(0)
#endif
#ifndef KVM_MEMORY_EXIT_FLAG_WRITE
#define KVM_MEMORY_EXIT_FLAG_WRITE	_BITULL(1)
#endif
#ifndef KVM_MEMORY_EXIT_FLAG_EXEC
#define KVM_MEMORY_EXIT_FLAG_EXEC	_BITULL(2)
#endif

/*
 * KVM_CHECK_EXTENSION, on the system and on VMs: 1 if exits have the flags above.
 * A number of its own range, as upstream has not settled one.
 */
#ifndef KVM_CAP_MEMORY_FAULT_ACCESS
#define KVM_CAP_MEMORY_FAULT_ACCESS	0x6b6d6107
#endif

/*
 * KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES: which attributes this VM, or this
 * guest_memfd, supports.
 *
 * On:		VM and guest_memfd file descriptors.
 * Parameter:	__u64 (out), a mask of KVM_MEMORY_ATTRIBUTE_* bits. The commands
 *		that set attributes on the same file descriptor refuse every bit
 *		outside it. It is the mask that KVM_CAP_MEMORY_ATTRIBUTES2 answers
 *		on the VM, in full width; for a guest_memfd what
 *		KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES answers, or 0 if PRIVATE is
 *		kept by the VM.
 * Returns:	0, or -1 with errno:
 *
 *	EFAULT	the mask cannot be written to the parameter
 *	EIO	the VM is dead, or belongs to another process
 *	ENOTTY	no module answers for this VM: none was loaded when the VM was
 *		created
 *	EINVAL	not a VM: what KVM answers on /dev/kvm and on vCPUs
 */
#ifndef KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES
#define KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES	_IOR(KVMIO, 0xd2, __u64)
#endif

/*
 * KVM_SET_MEMORY_ATTRIBUTES2: on a VM like KVM_SET_MEMORY_ATTRIBUTES, on a
 * guest_memfd a conversion between shared and private, in place.
 *
 * A guest_memfd keeps what is private, by offset, if it was created with
 * GUEST_MEMFD_FLAG_MMAP for a VM of a type that can convert memory in place. A VM
 * keeps it, by guest physical address, for all other memory.
 *
 * On:		VM and guest_memfd file descriptors.
 * Parameter:	struct kvm_memory_attributes2 (in/out)
 * Returns:	0, or -1 with errno:
 *
 *	EFAULT		the struct cannot be read or written
 *	EINVAL		unaligned, empty or wrapping range; range outside the
 *			guest_memfd; unknown attribute, flag or layer; invalid
 *			combination, be it with what a page has in other layers; two
 *			content policies; a whole layer with a range; reserved field not
 *			zero
 *	EIO		the VM is dead, or, on a VM, belongs to another process
 *	ENOTTY		no module answers for this VM
 *	EPERM		PRIVATE is kept by the other, the VM or the guest_memfd
 *	EOPNOTSUPP	the content policy is not supported in this direction, or on
 *			a VM
 *	ENOMEM		out of memory
 *	EAGAIN		a page to become private has references other than KVM's
 *			own, e.g. is pinned
 *	EHWPOISON	a page to be converted has a memory error
 *	EINTR		a signal; what is before error_offset has been converted
 *
 * All errors but EINTR leave everything as it was. From EPERM on, error_offset
 * says where the request has failed: the first address or offset that it did not
 * cover. So it does for EINVAL by what a page has in other layers. It is left alone
 * otherwise. Where it cannot be written, EFAULT takes the
 * place of the error, that of EINTR too.
 */
#ifndef KVM_SET_MEMORY_ATTRIBUTES2
struct kvm_memory_attributes2 {
	/* in */
	union {
		__u64 address;	/* VM: guest physical address */
		__u64 offset;	/* guest_memfd: offset in the file */
	};
	__u64 size;		/* in bytes */
	__u64 attributes;	/* KVM_MEMORY_ATTRIBUTE_* */
	__u64 flags;		/* KVM_SET_MEMORY_ATTRIBUTES2_* */
	/* out */
	__u64 error_offset;
	/* in */
	__u32 layer;		/* VM: 0 is the base layer; guest_memfd: must be 0 */
	__u32 pad;		/* must be 0 */
	__u64 reserved[10];	/* must be 0 */
};

#define KVM_SET_MEMORY_ATTRIBUTES2	\
	_IOWR(KVMIO, 0xd2, struct kvm_memory_attributes2)
#endif

/*
 * What becomes of the contents of the pages that a guest_memfd converts, at most
 * one of them: they read as zeros, are preserved, or nothing is promised. Without
 * any it is the default, ZERO where that can be promised and NONE elsewhere, unless
 * the module was loaded with another default.
 */
#ifndef KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_ZERO
#define KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_ZERO		_BITULL(0)
#endif
#ifndef KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_PRESERVE
#define KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_PRESERVE	_BITULL(1)
#endif
#ifndef KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_NONE
#define KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_NONE		_BITULL(2)
#endif

/*
 * On a VM: not a range, but all guest physical addresses that a range can have.
 * Address and size must be 0. For a layer that is to be cleared, or set, as a whole.
 */
#ifndef KVM_SET_MEMORY_ATTRIBUTES2_WHOLE_LAYER
#define KVM_SET_MEMORY_ATTRIBUTES2_WHOLE_LAYER	_BITULL(3)
#endif

/*
 * KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE: as KVM_SET_MEMORY_ATTRIBUTES, but a signal
 * may stop it. Whoever calls it again until size is 0 has set the whole range.
 *
 * On:		VM file descriptors.
 * Parameter:	struct kvm_memory_attributes (in/out)
 * Returns:	0, with address the first address that has not been set, and size
 *		what is left from there on; or -1 with errno, with nothing changed and
 *		nothing written:
 *
 *	EINTR		a signal, and no page was set
 *
 * and those of KVM_SET_MEMORY_ATTRIBUTES. If the struct stops being writable during
 * the call, EFAULT comes after the range, or a part of it, was set.
 */
#ifndef KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE
#define KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE	\
	_IOWR(KVMIO, 0xd3, struct kvm_memory_attributes)
#endif

/*
 * KVM_SET_MEMORY_ATTRIBUTES_BATCH: several ranges, with one invalidation of guest
 * mappings. All entries take effect together, or none does.
 *
 * Entries are applied in order: where they overlap, a later one wins. What counts is
 * the attributes that a page ends up with.
 *
 * On:		VM file descriptors.
 * Parameter:	struct kvm_memory_attributes_batch (in/out)
 * Returns:	0, or -1 with errno, with nothing changed:
 *
 *	EFAULT		the struct or an entry cannot be read, or error_index cannot be
 *			written
 *	EINVAL		a flag or reserved field is not zero, or there is no entry, or
 *			there are too many; an entry is bad (as for
 *			KVM_SET_MEMORY_ATTRIBUTES2), its mask has no attribute or not all
 *			of its attributes, or a page would end up with attributes that
 *			exclude each other
 *	EPERM		PRIVATE is kept by a guest_memfd
 *	ENOMEM		out of memory
 *	EIO		the VM is dead, or belongs to another process
 *	ENOTTY		no module answers for this VM
 *
 * error_index is written if an entry is to blame for EINVAL or EPERM: the first one
 * that is bad by itself, or if there is none the first one that is by what pages
 * would end up with. Of several that cover a page that is the last one, which
 * decides. It is left alone otherwise.
 */
#ifndef KVM_SET_MEMORY_ATTRIBUTES_BATCH
struct kvm_memory_attributes_entry {
	__u64 address;		/* guest physical */
	__u64 size;		/* in bytes */
	__u64 attributes;	/* KVM_MEMORY_ATTRIBUTE_* */
	__u64 mask;		/* attributes outside of it stay as they are */
	__u32 layer;
	__u32 pad;		/* must be 0 */
};

struct kvm_memory_attributes_batch {
	/* in */
	__u64 entries;		/* user pointer to nr entries */
	__u32 nr;		/* from 1 to what KVM_CAP_MEMORY_ATTRIBUTES_BATCH says */
	__u32 flags;		/* must be 0 */
	/* out */
	__u32 error_index;
	/* in */
	__u32 pad;		/* must be 0 */
	__u64 reserved[4];	/* must be 0 */
};

#define KVM_SET_MEMORY_ATTRIBUTES_BATCH	\
	_IOWR(KVMIO, 0xf0, struct kvm_memory_attributes_batch)
#endif

/*
 * KVM_GET_MEMORY_ATTRIBUTES: what is set, as runs, i.e. stretches of pages with the
 * same attributes. The runs of an answer follow each other without gaps, from start
 * on; neighbours differ. An answer may end with room left, and the next one begin
 * with the same attributes: it is next that says whether all was read.
 *
 * On a VM it answers what the VM's commands have set. What is private in memory that
 * a guest_memfd converts in place, the guest_memfd answers.
 *
 * On:		VM and guest_memfd file descriptors.
 * Parameter:	struct kvm_memory_attributes_get (in/out)
 * Returns:	0, or -1 with errno:
 *
 *	EFAULT		the struct cannot be read or written, or the runs cannot be
 *			written
 *	EINVAL		unaligned, empty or wrapping range; range outside the
 *			guest_memfd; no room for a run; unknown flag or layer; reserved
 *			field not zero
 *	ENOMEM		out of memory
 *	EIO		the VM is dead, or, on a VM, belongs to another process
 *	ENOTTY		no module answers for this VM
 */
#ifndef KVM_GET_MEMORY_ATTRIBUTES
struct kvm_memory_attributes_run {
	__u64 start;		/* address or offset */
	__u64 size;		/* in bytes */
	__u64 attributes;	/* KVM_MEMORY_ATTRIBUTE_* */
};

struct kvm_memory_attributes_get {
	/* in */
	__u64 start;		/* VM: guest physical address; guest_memfd: offset */
	__u64 size;		/* in bytes */
	__u64 runs;		/* user pointer to nr runs */
	/* in and out */
	__u32 nr;		/* room; then how many were written, 4096 at most */
	/* in */
	__u32 layer;		/* ~0: the union of all; guest_memfd: 0 or ~0 */
	__u64 flags;		/* must be 0 */
	/* out */
	__u64 next;		/* where to go on; start + size when done */
	/* in */
	__u64 reserved[4];	/* must be 0 */
};

#define KVM_GET_MEMORY_ATTRIBUTES	\
	_IOWR(KVMIO, 0xf1, struct kvm_memory_attributes_get)
#endif

/*
 * KVM_CHECK_EXTENSION, on the system and on VMs: the number of layers; the most
 * entries of a batch; 1 for each of the other commands above.
 */
#ifndef KVM_CAP_MEMORY_ATTRIBUTES_LAYERS
#define KVM_CAP_MEMORY_ATTRIBUTES_LAYERS	0x6b6d6103
#endif
#ifndef KVM_CAP_MEMORY_ATTRIBUTES_BATCH
#define KVM_CAP_MEMORY_ATTRIBUTES_BATCH		0x6b6d6104
#endif
#ifndef KVM_CAP_MEMORY_ATTRIBUTES_GET
#define KVM_CAP_MEMORY_ATTRIBUTES_GET		0x6b6d6105
#endif
#ifndef KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE
#define KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE	0x6b6d6106
#endif

/*
 * KVM_CHECK_EXTENSION, on the system and on VMs, each a mask of what is supported:
 * attributes for KVM_SET_MEMORY_ATTRIBUTES2 on a VM, attributes for it on a
 * guest_memfd, and content policies. (Its flag WHOLE_LAYER comes with
 * KVM_CAP_MEMORY_ATTRIBUTES_LAYERS.)
 */
#ifndef KVM_CAP_MEMORY_ATTRIBUTES2
#define KVM_CAP_MEMORY_ATTRIBUTES2		0x6b6d6100
#endif
#ifndef KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES
#define KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES	0x6b6d6101
#endif
#ifndef KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS
#define KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS	0x6b6d6102
#endif

#endif /* _UAPI_LINUX_KVM_MEMATTR_H */
