// SPDX-License-Identifier: GPL-2.0
/*
 * What becomes of the contents of pages that are converted: by each policy, in
 * each direction, for pages in use, in no use, and not there at all.
 */
#include "kvm_memattr_gmem.h"

struct content {
	struct gmem m;
	/* The attributes before and after. */
	u64 from;
	u64 to;
};

FIXTURE(content) {
	struct content c;
};

FIXTURE_VARIANT(content) {
	bool to_private;
};

FIXTURE_VARIANT_ADD(content, to_shared) {
	.to_private = false,
};

FIXTURE_VARIANT_ADD(content, to_private) {
	.to_private = true,
};

FIXTURE_SETUP(content)
{
	KMA_REQUIRE_PROTECTED_VMS();
	self->c.from = variant->to_private ? 0 : KMA_PRIVATE;
	self->c.to = variant->to_private ? KMA_PRIVATE : 0;
	gmem_init(&self->c.m, KVM_X86_SW_PROTECTED_VM,
		  variant->to_private ? GMEM_SHARED : GMEM_IN_PLACE);
}

FIXTURE_TEARDOWN(content)
{
	gmem_free(&self->c.m);
}

/* All in one VM, as it takes long to create one: each begins with a file without pages. */
static void with_each_policy(struct content *c, void (*test)(struct content *c, u64 policy))
{
	for (int i = 0; i < ARRAY_SIZE(gmem_policies); i++) {
		/* Should it fail, this says which. */
		ksft_print_msg("content policy 0x%lx\n", gmem_policies[i]);
		gmem_set(&c->m, KMA_ALL, c->from, 0);
		gmem_punch(c->m.fd, 0, KMA_SIZE);
		test(c, gmem_policies[i]);
	}
}

/* A case of which all policies are to be right. */
#define TEST_EACH_POLICY(_name)							\
static void _name(struct content *c, u64 policy);				\
TEST_F(content, _name)								\
{										\
	with_each_policy(&self->c, _name);					\
}										\
static void _name(struct content *c, u64 policy)

/* The guest and then, for which all has to be shared, the host see this. */
static void assert_both_see(struct gmem *m, struct kma_seen want)
{
	kma_scan(&m->g, want);
	gmem_set(m, KMA_ALL, 0, GMEM_PRESERVE);
	gmem_host_scan(m, want);
}

TEST_EACH_POLICY(converted_pages_are_as_the_policy_says_and_no_others)
{
	struct gmem *m = &c->m;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	gmem_set(m, KMA_MIDDLE, c->to, policy);
	assert_both_see(m, gmem_filled_seen(policy, KMA_MIDDLE));
}

/* The host writes what the guest then has, and the reverse. */
TEST_EACH_POLICY(converted_pages_are_as_the_policy_says_where_the_host_has_used_them)
{
	struct gmem *m = &c->m;

	gmem_set(m, KMA_ALL, 0, 0);
	gmem_host_fill(m, KMA_ALL, KMA_KIND_NEW);
	gmem_set(m, KMA_ALL, c->from, GMEM_PRESERVE);
	gmem_set(m, KMA_ODD, c->to, policy);
	assert_both_see(m, gmem_filled_seen(policy, KMA_ODD));
}

TEST_EACH_POLICY(pages_of_the_range_that_are_so_already_keep_theirs)
{
	struct gmem *m = &c->m;

	gmem_set(m, KMA_ODD, c->to, 0);
	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, c->to, policy);
	assert_both_see(m, gmem_filled_seen(policy, KMA_EVEN));
}

TEST_EACH_POLICY(pages_that_are_not_there_read_as_zero)
{
	struct gmem *m = &c->m;

	gmem_set(m, KMA_ALL, c->to, policy);
	assert_both_see(m, KMA_SEEN(.zero = KMA_ALL));
}

TEST_EACH_POLICY(pages_that_are_not_there_between_others_read_as_zero)
{
	struct gmem *m = &c->m;
	struct kma_seen want = gmem_filled_seen(policy, KMA_ALL);

	kma_fill(&m->g, KMA_EVEN, KMA_KIND_NEW);
	GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, c->to, policy);
	want.fresh &= KMA_EVEN;
	want.junk &= KMA_EVEN;
	want.zero |= KMA_ODD;
	assert_both_see(m, want);
}

TEST_EACH_POLICY(punched_pages_read_as_zero)
{
	struct gmem *m = &c->m;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	gmem_punch(m->fd, 0, KMA_SIZE);
	gmem_set(m, KMA_ALL, c->to, policy);
	assert_both_see(m, KMA_SEEN(.zero = KMA_ALL));
}

/* They have memory, whose contents are older than the file. */
TEST_EACH_POLICY(pages_that_were_allocated_and_never_used_hold_nothing_old)
{
	struct gmem *m = &c->m;

	gmem_allocate(m->fd, 0, KMA_SIZE);
	gmem_set(m, KMA_ALL, c->to, policy);
	if (policy == GMEM_NONE)
		assert_both_see(m, KMA_SEEN(.junk = KMA_ALL));
	else
		assert_both_see(m, KMA_SEEN(.zero = KMA_ALL));
}

TEST_EACH_POLICY(pages_allocated_after_the_conversion_read_as_zero)
{
	struct gmem *m = &c->m;

	gmem_set(m, KMA_ALL, c->to, policy);
	gmem_allocate(m->fd, 0, KMA_SIZE);
	assert_both_see(m, KMA_SEEN(.zero = KMA_ALL));
}

TEST_EACH_POLICY(what_is_written_after_the_conversion_stays)
{
	struct gmem *m = &c->m;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_PRIVATE);
	gmem_set(m, KMA_ALL, c->to, policy);
	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	gmem_set(m, KMA_ALL, c->to, policy);
	assert_both_see(m, KMA_SEEN(.fresh = KMA_ALL));
}

TEST_EACH_POLICY(there_and_back_page_by_page_is_by_the_policy_of_each_way)
{
	struct gmem *m = &c->m;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	for (u64 page = 0; page < KMA_PAGES; page++) {
		gmem_set(m, 1ull << page, c->to, policy);
		gmem_set(m, 1ull << page, c->from, GMEM_PRESERVE);
	}
	assert_both_see(m, gmem_filled_seen(policy, KMA_ALL));
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

TEST_EACH_POLICY(large_ranges_are_as_the_policy_says)
{
	int fd = vm_create_guest_memfd(c->m.g.vm, LARGE_SIZE, GMEM_SHARED);
	u8 *mem = kvm_mmap(LARGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	const u64 first = 7, end = LARGE_PAGES - 11;

	for (u64 page = 0; page < LARGE_PAGES; page++) {
		if (!IS_HOLE(page))
			kma_fill_page((u64 *)(mem + page * PAGE_SIZE), page * PAGE_SIZE,
				      KMA_KIND_NEW);
	}
	GMEM_ASSERT_SET(fd, 0, LARGE_SIZE, c->from, GMEM_PRESERVE);
	GMEM_ASSERT_SET(fd, first * PAGE_SIZE, (end - first) * PAGE_SIZE, c->to, policy);
	GMEM_ASSERT_SET(fd, 0, LARGE_SIZE, 0, GMEM_PRESERVE);
	assert_large(mem, first, end, policy);
	kvm_munmap(mem, LARGE_SIZE);
	kvm_close(fd);
}

TEST_HARNESS_MAIN
