// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_SET_MEMORY_ATTRIBUTES2 on a guest_memfd: which pages become private and
 * shared, and what of it the guest and userspace have mapped.
 */
#include <sys/wait.h>

#include "kvm_memattr_gmem.h"

FIXTURE(convert) {
	struct gmem m;
};

FIXTURE_VARIANT(convert) {
	u64 flags;
	/* What is private to begin with. */
	u64 private;
};

FIXTURE_VARIANT_ADD(convert, init_private) {
	.flags = GMEM_IN_PLACE,
	.private = KMA_ALL,
};

FIXTURE_VARIANT_ADD(convert, init_shared) {
	.flags = GMEM_SHARED,
	.private = KMA_NONE,
};

FIXTURE_SETUP(convert)
{
	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(&self->m, KVM_X86_SW_PROTECTED_VM, variant->flags);
}

FIXTURE_TEARDOWN(convert)
{
	gmem_free(&self->m);
}

/* The other state than the one that all pages begin in. */
static u64 other(u64 private)
{
	return private ? 0 : KMA_PRIVATE;
}

TEST_F(convert, flags_of_the_file_say_what_it_begins_as)
{
	GMEM_ASSERT_PRIVATE(&self->m, variant->private);
	kma_look(&self->m.g, KMA_SEEN(.zero = KMA_ALL));
}

TEST_F(convert, each_range_is_converted_and_nothing_beside_it)
{
	static const u64 ranges[] = {
		1, 1ull << 63, 1ull << 17, KMA_MIDDLE, KMA_ODD, KMA_EVEN, KMA_ALL,
		~1ull, ~(1ull << 63), 0xff,
	};
	const u64 begin = variant->private ? KMA_PRIVATE : 0;

	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		gmem_set(&self->m, ranges[i], other(variant->private), 0);
		GMEM_ASSERT_PRIVATE(&self->m, variant->private ^ ranges[i]);
		gmem_set(&self->m, ranges[i], begin, 0);
		GMEM_ASSERT_PRIVATE(&self->m, variant->private);
	}
}

TEST_F(convert, overlapping_ranges_add_up)
{
	struct gmem *m = &self->m;

	gmem_set(m, KMA_ALL, 0, 0);
	gmem_set(m, 0x0000ffffffffffffull, KMA_PRIVATE, 0);
	gmem_set(m, 0xffffff0000000000ull, KMA_PRIVATE, 0);
	GMEM_ASSERT_PRIVATE(m, KMA_ALL);
	gmem_set(m, KMA_MIDDLE, 0, 0);
	gmem_set(m, KMA_ODD, KMA_PRIVATE, 0);
	GMEM_ASSERT_PRIVATE(m, ~KMA_MIDDLE | KMA_ODD);
}

TEST_F(convert, guest_and_host_have_one_page_in_common)
{
	struct gmem *m = &self->m;

	gmem_set(m, KMA_ALL, 0, 0);
	kma_fill(&m->g, KMA_ODD, KMA_KIND_NEW);
	gmem_host_fill(m, KMA_EVEN, KMA_KIND_SHARED);
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ODD, .shared = KMA_EVEN));
	gmem_host_scan(m, KMA_SEEN(.fresh = KMA_ODD, .shared = KMA_EVEN));
}

/* The slot's own userspace address is of no use to the guest. */
TEST_F(convert, slots_userspace_address_backs_neither_state)
{
	struct gmem *m = &self->m;

	kma_host_write(&m->g, KMA_ALL, KMA_KIND_SHARED);
	gmem_set(m, KMA_ALL, KMA_PRIVATE, 0);
	gmem_set(m, KMA_ODD, 0, 0);
	kma_look(&m->g, KMA_SEEN(.zero = KMA_ALL));
}

