// SPDX-License-Identifier: GPL-2.0
/*
 * Setting attributes on VMs without a guest: ranges of all sizes with and without
 * a slot, single pages, and what is set already.
 */
#include "bench_range.h"

/* A slot of 1 TiB is all that 40 bits of address have room for. */
static u64 base_of(u64 size)
{
	return size == BENCH_1T ? 0 : KMA_GPA;
}

static const u64 sizes[] = { SZ_2M, SZ_1G, 64ull * SZ_1G, BENCH_1T };

static void set_slot(struct bench_vms *vms)
{
	static const struct bench_rows rows = {
		.set = "set_slot",
		.clear = "clear_slot",
		.clear_max = SZ_1G,
		.too_long = 30ull * BENCH_BILLION,
	};
	struct bench_last last[BENCH_SIDES] = {};
	int nr = bench_wanted(rows.set) ? ARRAY_SIZE(sizes) : 2;

	if (!bench_wanted(rows.set) && !bench_wanted(rows.clear))
		return;

	for (int i = 0; i < nr; i++) {
		u64 gpa = base_of(sizes[i]);

		for_each_side(side) {
			struct kvm_vm *vm = vms->vm[side];
			void *hva = bench_add_slot(vm, gpa, sizes[i]);

			bench_range(vm, side, gpa, sizes[i], &rows, &last[side]);
			bench_drop_slot(vm, gpa, sizes[i], hva);
		}
	}
}

static void set_store(struct bench_vms *vms)
{
	static const struct bench_rows rows = {
		.set = "set_store",
		.too_long = 30ull * BENCH_BILLION,
	};
	struct bench_last last[BENCH_SIDES] = {};

	if (!bench_wanted(rows.set))
		return;

	for (int i = 0; i < ARRAY_SIZE(sizes); i++) {
		for_each_side(side)
			bench_range(vms->vm[side], side, base_of(sizes[i]), sizes[i],
				    &rows, &last[side]);
	}
}

static void noop(struct bench_vms *vms)
{
	if (!bench_wanted("noop"))
		return;

	for_each_side(side) {
		struct kvm_vm *vm = vms->vm[side];
		void *hva = bench_add_slot(vm, KMA_GPA, SZ_1G);
		u64 cost;

		kma_set(vm, KMA_GPA, SZ_1G, KMA_PRIVATE);
		for (int i = -1; i < BENCH_REPS; i++) {
			bench_drain();
			cost = bench_set("noop", side, vm, KMA_GPA, SZ_1G, KMA_PRIVATE);
			bench_check(vm, KMA_GPA, SZ_1G, true, false);
			if (i >= 0)
				bench_report("noop", "1G", side, cost, 1);
		}
		kma_set(vm, KMA_GPA, SZ_1G, 0);
		bench_drop_slot(vm, KMA_GPA, SZ_1G, hva);
	}
}

#define ROOM		(8ull * SZ_1G)
#define ROOM_PAGES	(ROOM / PAGE_SIZE)

/* Pages that share neither a block of 2 MiB nor a node of the array. */
#define SINGLE_PAGES	64
#define SINGLE_STEP	(97ull * SZ_1M)

static void measure_pages(struct kvm_vm *vm, enum bench_side side)
{
	u64 set = 0, clear = 0, gpa = KMA_GPA + SZ_1M;

	bench_drain();
	for (int i = 0; i < SINGLE_PAGES; i++, gpa += SINGLE_STEP) {
		set += bench_set("page_set", side, vm, gpa, PAGE_SIZE, KMA_PRIVATE);
		bench_check(vm, gpa, PAGE_SIZE, true, false);
		clear += bench_set("page_clear", side, vm, gpa, PAGE_SIZE, 0);
		bench_check(vm, gpa, PAGE_SIZE, false, false);
	}
	if (bench_wanted("page_set"))
		bench_report("page_set", "4K", side, set, SINGLE_PAGES);
	if (bench_wanted("page_clear"))
		bench_report("page_clear", "4K", side, clear, SINGLE_PAGES);
}

/* All of them set and cleared once, and nobody looks at what that costs. */
static void warm_pages_up(struct kvm_vm *vm)
{
	for (int i = 0; i < SINGLE_PAGES; i++) {
		kma_set(vm, KMA_GPA + SZ_1M + i * SINGLE_STEP, PAGE_SIZE, KMA_PRIVATE);
		kma_set(vm, KMA_GPA + SZ_1M + i * SINGLE_STEP, PAGE_SIZE, 0);
	}
}

