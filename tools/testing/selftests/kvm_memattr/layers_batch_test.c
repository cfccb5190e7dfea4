// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_SET_MEMORY_ATTRIBUTES_BATCH: entries are applied in order, each to the
 * attributes of its mask in its layer, and what a page ends up with is what the
 * guest is bound by. All of them take effect, in one step, or none does.
 */
#include "kvm_memattr_guest.h"
#include "kvm_memattr_layers.h"
#include "kvm_memattr_random.h"
#include "kvm_memattr_rwx_huge.h"

#define PAGES		(2 * RWX_BLOCK)
#define NR_WORDS	ARRAY_SIZE(kma_restrictions)

FIXTURE(batch) {
	struct rwx_guest g;
	struct kma_view view;
};

FIXTURE_SETUP(batch)
{
	rwx_huge_init(&self->g, KVM_X86_DEFAULT_VM, PAGES, VM_MEM_SRC_ANONYMOUS_THP);
	self->view = kma_view_of(self->g.vm);
}

FIXTURE_TEARDOWN(batch)
{
	kvm_vm_free(self->g.vm);
}

/* In pages of the guest's memory. */
static struct kvm_memory_attributes_entry entry(u32 layer, u64 page, u64 nr, u64 attributes,
						u64 mask)
{
	return layers_entry(layer, KMA_GPA + page * PAGE_SIZE, nr * PAGE_SIZE, attributes, mask);
}

/* All of the layer's attributes. */
static struct kvm_memory_attributes_entry whole(u32 layer, u64 page, u64 nr, u64 attributes)
{
	return entry(layer, page, nr, attributes, KMA_NO_ACCESS);
}

struct model {
	u8 word[LAYERS][PAGES];
};

static void model_apply(struct model *m, const struct kvm_memory_attributes_entry *entries, u32 nr)
{
	for (u32 i = 0; i < nr; i++) {
		u64 first = (entries[i].address - KMA_GPA) / PAGE_SIZE;

		for (u64 page = first; page < first + entries[i].size / PAGE_SIZE; page++) {
			u8 *word = &m->word[entries[i].layer][page];

			*word = (*word & ~entries[i].mask) | entries[i].attributes;
		}
	}
}

static u64 model_union(struct model *m, u64 page)
{
	u64 all = 0;

	for (u32 layer = 0; layer < LAYERS; layer++)
		all |= m->word[layer][page];
	return all;
}

static void assert_view(struct kvm_vm *vm, struct model *m, u32 layer, const char *when)
{
	struct kvm_memory_attributes_run *runs = layers_alloc(PAGES, sizeof(*runs));
	u32 nr = layers_get(vm->fd, layer, KMA_GPA, PAGES * PAGE_SIZE, runs, PAGES, NULL);
	u64 page = 0;

	for (u32 i = 0; i < nr; i++) {
		for (u64 end = page + runs[i].size / PAGE_SIZE; page < end; page++) {
			u64 want = layer == LAYERS_UNION ? model_union(m, page) :
				   m->word[layer][page];

			TEST_ASSERT(runs[i].attributes == want,
				    "%s: layer %d of page %lu has 0x%llx, not 0x%lx", when,
				    (int)layer, page, runs[i].attributes, want);
		}
	}
	free(runs);
}

static void assert_model(struct kvm_vm *vm, struct model *m, const char *when)
{
	for (u32 layer = 0; layer < LAYERS; layer++)
		assert_view(vm, m, layer, when);
	assert_view(vm, m, LAYERS_UNION, when);
}

struct overlap {
	const char *name;
	struct kvm_memory_attributes_entry entries[6];
};

/* Ranges in pages, made addresses of below. */
#define E(_layer, _page, _nr, _attributes, _mask)				\
	{ .layer = (_layer), .address = (_page), .size = (_nr),			\
	  .attributes = (_attributes), .mask = (_mask) }
#define ALL_OF_IT	KMA_NO_ACCESS