TEST_F(convert, only_pages_that_change_lose_the_guests_mapping)
{
	struct gmem *m = &self->m;

	gmem_set(m, KMA_ODD, other(variant->private), 0);
	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));

	GMEM_ASSERT_SET(m->fd, 0, KMA_SIZE, other(variant->private), GMEM_PRESERVE);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ODD));
	KMA_ASSERT_FAULTS(&m->g, KMA_PAGES / 2, KMA_SEEN(.fresh = KMA_EVEN));
}

TEST_F(convert, neighbours_keep_the_guests_mapping)
{
	struct gmem *m = &self->m;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	gmem_set(m, KMA_MIDDLE, other(variant->private), GMEM_PRESERVE);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = ~KMA_MIDDLE));
	KMA_ASSERT_FAULTS(&m->g, 32, KMA_SEEN(.fresh = KMA_MIDDLE));
}

TEST_F(convert, setting_what_is_set_changes_nothing)
{
	struct gmem *m = &self->m;
	u64 conversions, pages;

	gmem_set(m, KMA_MIDDLE, other(variant->private), 0);
	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));
	conversions = kma_total("conversions");
	pages = kma_total("pages_converted");

	for (int i = 0; i < ARRAY_SIZE(gmem_policies); i++) {
		gmem_set(m, KMA_MIDDLE, other(variant->private), gmem_policies[i]);
		gmem_set(m, ~KMA_MIDDLE, variant->private ? KMA_PRIVATE : 0, gmem_policies[i]);
	}
	TEST_ASSERT_EQ(kma_total("conversions"), conversions);
	TEST_ASSERT_EQ(kma_total("pages_converted"), pages);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ALL));
}

TEST_F(convert, the_module_counts_conversions_and_the_pages_that_change)
{
	struct gmem *m = &self->m;
	u64 conversions = kma_total("conversions"), pages = kma_total("pages_converted");

	GMEM_ASSERT_SET(m->fd, 0, 16 * PAGE_SIZE, other(variant->private), 0);
	TEST_ASSERT_EQ(kma_total("conversions"), conversions + 1);
	TEST_ASSERT_EQ(kma_total("pages_converted"), pages + 16);

	GMEM_ASSERT_SET(m->fd, 8 * PAGE_SIZE, 16 * PAGE_SIZE, other(variant->private), 0);
	TEST_ASSERT_EQ(kma_total("conversions"), conversions + 2);
	TEST_ASSERT_EQ(kma_total("pages_converted"), pages + 24);
}

/* The guest asks for it, as guests do: the exit is KVM_EXIT_HYPERCALL. */
static void asking_guest_code(u64 gpa, u64 flags)
{
	kvm_hypercall_map_gpa_range(gpa, PAGE_SIZE, flags);
	GUEST_ASSERT_EQ(READ_ONCE(*(u64 *)gpa), kma_word(KMA_KIND_NEW, gpa));
	WRITE_ONCE(*(u64 *)gpa, kma_word(KMA_KIND_PRIVATE, gpa));
	GUEST_DONE();
}

