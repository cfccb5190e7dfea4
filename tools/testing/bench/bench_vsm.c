// SPDX-License-Identifier: GPL-2.0
/*
 * Many pages at once, as guests with trust levels ask for: a hypercall's list of
 * scattered pages, and the changes of a boot. Mainline has neither batches nor
 * layers nor restrictions: its side makes the same pages private and shared, by
 * single calls.
 */
#include "bench_layers.h"
#include "bench_slab.h"
#include "bench_vsm_trace.h"

#define ROOM		(8ull * SZ_1G)
#define ROOM_PAGES	(ROOM / SZ_4K)

/* One page of each stretch of the room, in no order. */
#define LIST_PAGES	512
#define LIST_STRETCH	(ROOM_PAGES / LIST_PAGES)

static u64 list[LIST_PAGES];

static void list_create(void)
{
	u64 state = 1;

	for (u64 i = 0; i < LIST_PAGES; i++) {
		u64 page = i * LIST_STRETCH + vsm_random(&state, LIST_STRETCH - 2) + 1;

		list[i] = KMA_GPA + page * PAGE_SIZE;
	}
	for (u64 i = LIST_PAGES - 1; i; i--) {
		u64 other = vsm_random(&state, i + 1), gpa = list[i];

		list[i] = list[other];
		list[other] = gpa;
	}
}

static u64 list_set(const char *row, struct kvm_vm *vm, enum bench_side side, u64 attributes,
		    u64 mask)
{
	static struct kvm_memory_attributes_entry entries[LIST_PAGES];
	u64 start;

	for (int i = 0; i < LIST_PAGES; i++)
		entries[i] = bench_entry(list[i], PAGE_SIZE, 0, attributes, mask);

	start = bench_start(row, side);
	bench_set_entries(vm, side, entries, LIST_PAGES);
	return bench_stop(row, side, start);
}

/* Each page, and those beside it. */
static void list_check(struct kvm_vm *vm, enum bench_side side, u64 attributes)
{
	for (int i = 0; i < LIST_PAGES; i++) {
		u8 pages[3];

		bench_check(vm, list[i], PAGE_SIZE, attributes & KMA_PRIVATE, false);
		if (side == BENCH_MAINLINE)
			continue;
		bench_get_pages(vm, list[i] - PAGE_SIZE, 3, 0, pages);
		TEST_ASSERT_EQ(pages[0], 0);
		TEST_ASSERT_EQ(pages[1], attributes);
		TEST_ASSERT_EQ(pages[2], 0);
	}
}

/* The rows of a list of pages that get an attribute, and lose it. */
static void list_rows(struct bench_vms *vms, const char *set, const char *clear, u64 attribute)
{
	/* Long enough for samples, each of them. */
	int reps = bench_wanted(PROFILE_WORD) ? 10 : BENCH_REPS;

	if (!bench_wanted(set) && !bench_wanted(clear))
		return;

	for_each_side(side) {
		const u64 its = side == BENCH_MODULE ? attribute : KMA_PRIVATE;
		struct kvm_vm *vm = vms->vm[side];
		void *hva = bench_add_slot(vm, KMA_GPA, ROOM);

		for (int i = -1; i < reps; i++) {
			u64 cost;

			bench_drain();
			cost = list_set(set, vm, side, its, its);
			if (i >= 0 && bench_wanted(set))
				bench_report(set, "512", side, cost, 1);
			list_check(vm, side, its);

			bench_drain();
			cost = list_set(clear, vm, side, 0, its);
			if (i >= 0 && bench_wanted(clear))
				bench_report(clear, "512", side, cost, 1);
			list_check(vm, side, 0);
		}
		bench_drop_slot(vm, KMA_GPA, ROOM, hva);
	}
}

#define SINGLE_ROW	"vsm_replay_single"
#define BATCH_ROW	"vsm_replay_batch"
#define AWAKE		"_awake"
#define MEMORY_ROW	"vsm_replay_memory"
#define SPLIT_ROW	"vsm_replay_split"

