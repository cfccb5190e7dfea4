// SPDX-License-Identifier: GPL-2.0
/*
 * What a store takes follows from what is in it: the number of blocks that
 * differ from their neighbours, and not how large they are, nor in how many
 * steps they came about. By the store's own account, and by the slab's.
 */
#include "kvm_memattr_guest.h"
#include "kvm_memattr_module.h"
#include "kvm_memattr_random.h"
#include "kvm_memattr_slab.h"

#define TIB		BIT_ULL(40)
#define GIB		((u64)SZ_1G)

/* Aligned blocks of 64^k pages are entries, with 64 of them in a node. */
#define FANOUT		64
/* Levels of nodes between a block of 1 GiB, which is an entry, and its pages. */
#define GIB_LEVELS	3

FIXTURE(memory) {
	struct kvm_vm *vm;
	struct kma_view view;
};

FIXTURE_SETUP(memory)
{
	KMA_REQUIRE_PROTECTED_VMS();
	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->view = kma_view_of(self->vm);
}

FIXTURE_TEARDOWN(memory)
{
	kvm_vm_free(self->vm);
}

struct held {
	u64 blocks;
	u64 nodes;
};

static struct held held(const struct kma_view *view)
{
	return (struct held) {
		.blocks = kma_stat(view, "blocks"),
		.nodes = kma_stat(view, "nodes"),
	};
}

#define ASSERT_HELD(_want)							\
do {										\
	struct held __got = held(&self->view), __want = (_want);		\
										\
	TEST_ASSERT(__got.blocks == __want.blocks && __got.nodes == __want.nodes,\
		    "wanted %lu blocks in %lu nodes, got %lu in %lu",		\
		    __want.blocks, __want.nodes, __got.blocks, __got.nodes);	\
} while (0)

#define ASSERT_EMPTY()	ASSERT_HELD(((struct held) {}))

#define ASSERT_AT_MOST(_blocks, _nodes)						\
do {										\
	struct held __got = held(&self->view);					\
	u64 __blocks = (_blocks), __nodes = (_nodes);				\
										\
	TEST_ASSERT(__got.blocks && __got.nodes,				\
		    "nothing is stored: %lu blocks in %lu nodes",		\
		    __got.blocks, __got.nodes);					\
	TEST_ASSERT(__got.blocks <= __blocks && __got.nodes <= __nodes,		\
		    "wanted at most %lu blocks in %lu nodes, got %lu in %lu",	\
		    __blocks, __nodes, __got.blocks, __got.nodes);		\
} while (0)

static void set_every_other_page(struct kvm_vm *vm, u64 gpa, u64 size)
{
	for (u64 at = gpa; at < gpa + size; at += 2 * PAGE_SIZE)
		kma_set(vm, at, PAGE_SIZE, KMA_PRIVATE);
}

TEST_F(memory, new_store_holds_nothing)
{
	ASSERT_EMPTY();
}

/* 16 blocks of 64^4 pages, in one node and what it hangs on. */
TEST_F(memory, uniform_tib_is_a_handful_of_blocks)
{
	kma_set(self->vm, 0, TIB, KMA_PRIVATE);
	ASSERT_AT_MOST(16, 3);
	printf("# figure: 1 TiB of private memory: %lu blocks in %lu nodes\n",
	       held(&self->view).blocks, held(&self->view).nodes);

	kma_set(self->vm, 0, TIB, 0);
	ASSERT_EMPTY();
}

