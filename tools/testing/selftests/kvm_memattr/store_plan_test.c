// SPDX-License-Identifier: GPL-2.0
/*
 * A set does what it has to and no more: nothing where nothing changes, a zap
 * for each run of pages that changes, and KVM's account of which blocks are
 * uniform brought up to date, in whichever steps the memory got there.
 */
#include "kvm_memattr_guest.h"

FIXTURE(plan) {
	struct kma_guest g;
	struct kma_view view;
};

FIXTURE_SETUP(plan)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
	self->view = kma_view_of(self->g.vm);
}

FIXTURE_TEARDOWN(plan)
{
	kvm_vm_free(self->g.vm);
}

/* What a VM's counters say, of the module and of KVM. */
struct work {
	u64 sets;
	u64 unchanged;
	u64 runs;
	u64 pages;
	u64 flushes;
};

static struct work work_of(struct kvm_vm *vm, const struct kma_view *view)
{
	return (struct work) {
		.sets = kma_stat(view, "sets"),
		.unchanged = kma_stat(view, "sets_unchanged"),
		.runs = kma_stat(view, "runs_zapped"),
		.pages = kma_stat(view, "pages_zapped"),
		.flushes = vm_get_stat(vm, remote_tlb_flush_requests),
	};
}

/* Sets, and returns what that was for work. */
static struct work work_to_set(struct kvm_vm *vm, const struct kma_view *view, u64 gpa,
			       u64 size, u64 attributes)
{
	struct work before = work_of(vm, view), after;

	kma_set(vm, gpa, size, attributes);
	after = work_of(vm, view);
	return (struct work) {
		.sets = after.sets - before.sets,
		.unchanged = after.unchanged - before.unchanged,
		.runs = after.runs - before.runs,
		.pages = after.pages - before.pages,
		.flushes = after.flushes - before.flushes,
	};
}

#define ASSERT_NO_WORK(_work)							\
do {										\
	struct work __work = (_work);						\
										\
	TEST_ASSERT_EQ(__work.sets, 0);						\
	TEST_ASSERT_EQ(__work.unchanged, 1);					\
	TEST_ASSERT_EQ(__work.runs, 0);						\
	TEST_ASSERT_EQ(__work.pages, 0);					\
	TEST_ASSERT_EQ(__work.flushes, 0);					\
} while (0)

TEST_F(plan, setting_what_is_set_flushes_nothing)
{
	struct kma_guest *g = &self->g;

	kma_prepare(g, KMA_MIDDLE);
	ASSERT_NO_WORK(work_to_set(g->vm, &self->view, g->gpa + 16 * PAGE_SIZE,
				   32 * PAGE_SIZE, KMA_PRIVATE));
	ASSERT_NO_WORK(work_to_set(g->vm, &self->view, g->gpa + 20 * PAGE_SIZE,
				   3 * PAGE_SIZE, KMA_PRIVATE));
	ASSERT_NO_WORK(work_to_set(g->vm, &self->view, g->gpa, 16 * PAGE_SIZE, 0));
	ASSERT_NO_WORK(work_to_set(g->vm, &self->view, g->gpa + 48 * PAGE_SIZE, SZ_64M, 0));
	KMA_ASSERT_FAULTS(g, 0, KMA_SEEN_PRIVATE(KMA_MIDDLE));

	/* One page that does change, and KVM's counter isn't the one that stands still. */
	TEST_ASSERT(work_to_set(g->vm, &self->view, g->gpa + 16 * PAGE_SIZE,
				33 * PAGE_SIZE, KMA_PRIVATE).flushes,
		    "a zap of a mapped page did not flush");
}

TEST_F(plan, setting_what_is_set_without_a_slot_is_no_work)
{
	struct kvm_vm *vm = self->g.vm;
	const u64 gpa = KMA_GPA + SZ_1G;

	kma_set(vm, gpa, SZ_64M, KMA_PRIVATE);
	ASSERT_NO_WORK(work_to_set(vm, &self->view, gpa, SZ_64M, KMA_PRIVATE));
	ASSERT_NO_WORK(work_to_set(vm, &self->view, gpa + SZ_1M + PAGE_SIZE, SZ_4M, KMA_PRIVATE));
	ASSERT_NO_WORK(work_to_set(vm, &self->view, gpa + SZ_64M, SZ_1G, 0));
}

static const u64 patterns[] = {
	KMA_ODD,
	KMA_EVEN,
	KMA_MIDDLE,
	~KMA_MIDDLE,
	1ull,
	1ull << 63,
	~1ull,
	~0ull >> 1,
	0x00f0f00ff00f0f0full,
	0x8000000180000001ull,
	0x7ffffffe00000000ull,
	0xfffffffdfffffffbull,
};