static int replay_reps(void)
{
	return bench_wanted(PROFILE_WORD) ? 1 : BENCH_REPS;
}

/* Of all that's reported of a replay, what there's a profile of. */
static const char *replay_row(const char *row)
{
	static char awake[64];

	snprintf(awake, sizeof(awake), "%s" AWAKE, row);
	return bench_wanted(awake) ? awake : row;
}

static bool replay_wanted(const char *row)
{
	return bench_wanted(row) || bench_wanted(replay_row(row));
}

struct replayed {
	u64 cost;
	/* Without the time asleep. */
	u64 awake;
};

static u64 time_awake(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return timespec_to_ns(time);
}

static void make_private(const struct vsm_trace *trace, struct kvm_vm *vm,
			 const struct vsm_call *call, const u8 *private)
{
	for (u32 i = 0; i < call->nr; i++) {
		const struct vsm_run *run = &trace->runs[call->first + i];

		kma_set(vm, KMA_GPA + run->page * PAGE_SIZE, run->nr_pages * PAGE_SIZE,
			private[i] ? KMA_PRIVATE : 0);
	}
}

static void protect_each(const struct vsm_trace *trace, struct kvm_vm *vm,
			 const struct vsm_call *call)
{
	for (u32 i = 0; i < call->nr; i++) {
		const struct vsm_run *run = &trace->runs[call->first + i];

		bench_set_layer(vm, KMA_GPA + run->page * PAGE_SIZE,
				run->nr_pages * PAGE_SIZE, call->layer, call->attributes);
	}
}

static void protect_all(const struct vsm_trace *trace, struct kvm_vm *vm,
			const struct vsm_call *call)
{
	struct kvm_memory_attributes_entry entries[VSM_MOST_PAGES];

	for (u32 i = 0; i < call->nr; i++) {
		const struct vsm_run *run = &trace->runs[call->first + i];

		entries[i] = bench_entry(KMA_GPA + run->page * PAGE_SIZE,
					 run->nr_pages * PAGE_SIZE, call->layer,
					 call->attributes, KMA_NO_ACCESS);
	}
	bench_set_batch(vm, entries, call->nr);
}

/* What a VMM does with each hypercall, one after the other. */
static struct replayed replay(const char *row, const struct vsm_trace *trace, struct kvm_vm *vm,
			      enum bench_side side)
{
	bool batch = !strncmp(row, BATCH_ROW, strlen(BATCH_ROW));
	const u8 *private = trace->private;
	struct replayed replayed = {};
	u64 awake = time_awake();

	for (u32 i = 0; i < trace->nr_calls; i++) {
		const struct vsm_call *call = &trace->calls[i];
		u64 start = bench_start(row, side);

		if (side == BENCH_MAINLINE)
			make_private(trace, vm, call, private);
		else if (batch)
			protect_all(trace, vm, call);
		else
			protect_each(trace, vm, call);
		replayed.cost += bench_stop(row, side, start);
		private += call->nr;
	}
	replayed.awake = time_awake() - awake;
	return replayed;
}

static void replay_check(const struct vsm_trace *trace, struct kvm_vm *vm, enum bench_side side)
{
	static u8 pages[VSM_PAGES];
	u64 private = 0;

	for (u64 page = 0; side == BENCH_MAINLINE && page < VSM_PAGES; page++)
		private += trace->private_pages[page];
	TEST_ASSERT_EQ(bench_look_up(vm, KMA_GPA, VSM_PAGES, 1, VSM_PAGES).private, private);
	if (side == BENCH_MAINLINE) {
		for (u64 page = 0; page < VSM_PAGES; page += 4093)
			TEST_ASSERT_EQ(bench_is_private(vm, KMA_GPA + page * PAGE_SIZE),
				       trace->private_pages[page]);
		return;
	}
	for (int layer = 1; layer <= VSM_LAYERS; layer++) {
		bench_get_pages(vm, KMA_GPA, VSM_PAGES, layer, pages);
		TEST_ASSERT(!memcmp(pages, trace->pages[layer - 1], VSM_PAGES),
			    "layer %d differs from what it's meant to be", layer);
	}
}

