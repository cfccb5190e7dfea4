// SPDX-License-Identifier: GPL-2.0
/*
 * How a VMM finds out what there is: KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES,
 * KVM_CAP_MEMORY_ATTRIBUTES, and the answer to commands that are not served.
 */
#include <sys/wait.h>

#include "kvm_memattr_guest.h"

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

TEST_F(caps, supported_is_all_on_a_protected_vm)
{
	TEST_ASSERT_EQ(kma_get_supported(self->protected), KMA_ALL_ATTRIBUTES);
}

TEST_F(caps, supported_is_all_but_private_on_a_default_vm)
{
	TEST_ASSERT_EQ(kma_get_supported(self->plain), KMA_ALL_WITHOUT_PRIVATE);
}

TEST_F(caps, supported_equals_the_capability)
{
	TEST_ASSERT_EQ(kma_get_supported(self->protected),
		       vm_check_cap(self->protected, KVM_CAP_MEMORY_ATTRIBUTES));
	TEST_ASSERT_EQ(kma_get_supported(self->plain),
		       vm_check_cap(self->plain, KVM_CAP_MEMORY_ATTRIBUTES));
}

TEST_F(caps, supported_into_null_is_efault)
{
	KMA_ASSERT_ERRNO(EFAULT, __kma_get_supported(self->protected->fd, NULL));
}

TEST_F(caps, supported_into_read_only_memory_is_efault)
{
	__u64 *page = kvm_mmap(PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	KMA_ASSERT_ERRNO(EFAULT, __kma_get_supported(self->protected->fd, page));
	TEST_ASSERT_EQ(*page, 0);
}

TEST_F(caps, supported_across_the_end_of_memory_is_efault)
{
	void *pages = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	kvm_munmap(pages + PAGE_SIZE, PAGE_SIZE);
	KMA_ASSERT_ERRNO(EFAULT, __kma_get_supported(self->protected->fd,
						     pages + PAGE_SIZE - 4));
	TEST_ASSERT(!__kma_get_supported(self->protected->fd, pages + PAGE_SIZE - 8),
		    "the last word of a page can be written");
}

TEST_F(caps, supported_of_another_processes_vm_is_eio)
{
	__u64 mask = 7;
	int status;
	pid_t child;

	child = fork();
	TEST_ASSERT(child >= 0, "fork: %s", strerror(errno));
	if (!child) {
		int ret = __kma_get_supported(self->protected->fd, &mask);

		_exit(ret == -1 && errno == EIO && mask == 7 ? 0 : 1);
	}
	TEST_ASSERT_EQ(waitpid(child, &status, 0), child);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status),
		    "the child wanted EIO and nothing written");
	TEST_ASSERT_EQ(kma_get_supported(self->protected), KMA_ALL_ATTRIBUTES);
}

/* KVM's own answer to what a fd does not know: EINVAL there, ENOTTY on a VM. */
TEST_F(caps, supported_is_no_command_of_dev_kvm)
{
	__u64 mask = 7;

	KMA_ASSERT_ERRNO(EINVAL, __kma_get_supported(self->protected->kvm_fd, &mask));
	TEST_ASSERT_EQ(mask, 7);
}

TEST_F(caps, supported_is_no_command_of_a_vcpu)
{
	struct kvm_vcpu *vcpu = __vm_vcpu_add(self->protected, 0);
	__u64 mask = 7;

	KMA_ASSERT_ERRNO(EINVAL, __kma_get_supported(vcpu->fd, &mask));
	TEST_ASSERT_EQ(mask, 7);
}

TEST_F(caps, set_is_no_command_of_other_files)
{
	struct kvm_memory_attributes attr = { .address = KMA_GPA, .size = PAGE_SIZE };
	struct kvm_vcpu *vcpu = __vm_vcpu_add(self->protected, 0);
	int gmem = vm_create_guest_memfd(self->protected, PAGE_SIZE, 0);

	KMA_ASSERT_ERRNO(EINVAL, ioctl(self->protected->kvm_fd, KVM_SET_MEMORY_ATTRIBUTES, &attr));
	KMA_ASSERT_ERRNO(EINVAL, ioctl(vcpu->fd, KVM_SET_MEMORY_ATTRIBUTES, &attr));
	KMA_ASSERT_ERRNO(ENOTTY, ioctl(gmem, KVM_SET_MEMORY_ATTRIBUTES, &attr));
	close(gmem);
}

TEST_F(caps, capability_of_the_system_is_all)
{
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES), KMA_ALL_ATTRIBUTES);
}

TEST_F(caps, capability_of_a_protected_vm_is_all)
{
	TEST_ASSERT_EQ(vm_check_cap(self->protected, KVM_CAP_MEMORY_ATTRIBUTES),
		       KMA_ALL_ATTRIBUTES);
}

TEST_F(caps, capability_of_a_default_vm_is_all_but_private)
{
	TEST_ASSERT_EQ(vm_check_cap(self->plain, KVM_CAP_MEMORY_ATTRIBUTES),
		       KMA_ALL_WITHOUT_PRIVATE);
}

