// SPDX-License-Identifier: GPL-2.0
/*
 * Setting attributes zaps the kind of mapping that goes away, in the pages
 * that change, and nothing else. Deleting a slot and tearing a VM down zap
 * both kinds.
 */
#include "kvm_memattr_guest.h"
#include "kvm_memattr_module.h"

FIXTURE(set) {
	struct kma_guest g;
};

FIXTURE_SETUP(set)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
}

FIXTURE_TEARDOWN(set)
{
	kvm_vm_free(self->g.vm);
}

TEST_F(set, private_over_partly_private_zaps_the_shared_pages)
{
	kma_prepare(&self->g, KMA_ODD);
	kma_set(self->g.vm, self->g.gpa, KMA_SIZE, KMA_PRIVATE);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.private = KMA_ODD));
	KMA_ASSERT_FAULTS(&self->g, KMA_PAGES / 2, KMA_SEEN(.private = KMA_EVEN));
}

TEST_F(set, shared_over_partly_private_zaps_the_private_pages)
{
	kma_prepare(&self->g, KMA_ODD);
	kma_set(self->g.vm, self->g.gpa, KMA_SIZE, 0);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.shared = KMA_EVEN));
	KMA_ASSERT_FAULTS(&self->g, KMA_PAGES / 2, KMA_SEEN(.shared = KMA_ODD));
}

TEST_F(set, private_leaves_shared_neighbours_mapped)
{
	kma_prepare(&self->g, KMA_NONE);
	kma_set(self->g.vm, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE, KMA_PRIVATE);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.shared = ~KMA_MIDDLE));
	KMA_ASSERT_FAULTS(&self->g, 32, KMA_SEEN(.private = KMA_MIDDLE));
}

TEST_F(set, shared_leaves_private_neighbours_mapped)
{
	kma_prepare(&self->g, KMA_ALL);
	kma_set(self->g.vm, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE, 0);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN(.private = ~KMA_MIDDLE));
	KMA_ASSERT_FAULTS(&self->g, 32, KMA_SEEN(.shared = KMA_MIDDLE));
}

TEST_F(set, private_again_zaps_nothing)
{
	struct kma_view view = kma_view_of(self->g.vm);
	u64 unchanged, zapped;

	kma_prepare(&self->g, KMA_MIDDLE);
	unchanged = kma_stat(&view, "sets_unchanged");
	zapped = kma_stat(&view, "runs_zapped");

	kma_set(self->g.vm, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE, KMA_PRIVATE);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN_PRIVATE(KMA_MIDDLE));
	TEST_ASSERT_EQ(kma_stat(&view, "sets_unchanged"), unchanged + 1);
	TEST_ASSERT_EQ(kma_stat(&view, "runs_zapped"), zapped);
}

TEST_F(set, shared_again_zaps_nothing)
{
	struct kma_view view = kma_view_of(self->g.vm);
	u64 unchanged, zapped;

	kma_prepare(&self->g, ~KMA_MIDDLE);
	unchanged = kma_stat(&view, "sets_unchanged");
	zapped = kma_stat(&view, "runs_zapped");

	kma_set(self->g.vm, self->g.gpa + 16 * PAGE_SIZE, 32 * PAGE_SIZE, 0);
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN_PRIVATE(~KMA_MIDDLE));
	TEST_ASSERT_EQ(kma_stat(&view, "sets_unchanged"), unchanged + 1);
	TEST_ASSERT_EQ(kma_stat(&view, "runs_zapped"), zapped);
}

TEST_F(set, rejected_request_zaps_nothing)
{
	kma_prepare(&self->g, KMA_ODD);
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->g.vm, self->g.gpa, KMA_SIZE,
					   KMA_PRIVATE | BIT_ULL(63)));
	KMA_ASSERT_FAULTS(&self->g, 0, KMA_SEEN_PRIVATE(KMA_ODD));
}

TEST_F(set, deleted_slot_drops_both_kinds)
{
	struct kma_guest *g = &self->g;

	kma_prepare(g, KMA_ODD);
	vm_mem_region_delete(g->vm, KMA_SLOT);

	/* New backing of both kinds, in the same place, with the attributes kept. */
	kma_add_slot(g, KVM_MEM_GUEST_MEMFD, -1);
	kma_host_write(g, KMA_ALL, KMA_KIND_NEW);
	KMA_ASSERT_FAULTS(g, KMA_PAGES, KMA_SEEN(.fresh = KMA_EVEN, .zero = KMA_ODD));
}

