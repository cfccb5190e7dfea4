// SPDX-License-Identifier: GPL-2.0
/*
 * The VM's commands beside memory that is converted in place:
 * KVM_SET_MEMORY_ATTRIBUTES2 on a VM is KVM_SET_MEMORY_ATTRIBUTES that says where
 * it failed, PRIVATE is refused where a guest_memfd keeps it, and restrictions
 * bind there as elsewhere.
 */
#include <sys/wait.h>

#include "kvm_memattr_gmem.h"
#include "kvm_memattr_observe.h"

FIXTURE(vm) {
	struct kma_guest g;
	struct kma_view view;
};

FIXTURE_SETUP(vm)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
	self->view = kma_view_of(self->g.vm);
}

FIXTURE_TEARDOWN(vm)
{
	kvm_vm_free(self->g.vm);
}

TEST_F(vm, set2_sets_what_set_sets)
{
	struct kma_guest *g = &self->g;
	char line[64];

	kma_prepare(g, KMA_NONE);
	GMEM_ASSERT_SET(g->vm->fd, g->gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE, KMA_PRIVATE, 0);
	KMA_RUN_PRIVATE(line, g->gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE);
	kma_assert_runs(&self->view, line);
	KMA_ASSERT_FAULTS(g, 0, KMA_SEEN(.shared = ~KMA_MIDDLE));
	KMA_ASSERT_FAULTS(g, 32, KMA_SEEN(.private = KMA_MIDDLE));

	GMEM_ASSERT_SET(g->vm->fd, g->gpa, KMA_SIZE, 0, 0);
	kma_assert_runs(&self->view, "");
	kma_look(g, KMA_SEEN(.shared = KMA_ALL));
}

TEST_F(vm, set2_sets_each_valid_word_and_set_replaces_it)
{
	static const u64 words[] = {
		KMA_NW, KMA_NX, KMA_NW | KMA_NX, KMA_NO_ACCESS, KMA_PRIVATE,
	};
	struct kvm_vm *vm = self->g.vm;

	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		char *by_set2;

		GMEM_ASSERT_SET(vm->fd, KMA_GPA, KMA_SIZE, words[i], 0);
		by_set2 = kma_runs(&self->view);
		kma_set(vm, KMA_GPA, KMA_SIZE, 0);
		kma_assert_runs(&self->view, "");
		kma_set(vm, KMA_GPA, KMA_SIZE, words[i]);
		kma_assert_runs(&self->view, by_set2);
		free(by_set2);
	}
}

TEST_F(vm, set2_needs_no_slot)
{
	char line[64];

	GMEM_ASSERT_SET(self->g.vm->fd, BIT_ULL(45), SZ_1G, KMA_PRIVATE, 0);
	KMA_RUN_PRIVATE(line, BIT_ULL(45), SZ_1G);
	kma_assert_runs(&self->view, line);
}

#define ASSERT_VM_EINVAL(...)							\
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, self->g.vm->fd, __VA_ARGS__)

TEST_F(vm, what_set_refuses_is_einval)
{
	const u64 gpa = self->g.gpa;

	ASSERT_VM_EINVAL(gpa + 1, PAGE_SIZE, KMA_PRIVATE, 0);
	ASSERT_VM_EINVAL(gpa, PAGE_SIZE + 1, KMA_PRIVATE, 0);
	ASSERT_VM_EINVAL(gpa, 0, KMA_PRIVATE, 0);
	ASSERT_VM_EINVAL(gpa, -PAGE_SIZE, KMA_PRIVATE, 0);
	ASSERT_VM_EINVAL(-PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE, 0);
	ASSERT_VM_EINVAL(gpa, KMA_SIZE, KMA_PRIVATE | KMA_NW, 0);
	ASSERT_VM_EINVAL(gpa, KMA_SIZE, KMA_NR, 0);
	for (int bit = 4; bit < 64; bit++)
		ASSERT_VM_EINVAL(gpa, KMA_SIZE, BIT_ULL(bit), 0);
	kma_assert_runs(&self->view, "");
}

