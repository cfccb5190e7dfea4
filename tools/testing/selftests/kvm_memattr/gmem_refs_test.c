// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that somebody else has a reference to do not become private: EAGAIN, with
 * the first of them, and nothing has changed. References that the kernel itself
 * holds for a moment are no reason. Nor are pages converted that have a memory
 * error.
 */
#include <sys/uio.h>

/* Expects linux/types.h to be included. */
#include "../../../mm/gup_test.h"
#include "kvm_memattr_gmem.h"
#include "kvm_memattr_random.h"

#define GUP_TEST	"/sys/kernel/debug/gup_test"

static int open_gup_test(void)
{
	int fd = open(GUP_TEST, O_RDWR | O_CLOEXEC);

	TEST_ASSERT(fd >= 0, "cannot open " GUP_TEST ": %s", strerror(errno));
	return fd;
}

/* As a device's driver does for DMA, until the file is closed. */
static int pin(void *at, u64 size, u32 flags)
{
	struct pin_longterm_test args = {
		.addr = (u64)at,
		.size = size,
		.flags = flags,
	};
	int fd = open_gup_test();

	TEST_ASSERT(!ioctl(fd, PIN_LONGTERM_TEST_START, &args), "pinning: %s", strerror(errno));
	return fd;
}

static void unpin(int fd)
{
	TEST_ASSERT(!ioctl(fd, PIN_LONGTERM_TEST_STOP), "unpinning: %s", strerror(errno));
	close(fd);
}

/* What the pin's holder reads of the page. */
static void assert_pinned_page(int fd, u64 gpa, struct kma_seen want)
{
	u64 copy[KMA_PAGE_WORDS], at = (u64)copy;
	struct kma_seen seen = {};

	TEST_ASSERT(!ioctl(fd, PIN_LONGTERM_TEST_READ, &at), "reading a pinned page: %s",
		    strerror(errno));
	kma_scan_page(copy, gpa, 1, &seen);
	kma_assert_seen("the pin's holder", seen, want);
}

FIXTURE(refs) {
	struct gmem m;
};

FIXTURE_VARIANT(refs) {
	u64 policy;
};

FIXTURE_VARIANT_ADD(refs, by_default) {
	.policy = 0,
};

FIXTURE_VARIANT_ADD(refs, zero) {
	.policy = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(refs, preserve) {
	.policy = GMEM_PRESERVE,
};

FIXTURE_VARIANT_ADD(refs, none) {
	.policy = GMEM_NONE,
};

/* All shared, used by the host and mapped by the guest. */
FIXTURE_SETUP(refs)
{
	struct gmem *m = &self->m;

	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
	gmem_host_fill(m, KMA_ALL, KMA_KIND_NEW);
	kma_look(&m->g, KMA_SEEN(.fresh = KMA_ALL));
}

FIXTURE_TEARDOWN(refs)
{
	gmem_free(&self->m);
}

/* The whole window cannot become private, for this page, and is as it was. */
static void assert_refused(struct gmem *m, u64 policy, u64 page)
{
	u64 pages = kma_total("pages_converted");

	GMEM_ASSERT_FAILS(EAGAIN, page * PAGE_SIZE, m->fd, 0, KMA_SIZE, KMA_PRIVATE, policy);
	TEST_ASSERT_EQ(kma_total("pages_converted"), pages);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	gmem_host_scan(m, KMA_SEEN(.fresh = KMA_ALL));
}

/* Nothing is in the way any more. */
static void assert_converted(struct gmem *m, u64 policy)
{
	GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, KMA_PRIVATE, policy);
	GMEM_ASSERT_PRIVATE(m, KMA_ALL);
	kma_scan(&m->g, gmem_filled_seen(policy, KMA_ALL));
}

TEST_F(refs, pinned_page_is_eagain_until_it_is_unpinned)
{
	static const u32 flags[] = {
		0, PIN_LONGTERM_TEST_FLAG_USE_WRITE,
		PIN_LONGTERM_TEST_FLAG_USE_WRITE | PIN_LONGTERM_TEST_FLAG_USE_FAST,
	};
	static const u64 pages[] = { 0, 1, 17, 62, 63 };
	struct gmem *m = &self->m;

	for (int i = 0; i < ARRAY_SIZE(pages); i++) {
		int fd = pin(gmem_page(m, pages[i]), PAGE_SIZE, flags[i % ARRAY_SIZE(flags)]);

		assert_refused(m, variant->policy, pages[i]);
		assert_refused(m, variant->policy, pages[i]);
		assert_pinned_page(fd, m->g.gpa + pages[i] * PAGE_SIZE, KMA_SEEN(.fresh = 1));
		unpin(fd);
	}
	assert_converted(m, variant->policy);
}

