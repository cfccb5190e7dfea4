// SPDX-License-Identifier: GPL-2.0
/*
 * Batches, whole layers and resumable sets beside what uses memory at the same time: a
 * vCPU that writes, of which nothing arrives any more where the ioctl has returned;
 * memslots that come and go; and setters of other layers, of which none loses what it
 * has set.
 */
/* seconds: release 120, debug 1200 */
#include <semaphore.h>

#include "kvm_memattr_layers.h"
#include "kvm_memattr_random.h"
#include "kvm_memattr_rwx_huge.h"

#define ROUNDS		120
#define SLOT_ROUNDS	80
#define SETTER_ROUNDS	600
#define DEBUG_SHARE	6
#define RACE_PAGES	64ull
#define ALL_PAGES	(~0ull)

/* For a vCPU to exit or to go on: far longer than it takes. */
#define RACE_SECONDS	20

/* The guest's, shared with the host. */
static struct writer {
	u64 page;
	u64 rounds;
	u64 stop;
} writer;

static void writer_code(void)
{
	u64 value = 0;

	while (!READ_ONCE(writer.stop)) {
		for (u64 page = 0; page < RACE_PAGES; page++) {
			WRITE_ONCE(writer.page, page);
			WRITE_ONCE(*(u64 *)(KMA_GPA + page * PAGE_SIZE + RWX_DATA), ++value);
		}
		WRITE_ONCE(writer.rounds, writer.rounds + 1);
	}
	GUEST_DONE();
}

struct race {
	struct rwx_guest g;
	struct writer *writer;
	pthread_t thread;
	sem_t stopped;
	sem_t go;
	/* Set by the vCPU's thread before it says that it has stopped. */
	u64 gpa;
	u64 flags;
	/* What is denied: pages of the writer's, or all that the guest has. */
	u64 denied;
	bool everywhere;
	/* And how. */
	u32 layer;
	u32 nr;
	struct kvm_memory_attributes_entry entries[RACE_PAGES];
};

static void *writer_thread(void *arg)
{
	struct race *race = arg;
	struct kvm_vcpu *vcpu = race->g.vcpu;
	struct ucall uc;

	for (;;) {
		int ret = __vcpu_run(vcpu);

		if (ret && errno == EFAULT &&
		    vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
			race->gpa = vcpu->run->memory_fault.gpa;
			race->flags = vcpu->run->memory_fault.flags;
			sem_post(&race->stopped);
			sem_wait(&race->go);
			continue;
		}
		/* Memory that is not there for a moment. */
		if (!ret && vcpu->run->exit_reason == KVM_EXIT_MMIO)
			continue;
		TEST_ASSERT(!ret && get_ucall(vcpu, &uc) == UCALL_DONE,
			    "the vCPU stopped: errno %d exit %u (%s)", errno,
			    vcpu->run->exit_reason, exit_reason_str(vcpu->run->exit_reason));
		return NULL;
	}
}

static void race_start(struct race *race)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = rwx_create_vm(KVM_X86_DEFAULT_VM, 0, writer_code, 1, &vcpu);

	*race = (struct race) { .g = {
		.vm = vm,
		.vcpu = vcpu,
		.gpa = KMA_GPA,
		.nr_pages = RWX_BLOCK,
	} };
	rwx_add_slot(&race->g, VM_MEM_SRC_ANONYMOUS_THP, 0);
	virt_map_level(vm, KMA_GPA, KMA_GPA, RWX_BLOCK * PAGE_SIZE, PG_LEVEL_2M);
	race->writer = addr_gva2hva(vm, (gva_t)&writer);
	sem_init(&race->stopped, 0, 0);
	sem_init(&race->go, 0, 0);
	kvm_pthread_create(&race->thread, NULL, writer_thread, race);
}

static struct timespec deadline(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += RACE_SECONDS;
	return until;
}

static void wait_stopped(struct race *race)
{
	struct timespec until = deadline();

	TEST_ASSERT(!sem_timedwait(&race->stopped, &until), "the vCPU goes on without the right");
}

/* A whole round of the pages, i.e. none of them is denied. */
static void wait_progress(struct race *race)
{
	struct timespec until = deadline(), now;
	u64 rounds = READ_ONCE(race->writer->rounds);

	while (READ_ONCE(race->writer->rounds) < rounds + 2) {
		TEST_ASSERT(sem_trywait(&race->stopped),
			    "the vCPU exits with flags 0x%lx for 0x%lx, which is allowed",
			    race->flags, race->gpa);
		clock_gettime(CLOCK_REALTIME, &now);
		TEST_ASSERT(now.tv_sec <= until.tv_sec, "the vCPU does not go on");
		usleep(100);
	}
}

