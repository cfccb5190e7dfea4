// SPDX-License-Identifier: GPL-2.0
/*
 * Two guests in one boot, one on mainline's code and one on the module's, over
 * the same shared memory: whatever is set in both, they see the same, exit
 * alike and are mapped in pages of the same sizes. Beside them a model that
 * knows nothing but a byte a page, which holds both, and the module's own list
 * of runs, to what was asked for.
 *
 * A guest is slow to ask: this is a sample of what store_lockstep_test does.
 */
#include "kvm_memattr_module.h"
#include "kvm_memattr_random.h"
#include "kvm_memattr_runs.h"

/*
 * Memory with a guest_memfd and huge pages, memory that has no private side,
 * with a gap between them that no slot covers. The second slot is aligned to
 * nothing but pages.
 */
#define GMEM_PAGES	(2 * 4096ull)
#define PLAIN_FIRST	(GMEM_PAGES + 1025)
#define PLAIN_PAGES	4096ull
#define ALL_PAGES	(PLAIN_FIRST + PLAIN_PAGES)

/* Nobody looks at these through a guest, and sets reach over them. */
#define MARGIN		100ull

#define MAX_PROBES	256
#define ROUNDS_A_SWEEP	16

/* The debug kernel takes many times as long for the same. */
#define ROUNDS		(access("/proc/lock_stat", F_OK) ? 640 : 64)

enum outcome_kind {
	OUTCOME_NONE,
	OUTCOME_READ,
	OUTCOME_FAULT,
	OUTCOME_MMIO,
};

/* What came of one access. All of it is compared, so there is no padding. */
struct outcome {
	u64 kind;
	u64 gpa;
	u64 size;
	u64 flags;
	u64 value;
};

enum seen {
	SEEN_NOTHING,
	SEEN_ZERO,
	SEEN_SHARED,
	SEEN_GARBAGE,
};

/* The guest's: what to do, and what it has seen. */
static u64 probes[MAX_PROBES], values[MAX_PROBES], nr_probes, at;
static u8 sweep[ALL_PAGES];
static bool sweeping;

struct side {
	const char *name;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	void *shared;
	void *plain;
	int gmem;
	struct outcome outcomes[MAX_PROBES];
};

/* The two of them, and what they are held to. */
struct pair {
	struct side mainline;
	struct side module;
	struct kma_view view;
	u8 *model;
	u64 operations;
	u64 accesses;
	u64 lists;
	u64 sizes;
};

FIXTURE(two) {
	struct pair pair;
	bool unloads;
};

/* For messages: enough to have it again. */
static const char *where(const struct pair *p)
{
	static char text[64];

	snprintf(text, sizeof(text), "KMA_SEED=%#lx, operation %lu", kma_seed, p->operations);
	return text;
}

static u64 page_gpa(u64 page)
{
	return KMA_GPA + page * PAGE_SIZE;
}

static u64 shared_word(u64 gpa)
{
	return ~gpa;
}

/* The one instruction that may exit, which the host then steps over. */
#define GUEST_LOAD_BYTES	3

static noinline u64 guest_load(u64 gpa)
{
	u64 value;

	asm volatile("mov (%%rdi), %%rax" : "=a" (value) : "D" (gpa) : "memory");
	return value;
}

static void guest_sweep(void)
{
	for (u64 page = 0; page < ALL_PAGES; page++) {
		u64 value;

		if (!sweep[page])
			continue;
		value = guest_load(page_gpa(page));
		sweep[page] = !value ? SEEN_ZERO :
			      value == shared_word(page_gpa(page)) ? SEEN_SHARED : SEEN_GARBAGE;
	}
}

static void guest_code(void)
{
	for (;;) {
		if (READ_ONCE(sweeping)) {
			guest_sweep();
		} else {
			for (u64 i = 0; i < READ_ONCE(nr_probes); i++) {
				WRITE_ONCE(at, i);
				values[i] = guest_load(probes[i]);
			}
		}
		GUEST_SYNC(0);
	}
}

/* Each guest has its own copy of the program's data. */
#define GUESTS(_side, _variable)						\
	(*(typeof(_variable) *)addr_gva2hva((_side)->vm, (gva_t)&(_variable)))

