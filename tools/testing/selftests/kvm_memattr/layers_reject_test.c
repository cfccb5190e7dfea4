// SPDX-License-Identifier: GPL-2.0
/*
 * What the commands for layers, batches, reading back and resumable sets refuse,
 * with which errno, what they say about where, and that a call that was refused has
 * changed nothing: not what is held, not a mapping, not its own argument.
 */
#include <sys/wait.h>

#include "kvm_memattr_gmem.h"
#include "kvm_memattr_layers.h"

#define UNWRITTEN	LAYERS_UNWRITTEN
#define NO_INDEX	LAYERS_UNWRITTEN_INDEX

/* Some of each kind, so that it shows if anything changes. */
FIXTURE(reject) {
	struct kma_guest g;
	struct kma_view view;
	struct kvm_vm *vm;
	u64 gpa;
	char *runs;
	u64 pages_set;
	u64 runs_zapped;
};

FIXTURE_SETUP(reject)
{
	struct kma_guest *g = &self->g;

	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(g);
	kma_prepare(g, KMA_MIDDLE);
	self->vm = g->vm;
	self->gpa = g->gpa;
	layers_set(g->vm, 3, g->gpa + 4 * PAGE_SIZE, 4 * PAGE_SIZE, KMA_NX);
	layers_set(g->vm, 15, g->gpa + 6 * PAGE_SIZE, 2 * PAGE_SIZE, KMA_NW);
	kma_look(g, KMA_SEEN_PRIVATE(KMA_MIDDLE));

	self->view = kma_view_of(g->vm);
	self->runs = kma_runs(&self->view);
	self->pages_set = kma_stat(&self->view, "pages_set");
	self->runs_zapped = kma_stat(&self->view, "runs_zapped");
}

static void assert_as_before(FIXTURE_DATA(reject) * self)
{
	kma_assert_runs(&self->view, self->runs);
	TEST_ASSERT_EQ(kma_stat(&self->view, "pages_set"), self->pages_set);
	TEST_ASSERT_EQ(kma_stat(&self->view, "runs_zapped"), self->runs_zapped);
}

FIXTURE_TEARDOWN(reject)
{
	if (!self->vm)
		return;

	assert_as_before(self);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN_PRIVATE(KMA_MIDDLE));
	free(self->runs);
	kvm_vm_free(self->vm);
}

static const u64 unaligned[] = { 1, 8, 511, 512, 2048, 4095 };

/* The last page before addresses wrap cannot be named, nor anything that does wrap. */
static const struct {
	u64 address;
	u64 size;
} bad_ranges[] = {
	{ KMA_GPA, 0 },
	{ 0, 0 },
	{ -PAGE_SIZE, 0 },
	{ -PAGE_SIZE, PAGE_SIZE },
	{ -PAGE_SIZE, 2 * PAGE_SIZE },
	{ KMA_GPA, -PAGE_SIZE },
	{ KMA_GPA, -KMA_GPA },
	{ KMA_GPA, PAGE_SIZE + 1 },
	{ KMA_GPA, 8 },
	{ KMA_GPA + 1, PAGE_SIZE },
	{ KMA_GPA + 512, PAGE_SIZE - 512 },
	{ KMA_GPA + 2048, 2 * PAGE_SIZE },
};

/* Calls @_refused(address, size) with each bad range. */
#define FOR_EACH_BAD_RANGE(_refused)						\
do {										\
	for (int __i = 0; __i < ARRAY_SIZE(bad_ranges); __i++)			\
		_refused(bad_ranges[__i].address, bad_ranges[__i].size);	\
	for (int __i = 0; __i < ARRAY_SIZE(unaligned); __i++) {			\
		_refused(self->gpa + unaligned[__i], KMA_SIZE);			\
		_refused(self->gpa, KMA_SIZE + unaligned[__i]);			\
		_refused(self->gpa + unaligned[__i], KMA_SIZE - unaligned[__i]);\
	}									\
} while (0)

/* No layer has these, or not all of them at once. */
static const u64 bad_words[] = {
	KMA_NR, KMA_NR | KMA_NW, KMA_NR | KMA_NX, KMA_PRIVATE | KMA_NW, KMA_PRIVATE | KMA_NX,
	KMA_PRIVATE | KMA_NO_ACCESS, BIT_ULL(4), BIT_ULL(7), BIT_ULL(31), BIT_ULL(32),
	BIT_ULL(63), ~0ull, KMA_NW | BIT_ULL(49),
};

/* --- KVM_SET_MEMORY_ATTRIBUTES2 --- */

#define ASSERT_SET2(...)							\
	LAYERS_ASSERT_FAILS(EINVAL, UNWRITTEN, self->vm, __VA_ARGS__)

