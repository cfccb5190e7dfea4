// SPDX-License-Identifier: GPL-2.0
/*
 * Rights that are taken from a vCPU while it uses them. When the ioctl has
 * returned, none of it is left: not one write arrives, not one value is read or
 * instruction executed, and the vCPU exits. When the right comes back, it goes on.
 * Of two vCPUs each loses what is denied to it, and one that isn't goes on.
 */
/* modes: npt=0 tdp_mmu=0 */
/* not with npt=0 tdp_mmu=0: protected */
/* not with npt=0: nested */
/* seconds: release 300, debug 1800 */
#include <semaphore.h>

#include "kvm_memattr_random.h"
#include "kvm_memattr_rwx_huge.h"
#include "kvm_memattr_rwx_log.h"
#include "svm_util.h"

#define RACE_ROUNDS	150
#define PAIR_ROUNDS	60
#define RACE_DEBUG_SHARE	3
#define RACE_PAGES	16

/* For a vCPU to exit or to go on: far longer than it takes. */
#define RACE_SECONDS	20

/* Never there while the guest may read it. */
#define SECRET		0x5ec2e75ec2e75ec2ull
#define RET		0xc3
#define INT3		0xcc

/* The guest's, one for each vCPU, shared with the host. */
static struct hammer {
	u64 op;
	/* The first page, and the one that is used now. */
	u64 first;
	u64 page;
	u64 stop;
	u64 rounds;
	u64 leaks;
} hammers[RWX_VCPUS];

static void hammer_code(u64 vcpu_id)
{
	struct hammer *h = &hammers[vcpu_id];
	u64 value = 0;

	while (!READ_ONCE(h->stop)) {
		for (u64 page = h->first; page < h->first + RACE_PAGES; page++) {
			u64 gva = KMA_GPA + page * PAGE_SIZE;
			u64 *data = (u64 *)(gva + RWX_DATA) + vcpu_id;

			WRITE_ONCE(h->page, page);
			switch (READ_ONCE(h->op)) {
			case RWX_READ:
				if (READ_ONCE(*data) == SECRET)
					WRITE_ONCE(h->leaks, h->leaks + 1);
				break;
			case RWX_WRITE:
				WRITE_ONCE(*data, ++value);
				break;
			case RWX_EXEC:
				((void (*)(void))(gva + RWX_CODE))();
				break;
			}
		}
		WRITE_ONCE(h->rounds, h->rounds + 1);
	}
	GUEST_DONE();
}

/* One vCPU of the guest, and the thread that runs it. */
struct race {
	struct rwx_guest g;
	enum rwx_op op;
	pthread_t thread;
	sem_t stopped;
	sem_t go;
	/* Set by the vCPU's thread before it says that it has stopped. */
	u64 gpa;
	u64 flags;
};

static void *hammer_thread(void *arg)
{
	struct race *race = arg;
	struct kvm_vcpu *vcpu = race->g.vcpu;
	struct ucall uc;
	int ret;

	for (;;) {
		ret = __vcpu_run(vcpu);
		if (ret && errno == EFAULT &&
		    vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
			race->gpa = vcpu->run->memory_fault.gpa;
			race->flags = vcpu->run->memory_fault.flags;
			sem_post(&race->stopped);
			sem_wait(&race->go);
			continue;
		}

		TEST_ASSERT(!ret, "vCPU %u stopped: errno %d exit %u (%s)", vcpu->id, errno,
			    vcpu->run->exit_reason,
			    exit_reason_str(vcpu->run->exit_reason));

		switch (get_ucall(vcpu, &uc)) {
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
		default:
			TEST_FAIL("vCPU %u stopped: exit %u (%s)", vcpu->id,
				  vcpu->run->exit_reason,
				  exit_reason_str(vcpu->run->exit_reason));
		}
	}
}

static struct hammer *hammer_of(struct race *race)
{
	return (struct hammer *)addr_gva2hva(race->g.vm, (gva_t)&hammers) + race->g.vcpu->id;
}

/* What each of a guest's vCPUs does, from which page on. */
struct racer {
	enum rwx_op op;
	u64 first;
};

/* How what the guest writes is logged, if it is. */
enum how_logged {
	NO_LOG,
	BITMAP,
	RING,
};

static void start_races(struct race *races, int nr, u32 type, const struct racer *racers,
			enum how_logged how, struct rwx_log *log)
{
	struct rwx_guest g = {
		.gpa = KMA_GPA,
		.nr_pages = RWX_BLOCK,
		.ring = how == RING ? RWX_RING : 0,
	};
	struct kvm_vcpu *vcpus[RWX_VCPUS];

