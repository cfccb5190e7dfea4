/* SPDX-License-Identifier: GPL-2.0 */
/* Setting and clearing a range, of which only a large one takes long. */
#ifndef KVM_MEMATTR_BENCH_RANGE_H
#define KVM_MEMATTR_BENCH_RANGE_H

#include "bench.h"

#define BENCH_BILLION	1000000000ull

/* A set that is likely to cost more is done once. */
#define BENCH_LONG	(BENCH_BILLION / 2)

/* The names of the rows, if there are any, and up to where they go. */
struct bench_rows {
	const char *set;
	const char *clear;
	u64 clear_max;
	/* What costs more than this is computed from the size before. */
	u64 too_long;
};

/* What the next size is likely to cost, from what the last one did. */
struct bench_last {
	u64 size;
	u64 cost;
};

static inline void bench_range(struct kvm_vm *vm, enum bench_side side, u64 gpa, u64 size,
			       const struct bench_rows *rows, struct bench_last *last)
{
	u64 expected = last->size ? last->cost * (size / last->size) : 0;
	int reps = expected > BENCH_LONG ? 1 : BENCH_REPS;
	u64 set, clear;

	if (expected > rows->too_long) {
		bench_computed(rows->set, size, side, last->size);
		return;
	}

	for (int i = reps > 1 ? -1 : 0; i < reps; i++) {
		bench_drain();
		set = bench_set(rows->set, side, vm, gpa, size, KMA_PRIVATE);
		bench_check(vm, gpa, size, true, false);
		clear = bench_set(rows->clear, side, vm, gpa, size, 0);
		bench_check(vm, gpa, size, false, false);
		if (i < 0)
			continue;

		if (bench_wanted(rows->set))
			bench_report(rows->set, bench_size(size), side, set, 1);
		if (rows->clear && size <= rows->clear_max && bench_wanted(rows->clear))
			bench_report(rows->clear, bench_size(size), side, clear, 1);
	}
	last->size = size;
	last->cost = set;
}

#endif /* KVM_MEMATTR_BENCH_RANGE_H */
