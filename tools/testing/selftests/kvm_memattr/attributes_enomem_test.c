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
#define MOST_PAGES	(4 * LIMIT / 576)

/* A uniform block in front of the single pages. */
#define BLOCK_SIZE	((u64)SZ_1G)
#define PAGES_GPA	(KMA_GPA + BLOCK_SIZE)

FIXTURE(enomem) {
	struct kvm_vm *vm;
	struct kma_view view;
	char root[PATH_MAX];
	char *cgroup;
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

	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->view = kma_view_newest();
}

FIXTURE_TEARDOWN(enomem)
{
	kvm_vm_free(self->vm);
	cg_enter_current(self->root);
	cg_destroy(self->cgroup);
	free(self->cgroup);
}

static long charged(const char *cgroup)
{
	return cg_read_long(cgroup, "memory.current");
}

static void limit(const char *cgroup, long bytes)
{
	TEST_ASSERT(!cg_write_numeric(cgroup, "memory.max", bytes),
		    "cannot limit %s to %ld bytes", cgroup, bytes);
}

/* Sets single pages until there is no memory for one more. Returns how many. */
static int fill(struct kvm_vm *vm, const char *cgroup)
{
	int pages;

	limit(cgroup, charged(cgroup) + LIMIT);
	for (pages = 0; pages < MOST_PAGES; pages++) {
		if (__kma_set(vm, PAGES_GPA + pages * STRIDE, PAGE_SIZE, KMA_PRIVATE))
			break;
	}
	TEST_ASSERT(pages < MOST_PAGES, "%d pages, and the limit is not met", pages);
	TEST_ASSERT(errno == ENOMEM, "page %d: %s", pages, strerror(errno));
	return pages;
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
	int pages = fill(self->vm, self->cgroup);

	assert_filled(&self->view, false, pages);
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets"), pages);
	TEST_ASSERT_EQ(kma_stat(&self->view, "runs_zapped"), pages);
	TEST_ASSERT_EQ(kma_stat(&self->view, "blocks"), pages);
}

/* From a page of its own to far behind all others: both ends need nodes. */
TEST_F(enomem, failed_set_of_a_huge_range_changes_nothing)
{
	int pages = fill(self->vm, self->cgroup);
	u64 nodes = kma_stat(&self->view, "nodes");

	KMA_ASSERT_ERRNO(ENOMEM, __kma_set(self->vm, PAGES_GPA + (2 * pages + 1) * STRIDE + PAGE_SIZE,
					   1ull << 62, KMA_PRIVATE));
	assert_filled(&self->view, false, pages);
	TEST_ASSERT_EQ(kma_stat(&self->view, "nodes"), nodes);
}

/* A part of a block cannot go back to shared without nodes for the rest of it. */
TEST_F(enomem, failed_way_back_to_shared_changes_nothing)
{
	u64 nodes;
	int pages;

	kma_set(self->vm, KMA_GPA, BLOCK_SIZE, KMA_PRIVATE);
	pages = fill(self->vm, self->cgroup);
	nodes = kma_stat(&self->view, "nodes");

	KMA_ASSERT_ERRNO(ENOMEM, __kma_set(self->vm, KMA_GPA + SZ_2M, PAGE_SIZE, 0));
	assert_filled(&self->view, true, pages);
	TEST_ASSERT_EQ(kma_stat(&self->view, "nodes"), nodes);
}

TEST_F(enomem, failed_sets_give_their_memory_back)
{
	long before = charged(self->cgroup);
	int pages = fill(self->vm, self->cgroup);

	for (int i = 0; i < 1000; i++)
		__kma_set(self->vm, PAGES_GPA + (pages + i) * STRIDE, PAGE_SIZE, KMA_PRIVATE);

	/*
	 * Nodes of the store are freed after a grace period, and each CPU may hold
	 * on to a batch of 64 pages that were charged.
	 */
	KMA_WAIT_FOR(!cg_write(self->cgroup, "memory.max", "max"));
	kma_set(self->vm, 0, 1ull << 62, 0);
	TEST_ASSERT_EQ(kma_stat(&self->view, "nodes"), 0);
	KMA_WAIT_FOR(charged(self->cgroup) < before + LIMIT);
}

TEST_F(enomem, same_set_succeeds_with_enough_memory)
{
	int pages = fill(self->vm, self->cgroup);

	/* Writing takes memory itself, which comes back after a grace period. */
	KMA_WAIT_FOR(!cg_write(self->cgroup, "memory.max", "max"));
	kma_set(self->vm, PAGES_GPA + pages * STRIDE, PAGE_SIZE, KMA_PRIVATE);
	assert_filled(&self->view, false, pages + 1);
}

TEST_F(enomem, all_of_it_goes_back_to_shared_without_memory)
{
	fill(self->vm, self->cgroup);
	limit(self->cgroup, charged(self->cgroup));
	kma_set(self->vm, KMA_GPA, 1ull << 40, 0);
	kma_assert_runs(&self->view, "");
}

TEST_HARNESS_MAIN