TEST_F(reject, layer_that_is_not_there_is_einval)
{
	for (u32 layer = LAYERS; layer < 200; layer++)
		ASSERT_SET2(layer, self->gpa, KMA_SIZE, 0, 0);
	for (int bit = 4; bit < 32; bit++) {
		ASSERT_SET2(BIT(bit), self->gpa, KMA_SIZE, KMA_NX, 0);
		ASSERT_SET2(BIT(bit) | 3, self->gpa, KMA_SIZE, 0, 0);
		ASSERT_SET2(BIT(bit), 0, 0, 0, LAYERS_WHOLE);
	}
	ASSERT_SET2(LAYERS_UNION, self->gpa, KMA_SIZE, 0, 0);
	ASSERT_SET2(LAYERS_UNION, 0, 0, 0, LAYERS_WHOLE);
}

TEST_F(reject, bad_range_in_any_layer_is_einval)
{
#define REFUSED(_address, _size)						\
do {										\
	ASSERT_SET2(0, _address, _size, 0, 0);					\
	ASSERT_SET2(3, _address, _size, 0, 0);					\
	ASSERT_SET2(15, _address, _size, KMA_NX, 0);				\
} while (0)
	FOR_EACH_BAD_RANGE(REFUSED);
#undef REFUSED
}

TEST_F(reject, bad_attributes_in_any_layer_are_einval)
{
	for (u32 layer = 0; layer < LAYERS; layer++) {
		for (int i = 0; i < ARRAY_SIZE(bad_words); i++) {
			ASSERT_SET2(layer, self->gpa, KMA_SIZE, bad_words[i], 0);
			ASSERT_SET2(layer, 0, 0, bad_words[i], LAYERS_WHOLE);
		}
		if (layer)
			ASSERT_SET2(layer, self->gpa, KMA_SIZE, KMA_PRIVATE, 0);
	}
}

TEST_F(reject, whole_layer_with_a_range_is_einval)
{
	ASSERT_SET2(3, self->gpa, KMA_SIZE, 0, LAYERS_WHOLE);
	ASSERT_SET2(3, 0, PAGE_SIZE, 0, LAYERS_WHOLE);
	ASSERT_SET2(3, PAGE_SIZE, 0, 0, LAYERS_WHOLE);
	ASSERT_SET2(3, 1, 0, 0, LAYERS_WHOLE);
	ASSERT_SET2(3, 0, LAYERS_ALL, 0, LAYERS_WHOLE);
	ASSERT_SET2(3, 0, ~0ull, 0, LAYERS_WHOLE);
	/* And without the flag it is an empty range. */
	ASSERT_SET2(3, 0, 0, 0, 0);
}

TEST_F(reject, other_flags_with_a_whole_layer_are_refused)
{
	for (int bit = 4; bit < 64; bit++)
		ASSERT_SET2(3, 0, 0, 0, LAYERS_WHOLE | BIT_ULL(bit));
	ASSERT_SET2(3, 0, 0, 0, LAYERS_WHOLE | GMEM_ZERO | GMEM_NONE);
	for (int i = 1; i < ARRAY_SIZE(gmem_policies); i++)
		LAYERS_ASSERT_FAILS(EOPNOTSUPP, 0, self->vm, 3, 0, 0, 0,
				    LAYERS_WHOLE | gmem_policies[i]);
}

TEST_F(reject, pad_and_reserved_fields_of_a_whole_layer_are_einval)
{
	const struct kvm_memory_attributes2 good = layers_attr(3, 0, 0, 0, LAYERS_WHOLE);

	for (int bit = 0; bit < 32; bit++) {
		struct kvm_memory_attributes2 attr = good;

		attr.pad = BIT(bit);
		LAYERS_ASSERT_ATTR_FAILS(EINVAL, UNWRITTEN, self->vm, attr);
		attr = good;
		attr.reserved[bit % ARRAY_SIZE(attr.reserved)] = BIT_ULL(2 * bit);
		LAYERS_ASSERT_ATTR_FAILS(EINVAL, UNWRITTEN, self->vm, attr);
	}
}

TEST_F(reject, set_that_fails_without_a_place_to_say_where_is_efault)
{
	struct kvm_memory_attributes2 *attr = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE,
						       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	*attr = layers_attr(0, self->gpa, KMA_SIZE, KMA_PRIVATE, 0);
	TEST_ASSERT(!mprotect(attr, PAGE_SIZE, PROT_READ), "mprotect: %s", strerror(errno));
	KMA_ASSERT_ERRNO(EFAULT, __layers_ioctl(self->vm, attr));
}

/* --- KVM_SET_MEMORY_ATTRIBUTES_BATCH --- */

static struct kvm_memory_attributes_entry good_entry(u32 i)
{
	return layers_entry(i % LAYERS, KMA_GPA + SZ_1G + 2 * i * PAGE_SIZE, PAGE_SIZE, KMA_NW,
			    KMA_NO_ACCESS);
}

#define ENTRIES_OF_A_BATCH	5

/* One bad entry, in each place of a batch. */
static void assert_entry(struct kvm_vm *vm, int err, struct kvm_memory_attributes_entry bad)
{
	struct kvm_memory_attributes_entry entries[ENTRIES_OF_A_BATCH];

	for (u32 place = 0; place < ARRAY_SIZE(entries); place++) {
		for (u32 i = 0; i < ARRAY_SIZE(entries); i++)
			entries[i] = i == place ? bad : good_entry(i);
		LAYERS_ASSERT_BATCH_FAILS(err, place, vm, entries, ARRAY_SIZE(entries));
	}
}

