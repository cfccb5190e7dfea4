// SPDX-License-Identifier: GPL-2.0
/*
 * Random words on random ranges while two vCPUs read, write and execute at random.
 * The sets that have returned are counted, where the guest sees the count: it takes
 * it down before and after each access. What is known of an access then is which
 * words its page may have had meanwhile, mostly one: some such word has to account for
 * what came of it. So an access that began when a set had returned is held to that.
 * Some accesses are made over and over until that is so, without an exit meanwhile, after
 * which no CPU would have a translation from before.
 *
 * KMA_SEED repeats what is set and tried, though not when; KMA_STEPS is the number of
 * sets.
 */
/* modes: npt=0 tdp_mmu=0 */
/* not with npt=0 tdp_mmu=0: protected */
/* seconds: release 300, debug 1800 */
#include <pthread.h>

#include <asm/barrier.h>

#include "kvm_memattr_age.h"
#include "kvm_memattr_random.h"
#include "kvm_memattr_rwx_huge.h"

/* Sets with each type of VM. */
#define STEPS		2000
#define DEBUG_SHARE	10

#define PAGES		(2 * RWX_BLOCK)
/* Where most of it happens. */
#define BUSY_PAGES	16ull
#define BATCH		32
/* For about as long as a set takes. */
#define TIMES		4000
/* Of sets, in which each vCPU gets on. */
#define STRIDE		4
/* For a vCPU to get on: far longer than it takes. */
#define SECONDS		20

/* How many sets had returned when an access began, and when it had ended. */
struct span {
	u64 before;
	u64 after;
};

struct attempt {
	u64 op;
	u64 page;
	u64 value;
	u64 result;
	/* To be made so often unless a set returns. */
	u64 times;
	u64 made;
	/* Sets that had returned when the current access began, and for the last one made. */
	u64 before;
	struct span last;
	/* For the host: how many it has checked. */
	u64 checked;
};

/* The guest's, one for each vCPU, shared with the host. */
static struct batch {
	u64 nr;
	/* The one that is being made. */
	u64 at;
	struct attempt list[BATCH];
} batches[RWX_VCPUS];

static u64 returned;

static void make(struct attempt *a, u64 vcpu_id)
{
	u64 gva = KMA_GPA + a->page * PAGE_SIZE;
	u64 *data = (u64 *)(gva + RWX_DATA) + vcpu_id;

	if (a->op == RWX_READ)
		WRITE_ONCE(a->result, READ_ONCE(*data));
	else if (a->op == RWX_WRITE)
		WRITE_ONCE(*data, a->value);
	else if (a->op == RWX_EXEC)
		((void (*)(void))(gva + RWX_CODE))();
	else
		asm volatile("lock incq %0" : "+m"(*data));
}

static void attempt(struct attempt *a, u64 vcpu_id)
{
	u64 first = READ_ONCE(returned);

	do {
		WRITE_ONCE(a->before, READ_ONCE(returned));
		make(a, vcpu_id);
		/* The count is looked at when the write has been made. */
		mb();
		a->last.after = READ_ONCE(returned);
		a->last.before = READ_ONCE(a->before);
		WRITE_ONCE(a->made, a->made + 1);
	} while (a->made < a->times && a->last.before == first);
}

static void smp_code(u64 vcpu_id)
{
	struct batch *b = &batches[vcpu_id];

	for (;;) {
		GUEST_SYNC(0);
		for (u64 i = 0; i < READ_ONCE(b->nr); i++) {
			WRITE_ONCE(b->at, i);
			attempt(&b->list[i], vcpu_id);
		}
	}
}

struct set {
	u64 first;
	u64 end;
	/* By index in kma_restrictions. */
	u8 word;
};

struct fuzz;

/* A vCPU, and what it has done and knows. */
struct side {
	struct fuzz *f;
	struct kvm_vcpu *vcpu;
	struct kvm_regs entry;
	struct batch *batch;
	pthread_t thread;
	/* The words after that many sets. */
	u64 sets;
	u8 word[PAGES];
	/* What the guest has written, of what is this vCPU's. */
	u64 data[PAGES];
	/* Exits so far, for the one that sets. */
	u64 exits;
	struct {
		u64 accesses, denied, checked, exact;
	} nr;
};

struct fuzz {
	struct rwx_guest g;
	struct side sides[RWX_VCPUS];
	/* All of them, of which that many have begun. */
	struct set *sets;
	u64 begun;
	u64 *returned;
	bool stop;
};

static u64 *data_of(struct side *s, u64 page)
{
	return rwx_hva(&s->f->g, page) + s->vcpu->id;
}

static u64 random_page(void)
{
	return kma_random_below(kma_random_below(4) ? BUSY_PAGES : PAGES);
}

/* --- the vCPUs --- */

