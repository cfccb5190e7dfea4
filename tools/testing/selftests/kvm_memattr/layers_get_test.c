// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_GET_MEMORY_ATTRIBUTES: what is set, as runs without gaps, of a layer or of
 * what all of them come to, on from where there was no room left; of a guest_memfd
 * what is private in it. What was read can be set again, elsewhere.
 */
#include "kvm_memattr_gmem.h"
#include "kvm_memattr_layers.h"
#include "kvm_memattr_random.h"

#define NR_WORDS	5
static const u64 words[NR_WORDS] = { 0, KMA_NW, KMA_NX, KMA_NW | KMA_NX, KMA_NO_ACCESS };

#define MODEL_PAGES	1500ull

/* What each page has, of pages from KMA_GPA on. */
struct model {
	u8 word[LAYERS][MODEL_PAGES];
};

FIXTURE(get) {
	struct kvm_vm *vm;
};

FIXTURE_SETUP(get)
{
	KMA_REQUIRE_PROTECTED_VMS();
	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
}

FIXTURE_TEARDOWN(get)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

static u64 gpa_of(u64 page)
{
	return KMA_GPA + page * PAGE_SIZE;
}

static void set(struct kvm_vm *vm, u32 layer, u64 page, u64 nr, u64 word)
{
	layers_set(vm, layer, gpa_of(page), nr * PAGE_SIZE, word);
}

struct want {
	u64 nr;
	u64 attributes;
};

/* Exactly these runs, one after the other, from a page on. */
#define ASSERT_RUNS(_vm, _layer, _page, ...)					\
	assert_runs(_vm, _layer, _page, (struct want[]) { __VA_ARGS__ },	\
		    sizeof((struct want[]) { __VA_ARGS__ }) / sizeof(struct want))

static void assert_runs(struct kvm_vm *vm, u32 layer, u64 page, const struct want *want, u32 nr)
{
	struct kvm_memory_attributes_run runs[32];
	u64 pages = 0;

	for (u32 i = 0; i < nr; i++)
		pages += want[i].nr;
	/* With more room than it takes, and with just enough. */
	for (u32 room = ARRAY_SIZE(runs); room >= nr; room -= ARRAY_SIZE(runs) - nr) {
		TEST_ASSERT_EQ(layers_get(vm->fd, layer, gpa_of(page), pages * PAGE_SIZE, runs,
					  room, NULL), nr);
		for (u32 i = 0; i < nr; i++) {
			TEST_ASSERT_EQ(runs[i].size, want[i].nr * PAGE_SIZE);
			TEST_ASSERT_EQ(runs[i].attributes, want[i].attributes);
		}
		if (room == nr)
			break;
	}
}

TEST_F(get, nothing_is_one_run)
{
	for (u32 layer = 0; layer < LAYERS; layer++)
		layers_assert(self->vm, layer, 0, LAYERS_ALL, 0);
	layers_assert(self->vm, LAYERS_UNION, 0, LAYERS_ALL, 0);
	layers_assert(self->vm, LAYERS_UNION, 0, PAGE_SIZE, 0);
	layers_assert(self->vm, 0, LAYERS_ALL - PAGE_SIZE, PAGE_SIZE, 0);
}

TEST_F(get, runs_of_a_layer_are_those_that_were_set)
{
	struct kvm_vm *vm = self->vm;

	for (u32 layer = 0; layer < LAYERS; layer++) {
		set(vm, layer, 10, 5, KMA_NW);
		set(vm, layer, 15, 1, KMA_NX);
		set(vm, layer, 20, 600, KMA_NO_ACCESS);
		ASSERT_RUNS(vm, layer, 0, { 10, 0 }, { 5, KMA_NW }, { 1, KMA_NX }, { 4, 0 },
			    { 600, KMA_NO_ACCESS }, { 380, 0 });
		/* From within a run to within a run. */
		ASSERT_RUNS(vm, layer, 12, { 3, KMA_NW }, { 1, KMA_NX }, { 4, 0 },
			    { 7, KMA_NO_ACCESS });
		ASSERT_RUNS(vm, layer, 100, { 5, KMA_NO_ACCESS });
		layers_set_whole(vm, layer, 0);
	}
}