static const struct overlap overlaps[] = {
	{ "disjoint, backwards", {
		E(0, 50, 5, KMA_NW, ALL_OF_IT), E(0, 30, 5, KMA_NX, ALL_OF_IT),
		E(0, 10, 5, KMA_NO_ACCESS, ALL_OF_IT) } },
	{ "one after the other", {
		E(0, 10, 5, KMA_NW, ALL_OF_IT), E(0, 15, 5, KMA_NX, ALL_OF_IT),
		E(0, 20, 5, KMA_NW, ALL_OF_IT) } },
	{ "the same range", {
		E(0, 10, 5, KMA_NW, ALL_OF_IT), E(0, 10, 5, KMA_NX, ALL_OF_IT) } },
	{ "the same range, and nothing in the end", {
		E(0, 10, 5, KMA_NW, ALL_OF_IT), E(0, 10, 5, 0, ALL_OF_IT) } },
	{ "a hole in what was set", {
		E(0, 10, 20, KMA_NW, ALL_OF_IT), E(0, 15, 5, 0, ALL_OF_IT) } },
	{ "a hole before it is set over", {
		E(0, 15, 5, 0, ALL_OF_IT), E(0, 10, 20, KMA_NW, ALL_OF_IT) } },
	{ "the same start", {
		E(0, 10, 20, KMA_NW, ALL_OF_IT), E(0, 10, 5, KMA_NX, ALL_OF_IT) } },
	{ "the same end", {
		E(0, 10, 20, KMA_NW, ALL_OF_IT), E(0, 25, 5, KMA_NX, ALL_OF_IT) } },
	{ "a part before and after", {
		E(0, 10, 10, KMA_NW, ALL_OF_IT), E(0, 15, 10, KMA_NX, ALL_OF_IT),
		E(0, 5, 8, KMA_NO_ACCESS, ALL_OF_IT) } },
	{ "one bit each", {
		E(0, 10, 10, KMA_NW, KMA_NW), E(0, 15, 10, KMA_NX, KMA_NX),
		E(0, 12, 5, 0, KMA_NW) } },
	{ "a bit that comes and goes", {
		E(0, 10, 10, KMA_NW, KMA_NW), E(0, 10, 10, 0, KMA_NW),
		E(0, 10, 10, KMA_NX, KMA_NX), E(0, 10, 10, KMA_NW, KMA_NW) } },
	{ "valid at the end alone", {
		E(0, 10, 10, KMA_NR, KMA_NR), E(0, 10, 10, KMA_NW, KMA_NW),
		E(0, 10, 10, KMA_NX, KMA_NX) } },
	{ "layers do not overlap", {
		E(1, 10, 10, KMA_NW, ALL_OF_IT), E(2, 10, 10, KMA_NX, ALL_OF_IT),
		E(15, 12, 10, KMA_NO_ACCESS, ALL_OF_IT), E(2, 15, 10, 0, ALL_OF_IT) } },
	{ "layers by single bits", {
		E(3, 10, 10, KMA_NW, KMA_NW), E(4, 10, 10, KMA_NX, KMA_NX),
		E(3, 15, 10, KMA_NX, KMA_NX), E(4, 18, 1, 0, KMA_NX) } },
	{ "across the end of a block", {
		E(0, 500, 20, KMA_NW, ALL_OF_IT), E(1, 510, 4, KMA_NX, ALL_OF_IT),
		E(0, 511, 2, 0, ALL_OF_IT) } },
	{ "all of it, and a page", {
		E(7, 0, PAGES, KMA_NW, ALL_OF_IT), E(7, 100, 1, 0, ALL_OF_IT),
		E(8, 100, 1, KMA_NX, ALL_OF_IT) } },
};

/* On nothing, and on what another layer and the same one have. */
static void try_overlap(struct rwx_guest *g, const struct overlap *o, u64 before)
{
	struct kvm_memory_attributes_entry entries[ARRAY_SIZE(o->entries)];
	static struct model m;
	u32 nr = 0;

	memset(&m, 0, sizeof(m));
	layers_clear_all(g->vm);
	if (before) {
		const struct kvm_memory_attributes_entry old[] = {
			whole(0, 8, 14, before), whole(5, 13, 9, before),
		};

		layers_set(g->vm, 0, old[0].address, old[0].size, before);
		layers_set(g->vm, 5, old[1].address, old[1].size, before);
		model_apply(&m, old, ARRAY_SIZE(old));
	}
	for (; nr < ARRAY_SIZE(o->entries) && o->entries[nr].size; nr++) {
		entries[nr] = o->entries[nr];
		entries[nr].address = KMA_GPA + entries[nr].address * PAGE_SIZE;
		entries[nr].size *= PAGE_SIZE;
	}
	layers_batch(g->vm, entries, nr);
	model_apply(&m, entries, nr);
	assert_model(g->vm, &m, o->name);
	for (u64 page = 9; page < 28; page += 3)
		rwx_check_all(g, page, model_union(&m, page));
	/* Once more, which is a batch that changes nothing, or what it has changed. */
	layers_batch(g->vm, entries, nr);
	model_apply(&m, entries, nr);
	assert_model(g->vm, &m, o->name);
}

TEST_F_TIMEOUT(batch, entries_are_applied_in_order, 240)
{
	for (int i = 0; i < ARRAY_SIZE(overlaps); i++) {
		try_overlap(&self->g, &overlaps[i], 0);
		try_overlap(&self->g, &overlaps[i], KMA_NW | KMA_NX);
	}
}

