// SPDX-License-Identifier: GPL-2.0
/*
 * Conversions in place while others use the pages: vCPUs, userspace, holes and
 * allocations, other conversions, slots that come and go, and memory errors. A
 * page is in one state or the other for each of them, and when a conversion has
 * returned, it is in the new one.
 */
/* seconds: release 600, debug 1200 */
#include <sys/uio.h>

#include "kvm_memattr_gmem.h"
#include "kvm_memattr_layers.h"
#include "kvm_memattr_observe.h"
#include "kvm_memattr_random.h"

#define RACE_ROUNDS		150
#define RACE_DEBUG_SHARE	5

/*
 * How many of the hundreds of conversions of a race may be refused for a page fault
 * of a vCPU. The module waits for these: only one that stands still for long, on a
 * machine with other work to do, is met.
 */
#define RACE_REFUSED		10

/*
 * How often a vCPU may exit, for a fault that has begun before a conversion. One that
 * takes memory for what it isn't exits for each of its accesses.
 */
#define RACE_EXITS		200

/* For each stage of a round, so that others see some of it. */
#define STAGE_US		300

/*
 * What the pages are, as long as others see the same phase before and after they
 * look. A phase is the round and one of these.
 */
enum stage {
	/* Nothing that can be relied on. */
	STAGE_ANY,
	/* What was before, or what is after a conversion. */
	STAGE_CHANGES,
	/* What is after it. */
	STAGE_CHANGED,
	NR_STAGES,
};

/* The guest's, shared with the host. */
static struct {
	u64 stop;
	u64 phase;
	/* Do pages turn into junk, or keep what they have? */
	u64 junk;
	/* Whether the guest leaves a count of its own in each page, and finds it there. */
	u64 counts;
	/* Or pages lose what they hold at any time, to zeroes or junk; it is written to. */
	u64 loses;
	u64 rounds[KMA_VCPUS];
} hammer;

/* Where in a page the guest looks, in this order. */
static const u64 looks[] = { 0, 1, 255, 510 };

/* The last word of a page, and one that nothing else uses, by vCPU. */
#define COUNT_WORD(_vcpu)	(KMA_PAGE_WORDS - 1 - 2 * (_vcpu))

/* A page that may be a new one at any time, but never one of somebody else. */
static void hammer_use(u64 gpa, u64 *count)
{
	for (int i = 0; i < ARRAY_SIZE(looks); i++) {
		u64 word = READ_ONCE(((u64 *)gpa)[looks[i]]);

		__GUEST_ASSERT(!word || word == KMA_JUNK ||
			       word == kma_word(KMA_KIND_NEW, gpa + looks[i] * sizeof(u64)),
			       "page 0x%lx, word %lu is %lx", gpa, looks[i], word);
	}
	WRITE_ONCE(*count, READ_ONCE(*count) + 1);
}

/* One page: all of its words are of before, or of after, or those that come first are. */
static void hammer_look(u64 gpa)
{
	u64 phase = READ_ONCE(hammer.phase), words[ARRAY_SIZE(looks)], after;
	bool junk = phase % NR_STAGES == STAGE_CHANGED && READ_ONCE(hammer.junk);

	for (int i = 0; i < ARRAY_SIZE(looks); i++)
		words[i] = READ_ONCE(((u64 *)gpa)[looks[i]]);
	after = READ_ONCE(hammer.phase);
	if (phase != after || phase % NR_STAGES == STAGE_ANY)
		return;

	for (int i = 0; i < ARRAY_SIZE(looks); i++) {
		u64 old = kma_word(KMA_KIND_NEW, gpa + looks[i] * sizeof(u64));

		/* Junk may come at any time, but then it stays. */
		if (words[i] == KMA_JUNK && READ_ONCE(hammer.junk))
			junk = true;
		__GUEST_ASSERT(words[i] == (junk ? KMA_JUNK : old),
			       "page 0x%lx, word %lu is %lx in phase %lu", gpa, looks[i], words[i],
			       phase);
	}
}

static void hammer_code(u64 vcpu_id)
{
	static u64 counts[KMA_VCPUS][KMA_PAGES];

	while (!READ_ONCE(hammer.stop)) {
		for (u64 page = 0; page < KMA_PAGES; page++) {
			u64 gpa = KMA_GPA + page * PAGE_SIZE;
			u64 *count = (u64 *)gpa + COUNT_WORD(vcpu_id);

			if (READ_ONCE(hammer.loses)) {
				hammer_use(gpa, count);
				continue;
			}
			hammer_look(gpa);
			if (!READ_ONCE(hammer.counts))
				continue;

			__GUEST_ASSERT(READ_ONCE(*count) == counts[vcpu_id][page],
				       "page %lu has lost a write: %lu, not %lu", page,
				       READ_ONCE(*count), counts[vcpu_id][page]);
			WRITE_ONCE(*count, ++counts[vcpu_id][page]);
		}
		WRITE_ONCE(hammer.rounds[vcpu_id], hammer.rounds[vcpu_id] + 1);
	}
	GUEST_DONE();
}

struct race {
	struct kvm_vm *vm;
	int fd;
	void *mem;
	int observer;
	/* Pages go bad, and vCPUs exit for them. */
	bool errors;
	/* The slot's file is closed, and vCPUs exit for that. */
	bool closed;
	struct racer {
		struct race *race;
		struct kvm_vcpu *vcpu;
		pthread_t thread;
		u64 exits;
		u64 bad_exits;
	} racers[KMA_VCPUS];
	int rounds;
	u64 refused;
};

/* An access where there's no slot at the moment reads what the page holds. */
static void complete_mmio(struct kvm_run *run)
{
	u64 word = kma_word(KMA_KIND_NEW, run->mmio.phys_addr);

	TEST_ASSERT(!run->mmio.is_write && run->mmio.len == sizeof(word),
		    "the guest writes to 0x%llx without a slot", run->mmio.phys_addr);
	memcpy(run->mmio.data, &word, sizeof(word));
}