	g.vm = rwx_create_vm(type, g.ring, hammer_code, nr, vcpus);
	rwx_add_slot(&g, VM_MEM_SRC_ANONYMOUS_THP, 0);
	if (log) {
		rwx_log_init(log, &g, 0);
		rwx_log_set(log, true);
	}
	virt_map_level(g.vm, g.gpa, g.gpa, g.nr_pages * PAGE_SIZE, PG_LEVEL_2M);

	for (int i = 0; i < nr; i++) {
		struct race *race = &races[i];

		*race = (struct race) { .g = g, .op = racers[i].op };
		race->g.vcpu = vcpus[i];
		hammer_of(race)->op = racers[i].op;
		hammer_of(race)->first = racers[i].first;
		sem_init(&race->stopped, 0, 0);
		sem_init(&race->go, 0, 0);
		kvm_pthread_create(&race->thread, NULL, hammer_thread, race);
	}
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

	TEST_ASSERT(!sem_timedwait(&race->stopped, &until),
		    "vCPU %u goes on without the right", race->g.vcpu->id);
}

static void wait_progress(struct race *race)
{
	struct hammer *h = hammer_of(race);
	struct timespec until = deadline(), now;
	u64 rounds = READ_ONCE(h->rounds);

	/* A whole round, i.e. all pages. */
	while (READ_ONCE(h->rounds) < rounds + 2) {
		TEST_ASSERT(sem_trywait(&race->stopped),
			    "the vCPU exits with flags 0x%lx for 0x%lx, which is allowed",
			    race->flags, race->gpa);
		clock_gettime(CLOCK_REALTIME, &now);
		TEST_ASSERT(now.tv_sec <= until.tv_sec, "vCPU %u does not go on",
			    race->g.vcpu->id);
		usleep(100);
	}
}

static const u64 words_that_deny[RWX_NR_OPS][3] = {
	[RWX_READ] = { KMA_NO_ACCESS, KMA_NO_ACCESS, KMA_NO_ACCESS },
	[RWX_WRITE] = { KMA_NW, KMA_NW | KMA_NX, KMA_NO_ACCESS },
	[RWX_EXEC] = { KMA_NX, KMA_NW | KMA_NX, KMA_NO_ACCESS },
};

static u8 *code_of(struct rwx_guest *g, u64 page)
{
	return (u8 *)rwx_hva(g, page) + RWX_CODE - RWX_DATA;
}

/* Where in a page the vCPU reads or writes. */
static u64 *data_of(struct race *race, u64 page)
{
	return rwx_hva(&race->g, page) + race->g.vcpu->id;
}

/* What would show that the vCPU still has the right. */
static void set_trap(struct race *race, u64 first, u64 nr, u64 *values)
{
	for (u64 page = first; page < first + nr; page++) {
		values[page] = READ_ONCE(*data_of(race, page));
		if (race->op == RWX_READ)
			WRITE_ONCE(*data_of(race, page), SECRET);
		else if (race->op == RWX_EXEC)
			WRITE_ONCE(*code_of(&race->g, page), INT3);
	}
}

static void clear_trap(struct race *race, u64 first, u64 nr, u64 *values)
{
	for (u64 page = first; page < first + nr; page++) {
		u64 *data = data_of(race, page);

		if (race->op == RWX_WRITE)
			TEST_ASSERT(READ_ONCE(*data) == values[page],
				    "page %lu was written after the ioctl: %lx, not %lx", page,
				    *data, values[page]);
		else if (race->op == RWX_READ)
			WRITE_ONCE(*data, values[page]);
		else
			WRITE_ONCE(*code_of(&race->g, page), RET);
	}
}

/* What the vCPU has stopped for is what it was about to do, and that is denied. */
static void assert_stopped(struct race *race, u64 first, u64 nr, u64 word)
{
	u64 flag = rwx_denied_flag(word, race->op), page = READ_ONCE(hammer_of(race)->page);

	TEST_ASSERT(race->flags == flag && race->gpa == rwx_gpa(&race->g, page) &&
		    page - first < nr,
		    "vCPU %u: wanted an exit for 0x%lx at page %lu, of %lu and %lu more, got 0x%lx for 0x%lx",
		    race->g.vcpu->id, flag, page, first, nr - 1, race->flags, race->gpa);
}

