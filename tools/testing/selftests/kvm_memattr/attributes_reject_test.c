// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM_SET_MEMORY_ATTRIBUTES refuses, with which errno, and that a
 * refused request has changed nothing: not what the module holds, not what
 * the guest sees, not one mapping.
 */
#include <sys/wait.h>

#include "kvm_memattr_guest.h"

/* What the module holds of a VM and has done to it, which a refused request leaves. */
struct kept {
	struct kma_view view;
	char *runs;
	u64 pages_set;
	u64 runs_zapped;
};

static struct kept keep(const struct kma_view *view)
{
	return (struct kept) {
		.view = *view,
		.runs = kma_runs(view),
		.pages_set = kma_stat(view, "pages_set"),
		.runs_zapped = kma_stat(view, "runs_zapped"),
	};
}

static void assert_kept(const struct kept *kept)
{
	kma_assert_runs(&kept->view, kept->runs);
	TEST_ASSERT_EQ(kma_stat(&kept->view, "pages_set"), kept->pages_set);
	TEST_ASSERT_EQ(kma_stat(&kept->view, "runs_zapped"), kept->runs_zapped);
}

FIXTURE(reject) {
	struct kma_guest g;
	struct kept kept;
};

FIXTURE_SETUP(reject)
{
	struct kma_view view;

	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
	view = kma_view_of(self->g.vm);

	kma_prepare(&self->g, KMA_MIDDLE);
	self->kept = keep(&view);
}

/* Each test ends here: its requests were refused, so nothing has changed. */
FIXTURE_TEARDOWN(reject)
{
	if (!self->g.vm)
		return;

	assert_kept(&self->kept);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN_PRIVATE(KMA_MIDDLE));

	free(self->kept.runs);
	kvm_vm_free(self->g.vm);
}

static const u64 unaligned[] = { 1, 8, 511, 512, 2048, 4095 };

#define ASSERT_REFUSED(_gpa, _size, _attributes)				\
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->g.vm, _gpa, _size, _attributes))

/* What was set and what was not, so that it shows if either changes. */
#define ASSERT_RANGE_REFUSED(_gpa, _size)					\
do {										\
	ASSERT_REFUSED(_gpa, _size, KMA_PRIVATE);				\
	ASSERT_REFUSED(_gpa, _size, 0);						\
} while (0)

TEST_F(reject, unaligned_address_is_einval)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(unaligned); i++) {
		ASSERT_RANGE_REFUSED(self->g.gpa + unaligned[i], KMA_SIZE);
		ASSERT_RANGE_REFUSED(self->g.gpa - unaligned[i], KMA_SIZE);
	}
}

TEST_F(reject, unaligned_size_is_einval)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(unaligned); i++) {
		ASSERT_RANGE_REFUSED(self->g.gpa, KMA_SIZE + unaligned[i]);
		ASSERT_RANGE_REFUSED(self->g.gpa, unaligned[i]);
	}
}

TEST_F(reject, unaligned_address_with_aligned_end_is_einval)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(unaligned); i++)
		ASSERT_RANGE_REFUSED(self->g.gpa + unaligned[i], KMA_SIZE - unaligned[i]);
}

TEST_F(reject, zero_size_is_einval)
{
	ASSERT_RANGE_REFUSED(self->g.gpa, 0);
	ASSERT_RANGE_REFUSED(0, 0);
	ASSERT_RANGE_REFUSED(-PAGE_SIZE, 0);
}

TEST_F(reject, range_that_wraps_is_einval)
{
	ASSERT_RANGE_REFUSED(-PAGE_SIZE, 2 * PAGE_SIZE);
	ASSERT_RANGE_REFUSED(self->g.gpa, -PAGE_SIZE);
	ASSERT_RANGE_REFUSED(self->g.gpa + KMA_SIZE, -(u64)PAGE_SIZE);
}

TEST_F(reject, range_that_ends_where_addresses_wrap_to_zero_is_einval)
{
	ASSERT_RANGE_REFUSED(-PAGE_SIZE, PAGE_SIZE);
	ASSERT_RANGE_REFUSED(self->g.gpa, -self->g.gpa);
}