static void *racer_thread(void *arg)
{
	struct racer *racer = arg;
	struct kvm_vcpu *vcpu = racer->vcpu;
	struct kvm_run *run = vcpu->run;
	struct ucall uc;
	int ret;

	for (;;) {
		ret = __vcpu_run(vcpu);
		if (ret && errno == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
			/* The state has changed between two looks at it in one fault. */
			TEST_ASSERT(!(run->memory_fault.flags & ~KVM_MEMORY_EXIT_FLAG_PRIVATE),
				    "an exit with flags 0x%llx", run->memory_fault.flags);
			racer->exits += !READ_ONCE(racer->race->closed);
			continue;
		}
		if (ret && errno == EHWPOISON && run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
			TEST_ASSERT(racer->race->errors, "a page has gone bad by itself");
			racer->bad_exits++;
			continue;
		}
		TEST_ASSERT(!ret, "vCPU %u stopped: errno %d exit %u (%s)", vcpu->id, errno,
			    run->exit_reason, exit_reason_str(run->exit_reason));
		if (run->exit_reason == KVM_EXIT_MMIO) {
			complete_mmio(run);
			continue;
		}

		switch (get_ucall(vcpu, &uc)) {
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("vCPU %u stopped: exit %u (%s)", vcpu->id, run->exit_reason,
				  exit_reason_str(run->exit_reason));
		}
	}
}

static void fill_all(struct race *race)
{
	for (u64 page = 0; page < KMA_PAGES; page++) {
		u64 *words = race->mem + page * PAGE_SIZE;

		for (int i = 0; i < ARRAY_SIZE(looks); i++)
			WRITE_ONCE(words[looks[i]],
				   kma_word(KMA_KIND_NEW, KMA_GPA + page * PAGE_SIZE +
					    looks[i] * sizeof(u64)));
	}
}

/* The pages are shared and filled, and the vCPUs at work. */
static void race_start(struct race *race, int vcpus)
{
	struct kvm_vcpu *vcpu[KMA_VCPUS];

	gmem_catch_sigbus();
	race->observer = kma_observer_open();
	race->vm = __vm_create_with_vcpus(kma_protected_shape, max(vcpus, 1), 0, hammer_code, vcpu);
	race->fd = vm_create_guest_memfd(race->vm, KMA_SIZE, GMEM_SHARED);
	race->mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, race->fd);
	/* What KVM reads for the guest, when it emulates, it reads from there. */
	vm_set_user_memory_region2(race->vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, KMA_GPA, KMA_SIZE,
				   race->mem, race->fd, 0);
	virt_map(race->vm, KMA_GPA, KMA_GPA, KMA_PAGES);
	sync_global_to_guest(race->vm, hammer);
	fill_all(race);

	for (int i = 0; i < vcpus; i++) {
		race->racers[i] = (struct racer) { .race = race, .vcpu = vcpu[i] };
		vcpu_args_set(vcpu[i], 1, (u64)i);
		kvm_pthread_create(&race->racers[i].thread, NULL, racer_thread, &race->racers[i]);
	}
}

#define GUESTS(_race, _field)	\
	(*(typeof(hammer._field) *)addr_gva2hva((_race)->vm, (gva_t)&hammer._field))

static void race_stop(struct race *race)
{
	WRITE_ONCE(GUESTS(race, stop), true);
	for (int i = 0; i < KMA_VCPUS; i++) {
		if (race->racers[i].race)
			kvm_pthread_join(race->racers[i].thread, NULL);
	}
	sync_global_from_guest(race->vm, hammer);
	close(race->observer);
	kvm_munmap(race->mem, KMA_SIZE);
	kvm_close(race->fd);
	kvm_vm_free(race->vm);
}

static void set_stage(struct race *race, enum stage stage)
{
	WRITE_ONCE(hammer.phase, (u64)race->rounds * NR_STAGES + stage);
	WRITE_ONCE(GUESTS(race, phase), hammer.phase);
	/* No later access of this thread may be seen before it. */
	__sync_synchronize();
}

static void assert_hardly_refused(const struct race *race, int rounds)
{
	printf("# figure: EAGAIN %lu times in %d rounds\n", race->refused, rounds);
	TEST_ASSERT(race->refused <= RACE_REFUSED,
		    "refused %lu times, for pages that nobody holds on to", race->refused);
}

static void convert_range(struct race *race, u64 first, u64 nr, u64 attributes, u64 policy)
{
	race->refused += gmem_set_despite_users(race->fd, first * PAGE_SIZE, nr * PAGE_SIZE,
						attributes, policy);
}

static void convert(struct race *race, u64 attributes, u64 policy)
{
	convert_range(race, 0, KMA_PAGES, attributes, policy);
}

static u64 private_at_window(struct race *race)
{
	u64 pages = 0;

	kma_observe(race->observer, KMA_OBSERVE_PRIVATE, race->vm, 0, KMA_GPA / PAGE_SIZE,
		    KMA_GPA / PAGE_SIZE + KMA_PAGES, &pages, sizeof(pages));
	return pages;
}

