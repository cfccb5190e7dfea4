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

TEST_HARNESS_MAIN
