// SPDX-License-Identifier: GPL-2.0
/*
 * The numbers that VMMs and their seccomp filters are built with. This file
 * includes the module's header first and alone, so it must be complete.
 */
#include <linux/kvm_memattr.h>

#include <stddef.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"

TEST(get_supported_memory_attributes_is_8008aed2)
{
	ASSERT_EQ((__u32)KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, 0x8008aed2u);
	ASSERT_EQ(_IOC_SIZE(KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES), sizeof(__u64));
}

TEST(set_memory_attributes_is_mainlines_4020aed2)
{
	ASSERT_EQ((__u32)KVM_SET_MEMORY_ATTRIBUTES, 0x4020aed2u);
}

TEST(struct_kvm_memory_attributes_is_mainlines)
{
	ASSERT_EQ(sizeof(struct kvm_memory_attributes), 32);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, address), 0);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, size), 8);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, attributes), 16);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, flags), 24);
}

TEST(private_is_bit_3_and_the_capability_233)
{
	ASSERT_EQ(KVM_MEMORY_ATTRIBUTE_PRIVATE, 1ull << 3);
	ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_PRIVATE, 1ull << 3);
	ASSERT_EQ(KVM_CAP_MEMORY_ATTRIBUTES, 233);
}

TEST(restrictions_are_bits_0_to_2)
{
	ASSERT_EQ(KVM_MEMORY_ATTRIBUTE_NR, 1);
	ASSERT_EQ(KVM_MEMORY_ATTRIBUTE_NW, 2);
	ASSERT_EQ(KVM_MEMORY_ATTRIBUTE_NX, 4);
}

TEST(exits_tell_read_write_and_execute_by_bits_0_to_2)
{
	ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_READ, 1);
	ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_WRITE, 2);
	ASSERT_EQ(KVM_MEMORY_EXIT_FLAG_EXEC, 4);
}

TEST(set_memory_attributes2_is_c080aed2)
{
	ASSERT_EQ((__u32)KVM_SET_MEMORY_ATTRIBUTES2, 0xc080aed2u);
	ASSERT_EQ(sizeof(struct kvm_memory_attributes2), 128);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes2, layer), 40);
	ASSERT_EQ(KVM_SET_MEMORY_ATTRIBUTES2_WHOLE_LAYER, 8);
}

TEST(set_memory_attributes_resumable_is_c020aed3)
{
	ASSERT_EQ((__u32)KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, 0xc020aed3u);
}

TEST(set_memory_attributes_batch_is_c038aef0)
{
	ASSERT_EQ((__u32)KVM_SET_MEMORY_ATTRIBUTES_BATCH, 0xc038aef0u);
	ASSERT_EQ(sizeof(struct kvm_memory_attributes_batch), 56);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_batch, entries), 0);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_batch, nr), 8);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_batch, flags), 12);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_batch, error_index), 16);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_batch, pad), 20);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_batch, reserved), 24);
	ASSERT_EQ(sizeof(struct kvm_memory_attributes_entry), 40);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_entry, address), 0);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_entry, size), 8);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_entry, attributes), 16);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_entry, mask), 24);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_entry, layer), 32);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_entry, pad), 36);
}

TEST(get_memory_attributes_is_c050aef1)
{
	ASSERT_EQ((__u32)KVM_GET_MEMORY_ATTRIBUTES, 0xc050aef1u);
	ASSERT_EQ(sizeof(struct kvm_memory_attributes_get), 80);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_get, start), 0);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_get, size), 8);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_get, runs), 16);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_get, nr), 24);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_get, layer), 28);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_get, flags), 32);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_get, next), 40);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_get, reserved), 48);
	ASSERT_EQ(sizeof(struct kvm_memory_attributes_run), 24);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_run, start), 0);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_run, size), 8);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes_run, attributes), 16);
}

TEST(capabilities_are_6b6d6100_to_6b6d6107)
{
	ASSERT_EQ(KVM_CAP_MEMORY_ATTRIBUTES2, 0x6b6d6100);
	ASSERT_EQ(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES, 0x6b6d6101);
	ASSERT_EQ(KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS, 0x6b6d6102);
	ASSERT_EQ(KVM_CAP_MEMORY_ATTRIBUTES_LAYERS, 0x6b6d6103);
	ASSERT_EQ(KVM_CAP_MEMORY_ATTRIBUTES_BATCH, 0x6b6d6104);
	ASSERT_EQ(KVM_CAP_MEMORY_ATTRIBUTES_GET, 0x6b6d6105);
	ASSERT_EQ(KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE, 0x6b6d6106);
	ASSERT_EQ(KVM_CAP_MEMORY_FAULT_ACCESS, 0x6b6d6107);
}

TEST_HARNESS_MAIN
