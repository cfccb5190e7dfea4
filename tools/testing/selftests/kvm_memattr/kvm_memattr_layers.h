/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The commands that know layers: raw, with all that they may write held against
 * what they should, and what a layer has as the module answers it.
 */
#ifndef KVM_MEMATTR_LAYERS_H
#define KVM_MEMATTR_LAYERS_H

#include "kvm_memattr_test.h"

#define LAYERS		16
/* For KVM_GET_MEMORY_ATTRIBUTES: what all layers come to. */
#define LAYERS_UNION	(~0u)

#define LAYERS_WHOLE	KVM_SET_MEMORY_ATTRIBUTES2_WHOLE_LAYER

/* All that a range can have. */
#define LAYERS_ALL	(~0ull << PAGE_SHIFT)

#define BATCH_MOST	4096
#define GET_MOST	4096

/* In what a call may write, before each call. */
#define LAYERS_UNWRITTEN	0x5a5a5a5a5a5a5a5aull
#define LAYERS_UNWRITTEN_INDEX	0x5a5a5a5au

/* Not static, as all of that is loaded into each guest. To be freed, or not. */
static inline void *layers_alloc(size_t nr, size_t size)
{
	void *memory = calloc(nr, size);

	TEST_ASSERT(memory, "no memory for %zu of %zu bytes", nr, size);
	return memory;
}

static inline struct kvm_memory_attributes2 layers_attr(u32 layer, u64 gpa, u64 size,
							u64 attributes, u64 flags)
{
	return (struct kvm_memory_attributes2) {
		.address = gpa,
		.size = size,
		.attributes = attributes,
		.flags = flags,
		.error_offset = LAYERS_UNWRITTEN,
		.layer = layer,
	};
}

static inline int __layers_ioctl(struct kvm_vm *vm, struct kvm_memory_attributes2 *attr)
{
	return ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES2, attr);
}

/* It succeeds and writes nothing back. */
#define LAYERS_ASSERT_SET(_vm, ...)						\
do {										\
	struct kvm_memory_attributes2 __attr = layers_attr(__VA_ARGS__);	\
	struct kvm_memory_attributes2 __was = __attr;				\
	int __r = __layers_ioctl(_vm, &__attr);					\
										\
	TEST_ASSERT(!__r, "layer %u: %s at 0x%llx", __attr.layer,		\
		    strerror(errno), __attr.error_offset);			\
	TEST_ASSERT(!memcmp(&__attr, &__was, sizeof(__attr)),			\
		    "a call that succeeds has written to its argument");	\
} while (0)

/* It fails with this errno, error_offset is @_where, and nothing else was written. */
#define LAYERS_ASSERT_ATTR_FAILS(_errno, _where, _vm, _attr)			\
do {										\
	struct kvm_memory_attributes2 __attr = (_attr), __was = __attr;		\
	u64 __where = (_where);							\
										\
	KMA_ASSERT_ERRNO(_errno, __layers_ioctl(_vm, &__attr));			\
	TEST_ASSERT(__attr.error_offset == __where,				\
		    "wanted error_offset 0x%lx, got 0x%llx", __where,		\
		    __attr.error_offset);					\
	__attr.error_offset = __was.error_offset;				\
	TEST_ASSERT(!memcmp(&__attr, &__was, sizeof(__attr)),			\
		    "a call has written more than error_offset");		\
} while (0)

#define LAYERS_ASSERT_FAILS(_errno, _where, _vm, ...)				\
	LAYERS_ASSERT_ATTR_FAILS(_errno, _where, _vm, layers_attr(__VA_ARGS__))

static inline void layers_set(struct kvm_vm *vm, u32 layer, u64 gpa, u64 size, u64 attributes)
{
	LAYERS_ASSERT_SET(vm, layer, gpa, size, attributes, 0);
}

static inline void layers_set_whole(struct kvm_vm *vm, u32 layer, u64 attributes)
{
	LAYERS_ASSERT_SET(vm, layer, 0, 0, attributes, LAYERS_WHOLE);
}

static inline void layers_clear_all(struct kvm_vm *vm)
{
	for (u32 layer = 0; layer < LAYERS; layer++)
		layers_set_whole(vm, layer, 0);
}

/* --- batches --- */

#define ENTRIES(...)	((struct kvm_memory_attributes_entry[]) { __VA_ARGS__ })

static inline struct kvm_memory_attributes_entry layers_entry(u32 layer, u64 gpa, u64 size,
							      u64 attributes, u64 mask)
{
	return (struct kvm_memory_attributes_entry) {
		.address = gpa,
		.size = size,
		.attributes = attributes,
		.mask = mask,
		.layer = layer,
	};
}

static inline struct kvm_memory_attributes_batch
layers_batch_of(const struct kvm_memory_attributes_entry *entries, u32 nr)
{
	return (struct kvm_memory_attributes_batch) {
		.entries = (u64)entries,
		.nr = nr,
		.error_index = LAYERS_UNWRITTEN_INDEX,
	};
}

