// SPDX-License-Identifier: GPL-2.0
/*
 * Random commands on random layers and ranges, held against a plain model that has
 * a word of each layer for each page: what is accepted and what is refused, and at
 * which page or entry, what is read back, and what the guest can do. Slots come and
 * go meanwhile.
 *
 * KMA_SEED repeats a run, KMA_STEPS says how long one is.
 */
/* seconds: release 120, debug 900 */
#include "kvm_memattr_layers.h"
#include "kvm_memattr_random.h"
#include "kvm_memattr_rwx_huge.h"

/* Steps with each type of VM, fewer on the kernel with all checks. */
#define STEPS		11000
#define DEBUG_SHARE	20

/* Two blocks and a bit; the slot has all but some at both ends. */
#define PAGES		(2 * RWX_BLOCK + 64)
#define MOST_ENTRIES	40

struct model {
	u8 word[LAYERS][PAGES];
};

struct fuzz {
	struct rwx_guest g;
	bool protected;
	bool slot;
	int gmem;
	struct model m;
	struct model old;
	struct kvm_memory_attributes_run runs[PAGES];
	struct {
		u64 sets, refused, batches, batches_refused, wholes, gets, accesses, denied, slots;
	} nr;
	/* For the message of a failure. */
	u64 step;
};

#define FUZZ_ASSERT(_f, _cond, _fmt, ...)					\
	TEST_ASSERT(_cond, "step %lu (KMA_SEED=%#lx): " _fmt, (_f)->step,	\
		    kma_seed, ##__VA_ARGS__)

static u64 page_gpa(u64 page)
{
	return KMA_GPA + page * PAGE_SIZE;
}

static u64 union_of(struct model *m, u64 page)
{
	u64 all = 0;

	for (u32 layer = 0; layer < LAYERS; layer++)
		all |= m->word[layer][page];
	return all;
}

static bool valid_word(u64 word)
{
	if (word & KMA_PRIVATE)
		return word == KMA_PRIVATE;
	return !(word & KMA_NR) || word == KMA_NO_ACCESS;
}

/* Can the page have what the model has for it? */
static bool valid(struct model *m, u64 page)
{
	for (u32 layer = 0; layer < LAYERS; layer++)
		if (!valid_word(m->word[layer][page]))
			return false;
	return valid_word(m->word[0][page]) &&
	       (!(m->word[0][page] & KMA_PRIVATE) || union_of(m, page) == KMA_PRIVATE);
}

static u64 random_word(struct fuzz *f, u32 layer)
{
	if (f->protected && !layer && kma_random_below(2))
		return KMA_PRIVATE;
	/* None is what makes room for PRIVATE, and for what the guest may do. */
	if (kma_random_below(4))
		return 0;
	return kma_restrictions[kma_random_below(ARRAY_SIZE(kma_restrictions))];
}

static void random_range(u64 *first, u64 *nr)
{
	u64 end;

	kma_random_range(PAGES, PAGES, 0, first, &end);
	*nr = end - *first;
	if (!*nr)
		*nr = 1;
}

/* --- commands --- */

static u64 apply(struct model *m, u32 layer, u64 first, u64 nr, u64 mask, u64 word)
{
	u64 bad = PAGES;

	for (u64 page = first; page < first + nr; page++) {
		u8 *at = &m->word[layer][page], old = *at;

		*at = (old & ~mask) | word;
		if (bad == PAGES && *at != old && !valid(m, page))
			bad = page;
	}
	return bad;
}

static void set2(struct fuzz *f, u32 layer, u64 first, u64 nr, u64 word, bool whole)
{
	struct kvm_memory_attributes2 attr, was;
	u64 bad;
	int ret;

	f->old = f->m;
	bad = apply(&f->m, layer, first, nr, ~0ull, word);
	attr = whole ? layers_attr(layer, 0, 0, word, LAYERS_WHOLE) :
		       layers_attr(layer, page_gpa(first), nr * PAGE_SIZE, word, 0);
	was = attr;
	ret = __layers_ioctl(f->g.vm, &attr);
	if (bad == PAGES) {
		FUZZ_ASSERT(f, !ret, "layer %u, [%lu, %lu), word %lx: errno %d at 0x%llx", layer,
			    first, first + nr, word, errno, attr.error_offset);
	} else {
		FUZZ_ASSERT(f, ret == -1 && errno == EINVAL && attr.error_offset == page_gpa(bad),
			    "layer %u, [%lu, %lu), word %lx: rc %d errno %d at 0x%llx, not page %lu",
			    layer, first, first + nr, word, ret, errno, attr.error_offset, bad);
		f->m = f->old;
		f->nr.refused++;
		was.error_offset = attr.error_offset;
	}
	FUZZ_ASSERT(f, !memcmp(&attr, &was, sizeof(attr)), "it has written more");
	f->nr.sets++;
}

static void set_range(struct fuzz *f)
{
	u32 layer = kma_random_below(LAYERS);
	u64 first, nr;

	random_range(&first, &nr);
	set2(f, layer, first, nr, random_word(f, layer), false);
}

/*
 * To nothing: a whole layer of something else is the guest's own memory, too. Pages
 * outside of what the model has, have nothing.
 */
static void clear_layer(struct fuzz *f)
{
	set2(f, kma_random_below(LAYERS), 0, PAGES, 0, true);
	f->nr.wholes++;
}

/* The command from before layers, or the one that a signal may stop. */
static void set_base(struct fuzz *f)
{
	struct kvm_memory_attributes attr = { .attributes = random_word(f, 0) };
	bool resumable = kma_random_below(2);
	u64 first, nr, bad;
	int ret;

	random_range(&first, &nr);
	attr.address = page_gpa(first);
	attr.size = nr * PAGE_SIZE;
	f->old = f->m;
	bad = apply(&f->m, 0, first, nr, ~0ull, attr.attributes);
	ret = __vm_ioctl(f->g.vm, resumable ? KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE :
			 KVM_SET_MEMORY_ATTRIBUTES, &attr);
	FUZZ_ASSERT(f, bad == PAGES ? !ret : ret == -1 && errno == EINVAL,
		    "[%lu, %lu), word %llx: rc %d errno %d, page %lu is bad", first, first + nr,
		    attr.attributes, ret, errno, bad);
	FUZZ_ASSERT(f, !resumable || ret || (!attr.size && attr.address == page_gpa(first + nr)),
		    "0x%llx bytes at 0x%llx are left", attr.size, attr.address);
	if (ret) {
		f->m = f->old;
		f->nr.refused++;
	}
	f->nr.sets++;
}

static struct kvm_memory_attributes_entry random_entry(struct fuzz *f)
{
	u32 layer = kma_random_below(LAYERS);
	u64 all = f->protected && !layer ? KMA_ALL_ATTRIBUTES : KMA_NO_ACCESS;
	u64 first, nr, mask, word = random_word(f, layer);

	random_range(&first, &nr);
	if (kma_random_below(4))
		nr = min(nr, (u64)16);
	switch (kma_random_below(4)) {
	case 0:
		/* A bit or two: what comes of it depends on the page. */
		do
			mask = kma_random() & all;
		while (!mask);
		word &= mask;
		break;
	default:
		mask = all;
	}
	return layers_entry(layer, page_gpa(first), nr * PAGE_SIZE, word, mask);
}

/* Is there a page that can have it, whatever it has otherwise? */
static bool possible(const struct kvm_memory_attributes_entry *e)
{
	u64 kept = KMA_NO_ACCESS & ~e->mask;

	for (u64 rest = 0; rest <= KMA_NO_ACCESS; rest++)
		if (!(rest & ~kept) && valid_word(e->attributes | rest))
			return true;
	return false;
}

/* Of what the page has in the layer, what cannot be together. */
static u64 conflict(struct model *m, u32 layer, u64 page)
{
	u64 word = m->word[layer][page];

	if (m->word[0][page] & KMA_PRIVATE)
		return word;
	return valid_word(word) ? 0 : KMA_NO_ACCESS;
}

/*
 * The entry to blame: the first one that no page can have, or else the first of
 * those that have the last say in what a page ends up with and cannot have.
 */
static u32 first_bad(struct fuzz *f, const struct kvm_memory_attributes_entry *entries, u32 nr)
{
	u32 bad = nr;

	for (u32 i = 0; i < nr; i++)
		if (!possible(&entries[i]))
			return i;

	for (u32 i = 0; i < nr; i++)
		apply(&f->m, entries[i].layer, (entries[i].address - KMA_GPA) / PAGE_SIZE,
		      entries[i].size / PAGE_SIZE, entries[i].mask, entries[i].attributes);

	for (u64 page = 0; page < PAGES; page++) {
		u64 gpa = page_gpa(page);

		if (valid(&f->m, page))
			continue;
		for (u32 i = nr; i--; ) {
			if (gpa - entries[i].address < entries[i].size &&
			    entries[i].mask & conflict(&f->m, entries[i].layer, page)) {
				bad = min(bad, i);
				break;
			}
		}
	}
	return bad;
}

static void set_batch(struct fuzz *f)
{
	struct kvm_memory_attributes_entry entries[MOST_ENTRIES];
	u32 nr = kma_random_log(MOST_ENTRIES), bad;
	struct kvm_memory_attributes_batch batch;
	int ret;

	for (u32 i = 0; i < nr; i++)
		entries[i] = random_entry(f);
	f->old = f->m;
	bad = first_bad(f, entries, nr);
	batch = layers_batch_of(entries, nr);
	ret = __layers_batch(f->g.vm, &batch);
	if (bad == nr) {
		FUZZ_ASSERT(f, !ret && batch.error_index == LAYERS_UNWRITTEN_INDEX,
			    "a batch of %u: rc %d errno %d, entry %u", nr, ret, errno,
			    batch.error_index);
	} else {
		FUZZ_ASSERT(f, ret == -1 && errno == EINVAL && batch.error_index == bad,
			    "a batch of %u: rc %d errno %d, entry %u, not %u", nr, ret, errno,
			    batch.error_index, bad);
		f->m = f->old;
		f->nr.batches_refused++;
	}
	f->nr.batches++;
}

/* One view of a part of it, or of all. */
static void check_view(struct fuzz *f, u32 layer, u64 first, u64 nr)
{
	u32 room = kma_random_log(PAGES), nr_runs;
	u64 page = first, next = page_gpa(first);

	while (page < first + nr) {
		nr_runs = layers_get(f->g.vm->fd, layer, next, page_gpa(first + nr) - next, f->runs,
				     room, &next);
		for (u32 i = 0; i < nr_runs; i++) {
			for (u64 end = page + f->runs[i].size / PAGE_SIZE; page < end; page++) {
				u64 want = layer == LAYERS_UNION ? union_of(&f->m, page) :
					   f->m.word[layer][page];

				FUZZ_ASSERT(f, f->runs[i].attributes == want,
					    "layer %d of page %lu is 0x%llx, not 0x%lx",
					    (int)layer, page, f->runs[i].attributes, want);
			}
		}
	}
	f->nr.gets++;
}

static void get_range(struct fuzz *f)
{
	u32 layer = kma_random_below(LAYERS + 4);
	u64 first, nr;

	random_range(&first, &nr);
	check_view(f, layer < LAYERS ? layer : LAYERS_UNION, first, nr);
}

/* --- the guest --- */

static void set_slot(struct fuzz *f, bool there)
{
	vm_set_user_memory_region2(f->g.vm, KMA_SLOT, f->gmem >= 0 ? KVM_MEM_GUEST_MEMFD : 0,
				   KMA_GPA, there ? PAGES * PAGE_SIZE : 0, f->g.region->host_mem,
				   f->gmem, 0);
	f->slot = there;
	f->nr.slots++;
}

/* Not where it is private: what the guest finds there is no matter of layers. */
static void access_page(struct fuzz *f)
{
	u64 page = kma_random_below(2 * RWX_BLOCK), op = kma_random_below(RWX_NR_OPS);
	u64 word = union_of(&f->m, page), flag = rwx_denied_flag(word, op);

	if (!f->slot || word & KMA_PRIVATE)
		return;
	f->nr.accesses++;
	rwx_issue(&f->g, op, page);
	if (!flag) {
		int ret = _vcpu_run(f->g.vcpu);

		FUZZ_ASSERT(f, !ret, "%s page %lu with %lx: errno %d flags 0x%llx gpa 0x%llx",
			    rwx_op_names[op], page, word, errno,
			    f->g.vcpu->run->memory_fault.flags, f->g.vcpu->run->memory_fault.gpa);
		TEST_ASSERT_EQ(get_ucall(f->g.vcpu, &(struct ucall) {}), UCALL_SYNC);
		return;
	}
	f->nr.denied++;
	rwx_assert_exit(f->g.vcpu, page_gpa(page), flag);
	rwx_abandon(&f->g);
}

static void step(struct fuzz *f)
{
	u64 what = kma_random_below(1000);

	if (what < 220)
		set_range(f);
	else if (what < 270)
		set_base(f);
	else if (what < 290)
		clear_layer(f);
	else if (what < 480)
		set_batch(f);
	else if (what < 620)
		get_range(f);
	else if (what < (f->slot ? 624 : 660))
		set_slot(f, !f->slot);
	else
		access_page(f);
}

static void check_everything(struct fuzz *f)
{
	for (u32 layer = 0; layer < LAYERS; layer++)
		check_view(f, layer, 0, PAGES);
	check_view(f, LAYERS_UNION, 0, PAGES);
	if (!f->slot)
		set_slot(f, true);
	for (u64 page = 0; page < 2 * RWX_BLOCK; page += 3) {
		u64 word = union_of(&f->m, page);

		if (!(word & KMA_PRIVATE))
			rwx_check_all(&f->g, page, word);
	}
	/* And what is not in the model has been left alone. */
	layers_assert(f->g.vm, LAYERS_UNION, 0, KMA_GPA, 0);
	layers_assert(f->g.vm, LAYERS_UNION, page_gpa(PAGES), LAYERS_ALL - page_gpa(PAGES), 0);
}

static void fuzz_init(struct fuzz *f, u32 type)
{
	struct rwx_guest *g = &f->g;

	f->protected = type == KVM_X86_SW_PROTECTED_VM;
	rwx_create(g, type, PAGES, VM_MEM_SRC_ANONYMOUS_THP);
	virt_map(g->vm, g->gpa, g->gpa, PAGES);
	vcpu_regs_get(g->vcpu, &rwx_entry);
	rwx_run(g->vcpu);
	f->slot = true;
	f->gmem = -1;
}

FIXTURE(fuzz) {
};

FIXTURE_VARIANT(fuzz) {
	u32 type;
	const char *name;
};

FIXTURE_VARIANT_ADD(fuzz, default) {
	.type = KVM_X86_DEFAULT_VM,
	.name = "default VM",
};

FIXTURE_VARIANT_ADD(fuzz, protected) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.name = "protected VM",
};

FIXTURE_SETUP(fuzz)
{
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");
}

FIXTURE_TEARDOWN(fuzz)
{
}

/* As long as KMA_STEPS takes. */
TEST_F_TIMEOUT(fuzz, every_outcome_is_the_models, 100000)
{
	struct fuzz *f = layers_alloc(1, sizeof(*f));
	u64 steps = kma_steps(STEPS, DEBUG_SHARE);

	kma_random_init();
	fuzz_init(f, variant->type);
	for (f->step = 0; f->step < steps; f->step++)
		step(f);
	check_everything(f);

	printf("# figure: %s: %lu sets, %lu refused, %lu whole layers; %lu batches, %lu refused; ",
	       variant->name, f->nr.sets, f->nr.refused, f->nr.wholes, f->nr.batches,
	       f->nr.batches_refused);
	printf("%lu gets, %lu accesses, %lu denied, %lu slots\n", f->nr.gets, f->nr.accesses,
	       f->nr.denied, f->nr.slots);
	kvm_vm_free(f->g.vm);
	free(f);
}

TEST_HARNESS_MAIN
