// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM_SET_MEMORY_ATTRIBUTES2 refuses on a guest_memfd, with which errno and
 * which error_offset, in which order it looks, and that a refused request has
 * changed nothing: no state, no contents, not one mapping of the guest.
 */
#include <sys/uio.h>

#include "kvm_memattr_gmem.h"

FIXTURE(reject) {
	struct gmem m;
	u64 pages_converted;
};

FIXTURE_SETUP(reject)
{
	struct gmem *m = &self->m;

	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(m, KVM_X86_SW_PROTECTED_VM, GMEM_IN_PLACE);
	gmem_set(m, ~KMA_MIDDLE, 0, 0);
	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));
	self->pages_converted = kma_total("pages_converted");
}

/* Each test ends here: its requests were refused, so nothing has changed. */
FIXTURE_TEARDOWN(reject)
{
	struct gmem *m = &self->m;

	if (!m->g.vm)
		return;

	TEST_ASSERT_EQ(kma_total("pages_converted"), self->pages_converted);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	GMEM_ASSERT_PRIVATE(m, KMA_MIDDLE);
	gmem_free(m);
}

/* In either direction, so that it shows if either is made. */
#define ASSERT_EINVAL(_offset, _size, _flags)					\
do {										\
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->m.fd, _offset, _size,	\
			  KMA_PRIVATE, _flags);					\
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->m.fd, _offset, _size,	\
			  0, _flags);						\
} while (0)

static const u64 unaligned[] = { 1, 8, 511, 512, 2048, 4095 };

TEST_F(reject, unaligned_offset_is_einval)
{
	for (int i = 0; i < ARRAY_SIZE(unaligned); i++) {
		ASSERT_EINVAL(unaligned[i], PAGE_SIZE, 0);
		ASSERT_EINVAL(unaligned[i], KMA_SIZE - unaligned[i], 0);
	}
}

TEST_F(reject, unaligned_size_is_einval)
{
	for (int i = 0; i < ARRAY_SIZE(unaligned); i++) {
		ASSERT_EINVAL(0, unaligned[i], 0);
		ASSERT_EINVAL(0, KMA_SIZE - unaligned[i], 0);
	}
}

TEST_F(reject, zero_size_is_einval)
{
	ASSERT_EINVAL(0, 0, 0);
	ASSERT_EINVAL(16 * PAGE_SIZE, 0, 0);
	ASSERT_EINVAL(KMA_SIZE, 0, 0);
}

TEST_F(reject, range_that_wraps_is_einval)
{
	ASSERT_EINVAL(PAGE_SIZE, -PAGE_SIZE, 0);
	ASSERT_EINVAL(16 * PAGE_SIZE, -8 * PAGE_SIZE, 0);
	ASSERT_EINVAL(-PAGE_SIZE, PAGE_SIZE, 0);
	ASSERT_EINVAL(-PAGE_SIZE, 2 * PAGE_SIZE, 0);
	ASSERT_EINVAL(BIT_ULL(63), BIT_ULL(63), 0);
}

TEST_F(reject, range_outside_the_file_is_einval)
{
	ASSERT_EINVAL(0, KMA_SIZE + PAGE_SIZE, 0);
	ASSERT_EINVAL(KMA_SIZE - PAGE_SIZE, 2 * PAGE_SIZE, 0);
	ASSERT_EINVAL(KMA_SIZE, PAGE_SIZE, 0);
	ASSERT_EINVAL(BIT_ULL(62), PAGE_SIZE, 0);
	ASSERT_EINVAL(0, BIT_ULL(63), 0);
}

TEST_F(reject, each_attribute_but_private_is_einval)
{
	for (int bit = 0; bit < 64; bit++) {
		if (BIT_ULL(bit) == KMA_PRIVATE)
			continue;
		GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->m.fd, 0, KMA_SIZE, BIT_ULL(bit), 0);
		GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->m.fd, 0, KMA_SIZE,
				  BIT_ULL(bit) | KMA_PRIVATE, 0);
	}
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->m.fd, 0, KMA_SIZE, ~0ull, 0);
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->m.fd, 0, KMA_SIZE, KMA_NO_ACCESS, 0);
}