static bool is_valid(u64 word)
{
	return !(word & KMA_NR) || word == KMA_NO_ACCESS;
}

/* Every mask with every word, on every word: it is what the page comes to that counts. */
TEST_F_TIMEOUT(batch, what_is_outside_of_the_mask_stays, 240)
{
	struct kvm_vm *vm = self->g.vm;

	for (u32 layer = 0; layer < LAYERS; layer += 5) {
		for (int i = 0; i < NR_WORDS * 8 * 8; i++) {
			u64 old = kma_restrictions[i / 64], mask = i / 8 % 8, attributes = i % 8;
			u64 new = (old & ~mask) | attributes;
			struct kvm_memory_attributes_entry e = entry(layer, 3, 1, attributes, mask);

			if (!mask || attributes & ~mask)
				continue;
			layers_set(vm, layer, KMA_GPA + 3 * PAGE_SIZE, PAGE_SIZE, old);
			if (is_valid(new)) {
				layers_batch(vm, &e, 1);
			} else {
				LAYERS_ASSERT_BATCH_FAILS(EINVAL, 0, vm, &e, 1);
				new = old;
			}
			layers_assert(vm, layer, e.address, PAGE_SIZE, new);
			layers_assert(vm, LAYERS_UNION, e.address, PAGE_SIZE, new);
		}
		layers_set_whole(vm, layer, 0);
	}
}

TEST_F(batch, each_layer_by_one_batch)
{
	static struct model m;
	struct kvm_memory_attributes_entry entries[LAYERS];

	for (int shift = 0; shift < NR_WORDS; shift++) {
		for (u32 layer = 0; layer < LAYERS; layer++)
			entries[layer] = whole(layer, 20 + layer, 8,
					       kma_restrictions[(layer + shift) % NR_WORDS]);
		layers_batch(self->g.vm, entries, LAYERS);
		model_apply(&m, entries, LAYERS);
		assert_model(self->g.vm, &m, "one entry for each layer");
		for (u64 page = 18; page < 44; page += 4)
			rwx_check_all(&self->g, page, model_union(&m, page));
	}
}

static u64 flushes_of(struct rwx_guest *g)
{
	return vm_get_stat(g->vm, remote_tlb_flush_requests);
}

/* Every other page, in an order that is none. */
static void fill_scattered(struct kvm_memory_attributes_entry *entries, u32 nr,
			   u64 distance, u64 attributes, u64 mask)
{
	for (u64 i = 0; i < nr; i++)
		entries[i] = entry(0, i * 181 % nr * distance, 1, attributes, mask);
}

#define FLUSH_TRIES	5
/* One for all pages, and one where somebody wanted the lock or the CPU. */
#define MOST_FLUSHES	2

TEST_F_TIMEOUT(batch, scattered_pages_are_one_step, 240)
{
	struct kvm_memory_attributes_entry *entries = layers_alloc(RWX_BLOCK, sizeof(*entries));
	struct rwx_guest *g = &self->g;
	u64 sets, faults, fewest = ~0ull;
	static struct model m;

	/* So that all is mapped, page by page. */
	rwx_set(g, 1, 1, KMA_NX);
	rwx_set(g, RWX_BLOCK + 1, 1, KMA_NX);

	/* Others flush now and then as well, so that what counts is the best of some tries. */
	for (int i = 0; i < FLUSH_TRIES; i++) {
		u64 flushes;

		fill_scattered(entries, RWX_BLOCK, 2, 0, KMA_NW);
		layers_batch(g->vm, entries, RWX_BLOCK);
		for (u64 page = 0; page < PAGES; page++)
			rwx_allowed(g, RWX_WRITE, page);

		fill_scattered(entries, RWX_BLOCK, 2, KMA_NW, KMA_NW);
		sets = kma_stat(&self->view, "sets");
		flushes = flushes_of(g);
		layers_batch(g->vm, entries, RWX_BLOCK);
		TEST_ASSERT_EQ(kma_stat(&self->view, "sets"), sets + 1);
		fewest = min(fewest, flushes_of(g) - flushes);
	}
	printf("# figure: %lu flushes for %llu pages\n", fewest, RWX_BLOCK);
	TEST_ASSERT(fewest && fewest <= MOST_FLUSHES, "%lu flushes", fewest);

	/* What is between the pages is mapped as it was. */
	faults = vcpu_get_stat(g->vcpu, pf_taken);
	for (u64 page = 1; page < PAGES; page += 2)
		rwx_allowed(g, RWX_WRITE, page);
	TEST_ASSERT_EQ(vcpu_get_stat(g->vcpu, pf_taken), faults);
	for (u64 page = 0; page < PAGES; page += 2) {
		rwx_denied(g, RWX_WRITE, page, KVM_MEMORY_EXIT_FLAG_WRITE);
		rwx_abandon(g);
	}

	model_apply(&m, ENTRIES(whole(0, 1, 1, KMA_NX), whole(0, RWX_BLOCK + 1, 1, KMA_NX)),
		    2);
	model_apply(&m, entries, RWX_BLOCK);
	assert_model(g->vm, &m, "scattered pages");

	fill_scattered(entries, RWX_BLOCK, 2, 0, KMA_NW);
	layers_batch(g->vm, entries, RWX_BLOCK);
	model_apply(&m, entries, RWX_BLOCK);
	assert_model(g->vm, &m, "no page any more");
	for (u64 page = 0; page < PAGES; page += 2)
		rwx_allowed(g, RWX_WRITE, page);
}

