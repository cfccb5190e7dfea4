// SPDX-License-Identifier: GPL-2.0
/*
 * The four entries at the top of a 32-bit guest's page tables, which are read as
 * a whole when it sets CR3: by KVM without nested paging, by the CPU with it.
 */
/* modes: npt=0 */
#include "kvm_memattr_own.h"

#define LOW_GPA		0x40000000ull
#define LOW_SLOT	(KMA_SLOT + 1)
#define PORT		0x7e

/* Two tables at the top, one below, and the code. */
enum { TOP, OTHER_TOP, DIRECTORY, CODE, NR_PAGES };

/* 1: mov %eax, %cr3; out %al, $PORT; jmp 1b */
static const u8 code[] = { 0x0f, 0x22, 0xd8, 0xe6, PORT, 0xeb, 0xf9 };

FIXTURE(pdptr) {
	struct rwx_guest g;
	u64 flag;
};

static u64 page_gpa(u64 page)
{
	return LOW_GPA + page * PAGE_SIZE;
}

static struct kvm_segment flat_segment(u8 type, u16 selector)
{
	return (struct kvm_segment) {
		.limit = ~0u,
		.selector = selector,
		.type = type,
		.present = 1,
		.db = 1,
		.s = 1,
		.g = 1,
	};
}

static void enter_pae(struct rwx_guest *g, u64 cr3)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(g->vcpu, &sregs);
	sregs.cr0 = X86_CR0_PE | X86_CR0_NE | X86_CR0_PG;
	sregs.cr3 = cr3;
	sregs.cr4 = X86_CR4_PAE;
	sregs.efer = 0;
	sregs.cs = flat_segment(0xb, 8);
	sregs.ds = flat_segment(0x3, 16);
	sregs.es = sregs.ds;
	sregs.ss = sregs.ds;
	vcpu_sregs_set(g->vcpu, &sregs);
}

static u64 cr3_of(struct rwx_guest *g)
{
	struct kvm_sregs sregs;

	vcpu_sregs_get(g->vcpu, &sregs);
	return sregs.cr3;
}

/* What the guest sets next. */
static void set_next(struct rwx_guest *g, u64 cr3)
{
	struct kvm_regs regs;

	vcpu_regs_get(g->vcpu, &regs);
	regs.rax = cr3;
	vcpu_regs_set(g->vcpu, &regs);
}

FIXTURE_SETUP(pdptr)
{
	struct rwx_guest *g = &self->g;
	struct kvm_regs regs = { .rip = page_gpa(CODE), .rflags = 2 };

	g->vm = vm_create_with_one_vcpu(&g->vcpu, NULL);
	g->gpa = LOW_GPA;
	g->nr_pages = NR_PAGES;
	vm_userspace_mem_region_add(g->vm, VM_MEM_SRC_ANONYMOUS, LOW_GPA, LOW_SLOT, NR_PAGES, 0);
	g->region = memslot2region(g->vm, LOW_SLOT);

	/* The second GiB through one directory, whose first entry is of 2 MiB. */
	((u64 *)own_page(g, TOP))[1] = page_gpa(DIRECTORY) | 1;
	((u64 *)own_page(g, OTHER_TOP))[1] = page_gpa(DIRECTORY) | 1;
	((u64 *)own_page(g, DIRECTORY))[0] = LOW_GPA | 0xe3;
	memcpy(own_page(g, CODE), code, sizeof(code));

	enter_pae(g, page_gpa(TOP));
	regs.rax = page_gpa(TOP);
	vcpu_regs_set(g->vcpu, &regs);
	own_assert_pio(g->vcpu, PORT, KVM_EXIT_IO_OUT, 1);

	/* The CPU walks as it always does, KVM reads. */
	self->flag = host_cpu_is_amd && own_uses_tdp() ? KVM_MEMORY_EXIT_FLAG_WRITE :
							 KVM_MEMORY_EXIT_FLAG_READ;
}

FIXTURE_TEARDOWN(pdptr)
{
	kvm_vm_free(self->g.vm);
}

TEST_F(pdptr, entries_are_not_read_where_reading_is_denied)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < 4; i++) {
		u64 page = i & 1 ? TOP : OTHER_TOP, was = i & 1 ? OTHER_TOP : TOP;

		rwx_set(g, page, 1, KMA_NO_ACCESS);
		set_next(g, page_gpa(page));
		rwx_assert_exit(g->vcpu, page_gpa(page), self->flag);
		if (self->flag == KVM_MEMORY_EXIT_FLAG_READ)
			TEST_ASSERT_EQ(cr3_of(g), page_gpa(was));
		rwx_assert_exit(g->vcpu, page_gpa(page), self->flag);
		rwx_set(g, page, 1, 0);
		own_assert_pio(g->vcpu, PORT, KVM_EXIT_IO_OUT, 1);
		TEST_ASSERT_EQ(cr3_of(g), page_gpa(page));
	}
}

TEST_F(pdptr, entries_are_neither_written_nor_executed)
{
	bool read = self->flag == KVM_MEMORY_EXIT_FLAG_READ;
	struct rwx_guest *g = &self->g;

	rwx_set(g, OTHER_TOP, 1, read ? KMA_NW | KMA_NX : KMA_NX);
	set_next(g, page_gpa(OTHER_TOP));
	own_assert_pio(g->vcpu, PORT, KVM_EXIT_IO_OUT, 1);
	TEST_ASSERT_EQ(cr3_of(g), page_gpa(OTHER_TOP));
}

/* What the VMM sets isn't what the guest has to stop for. */
TEST_F(pdptr, registers_set_by_the_vmm_cause_no_exit)
{
	struct rwx_guest *g = &self->g;

	rwx_set(g, OTHER_TOP, 1, KMA_NO_ACCESS);
	enter_pae(g, page_gpa(OTHER_TOP));
	enter_pae(g, page_gpa(TOP));
	set_next(g, page_gpa(TOP));
	own_assert_pio(g->vcpu, PORT, KVM_EXIT_IO_OUT, 1);
}

/* They are what the CPU had read when the VMM saved it, and not the ones before. */
TEST_F(pdptr, registers_set_by_the_vmm_are_those_that_count)
{
	struct rwx_guest *g = &self->g;

	/* Nothing is mapped, and no fault can be handled. */
	((u64 *)own_page(g, OTHER_TOP))[1] = 0;
	rwx_set(g, OTHER_TOP, 1, KMA_NO_ACCESS);
	enter_pae(g, page_gpa(OTHER_TOP));
	rwx_set(g, OTHER_TOP, 1, 0);
	vcpu_run(g->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(g->vcpu, KVM_EXIT_SHUTDOWN);
}

TEST_HARNESS_MAIN