#define ASSERT_ENTRY(...)	assert_entry(self->vm, EINVAL, layers_entry(__VA_ARGS__))

TEST_F(reject, number_of_entries_is_from_1_to_4096)
{
	struct kvm_memory_attributes_entry *entries = layers_alloc(BATCH_MOST + 1,
								   sizeof(*entries));

	for (u32 i = 0; i <= BATCH_MOST; i++)
		entries[i] = good_entry(i);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, NO_INDEX, self->vm, entries, 0);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, NO_INDEX, self->vm, entries, BATCH_MOST + 1);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, NO_INDEX, self->vm, entries, ~0u);
	/* The number goes before the pointer. */
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, NO_INDEX, self->vm, NULL, 0);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, NO_INDEX, self->vm, NULL, BATCH_MOST + 1);
	free(entries);
}

TEST_F(reject, each_flag_pad_and_reserved_bit_of_a_batch_is_einval)
{
	const struct kvm_memory_attributes_entry entry = good_entry(0);
	const struct kvm_memory_attributes_batch good = layers_batch_of(&entry, 1);

	for (int bit = 0; bit < 32; bit++) {
		struct kvm_memory_attributes_batch batch = good;

		batch.flags = BIT(bit);
		LAYERS_ASSERT_BATCH_OF_FAILS(EINVAL, NO_INDEX, self->vm, batch);
		batch = good;
		batch.pad = BIT(bit);
		LAYERS_ASSERT_BATCH_OF_FAILS(EINVAL, NO_INDEX, self->vm, batch);
	}
	for (int bit = 0; bit < 256; bit++) {
		struct kvm_memory_attributes_batch batch = good;

		batch.reserved[bit / 64] = BIT_ULL(bit % 64);
		LAYERS_ASSERT_BATCH_OF_FAILS(EINVAL, NO_INDEX, self->vm, batch);
	}
}

TEST_F(reject, each_pad_bit_of_an_entry_is_einval)
{
	for (int bit = 0; bit < 32; bit++) {
		struct kvm_memory_attributes_entry bad = good_entry(9);

		bad.pad = BIT(bit);
		assert_entry(self->vm, EINVAL, bad);
	}
}

TEST_F(reject, layer_of_an_entry_that_is_not_there_is_einval)
{
	for (u32 layer = LAYERS; layer < 2 * LAYERS; layer++)
		ASSERT_ENTRY(layer, self->gpa, KMA_SIZE, 0, KMA_NX);
	for (int bit = 5; bit < 32; bit++)
		ASSERT_ENTRY(BIT(bit), self->gpa, KMA_SIZE, 0, KMA_NX);
	ASSERT_ENTRY(LAYERS_UNION, self->gpa, KMA_SIZE, 0, KMA_NX);
}

TEST_F(reject, bad_range_of_an_entry_is_einval)
{
#define REFUSED(_address, _size)						\
do {										\
	ASSERT_ENTRY(0, _address, _size, 0, KMA_PRIVATE);			\
	ASSERT_ENTRY(3, _address, _size, KMA_NX, KMA_NX);			\
} while (0)
	FOR_EACH_BAD_RANGE(REFUSED);
#undef REFUSED
}

TEST_F(reject, mask_without_all_attributes_of_an_entry_is_einval)
{
	ASSERT_ENTRY(3, self->gpa, KMA_SIZE, 0, 0);
	ASSERT_ENTRY(0, self->gpa, KMA_SIZE, 0, 0);
	for (u64 mask = 0; mask <= KMA_NO_ACCESS; mask++) {
		for (u64 word = 1; word <= KMA_NO_ACCESS; word++) {
			if (word & ~mask)
				ASSERT_ENTRY(2, self->gpa + SZ_1G, PAGE_SIZE, word, mask);
		}
	}
	ASSERT_ENTRY(0, self->gpa, PAGE_SIZE, KMA_PRIVATE, KMA_NO_ACCESS);
}

TEST_F(reject, unknown_attributes_of_an_entry_are_einval)
{
	for (int bit = 4; bit < 64; bit++) {
		ASSERT_ENTRY(0, self->gpa, PAGE_SIZE, BIT_ULL(bit), BIT_ULL(bit));
		ASSERT_ENTRY(0, self->gpa, PAGE_SIZE, 0, BIT_ULL(bit));
		ASSERT_ENTRY(5, self->gpa, PAGE_SIZE, KMA_NX, KMA_NX | BIT_ULL(bit));
	}
	ASSERT_ENTRY(0, self->gpa, PAGE_SIZE, 0, ~0ull);
}

TEST_F(reject, private_in_another_layer_is_einval)
{
	for (u32 layer = 1; layer < LAYERS; layer++) {
		ASSERT_ENTRY(layer, self->gpa, PAGE_SIZE, KMA_PRIVATE, KMA_PRIVATE);
		ASSERT_ENTRY(layer, self->gpa, PAGE_SIZE, 0, KMA_PRIVATE);
		ASSERT_ENTRY(layer, self->gpa, PAGE_SIZE, 0, KMA_ALL_ATTRIBUTES);
	}
}