TEST_F(get, union_has_its_own_runs)
{
	struct kvm_vm *vm = self->vm;

	set(vm, 1, 10, 10, KMA_NW);
	set(vm, 2, 20, 10, KMA_NW);
	set(vm, 15, 15, 10, KMA_NX);
	ASSERT_RUNS(vm, LAYERS_UNION, 0, { 10, 0 }, { 5, KMA_NW }, { 10, KMA_NW | KMA_NX },
		    { 5, KMA_NW }, { 10, 0 });
	ASSERT_RUNS(vm, 1, 0, { 10, 0 }, { 10, KMA_NW }, { 20, 0 });
	ASSERT_RUNS(vm, 2, 0, { 20, 0 }, { 10, KMA_NW }, { 10, 0 });
	ASSERT_RUNS(vm, 15, 0, { 15, 0 }, { 10, KMA_NX }, { 15, 0 });
	ASSERT_RUNS(vm, 0, 0, { 40, 0 });

	/* Covered as a whole, it shows no more of them. */
	set(vm, 9, 0, 64, KMA_NO_ACCESS);
	ASSERT_RUNS(vm, LAYERS_UNION, 0, { 64, KMA_NO_ACCESS }, { 64, 0 });
}

TEST_F(get, private_is_the_base_layers)
{
	struct kvm_vm *vm = self->vm;

	set(vm, 0, 10, 10, KMA_PRIVATE);
	set(vm, 0, 20, 10, KMA_NX);
	set(vm, 4, 30, 10, KMA_NW);
	ASSERT_RUNS(vm, 0, 0, { 10, 0 }, { 10, KMA_PRIVATE }, { 10, KMA_NX }, { 70, 0 });
	ASSERT_RUNS(vm, 4, 0, { 30, 0 }, { 10, KMA_NW }, { 60, 0 });
	ASSERT_RUNS(vm, LAYERS_UNION, 0, { 10, 0 }, { 10, KMA_PRIVATE }, { 10, KMA_NX },
		    { 10, KMA_NW }, { 60, 0 });
}

static u64 union_of(struct model *m, u64 page)
{
	u64 all = 0;

	for (u32 layer = 0; layer < LAYERS; layer++)
		all |= m->word[layer][page];
	return all;
}

static u64 word_of(struct model *m, u32 layer, u64 page)
{
	return layer == LAYERS_UNION ? union_of(m, page) : m->word[layer][page];
}

/* The runs of [first, end), a few at a time, on from where the last answer ended. */
static void read_in_parts(struct kvm_vm *vm, struct model *m, u32 layer, u64 first, u64 end,
			  u32 room)
{
	struct kvm_memory_attributes_run runs[8];
	u64 before = ~0ull, page = first;

	while (page < end) {
		u64 next;
		u32 nr = layers_get(vm->fd, layer, gpa_of(page), (end - page) * PAGE_SIZE, runs,
				    room, &next);

		TEST_ASSERT(runs[0].attributes != before,
			    "room for %u: what begins at page %lu is the run before it", room,
			    page);
		for (u32 i = 0; i < nr; i++) {
			for (u64 last = page + runs[i].size / PAGE_SIZE; page < last; page++)
				TEST_ASSERT(runs[i].attributes == word_of(m, layer, page),
					    "room for %u: layer %d of page %lu: 0x%llx, not 0x%lx",
					    room, (int)layer, page, runs[i].attributes,
					    word_of(m, layer, page));
			before = runs[i].attributes;
		}
		TEST_ASSERT_EQ(next, gpa_of(page));
	}
	TEST_ASSERT_EQ(page, end);
}

static void set_at_random(struct kvm_vm *vm, struct model *m, int steps)
{
	for (int i = 0; i < steps; i++) {
		u64 first = kma_random_below(MODEL_PAGES);
		u64 nr = kma_random_log(MODEL_PAGES - first);
		u64 word = words[kma_random_below(NR_WORDS)];
		u32 layer = kma_random_below(LAYERS);

		set(vm, layer, first, nr, word);
		for (u64 page = first; page < first + nr; page++)
			m->word[layer][page] = word;
	}
}