static void step_over(struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	regs.rax = 0;
	regs.rip += GUEST_LOAD_BYTES;
	vcpu_regs_set(vcpu, &regs);
}

/* To the end of the guest's work, with what it exits for on the way written down. */
static void run(struct side *side)
{
	struct kvm_run *run = side->vcpu->run;

	memset(side->outcomes, 0, sizeof(side->outcomes));
	for (;;) {
		int ret = _vcpu_run(side->vcpu), err = errno;
		struct outcome *o = &side->outcomes[GUESTS(side, at)];
		struct ucall uc;

		if (ret) {
			TEST_ASSERT(err == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT,
				    "%s: KVM_RUN failed with %s, exit reason %u (KMA_SEED=%#lx)",
				    side->name, strerror(err), run->exit_reason, kma_seed);
			o->kind = OUTCOME_FAULT;
			o->gpa = run->memory_fault.gpa;
			o->size = run->memory_fault.size;
			o->flags = run->memory_fault.flags;
			step_over(side->vcpu);
			continue;
		}
		if (run->exit_reason == KVM_EXIT_MMIO) {
			o->kind = OUTCOME_MMIO;
			o->gpa = run->mmio.phys_addr;
			o->size = run->mmio.len;
			o->flags = run->mmio.is_write;
			memset(run->mmio.data, 0, sizeof(run->mmio.data));
			continue;
		}
		TEST_ASSERT(get_ucall(side->vcpu, &uc) == UCALL_SYNC,
			    "%s: the guest stopped with exit reason %u (%s) (KMA_SEED=%#lx)",
			    side->name, run->exit_reason, exit_reason_str(run->exit_reason),
			    kma_seed);
		return;
	}
}

/* With both slots, or without any. */
static void side_slots(struct side *side, bool there)
{
	vm_set_user_memory_region2(side->vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, KMA_GPA,
				   there ? GMEM_PAGES * PAGE_SIZE : 0, side->shared,
				   side->gmem, 0);
	vm_set_user_memory_region2(side->vm, KMA_SLOT + 1, 0, page_gpa(PLAIN_FIRST),
				   there ? PLAIN_PAGES * PAGE_SIZE : 0, side->plain, 0, 0);
}

static void side_init(struct side *side, const char *name, void *shared, void *plain)
{
	side->name = name;
	side->shared = shared;
	side->plain = plain;
	side->vm = vm_create_shape_with_one_vcpu(kma_protected_shape, &side->vcpu, guest_code);
	/* The file has to stay open: a slot doesn't hold it. */
	side->gmem = vm_create_guest_memfd(side->vm, GMEM_PAGES * PAGE_SIZE, 0);
	side_slots(side, true);
	virt_map(side->vm, KMA_GPA, KMA_GPA, ALL_PAGES);
	/* Whatever it touches besides. */
	run(side);
}

static void *huge_memory(u64 pages, u64 gpa)
{
	u8 *mem = kvm_mmap(pages * PAGE_SIZE + SZ_2M, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1);

	mem = align_ptr_up(mem, SZ_2M);
	kvm_madvise(mem, pages * PAGE_SIZE, MADV_HUGEPAGE);
	for (u64 i = 0; i < pages; i++)
		*(u64 *)(mem + i * PAGE_SIZE) = shared_word(gpa + i * PAGE_SIZE);
	return mem;
}

FIXTURE_SETUP(two)
{
	struct pair *p = &self->pair;
	void *shared, *plain;

	KMA_REQUIRE_MODULE();

	/* Both VMs on the same memory: huge pages of one are huge pages of the other. */
	shared = huge_memory(GMEM_PAGES, KMA_GPA);
	plain = huge_memory(PLAIN_PAGES, page_gpa(PLAIN_FIRST));
	p->model = calloc(ALL_PAGES + 2 * MARGIN, 1);
	TEST_ASSERT(p->model, "no memory for the model");
	p->model += MARGIN;

	self->unloads = true;
	kma_unload();
	side_init(&p->mainline, "mainline", shared, plain);
	kma_load();
	side_init(&p->module, "module", shared, plain);
	p->view = kma_view_of(p->module.vm);
	TEST_ASSERT_EQ(kma_get_supported(p->module.vm), KMA_ALL_ATTRIBUTES);
}