TEST_F(reject, each_flag_but_the_policies_is_einval)
{
	for (int bit = 3; bit < 64; bit++) {
		ASSERT_EINVAL(0, KMA_SIZE, BIT_ULL(bit));
		ASSERT_EINVAL(0, KMA_SIZE, BIT_ULL(bit) | GMEM_PRESERVE);
	}
}

TEST_F(reject, two_policies_are_einval)
{
	ASSERT_EINVAL(0, KMA_SIZE, GMEM_ZERO | GMEM_PRESERVE);
	ASSERT_EINVAL(0, KMA_SIZE, GMEM_ZERO | GMEM_NONE);
	ASSERT_EINVAL(0, KMA_SIZE, GMEM_PRESERVE | GMEM_NONE);
	ASSERT_EINVAL(0, KMA_SIZE, GMEM_POLICIES);
}

TEST_F(reject, layer_is_einval)
{
	static const u32 layers[] = { 1, 15, 16, 0x80000000, ~0u };

	for (int i = 0; i < ARRAY_SIZE(layers); i++) {
		struct kvm_memory_attributes2 attr = gmem_attr(0, KMA_SIZE, KMA_PRIVATE, 0);

		attr.layer = layers[i];
		GMEM_ASSERT_ATTR_FAILS(EINVAL, GMEM_UNWRITTEN, self->m.fd, attr);
	}
}

TEST_F(reject, each_bit_of_pad_is_einval)
{
	for (int bit = 0; bit < 32; bit++) {
		struct kvm_memory_attributes2 attr = gmem_attr(0, KMA_SIZE, KMA_PRIVATE, 0);

		attr.pad = BIT(bit);
		GMEM_ASSERT_ATTR_FAILS(EINVAL, GMEM_UNWRITTEN, self->m.fd, attr);
	}
}

TEST_F(reject, each_bit_of_the_reserved_fields_is_einval)
{
	for (int i = 0; i < ARRAY_SIZE(gmem_attr(0, 0, 0, 0).reserved); i++) {
		for (int bit = 0; bit < 64; bit++) {
			struct kvm_memory_attributes2 attr = gmem_attr(0, KMA_SIZE, 0, 0);

			attr.reserved[i] = BIT_ULL(bit);
			GMEM_ASSERT_ATTR_FAILS(EINVAL, GMEM_UNWRITTEN, self->m.fd, attr);
		}
	}
}

/* An output is no reason to refuse, whatever it holds. */
TEST_F(reject, error_offset_is_not_looked_at)
{
	struct kvm_memory_attributes2 attr = gmem_attr(16 * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE, 0);

	attr.error_offset = ~0ull;
	TEST_ASSERT(!__gmem_ioctl(self->m.fd, &attr), "%s", strerror(errno));
	TEST_ASSERT_EQ(attr.error_offset, ~0ull);
}

