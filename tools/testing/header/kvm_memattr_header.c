// SPDX-License-Identifier: GPL-2.0
/*
 * The module's header, as VMMs include it: with a kernel's headers that have its
 * definitions (PATCHED=1) and with those of a kernel that hasn't (PATCHED=0), in C
 * and in C++. make check compiles this; there is nothing to run.
 */
#if ALONE
#include <linux/kvm_memattr.h>
#else
#include <linux/kvm.h>
#if defined(KVM_MEMORY_ATTRIBUTE_NR) != PATCHED ||				\
	defined(KVM_MEMORY_EXIT_FLAG_READ) != PATCHED ||			\
	defined(KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES) != PATCHED ||		\
	defined(KVM_SET_MEMORY_ATTRIBUTES2) != PATCHED ||			\
	defined(KVM_CAP_MEMORY_ATTRIBUTES2) != PATCHED
#error "these are the headers of the other kernel"
#endif
#include <linux/kvm_memattr.h>
#endif
/* A second time, as another header may. */
#include <linux/kvm_memattr.h>
#include <stddef.h>

/* In all of C90, C11 and C++. */
#define IS(_name, _value)	((void)sizeof(char[(_name) == (_value) ? 1 : -1]))

/* Where a field of the struct is. */
#define IS_AT(_field, _offset)							\
	IS(offsetof(struct kvm_memory_attributes2, _field), _offset)

int main(void)
{
	struct kvm_memory_attributes2 attr = { { 1 }, 2, 3, 4, 5, 6, 7, { 8 } };

	IS(KVM_MEMORY_ATTRIBUTE_NR, 1);
	IS(KVM_MEMORY_ATTRIBUTE_NW, 2);
	IS(KVM_MEMORY_ATTRIBUTE_NX, 4);
	IS(KVM_MEMORY_ATTRIBUTE_PRIVATE, 8);
	IS(KVM_MEMORY_EXIT_FLAG_READ, 1);
	IS(KVM_MEMORY_EXIT_FLAG_WRITE, 2);
	IS(KVM_MEMORY_EXIT_FLAG_EXEC, 4);
	IS(KVM_MEMORY_EXIT_FLAG_PRIVATE, 8);
	IS(KVM_CAP_MEMORY_ATTRIBUTES, 233);
	IS(KVM_CAP_MEMORY_FAULT_ACCESS, 0x6b6d6107);
	IS(KVM_CAP_MEMORY_ATTRIBUTES2, 0x6b6d6100);
	IS(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES, 0x6b6d6101);
	IS(KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS, 0x6b6d6102);
	IS(KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, 0x8008aed2);
	IS(KVM_SET_MEMORY_ATTRIBUTES, 0x4020aed2);
	IS(sizeof(struct kvm_memory_attributes), 32);
	IS(KVM_SET_MEMORY_ATTRIBUTES2, 0xc080aed2);
	IS(KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_ZERO, 1);
	IS(KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_PRESERVE, 2);
	IS(KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_NONE, 4);
	IS(sizeof(struct kvm_memory_attributes2), 128);
	IS_AT(address, 0);
	IS_AT(offset, 0);
	IS_AT(size, 8);
	IS_AT(attributes, 16);
	IS_AT(flags, 24);
	IS_AT(error_offset, 32);
	IS_AT(layer, 40);
	IS_AT(pad, 44);
	IS_AT(reserved, 48);
	IS(sizeof(attr.reserved), 80);

	/* One field by two names. */
	return attr.address == attr.offset ? 0 : 1;
}