/* What was written before is fetched first, with the vCPUs stopped that wrote it. */
static void assert_clean(struct rwx_log *log, u64 first, u64 nr)
{
	rwx_log_fetch(log);
	rwx_log_fetch(log);
	for (u64 page = first; page < first + nr; page++)
		rwx_log_assert(log, page, false);
}

static void run_round(struct race *race, struct rwx_log *log)
{
	u64 values[RACE_PAGES];
	u64 first = kma_random_below(RACE_PAGES), nr = kma_random_log(RACE_PAGES - first);
	u64 word = words_that_deny[race->op][kma_random_below(3)];
	struct rwx_guest *g = &race->g;

	wait_progress(race);
	/* Writes then race as fast page faults. */
	if (log)
		rwx_log_fetch(log);

	rwx_set(g, first, nr, word);
	set_trap(race, first, nr, values);
	wait_stopped(race);
	assert_stopped(race, first, nr, word);
	clear_trap(race, first, nr, values);
	TEST_ASSERT(!READ_ONCE(hammer_of(race)->leaks), "the guest has read the secret");

	if (log)
		assert_clean(log, first, nr);

	rwx_set(g, first, nr, 0);
	sem_post(&race->go);
}

/*
 * Each vCPU stops for what is denied to it, the others go on meanwhile, and all of
 * them do afterwards.
 */
static void run_pair_round(struct race *races, struct rwx_log *log)
{
	u64 first = kma_random_below(RACE_PAGES), nr = kma_random_log(RACE_PAGES - first);
	u64 word = kma_restrictions[1 + kma_random_below(ARRAY_SIZE(kma_restrictions) - 1)];
	u64 again = kma_random_below(2 * RWX_VCPUS);
	u64 values[RWX_VCPUS][RACE_PAGES];
	bool stops[RWX_VCPUS];

	for (int i = 0; i < RWX_VCPUS; i++) {
		stops[i] = rwx_denied_flag(word, races[i].op) &&
			   hammer_of(&races[i])->first == 0;
		wait_progress(&races[i]);
	}
	if (log)
		rwx_log_fetch(log);

	rwx_set(&races[0].g, first, nr, word);
	for (int i = 0; i < RWX_VCPUS; i++)
		if (stops[i])
			set_trap(&races[i], first, nr, values[i]);

	for (int i = 0; i < RWX_VCPUS; i++) {
		if (!stops[i])
			continue;
		wait_stopped(&races[i]);
		assert_stopped(&races[i], first, nr, word);
		/* At times it tries once more, with the other where it is. */
		if (i != again)
			continue;
		sem_post(&races[i].go);
		wait_stopped(&races[i]);
		assert_stopped(&races[i], first, nr, word);
	}
	for (int i = 0; i < RWX_VCPUS; i++) {
		if (stops[i])
			clear_trap(&races[i], first, nr, values[i]);
		else
			wait_progress(&races[i]);
	}

	if (log && word & KMA_NW)
		assert_clean(log, first, nr);

	rwx_set(&races[0].g, first, nr, 0);
	for (int i = 0; i < RWX_VCPUS; i++)
		if (stops[i])
			sem_post(&races[i].go);
}

/* Frees the VM. */
static void end_races(struct race *races, int nr)
{
	for (int i = 0; i < nr; i++)
		WRITE_ONCE(hammer_of(&races[i])->stop, true);
	for (int i = 0; i < nr; i++)
		kvm_pthread_join(races[i].thread, NULL);
	kvm_vm_free(races[0].g.vm);
}

static void run_races(int nr, u32 type, const struct racer *racers, enum how_logged how)
{
	struct rwx_log the_log = {}, *log = how == NO_LOG ? NULL : &the_log;
	u64 rounds = kma_rounds(nr == 1 ? RACE_ROUNDS : PAIR_ROUNDS, RACE_DEBUG_SHARE);
	struct race races[RWX_VCPUS];

	kma_random_init();
	start_races(races, nr, type, racers, how, log);
	for (u64 round = 0; round < rounds; round++) {
		if (nr == 1)
			run_round(races, log);
		else
			run_pair_round(races, log);
	}
	end_races(races, nr);
	rwx_log_free(&the_log);
}

static void run_race(u32 type, enum rwx_op op, enum how_logged how)
{
	run_races(1, type, &(struct racer) { .op = op }, how);
}

static void run_pair(u32 type, enum rwx_op op, u64 first, enum how_logged how)
{
	const struct racer racers[] = {
		{ .op = RWX_WRITE },
		{ .op = op, .first = first },
	};

	run_races(ARRAY_SIZE(racers), type, racers, how);
}

