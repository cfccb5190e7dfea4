/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a guest's virtual secure mode might ask for while it boots: hypercalls, each
 * of which gives one protection in one layer to a list of pages. The list is of runs
 * that a VMM finds in it, and each of these is a change.
 *
 * The same trace in every run: Documentation/benchmarks.rst says what is in it, and
 * what of that is known and what is assumed.
 */
#ifndef KVM_MEMATTR_BENCH_VSM_TRACE_H
#define KVM_MEMATTR_BENCH_VSM_TRACE_H

#include "bench.h"

#define VSM_SIZE	((u64)SZ_4G)
#define VSM_PAGES	(VSM_SIZE / SZ_4K)
#define VSM_CHANGES	200000
/* Page numbers of 8 bytes in the one page of a hypercall's input, after 16 bytes. */
#define VSM_MOST_PAGES	((SZ_4K - 16) / 8)
/* No more objects, nor runs in them, than changes. */
#define VSM_ROOM	(VSM_CHANGES + VSM_MOST_PAGES)
/* Layers 1 and 2. */
#define VSM_LAYERS	2

#define VSM_NONE	KMA_NO_ACCESS
#define VSM_READ	(KMA_NW | KMA_NX)
#define VSM_READ_EXEC	KMA_NW
#define VSM_READ_WRITE	KMA_NX
#define VSM_ALL		0

struct vsm_run {
	u32 page;
	u32 nr_pages;
};

struct vsm_call {
	/* Of the trace's runs. */
	u32 first;
	u32 nr;
	u8 layer;
	u8 attributes;
};

/* Memory of the guest that was allocated at once: an image, some pool, a secret. */
struct vsm_object {
	u32 first;
	u32 nr;
	u8 attributes[VSM_LAYERS];
};

struct vsm_trace {
	struct vsm_call calls[VSM_ROOM];
	u32 nr_calls;
	struct vsm_run runs[VSM_ROOM];
	u32 nr_runs;
	u32 nr_changes;
	/* By change: does mainline make the run private? */
	u8 private[VSM_ROOM];
	/* What the pages have in the end. */
	u8 pages[VSM_LAYERS][VSM_PAGES];
	u8 private_pages[VSM_PAGES];

	/* While it's made. */
	u64 random;
	struct vsm_object objects[VSM_ROOM];
	u32 nr_objects;
	u8 used[VSM_PAGES];
};

/* splitmix64 */
static inline u64 vsm_random(u64 *state, u64 limit)
{
	u64 z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (z ^ z >> 31) % limit;
}

static inline bool vsm_is_free(struct vsm_trace *trace, u64 page, u64 nr)
{
	return page + nr <= VSM_PAGES && !memchr(&trace->used[page], 1, nr);
}

static inline u64 vsm_object_size(struct vsm_trace *trace)
{
	u64 size;

	if (vsm_random(&trace->random, 2))
		return 1;
	size = 2ull << vsm_random(&trace->random, 8);
	return min(size + vsm_random(&trace->random, size), (u64)VSM_MOST_PAGES);
}

static inline struct vsm_object *vsm_allocate(struct vsm_trace *trace)
{
	struct vsm_object *object = &trace->objects[trace->nr_objects++];
	u64 left = vsm_object_size(trace), end = 0;
	u64 area = vsm_random(&trace->random, 8) ? VSM_PAGES / 4 : VSM_PAGES;

	*object = (struct vsm_object) { .first = trace->nr_runs };
	while (left) {
		bool single = vsm_random(&trace->random, 4);
		u64 page, nr = single ? 1 : 2 + vsm_random(&trace->random, 7);
		bool near = end && vsm_random(&trace->random, 2);

		nr = min(nr, left);
		do {
			page = vsm_random(&trace->random, near ? 16 : area) + (near ? end + 1 : 0);
			near = false;
		} while (!vsm_is_free(trace, page, nr));

		memset(&trace->used[page], 1, nr);
		TEST_ASSERT(trace->nr_runs < VSM_ROOM, "too many runs");
		trace->runs[trace->nr_runs++] = (struct vsm_run) { page, nr };
		object->nr++;
		end = page + nr;
		left -= nr;
	}
	return object;
}

static inline void vsm_free(struct vsm_trace *trace, struct vsm_object *object)
{
	for (u32 i = 0; i < object->nr; i++) {
		const struct vsm_run *run = &trace->runs[object->first + i];

		memset(&trace->used[run->page], 0, run->nr_pages);
	}
	*object = trace->objects[--trace->nr_objects];
}

/* What layer 1 makes of memory that is in use. */
static inline u8 vsm_next(struct vsm_trace *trace, u8 attributes)
{
	static const u8 of_data[] = { VSM_READ_EXEC, VSM_READ_EXEC, VSM_READ, VSM_ALL };

	switch (attributes) {
	case VSM_READ_WRITE:
		return of_data[vsm_random(&trace->random, 4)];
	case VSM_READ:
	case VSM_READ_EXEC:
		return vsm_random(&trace->random, 2) ? VSM_READ_WRITE : VSM_ALL;
	default:
		return VSM_ALL;
	}
}

static inline void vsm_call(struct vsm_trace *trace, struct vsm_object *object, int layer,
			    u8 attributes)
{
	trace->calls[trace->nr_calls++] = (struct vsm_call) {
		.first = object->first,
		.nr = object->nr,
		.layer = layer,
		.attributes = attributes,
	};
	object->attributes[layer - 1] = attributes;

	for (u32 i = 0; i < object->nr; i++) {
		const struct vsm_run *run = &trace->runs[object->first + i];
		bool private = !trace->private_pages[run->page];

		trace->private[trace->nr_changes++] = private;
		memset(&trace->private_pages[run->page], private, run->nr_pages);
		memset(&trace->pages[layer - 1][run->page], attributes, run->nr_pages);
	}
}

static inline void vsm_new(struct vsm_trace *trace)
{
	struct vsm_object *object = vsm_allocate(trace);

	vsm_call(trace, object, 1, vsm_random(&trace->random, 8) ? VSM_READ_WRITE : VSM_NONE);
}

static inline void vsm_change(struct vsm_trace *trace)
{
	static const u8 restricted[] = { VSM_NONE, VSM_READ, VSM_READ_EXEC, VSM_READ_WRITE };
	struct vsm_object *object = &trace->objects[vsm_random(&trace->random, trace->nr_objects)];
	int layer = vsm_random(&trace->random, 4) ? 1 : 2;
	u8 attributes;

	if (layer == 1) {
		attributes = vsm_next(trace, object->attributes[0]);
		/* Nothing is freed while the other layer protects it. */
		if (attributes == VSM_ALL && object->attributes[1] != VSM_ALL)
			layer = 2;
	}
	if (layer == 2)
		attributes = object->attributes[1] == VSM_ALL ?
			     restricted[vsm_random(&trace->random, 4)] : VSM_ALL;

	vsm_call(trace, object, layer, attributes);
	if (layer == 1 && attributes == VSM_ALL)
		vsm_free(trace, object);
}

static inline struct vsm_trace *vsm_trace_create(void)
{
	struct vsm_trace *trace = calloc(1, sizeof(*trace));

	TEST_ASSERT(trace, "no memory for a trace");
	trace->random = 1;
	while (trace->nr_changes < VSM_CHANGES) {
		if (!trace->nr_objects || vsm_random(&trace->random, 8) < 3)
			vsm_new(trace);
		else
			vsm_change(trace);
	}
	return trace;
}

#endif /* KVM_MEMATTR_BENCH_VSM_TRACE_H */
