// SPDX-License-Identifier: GPL-2.0
/*
 * Two VMs in one boot, one on mainline's code and one on the module's, that are
 * set alike, many thousands of times. After each set they are asked in the
 * kernel, through the functions that the fault path and zaps ask: which pages are
 * private, which runs there are, what is uniform, and which huge pages are usable.
 * Both are held to a model that has a bit for each page.
 *
 * What guests make of it is store_differential_test's.
 */
/* seconds: release 900, debug 2400 */
#include <sys/mman.h>

#include "kvm_memattr_bitmap.h"
#include "kvm_memattr_observe.h"
#include "kvm_memattr_random.h"
#include "kvm_memattr_runs.h"

/* Nothing is asked of a slot about these, and sets reach over them. */
#define MARGIN		128

/* A block of each size begins here, from which slots count. In pages. */
#define ORIGIN_GFN	(KMA_GPA / PAGE_SIZE)

#define MAX_SLOTS	2
#define UNIFORM_QUERIES	4

/* The debug kernel takes many times as long for the same. */
#define DEBUG_PART	20

struct stretch {
	s64 first;
	u64 nr;
};

struct arena {
	struct stretch slots[MAX_SLOTS];
	/* From the end of one margin to the beginning of the other. */
	u64 pages;
	u64 sets;
	/* Sets between two looks at all of it. */
	u64 sweep;
};

struct side {
	const char *name;
	struct kvm_vm *vm;
	int gmem[MAX_SLOTS];
};

/* What was compared, for the figures. */
struct compared {
	u64 lookups;
	u64 runs;
	u64 uniform;
	u64 lists;
	u64 huge;
	u64 mixed_changes;
};

/* Pages have places: 0 is the first of the margin. */
struct lockstep {
	const struct arena *arena;
	u64 places;
	u64 *model;
	struct side sides[2];
	void *mem[MAX_SLOTS];
	struct kma_view view;
	int observer;
	u64 sets;
	struct compared compared;
	u64 *answers;
	struct kma_gfns *gfns;
	u32 *huge[2];
	u64 mixed_1g;
};

FIXTURE(twins) {
	struct lockstep l;
	bool unloads;
};

FIXTURE_VARIANT(twins) {
	struct arena arena;
};

/* A slot of many blocks, a gap, and one that is aligned to nothing but pages. */
FIXTURE_VARIANT_ADD(twins, small) {
	.arena = {
		.slots = { { 0, 8192 }, { 9217, 4096 } },
		.pages = 13313,
		.sets = 95000,
		.sweep = 250,
	},
};

/* Two blocks of 1 GiB, with less than a block before and behind them. */
FIXTURE_VARIANT_ADD(twins, gibs) {
	.arena = {
		.slots = { { -7, 2 * 262144 + 300 } },
		.pages = 2 * 262144 + 300,
		.sets = 5000,
		.sweep = 500,
	},
};

/* For messages: enough to have it again. */
static const char *where(const struct lockstep *l)
{
	static char text[64];

	snprintf(text, sizeof(text), "KMA_SEED=%#lx, set %lu", kma_seed, l->sets);
	return text;
}

static u64 gfn_of(u64 place)
{
	return ORIGIN_GFN - MARGIN + place;
}

static u64 place_of(const struct stretch *slot)
{
	return MARGIN + slot->first;
}

/* With all slots, or without any. */
static void side_slots(struct lockstep *l, struct side *side, bool there)
{
	for (int i = 0; i < MAX_SLOTS; i++) {
		const struct stretch *slot = &l->arena->slots[i];

		if (slot->nr)
			vm_set_user_memory_region2(side->vm, KMA_SLOT + i, KVM_MEM_GUEST_MEMFD,
						   gfn_of(place_of(slot)) * PAGE_SIZE,
						   there ? slot->nr * PAGE_SIZE : 0, l->mem[i],
						   side->gmem[i], 0);
	}
}

static void side_init(struct lockstep *l, struct side *side, const char *name)
{
	side->name = name;
	side->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	for (int i = 0; i < MAX_SLOTS; i++) {
		u64 nr = l->arena->slots[i].nr;

		if (nr)
			side->gmem[i] = vm_create_guest_memfd(side->vm, nr * PAGE_SIZE, 0);
	}
	side_slots(l, side, true);
}