static void replay_report(const char *row, enum bench_side side, const struct replayed *replayed,
			  const struct vsm_trace *trace)
{
	char awake[64];

	snprintf(awake, sizeof(awake), "%s" AWAKE, row);
	if (bench_wanted(row))
		bench_report(row, "4G", side, replayed->cost, trace->nr_changes);
	if (bench_wanted(awake))
		bench_report(awake, "4G", side, replayed->awake, trace->nr_changes);
}

static void clear(struct kvm_vm *vm, enum bench_side side)
{
	kma_set(vm, KMA_GPA, VSM_SIZE, 0);
	for (int layer = 1; side == BENCH_MODULE && layer <= VSM_LAYERS; layer++)
		bench_clear_layer(vm, layer);
}

/* Mainline's side of both. */
static void replay_on_mainline(const struct vsm_trace *trace, struct kvm_vm *vm)
{
	const char *row = replay_wanted(SINGLE_ROW) ? SINGLE_ROW : BATCH_ROW;

	for (int i = -1; i < replay_reps(); i++) {
		struct replayed replayed;

		bench_drain();
		replayed = replay(replay_row(row), trace, vm, BENCH_MAINLINE);
		if (i >= 0) {
			replay_report(SINGLE_ROW, BENCH_MAINLINE, &replayed, trace);
			replay_report(BATCH_ROW, BENCH_MAINLINE, &replayed, trace);
		}
		replay_check(trace, vm, BENCH_MAINLINE);
		clear(vm, BENCH_MAINLINE);
	}
}

static void replay_on_module(const char *row, const struct vsm_trace *trace, struct kvm_vm *vm)
{
	for (int i = -1; i < replay_reps(); i++) {
		struct replayed replayed;

		bench_drain();
		replayed = replay(replay_row(row), trace, vm, BENCH_MODULE);
		if (i >= 0)
			replay_report(row, BENCH_MODULE, &replayed, trace);
		replay_check(trace, vm, BENCH_MODULE);
		clear(vm, BENCH_MODULE);
	}
}

/* Mainline has the pages private that end with a restriction. */
static void leave(const struct vsm_trace *trace, struct kvm_vm *vm, enum bench_side side)
{
	u64 first, end, nr = 0;

	if (side == BENCH_MODULE) {
		replay("", trace, vm, side);
		return;
	}
	for (first = 0; first < VSM_PAGES; first = end) {
		bool private = trace->pages[0][first] | trace->pages[1][first];

		for (end = first + 1; end < VSM_PAGES; end++) {
			if (private != !!(trace->pages[0][end] | trace->pages[1][end]))
				break;
		}
		if (private) {
			nr += end - first;
			kma_set(vm, KMA_GPA + first * PAGE_SIZE, (end - first) * PAGE_SIZE,
				KMA_PRIVATE);
		}
	}
	TEST_ASSERT_EQ(bench_look_up(vm, KMA_GPA, VSM_PAGES, 1, VSM_PAGES).private, nr);
}

/* What there is in the end, of memory and of blocks that are no huge pages. */
static void replay_leaves(const struct vsm_trace *trace, struct kvm_vm *vm, enum bench_side side)
{
	if (!bench_wanted(MEMORY_ROW) && !bench_wanted(SPLIT_ROW))
		return;

	for (int i = 0; i < BENCH_REPS; i++) {
		u64 before = bench_slab_bytes();

		leave(trace, vm, side);
		if (bench_wanted(MEMORY_ROW))
			bench_report(MEMORY_ROW, "4G", side, bench_slab_bytes() - before, 1);
		if (bench_wanted(SPLIT_ROW))
			bench_report(SPLIT_ROW, "4G", side, bench_mixed(vm, KMA_GPA, VSM_SIZE), 1);
		clear(vm, side);
		TEST_ASSERT_EQ(bench_mixed(vm, KMA_GPA, VSM_SIZE), 0);
	}
}

