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
 * READ. KVM_RUN makes the access again unless the VMM changes the guest's state.
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
 *			combination; two content policies; reserved field not zero
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
 * cover. It is left alone otherwise. Where it cannot be written, EFAULT takes the
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
	__u32 layer;		/* must be 0 */
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
 * KVM_CHECK_EXTENSION, on the system and on VMs, each a mask of what is supported:
 * attributes for KVM_SET_MEMORY_ATTRIBUTES2 on a VM, attributes for it on a
 * guest_memfd, and its flags.
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
