// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE: a signal stops it after some pages, and it
 * says which is the first that it has not set. What is before that is set, the rest
 * is as it was, and whoever goes on until nothing is left has set all of it. A
 * signal that came before it could begin is EINTR, and has changed nothing.
 */
#include <linux/userfaultfd.h>
#include <pthread.h>

#include "kvm_memattr_alarm.h"
#include "kvm_memattr_gmem.h"
#include "kvm_memattr_layers.h"
#include "kvm_memattr_random.h"
#include "kvm_memattr_rwx_huge.h"

/* What is zapped at a time before a signal is heeded. */
#define STEP		(32768ull * PAGE_SIZE)

#define TIB		BIT_ULL(40)
/* As much as there are addresses for on the emulated CPU. */
#define ROOM		(TIB / 2)
#define PERIOD_US	2000
#define ATTEMPTS	50
#define SECONDS		20

static int __resumable(struct kvm_vm *vm, struct kvm_memory_attributes *attr)
{
	return ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, attr);
}

static struct kvm_memory_attributes attr_of(u64 address, u64 size, u64 attributes)
{
	return (struct kvm_memory_attributes) {
		.address = address,
		.size = size,
		.attributes = attributes,
	};
}

/*
 * One call, which says how much is left of exactly the range that it was asked for.
 * A signal that comes before it has begun is no progress, and nothing else either.
 */
static void call(struct kvm_vm *vm, struct kvm_memory_attributes *attr)
{
	const struct kvm_memory_attributes was = *attr;

	while (__resumable(vm, attr)) {
		TEST_ASSERT(errno == EINTR, "errno %d at 0x%llx", errno, attr->address);
		TEST_ASSERT(!memcmp(attr, &was, sizeof(was)), "EINTR has written back");
	}
	TEST_ASSERT(attr->address > was.address && attr->size < was.size &&
		    attr->address + attr->size == was.address + was.size &&
		    !(attr->address % PAGE_SIZE),
		    "of 0x%llx bytes at 0x%llx there are 0x%llx left at 0x%llx", was.size,
		    was.address, attr->size, attr->address);
	TEST_ASSERT(attr->attributes == was.attributes && !attr->flags,
		    "more than address and size was written");
}

FIXTURE(resume) {
	struct kvm_vm *vm;
	struct kma_view view;
	/* A slot of ROOM at KMA_GPA, without any memory in it. */
	void *memory;
};

FIXTURE_SETUP(resume)
{
	KMA_REQUIRE_PROTECTED_VMS();
	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->view = kma_view_of(self->vm);
	self->memory = mmap(NULL, ROOM, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, self->memory);
	vm_set_user_memory_region(self->vm, 0, 0, KMA_GPA, ROOM, self->memory);
	alarm_catch(SIGALRM);
	alarm_catch(SIGUSR1);
}

FIXTURE_TEARDOWN(resume)
{
	if (self->vm)
		kvm_vm_free(self->vm);
	munmap(self->memory, ROOM);
}

TEST_F(resume, without_a_signal_it_is_done_at_once)
{
	static const struct { u64 address, size; } ranges[] = {
		{ KMA_GPA, PAGE_SIZE }, { KMA_GPA, SZ_1G }, { 0, PAGE_SIZE },
		{ KMA_GPA + PAGE_SIZE, 3 * STEP }, { KMA_GPA, TIB },
		{ LAYERS_ALL - PAGE_SIZE, PAGE_SIZE },
	};

	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		u64 word = i % 2 ? KMA_PRIVATE : KMA_NW;

		/* And once more, when there is nothing left to change. */
		for (int again = 0; again < 2; again++) {
			struct kvm_memory_attributes attr = attr_of(ranges[i].address,
								    ranges[i].size, word);

			call(self->vm, &attr);
			TEST_ASSERT_EQ(attr.size, 0);
			layers_assert(self->vm, 0, ranges[i].address, ranges[i].size, word);
		}
		layers_set_whole(self->vm, 0, 0);
		kma_assert_runs(&self->view, "");
	}
}

/* 2^52 pages, hardly any of them in a slot: as with KVM_SET_MEMORY_ATTRIBUTES, no work. */
TEST_F_TIMEOUT(resume, all_addresses_at_once, 60)
{
	struct kvm_memory_attributes attr = attr_of(0, LAYERS_ALL, KMA_NW);

	call(self->vm, &attr);
	TEST_ASSERT_EQ(attr.size, 0);
	layers_assert(self->vm, 0, 0, LAYERS_ALL, KMA_NW);
}

