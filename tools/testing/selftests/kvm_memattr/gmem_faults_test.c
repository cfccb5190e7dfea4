// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation on the way of a conversion fails in turn, or each from one on:
 * the call fails with ENOMEM at its beginning, and state, contents and mappings
 * are as they were, or it has taken its full effect. Fault injection is not in the
 * release kernel.
 */
/* variants: debug */
#include "kvm_memattr_alarm.h"
#include "kvm_memattr_faults.h"
#include "kvm_memattr_gmem.h"

/* In pages; the file is private to begin with. */
struct step {
	u64 first;
	u64 nr;
	u64 attributes;
};

#define B1		64ull
#define B2		(B1 * 64)
#define B3		(B2 * 64)
#define FILE_PAGES	BIT_ULL(28)

struct shape {
	const char *name;
	/* What is there before, in order. */
	struct step before[3];
	/* Pages of which every other one is shared then. */
	u64 alternate;
	struct step request;
	/* The request may find a place for all that it stores. */
	bool takes_none;
};

static const struct shape shapes[] = {
	{ "the first page of a file", {}, 0, { 0, 1, 0 } },
	{ "the last page of a file", {}, 0, { FILE_PAGES - 1, 1, 0 } },
	{ "a page within a file", {}, 0, { B3 + 5, 1, 0 } },
	{ "both ends within blocks", {}, 0, { B1 - 1, 3 * B2 + 2, 0 } },
	{ "all but both ends of a file", {}, 0, { 1, FILE_PAGES - 2, 0 } },
	{ "a whole file", {}, 0, { 0, FILE_PAGES, 0 }, true },
	{ "a page back to private", { { B3, B3, 0 } }, 0, { B3 + 5 * B2 + 7, 1, KMA_PRIVATE } },
	{ "blocks back to private", { { B3, B3, 0 } }, 0,
	  { B3 + 5 * B2, 3 * B2, KMA_PRIVATE } },
	{ "the last page of a block", { { B1, B1 - 1, 0 } }, 0, { 2 * B1 - 1, 1, 0 }, true },
	{ "across many runs, to shared", {}, 1000, { 3, B2, 0 } },
	{ "across many runs, to private", {}, 1000, { 3, B2, KMA_PRIVATE }, true },
};

FIXTURE(faults) {
	struct knobs knobs;
	bool armed;
	struct kvm_vm *vm;
	int fd;
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
	KMA_REQUIRE_PROTECTED_VMS();
	gmem_catch_sigbus();
	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->fd = vm_create_guest_memfd(self->vm, FILE_PAGES * PAGE_SIZE, GMEM_IN_PLACE);
	self->armed = true;
	knobs_open(&self->knobs, variant->how);
}

/* In the parent, so that a test that fails leaves no fault behind. */
FIXTURE_TEARDOWN_PARENT(faults)
{
	if (self->armed)
		knobs_reset();
}

static void set(int fd, const struct step *step)
{
	GMEM_ASSERT_SET(fd, step->first * PAGE_SIZE, step->nr * PAGE_SIZE, step->attributes,
			GMEM_PRESERVE);
}

static const struct step all_shared = { 0, FILE_PAGES, 0 };
static const struct step all_private = { 0, FILE_PAGES, KMA_PRIVATE };

/* The pages of the request's ends, and their neighbours. */
#define NR_PROBES	8

static u64 probe_of(const struct step *request, int i)
{
	const u64 last = request->first + request->nr - 1;
	const u64 pages[NR_PROBES] = {
		0, request->first - 1, request->first, request->first + 1,
		last - 1, last, last + 1, FILE_PAGES - 1,
	};

	return pages[i] < FILE_PAGES ? pages[i] : 0;
}

static u64 *map_page(int fd, u64 page)
{
	return __kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, page * PAGE_SIZE);
}

/* Fewer pages than the file has are mapped at a time: all that's mapped is locked. */
static void write_words(int fd, const struct step *request)
{
	for (int i = 0; i < NR_PROBES; i++) {
		u64 page = probe_of(request, i), *mem = map_page(fd, page);

		WRITE_ONCE(*mem, kma_word(KMA_KIND_NEW, page));
		kvm_munmap(mem, PAGE_SIZE);
	}
}

static u64 private_probes(int fd, const struct step *request)
{
	u64 private = 0, value;

	for (int i = 0; i < NR_PROBES; i++) {
		u64 *mem = map_page(fd, probe_of(request, i));

		if (!gmem_load(mem, &value))
			private |= 1ull << i;
		kvm_munmap(mem, PAGE_SIZE);
	}
	return private;
}