/* The words that the page may have had between these counts, a bit for each. */
static u64 possible_words(struct side *s, u64 page, u64 before, u64 after)
{
	struct set *sets = s->f->sets;
	u64 begun, mask;

	/* So many of them can be read. */
	begun = smp_load_acquire(&s->f->begun);
	TEST_ASSERT(before >= s->sets && after >= before && begun >= after,
		    "from %lu to %lu of %lu sets, after one from %lu on", before, after,
		    begun, s->sets);
	for (; s->sets < before; s->sets++)
		memset(s->word + sets[s->sets].first, sets[s->sets].word,
		       sets[s->sets].end - sets[s->sets].first);

	mask = BIT_ULL(s->word[page]);
	/* The next after those that had returned may have taken effect already. */
	for (u64 i = before; i <= after && i < begun; i++)
		if (page >= sets[i].first && page < sets[i].end)
			mask |= BIT_ULL(sets[i].word);
	return mask;
}

/* What came of it, an exit with that flag or none, is what one of the words says. */
static void check(struct side *s, struct attempt *a, u64 before, u64 after, u64 flag)
{
	u64 mask = possible_words(s, a->page, before, after);
	bool accounted = false;

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++)
		accounted |= mask & BIT_ULL(i) &&
			     rwx_denied_flag(kma_restrictions[i], a->op) == flag;
	TEST_ASSERT(accounted,
		    "KMA_SEED=%#lx: vCPU %u, %s page %lu: flag 0x%lx with words 0x%lx, sets %lu to %lu",
		    kma_seed, s->vcpu->id, rwx_op_names[a->op], a->page, flag, mask,
		    before, after);
	s->nr.checked++;
	s->nr.exact += is_power_of_2(mask);
}

/* What nothing has hindered: all of them have had their effect, the last one is checked. */
static void check_made(struct side *s, struct attempt *a)
{
	u64 made = a->made - a->checked, *data = &s->data[a->page];

	a->checked = a->made;
	if (!made)
		return;

	check(s, a, a->last.before, a->last.after, 0);
	s->nr.accesses += made;
	if (a->op == RWX_READ)
		TEST_ASSERT(a->result == *data, "vCPU %u read %lx of page %lu, not %lx",
			    s->vcpu->id, a->result, a->page, *data);
	if (a->op == RWX_WRITE)
		*data = a->value;
	if (a->op == RWX_MODIFY)
		*data += made;
}

static void check_denied(struct side *s, struct attempt *a)
{
	struct kvm_run *run = s->vcpu->run;

	TEST_ASSERT(run->memory_fault.flags && run->memory_fault.size == PAGE_SIZE &&
		    run->memory_fault.gpa == rwx_gpa(&s->f->g, a->page),
		    "vCPU %u, %s page %lu: flags 0x%llx for 0x%llx, size 0x%llx", s->vcpu->id,
		    rwx_op_names[a->op], a->page, run->memory_fault.flags,
		    run->memory_fault.gpa, run->memory_fault.size);
	check(s, a, a->before, READ_ONCE(*s->f->returned), run->memory_fault.flags);
	s->nr.denied++;
	TEST_ASSERT(READ_ONCE(*data_of(s, a->page)) == s->data[a->page],
		    "vCPU %u: what was denied has changed page %lu", s->vcpu->id, a->page);
}

static void draw_batch(struct side *s)
{
	s->batch->nr = 1 + kma_random_below(BATCH);
	for (u64 i = 0; i < s->batch->nr; i++)
		s->batch->list[i] = (struct attempt) {
			.op = kma_random_below(RWX_NR_OPS),
			.page = random_page(),
			.value = kma_random(),
			.times = kma_random_below(8) ? 1 : TIMES,
		};
}

/* Up to the next batch. False if an access is denied before that. */
static bool run(struct side *s)
{
	struct kvm_vcpu *vcpu = s->vcpu;
	struct ucall uc;
	int ret = __vcpu_run(vcpu);

	WRITE_ONCE(s->exits, s->exits + 1);
	if (ret && errno == EFAULT && vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT)
		return false;

	TEST_ASSERT(!ret, "vCPU %u stopped: errno %d exit %u (%s)", vcpu->id, errno,
		    vcpu->run->exit_reason, exit_reason_str(vcpu->run->exit_reason));

	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		return true;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("vCPU %u stopped: exit %u (%s)", vcpu->id, vcpu->run->exit_reason,
			  exit_reason_str(vcpu->run->exit_reason));
	}
}

static void run_batch(struct side *s)
{
	struct batch *b = s->batch;
	u64 i = 0;

	while (!run(s)) {
		for (; i < b->at; i++)
			check_made(s, &b->list[i]);
		check_made(s, &b->list[i]);
		check_denied(s, &b->list[i]);

		/* It's made anew, or given up with all that follows. */
		if (kma_random_below(2)) {
			b->list[i].before = READ_ONCE(*s->f->returned);
			continue;
		}
		vcpu_regs_set(s->vcpu, &s->entry);
		TEST_ASSERT(run(s), "vCPU %u exits for what it has given up", s->vcpu->id);
		return;
	}

	for (; i < b->nr; i++)
		check_made(s, &b->list[i]);
}

static void *side_thread(void *arg)
{
	struct side *s = arg;

	kma_random_init_thread(s->vcpu->id + 1);
	TEST_ASSERT(run(s), "vCPU %u exits before its first batch", s->vcpu->id);
	while (!READ_ONCE(s->f->stop)) {
		draw_batch(s);
		run_batch(s);
	}
	return NULL;
}

