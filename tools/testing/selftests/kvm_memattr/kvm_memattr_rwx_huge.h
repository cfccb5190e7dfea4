/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest of kvm_memattr_rwx.h with memory that KVM can map in blocks, and
 * what it is mapped with.
 */
#ifndef KVM_MEMATTR_RWX_HUGE_H
#define KVM_MEMATTR_RWX_HUGE_H

#include "kvm_memattr_rwx.h"

#define RWX_BLOCK	512ull
#define RWX_GIB		(RWX_BLOCK * RWX_BLOCK)

static inline bool rwx_module_param(const char *path)
{
	char value = 'N';
	int fd = open(path, O_RDONLY);

	TEST_ASSERT(fd >= 0 && read(fd, &value, 1) == 1, "%s: %s", path, strerror(errno));
	close(fd);
	return value == 'Y' || value == '1';
}

/* The registers of a guest that has not run yet. */
static struct kvm_regs rwx_entry;

/*
 * Has the guest executed something while KVM doesn't map huge pages executable?
 * KVM then keeps to pages of 4 KiB around that for long, so that nothing can be
 * said about levels any more.
 */
static bool rwx_levels_unknown;

static inline void rwx_executed(void)
{
	if (rwx_module_param("/sys/module/kvm/parameters/nx_huge_pages"))
		rwx_levels_unknown = true;
}

static inline bool rwx_tdp_mmu(void)
{
	return kvm_is_tdp_enabled() &&
	       rwx_module_param("/sys/module/kvm/parameters/tdp_mmu");
}

/* Nothing of the memory is mapped any more, and the host keeps its pages. */
static inline void rwx_unmap(struct rwx_guest *g)
{
	void *mem = g->region->host_mem;
	u64 size = g->nr_pages * PAGE_SIZE;

	TEST_ASSERT(!mprotect(mem, size, PROT_NONE) &&
		    !mprotect(mem, size, PROT_READ | PROT_WRITE),
		    "mprotect: %s", strerror(errno));
}

/* What the guest uses besides its memory is mapped after this, and nothing of that. */
static inline void rwx_use_all_but_memory(struct rwx_guest *g)
{
	for (int op = 0; op < RWX_NR_OPS; op++)
		if (op != RWX_EXEC)
			rwx_allowed(g, op, 0);
	rwx_unmap(g);
}

/*
 * The guest's own page tables have large pages, as those are what shadow paging
 * maps in one piece.
 */
static inline void rwx_huge_init(struct rwx_guest *g, u32 type, u64 nr_pages,
				 enum vm_mem_backing_src_type src)
{
	rwx_create(g, type, nr_pages, src);
	virt_map_level(g->vm, g->gpa, g->gpa, nr_pages * PAGE_SIZE,
		       nr_pages < RWX_GIB ? PG_LEVEL_2M : PG_LEVEL_1G);
	vcpu_regs_get(g->vcpu, &rwx_entry);
	rwx_run(g->vcpu);
	rwx_use_all_but_memory(g);
}

/* The guest gives up what it was denied and takes another command. */
static inline void rwx_abandon(struct rwx_guest *g)
{
	vcpu_regs_set(g->vcpu, &rwx_entry);
	rwx_run(g->vcpu);
}

/* Every kind of access to the page, each denied or allowed by the word. Changes no word. */
static inline void rwx_check_all(struct rwx_guest *g, u64 page, u64 word)
{
	for (int op = 0; op < RWX_NR_OPS; op++) {
		u64 flag = rwx_denied_flag(word, op);

		if (!flag) {
			rwx_allowed(g, op, page);
			if (op == RWX_EXEC)
				rwx_executed();
			continue;
		}
		rwx_denied(g, op, page, flag);
		rwx_abandon(g);
	}
}

/* How many pages of each size KVM has mapped, by level. */
struct rwx_mapped {
	u64 nr[4];
};

