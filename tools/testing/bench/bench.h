/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the benchmarks share. Each does the same work on a VM of mainline's, which
 * is created before the module is loaded, and on one of the module's, and prints
 * what it cost, one line a repetition:
 *
 *   bench: ROW SIZE mainline|module COST OPERATIONS
 *
 * followed by one that says how often it slept, if it did, since the clock goes on
 * meanwhile, or what to compute the cost from instead.
 *
 * The clock is the time stamp counter. With QEMU counting instructions, and one
 * of them taken for a nanosecond, it counts instructions. scripts/bench.py boots
 * QEMU so, collects the lines and judges them.
 */
#ifndef KVM_MEMATTR_BENCH_H
#define KVM_MEMATTR_BENCH_H

#include <sys/resource.h>

#include "kvm_memattr_module.h"
#include "kvm_memattr_test.h"
#include "bench_profile.h"

/* These are no tests that the harness would run. */
static int test_harness_run(int argc, char **argv) __maybe_unused;

#define BENCH_1T	(SZ_1K * (u64)SZ_1G)

#define BENCH_DIR	"/sys/kernel/debug/kvm_memattr_bench"

/* Repetitions, after one that nobody looks at. */
#define BENCH_REPS	9

enum bench_side {
	BENCH_MAINLINE,
	BENCH_MODULE,
	BENCH_SIDES,
};

#define for_each_side(_side)							\
	for (enum bench_side _side = 0; _side < BENCH_SIDES; _side++)

static char **bench_args;

static inline const char *bench_side_name(enum bench_side side)
{
	return side == BENCH_MAINLINE ? "mainline" : "module";
}

/* The rows to run are the program's arguments. */
static inline void bench_init(char **argv)
{
	bench_args = argv + 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	TEST_ASSERT(!kma_loaded(), KMA_MODULE " is loaded");
}

static inline bool bench_wanted(const char *row)
{
	for (char **wanted = bench_args; *wanted; wanted++) {
		if (!strcmp(*wanted, row))
			return true;
	}
	return false;
}

/*
 * The clock of what @row measures on a side. No two rows are measured at once. With
 * samples, they're of the rows that are wanted only: a program sets pages for one
 * row and clears them for another.
 */
static struct profile bench_profiles[BENCH_SIDES];

static inline bool bench_profiled(const char *row)
{
	return row && bench_wanted(PROFILE_WORD) && bench_wanted(row);
}

/* Repetitions of what is short against the period of the samples: there must be enough. */
static inline int bench_reps(void)
{
	return bench_wanted(PROFILE_WORD) ? PROFILE_REPS : BENCH_REPS;
}

static inline u64 bench_start(const char *row, enum bench_side side)
{
	if (bench_profiled(row))
		profile_start(&bench_profiles[side]);
	return rdtsc();
}

/* What it has cost since bench_start(). */
static inline u64 bench_stop(const char *row, enum bench_side side, u64 start)
{
	u64 cost = rdtsc() - start;

	if (bench_profiled(row))
		profile_stop(&bench_profiles[side]);
	return cost;
}

/* Before the first VM of that side. */
static inline void bench_begin(enum bench_side side)
{
	if (side == BENCH_MODULE)
		kma_load();
}

/* After the last VM of both. */
static inline void bench_end(void)
{
	if (bench_wanted(PROFILE_WORD)) {
		for_each_side(side)
			profile_print(&bench_profiles[side], bench_side_name(side));
	}
	kma_unload();
}

/* A VM is what the benchmark takes it for. */
static inline void bench_assert_side(int vm_fd, enum bench_side side)
{
	__u64 mask = 0;

	if (side == BENCH_MAINLINE) {
		KMA_ASSERT_ERRNO(ENOTTY, __kma_get_supported(vm_fd, &mask));
	} else {
		TEST_ASSERT(!__kma_get_supported(vm_fd, &mask), "a VM of the module's: %s",
			    strerror(errno));
		TEST_ASSERT_EQ(mask & KMA_PRIVATE, KMA_PRIVATE);
	}
}

static inline const char *bench_size(u64 size)
{
	static const char units[] = "BKMGT";
	static char text[32];
	int unit = 0;

	for (; size >= SZ_1K && !(size % SZ_1K); size /= SZ_1K)
		unit++;
	snprintf(text, sizeof(text), "%lu%c", size, units[unit]);
	return text;
}

static inline void bench_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t size = strlen(text);

	TEST_ASSERT(fd >= 0, "cannot open %s: %s", path, strerror(errno));
	TEST_ASSERT(write(fd, text, size) == size, "cannot write %s: %s", path,
		    strerror(errno));
	close(fd);
}

/* How often the program has gone to sleep; since the last drain at first report. */
static u64 bench_sleeps_before, bench_sleeps;
static bool bench_sleeps_known;

static inline u64 bench_sleeps_now(void)
{
	struct rusage usage;

	TEST_ASSERT(!getrusage(RUSAGE_SELF, &usage), "getrusage: %s", strerror(errno));
	return usage.ru_nvcsw;
}