TEST_F_TIMEOUT(batch, as_many_entries_as_there_may_be, 240)
{
	struct kvm_memory_attributes_run *runs = layers_alloc(GET_MOST, sizeof(*runs));
	struct kvm_memory_attributes_entry *entries = layers_alloc(BATCH_MOST, sizeof(*entries));
	const u64 end = KMA_GPA + 3 * BATCH_MOST * PAGE_SIZE;
	struct kvm_vm *vm = self->g.vm;
	u64 next;

	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES_BATCH), BATCH_MOST);
	fill_scattered(entries, BATCH_MOST, 3, KMA_NX, KMA_NO_ACCESS);
	layers_batch(vm, entries, BATCH_MOST);
	for (u64 at = KMA_GPA, page = 0; at < end; at = next) {
		u32 nr = layers_get(vm->fd, 0, at, end - at, runs, GET_MOST, &next);

		for (u32 i = 0; i < nr; i++, page += page % 3 ? 2 : 1) {
			TEST_ASSERT_EQ(runs[i].start, KMA_GPA + page * PAGE_SIZE);
			TEST_ASSERT_EQ(runs[i].size, (page % 3 ? 2 : 1) * PAGE_SIZE);
			TEST_ASSERT_EQ(runs[i].attributes, page % 3 ? 0 : KMA_NX);
		}
	}

	/* Each within the one before it: all of them cover the middle. */
	for (u64 i = 0; i < BATCH_MOST; i++)
		entries[i] = whole(0, i, 2 * BATCH_MOST - 2 * i,
				   i % 2 || i == BATCH_MOST - 1 ? 0 : KMA_NW);
	layers_set_whole(vm, 0, 0);
	layers_batch(vm, entries, BATCH_MOST);
	layers_get(vm->fd, 0, KMA_GPA, 2 * BATCH_MOST * PAGE_SIZE, runs, GET_MOST, NULL);
	for (u64 i = 0; i < GET_MOST; i++) {
		TEST_ASSERT_EQ(runs[i].attributes, i % 2 ? 0 : KMA_NW);
		if (i < GET_MOST - 1)
			TEST_ASSERT_EQ(runs[i].size, PAGE_SIZE);
	}
	layers_set_whole(vm, 0, 0);
	kma_assert_runs(&self->view, "");
}

/* As many as a message names, one page each: a run in the end, whatever the order. */
TEST_F_TIMEOUT(batch, a_run_page_by_page_is_one_run, 240)
{
	struct kvm_memory_attributes_entry *entries = layers_alloc(BATCH_MOST, sizeof(*entries));
	struct rwx_guest *g = &self->g;
	const u32 nr = BATCH_MOST - 1;
	char line[64];

	for (u32 stride = 1; stride < 20; stride += 16) {
		for (u64 i = 0; i < nr; i++)
			entries[i] = whole(0, i * stride % nr, 1, KMA_NW);
		layers_batch(g->vm, entries, nr);
		snprintf(line, sizeof(line), "0x%016llx 0x%llx 0x2 NW\n", KMA_GPA, nr * PAGE_SIZE);
		kma_assert_runs(&self->view, line);
		rwx_check_all(g, 0, KMA_NW);
		rwx_check_all(g, 777, KMA_NW);

		for (u64 i = 0; i < nr; i++)
			entries[i].attributes = 0;
		layers_batch(g->vm, entries, nr);
		kma_assert_runs(&self->view, "");
	}
	rwx_unmap(g);
	rwx_allowed(g, RWX_WRITE, 777);
}

