// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM_SET_MEMORY_ATTRIBUTES does to the pages of its range, and to no
 * other: as the module holds it, and as the guest sees it.
 */
#include <sys/time.h>

#include "kvm_memattr_guest.h"

FIXTURE(set) {
	struct kma_guest g;
	struct kma_view view;
	char line[64];
};

FIXTURE_SETUP(set)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
	self->view = kma_view_of(self->g.vm);
}

FIXTURE_TEARDOWN(set)
{
	kvm_vm_free(self->g.vm);
}

/* The module holds one private run and no other. */
static void assert_one_run(const struct kma_view *view, u64 gpa, u64 size)
{
	char line[64];

	KMA_RUN_PRIVATE(line, gpa, size);
	kma_assert_runs(view, line);
}

static void set_page(struct kma_guest *g, u64 page, u64 attributes)
{
	kma_set(g->vm, g->gpa + page * PAGE_SIZE, PAGE_SIZE, attributes);
}

TEST_F(set, new_vm_has_no_attributes)
{
	kma_assert_runs(&self->view, "");
}

TEST_F(set, private_is_held_for_exactly_the_range)
{
	kma_set(self->g.vm, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE, KMA_PRIVATE);
	assert_one_run(&self->view, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE);
}

TEST_F(set, private_is_seen_in_exactly_the_range)
{
	kma_prepare(&self->g, KMA_NONE);
	kma_set(self->g.vm, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE, KMA_PRIVATE);
	kma_look(&self->g, KMA_SEEN_PRIVATE(KMA_MIDDLE));
	assert_one_run(&self->view, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE);
}

TEST_F(set, one_page_in_the_middle_leaves_both_neighbours)
{
	kma_prepare(&self->g, KMA_NONE);
	set_page(&self->g, 30, KMA_PRIVATE);
	kma_look(&self->g, KMA_SEEN_PRIVATE(1ull << 30));
	assert_one_run(&self->view, self->g.gpa + 30 * PAGE_SIZE, PAGE_SIZE);
}

TEST_F(set, one_shared_page_in_the_middle_leaves_both_neighbours)
{
	char lines[128];
	int length;

	kma_prepare(&self->g, KMA_ALL);
	set_page(&self->g, 30, 0);
	kma_look(&self->g, KMA_SEEN_PRIVATE(~(1ull << 30)));

	length = snprintf(lines, sizeof(lines), "0x%016llx 0x%llx 0x8 PRIVATE\n",
			  (unsigned long long)self->g.gpa, 30 * PAGE_SIZE);
	snprintf(lines + length, sizeof(lines) - length, "0x%016llx 0x%llx 0x8 PRIVATE\n",
		 self->g.gpa + 31 * PAGE_SIZE, 33 * PAGE_SIZE);
	kma_assert_runs(&self->view, lines);
}

TEST_F(set, first_page_of_the_slot)
{
	kma_prepare(&self->g, KMA_NONE);
	set_page(&self->g, 0, KMA_PRIVATE);
	kma_look(&self->g, KMA_SEEN_PRIVATE(1ull));
	assert_one_run(&self->view, self->g.gpa, PAGE_SIZE);
}

TEST_F(set, last_page_of_the_slot)
{
	kma_prepare(&self->g, KMA_NONE);
	set_page(&self->g, KMA_PAGES - 1, KMA_PRIVATE);
	kma_look(&self->g, KMA_SEEN_PRIVATE(1ull << (KMA_PAGES - 1)));
	assert_one_run(&self->view, self->g.gpa + KMA_SIZE - PAGE_SIZE, PAGE_SIZE);
}

TEST_F(set, pages_set_one_by_one_are_one_run)
{
	static const u8 order[] = { 3, 1, 4, 0, 2 };

	for (unsigned int i = 0; i < ARRAY_SIZE(order); i++)
		set_page(&self->g, order[i], KMA_PRIVATE);
	assert_one_run(&self->view, self->g.gpa, 5 * PAGE_SIZE);
}

TEST_F(set, zero_deletes_what_was_set)
{
	kma_set(self->g.vm, self->g.gpa, KMA_SIZE, KMA_PRIVATE);
	kma_set(self->g.vm, self->g.gpa, KMA_SIZE, 0);
	kma_assert_runs(&self->view, "");
}

