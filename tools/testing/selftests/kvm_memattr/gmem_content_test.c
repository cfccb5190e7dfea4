// SPDX-License-Identifier: GPL-2.0
/*
 * What becomes of the contents of pages that are converted: by each policy, in
 * each direction, for pages in use, in no use, and not there at all.
 */
#include "kvm_memattr_gmem.h"

FIXTURE(content) {
	struct gmem m;
	/* The attributes before and after. */
	u64 from;
	u64 to;
};

FIXTURE_VARIANT(content) {
	bool to_private;
	u64 policy;
};

FIXTURE_VARIANT_ADD(content, to_shared_default) {
	.to_private = false,
	.policy = 0,
};

FIXTURE_VARIANT_ADD(content, to_shared_zero) {
	.to_private = false,
	.policy = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(content, to_shared_preserve) {
	.to_private = false,
	.policy = GMEM_PRESERVE,
};

FIXTURE_VARIANT_ADD(content, to_shared_none) {
	.to_private = false,
	.policy = GMEM_NONE,
};

FIXTURE_VARIANT_ADD(content, to_private_default) {
	.to_private = true,
	.policy = 0,
};

FIXTURE_VARIANT_ADD(content, to_private_zero) {
	.to_private = true,
	.policy = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(content, to_private_preserve) {
	.to_private = true,
	.policy = GMEM_PRESERVE,
};

FIXTURE_VARIANT_ADD(content, to_private_none) {
	.to_private = true,
	.policy = GMEM_NONE,
};

FIXTURE_SETUP(content)
{
	KMA_REQUIRE_PROTECTED_VMS();
	self->from = variant->to_private ? 0 : KMA_PRIVATE;
	self->to = variant->to_private ? KMA_PRIVATE : 0;
	gmem_init(&self->m, KVM_X86_SW_PROTECTED_VM,
		  variant->to_private ? GMEM_SHARED : GMEM_IN_PLACE);
}

FIXTURE_TEARDOWN(content)
{
	gmem_free(&self->m);
}

/* The guest and then, for which all has to be shared, the host see this. */
static void assert_both_see(struct gmem *m, struct kma_seen want)
{
	kma_scan(&m->g, want);
	gmem_set(m, KMA_ALL, 0, GMEM_PRESERVE);
	gmem_host_scan(m, want);
}

TEST_F(content, converted_pages_are_as_the_policy_says_and_no_others)
{
	struct gmem *m = &self->m;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	gmem_set(m, KMA_MIDDLE, self->to, variant->policy);
	assert_both_see(m, gmem_filled_seen(variant->policy, KMA_MIDDLE));
}

/* The host writes what the guest then has, and the reverse. */
TEST_F(content, converted_pages_are_as_the_policy_says_where_the_host_has_used_them)
{
	struct gmem *m = &self->m;

	gmem_set(m, KMA_ALL, 0, 0);
	gmem_host_fill(m, KMA_ALL, KMA_KIND_NEW);
	gmem_set(m, KMA_ALL, self->from, GMEM_PRESERVE);
	gmem_set(m, KMA_ODD, self->to, variant->policy);
	assert_both_see(m, gmem_filled_seen(variant->policy, KMA_ODD));
}

TEST_F(content, pages_of_the_range_that_are_so_already_keep_theirs)
{
	struct gmem *m = &self->m;

	gmem_set(m, KMA_ODD, self->to, 0);
	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, self->to, variant->policy);
	assert_both_see(m, gmem_filled_seen(variant->policy, KMA_EVEN));
}

TEST_F(content, pages_that_are_not_there_read_as_zero)
{
	struct gmem *m = &self->m;

	gmem_set(m, KMA_ALL, self->to, variant->policy);
	assert_both_see(m, KMA_SEEN(.zero = KMA_ALL));
}

TEST_F(content, pages_that_are_not_there_between_others_read_as_zero)
{
	struct gmem *m = &self->m;
	struct kma_seen want = gmem_filled_seen(variant->policy, KMA_ALL);

	kma_fill(&m->g, KMA_EVEN, KMA_KIND_NEW);
	GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, self->to, variant->policy);
	want.fresh &= KMA_EVEN;
	want.junk &= KMA_EVEN;
	want.zero |= KMA_ODD;
	assert_both_see(m, want);
}