TEST_F(convert, guest_that_asks_goes_on_in_the_state_that_it_asked_for)
{
	const u64 to = other(variant->private), page = 9, at = page * PAGE_SIZE;
	struct gmem *m = &self->m;
	struct kvm_run *run = m->g.vcpu->run;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	vm_enable_cap(m->g.vm, KVM_CAP_EXIT_HYPERCALL, BIT(KVM_HC_MAP_GPA_RANGE));
	vcpu_arch_set_entry_point(m->g.vcpu, asking_guest_code);
	vcpu_args_set(m->g.vcpu, 2, m->g.gpa + at,
		      to ? KVM_MAP_GPA_RANGE_ENCRYPTED : KVM_MAP_GPA_RANGE_DECRYPTED);

	vcpu_run(m->g.vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(m->g.vcpu, KVM_EXIT_HYPERCALL);
	TEST_ASSERT_EQ(run->hypercall.nr, KVM_HC_MAP_GPA_RANGE);
	GMEM_ASSERT_SET(m->fd, at, PAGE_SIZE, to, GMEM_PRESERVE);
	run->hypercall.ret = 0;

	vcpu_run(m->g.vcpu);
	TEST_ASSERT_EQ(get_ucall(m->g.vcpu, NULL), UCALL_DONE);
	GMEM_ASSERT_PRIVATE(m, variant->private ^ 1ull << page);
	gmem_set(m, KMA_ALL, 0, GMEM_PRESERVE);
	TEST_ASSERT_EQ(*(u64 *)gmem_page(m, page), kma_word(KMA_KIND_PRIVATE, m->g.gpa + at));
}

/* The file belongs to whoever has it open: a VM's own ioctls do not work there. */
TEST_F(convert, another_process_converts_by_the_file)
{
	struct gmem *m = &self->m;
	int status;
	pid_t child;

	child = fork();
	TEST_ASSERT(child >= 0, "fork: %s", strerror(errno));
	if (!child) {
		struct kvm_memory_attributes2 attr = gmem_attr(0, 4 * PAGE_SIZE,
							       other(variant->private), 0);

		_exit(__gmem_ioctl(m->fd, &attr) ? errno : 0);
	}
	TEST_ASSERT_EQ(waitpid(child, &status, 0), child);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "the child's call: %s",
		    strerror(WEXITSTATUS(status)));
	GMEM_ASSERT_PRIVATE(m, variant->private ^ 0xf);
}

TEST_F(convert, prefaulted_pages_are_of_the_state_that_holds)
{
	struct kvm_pre_fault_memory range = { .gpa = self->m.g.gpa, .size = KMA_SIZE };
	struct gmem *m = &self->m;

	/* The guest's own code is mapped afterwards, and what is converted is not. */
	kma_look(&m->g, KMA_SEEN(.zero = KMA_ALL));
	gmem_set(m, KMA_ODD, other(variant->private), 0);
	vcpu_ioctl(m->g.vcpu, KVM_PRE_FAULT_MEMORY, &range);
	TEST_ASSERT_EQ(range.size, 0);
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.zero = KMA_ALL));
	GMEM_ASSERT_PRIVATE(m, variant->private ^ KMA_ODD);
}

/* Types without private memory: 0 is all that can be set, and the guest never asks. */
FIXTURE(plain) {
	struct gmem m;
};

FIXTURE_VARIANT(plain) {
	u64 flags;
	/* What is private to begin with. */
	u64 private;
};

FIXTURE_VARIANT_ADD(plain, init_private) {
	.flags = GMEM_IN_PLACE,
	.private = KMA_ALL,
};

FIXTURE_VARIANT_ADD(plain, init_shared) {
	.flags = GMEM_SHARED,
	.private = KMA_NONE,
};

FIXTURE_SETUP(plain)
{
	gmem_init(&self->m, KVM_X86_DEFAULT_VM, variant->flags);
}

FIXTURE_TEARDOWN(plain)
{
	gmem_free(&self->m);
}

TEST_F(plain, guest_uses_pages_of_either_state)
{
	struct gmem *m = &self->m;

	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	GMEM_ASSERT_PRIVATE(m, variant->private);
}

TEST_F(plain, shared_pages_can_be_mapped)
{
	struct gmem *m = &self->m;

	GMEM_ASSERT_SET(m->fd, 16 * PAGE_SIZE, 32 * PAGE_SIZE, 0, 0);
	GMEM_ASSERT_PRIVATE(m, variant->private & ~KMA_MIDDLE);
	gmem_host_fill(m, KMA_MIDDLE, KMA_KIND_NEW);
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_MIDDLE, .zero = ~KMA_MIDDLE));
}

TEST_F(plain, private_is_einval)
{
	struct gmem *m = &self->m;

	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, m->fd, 0, KMA_SIZE, KMA_PRIVATE, 0);
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, m->fd, 0, PAGE_SIZE, KMA_PRIVATE, GMEM_PRESERVE);
	GMEM_ASSERT_PRIVATE(m, variant->private);
}

