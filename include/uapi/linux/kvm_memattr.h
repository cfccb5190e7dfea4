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

#include <linux/ioctl.h>
#include <linux/kvm.h>
#include <linux/types.h>

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