TEST_F(set, private_access_to_a_deleted_slot_exits)
{
	struct kma_guest *g = &self->g;

	kma_prepare(g, KMA_ODD);
	vm_mem_region_delete(g->vm, KMA_SLOT);

	kma_issue(g->vcpu, KMA_OP_READ, g->gpa, 1ull << 7, 0);
	kma_finish_in_fault(g->vcpu, EFAULT, g->gpa + 7 * PAGE_SIZE,
			    KVM_MEMORY_EXIT_FLAG_PRIVATE);
}

TEST_F(set, shared_access_to_a_deleted_slot_is_mmio)
{
	struct kma_guest *g = &self->g;

	kma_prepare(g, KMA_ODD);
	vm_mem_region_delete(g->vm, KMA_SLOT);

	kma_issue(g->vcpu, KMA_OP_READ, g->gpa, 1ull << 6, 0);
	vcpu_run(g->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(g->vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(g->vcpu->run->mmio.phys_addr, g->gpa + 6 * PAGE_SIZE);
}

TEST_F(set, moved_slot_drops_what_was_mapped)
{
	struct kma_guest *g = &self->g;
	const u64 moved = KMA_GPA + SZ_1G;

	/* A slot with guest_memfd cannot be moved, so one without. */
	vm_mem_region_delete(g->vm, KMA_SLOT);
	kma_add_slot(g, 0, -1);
	kma_host_write(g, KMA_ALL, KMA_KIND_SHARED);
	kma_look(g, KMA_SEEN(.shared = KMA_ALL));

	vm_mem_region_move(g->vm, KMA_SLOT, moved);
	vm_mem_add(g->vm, VM_MEM_SRC_SHMEM, g->gpa, KMA_SLOT + 1, KMA_PAGES, 0, -1, 0);
	g->region = memslot2region(g->vm, KMA_SLOT + 1);
	kma_host_write(g, KMA_ALL, KMA_KIND_NEW);
	KMA_ASSERT_FAULTS(g, KMA_PAGES, KMA_SEEN(.fresh = KMA_ALL));
}

static u64 meminfo_kib(const char *name)
{
	unsigned long long kib;
	char line[128];
	FILE *file;

	file = fopen("/proc/meminfo", "r");
	TEST_ASSERT(file, "cannot open /proc/meminfo");
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, strlen(name)) &&
		    sscanf(line + strlen(name), ": %llu kB", &kib) == 1) {
			fclose(file);
			return kib;
		}
	}
	TEST_FAIL("/proc/meminfo has no line '%s'", name);
}

/* Far more than what a CPU keeps in its batches. */
#define TEARDOWN_KIB	(32 * 1024)

TEST(teardown_with_both_kinds_mapped_gives_the_memory_back)
{
	const u64 nr = TEARDOWN_KIB * 1024ull / PAGE_SIZE;
	struct kma_guest g = { .gpa = KMA_GPA };
	u64 before, i;

	KMA_REQUIRE_PROTECTED_VMS();

	/* Pages of a guest_memfd are unevictable, and the VM's own are not. */
	before = meminfo_kib("Unevictable");

	g.vm = vm_create_shape_with_one_vcpu(kma_protected_shape, &g.vcpu, kma_guest_code);
	vm_mem_add(g.vm, VM_MEM_SRC_SHMEM, g.gpa, KMA_SLOT, nr, KVM_MEM_GUEST_MEMFD, -1, 0);
	virt_map(g.vm, g.gpa, g.gpa, nr);
	kma_warm_up(g.vcpu);

	for (i = 0; i < nr; i += KMA_PAGES) {
		kma_write_by(g.vcpu, g.gpa + i * PAGE_SIZE, KMA_ALL, KMA_KIND_SHARED);
		kma_set(g.vm, g.gpa + i * PAGE_SIZE, KMA_SIZE, KMA_PRIVATE);
		kma_write_by(g.vcpu, g.gpa + i * PAGE_SIZE, KMA_ALL, KMA_KIND_PRIVATE);
		kma_set(g.vm, g.gpa + i * PAGE_SIZE, KMA_SIZE / 2, 0);
		kma_read_by(g.vcpu, g.gpa + i * PAGE_SIZE, KMA_ALL);
	}
	TEST_ASSERT(meminfo_kib("Unevictable") > before + TEARDOWN_KIB / 2,
		    "the guest's private memory is not in use");

	kvm_vm_free(g.vm);
	KMA_WAIT_FOR(meminfo_kib("Unevictable") < before + TEARDOWN_KIB / 8);
}

TEST_HARNESS_MAIN