TEST_F(vm, unknown_flags_layers_and_reserved_fields_are_einval)
{
	const struct kvm_memory_attributes2 good = gmem_attr(self->g.gpa, KMA_SIZE, KMA_PRIVATE, 0);
	struct kvm_memory_attributes2 attr;
	int fd = self->g.vm->fd;

	for (int bit = 3; bit < 64; bit++)
		ASSERT_VM_EINVAL(self->g.gpa, KMA_SIZE, KMA_PRIVATE, BIT_ULL(bit));
	for (u32 bit = 1; bit; bit <<= 1) {
		/* PRIVATE of a layer other than the base layer, or there is no such layer. */
		attr = good;
		attr.layer = bit;
		GMEM_ASSERT_ATTR_FAILS(EINVAL, GMEM_UNWRITTEN, fd, attr);
		attr = good;
		attr.pad = bit;
		GMEM_ASSERT_ATTR_FAILS(EINVAL, GMEM_UNWRITTEN, fd, attr);
	}
	for (int i = 0; i < ARRAY_SIZE(attr.reserved); i++) {
		attr = good;
		attr.reserved[i] = 1;
		GMEM_ASSERT_ATTR_FAILS(EINVAL, GMEM_UNWRITTEN, fd, attr);
	}
	kma_assert_runs(&self->view, "");
}

TEST_F(vm, each_policy_is_eopnotsupp)
{
	int fd = self->g.vm->fd;
	u64 gpa = self->g.gpa;

	for (int i = 0; i < ARRAY_SIZE(gmem_policies); i++) {
		if (!gmem_policies[i])
			continue;
		GMEM_ASSERT_FAILS(EOPNOTSUPP, gpa, fd, gpa, KMA_SIZE, KMA_PRIVATE,
				  gmem_policies[i]);
		GMEM_ASSERT_FAILS(EOPNOTSUPP, gpa, fd, gpa, KMA_SIZE, 0, gmem_policies[i]);
		/* What is invalid is so with a policy, too. */
		ASSERT_VM_EINVAL(gpa, 0, KMA_PRIVATE, gmem_policies[i]);
		ASSERT_VM_EINVAL(gpa, KMA_SIZE, KMA_NR, gmem_policies[i]);
	}
	ASSERT_VM_EINVAL(gpa, KMA_SIZE, KMA_PRIVATE, GMEM_ZERO | GMEM_PRESERVE);
	kma_assert_runs(&self->view, "");
}

TEST_F(vm, bad_pointer_is_efault)
{
	void *none = kvm_mmap(PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	KMA_ASSERT_ERRNO(EFAULT, __gmem_ioctl(self->g.vm->fd, NULL));
	KMA_ASSERT_ERRNO(EFAULT, __gmem_ioctl(self->g.vm->fd, none));
}

TEST_F(vm, another_processes_vm_is_eio)
{
	int status;
	pid_t child;

	child = fork();
	TEST_ASSERT(child >= 0, "fork: %s", strerror(errno));
	if (!child) {
		struct kvm_memory_attributes2 attr = gmem_attr(self->g.gpa, KMA_SIZE, KMA_PRIVATE,
							       0);
		int ret = __gmem_ioctl(self->g.vm->fd, &attr);

		_exit(ret == -1 && errno == EIO && attr.error_offset == GMEM_UNWRITTEN ? 0 : 1);
	}
	TEST_ASSERT_EQ(waitpid(child, &status, 0), child);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "the child wanted EIO");
	kma_assert_runs(&self->view, "");
}

TEST_F(vm, dead_vm_is_eio)
{
	kma_kill(self->g.vcpu);
	GMEM_ASSERT_FAILS(EIO, GMEM_UNWRITTEN, self->g.vm->fd, self->g.gpa, KMA_SIZE, KMA_PRIVATE,
			  0);
	kma_assert_runs(&self->view, "");
}