/* It is the base layer's, as KVM_SET_MEMORY_ATTRIBUTES. */
TEST_F(resume, other_layers_are_left_alone)
{
	struct kvm_memory_attributes attr = attr_of(KMA_GPA, SZ_1G, KMA_NW);

	layers_set(self->vm, 9, KMA_GPA, SZ_2M, KMA_NX);
	call(self->vm, &attr);
	TEST_ASSERT_EQ(attr.size, 0);
	layers_assert(self->vm, 9, KMA_GPA, SZ_2M, KMA_NX);
	layers_assert(self->vm, 0, KMA_GPA, SZ_1G, KMA_NW);
}

/* Stops at least once in a range that it takes many steps for. */
static void stop_once(struct kvm_vm *vm, struct kvm_memory_attributes *attr)
{
	const struct kvm_memory_attributes all = *attr;

	for (int i = 0; i < ATTEMPTS; i++) {
		*attr = all;
		alarm_each(PERIOD_US);
		call(vm, attr);
		alarm_each(0);
		if (attr->size)
			return;
		kma_set(vm, all.address, all.size, 0);
	}
	TEST_FAIL("no signal has stopped it, of %d", alarms);
}

TEST_F_TIMEOUT(resume, what_is_before_the_address_is_set_and_the_rest_is_as_it_was, 300)
{
	static const u64 to[] = { KMA_NW, KMA_NO_ACCESS, KMA_PRIVATE };
	struct kvm_vm *vm = self->vm;

	for (int i = 0; i < ARRAY_SIZE(to); i++) {
		const u64 first = KMA_GPA + 3 * PAGE_SIZE, size = ROOM - 3 * PAGE_SIZE;
		struct kvm_memory_attributes attr = attr_of(first, size, to[i]);
		u64 calls = 1, stopped;

		stop_once(vm, &attr);
		stopped = attr.address;
		TEST_ASSERT((stopped - first) % STEP == 0, "it has stopped at 0x%lx, within a step",
			    stopped);
		layers_assert(vm, 0, first, stopped - first, to[i]);
		layers_assert(vm, 0, stopped, first + size - stopped, 0);
		layers_assert(vm, 0, 0, first, 0);

		/* From there on to the end, whatever interrupts it. */
		alarm_each(PERIOD_US);
		for (; attr.size; calls++)
			call(vm, &attr);
		alarm_each(0);
		layers_assert(vm, 0, first, size, to[i]);
		layers_assert(vm, 0, first + size, TIB, 0);
		printf("# figure: stopped after %lu of %lu GiB first, %lu calls in all\n",
		       (stopped - first) / SZ_1G, size / SZ_1G, calls);
		kma_set(vm, 0, LAYERS_ALL, 0);
		kma_assert_runs(&self->view, "");
	}
}

/* Many runs, each of them zapped on its own, and pages that are set already between. */
TEST_F_TIMEOUT(resume, what_was_set_before_shows_in_nothing, 300)
{
	const u64 nr_runs = 300, size = nr_runs * SZ_1G, first = KMA_GPA;
	struct kvm_vm *vm = self->vm;
	u64 stops = 0, at;

	for (int round = 0; round < ATTEMPTS && stops < 5; round++) {
		struct kvm_memory_attributes attr = attr_of(first, size, KMA_NW);

		for (u64 i = 0; i < nr_runs; i++)
			kma_set(vm, first + i * SZ_1G, SZ_4M, i % 2 ? KMA_NX : KMA_NW);
		alarm_each(PERIOD_US);
		while (attr.size) {
			at = attr.address;
			call(vm, &attr);
			stops += !!attr.size;
			layers_assert(vm, 0, at, attr.address - at, KMA_NW);
			/* What was set before may go on behind it. */
			if (attr.size > SZ_1G && (attr.address - first) % SZ_1G >= SZ_4M)
				layers_assert(vm, 0, attr.address,
					      SZ_1G - (attr.address - first) % SZ_1G, 0);
		}
		alarm_each(0);
		layers_assert(vm, 0, first, size, KMA_NW);
		kma_set(vm, first, size, 0);
	}
	printf("# figure: stopped %lu times\n", stops);
	TEST_ASSERT(stops, "no signal has stopped it, of %d", alarms);
}

TEST_F_TIMEOUT(resume, what_is_counted_is_what_was_set, 300)
{
	struct kvm_memory_attributes attr = attr_of(KMA_GPA, ROOM, KMA_NW);
	u64 pages, zapped;

	stop_once(self->vm, &attr);
	kma_set(self->vm, KMA_GPA, ROOM, 0);

	attr = attr_of(KMA_GPA, ROOM, KMA_NW);
	pages = kma_stat(&self->view, "pages_set");
	zapped = kma_stat(&self->view, "pages_zapped");
	alarm_each(PERIOD_US);
	while (attr.size)
		call(self->vm, &attr);
	alarm_each(0);
	TEST_ASSERT_EQ(kma_stat(&self->view, "pages_set") - pages, ROOM / PAGE_SIZE);
	TEST_ASSERT_EQ(kma_stat(&self->view, "pages_zapped") - zapped, ROOM / PAGE_SIZE);
}

