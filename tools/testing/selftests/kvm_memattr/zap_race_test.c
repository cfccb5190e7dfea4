// SPDX-License-Identifier: GPL-2.0
/*
 * vCPUs that fault on pages while, or beside where, attributes change, by a range or
 * by a batch. What the ioctl has done when it returns holds for every vCPU: a private
 * page never shows its shared backing, nor the reverse, and a neighbour's fault has not
 * put a huge page over the boundary.
 */
#include "kvm_memattr_huge.h"
#include "kvm_memattr_layers.h"

/* A module that forgets its invalidation range is found within 25 rounds. */
#define RACE_ROUNDS	200
#define RACE_DEBUG_SHARE	4

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

struct race {
	struct kvm_vcpu *vcpus[2];
	struct userspace_mem_region *region;
	struct kvm_vm *vm;
	pthread_t thread;
};

static void *hammer_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	struct ucall uc;
	int ret;

	for (;;) {
		ret = __vcpu_run(vcpu);

		/* The attribute changed between two looks at it in one fault. */
		if (ret && errno == EFAULT && hammer.any_kind &&
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
			TEST_FAIL("the vCPU beside the race stopped: exit %u (%s)",
				  vcpu->run->exit_reason,
				  exit_reason_str(vcpu->run->exit_reason));
		}
	}
}

static void start_race(struct race *race)
{
	race->vm = kma_huge_guest(2, race->vcpus, hammer_guest_code);
	race->region = memslot2region(race->vm, KMA_SLOT);
	sync_global_to_guest(race->vm, hammer);

	kvm_pthread_create(&race->thread, NULL, hammer_thread, race->vcpus[1]);
}

static void stop_race(struct race *race)
{
	WRITE_ONCE(*(u64 *)addr_gva2hva(race->vm, (gva_t)&hammer.stop), true);
	kvm_pthread_join(race->thread, NULL);

	sync_global_from_guest(race->vm, hammer);
	TEST_ASSERT(hammer.rounds, "the vCPU beside the race did nothing");
	kvm_vm_free(race->vm);
}

/* One round of a race. */
typedef void (*round_fn_t)(struct race *race, int round);

static void run_race(round_fn_t run_round)
{
	u64 rounds = kma_rounds(RACE_ROUNDS, RACE_DEBUG_SHARE);
	struct race race;

	start_race(&race);
	for (u64 round = 0; round < rounds; round++)
		run_round(&race, round);
	stop_race(&race);
}

FIXTURE(race) {
};

FIXTURE_SETUP(race)
{
	KMA_REQUIRE_PROTECTED_VMS();
	KMA_REQUIRE_HUGE_PAGES();
}

FIXTURE_TEARDOWN(race)
{
}

/*
 * Every round the block starts as one huge page, which the set takes apart;
 * the second vCPU faults on the rest of it while that happens.
 */
static void flip_beside(struct race *race, u64 first, u64 nr, u64 look)
{
	kma_set(race->vm, kma_page_gpa(first), nr * PAGE_SIZE, KMA_PRIVATE);
	kma_look_at(race->vcpus[0], look, KMA_SEEN(.private = 1));
	kma_set(race->vm, kma_page_gpa(first), nr * PAGE_SIZE, 0);
	kma_look_at(race->vcpus[0], look, KMA_SEEN(.shared = 1));
}

static void flip_one_page(struct race *race, int round)
{
	flip_beside(race, MIDDLE_FIRST, 1, MIDDLE_FIRST);
}

TEST_F_TIMEOUT(race, fault_beside_a_page_that_becomes_private_maps_nothing_over_it, 240)
{
	hammer.skip_first = MIDDLE_FIRST;
	hammer.skip_pages = 1;
	run_race(flip_one_page);
}

static void flip_the_middle(struct race *race, int round)
{
	flip_beside(race, MIDDLE_FIRST, MIDDLE_PAGES, MIDDLE_FIRST + round % MIDDLE_PAGES);
}

TEST_F_TIMEOUT(race, fault_beside_a_range_that_becomes_private_maps_nothing_over_it, 240)
{
	hammer.skip_first = MIDDLE_FIRST;
	hammer.skip_pages = MIDDLE_PAGES;
	run_race(flip_the_middle);
}

