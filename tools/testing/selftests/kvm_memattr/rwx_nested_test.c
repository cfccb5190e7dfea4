// SPDX-License-Identifier: GPL-2.0
/*
 * Restrictions and nested guests: what a nested guest accesses, the tables that
 * it's translated through, and what KVM reads and writes to run it. A transition
 * that is denied memory happens later, once, and no event is lost by it.
 */
/* modes: npt=0 tdp_mmu=0 */
/* not with npt=0: npt protected_npt */
/* not with tdp_mmu=0: protected_npt */
#include <sys/mman.h>

#include "apic.h"
#include "kvm_memattr_rwx.h"
#include "smm.h"
#include "svm_util.h"

#define PAGES		64
#define IRQ_VECTOR	0x42
#define SMRAM_GPA	0x1000000
#define SMI_PORT	0xe
#define L2_PORT		0x80
/* Of pages that are looked at in turn: from here on none has been used. */
#define FIRST_PAGE	8

enum {
	L1_READY = 1,
	L1_EXITED,
	L2_READY,
};

/* What the nested guest does next, and where that ends. */
enum l2_op {
	L2_VMMCALL,
	L2_MSR,
	L2_IO,
	L2_UD,
	L2_INTR,
	L2_NMI,
	L2_SHUTDOWN,
	L2_NPF,
	L2_NR_OPS,
};

static const u32 exit_codes[] = {
	[L2_VMMCALL] = SVM_EXIT_VMMCALL,
	[L2_MSR] = SVM_EXIT_MSR,
	[L2_IO] = SVM_EXIT_IOIO,
	[L2_UD] = SVM_EXIT_EXCP_BASE + UD_VECTOR,
	[L2_INTR] = SVM_EXIT_INTR,
	[L2_NMI] = SVM_EXIT_NMI,
	[L2_SHUTDOWN] = SVM_EXIT_SHUTDOWN,
	[L2_NPF] = SVM_EXIT_NPF,
};

/* The guest's, shared with the host. */
static struct nested_guest {
	u64 op;
	/* Times that L2 got to its operation, and that L1 saw an exit. */
	u64 starts;
	u64 exits;
	u64 code;
	u64 info_2;
	/* Events that L1 got after the exit. */
	u64 interrupts;
	u64 nmis;
	u64 iopm_gpa;
} nested;

static void irq_handler(struct ex_regs *regs)
{
	nested.interrupts++;
	x2apic_write_reg(APIC_EOI, 0);
}

static void nmi_handler(struct ex_regs *regs)
{
	nested.nmis++;
}

static void l2_code(void)
{
	struct desc_ptr none = {};

	GUEST_SYNC(L2_READY);
	nested.starts++;
	switch (READ_ONCE(nested.op)) {
	case L2_VMMCALL:
		vmmcall();
		break;
	case L2_MSR:
		rdmsr(MSR_KERNEL_GS_BASE);
		break;
	case L2_IO:
		asm volatile("outb %%al, %0" : : "i"(L2_PORT), "a"(0));
		break;
	case L2_UD:
		asm volatile("ud2");
		break;
	case L2_INTR:
		asm volatile("sti");
		x2apic_write_reg(APIC_ICR, APIC_DEST_SELF | APIC_INT_ASSERT |
					   APIC_DM_FIXED | IRQ_VECTOR);
		for (;;)
			cpu_relax();
	case L2_NMI:
		for (;;)
			cpu_relax();
	case L2_SHUTDOWN:
		asm volatile("lidt %0; int3" : : "m"(none));
		break;
	case L2_NPF:
		READ_ONCE(*(u64 *)(KMA_GPA + (PAGES - 1) * PAGE_SIZE));
		break;
	}
	GUEST_FAIL("L2 went on after operation %lu", nested.op);
}