/* Whatever the page has: no page can have these. */
TEST_F(reject, what_no_page_can_have_is_einval)
{
	ASSERT_ENTRY(0, self->gpa, PAGE_SIZE, KMA_PRIVATE | KMA_NX, KMA_ALL_ATTRIBUTES);
	ASSERT_ENTRY(0, self->gpa, PAGE_SIZE, KMA_PRIVATE | KMA_NX, KMA_PRIVATE | KMA_NX);
	ASSERT_ENTRY(4, self->gpa + SZ_1G, PAGE_SIZE, KMA_NR, KMA_NO_ACCESS);
	ASSERT_ENTRY(4, self->gpa + SZ_1G, PAGE_SIZE, KMA_NR, KMA_NR | KMA_NW);
	ASSERT_ENTRY(4, self->gpa + SZ_1G, PAGE_SIZE, KMA_NR | KMA_NX, KMA_NO_ACCESS);
}

/* What a page has already, in the same layer or in another one, excludes it. */
TEST_F(reject, what_excludes_what_a_page_has_is_einval)
{
	const u64 private = self->gpa + 16 * PAGE_SIZE, restricted = self->gpa + 4 * PAGE_SIZE;

	ASSERT_ENTRY(0, private, PAGE_SIZE, KMA_NX, KMA_NX);
	ASSERT_ENTRY(0, private - PAGE_SIZE, 2 * PAGE_SIZE, KMA_NW, KMA_NO_ACCESS);
	for (u32 layer = 1; layer < LAYERS; layer++)
		ASSERT_ENTRY(layer, private, PAGE_SIZE, KMA_NX, KMA_NX);
	ASSERT_ENTRY(0, restricted, PAGE_SIZE, KMA_PRIVATE, KMA_ALL_ATTRIBUTES);
	ASSERT_ENTRY(0, restricted - PAGE_SIZE, 2 * PAGE_SIZE, KMA_PRIVATE, KMA_PRIVATE);
	ASSERT_ENTRY(3, restricted, PAGE_SIZE, KMA_NR, KMA_NR);
	ASSERT_ENTRY(3, restricted, PAGE_SIZE, KMA_NR, KMA_NR | KMA_NX);
}

/* An entry is found bad, by itself or by what pages have, before any of it is done. */
TEST_F(reject, first_bad_entry_is_named_whatever_is_wrong_with_it)
{
	struct kvm_memory_attributes_entry entries[ENTRIES_OF_A_BATCH];

	for (u32 i = 0; i < ARRAY_SIZE(entries); i++)
		entries[i] = good_entry(i);
	entries[2].mask = 0;
	entries[4].size = 0;
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 2, self->vm, entries, ARRAY_SIZE(entries));
	entries[2] = good_entry(2);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 4, self->vm, entries, ARRAY_SIZE(entries));
	/* The one at the lower address is not the first one. */
	entries[4] = layers_entry(0, self->gpa + 4 * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE,
				  KMA_PRIVATE);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 4, self->vm, entries, ARRAY_SIZE(entries));
	entries[1] = layers_entry(1, self->gpa + 16 * PAGE_SIZE, PAGE_SIZE, KMA_NX, KMA_NX);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 1, self->vm, entries, ARRAY_SIZE(entries));
}