/* Rounds with the vCPUs at work. */
static void __race_run(int vcpus, int rounds, bool errors, void (*round)(struct race *race))
{
	struct race race = { .errors = errors };
	struct racer *r = race.racers;

	race_start(&race, vcpus);
	for (; race.rounds < rounds; race.rounds++)
		round(&race);
	/* Once they're told to stop, they still end the round that they are in. */
	for (int i = 0; i < vcpus; i++)
		TEST_ASSERT(READ_ONCE(GUESTS(&race, rounds[i])), "vCPU %d did nothing", i);
	race_stop(&race);

	printf("# figure: vCPUs: rounds %lu, %lu, exits %lu, %lu; EAGAIN: %lu\n",
	       hammer.rounds[0], hammer.rounds[1], r[0].exits, r[1].exits, race.refused);
	if (errors)
		printf("# figure: exits for memory errors: %lu, %lu\n", r[0].bad_exits,
		       r[1].bad_exits);
	TEST_ASSERT(errors || race.refused <= RACE_REFUSED,
		    "refused %lu times, for pages that nobody holds on to", race.refused);
	for (int i = 0; i < vcpus; i++)
		TEST_ASSERT(r[i].exits <= RACE_EXITS,
			    "vCPU %d has exited %lu times, for memory that is there", i,
			    r[i].exits);
}

static void race_run(int vcpus, int rounds, void (*round)(struct race *race))
{
	__race_run(vcpus, kma_rounds(rounds, RACE_DEBUG_SHARE), false, round);
}

/* Their number is small as it is. */
static void race_run_with_errors(int vcpus, int rounds, void (*round)(struct race *race))
{
	__race_run(vcpus, rounds, true, round);
}

FIXTURE(vcpus) {
};

FIXTURE_VARIANT(vcpus) {
	int nr;
};

FIXTURE_VARIANT_ADD(vcpus, one) {
	.nr = 1,
};

FIXTURE_VARIANT_ADD(vcpus, two) {
	.nr = 2,
};

FIXTURE_SETUP(vcpus)
{
	KMA_REQUIRE_PROTECTED_VMS();
}

FIXTURE_TEARDOWN(vcpus)
{
}

static void to_private_round(struct race *race)
{
	set_stage(race, STAGE_CHANGES);
	convert(race, KMA_PRIVATE, GMEM_NONE);
	set_stage(race, STAGE_CHANGED);
	usleep(STAGE_US);
	TEST_ASSERT_EQ(private_at_window(race), KMA_ALL);

	set_stage(race, STAGE_ANY);
	convert(race, 0, GMEM_PRESERVE);
	fill_all(race);
}

TEST_F_TIMEOUT(vcpus, never_see_a_page_half_way_to_private, 600)
{
	hammer.junk = true;
	race_run(variant->nr, RACE_ROUNDS, to_private_round);
}

static void to_shared_round(struct race *race)
{
	set_stage(race, STAGE_ANY);
	convert(race, KMA_PRIVATE, GMEM_PRESERVE);

	set_stage(race, STAGE_CHANGES);
	convert(race, 0, GMEM_NONE);
	set_stage(race, STAGE_CHANGED);
	usleep(STAGE_US);
	TEST_ASSERT_EQ(private_at_window(race), KMA_NONE);

	set_stage(race, STAGE_ANY);
	fill_all(race);
}

TEST_F_TIMEOUT(vcpus, never_see_a_page_half_way_to_shared, 600)
{
	hammer.junk = true;
	race_run(variant->nr, RACE_ROUNDS, to_shared_round);
}

static void preserve_round(struct race *race)
{
	set_stage(race, STAGE_CHANGES);
	convert(race, KMA_PRIVATE, GMEM_PRESERVE);
	TEST_ASSERT_EQ(gmem_unloadable(race->mem), KMA_ALL);
	usleep(STAGE_US);
	convert(race, 0, GMEM_PRESERVE);
	TEST_ASSERT_EQ(gmem_unloadable(race->mem), KMA_NONE);
	usleep(STAGE_US);
}

TEST_F_TIMEOUT(vcpus, lose_no_write_to_a_page_that_is_preserved, 600)
{
	hammer.counts = true;
	race_run(variant->nr, RACE_ROUNDS, preserve_round);
}

static void one_page_round(struct race *race)
{
	u64 first = kma_random_below(KMA_PAGES), nr = kma_random_log(KMA_PAGES - first);

	set_stage(race, STAGE_CHANGES);
	convert_range(race, first, nr, KMA_PRIVATE, GMEM_PRESERVE);
	TEST_ASSERT_EQ(private_at_window(race), GENMASK_ULL(first + nr - 1, first));
	TEST_ASSERT_EQ(gmem_unloadable(race->mem), GENMASK_ULL(first + nr - 1, first));
	convert_range(race, first, nr, 0, GMEM_PRESERVE);
}

TEST_F_TIMEOUT(vcpus, lose_no_write_beside_pages_that_are_converted, 600)
{
	kma_random_init();
	hammer.counts = true;
	race_run(variant->nr, RACE_ROUNDS, one_page_round);
}

/* The slot goes and comes back, in a thread of its own. */
static void set_slot(struct race *race, u64 size)
{
	TEST_ASSERT(!__vm_set_user_memory_region2(race->vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, KMA_GPA,
						  size, race->mem, race->fd, 0),
		    "%s the slot: %s", size ? "creating" : "deleting", strerror(errno));
}

/*
 * The last of the file goes while vCPUs use it by its slot, and ask it which pages are
 * private; another one comes in its place.
 */
static void last_close_round(struct race *race)
{
	WRITE_ONCE(race->closed, true);
	kvm_munmap(race->mem, KMA_SIZE);
	kvm_close(race->fd);
	usleep(STAGE_US);

	race->fd = vm_create_guest_memfd(race->vm, KMA_SIZE, GMEM_SHARED);
	race->mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, race->fd);
	fill_all(race);
	convert_range(race, 16, 32, KMA_PRIVATE, GMEM_PRESERVE);
	set_slot(race, 0);
	set_slot(race, KMA_SIZE);
	WRITE_ONCE(race->closed, false);
	TEST_ASSERT_EQ(private_at_window(race), KMA_MIDDLE);
	usleep(STAGE_US);
}