static inline int __layers_batch(struct kvm_vm *vm, struct kvm_memory_attributes_batch *batch)
{
	return ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES_BATCH, batch);
}

/* It succeeds and writes nothing back. */
static inline void layers_batch(struct kvm_vm *vm,
				const struct kvm_memory_attributes_entry *entries, u32 nr)
{
	struct kvm_memory_attributes_batch batch = layers_batch_of(entries, nr), was = batch;
	int ret = __layers_batch(vm, &batch);

	TEST_ASSERT(!ret, "a batch of %u: %s, error_index %u", nr, strerror(errno),
		    batch.error_index);
	TEST_ASSERT(!memcmp(&batch, &was, sizeof(batch)),
		    "a batch that succeeds has written to its argument");
}

/* It fails with this errno, error_index is @_index, and nothing else was written. */
#define LAYERS_ASSERT_BATCH_OF_FAILS(_errno, _index, _vm, _batch)		\
do {										\
	struct kvm_memory_attributes_batch __b = (_batch), __was = __b;		\
	u32 __index = (_index);							\
										\
	KMA_ASSERT_ERRNO(_errno, __layers_batch(_vm, &__b));			\
	TEST_ASSERT(__b.error_index == __index,					\
		    "wanted error_index %u, got %u", __index, __b.error_index);	\
	__b.error_index = __was.error_index;					\
	TEST_ASSERT(!memcmp(&__b, &__was, sizeof(__b)),				\
		    "a batch has written more than error_index");		\
} while (0)

#define LAYERS_ASSERT_BATCH_FAILS(_errno, _index, _vm, _entries, _nr)		\
	LAYERS_ASSERT_BATCH_OF_FAILS(_errno, _index, _vm, layers_batch_of(_entries, _nr))

/* --- what is set --- */

static inline struct kvm_memory_attributes_get
layers_get_of(u32 layer, u64 start, u64 size, struct kvm_memory_attributes_run *runs, u32 nr)
{
	return (struct kvm_memory_attributes_get) {
		.start = start,
		.size = size,
		.runs = (u64)runs,
		.nr = nr,
		.layer = layer,
		.next = LAYERS_UNWRITTEN,
	};
}

static inline int __layers_get(int fd, struct kvm_memory_attributes_get *get)
{
	return ioctl(fd, KVM_GET_MEMORY_ATTRIBUTES, get);
}

/*
 * As many runs as there is room for. Returns how many there are; they follow each
 * other from @start on, neighbours differ, and @next is behind the last one.
 */
static inline u32 layers_get(int fd, u32 layer, u64 start, u64 size,
			     struct kvm_memory_attributes_run *runs, u32 room, u64 *next)
{
	struct kvm_memory_attributes_get get = layers_get_of(layer, start, size, runs, room);
	struct kvm_memory_attributes_get was = get;
	u64 at = start;
	u32 nr;

	TEST_ASSERT(!__layers_get(fd, &get), "KVM_GET_MEMORY_ATTRIBUTES of layer %u: %s", layer,
		    strerror(errno));
	TEST_ASSERT(get.nr && get.nr <= room && get.nr <= GET_MOST, "%u runs, with room for %u",
		    get.nr, room);
	for (u32 i = 0; i < get.nr; i++) {
		TEST_ASSERT(runs[i].start == at && runs[i].size &&
			    !(runs[i].size % PAGE_SIZE) &&
			    runs[i].size <= start + size - at,
			    "run %u is 0x%llx bytes at 0x%llx, and should begin at 0x%lx", i,
			    runs[i].size, runs[i].start, at);
		TEST_ASSERT(!i || runs[i].attributes != runs[i - 1].attributes,
			    "runs %u and %u are one", i - 1, i);
		at += runs[i].size;
	}
	TEST_ASSERT(get.next == at, "next is 0x%llx, and the runs end at 0x%lx", get.next, at);
	TEST_ASSERT(at == start + size || get.nr == room || get.nr == GET_MOST,
		    "%u runs end at 0x%lx, with room for %u", get.nr, at, room);
	if (next)
		*next = get.next;
	nr = get.nr;
	get.nr = was.nr;
	get.next = was.next;
	TEST_ASSERT(!memcmp(&get, &was, sizeof(get)), "more than nr and next was written");
	return nr;
}

/* All pages of a range have these attributes in a layer, or in all of them. */
static inline void layers_assert(struct kvm_vm *vm, u32 layer, u64 gpa, u64 size, u64 attributes)
{
	struct kvm_memory_attributes_run run;

	layers_get(vm->fd, layer, gpa, size, &run, 1, NULL);
	TEST_ASSERT(run.size == size && run.attributes == attributes,
		    "layer %d: wanted 0x%lx for 0x%lx bytes at 0x%lx, got 0x%llx for 0x%llx",
		    (int)layer, attributes, size, gpa, run.attributes, run.size);
}

#endif /* KVM_MEMATTR_LAYERS_H */