TEST_F(reject, entries_that_cannot_be_read_are_efault)
{
	struct kvm_memory_attributes_entry *end, *none;
	void *pages = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	none = kvm_mmap(PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	kvm_munmap(pages + PAGE_SIZE, PAGE_SIZE);
	end = pages + PAGE_SIZE;
	for (int i = 1; i <= 8; i++)
		end[-i] = good_entry(i);

	LAYERS_ASSERT_BATCH_FAILS(EFAULT, NO_INDEX, self->vm, NULL, 1);
	LAYERS_ASSERT_BATCH_FAILS(EFAULT, NO_INDEX, self->vm, none, 1);
	LAYERS_ASSERT_BATCH_FAILS(EFAULT, NO_INDEX, self->vm, (void *)-4096ul, 1);
	LAYERS_ASSERT_BATCH_FAILS(EFAULT, NO_INDEX, self->vm, (void *)(1ul << 63), BATCH_MOST);
	for (u32 inside = 0; inside < 8; inside++) {
		LAYERS_ASSERT_BATCH_FAILS(EFAULT, NO_INDEX, self->vm, end - inside, inside + 1);
		LAYERS_ASSERT_BATCH_FAILS(EFAULT, NO_INDEX, self->vm, end - inside, BATCH_MOST);
	}
	LAYERS_ASSERT_BATCH_FAILS(EFAULT, NO_INDEX, self->vm, (void *)end - 8, 1);
}

/* All good, and all that is wrong is the pointer to the batch. */
TEST_F(reject, batch_that_cannot_be_read_is_efault)
{
	struct kvm_memory_attributes_entry entry = good_entry(0);
	struct kvm_memory_attributes_batch batch = layers_batch_of(&entry, 1);
	void *pages = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	kvm_munmap(pages + PAGE_SIZE, PAGE_SIZE);
	for (size_t inside = 8; inside < sizeof(batch); inside += 8) {
		void *arg = pages + PAGE_SIZE - inside;

		memcpy(arg, &batch, inside);
		KMA_ASSERT_ERRNO(EFAULT, __layers_batch(self->vm, arg));
	}
	KMA_ASSERT_ERRNO(EFAULT, __layers_batch(self->vm, NULL));
	KMA_ASSERT_ERRNO(EFAULT, __layers_batch(self->vm, (void *)-4096ul));
}

TEST_F(reject, error_index_that_cannot_be_written_is_efault)
{
	struct kvm_memory_attributes_entry bad = good_entry(0);
	struct kvm_memory_attributes_batch *batch;

	bad.layer = LAYERS;
	batch = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	*batch = layers_batch_of(&bad, 1);
	TEST_ASSERT(!mprotect(batch, PAGE_SIZE, PROT_READ), "mprotect: %s", strerror(errno));
	KMA_ASSERT_ERRNO(EFAULT, __layers_batch(self->vm, batch));
	bad = layers_entry(3, self->gpa, KMA_SIZE, KMA_NX, KMA_NX);
	KMA_ASSERT_ERRNO(EFAULT, __layers_batch(self->vm, batch));
	TEST_ASSERT_EQ(batch->error_index, NO_INDEX);
}

/* --- KVM_GET_MEMORY_ATTRIBUTES --- */

static void assert_get(int fd, int err, struct kvm_memory_attributes_get get)
{
	struct kvm_memory_attributes_run runs[4], untouched[4];
	struct kvm_memory_attributes_get was;

	memset(runs, 0x5a, sizeof(runs));
	memcpy(untouched, runs, sizeof(runs));
	if (get.runs == 1)
		get.runs = (u64)runs;
	was = get;
	KMA_ASSERT_ERRNO(err, __layers_get(fd, &get));
	TEST_ASSERT(!memcmp(&get, &was, sizeof(get)),
		    "a call that fails has written to its argument");
	TEST_ASSERT(!memcmp(runs, untouched, sizeof(runs)),
		    "a call that is refused has written runs");
}

/* Room for runs that must not be written. */
static struct kvm_memory_attributes_get get_of(u32 layer, u64 start, u64 size)
{
	return layers_get_of(layer, start, size, (void *)1, 4);
}

#define ASSERT_GET(...)		assert_get(self->vm->fd, EINVAL, get_of(__VA_ARGS__))

TEST_F(reject, bad_range_to_read_back_is_einval)
{
#define REFUSED(_address, _size)						\
do {										\
	ASSERT_GET(0, _address, _size);						\
	ASSERT_GET(LAYERS_UNION, _address, _size);				\
} while (0)
	FOR_EACH_BAD_RANGE(REFUSED);
#undef REFUSED
}

TEST_F(reject, layer_to_read_back_that_is_not_there_is_einval)
{
	for (u32 layer = LAYERS; layer < 200; layer++)
		ASSERT_GET(layer, self->gpa, KMA_SIZE);
	for (int bit = 4; bit < 32; bit++) {
		ASSERT_GET(BIT(bit), self->gpa, KMA_SIZE);
		ASSERT_GET(~BIT(bit), self->gpa, KMA_SIZE);
	}
	ASSERT_GET(LAYERS_UNION - 1, self->gpa, KMA_SIZE);
}

TEST_F(reject, no_room_to_read_back_is_einval)
{
	struct kvm_memory_attributes_get get = get_of(0, self->gpa, KMA_SIZE);

	get.nr = 0;
	assert_get(self->vm->fd, EINVAL, get);
}

TEST_F(reject, each_flag_and_reserved_bit_of_get_is_einval)
{
	const struct kvm_memory_attributes_get good = get_of(0, self->gpa, KMA_SIZE);
	struct kvm_memory_attributes_get get;

	for (int bit = 0; bit < 64; bit++) {
		get = good;
		get.flags = BIT_ULL(bit);
		assert_get(self->vm->fd, EINVAL, get);
		for (int i = 0; i < ARRAY_SIZE(get.reserved); i++) {
			get = good;
			get.reserved[i] = BIT_ULL(bit);
			assert_get(self->vm->fd, EINVAL, get);
		}
	}
}

TEST_F(reject, runs_that_cannot_be_written_are_efault)
{
	void *pages = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1);
	void *bad[] = {
		NULL,
		kvm_mmap(PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1),
		(void *)-4096ul,
		(void *)(1ul << 63),
		pages + PAGE_SIZE,
		/* For one run and a half, of three. */
		pages + PAGE_SIZE - 36,
	};

	kvm_munmap(pages + PAGE_SIZE, PAGE_SIZE);
	for (int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_get(self->vm->fd, EFAULT,
			   layers_get_of(0, self->gpa, KMA_SIZE, bad[i], 3));
	/* There is more room than what can be written to, but not more runs. */
	TEST_ASSERT_EQ(layers_get(self->vm->fd, 0, self->gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE,
				  pages + PAGE_SIZE - 24, 1, NULL), 1);
}

TEST_F(reject, get_that_cannot_be_read_or_written_is_efault)
{
	struct kvm_memory_attributes_run run;
	struct kvm_memory_attributes_get get = layers_get_of(0, self->gpa, KMA_SIZE, &run, 1);
	struct kvm_memory_attributes_get *constant;
	void *pages = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	kvm_munmap(pages + PAGE_SIZE, PAGE_SIZE);
	for (size_t inside = 8; inside < sizeof(get); inside += 8) {
		memcpy(pages + PAGE_SIZE - inside, &get, inside);
		KMA_ASSERT_ERRNO(EFAULT, __layers_get(self->vm->fd, pages + PAGE_SIZE - inside));
	}
	KMA_ASSERT_ERRNO(EFAULT, __layers_get(self->vm->fd, NULL));

	constant = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	*constant = get;
	TEST_ASSERT(!mprotect(constant, PAGE_SIZE, PROT_READ), "mprotect: %s", strerror(errno));
	KMA_ASSERT_ERRNO(EFAULT, __layers_get(self->vm->fd, constant));
	TEST_ASSERT(!memcmp(constant, &get, sizeof(get)), "it has been written to");
}

TEST_F(reject, range_to_read_back_outside_of_the_file_is_einval)
{
	int fd = vm_create_guest_memfd(self->vm, KMA_SIZE, GMEM_IN_PLACE);

	assert_get(fd, EINVAL, get_of(0, 0, KMA_SIZE + PAGE_SIZE));
	assert_get(fd, EINVAL, get_of(0, KMA_SIZE, PAGE_SIZE));
	assert_get(fd, EINVAL, get_of(LAYERS_UNION, KMA_SIZE - PAGE_SIZE, 2 * PAGE_SIZE));
	assert_get(fd, EINVAL, get_of(0, 0, LAYERS_ALL));
	assert_get(fd, EINVAL, get_of(0, 0, 0));
	assert_get(fd, EINVAL, get_of(0, 8, PAGE_SIZE));
	assert_get(fd, EINVAL, get_of(0, -PAGE_SIZE, 2 * PAGE_SIZE));
	/* Layers are a VM's. */
	for (u32 layer = 1; layer < 2 * LAYERS; layer++)
		assert_get(fd, EINVAL, get_of(layer, 0, KMA_SIZE));
	assert_get(fd, EINVAL, get_of(LAYERS_UNION - 1, 0, KMA_SIZE));
	close(fd);
}

TEST_F(reject, whole_layer_of_a_file_is_einval)
{
	int fd = vm_create_guest_memfd(self->vm, KMA_SIZE, GMEM_IN_PLACE);

	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, fd, 0, 0, 0, LAYERS_WHOLE);
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, fd, 0, KMA_SIZE, 0, LAYERS_WHOLE);
	close(fd);
}