static void l1_vmrun(u64 vmcb_gpa)
{
	asm volatile("push %%rbp\n\t"
		     "vmrun %%rax\n\t"
		     "pop %%rbp"
		     : "+a"(vmcb_gpa) : : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9",
		     "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

static void l1_code(struct svm_test_data *svm)
{
	struct vmcb *vmcb = svm->vmcb;

	x2apic_enable();
	generic_svm_setup(svm, l2_code);
	vmcb->control.intercept |= BIT_ULL(INTERCEPT_INTR) | BIT_ULL(INTERCEPT_NMI) |
				   BIT_ULL(INTERCEPT_SHUTDOWN) |
				   BIT_ULL(INTERCEPT_MSR_PROT) |
				   BIT_ULL(INTERCEPT_IOIO_PROT);
	vmcb->control.intercept_exceptions |= BIT(UD_VECTOR);
	vmcb->control.iopm_base_pa = nested.iopm_gpa;

	for (;;) {
		vmcb->control.exit_code = -1u;
		vmcb->save.rip = (u64)l2_code;
		vmcb->save.rsp = (u64)svm->stack;
		vmcb->save.rflags = X86_EFLAGS_FIXED;
		vmcb->save.idtr.base = get_idt().address;
		vmcb->save.idtr.limit = get_idt().size;
		GUEST_SYNC(L1_READY);

		l1_vmrun(svm->vmcb_gpa);
		nested.exits++;
		nested.code = vmcb->control.exit_code;
		nested.info_2 = vmcb->control.exit_info_2;
		stgi();
		asm volatile("sti; nop; cli");
		GUEST_SYNC(L1_EXITED);
	}
}

/* VMSAVE and VMLOAD by L1, of one register that they move. */
static void l1_save_load_code(struct svm_test_data *svm)
{
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, l2_code);
	for (;;) {
		vmcb->save.kernel_gs_base = 0;
		wrmsr(MSR_KERNEL_GS_BASE, 0x1000);
		GUEST_SYNC(1);
		asm volatile("vmsave %0" : : "a"(svm->vmcb_gpa) : "memory");
		GUEST_ASSERT_EQ(vmcb->save.kernel_gs_base, 0x1000);

		vmcb->save.kernel_gs_base = 0x2000;
		GUEST_SYNC(2);
		asm volatile("vmload %0" : : "a"(svm->vmcb_gpa) : "memory");
		GUEST_ASSERT_EQ(rdmsr(MSR_KERNEL_GS_BASE), 0x2000);
		GUEST_SYNC(3);
	}
}

static void l2_access_code(void)
{
	rwx_guest_code(0);
}

static void l1_access_code(struct svm_test_data *svm)
{
	generic_svm_setup(svm, l2_access_code);
	l1_vmrun(svm->vmcb_gpa);
	GUEST_FAIL("L2 left with exit code %lx, info %lx %lx",
		   (u64)svm->vmcb->control.exit_code, (u64)svm->vmcb->control.exit_info_1,
		   (u64)svm->vmcb->control.exit_info_2);
}

static struct nested_guest *nested_of(struct rwx_guest *g)
{
	return addr_gva2hva(g->vm, (gva_t)&nested);
}

static struct svm_test_data *create_nested(struct rwx_guest *g, u32 type, bool npt)
{
	struct vm_shape shape = { .mode = VM_MODE_DEFAULT, .type = type };
	struct svm_test_data *svm;
	gva_t svm_gva, iopm;

	g->gpa = KMA_GPA;
	g->nr_pages = PAGES;
	g->vm = vm_create_shape_with_one_vcpu(shape, &g->vcpu, l1_code);
	if (npt)
		vm_enable_tdp(g->vm);
	svm = vcpu_alloc_svm(g->vm, &svm_gva);
	vcpu_args_set(g->vcpu, 1, svm_gva);
	vm_install_exception_handler(g->vm, IRQ_VECTOR, irq_handler);
	vm_install_exception_handler(g->vm, NMI_VECTOR, nmi_handler);

	/* The permission maps: all zero but for what L2 uses to leave. */
	iopm = vm_alloc_pages(g->vm, 3);
	((u8 *)addr_gva2hva(g->vm, iopm))[L2_PORT / 8] |= BIT(L2_PORT % 8);
	((u8 *)svm->msr_hva)[0x800 + (MSR_KERNEL_GS_BASE & 0x1fff) / 4] |=
		BIT((MSR_KERNEL_GS_BASE & 3) * 2);
	nested_of(g)->iopm_gpa = addr_gva2gpa(g->vm, iopm);

	rwx_add_slot(g, VM_MEM_SRC_ANONYMOUS, 0);
	virt_map(g->vm, g->gpa, g->gpa, PAGES);
	if (npt) {
		tdp_identity_map_default_memslots(g->vm);
		/* The last page isn't there for L2. */
		tdp_map(g->vm, g->gpa, g->gpa, (PAGES - 1) * PAGE_SIZE);
	}
	return svm;
}

FIXTURE(nested) {
	struct rwx_guest g;
	struct svm_test_data *svm;
};

FIXTURE_VARIANT(nested) {
	u32 type;
	bool npt;
};

FIXTURE_VARIANT_ADD(nested, npt) {
	.type = KVM_X86_DEFAULT_VM,
	.npt = true,
};

FIXTURE_VARIANT_ADD(nested, shadow) {
	.type = KVM_X86_DEFAULT_VM,
};

FIXTURE_VARIANT_ADD(nested, protected_npt) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.npt = true,
};