TEST_F(batch, batch_that_changes_nothing_is_nothing)
{
	struct rwx_guest *g = &self->g;
	const struct kvm_memory_attributes_entry entries[] = {
		whole(0, 3, 1, KMA_NX), whole(0, 3, 1, KMA_NW), whole(9, 0, 1, 0),
		entry(4, 5, 10, 0, KMA_NR), entry(0, 3, 1, KMA_NW, KMA_NW),
	};
	u64 sets, unchanged, zapped;

	rwx_set(g, 3, 1, KMA_NW);
	rwx_allowed(g, RWX_READ, 3);
	sets = kma_stat(&self->view, "sets");
	unchanged = kma_stat(&self->view, "sets_unchanged");
	zapped = kma_stat(&self->view, "runs_zapped");
	layers_batch(g->vm, entries, ARRAY_SIZE(entries));
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets"), sets);
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets_unchanged"), unchanged + 1);
	TEST_ASSERT_EQ(kma_stat(&self->view, "runs_zapped"), zapped);
}

TEST_F(batch, ends_of_all_addresses)
{
	const struct kvm_memory_attributes_entry entries[] = {
		layers_entry(3, LAYERS_ALL - PAGE_SIZE, PAGE_SIZE, KMA_NX, KMA_NX),
		layers_entry(0, BIT_ULL(40), LAYERS_ALL - BIT_ULL(40), KMA_NW, KMA_NW),
		layers_entry(3, 0, PAGE_SIZE, KMA_NX, KMA_NX),
		layers_entry(5, BIT_ULL(50), PAGE_SIZE, KMA_NX, KMA_NX),
	};
	struct kvm_vm *vm = self->g.vm;

	layers_batch(vm, entries, ARRAY_SIZE(entries));
	layers_assert(vm, 3, 0, PAGE_SIZE, KMA_NX);
	layers_assert(vm, 3, PAGE_SIZE, LAYERS_ALL - 2 * PAGE_SIZE, 0);
	layers_assert(vm, 3, LAYERS_ALL - PAGE_SIZE, PAGE_SIZE, KMA_NX);
	layers_assert(vm, 0, BIT_ULL(40), LAYERS_ALL - BIT_ULL(40), KMA_NW);
	layers_assert(vm, 5, BIT_ULL(50), PAGE_SIZE, KMA_NX);
	layers_clear_all(vm);
	kma_assert_runs(&self->view, "");
}

TEST_F(batch, entries_are_only_read)
{
	struct kvm_memory_attributes_entry *entries = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct kvm_memory_attributes_batch *batch = (void *)entries + PAGE_SIZE / 2;

	entries[0] = whole(0, 3, 1, KMA_NW);
	entries[1] = whole(1, 3, 2, KMA_NX);
	*batch = layers_batch_of(entries, 2);
	TEST_ASSERT(!mprotect(entries, PAGE_SIZE, PROT_READ), "mprotect: %s", strerror(errno));
	TEST_ASSERT(!__layers_batch(self->g.vm, batch), "%s", strerror(errno));
	layers_assert(self->g.vm, LAYERS_UNION, KMA_GPA + 3 * PAGE_SIZE, PAGE_SIZE,
		      KMA_NW | KMA_NX);
}

/* --- all or nothing --- */

#define MANY		12

struct bad {
	const char *name;
	struct kvm_memory_attributes_entry entry;
};

/* The last ones are bad for what a page has in another layer, or in the rest of its own. */
static const struct bad bad_entries[] = {
	{ "unaligned", E(0, 30, 1, KMA_NW, KMA_NW) },
	{ "no mask", E(0, 30, 1, 0, 0) },
	{ "unknown attribute", E(0, 30, 1, BIT_ULL(4), ALL_OF_IT | BIT_ULL(4)) },
	{ "no such layer", E(LAYERS, 30, 1, KMA_NW, KMA_NW) },
	{ "outside of the mask", E(0, 30, 1, KMA_NX, KMA_NW) },
	{ "what no page can have", E(0, 30, 1, KMA_NR, ALL_OF_IT) },
	{ "writable but not readable", E(2, 33, 1, 0, KMA_NW) },
	{ "not readable, and nothing else", E(2, 10, 30, KMA_NR, KMA_NR) },
};

static char *describe(struct rwx_guest *g, struct kma_view *view)
{
	char *text;

	TEST_ASSERT(asprintf(&text, "%s%lu %lu %lu", kma_runs(view), kma_stat(view, "sets"),
			     kma_stat(view, "pages_zapped"), kma_stat(view, "nodes")) >= 0,
		    "no memory");
	return text;
}

