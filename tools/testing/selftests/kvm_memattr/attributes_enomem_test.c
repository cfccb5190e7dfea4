// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_SET_MEMORY_ATTRIBUTES without enough memory: in a cgroup with a limit, as
 * all memory that a request takes is accounted to the caller's cgroup. That the
 * limit is met at all shows the accounting.
 */
#include <sys/mount.h>

#include "kvm_memattr_guest.h"
#include "kvm_memattr_module.h"

/* Expects stdio.h to be included. */
#include "cgroup_util.h"

#define CGROUP_ROOT	"/sys/fs/cgroup"

/*
 * A page on its own takes a node of the store, of less than a KiB, if there is no
 * other in the 64 pages around it.
 */
#define STRIDE		(64ull * PAGE_SIZE)
#define LIMIT		SZ_512K
#define ROUNDS		8
#define MOST_PAGES	(4 * LIMIT / 576)

/* A uniform block in front of the single pages. */
#define BLOCK_SIZE	((u64)SZ_1G)
#define PAGES_GPA	(KMA_GPA + BLOCK_SIZE + STRIDE)

FIXTURE(enomem) {
	struct kvm_vm *vm;
	struct kma_view view;
	char root[PATH_MAX];
	char *cgroup;
	int memory_max;
};

FIXTURE_SETUP(enomem)
{
	KMA_REQUIRE_PROTECTED_VMS();

	mount("cgroup2", CGROUP_ROOT, "cgroup2", 0, NULL);
	TEST_ASSERT(!cg_find_unified_root(self->root, sizeof(self->root), NULL),
		    "no cgroup2 mounted, and none could be mounted on " CGROUP_ROOT);
	TEST_ASSERT(!cg_write(self->root, "cgroup.subtree_control", "+memory"),
		    "no memory controller in %s", self->root);

	self->cgroup = cg_name(self->root, "kvm_memattr_enomem");
	cg_destroy(self->cgroup);
	TEST_ASSERT(!cg_create(self->cgroup), "cannot create %s", self->cgroup);
	TEST_ASSERT(!cg_enter_current(self->cgroup), "cannot enter %s", self->cgroup);

	/* The request is to fail, not the process. */
	TEST_ASSERT(write_text("/proc/self/oom_score_adj", "-1000", 5) > 0,
		    "cannot keep the OOM killer away");

	/* At the limit there is no memory to open it with. */
	self->memory_max = cg_open(self->cgroup, "memory.max", O_WRONLY);
	TEST_ASSERT(self->memory_max >= 0, "no memory.max in %s", self->cgroup);

	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->view = kma_view_of(self->vm);
}

FIXTURE_TEARDOWN(enomem)
{
	kvm_vm_free(self->vm);
	close(self->memory_max);
	cg_enter_current(self->root);
	cg_destroy(self->cgroup);
	free(self->cgroup);
}

static long charged(const char *cgroup)
{
	return cg_read_long(cgroup, "memory.current");
}

/*
 * Sets single pages until there is no memory for one more, makes a last call there,
 * if it has a size, whose result comes back in @last (an errno, or 0), and lifts the
 * limit: what the test does next takes memory. Returns how many pages were set.
 */
static int fill(FIXTURE_DATA(enomem) * self, u64 gpa, u64 size, u64 attributes, int *last)
{
	int pages, why = 0;
	char text[32];
	ssize_t len;

	len = snprintf(text, sizeof(text), "%ld", charged(self->cgroup) + LIMIT);
	TEST_ASSERT(write(self->memory_max, text, len) == len, "cannot limit %s", self->cgroup);

	for (pages = 0; pages < MOST_PAGES && !why; pages++) {
		if (__kma_set(self->vm, PAGES_GPA + pages * STRIDE, PAGE_SIZE, KMA_PRIVATE))
			why = errno;
	}
	if (size)
		*last = __kma_set(self->vm, gpa, size, attributes) ? errno : 0;
	TEST_ASSERT(write(self->memory_max, "max", 3) == 3, "cannot lift the limit");

	TEST_ASSERT(why == ENOMEM, "page %d: %s", pages, strerror(why));
	return pages - 1;
}

