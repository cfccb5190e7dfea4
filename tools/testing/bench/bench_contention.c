// SPDX-License-Identifier: GPL-2.0
/*
 * One thread sets attributes in a loop, a vCPU on another CPU faults on pages of
 * another region: what each gets done, in wall time.
 */
#include <pthread.h>
#include <time.h>

#include "bench_guest.h"

/* Short, so that what else the machine does is no whole repetition. */
#define TURN_NS		300000000ull
#define TURNS		31

#define SET_SIZE	((u64)SZ_2M)
#define FAULT_GPA	(BENCH_GPA + 2 * SET_SIZE)
#define FAULT_PAGES	64

struct done {
	u64 ns;
	u64 times;
};

struct faulter {
	struct bench_guest *guest;
	struct done done;
};

static bool stop;

static u64 now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return timespec_to_ns(time);
}

static void *fault(void *data)
{
	struct faulter *f = data;
	struct bench_guest *g = f->guest;
	void *hva = addr_gpa2hva(g->vm, FAULT_GPA);
	u64 start = now();

	pin_self_to_cpu(1);
	f->done.times = 0;
	while (!READ_ONCE(stop)) {
		kvm_madvise(hva, FAULT_PAGES * PAGE_SIZE, MADV_DONTNEED);
		bench_run(g);
		f->done.times += FAULT_PAGES;
	}
	f->done.ns = now() - start;
	return NULL;
}

static struct done set_and_clear(struct kvm_vm *vm)
{
	struct done done = {};
	u64 start = now();

	while (now() - start < TURN_NS) {
		kma_set(vm, BENCH_GPA, SET_SIZE, KMA_PRIVATE);
		kma_set(vm, BENCH_GPA, SET_SIZE, 0);
		done.times += 2;
	}
	done.ns = now() - start;
	return done;
}

static void contend(struct bench_guest *g, enum bench_side side, bool report)
{
	struct faulter faulter = { .guest = g };
	struct done sets;
	pthread_t thread;

	bench_drain();
	WRITE_ONCE(stop, false);
	TEST_ASSERT(!pthread_create(&thread, NULL, fault, &faulter), "no thread");
	sets = set_and_clear(g->vm);
	WRITE_ONCE(stop, true);
	TEST_ASSERT(!pthread_join(thread, NULL), "the thread is lost");

	bench_check(g->vm, BENCH_GPA, SET_SIZE, false, false);
	if (!report)
		return;
	if (bench_wanted("contention_set"))
		bench_report("contention_set", "2M", side, sets.ns, sets.times);
	if (bench_wanted("contention_fault"))
		bench_report("contention_fault", "4K", side, faulter.done.ns,
			     faulter.done.times);
}

int main(int argc, char *argv[])
{
	struct bench_guest guests[BENCH_SIDES];

	bench_init(argv);
	for_each_side(side) {
		bench_begin(side);
		bench_guest_create(&guests[side], side);
		bench_aim(&guests[side], FAULT_GPA, FAULT_PAGES);
	}
	pin_self_to_cpu(0);
	for (int i = -1; i < TURNS; i++) {
		for_each_side(side)
			contend(&guests[side], side, i >= 0);
	}
	for_each_side(side)
		kvm_vm_free(guests[side].vm);
	bench_end();
	return 0;
}