TEST_F_TIMEOUT(batch, bad_entry_in_any_place_leaves_everything, 240)
{
	struct rwx_guest *g = &self->g;
	struct rwx_mapped mapped;
	struct kvm_memory_attributes_entry entries[MANY];
	char *was, *is;

	layers_set(g->vm, 2, rwx_gpa(g, 33), PAGE_SIZE, KMA_NO_ACCESS);
	mapped = rwx_map_what_is_kept(g);
	was = describe(g, &self->view);
	for (int i = 0; i < ARRAY_SIZE(bad_entries); i++) {
		for (u32 place = 0; place < MANY; place++) {
			for (u32 n = 0; n < MANY; n++)
				entries[n] = whole(n, 60 * n, 50, KMA_NX);
			entries[place] = bad_entries[i].entry;
			entries[place].address = KMA_GPA + entries[place].address * PAGE_SIZE +
						 (i ? 0 : 8);
			entries[place].size *= PAGE_SIZE;
			LAYERS_ASSERT_BATCH_FAILS(EINVAL, place, g->vm, entries, MANY);
		}
		is = describe(g, &self->view);
		TEST_ASSERT(!strcmp(was, is), "%s: was\n%s\nis\n%s", bad_entries[i].name, was, is);
		free(is);
		rwx_assert_kept(g, mapped);
	}
	free(was);
}

/* In the order of the entries, and not of their addresses. */
TEST_F(batch, first_of_several_bad_entries_is_named)
{
	struct kvm_vm *vm = self->g.vm;
	struct kvm_memory_attributes_entry entries[6];

	layers_set(vm, 0, KMA_GPA, RWX_BLOCK * PAGE_SIZE, KMA_NO_ACCESS);
	for (u32 first = 0; first < ARRAY_SIZE(entries); first++) {
		for (u32 i = 0; i < ARRAY_SIZE(entries); i++) {
			u64 page = 100 - 10 * i;

			entries[i] = i < first ? whole(1, page, 4, KMA_NX) :
				     entry(0, page, 4, 0, KMA_NW);
		}
		LAYERS_ASSERT_BATCH_FAILS(EINVAL, first, vm, entries, ARRAY_SIZE(entries));
	}
	layers_assert(vm, 1, KMA_GPA, PAGES * PAGE_SIZE, 0);
}

/* Of several that cover a page, the last one with a say in what it cannot have. */
TEST_F(batch, last_entry_with_a_say_in_a_page_is_to_blame)
{
	struct kvm_vm *vm = self->g.vm;
	const struct kvm_memory_attributes_entry unreadable[] = {
		whole(3, 50, 1, KMA_NX), entry(0, 10, 20, KMA_NR, KMA_NR),
		whole(7, 5, 10, KMA_NX), whole(8, 60, 3, KMA_NW),
	};
	/* The third one drops NW again, which the second one has added. */
	const struct kvm_memory_attributes_entry dropped[] = {
		whole(7, 5, 10, KMA_NX), whole(0, 10, 5, KMA_NO_ACCESS),
		entry(0, 12, 1, 0, KMA_NW), whole(8, 0, 30, KMA_NX),
	};
	const struct kvm_memory_attributes_entry mended[] = {
		entry(0, 10, 20, KMA_NR, KMA_NR), whole(7, 5, 10, KMA_NX),
		entry(0, 8, 30, KMA_NW | KMA_NX, KMA_NW | KMA_NX),
	};

	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 1, vm, unreadable, ARRAY_SIZE(unreadable));
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 2, vm, dropped, ARRAY_SIZE(dropped));
	kma_assert_runs(&self->view, "");
	layers_batch(vm, mended, ARRAY_SIZE(mended));
	layers_assert(vm, 0, KMA_GPA + 10 * PAGE_SIZE, 20 * PAGE_SIZE, KMA_NO_ACCESS);
}

/* Whichever of the pages comes first. */
TEST_F(batch, each_page_that_entries_cover_alike_has_one_to_blame)
{
	struct kvm_vm *vm = self->g.vm;
	const struct kvm_memory_attributes_entry entries[] = {
		entry(0, 1, 8, 0, KMA_NW), entry(3, 1, 8, 0, KMA_NW), whole(5, 1, 8, KMA_NX),
	};

	layers_set(vm, 3, rwx_gpa(&self->g, 2), PAGE_SIZE, KMA_NO_ACCESS);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 1, vm, entries, ARRAY_SIZE(entries));
	layers_set(vm, 0, rwx_gpa(&self->g, 6), PAGE_SIZE, KMA_NO_ACCESS);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 0, vm, entries, ARRAY_SIZE(entries));
}

