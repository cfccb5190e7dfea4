// SPDX-License-Identifier: GPL-2.0
/*
 * An MMU notifier event is about the shared backing: it zaps the guest's
 * shared mappings in its range, and not one of the private ones. That holds for a
 * guest_memfd that is converted in place, too, if the VMM has mapped it there.
 */
#include "kvm_memattr_gmem.h"

/* What the events do to the backing, and what the guest then reads in it. */
struct event {
	void (*fire)(struct userspace_mem_region *region, u64 offset, u64 size);
	enum { SAME, ZERO, FRESH } then;
};

static void discard_mapping(struct userspace_mem_region *region, u64 offset, u64 size)
{
	kvm_madvise(region->host_mem + offset, size, MADV_DONTNEED);
}

static void punch_hole(struct userspace_mem_region *region, u64 offset, u64 size)
{
	kvm_fallocate(region->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
		      offset, size);
}

static void forbid_and_allow(struct userspace_mem_region *region, u64 offset, u64 size)
{
	void *mem = region->host_mem + offset;

	TEST_ASSERT(!mprotect(mem, size, PROT_NONE), "mprotect: %s", strerror(errno));
	TEST_ASSERT(!mprotect(mem, size, PROT_READ | PROT_WRITE), "mprotect: %s",
		    strerror(errno));
}

static void map_other_memory(struct userspace_mem_region *region, u64 offset, u64 size)
{
	void *mem = region->host_mem + offset, *new;
	u64 i;

	new = mmap(mem, size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	TEST_ASSERT(new == mem, "mmap: %s", strerror(errno));

	for (i = 0; i < size; i += PAGE_SIZE)
		*(u64 *)(new + i) = kma_word(KMA_KIND_NEW, KMA_GPA + offset + i);
}

static void unmap_memory(struct userspace_mem_region *region, u64 offset, u64 size)
{
	kvm_munmap(region->host_mem + offset, size);
}

FIXTURE(notifier) {
	struct kma_guest g;
};

FIXTURE_VARIANT(notifier) {
	struct event event;
};

FIXTURE_VARIANT_ADD(notifier, madvise) {
	.event = { discard_mapping, SAME },
};

FIXTURE_VARIANT_ADD(notifier, punch_hole) {
	.event = { punch_hole, ZERO },
};

FIXTURE_VARIANT_ADD(notifier, mprotect) {
	.event = { forbid_and_allow, SAME },
};

FIXTURE_VARIANT_ADD(notifier, mmap) {
	.event = { map_other_memory, FRESH },
};

FIXTURE_SETUP(notifier)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
}

FIXTURE_TEARDOWN(notifier)
{
	kvm_vm_free(self->g.vm);
}

/* The event over some pages of the window; what shared pages then hold. */
static struct kma_seen fire(struct kma_guest *g, const struct event *event,
			    u64 first, u64 nr, u64 private)
{
	u64 hit = (nr == KMA_PAGES ? KMA_ALL : ((1ull << nr) - 1) << first) & ~private;
	struct kma_seen seen = { .private = private, .shared = ~private };

	event->fire(g->region, first * PAGE_SIZE, nr * PAGE_SIZE);

	if (event->then != SAME)
		seen.shared &= ~hit;
	if (event->then == ZERO)
		seen.zero = hit;
	if (event->then == FRESH)
		seen.fresh = hit;
	return seen;
}

TEST_F(notifier, private_pages_stay_mapped)
{
	struct kma_seen seen;

	kma_prepare(&self->g, KMA_ALL);
	seen = fire(&self->g, &variant->event, 0, KMA_PAGES, KMA_ALL);
	KMA_ASSERT_FAULTS(&self->g, 0, seen);
}

TEST_F(notifier, shared_pages_are_zapped)
{
	struct kma_seen seen;

	kma_prepare(&self->g, KMA_NONE);
	seen = fire(&self->g, &variant->event, 0, KMA_PAGES, KMA_NONE);
	KMA_ASSERT_FAULTS(&self->g, KMA_PAGES, seen);
}

TEST_F(notifier, alternate_pages_lose_the_shared_ones)
{
	struct kma_seen seen;

	kma_prepare(&self->g, KMA_ODD);
	seen = fire(&self->g, &variant->event, 0, KMA_PAGES, KMA_ODD);
	KMA_ASSERT_FAULTS(&self->g, KMA_PAGES / 2, seen);
	KMA_ASSERT_FAULTS(&self->g, 0, seen);
}

