// SPDX-License-Identifier: GPL-2.0
/*
 * vCPUs that fault on pages while, or beside where, attributes change. What
 * the ioctl has done when it returns holds for every vCPU: a private page
 * never shows its shared backing, nor the reverse, and a neighbour's fault
 * has not put a huge page over the boundary.
 */
#include "kvm_memattr_huge.h"

/*
 * Of the mutants that these tests are there to find none lived for more than
 * 25 rounds.
 */
#define RACE_ROUNDS	200
#define RACE_ATTEMPTS	3

/* The pages of the first block that a race is about. */
#define MIDDLE_FIRST	200
#define MIDDLE_PAGES	100

static struct {
	u64 stop;
	u64 rounds;
	/* Pages that the second vCPU stays away from. */
	u64 skip_first;
	u64 skip_pages;
	/* Whether it may see the private backing too. */
	u64 any_kind;
} hammer;

static void hammer_guest_code(void)
{
	u64 page, gpa, word;

	while (!READ_ONCE(hammer.stop)) {
		for (page = 0; page < KMA_BLOCK_PAGES; page++) {
			if (page - hammer.skip_first < hammer.skip_pages)
				continue;

			gpa = KMA_GPA + page * PAGE_SIZE;
			word = READ_ONCE(*(u64 *)gpa);
			__GUEST_ASSERT(word == kma_word(KMA_KIND_SHARED, gpa) ||
				       hammer.any_kind,
				       "page %lu beside the race holds %lx", page, word);
		}
		WRITE_ONCE(hammer.rounds, hammer.rounds + 1);
	}
	GUEST_DONE();
}

FIXTURE(race) {
	struct kvm_vcpu *vcpus[2];
	struct userspace_mem_region *region;
	struct kvm_vm *vm;
	struct timespec start;
	pthread_t thread;
	int rounds;
};

FIXTURE_SETUP(race)
{
	KMA_REQUIRE_PROTECTED_VMS();
	KMA_REQUIRE_HUGE_PAGES();
	self->vm = kma_huge_guest(2, self->vcpus, hammer_guest_code);
	self->region = memslot2region(self->vm, KMA_SLOT);
}

FIXTURE_TEARDOWN(race)
{
	kvm_vm_free(self->vm);
}

static void *hammer_thread(void *arg)
{
	bool may_exit = hammer.any_kind;
	struct kvm_vcpu *vcpu = arg;
	struct ucall uc;

	for (;;) {
		int ret = _vcpu_run(vcpu);

		/* The attribute changed between two looks at it in one fault. */
		if (ret && errno == EFAULT && may_exit &&
		    vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT)
			continue;

		TEST_ASSERT(!ret, "the vCPU beside the race stopped: rc %d errno %d exit %u (%s)",
			    ret, errno, vcpu->run->exit_reason,
			    exit_reason_str(vcpu->run->exit_reason));

		switch (get_ucall(vcpu, &uc)) {
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("unknown ucall %lu", uc.cmd);
		}
	}
}

static struct timespec start_hammer(struct kvm_vcpu *vcpu, pthread_t *thread)
{
	struct timespec start;

	sync_global_to_guest(vcpu->vm, hammer);
	kvm_pthread_create(thread, NULL, hammer_thread, vcpu);
	clock_gettime(CLOCK_MONOTONIC, &start);
	return start;
}

static void stop_hammer(struct kvm_vcpu *vcpu, pthread_t thread)
{
	hammer.stop = true;
	WRITE_ONCE(*(u64 *)addr_gva2hva(vcpu->vm, (gva_t)&hammer.stop), true);
	kvm_pthread_join(thread, NULL);
	sync_global_from_guest(vcpu->vm, hammer);
	TEST_ASSERT(hammer.rounds, "the vCPU beside the race did nothing");
}

#define START_HAMMER()	(self->start = start_hammer(self->vcpus[1], &self->thread))
#define STOP_HAMMER()								\
do {										\
	stop_hammer(self->vcpus[1], self->thread);				\
	TEST_ASSERT(self->rounds >= RACE_MIN_ROUNDS, "only %d rounds in %d s",	\
		    self->rounds, RACE_SECONDS);				\
} while (0)

