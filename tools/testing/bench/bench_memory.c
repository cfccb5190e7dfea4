// SPDX-License-Identifier: GPL-2.0
/* What attributes take of memory. */
#include "bench_range.h"
#include "bench_slab.h"

#define SIZE		((u64)SZ_4G)

/*
 * Below zero if something else has given memory back meanwhile: then the figure is
 * as wrong as it would be unseen in a positive one.
 */
static void report(const char *row, u64 size, enum bench_side side, u64 before)
{
	if (bench_wanted(row))
		bench_report(row, bench_size(size), side, bench_slab_bytes() - before, 1);
}

/* Returns what a set has cost. */
static u64 mem_uniform(struct kvm_vm *vm, enum bench_side side, u64 size)
{
	u64 cost = 0;

	for (int i = 0; i < BENCH_REPS; i++) {
		u64 before = bench_slab_bytes();

		cost = bench_set("mem_uniform", side, vm, KMA_GPA, size, KMA_PRIVATE);
		bench_check(vm, KMA_GPA, size, true, false);
		report("mem_uniform", size, side, before);
		kma_set(vm, KMA_GPA, size, 0);
	}
	return cost;
}

static void mem_uniform_all(struct kvm_vm *vm, enum bench_side side)
{
	u64 times = BENCH_1T / SIZE;

	if (mem_uniform(vm, side, SIZE) * times < 30 * BENCH_BILLION)
		mem_uniform(vm, side, BENCH_1T);
	else
		bench_computed("mem_uniform", BENCH_1T, side, SIZE);
}

/* Every other page set, and then all of them. */
static void mem_fragmented(struct kvm_vm *vm, enum bench_side side)
{
	for (int i = 0; i < BENCH_REPS; i++) {
		u64 before = bench_slab_bytes();

		for (u64 gpa = KMA_GPA; gpa < KMA_GPA + SIZE; gpa += 2 * PAGE_SIZE)
			kma_set(vm, gpa, PAGE_SIZE, KMA_PRIVATE);
		bench_check(vm, KMA_GPA, PAGE_SIZE, true, false);
		bench_check(vm, KMA_GPA + SIZE - 2 * PAGE_SIZE, PAGE_SIZE, true, false);
		report("mem_fragmented", SIZE, side, before);

		kma_set(vm, KMA_GPA, SIZE, KMA_PRIVATE);
		bench_check(vm, KMA_GPA, SIZE, true, false);
		report("mem_recovered", SIZE, side, before);
		kma_set(vm, KMA_GPA, SIZE, 0);
	}
}

int main(int argc, char *argv[])
{
	struct bench_vms vms;

	bench_init(argv);
	bench_create(&vms);
	for_each_side(side) {
		if (bench_wanted("mem_uniform"))
			mem_uniform_all(vms.vm[side], side);
		if (bench_wanted("mem_fragmented") || bench_wanted("mem_recovered"))
			mem_fragmented(vms.vm[side], side);
	}
	bench_destroy(&vms);
	return 0;
}