TEST_F_TIMEOUT(get, what_is_read_in_parts_is_all_there_is, 240)
{
	static struct model m;

	kma_random_init();
	for (int i = 0; i < 15; i++) {
		set_at_random(self->vm, &m, 30);
		for (u32 layer = 0; layer <= LAYERS; layer++) {
			u64 first = kma_random_below(MODEL_PAGES);
			u64 end = first + 1 + kma_random_below(MODEL_PAGES - first);

			read_in_parts(self->vm, &m, layer == LAYERS ? LAYERS_UNION : layer,
				      first, end, 1 + (layer + i) % 8);
		}
		read_in_parts(self->vm, &m, LAYERS_UNION, 0, MODEL_PAGES, 1);
		read_in_parts(self->vm, &m, i, 0, MODEL_PAGES, 1);
	}
}

/* Alternate pages: one run more than an answer can have. */
TEST_F(get, no_answer_has_more_than_4096_runs)
{
	struct kvm_memory_attributes_run *runs = layers_alloc(2 * GET_MOST, sizeof(*runs));
	struct kvm_memory_attributes_entry *entries = layers_alloc(BATCH_MOST, sizeof(*entries));
	struct kvm_vm *vm = self->vm;
	u64 next;

	for (u64 i = 0; i < BATCH_MOST; i++)
		entries[i] = layers_entry(3, gpa_of(2 * i), PAGE_SIZE, KMA_NX, KMA_NX);
	layers_batch(vm, entries, BATCH_MOST);
	TEST_ASSERT_EQ(layers_get(vm->fd, 3, KMA_GPA, SZ_1G, runs, 2 * GET_MOST, &next),
		       GET_MOST);
	TEST_ASSERT_EQ(next, gpa_of(GET_MOST));
	TEST_ASSERT_EQ(layers_get(vm->fd, 3, KMA_GPA, SZ_1G, runs, ~0u, &next), GET_MOST);
	TEST_ASSERT_EQ(runs[2 * GET_MOST - 1].size, 0);

	/* Exactly that many. */
	TEST_ASSERT_EQ(layers_get(vm->fd, 3, next, gpa_of(2 * GET_MOST) - next, runs, GET_MOST,
				  &next), GET_MOST);
	TEST_ASSERT_EQ(next, gpa_of(2 * GET_MOST));
	/* And to another layer all of this is one. */
	layers_assert(vm, 4, KMA_GPA, SZ_1G, 0);
	set(vm, 4, 0, 2 * BATCH_MOST, KMA_NX);
	layers_assert(vm, LAYERS_UNION, KMA_GPA, 2 * BATCH_MOST * PAGE_SIZE, KMA_NX);
	free(runs);
	free(entries);
}

/*
 * Runs of other layers are looked at, too, but no more than so many an answer: one
 * that ends for that has room left, and the next answer goes on with the same run.
 */
TEST_F_TIMEOUT(get, answer_that_took_long_is_gone_on_with, 240)
{
	struct kvm_memory_attributes_entry *entries = layers_alloc(BATCH_MOST, sizeof(*entries));
	const u64 nr_runs = 18 * BATCH_MOST, end = gpa_of(2 * nr_runs);
	struct kvm_memory_attributes_run runs[4];
	int answers = 0;

	for (u64 n = 0; n < nr_runs; n += BATCH_MOST) {
		for (u64 i = 0; i < BATCH_MOST; i++)
			entries[i] = layers_entry(3, gpa_of(2 * (n + i)), PAGE_SIZE, KMA_NX,
						  KMA_NX);
		layers_batch(self->vm, entries, BATCH_MOST);
	}
	layers_set(self->vm, 4, KMA_GPA, end - KMA_GPA, KMA_NW);
	for (u64 at = KMA_GPA, next; at < end; at = next) {
		struct kvm_memory_attributes_get get = layers_get_of(4, at, end - at, runs, 4);

		TEST_ASSERT(!__layers_get(self->vm->fd, &get), "%s", strerror(errno));
		next = get.next;
		TEST_ASSERT(get.nr == 1 && runs[0].start == at && runs[0].size &&
			    runs[0].attributes == KMA_NW && next == at + runs[0].size,
			    "%u runs, 0x%llx at 0x%llx for 0x%llx, next is 0x%lx", get.nr,
			    runs[0].attributes, runs[0].start, runs[0].size, next);
		answers++;
	}
	TEST_ASSERT(answers > 1 && answers < 8, "%d answers", answers);
	free(entries);
}