/* The others never stop, whatever they set. */
TEST_F_TIMEOUT(resume, set_and_batch_are_not_stopped, 300)
{
	struct kvm_memory_attributes_entry entry = layers_entry(0, KMA_GPA, ROOM, KMA_NX,
								KMA_NX);
	int before;

	alarm_each(PERIOD_US);
	for (before = alarms; alarms < before + 20; ) {
		kma_set(self->vm, KMA_GPA, ROOM, KMA_NW);
		layers_assert(self->vm, 0, KMA_GPA, ROOM, KMA_NW);
		layers_batch(self->vm, &entry, 1);
		layers_assert(self->vm, 0, KMA_GPA, ROOM, KMA_NW | KMA_NX);
		layers_set(self->vm, 3, KMA_GPA, ROOM, KMA_NW);
		layers_set_whole(self->vm, 3, 0);
		layers_set_whole(self->vm, 0, 0);
	}
	alarm_each(0);
}

/* --- the guest's side --- */

/* Every other page of the guest's memory, so that each is zapped alone. */
static void restrict_every_other(struct rwx_guest *g)
{
	struct kvm_memory_attributes_entry *entries = layers_alloc(BATCH_MOST, sizeof(*entries));
	u32 nr = 0;

	for (u64 page = 0; page < g->nr_pages; page += 2)
		entries[nr++] = layers_entry(0, g->gpa + page * PAGE_SIZE, PAGE_SIZE, KMA_NX,
					     KMA_NX);
	layers_batch(g->vm, entries, nr);
	free(entries);
}

/* After a call that has stopped between its pages. */
static void assert_bound(struct rwx_guest *g, u64 stopped)
{
	for (u64 page = 0; page < g->nr_pages; page += 41)
		rwx_check_all(g, page, page < stopped ? KMA_NW : page % 2 ? 0 : KMA_NX);
	for (u64 page = stopped - 2; page < stopped + 2; page++)
		rwx_check_all(g, page, page < stopped ? KMA_NW : page % 2 ? 0 : KMA_NX);
}

TEST_F_TIMEOUT(resume, guest_is_bound_up_to_the_address, 300)
{
	int stopped = 0, tries = 0;
	struct rwx_guest g = {};

	kma_random_init();
	rwx_huge_init(&g, KVM_X86_DEFAULT_VM, 2 * RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
	for (; tries < 40 * ATTEMPTS && stopped < 3; tries++) {
		u64 first = g.gpa, end = g.gpa + g.nr_pages * PAGE_SIZE;
		struct kvm_memory_attributes attr = attr_of(first, end - first, KMA_NW);
		struct itimerval once = { .it_value.tv_usec = 1 + kma_random_below(3000) };

		restrict_every_other(&g);
		rwx_allowed(&g, RWX_WRITE, 5);
		rwx_allowed(&g, RWX_WRITE, RWX_BLOCK + 5);
		setitimer(ITIMER_REAL, &once, NULL);
		call(g.vm, &attr);
		alarm_each(0);
		if (attr.size && attr.address > g.gpa + 2 * PAGE_SIZE &&
		    attr.address < end - 2 * PAGE_SIZE) {
			assert_bound(&g, (attr.address - g.gpa) / PAGE_SIZE);
			stopped++;
		}
		kma_set(g.vm, first, end - first, 0);
	}
	printf("# figure: stopped %d times, of %d, between two pages of the guest\n", stopped,
	       tries);
	TEST_ASSERT(stopped, "no signal has stopped it there, of %d", alarms);
	kvm_vm_free(g.vm);
}

/* --- EINTR --- */

/* Holds slots_lock: the log is written to memory that is not there until it is given. */
struct holder {
	struct kvm_vm *vm;
	pthread_t thread;
	void *page;
	int uffd;
};

#define LOG_SLOT	20
#define LOG_GPA		(KMA_GPA + ROOM)

static void *hold_thread(void *arg)
{
	struct holder *h = arg;

	kvm_vm_get_dirty_log(h->vm, LOG_SLOT, h->page);
	return NULL;
}

static void hold_slots_lock(struct holder *h, struct kvm_vm *vm)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffd_msg msg;

	h->vm = vm;
	h->uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	TEST_ASSERT(h->uffd >= 0 && !ioctl(h->uffd, UFFDIO_API, &api), "userfaultfd: %s",
		    strerror(errno));
	h->page = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	reg.range.start = (u64)h->page;
	reg.range.len = PAGE_SIZE;
	TEST_ASSERT(!ioctl(h->uffd, UFFDIO_REGISTER, &reg), "UFFDIO_REGISTER: %s",
		    strerror(errno));
	kvm_pthread_create(&h->thread, NULL, hold_thread, h);
	/* It is there once it has met the page. */
	TEST_ASSERT(read(h->uffd, &msg, sizeof(msg)) == sizeof(msg), "no fault: %s",
		    strerror(errno));
}