TEST_F(refs, first_of_several_pinned_pages_is_named)
{
	struct gmem *m = &self->m;
	int fds[] = {
		pin(gmem_page(m, 40), 2 * PAGE_SIZE, 0),
		pin(gmem_page(m, 50), PAGE_SIZE, 0),
		pin(gmem_page(m, 3), PAGE_SIZE, 0),
	};

	assert_refused(m, variant->policy, 3);
	unpin(fds[2]);
	assert_refused(m, variant->policy, 40);
	unpin(fds[0]);
	assert_refused(m, variant->policy, 50);
	unpin(fds[1]);
	assert_converted(m, variant->policy);
}

TEST_F(refs, all_pages_pinned_name_the_first_of_the_range)
{
	struct gmem *m = &self->m;
	int fd = pin(m->mem, KMA_SIZE, PIN_LONGTERM_TEST_FLAG_USE_WRITE);

	for (u64 page = 0; page < KMA_PAGES; page += 9)
		GMEM_ASSERT_FAILS(EAGAIN, page * PAGE_SIZE, m->fd, page * PAGE_SIZE,
				  KMA_SIZE - page * PAGE_SIZE, KMA_PRIVATE, variant->policy);
	GMEM_ASSERT_PRIVATE(m, KMA_NONE);
	unpin(fd);
	assert_converted(m, variant->policy);
}

TEST_F(refs, pins_outside_of_the_range_are_no_reason)
{
	struct gmem *m = &self->m;
	int before = pin(gmem_page(m, 15), PAGE_SIZE, 0);
	int after = pin(gmem_page(m, 48), PAGE_SIZE, 0);

	gmem_set(m, KMA_MIDDLE, KMA_PRIVATE, variant->policy);
	GMEM_ASSERT_PRIVATE(m, KMA_MIDDLE);
	kma_scan(&m->g, gmem_filled_seen(variant->policy, KMA_MIDDLE));

	/* Nor is one of a page that becomes, or stays, shared. */
	gmem_set(m, KMA_ALL, 0, GMEM_PRESERVE);
	GMEM_ASSERT_PRIVATE(m, KMA_NONE);
	unpin(before);
	unpin(after);
}

TEST_F(refs, pins_in_files_beside_are_no_reason)
{
	struct gmem *m = &self->m;
	int other = vm_create_guest_memfd(m->g.vm, KMA_SIZE, GMEM_SHARED);
	void *mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, other);
	int fd = pin(mem, KMA_SIZE, PIN_LONGTERM_TEST_FLAG_USE_WRITE);

	assert_converted(m, variant->policy);
	GMEM_ASSERT_FAILS(EAGAIN, 0, other, 0, KMA_SIZE, KMA_PRIVATE, variant->policy);
	unpin(fd);
	kvm_munmap(mem, KMA_SIZE);
	kvm_close(other);
}

TEST_F(refs, page_in_a_pipe_is_eagain_until_it_is_read)
{
	const u64 page = 21;
	struct gmem *m = &self->m;
	struct iovec iov = { .iov_base = gmem_page(m, page), .iov_len = 8 };
	int fds[2];
	u64 value;

	TEST_ASSERT(!pipe(fds), "pipe: %s", strerror(errno));
	TEST_ASSERT_EQ(vmsplice(fds[1], &iov, 1, 0), 8);
	assert_refused(m, variant->policy, page);
	TEST_ASSERT_EQ(read(fds[0], &value, sizeof(value)), 8);
	TEST_ASSERT_EQ(value, kma_word(KMA_KIND_NEW, m->g.gpa + page * PAGE_SIZE));
	assert_converted(m, variant->policy);
	close(fds[0]);
	close(fds[1]);
}