/* Nobody touches it. Blocks of 1 GiB of the guest's memory are such of the host's. */
static void *slot_memory(const struct stretch *slot)
{
	u64 before = gfn_of(place_of(slot)) * PAGE_SIZE % SZ_1G;
	u8 *mem = kvm_mmap(slot->nr * PAGE_SIZE + 2ull * SZ_1G, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

	return (u8 *)align_ptr_up(mem, SZ_1G) + before;
}

FIXTURE_SETUP(twins)
{
	struct lockstep *l = &self->l;

	KMA_REQUIRE_MODULE();

	l->arena = &variant->arena;
	l->places = (l->arena->pages + 2 * MARGIN + 63) / 64 * 64;
	l->model = kma_bitmap_new(l->places);
	l->answers = kma_bitmap_new(l->places);
	l->gfns = calloc(l->places, sizeof(*l->gfns));
	TEST_ASSERT(l->gfns, "no memory for the runs");
	for (int i = 0; i < ARRAY_SIZE(l->sides); i++) {
		l->huge[i] = calloc(l->places, sizeof(u32));
		TEST_ASSERT(l->huge[i], "no memory for the huge pages");
	}
	for (int i = 0; i < MAX_SLOTS; i++) {
		if (l->arena->slots[i].nr)
			l->mem[i] = slot_memory(&l->arena->slots[i]);
	}

	self->unloads = true;
	kma_unload();
	side_init(l, &l->sides[0], "mainline");
	kma_load();
	side_init(l, &l->sides[1], "module");
	l->view = kma_view_of(l->sides[1].vm);
	TEST_ASSERT_EQ(kma_get_supported(l->sides[1].vm), KMA_ALL_ATTRIBUTES);
	l->observer = kma_observer_open();
}

/* In the parent, so that a test that fails leaves the module loaded. */
FIXTURE_TEARDOWN_PARENT(twins)
{
	if (self->unloads && !kma_loaded())
		kma_load();
}

static void set_both(struct lockstep *l, u64 first, u64 end, u64 attributes)
{
	l->sets++;
	for (int i = 0; i < ARRAY_SIZE(l->sides); i++) {
		int ret = __kma_set(l->sides[i].vm, gfn_of(first) * PAGE_SIZE,
				    (end - first) * PAGE_SIZE, attributes);

		TEST_ASSERT(!ret, "%s: setting %lx in the gfns [%lx, %lx): %s (%s)",
			    l->sides[i].name, attributes, gfn_of(first), gfn_of(end),
			    strerror(errno), where(l));
	}
	kma_bitmap_set(l->model, first, end, attributes);
}

/* As a page fault asks, page by page, those of whole words of the model. */
static void compare_lookups(struct lockstep *l, u64 first, u64 end)
{
	first = first / 64 * 64;
	end = min((end + 63) / 64 * 64, l->places);
	for (int i = 0; i < ARRAY_SIZE(l->sides); i++) {
		kma_observe(l->observer, KMA_OBSERVE_PRIVATE, l->sides[i].vm, 0, gfn_of(first),
			    gfn_of(end), l->answers, (end - first) / 8);
		for (u64 at = first; at < end; at += 64) {
			u64 differ = l->answers[(at - first) / 64] ^ l->model[at / 64];

			TEST_ASSERT(!differ, "%s: gfns %lx + the bits of %lx are not %s (%s)",
				    l->sides[i].name, gfn_of(at), differ,
				    "what the model says", where(l));
		}
	}
	l->compared.lookups += end - first;
}

/*
 * The stretches of slots that can be mapped as that kind, which are the runs of
 * pages of that kind: all of them, and nothing else.
 */
static void compare_runs(struct lockstep *l, bool private)
{
	u64 start, stop, nr = 0, got;

	for (int i = 0; i < MAX_SLOTS; i++) {
		const struct stretch *slot = &l->arena->slots[i];
		u64 first = place_of(slot), end = first + slot->nr;

		for (start = kma_bitmap_next(l->model, first, end, private); start < end;
		     start = kma_bitmap_next(l->model, stop, end, private)) {
			stop = kma_bitmap_next(l->model, start, end, !private);
			l->gfns[nr++] = (struct kma_gfns) { gfn_of(start), gfn_of(stop) };
		}
	}

	/* Room for one more than there are to be. */
	got = kma_observe(l->observer, KMA_OBSERVE_ZAPS, l->sides[1].vm,
			  private ? KMA_MAPPED_PRIVATE : KMA_MAPPED_SHARED, gfn_of(0),
			  gfn_of(l->places), l->gfns + nr + 1, (nr + 1) * sizeof(*l->gfns));
	for (u64 i = 0; i < min(got, nr); i++) {
		const struct kma_gfns *a = &l->gfns[i], *b = &l->gfns[nr + 1 + i];

		TEST_ASSERT(a->start == b->start && a->end == b->end,
			    "run %lu: wanted [%llx, %llx), got [%llx, %llx) (%s)", i, a->start,
			    a->end, b->start, b->end, where(l));
	}
	TEST_ASSERT(got == nr, "wanted %lu runs, got %lu (%s)", nr, got, where(l));
	l->compared.runs += nr;
}

/* Is there a page of the kind in the part of a slot that is in the range? */
static bool any_of_kind(const struct lockstep *l, u64 first, u64 end, bool private)
{
	for (int i = 0; i < MAX_SLOTS; i++) {
		const struct stretch *slot = &l->arena->slots[i];
		u64 from = max(first, place_of(slot)), to = min(end, place_of(slot) + slot->nr);

		if (from < to && kma_bitmap_next(l->model, from, to, private) < to)
			return true;
	}
	return false;
}

/* A range is uniform if a zap of the other kind has nothing to do in it. */
static void compare_uniform(struct lockstep *l)
{
	for (int i = 0; i < UNIFORM_QUERIES; i++) {
		bool private = kma_random_below(2);
		u64 first, end, got;

		kma_random_range(l->places, l->places, MARGIN, &first, &end);
		got = kma_observe(l->observer, KMA_OBSERVE_ZAPS, l->sides[1].vm,
				  private ? KMA_MAPPED_PRIVATE : KMA_MAPPED_SHARED,
				  gfn_of(first), gfn_of(end), l->gfns, sizeof(*l->gfns));
		TEST_ASSERT(got == any_of_kind(l, first, end, private),
			    "gfns [%lx, %lx): %s %s page (%s)", gfn_of(first), gfn_of(end),
			    got ? "a" : "no", private ? "private" : "shared", where(l));
		l->compared.uniform++;
	}
}

static bool is_mixed(const struct lockstep *l, u64 first, u64 nr)
{
	return kma_bitmap_next(l->model, first, first + nr, !kma_bit(l->model, first)) <
	       first + nr;
}

/* Which huge pages can be used: KVM has a word for each, mixed or not by the model. */
static void compare_huge(struct lockstep *l, int level)
{
	u64 nr_pages = level == PG_LEVEL_2M ? SZ_2M / PAGE_SIZE : SZ_1G / PAGE_SIZE;
	u64 nr = l->arena->pages / nr_pages, mixed = 0;

	if (!nr)
		return;
	for (int i = 0; i < ARRAY_SIZE(l->sides); i++)
		kma_observe(l->observer, KMA_OBSERVE_HUGE, l->sides[i].vm, level, ORIGIN_GFN,
			    ORIGIN_GFN + nr * nr_pages, l->huge[i], nr * sizeof(u32));

	for (u64 i = 0; i < nr; i++) {
		u32 mainline = l->huge[0][i], module = l->huge[1][i], want = 0;

		TEST_ASSERT(mainline == module,
			    "huge page %lx of level %d: %x on mainline, %x with the module (%s)",
			    ORIGIN_GFN + i * nr_pages, level, mainline, module, where(l));
		if (module == KMA_NO_HUGE_PAGE)
			continue;
		if (is_mixed(l, MARGIN + i * nr_pages, nr_pages))
			want = KMA_HUGE_MIXED;
		TEST_ASSERT(module == want, "huge page %lx of level %d: wanted %x, got %x (%s)",
			    ORIGIN_GFN + i * nr_pages, level, want, module, where(l));
		mixed |= (u64)!!want << i % 64;
		l->compared.huge++;
	}
	if (level == PG_LEVEL_1G) {
		l->compared.mixed_changes += __builtin_popcountll(l->mixed_1g ^ mixed);
		l->mixed_1g = mixed;
	}
}

/* The module's own list, which knows no slots. */
static void compare_list(struct lockstep *l)
{
	struct kma_run_list want = {};
	u64 start, stop;

	for (start = kma_bitmap_next(l->model, 0, l->places, true); start < l->places;
	     start = kma_bitmap_next(l->model, stop, l->places, true)) {
		stop = kma_bitmap_next(l->model, start, l->places, false);
		kma_run_add(&want, gfn_of(start) * PAGE_SIZE, (stop - start) * PAGE_SIZE);
	}
	kma_assert_run_list(&l->view, &want, where(l));
	kma_run_list_free(&want);
	l->compared.lists++;
}

/* All that a set could have got wrong near it, and all runs wherever they are. */
static void compare(struct lockstep *l, u64 first, u64 end)
{
	u64 elsewhere = kma_random_below(l->places);

	compare_lookups(l, first < 64 ? 0 : first - 64, min(first + 64, l->places));
	compare_lookups(l, end - 1, min(end + 64, l->places));
	compare_lookups(l, elsewhere, min(elsewhere + 128, l->places));
	compare_runs(l, l->sets % 2);
	compare_uniform(l);
	compare_huge(l, PG_LEVEL_2M);
	compare_huge(l, PG_LEVEL_1G);
	if (l->sets % l->arena->sweep == 0) {
		compare_lookups(l, 0, l->places);
		compare_list(l);
	}
}

/* Sets, now and then while there are no slots: they count when there are. */
static void set_and_compare(struct lockstep *l, u64 limit)
{
	u64 attributes = kma_random_below(2) ? KMA_PRIVATE : 0;
	bool slots = kma_random_below(512);
	u64 first, end;

	kma_random_range(l->places, limit, MARGIN, &first, &end);
	for (int i = 0; !slots && i < ARRAY_SIZE(l->sides); i++)
		side_slots(l, &l->sides[i], false);
	set_both(l, first, end, attributes);
	for (int i = 0; !slots && i < ARRAY_SIZE(l->sides); i++)
		side_slots(l, &l->sides[i], true);
	compare(l, first, end);
}

/*
 * Times of sets of up to some size, so that memory is in many small pieces as
 * well as in few large ones. Some begin with all of it uniform.
 */
TEST_F_TIMEOUT(twins, mainline_and_the_module_are_as_the_model, 2400)
{
	struct lockstep *l = &self->l;
	u64 sets = l->arena->sets / (kma_is_debug() ? DEBUG_PART : 1);
	const struct compared *c = &l->compared;
	struct timespec began;

	kma_random_init();
	clock_gettime(CLOCK_MONOTONIC, &began);
	while (l->sets < sets) {
		u64 limit = kma_random_log(l->places), until = l->sets + 1 + kma_random_below(500);

		if (!kma_random_below(2)) {
			set_both(l, 0, l->places, kma_random_below(2) ? KMA_PRIVATE : 0);
			compare(l, 0, l->places);
		}
		while (l->sets < min(until, sets))
			set_and_compare(l, limit);
	}

	printf("# figure: %lu sets in both VMs, %ld s; compared in each %lu lookups, ",
	       l->sets, timespec_elapsed(began).tv_sec, c->lookups);
	printf("%lu huge pages; in the module's %lu runs, %lu uniform ranges, %lu lists\n",
	       c->huge, c->runs, c->uniform, c->lists);
	TEST_ASSERT(l->arena->pages < SZ_1G / PAGE_SIZE || c->mixed_changes,
		    "no block of 1 GiB has become mixed or uniform");
}

TEST_HARNESS_MAIN
