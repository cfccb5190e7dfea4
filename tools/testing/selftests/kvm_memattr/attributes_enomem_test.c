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

/* A page takes 9 bytes of store, this range more than twice the limit's 1 MiB. */
#define RANGE_SIZE	SZ_1G
#define LIMIT		SZ_1M

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

TEST_F(enomem, failed_set_changes_nothing)
{
	char line[64];
	long before;

	/* Two attributed pages, one of them within what is to fail. */
	kma_set(self->vm, KMA_GPA + SZ_1M, 2 * PAGE_SIZE, KMA_PRIVATE);
	KMA_RUN_PRIVATE(line, KMA_GPA + SZ_1M, 2 * PAGE_SIZE);

	before = charged(self->cgroup);
	limit(self->cgroup, before + LIMIT);
	KMA_ASSERT_ERRNO(ENOMEM, __kma_set(self->vm, KMA_GPA + SZ_1M + PAGE_SIZE,
					   RANGE_SIZE, KMA_PRIVATE));
	kma_assert_runs(&self->view, line);
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets"), 1);
	TEST_ASSERT_EQ(kma_stat(&self->view, "runs_zapped"), 1);
}

TEST_F(enomem, failed_set_gives_its_memory_back)
{
	long before = charged(self->cgroup);

	limit(self->cgroup, before + LIMIT);
	KMA_ASSERT_ERRNO(ENOMEM, __kma_set(self->vm, KMA_GPA, RANGE_SIZE, KMA_PRIVATE));

	/*
	 * Nodes of the store are freed after a grace period, and each CPU may hold
	 * on to a batch of 64 pages that were charged.
	 */
	KMA_WAIT_FOR(charged(self->cgroup) < before + LIMIT / 2);
}

/* What was taken is given back, and not the range looked through: that'd take years. */
TEST_F(enomem, failed_set_of_a_huge_range_returns)
{
	limit(self->cgroup, charged(self->cgroup) + LIMIT);
	KMA_ASSERT_ERRNO(ENOMEM, __kma_set(self->vm, KMA_GPA, 1ull << 62, KMA_PRIVATE));
	kma_assert_runs(&self->view, "");
}

TEST_F(enomem, same_set_succeeds_with_enough_memory)
{
	char line[64];

	limit(self->cgroup, charged(self->cgroup) + LIMIT);
	KMA_ASSERT_ERRNO(ENOMEM, __kma_set(self->vm, KMA_GPA, RANGE_SIZE, KMA_PRIVATE));

	/* Writing takes memory itself, which comes back after a grace period. */
	KMA_WAIT_FOR(!cg_write(self->cgroup, "memory.max", "max"));
	kma_set(self->vm, KMA_GPA, RANGE_SIZE, KMA_PRIVATE);
	KMA_RUN_PRIVATE(line, KMA_GPA, (u64)RANGE_SIZE);
	kma_assert_runs(&self->view, line);
}

TEST_F(enomem, going_back_to_shared_takes_no_memory)
{
	kma_set(self->vm, KMA_GPA, SZ_64M, KMA_PRIVATE);
	limit(self->cgroup, charged(self->cgroup));
	kma_set(self->vm, KMA_GPA, SZ_64M, 0);
	kma_assert_runs(&self->view, "");
}

TEST_HARNESS_MAIN