TEST_F(reject, bad_pointer_is_efault)
{
	void *none = kvm_mmap(PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	void *pointers[] = { NULL, (void *)8, none, (void *)-4096ul, (void *)(1ul << 63) };

	for (int i = 0; i < ARRAY_SIZE(pointers); i++)
		KMA_ASSERT_ERRNO(EFAULT, __gmem_ioctl(self->m.fd, pointers[i]));
}

TEST_F(reject, request_across_the_end_of_memory_is_efault)
{
	struct kvm_memory_attributes2 attr = gmem_attr(0, KMA_SIZE, KMA_PRIVATE, 0);
	void *pages = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	kvm_munmap(pages + PAGE_SIZE, PAGE_SIZE);
	for (size_t inside = 8; inside < sizeof(attr); inside += 8) {
		void *arg = pages + PAGE_SIZE - inside;

		memcpy(arg, &attr, inside);
		KMA_ASSERT_ERRNO(EFAULT, __gmem_ioctl(self->m.fd, arg));
	}
}

TEST_F(reject, request_in_private_memory_is_efault)
{
	KMA_ASSERT_ERRNO(EFAULT, __gmem_ioctl(self->m.fd, gmem_page(&self->m, 20)));
}

TEST_F(reject, set_of_the_vm_is_enotty)
{
	struct kvm_memory_attributes attr = { .size = KMA_SIZE, .attributes = KMA_PRIVATE };

	KMA_ASSERT_ERRNO(ENOTTY, ioctl(self->m.fd, KVM_SET_MEMORY_ATTRIBUTES, &attr));
}

static int set_read_only(int fd, u64 offset, u64 size, u64 attributes, u64 flags)
{
	return __gmem_ioctl(fd, gmem_read_only(gmem_attr(offset, size, attributes, flags)));
}

FIXTURE(read_only) {
	struct gmem m;
	u64 pages_converted;
};

FIXTURE_SETUP(read_only)
{
	struct gmem *m = &self->m;

	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
	gmem_host_fill(m, KMA_ALL, KMA_KIND_NEW);
	kma_look(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	self->pages_converted = kma_total("pages_converted");
}

FIXTURE_TEARDOWN(read_only)
{
	gmem_free(&self->m);
}

/* Nothing is to be written back, so that read-only memory will do. */
TEST_F(read_only, request_that_succeeds_converts)
{
	const u64 at = 16 * PAGE_SIZE, size = 32 * PAGE_SIZE;
	struct gmem *m = &self->m;

	TEST_ASSERT(!set_read_only(m->fd, at, size, KMA_PRIVATE, GMEM_PRESERVE), "%s",
		    strerror(errno));
	GMEM_ASSERT_PRIVATE(m, KMA_MIDDLE);
	TEST_ASSERT_EQ(kma_total("pages_converted"), self->pages_converted + 32);
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ALL));

	/* So does one that has nothing to change. */
	TEST_ASSERT(!set_read_only(m->fd, at, size, KMA_PRIVATE, 0), "%s", strerror(errno));
	TEST_ASSERT_EQ(kma_total("pages_converted"), self->pages_converted + 32);

	TEST_ASSERT(!set_read_only(m->fd, 0, KMA_SIZE, 0, GMEM_ZERO), "%s", strerror(errno));
	GMEM_ASSERT_PRIVATE(m, KMA_NONE);
	kma_scan(&m->g, gmem_filled_seen(GMEM_ZERO, KMA_MIDDLE));
}

/* Where it has failed can't be said. */
TEST_F(read_only, request_that_fails_is_efault_and_changes_nothing)
{
	struct gmem *m = &self->m;
	struct iovec iov = { .iov_base = gmem_page(m, 21), .iov_len = 8 };
	int fds[2];

	TEST_ASSERT(!pipe(fds), "pipe: %s", strerror(errno));
	TEST_ASSERT_EQ(vmsplice(fds[1], &iov, 1, 0), 8);
	GMEM_ASSERT_FAILS(EAGAIN, 21 * PAGE_SIZE, m->fd, 0, KMA_SIZE, KMA_PRIVATE, 0);
	KMA_ASSERT_ERRNO(EFAULT, set_read_only(m->fd, 0, KMA_SIZE, KMA_PRIVATE, 0));
	close(fds[0]);
	close(fds[1]);

	TEST_ASSERT_EQ(kma_total("pages_converted"), self->pages_converted);
	GMEM_ASSERT_PRIVATE(m, KMA_NONE);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	gmem_host_scan(m, KMA_SEEN(.fresh = KMA_ALL));
}

/* What is refused by its looks alone says nothing of where. */
TEST_F(read_only, request_that_is_invalid_is_einval)
{
	KMA_ASSERT_ERRNO(EINVAL, set_read_only(self->m.fd, 0, 0, KMA_PRIVATE, 0));
	KMA_ASSERT_ERRNO(EINVAL, set_read_only(self->m.fd, 0, KMA_SIZE, KMA_NW, 0));
	GMEM_ASSERT_PRIVATE(&self->m, KMA_NONE);
}

/* A request in the very memory that it is about, which is all shared at first. */
FIXTURE(within) {
	struct gmem m;
	struct kvm_memory_attributes2 *attr;
	struct kvm_memory_attributes2 was;
};

#define WITHIN_PAGE	20
#define WITHIN		BIT_ULL(WITHIN_PAGE)

FIXTURE_SETUP(within)
{
	struct gmem *m = &self->m;

	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
	gmem_host_fill(m, ~WITHIN, KMA_KIND_NEW);
	self->was = gmem_attr(0, KMA_SIZE, KMA_PRIVATE, GMEM_PRESERVE);
	self->attr = gmem_page(m, WITHIN_PAGE);
	*self->attr = self->was;
}

FIXTURE_TEARDOWN(within)
{
	gmem_free(&self->m);
}