TEST_F(memory, ends_within_blocks_cost_the_way_to_them)
{
	kma_set(self->vm, PAGE_SIZE, TIB - 2 * PAGE_SIZE, KMA_PRIVATE);
	ASSERT_AT_MOST(16 + 2 * 4 * (FANOUT - 1), 3 + 2 * 4);

	/* The two pages that are left: as if it had been set at once. */
	kma_set(self->vm, 0, PAGE_SIZE, KMA_PRIVATE);
	kma_set(self->vm, TIB - PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	ASSERT_AT_MOST(16, 3);

	kma_set(self->vm, PAGE_SIZE, TIB - 2 * PAGE_SIZE, 0);
	ASSERT_AT_MOST(2, 3 + 2 * 4);
	kma_set(self->vm, 0, TIB, 0);
	ASSERT_EMPTY();
}

TEST_F(memory, page_within_a_uniform_gib_costs_the_way_to_it)
{
	struct held whole;

	kma_set(self->vm, KMA_GPA, GIB, KMA_PRIVATE);
	whole = held(&self->view);
	kma_set(self->vm, KMA_GPA + GIB / 2 + 5 * PAGE_SIZE, PAGE_SIZE, 0);
	ASSERT_AT_MOST(whole.blocks + GIB_LEVELS * FANOUT, whole.nodes + GIB_LEVELS);
	kma_set(self->vm, KMA_GPA + GIB / 2 + 5 * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	ASSERT_HELD(whole);

	/* And the reverse: one page where nothing is. */
	kma_set(self->vm, 0, TIB, 0);
	kma_set(self->vm, KMA_GPA + GIB / 2 + 5 * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	ASSERT_AT_MOST(1, GIB_LEVELS + 2);
	kma_set(self->vm, KMA_GPA + GIB / 2 + 5 * PAGE_SIZE, PAGE_SIZE, 0);
	ASSERT_EMPTY();
}

/*
 * A page beyond all others makes the tree grow, and shrink when it goes. The other
 * one is not page 0, which needs no node on its own.
 */
TEST_F(memory, tree_that_grew_for_a_far_page_shrinks_again)
{
	const u64 far = 1ull << 62;
	struct held before;

	kma_set(self->vm, PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	before = held(&self->view);
	kma_set(self->vm, far, PAGE_SIZE, KMA_PRIVATE);
	ASSERT_AT_MOST(2, 2 * 9);
	kma_set(self->vm, far, PAGE_SIZE, 0);
	ASSERT_AT_MOST(1, 9);
	kma_set(self->vm, PAGE_SIZE, PAGE_SIZE, 0);
	ASSERT_EMPTY();

	kma_set(self->vm, PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	ASSERT_HELD(before);
	kma_set(self->vm, far, PAGE_SIZE, KMA_PRIVATE);
	kma_set(self->vm, PAGE_SIZE, PAGE_SIZE, 0);
	kma_set(self->vm, 0, 1ull << 63, 0);
	ASSERT_EMPTY();
}

TEST_F_TIMEOUT(memory, fragmented_gib_that_is_uniform_again_is_as_it_was, 300)
{
	struct held whole;

	kma_set(self->vm, KMA_GPA - GIB, 3 * GIB, KMA_PRIVATE);
	whole = held(&self->view);

	kma_set(self->vm, KMA_GPA, GIB, 0);
	set_every_other_page(self->vm, KMA_GPA, GIB);
	TEST_ASSERT(held(&self->view).nodes >= GIB / PAGE_SIZE / FANOUT,
		    "%lu blocks in only %lu nodes", held(&self->view).blocks,
		    held(&self->view).nodes);
	printf("# figure: every other page of 1 GiB: %lu blocks in %lu nodes\n",
	       held(&self->view).blocks, held(&self->view).nodes);

	kma_set(self->vm, KMA_GPA, GIB, KMA_PRIVATE);
	ASSERT_HELD(whole);
	kma_set(self->vm, KMA_GPA - GIB, 3 * GIB, 0);
	ASSERT_EMPTY();
}

enum order {
	ASCENDING,
	DESCENDING,
	RANDOM,
	ORDERS,
};

/* Not aligned to anything, over boundaries of two sizes of blocks. */
#define STEPS_PAGES	(2 * 4096 + 3 * 64 + 11)
#define STEPS_GPA	(KMA_GPA + (4096 - 70) * PAGE_SIZE)

/* Page by page. Nothing is set twice. */
static void set_in_order(struct kvm_vm *vm, enum order order, u64 attributes)
{
	static u32 pages[STEPS_PAGES];

	for (u32 i = 0; i < STEPS_PAGES; i++)
		pages[i] = order == DESCENDING ? STEPS_PAGES - 1 - i : i;
	for (u32 i = STEPS_PAGES - 1; order == RANDOM && i; i--) {
		u32 j = kma_random_below(i + 1), page = pages[i];

		pages[i] = pages[j];
		pages[j] = page;
	}
	for (u32 i = 0; i < STEPS_PAGES; i++)
		kma_set(vm, STEPS_GPA + pages[i] * PAGE_SIZE, PAGE_SIZE, attributes);
}

TEST_F_TIMEOUT(memory, page_by_page_in_any_order_comes_to_the_same_as_at_once, 300)
{
	struct held at_once;

	kma_random_init();
	kma_set(self->vm, STEPS_GPA, STEPS_PAGES * PAGE_SIZE, KMA_PRIVATE);
	at_once = held(&self->view);
	kma_set(self->vm, STEPS_GPA, STEPS_PAGES * PAGE_SIZE, 0);
	ASSERT_EMPTY();

	for (enum order order = ASCENDING; order < ORDERS; order++) {
		char line[64];

		set_in_order(self->vm, order, KMA_PRIVATE);
		ASSERT_HELD(at_once);
		KMA_RUN_PRIVATE(line, STEPS_GPA, STEPS_PAGES * PAGE_SIZE);
		kma_assert_runs(&self->view, line);

		set_in_order(self->vm, (order + 1) % ORDERS, 0);
		ASSERT_EMPTY();
		kma_assert_runs(&self->view, "");
	}
}

#define SLAB		"radix_tree_node"

TEST_F_TIMEOUT(memory, slab_agrees_and_gets_the_nodes_back, 300)
{
	const u64 before = kma_slab_objects(SLAB);
	u64 nodes;

	set_every_other_page(self->vm, KMA_GPA, GIB);
	nodes = held(&self->view).nodes;
	TEST_ASSERT(nodes >= GIB / PAGE_SIZE / FANOUT, "only %lu nodes", nodes);
	TEST_ASSERT(kma_slab_objects(SLAB) >= before + nodes * 9 / 10,
		    "the store has %lu nodes, and the slab %lu, after %lu without", nodes,
		    kma_slab_objects(SLAB), before);

	/* They're freed after a grace period; some others come and go meanwhile. */
	kma_set(self->vm, KMA_GPA, GIB, KMA_PRIVATE);
	KMA_WAIT_FOR(kma_slab_objects(SLAB) < before + nodes / 10);
	printf("# figure: " SLAB ": %lu more when fragmented, %ld more when uniform again\n",
	       nodes, (long)(kma_slab_objects(SLAB) - before));

	kma_set(self->vm, KMA_GPA, GIB, 0);
	ASSERT_EMPTY();
}

TEST_HARNESS_MAIN