TEST_F(get, all_addresses_at_once)
{
	struct kvm_memory_attributes_run runs[16];
	struct kvm_vm *vm = self->vm;

	layers_set(vm, 5, 0, PAGE_SIZE, KMA_NW);
	layers_set(vm, 5, BIT_ULL(45), SZ_1G, KMA_NX);
	layers_set(vm, 5, LAYERS_ALL - PAGE_SIZE, PAGE_SIZE, KMA_NO_ACCESS);
	TEST_ASSERT_EQ(layers_get(vm->fd, 5, 0, LAYERS_ALL, runs, 16, NULL), 5);
	TEST_ASSERT_EQ(runs[0].attributes, KMA_NW);
	TEST_ASSERT_EQ(runs[1].size, BIT_ULL(45) - PAGE_SIZE);
	TEST_ASSERT_EQ(runs[2].start, BIT_ULL(45));
	TEST_ASSERT_EQ(runs[4].start, LAYERS_ALL - PAGE_SIZE);
	TEST_ASSERT_EQ(runs[4].attributes, KMA_NO_ACCESS);
	layers_set_whole(vm, 6, KMA_NO_ACCESS);
	layers_assert(vm, LAYERS_UNION, 0, LAYERS_ALL, KMA_NO_ACCESS);
}

/* It answers what was asked for, and nothing but nr and next: see layers_get(). */
TEST_F(get, reading_changes_nothing)
{
	struct kma_view view = kma_view_of(self->vm);
	static struct model m;
	u64 nodes, sets;
	char *runs;

	kma_random_init();
	set_at_random(self->vm, &m, 60);
	runs = kma_runs(&view);
	nodes = kma_stat(&view, "nodes");
	sets = kma_stat(&view, "sets") + kma_stat(&view, "sets_unchanged");
	for (u32 layer = 0; layer < LAYERS; layer++)
		read_in_parts(self->vm, &m, layer, 0, MODEL_PAGES, 8);
	kma_assert_runs(&view, runs);
	TEST_ASSERT_EQ(kma_stat(&view, "nodes"), nodes);
	TEST_ASSERT_EQ(kma_stat(&view, "sets") + kma_stat(&view, "sets_unchanged"), sets);
	free(runs);
}

/* All that a VM has, by layer. To be freed. */
static struct kvm_memory_attributes_entry *save(struct kvm_vm *vm, u32 *nr)
{
	struct kvm_memory_attributes_entry *entries = layers_alloc(4 * BATCH_MOST,
								   sizeof(*entries));
	struct kvm_memory_attributes_run runs[100];
	u64 next;

	*nr = 0;
	for (u32 layer = 0; layer < LAYERS; layer++) {
		u64 all = layer ? KMA_NO_ACCESS : KMA_ALL_ATTRIBUTES;

		for (u64 at = 0; at < LAYERS_ALL; at = next) {
			u32 got = layers_get(vm->fd, layer, at, LAYERS_ALL - at, runs,
					     ARRAY_SIZE(runs), &next);

			for (u32 i = 0; i < got; i++) {
				if (!runs[i].attributes)
					continue;
				TEST_ASSERT(*nr < 4 * BATCH_MOST, "more runs than expected");
				entries[(*nr)++] = layers_entry(layer, runs[i].start, runs[i].size,
								runs[i].attributes, all);
			}
		}
	}
	return entries;
}

