// SPDX-License-Identifier: GPL-2.0
/*
 * A TiB set, cleared and fragmented, with the soft-lockup watchdog at one
 * second: nobody waits long for a CPU, and nobody for slots_lock or mmu_lock
 * longer than on mainline's code for a range that is a fraction of it.
 *
 * How long the locks are held, the debug kernel says.
 */
#include <sys/mman.h>

#include "kvm_memattr_guest.h"
#include "kvm_memattr_module.h"
#include "kvm_memattr_runs.h"

#define TIB		BIT_ULL(40)
#define GIB		((u64)SZ_1G)

/* What mainline does, so that it takes seconds on the debug kernel. */
#define MAINLINE_SIZE	((u64)SZ_256M)
#define MAINLINE_PAGES	(MAINLINE_SIZE / PAGE_SIZE)
/* What of it the guest has mapped, for mainline to zap. */
#define MAPPED_PAGES	((u64)SZ_32M / PAGE_SIZE)

/*
 * The slack of the comparison. A machine that is emulated on a loaded one is
 * stopped at any moment, with a lock held or not. What the test is to catch, a hold
 * for as long as 1 TiB takes, is of seconds.
 */
#define TIMES_LONGER	2
#define NOISE_US	100000.0

#define LOCK_STAT	"/proc/lock_stat"
#define WATCHDOG	"/proc/sys/kernel/watchdog_thresh"

static bool has_lock_stat(void)
{
	return !access(LOCK_STAT, F_OK);
}

static void write_number(const char *path, int number)
{
	FILE *file = fopen(path, "w");

	TEST_ASSERT(file, "cannot open %s: %s", path, strerror(errno));
	fprintf(file, "%d\n", number);
	TEST_ASSERT(!fclose(file), "cannot write %d to %s: %s", number, path, strerror(errno));
}

static int read_number(const char *path)
{
	FILE *file = fopen(path, "r");
	int number;

	TEST_ASSERT(file, "cannot open %s: %s", path, strerror(errno));
	TEST_ASSERT(fscanf(file, "%d", &number) == 1, "no number in %s", path);
	fclose(file);
	return number;
}

/* The longest that any lock of the VMs was held, in microseconds. */
struct holds {
	double slots_lock;
	double mmu_lock;
};

/* Columns after the name: of waiting 6, of holding acq-bounces, acquisitions, min, max. */
static double hold_of(const char *text, const char *line)
{
	const char *numbers = strrchr(line, ':');
	double max;

	TEST_ASSERT(numbers && sscanf(numbers + 1, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %lf",
				      &max) == 1,
		    "cannot read the line about %s: %s", text, line);
	return max;
}

static struct holds longest_holds(void)
{
	struct holds holds = {};
	char line[512];
	FILE *file;

	if (!has_lock_stat())
		return holds;

	file = fopen(LOCK_STAT, "r");
	TEST_ASSERT(file, "cannot open " LOCK_STAT ": %s", strerror(errno));
	while (fgets(line, sizeof(line), file)) {
		/* What follows a line with numbers are the places that wait. */
		if (!strrchr(line, ':'))
			continue;
		if (strstr(line, "->slots_lock"))
			holds.slots_lock = max(holds.slots_lock, hold_of("slots_lock", line));
		else if (strstr(line, "->mmu_lock"))
			holds.mmu_lock = max(holds.mmu_lock, hold_of("mmu_lock", line));
	}
	fclose(file);
	return holds;
}

static void forget_holds(void)
{
	if (has_lock_stat())
		write_number(LOCK_STAT, 0);
}

/* The VM with the module, and what is known of it. */
struct tib {
	struct kvm_vm *vm;
	struct kma_view view;
	struct kma_run_list want;
	struct holds longest;
	int kmsg;
};

FIXTURE(fair) {
	struct tib tib;
	struct holds mainline;
	int thresh;
	int lock_stat;
	bool unloads;
};

/* Everything that the kernel has said since the last time. */
static void assert_no_lockup(int kmsg, const char *phase)
{
	char record[2048];
	ssize_t len;

	for (;;) {
		len = read(kmsg, record, sizeof(record) - 1);
		if (len < 0 && errno == EPIPE)
			continue;
		if (len < 0)
			break;
		record[len] = 0;
		TEST_ASSERT(!strstr(record, "soft lockup"), "%s: %s", phase, record);
	}
	TEST_ASSERT(errno == EAGAIN, "cannot read /dev/kmsg: %s", strerror(errno));
}

/* Mainline's longest holds, zapping what a guest has mapped included. */
static struct holds holds_of_mainline(void)
{
	struct kma_guest g = { .gpa = KMA_GPA };