/* A slot whose guest_memfd keeps what is private, and memory without a slot around it. */
FIXTURE(in_place) {
	struct gmem m;
	struct kma_view view;
	int observer;
};

FIXTURE_SETUP(in_place)
{
	struct gmem *m = &self->m;

	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
	self->view = kma_view_of(m->g.vm);
	self->observer = kma_observer_open();
	gmem_set(m, KMA_MIDDLE, KMA_PRIVATE, 0);
	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
}

/* Whatever a VM's command did, it has converted nothing. */
FIXTURE_TEARDOWN(in_place)
{
	struct gmem *m = &self->m;

	if (!m->g.vm)
		return;
	GMEM_ASSERT_PRIVATE(m, KMA_MIDDLE);
	close(self->observer);
	gmem_free(m);
}

#define GIB	((u64)SZ_1G)

/* Both commands refuse it, and only the one has a place to say where. */
#define ASSERT_EPERM(_where, _gpa, _size)					\
do {										\
	KMA_ASSERT_ERRNO(EPERM, __kma_set(self->m.g.vm, _gpa, _size, KMA_PRIVATE));\
	GMEM_ASSERT_FAILS(EPERM, _where, self->m.g.vm->fd, _gpa, _size, KMA_PRIVATE, 0);\
} while (0)

TEST_F(in_place, private_is_eperm_at_the_first_gpa_of_the_slot)
{
	const u64 gpa = self->m.g.gpa, end = gpa + KMA_SIZE;
	struct gmem *m = &self->m;

	ASSERT_EPERM(gpa, gpa, KMA_SIZE);
	ASSERT_EPERM(gpa, gpa, PAGE_SIZE);
	ASSERT_EPERM(gpa, gpa - PAGE_SIZE, 2 * PAGE_SIZE);
	ASSERT_EPERM(gpa, gpa - SZ_1G, BIT_ULL(40));
	ASSERT_EPERM(gpa + 20 * PAGE_SIZE, gpa + 20 * PAGE_SIZE, PAGE_SIZE);
	ASSERT_EPERM(end - PAGE_SIZE, end - PAGE_SIZE, SZ_1G);

	kma_assert_runs(&self->view, "");
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));
}

TEST_F(in_place, private_beside_the_slot_is_set)
{
	const u64 gpa = self->m.g.gpa;
	char below[64], above[64], runs[128];

	kma_set(self->m.g.vm, gpa - SZ_1G, SZ_1G, KMA_PRIVATE);
	GMEM_ASSERT_SET(self->m.g.vm->fd, gpa + KMA_SIZE, SZ_1G, KMA_PRIVATE, 0);
	KMA_RUN_PRIVATE(below, gpa - SZ_1G, SZ_1G);
	KMA_RUN_PRIVATE(above, gpa + KMA_SIZE, SZ_1G);
	snprintf(runs, sizeof(runs), "%s%s", below, above);
	kma_assert_runs(&self->view, runs);
}