TEST_F(get, what_was_read_can_be_restored)
{
	struct kvm_memory_attributes_entry *saved = NULL, *again;
	u32 nr, nr_again, at, step;
	static struct model m;
	struct kma_view view;
	char *runs;

	kma_random_init();
	view = kma_view_of(self->vm);
	set(self->vm, 0, MODEL_PAGES + 7, 50, KMA_PRIVATE);
	layers_set(self->vm, 0, BIT_ULL(50), SZ_1G, KMA_PRIVATE);
	layers_set(self->vm, 12, BIT_ULL(44), BIT_ULL(43), KMA_NX);
	/* Sets of nearly all pages may come last and leave few runs, which show little. */
	do {
		set_at_random(self->vm, &m, 200);
		free(saved);
		saved = save(self->vm, &nr);
	} while (nr < 100);
	runs = kma_runs(&view);

	kvm_vm_free(self->vm);
	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	view = kma_view_of(self->vm);
	kma_assert_runs(&view, "");
	for (at = 0; at < nr; at += step) {
		step = min(nr - at, (u32)BATCH_MOST);
		layers_batch(self->vm, saved + at, step);
	}
	kma_assert_runs(&view, runs);
	again = save(self->vm, &nr_again);
	TEST_ASSERT(nr == nr_again && !memcmp(saved, again, nr * sizeof(*saved)),
		    "it is not the same that was restored");
	read_in_parts(self->vm, &m, LAYERS_UNION, 0, MODEL_PAGES, 8);
	printf("# figure: %u runs were restored\n", nr);
	free(runs);
	free(saved);
	free(again);
}

/* --- of a guest_memfd --- */

FIXTURE(file) {
	struct gmem m;
};

FIXTURE_VARIANT(file) {
	u64 flags;
	bool private;
};

FIXTURE_VARIANT_ADD(file, begins_shared) {
	.flags = GMEM_SHARED,
	.private = false,
};

FIXTURE_VARIANT_ADD(file, begins_private) {
	.flags = GMEM_IN_PLACE,
	.private = true,
};

FIXTURE_SETUP(file)
{
	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(&self->m, KVM_X86_SW_PROTECTED_VM, variant->flags);
}

FIXTURE_TEARDOWN(file)
{
	gmem_free(&self->m);
}

/* By either name of it, and with any room. */
static void assert_file(int fd, u64 private)
{
	static const u32 names[] = { 0, LAYERS_UNION };
	struct kvm_memory_attributes_run runs[KMA_PAGES];

	for (int i = 0; i < ARRAY_SIZE(names); i++) {
		for (u32 room = 1; room <= KMA_PAGES; room = 4 * room) {
			u64 seen = 0;

			for (u64 at = 0, next; at < KMA_SIZE; at = next) {
				u32 nr = layers_get(fd, names[i], at, KMA_SIZE - at, runs, room,
						    &next);

				for (u32 n = 0; n < nr; n++) {
					u64 first = runs[n].start / PAGE_SIZE;
					u64 last = first + runs[n].size / PAGE_SIZE - 1;

					TEST_ASSERT(!(runs[n].attributes & ~KMA_PRIVATE),
						    "0x%llx", runs[n].attributes);
					if (runs[n].attributes)
						seen |= GENMASK_ULL(last, first);
				}
			}
			TEST_ASSERT(seen == private, "wanted %016lx private, got %016lx", private,
				    seen);
		}
	}
}

TEST_F(file, what_is_private_is_read)
{
	static const u64 patterns[] = { KMA_MIDDLE, KMA_ODD, ~KMA_MIDDLE, 1, 1ull << 63 };
	struct gmem *m = &self->m;

	assert_file(m->fd, variant->private ? KMA_ALL : KMA_NONE);
	for (int i = 0; i < ARRAY_SIZE(patterns); i++) {
		gmem_set(m, KMA_ALL, i % 2 ? KMA_PRIVATE : 0, 0);
		gmem_set(m, patterns[i], KMA_PRIVATE, 0);
		gmem_set(m, ~patterns[i], 0, 0);
		assert_file(m->fd, patterns[i]);
		GMEM_ASSERT_PRIVATE(m, patterns[i]);
	}
}