static void assert_words(int fd, const struct shape *shape, long n)
{
	for (int i = 0; i < NR_PROBES; i++) {
		u64 page = probe_of(&shape->request, i), *mem = map_page(fd, page);

		TEST_ASSERT(*mem == kma_word(KMA_KIND_NEW, page),
			    "%s, fault %ld: page %lu holds %lx", shape->name, n, page, *mem);
		kvm_munmap(mem, PAGE_SIZE);
	}
}

static void make_before(int fd, const struct shape *shape)
{
	set(fd, &all_shared);
	write_words(fd, &shape->request);
	set(fd, &all_private);
	for (int i = 0; i < ARRAY_SIZE(shape->before) && shape->before[i].nr; i++)
		set(fd, &shape->before[i]);
	for (u64 page = 0; page < shape->alternate; page += 2) {
		const struct step one = { page, 1, 0 };

		set(fd, &one);
	}
}

/* Returns how often the request has failed. */
static long each_allocation_fails(const struct knobs *knobs, int fd, const struct shape *shape)
{
	const struct step *request = &shape->request;
	u64 before, after, wanted;
	bool injected = true;
	long n, failed = 0;

	make_before(fd, shape);
	before = private_probes(fd, request);
	set(fd, request);
	wanted = private_probes(fd, request);
	TEST_ASSERT(before != wanted, "%s: no page that is looked at changes", shape->name);

	for (n = 1; injected; n++) {
		struct kvm_memory_attributes2 attr =
			gmem_attr(request->first * PAGE_SIZE, request->nr * PAGE_SIZE,
				  request->attributes, GMEM_NONE);
		int ret, err;
		u64 pages;

		TEST_ASSERT(n < MOST_FAULTS, "%s: does not come to an end", shape->name);
		make_before(fd, shape);
		pages = kma_total("pages_converted");
		faults_begin(knobs, n);
		ret = __gmem_ioctl(fd, &attr);
		err = errno;
		injected = faults_end(knobs);

		after = private_probes(fd, request);
		if (!ret) {
			TEST_ASSERT(after == wanted, "%s, fault %ld: wanted %lx private, got %lx",
				    shape->name, n, wanted, after);
			continue;
		}
		TEST_ASSERT(injected && err == ENOMEM, "%s, fault %ld: %s%s", shape->name, n,
			    strerror(err), injected ? "" : ", and there was no fault");
		TEST_ASSERT_EQ(attr.error_offset, attr.offset);
		TEST_ASSERT_EQ(kma_total("pages_converted"), pages);
		TEST_ASSERT(after == before, "%s, fault %ld: wanted %lx private, got %lx",
			    shape->name, n, before, after);
		failed++;

		/* And there is nothing in the way of the next attempt. */
		set(fd, request);
		TEST_ASSERT_EQ(private_probes(fd, request), wanted);
		set(fd, &all_shared);
		assert_words(fd, shape, n);
	}
	printf("# figure: %s: %ld faults, %ld times ENOMEM\n", shape->name, n - 2, failed);
	TEST_ASSERT(shape->takes_none || n > 2, "%s: met no fault", shape->name);
	return failed;
}

TEST_F_TIMEOUT(faults, conversion_that_meets_a_fault_fails_as_a_whole_or_succeeds, 800)
{
	for (int i = 0; i < ARRAY_SIZE(shapes); i++) {
		long failed = each_allocation_fails(&self->knobs, self->fd, &shapes[i]);

		/* Where one allocation fails, another may serve in its place. */
		TEST_ASSERT(failed || variant->how == NTH_FAILS || shapes[i].takes_none,
			    "%s: without memory, and never failed", shapes[i].name);
	}
}