TEST_F(refs, invalid_request_is_einval_though_a_page_is_pinned)
{
	struct gmem *m = &self->m;
	int fd = pin(gmem_page(m, 0), PAGE_SIZE, 0);

	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, m->fd, 0, KMA_SIZE, KMA_PRIVATE, BIT_ULL(3));
	/* And one that has nothing to change succeeds. */
	GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, 0, variant->policy);
	unpin(fd);
}

/* References that come with userspace's mappings are the kernel's to drop. */
TEST_F(refs, mappings_of_any_kind_are_no_reason)
{
	struct gmem *m = &self->m;
	void *again = kvm_mmap(KMA_SIZE, PROT_READ, MAP_SHARED | MAP_POPULATE, m->fd);
	void *locked = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_LOCKED | MAP_POPULATE, m->fd);

	assert_converted(m, variant->policy);
	TEST_ASSERT_EQ(gmem_unloadable(again), KMA_ALL);
	TEST_ASSERT_EQ(gmem_unloadable(locked), KMA_ALL);
	kvm_munmap(again, KMA_SIZE);
	kvm_munmap(locked, KMA_SIZE);
}

/* Pages that are used as buffers by calls that have returned. */
TEST_F(refs, references_that_were_dropped_are_no_reason)
{
	struct gmem *m = &self->m;
	struct gup_test gup = {
		.addr = (u64)m->mem,
		.size = KMA_SIZE,
		.nr_pages_per_call = 7,
		/* FOLL_WRITE */
		.gup_flags = 1,
	};
	static const unsigned long cmds[] = {
		GUP_FAST_BENCHMARK, GUP_BASIC_TEST, PIN_FAST_BENCHMARK, PIN_BASIC_TEST,
	};
	int fd = open_gup_test();

	for (int i = 0; i < ARRAY_SIZE(cmds); i++) {
		TEST_ASSERT(!ioctl(fd, cmds[i], &gup), "gup: %s", strerror(errno));
		TEST_ASSERT_EQ(gup.size, KMA_SIZE);
		GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, KMA_PRIVATE, GMEM_PRESERVE);
		GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, 0, GMEM_PRESERVE);
	}
	close(fd);
	assert_converted(m, variant->policy);
}

/*
 * Where the file is at the slot's userspace_addr, KVM is told that userspace loses its
 * mappings, and cannot know that the pages stay.
 */
FIXTURE(at_userspace_addr) {
	struct gmem m;
};

FIXTURE_SETUP(at_userspace_addr)
{
	struct gmem *m = &self->m;

	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init_at_userspace_addr(m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
	gmem_host_fill(m, KMA_ALL, KMA_KIND_NEW);
}

FIXTURE_TEARDOWN(at_userspace_addr)
{
	gmem_free(&self->m);
}

TEST_F(at_userspace_addr, refused_conversion_costs_the_shared_mappings_of_its_range_alone)
{
	const u64 first = 8, nr = 48, range = GENMASK_ULL(55, 8), private = GENMASK_ULL(31, 24);
	struct gmem *m = &self->m;
	int fd;

	gmem_set(m, private, KMA_PRIVATE, GMEM_PRESERVE);
	kma_look(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	fd = pin(gmem_page(m, 40), PAGE_SIZE, 0);
	GMEM_ASSERT_FAILS(EAGAIN, 40 * PAGE_SIZE, m->fd, first * PAGE_SIZE, nr * PAGE_SIZE,
			  KMA_PRIVATE, GMEM_PRESERVE);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = ~range | private));
	KMA_ASSERT_FAULTS(&m->g, nr - __builtin_popcountll(private),
			  KMA_SEEN(.fresh = range & ~private));
	unpin(fd);
}

/* Batches of the kernel's, on the CPU that has brought a page in. */
#define BATCH_ROUNDS	40

FIXTURE(batch) {
	struct gmem m;
};

FIXTURE_VARIANT(batch) {
	/* The CPUs that use and convert. */
	int uses;
	int converts;
};

FIXTURE_VARIANT_ADD(batch, other_cpu) {
	.uses = 2,
	.converts = 1,
};

FIXTURE_VARIANT_ADD(batch, same_cpu) {
	.uses = 1,
	.converts = 1,
};

FIXTURE_SETUP(batch)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_random_init();
	gmem_init(&self->m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
}

FIXTURE_TEARDOWN(batch)
{
	gmem_free(&self->m);
}