#define WHILE_RACING()								\
	for (self->rounds = 0;							\
	     timespec_elapsed(self->start).tv_sec < RACE_SECONDS ||		\
	     self->rounds < RACE_MIN_ROUNDS;					\
	     self->rounds++)

/*
 * Every round the block starts as one huge page, which the set takes apart;
 * the second vCPU faults on the rest of it while that happens.
 */
static void flip_beside_hammer(struct kvm_vcpu *vcpu, u64 first, u64 nr, u64 look)
{
	kma_set(vcpu->vm, kma_page_gpa(first), nr * PAGE_SIZE, KMA_PRIVATE);
	kma_look_at(vcpu, look, KMA_SEEN(.private = 1));
	kma_set(vcpu->vm, kma_page_gpa(first), nr * PAGE_SIZE, 0);
	kma_look_at(vcpu, look, KMA_SEEN(.shared = 1));
}

TEST_F(race, fault_beside_a_page_that_becomes_private_maps_nothing_over_it)
{
	hammer.skip_first = MIDDLE_FIRST;
	hammer.skip_pages = 1;

	START_HAMMER();
	WHILE_RACING()
		flip_beside_hammer(self->vcpus[0], MIDDLE_FIRST, 1, MIDDLE_FIRST);
	STOP_HAMMER();
}

TEST_F(race, fault_beside_a_range_that_becomes_private_maps_nothing_over_it)
{
	hammer.skip_first = MIDDLE_FIRST;
	hammer.skip_pages = MIDDLE_PAGES;

	START_HAMMER();
	WHILE_RACING()
		flip_beside_hammer(self->vcpus[0], MIDDLE_FIRST, MIDDLE_PAGES,
				   MIDDLE_FIRST + self->rounds % MIDDLE_PAGES);
	STOP_HAMMER();
}

TEST_F(race, fault_beside_the_end_of_a_private_range_maps_nothing_over_it)
{
	/* From the middle of the block to beyond its end. */
	hammer.skip_first = MIDDLE_FIRST;
	hammer.skip_pages = KMA_BLOCK_PAGES - MIDDLE_FIRST;

	START_HAMMER();
	WHILE_RACING()
		flip_beside_hammer(self->vcpus[0], MIDDLE_FIRST, KMA_BLOCK_PAGES,
				   MIDDLE_FIRST + self->rounds % KMA_BLOCK_PAGES);
	STOP_HAMMER();
}

TEST_F(race, all_pages_hold_the_new_kind_when_the_set_returns)
{
	const u64 size = KMA_BLOCK_PAGES * PAGE_SIZE;

	hammer.any_kind = true;

	START_HAMMER();
	WHILE_RACING() {
		u64 page = self->rounds * KMA_PAGES % KMA_BLOCK_PAGES;

		kma_set(self->vm, KMA_GPA, size, KMA_PRIVATE);
		kma_look_at(self->vcpus[0], page, KMA_SEEN(.private = KMA_ALL));
		kma_set(self->vm, KMA_GPA, size, 0);
		kma_look_at(self->vcpus[0], page, KMA_SEEN(.shared = KMA_ALL));
	}
	STOP_HAMMER();
}

/*
 * The shared backing goes away while its pages are private. Nothing of it may
 * be left in the guest, though the event found no shared page there.
 */
TEST_F(race, backing_replaced_under_private_pages_is_gone_when_they_are_shared)
{
	const u64 size = KMA_PAGES * PAGE_SIZE;

	hammer.any_kind = true;

	START_HAMMER();
	WHILE_RACING() {
		kma_set(self->vm, KMA_GPA, size, KMA_PRIVATE);
		kvm_madvise(self->region->host_mem, size, MADV_DONTNEED);
		kma_look_at(self->vcpus[0], 0, KMA_SEEN(.private = KMA_ALL));
		kma_set(self->vm, KMA_GPA, size, 0);
		kma_look_at(self->vcpus[0], 0, KMA_SEEN(.zero = KMA_ALL));
		kma_write_by(self->vcpus[0], KMA_GPA, KMA_ALL, KMA_KIND_SHARED);
	}
	STOP_HAMMER();
}

TEST_HARNESS_MAIN