FIXTURE_SETUP(nested)
{
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");
	if (variant->npt && !kvm_cpu_has_npt())
		SKIP(return, "KVM offers no nested page tables to guests here");

	self->svm = create_nested(&self->g, variant->type, variant->npt);
}

FIXTURE_TEARDOWN(nested)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

static void run_to(struct rwx_guest *g, u64 stage)
{
	struct kvm_vcpu *vcpu = g->vcpu;
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		TEST_ASSERT_EQ(uc.args[1], stage);
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("exit %u (%s) instead of stage %lu", vcpu->run->exit_reason,
			  exit_reason_str(vcpu->run->exit_reason), stage);
	}
}

/* The next thing is denied that page, however often it's tried, until it's granted. */
static void deny(struct rwx_guest *g, u64 gpa, u64 word, u64 flag)
{
	kma_set(g->vm, gpa, PAGE_SIZE, word);
	for (int i = 0; i < 3; i++)
		rwx_assert_exit(g->vcpu, gpa, flag);
	kma_set(g->vm, gpa, PAGE_SIZE, 0);
}

/* --- what the nested guest accesses --- */

static void start_l2(struct rwx_guest *g)
{
	vcpu_arch_set_entry_point(g->vcpu, l1_access_code);
	rwx_run(g->vcpu);
}

static void every_word(struct rwx_guest *g, bool touched)
{
	u64 page = FIRST_PAGE;

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		for (int op = 0; op < RWX_NR_OPS; op++, page++) {
			if (touched)
				rwx_touch(g, page);
			rwx_set(g, page, 1, kma_restrictions[i]);
			rwx_check(g, op, page, kma_restrictions[i]);
		}
	}
}

TEST_F(nested, each_word_denies_what_it_says_on_pages_never_used)
{
	start_l2(&self->g);
	every_word(&self->g, false);
}

TEST_F(nested, each_word_denies_what_it_says_on_pages_used_before)
{
	start_l2(&self->g);
	every_word(&self->g, true);
}

/* KVM maps along what is beside a page that faults, if the tables say it's in use. */
TEST_F(nested, what_is_mapped_along_has_its_own_rights)
{
	struct rwx_guest *g = &self->g;
	const u64 words[] = { KMA_NW, KMA_NX, KMA_NO_ACCESS, KMA_NW | KMA_NX };

	for (u64 page = 8; page < 24; page++) {
		u64 gpa = rwx_gpa(g, page);

		*vm_get_pte(g->vm, gpa) |= PTE_ACCESSED_MASK(&g->vm->mmu) |
					   PTE_DIRTY_MASK(&g->vm->mmu);
		if (variant->npt)
			*tdp_get_pte(g->vm, gpa) |= PTE_ACCESSED_MASK(&g->vm->stage2_mmu) |
						    PTE_DIRTY_MASK(&g->vm->stage2_mmu);
		if (page & 1)
			rwx_set(g, page, 1, words[page / 2 % 4]);
	}
	start_l2(g);
	rwx_touch(g, 8);
	rwx_touch(g, 16);
	for (u64 page = 9; page < 24; page++)
		for (int op = 0; op < RWX_NR_OPS; op++)
			rwx_check(g, op, page, page & 1 ? words[page / 2 % 4] : 0);
}

/* --- the tables that it's translated through --- */

