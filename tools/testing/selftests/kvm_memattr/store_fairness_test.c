// SPDX-License-Identifier: GPL-2.0
/*
 * A TiB set, cleared and fragmented, with the soft-lockup watchdog at one
 * second: nobody waits long for a CPU, and nobody for slots_lock or mmu_lock
 * longer than on mainline's code for a range that is a fraction of it. And not
 * for that range either: both do the same work, on the same mappings.
 *
 * How long the locks are held, the debug kernel says.
 */
/* seconds: debug 2700 */
#include <sys/mman.h>

#include "kvm_memattr_guest.h"
#include "kvm_memattr_layers.h"
#include "kvm_memattr_module.h"
#include "kvm_memattr_runs.h"

#define TIB		BIT_ULL(40)
#define GIB		((u64)SZ_1G)

/* What both do, so that it takes mainline seconds on the debug kernel. */
#define SAME_SIZE	((u64)SZ_256M)

/* What is mapped before a set, for it to zap, spread over the range. */
#define WINDOWS		16
#define WINDOW_SIZE	((u64)SZ_2M)

/*
 * The slack of the comparison. A machine that is emulated on a loaded one is
 * stopped at any moment, with a lock held or not. What the test is to catch, a hold
 * for as long as 1 TiB takes, is of seconds.
 */
#define TIMES_LONGER	2
#define NOISE_US	100000.0

/*
 * A machine that stands still for longer than that does so now and then. A hold that
 * is the work's own is there each time.
 */
#define TRIES		3

#define LOCK_STAT	"/proc/lock_stat"
#define WATCHDOG	"/proc/sys/kernel/watchdog_thresh"

static bool has_lock_stat(void)
{
	return !access(LOCK_STAT, F_OK);
}