TEST_F(set, alternate_pages_are_as_many_runs)
{
	char *runs, *line;
	int i = 1;

	kma_prepare(&self->g, KMA_ODD);

	runs = kma_runs(&self->view);
	for (line = strtok(runs, "\n"); line; line = strtok(NULL, "\n"), i += 2) {
		KMA_RUN_PRIVATE(self->line, self->g.gpa + i * PAGE_SIZE, PAGE_SIZE);
		TEST_ASSERT(!strncmp(line, self->line, strlen(line)),
			    "wanted %sgot %s", self->line, line);
	}
	TEST_ASSERT_EQ(i, KMA_PAGES + 1);
	free(runs);
}

TEST_F(set, setting_what_is_set_succeeds_and_zaps_nothing)
{
	u64 zapped, unchanged;

	kma_prepare(&self->g, KMA_ALL);
	zapped = kma_stat(&self->view, "runs_zapped");
	unchanged = kma_stat(&self->view, "sets_unchanged");

	for (int i = 0; i < 10; i++)
		kma_set(self->g.vm, self->g.gpa, KMA_SIZE, KMA_PRIVATE);

	TEST_ASSERT_EQ(kma_stat(&self->view, "runs_zapped"), zapped);
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets_unchanged"), unchanged + 10);
	assert_one_run(&self->view, self->g.gpa, KMA_SIZE);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN_PRIVATE(KMA_ALL));
}

TEST_F(set, setting_what_is_set_in_part_changes_the_rest)
{
	u64 unchanged;

	kma_prepare(&self->g, KMA_MIDDLE);
	unchanged = kma_stat(&self->view, "sets_unchanged");

	kma_set(self->g.vm, self->g.gpa, KMA_SIZE, KMA_PRIVATE);
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets_unchanged"), unchanged);
	kma_look(&self->g, KMA_SEEN_PRIVATE(KMA_ALL));
	assert_one_run(&self->view, self->g.gpa, KMA_SIZE);
}

TEST_F(set, range_without_a_slot)
{
	const u64 gpa = KMA_GPA + 64 * (u64)SZ_1G;

	kma_set(self->g.vm, gpa, 3 * PAGE_SIZE, KMA_PRIVATE);
	assert_one_run(&self->view, gpa, 3 * PAGE_SIZE);
}

TEST_F(set, range_from_before_a_slot_to_after_it)
{
	kma_prepare(&self->g, KMA_NONE);
	kma_set(self->g.vm, self->g.gpa - SZ_1M, SZ_1M + KMA_SIZE + SZ_1M, KMA_PRIVATE);
	kma_look(&self->g, KMA_SEEN_PRIVATE(KMA_ALL));
	assert_one_run(&self->view, self->g.gpa - SZ_1M, SZ_1M + KMA_SIZE + SZ_1M);
}

TEST_F(set, first_page_of_all)
{
	kma_set(self->g.vm, 0, PAGE_SIZE, KMA_PRIVATE);
	assert_one_run(&self->view, 0, PAGE_SIZE);
}