FIXTURE(race) {
};

FIXTURE_VARIANT(race) {
	u32 type;
	enum how_logged how;
};

FIXTURE_VARIANT_ADD(race, default) {
	.type = KVM_X86_DEFAULT_VM,
};

FIXTURE_VARIANT_ADD(race, default_dirty_log) {
	.type = KVM_X86_DEFAULT_VM,
	.how = BITMAP,
};

FIXTURE_VARIANT_ADD(race, default_dirty_ring) {
	.type = KVM_X86_DEFAULT_VM,
	.how = RING,
};

FIXTURE_VARIANT_ADD(race, protected) {
	.type = KVM_X86_SW_PROTECTED_VM,
};

FIXTURE_SETUP(race)
{
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");
}

FIXTURE_TEARDOWN(race)
{
}

TEST_F_TIMEOUT(race, no_write_arrives_after_the_ioctl, 240)
{
	run_race(variant->type, RWX_WRITE, variant->how);
}

TEST_F_TIMEOUT(race, nothing_is_read_after_the_ioctl, 240)
{
	run_race(variant->type, RWX_READ, variant->how);
}

TEST_F_TIMEOUT(race, nothing_is_executed_after_the_ioctl, 240)
{
	run_race(variant->type, RWX_EXEC, variant->how);
}

TEST_F_TIMEOUT(race, no_write_of_two_vcpus_arrives_after_the_ioctl, 240)
{
	run_pair(variant->type, RWX_WRITE, 0, variant->how);
}

/* Of the same pages, so that it depends on the word which of the two stops. */
TEST_F_TIMEOUT(race, one_vcpu_writes_and_another_executes_where_that_is_allowed, 240)
{
	run_pair(variant->type, RWX_EXEC, 0, variant->how);
}

TEST_F_TIMEOUT(race, a_vcpu_that_writes_other_pages_goes_on, 240)
{
	run_pair(variant->type, RWX_WRITE, RACE_PAGES, variant->how);
}

/*
 * Shadow paging maps what the neighbouring entries of a page table name along
 * with a page that faults, i.e. any memory. Here every other entry is for a page
 * whose attributes are just changing, which isn't where the guest faults.
 */
#define GROUPS		256
#define GROUP		8
#define HALF		(GROUPS * GROUP / 2)
#define FAR_GPA		KMA_GPA
#define CHANGING_GPA	(KMA_GPA + 2ull * SZ_1G)
#define CHANGING_SLOT	(KMA_SLOT + 1)
/* Where the guest sees both, in turn, and where its nested guest does. */
#define WINDOW_GVA	(KMA_GPA + 8ull * SZ_1G)
#define WINDOW_L2_GPA	(KMA_GPA + 4ull * SZ_1G)
#define PREFETCH_ROUNDS	6

static u64 walked;

static void prefetch_code(void)
{
	struct rwx_cmd *cmd = &rwx_cmds[0];

	for (;;) {
		GUEST_SYNC(0);
		if (READ_ONCE(cmd->op) != RWX_NR_OPS) {
			rwx_do(READ_ONCE(cmd->op), READ_ONCE(cmd->gva), READ_ONCE(cmd->value));
			continue;
		}
		for (u64 group = 0; group < GROUPS; group++) {
			WRITE_ONCE(*(u64 *)(WINDOW_GVA + group * GROUP * PAGE_SIZE), group);
			WRITE_ONCE(walked, group);
		}
	}
}

static void l1_prefetch_code(struct svm_test_data *svm)
{
	generic_svm_setup(svm, prefetch_code);
	run_guest(svm->vmcb, svm->vmcb_gpa);
	GUEST_FAIL("L2 left with exit code %lx, info %lx %lx",
		   (u64)svm->vmcb->control.exit_code, (u64)svm->vmcb->control.exit_info_1,
		   (u64)svm->vmcb->control.exit_info_2);
}

FIXTURE(prefetch) {
	struct rwx_guest g;
};

FIXTURE_VARIANT(prefetch) {
	bool nested;
};

FIXTURE_VARIANT_ADD(prefetch, guest) {
};

FIXTURE_VARIANT_ADD(prefetch, nested) {
	.nested = true,
};

static u64 window_gpa(u64 i)
{
	return (i & 1 ? CHANGING_GPA : FAR_GPA) + i / 2 * PAGE_SIZE;
}