static inline struct rwx_mapped rwx_mapped(struct rwx_guest *g)
{
	return (struct rwx_mapped) { .nr = {
		[PG_LEVEL_4K] = vm_get_stat(g->vm, pages_4k),
		[PG_LEVEL_2M] = vm_get_stat(g->vm, pages_2m),
		[PG_LEVEL_1G] = vm_get_stat(g->vm, pages_1g),
	} };
}

/* The guest can read the page, and that maps it at this level. */
static inline void rwx_assert_maps(struct rwx_guest *g, u64 page, int level, int line)
{
	struct rwx_mapped was = rwx_mapped(g), is;

	rwx_allowed(g, RWX_READ, page);
	is = rwx_mapped(g);
	if (rwx_levels_unknown)
		return;

	for (int l = PG_LEVEL_4K; l <= PG_LEVEL_1G; l++)
		TEST_ASSERT((is.nr[l] > was.nr[l]) == (l == level),
			    "line %d: page %lu isn't mapped at level %d: there are %lu, %lu, %lu, were %lu, %lu, %lu",
			    line, page, level, is.nr[1], is.nr[2], is.nr[3],
			    was.nr[1], was.nr[2], was.nr[3]);
}

#define RWX_ASSERT_MAPS(_g, _page, _level)					\
	rwx_assert_maps(_g, _page, _level, __LINE__)

/* Exactly these are mapped in blocks. */
static inline void rwx_assert_blocks(struct rwx_guest *g, u64 nr_2m, u64 nr_1g, int line)
{
	struct rwx_mapped is = rwx_mapped(g);

	TEST_ASSERT((is.nr[PG_LEVEL_2M] == nr_2m && is.nr[PG_LEVEL_1G] == nr_1g) ||
		    rwx_levels_unknown,
		    "line %d: wanted %lu pages of 2 MiB and %lu of 1 GiB, got %lu and %lu",
		    line, nr_2m, nr_1g, is.nr[PG_LEVEL_2M], is.nr[PG_LEVEL_1G]);
}

#define RWX_ASSERT_BLOCKS(_g, _nr_2m, _nr_1g)					\
	rwx_assert_blocks(_g, _nr_2m, _nr_1g, __LINE__)

/*
 * What a request that fails has to leave alone: a page that denies writes, in a block
 * of which more is mapped, and a block that is mapped as one.
 */
#define RWX_KEPT_PAGE	100ull

static inline struct rwx_mapped rwx_map_what_is_kept(struct rwx_guest *g)
{
	rwx_set(g, 0, g->nr_pages, 0);
	rwx_set(g, RWX_KEPT_PAGE, 1, KMA_NW);
	rwx_unmap(g);
	rwx_allowed(g, RWX_READ, RWX_KEPT_PAGE);
	rwx_allowed(g, RWX_WRITE, RWX_KEPT_PAGE + 1);
	rwx_allowed(g, RWX_WRITE, RWX_BLOCK);
	return rwx_mapped(g);
}

/* All that was mapped is so, and can be used without a fault, by what each page allows. */
static inline void rwx_assert_kept(struct rwx_guest *g, struct rwx_mapped was)
{
	struct rwx_mapped is = rwx_mapped(g);
	u64 faults = vcpu_get_stat(g->vcpu, pf_taken);

	TEST_ASSERT(!memcmp(&is, &was, sizeof(is)),
		    "%lu pages and %lu of 2 MiB are mapped, there were %lu and %lu",
		    is.nr[PG_LEVEL_4K], is.nr[PG_LEVEL_2M], was.nr[PG_LEVEL_4K],
		    was.nr[PG_LEVEL_2M]);
	rwx_allowed(g, RWX_READ, RWX_KEPT_PAGE);
	rwx_allowed(g, RWX_WRITE, RWX_KEPT_PAGE + 1);
	rwx_allowed(g, RWX_WRITE, RWX_BLOCK);
	TEST_ASSERT_EQ(vcpu_get_stat(g->vcpu, pf_taken), faults);
	rwx_denied(g, RWX_WRITE, RWX_KEPT_PAGE, KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_abandon(g);
}

#endif /* KVM_MEMATTR_RWX_HUGE_H */
