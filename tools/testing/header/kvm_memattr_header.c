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
	defined(KVM_MEMORY_ATTRIBUTE_NW) != PATCHED ||				\
	defined(KVM_MEMORY_ATTRIBUTE_NX) != PATCHED ||				\
	defined(KVM_MEMORY_EXIT_FLAG_READ) != PATCHED ||			\
	defined(KVM_MEMORY_EXIT_FLAG_WRITE) != PATCHED ||			\
	defined(KVM_MEMORY_EXIT_FLAG_EXEC) != PATCHED ||			\
	defined(KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES) != PATCHED ||		\
	defined(KVM_SET_MEMORY_ATTRIBUTES2) != PATCHED ||			\
	defined(KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_ZERO) != PATCHED ||	\
	defined(KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_PRESERVE) != PATCHED ||	\
	defined(KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_NONE) != PATCHED ||	\
	defined(KVM_SET_MEMORY_ATTRIBUTES2_WHOLE_LAYER) != PATCHED ||		\
	defined(KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE) != PATCHED ||		\
	defined(KVM_SET_MEMORY_ATTRIBUTES_BATCH) != PATCHED ||			\
	defined(KVM_GET_MEMORY_ATTRIBUTES) != PATCHED ||			\
	defined(KVM_CAP_MEMORY_ATTRIBUTES2) != PATCHED ||			\
	defined(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES) != PATCHED ||		\
	defined(KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS) != PATCHED ||			\
	defined(KVM_CAP_MEMORY_ATTRIBUTES_LAYERS) != PATCHED ||			\
	defined(KVM_CAP_MEMORY_ATTRIBUTES_BATCH) != PATCHED ||			\
	defined(KVM_CAP_MEMORY_ATTRIBUTES_GET) != PATCHED ||			\
	defined(KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE) != PATCHED ||		\
	defined(KVM_CAP_MEMORY_FAULT_ACCESS) != PATCHED
#error "these are the headers of the other kernel"
#endif
#include <linux/kvm_memattr.h>
#endif
/* A second time, as another header may. */
#include <linux/kvm_memattr.h>
#include <stddef.h>

/* In all of C90, C11 and C++. */
#define IS(_name, _value)	((void)sizeof(char[(_name) == (_value) ? 1 : -1]))

/* Where a field of a struct is. */
#define IS_IN(_struct, _field, _offset)	IS(offsetof(struct _struct, _field), _offset)
#define IS_AT(_field, _offset)		IS_IN(kvm_memory_attributes2, _field, _offset)
#define IS_AT_ENTRY(_field, _offset)	IS_IN(kvm_memory_attributes_entry, _field, _offset)
#define IS_AT_BATCH(_field, _offset)	IS_IN(kvm_memory_attributes_batch, _field, _offset)
#define IS_AT_RUN(_field, _offset)	IS_IN(kvm_memory_attributes_run, _field, _offset)
#define IS_AT_GET(_field, _offset)	IS_IN(kvm_memory_attributes_get, _field, _offset)

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
	IS(KVM_SET_MEMORY_ATTRIBUTES2_WHOLE_LAYER, 8);

	IS(KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, 0xc020aed3);

	IS(KVM_SET_MEMORY_ATTRIBUTES_BATCH, 0xc038aef0);
	IS(sizeof(struct kvm_memory_attributes_entry), 40);
	IS_AT_ENTRY(address, 0);
	IS_AT_ENTRY(size, 8);
	IS_AT_ENTRY(attributes, 16);
	IS_AT_ENTRY(mask, 24);
	IS_AT_ENTRY(layer, 32);
	IS_AT_ENTRY(pad, 36);
	IS(sizeof(struct kvm_memory_attributes_batch), 56);
	IS_AT_BATCH(entries, 0);
	IS_AT_BATCH(nr, 8);
	IS_AT_BATCH(flags, 12);
	IS_AT_BATCH(error_index, 16);
	IS_AT_BATCH(pad, 20);
	IS_AT_BATCH(reserved, 24);

	IS(KVM_GET_MEMORY_ATTRIBUTES, 0xc050aef1);
	IS(sizeof(struct kvm_memory_attributes_run), 24);
	IS_AT_RUN(start, 0);
	IS_AT_RUN(size, 8);
	IS_AT_RUN(attributes, 16);
	IS(sizeof(struct kvm_memory_attributes_get), 80);
	IS_AT_GET(start, 0);
	IS_AT_GET(size, 8);
	IS_AT_GET(runs, 16);
	IS_AT_GET(nr, 24);
	IS_AT_GET(layer, 28);
	IS_AT_GET(flags, 32);
	IS_AT_GET(next, 40);
	IS_AT_GET(reserved, 48);

	IS(KVM_CAP_MEMORY_ATTRIBUTES_LAYERS, 0x6b6d6103);
	IS(KVM_CAP_MEMORY_ATTRIBUTES_BATCH, 0x6b6d6104);
	IS(KVM_CAP_MEMORY_ATTRIBUTES_GET, 0x6b6d6105);
	IS(KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE, 0x6b6d6106);

	/* One field by two names. */
	return attr.address == attr.offset ? 0 : 1;
}
