// SPDX-License-Identifier: GPL-2.0
/*
 * How the cost of a set grows with the length of its range, and with how many pages
 * of the range differ from the others before.
 */
#include "bench_range.h"

static void growth_length(struct bench_vms *vms)
{
	static const struct bench_rows rows = {
		.set = "growth_length",
		.too_long = 8 * BENCH_BILLION,
	};

	if (!bench_wanted(rows.set))
		return;

	for_each_side(side) {
		struct kvm_vm *vm = vms->vm[side];
		void *hva = bench_add_slot(vm, 0, BENCH_1T);
		struct bench_last last = {};

		for (u64 size = PAGE_SIZE; size <= BENCH_1T; size *= 4)
			bench_range(vm, side, size == BENCH_1T ? 0 : KMA_GPA, size, &rows,
				    &last);
		bench_drop_slot(vm, 0, BENCH_1T, hva);
	}
}

#define ROOM		SZ_256M
#define ROOM_PAGES	((u64)ROOM / SZ_4K)
#define LOOKUPS		SZ_64K
#define STRIDE		1000003

#define SET_ROW		"growth_fragmentation"
#define LOOKUP_ROW	"growth_fragmentation_lookup"

/* Every @spacing-th page is private, and then all of them. */
static void fragment_and_set(struct kvm_vm *vm, enum bench_side side, u64 spacing, bool report)
{
	struct bench_looked looked;
	char size[32];
	u64 set;

	snprintf(size, sizeof(size), "%lu", ROOM_PAGES / spacing);
	for (u64 page = 0; page < ROOM_PAGES; page += spacing)
		kma_set(vm, KMA_GPA + page * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	bench_check(vm, KMA_GPA, PAGE_SIZE, true, false);

	bench_drain();
	bench_start(LOOKUP_ROW, side);
	looked = bench_look_up(vm, KMA_GPA, ROOM_PAGES, STRIDE, LOOKUPS);
	bench_stop(LOOKUP_ROW, side, 0);
	TEST_ASSERT_EQ(looked.private, LOOKUPS / spacing);
	set = bench_set(SET_ROW, side, vm, KMA_GPA, ROOM, KMA_PRIVATE);
	bench_check(vm, KMA_GPA, ROOM, true, false);
	kma_set(vm, KMA_GPA, ROOM, 0);
	bench_check(vm, KMA_GPA, ROOM, false, false);

	if (report && bench_wanted(SET_ROW))
		bench_report(SET_ROW, size, side, set, 1);
	if (report && bench_wanted(LOOKUP_ROW))
		bench_report(LOOKUP_ROW, size, side, looked.cost, LOOKUPS);
}

static void growth_fragmentation(struct bench_vms *vms)
{
	if (!bench_wanted(SET_ROW) && !bench_wanted(LOOKUP_ROW))
		return;

	for_each_side(side) {
		struct kvm_vm *vm = vms->vm[side];
		void *hva = bench_add_slot(vm, KMA_GPA, ROOM);

		for (u64 spacing = 2; spacing < ROOM_PAGES; spacing *= 4) {
			for (int i = -1; i < BENCH_REPS; i++)
				fragment_and_set(vm, side, spacing, i >= 0);
		}
		bench_drop_slot(vm, KMA_GPA, ROOM, hva);
	}
}

int main(int argc, char *argv[])
{
	struct bench_vms vms;

	bench_init(argv);
	bench_create(&vms);
	growth_fragmentation(&vms);
	growth_length(&vms);
	bench_destroy(&vms);
	return 0;
}