TEST_F(notifier, shared_pages_outside_the_event_stay_mapped)
{
	struct kma_seen seen;

	kma_prepare(&self->g, KMA_NONE);
	seen = fire(&self->g, &variant->event, 16, 32, KMA_NONE);
	KMA_ASSERT_FAULTS(&self->g, 32, seen);
}

TEST_F(notifier, event_across_a_private_run_takes_the_shared_ends)
{
	const u64 private = 0x0000003fffffc000ull;
	struct kma_seen seen;

	kma_prepare(&self->g, private);
	seen = fire(&self->g, &variant->event, 10, 32, private);
	KMA_ASSERT_FAULTS(&self->g, 32 - __builtin_popcountll(private), seen);
}

/* A page that the event found private must show the new backing once shared. */
TEST_F(notifier, backing_that_changed_under_private_pages_is_seen_when_shared)
{
	struct kma_seen seen = {};

	kma_prepare(&self->g, KMA_ALL);
	fire(&self->g, &variant->event, 0, KMA_PAGES, KMA_ALL);
	kma_set(self->g.vm, self->g.gpa, KMA_SIZE, 0);

	seen.shared = variant->event.then == SAME ? KMA_ALL : 0;
	seen.zero = variant->event.then == ZERO ? KMA_ALL : 0;
	seen.fresh = variant->event.then == FRESH ? KMA_ALL : 0;
	KMA_ASSERT_FAULTS(&self->g, KMA_PAGES, seen);
}

/*
 * The file itself is what is mapped at userspace_addr. It has the memory, so that what
 * the guest sees is the same after each event.
 */
FIXTURE(in_place) {
	struct gmem m;
	struct userspace_mem_region region;
};

FIXTURE_VARIANT(in_place) {
	void (*fire)(struct userspace_mem_region *region, u64 offset, u64 size);
};

FIXTURE_VARIANT_ADD(in_place, file_madvise) {
	.fire = discard_mapping,
};

FIXTURE_VARIANT_ADD(in_place, file_mprotect) {
	.fire = forbid_and_allow,
};

FIXTURE_VARIANT_ADD(in_place, file_munmap) {
	.fire = unmap_memory,
};

FIXTURE_SETUP(in_place)
{
	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init_at_userspace_addr(&self->m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
	self->region.host_mem = self->m.mem;
}

FIXTURE_TEARDOWN(in_place)
{
	/* Something else may have come in its place. */
	if (variant->fire == unmap_memory)
		self->m.mem = NULL;
	gmem_free(&self->m);
}

/* These are private, the others shared, and all of them mapped by guest and host. */
static void prepare_in_place(struct gmem *m, u64 private)
{
	gmem_host_fill(m, KMA_ALL, KMA_KIND_NEW);
	gmem_set(m, private, KMA_PRIVATE, GMEM_PRESERVE);
	GMEM_ASSERT_PRIVATE(m, private);
	kma_look(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));
}

/* The event over some pages of the window costs these mappings, and no others. */
#define ASSERT_COSTS(_first, _nr, _pages)					\
do {										\
	u64 __pages = (_pages);							\
										\
	variant->fire(&self->region, (_first) * PAGE_SIZE, (_nr) * PAGE_SIZE);	\
	KMA_ASSERT_FAULTS(&self->m.g, 0, KMA_SEEN(.fresh = ~__pages));		\
	KMA_ASSERT_FAULTS(&self->m.g, __builtin_popcountll(__pages),		\
			  KMA_SEEN(.fresh = __pages));				\
} while (0)

TEST_F(in_place, private_pages_stay_mapped)
{
	prepare_in_place(&self->m, KMA_ALL);
	ASSERT_COSTS(0, KMA_PAGES, KMA_NONE);
}

TEST_F(in_place, shared_pages_are_zapped)
{
	prepare_in_place(&self->m, KMA_NONE);
	ASSERT_COSTS(0, KMA_PAGES, KMA_ALL);
}

TEST_F(in_place, alternate_pages_lose_the_shared_ones)
{
	prepare_in_place(&self->m, KMA_ODD);
	ASSERT_COSTS(0, KMA_PAGES, KMA_EVEN);
}

TEST_F(in_place, shared_pages_outside_the_event_stay_mapped)
{
	prepare_in_place(&self->m, KMA_NONE);
	ASSERT_COSTS(16, 32, KMA_MIDDLE);
}

TEST_F(in_place, event_across_a_private_run_takes_the_shared_ends)
{
	const u64 private = GENMASK_ULL(37, 14);

	prepare_in_place(&self->m, private);
	ASSERT_COSTS(10, 32, GENMASK_ULL(41, 10) & ~private);
}

TEST_HARNESS_MAIN
