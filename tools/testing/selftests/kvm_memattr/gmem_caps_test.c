// SPDX-License-Identifier: GPL-2.0
/*
 * How a VMM finds out what can be converted in place: the capabilities,
 * KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES on a guest_memfd, and which files can be
 * created.
 */
#include "kvm_memattr_gmem.h"

FIXTURE(caps) {
	struct kvm_vm *protected;
	struct kvm_vm *plain;
};

FIXTURE_SETUP(caps)
{
	KMA_REQUIRE_PROTECTED_VMS();
	self->protected = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->plain = vm_create_barebones_type(KVM_X86_DEFAULT_VM);
}

FIXTURE_TEARDOWN(caps)
{
	kvm_vm_free(self->plain);
	kvm_vm_free(self->protected);
}

TEST_F(caps, numbers_are_the_published_ones)
{
	TEST_ASSERT_EQ(KVM_SET_MEMORY_ATTRIBUTES2, 0xc080aed2ul);
	TEST_ASSERT_EQ(sizeof(struct kvm_memory_attributes2), 128ul);
	TEST_ASSERT_EQ(KVM_CAP_MEMORY_ATTRIBUTES2, 0x6b6d6100);
	TEST_ASSERT_EQ(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES, 0x6b6d6101);
	TEST_ASSERT_EQ(KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS, 0x6b6d6102);
	TEST_ASSERT_EQ(GMEM_POLICIES, 7ull);
}

TEST_F(caps, set2_of_a_vm_takes_what_set_takes)
{
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES2),
		       kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES));
	TEST_ASSERT_EQ(vm_check_cap(self->protected, KVM_CAP_MEMORY_ATTRIBUTES2),
		       KMA_ALL_ATTRIBUTES);
	TEST_ASSERT_EQ(vm_check_cap(self->plain, KVM_CAP_MEMORY_ATTRIBUTES2),
		       KMA_ALL_WITHOUT_PRIVATE);
}

TEST_F(caps, guest_memfds_take_private_where_there_is_private_memory)
{
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES), KMA_PRIVATE);
	TEST_ASSERT_EQ(vm_check_cap(self->protected, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES),
		       KMA_PRIVATE);
	TEST_ASSERT_EQ(vm_check_cap(self->plain, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES), 0);
}

TEST_F(caps, protected_vms_support_each_policy)
{
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS), GMEM_POLICIES);
	TEST_ASSERT_EQ(vm_check_cap(self->protected, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS),
		       GMEM_POLICIES);
}

TEST_F(caps, no_type_has_a_policy_that_the_system_has_not)
{
	TEST_ASSERT(!(vm_check_cap(self->plain, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS) &
		      ~kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS)),
		    "flags 0x%x", vm_check_cap(self->plain, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS));
}

/* What a file created with the flags supports, held against what it then takes. */
static void assert_supported(struct kvm_vm *vm, u64 flags, u64 want)
{
	int fd = vm_create_guest_memfd(vm, KMA_SIZE, flags);
	struct kvm_memory_attributes2 attr = gmem_attr(0, KMA_SIZE, KMA_PRIVATE, 0);
	__u64 mask = ~0ull;

	TEST_ASSERT(!__kma_get_supported(fd, &mask), "%s", strerror(errno));
	TEST_ASSERT_EQ(mask, want);
	TEST_ASSERT(!__gmem_ioctl(fd, &attr) == !!(want & KMA_PRIVATE),
		    "PRIVATE can%s be set, and the mask is 0x%lx", want ? "not" : "", want);
	kvm_close(fd);
}

TEST_F(caps, files_support_private_if_they_keep_it)
{
	assert_supported(self->protected, GMEM_IN_PLACE, KMA_PRIVATE);
	assert_supported(self->protected, GMEM_SHARED, KMA_PRIVATE);
	assert_supported(self->protected, 0, 0);
	assert_supported(self->plain, GMEM_IN_PLACE, 0);
	assert_supported(self->plain, GMEM_SHARED, 0);
	assert_supported(self->plain, 0, 0);
}

TEST_F(caps, supported_into_null_is_efault)
{
	int fd = vm_create_guest_memfd(self->protected, KMA_SIZE, GMEM_IN_PLACE);

	KMA_ASSERT_ERRNO(EFAULT, __kma_get_supported(fd, NULL));
	kvm_close(fd);
}

