// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation on the way of a request fails in turn, or each from one on:
 * the request fails with ENOMEM and nothing has changed, or it has taken its
 * full effect. Fault injection is not in the release kernel.
 */
/* variants: debug */
#include "kvm_memattr_faults.h"
#include "kvm_memattr_guest.h"
#include "kvm_memattr_module.h"
#include "kvm_memattr_rwx_huge.h"

/* Faults, and the VM whose requests meet them. */
struct subject {
	struct knobs knobs;
	struct kvm_vm *vm;
	struct kma_view view;
};

FIXTURE(faults) {
	struct subject subject;
	bool armed;
};

FIXTURE_VARIANT(faults) {
	enum how how;
};

FIXTURE_VARIANT_ADD(faults, nth) {
	.how = NTH_FAILS,
};

FIXTURE_VARIANT_ADD(faults, from_nth_on) {
	.how = ALL_FAIL_FROM,
};

FIXTURE_SETUP(faults)
{
	struct subject *s = &self->subject;

	KMA_REQUIRE_PROTECTED_VMS();
	s->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	s->view = kma_view_of(s->vm);
	self->armed = true;
	knobs_open(&s->knobs, variant->how);
}

/* In the parent, so that a test that fails leaves no fault behind. */
FIXTURE_TEARDOWN_PARENT(faults)
{
	if (self->armed)
		knobs_reset();
}

/* All that can be seen of a VM's store from outside. */
struct state {
	char *runs;
	u64 blocks;
	u64 nodes;
	u64 sets;
	u64 unchanged;
	u64 pages_set;
	u64 runs_zapped;
	u64 pages_zapped;
};

static struct state state_of(const struct kma_view *view)
{
	return (struct state) {
		.runs = kma_runs(view),
		.blocks = kma_stat(view, "blocks"),
		.nodes = kma_stat(view, "nodes"),
		.sets = kma_stat(view, "sets"),
		.unchanged = kma_stat(view, "sets_unchanged"),
		.pages_set = kma_stat(view, "pages_set"),
		.runs_zapped = kma_stat(view, "runs_zapped"),
		.pages_zapped = kma_stat(view, "pages_zapped"),
	};
}

static bool same_store(const struct state *a, const struct state *b)
{
	return !strcmp(a->runs, b->runs) && a->blocks == b->blocks && a->nodes == b->nodes;
}

static bool same_counters(const struct state *a, const struct state *b)
{
	return a->sets == b->sets && a->unchanged == b->unchanged &&
	       a->pages_set == b->pages_set && a->runs_zapped == b->runs_zapped &&
	       a->pages_zapped == b->pages_zapped;
}

static const char *describe(const struct state *s)
{
	char *text;
	int len;

	len = asprintf(&text,
		       "%lu blocks in %lu nodes, %lu sets, %lu unchanged, %lu pages set, %lu runs and %lu pages zapped, runs\n%s",
		       s->blocks, s->nodes, s->sets, s->unchanged, s->pages_set, s->runs_zapped,
		       s->pages_zapped, s->runs);
	TEST_ASSERT(len >= 0, "no memory");
	return text;
}

/* In pages. */
struct step {
	u64 first;
	u64 nr;
	u64 attributes;
};

#define B1		64ull
#define B2		(B1 * 64)
#define B3		(B2 * 64)
#define TIB		BIT_ULL(28)
#define FAR		BIT_ULL(51)
#define ALL		(BIT_ULL(51) | BIT_ULL(50))

struct shape {
	const char *name;
	/* What is there before, in order. */
	struct step before[4];
	/* Pages of which every other one is private then. */
	u64 alternate;
	struct step request;
	/* The request finds a place for all that it stores. */
	bool takes_none;
};