static void use_by_host(struct gmem *m, u64 pages)
{
	for (u64 page = 0; page < KMA_PAGES; page++) {
		if (pages & 1ull << page)
			WRITE_ONCE(*(u64 *)gmem_page(m, page), 1);
	}
}

static void use_by_guest(struct gmem *m, u64 pages)
{
	kma_write(&m->g, pages, KMA_KIND_NEW);
}

static void use_by_allocation(struct gmem *m, u64 pages)
{
	for (u64 page = 0; page < KMA_PAGES; page++) {
		if (pages & 1ull << page)
			gmem_allocate(m->fd, page * PAGE_SIZE, PAGE_SIZE);
	}
}

static void use_locked(struct gmem *m, u64 pages)
{
	use_by_host(m, pages);
	TEST_ASSERT(!mlock(m->mem, KMA_SIZE), "mlock: %s", strerror(errno));
	TEST_ASSERT(!munlock(m->mem, KMA_SIZE), "munlock: %s", strerror(errno));
}

/* The first call succeeds, however many pages are in the batches. */
static void convert_after(struct gmem *m, int uses, int converts,
			  void (*use)(struct gmem *m, u64 pages))
{
	for (int i = 0; i < BATCH_ROUNDS; i++) {
		gmem_set(m, KMA_ALL, 0, 0);
		gmem_punch(m->fd, 0, KMA_SIZE);
		pin_self_to_cpu(uses);
		use(m, kma_random());
		pin_self_to_cpu(converts);
		GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, KMA_PRIVATE, gmem_policies[i % 4]);
	}
}

TEST_F(batch, pages_that_the_host_has_just_used_are_converted)
{
	convert_after(&self->m, variant->uses, variant->converts, use_by_host);
}

TEST_F(batch, pages_that_the_guest_has_just_used_are_converted)
{
	convert_after(&self->m, variant->uses, variant->converts, use_by_guest);
}

TEST_F(batch, pages_that_were_just_allocated_are_converted)
{
	convert_after(&self->m, variant->uses, variant->converts, use_by_allocation);
}

TEST_F(batch, pages_that_were_just_locked_are_converted)
{
	convert_after(&self->m, variant->uses, variant->converts, use_locked);
}

/* A page with a memory error, in either state. */
FIXTURE(poisoned) {
	struct gmem m;
	u64 from;
	u64 to;
};

FIXTURE_VARIANT(poisoned) {
	bool private;
	u64 policy;
};

FIXTURE_VARIANT_ADD(poisoned, private_zero) {
	.private = true,
	.policy = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(poisoned, private_preserve) {
	.private = true,
	.policy = GMEM_PRESERVE,
};

FIXTURE_VARIANT_ADD(poisoned, private_none) {
	.private = true,
	.policy = GMEM_NONE,
};

FIXTURE_VARIANT_ADD(poisoned, shared_zero) {
	.private = false,
	.policy = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(poisoned, shared_preserve) {
	.private = false,
	.policy = GMEM_PRESERVE,
};

FIXTURE_VARIANT_ADD(poisoned, shared_none) {
	.private = false,
	.policy = GMEM_NONE,
};

#define BAD_PAGE	11
#define BAD		BIT_ULL(BAD_PAGE)

/* Of a page that is shared: madvise() tells the caller, who has it mapped, by SIGBUS. */
static void poison_by_host(struct gmem *m, u64 page)
{
	if (sigsetjmp(gmem_sigbus, 0))
		return;
	TEST_ASSERT(*(volatile u64 *)gmem_page(m, page), "nothing to poison");
	kvm_madvise(gmem_page(m, page), PAGE_SIZE, MADV_HWPOISON);
}

FIXTURE_SETUP(poisoned)
{
	struct gmem *m = &self->m;

	KMA_REQUIRE_PROTECTED_VMS();
	self->from = variant->private ? KMA_PRIVATE : 0;
	self->to = variant->private ? 0 : KMA_PRIVATE;
	gmem_init(m, KVM_X86_SW_PROTECTED_VM, variant->private ? GMEM_IN_PLACE : GMEM_SHARED);
	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);

	if (variant->private)
		gmem_poison(m->fd, BAD_PAGE);
	else
		poison_by_host(m, BAD_PAGE);
}

FIXTURE_TEARDOWN(poisoned)
{
	gmem_free(&self->m);
}

TEST_F(poisoned, conversion_is_ehwpoison_and_nothing_changes)
{
	u64 pages = kma_total("pages_converted");
	struct gmem *m = &self->m;

	for (u64 first = 0; first <= BAD_PAGE; first += BAD_PAGE)
		GMEM_ASSERT_FAILS(EHWPOISON, BAD_PAGE * PAGE_SIZE, m->fd, first * PAGE_SIZE,
				  KMA_SIZE - first * PAGE_SIZE, self->to, variant->policy);
	TEST_ASSERT_EQ(kma_total("pages_converted"), pages);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = ~BAD));
	kma_scan(&m->g, KMA_SEEN(.fresh = ~BAD));
	GMEM_ASSERT_PRIVATE(m, variant->private ? KMA_ALL : BAD);
}