/* What all pages of a file created with the flags have. */
static void assert_created_with(struct kvm_vm *vm, u64 flags, u64 attributes)
{
	int fd = vm_create_guest_memfd(vm, KMA_SIZE, flags);
	struct kvm_memory_attributes_run run;
	struct kvm_memory_attributes_get get = {
		.size = KMA_SIZE,
		.runs = (u64)&run,
		.nr = 1,
	};

	TEST_ASSERT(!ioctl(fd, KVM_GET_MEMORY_ATTRIBUTES, &get), "%s", strerror(errno));
	TEST_ASSERT_EQ(run.size, KMA_SIZE);
	TEST_ASSERT_EQ(run.attributes, attributes);
	kvm_close(fd);
}

TEST_F(caps, files_are_shared_at_first_if_they_can_be_mapped)
{
	assert_created_with(self->protected, 0, KMA_PRIVATE);
	assert_created_with(self->protected, GUEST_MEMFD_FLAG_MMAP, KMA_PRIVATE);
	assert_created_with(self->protected, GMEM_SHARED, 0);
	/* Nothing of it is ever mapped where memory is shared. */
	assert_created_with(self->protected, GUEST_MEMFD_FLAG_INIT_SHARED, KMA_PRIVATE);
	assert_supported(self->protected, GUEST_MEMFD_FLAG_INIT_SHARED, 0);

	assert_created_with(self->plain, 0, KMA_PRIVATE);
	assert_created_with(self->plain, GUEST_MEMFD_FLAG_MMAP, KMA_PRIVATE);
	assert_created_with(self->plain, GMEM_SHARED, 0);
	assert_created_with(self->plain, GUEST_MEMFD_FLAG_INIT_SHARED, 0);
}

TEST_F(caps, file_that_is_not_mappable_is_shared_for_good_without_private_memory)
{
	int fd = vm_create_guest_memfd(self->plain, KMA_SIZE, GUEST_MEMFD_FLAG_INIT_SHARED);

	GMEM_ASSERT_FAILS(EPERM, 0, fd, 0, KMA_SIZE, 0, 0);
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, fd, 0, KMA_SIZE, KMA_PRIVATE, 0);
	kvm_close(fd);
}

TEST_F(caps, each_flag_of_files_can_be_had_without_private_memory)
{
	for (u64 flags = 0; flags <= GMEM_SHARED; flags++)
		kvm_close(vm_create_guest_memfd(self->plain, KMA_SIZE, flags));
}

TEST_F(caps, flags_of_files_are_listed)
{
	TEST_ASSERT_EQ(vm_check_cap(self->protected, KVM_CAP_GUEST_MEMFD_FLAGS), GMEM_SHARED);
	TEST_ASSERT_EQ(vm_check_cap(self->plain, KVM_CAP_GUEST_MEMFD_FLAGS), GMEM_SHARED);
	for (int bit = 2; bit < 64; bit++)
		KMA_ASSERT_ERRNO(EINVAL, __vm_create_guest_memfd(self->protected, KMA_SIZE,
								 BIT_ULL(bit)));
}

TEST_F(caps, set2_is_no_command_of_dev_kvm_and_of_vcpus)
{
	struct kvm_vcpu *vcpu = __vm_vcpu_add(self->protected, 0);

	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->protected->kvm_fd, 0, PAGE_SIZE, 0, 0);
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, vcpu->fd, 0, PAGE_SIZE, 0, 0);
}

TEST_F(caps, neighbours_of_set2_are_not_served_on_a_guest_memfd)
{
	int fd = vm_create_guest_memfd(self->protected, KMA_SIZE, GMEM_IN_PLACE);
	static const unsigned long cmds[] = {
		_IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0xd2, 120),
		_IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0xd2, 136),
		_IOC(_IOC_WRITE, KVMIO, 0xd2, 128),
		_IOC(_IOC_READ, KVMIO, 0xd2, 128),
		_IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0xd1, 128),
		_IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0xd3, 128),
	};

	for (int i = 0; i < ARRAY_SIZE(cmds); i++) {
		struct kvm_memory_attributes2 attr[2] = { gmem_attr(0, KMA_SIZE, 0, 0) };

		KMA_ASSERT_ERRNO(ENOTTY, ioctl(fd, cmds[i], attr));
	}
	kvm_close(fd);
}

TEST_HARNESS_MAIN