/* --- KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE --- */

static int __resumable(struct kvm_vm *vm, struct kvm_memory_attributes *attr)
{
	return ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, attr);
}

static void assert_resumable(struct kvm_vm *vm, int err, u64 address, u64 size, u64 attributes,
			     u64 flags)
{
	struct kvm_memory_attributes attr = {
		.address = address,
		.size = size,
		.attributes = attributes,
		.flags = flags,
	}, was = attr;

	KMA_ASSERT_ERRNO(err, __resumable(vm, &attr));
	TEST_ASSERT(!memcmp(&attr, &was, sizeof(attr)), "a call that failed has written back");
}

#define ASSERT_RESUMABLE(...)	assert_resumable(self->vm, EINVAL, __VA_ARGS__)

TEST_F(reject, what_set_refuses_of_a_resumable_one_is_einval)
{
#define REFUSED(_address, _size)						\
do {										\
	ASSERT_RESUMABLE(_address, _size, 0, 0);				\
	ASSERT_RESUMABLE(_address, _size, KMA_PRIVATE, 0);			\
} while (0)
	FOR_EACH_BAD_RANGE(REFUSED);
#undef REFUSED
	for (int bit = 0; bit < 64; bit++)
		ASSERT_RESUMABLE(self->gpa, KMA_SIZE, 0, BIT_ULL(bit));
	for (int i = 0; i < ARRAY_SIZE(bad_words); i++)
		ASSERT_RESUMABLE(self->gpa, KMA_SIZE, bad_words[i], 0);
	/* Another layer's restrictions. */
	ASSERT_RESUMABLE(self->gpa, KMA_SIZE, KMA_PRIVATE, 0);
	ASSERT_RESUMABLE(self->gpa + 7 * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE, 0);
}

