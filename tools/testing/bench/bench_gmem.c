// SPDX-License-Identifier: GPL-2.0
/*
 * Converting memory of a guest_memfd in place, to private what the host has used and
 * has mapped, or no longer, and to shared what it has filled before. Mainline has no
 * such thing: what a VMM does there is to copy, and so a copy of the same size stands in its
 * column. It's made of moves of 8 bytes, as the clock counts each byte of a string
 * instruction.
 *
 * Beside that, what converting takes where nothing is allocated: the attributes.
 */
#include "bench.h"
#include "kvm_memattr_gmem.h"

#define WALL_SUFFIX	"_wall"

struct row {
	const char *name;
	/* What the pages become. */
	u64 attributes;
	u64 policy;
	/* What is read afterwards where the host had @WRITTEN. */
	u64 word;
	/* The host has used the pages, and has none mapped any more. */
	bool unmapped;
};

#define WRITTEN		0x0123456789abcdefull

static const struct row rows[] = {
	{ "gmem_convert_preserve", KMA_PRIVATE, GMEM_PRESERVE, WRITTEN },
	{ "gmem_convert_preserve_unmapped", KMA_PRIVATE, GMEM_PRESERVE, WRITTEN, true },
	{ "gmem_convert_zero", KMA_PRIVATE, GMEM_ZERO, 0 },
	{ "gmem_convert_none", KMA_PRIVATE, GMEM_NONE, 0xabababababababab },
	{ "gmem_share_preserve", 0, GMEM_PRESERVE, WRITTEN },
	{ "gmem_share_zero", 0, GMEM_ZERO, 0 },
	{ "gmem_share_none", 0, GMEM_NONE, 0xabababababababab },
};

static const u64 sizes[] = { SZ_2M, SZ_1G };

struct memory {
	u64 size;
	u64 *from;
	u64 *to;
};

static u64 now(bool wall)
{
	struct timespec time;

	if (!wall)
		return rdtsc();
	clock_gettime(CLOCK_MONOTONIC, &time);
	return timespec_to_ns(time);
}

static void fill(u64 *words, u64 size)
{
	/* Volatile, here and below: it must not become a string instruction. */
	for (volatile u64 *word = words; word < words + size / sizeof(u64); word += 512)
		*word = WRITTEN;
}

static u64 copy(struct memory *m, bool wall)
{
	volatile u64 *to = m->to;
	const u64 *from = m->from;
	u64 start = now(wall);

	for (u64 i = 0; i < m->size / sizeof(u64); i += 4) {
		to[i] = from[i];
		to[i + 1] = from[i + 1];
		to[i + 2] = from[i + 2];
		to[i + 3] = from[i + 3];
	}
	return now(wall) - start;
}

static void measure_copy(const char *name, u64 size, bool wall)
{
	struct memory m = { .size = size };

	m.from = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
			  -1);
	m.to = kvm_mmap(size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);
	fill(m.from, size);
	for (int i = -1; i < BENCH_REPS; i++) {
		u64 cost;

		bench_drain();
		memset(m.to, 0, PAGE_SIZE);
		cost = copy(&m, wall);
		TEST_ASSERT_EQ(m.to[0], WRITTEN);
		if (i >= 0)
			bench_report(name, bench_size(size), BENCH_MAINLINE, cost, 1);
	}
	kvm_munmap(m.from, size);
	kvm_munmap(m.to, size);
}

/* @row: whose cost it is, NULL if none's. */
static u64 convert(const char *row, int fd, u64 size, u64 attributes, u64 policy, bool wall)
{
	struct kvm_memory_attributes2 attr = gmem_attr(0, size, attributes, policy);
	u64 start = wall ? now(wall) : bench_start(row, BENCH_MODULE);

	if (__gmem_ioctl(fd, &attr))
		TEST_FAIL("converting: %s at 0x%llx", strerror(errno), attr.error_offset);
	return wall ? now(wall) - start : bench_stop(row, BENCH_MODULE, start);
}

/* The pages that are looked at afterwards: the first, one in the middle, the last. */
#define LOOKED_AT	3

static u64 *looked_at(u64 *mem, u64 size, int n)
{
	const u64 offsets[LOOKED_AT] = { 0, size / 2, size - PAGE_SIZE };

	return mem + offsets[n] / sizeof(u64);
}