TEST_F(content, punched_pages_read_as_zero)
{
	struct gmem *m = &self->m;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	gmem_punch(m->fd, 0, KMA_SIZE);
	gmem_set(m, KMA_ALL, self->to, variant->policy);
	assert_both_see(m, KMA_SEEN(.zero = KMA_ALL));
}

/* They have memory, whose contents are older than the file. */
TEST_F(content, pages_that_were_allocated_and_never_used_hold_nothing_old)
{
	struct gmem *m = &self->m;

	gmem_allocate(m->fd, 0, KMA_SIZE);
	gmem_set(m, KMA_ALL, self->to, variant->policy);
	if (variant->policy == GMEM_NONE)
		assert_both_see(m, KMA_SEEN(.junk = KMA_ALL));
	else
		assert_both_see(m, KMA_SEEN(.zero = KMA_ALL));
}

TEST_F(content, pages_allocated_after_the_conversion_read_as_zero)
{
	struct gmem *m = &self->m;

	gmem_set(m, KMA_ALL, self->to, variant->policy);
	gmem_allocate(m->fd, 0, KMA_SIZE);
	assert_both_see(m, KMA_SEEN(.zero = KMA_ALL));
}

TEST_F(content, what_is_written_after_the_conversion_stays)
{
	struct gmem *m = &self->m;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_PRIVATE);
	gmem_set(m, KMA_ALL, self->to, variant->policy);
	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	gmem_set(m, KMA_ALL, self->to, variant->policy);
	assert_both_see(m, KMA_SEEN(.fresh = KMA_ALL));
}

TEST_F(content, there_and_back_page_by_page_is_by_the_policy_of_each_way)
{
	struct gmem *m = &self->m;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	for (u64 page = 0; page < KMA_PAGES; page++) {
		gmem_set(m, 1ull << page, self->to, variant->policy);
		gmem_set(m, 1ull << page, self->from, GMEM_PRESERVE);
	}
	assert_both_see(m, gmem_filled_seen(variant->policy, KMA_ALL));
}

/* More than what the kernel looks at in one go, with holes; the host alone. */
#define LARGE_PAGES	1301ull
#define LARGE_SIZE	(LARGE_PAGES * PAGE_SIZE)
#define IS_HOLE(_page)	((_page) % 97 == 13)

static void assert_large(u8 *mem, u64 first, u64 end, u64 policy)
{
	for (u64 page = 0; page < LARGE_PAGES; page++) {
		struct kma_seen seen = {}, want = {};

		if (IS_HOLE(page))
			want.zero = 1;
		else if (page >= first && page < end)
			want = gmem_filled_seen(policy, KMA_ALL);
		else
			want.fresh = 1;
		want.fresh &= 1;
		want.zero &= 1;
		want.junk &= 1;

		kma_scan_page((u64 *)(mem + page * PAGE_SIZE), page * PAGE_SIZE, 1, &seen);
		kma_assert_seen("the host", seen, want);
	}
}

TEST_F(content, large_ranges_are_as_the_policy_says)
{
	int fd = vm_create_guest_memfd(self->m.g.vm, LARGE_SIZE, GMEM_SHARED);
	u8 *mem = kvm_mmap(LARGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	const u64 first = 7, end = LARGE_PAGES - 11;

	for (u64 page = 0; page < LARGE_PAGES; page++) {
		if (!IS_HOLE(page))
			kma_fill_page((u64 *)(mem + page * PAGE_SIZE), page * PAGE_SIZE,
				      KMA_KIND_NEW);
	}
	GMEM_ASSERT_SET(fd, 0, LARGE_SIZE, self->from, GMEM_PRESERVE);
	GMEM_ASSERT_SET(fd, first * PAGE_SIZE, (end - first) * PAGE_SIZE, self->to,
			variant->policy);
	GMEM_ASSERT_SET(fd, 0, LARGE_SIZE, 0, GMEM_PRESERVE);
	assert_large(mem, first, end, variant->policy);
	kvm_munmap(mem, LARGE_SIZE);
	kvm_close(fd);
}

TEST_HARNESS_MAIN