/* Frees the VM. */
static void race_end(struct race *race)
{
	WRITE_ONCE(race->writer->stop, true);
	kvm_pthread_join(race->thread, NULL);
	kvm_vm_free(race->g.vm);
}

/* Some pages, one entry for each, in layers and an order that are random. */
static void deny_by_batch(struct race *race)
{
	u64 pages = kma_random() & kma_random();
	u32 nr = 0;

	if (!pages)
		pages = 1ull << kma_random_below(RACE_PAGES);
	for (u64 page = 0; page < RACE_PAGES; page++) {
		if (pages & 1ull << page)
			race->entries[nr++] = layers_entry(kma_random_below(LAYERS),
							   KMA_GPA + page * PAGE_SIZE, PAGE_SIZE,
							   KMA_NW, KMA_NW);
	}
	for (u32 i = nr; i > 1; i--) {
		u32 other = kma_random_below(i);
		struct kvm_memory_attributes_entry entry = race->entries[i - 1];

		race->entries[i - 1] = race->entries[other];
		race->entries[other] = entry;
	}
	race->denied = pages;
	race->nr = nr;
	layers_batch(race->g.vm, race->entries, nr);
}

static void allow_by_batch(struct race *race)
{
	for (u32 i = 0; i < race->nr; i++)
		race->entries[i].attributes = 0;
	layers_batch(race->g.vm, race->entries, race->nr);
}

static void deny_by_layer(struct race *race)
{
	race->layer = kma_random_below(LAYERS);
	race->denied = ALL_PAGES;
	race->everywhere = true;
	layers_set_whole(race->g.vm, race->layer, KMA_NW);
}

static void allow_by_layer(struct race *race)
{
	layers_set_whole(race->g.vm, race->layer, 0);
}

static void set_by_steps(struct race *race, u64 first, u64 nr, u64 attributes)
{
	struct kvm_memory_attributes attr = {
		.address = KMA_GPA + first * PAGE_SIZE,
		.size = nr * PAGE_SIZE,
		.attributes = attributes,
	};

	TEST_ASSERT(!__vm_ioctl(race->g.vm, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, &attr) &&
		    !attr.size, "a resumable set: %s, 0x%llx bytes are left", strerror(errno),
		    attr.size);
}

static void deny_by_steps(struct race *race)
{
	u64 first = kma_random_below(RACE_PAGES);
	u64 nr = 1 + kma_random_below(RACE_PAGES - first);

	race->denied = ALL_PAGES >> (RACE_PAGES - nr) << first;
	set_by_steps(race, first, nr, KMA_NW);
}

static void allow_by_steps(struct race *race)
{
	set_by_steps(race, 0, RACE_PAGES, 0);
}

typedef void (*race_fn_t)(struct race *race);

static void run_round(struct race *race, race_fn_t deny, race_fn_t allow)
{
	u64 was[RACE_PAGES], page;

	wait_progress(race);
	deny(race);
	for (page = 0; page < RACE_PAGES; page++)
		was[page] = READ_ONCE(*rwx_hva(&race->g, page));
	wait_stopped(race);

	page = READ_ONCE(race->writer->page);
	TEST_ASSERT(race->flags == KVM_MEMORY_EXIT_FLAG_WRITE &&
		    (race->everywhere || (race->gpa == rwx_gpa(&race->g, page) &&
					  race->denied & 1ull << page)),
		    "an exit for 0x%lx of 0x%lx at page %lu, and %lx are denied", race->flags,
		    race->gpa, page, race->denied);
	for (page = 0; page < RACE_PAGES; page++)
		TEST_ASSERT(!(race->denied & 1ull << page) ||
			    READ_ONCE(*rwx_hva(&race->g, page)) == was[page],
			    "page %lu was written after the ioctl", page);

	/* All of it back in one step, too. */
	allow(race);
	sem_post(&race->go);
}

static void run_race(race_fn_t deny, race_fn_t allow)
{
	u64 rounds = kma_steps(ROUNDS, DEBUG_SHARE);
	struct race race;

	kma_random_init();
	race_start(&race);
	for (u64 round = 0; round < rounds; round++)
		run_round(&race, deny, allow);
	race_end(&race);
}

FIXTURE(race) {
};

FIXTURE_SETUP(race)
{
}

FIXTURE_TEARDOWN(race)
{
}

TEST_F_TIMEOUT(race, no_write_arrives_after_the_batch, 600)
{
	run_race(deny_by_batch, allow_by_batch);
}

TEST_F_TIMEOUT(race, no_write_arrives_after_a_whole_layer, 600)
{
	run_race(deny_by_layer, allow_by_layer);
}

TEST_F_TIMEOUT(race, no_write_arrives_after_a_resumable_set, 600)
{
	run_race(deny_by_steps, allow_by_steps);
}