/* The runs of ones. */
static u64 runs_in(u64 pages)
{
	return __builtin_popcountll(pages & ~(pages << 1));
}

/* The window becomes all of one kind. Only what isn't yet is zapped, run by run. */
static void only_what_changes_is_zapped(struct kma_guest *g, const struct kma_view *view,
					u64 private, u64 attributes)
{
	u64 changing = attributes ? ~private : private;
	struct work work;

	kma_prepare(g, private);
	work = work_to_set(g->vm, view, g->gpa, KMA_SIZE, attributes);
	TEST_ASSERT(work.sets == 1 && work.runs == runs_in(changing) &&
		    work.pages == __builtin_popcountll(changing),
		    "pages %016lx were private, setting %lx zapped %lu runs, %lu pages", private,
		    attributes, work.runs, work.pages);

	/* The others are still mapped. */
	if (attributes) {
		KMA_ASSERT_FAULTS(g, 0, KMA_SEEN(.private = private));
		KMA_ASSERT_FAULTS(g, work.pages, KMA_SEEN(.private = changing));
	} else {
		KMA_ASSERT_FAULTS(g, 0, KMA_SEEN(.shared = ~private));
		KMA_ASSERT_FAULTS(g, work.pages, KMA_SEEN(.shared = changing));
	}
}

TEST_F(plan, private_zaps_each_run_that_was_shared)
{
	for (int i = 0; i < ARRAY_SIZE(patterns); i++)
		only_what_changes_is_zapped(&self->g, &self->view, patterns[i], KMA_PRIVATE);
}

TEST_F(plan, shared_zaps_each_run_that_was_private)
{
	for (int i = 0; i < ARRAY_SIZE(patterns); i++)
		only_what_changes_is_zapped(&self->g, &self->view, patterns[i], 0);
}

TEST_F(plan, clearing_far_more_than_was_set_zaps_what_was_set)
{
	struct kma_guest *g = &self->g;
	struct work work;

	kma_prepare(g, 0x00f0f00ff00f0f0full);
	kma_set(g->vm, g->gpa + SZ_1G, 3 * PAGE_SIZE, KMA_PRIVATE);
	work = work_to_set(g->vm, &self->view, g->gpa - SZ_64M, SZ_64M + 16ull * SZ_1G, 0);
	TEST_ASSERT_EQ(work.runs, runs_in(0x00f0f00ff00f0f0full) + 1);
	TEST_ASSERT_EQ(work.pages, __builtin_popcountll(0x00f0f00ff00f0f0full) + 3);
	kma_assert_runs(&self->view, "");
}

/*
 * Memory whose shared side is in huge pages of the host, with a plain account
 * beside it of what is private. Pages are counted from KMA_GPA, which blocks of
 * all sizes are aligned to; the slot has some of them.
 */
struct memory {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	u8 *host;
	u8 *private;
	u64 pages;
	u64 slot_first;
	u64 slot_pages;
	int gmem;
	int max_level;
};

static u64 page_gpa(u64 page)
{
	return KMA_GPA + page * PAGE_SIZE;
}

static u64 level_pages(int level)
{
	return 1ull << (9 * (level - 1));
}

static void memory_init(struct memory *m, u64 pages, int mmap_flags, int max_level)
{
	const u64 align = level_pages(max_level) * PAGE_SIZE;

	m->pages = pages;
	m->max_level = max_level;
	m->private = calloc(pages, 1);
	TEST_ASSERT(m->private, "no memory for the account");

	/* Huge pages of hugetlbfs are where they have to be. */
	m->host = kvm_mmap(pages * PAGE_SIZE + (mmap_flags & MAP_HUGETLB ? 0 : align),
			   PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | mmap_flags, -1);
	if (!(mmap_flags & MAP_HUGETLB)) {
		m->host = align_ptr_up(m->host, align);
		kvm_madvise(m->host, pages * PAGE_SIZE, MADV_HUGEPAGE);
	}
	for (u64 page = 0; page < pages; page += level_pages(max_level))
		m->host[page * PAGE_SIZE] = 1;

	m->vm = vm_create_shape_with_one_vcpu(kma_protected_shape, &m->vcpu, kma_guest_code);
	m->gmem = vm_create_guest_memfd(m->vm, pages * PAGE_SIZE, 0);
	kma_warm_up(m->vcpu);
}