/* It was read while that was possible, and there's nothing to be written. */
TEST_F(within, request_in_memory_that_it_makes_private_converts)
{
	struct gmem *m = &self->m;

	TEST_ASSERT(!__gmem_ioctl(m->fd, self->attr), "%s", strerror(errno));
	GMEM_ASSERT_PRIVATE(m, KMA_ALL);
	kma_scan(&m->g, KMA_SEEN(.fresh = ~WITHIN));

	KMA_ASSERT_ERRNO(EFAULT, __gmem_ioctl(m->fd, self->attr));
	gmem_set(m, KMA_ALL, 0, GMEM_PRESERVE);
	TEST_ASSERT(!memcmp(self->attr, &self->was, sizeof(self->was)),
		    "a call that succeeds has written to its argument");
}

/* Userspace has lost its mapping by then, and gets it back, as the page is still shared. */
static void assert_told(FIXTURE_DATA(within) * self, u64 page)
{
	struct gmem *m = &self->m;
	struct iovec iov = { .iov_base = gmem_page(m, page) + PAGE_SIZE - 8, .iov_len = 8 };
	u64 want = page * PAGE_SIZE;
	int fds[2];

	TEST_ASSERT(!pipe(fds), "pipe: %s", strerror(errno));
	TEST_ASSERT_EQ(vmsplice(fds[1], &iov, 1, 0), 8);
	*self->attr = self->was;
	KMA_ASSERT_ERRNO(EAGAIN, __gmem_ioctl(m->fd, self->attr));
	TEST_ASSERT(self->attr->error_offset == want, "wanted error_offset 0x%lx, got 0x%llx",
		    want, self->attr->error_offset);
	self->attr->error_offset = self->was.error_offset;
	TEST_ASSERT(!memcmp(self->attr, &self->was, sizeof(self->was)),
		    "a call has written more than error_offset");
	close(fds[0]);
	close(fds[1]);
	GMEM_ASSERT_PRIVATE(m, KMA_NONE);
	gmem_host_scan(m, KMA_SEEN(.fresh = ~WITHIN));
}

TEST_F(within, request_in_memory_that_it_cannot_make_private_is_told_where)
{
	assert_told(self, WITHIN_PAGE - 1);
	assert_told(self, WITHIN_PAGE + 1);
	assert_told(self, WITHIN_PAGE);
}

/* A guest_memfd that doesn't keep what is private of it. */
FIXTURE(beside) {
	struct kma_guest g;
	int fd;
};

FIXTURE_SETUP(beside)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
	self->fd = self->g.region->region.guest_memfd;
	kma_prepare(&self->g, KMA_MIDDLE);
}

FIXTURE_TEARDOWN(beside)
{
	if (!self->g.vm)
		return;
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN_PRIVATE(KMA_MIDDLE));
	kvm_vm_free(self->g.vm);
}

TEST_F(beside, conversion_is_eperm_at_its_beginning)
{
	static const u64 pages[] = { 0, 1, 17, 63 };

	for (int i = 0; i < ARRAY_SIZE(pages); i++) {
		u64 at = pages[i] * PAGE_SIZE;

		GMEM_ASSERT_FAILS(EPERM, at, self->fd, at, KMA_SIZE - at, KMA_PRIVATE, 0);
		GMEM_ASSERT_FAILS(EPERM, at, self->fd, at, KMA_SIZE - at, 0, 0);
		GMEM_ASSERT_FAILS(EPERM, at, self->fd, at, PAGE_SIZE, 0, GMEM_PRESERVE);
	}
}

TEST_F(beside, conversion_is_efault_where_its_beginning_cannot_be_written)
{
	KMA_ASSERT_ERRNO(EFAULT, set_read_only(self->fd, 0, KMA_SIZE, KMA_PRIVATE, 0));
	KMA_ASSERT_ERRNO(EFAULT, set_read_only(self->fd, 0, KMA_SIZE, 0, 0));
}

TEST_F(beside, what_is_invalid_is_einval_all_the_same)
{
	struct kvm_memory_attributes2 attr = gmem_attr(0, KMA_SIZE, 0, 0);

	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->fd, 1, PAGE_SIZE, 0, 0);
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->fd, 0, 0, 0, 0);
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->fd, KMA_SIZE, PAGE_SIZE, 0, 0);
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->fd, 0, KMA_SIZE, KMA_NW, 0);
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->fd, 0, KMA_SIZE, 0,
			  GMEM_ZERO | GMEM_NONE);
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->fd, 0, KMA_SIZE, 0, BIT_ULL(3));
	attr.layer = 1;
	GMEM_ASSERT_ATTR_FAILS(EINVAL, GMEM_UNWRITTEN, self->fd, attr);
}