static void flip_beyond_the_end(struct race *race, int round)
{
	flip_beside(race, MIDDLE_FIRST, KMA_BLOCK_PAGES, MIDDLE_FIRST + round % KMA_BLOCK_PAGES);
}

/* From the middle of the block into the next one. */
TEST_F_TIMEOUT(race, fault_beside_a_range_across_two_blocks_maps_nothing_over_it, 240)
{
	hammer.skip_first = MIDDLE_FIRST;
	hammer.skip_pages = KMA_BLOCK_PAGES - MIDDLE_FIRST;
	run_race(flip_beyond_the_end);
}

static void flip_all(struct race *race, int round)
{
	const u64 size = KMA_BLOCK_PAGES * PAGE_SIZE;
	u64 page = round * KMA_PAGES % KMA_BLOCK_PAGES;

	kma_set(race->vm, KMA_GPA, size, KMA_PRIVATE);
	kma_look_at(race->vcpus[0], page, KMA_SEEN(.private = KMA_ALL));
	kma_set(race->vm, KMA_GPA, size, 0);
	kma_look_at(race->vcpus[0], page, KMA_SEEN(.shared = KMA_ALL));
}

TEST_F_TIMEOUT(race, all_pages_hold_the_new_kind_when_the_set_returns, 240)
{
	hammer.any_kind = true;
	run_race(flip_all);
}

/* Pages of the window from @first on, in one batch. */
static void set_apart(struct race *race, u64 first, u64 pages, u64 attributes)
{
	struct kvm_memory_attributes_entry entries[KMA_PAGES];
	u32 nr = 0;

	for (u64 i = 0; i < KMA_PAGES; i++) {
		if (pages & 1ull << i)
			entries[nr++] = layers_entry(0, kma_page_gpa(first + i), PAGE_SIZE,
						     attributes, KMA_PRIVATE);
	}
	layers_batch(race->vm, entries, nr);
}

static void flip_apart(struct race *race, int round)
{
	static const u64 apart[] = { KMA_ODD, KMA_EVEN, KMA_MIDDLE, 1ull << 63 | 1 };
	u64 pages = apart[round % ARRAY_SIZE(apart)];

	set_apart(race, MIDDLE_FIRST, pages, KMA_PRIVATE);
	kma_look_at(race->vcpus[0], MIDDLE_FIRST, KMA_SEEN(.private = pages, .shared = ~pages));
	set_apart(race, MIDDLE_FIRST, pages, 0);
	kma_look_at(race->vcpus[0], MIDDLE_FIRST, KMA_SEEN(.shared = KMA_ALL));
}

TEST_F_TIMEOUT(race, fault_beside_the_pages_of_a_batch_maps_nothing_over_them, 240)
{
	hammer.skip_first = MIDDLE_FIRST;
	hammer.skip_pages = KMA_PAGES;
	run_race(flip_apart);
}

TEST_F_TIMEOUT(race, all_pages_hold_the_new_kind_when_a_batch_returns, 240)
{
	hammer.any_kind = true;
	run_race(flip_apart);
}

static void replace_backing(struct race *race, int round)
{
	enum kma_kind kind = round % 2 ? KMA_KIND_SHARED : KMA_KIND_NEW;

	kma_set(race->vm, KMA_GPA, KMA_SIZE, KMA_PRIVATE);
	kvm_madvise(race->region->host_mem, KMA_SIZE, MADV_DONTNEED);
	for (u64 page = 0; page < KMA_PAGES; page++)
		*(u64 *)(race->region->host_mem + page * PAGE_SIZE) =
			kma_word(kind, kma_page_gpa(page));
	kma_look_at(race->vcpus[0], 0, KMA_SEEN(.private = KMA_ALL));

	kma_set(race->vm, KMA_GPA, KMA_SIZE, 0);
	if (kind == KMA_KIND_NEW)
		kma_look_at(race->vcpus[0], 0, KMA_SEEN(.fresh = KMA_ALL));
	else
		kma_look_at(race->vcpus[0], 0, KMA_SEEN(.shared = KMA_ALL));
}

/*
 * The shared backing goes away while its pages are private. Nothing of it may
 * be left in the guest, though the event found no shared page there.
 */
TEST_F_TIMEOUT(race, backing_replaced_under_private_pages_is_gone_when_they_are_shared, 240)
{
	hammer.any_kind = true;
	run_race(replace_backing);
}

TEST_HARNESS_MAIN