static void memory_add_slot(struct memory *m, u64 first, u64 nr)
{
	m->slot_first = first;
	m->slot_pages = nr;
	vm_set_user_memory_region2(m->vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, page_gpa(first),
				   nr * PAGE_SIZE, m->host + first * PAGE_SIZE, m->gmem,
				   first * PAGE_SIZE);
}

static void memory_delete_slot(struct memory *m)
{
	vm_set_user_memory_region2(m->vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD,
				   page_gpa(m->slot_first), 0, NULL, m->gmem, 0);
}

static void memory_set(struct memory *m, u64 first, u64 nr, u64 attributes)
{
	kma_set(m->vm, page_gpa(first), nr * PAGE_SIZE, attributes);
	for (u64 page = first; page < min(first + nr, m->pages); page++)
		m->private[page] = !!attributes;
}

/* What a page can be mapped with, as the model of attributes has it. */
static int level_wanted(struct memory *m, u64 page)
{
	int level = 1;

	for (; level < m->max_level; level++) {
		u64 nr = level_pages(level + 1), first = page / nr * nr, i;

		if (first < m->slot_first || first + nr > m->slot_first + m->slot_pages)
			return level;
		for (i = first; i < first + nr; i++)
			if (m->private[i])
				return level;
	}
	return level;
}

/* What KVM maps a page with that it has not mapped. */
static int level_mapped(struct memory *m, u64 page)
{
	u64 pages[3] = {
		vm_get_stat(m->vm, pages_4k),
		vm_get_stat(m->vm, pages_2m),
		vm_get_stat(m->vm, pages_1g),
	};

	kma_read_by(m->vcpu, page_gpa(page), 1);
	if (vm_get_stat(m->vm, pages_1g) > pages[2])
		return 3;
	if (vm_get_stat(m->vm, pages_2m) > pages[1])
		return 2;
	TEST_ASSERT(vm_get_stat(m->vm, pages_4k) > pages[0], "page %lu was mapped already", page);
	return 1;
}

/* KVM forgets all mappings of shared memory, and the host keeps its pages. */
static void memory_unmap(struct memory *m)
{
	TEST_ASSERT(!mprotect(m->host, m->pages * PAGE_SIZE, PROT_NONE) &&
		    !mprotect(m->host, m->pages * PAGE_SIZE, PROT_READ | PROT_WRITE),
		    "mprotect: %s", strerror(errno));
}

/* The shared ones of these pages are mapped with all that is uniform around them. */
static void assert_levels(struct memory *m, const u64 *pages, u64 nr, const char *when)
{
	for (u64 i = 0; i < nr; i++) {
		int got, want = level_wanted(m, pages[i]);

		if (m->private[pages[i]])
			continue;
		memory_unmap(m);
		got = level_mapped(m, pages[i]);
		TEST_ASSERT(got == want, "%s: page %lu is mapped at level %d, not %d", when,
			    pages[i], got, want);
	}
}

#define BLOCK		512ull
#define BLOCKS_PAGES	(4 * BLOCK)

/* In a slot that starts and ends within blocks: two are whole. */
#define SLOT_FIRST	3
#define SLOT_PAGES	(BLOCKS_PAGES - SLOT_FIRST - 5)

/* Some of each block. */
static const u64 block_probes[] = {
	SLOT_FIRST, 60, BLOCK - 1,
	BLOCK, BLOCK + 77, 2 * BLOCK - 1,
	2 * BLOCK, 2 * BLOCK + 77, 3 * BLOCK - 1,
	3 * BLOCK, 3 * BLOCK + 77, BLOCKS_PAGES - 6,
};

FIXTURE(blocks) {
	struct memory m;
};

FIXTURE_SETUP(blocks)
{
	KMA_REQUIRE_PROTECTED_VMS();
	memory_init(&self->m, BLOCKS_PAGES, 0, 2);
	for (int i = 0; i < ARRAY_SIZE(block_probes); i++)
		virt_map(self->m.vm, page_gpa(block_probes[i]), page_gpa(block_probes[i]), 1);

	/* The module's account, not mainline's. */
	kma_view_of(self->m.vm);
}

FIXTURE_TEARDOWN(blocks)
{
	kvm_vm_free(self->m.vm);
}

#define ASSERT_BLOCKS(_when)							\
	assert_levels(&self->m, block_probes, ARRAY_SIZE(block_probes), _when)

struct step {
	u64 first;
	u64 nr;
	u64 attributes;
};