static void vsm_replay(struct bench_vms *vms)
{
	struct vsm_trace *trace = vsm_trace_create();

	for_each_side(side) {
		struct kvm_vm *vm = vms->vm[side];
		void *hva = bench_add_slot(vm, KMA_GPA, VSM_SIZE);

		if (side == BENCH_MAINLINE) {
			if (replay_wanted(SINGLE_ROW) || replay_wanted(BATCH_ROW))
				replay_on_mainline(trace, vm);
		} else {
			if (replay_wanted(SINGLE_ROW))
				replay_on_module(SINGLE_ROW, trace, vm);
			if (replay_wanted(BATCH_ROW))
				replay_on_module(BATCH_ROW, trace, vm);
		}
		replay_leaves(trace, vm, side);
		bench_drop_slot(vm, KMA_GPA, VSM_SIZE, hva);
	}
	free(trace);
}

#define GET_ROW		"get_runs"
#define RESTORE_ROW	"restore_runs"
#define RESTORED	((u64)SZ_1G)

/* Every other page of a range, in batches of the largest size. */
static void fragment(const char *row, struct kvm_vm *vm, enum bench_side side, u64 size, u64 *cost)
{
	static struct kvm_memory_attributes_entry entries[BENCH_RUNS];
	u64 gpa = KMA_GPA;

	while (gpa < KMA_GPA + size) {
		u64 start;

		for (int i = 0; i < BENCH_RUNS; i++, gpa += 2 * PAGE_SIZE)
			entries[i] = bench_entry(gpa, PAGE_SIZE, 0, KMA_PRIVATE, KMA_PRIVATE);
		start = bench_start(row, side);
		bench_set_entries(vm, side, entries, BENCH_RUNS);
		*cost += bench_stop(row, side, start);
	}
}

/* Mainline has no such call. */
static void get_runs(struct kvm_vm *vm)
{
	static struct kvm_memory_attributes_run runs[BENCH_RUNS];
	u64 ignored = 0;

	if (!bench_wanted(GET_ROW))
		return;

	fragment(NULL, vm, BENCH_MODULE, ROOM, &ignored);
	for (int i = -1; i < BENCH_REPS; i++) {
		u64 gpa = KMA_GPA, nr_runs = 0, cost = 0;

		bench_drain();
		while (gpa < KMA_GPA + ROOM) {
			u64 start = bench_start(GET_ROW, BENCH_MODULE);
			u32 nr = bench_get_runs(vm, &gpa, KMA_GPA + ROOM, 0, runs);

			cost += bench_stop(GET_ROW, BENCH_MODULE, start);
			nr_runs += nr;
			TEST_ASSERT_EQ(runs[0].attributes, KMA_PRIVATE);
			TEST_ASSERT_EQ(runs[nr - 1].size, PAGE_SIZE);
		}
		TEST_ASSERT_EQ(nr_runs, ROOM_PAGES);
		if (i >= 0)
			bench_report(GET_ROW, "8G", BENCH_MODULE, cost, nr_runs);
	}
	kma_set(vm, KMA_GPA, ROOM, 0);
}

static void restore_runs(struct kvm_vm *vm, enum bench_side side)
{
	if (!bench_wanted(RESTORE_ROW))
		return;

	for (int i = -1; i < BENCH_REPS; i++) {
		u64 cost = 0;

		bench_drain();
		fragment(RESTORE_ROW, vm, side, RESTORED, &cost);
		if (i >= 0)
			bench_report(RESTORE_ROW, "1G", side, cost, RESTORED / PAGE_SIZE / 2);
		bench_check(vm, KMA_GPA, PAGE_SIZE, true, false);
		bench_check(vm, KMA_GPA + RESTORED - 2 * PAGE_SIZE, PAGE_SIZE, true, false);
		TEST_ASSERT_EQ(bench_look_up(vm, KMA_GPA, RESTORED / PAGE_SIZE, 1,
					     RESTORED / PAGE_SIZE).private,
			       RESTORED / PAGE_SIZE / 2);
		kma_set(vm, KMA_GPA, RESTORED, 0);
	}
}