/* A command that is not served touches nothing and says so to a VMM's probe. */
static void assert_not_served(struct kvm_vm *vm, unsigned long cmd)
{
	unsigned char arg[256], before[256];

	memset(arg, 0x5a, sizeof(arg));
	memcpy(before, arg, sizeof(arg));
	TEST_ASSERT(_IOC_SIZE(cmd) <= sizeof(arg), "argument too large");
	KMA_ASSERT_ERRNO(ENOTTY, ioctl(vm->fd, cmd, arg));
	TEST_ASSERT(!memcmp(arg, before, sizeof(arg)), "command %lx wrote to its argument", cmd);
	KMA_ASSERT_ERRNO(ENOTTY, ioctl(vm->fd, cmd, NULL));
}

#define UNSERVED(_dir, _nr, _size)	_IOC(_dir, KVMIO, _nr, _size)

/* A command that is served finds fault with an argument that it cannot read. */
static void assert_served(struct kvm_vm *vm, unsigned long cmd)
{
	KMA_ASSERT_ERRNO(EFAULT, ioctl(vm->fd, cmd, NULL));
}

TEST_F(caps, resumable_set_is_served)
{
	assert_served(self->protected, UNSERVED(_IOC_READ | _IOC_WRITE, 0xd3, 32));
	assert_served(self->plain, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE);
}

TEST_F(caps, batch_is_served)
{
	assert_served(self->protected, UNSERVED(_IOC_READ | _IOC_WRITE, 0xf0, 56));
	assert_served(self->plain, KVM_SET_MEMORY_ATTRIBUTES_BATCH);
}

TEST_F(caps, get_is_served)
{
	int gmem = vm_create_guest_memfd(self->protected, PAGE_SIZE, 0);

	assert_served(self->protected, UNSERVED(_IOC_READ | _IOC_WRITE, 0xf1, 80));
	assert_served(self->plain, KVM_GET_MEMORY_ATTRIBUTES);
	KMA_ASSERT_ERRNO(EFAULT, ioctl(gmem, KVM_GET_MEMORY_ATTRIBUTES, NULL));
	close(gmem);
}

TEST_F(caps, neighbours_in_number_direction_and_size_are_not_served)
{
	assert_not_served(self->protected, UNSERVED(_IOC_WRITE, 0xd2, 24));
	assert_not_served(self->protected, UNSERVED(_IOC_WRITE, 0xd2, 40));
	assert_not_served(self->protected, UNSERVED(_IOC_READ, 0xd2, 4));
	assert_not_served(self->protected, UNSERVED(_IOC_READ, 0xd2, 32));
	assert_not_served(self->protected, UNSERVED(_IOC_NONE, 0xd2, 0));
	assert_not_served(self->protected, UNSERVED(_IOC_READ, 0xd3, 8));
	assert_not_served(self->protected, UNSERVED(_IOC_WRITE, 0xd3, 32));
	assert_not_served(self->protected, UNSERVED(_IOC_READ | _IOC_WRITE, 0xd3, 40));
	assert_not_served(self->protected, UNSERVED(_IOC_READ | _IOC_WRITE, 0xf0, 64));
	assert_not_served(self->protected, UNSERVED(_IOC_WRITE, 0xf0, 56));
	assert_not_served(self->protected, UNSERVED(_IOC_READ, 0xf1, 80));
	assert_not_served(self->protected, UNSERVED(_IOC_READ | _IOC_WRITE, 0xf1, 56));
	assert_not_served(self->protected, UNSERVED(_IOC_READ | _IOC_WRITE, 0xf2, 80));
	assert_not_served(self->protected, UNSERVED(_IOC_READ | _IOC_WRITE, 0xef, 56));
}

TEST_F(caps, exits_tell_the_access)
{
	TEST_ASSERT_EQ(KVM_CAP_MEMORY_FAULT_ACCESS, 0x6b6d6107);
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_FAULT_ACCESS), 1);
	TEST_ASSERT_EQ(vm_check_cap(self->protected, KVM_CAP_MEMORY_FAULT_ACCESS), 1);
	TEST_ASSERT_EQ(vm_check_cap(self->plain, KVM_CAP_MEMORY_FAULT_ACCESS), 1);
}

/* The same on /dev/kvm and on VMs of each type. */
static void assert_capability(FIXTURE_DATA(caps) * self, long cap, int want)
{
	TEST_ASSERT_EQ(kvm_check_cap(cap), want);
	TEST_ASSERT_EQ(vm_check_cap(self->protected, cap), want);
	TEST_ASSERT_EQ(vm_check_cap(self->plain, cap), want);
}

TEST_F(caps, capabilities_of_layers_batches_get_and_resumable)
{
	assert_capability(self, KVM_CAP_MEMORY_ATTRIBUTES_LAYERS, 16);
	assert_capability(self, KVM_CAP_MEMORY_ATTRIBUTES_BATCH, 4096);
	assert_capability(self, KVM_CAP_MEMORY_ATTRIBUTES_GET, 1);
	assert_capability(self, KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE, 1);
}

/* The rest of the range of numbers is nobody's. */
TEST_F(caps, other_private_capabilities_answer_nothing)
{
	for (long cap = KVM_CAP_MEMORY_FAULT_ACCESS + 1; cap < 0x6b6d6200; cap++)
		assert_capability(self, cap, 0);
	assert_capability(self, KVM_CAP_MEMORY_ATTRIBUTES2 - 1, 0);
}

TEST_HARNESS_MAIN