static const struct step block_steps[] = {
	/* In the parts of blocks, at both ends of the slot. */
	{ SLOT_FIRST + 1, 1, KMA_PRIVATE },
	{ BLOCKS_PAGES - 7, 1, KMA_PRIVATE },
	{ SLOT_FIRST, BLOCKS_PAGES, 0 },
	/* From a part into a whole block, and back. */
	{ BLOCK - 2, 3, KMA_PRIVATE },
	{ BLOCK, 1, 0 },
	{ BLOCK - 2, 2, 0 },
	{ 3 * BLOCK - 1, 2, KMA_PRIVATE },
	{ 3 * BLOCK - 1, 1, 0 },
	{ 3 * BLOCK, 1, 0 },
	/* The middle, then the pages beside it, then all from both ends. */
	{ BLOCK + 200, 2, KMA_PRIVATE },
	{ BLOCK + 199, 1, KMA_PRIVATE },
	{ BLOCK + 202, 1, KMA_PRIVATE },
	{ BLOCK, 201, 0 },
	{ BLOCK + 201, 2 * BLOCK, 0 },
	/* From the middle of one block to the middle of another. */
	{ BLOCK + 300, BLOCK, KMA_PRIVATE },
	{ BLOCK + 300, BLOCK - 1, 0 },
	{ 2 * BLOCK + 299, 1, 0 },
	/* Whole blocks, with and without what is around them. */
	{ BLOCK, BLOCK, KMA_PRIVATE },
	{ BLOCK + 1, BLOCK - 1, 0 },
	{ BLOCK, 1, 0 },
	{ 0, BLOCKS_PAGES, KMA_PRIVATE },
	{ 0, BLOCKS_PAGES - 6, 0 },
	{ BLOCKS_PAGES - 6, 100, 0 },
};

TEST_F(blocks, block_within_an_unaligned_slot_is_whole_while_it_is_uniform)
{
	memory_add_slot(&self->m, SLOT_FIRST, SLOT_PAGES);
	ASSERT_BLOCKS("at first");
	for (int i = 0; i < ARRAY_SIZE(block_steps); i++) {
		const struct step *s = &block_steps[i];
		char when[64];

		memory_set(&self->m, s->first, s->nr, s->attributes);
		snprintf(when, sizeof(when), "after [%lu, %lu) became %lx", s->first,
			 s->first + s->nr, s->attributes);
		ASSERT_BLOCKS(when);
	}
}

TEST_F(blocks, slot_created_after_each_change_agrees_with_one_that_was_there)
{
	for (int i = 0; i < ARRAY_SIZE(block_steps); i++) {
		const struct step *s = &block_steps[i];
		char when[64];

		memory_set(&self->m, s->first, s->nr, s->attributes);
		memory_add_slot(&self->m, SLOT_FIRST, SLOT_PAGES);
		snprintf(when, sizeof(when), "new slot after [%lu, %lu) became %lx", s->first,
			 s->first + s->nr, s->attributes);
		ASSERT_BLOCKS(when);
		memory_delete_slot(&self->m);
	}
}

TEST_F(blocks, slot_in_another_place_has_other_whole_blocks)
{
	struct memory *m = &self->m;

	memory_set(m, 2 * BLOCK + 3, 1, KMA_PRIVATE);
	memory_add_slot(m, 0, 2 * BLOCK);
	assert_levels(m, block_probes, 6, "the first two blocks");
	memory_delete_slot(m);
	memory_add_slot(m, BLOCK + 1, BLOCKS_PAGES - BLOCK - 1);
	assert_levels(m, block_probes + 6, 6, "the last two blocks, and a part");
	memory_set(m, 2 * BLOCK + 3, 1, 0);
	assert_levels(m, block_probes + 6, 6, "all shared");
}

/* All pages of a block, one at a time, in this order. */
static void set_page_by_page(struct memory *m, bool ascending, u64 attributes)
{
	for (u64 i = 0; i < BLOCK; i++)
		memory_set(m, BLOCK + (ascending ? i : BLOCK - 1 - i), 1, attributes);
}

TEST_F(blocks, block_comes_back_when_its_last_page_is_shared_again)
{
	struct memory *m = &self->m;

	memory_add_slot(m, SLOT_FIRST, SLOT_PAGES);
	for (int how = 0; how < 4; how++) {
		bool up = how & 1;

		if (how & 2)
			memory_set(m, BLOCK, BLOCK, KMA_PRIVATE);
		else
			set_page_by_page(m, !up, KMA_PRIVATE);
		ASSERT_BLOCKS("the block is private");

		/* All but one page, the last in that order. */
		for (u64 i = 0; i < BLOCK - 1; i++)
			memory_set(m, BLOCK + (up ? i : BLOCK - 1 - i), 1, 0);
		ASSERT_BLOCKS("one page is private");
		memory_set(m, BLOCK + (up ? BLOCK - 1 : 0), 1, 0);
		ASSERT_BLOCKS("no page is private");
	}
}