/* The block, if there is one, and that many single pages: what the module has. */
static void assert_filled(const struct kma_view *view, bool block, int pages)
{
	char *want = malloc(SZ_64K), *end = want;

	TEST_ASSERT(want, "no memory for the runs");
	*end = '\0';
	if (block)
		end += sprintf(end, "0x%016llx 0x%llx 0x8 PRIVATE\n", KMA_GPA, BLOCK_SIZE);
	for (int i = 0; i < pages; i++)
		end += sprintf(end, "0x%016llx 0x%llx 0x8 PRIVATE\n",
			       PAGES_GPA + i * STRIDE, (u64)PAGE_SIZE);
	kma_assert_runs(view, want);
	free(want);
}

TEST_F(enomem, failed_set_changes_nothing)
{
	int pages = fill(self, 0, 0, 0, NULL);

	assert_filled(&self->view, false, pages);
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets"), pages);
	TEST_ASSERT_EQ(kma_stat(&self->view, "runs_zapped"), pages);
	TEST_ASSERT_EQ(kma_stat(&self->view, "blocks"), pages);
}

/* From a page of its own to far behind all others: both ends need nodes. */
TEST_F(enomem, failed_set_of_a_huge_range_changes_nothing)
{
	int last, pages;

	pages = fill(self, PAGES_GPA + 2 * MOST_PAGES * STRIDE + PAGE_SIZE, 1ull << 62,
		     KMA_PRIVATE, &last);
	TEST_ASSERT_EQ(last, ENOMEM);
	assert_filled(&self->view, false, pages);
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets"), pages);
}

/* A part of a block cannot go back to shared without nodes for the rest of it. */
TEST_F(enomem, failed_way_back_to_shared_changes_nothing)
{
	int last, pages;

	kma_set(self->vm, KMA_GPA, BLOCK_SIZE, KMA_PRIVATE);
	pages = fill(self, KMA_GPA + SZ_2M, PAGE_SIZE, 0, &last);
	TEST_ASSERT_EQ(last, ENOMEM);
	assert_filled(&self->view, true, pages);
	TEST_ASSERT_EQ(kma_stat(&self->view, "blocks"), pages + 1);
}

/* Each round takes the limit; what a round left behind would add up. */
TEST_F(enomem, failed_sets_give_their_memory_back)
{
	long before = charged(self->cgroup);

	for (int round = 0; round < ROUNDS; round++) {
		fill(self, 0, 0, 0, NULL);
		kma_set(self->vm, 0, 1ull << 62, 0);
		TEST_ASSERT_EQ(kma_stat(&self->view, "nodes"), 0);
		/*
		 * Nodes are freed after a grace period, and each CPU may hold on to a
		 * batch of 64 pages that were charged.
		 */
		KMA_WAIT_FOR(charged(self->cgroup) < before + ROUNDS * LIMIT / 4);
	}
}

/*
 * The window is where the range begins: what is shared of it would have to go. The
 * end is on no boundary, and far from all that is stored: it needs nodes.
 */
TEST_F(enomem, failed_set_leaves_the_guest_what_it_has_mapped)
{
	const u64 size = (1ull << 62) + 0x249249 * PAGE_SIZE;
	struct kma_guest g;
	int last;

	kvm_vm_free(self->vm);
	kma_protected_guest_init(&g);
	self->vm = g.vm;
	kma_prepare(&g, KMA_MIDDLE);

	fill(self, g.gpa, size, KMA_PRIVATE, &last);
	TEST_ASSERT_EQ(last, ENOMEM);
	KMA_ASSERT_FAULTS(&g, 0, KMA_SEEN_PRIVATE(KMA_MIDDLE));

	/* It does go once there is memory: the pages were there to be zapped. */
	kma_set(g.vm, g.gpa, size, KMA_PRIVATE);
	KMA_ASSERT_FAULTS(&g, KMA_PAGES / 2, KMA_SEEN(.private = KMA_ALL));
}

TEST_F(enomem, same_set_succeeds_with_enough_memory)
{
	int pages = fill(self, 0, 0, 0, NULL);

	kma_set(self->vm, PAGES_GPA + pages * STRIDE, PAGE_SIZE, KMA_PRIVATE);
	assert_filled(&self->view, false, pages + 1);
}

TEST_F(enomem, all_of_it_goes_back_to_shared_without_memory)
{
	int last;

	fill(self, KMA_GPA, 1ull << 40, 0, &last);
	TEST_ASSERT_EQ(last, 0);
	kma_assert_runs(&self->view, "");
}

TEST_HARNESS_MAIN