static void write_number(const char *path, int number)
{
	char text[16];

	snprintf(text, sizeof(text), "%d\n", number);
	kma_write_file(path, text);
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

/* A VM with one slot, and a vCPU to map its memory with. */
struct memory {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	u64 gpa;
	u64 size;
};

/* The VM with the module, and what is known of it. */
struct tib {
	struct memory memory;
	struct kma_view view;
	struct kma_run_list want;
	struct holds longest;
	int kmsg;
};

FIXTURE(fair) {
	struct tib tib;
	struct holds mainline;
	struct holds module;
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

static void memory_init(struct memory *m, u64 gpa, u64 size)
{
	void *mem = kvm_mmap(size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	int gmem;

	m->gpa = gpa;
	m->size = size;
	m->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	m->vcpu = __vm_vcpu_add(m->vm, 0);
	/* The file has to stay open: a slot doesn't hold it. */
	gmem = vm_create_guest_memfd(m->vm, size, 0);
	vm_set_user_memory_region2(m->vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, gpa, size, mem, gmem, 0);
}

static void map_window(struct memory *m, u64 gpa)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = WINDOW_SIZE };
	int ret;

	do {
		ret = __vcpu_ioctl(m->vcpu, KVM_PRE_FAULT_MEMORY, &range);
	} while (range.size && (!ret || errno == EINTR));
	TEST_ASSERT(!range.size, "mapping %lx: %s", gpa, strerror(errno));
}

/* As the guest would by touching it, private or shared as it is. */
static void map_memory(struct memory *m)
{
	for (u64 i = 0; i < WINDOWS; i++)
		map_window(m, m->gpa + i * (m->size / WINDOWS));
}

static u64 mapped_bytes(struct memory *m)
{
	return vm_get_stat(m->vm, pages_4k) * PAGE_SIZE + vm_get_stat(m->vm, pages_2m) * SZ_2M;
}

/* All of it to private and back, with what is mapped zapped each time. */
static struct holds holds_of_a_round_trip(struct memory *m)
{
	struct holds holds = {}, more;

	for (int i = 0; i < 2; i++) {
		map_memory(m);
		TEST_ASSERT_EQ(mapped_bytes(m), WINDOWS * WINDOW_SIZE);

		forget_holds();
		kma_set(m->vm, m->gpa, m->size, i ? 0 : KMA_PRIVATE);
		more = longest_holds();
		holds.slots_lock = max(holds.slots_lock, more.slots_lock);
		holds.mmu_lock = max(holds.mmu_lock, more.mmu_lock);
		TEST_ASSERT_EQ(mapped_bytes(m), 0);
	}
	return holds;
}

/* Of a VM that is made now, on the code that is there now: the best of the tries. */
static struct holds holds_of_the_same_work(void)
{
	struct holds holds, again;
	struct memory m;

	memory_init(&m, KMA_GPA, SAME_SIZE);
	holds = holds_of_a_round_trip(&m);
	for (int i = 1; i < TRIES; i++) {
		again = holds_of_a_round_trip(&m);
		holds.slots_lock = min(holds.slots_lock, again.slots_lock);
		holds.mmu_lock = min(holds.mmu_lock, again.mmu_lock);
	}
	kvm_vm_free(m.vm);
	return holds;
}

FIXTURE_SETUP(fair)
{
	struct tib *t = &self->tib;

	KMA_REQUIRE_MODULE();
	KMA_REQUIRE_PROTECTED_VMS();

	self->thresh = read_number(WATCHDOG);
	if (has_lock_stat()) {
		self->lock_stat = read_number("/proc/sys/kernel/lock_stat");
		write_number("/proc/sys/kernel/lock_stat", 1);
	}
	self->unloads = true;
	kma_unload();
	self->mainline = holds_of_the_same_work();
	kma_load();
	self->module = holds_of_the_same_work();

	/* From address 0 on: no host has room for a TiB above what a guest needs. */
	memory_init(&t->memory, 0, TIB);
	t->view = kma_view_of(t->memory.vm);

	t->kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	TEST_ASSERT(t->kmsg >= 0 && lseek(t->kmsg, 0, SEEK_END) >= 0,
		    "cannot read /dev/kmsg: %s", strerror(errno));
	write_number(WATCHDOG, 1);
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
	int ret = __kma_set(t->memory.vm, gpa, size, attributes);

	TEST_ASSERT(!ret, "%s: setting %lx in [%lx, %lx): %s", phase, attributes, gpa, gpa + size,
		    strerror(errno));
}

/* A phase of sets begins, with something to zap, which is no part of it. */
static struct timespec phase_begins(struct tib *t)
{
	struct timespec now;

	map_memory(&t->memory);
	forget_holds();
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now;
}

/* What it has taken. */
static void phase_is_measured(struct tib *t, const char *phase, struct timespec began)
{
	struct timespec took = timespec_elapsed(began);
	struct holds holds = longest_holds();

	assert_no_lockup(t->kmsg, phase);
	if (has_lock_stat())
		printf("# figure: %s: longest hold of slots_lock %.0f us, of mmu_lock %.0f us\n",
		       phase, holds.slots_lock, holds.mmu_lock);
	else
		printf("# figure: %s: %ld ms (holds of locks: see the debug kernel)\n", phase,
		       timespec_to_ns(took) / 1000000);
	t->longest.slots_lock = max(t->longest.slots_lock, holds.slots_lock);
	t->longest.mmu_lock = max(t->longest.mmu_lock, holds.mmu_lock);
}

/* A phase of sets has ended: t->want is what there is to be. */
static void phase_ends(struct tib *t, const char *phase, struct timespec began)
{
	phase_is_measured(t, phase, began);
	kma_assert_run_list(&t->view, &t->want, phase);
}

/* One set as a phase, after which there are no runs, or this one. */
static void set_as_a_phase(struct tib *t, u64 gpa, u64 size, u64 attributes,
			   const char *phase)
{
	struct timespec began;

	t->want.nr = 0;
	if (attributes)
		kma_run_add(&t->want, gpa, size);
	began = phase_begins(t);
	set(t, gpa, size, attributes, phase);
	phase_ends(t, phase, began);
}

static bool no_longer(double module, double mainline)
{
	return module <= mainline * TIMES_LONGER + NOISE_US;
}

static void assert_no_longer(const char *lock, const char *work, double module, double mainline)
{
	TEST_ASSERT(module > 0 && mainline > 0, "no hold of %s was seen", lock);
	TEST_ASSERT(no_longer(module, mainline), "%s: %s was held %.0f us, by mainline %.0f us",
		    work, lock, module, mainline);
}

static void assert_fair(FIXTURE_DATA(fair) * self)
{
	const struct holds *mainline = &self->mainline, *module = &self->module;
	const struct holds *tib = &self->tib.longest;

	if (!has_lock_stat())
		return;

	printf("# figure: the same work, %llu MiB with %llu MiB mapped, longest holds: ",
	       SAME_SIZE / SZ_1M, WINDOWS * WINDOW_SIZE / SZ_1M);
	printf("slots_lock %.0f us on mainline, %.0f us with the module, ",
	       mainline->slots_lock, module->slots_lock);
	printf("mmu_lock %.0f us on mainline, %.0f us with the module\n",
	       mainline->mmu_lock, module->mmu_lock);

	assert_no_longer("slots_lock", "the same work", module->slots_lock,
			 mainline->slots_lock);
	assert_no_longer("mmu_lock", "the same work", module->mmu_lock, mainline->mmu_lock);
	/* slots_lock is held for a whole request, by mainline as well: only printed. */
	assert_no_longer("mmu_lock", "1 TiB", tib->mmu_lock, mainline->mmu_lock);
}

/* What begins and ends with a TiB that is all shared. */
static void try_to_be_fair(FIXTURE_DATA(fair) * self, void (*work)(struct tib *t))
{
	struct tib *t = &self->tib;

	for (int i = 1; ; i++) {
		t->longest = (struct holds) {};
		work(t);
		if (!has_lock_stat() || i == TRIES ||
		    no_longer(t->longest.mmu_lock, self->mainline.mmu_lock))
			break;
		printf("# retry: mmu_lock was held %.0f us\n", t->longest.mmu_lock);
	}
	assert_fair(self);
}

static void set_and_clear(struct tib *t)
{
	set_as_a_phase(t, 0, TIB, KMA_PRIVATE, "1 TiB to private");
	set_as_a_phase(t, 0, TIB, KMA_PRIVATE, "1 TiB to private again");
	set_as_a_phase(t, 0, TIB, 0, "1 TiB to shared");
	set_as_a_phase(t, 0, TIB, 0, "1 TiB to shared again");
	set_as_a_phase(t, PAGE_SIZE, TIB - 2 * PAGE_SIZE, KMA_PRIVATE,
		       "1 TiB less a page at both ends to private");
	set_as_a_phase(t, PAGE_SIZE, TIB - 2 * PAGE_SIZE, 0,
		       "1 TiB less a page at both ends to shared");
}

TEST_F_TIMEOUT(fair, tib_is_set_and_cleared, 600)
{
	try_to_be_fair(self, set_and_clear);
}

/* Spread over all of the TiB, with sizes that no block has. */
static void fragment_and_make_uniform(struct tib *t)
{
	static const u64 sizes[] = { 1, 1, 3, 65, 1, 511, 1, 4097 };
	/* A debug kernel takes minutes for more. */
	const u64 fragments = has_lock_stat() ? 4000 : 20000;
	const u64 stride = TIB / PAGE_SIZE / fragments;
	struct timespec began;

	began = phase_begins(t);
	for (u64 i = 0; i < fragments; i++) {
		u64 gpa = (i * stride + i * 37 % 8192) * PAGE_SIZE;
		u64 size = sizes[i % ARRAY_SIZE(sizes)] * PAGE_SIZE;

		set(t, gpa, size, KMA_PRIVATE, "fragments in 1 TiB");
		kma_run_add(&t->want, gpa, size);
	}
	TEST_ASSERT_EQ(t->want.nr, fragments);
	phase_ends(t, "fragments in 1 TiB to private", began);

	set_as_a_phase(t, 0, TIB, KMA_PRIVATE, "1 TiB with fragments to private");

	/* And the reverse. */
	began = phase_begins(t);
	t->want.nr = 0;
	for (u64 i = 0, from = 0; i <= fragments; i++) {
		u64 gpa = i < fragments ? (i * stride + 1 + i * 37 % 8192) * PAGE_SIZE : TIB;
		u64 size = sizes[i % ARRAY_SIZE(sizes)] * PAGE_SIZE;

		if (i < fragments)
			set(t, gpa, size, 0, "holes in 1 TiB");
		kma_run_add(&t->want, from, gpa - from);
		from = gpa + size;
	}
	phase_ends(t, "holes in 1 TiB", began);

	set_as_a_phase(t, 0, TIB, 0, "1 TiB with holes to shared");
}

TEST_F_TIMEOUT(fair, tib_is_fragmented_and_made_uniform, 900)
{
	try_to_be_fair(self, fragment_and_make_uniform);
}

static void set_every_other_page(struct tib *t)
{
	struct timespec began;

	/* A debug kernel takes as long for a part of it. */
	u64 first = 8 * GIB - (has_lock_stat() ? GIB / 8 : GIB);

	for (int i = 0; i < 2; i++) {
		u64 attributes = i ? 0 : KMA_PRIVATE;

		began = phase_begins(t);
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
}

TEST_F_TIMEOUT(fair, every_other_page_of_a_gib_is_set_and_all_of_it_cleared, 1200)
{
	try_to_be_fair(self, set_every_other_page);
}

/* One page in each stretch of a quarter of the TiB, a batch for each quarter. */
#define BATCHES		4
#define QUARTER		(TIB / BATCHES)

/* Somebody who wants mmu_lock meanwhile: it's what a batch lets go of it for. */
struct waiter {
	struct memory *memory;
	pthread_t thread;
	u64 gpa;
	u64 rounds;
	bool stop;
};

static void *waiter_thread(void *arg)
{
	struct waiter *w = arg;

	while (!READ_ONCE(w->stop)) {
		map_window(w->memory, READ_ONCE(w->gpa));
		WRITE_ONCE(w->rounds, w->rounds + 1);
	}
	return NULL;
}

static void batch_all_quarters(struct tib *t, u64 attributes, const char *phase)
{
	static struct kvm_memory_attributes_entry entries[BATCH_MOST];
	struct waiter waiter = { .memory = &t->memory, .gpa = QUARTER };
	const u64 stride = QUARTER / BATCH_MOST;
	struct timespec began = phase_begins(t);

	kvm_pthread_create(&waiter.thread, NULL, waiter_thread, &waiter);
	t->want.nr = 0;
	for (u64 n = 0; n < BATCHES; n++) {
		u64 rounds;

		/* In another quarter, where nothing is being changed. */
		WRITE_ONCE(waiter.gpa, (n + 1) % BATCHES * QUARTER);
		rounds = READ_ONCE(waiter.rounds);
		while (READ_ONCE(waiter.rounds) < rounds + 2)
			usleep(100);
		for (u64 i = 0; i < BATCH_MOST; i++) {
			u64 gpa = n * QUARTER + i * stride + i * 37 % 8192 * PAGE_SIZE;

			entries[i] = layers_entry(0, gpa, PAGE_SIZE, attributes, KMA_PRIVATE);
			if (attributes)
				kma_run_add(&t->want, gpa, PAGE_SIZE);
		}
		layers_batch(t->memory.vm, entries, BATCH_MOST);
	}
	WRITE_ONCE(waiter.stop, true);
	kvm_pthread_join(waiter.thread, NULL);
	phase_ends(t, phase, began);
}

static void batch_scattered_pages(struct tib *t)
{
	batch_all_quarters(t, KMA_PRIVATE, "batches of scattered pages to private");
	batch_all_quarters(t, 0, "batches of scattered pages to shared");
}

TEST_F_TIMEOUT(fair, pages_all_over_a_tib_are_set_by_batches, 600)
{
	try_to_be_fair(self, batch_scattered_pages);
}

static void restrict_as_a_phase(struct tib *t, u64 gpa, u64 size, u64 attributes,
				const char *phase)
{
	struct timespec began = phase_begins(t);

	set(t, gpa, size, attributes, phase);
	phase_is_measured(t, phase, began);
	layers_assert(t->memory.vm, LAYERS_UNION, gpa, size, attributes);
}

static void restrict_and_grant(struct tib *t)
{
	restrict_as_a_phase(t, 0, TIB, KMA_NW, "1 TiB to NW");
	restrict_as_a_phase(t, PAGE_SIZE, TIB - 2 * PAGE_SIZE, KMA_NW | KMA_NX,
			    "1 TiB less a page at both ends to NW and NX");
	restrict_as_a_phase(t, PAGE_SIZE, TIB - 2 * PAGE_SIZE, KMA_NW,
			    "1 TiB less a page at both ends to NW");
	restrict_as_a_phase(t, 0, TIB, 0, "1 TiB to all rights");
}

TEST_F_TIMEOUT(fair, rights_to_a_tib_are_taken_and_given, 600)
{
	try_to_be_fair(self, restrict_and_grant);
}

TEST_HARNESS_MAIN