/* Pages that follow each other are set as one run, and blamed one by one. */
TEST_F(batch, each_entry_of_a_run_is_to_blame_for_its_own)
{
	struct kvm_vm *vm = self->g.vm;
	struct kvm_memory_attributes_entry entries[32];

	for (u32 bad = 0; bad < ARRAY_SIZE(entries); bad++) {
		layers_set(vm, 0, rwx_gpa(&self->g, bad), PAGE_SIZE, KMA_NO_ACCESS);
		/* From the last page to the first one. */
		for (u32 i = 0; i < ARRAY_SIZE(entries); i++)
			entries[i] = entry(0, ARRAY_SIZE(entries) - 1 - i, 1, 0, KMA_NW);
		LAYERS_ASSERT_BATCH_FAILS(EINVAL, ARRAY_SIZE(entries) - 1 - bad, vm, entries,
					  ARRAY_SIZE(entries));
	}
}

/* However many kinds of conflicts there are before it. */
TEST_F(batch, first_entry_is_named_though_many_pages_conflict_otherwise)
{
	const u32 kinds = 6, nr = BIT(kinds);
	struct kvm_memory_attributes_entry entries[kinds + 2];
	struct rwx_guest *g = &self->g;

	/* Each page has another set of layers that deny all. */
	for (u32 page = 0; page < nr; page++) {
		layers_set(g->vm, kinds + 2, rwx_gpa(g, page), PAGE_SIZE, KMA_NO_ACCESS);
		for (u32 i = 0; i < kinds; i++)
			if (page & BIT(i))
				layers_set(g->vm, 2 + i, rwx_gpa(g, page), PAGE_SIZE,
					   KMA_NO_ACCESS);
	}
	layers_set(g->vm, 1, rwx_gpa(g, nr), PAGE_SIZE, KMA_NO_ACCESS);

	for (u32 i = 0; i < ARRAY_SIZE(entries); i++)
		entries[i] = entry(i + 1, 0, nr + 1, 0, KMA_NW);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 0, g->vm, entries, ARRAY_SIZE(entries));
	layers_set(g->vm, 1, rwx_gpa(g, nr), PAGE_SIZE, 0);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, kinds + 1, g->vm, entries, ARRAY_SIZE(entries));
}

/* --- huge pages --- */

TEST_F(batch, halves_that_come_to_the_same_are_one_page)
{
	struct rwx_guest *g = &self->g;
	const u64 half = RWX_BLOCK / 2;
	const struct kvm_memory_attributes_entry set[] = {
		whole(4, half, half, KMA_NW), whole(9, 0, half, KMA_NW),
	};
	const struct kvm_memory_attributes_entry drop[] = {
		whole(4, half, half, 0), whole(9, 0, half, 0),
	};

	if (!thp_configured())
		SKIP(return, "no transparent huge pages here");

	layers_batch(g->vm, set, 2);
	RWX_ASSERT_MAPS(g, 5, PG_LEVEL_2M);
	rwx_denied(g, RWX_WRITE, 5, KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_abandon(g);
	layers_batch(g->vm, drop, 1);
	rwx_unmap(g);
	RWX_ASSERT_MAPS(g, 5, PG_LEVEL_4K);
	rwx_allowed(g, RWX_WRITE, half + 5);
	layers_batch(g->vm, drop, 2);
	rwx_unmap(g);
	RWX_ASSERT_MAPS(g, 5, PG_LEVEL_2M);
	rwx_allowed(g, RWX_WRITE, 5);
}

/* A batch of what entries restrict, and pages are mapped, those of the entries among them. */
static void restrict_and_map(struct rwx_guest *g, struct kvm_memory_attributes_entry *entries,
			     int nr)
{
	for (int i = 0; i < nr; i++)
		entries[i] = whole(2 * i, 60 * i + 7, 1, KMA_NX);
	layers_batch(g->vm, entries, nr);
	for (u64 page = 1; page < RWX_BLOCK; page += 3)
		rwx_allowed(g, RWX_READ, page);
	for (int i = 0; i < nr; i++)
		entries[i].attributes = 0;
}

/* None of the entries alone makes the block whole, and nobody else unmaps anything. */
TEST_F(batch, entries_that_make_a_block_whole_together_do_so)
{
	struct rwx_guest *g = &self->g;
	struct kvm_memory_attributes_entry entries[8];

	if (!thp_configured())
		SKIP(return, "no transparent huge pages here");

	restrict_and_map(g, entries, ARRAY_SIZE(entries));
	RWX_ASSERT_BLOCKS(g, 0, 0);
	RWX_ASSERT_MAPS(g, RWX_BLOCK, PG_LEVEL_2M);

	/* All but one do not. */
	layers_batch(g->vm, entries, ARRAY_SIZE(entries) - 1);
	rwx_allowed(g, RWX_READ, 7);
	RWX_ASSERT_BLOCKS(g, 1, 0);

	restrict_and_map(g, entries, ARRAY_SIZE(entries));
	layers_batch(g->vm, entries, ARRAY_SIZE(entries));
	RWX_ASSERT_MAPS(g, 7, PG_LEVEL_2M);
	rwx_check_all(g, 7, 0);
}

TEST_F(batch, pages_of_several_blocks_split_each)
{
	struct rwx_guest *g = &self->g;
	const struct kvm_memory_attributes_entry split[] = {
		whole(0, RWX_BLOCK + 3, 1, KMA_NX), whole(0, 5, 1, KMA_NX),
		whole(0, 9, 4, KMA_NX),
	};
	const struct kvm_memory_attributes_entry mend[] = {
		whole(0, 0, PAGES, KMA_NW), whole(0, RWX_BLOCK, RWX_BLOCK, 0),
	};

	if (!thp_configured())
		SKIP(return, "no transparent huge pages here");

	layers_batch(g->vm, split, ARRAY_SIZE(split));
	RWX_ASSERT_MAPS(g, 0, PG_LEVEL_4K);
	RWX_ASSERT_MAPS(g, RWX_BLOCK, PG_LEVEL_4K);
	layers_batch(g->vm, mend, ARRAY_SIZE(mend));
	rwx_unmap(g);
	RWX_ASSERT_MAPS(g, 0, PG_LEVEL_2M);
	RWX_ASSERT_MAPS(g, RWX_BLOCK, PG_LEVEL_2M);
	rwx_check_all(g, 5, KMA_NW);
	rwx_check_all(g, RWX_BLOCK + 3, 0);
}

/* --- PRIVATE --- */

FIXTURE(private) {
	struct kma_guest g;
	struct kma_view view;
};

FIXTURE_SETUP(private)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
	self->view = kma_view_of(self->g.vm);
	kma_prepare(&self->g, KMA_NONE);
}