/* Pages of both slots in turn. Their entries are such that KVM maps them along. */
static void map_window(struct kvm_vm *vm, bool nested)
{
	struct kvm_mmu *mmu = nested ? &vm->stage2_mmu : &vm->mmu;
	u64 bits = PTE_ACCESSED_MASK(mmu) | PTE_DIRTY_MASK(mmu);

	for (u64 i = 0; i < 2 * HALF; i++)
		virt_pg_map(vm, WINDOW_GVA + i * PAGE_SIZE,
			    nested ? WINDOW_L2_GPA + i * PAGE_SIZE : window_gpa(i));
	/* Only then, as L2 needs the page tables, too. */
	if (nested)
		tdp_identity_map_default_memslots(vm);

	for (u64 i = 0; i < 2 * HALF; i++) {
		u64 l2_gpa = WINDOW_L2_GPA + i * PAGE_SIZE;

		if (nested)
			tdp_map(vm, l2_gpa, window_gpa(i), PAGE_SIZE);
		*(nested ? tdp_get_pte(vm, l2_gpa) :
			   vm_get_pte(vm, WINDOW_GVA + i * PAGE_SIZE)) |= bits;
	}
}

FIXTURE_SETUP(prefetch)
{
	struct rwx_guest *g = &self->g;
	gva_t svm;

	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	if (variant->nested && !kvm_cpu_has_npt())
		SKIP(return, "KVM offers no nested page tables to guests here");

	g->vm = vm_create_with_one_vcpu(&g->vcpu, prefetch_code);
	if (variant->nested) {
		vm_enable_tdp(g->vm);
		vcpu_alloc_svm(g->vm, &svm);
		vcpu_args_set(g->vcpu, 1, svm);
		vcpu_arch_set_entry_point(g->vcpu, l1_prefetch_code);
	}
	vm_mem_add(g->vm, VM_MEM_SRC_ANONYMOUS, CHANGING_GPA, CHANGING_SLOT, HALF, 0, -1, 0);
	g->gpa = FAR_GPA;
	g->nr_pages = HALF;
	rwx_add_slot(g, VM_MEM_SRC_ANONYMOUS, 0);
	memset(addr_gpa2hva(g->vm, CHANGING_GPA), 1, HALF * PAGE_SIZE);
	map_window(g->vm, variant->nested);
	rwx_run(g->vcpu);
}

FIXTURE_TEARDOWN(prefetch)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

static void *walk_thread(void *arg)
{
	rwx_run(arg);
	return NULL;
}

static void issue(struct rwx_guest *g, u64 op, u64 gva)
{
	struct rwx_cmd cmd = { .op = op, .gva = gva };

	memcpy(addr_gva2hva(g->vm, (gva_t)&rwx_cmds[0]), &cmd, sizeof(cmd));
}

/* Every page differs from the one before it, i.e. is zapped on its own. */
static void make_runs(struct rwx_guest *g)
{
	for (u64 page = 0; page < HALF; page++)
		kma_set(g->vm, CHANGING_GPA + page * PAGE_SIZE, PAGE_SIZE,
			page & 1 ? KMA_NX : 0);
}

TEST_F_TIMEOUT(prefetch, pages_that_are_mapped_along_have_no_right_that_is_gone, 240)
{
	struct rwx_guest *g = &self->g;
	u64 *at = addr_gva2hva(g->vm, (gva_t)&walked);
	pthread_t thread;

	kma_set(g->vm, CHANGING_GPA, HALF * PAGE_SIZE, KMA_NW | KMA_NX);
	for (int round = 0; round < PREFETCH_ROUNDS; round++) {
		make_runs(g);
		rwx_unmap(g);

		WRITE_ONCE(*at, 0);
		issue(g, RWX_NR_OPS, 0);
		kvm_pthread_create(&thread, NULL, walk_thread, g->vcpu);
		while (READ_ONCE(*at) < (round + 1) * GROUPS / 16)
			usleep(50);
		kma_set(g->vm, CHANGING_GPA, HALF * PAGE_SIZE, KMA_NW | KMA_NX);
		kvm_pthread_join(thread, NULL);

		for (u64 page = 0; page < HALF; page += 5) {
			u64 gpa = CHANGING_GPA + page * PAGE_SIZE;
			u64 gva = WINDOW_GVA + (2 * page + 1) * PAGE_SIZE;

			issue(g, RWX_WRITE, gva);
			rwx_assert_exit(g->vcpu, gpa, KVM_MEMORY_EXIT_FLAG_WRITE);
			kma_set(g->vm, gpa, PAGE_SIZE, 0);
			rwx_run(g->vcpu);
		}
	}
}

TEST_HARNESS_MAIN