/* Once the VM is given up, nothing else matters. */
FIXTURE(dead) {
	struct gmem m;
};

FIXTURE_SETUP(dead)
{
	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(&self->m, KVM_X86_SW_PROTECTED_VM, GMEM_IN_PLACE);
	gmem_set(&self->m, ~KMA_MIDDLE, 0, 0);
	kma_kill(self->m.g.vcpu);
}

FIXTURE_TEARDOWN(dead)
{
	if (!self->m.g.vm)
		return;
	GMEM_ASSERT_PRIVATE(&self->m, KMA_MIDDLE);
	gmem_free(&self->m);
}

TEST_F(dead, conversion_is_eio)
{
	GMEM_ASSERT_FAILS(EIO, GMEM_UNWRITTEN, self->m.fd, 0, KMA_SIZE, KMA_PRIVATE, 0);
	GMEM_ASSERT_FAILS(EIO, GMEM_UNWRITTEN, self->m.fd, 0, KMA_SIZE, 0, 0);
}

TEST_F(dead, bad_request_is_eio_before_anything_else)
{
	GMEM_ASSERT_FAILS(EIO, GMEM_UNWRITTEN, self->m.fd, 0, 0, ~0ull, ~0ull);
	KMA_ASSERT_ERRNO(EIO, __gmem_ioctl(self->m.fd, NULL));
}

TEST_F(dead, supported_attributes_are_eio)
{
	__u64 mask = 7;

	KMA_ASSERT_ERRNO(EIO, __kma_get_supported(self->m.fd, &mask));
	TEST_ASSERT_EQ(mask, 7);
}

/* A type of VM may support some policies only, in one direction. */
FIXTURE(policy) {
	struct gmem m;
};

FIXTURE_VARIANT(policy) {
	u32 type;
	u64 flags;
};

FIXTURE_VARIANT_ADD(policy, protected_zero) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.flags = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(policy, protected_preserve) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.flags = GMEM_PRESERVE,
};

FIXTURE_VARIANT_ADD(policy, protected_none) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.flags = GMEM_NONE,
};

FIXTURE_VARIANT_ADD(policy, protected_default) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.flags = 0,
};

FIXTURE_VARIANT_ADD(policy, plain_zero) {
	.type = KVM_X86_DEFAULT_VM,
	.flags = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(policy, plain_preserve) {
	.type = KVM_X86_DEFAULT_VM,
	.flags = GMEM_PRESERVE,
};

FIXTURE_VARIANT_ADD(policy, plain_none) {
	.type = KVM_X86_DEFAULT_VM,
	.flags = GMEM_NONE,
};

FIXTURE_VARIANT_ADD(policy, plain_default) {
	.type = KVM_X86_DEFAULT_VM,
	.flags = 0,
};

FIXTURE_SETUP(policy)
{
	if (variant->type == KVM_X86_SW_PROTECTED_VM)
		KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(&self->m, variant->type, GMEM_IN_PLACE);
}

FIXTURE_TEARDOWN(policy)
{
	gmem_free(&self->m);
}

TEST_F(policy, what_the_vm_supports_is_served_and_the_rest_is_eopnotsupp)
{
	const u64 at = 16 * PAGE_SIZE, size = 32 * PAGE_SIZE;
	struct gmem *m = &self->m;
	u64 supported = vm_check_cap(m->g.vm, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS);

	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	if (variant->flags & ~supported) {
		GMEM_ASSERT_FAILS(EOPNOTSUPP, at, m->fd, at, size, 0, variant->flags);
		GMEM_ASSERT_PRIVATE(m, KMA_ALL);
		KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));
		return;
	}

	GMEM_ASSERT_SET(m->fd, at, size, 0, variant->flags);
	GMEM_ASSERT_PRIVATE(m, ~KMA_MIDDLE);
	/* No promise is kept by a type that makes none, so this is of the others. */
	if (variant->flags)
		kma_scan(&m->g, gmem_filled_seen(variant->flags, KMA_MIDDLE));
}

TEST_HARNESS_MAIN