static const struct shape shapes[] = {
	{ "page 0 of an empty store", {}, 0, { 0, 1, KMA_PRIVATE } },
	{ "a page of an empty store", {}, 0, { B3 + 5, 1, KMA_PRIVATE } },
	{ "a block of an empty store", {}, 0, { 3 * B2, B2, KMA_PRIVATE } },
	{ "both ends within blocks", {}, 0, { B1 - 1, 3 * B2 + 2, KMA_PRIVATE } },
	{ "both ends within blocks, far apart", {}, 0, { B3 - 1, TIB - 2 * B3, KMA_PRIVATE } },
	{ "a page of a uniform TiB", { { 0, TIB, KMA_PRIVATE } }, 0, { TIB / 2 + 77, 1, 0 } },
	{ "the first page of a uniform TiB", { { 0, TIB, KMA_PRIVATE } }, 0, { 0, 1, 0 } },
	{ "the last page of a uniform TiB", { { 0, TIB, KMA_PRIVATE } }, 0, { TIB - 1, 1, 0 } },
	{ "all but both ends of a uniform TiB", { { 0, TIB, KMA_PRIVATE } }, 0,
	  { 5, TIB - 12, 0 } },
	{ "the middle of a uniform block", { { B3, B3, KMA_PRIVATE } }, 0,
	  { B3 + 5 * B2 + 7, 3 * B2, 0 } },
	{ "blocks within a uniform block", { { B3, B3, KMA_PRIVATE } }, 0,
	  { B3 + 5 * B2, 3 * B2, 0 } },
	{ "a page that the tree has to grow for", { { 0, 1, KMA_PRIVATE } }, 0,
	  { FAR, 1, KMA_PRIVATE } },
	{ "a range that the tree has to grow for", { { 0, B1, KMA_PRIVATE } }, 0,
	  { 1, FAR, KMA_PRIVATE } },
	{ "page 0 beside a far one", { { FAR, 1, KMA_PRIVATE } }, 0, { 0, 1, KMA_PRIVATE } },
	{ "the last page of a block", { { B1, B1 - 1, KMA_PRIVATE } }, 0,
	  { 2 * B1 - 1, 1, KMA_PRIVATE }, true },
	{ "the last page of a block of blocks", { { B3, B3 - 1, KMA_PRIVATE } }, 0,
	  { 2 * B3 - 1, 1, KMA_PRIVATE }, true },
	{ "across many runs", {}, 1000, { 3, B2, KMA_PRIVATE } },
	{ "across many runs, to shared", {}, 1000, { 3, B2, 0 }, true },
	{ "many runs within a uniform TiB", { { B3, TIB, KMA_PRIVATE } }, 1000,
	  { 10, TIB / 2, KMA_PRIVATE }, true },
	{ "uniform blocks beside holes", { { 0, 4 * B3, KMA_PRIVATE }, { B3 + 1, B2, 0 },
					   { 3 * B3 - 1, 2, 0 } }, 0,
	  { B2 + 9, 3 * B3, 0 } },
};

static void set(struct kvm_vm *vm, const struct step *step)
{
	kma_set(vm, step->first * PAGE_SIZE, step->nr * PAGE_SIZE, step->attributes);
}