TEST_F(poisoned, guest_exits_with_the_state_of_the_page)
{
	struct gmem *m = &self->m;

	kma_issue(m->g.vcpu, KMA_OP_READ, m->g.gpa, BAD, 0);
	kma_finish_in_fault(m->g.vcpu, EHWPOISON, m->g.gpa + BAD_PAGE * PAGE_SIZE,
			    variant->private ? KVM_MEMORY_EXIT_FLAG_PRIVATE : 0);

	/* It goes on with another page in its place. */
	gmem_punch(m->fd, BAD_PAGE * PAGE_SIZE, PAGE_SIZE);
	TEST_ASSERT_EQ(kma_finish(m->g.vcpu).zero, BAD);
}

TEST_F(poisoned, pages_beside_it_are_converted)
{
	struct gmem *m = &self->m;

	gmem_set(m, ~BAD, self->to, variant->policy);
	GMEM_ASSERT_PRIVATE(m, variant->private ? BAD : KMA_ALL);
}

TEST_F(poisoned, setting_what_is_set_meets_no_error)
{
	GMEM_ASSERT_SET(self->m.fd, 0, KMA_SIZE, self->from, variant->policy);
}

TEST_F(poisoned, hole_takes_the_error_with_it)
{
	struct kma_seen want = gmem_filled_seen(variant->policy, KMA_ALL);
	struct gmem *m = &self->m;

	gmem_punch(m->fd, BAD_PAGE * PAGE_SIZE, PAGE_SIZE);
	GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, self->to, variant->policy);
	want.fresh &= ~BAD;
	want.junk &= ~BAD;
	want.zero |= BAD;
	kma_scan(&m->g, want);
}

/* Shared pages, one of them bad, and others with a reference: only these can be pinned. */
FIXTURE(poisoned_and_pinned) {
	struct gmem m;
};

FIXTURE_VARIANT(poisoned_and_pinned) {
	u64 policy;
};

