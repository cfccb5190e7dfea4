// SPDX-License-Identifier: GPL-2.0
/*
 * What a vCPU on another CPU costs, and is cost, in wall time: it faults on pages of
 * another region while one thread sets attributes in a loop; it runs, and has to be
 * interrupted so that no CPU keeps what is cached of mappings that go.
 */
#include <pthread.h>
#include <time.h>

#include "bench_guest.h"
#include "bench_layers.h"

/* Short, so that what else the machine does is no whole repetition. */
#define TURN_NS		300000000ull
#define TURNS		31

/* From one pair of sets to the next: longer than mainline's take, most of the time. */
#define PACE_NS		10000000ull

/* Not the first, see scripts/boot.sh. */
#define MAIN_CPU	1
#define OTHER_CPU	2

#define SETS_ROW	"contention_set"
#define FAULTS_ROW	"contention_fault"

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

	pin_self_to_cpu(OTHER_CPU);
	f->done.times = 0;
	while (!READ_ONCE(stop)) {
		kvm_madvise(hva, FAULT_PAGES * PAGE_SIZE, MADV_DONTNEED);
		bench_run(g);
		f->done.times += FAULT_PAGES;
	}
	f->done.ns = now() - start;
	return NULL;
}

/* As often on both sides, so that the vCPU has as many sets beside it. */
static struct done set_and_clear(struct kvm_vm *vm)
{
	struct done done = {};
	u64 begun = now();

	for (u64 from = begun; from < begun + TURN_NS; from += PACE_NS) {
		struct timespec next = { from / NSEC_PER_SEC, from % NSEC_PER_SEC };
		u64 start;

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
		start = now();
		kma_set(vm, BENCH_GPA, SET_SIZE, KMA_PRIVATE);
		kma_set(vm, BENCH_GPA, SET_SIZE, 0);
		done.ns += now() - start;
		done.times += 2;
	}
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
	if (bench_wanted(SETS_ROW))
		bench_report(SETS_ROW, "2M", side, sets.ns, sets.times);
	if (bench_wanted(FAULTS_ROW))
		bench_report(FAULTS_ROW, "4K", side, faulter.done.ns, faulter.done.times);
}

/* Pages of the region, one of each stretch, in no order. */
#define LIST_PAGES	512
#define LIST_STRETCH	(BENCH_ROOM / PAGE_SIZE / LIST_PAGES)

static u64 list[LIST_PAGES];

static void list_create(void)
{
	for (u64 i = 0; i < LIST_PAGES; i++) {
		u64 stretch = i * 197 % LIST_PAGES;

		list[i] = BENCH_GPA + (stretch * LIST_STRETCH + 1 + i * 7 % (LIST_STRETCH - 2)) *
			  PAGE_SIZE;
	}
}

static void list_touch(struct bench_guest *g)
{
	for (int i = 0; i < LIST_PAGES; i++) {
		bench_aim(g, list[i], 1);
		bench_run(g);
	}
}

static void *spin(void *data)
{
	pin_self_to_cpu(OTHER_CPU);
	bench_run(data);
	return NULL;
}

/* The guest has the pages mapped, and its vCPU runs. Returns the time. */
static u64 list_set(struct bench_guest *g, enum bench_side side, u64 attributes)
{
	static struct kvm_memory_attributes_entry entries[LIST_PAGES];
	u64 *spins = addr_gva2hva(g->vm, (gva_t)&bench_guest_spin);
	pthread_t thread;
	u64 start, took;

	for (int i = 0; i < LIST_PAGES; i++)
		entries[i] = bench_entry(list[i], PAGE_SIZE, 0, attributes, KMA_PRIVATE);
	list_touch(g);
	bench_aim(g, KMA_GPA, 1);
	bench_drain();
	WRITE_ONCE(*spins, BENCH_SPIN);
	TEST_ASSERT(!pthread_create(&thread, NULL, spin, g), "no thread");
	while (READ_ONCE(*spins) != BENCH_SPINS)
		usleep(100);

	start = now();
	bench_set_entries(g->vm, side, entries, LIST_PAGES);
	took = now() - start;

	WRITE_ONCE(*spins, BENCH_SPIN_NOT);
	TEST_ASSERT(!pthread_join(thread, NULL), "the thread is lost");
	for (int i = 0; i < LIST_PAGES; i++)
		bench_check(g->vm, list[i], PAGE_SIZE, attributes & KMA_PRIVATE, false);
	return took;
}

#define PRIVATE_ROW	"batch_512_private_wall"
#define SHARED_ROW	"batch_512_shared_wall"

static void list_rows(struct bench_guest *g, enum bench_side side, bool report)
{
	u64 took = list_set(g, side, KMA_PRIVATE);

	if (report && bench_wanted(PRIVATE_ROW))
		bench_report(PRIVATE_ROW, "512", side, took, 1);
	took = list_set(g, side, 0);
	if (report && bench_wanted(SHARED_ROW))
		bench_report(SHARED_ROW, "512", side, took, 1);
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
	pin_self_to_cpu(MAIN_CPU);
	for (int i = -1; i < TURNS && (bench_wanted(SETS_ROW) || bench_wanted(FAULTS_ROW)); i++) {
		for_each_side(side)
			contend(&guests[side], side, i >= 0);
	}
	list_create();
	for (int i = -1; i < BENCH_REPS &&
	     (bench_wanted(PRIVATE_ROW) || bench_wanted(SHARED_ROW)); i++) {
		for_each_side(side)
			list_rows(&guests[side], side, i >= 0);
	}
	for_each_side(side)
		kvm_vm_free(guests[side].vm);
	bench_end();
	return 0;
}