static void runs(struct bench_vms *vms)
{
	if (!bench_wanted(GET_ROW) && !bench_wanted(RESTORE_ROW))
		return;

	for_each_side(side) {
		struct kvm_vm *vm = vms->vm[side];
		void *hva = bench_add_slot(vm, KMA_GPA, ROOM);

		if (side == BENCH_MODULE)
			get_runs(vm);
		restore_runs(vm, side);
		bench_drop_slot(vm, KMA_GPA, ROOM, hva);
	}
}

#define LAYER_ROW	"whole_layer"
#define LAYER_SIZE	((u64)SZ_256M)

/* Pages that layer 2 denies writes to, evenly spaced. */
static void deny_some(struct kvm_vm *vm, u64 nr)
{
	static struct kvm_memory_attributes_entry entries[BENCH_RUNS];
	u64 done = 0;

	while (done < nr) {
		u32 i = 0;

		for (; i < BENCH_RUNS && done < nr; i++, done++)
			entries[i] = bench_entry(KMA_GPA + LAYER_SIZE / nr * done, PAGE_SIZE, 2,
						 KMA_NW, KMA_NW);
		bench_set_batch(vm, entries, i);
	}
}

/* Layer 1, which has one run, goes as a whole. Mainline has no such call. */
static void whole_layer(struct bench_vms *vms)
{
	static const u64 denied[] = { 0, 32, 512, 8192 };
	static u8 pages[LAYER_SIZE / SZ_4K];
	struct kvm_vm *vm = vms->vm[BENCH_MODULE];
	void *hva;

	if (!bench_wanted(LAYER_ROW))
		return;

	hva = bench_add_slot(vm, KMA_GPA, LAYER_SIZE);
	for (int n = 0; n < ARRAY_SIZE(denied); n++) {
		char size[32];

		snprintf(size, sizeof(size), "%lu", denied[n]);
		deny_some(vm, denied[n]);
		for (int i = -1; i < BENCH_REPS; i++) {
			u64 start, cost, left = 0;

			bench_set_layer(vm, KMA_GPA, LAYER_SIZE, 1, KMA_NX);
			bench_drain();
			start = bench_start(LAYER_ROW, BENCH_MODULE);
			bench_clear_layer(vm, 1);
			cost = bench_stop(LAYER_ROW, BENCH_MODULE, start);
			if (i >= 0)
				bench_report(LAYER_ROW, size, BENCH_MODULE, cost, 1);
			bench_get_pages(vm, KMA_GPA, ARRAY_SIZE(pages), ~0u, pages);
			for (u64 page = 0; page < ARRAY_SIZE(pages); page++) {
				TEST_ASSERT(!pages[page] || pages[page] == KMA_NW,
					    "page %lu has 0x%x", page, pages[page]);
				left += !!pages[page];
			}
			TEST_ASSERT_EQ(left, denied[n]);
		}
		bench_clear_layer(vm, 2);
	}
	bench_drop_slot(vm, KMA_GPA, LAYER_SIZE, hva);
}

int main(int argc, char *argv[])
{
	struct bench_vms vms;

	bench_init(argv);
	bench_create(&vms);
	list_create();
	list_rows(&vms, "batch_512_private", "batch_512_shared", KMA_PRIVATE);
	list_rows(&vms, "batch_512", "batch_512_grant", KMA_NW);
	runs(&vms);
	/* From here on the VM has layers, for which each of its changes takes more looks. */
	vsm_replay(&vms);
	whole_layer(&vms);
	bench_destroy(&vms);
	return 0;
}