TEST_F_TIMEOUT(vcpus, ask_no_file_that_is_gone, 600)
{
	hammer.phase = STAGE_CHANGED;
	race_run(variant->nr, RACE_ROUNDS, last_close_round);
}

/* What threads beside the vCPUs do until they're told to stop. */
struct helper {
	struct race *race;
	pthread_t thread;
	bool stop;
	u64 times;
};

static void helper_start(struct helper *helper, struct race *race, void *(*fn)(void *))
{
	*helper = (struct helper) { .race = race };
	kvm_pthread_create(&helper->thread, NULL, fn, helper);
}

static void helper_stop(struct helper *helper)
{
	WRITE_ONCE(helper->stop, true);
	kvm_pthread_join(helper->thread, NULL);
	TEST_ASSERT(helper->times, "the other thread did nothing");
}

static void *slots_thread(void *arg)
{
	struct helper *helper = arg;

	do {
		set_slot(helper->race, 0);
		set_slot(helper->race, KMA_SIZE);
		helper->times++;
	} while (!READ_ONCE(helper->stop));
	return NULL;
}

static void slots_round(struct race *race)
{
	u64 pages = race->rounds % 2 ? KMA_ALL : KMA_MIDDLE;
	u64 first = race->rounds % 2 ? 0 : 16, nr = race->rounds % 2 ? KMA_PAGES : 32;
	struct helper helper;

	set_stage(race, STAGE_CHANGES);
	helper_start(&helper, race, slots_thread);
	for (int i = 0; i < 5; i++) {
		convert_range(race, first, nr, 0, GMEM_PRESERVE);
		convert_range(race, first, nr, KMA_PRIVATE, GMEM_PRESERVE);
	}
	helper_stop(&helper);

	/* The slot is there, and its pages are what the file says. */
	TEST_ASSERT_EQ(private_at_window(race), pages);
	TEST_ASSERT_EQ(gmem_unloadable(race->mem), pages);
	convert(race, 0, GMEM_PRESERVE);
	TEST_ASSERT_EQ(private_at_window(race), KMA_NONE);
}

TEST_F_TIMEOUT(vcpus, see_the_same_pages_while_the_slot_comes_and_goes, 600)
{
	race_run(variant->nr, RACE_ROUNDS, slots_round);
}

/*
 * Pages that vCPUs meet for the first time, one after the other: each is a fault. What
 * is mapped at userspace_addr is another memory, so that it's for the file alone that
 * faults are retried.
 */
#define FRESH_VCPUS		8
#define FRESH_PAGES		1024
#define FRESH_SIZE		((u64)FRESH_PAGES * PAGE_SIZE)
#define FRESH_ROUNDS		100

/* How many are faulted in while a conversion waits, of the hundreds that there's time for. */
#define FRESH_LEAST		8
#define FRESH_ATTEMPTS		20
#define FRESH_DELAY_US		1000

static struct {
	u64 stop;
	u64 round;
	/* Pages that each vCPU has got past in this round. */
	u64 done[FRESH_VCPUS];
} fresh;

static void fresh_code(u64 vcpu_id)
{
	u64 round = 0;

	while (!READ_ONCE(fresh.stop)) {
		if (round == READ_ONCE(fresh.round))
			continue;
		round = READ_ONCE(fresh.round);
		/* The first page is the one that somebody else uses. */
		for (u64 page = 1; page < FRESH_PAGES && round == READ_ONCE(fresh.round); page++) {
			READ_ONCE(*(u64 *)(KMA_GPA + page * PAGE_SIZE));
			WRITE_ONCE(fresh.done[vcpu_id], page);
		}
	}
	GUEST_DONE();
}

FIXTURE(fresh) {
	struct race race;
	struct racer racers[FRESH_VCPUS];
	void *elsewhere;
};

#define FRESH(_self, _field)	\
	(*(typeof(fresh._field) *)addr_gva2hva((_self)->race.vm, (gva_t)&fresh._field))

FIXTURE_SETUP(fresh)
{
	struct kvm_vcpu *vcpu[FRESH_VCPUS];
	struct race *race = &self->race;

	KMA_REQUIRE_PROTECTED_VMS();
	race->vm = __vm_create_with_vcpus(kma_protected_shape, FRESH_VCPUS, FRESH_PAGES,
					  fresh_code, vcpu);
	race->fd = vm_create_guest_memfd(race->vm, FRESH_SIZE, GMEM_SHARED);
	race->mem = kvm_mmap(FRESH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, race->fd);
	self->elsewhere = kvm_mmap(FRESH_SIZE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1);
	vm_set_user_memory_region2(race->vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, KMA_GPA, FRESH_SIZE,
				   self->elsewhere, race->fd, 0);
	virt_map(race->vm, KMA_GPA, KMA_GPA, FRESH_PAGES);
	gmem_allocate(race->fd, 0, FRESH_SIZE);
	for (int i = 0; i < FRESH_VCPUS; i++) {
		self->racers[i] = (struct racer) { .race = race, .vcpu = vcpu[i] };
		vcpu_args_set(vcpu[i], 1, (u64)i);
	}
}

FIXTURE_TEARDOWN(fresh)
{
	if (!self->race.vm)
		return;
	WRITE_ONCE(FRESH(self, stop), true);
	for (int i = 0; i < FRESH_VCPUS; i++) {
		if (self->racers[i].thread)
			kvm_pthread_join(self->racers[i].thread, NULL);
	}
	kvm_munmap(self->elsewhere, FRESH_SIZE);
	kvm_munmap(self->race.mem, FRESH_SIZE);
	kvm_close(self->race.fd);
	kvm_vm_free(self->race.vm);
}

