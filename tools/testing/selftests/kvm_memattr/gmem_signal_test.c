// SPDX-License-Identifier: GPL-2.0
/*
 * A signal stops a conversion where contents are made, after a batch of pages at
 * least: EINTR, with the first page that is not done. What can fail has been
 * settled before, and what makes no contents is not stopped.
 */
#include "kvm_memattr_alarm.h"
#include "kvm_memattr_gmem.h"
#include "kvm_memattr_layers.h"

#define PAGES		16384
#define DEBUG_SHARE	4
/* So many get done at least. */
#define LEAST_PAGES	64

#define PERIOD_US	1000
#define ATTEMPTS	50

/* The two slots of the file, the second half of it first. */
#define SLOTS_GPA	BIT_ULL(32)

/* A file, mapped by userspace, and in the slots of a guest where there is one. */
struct big {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
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

/* Of a file in pieces: what is to become of a page. */
enum piece {
	/* It is converted, and its contents are dealt with. */
	CHANGES,
	/* It has been before. */
	DONE,
	/* It is converted, and there's nothing in it. */
	HOLE,
};

#define DONE_AT_FIRST	100

static enum piece piece_of(u64 page)
{
	if (page < DONE_AT_FIRST)
		return DONE;
	return page % 16 < 9 ? CHANGES : page % 16 < 12 ? DONE : HOLE;
}

static u64 guest_first, guest_end, guest_policy;
static bool in_pieces, leave_holes;

/* What either end of a page holds. For old contents the policy is PRESERVE. */
static u64 word_after(u64 policy, u64 page)
{
	enum piece piece = READ_ONCE(in_pieces) ? piece_of(page) : CHANGES;

	if (piece == HOLE)
		return 0;
	return piece == DONE ? kma_word(KMA_KIND_NEW, page) :
	       policy == GMEM_ZERO ? 0 :
	       policy == GMEM_NONE ? KMA_JUNK : kma_word(KMA_KIND_NEW, page);
}

/* Reads pages [first, end) of the file, all of which are to hold this. */
static void guest_code(u64 pages)
{
	for (;;) {
		u64 first = READ_ONCE(guest_first), end = READ_ONCE(guest_end);

		for (u64 page = first; page < end; page++) {
			u64 *words = (u64 *)(SLOTS_GPA + (page + pages / 2) % pages * PAGE_SIZE);
			u64 want = word_after(READ_ONCE(guest_policy), page);

			if (READ_ONCE(leave_holes) && piece_of(page) == HOLE)
				continue;
			GUEST_ASSERT_EQ(READ_ONCE(words[0]), want);
			GUEST_ASSERT_EQ(READ_ONCE(words[KMA_PAGE_WORDS - 1]), want);
		}
		GUEST_SYNC(0);
	}
}

/* Returns how many faults that took. */
static u64 assert_guest_reads(struct big *b, u64 first, u64 end, u64 policy)
{
	u64 faults = vcpu_get_stat(b->vcpu, pf_fixed);
	struct ucall uc;

	guest_first = first;
	guest_end = end;
	guest_policy = policy;
	sync_global_to_guest(b->vm, guest_first);
	sync_global_to_guest(b->vm, guest_end);
	sync_global_to_guest(b->vm, guest_policy);
	sync_global_to_guest(b->vm, in_pieces);
	sync_global_to_guest(b->vm, leave_holes);
	vcpu_run(b->vcpu);
	if (get_ucall(b->vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT(uc.cmd == UCALL_SYNC, "ucall %lu", uc.cmd);
	return vcpu_get_stat(b->vcpu, pf_fixed) - faults;
}

static void add_half(struct big *b, u32 slot, u64 gpa, u64 offset)
{
	vm_set_user_memory_region2(b->vm, slot, KVM_MEM_GUEST_MEMFD, gpa, b->size / 2,
				   b->mem + offset, b->fd, offset);
	virt_map(b->vm, gpa, gpa, b->pages / 2);
}

static void add_guest(struct big *b)
{
	add_half(b, 1, SLOTS_GPA, b->size / 2);
	add_half(b, 2, SLOTS_GPA + b->size / 2, 0);
	vcpu_args_set(b->vcpu, 1, b->pages);
}

static void big_init(struct big *b)
{
	gmem_catch_sigbus();
	alarm_catch(SIGALRM);
	b->vm = __vm_create_shape_with_one_vcpu(kma_protected_shape, &b->vcpu, PAGES,
						guest_code);
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
	add_guest(&self->big);
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

/* Pages [first, end) are private, or hold this. */
static void assert_pages(struct big *b, u64 first, u64 end, bool private,
			 u64 policy)
{
	for (u64 page = first; page < end; page++) {
		u64 want = word_after(policy, page), head, tail;

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
		assert_guest_reads(b, 0, b->pages, GMEM_PRESERVE);
		alarm_each(PERIOD_US);
		stopped = convert(b, 0, to, variant->policy);
		alarm_each(0);
	}
	TEST_ASSERT(stopped < b->pages, "no signal has stopped it, of %d", alarms);
	assert_pages(b, 0, stopped, variant->to_private, variant->policy);
	assert_pages(b, stopped, b->pages, !variant->to_private, GMEM_PRESERVE);
	/* All of the range was to be zapped before it was known where the call ends. */
	TEST_ASSERT_EQ(assert_guest_reads(b, 0, stopped, variant->policy), stopped);
	TEST_ASSERT_EQ(assert_guest_reads(b, stopped, b->pages, GMEM_PRESERVE),
		       b->pages - stopped);

	/* On to the end, from where each call has stopped. */
	alarm_each(PERIOD_US);
	for (u64 page = stopped; page < b->pages; calls++) {
		u64 next = convert(b, page, to, variant->policy);

		TEST_ASSERT(next > page, "no progress at page %lu", page);
		page = next;
	}
	alarm_each(0);
	assert_pages(b, 0, b->pages, variant->to_private, variant->policy);
	assert_guest_reads(b, 0, b->pages, variant->policy);
	GMEM_ASSERT_SET(b->fd, 0, b->size, 0, GMEM_PRESERVE);
	assert_pages(b, 0, b->pages, false, variant->policy);
	printf("# figure: stopped at page %lu of %lu first, %lu calls in all\n", stopped, b->pages,
	       calls);
}

/* Some of it is in the new state already, and keeps what it has; some has nothing. */
static void cut(struct big *b, u64 to)
{
	u64 end;

	for (u64 page = 0; page < b->pages; page = end) {
		enum piece piece = piece_of(page);

		for (end = page + 1; end < b->pages && piece_of(end) == piece; end++)
			;
		if (piece == DONE)
			GMEM_ASSERT_SET(b->fd, page * PAGE_SIZE, (end - page) * PAGE_SIZE, to,
					GMEM_PRESERVE);
		else if (piece == HOLE)
			gmem_punch(b->fd, page * PAGE_SIZE, (end - page) * PAGE_SIZE);
	}
}

/* Pages before @stop are in the new state, as are pieces that were before. */
static void assert_pieces(struct big *b, u64 stop, u64 to)
{
	struct kvm_memory_attributes_run *runs = layers_alloc(GET_MOST, sizeof(*runs));
	u32 nr = layers_get(b->fd, 0, 0, b->size, runs, GET_MOST, NULL);
	u64 page = 0;

	for (u32 i = 0; i < nr; i++) {
		for (; page < (runs[i].start + runs[i].size) / PAGE_SIZE; page++) {
			bool done = page < stop || piece_of(page) == DONE;

			TEST_ASSERT(runs[i].attributes == (done ? to : to ^ KMA_PRIVATE),
				    "page %lu is 0x%llx, and page %lu the first that isn't done",
				    page, runs[i].attributes, stop);
		}
	}
	TEST_ASSERT_EQ(page, b->pages);
	free(runs);
}

/* A call that goes on from @page has stopped where it may: contents end there. */
static void assert_stop(u64 page, u64 stop)
{
	u64 changed = 0;

	TEST_ASSERT(piece_of(stop - 1) == CHANGES, "stopped at page %lu, behind one to pass over",
		    stop);
	for (; page < stop; page++)
		changed += piece_of(page) == CHANGES;
	TEST_ASSERT(changed >= LEAST_PAGES, "stopped at page %lu, after %lu pages", stop, changed);
}

TEST_F_TIMEOUT(stopped, range_in_pieces_is_done_up_to_error_offset_and_gone_on_with, 400)
{
	const u64 to = variant->to_private ? KMA_PRIVATE : 0;
	struct big *b = &self->big;
	u64 stopped = b->pages, converted, calls = 1;

	in_pieces = true;
	leave_holes = true;
	for (int i = 0; i < ATTEMPTS && stopped == b->pages; i++) {
		fill(b, variant->to_private);
		cut(b, to);
		converted = kma_total("pages_converted");
		alarm_each(PERIOD_US);
		stopped = convert(b, 0, to, variant->policy);
		alarm_each(0);
	}
	TEST_ASSERT(stopped < b->pages, "no signal has stopped it, of %d", alarms);
	TEST_ASSERT_EQ(kma_total("pages_converted") - converted, stopped - DONE_AT_FIRST);
	assert_stop(0, stopped);
	assert_pieces(b, stopped, to);
	assert_guest_reads(b, 0, stopped, variant->policy);
	assert_guest_reads(b, stopped, b->pages, GMEM_PRESERVE);

	alarm_each(PERIOD_US);
	for (u64 page = stopped; page < b->pages; calls++) {
		u64 next = convert(b, page, to, variant->policy);

		if (next < b->pages)
			assert_stop(page, next);
		assert_pieces(b, next, to);
		page = next;
	}
	alarm_each(0);
	leave_holes = false;
	assert_guest_reads(b, 0, b->pages, variant->policy);
	GMEM_ASSERT_SET(b->fd, 0, b->size, 0, GMEM_PRESERVE);
	assert_pages(b, 0, b->pages, false, variant->policy);
	printf("# figure: in pieces: stopped at page %lu of %lu first, %lu calls in all\n", stopped,
	       b->pages, calls);
}

/* The pages of a file that are done, which are those up to somewhere. */
static u64 pages_done(struct big *b, u64 to)
{
	struct kvm_memory_attributes_run runs[3];
	u32 nr = layers_get(b->fd, 0, 0, b->size, runs, ARRAY_SIZE(runs), NULL);

	if (runs[0].attributes != to)
		return 0;
	TEST_ASSERT(nr <= 2, "what is done is in pieces");
	return runs[0].size / PAGE_SIZE;
}

/* Made again as it was, as nothing can be written to it. */
TEST_F_TIMEOUT(stopped, request_that_cannot_be_told_is_efault_and_gets_on, 400)
{
	const u64 to = variant->to_private ? KMA_PRIVATE : 0;
	struct kvm_memory_attributes2 *attr;
	struct big *b = &self->big;
	u64 stops = 0;

	attr = gmem_read_only(gmem_attr(0, b->size, to, variant->policy));
	for (int i = 0; i < ATTEMPTS && !stops; i++) {
		u64 next;

		fill(b, variant->to_private);
		for (u64 done = 0; done < b->pages; done = next) {
			int ret, err;

			alarm_each(PERIOD_US);
			ret = __gmem_ioctl(b->fd, attr);
			err = errno;
			alarm_each(0);
			next = pages_done(b, to);
			if (!ret) {
				TEST_ASSERT_EQ(next, b->pages);
				continue;
			}
			TEST_ASSERT(err == EFAULT, "%s", strerror(err));
			TEST_ASSERT(next >= done + LEAST_PAGES && next < b->pages,
				    "EFAULT, and %lu pages are done after %lu", next, done);
			if (stops++)
				continue;
			assert_pages(b, 0, next, variant->to_private, variant->policy);
			assert_pages(b, next, b->pages, !variant->to_private, GMEM_PRESERVE);
		}
	}
	TEST_ASSERT(stops, "no signal has stopped it, of %d", alarms);
	GMEM_ASSERT_SET(b->fd, 0, b->size, 0, GMEM_PRESERVE);
	assert_pages(b, 0, b->pages, false, variant->policy);
	printf("# figure: EFAULT %lu times\n", stops);
}

/* Every call ends in one go, signals or not. */
static void convert_there_and_back(struct big *b, u64 policy)
{
	struct timespec start;

	alarms = 0;
	alarm_each(PERIOD_US);
	clock_gettime(CLOCK_MONOTONIC, &start);
	while (alarms < 20) {
		GMEM_ASSERT_SET(b->fd, 0, b->size, KMA_PRIVATE, policy);
		GMEM_ASSERT_SET(b->fd, 0, b->size, 0, policy);
		TEST_ASSERT(timespec_elapsed(start).tv_sec < 60, "only %d signals", alarms);
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
