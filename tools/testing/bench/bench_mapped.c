// SPDX-License-Identifier: GPL-2.0
/*
 * Conversions of memory that a guest has mapped: what they cost it until it has
 * mapped all of it again, and what an MMU notifier event takes away from it.
 */
#include "bench_guest.h"

static u64 convert_and_touch(const char *row, enum bench_side side, struct bench_guest *g,
			     u64 size, u64 attributes)
{
	u64 start, cost, faults;

	bench_drain();
	start = bench_start(row, side);
	kma_set(g->vm, BENCH_GPA, size, attributes);
	faults = bench_touch(g);
	cost = bench_stop(row, side, start);

	TEST_ASSERT_EQ(faults, g->pages);
	bench_check(g->vm, BENCH_GPA, size, attributes, false);
	return cost;
}

static void conversions(struct bench_guest *g, enum bench_side side, u64 size)
{
	bench_aim(g, BENCH_GPA, size / PAGE_SIZE);
	bench_touch(g);

	for (int i = -1; i < BENCH_REPS; i++) {
		u64 set = convert_and_touch("set_mapped", side, g, size, KMA_PRIVATE);
		u64 clear = convert_and_touch("clear_mapped", side, g, size, 0);

		if (i < 0)
			continue;
		if (bench_wanted("set_mapped"))
			bench_report("set_mapped", bench_size(size), side, set, 1);
		if (bench_wanted("clear_mapped"))
			bench_report("clear_mapped", bench_size(size), side, clear, 1);
	}
}

static void notifier_private_faults(struct bench_guest *g, enum bench_side side)
{
	u64 faults;

	bench_aim(g, BENCH_GPA, BENCH_ROOM / PAGE_SIZE);
	kma_set(g->vm, BENCH_GPA, BENCH_ROOM, KMA_PRIVATE);
	bench_touch(g);

	for (int i = 0; i < BENCH_REPS; i++) {
		kvm_madvise(g->hva, BENCH_ROOM, MADV_DONTNEED);
		faults = bench_touch(g);
		/* There was such an event, and it took all from mainline. */
		if (side == BENCH_MAINLINE)
			TEST_ASSERT_EQ(faults, g->pages);
		bench_report("notifier_private_faults", "64M", side, faults, 1);
		bench_check(g->vm, BENCH_GPA, BENCH_ROOM, true, false);
	}
}

int main(int argc, char *argv[])
{
	struct bench_guest guests[BENCH_SIDES];

	bench_init(argv);
	for_each_side(side) {
		bench_begin(side);
		bench_guest_create(&guests[side], side);
	}
	for_each_side(side) {
		if (bench_wanted("set_mapped") || bench_wanted("clear_mapped")) {
			conversions(&guests[side], side, SZ_2M);
			conversions(&guests[side], side, SZ_64M);
		}
		if (bench_wanted("notifier_private_faults"))
			notifier_private_faults(&guests[side], side);
	}
	for_each_side(side)
		kvm_vm_free(guests[side].vm);
	bench_end();
	return 0;
}