static u64 table_of(struct kvm_vm *vm, u64 *pte)
{
	return addr_hva2gpa(vm, (void *)((u64)pte & ~(PAGE_SIZE - 1)));
}

/* KVM walks these itself: nested page tables, or L2's own without any in hardware. */
TEST_F(nested, tables_that_kvm_walks_are_read_and_written_where_bits_change)
{
	struct rwx_guest *g = &self->g;
	struct kvm_mmu *mmu = variant->npt ? &g->vm->stage2_mmu : &g->vm->mmu;
	u64 table, *pte;

	start_l2(g);
	rwx_touch(g, 7);

	pte = variant->npt ? tdp_get_pte(g->vm, rwx_gpa(g, 8)) : vm_get_pte(g->vm, rwx_gpa(g, 8));
	table = table_of(g->vm, pte);
	if (!variant->npt && kvm_is_tdp_enabled()) {
		/* It's the CPU that walks these, and there no bit has to change. */
		for (int i = 0; i < 2; i++) {
			pte[i] |= PTE_ACCESSED_MASK(mmu) | PTE_DIRTY_MASK(mmu);
			rwx_issue(g, RWX_READ, 8 + i);
			deny(g, table, i ? KMA_NW : KMA_NO_ACCESS,
			     KVM_MEMORY_EXIT_FLAG_WRITE);
			rwx_run(g->vcpu);
		}
		return;
	}

	TEST_ASSERT(!(*pte & PTE_ACCESSED_MASK(mmu)), "the page has been used already");
	rwx_issue(g, RWX_READ, 8);
	deny(g, table, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ);
	rwx_run(g->vcpu);

	/* Only the tables' accessed bit is to be set. */
	rwx_issue(g, RWX_READ, 9);
	deny(g, table, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT(!(pte[1] & PTE_ACCESSED_MASK(mmu)), "the table was written");
	rwx_run(g->vcpu);
	TEST_ASSERT(pte[1] & PTE_ACCESSED_MASK(mmu), "the table was not written");

	/* No bit is to be set. */
	pte[2] |= PTE_ACCESSED_MASK(mmu) | PTE_DIRTY_MASK(mmu);
	kma_set(g->vm, table, PAGE_SIZE, KMA_NW | KMA_NX);
	rwx_allowed(g, RWX_READ, 10);
	kma_set(g->vm, table, PAGE_SIZE, 0);
}

/* The CPU walks L2's own tables, through nested page tables: always as a write. */
TEST_F(nested, tables_that_the_cpu_walks_are_written)
{
	struct rwx_guest *g = &self->g;
	u64 *pte = vm_get_pte(g->vm, g->gpa), table = table_of(g->vm, pte);

	start_l2(g);
	rwx_touch(g, 7);
	if (!kvm_is_tdp_enabled()) {
		/* It's KVM that walks these, and where no bit changes it only reads. */
		pte[8] |= PTE_ACCESSED_MASK(&g->vm->mmu) | PTE_DIRTY_MASK(&g->vm->mmu);
		kma_set(g->vm, table, PAGE_SIZE, KMA_NW | KMA_NX);
		rwx_allowed(g, RWX_READ, 8);
		rwx_issue(g, RWX_READ, 9);
		deny(g, table, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ);
		rwx_run(g->vcpu);
		return;
	}

	kma_set(g->vm, table, PAGE_SIZE, KMA_NX);
	rwx_touch(g, 8);
	rwx_issue(g, RWX_READ, 9);
	deny(g, table, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_run(g->vcpu);
	rwx_issue(g, RWX_READ, 9);
	deny(g, table, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_run(g->vcpu);
}

/* --- what KVM needs for running it --- */

static const u64 vmcb_words[] = { KMA_NW, KMA_NO_ACCESS };

TEST_F(nested, vmsave_and_vmload_are_repeated)
{
	struct rwx_guest *g = &self->g;

	vcpu_arch_set_entry_point(g->vcpu, l1_save_load_code);
	for (int i = 0; i < ARRAY_SIZE(vmcb_words); i++) {
		run_to(g, 1);
		deny(g, self->svm->vmcb_gpa, vmcb_words[i], KVM_MEMORY_EXIT_FLAG_WRITE);
		run_to(g, 2);
		deny(g, self->svm->vmcb_gpa, vmcb_words[i], KVM_MEMORY_EXIT_FLAG_WRITE);
		run_to(g, 3);
	}
}

/* L1 sees exactly one exit, of the kind that the operation leads to. */
static void finish(struct rwx_guest *g, enum l2_op op, u64 exits)
{
	struct nested_guest *n = nested_of(g);

	run_to(g, L1_EXITED);
	TEST_ASSERT_EQ(n->exits, exits + 1);
	TEST_ASSERT(n->code == exit_codes[op], "operation %d ended in exit code 0x%lx, not 0x%x",
		    op, n->code, exit_codes[op]);
}

TEST_F(nested, vmrun_is_repeated_and_happens_once)
{
	struct rwx_guest *g = &self->g;
	struct nested_guest *n = nested_of(g);

	for (int i = 0; i < ARRAY_SIZE(vmcb_words); i++) {
		u64 starts = n->starts, exits = n->exits;

		run_to(g, L1_READY);
		deny(g, self->svm->vmcb_gpa, vmcb_words[i], KVM_MEMORY_EXIT_FLAG_WRITE);
		TEST_ASSERT_EQ(n->exits, exits);
		run_to(g, L2_READY);
		n->op = L2_VMMCALL;
		finish(g, L2_VMMCALL, exits);
		TEST_ASSERT_EQ(n->starts, starts + 1);
	}
}

TEST_F(nested, vmrun_waits_for_the_msr_permission_map)
{
	struct rwx_guest *g = &self->g;
	struct nested_guest *n = nested_of(g);

	run_to(g, L1_READY);
	deny(g, self->svm->msr_gpa, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ);
	TEST_ASSERT_EQ(n->exits, 0);
	run_to(g, L2_READY);
	/* The map was merged in the end, as the read of this MSR is seen. */
	n->op = L2_MSR;
	finish(g, L2_MSR, 0);
	TEST_ASSERT_EQ(n->starts, 1);
}

/* Only reads. */
TEST_F(nested, permission_maps_need_not_be_written)
{
	struct rwx_guest *g = &self->g;
	struct nested_guest *n = nested_of(g);

	kma_set(g->vm, self->svm->msr_gpa, PAGE_SIZE, KMA_NW | KMA_NX);
	kma_set(g->vm, n->iopm_gpa, PAGE_SIZE, KMA_NW | KMA_NX);
	for (int op = L2_MSR; op <= L2_IO; op++) {
		u64 exits = n->exits;

		run_to(g, L1_READY);
		run_to(g, L2_READY);
		n->op = op;
		finish(g, op, exits);
	}
}

/* L2 is about to do what leads to an exit, and what is needed for that is denied. */
static void vmexit_denied(struct rwx_guest *g, enum l2_op op, u64 gpa, u64 word, u64 flag)
{
	struct nested_guest *n = nested_of(g);
	u64 exits = n->exits, interrupts = n->interrupts, nmis = n->nmis, starts = n->starts;

	run_to(g, L1_READY);
	run_to(g, L2_READY);
	n->op = op;
	kma_set(g->vm, gpa, PAGE_SIZE, word);
	if (op == L2_NMI)
		vcpu_ioctl(g->vcpu, KVM_NMI, NULL);
	for (int i = 0; i < 3; i++)
		rwx_assert_exit(g->vcpu, gpa, flag);
	TEST_ASSERT_EQ(n->exits, exits);
	kma_set(g->vm, gpa, PAGE_SIZE, 0);

	finish(g, op, exits);
	/* An NMI may come before L2 has got anywhere. */
	TEST_ASSERT(n->starts == starts + 1 || op == L2_NMI,
		    "L2 did operation %d %lu times", op, n->starts - starts);
	TEST_ASSERT_EQ(n->interrupts, interrupts + (op == L2_INTR));
	TEST_ASSERT_EQ(n->nmis, nmis + (op == L2_NMI));
	if (op == L2_NPF)
		TEST_ASSERT_EQ(n->info_2, KMA_GPA + (PAGES - 1) * PAGE_SIZE);
}

static void vmcb_denied(struct rwx_guest *g, struct svm_test_data *svm, enum l2_op op)
{
	for (int i = 0; i < ARRAY_SIZE(vmcb_words); i++)
		vmexit_denied(g, op, svm->vmcb_gpa, vmcb_words[i],
			      KVM_MEMORY_EXIT_FLAG_WRITE);
}

TEST_F(nested, vmexit_of_a_vmmcall_happens_once)
{
	vmcb_denied(&self->g, self->svm, L2_VMMCALL);
}

TEST_F(nested, vmexit_of_an_msr_access_happens_once)
{
	vmcb_denied(&self->g, self->svm, L2_MSR);
}

TEST_F(nested, vmexit_of_port_io_happens_once)
{
	vmcb_denied(&self->g, self->svm, L2_IO);
}

TEST_F(nested, vmexit_of_an_exception_happens_once)
{
	vmcb_denied(&self->g, self->svm, L2_UD);
}

TEST_F(nested, vmexit_of_an_interrupt_is_not_lost)
{
	vmcb_denied(&self->g, self->svm, L2_INTR);
}

TEST_F(nested, vmexit_of_an_nmi_is_not_lost)
{
	vmcb_denied(&self->g, self->svm, L2_NMI);
}

TEST_F(nested, vmexit_of_a_shutdown_is_not_lost)
{
	vmcb_denied(&self->g, self->svm, L2_SHUTDOWN);
}

static void make_triple_fault_pending(struct rwx_guest *g, struct kvm_vcpu_events *events)
{
	vm_enable_cap(g->vm, KVM_CAP_X86_TRIPLE_FAULT_EVENT, true);
	vcpu_events_get(g->vcpu, events);
	events->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	events->triple_fault.pending = true;
}

/* L1 has no VMCB any more to be told by, which is a shutdown of its own. */
TEST_F(nested, vmexit_of_a_shutdown_without_a_vmcb_shuts_the_guest_down)
{
	struct rwx_guest *g = &self->g;
	void *vmcb = addr_gpa2hva(g->vm, self->svm->vmcb_gpa);
	struct kvm_vcpu_events events;

	run_to(g, L1_READY);
	run_to(g, L2_READY);
	make_triple_fault_pending(g, &events);
	vcpu_events_set(g->vcpu, &events);
	TEST_ASSERT(!mprotect(vmcb, PAGE_SIZE, PROT_NONE), "mprotect: %s", strerror(errno));
	vcpu_run(g->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(g->vcpu, KVM_EXIT_SHUTDOWN);
	TEST_ASSERT(!mprotect(vmcb, PAGE_SIZE, PROT_READ | PROT_WRITE), "mprotect: %s",
		    strerror(errno));
}

/* Two events that each have L2 left: the second waits until the first is over. */
TEST_F(nested, vmexit_of_a_shutdown_comes_before_that_of_an_exception)
{
	struct rwx_guest *g = &self->g;
	struct kvm_vcpu_events events;

	vm_enable_cap(g->vm, KVM_CAP_EXCEPTION_PAYLOAD, -2ul);
	run_to(g, L1_READY);
	run_to(g, L2_READY);
	kma_set(g->vm, self->svm->vmcb_gpa, PAGE_SIZE, KMA_NW);

	make_triple_fault_pending(g, &events);
	events.flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	events.exception.pending = true;
	events.exception.nr = UD_VECTOR;
	vcpu_events_set(g->vcpu, &events);
	for (int i = 0; i < 3; i++)
		rwx_assert_exit(g->vcpu, self->svm->vmcb_gpa, KVM_MEMORY_EXIT_FLAG_WRITE);
	kma_set(g->vm, self->svm->vmcb_gpa, PAGE_SIZE, 0);
	finish(g, L2_SHUTDOWN, 0);
}

TEST_F(nested, vmexit_of_a_nested_page_fault_happens_once)
{
	struct rwx_guest *g = &self->g;

	if (variant->npt) {
		vmcb_denied(g, self->svm, L2_NPF);
		return;
	}

	/* L1 has no tables that lack the page: what is denied is for the VMM alone. */
	run_to(g, L1_READY);
	run_to(g, L2_READY);
	nested_of(g)->op = L2_NPF;
	kma_set(g->vm, rwx_gpa(g, PAGES - 1), PAGE_SIZE, KMA_NO_ACCESS);
	for (int i = 0; i < 3; i++)
		rwx_assert_exit(g->vcpu, rwx_gpa(g, PAGES - 1), KVM_MEMORY_EXIT_FLAG_READ);
	TEST_ASSERT_EQ(nested_of(g)->exits, 0);
}

TEST_F(nested, msr_access_waits_for_the_permission_map)
{
	vmexit_denied(&self->g, L2_MSR, self->svm->msr_gpa, KMA_NO_ACCESS,
		      KVM_MEMORY_EXIT_FLAG_READ);
}

TEST_F(nested, port_io_waits_for_the_permission_map)
{
	vmexit_denied(&self->g, L2_IO, nested_of(&self->g)->iopm_gpa, KMA_NO_ACCESS,
		      KVM_MEMORY_EXIT_FLAG_READ);
}

/* --- SMIs --- */

/* in $SMI_PORT, %al; rsm */
static const u8 smi_handler[] = { 0xe4, SMI_PORT, 0x0f, 0xaa };

static void assert_in_smm(struct kvm_vcpu *vcpu)
{
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	TEST_ASSERT_EQ(vcpu->run->io.port, SMI_PORT);
	TEST_ASSERT(vcpu->run->flags & KVM_RUN_X86_SMM, "the vCPU is not in SMM");
}

/* An SMI in L2, which is denied one of the pages that it needs. */
static void smi_denied(struct rwx_guest *g, u64 gpa, u64 word)
{
	struct nested_guest *n = nested_of(g);
	u64 exits = n->exits;

	run_to(g, L1_READY);
	run_to(g, L2_READY);
	n->op = L2_VMMCALL;
	inject_smi(g->vcpu);
	deny(g, gpa, word, KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT_EQ(n->exits, exits);

	vcpu_run(g->vcpu);
	assert_in_smm(g->vcpu);
	/* Back in L2, which goes on as if nothing had happened. */
	finish(g, L2_VMMCALL, exits);
}

/* A VM with private memory has no address space for SMM. */
FIXTURE(smm) {
	struct rwx_guest g;
	struct svm_test_data *svm;
};

FIXTURE_VARIANT(smm) {
	bool npt;
};

FIXTURE_VARIANT_ADD(smm, npt) {
	.npt = true,
};

FIXTURE_VARIANT_ADD(smm, shadow) {
	.npt = false,
};

FIXTURE_SETUP(smm)
{
	TEST_REQUIRE(kvm_cpu_has(X86_FEATURE_SVM));
	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "KVM has no system management mode here");
	if (variant->npt && !kvm_cpu_has_npt())
		SKIP(return, "KVM offers no nested page tables to guests here");

	self->svm = create_nested(&self->g, KVM_X86_DEFAULT_VM, variant->npt);
}

FIXTURE_TEARDOWN(smm)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

TEST_F(smm, smi_is_taken_once_it_may_save_its_state)
{
	struct rwx_guest *g = &self->g;
	const u64 pages[] = {
		SMRAM_GPA + SMRAM_SIZE - PAGE_SIZE,
		self->svm->vmcb_gpa,
		self->svm->save_area_gpa,
	};

	setup_smram(g->vm, g->vcpu, SMRAM_GPA, smi_handler, sizeof(smi_handler));
	for (int i = 0; i < ARRAY_SIZE(pages); i++)
		for (int j = 0; j < ARRAY_SIZE(vmcb_words); j++)
			smi_denied(g, pages[i], vmcb_words[j]);
}

TEST_F(smm, smm_is_left_once_its_state_may_be_read)
{
	struct rwx_guest *g = &self->g;

	setup_smram(g->vm, g->vcpu, SMRAM_GPA, smi_handler, sizeof(smi_handler));
	run_to(g, L1_READY);
	run_to(g, L2_READY);
	nested_of(g)->op = L2_VMMCALL;
	inject_smi(g->vcpu);
	vcpu_run(g->vcpu);
	assert_in_smm(g->vcpu);
	deny(g, SMRAM_GPA + SMRAM_SIZE - PAGE_SIZE, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ);
	finish(g, L2_VMMCALL, 0);
}

TEST_HARNESS_MAIN