TEST_F(reject, each_flag_is_einval)
{
	for (int bit = 0; bit < 64; bit++) {
		struct kvm_memory_attributes attr = {
			.address = self->g.gpa,
			.size = KMA_SIZE,
			.attributes = KMA_PRIVATE,
			.flags = BIT_ULL(bit),
		};

		KMA_ASSERT_ERRNO(EINVAL, __vm_ioctl(self->g.vm, KVM_SET_MEMORY_ATTRIBUTES,
						    &attr));
		attr.attributes = 0;
		KMA_ASSERT_ERRNO(EINVAL, __vm_ioctl(self->g.vm, KVM_SET_MEMORY_ATTRIBUTES,
						    &attr));
	}
}

TEST_F(reject, private_with_a_restriction_is_einval)
{
	for (u64 restrictions = 1; restrictions <= KMA_NO_ACCESS; restrictions++)
		ASSERT_REFUSED(self->g.gpa, KMA_SIZE, restrictions | KMA_PRIVATE);
}

/* There are no mappings that can be written or executed, but not read. */
TEST_F(reject, unreadable_but_writable_or_executable_is_einval)
{
	ASSERT_REFUSED(self->g.gpa, KMA_SIZE, KMA_NR);
	ASSERT_REFUSED(self->g.gpa, KMA_SIZE, KMA_NR | KMA_NW);
	ASSERT_REFUSED(self->g.gpa, KMA_SIZE, KMA_NR | KMA_NX);
}

TEST_F(reject, each_unknown_attribute_is_einval)
{
	for (int bit = 4; bit < 64; bit++) {
		ASSERT_REFUSED(self->g.gpa, KMA_SIZE, BIT_ULL(bit));
		ASSERT_REFUSED(self->g.gpa, KMA_SIZE, BIT_ULL(bit) | KMA_PRIVATE);
	}
	ASSERT_REFUSED(self->g.gpa, KMA_SIZE, ~0ull);
	ASSERT_REFUSED(self->g.gpa, KMA_SIZE, ~KMA_PRIVATE);
}

TEST_F(reject, bad_pointer_is_efault)
{
	void *none = kvm_mmap(PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	void *pointers[] = { NULL, (void *)8, none, (void *)-4096ul, (void *)(1ul << 63) };

	for (unsigned int i = 0; i < ARRAY_SIZE(pointers); i++)
		KMA_ASSERT_ERRNO(EFAULT, ioctl(self->g.vm->fd, KVM_SET_MEMORY_ATTRIBUTES,
					       pointers[i]));
}

TEST_F(reject, request_across_the_end_of_memory_is_efault)
{
	struct kvm_memory_attributes attr = {
		.address = self->g.gpa,
		.size = KMA_SIZE,
		.attributes = KMA_PRIVATE,
	};
	void *pages = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	kvm_munmap(pages + PAGE_SIZE, PAGE_SIZE);
	for (size_t inside = 8; inside < sizeof(attr); inside += 8) {
		void *arg = pages + PAGE_SIZE - inside;

		memcpy(arg, &attr, inside);
		KMA_ASSERT_ERRNO(EFAULT, ioctl(self->g.vm->fd, KVM_SET_MEMORY_ATTRIBUTES, arg));
	}
}

TEST_F(reject, another_processes_vm_is_eio)
{
	int status;
	pid_t child;

	child = fork();
	TEST_ASSERT(child >= 0, "fork: %s", strerror(errno));
	if (!child) {
		int ret = __kma_set(self->g.vm, self->g.gpa, KMA_SIZE, KMA_PRIVATE);

		_exit(ret == -1 && errno == EIO ? 0 : 1);
	}
	TEST_ASSERT_EQ(waitpid(child, &status, 0), child);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "the child wanted EIO");

	/*
	 * fork() unmapped the guest's own code and stack: have them back, uncounted, at
	 * the price of one page of the window.
	 */
	kma_look(&self->g, KMA_SEEN(.shared = 1));
}