/* A file as large as files get: the work is by what is stored and allocated. */
#define HUGE_SIZE	BIT_ULL(47)

FIXTURE(sparse) {
	struct kvm_vm *vm;
	int fd;
};

FIXTURE_SETUP(sparse)
{
	KMA_REQUIRE_PROTECTED_VMS();
	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->fd = vm_create_guest_memfd(self->vm, HUGE_SIZE, GMEM_IN_PLACE);
	gmem_catch_sigbus();
}

FIXTURE_TEARDOWN(sparse)
{
	if (!self->vm)
		return;
	if (self->fd >= 0)
		kvm_close(self->fd);
	kvm_vm_free(self->vm);
}

/* Userspace's page tables have no room for all of it. */
static bool is_private(int fd, u64 offset)
{
	void *page = __kvm_mmap(PAGE_SIZE, PROT_READ, MAP_SHARED, fd, offset);
	u64 value;
	bool loaded;

	loaded = gmem_load(page, &value);
	kvm_munmap(page, PAGE_SIZE);
	return !loaded;
}

static void assert_all(int fd, bool private)
{
	static const u64 offsets[] = {
		0, PAGE_SIZE, SZ_2M, SZ_1G, HUGE_SIZE / 2 - PAGE_SIZE, HUGE_SIZE / 2,
		HUGE_SIZE - SZ_2M, HUGE_SIZE - PAGE_SIZE,
	};

	for (int i = 0; i < ARRAY_SIZE(offsets); i++)
		TEST_ASSERT(is_private(fd, offsets[i]) == private, "0x%lx is %s", offsets[i],
			    private ? "shared" : "private");
}

TEST_F(sparse, whole_file_is_converted_and_back)
{
	for (int i = 0; i < ARRAY_SIZE(gmem_policies); i++) {
		GMEM_ASSERT_SET(self->fd, 0, HUGE_SIZE, 0, gmem_policies[i]);
		assert_all(self->fd, false);
		GMEM_ASSERT_SET(self->fd, 0, HUGE_SIZE, KMA_PRIVATE, gmem_policies[i]);
		assert_all(self->fd, true);
	}
}

TEST_F(sparse, both_ends_differ_from_the_middle)
{
	GMEM_ASSERT_SET(self->fd, PAGE_SIZE, HUGE_SIZE - 2 * PAGE_SIZE, 0, 0);
	TEST_ASSERT(is_private(self->fd, 0), "the first page is shared");
	TEST_ASSERT(!is_private(self->fd, PAGE_SIZE), "the second page is private");
	TEST_ASSERT(!is_private(self->fd, HUGE_SIZE - 2 * PAGE_SIZE),
		    "the last page but one is private");
	TEST_ASSERT(is_private(self->fd, HUGE_SIZE - PAGE_SIZE), "the last page is shared");
}

/* Far less than a second, were it not for the emulation. */
#define SOON	5

TEST_F(sparse, whole_file_is_converted_and_destroyed_at_once)
{
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (u64 at = SZ_1G; at < HUGE_SIZE; at *= 2)
		GMEM_ASSERT_SET(self->fd, at, SZ_1G + PAGE_SIZE, 0, 0);
	GMEM_ASSERT_SET(self->fd, 0, HUGE_SIZE, 0, 0);
	GMEM_ASSERT_SET(self->fd, 0, HUGE_SIZE, KMA_PRIVATE, 0);
	GMEM_ASSERT_SET(self->fd, PAGE_SIZE, HUGE_SIZE - PAGE_SIZE, 0, 0);
	kvm_free_fd(self->fd);
	TEST_ASSERT(timespec_elapsed(start).tv_sec < SOON, "it took %ld s",
		    timespec_elapsed(start).tv_sec);
}

TEST_HARNESS_MAIN