/*
 * Before each repetition: what the last one has left to RCU must not be freed
 * during the next.
 */
static inline void bench_drain(void)
{
	bench_write(BENCH_DIR "/drain", "1");
	bench_sleeps_before = bench_sleeps_now();
	bench_sleeps_known = false;
}

/* Where the next report is of a part of it: how often it slept in that. */
static inline void bench_slept(u64 times)
{
	bench_sleeps = times;
	bench_sleeps_known = true;
}

static inline void bench_report(const char *row, const char *size,
				enum bench_side side, s64 cost, u64 operations)
{
	/* Printing may sleep, too. */
	if (!bench_sleeps_known)
		bench_sleeps = bench_sleeps_now() - bench_sleeps_before;
	bench_sleeps_known = true;

	printf("bench: %s %s %s %ld %lu\n", row, size, bench_side_name(side), cost,
	       operations);
	if (bench_sleeps)
		printf("slept: %s %s %s %lu\n", row, size, bench_side_name(side),
		       bench_sleeps);
}

/* Where the cost of a size follows from the cost of a smaller one. */
static inline void bench_computed(const char *row, u64 size, enum bench_side side,
				  u64 from)
{
	printf("computed: %s %s %s ", row, bench_size(size), bench_side_name(side));
	printf("%s %llu\n", bench_size(from), (unsigned long long)(size / from));
}

struct bench_looked {
	u64 cost;
	u64 private;
};

/* Look @count pages up: the i-th is page i * @stride modulo @pages from @gpa on. */
static inline struct bench_looked bench_look_up(struct kvm_vm *vm, u64 gpa, u64 pages,
						u64 stride, u64 count)
{
	struct bench_looked looked;
	u64 gfn = gpa / PAGE_SIZE;
	char text[128];
	FILE *file;

	TEST_ASSERT(is_power_of_2(pages), "%lu pages are no power of 2", pages);
	snprintf(text, sizeof(text), "%d %lu %lu %lu %lu", vm->fd, gfn,
		 pages - 1, stride, count);
	bench_write(BENCH_DIR "/lookup", text);

	file = fopen(BENCH_DIR "/lookup", "r");
	TEST_ASSERT(file, "cannot open " BENCH_DIR "/lookup");
	TEST_ASSERT(fscanf(file, "%lu %lu", &looked.cost, &looked.private) == 2,
		    "no numbers in " BENCH_DIR "/lookup");
	fclose(file);
	return looked;
}

static inline bool bench_is_private(struct kvm_vm *vm, u64 gpa)
{
	return bench_look_up(vm, gpa, 1, 0, 1).private;
}

/* Both ends, the middle, and the pages beside the range. */
static inline void bench_check(struct kvm_vm *vm, u64 gpa, u64 size, bool private,
			       bool beside)
{
	u64 middle = gpa + size / PAGE_SIZE / 2 * PAGE_SIZE;

	TEST_ASSERT_EQ(bench_is_private(vm, gpa), private);
	TEST_ASSERT_EQ(bench_is_private(vm, middle), private);
	TEST_ASSERT_EQ(bench_is_private(vm, gpa + size - PAGE_SIZE), private);
	TEST_ASSERT_EQ(bench_is_private(vm, gpa + size), beside);
	if (gpa)
		TEST_ASSERT_EQ(bench_is_private(vm, gpa - PAGE_SIZE), beside);
}

static inline u64 bench_set(const char *row, enum bench_side side, struct kvm_vm *vm,
			    u64 gpa, u64 size, u64 attributes)
{
	u64 start = bench_start(row, side);
	int ret = __kma_set(vm, gpa, size, attributes);
	u64 cost = bench_stop(row, side, start);

	TEST_ASSERT_VM_VCPU_IOCTL(!ret, KVM_SET_MEMORY_ATTRIBUTES, ret, vm);
	return cost;
}

/* A software-protected VM without memory or vCPUs on either side. */
struct bench_vms {
	struct kvm_vm *vm[BENCH_SIDES];
};

static inline void bench_create(struct bench_vms *vms)
{
	for_each_side(side) {
		bench_begin(side);
		vms->vm[side] = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
		bench_assert_side(vms->vm[side]->fd, side);
	}
}

static inline void bench_destroy(struct bench_vms *vms)
{
	for_each_side(side)
		kvm_vm_free(vms->vm[side]);
	bench_end();
}

/* Memory that nobody touches: a slot can be larger than the machine. */
static inline void *bench_add_slot(struct kvm_vm *vm, u64 gpa, u64 size)
{
	int gmem = vm_create_guest_memfd(vm, size, 0);
	void *hva;

	hva = kvm_mmap(size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	vm_set_user_memory_region2(vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, gpa, size, hva,
				   gmem, 0);
	close(gmem);
	return hva;
}

static inline void bench_drop_slot(struct kvm_vm *vm, u64 gpa, u64 size, void *hva)
{
	vm_set_user_memory_region2(vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, gpa, 0, hva, -1, 0);
	kvm_munmap(hva, size);
}

#endif /* KVM_MEMATTR_BENCH_H */