static void fresh_run(FIXTURE_DATA(fresh) * self, int vcpus)
{
	for (int i = 0; i < vcpus; i++)
		kvm_pthread_create(&self->racers[i].thread, NULL, racer_thread, &self->racers[i]);
}

/* There and back, no vCPU has any of the pages mapped. */
static void make_fresh(FIXTURE_DATA(fresh) * self)
{
	u64 at = PAGE_SIZE, size = FRESH_SIZE - at;

	self->race.refused += gmem_set_despite_users(self->race.fd, at, size, KMA_PRIVATE,
						     GMEM_PRESERVE);
	GMEM_ASSERT_SET(self->race.fd, at, size, 0, GMEM_PRESERVE);
}

/* Their faults have to wait, and do not keep the pages in use meanwhile. */
TEST_F_TIMEOUT(fresh, pages_that_vcpus_are_about_to_fault_in_become_private, 600)
{
	const int rounds = kma_rounds(FRESH_ROUNDS, RACE_DEBUG_SHARE);

	fresh_run(self, FRESH_VCPUS);
	for (int i = 1; i <= rounds; i++) {
		WRITE_ONCE(FRESH(self, round), i);
		make_fresh(self);
	}
	assert_hardly_refused(&self->race, rounds);
}

/* Has the vCPU begin when a conversion waits already. */
static void *fresh_thread(void *arg)
{
	u64 *round = arg;

	usleep(FRESH_DELAY_US);
	WRITE_ONCE(*round, *round + 1);
	return NULL;
}

/* It's faults on the range that wait, while others are as good as ever. */
TEST_F_TIMEOUT(fresh, pages_beside_one_that_is_in_use_are_faulted_in_meanwhile, 600)
{
	struct iovec iov = { .iov_base = self->race.mem, .iov_len = 8 };
	u64 *done = &FRESH(self, done[0]), now = 0;
	pthread_t thread;
	int fds[2];

	TEST_ASSERT(!pipe(fds), "pipe: %s", strerror(errno));
	TEST_ASSERT_EQ(vmsplice(fds[1], &iov, 1, 0), 8);
	fresh_run(self, 1);
	for (int i = 0; i < FRESH_ATTEMPTS && now < FRESH_LEAST; i++) {
		make_fresh(self);
		WRITE_ONCE(*done, 0);
		kvm_pthread_create(&thread, NULL, fresh_thread, &FRESH(self, round));
		GMEM_ASSERT_FAILS(EAGAIN, 0, self->race.fd, 0, PAGE_SIZE, KMA_PRIVATE,
				  GMEM_PRESERVE);
		now = READ_ONCE(*done);
		kvm_pthread_join(thread, NULL);
		while (READ_ONCE(*done) != FRESH_PAGES - 1)
			usleep(FRESH_DELAY_US);
	}
	printf("# figure: %lu pages were faulted in beside one that was waited for\n", now);
	TEST_ASSERT(now >= FRESH_LEAST, "%lu pages were faulted in", now);
	close(fds[0]);
	close(fds[1]);
}

/* Without vCPUs: what userspace does to the file. */
FIXTURE(host) {
	struct race race;
};

FIXTURE_SETUP(host)
{
	KMA_REQUIRE_PROTECTED_VMS();
	race_start(&self->race, 0);
}

FIXTURE_TEARDOWN(host)
{
	if (self->race.vm)
		race_stop(&self->race);
}

/* In a round of these, the pages are private while they have changed. */
static void *loads_thread(void *arg)
{
	struct helper *helper = arg;
	u64 phase, value, page;
	bool loaded;

	while (!READ_ONCE(helper->stop)) {
		u64 *word;

		page = helper->times++ % KMA_PAGES;
		word = helper->race->mem + page * PAGE_SIZE;
		phase = READ_ONCE(hammer.phase);
		loaded = gmem_load(word, &value);
		if (phase != READ_ONCE(hammer.phase))
			continue;
		if (phase % NR_STAGES == STAGE_CHANGED)
			TEST_ASSERT(!loaded, "page %lu is private, and was read: %lx", page, value);
		if (loaded && phase % NR_STAGES == STAGE_CHANGES)
			TEST_ASSERT(value == kma_word(KMA_KIND_NEW, KMA_GPA + page * PAGE_SIZE),
				    "page %lu became private, and %lx was read", page, value);
	}
	return NULL;
}

static void *stores_thread(void *arg)
{
	struct helper *helper = arg;
	u64 phase, page;
	bool stored;

	while (!READ_ONCE(helper->stop)) {
		u64 *word;

		page = helper->times++ % KMA_PAGES;
		word = helper->race->mem + page * PAGE_SIZE;
		phase = READ_ONCE(hammer.phase);
		stored = gmem_store(word, kma_word(KMA_KIND_NEW, KMA_GPA + page * PAGE_SIZE));
		if (phase == READ_ONCE(hammer.phase) && phase % NR_STAGES == STAGE_CHANGED)
			TEST_ASSERT(!stored, "page %lu is private, and was written", page);
	}
	return NULL;
}

/* By the kernel, which has the page in hand while it copies. */
static void *reads_thread(void *arg)
{
	struct helper *helper = arg;
	u64 phase, value, page;
	int fds[2];

	TEST_ASSERT(!pipe(fds), "pipe: %s", strerror(errno));
	while (!READ_ONCE(helper->stop)) {
		ssize_t len;

		page = helper->times++ % KMA_PAGES;
		phase = READ_ONCE(hammer.phase);
		len = write(fds[1], helper->race->mem + page * PAGE_SIZE, sizeof(value));
		if (phase == READ_ONCE(hammer.phase) && phase % NR_STAGES == STAGE_CHANGED)
			TEST_ASSERT(len < 0, "page %lu is private, and the kernel read it", page);
		if (len > 0)
			TEST_ASSERT_EQ(read(fds[0], &value, len), len);
	}
	close(fds[0]);
	close(fds[1]);
	return NULL;
}