TEST_F(in_place, first_of_several_slots_is_named)
{
	struct gmem *m = &self->m;
	u64 gpa = m->g.gpa - SZ_1G;

	/* One that keeps nothing, and one that does, both below the window. */
	vm_mem_add(m->g.vm, VM_MEM_SRC_SHMEM, gpa, KMA_SLOT + 1, KMA_PAGES,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	vm_mem_add(m->g.vm, VM_MEM_SRC_SHMEM, gpa + 2 * KMA_SIZE, KMA_SLOT + 2, KMA_PAGES,
		   KVM_MEM_GUEST_MEMFD, vm_create_guest_memfd(m->g.vm, KMA_SIZE, GMEM_IN_PLACE),
		   0);
	ASSERT_EPERM(gpa + 2 * KMA_SIZE, gpa, 2 * GIB);
	kma_set(m->g.vm, gpa, 2 * KMA_SIZE, KMA_PRIVATE);
	vm_mem_region_delete(m->g.vm, KMA_SLOT + 2);
	ASSERT_EPERM(m->g.gpa, gpa, 2 * GIB);
}

TEST_F(in_place, nothing_at_all_can_be_set)
{
	struct gmem *m = &self->m;

	kma_set(m->g.vm, m->g.gpa, KMA_SIZE, 0);
	GMEM_ASSERT_SET(m->g.vm->fd, m->g.gpa - SZ_1G, 2 * GIB, 0, 0);
	kma_assert_runs(&self->view, "");
	KMA_ASSERT_FAULTS(&m->g, 0, KMA_SEEN(.fresh = KMA_ALL));
}

/* The guest tries, exits for it, and goes on once it may. */
static void assert_denied(struct gmem *m, enum kma_op op, u64 page, u64 flag)
{
	u64 gpa = m->g.gpa + page * PAGE_SIZE;

	kma_issue(m->g.vcpu, op, m->g.gpa, 1ull << page, KMA_KIND_NEW);
	kma_finish_in_fault(m->g.vcpu, EFAULT, gpa, flag);
	kma_finish_in_fault(m->g.vcpu, EFAULT, gpa, flag);
	kma_set(m->g.vm, gpa, PAGE_SIZE, 0);
	kma_finish(m->g.vcpu);
}

#define PRIVATE_PAGE	20
#define SHARED_PAGE	5

TEST_F(in_place, restrictions_bind_pages_of_both_states)
{
	static const u64 pages[] = { PRIVATE_PAGE, SHARED_PAGE };
	struct gmem *m = &self->m;

	for (int i = 0; i < ARRAY_SIZE(pages); i++) {
		u64 gpa = m->g.gpa + pages[i] * PAGE_SIZE, page = 1ull << pages[i];

		kma_set(m->g.vm, gpa, PAGE_SIZE, KMA_NW);
		kma_look(&m->g, KMA_SEEN(.fresh = page));
		assert_denied(m, KMA_OP_WRITE, pages[i], KVM_MEMORY_EXIT_FLAG_WRITE);

		GMEM_ASSERT_SET(m->g.vm->fd, gpa, PAGE_SIZE, KMA_NO_ACCESS, 0);
		assert_denied(m, KMA_OP_READ, pages[i], KVM_MEMORY_EXIT_FLAG_READ);
		kma_set(m->g.vm, gpa, PAGE_SIZE, KMA_NX);
		kma_write(&m->g, page, KMA_KIND_NEW);
		kma_look(&m->g, KMA_SEEN(.fresh = page));
	}
}

TEST_F(in_place, restrictions_and_conversions_leave_each_other_alone)
{
	struct gmem *m = &self->m;
	char *runs;

	kma_set(m->g.vm, m->g.gpa, KMA_SIZE, KMA_NW);
	runs = kma_runs(&self->view);
	gmem_set(m, KMA_ALL, KMA_PRIVATE, GMEM_PRESERVE);
	kma_assert_runs(&self->view, runs);
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	assert_denied(m, KMA_OP_WRITE, SHARED_PAGE, KVM_MEMORY_EXIT_FLAG_WRITE);

	kma_set(m->g.vm, m->g.gpa, KMA_SIZE, KMA_NW);
	gmem_set(m, ~KMA_MIDDLE, 0, GMEM_PRESERVE);
	kma_assert_runs(&self->view, runs);
	assert_denied(m, KMA_OP_WRITE, SHARED_PAGE, KVM_MEMORY_EXIT_FLAG_WRITE);
	assert_denied(m, KMA_OP_WRITE, PRIVATE_PAGE, KVM_MEMORY_EXIT_FLAG_WRITE);
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	free(runs);
}

/* The host is not restricted, and private memory is no matter of restrictions. */
TEST_F(in_place, restrictions_do_not_bind_the_host)
{
	struct gmem *m = &self->m;

	kma_set(m->g.vm, m->g.gpa, KMA_SIZE, KMA_NO_ACCESS);
	gmem_host_fill(m, ~KMA_MIDDLE, KMA_KIND_SHARED);
	gmem_host_scan(m, KMA_SEEN(.shared = ~KMA_MIDDLE));
}

static u64 private_at(FIXTURE_DATA(in_place) * self, u64 gpa)
{
	u64 pages = 0;

	kma_observe(self->observer, KMA_OBSERVE_PRIVATE, self->m.g.vm, 0, gpa / PAGE_SIZE,
		    gpa / PAGE_SIZE + KMA_PAGES, &pages, sizeof(pages));
	return pages;
}

TEST_F(in_place, page_faults_ask_the_file)
{
	TEST_ASSERT_EQ(private_at(self, self->m.g.gpa), KMA_MIDDLE);
	gmem_set(&self->m, KMA_ODD, KMA_PRIVATE, 0);
	TEST_ASSERT_EQ(private_at(self, self->m.g.gpa), KMA_MIDDLE | KMA_ODD);
	gmem_set(&self->m, ~KMA_MIDDLE, 0, 0);
}

/* The window's slot goes, the VM keeps something for its gfns, and it comes back. */
static void make_private_without_slot(FIXTURE_DATA(in_place) * self)
{
	struct gmem *m = &self->m;
	int slot_fd = kvm_dup(m->fd);

	vm_mem_region_delete(m->g.vm, KMA_SLOT);
	kma_set(m->g.vm, m->g.gpa, KMA_SIZE, KMA_PRIVATE);
	TEST_ASSERT_EQ(private_at(self, m->g.gpa), KMA_ALL);
	kma_add_slot(&m->g, KVM_MEM_GUEST_MEMFD, slot_fd);
	kvm_close(slot_fd);
}

TEST_F(in_place, restriction_takes_shared_mappings_where_private_was_stored)
{
	struct gmem *m = &self->m;

	make_private_without_slot(self);
	kma_write(&m->g, KMA_ALL, KMA_KIND_NEW);
	kma_set(m->g.vm, m->g.gpa, KMA_SIZE, KMA_NW);
	assert_denied(m, KMA_OP_WRITE, SHARED_PAGE, KVM_MEMORY_EXIT_FLAG_WRITE);
}

TEST_F(in_place, private_of_before_the_slot_is_ignored_while_the_slot_is_there)
{
	struct gmem *m = &self->m;

	make_private_without_slot(self);
	TEST_ASSERT_EQ(private_at(self, m->g.gpa), KMA_MIDDLE);
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	gmem_host_fill(m, ~KMA_MIDDLE, KMA_KIND_SHARED);
	kma_scan(&m->g, KMA_SEEN(.shared = ~KMA_MIDDLE, .fresh = KMA_MIDDLE));

	vm_mem_region_delete(m->g.vm, KMA_SLOT);
	kma_issue(m->g.vcpu, KMA_OP_READ, m->g.gpa, 1ull << SHARED_PAGE, 0);
	kma_finish_in_fault(m->g.vcpu, EFAULT, m->g.gpa + SHARED_PAGE * PAGE_SIZE,
			    KVM_MEMORY_EXIT_FLAG_PRIVATE);
}

TEST(private_on_a_vm_without_private_memory_is_einval_before_eperm)
{
	struct gmem m;

	gmem_init(&m, KVM_X86_DEFAULT_VM, GMEM_IN_PLACE);
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(m.g.vm, m.g.gpa, KMA_SIZE, KMA_PRIVATE));
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, m.g.vm->fd, m.g.gpa, KMA_SIZE, KMA_PRIVATE, 0);
	gmem_free(&m);
}

TEST_HARNESS_MAIN