TEST_F(set, last_page_whose_end_does_not_wrap)
{
	kma_set(self->g.vm, -2 * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	assert_one_run(&self->view, -2 * PAGE_SIZE, PAGE_SIZE);
}

TEST_F(set, range_of_256_mib)
{
	kma_set(self->g.vm, KMA_GPA + PAGE_SIZE, SZ_256M, KMA_PRIVATE);
	assert_one_run(&self->view, KMA_GPA + PAGE_SIZE, SZ_256M);
	kma_set(self->g.vm, KMA_GPA + PAGE_SIZE, SZ_256M, 0);
	kma_assert_runs(&self->view, "");
}

TEST_F(set, zero_on_a_huge_range_costs_what_is_there)
{
	kma_set(self->g.vm, PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	kma_set(self->g.vm, 1ull << 60, PAGE_SIZE, KMA_PRIVATE);
	kma_set(self->g.vm, 0, 1ull << 62, 0);
	kma_assert_runs(&self->view, "");
}

/*
 * Nearly all addresses that a request can name (the guest's own code is below): 2^52
 * pages, of which hardly any is in a slot. What is in none takes no time.
 */
TEST_F(set, all_addresses_at_once)
{
	const u64 all = (~0ull << PAGE_SHIFT) - KMA_GPA;
	struct timespec start;

	kma_prepare(&self->g, KMA_MIDDLE);
	clock_gettime(CLOCK_MONOTONIC, &start);
	kma_set(self->g.vm, KMA_GPA, all, KMA_PRIVATE);
	assert_one_run(&self->view, KMA_GPA, all);
	kma_look(&self->g, KMA_SEEN_PRIVATE(KMA_ALL));
	kma_set(self->g.vm, KMA_GPA, all, 0);
	kma_assert_runs(&self->view, "");
	kma_look(&self->g, KMA_SEEN_PRIVATE(KMA_NONE));
	TEST_ASSERT(timespec_elapsed(start).tv_sec < 20, "this took %ld s",
		    timespec_elapsed(start).tv_sec);
}

TEST_F(set, two_vms_are_independent)
{
	struct kma_guest other;
	struct kma_view other_view;

	kma_protected_guest_init(&other);
	other_view = kma_view_of(other.vm);

	kma_prepare(&self->g, KMA_MIDDLE);
	kma_assert_runs(&other_view, "");

	kma_prepare(&other, KMA_NONE);
	set_page(&other, 0, KMA_PRIVATE);
	assert_one_run(&other_view, other.gpa, PAGE_SIZE);
	assert_one_run(&self->view, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE);
	kma_look(&self->g, KMA_SEEN_PRIVATE(KMA_MIDDLE));
	kma_look(&other, KMA_SEEN_PRIVATE(1ull));

	kvm_vm_free(other.vm);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN_PRIVATE(KMA_MIDDLE));
	assert_one_run(&self->view, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE);
}

TEST_F(set, request_is_not_written_back)
{
	struct kma_memory {
		u8 before[32];
		struct kvm_memory_attributes attr;
		u8 after[32];
	} memory, copy;

	memset(&memory, 0x5a, sizeof(memory));
	memory.attr = (struct kvm_memory_attributes) {
		.address = self->g.gpa,
		.size = KMA_SIZE,
		.attributes = KMA_PRIVATE,
	};
	copy = memory;
	vm_ioctl(self->g.vm, KVM_SET_MEMORY_ATTRIBUTES, &memory.attr);
	TEST_ASSERT(!memcmp(&memory, &copy, sizeof(memory)), "the request was written to");
}

TEST_F(set, request_in_read_only_memory)
{
	struct kvm_memory_attributes *attr;

	attr = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	attr->address = self->g.gpa;
	attr->size = KMA_SIZE;
	attr->attributes = KMA_PRIVATE;
	TEST_ASSERT(!mprotect(attr, PAGE_SIZE, PROT_READ), "mprotect: %s", strerror(errno));
	vm_ioctl(self->g.vm, KVM_SET_MEMORY_ATTRIBUTES, attr);
	assert_one_run(&self->view, self->g.gpa, KMA_SIZE);
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	signals++;
}

/* Never EINTR, never EAGAIN, never a part of the range: no client retries. */
TEST_F(set, signals_do_not_stop_a_request)
{
	struct sigaction action = { .sa_handler = on_signal };
	const struct itimerval off = {};
	int interrupted = 0;

	sigaction(SIGALRM, &action, NULL);

	for (int i = 0; i < 20; i++) {
		struct kvm_memory_attributes attr = {
			.address = KMA_GPA,
			.size = SZ_16M,
			.attributes = i % 2 ? 0 : KMA_PRIVATE,
		};
		const struct kvm_memory_attributes copy = attr;
		struct itimerval soon = {};
		int seen;

		/* What is in pieces takes a while to set, and to make. */
		for (u64 page = 1; page < SZ_2M / PAGE_SIZE; page += 2)
			kma_set(self->g.vm, KMA_GPA + page * PAGE_SIZE, PAGE_SIZE,
				attr.attributes);
		seen = signals;

		/* One signal, sooner or later: how long a request takes isn't known. */
		soon.it_value.tv_usec = 50 << (i % 8);
		setitimer(ITIMER_REAL, &soon, NULL);
		vm_ioctl(self->g.vm, KVM_SET_MEMORY_ATTRIBUTES, &attr);
		interrupted += signals != seen;
		setitimer(ITIMER_REAL, &off, NULL);
		TEST_ASSERT(!memcmp(&attr, &copy, sizeof(attr)), "the request was written to");

		if (i % 2)
			kma_assert_runs(&self->view, "");
		else
			assert_one_run(&self->view, KMA_GPA, SZ_16M);
	}

	TEST_ASSERT(interrupted, "not one of the requests had a signal to ignore");
}

TEST_HARNESS_MAIN