FIXTURE_VARIANT_ADD(poisoned_and_pinned, zero) {
	.policy = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(poisoned_and_pinned, preserve) {
	.policy = GMEM_PRESERVE,
};

FIXTURE_VARIANT_ADD(poisoned_and_pinned, none) {
	.policy = GMEM_NONE,
};

FIXTURE_SETUP(poisoned_and_pinned)
{
	struct gmem *m = &self->m;

	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
	gmem_host_fill(m, KMA_ALL, KMA_KIND_NEW);
	poison_by_host(m, BAD_PAGE);
}

FIXTURE_TEARDOWN(poisoned_and_pinned)
{
	gmem_free(&self->m);
}

/* Whichever comes first in the range: the error doesn't go away by trying again. */
TEST_F(poisoned_and_pinned, error_goes_before_a_reference)
{
	static const u64 pinned[] = { BAD_PAGE - 2, BAD_PAGE + 2 };
	struct gmem *m = &self->m;

	for (int i = 0; i < ARRAY_SIZE(pinned); i++) {
		u64 at = pinned[i] * PAGE_SIZE;
		int fd = pin(gmem_page(m, pinned[i]), PAGE_SIZE, 0);

		GMEM_ASSERT_FAILS(EHWPOISON, BAD_PAGE * PAGE_SIZE, m->fd, 0, KMA_SIZE, KMA_PRIVATE,
				  variant->policy);
		/* The reference alone refuses, too. */
		GMEM_ASSERT_FAILS(EAGAIN, at, m->fd, at, PAGE_SIZE, KMA_PRIVATE, variant->policy);
		unpin(fd);
	}
	GMEM_ASSERT_PRIVATE(m, BAD);
}

/* --- pins that come and go --- */

#define PIN_ROUNDS	200
#define PIN_DEBUG_SHARE	4
/* Conversions of either outcome, before it ends. */
#define PIN_OUTCOMES	10
/* A conversion waits some milliseconds for references to go: longer than that, or not. */
#define PIN_LOOKS	16
#define PIN_LOOK_US	100
#define PIN_PAUSE_US	5000

struct pinner {
	struct gmem *m;
	pthread_t thread;
	bool stop;
	/* Pins of each page that were tried, and those of them that are over. */
	u64 begun[KMA_PAGES];
	u64 over[KMA_PAGES];
	u64 pins;
};

/* A page stays shared as long as it's pinned. */
static void pin_once(struct pinner *p, int fd, u64 page)
{
	struct pin_longterm_test args = { .addr = (u64)gmem_page(p->m, page), .size = PAGE_SIZE };
	u64 word;

	if (ioctl(fd, PIN_LONGTERM_TEST_START, &args)) {
		TEST_ASSERT(errno == EFAULT, "pinning page %lu: %s", page, strerror(errno));
		return;
	}
	for (u64 looks = 1 + kma_random_below(PIN_LOOKS); looks; looks--) {
		TEST_ASSERT(gmem_load(gmem_page(p->m, page), &word),
			    "page %lu has become private while it was pinned", page);
		usleep(PIN_LOOK_US);
	}
	TEST_ASSERT(!ioctl(fd, PIN_LONGTERM_TEST_STOP), "unpinning: %s", strerror(errno));
	p->pins++;
}

static void *pin_thread(void *arg)
{
	struct pinner *p = arg;
	int fd = open_gup_test();

	kma_random_init_thread(1);
	while (!READ_ONCE(p->stop)) {
		u64 page = kma_random_below(KMA_PAGES);

		WRITE_ONCE(p->begun[page], p->begun[page] + 1);
		__sync_synchronize();
		pin_once(p, fd, page);
		__sync_synchronize();
		WRITE_ONCE(p->over[page], p->over[page] + 1);
	}
	close(fd);
	return NULL;
}

FIXTURE(pins) {
	struct gmem m;
};

FIXTURE_SETUP(pins)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_random_init();
	gmem_init(&self->m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
}

FIXTURE_TEARDOWN(pins)
{
	gmem_free(&self->m);
}

TEST_F_TIMEOUT(pins, conversions_succeed_without_and_name_one_that_was_held, 240)
{
	u64 rounds = kma_rounds(PIN_ROUNDS, PIN_DEBUG_SHARE), converted = 0, refused = 0;
	struct pinner p = { .m = &self->m };
	u64 over[KMA_PAGES];

	kvm_pthread_create(&p.thread, NULL, pin_thread, &p);
	while (converted + refused < rounds || converted < PIN_OUTCOMES ||
	       refused < PIN_OUTCOMES) {
		struct kvm_memory_attributes2 attr;

		/* Pins are waiting for the lock that a conversion holds. */
		usleep(kma_random_below(PIN_PAUSE_US));
		attr = gmem_attr(0, KMA_SIZE, KMA_PRIVATE, GMEM_PRESERVE);
		memcpy(over, p.over, sizeof(over));
		__sync_synchronize();
		if (!__gmem_ioctl(self->m.fd, &attr)) {
			converted++;
			GMEM_ASSERT_SET(self->m.fd, 0, KMA_SIZE, 0, GMEM_PRESERVE);
		} else {
			u64 page = attr.error_offset / PAGE_SIZE;

			TEST_ASSERT(errno == EAGAIN && page < KMA_PAGES, "%s at 0x%llx",
				    strerror(errno), attr.error_offset);
			TEST_ASSERT(READ_ONCE(p.begun[page]) > over[page],
				    "EAGAIN for page %lu, which nobody has pinned", page);
			refused++;
		}
	}
	WRITE_ONCE(p.stop, true);
	kvm_pthread_join(p.thread, NULL);

	printf("# figure: pins: %lu conversions, %lu refused, %lu pins\n", converted, refused,
	       p.pins);
}

TEST_HARNESS_MAIN