static void race_with_userspace(struct race *race, void *(*fn)(void *),
				void (*round)(struct race *race))
{
	const int rounds = kma_rounds(RACE_ROUNDS, RACE_DEBUG_SHARE);
	struct helper helpers[2];

	helper_start(&helpers[0], race, fn);
	helper_start(&helpers[1], race, fn);
	for (; race->rounds < rounds; race->rounds++)
		round(race);
	set_stage(race, STAGE_ANY);
	helper_stop(&helpers[0]);
	helper_stop(&helpers[1]);
	assert_hardly_refused(race, rounds);
}

static void userspace_loses_round(struct race *race)
{
	u64 policy = race->rounds % 2 ? GMEM_PRESERVE : GMEM_NONE;

	set_stage(race, STAGE_CHANGES);
	convert(race, KMA_PRIVATE, policy);
	set_stage(race, STAGE_CHANGED);
	usleep(STAGE_US);
	set_stage(race, STAGE_ANY);
	GMEM_ASSERT_SET(race->fd, 0, KMA_SIZE, 0, GMEM_PRESERVE);
	TEST_ASSERT_EQ(gmem_unloadable(race->mem), KMA_NONE);
	fill_all(race);
}

TEST_F_TIMEOUT(host, nothing_is_read_once_it_is_private, 300)
{
	race_with_userspace(&self->race, loads_thread, userspace_loses_round);
}

TEST_F_TIMEOUT(host, nothing_is_written_once_it_is_private, 300)
{
	race_with_userspace(&self->race, stores_thread, userspace_loses_round);
}

TEST_F_TIMEOUT(host, nothing_is_read_by_the_kernel_once_it_is_private, 300)
{
	race_with_userspace(&self->race, reads_thread, userspace_loses_round);
}

/* What all words of a page are that has become shared in this phase's round. */
static u64 shared_policy(u64 phase)
{
	return phase / NR_STAGES % 2 ? GMEM_ZERO : GMEM_NONE;
}

static u64 shared_word(u64 phase)
{
	return shared_policy(phase) == GMEM_ZERO ? 0 : KMA_JUNK;
}

/* What was in a page while it was private is not seen, not even for a moment. */
static void *loads_of_shared_thread(void *arg)
{
	struct helper *helper = arg;
	u64 phase, value, page;
	bool loaded;

	while (!READ_ONCE(helper->stop)) {
		u64 look = looks[helper->times / KMA_PAGES % ARRAY_SIZE(looks)];
		u64 *words;

		page = helper->times++ % KMA_PAGES;
		words = helper->race->mem + page * PAGE_SIZE;
		phase = READ_ONCE(hammer.phase);
		loaded = gmem_load(&words[look], &value);
		if (phase != READ_ONCE(hammer.phase) || phase % NR_STAGES == STAGE_ANY)
			continue;
		TEST_ASSERT(loaded || phase % NR_STAGES == STAGE_CHANGES,
			    "page %lu is shared, and cannot be read", page);
		TEST_ASSERT(!loaded || value == shared_word(phase),
			    "page %lu became shared, and %lx was read", page, value);
	}
	return NULL;
}

/* One that nobody else uses, and what is written to it. */
#define WRITTEN		300
#define WRITTEN_WORD	kma_word(KMA_KIND_SHARED, 0)

/* By read(2), the kernel writes to a page as soon as it is shared: that is not undone. */
static void *writes_to_shared_thread(void *arg)
{
	struct helper *helper = arg;
	u64 value = WRITTEN_WORD, phase, page;
	int fd = memfd_create("words", MFD_CLOEXEC);

	TEST_ASSERT(fd >= 0, "memfd_create: %s", strerror(errno));
	TEST_ASSERT_EQ(write(fd, &value, sizeof(value)), sizeof(value));
	while (!READ_ONCE(helper->stop)) {
		u64 *word;

		page = helper->times++ % KMA_PAGES;
		word = (u64 *)(helper->race->mem + page * PAGE_SIZE) + WRITTEN;
		phase = READ_ONCE(hammer.phase);
		if (pread(fd, word, sizeof(*word), 0) != sizeof(*word)) {
			TEST_ASSERT(errno == EFAULT, "pread: %s", strerror(errno));
			continue;
		}
		while (phase == READ_ONCE(hammer.phase) && phase % NR_STAGES != STAGE_ANY) {
			bool loaded = gmem_load(word, &value);

			if (phase != READ_ONCE(hammer.phase))
				break;
			TEST_ASSERT(loaded, "page %lu was shared, and cannot be read", page);
			TEST_ASSERT(value == WRITTEN_WORD,
				    "page %lu was written to when it was shared, and holds %lx",
				    page, value);
		}
	}
	close(fd);
	return NULL;
}

static void userspace_gets_round(struct race *race)
{
	set_stage(race, STAGE_ANY);
	fill_all(race);
	convert(race, KMA_PRIVATE, GMEM_PRESERVE);

	set_stage(race, STAGE_CHANGES);
	convert(race, 0, shared_policy(hammer.phase));
	set_stage(race, STAGE_CHANGED);
	usleep(STAGE_US);
}

TEST_F_TIMEOUT(host, nothing_old_is_read_once_it_is_shared, 300)
{
	race_with_userspace(&self->race, loads_of_shared_thread, userspace_gets_round);
}

TEST_F_TIMEOUT(host, nothing_that_is_written_by_the_kernel_is_lost_once_it_is_shared, 300)
{
	race_with_userspace(&self->race, writes_to_shared_thread, userspace_gets_round);
}

/* Other threads change the file as well, with vCPUs that use its pages, and without. */
FIXTURE(others) {
};

FIXTURE_VARIANT(others) {
	int vcpus;
	int rounds;
};

