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
	defined(KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES) != PATCHED
#error "these are the headers of the other kernel"
#endif
#include <linux/kvm_memattr.h>
#endif
/* A second time, as another header may. */
#include <linux/kvm_memattr.h>

/* In all of C90, C11 and C++. */
#define IS(_name, _value)	((void)sizeof(char[(_name) == (_value) ? 1 : -1]))

int main(void)
{
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
	IS(KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, 0x8008aed2);
	IS(KVM_SET_MEMORY_ATTRIBUTES, 0x4020aed2);
	IS(sizeof(struct kvm_memory_attributes), 32);
	return 0;
}