TEST_F(blocks, clearing_at_once_what_was_set_page_by_page_brings_the_block_back)
{
	memory_add_slot(&self->m, SLOT_FIRST, SLOT_PAGES);
	set_page_by_page(&self->m, true, KMA_PRIVATE);
	memory_set(&self->m, BLOCK, BLOCK, 0);
	ASSERT_BLOCKS("after page by page and at once");
}

#define GIANT		(512 * BLOCK)

static const u64 giant_probes[] = {
	0, 1, BLOCK - 1, BLOCK, 100 * BLOCK + 5, GIANT / 2, GIANT - BLOCK - 1, GIANT - BLOCK,
	GIANT - 1,
};

static const struct step giant_steps[] = {
	/* One page of the head, of the tail, of the middle. */
	{ 3, 1, KMA_PRIVATE },
	{ 3, 1, 0 },
	{ GIANT - 3, 1, KMA_PRIVATE },
	{ GIANT - 3, 1, 0 },
	{ GIANT / 2 + 7, 1, KMA_PRIVATE },
	{ GIANT / 2 + 7, 1, 0 },
	/* Two pages far from each other, one after the other. */
	{ 3, 1, KMA_PRIVATE },
	{ GIANT - 3, 1, KMA_PRIVATE },
	{ 3, 1, 0 },
	{ GIANT - 3, 1, 0 },
	/* Whole blocks, at both ends and not. */
	{ 0, BLOCK, KMA_PRIVATE },
	{ 0, BLOCK - 1, 0 },
	{ BLOCK - 1, 1, 0 },
	{ GIANT - 2 * BLOCK, 2 * BLOCK, KMA_PRIVATE },
	{ GIANT - BLOCK, BLOCK, 0 },
	{ GIANT - 2 * BLOCK, BLOCK, 0 },
	/* Many blocks, with parts of others at both ends. */
	{ 50 * BLOCK + 9, 100 * BLOCK, KMA_PRIVATE },
	{ 50 * BLOCK + 10, 100 * BLOCK - 1, 0 },
	{ 50 * BLOCK + 9, 1, 0 },
	/* Beyond the slot, at both ends. */
	{ GIANT - 1, 2, KMA_PRIVATE },
	{ GIANT - 1, 1, 0 },
};

FIXTURE(giant) {
	struct memory m;
	bool pool;
};

FIXTURE_SETUP(giant)
{
	KMA_REQUIRE_PROTECTED_VMS();

	self->pool = true;
	TEST_ASSERT_EQ(kma_giant_pages(1), 1);
	memory_init(&self->m, GIANT, MAP_HUGETLB | MAP_HUGE_1GB, 3);
	for (int i = 0; i < ARRAY_SIZE(giant_probes); i++)
		virt_map(self->m.vm, page_gpa(giant_probes[i]), page_gpa(giant_probes[i]), 1);

	/* The module's account, not mainline's. */
	kma_view_of(self->m.vm);
}

/* In the parent, when the process that has mapped it is gone. */
FIXTURE_TEARDOWN_PARENT(giant)
{
	if (self->pool)
		kma_giant_pages(0);
}

TEST_F_TIMEOUT(giant, gib_is_one_page_while_it_is_uniform, 300)
{
	struct memory *m = &self->m;

	memory_add_slot(m, 0, GIANT);
	assert_levels(m, giant_probes, ARRAY_SIZE(giant_probes), "at first");
	TEST_ASSERT_EQ(vm_get_stat(m->vm, pages_1g), 1);

	for (int i = 0; i < ARRAY_SIZE(giant_steps); i++) {
		const struct step *s = &giant_steps[i];
		char when[96];

		memory_set(m, s->first, s->nr, s->attributes);
		snprintf(when, sizeof(when), "after [%lu, %lu) became %lx", s->first,
			 s->first + s->nr, s->attributes);
		assert_levels(m, giant_probes, ARRAY_SIZE(giant_probes), when);

		/* A slot that's created now comes to the same. */
		memory_delete_slot(m);
		memory_add_slot(m, 0, GIANT);
		snprintf(when, sizeof(when), "new slot after [%lu, %lu) became %lx", s->first,
			 s->first + s->nr, s->attributes);
		assert_levels(m, giant_probes, ARRAY_SIZE(giant_probes), when);
	}
}

TEST_HARNESS_MAIN