/* --- memslots --- */

/* Makes and deletes a slot until it is told to stop. */
struct slots {
	struct kvm_vm *vm;
	void *mem;
	u64 nr_pages;
	u64 gpa;
	u64 done;
	bool stop;
};

static void *slots_thread(void *arg)
{
	struct slots *s = arg;

	while (!READ_ONCE(s->stop)) {
		vm_set_user_memory_region(s->vm, KMA_SLOT, 0, s->gpa, s->nr_pages * PAGE_SIZE,
					  s->mem);
		vm_set_user_memory_region(s->vm, KMA_SLOT, 0, s->gpa, 0, s->mem);
		WRITE_ONCE(s->done, s->done + 1);
	}
	vm_set_user_memory_region(s->vm, KMA_SLOT, 0, s->gpa, s->nr_pages * PAGE_SIZE, s->mem);
	return NULL;
}

/* What a batch has set while the slot came and went is what binds the guest. */
TEST_F_TIMEOUT(race, slots_that_come_and_go_have_what_the_batches_have_set, 600)
{
	struct kvm_memory_attributes_entry *entries = layers_alloc(RWX_BLOCK, sizeof(*entries));
	u64 rounds = kma_steps(SLOT_ROUNDS, DEBUG_SHARE);
	struct rwx_guest g = {};
	pthread_t thread;

	kma_random_init();
	rwx_huge_init(&g, KVM_X86_DEFAULT_VM, 2 * RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
	for (u64 round = 0; round < rounds; round++) {
		u32 layer = kma_random_below(LAYERS), other = (layer + 1) % LAYERS;
		struct slots s = {
			.vm = g.vm,
			.mem = g.region->host_mem,
			.nr_pages = g.nr_pages,
			.gpa = g.gpa,
		};

		vm_set_user_memory_region(g.vm, KMA_SLOT, 0, g.gpa, 0, s.mem);
		kvm_pthread_create(&thread, NULL, slots_thread, &s);
		while (READ_ONCE(s.done) < 2)
			usleep(50);
		/* In the first block pages that are apart, in the second all of them. */
		for (u64 i = 0; i < RWX_BLOCK / 2; i++)
			entries[i] = layers_entry(layer, rwx_gpa(&g, 2 * i), PAGE_SIZE, KMA_NW,
						  KMA_NW);
		for (u64 i = 0; i < 4; i++)
			entries[RWX_BLOCK / 2 + i] =
				layers_entry(i % 2 ? layer : other,
					     rwx_gpa(&g, RWX_BLOCK + i * RWX_BLOCK / 4),
					     RWX_BLOCK / 4 * PAGE_SIZE, KMA_NW, KMA_NW);
		layers_batch(g.vm, entries, RWX_BLOCK / 2 + 4);
		WRITE_ONCE(s.stop, true);
		kvm_pthread_join(thread, NULL);

		for (u64 page = kma_random_below(16); page < RWX_BLOCK; page += 37)
			rwx_check_all(&g, page, page % 2 ? 0 : KMA_NW);
		rwx_unmap(&g);
		RWX_ASSERT_MAPS(&g, RWX_BLOCK + 7, PG_LEVEL_2M);
		RWX_ASSERT_MAPS(&g, 7, PG_LEVEL_4K);
		layers_clear_all(g.vm);
	}
	kvm_vm_free(g.vm);
	free(entries);
}

/* --- setters --- */

/* Sets a layer of its own, and knows what it has set. */
struct setter {
	struct kvm_vm *vm;
	pthread_t thread;
	u32 layer;
	u64 rounds;
	u8 word[RWX_BLOCK];
};

static void set_some(struct setter *s)
{
	u64 first = kma_random_below(RWX_BLOCK), nr = kma_random_log(RWX_BLOCK - first);
	u64 word = kma_restrictions[kma_random_below(ARRAY_SIZE(kma_restrictions))];
	u64 gpa = KMA_GPA + first * PAGE_SIZE;

	switch (kma_random_below(8)) {
	case 0:
		layers_set_whole(s->vm, s->layer, 0);
		memset(s->word, 0, sizeof(s->word));
		return;
	case 1:
	case 2:
	case 3:
		layers_batch(s->vm, ENTRIES(layers_entry(s->layer, gpa, nr * PAGE_SIZE, word,
							 KMA_NO_ACCESS),
					    layers_entry(s->layer, gpa, PAGE_SIZE, 0,
							 KMA_NO_ACCESS)), 2);
		memset(s->word + first, word, nr);
		s->word[first] = 0;
		return;
	default:
		layers_set(s->vm, s->layer, gpa, nr * PAGE_SIZE, word);
		memset(s->word + first, word, nr);
	}
}

static void assert_own(struct setter *s)
{
	struct kvm_memory_attributes_run *runs = layers_alloc(RWX_BLOCK, sizeof(*runs));
	u32 nr = layers_get(s->vm->fd, s->layer, KMA_GPA, RWX_BLOCK * PAGE_SIZE, runs, RWX_BLOCK,
			    NULL);
	u64 page = 0;

	for (u32 i = 0; i < nr; i++) {
		for (u64 end = page + runs[i].size / PAGE_SIZE; page < end; page++)
			TEST_ASSERT(runs[i].attributes == s->word[page],
				    "KMA_SEED=%#lx: layer %u of page %lu has 0x%llx, not 0x%x",
				    kma_seed, s->layer, page, runs[i].attributes, s->word[page]);
	}
	free(runs);
}

static void *setter_thread(void *arg)
{
	struct setter *s = arg;

	kma_random_init_thread(s->layer);
	for (u64 i = 0; i < s->rounds; i++) {
		set_some(s);
		assert_own(s);
	}
	return NULL;
}

#define SETTERS		4

TEST_F_TIMEOUT(race, no_setter_changes_the_layer_of_another_one, 600)
{
	static const u32 layers[SETTERS] = { 0, 1, 7, 15 };
	struct setter *setters = layers_alloc(SETTERS, sizeof(*setters));
	struct rwx_guest g = {};

	kma_random_init();
	rwx_create(&g, KVM_X86_DEFAULT_VM, RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
	virt_map(g.vm, g.gpa, g.gpa, g.nr_pages);
	vcpu_regs_get(g.vcpu, &rwx_entry);
	rwx_run(g.vcpu);
	for (int i = 0; i < SETTERS; i++) {
		setters[i].vm = g.vm;
		setters[i].layer = layers[i];
		setters[i].rounds = kma_steps(SETTER_ROUNDS, DEBUG_SHARE);
		kvm_pthread_create(&setters[i].thread, NULL, setter_thread, &setters[i]);
	}
	for (int i = 0; i < SETTERS; i++)
		kvm_pthread_join(setters[i].thread, NULL);

	for (u64 page = 0; page < RWX_BLOCK; page += 3) {
		u64 all = 0;

		for (int i = 0; i < SETTERS; i++)
			all |= setters[i].word[page];
		layers_assert(g.vm, LAYERS_UNION, rwx_gpa(&g, page), PAGE_SIZE, all);
		rwx_check_all(&g, page, all);
	}
	kvm_vm_free(g.vm);
	free(setters);
}

/* --- readers --- */

/* Pages far apart, so that it takes a while to store them all. */
#define FLIPPED		64
#define FLIP_ROUNDS	1200

struct flips {
	struct kvm_vm *vm;
	u64 rounds;
	u64 done;
};

static u64 flipped_gpa(u64 n)
{
	return KMA_GPA + 2 * n * RWX_BLOCK * PAGE_SIZE;
}

static void *flip_thread(void *arg)
{
	struct kvm_memory_attributes_entry entries[FLIPPED];
	struct flips *f = arg;

	for (u64 round = 0; round < f->rounds; round++) {
		u64 word = round % 2 ? 0 : KMA_NW;

		for (u64 n = 0; n < FLIPPED; n++)
			entries[n] = layers_entry(1, flipped_gpa(n), PAGE_SIZE, word, KMA_NW);
		layers_batch(f->vm, entries, FLIPPED);
	}
	WRITE_ONCE(f->done, 1);
	return NULL;
}

TEST_F_TIMEOUT(race, all_of_a_batch_is_read_or_nothing, 240)
{
	struct kvm_memory_attributes_run runs[2 * FLIPPED];
	struct kvm_vm *vm = vm_create_barebones();
	struct flips flips = {
		.vm = vm,
		.rounds = kma_steps(FLIP_ROUNDS, DEBUG_SHARE),
	};
	u64 seen[2] = {};
	pthread_t thread;

	kvm_pthread_create(&thread, NULL, flip_thread, &flips);
	while (!READ_ONCE(flips.done)) {
		u32 nr = layers_get(vm->fd, LAYERS_UNION, KMA_GPA,
				    flipped_gpa(FLIPPED) - KMA_GPA, runs, 2 * FLIPPED, NULL);

		TEST_ASSERT(nr == 1 || nr == 2 * FLIPPED, "%u runs of a batch of %u", nr, FLIPPED);
		seen[nr > 1]++;
	}
	kvm_pthread_join(thread, NULL);
	TEST_ASSERT(seen[0] && seen[1], "read %lu times without it, and %lu with it", seen[0],
		    seen[1]);
	printf("# figure: read %lu times without a batch, and %lu with it\n", seen[0], seen[1]);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