static void check_private(u64 *mem, u64 size)
{
	u64 word;

	for (int n = 0; n < LOOKED_AT; n++)
		TEST_ASSERT(!gmem_load(looked_at(mem, size, n), &word),
			    "a page of the conversion is not private");
}

static void measure_conversion(const char *name, const struct row *row, u64 size, bool wall)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	u64 cost;
	u64 *mem;
	int fd;

	bench_assert_side(vm->fd, BENCH_MODULE);
	fd = vm_create_guest_memfd(vm, size, GMEM_SHARED);
	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	for (int i = -1; i < BENCH_REPS; i++) {
		TEST_ASSERT(!madvise(mem, size, MADV_POPULATE_WRITE), "MADV_POPULATE_WRITE: %s",
			    strerror(errno));
		fill(mem, size);
		if (!row->attributes)
			convert(NULL, fd, size, KMA_PRIVATE, GMEM_PRESERVE, wall);
		if (row->unmapped)
			kvm_madvise(mem, size, MADV_DONTNEED);
		bench_drain();

		cost = convert(name, fd, size, row->attributes, row->policy, wall);

		if (row->attributes) {
			check_private(mem, size);
			GMEM_ASSERT_SET(fd, 0, size, 0, GMEM_PRESERVE);
		}
		for (int n = 0; n < LOOKED_AT; n++)
			TEST_ASSERT_EQ(*looked_at(mem, size, n), row->word);
		if (i >= 0)
			bench_report(name, bench_size(size), BENCH_MODULE, cost, 1);
	}
	kvm_munmap(mem, size);
	kvm_close(fd);
	kvm_vm_free(vm);
}

#define BOUNDARIES_ROW	"gmem_convert_boundaries"
#define BOUNDARIES_SIZE	((u64)SZ_1G)

/* A file without memory, of which some pages, evenly spaced, are private before. */
static void measure_boundaries(u64 nr_private)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	int fd = vm_create_guest_memfd(vm, BOUNDARIES_SIZE, GMEM_SHARED);
	u64 *mem = kvm_mmap(BOUNDARIES_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	u64 spacing = nr_private ? BOUNDARIES_SIZE / nr_private : 0;
	char size[32];

	snprintf(size, sizeof(size), "%lu", nr_private);
	for (int i = -1; i < BENCH_REPS; i++) {
		u64 cost;

		for (u64 n = 0; n < nr_private; n++)
			GMEM_ASSERT_SET(fd, n * spacing, PAGE_SIZE, KMA_PRIVATE, GMEM_PRESERVE);
		bench_drain();
		cost = convert(BOUNDARIES_ROW, fd, BOUNDARIES_SIZE, KMA_PRIVATE, GMEM_PRESERVE,
			       false);
		check_private(mem, BOUNDARIES_SIZE);
		GMEM_ASSERT_SET(fd, 0, BOUNDARIES_SIZE, 0, GMEM_PRESERVE);
		if (i >= 0)
			bench_report(BOUNDARIES_ROW, size, BENCH_MODULE, cost, 1);
	}
	kvm_munmap(mem, BOUNDARIES_SIZE);
	kvm_close(fd);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	bench_init(argv);
	bench_begin(BENCH_MODULE);
	gmem_catch_sigbus();
	for (int wall = 0; wall < 2; wall++) {
		for (int i = 0; i < ARRAY_SIZE(rows); i++) {
			char name[64];

			snprintf(name, sizeof(name), "%s%s", rows[i].name, wall ? WALL_SUFFIX : "");
			/* Samples are of the last size. */
			for (int j = bench_wanted(PROFILE_WORD) ? ARRAY_SIZE(sizes) - 1 : 0;
			     bench_wanted(name) && j < ARRAY_SIZE(sizes); j++) {
				measure_copy(name, sizes[j], wall);
				measure_conversion(name, &rows[i], sizes[j], wall);
			}
		}
	}
	if (bench_wanted(BOUNDARIES_ROW)) {
		measure_boundaries(0);
		for (u64 nr = 2; nr <= SZ_8K; nr *= 16)
			measure_boundaries(nr);
	}
	bench_end();
	return 0;
}
