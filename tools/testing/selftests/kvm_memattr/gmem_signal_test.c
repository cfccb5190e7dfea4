// SPDX-License-Identifier: GPL-2.0
/*
 * A signal stops a conversion where contents are made, after a batch of pages at
 * least: EINTR, with the first page that is not done. What can fail has been
 * settled before, and what makes no contents is not stopped.
 */
#include <sys/time.h>

#include "kvm_memattr_gmem.h"

#define PAGES		16384
#define DEBUG_SHARE	4
/* So many get done at least. */
#define LEAST_PAGES	64

#define PERIOD_US	1000
#define ATTEMPTS	50

/* A file, mapped by userspace alone. */
struct big {
	struct kvm_vm *vm;
	int fd;
	u8 *mem;
	u64 pages;
	u64 size;
};

FIXTURE(stopped) {
	struct big big;
};

FIXTURE_VARIANT(stopped) {
	bool to_private;
	u64 policy;
};

FIXTURE_VARIANT_ADD(stopped, to_private_zero) {
	.to_private = true,
	.policy = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(stopped, to_private_none) {
	.to_private = true,
	.policy = GMEM_NONE,
};

FIXTURE_VARIANT_ADD(stopped, to_shared_zero) {
	.to_private = false,
	.policy = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(stopped, to_shared_none) {
	.to_private = false,
	.policy = GMEM_NONE,
};

static volatile sig_atomic_t signals;

static void on_alarm(int sig)
{
	signals++;
}

/* From now on, again and again; 0 ends it. */
static void alarm_each(long usec)
{
	struct itimerval timer = {
		.it_interval.tv_usec = usec,
		.it_value.tv_usec = usec,
	};

	TEST_ASSERT(!setitimer(ITIMER_REAL, &timer, NULL), "setitimer: %s", strerror(errno));
}

static void big_init(struct big *b)
{
	/* Calls that could be restarted would be: this one says where it was stopped. */
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };

	gmem_catch_sigbus();
	sigaction(SIGALRM, &action, NULL);
	b->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	b->pages = kma_rounds(PAGES, DEBUG_SHARE);
	b->size = b->pages * PAGE_SIZE;
	b->fd = vm_create_guest_memfd(b->vm, b->size, GMEM_SHARED);
	b->mem = kvm_mmap(b->size, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd);
}

static void big_free(struct big *b)
{
	if (!b->vm)
		return;
	kvm_munmap(b->mem, b->size);
	kvm_close(b->fd);
	kvm_vm_free(b->vm);
}

FIXTURE_SETUP(stopped)
{
	KMA_REQUIRE_PROTECTED_VMS();
	big_init(&self->big);
}

FIXTURE_TEARDOWN(stopped)
{
	big_free(&self->big);
}

static u64 *page_of(struct big *b, u64 page)
{
	return (u64 *)(b->mem + page * PAGE_SIZE);
}

/* A word at either end of each page, and all of them in the old state. */
static void fill(struct big *b, bool to_private)
{
	GMEM_ASSERT_SET(b->fd, 0, b->size, 0, GMEM_PRESERVE);
	for (u64 page = 0; page < b->pages; page++) {
		WRITE_ONCE(page_of(b, page)[0], kma_word(KMA_KIND_NEW, page));
		WRITE_ONCE(page_of(b, page)[KMA_PAGE_WORDS - 1], kma_word(KMA_KIND_NEW, page));
	}
	if (!to_private)
		GMEM_ASSERT_SET(b->fd, 0, b->size, KMA_PRIVATE, GMEM_PRESERVE);
}

/* Pages [first, end) are private, or hold this. For old contents the policy is PRESERVE. */
static void assert_pages(struct big *b, u64 first, u64 end, bool private,
			 u64 policy)
{
	for (u64 page = first; page < end; page++) {
		u64 want = policy == GMEM_ZERO ? 0 :
			   policy == GMEM_NONE ? KMA_JUNK : kma_word(KMA_KIND_NEW, page);
		u64 head, tail;

		if (!gmem_load(&page_of(b, page)[0], &head) ||
		    !gmem_load(&page_of(b, page)[KMA_PAGE_WORDS - 1], &tail)) {
			TEST_ASSERT(private, "page %lu of [%lu, %lu) is private", page, first, end);
			continue;
		}
		TEST_ASSERT(!private, "page %lu of [%lu, %lu) is shared", page, first, end);
		TEST_ASSERT(head == want && tail == want,
			    "page %lu of [%lu, %lu) holds %lx and %lx, not %lx", page, first, end,
			    head, tail, want);
	}
}

/*
 * Goes on from page to page until the first signal has stopped it, or the end.
 * Returns the first page that is not done.
 */
static u64 convert(struct big *b, u64 page, u64 attributes, u64 policy)
{
	struct kvm_memory_attributes2 attr = gmem_attr(page * PAGE_SIZE, b->size - page * PAGE_SIZE,
						       attributes, policy);

	if (!__gmem_ioctl(b->fd, &attr))
		return b->pages;
	TEST_ASSERT(errno == EINTR, "%s at 0x%llx", strerror(errno), attr.error_offset);
	TEST_ASSERT(!(attr.error_offset % PAGE_SIZE) && attr.error_offset < b->size &&
		    attr.error_offset >= attr.offset + LEAST_PAGES * PAGE_SIZE,
		    "EINTR at 0x%llx of [0x%llx, 0x%lx)", attr.error_offset, attr.offset, b->size);
	return attr.error_offset / PAGE_SIZE;
}

TEST_F_TIMEOUT(stopped, what_is_before_error_offset_is_done_and_the_rest_is_as_it_was, 400)
{
	const u64 to = variant->to_private ? KMA_PRIVATE : 0;
	struct big *b = &self->big;
	u64 stopped = b->pages, calls = 1;

	for (int i = 0; i < ATTEMPTS && stopped == b->pages; i++) {
		fill(b, variant->to_private);
		alarm_each(PERIOD_US);
		stopped = convert(b, 0, to, variant->policy);
		alarm_each(0);
	}
	TEST_ASSERT(stopped < b->pages, "no signal has stopped it, of %d", signals);
	assert_pages(b, 0, stopped, variant->to_private, variant->policy);
	assert_pages(b, stopped, b->pages, !variant->to_private, GMEM_PRESERVE);

	/* On to the end, from where each call has stopped. */
	alarm_each(PERIOD_US);
	for (u64 page = stopped; page < b->pages; calls++) {
		u64 next = convert(b, page, to, variant->policy);

		TEST_ASSERT(next > page, "no progress at page %lu", page);
		page = next;
	}
	alarm_each(0);
	assert_pages(b, 0, b->pages, variant->to_private, variant->policy);
	GMEM_ASSERT_SET(b->fd, 0, b->size, 0, GMEM_PRESERVE);
	assert_pages(b, 0, b->pages, false, variant->policy);
	printf("# figure: stopped at page %lu of %lu first, %lu calls in all\n", stopped, b->pages,
	       calls);
}

/* Every call ends in one go, signals or not. */
static void convert_there_and_back(struct big *b, u64 policy)
{
	struct timespec start;

	signals = 0;
	alarm_each(PERIOD_US);
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (signals < 20) {
		GMEM_ASSERT_SET(b->fd, 0, b->size, KMA_PRIVATE, policy);
		GMEM_ASSERT_SET(b->fd, 0, b->size, 0, policy);
		TEST_ASSERT(timespec_elapsed(start).tv_sec < 60, "only %d signals", signals);
	}
	alarm_each(0);
}

FIXTURE(not_stopped) {
	struct big big;
};

FIXTURE_SETUP(not_stopped)
{
	KMA_REQUIRE_PROTECTED_VMS();
	big_init(&self->big);
}

FIXTURE_TEARDOWN(not_stopped)
{
	big_free(&self->big);
}

TEST_F_TIMEOUT(not_stopped, preserving_is_not_stopped, 400)
{
	fill(&self->big, true);
	convert_there_and_back(&self->big, GMEM_PRESERVE);
	assert_pages(&self->big, 0, self->big.pages, false, GMEM_PRESERVE);
}

TEST_F_TIMEOUT(not_stopped, what_is_not_allocated_is_not_stopped, 400)
{
	convert_there_and_back(&self->big, GMEM_ZERO);
	convert_there_and_back(&self->big, GMEM_NONE);
	assert_pages(&self->big, 0, self->big.pages, false, GMEM_ZERO);
}

TEST_HARNESS_MAIN
