// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation on the way of a batch, of a set of a whole layer, of a resumable
 * one and of reading back fails in turn, or each from one on: the call fails with
 * ENOMEM, has changed nothing and said nothing, or it has taken its full effect.
 * Fault injection is not in the release kernel.
 */
/* variants: debug */
#include "kvm_memattr_faults.h"
#include "kvm_memattr_layers.h"
#include "kvm_memattr_rwx_huge.h"

struct subject {
	struct knobs knobs;
	struct kvm_vm *vm;
	struct kma_view view;
};

FIXTURE(faults) {
	struct subject subject;
	bool armed;
};

FIXTURE_VARIANT(faults) {
	enum how how;
};

FIXTURE_VARIANT_ADD(faults, nth) {
	.how = NTH_FAILS,
};

FIXTURE_VARIANT_ADD(faults, from_nth_on) {
	.how = ALL_FAIL_FROM,
};

FIXTURE_SETUP(faults)
{
	struct subject *s = &self->subject;

	s->vm = vm_create_barebones();
	s->view = kma_view_of(s->vm);
	self->armed = true;
	knobs_open(&s->knobs, variant->how);
}

/* In the parent, so that a test that fails leaves no fault behind. */
FIXTURE_TEARDOWN_PARENT(faults)
{
	if (self->armed)
		knobs_reset();
}

/* All that can be seen of a VM's store from outside. */
struct state {
	char *runs;
	u64 blocks;
	u64 nodes;
	u64 sets;
	u64 zapped;
};

static struct state state_of(const struct kma_view *view)
{
	return (struct state) {
		.runs = kma_runs(view),
		.blocks = kma_stat(view, "blocks"),
		.nodes = kma_stat(view, "nodes"),
		.sets = kma_stat(view, "sets"),
		.zapped = kma_stat(view, "pages_zapped"),
	};
}

static void assert_same_store(const char *name, long n, const struct state *want,
			      const struct state *got)
{
	TEST_ASSERT(!strcmp(want->runs, got->runs) && want->blocks == got->blocks &&
		    want->nodes == got->nodes,
		    "%s, fault %ld: wanted %lu blocks, %lu nodes\n%sgot %lu, %lu\n%s", name, n,
		    want->blocks, want->nodes, want->runs, got->blocks, got->nodes, got->runs);
}

/* A call that may fail, and what is there before it. */
struct request {
	const char *name;
	void (*before)(struct kvm_vm *vm);
	int (*make)(struct kvm_vm *vm);
};

static struct kvm_memory_attributes_entry *entries;
static u32 nr_entries;

static int make_batch(struct kvm_vm *vm)
{
	struct kvm_memory_attributes_batch batch = layers_batch_of(entries, nr_entries);
	int ret = __layers_batch(vm, &batch);

	TEST_ASSERT(batch.error_index == LAYERS_UNWRITTEN_INDEX, "error_index was written");
	return ret;
}

static void nothing(struct kvm_vm *vm)
{
}

static u64 gpa_of(u64 page)
{
	return KMA_GPA + page * PAGE_SIZE;
}

/* Pages that share nodes of the store, and some that do not. */
static void scattered(struct kvm_vm *vm)
{
	nr_entries = 24;
	for (u64 i = 0; i < nr_entries; i++)
		entries[i] = layers_entry(i % LAYERS, gpa_of(i % 3 ? 7 * i : BIT_ULL(7 + i)),
					  PAGE_SIZE, KMA_NX, KMA_NX);
}

static void overlapping(struct kvm_vm *vm)
{
	nr_entries = 16;
	for (u64 i = 0; i < nr_entries; i++)
		entries[i] = layers_entry(i % 3, gpa_of(100 * i), 250 * PAGE_SIZE,
					  i % 2 ? KMA_NW : KMA_NX, KMA_NW | KMA_NX);
}

/* Neither of them uniform afterwards, in blocks that were. */
static void within_a_uniform_layer(struct kvm_vm *vm)
{
	layers_set_whole(vm, 4, KMA_NW);
	nr_entries = 12;
	for (u64 i = 0; i < nr_entries; i++)
		entries[i] = layers_entry(4 + i % 2, gpa_of(BIT_ULL(2 * i) + 5), PAGE_SIZE,
					  i % 2 ? KMA_NX : 0, KMA_NO_ACCESS);
}