/* Two rows of single pages, which are measured together. */
static void pages_of(struct bench_vms *vms, const char *set, const char *clear,
		     void (*measure)(struct kvm_vm *vm, enum bench_side side))
{
	if (!bench_wanted(set) && !bench_wanted(clear))
		return;

	for_each_side(side) {
		struct kvm_vm *vm = vms->vm[side];
		void *hva = bench_add_slot(vm, KMA_GPA, ROOM);

		warm_pages_up(vm);
		for (int i = 0; i < bench_reps(); i++)
			measure(vm, side);
		bench_drop_slot(vm, KMA_GPA, ROOM, hva);
	}
}

/*
 * Rights taken away and given back, for which mainline has no attribute: it makes the
 * same pages private and shared again. The module also waits for KVM's accesses in
 * flight, which mainline does not.
 */
static void restrict_pages(struct kvm_vm *vm, enum bench_side side)
{
	const u64 word = side == BENCH_MODULE ? KMA_NW : KMA_PRIVATE;
	u64 set = 0, clear = 0, set_slept = 0, clear_slept = 0;
	u64 gpa = KMA_GPA + SZ_1M;

	bench_drain();
	for (int i = 0; i < SINGLE_PAGES; i++, gpa += SINGLE_STEP) {
		u64 before = bench_sleeps_now();

		set += bench_set("restrict_page", side, vm, gpa, PAGE_SIZE, word);
		set_slept += bench_sleeps_now() - before;
		if (side == BENCH_MODULE) {
			struct kma_view view = kma_view_of(vm);
			char want[64];

			snprintf(want, sizeof(want), "0x%016lx 0x1000 0x2 NW\n", gpa);
			kma_assert_runs(&view, want);
		}
		bench_check(vm, gpa, PAGE_SIZE, side == BENCH_MAINLINE, false);
		before = bench_sleeps_now();
		clear += bench_set("grant_page", side, vm, gpa, PAGE_SIZE, 0);
		clear_slept += bench_sleeps_now() - before;
		bench_check(vm, gpa, PAGE_SIZE, false, false);
	}
	bench_slept(set_slept);
	if (bench_wanted("restrict_page"))
		bench_report("restrict_page", "4K", side, set, SINGLE_PAGES);
	bench_slept(clear_slept);
	if (bench_wanted("grant_page"))
		bench_report("grant_page", "4K", side, clear, SINGLE_PAGES);
}

#define RANDOM_OPERATIONS	200000

/* Which pages are private, as the operations up to now have left them. */
static u8 model[ROOM_PAGES];

/* Knuth's MMIX generator: the same pages on both sides and in every run. */
static u64 random_next(u64 *state)
{
	*state = *state * 6364136223846793005ull + 1442695040888963407ull;
	return *state >> 32;
}

static u64 random_pages_once(struct kvm_vm *vm, enum bench_side side)
{
	u64 state = 1, cost = 0;

	memset(model, 0, sizeof(model));
	for (int i = 0; i < RANDOM_OPERATIONS; i++) {
		u64 page = random_next(&state) % ROOM_PAGES;
		bool private = random_next(&state) & 1;

		cost += bench_set("random_pages", side, vm, KMA_GPA + page * PAGE_SIZE,
				  PAGE_SIZE, private ? KMA_PRIVATE : 0);
		model[page] = private;
	}
	return cost;
}

/* In all, and page by page on a part of them. */
static void random_pages_check(struct kvm_vm *vm)
{
	u64 private = 0;

	for (u64 page = 0; page < ROOM_PAGES; page++)
		private += model[page];
	TEST_ASSERT_EQ(bench_look_up(vm, KMA_GPA, ROOM_PAGES, 1, ROOM_PAGES).private,
		       private);
	for (u64 page = 0; page < ROOM_PAGES; page += 4093)
		TEST_ASSERT_EQ(bench_is_private(vm, KMA_GPA + page * PAGE_SIZE),
			       model[page]);
}

static void random_pages(struct bench_vms *vms)
{
	if (!bench_wanted("random_pages"))
		return;

	for_each_side(side) {
		struct kvm_vm *vm = vms->vm[side];
		void *hva = bench_add_slot(vm, KMA_GPA, ROOM);
		u64 cost;

		for (int i = -1; i < BENCH_REPS; i++) {
			bench_drain();
			cost = random_pages_once(vm, side);
			if (i < 0)
				random_pages_check(vm);
			else
				bench_report("random_pages", "8G", side, cost,
					     RANDOM_OPERATIONS);
			kma_set(vm, KMA_GPA, ROOM, 0);
		}
		bench_drop_slot(vm, KMA_GPA, ROOM, hva);
	}
}

int main(int argc, char *argv[])
{
	struct bench_vms vms;

	bench_init(argv);
	bench_create(&vms);
	pages_of(&vms, "page_set", "page_clear", measure_pages);
	pages_of(&vms, "restrict_page", "grant_page", restrict_pages);
	noop(&vms);
	random_pages(&vms);
	set_slot(&vms);
	set_store(&vms);
	bench_destroy(&vms);
	return 0;
}