TEST_F(reject, resumable_set_that_cannot_say_how_far_it_got_is_efault)
{
	struct kvm_memory_attributes *attr;
	void *pages = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	attr = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	*attr = (struct kvm_memory_attributes) {
		.address = self->gpa,
		.size = KMA_SIZE,
		.attributes = KMA_NW,
	};
	kvm_munmap(pages + PAGE_SIZE, PAGE_SIZE);
	for (size_t inside = 8; inside < sizeof(*attr); inside += 8) {
		memcpy(pages + PAGE_SIZE - inside, attr, inside);
		KMA_ASSERT_ERRNO(EFAULT, __resumable(self->vm, pages + PAGE_SIZE - inside));
	}
	TEST_ASSERT(!mprotect(attr, PAGE_SIZE, PROT_READ), "mprotect: %s", strerror(errno));
	KMA_ASSERT_ERRNO(EFAULT, __resumable(self->vm, attr));
	KMA_ASSERT_ERRNO(EFAULT, __resumable(self->vm, NULL));
}

/* --- all commands --- */

static const unsigned long commands[] = {
	KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE,
	KVM_SET_MEMORY_ATTRIBUTES_BATCH,
	KVM_GET_MEMORY_ATTRIBUTES,
	KVM_SET_MEMORY_ATTRIBUTES2,
};

/* Each command with an argument that is good: 0 if all of them fail with this errno. */
static int all_fail(int fd, int err)
{
	struct kvm_memory_attributes_entry entry = layers_entry(3, KMA_GPA, KMA_SIZE, 0, KMA_NX);
	struct kvm_memory_attributes_batch batch = layers_batch_of(&entry, 1), batch_was = batch;
	struct kvm_memory_attributes2 attr2 = layers_attr(3, 0, 0, 0, LAYERS_WHOLE),
				      attr2_was = attr2;
	struct kvm_memory_attributes attr = { .address = KMA_GPA, .size = KMA_SIZE },
				     attr_was = attr;
	struct kvm_memory_attributes_run run;
	struct kvm_memory_attributes_get get = layers_get_of(0, KMA_GPA, KMA_SIZE, &run, 1),
					 get_was = get;
	void *args[] = { &attr, &batch, &get, &attr2 };

	for (int i = 0; i < ARRAY_SIZE(commands); i++) {
		if (ioctl(fd, commands[i], args[i]) != -1 || errno != err)
			return 1 + i;
		/* Before anything else is looked at. */
		if (err == EIO && (ioctl(fd, commands[i], NULL) != -1 || errno != err))
			return 10 + i;
	}
	return memcmp(&attr, &attr_was, sizeof(attr)) ||
	       memcmp(&batch, &batch_was, sizeof(batch)) ||
	       memcmp(&get, &get_was, sizeof(get)) ||
	       memcmp(&attr2, &attr2_was, sizeof(attr2)) ? 20 : 0;
}

TEST_F(reject, another_processes_vm_is_eio)
{
	int status;
	pid_t child = fork();

	TEST_ASSERT(child >= 0, "fork: %s", strerror(errno));
	if (!child)
		_exit(all_fail(self->vm->fd, EIO));
	TEST_ASSERT_EQ(waitpid(child, &status, 0), child);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "the child wanted EIO: %x", status);

	/*
	 * fork() unmapped the guest's own code and stack: have them back, uncounted, at
	 * the price of one page of the window.
	 */
	kma_look(&self->g, KMA_SEEN(.shared = 1));
}

TEST_F(reject, commands_are_a_vms)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	int fd = vm_create_guest_memfd(self->vm, KMA_SIZE, 0);

	TEST_ASSERT_EQ(all_fail(vm->kvm_fd, EINVAL), 0);
	TEST_ASSERT_EQ(all_fail(vcpu->fd, EINVAL), 0);
	KMA_ASSERT_ERRNO(ENOTTY, ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES_BATCH, NULL));
	KMA_ASSERT_ERRNO(ENOTTY, ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, NULL));
	close(fd);
	kvm_vm_free(vm);
}

TEST(dead_vm_is_eio)
{
	struct kma_view view;
	struct kma_guest g;
	char *runs;
	int fd;

	if (!kma_has_protected_vms())
		SKIP(return, "KVM has no software-protected VMs here");
	kma_protected_guest_init(&g);
	view = kma_view_of(g.vm);
	layers_set(g.vm, 3, g.gpa, KMA_SIZE, KMA_NX);
	runs = kma_runs(&view);
	fd = vm_create_guest_memfd(g.vm, KMA_SIZE, GMEM_IN_PLACE);
	kma_kill(g.vcpu);

	TEST_ASSERT_EQ(all_fail(g.vm->fd, EIO), 0);
	assert_get(fd, EIO, get_of(0, 0, KMA_SIZE));
	kma_assert_runs(&view, runs);
	free(runs);
	close(fd);
	kvm_vm_free(g.vm);
}