/* What the first piece stores makes a block of what the second one needs. */
static void pieces_that_join(struct kvm_vm *vm)
{
	layers_set(vm, 0, gpa_of(1), 62 * PAGE_SIZE, KMA_NW);
	entries[0] = layers_entry(0, gpa_of(0), PAGE_SIZE, KMA_NW, KMA_NW);
	entries[1] = layers_entry(0, gpa_of(63), PAGE_SIZE, KMA_NW, KMA_NW);
	entries[2] = layers_entry(0, gpa_of(64), 64 * PAGE_SIZE, KMA_NW, KMA_NW);
	entries[3] = layers_entry(0, gpa_of(4000), 2 * PAGE_SIZE, KMA_NW, KMA_NW);
	nr_entries = 4;
}

static void layers_of_many(struct kvm_vm *vm)
{
	for (u32 layer = 0; layer < LAYERS; layer++)
		layers_set(vm, layer, gpa_of(37 * layer), 50 * PAGE_SIZE, KMA_NX);
}

/* Where it fails nothing is set, which is so from the start of the range on. */
static int make_layer(struct kvm_vm *vm, struct kvm_memory_attributes2 attr)
{
	u64 start = attr.address;
	int ret = __layers_ioctl(vm, &attr);

	TEST_ASSERT_EQ(attr.error_offset, ret ? start : LAYERS_UNWRITTEN);
	return ret;
}

static int make_whole_layer(struct kvm_vm *vm)
{
	return make_layer(vm, layers_attr(5, 0, 0, KMA_NW, LAYERS_WHOLE));
}

static int make_whole_layer_empty(struct kvm_vm *vm)
{
	return make_layer(vm, layers_attr(5, 0, 0, 0, LAYERS_WHOLE));
}

static int make_part_of_layer(struct kvm_vm *vm)
{
	return make_layer(vm, layers_attr(5, gpa_of(5), gpa_of(5000) - gpa_of(5), KMA_NW, 0));
}

static int make_resumable(struct kvm_vm *vm)
{
	struct kvm_memory_attributes attr = {
		.address = gpa_of(5),
		.size = gpa_of(5000) - gpa_of(5),
		.attributes = KMA_NW,
	}, was = attr;
	int ret = ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, &attr);

	TEST_ASSERT(ret ? !memcmp(&attr, &was, sizeof(attr)) : !attr.size,
		    "0x%llx left at 0x%llx", attr.size, attr.address);
	return ret;
}

static const struct request requests[] = {
	{ "a batch of scattered pages", scattered, make_batch },
	{ "a batch that overlaps", overlapping, make_batch },
	{ "a batch within a uniform layer", within_a_uniform_layer, make_batch },
	{ "a batch whose pieces join", pieces_that_join, make_batch },
	{ "a whole layer", layers_of_many, make_whole_layer },
	{ "a whole layer of an empty store", nothing, make_whole_layer },
	{ "a whole layer that is cleared", layers_of_many, make_whole_layer_empty },
	{ "a part of a layer", layers_of_many, make_part_of_layer },
	{ "a resumable set", layers_of_many, make_resumable },
};

static void each_allocation_fails(struct subject *s, const struct request *r)
{
	struct state wanted, before, after;
	bool injected = true;
	long n, failed = 0;

	layers_clear_all(s->vm);
	r->before(s->vm);
	TEST_ASSERT(!r->make(s->vm), "%s: %s", r->name, strerror(errno));
	wanted = state_of(&s->view);
	for (n = 1; injected; n++) {
		int ret, err;

		TEST_ASSERT(n < MOST_FAULTS, "%s: does not come to an end", r->name);
		layers_clear_all(s->vm);
		r->before(s->vm);
		before = state_of(&s->view);
		faults_begin(&s->knobs, n);
		ret = r->make(s->vm);
		err = errno;
		injected = faults_end(&s->knobs);
		after = state_of(&s->view);
		if (ret) {
			TEST_ASSERT(injected && err == ENOMEM, "%s, fault %ld: %s%s", r->name, n,
				    strerror(err), injected ? "" : ", and there was no fault");
			assert_same_store(r->name, n, &before, &after);
			TEST_ASSERT(before.sets == after.sets && before.zapped == after.zapped,
				    "%s, fault %ld: it was counted", r->name, n);
			failed++;

			/* And there is nothing in the way of the next attempt. */
			TEST_ASSERT(!r->make(s->vm), "%s, after fault %ld: %s", r->name, n,
				    strerror(errno));
			free(after.runs);
			after = state_of(&s->view);
		}
		assert_same_store(r->name, n, &wanted, &after);
		free(before.runs);
		free(after.runs);
	}
	printf("# figure: %s: %ld faults, %ld times ENOMEM\n", r->name, n - 2, failed);
	/* What is only cleared takes no memory. */
	TEST_ASSERT(n > 2 || r->make == make_whole_layer_empty, "%s: met no fault", r->name);
	/* Where one allocation fails, another may serve in its place. */
	TEST_ASSERT(failed || s->knobs.how == NTH_FAILS || r->make == make_whole_layer_empty,
		    "%s: without memory, and never failed", r->name);
	free(wanted.runs);
}