FIXTURE_TEARDOWN(private)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

/* One entry for each page, to private or to shared. */
static u32 conversion(struct kvm_memory_attributes_entry *entries, u64 pages, u64 private)
{
	u32 nr = 0;

	for (u64 page = KMA_PAGES; page--; ) {
		if (pages & 1ull << page)
			entries[nr++] = entry(0, page, 1, private & 1ull << page ? KMA_PRIVATE : 0,
					      KMA_ALL_ATTRIBUTES);
	}
	return nr;
}

TEST_F(private, pages_become_private_and_shared_in_one_step)
{
	static const u64 patterns[] = { KMA_ODD, KMA_MIDDLE, KMA_EVEN, KMA_ALL, 1, 0 };
	struct kvm_memory_attributes_entry entries[KMA_PAGES];
	struct kma_guest *g = &self->g;
	u64 was = KMA_NONE;

	for (int i = 0; i < ARRAY_SIZE(patterns); i++) {
		u64 changed = was ^ patterns[i];

		layers_batch(g->vm, entries, conversion(entries, KMA_ALL, patterns[i]));
		KMA_ASSERT_FAULTS(g, 0, (struct kma_seen) {
			.private = patterns[i] & ~changed, .shared = ~patterns[i] & ~changed,
		});
		KMA_ASSERT_FAULTS(g, __builtin_popcountll(changed), (struct kma_seen) {
			.private = patterns[i] & changed, .shared = ~patterns[i] & changed,
		});
		was = patterns[i];
	}
}

/* What counts is what a page ends up with. */
TEST_F(private, restriction_that_goes_in_the_same_batch_is_no_reason)
{
	const struct kvm_memory_attributes_entry
		private = entry(0, 8, 16, KMA_PRIVATE, KMA_PRIVATE),
		restrict_it = whole(6, 10, 4, KMA_NW),
		drop = whole(6, 0, 60, 0),
		base = whole(0, 10, 4, KMA_NX),
		shared = entry(0, 0, 60, 0, KMA_PRIVATE);
	struct kvm_vm *vm = self->g.vm;

	layers_batch(vm, &restrict_it, 1);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 0, vm, &private, 1);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 1, vm, ENTRIES(restrict_it, private), 2);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 2, vm, ENTRIES(drop, private, restrict_it), 3);
	layers_batch(vm, ENTRIES(private, drop), 2);
	layers_assert(vm, LAYERS_UNION, private.address, private.size, KMA_PRIVATE);
	kma_look(&self->g, KMA_SEEN_PRIVATE(0xffffull << 8));

	/* Now the other way. */
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 0, vm, &restrict_it, 1);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 0, vm, &base, 1);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 2, vm, ENTRIES(shared, base, private), 3);
	layers_batch(vm, ENTRIES(restrict_it, base, shared), 3);
	layers_assert(vm, LAYERS_UNION, base.address, base.size, KMA_NW | KMA_NX);
	layers_assert(vm, 6, base.address, base.size, KMA_NW);
}

TEST_HARNESS_MAIN