/* PRIVATE of memory that a guest_memfd keeps it of, in any place of a batch. */
TEST(private_in_place_is_eperm)
{
	struct kvm_memory_attributes_entry entries[ENTRIES_OF_A_BATCH];
	struct kma_view view;
	struct gmem m;

	if (!kma_has_protected_vms())
		SKIP(return, "KVM has no software-protected VMs here");
	gmem_init(&m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
	view = kma_view_of(m.g.vm);
	assert_entry(m.g.vm, EPERM,
		     layers_entry(0, m.g.gpa, PAGE_SIZE, KMA_PRIVATE, KMA_PRIVATE));
	assert_entry(m.g.vm, EPERM,
		     layers_entry(0, m.g.gpa - SZ_1M, 2 * SZ_1M, KMA_PRIVATE, KMA_ALL_ATTRIBUTES));
	assert_resumable(m.g.vm, EPERM, m.g.gpa, PAGE_SIZE, KMA_PRIVATE, 0);
	LAYERS_ASSERT_FAILS(EPERM, m.g.gpa, m.g.vm, 0, 0, 0, KMA_PRIVATE, LAYERS_WHOLE);
	/* Two that are bad for one reason each: the first one says which errno it is. */
	for (u32 i = 0; i < ARRAY_SIZE(entries); i++)
		entries[i] = good_entry(i);
	entries[3] = layers_entry(0, m.g.gpa, PAGE_SIZE, KMA_PRIVATE, KMA_PRIVATE);
	entries[1] = layers_entry(0, m.g.gpa + SZ_1M, PAGE_SIZE, KMA_NR, KMA_NR);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 1, m.g.vm, entries, ARRAY_SIZE(entries));
	entries[0] = entries[3];
	entries[3] = good_entry(3);
	LAYERS_ASSERT_BATCH_FAILS(EPERM, 0, m.g.vm, entries, ARRAY_SIZE(entries));
	/* What another entry restricts there is its own business. */
	entries[1] = layers_entry(3, m.g.gpa, PAGE_SIZE, KMA_NX, KMA_NX);
	LAYERS_ASSERT_BATCH_FAILS(EPERM, 0, m.g.vm, entries, ARRAY_SIZE(entries));
	kma_assert_runs(&view, "");

	/* Unless a later entry has it shared, as the page ends up so. */
	entries[1] = layers_entry(0, m.g.gpa, PAGE_SIZE, 0, KMA_PRIVATE);
	layers_batch(m.g.vm, entries, 2);
	kma_assert_runs(&view, "");
	/* And restrictions are the VM's, whoever keeps what is private. */
	layers_batch(m.g.vm, ENTRIES(layers_entry(3, m.g.gpa, PAGE_SIZE, KMA_NX, KMA_NX)), 1);
	layers_assert(m.g.vm, 3, m.g.gpa, PAGE_SIZE, KMA_NX);
	gmem_free(&m);
}

/* As long as the VM keeps it, though a guest_memfd says by now what is private. */
TEST(private_that_is_ignored_excludes_restrictions_beside_it)
{
	struct kvm_memory_attributes_entry entry;
	struct gmem m;
	int slot_fd;

	if (!kma_has_protected_vms())
		SKIP(return, "KVM has no software-protected VMs here");
	gmem_init(&m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
	slot_fd = kvm_dup(m.fd);
	vm_mem_region_delete(m.g.vm, KMA_SLOT);
	kma_set(m.g.vm, m.g.gpa, KMA_SIZE, KMA_PRIVATE);
	kma_add_slot(&m.g, KVM_MEM_GUEST_MEMFD, slot_fd);
	kvm_close(slot_fd);

	LAYERS_ASSERT_FAILS(EINVAL, m.g.gpa, m.g.vm, 5, m.g.gpa, PAGE_SIZE, KMA_NW, 0);
	entry = layers_entry(0, m.g.gpa, PAGE_SIZE, KMA_NW, KMA_NW);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 0, m.g.vm, &entry, 1);
	layers_assert(m.g.vm, LAYERS_UNION, m.g.gpa, KMA_SIZE, KMA_PRIVATE);

	/* What was read can be set again but for that. */
	entry = layers_entry(0, m.g.gpa, KMA_SIZE, KMA_PRIVATE, KMA_ALL_ATTRIBUTES);
	LAYERS_ASSERT_BATCH_FAILS(EPERM, 0, m.g.vm, &entry, 1);

	kma_set(m.g.vm, m.g.gpa, PAGE_SIZE, 0);
	layers_set(m.g.vm, 5, m.g.gpa, PAGE_SIZE, KMA_NW);
	layers_assert(m.g.vm, LAYERS_UNION, m.g.gpa, PAGE_SIZE, KMA_NW);
	gmem_free(&m);
}

TEST(private_without_private_memory_is_einval)
{
	struct kvm_vm *vm = vm_create_barebones();

	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 0, vm,
				  ENTRIES(layers_entry(0, 0, PAGE_SIZE, 0, KMA_PRIVATE)), 1);
	LAYERS_ASSERT_BATCH_FAILS(EINVAL, 0, vm,
				  ENTRIES(layers_entry(0, 0, PAGE_SIZE, KMA_PRIVATE,
						       KMA_ALL_ATTRIBUTES)), 1);
	assert_resumable(vm, EINVAL, 0, PAGE_SIZE, KMA_PRIVATE, 0);
	layers_batch(vm, ENTRIES(layers_entry(0, 0, PAGE_SIZE, KMA_NW, KMA_NO_ACCESS)), 1);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