FIXTURE_VARIANT_ADD(others, no_vcpus) {
	.vcpus = 0,
	.rounds = RACE_ROUNDS,
};

/* They take page faults all the while, which takes long. */
FIXTURE_VARIANT_ADD(others, two_vcpus) {
	.vcpus = 2,
	.rounds = RACE_ROUNDS / 3,
};

FIXTURE_SETUP(others)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_random_init();
	hammer.loses = true;
}

FIXTURE_TEARDOWN(others)
{
}

/* Holes and allocations in any part of the file, or of its first pages. */
static void punch_and_allocate(struct helper *helper, u64 pages)
{
	kma_random_init_thread(helper->race->rounds);
	do {
		u64 first = kma_random_below(pages);
		u64 nr = 1 + kma_random_below(pages - first);

		gmem_punch(helper->race->fd, first * PAGE_SIZE, nr * PAGE_SIZE);
		gmem_allocate(helper->race->fd, first * PAGE_SIZE, nr * PAGE_SIZE);
		helper->times++;
	} while (!READ_ONCE(helper->stop));
}

static void *holes_thread(void *arg)
{
	punch_and_allocate(arg, KMA_PAGES);
	return NULL;
}

static void assert_no_old_word(struct race *race)
{
	for (u64 page = 0; page < KMA_PAGES; page++) {
		u64 *words = race->mem + page * PAGE_SIZE;

		for (int i = 0; i < ARRAY_SIZE(looks); i++) {
			u64 word = READ_ONCE(words[looks[i]]);

			TEST_ASSERT(!word || word == KMA_JUNK, "page %lu holds %lx", page, word);
		}
	}
}

static void holes_round(struct race *race)
{
	u64 policy = race->rounds % 2 ? GMEM_ZERO : GMEM_NONE;
	struct helper helper;

	helper_start(&helper, race, holes_thread);
	fill_all(race);
	convert(race, KMA_PRIVATE, policy);
	TEST_ASSERT_EQ(gmem_unloadable(race->mem), KMA_ALL);
	TEST_ASSERT_EQ(private_at_window(race), KMA_ALL);
	convert(race, 0, GMEM_PRESERVE);
	TEST_ASSERT_EQ(gmem_unloadable(race->mem), KMA_NONE);
	assert_no_old_word(race);

	/* And the other way. */
	fill_all(race);
	convert(race, KMA_PRIVATE, GMEM_PRESERVE);
	convert(race, 0, policy);
	assert_no_old_word(race);
	helper_stop(&helper);
}

TEST_F_TIMEOUT(others, holes_and_allocations_keep_the_state_and_bring_nothing_back, 300)
{
	race_run(variant->vcpus, variant->rounds, holes_round);
}

/*
 * Two threads convert parts of the file that overlap, as often as each other: the
 * last call of either is known, and where both have been one of them is the last.
 */
#define BELOW		GENMASK_ULL(23, 0)
#define COMMON		GENMASK_ULL(39, 24)
#define ABOVE		GENMASK_ULL(63, 40)

static struct duel {
	pthread_barrier_t barrier;
	u64 attributes[2];
	u64 refused[2];
	int fd;
	u64 policy;
} duel;

static void duel_convert(int side)
{
	const u64 offset = side ? 24 * PAGE_SIZE : 0, size = 40 * PAGE_SIZE;

	pthread_barrier_wait(&duel.barrier);
	for (int i = 0; i < 16; i++) {
		u64 other = i % 2 ? 0 : KMA_PRIVATE;

		duel.refused[side] += gmem_set_despite_users(duel.fd, offset, size,
							     duel.attributes[side] ^ other,
							     duel.policy);
	}
}

static void *duel_thread(void *arg)
{
	duel_convert(1);
	return NULL;
}

static void duel_round(struct race *race)
{
	u64 private, want;
	pthread_t thread;

	duel.fd = race->fd;
	duel.policy = gmem_policies[race->rounds % ARRAY_SIZE(gmem_policies)];
	for (int side = 0; side < 2; side++) {
		duel.attributes[side] = kma_random() & KMA_PRIVATE;
		duel.refused[side] = 0;
	}
	pthread_barrier_init(&duel.barrier, NULL, 2);
	kvm_pthread_create(&thread, NULL, duel_thread, NULL);
	duel_convert(0);
	kvm_pthread_join(thread, NULL);
	pthread_barrier_destroy(&duel.barrier);
	race->refused += duel.refused[0] + duel.refused[1];

	private = gmem_unloadable(race->mem);
	TEST_ASSERT_EQ(private_at_window(race), private);
	want = (duel.attributes[0] ? BELOW : 0) | (duel.attributes[1] ? ABOVE : 0);
	TEST_ASSERT_EQ(private & ~COMMON, want);
	TEST_ASSERT((private & COMMON) == (duel.attributes[0] ? COMMON : 0) ||
		    (private & COMMON) == (duel.attributes[1] ? COMMON : 0),
		    "both have converted these, and it shows: %016lx", private);
}

TEST_F_TIMEOUT(others, one_of_two_conversions_is_the_last_for_all_pages, 300)
{
	race_run(variant->vcpus, variant->rounds, duel_round);
}

/* Not the whole of a block of the store, so that each page is a step. */
#define READ_OFFSET	(3 * PAGE_SIZE)
#define READ_SIZE	(KMA_SIZE - 2 * READ_OFFSET)

static void *reading_thread(void *arg)
{
	struct kvm_memory_attributes_run runs[KMA_PAGES];
	struct helper *helper = arg;

	do {
		u32 nr = layers_get(helper->race->fd, 0, READ_OFFSET, READ_SIZE, runs, KMA_PAGES,
				    NULL);

		TEST_ASSERT(nr == 1, "%u runs: half of a conversion, after %lu times", nr,
			    (u64)helper->times);
		helper->times++;
	} while (!READ_ONCE(helper->stop));
	return NULL;
}