/* A VMM saves a VM and its file, and makes others that are the same. */
TEST_F(file, what_was_read_can_be_restored)
{
	const u64 private = KMA_ODD ^ KMA_MIDDLE;
	struct kvm_memory_attributes_run of_vm[4], of_file[KMA_PAGES];
	struct gmem *m = &self->m;
	u32 nr_of_vm, nr_of_file;

	gmem_set(m, private, KMA_PRIVATE, 0);
	gmem_set(m, ~private, 0, 0);
	layers_set(m->g.vm, 2, m->g.gpa, KMA_SIZE / 2, KMA_NX);
	nr_of_vm = layers_get(m->g.vm->fd, 2, m->g.gpa, KMA_SIZE, of_vm, ARRAY_SIZE(of_vm), NULL);
	nr_of_file = layers_get(m->fd, 0, 0, KMA_SIZE, of_file, KMA_PAGES, NULL);

	gmem_free(m);
	gmem_init(m, KVM_X86_SW_PROTECTED_VM, variant->flags);
	for (u32 i = 0; i < nr_of_vm; i++)
		layers_batch(m->g.vm, ENTRIES(layers_entry(2, of_vm[i].start, of_vm[i].size,
							   of_vm[i].attributes, KMA_NO_ACCESS)),
			     1);
	for (u32 i = 0; i < nr_of_file; i++)
		GMEM_ASSERT_SET(m->fd, of_file[i].start, of_file[i].size, of_file[i].attributes,
				GMEM_PRESERVE);
	assert_file(m->fd, private);
	GMEM_ASSERT_PRIVATE(m, private);
	layers_assert(m->g.vm, 2, m->g.gpa, KMA_SIZE / 2, KMA_NX);
	layers_assert(m->g.vm, 2, m->g.gpa + KMA_SIZE / 2, KMA_SIZE / 2, 0);
}

/* Each answers what its own commands have set. */
TEST_F(file, vm_and_file_answer_for_themselves)
{
	struct gmem *m = &self->m;
	struct kvm_vm *vm = m->g.vm;

	gmem_set(m, KMA_ALL, 0, 0);
	gmem_set(m, KMA_MIDDLE, KMA_PRIVATE, 0);
	layers_set(vm, 2, m->g.gpa, KMA_SIZE, KMA_NX);
	assert_file(m->fd, KMA_MIDDLE);
	layers_assert(vm, 2, m->g.gpa, KMA_SIZE, KMA_NX);
	layers_assert(vm, 0, m->g.gpa, KMA_SIZE, 0);
	layers_assert(vm, LAYERS_UNION, m->g.gpa, KMA_SIZE, KMA_NX);
}

TEST_F(file, part_of_a_file_and_its_end)
{
	struct kvm_memory_attributes_run run;
	struct gmem *m = &self->m;

	gmem_set(m, KMA_ALL, 0, 0);
	gmem_set(m, KMA_MIDDLE, KMA_PRIVATE, 0);
	TEST_ASSERT_EQ(layers_get(m->fd, 0, 20 * PAGE_SIZE, 8 * PAGE_SIZE, &run, 1, NULL), 1);
	TEST_ASSERT_EQ(run.attributes, KMA_PRIVATE);
	TEST_ASSERT_EQ(run.size, 8 * PAGE_SIZE);
	TEST_ASSERT_EQ(layers_get(m->fd, 0, KMA_SIZE - PAGE_SIZE, PAGE_SIZE, &run, 1, NULL), 1);
	TEST_ASSERT_EQ(run.attributes, 0);
}

/* The state is the file's, and not its VM's. */
TEST_F(file, file_answers_without_a_slot)
{
	struct gmem *m = &self->m;

	gmem_set(m, KMA_ALL, 0, 0);
	gmem_set(m, KMA_ODD, KMA_PRIVATE, 0);
	vm_mem_region_delete(m->g.vm, KMA_SLOT);
	assert_file(m->fd, KMA_ODD);
}

TEST_HARNESS_MAIN