/* In the parent, so that a test that fails leaves the module loaded. */
FIXTURE_TEARDOWN_PARENT(two)
{
	if (self->unloads && !kma_loaded())
		kma_load();
}

static void set_both(struct pair *p)
{
	u64 attributes = kma_random_below(2) ? KMA_PRIVATE : 0;
	struct side *sides[] = { &p->mainline, &p->module };
	u64 from, to, all = ALL_PAGES + 2 * MARGIN;
	s64 first, end;

	kma_random_range(all, all, MARGIN, &from, &to);
	first = from - MARGIN;
	end = to - MARGIN;
	for (int i = 0; i < ARRAY_SIZE(sides); i++) {
		int ret = __kma_set(sides[i]->vm, page_gpa(first), (end - first) * PAGE_SIZE,
				    attributes);

		TEST_ASSERT(!ret, "%s: setting %lx in the pages [%ld, %ld): %s (%s)",
			    sides[i]->name, attributes, first, end, strerror(errno),
			    where(p));
	}
	memset(p->model + first, !!attributes, end - first);
	p->operations++;
}

static bool in_gmem(u64 page)
{
	return page < GMEM_PAGES;
}

static bool in_plain(u64 page)
{
	return page >= PLAIN_FIRST;
}

/*
 * What a page must do by the model. Where there is no slot, KVM remembers that
 * an access has found none, as MMIO is shared, and a set has it forget that in
 * slots only. A page that is private by now is MMIO still, or, after a change
 * of the slots, an exit as if the access had been shared: that's mainline's.
 */
static bool is_expected(struct pair *p, u64 page, const struct outcome *got)
{
	struct outcome read = { .kind = OUTCOME_READ };
	struct outcome shared = { .kind = OUTCOME_READ, .value = shared_word(page_gpa(page)) };
	struct outcome mmio = { .kind = OUTCOME_MMIO, .gpa = page_gpa(page), .size = sizeof(u64) };
	struct outcome fault = { .kind = OUTCOME_FAULT, .gpa = page_gpa(page), .size = PAGE_SIZE,
				 .flags = KVM_MEMORY_EXIT_FLAG_PRIVATE };
	struct outcome stale = { .kind = OUTCOME_FAULT, .gpa = page_gpa(page), .size = PAGE_SIZE };
	bool private = p->model[page];

#define IS(_what)	(!memcmp(got, &(_what), sizeof(*got)))
	if (in_gmem(page))
		return private ? IS(read) : IS(shared);
	if (in_plain(page))
		return private ? IS(fault) : IS(shared);
	return IS(mmio) || (private && (IS(fault) || IS(stale)));
#undef IS
}

static void probe(struct pair *p, struct side *side, const u64 *pages, u64 nr)
{
	u64 *gpas = GUESTS(side, probes), *read = GUESTS(side, values);

	for (u64 i = 0; i < nr; i++)
		gpas[i] = page_gpa(pages[i]);
	GUESTS(side, nr_probes) = nr;
	GUESTS(side, sweeping) = false;
	run(side);

	for (u64 i = 0; i < nr; i++) {
		struct outcome *got = &side->outcomes[i];

		if (got->kind == OUTCOME_NONE) {
			got->kind = OUTCOME_READ;
			got->value = read[i];
		}
		TEST_ASSERT(is_expected(p, pages[i], got),
			    "%s: page %lu, %s: kind %lu gpa %lx size %lx flags %lx value %lx (%s)",
			    side->name, pages[i], p->model[pages[i]] ? "private" : "shared",
			    got->kind, got->gpa, got->size, got->flags, got->value, where(p));
	}
}

/* Pages beside some boundaries of runs, and some others. */
static void probe_both(struct pair *p)
{
	u64 pages[MAX_PROBES], nr = 0, start = kma_random_below(ALL_PAGES);

	for (u64 i = 1; i < ALL_PAGES && nr + 4 <= MAX_PROBES * 3 / 4; i++) {
		u64 page = (start + i) % ALL_PAGES;

		if (!page || p->model[page] == p->model[page - 1])
			continue;
		/* Far from all of them where there are many. */
		if (nr >= 64 && kma_random_below(8))
			continue;
		for (s64 near = page - 2; near < (s64)page + 2; near++)
			if (near >= 0 && near < ALL_PAGES)
				pages[nr++] = near;
	}
	while (nr < MAX_PROBES / 2)
		pages[nr++] = kma_random_below(ALL_PAGES);

	probe(p, &p->mainline, pages, nr);
	probe(p, &p->module, pages, nr);
	TEST_ASSERT(!memcmp(p->mainline.outcomes, p->module.outcomes,
			    nr * sizeof(struct outcome)),
		    "outcomes differ (%s)", where(p));
	p->accesses += nr;
}