static void reading_round(struct race *race)
{
	struct helper helper;

	helper_start(&helper, race, reading_thread);
	for (int i = 0; i < 64; i++)
		race->refused += gmem_set_despite_users(race->fd, READ_OFFSET, READ_SIZE,
							i % 2 ? 0 : KMA_PRIVATE,
							GMEM_PRESERVE);
	helper_stop(&helper);
}

TEST_F_TIMEOUT(others, reading_back_finds_a_conversion_done_or_not_begun, 300)
{
	race_run(variant->vcpus, variant->rounds, reading_round);
}

/* Each memory error costs the machine a page. */
#define ERROR_ROUNDS	8
#define ERROR_SECONDS	60

static void assert_in_time(struct timespec start, const char *what)
{
	TEST_ASSERT(timespec_elapsed(start).tv_sec < ERROR_SECONDS, "%s in %d s", what,
		    ERROR_SECONDS);
}

static struct timespec now(void)
{
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	return start;
}

/* At any point of the conversions. */
static void *error_thread(void *arg)
{
	struct helper *helper = arg;

	kma_random_init_thread(helper->race->rounds);
	usleep(kma_random_below(2000));
	gmem_poison(helper->race->fd, helper->race->rounds);
	helper->times++;
	return NULL;
}

/* Bad pages were punched, and all can be used as if there had been none. */
static void assert_mended(struct race *race)
{
	convert(race, KMA_PRIVATE, 0);
	TEST_ASSERT_EQ(gmem_unloadable(race->mem), KMA_ALL);
	convert(race, 0, 0);
	/* The mapping remembers a bad page that it had, whatever has come in its place. */
	kvm_madvise(race->mem, KMA_SIZE, MADV_DONTNEED);
	TEST_ASSERT_EQ(gmem_unloadable(race->mem), KMA_NONE);
}

/* There and back, until a conversion meets the error of this round's page. */
static void error_round(struct race *race)
{
	const u64 bad = race->rounds, good = ~BIT_ULL(bad);
	struct timespec start = now();
	struct helper helper;
	u64 state = 0;
	int err;

	helper_start(&helper, race, error_thread);
	do {
		u64 policy = race->rounds % 2 ? GMEM_NONE : GMEM_PRESERVE;
		struct kvm_memory_attributes2 attr = gmem_attr(0, KMA_SIZE, state ^ KMA_PRIVATE,
							       policy);

		assert_in_time(start, "no error was met");
		err = __gmem_ioctl(race->fd, &attr) ? errno : 0;
		if (!err) {
			state ^= KMA_PRIVATE;
		} else {
			TEST_ASSERT(err == EHWPOISON || (err == EAGAIN && attr.attributes), "%s",
				    strerror(err));
			TEST_ASSERT(attr.error_offset == bad * PAGE_SIZE,
				    "%s for 0x%llx, which is good", strerror(err),
				    attr.error_offset);
		}
		/* It has taken effect for all pages that can be seen, or for none. */
		TEST_ASSERT_EQ(gmem_unloadable(race->mem) & good, state ? good : 0);
		TEST_ASSERT_EQ(private_at_window(race), state ? KMA_ALL : KMA_NONE);
	} while (err != EHWPOISON);

	/* A new page in its place, at times while KVM still deals with the error. */
	if (race->rounds % 2)
		helper_stop(&helper);
	gmem_punch(race->fd, bad * PAGE_SIZE, PAGE_SIZE);
	if (!(race->rounds % 2))
		helper_stop(&helper);
	assert_mended(race);
}

TEST_F_TIMEOUT(others, memory_errors_refuse_conversions_and_leave_the_other_pages_alone, 300)
{
	race_run_with_errors(variant->vcpus, ERROR_ROUNDS, error_round);
}

/* The pages that errors, holes and allocations meet in. */
#define MEETING_PAGES	4
#define ERRORS_AT_ONCE	4

static void *meeting_holes_thread(void *arg)
{
	punch_and_allocate(arg, MEETING_PAGES);
	return NULL;
}

static void *meeting_allocations_thread(void *arg)
{
	struct helper *helper = arg;

	do {
		gmem_allocate(helper->race->fd, 0, MEETING_PAGES * PAGE_SIZE);
		helper->times++;
	} while (!READ_ONCE(helper->stop));
	return NULL;
}

/*
 * Whoever deals with the error, punches or allocates takes the lock of the page and
 * that of the file: nobody waits for one with the other held in the wrong order.
 */
static void meeting_round(struct race *race)
{
	struct helper holes, allocations;
	struct timespec start = now();

	helper_start(&holes, race, meeting_holes_thread);
	helper_start(&allocations, race, meeting_allocations_thread);
	for (int errors = 0; errors < ERRORS_AT_ONCE; ) {
		int err = __gmem_poison(race->fd, kma_random_below(MEETING_PAGES));

		/* The page may be punched, or bad already, which a hole mends. */
		TEST_ASSERT(!err || err == ENOENT || err == EHWPOISON, "no memory error: %s",
			    strerror(err));
		assert_in_time(start, "no error");
		errors += !err;
	}
	helper_stop(&holes);
	helper_stop(&allocations);

	/* All locks were let go of, and a hole mends what is left. */
	gmem_punch(race->fd, 0, MEETING_PAGES * PAGE_SIZE);
	assert_mended(race);
}

TEST_F_TIMEOUT(others, memory_errors_meet_holes_and_allocations_of_the_very_pages, 300)
{
	race_run_with_errors(variant->vcpus, ERROR_ROUNDS, meeting_round);
}

TEST_HARNESS_MAIN