TEST_F_TIMEOUT(faults, call_that_meets_a_fault_fails_as_a_whole_or_succeeds, 800)
{
	entries = layers_alloc(BATCH_MOST, sizeof(*entries));
	for (int i = 0; i < ARRAY_SIZE(requests); i++)
		each_allocation_fails(&self->subject, &requests[i]);
}

TEST_F_TIMEOUT(faults, reading_back_that_meets_a_fault_is_enomem_or_all_of_it, 800)
{
	struct kvm_memory_attributes_run all[64], runs[64], untouched[64];
	struct subject *s = &self->subject;
	bool injected = true;
	long n, failed = 0;
	u64 next;
	u32 nr;

	layers_of_many(s->vm);
	nr = layers_get(s->vm->fd, LAYERS_UNION, KMA_GPA, SZ_1G, all, ARRAY_SIZE(all), &next);
	TEST_ASSERT_EQ(nr, 2);
	for (n = 1; injected; n++) {
		struct kvm_memory_attributes_get get, was;
		int ret, err;

		memset(runs, 0x5a, sizeof(runs));
		memcpy(untouched, runs, sizeof(runs));
		get = layers_get_of(LAYERS_UNION, KMA_GPA, SZ_1G, runs, ARRAY_SIZE(runs));
		was = get;
		faults_begin(&s->knobs, n);
		ret = __layers_get(s->vm->fd, &get);
		err = errno;
		injected = faults_end(&s->knobs);
		if (!ret) {
			TEST_ASSERT(get.nr == nr && get.next == next &&
				    !memcmp(runs, all, nr * sizeof(*runs)),
				    "fault %ld: %u runs up to 0x%llx, or other ones", n, get.nr,
				    get.next);
			continue;
		}
		TEST_ASSERT(injected && err == ENOMEM, "fault %ld: %s", n, strerror(err));
		TEST_ASSERT(!memcmp(&get, &was, sizeof(get)) &&
			    !memcmp(runs, untouched, sizeof(runs)), "fault %ld: it has written", n);
		failed++;
	}
	printf("# figure: reading back: %ld faults, %ld times ENOMEM\n", n - 2, failed);
	TEST_ASSERT(n > 2, "met no fault");
	TEST_ASSERT(failed || s->knobs.how == NTH_FAILS, "without memory, and never failed");
}

/* The guest does not notice that a batch has failed. */
TEST_F_TIMEOUT(faults, failed_batch_takes_no_right_away, 800)
{
	struct subject *s = &self->subject;
	struct rwx_guest g = {};
	struct rwx_mapped mapped;
	bool injected = true;
	long n, failed = 0;

	entries = layers_alloc(BATCH_MOST, sizeof(*entries));
	kvm_vm_free(s->vm);
	rwx_huge_init(&g, KVM_X86_DEFAULT_VM, 2 * RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
	s->vm = g.vm;
	s->view = kma_view_of(s->vm);
	nr_entries = 10;
	for (u64 i = 0; i < nr_entries; i++)
		entries[i] = layers_entry(i, rwx_gpa(&g, 97 + i * 61), 3 * PAGE_SIZE, KMA_NW,
					  KMA_NW);
	mapped = rwx_map_what_is_kept(&g);
	for (n = 1; injected; n++) {
		int ret, err;

		TEST_ASSERT(n < MOST_FAULTS, "does not come to an end");
		faults_begin(&s->knobs, n);
		ret = make_batch(g.vm);
		err = errno;
		injected = faults_end(&s->knobs);
		if (ret) {
			TEST_ASSERT(injected && err == ENOMEM, "fault %ld: %s", n, strerror(err));
			rwx_assert_kept(&g, mapped);
			failed++;
		} else if (injected) {
			layers_clear_all(g.vm);
			mapped = rwx_map_what_is_kept(&g);
		}
	}
	printf("# figure: %ld faults, %ld times ENOMEM%s\n", n - 2, failed,
	       failed ? ", and the guest has kept its mappings" : "");
	TEST_ASSERT(n > 2, "met no fault");
	TEST_ASSERT(failed || s->knobs.how == NTH_FAILS, "without memory, and never failed");
	for (u64 i = 0; i < nr_entries; i++)
		rwx_check_all(&g, 97 + i * 61, KMA_NW);
	kvm_vm_free(g.vm);
}

TEST_HARNESS_MAIN