static void make_before(struct subject *s, const struct shape *shape)
{
	const struct step all = { 0, ALL, 0 };

	set(s->vm, &all);
	for (int i = 0; i < ARRAY_SIZE(shape->before) && shape->before[i].nr; i++)
		set(s->vm, &shape->before[i]);
	for (u64 page = 0; page < shape->alternate; page += 2)
		kma_set(s->vm, page * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
}

/* Returns how often the request has failed. */
static long each_allocation_fails(struct subject *s, const struct shape *shape)
{
	struct state before, after, wanted;
	long n, failed = 0;
	bool injected;

	make_before(s, shape);
	set(s->vm, &shape->request);
	wanted = state_of(&s->view);

	for (n = 1, injected = true; injected; n++) {
		int ret, err;

		TEST_ASSERT(n < MOST_FAULTS, "%s: does not come to an end", shape->name);
		make_before(s, shape);
		before = state_of(&s->view);

		faults_begin(&s->knobs, n);
		ret = __kma_set(s->vm, shape->request.first * PAGE_SIZE,
				shape->request.nr * PAGE_SIZE, shape->request.attributes);
		err = errno;
		injected = faults_end(&s->knobs);

		after = state_of(&s->view);
		if (ret) {
			TEST_ASSERT(injected && err == ENOMEM, "%s, fault %ld: %s%s", shape->name,
				    n, strerror(err), injected ? "" : ", and there was no fault");
			TEST_ASSERT(same_store(&before, &after) && same_counters(&before, &after),
				    "%s, fault %ld: was\n%sis\n%s", shape->name, n,
				    describe(&before), describe(&after));
			failed++;

			/* And there is nothing in the way of the next attempt. */
			set(s->vm, &shape->request);
			free(after.runs);
			after = state_of(&s->view);
		}
		TEST_ASSERT(same_store(&wanted, &after) && after.sets == before.sets + 1,
			    "%s, fault %ld: wanted\n%sgot\n%s", shape->name, n,
			    describe(&wanted), describe(&after));
		free(before.runs);
		free(after.runs);
	}
	printf("# figure: %s: %ld faults, %ld times ENOMEM\n", shape->name, n - 2, failed);
	TEST_ASSERT(shape->takes_none || n > 2, "%s: met no fault", shape->name);
	free(wanted.runs);
	return failed;
}

TEST_F_TIMEOUT(faults, set_that_meets_a_fault_fails_as_a_whole_or_succeeds, 800)
{
	struct subject *s = &self->subject;

	for (int i = 0; i < ARRAY_SIZE(shapes); i++) {
		long failed = each_allocation_fails(s, &shapes[i]);

		/* Where one allocation fails, another may serve in its place. */
		if (shapes[i].takes_none)
			TEST_ASSERT_EQ(failed, 0);
		else
			TEST_ASSERT(failed || s->knobs.how == NTH_FAILS,
				    "%s: without memory, and never failed", shapes[i].name);
	}
}

/* What a guest has mapped, and a request that would take some of it away. */
struct mapped {
	const char *name;
	/* The pages of the window that are private, in a private block if it has a size. */
	u64 private;
	u64 block;
	struct step request;
};

#define WINDOW		(KMA_GPA / PAGE_SIZE)

static const struct mapped mapped[] = {
	{ "shared pages at the beginning of a TiB", KMA_MIDDLE, 0,
	  { WINDOW + 3, TIB, KMA_PRIVATE } },
	{ "private pages within a uniform block", KMA_ALL, B3, { WINDOW + 8, 16, 0 } },
};

/* The pages of the window that are private once the request has succeeded. */
static u64 private_after(const struct mapped *m)
{
	u64 first = m->request.first - WINDOW, nr = min(m->request.nr, KMA_PAGES - first);
	u64 pages = GENMASK_ULL(first + nr - 1, first);

	return m->request.attributes ? m->private | pages : m->private & ~pages;
}

/* A guest, how it is put before the request, and what holds when that has failed. */
struct kept {
	const char *name;
	struct step request;
	void (*prepare)(struct kept *kept);
	void (*check)(struct kept *kept);
	struct kvm_vm *vm;
	void *guest;
	const struct mapped *mapped;
	struct rwx_mapped pages;
};

/* Each time that the request fails, the guest does not notice. In the end it succeeds. */
static void each_failure_is_not_noticed(struct subject *s, struct kept *kept)
{
	bool injected = true;
	long n, failed = 0;
	char *before;

	kept->prepare(kept);
	before = kma_runs(&s->view);
	for (n = 1; injected; n++) {
		int ret, err;

		TEST_ASSERT(n < MOST_FAULTS, "%s: does not come to an end", kept->name);
		faults_begin(&s->knobs, n);
		ret = __kma_set(kept->vm, kept->request.first * PAGE_SIZE,
				kept->request.nr * PAGE_SIZE, kept->request.attributes);
		err = errno;
		injected = faults_end(&s->knobs);

		if (ret) {
			TEST_ASSERT(injected && err == ENOMEM, "%s, fault %ld: %s", kept->name, n,
				    strerror(err));
			kept->check(kept);
			kma_assert_runs(&s->view, before);
			failed++;
		} else if (injected) {
			kept->prepare(kept);
		}
	}
	printf("# figure: %s: %ld faults, %ld times ENOMEM, and the guest has kept its mappings\n",
	       kept->name, n - 2, failed);
	TEST_ASSERT(n > 2, "%s: met no fault", kept->name);
	/* Where one allocation fails, another may serve in its place. */
	TEST_ASSERT(failed || s->knobs.how == NTH_FAILS, "%s: without memory, and never failed",
		    kept->name);
	free(before);
}

static void check_mapped(struct kept *kept)
{
	KMA_ASSERT_FAULTS((struct kma_guest *)kept->guest, 0,
			  KMA_SEEN_PRIVATE(kept->mapped->private));
}

static void make_mapped(struct kept *kept)
{
	const struct mapped *m = kept->mapped;
	const struct step all = { 0, ALL, 0 }, block = { WINDOW, m->block, KMA_PRIVATE };

	set(kept->vm, &all);
	kma_prepare(kept->guest, m->private);
	if (m->block)
		set(kept->vm, &block);
	check_mapped(kept);
}

TEST_F_TIMEOUT(faults, failed_set_leaves_the_guest_what_it_has_mapped, 800)
{
	struct subject *s = &self->subject;
	struct kma_guest g;

	kvm_vm_free(s->vm);
	kma_protected_guest_init(&g);
	s->vm = g.vm;
	s->view = kma_view_of(s->vm);
	for (int i = 0; i < ARRAY_SIZE(mapped); i++) {
		const struct mapped *m = &mapped[i];

		each_failure_is_not_noticed(s, &(struct kept) {
			.name = m->name,
			.request = m->request,
			.prepare = make_mapped,
			.check = check_mapped,
			.vm = g.vm,
			.guest = &g,
			.mapped = m,
		});
		/* The one that has met no fault did take something away. */
		TEST_ASSERT(kma_look(&g, KMA_SEEN_PRIVATE(private_after(m))).fixed,
			    "%s: there was nothing to zap", m->name);
	}
}

static void check_rights(struct kept *kept)
{
	rwx_assert_kept(kept->guest, kept->pages);
}

static void make_rights(struct kept *kept)
{
	const struct step all = { 0, ALL, 0 };

	set(kept->vm, &all);
	kept->pages = rwx_map_what_is_kept(kept->guest);
}

TEST_F_TIMEOUT(faults, failed_restriction_takes_no_right_away, 800)
{
	struct subject *s = &self->subject;
	struct rwx_guest g = {};

	kvm_vm_free(s->vm);
	rwx_huge_init(&g, KVM_X86_DEFAULT_VM, 2 * RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
	s->vm = g.vm;
	s->view = kma_view_of(s->vm);
	for (int i = 1; i < ARRAY_SIZE(kma_restrictions); i++) {
		u64 word = kma_restrictions[i];

		each_failure_is_not_noticed(s, &(struct kept) {
			.name = "a restriction from a page beside another on",
			.request = { WINDOW + RWX_KEPT_PAGE + 1, TIB, word },
			.prepare = make_rights,
			.check = check_rights,
			.vm = g.vm,
			.guest = &g,
		});
		rwx_check_all(&g, RWX_KEPT_PAGE, KMA_NW);
		rwx_check_all(&g, RWX_KEPT_PAGE + 1, word);
		rwx_check_all(&g, RWX_BLOCK, word);
	}
}

/* A request that needs no memory does not ask for any. */
TEST_F(faults, request_that_changes_nothing_meets_no_fault)
{
	struct subject *s = &self->subject;
	const struct step whole = { 0, TIB, KMA_PRIVATE }, part = { 77, B3, KMA_PRIVATE };
	const struct step none = { 2 * TIB, TIB, 0 };

	set(s->vm, &whole);
	faults_begin(&s->knobs, 1);
	set(s->vm, &part);
	set(s->vm, &none);
	TEST_ASSERT(!faults_end(&s->knobs), "it has allocated memory");
}

static void each_failure_leaves_no_file(struct subject *s, u64 flags)
{
	u64 before = kma_total("gmem_inodes_alive");
	long n, failed = 0;
	bool injected;
	int refcnt = kma_refcnt();

	for (n = 1, injected = true; injected; n++) {
		int fd, err;

		TEST_ASSERT(n < MOST_FAULTS, "does not come to an end");
		faults_begin(&s->knobs, n);
		fd = __vm_create_guest_memfd(s->vm, KMA_SIZE, flags);
		err = errno;
		injected = faults_end(&s->knobs);

		if (fd < 0) {
			TEST_ASSERT(injected && err == ENOMEM, "fault %ld: %s%s", n, strerror(err),
				    injected ? "" : ", and there was no fault");
			failed++;
		} else {
			close(fd);
		}
		KMA_WAIT_FOR(kma_total("gmem_inodes_alive") == before);
	}
	KMA_WAIT_FOR(kma_refcnt() == refcnt);
	printf("# figure: creating a guest_memfd, flags %#lx: %ld faults, %ld times ENOMEM\n",
	       flags, n - 2, failed);
	TEST_ASSERT(failed, "it never failed");
}

/* Not the creation of a VM: where it fails, KVM's own sev_vm_destroy() warns. */
TEST_F_TIMEOUT(faults, guest_memfd_whose_creation_fails_leaves_nothing, 800)
{
	each_failure_leaves_no_file(&self->subject, 0);
	each_failure_leaves_no_file(&self->subject, GUEST_MEMFD_FLAG_MMAP);
}

TEST_HARNESS_MAIN