TEST_F_TIMEOUT(faults, failed_conversion_leaves_the_guest_what_it_has_mapped, 800)
{
	bool injected = true;
	long n, failed = 0;
	struct gmem m;

	gmem_init(&m, KVM_X86_SW_PROTECTED_VM, GMEM_IN_PLACE);
	kma_fill(&m.g, KMA_ALL, KMA_KIND_NEW);
	for (n = 1; injected; n++) {
		struct kvm_memory_attributes2 attr = gmem_attr(16 * PAGE_SIZE, 32 * PAGE_SIZE, 0,
							       GMEM_PRESERVE);
		int ret, err;

		TEST_ASSERT(n < MOST_FAULTS, "does not come to an end");
		KMA_ASSERT_FAULTS(&m.g, 0, KMA_SEEN(.fresh = KMA_ALL));
		faults_begin(&self->knobs, n);
		ret = __gmem_ioctl(m.fd, &attr);
		err = errno;
		injected = faults_end(&self->knobs);

		if (ret) {
			TEST_ASSERT(injected && err == ENOMEM, "fault %ld: %s", n, strerror(err));
			KMA_ASSERT_FAULTS(&m.g, 0, KMA_SEEN(.fresh = KMA_ALL));
			GMEM_ASSERT_PRIVATE(&m, KMA_ALL);
			failed++;
		} else if (injected) {
			gmem_set(&m, KMA_ALL, KMA_PRIVATE, GMEM_PRESERVE);
			kma_look(&m.g, KMA_SEEN(.fresh = KMA_ALL));
		}
	}
	/* The one that has met no fault did take something away. */
	KMA_ASSERT_FAULTS(&m.g, 32, KMA_SEEN(.fresh = KMA_ALL));
	printf("# figure: %ld faults, %ld times ENOMEM%s\n", n - 2, failed,
	       failed ? ", and the guest has kept its mappings" : "");
	TEST_ASSERT(n > 2, "met no fault");
	TEST_ASSERT(failed || variant->how == NTH_FAILS, "without memory, and never failed");
	gmem_free(&m);
}

/* A block of the store as a whole: where it is to end earlier, that takes memory. */
#define STOP_PAGES	B2
#define STOP_PERIOD_US	1000

static void assert_stopped_at(u8 *mem, u64 stop, long n)
{
	for (u64 page = 0; page < STOP_PAGES; page++) {
		u64 value;

		if (!gmem_load(mem + page * PAGE_SIZE, &value))
			TEST_ASSERT(page < stop, "fault %ld: page %lu of %lu is private", n, page,
				    stop);
		else
			TEST_ASSERT(page >= stop && value == kma_word(KMA_KIND_NEW, page),
				    "fault %ld: page %lu of %lu is shared and holds %lx", n, page,
				    stop, value);
	}
}

/*
 * There is no memory for a conversion to end at a signal: then it does not, and
 * ends later, or as a whole.
 */
TEST_F_TIMEOUT(faults, conversion_that_cannot_be_stopped_for_lack_of_memory_goes_on, 800)
{
	const u64 size = STOP_PAGES * PAGE_SIZE;
	int fd = vm_create_guest_memfd(self->vm, size, GMEM_SHARED);
	u8 *mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	long n, failed = 0, went_on = 0, stopped = 0;
	bool injected = true;

	alarm_catch(SIGALRM);
	for (n = 1; injected; n++) {
		struct kvm_memory_attributes2 attr = gmem_attr(0, size, KMA_PRIVATE, GMEM_ZERO);
		int ret, err;

		TEST_ASSERT(n < MOST_FAULTS, "does not come to an end");
		GMEM_ASSERT_SET(fd, 0, size, 0, GMEM_ZERO);
		for (u64 page = 0; page < STOP_PAGES; page++)
			WRITE_ONCE(*(u64 *)(mem + page * PAGE_SIZE), kma_word(KMA_KIND_NEW, page));

		alarm_each(STOP_PERIOD_US);
		faults_begin(&self->knobs, n);
		ret = __gmem_ioctl(fd, &attr);
		err = errno;
		injected = faults_end(&self->knobs);
		alarm_each(0);

		if (!ret) {
			assert_stopped_at(mem, STOP_PAGES, n);
			went_on += injected;
		} else if (err == EINTR) {
			assert_stopped_at(mem, attr.error_offset / PAGE_SIZE, n);
			stopped++;
		} else {
			TEST_ASSERT(injected && err == ENOMEM, "fault %ld: %s", n, strerror(err));
			assert_stopped_at(mem, 0, n);
			failed++;
		}
	}
	printf("# figure: %ld faults: %ld times ENOMEM, %ld on to the end, %ld stopped\n", n - 2,
	       failed, went_on, stopped);
	TEST_ASSERT(n > 2, "met no fault");
	TEST_ASSERT(stopped, "no signal has stopped it");
	/* Where one allocation fails, the next page is as good to stop at. */
	TEST_ASSERT(went_on || variant->how == NTH_FAILS, "it was never without memory to stop");
	kvm_munmap(mem, size);
	kvm_close(fd);
}

/* A conversion that changes nothing does not ask for memory. */
TEST_F(faults, conversion_that_changes_nothing_meets_no_fault)
{
	const struct step part = { 77, B3, KMA_PRIVATE };

	faults_begin(&self->knobs, 1);
	set(self->fd, &part);
	TEST_ASSERT(!faults_end(&self->knobs), "it has allocated memory");
}

TEST_HARNESS_MAIN