/* --- the one that sets --- */

static void start(struct fuzz *f, u32 type, u64 steps)
{
	struct kvm_vcpu *vcpus[RWX_VCPUS];
	struct rwx_guest *g = &f->g;

	f->sets = calloc(steps, sizeof(*f->sets));
	TEST_ASSERT(f->sets, "no memory for %lu sets", steps);
	g->gpa = KMA_GPA;
	g->nr_pages = PAGES;
	g->vm = rwx_create_vm(type, 0, smp_code, RWX_VCPUS, vcpus);
	rwx_add_slot(g, VM_MEM_SRC_ANONYMOUS_THP, 0);
	virt_map(g->vm, g->gpa, g->gpa, PAGES);
	f->returned = addr_gva2hva(g->vm, (gva_t)&returned);

	for (int i = 0; i < RWX_VCPUS; i++) {
		struct side *s = &f->sides[i];

		s->f = f;
		s->vcpu = vcpus[i];
		s->batch = (struct batch *)addr_gva2hva(g->vm, (gva_t)&batches) + i;
		vcpu_regs_get(s->vcpu, &s->entry);
		for (u64 page = 0; page < PAGES; page++)
			s->data[page] = *data_of(s, page);
	}
	for (int i = 0; i < RWX_VCPUS; i++)
		kvm_pthread_create(&f->sides[i].thread, NULL, side_thread, &f->sides[i]);
}

static void one_set(struct fuzz *f, u64 step)
{
	struct set *set = &f->sets[step];
	u64 first = random_page(), nr = kma_random_log(min(BUSY_PAGES, PAGES - first));

	if (!kma_random_below(16)) {
		first = first / RWX_BLOCK * RWX_BLOCK;
		nr = RWX_BLOCK;
	}
	*set = (struct set) {
		.first = first,
		.end = first + nr,
		.word = kma_random_below(2) ? 0 :
			kma_random_below(ARRAY_SIZE(kma_restrictions)),
	};
	/* It can be read by those that it may have an effect on. */
	smp_store_release(&f->begun, step + 1);
	rwx_set(&f->g, first, nr, kma_restrictions[set->word]);
	/* An access that takes down this count begins after the set. */
	smp_store_release(f->returned, step + 1);

	if (!kma_random_below(16))
		kma_age(f->g.region->host_mem + kma_random_below(2) * RWX_BLOCK * PAGE_SIZE);
}

static u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void wait_exit(struct side *s)
{
	u64 until = now() + SECONDS, exits = READ_ONCE(s->exits);

	while (READ_ONCE(s->exits) == exits) {
		TEST_ASSERT(now() <= until, "vCPU %u does not go on", s->vcpu->id);
		usleep(50);
	}
}

static void all_go_on(struct fuzz *f)
{
	for (int i = 0; i < RWX_VCPUS; i++)
		wait_exit(&f->sides[i]);
}

/* Frees the VM. */
static void stop(struct fuzz *f)
{
	WRITE_ONCE(f->stop, true);
	for (int i = 0; i < RWX_VCPUS; i++)
		kvm_pthread_join(f->sides[i].thread, NULL);

	for (int i = 0; i < RWX_VCPUS; i++)
		for (u64 page = 0; page < PAGES; page++)
			TEST_ASSERT(*data_of(&f->sides[i], page) == f->sides[i].data[page],
				    "in the end page %lu holds %lx for vCPU %d, not %lx", page,
				    *data_of(&f->sides[i], page), i, f->sides[i].data[page]);
	kvm_vm_free(f->g.vm);
	free(f->sets);
}

static void print_side(struct side *s, const char *name, u64 sets)
{
	printf("# figure: %s, vCPU %u: %lu sets; %lu accesses, %lu denied; ", name, s->vcpu->id,
	       sets, s->nr.accesses, s->nr.denied);
	printf("%lu checked, %lu of these with one word possible\n", s->nr.checked, s->nr.exact);
}

FIXTURE(smp) {
};

FIXTURE_VARIANT(smp) {
	u32 type;
	const char *name;
};

FIXTURE_VARIANT_ADD(smp, default) {
	.type = KVM_X86_DEFAULT_VM,
	.name = "default VM",
};

FIXTURE_VARIANT_ADD(smp, protected) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.name = "protected VM",
};

FIXTURE_SETUP(smp)
{
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");
}

FIXTURE_TEARDOWN(smp)
{
}

/* As long as KMA_STEPS takes. */
TEST_F_TIMEOUT(smp, some_word_in_force_accounts_for_every_outcome, 100000)
{
	static struct fuzz fuzz;
	struct fuzz *f = &fuzz;
	u64 steps = kma_steps(STEPS, DEBUG_SHARE);

	kma_random_init();
	start(f, variant->type, steps);
	for (u64 step = 0; step < steps; step++) {
		if (step % STRIDE == 0)
			all_go_on(f);
		one_set(f, step);
	}

	for (int i = 0; i < RWX_VCPUS; i++)
		print_side(&f->sides[i], variant->name, steps);
	stop(f);
}

TEST_HARNESS_MAIN