static void release_slots_lock(struct holder *h)
{
	struct uffdio_zeropage zero = {
		.range.start = (u64)h->page,
		.range.len = PAGE_SIZE,
	};

	TEST_ASSERT(!ioctl(h->uffd, UFFDIO_ZEROPAGE, &zero), "UFFDIO_ZEROPAGE: %s",
		    strerror(errno));
	kvm_pthread_join(h->thread, NULL);
	close(h->uffd);
	kvm_munmap(h->page, PAGE_SIZE);
}

struct setter {
	struct kvm_vm *vm;
	unsigned long command;
	struct kvm_memory_attributes attr;
	pthread_t thread;
	pid_t tid;
	int ret;
	int err;
};

static void *set_thread(void *arg)
{
	struct setter *s = arg;

	WRITE_ONCE(s->tid, kvm_gettid());
	s->ret = ioctl(s->vm->fd, s->command, &s->attr);
	s->err = errno;
	return NULL;
}

/* What /proc says of a thread: D is one that waits and is not woken by signals. */
static char state_of(pid_t tid)
{
	char path[64], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	file = fopen(path, "r");
	TEST_ASSERT(file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1, "cannot read %s", path);
	fclose(file);
	return state;
}

static void wait_until_it_waits(struct setter *s)
{
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (!READ_ONCE(s->tid) || state_of(s->tid) != 'D') {
		TEST_ASSERT(timespec_elapsed(start).tv_sec < SECONDS, "it does not wait");
		usleep(1000);
	}
}

/* The command waits for the lock, there is a signal if asked for, and it gets the lock. */
static void set_behind_lock(struct setter *s, struct kvm_vm *vm, unsigned long command,
			    struct kvm_memory_attributes attr, bool signal)
{
	struct holder h;

	*s = (struct setter) { .vm = vm, .command = command, .attr = attr };
	hold_slots_lock(&h, vm);
	kvm_pthread_create(&s->thread, NULL, set_thread, s);
	wait_until_it_waits(s);
	if (signal)
		pthread_kill(s->thread, SIGUSR1);
	release_slots_lock(&h);
	kvm_pthread_join(s->thread, NULL);
}

TEST_F(resume, signal_before_it_began_is_eintr_and_nothing_has_changed)
{
	const struct kvm_memory_attributes attr = attr_of(KMA_GPA, SZ_1G, KMA_NW);
	struct kvm_vm *vm = self->vm;
	struct setter s;
	char *runs;

	vm_mem_add(vm, VM_MEM_SRC_ANONYMOUS, LOG_GPA, LOG_SLOT, 16, KVM_MEM_LOG_DIRTY_PAGES, -1, 0);
	layers_set(vm, 0, KMA_GPA, SZ_2M, KMA_NX);
	runs = kma_runs(&self->view);
	for (int i = 0; i < 5; i++) {
		u64 sets = kma_stat(&self->view, "sets");

		set_behind_lock(&s, vm, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, attr, true);
		TEST_ASSERT(s.ret == -1 && s.err == EINTR, "rc %d errno %d", s.ret, s.err);
		TEST_ASSERT(!memcmp(&s.attr, &attr, sizeof(attr)), "EINTR has written back");
		kma_assert_runs(&self->view, runs);
		TEST_ASSERT_EQ(kma_stat(&self->view, "sets"), sets);
	}
	free(runs);

	/* Without one it is set as soon as it gets there. */
	set_behind_lock(&s, vm, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, attr, false);
	TEST_ASSERT(!s.ret && !s.attr.size && s.attr.address == KMA_GPA + SZ_1G,
		    "rc %d errno %d, 0x%llx left", s.ret, s.err, s.attr.size);
	layers_assert(vm, 0, KMA_GPA, SZ_1G, KMA_NW);
}

TEST_F(resume, signal_before_it_began_does_not_stop_a_set)
{
	const struct kvm_memory_attributes attr = attr_of(KMA_GPA, SZ_1G, KMA_NW);
	struct kvm_vm *vm = self->vm;
	struct setter s;

	vm_mem_add(vm, VM_MEM_SRC_ANONYMOUS, LOG_GPA, LOG_SLOT, 16, KVM_MEM_LOG_DIRTY_PAGES, -1, 0);
	set_behind_lock(&s, vm, KVM_SET_MEMORY_ATTRIBUTES, attr, true);
	TEST_ASSERT(!s.ret, "errno %d", s.err);
	layers_assert(vm, 0, KMA_GPA, SZ_1G, KMA_NW);
}

TEST_HARNESS_MAIN