FIXTURE(dead) {
	struct kma_guest g;
	struct kept kept;
};

FIXTURE_SETUP(dead)
{
	struct kma_view view;

	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
	view = kma_view_of(self->g.vm);
	kma_prepare(&self->g, KMA_MIDDLE);

	self->kept = keep(&view);
	kma_kill(self->g.vcpu);
}

FIXTURE_TEARDOWN(dead)
{
	if (!self->g.vm)
		return;

	assert_kept(&self->kept);
	free(self->kept.runs);
	kvm_vm_free(self->g.vm);
}

TEST_F(dead, set_on_a_dead_vm_is_eio)
{
	KMA_ASSERT_ERRNO(EIO, __kma_set(self->g.vm, self->g.gpa, KMA_SIZE, KMA_PRIVATE));
	KMA_ASSERT_ERRNO(EIO, __kma_set(self->g.vm, self->g.gpa, KMA_SIZE, 0));
}

TEST_F(dead, bad_set_on_a_dead_vm_is_eio_before_anything_else)
{
	KMA_ASSERT_ERRNO(EIO, __kma_set(self->g.vm, self->g.gpa, 0, KMA_PRIVATE));
	KMA_ASSERT_ERRNO(EIO, __kma_set(self->g.vm, self->g.gpa, KMA_SIZE, ~0ull));
	KMA_ASSERT_ERRNO(EIO, ioctl(self->g.vm->fd, KVM_SET_MEMORY_ATTRIBUTES, NULL));
}

TEST_F(dead, supported_of_a_dead_vm_is_eio)
{
	__u64 mask = 0x5a5a;

	KMA_ASSERT_ERRNO(EIO, __kma_get_supported(self->g.vm->fd, &mask));
	TEST_ASSERT_EQ(mask, 0x5a5a);
}

FIXTURE(plain) {
	struct kma_guest g;
	struct kma_view view;
	struct kvm_vm *vm;
};

FIXTURE_SETUP(plain)
{
	kma_guest_init(&self->g, KVM_X86_DEFAULT_VM, 0, 0);
	self->vm = self->g.vm;
	self->view = kma_view_of(self->vm);
	kma_host_write(&self->g, KMA_ALL, KMA_KIND_SHARED);
	kma_look(&self->g, KMA_SEEN(.shared = KMA_ALL));
}

/* Setting 0 is all that is not refused here, and that changes nothing either. */
FIXTURE_TEARDOWN(plain)
{
	kma_assert_runs(&self->view, "");
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.shared = KMA_ALL));
	kvm_vm_free(self->vm);
}

TEST_F(plain, private_without_private_memory_is_einval)
{
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, 0, PAGE_SIZE, KMA_PRIVATE));
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, KMA_GPA, KMA_SIZE, KMA_PRIVATE));
}

TEST_F(plain, private_or_unknown_without_private_memory_is_einval)
{
	for (int bit = 3; bit < 64; bit++) {
		KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, KMA_GPA, KMA_SIZE, BIT_ULL(bit)));
		KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, KMA_GPA, KMA_SIZE,
						   KMA_NW | BIT_ULL(bit)));
	}
}

TEST_F(plain, invalid_combination_without_private_memory_is_einval)
{
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, KMA_GPA, KMA_SIZE, KMA_NR));
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, KMA_GPA, KMA_SIZE, KMA_NR | KMA_NW));
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, KMA_GPA, KMA_SIZE, KMA_NR | KMA_NX));
}

TEST_F(plain, shared_without_private_memory_is_fine)
{
	kma_set(self->vm, 0, PAGE_SIZE, 0);
	kma_set(self->vm, KMA_GPA, KMA_SIZE, 0);
}

TEST_F(plain, bad_range_without_private_memory_is_einval)
{
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, KMA_GPA, 0, 0));
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, KMA_GPA + 1, PAGE_SIZE, 0));
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, KMA_GPA, PAGE_SIZE + 1, 0));
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, -PAGE_SIZE, PAGE_SIZE, 0));
}

TEST_HARNESS_MAIN