	g.vm = vm_create_shape_with_one_vcpu(kma_protected_shape, &g.vcpu, kma_guest_code);
	vm_mem_add(g.vm, VM_MEM_SRC_ANONYMOUS, g.gpa, KMA_SLOT, MAINLINE_PAGES,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	virt_map(g.vm, g.gpa, g.gpa, MAPPED_PAGES);
	kma_warm_up(g.vcpu);
	for (u64 page = 0; page < MAPPED_PAGES; page += KMA_PAGES)
		kma_write_by(g.vcpu, g.gpa + page * PAGE_SIZE, KMA_ALL, KMA_KIND_SHARED);

	forget_holds();
	kma_set(g.vm, g.gpa, MAINLINE_SIZE, KMA_PRIVATE);
	kma_set(g.vm, g.gpa, MAINLINE_SIZE, 0);
	return longest_holds();
}

FIXTURE_SETUP(fair)
{
	struct tib *t = &self->tib;
	void *mem;
	int gmem;

	KMA_REQUIRE_MODULE();
	KMA_REQUIRE_PROTECTED_VMS();

	self->thresh = read_number(WATCHDOG);
	if (has_lock_stat()) {
		self->lock_stat = read_number("/proc/sys/kernel/lock_stat");
		write_number("/proc/sys/kernel/lock_stat", 1);
	}
	self->unloads = true;
	kma_unload();
	self->mainline = holds_of_mainline();
	kma_load();

	/* From address 0 on: no host has room for a TiB above what a guest needs. */
	mem = kvm_mmap(TIB, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	t->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	t->view = kma_view_of(t->vm);
	gmem = vm_create_guest_memfd(t->vm, TIB, 0);
	vm_set_user_memory_region2(t->vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, 0, TIB, mem, gmem, 0);

	t->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	TEST_ASSERT(t->kmsg >= 0 && lseek(t->kmsg, 0, SEEK_END) >= 0,
		    "cannot read /dev/kmsg: %s", strerror(errno));
	write_number(WATCHDOG, 1);
	forget_holds();
}

/* In the parent, so that a test that fails leaves all as it was. */
FIXTURE_TEARDOWN_PARENT(fair)
{
	if (!self->unloads)
		return;
	write_number(WATCHDOG, self->thresh);
	if (has_lock_stat())
		write_number("/proc/sys/kernel/lock_stat", self->lock_stat);
	if (!kma_loaded())
		kma_load();
}

static void set(struct tib *t, u64 gpa, u64 size, u64 attributes, const char *phase)
{
	int ret = __kma_set(t->vm, gpa, size, attributes);

	TEST_ASSERT(!ret, "%s: setting %lx in [%lx, %lx): %s", phase, attributes, gpa, gpa + size,
		    strerror(errno));
}

/* A phase of sets has ended: t->want is what there is to be. */
static void phase_ends(struct tib *t, const char *phase, struct timespec began)
{
	struct timespec took = timespec_elapsed(began);
	struct holds holds = longest_holds();

	assert_no_lockup(t->kmsg, phase);
	kma_assert_run_list(&t->view, &t->want, phase);

	if (has_lock_stat())
		printf("# figure: %s: longest hold of slots_lock %.0f us, of mmu_lock %.0f us\n",
		       phase, holds.slots_lock, holds.mmu_lock);
	else
		printf("# figure: %s: %ld ms (holds of locks: see the debug kernel)\n", phase,
		       timespec_to_ns(took) / 1000000);
	t->longest.slots_lock = max(t->longest.slots_lock, holds.slots_lock);
	t->longest.mmu_lock = max(t->longest.mmu_lock, holds.mmu_lock);
	/* What it takes to look at the runs is no part of the next phase. */
	forget_holds();
}

/* One set as a phase, after which there are no runs, or this one. */
static void set_as_a_phase(struct tib *t, u64 gpa, u64 size, u64 attributes,
			   const char *phase)
{
	struct timespec began;

	t->want.nr = 0;
	if (attributes)
		kma_run_add(&t->want, gpa, size);
	clock_gettime(CLOCK_MONOTONIC, &began);
	set(t, gpa, size, attributes, phase);
	phase_ends(t, phase, began);
}

static void assert_fair(const struct holds *module, const struct holds *mainline)
{
	if (!has_lock_stat())
		return;

	printf("# figure: mainline, %llu MiB: longest hold of slots_lock %.0f us, ",
	       MAINLINE_SIZE / SZ_1M, mainline->slots_lock);
	printf("of mmu_lock %.0f us\n", mainline->mmu_lock);
	TEST_ASSERT(mainline->slots_lock > 0 && mainline->mmu_lock > 0 &&
		    module->slots_lock > 0 && module->mmu_lock > 0,
		    "no hold of the locks was seen");
	/* slots_lock is held for a whole request, by mainline as well: only printed. */
	TEST_ASSERT(module->mmu_lock <= mainline->mmu_lock * TIMES_LONGER + NOISE_US,
		    "mmu_lock was held %.0f us, by mainline %.0f us", module->mmu_lock,
		    mainline->mmu_lock);
}

TEST_F_TIMEOUT(fair, tib_is_set_and_cleared, 300)
{
	struct tib *t = &self->tib;

	set_as_a_phase(t, 0, TIB, KMA_PRIVATE, "1 TiB to private");
	set_as_a_phase(t, 0, TIB, KMA_PRIVATE, "1 TiB to private again");
	set_as_a_phase(t, 0, TIB, 0, "1 TiB to shared");
	set_as_a_phase(t, 0, TIB, 0, "1 TiB to shared again");
	set_as_a_phase(t, PAGE_SIZE, TIB - 2 * PAGE_SIZE, KMA_PRIVATE,
		       "1 TiB less a page at both ends to private");
	set_as_a_phase(t, PAGE_SIZE, TIB - 2 * PAGE_SIZE, 0,
		       "1 TiB less a page at both ends to shared");
	assert_fair(&t->longest, &self->mainline);
}

/* Spread over all of the TiB, with sizes that no block has. */
#define FRAGMENTS	20000ull
#define STRIDE		(TIB / PAGE_SIZE / FRAGMENTS)

TEST_F_TIMEOUT(fair, tib_is_fragmented_and_made_uniform, 300)
{
	static const u64 sizes[] = { 1, 1, 3, 65, 1, 511, 1, 4097 };
	struct tib *t = &self->tib;
	struct timespec began;

	clock_gettime(CLOCK_MONOTONIC, &began);
	for (u64 i = 0; i < FRAGMENTS; i++) {
		u64 gpa = (i * STRIDE + i * 37 % 8192) * PAGE_SIZE;
		u64 size = sizes[i % ARRAY_SIZE(sizes)] * PAGE_SIZE;

		set(t, gpa, size, KMA_PRIVATE, "fragments in 1 TiB");
		kma_run_add(&t->want, gpa, size);
	}
	TEST_ASSERT_EQ(t->want.nr, FRAGMENTS);
	phase_ends(t, "20000 fragments in 1 TiB to private", began);

	set_as_a_phase(t, 0, TIB, KMA_PRIVATE, "1 TiB with fragments to private");

	/* And the reverse. */
	clock_gettime(CLOCK_MONOTONIC, &began);
	t->want.nr = 0;
	for (u64 i = 0, from = 0; i <= FRAGMENTS; i++) {
		u64 gpa = i < FRAGMENTS ? (i * STRIDE + 1 + i * 37 % 8192) * PAGE_SIZE : TIB;
		u64 size = sizes[i % ARRAY_SIZE(sizes)] * PAGE_SIZE;

		if (i < FRAGMENTS)
			set(t, gpa, size, 0, "holes in 1 TiB");
		kma_run_add(&t->want, from, gpa - from);
		from = gpa + size;
	}
	phase_ends(t, "20000 holes in 1 TiB", began);

	set_as_a_phase(t, 0, TIB, 0, "1 TiB with holes to shared");
	assert_fair(&t->longest, &self->mainline);
}

TEST_F_TIMEOUT(fair, every_other_page_of_a_gib_is_set_and_all_of_it_cleared, 600)
{
	struct tib *t = &self->tib;
	struct timespec began;

	/* A debug kernel takes as long for a part of it. */
	u64 first = 8 * GIB - (has_lock_stat() ? GIB / 8 : GIB);

	for (int i = 0; i < 2; i++) {
		u64 attributes = i ? 0 : KMA_PRIVATE;

		clock_gettime(CLOCK_MONOTONIC, &began);
		t->want.nr = 0;
		for (u64 gpa = first; gpa < 8 * GIB; gpa += 2 * PAGE_SIZE) {
			set(t, gpa, PAGE_SIZE, KMA_PRIVATE, "every other page of a stretch");
			kma_run_add(&t->want, gpa, PAGE_SIZE);
		}
		phase_ends(t, "every other page of a stretch to private", began);
		set_as_a_phase(t, 0, TIB, attributes, attributes ?
			       "1 TiB around every other page of a stretch to private" :
			       "1 TiB around every other page of a stretch to shared");
		if (attributes)
			set_as_a_phase(t, 0, TIB, 0, "1 TiB to shared");
	}
	assert_fair(&t->longest, &self->mainline);
}

TEST_HARNESS_MAIN
