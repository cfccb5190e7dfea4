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
 * KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES: which attributes this VM supports.
 *
 * On:		VM file descriptors.
 * Parameter:	__u64 (out), a mask of KVM_MEMORY_ATTRIBUTE_* bits.
 *		KVM_SET_MEMORY_ATTRIBUTES on the same VM refuses every bit
 *		outside it. It is the mask that KVM_CAP_MEMORY_ATTRIBUTES
 *		answers on the VM, in full width.
 * Returns:	0, or -1 with errno:
 *
 *	EFAULT	the mask cannot be written to the parameter
 *	EIO	the VM is dead, or belongs to another process
 *	ENOTTY	no module answers for this VM: none was loaded when the VM was
 *		created; or not a VM, but a guest_memfd
 *	EINVAL	not a VM: what KVM answers on /dev/kvm and on vCPUs
 */
#ifndef KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES
#define KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES	_IOR(KVMIO, 0xd2, __u64)
#endif

#endif /* _UAPI_LINUX_KVM_MEMATTR_H */
