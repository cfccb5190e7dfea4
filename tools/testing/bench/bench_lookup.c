// SPDX-License-Identifier: GPL-2.0
/*
 * Asking whether a page is private, in the kernel and by the function that page
 * faults call, where all pages are private and where every other one is.
 */
#include "bench.h"

#define ROOM		(8ull * SZ_1G)
#define ROOM_PAGES	(ROOM / PAGE_SIZE)
#define LOOKUPS		SZ_64K

/* Odd, so that no page comes twice, and every other one is an odd page. */
#define STRIDE		1000003

static void measure(struct kvm_vm *vm, enum bench_side side, const char *row, u64 private)
{
	struct bench_looked looked;

	bench_check(vm, KMA_GPA + PAGE_SIZE, PAGE_SIZE, true, private == LOOKUPS);
	bench_drain();
	for (int i = -1; i < BENCH_REPS; i++) {
		/* Timed in the kernel: here for the samples only. */
		bench_start(row, side);
		looked = bench_look_up(vm, KMA_GPA, ROOM_PAGES, STRIDE, LOOKUPS);
		bench_stop(row, side, 0);
		TEST_ASSERT_EQ(looked.private, private);
		if (i >= 0)
			bench_report(row, "8G", side, looked.cost, LOOKUPS);
	}
}

static void lookup_fragmented(struct kvm_vm *vm, enum bench_side side)
{
	for (u64 page = 1; page < ROOM_PAGES; page += 2)
		kma_set(vm, KMA_GPA + page * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	measure(vm, side, "lookup_fragmented", LOOKUPS / 2);
}

static void lookup_uniform(struct kvm_vm *vm, enum bench_side side)
{
	kma_set(vm, KMA_GPA, ROOM, KMA_PRIVATE);
	measure(vm, side, "lookup_uniform", LOOKUPS);
}

int main(int argc, char *argv[])
{
	struct bench_vms vms;

	bench_init(argv);
	bench_create(&vms);
	for_each_side(side) {
		if (bench_wanted("lookup_uniform"))
			lookup_uniform(vms.vm[side], side);
		kma_set(vms.vm[side], KMA_GPA, ROOM, 0);
		if (bench_wanted("lookup_fragmented"))
			lookup_fragmented(vms.vm[side], side);
		kma_set(vms.vm[side], KMA_GPA, ROOM, 0);
	}
	bench_destroy(&vms);
	return 0;
}