/* What is set while there are no slots counts when there are. */
static void renew_slots(struct pair *p)
{
	side_slots(&p->mainline, false);
	side_slots(&p->module, false);
	set_both(p);
	side_slots(&p->mainline, true);
	side_slots(&p->module, true);
}

/* The guest reads all that it can without an exit. */
static void sweep_side(struct pair *p, struct side *side)
{
	u8 *pages = GUESTS(side, sweep);

	for (u64 page = 0; page < ALL_PAGES; page++)
		pages[page] = in_gmem(page) || (in_plain(page) && !p->model[page]);
	GUESTS(side, sweeping) = true;
	run(side);
	TEST_ASSERT_EQ(side->outcomes[GUESTS(side, at)].kind, OUTCOME_NONE);

	for (u64 page = 0; page < ALL_PAGES; page++) {
		u8 want = SEEN_NOTHING;

		if (in_gmem(page) || (in_plain(page) && !p->model[page]))
			want = p->model[page] ? SEEN_ZERO : SEEN_SHARED;
		TEST_ASSERT(pages[page] == want,
			    "%s: page %lu, wanted %u, got %u (%s)", side->name, page,
			    want, pages[page], where(p));
	}
}

static void compare_runs(struct pair *p)
{
	struct kma_run_list want = {};

	for (s64 page = -(s64)MARGIN; page < (s64)(ALL_PAGES + MARGIN); page++)
		if (p->model[page])
			kma_run_add(&want, page_gpa(page), PAGE_SIZE);
	kma_assert_run_list(&p->view, &want, where(p));
	kma_run_list_free(&want);
	p->lists++;
}

#define COMPARE_STAT(_stat)							\
do {										\
	u64 __a = vm_get_stat(p->mainline.vm, _stat);			\
	u64 __b = vm_get_stat(p->module.vm, _stat);				\
										\
	TEST_ASSERT(__a == __b,							\
		    #_stat " is %lu on mainline, %lu with the module (%s)",\
		    __a, __b, where(p));				\
} while (0)

/*
 * All memory is mapped on both sides after this, in pages as large as they can
 * be: what a change has zapped is mapped anew, in a larger page if one has
 * become possible.
 */
static void sweep_both(struct pair *p)
{
	sweep_side(p, &p->mainline);
	sweep_side(p, &p->module);
	COMPARE_STAT(pages_4k);
	COMPARE_STAT(pages_2m);
	COMPARE_STAT(pages_1g);
	p->accesses += ALL_PAGES;
	p->sizes++;
}

TEST_F_TIMEOUT(two, guests_on_mainline_and_on_the_module_see_and_map_the_same, 800)
{
	struct pair *p = &self->pair;
	u64 huge = 0;

	kma_random_init();

	sweep_both(p);
	TEST_ASSERT_EQ(vm_get_stat(p->module.vm, pages_2m), GMEM_PAGES * PAGE_SIZE / SZ_2M);

	for (u64 rounds = 1; rounds <= ROUNDS; rounds++) {
		for (u64 i = kma_random_below(4); i < 4; i++)
			set_both(p);
		if (!kma_random_below(8))
			renew_slots(p);
		probe_both(p);
		if (rounds % 4 == 0)
			compare_runs(p);
		if (rounds % ROUNDS_A_SWEEP == 0) {
			sweep_both(p);
			huge += !!vm_get_stat(p->module.vm, pages_2m);
		}
	}

	printf("# figure: after %lu sets in both VMs: compared %lu accesses, %lu lists of runs, ",
	       p->operations, p->accesses, p->lists);
	printf("%lu counts of pages by size\n", p->sizes);
	TEST_ASSERT(huge, "no block was ever mapped as one page again");
}

TEST_HARNESS_MAIN
