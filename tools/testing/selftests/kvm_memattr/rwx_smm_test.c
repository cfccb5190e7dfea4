// SPDX-License-Identifier: GPL-2.0
/*
 * System management mode: KVM itself writes and reads the CPU's saved state, and
 * memory may be another there, at the same addresses. Restrictions bind both.
 */
/* modes: npt=0 */
#include <sys/mman.h>

#include "smm.h"
#include "kvm_memattr_own.h"

/* Below 4 GiB, of which real mode sees all through a segment's base. */
#define SMRAM_GPA	0x1000000ull
#define STATE_PAGE	(SMRAM_GPA + 0xf000)
#define HANDLER_PAGE	(SMRAM_GPA + 0x8000)
/* Where the handler looks for data, in SMM's memory and in the other. */
#define DATA_PAGE	(SMRAM_GPA + 0xa000)

#define SMM_PORT	0x7e

/*
 * 16-bit code: in $SMM_PORT, %al; then, as %al says: read, write or none of both
 * at DATA_PAGE by way of %cs; in $SMM_PORT + 1, %al; rsm.
 */
static const u8 handler[] = {
	0xe4, SMM_PORT,			/* in $SMM_PORT, %al */
	0x3c, 1,			/* cmp $1, %al */
	0x75, 4,			/* jne 1f */
	0x2e, 0xa0, 0x00, 0xa0,		/* mov %cs:0xa000, %al */
	0x3c, 2,			/* 1: cmp $2, %al */
	0x75, 4,			/* jne 2f */
	0x2e, 0xa2, 0x00, 0xa0,		/* mov %al, %cs:0xa000 */
	0xe4, SMM_PORT + 1,		/* 2: in $SMM_PORT + 1, %al */
	0x0f, 0xaa,			/* rsm */
};

FIXTURE(smm) {
	struct rwx_guest g;
};

FIXTURE_SETUP(smm)
{
	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "KVM has no system management mode here");

	own_init(&self->g);
	setup_smram(self->g.vm, self->g.vcpu, SMRAM_GPA, handler, sizeof(handler));
}

FIXTURE_TEARDOWN(smm)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

static void smram_set(struct rwx_guest *g, u64 gpa, u64 word)
{
	kma_set(g->vm, gpa, PAGE_SIZE, word);
}

static u8 *smram(struct rwx_guest *g, u64 gpa)
{
	return (u8 *)memslot2region(g->vm, SMRAM_MEMSLOT)->host_mem + (gpa - SMRAM_GPA);
}

/* The guest is in its handler, which is told what to do. */
static void in_handler(struct rwx_guest *g, u8 what)
{
	*own_assert_pio(g->vcpu, SMM_PORT, KVM_EXIT_IO_IN, 1) = what;
}

static u8 handled(struct rwx_guest *g)
{
	struct kvm_regs regs;

	own_assert_pio(g->vcpu, SMM_PORT + 1, KVM_EXIT_IO_IN, 1);
	vcpu_regs_get(g->vcpu, &regs);
	return regs.rax;
}

static bool smi_pending(struct rwx_guest *g)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(g->vcpu, &events);
	return events.smi.pending;
}

static bool in_smm(struct rwx_guest *g)
{
	struct kvm_vcpu_events events;

	vcpu_events_get(g->vcpu, &events);
	return events.smi.smm;
}

static void go_once(struct rwx_guest *g)
{
	own_issue(g, own_do_nothing, 0, 0, 0);
	inject_smi(g->vcpu);
	in_handler(g, 0);
	handled(g);
	own_finish(g);
}

static void entry(struct rwx_guest *g, bool before, u64 word)
{
	u8 was[0x200];
	u64 smis;

	if (before)
		go_once(g);

	smis = vcpu_get_msr(g->vcpu, MSR_SMI_COUNT);
	memset(smram(g, STATE_PAGE) + 0xe00, 0xee, sizeof(was));
	memset(was, 0xee, sizeof(was));
	smram_set(g, STATE_PAGE, word);
	own_issue(g, own_do_nothing, 0, 0, 0);
	inject_smi(g->vcpu);
	if (word & KMA_NW) {
		rwx_assert_exit(g->vcpu, STATE_PAGE, KVM_MEMORY_EXIT_FLAG_WRITE);
		TEST_ASSERT(smi_pending(g) && !in_smm(g), "the SMI is lost, or it was taken");
		rwx_assert_exit(g->vcpu, STATE_PAGE, KVM_MEMORY_EXIT_FLAG_WRITE);
		TEST_ASSERT(!memcmp(smram(g, STATE_PAGE) + 0xe00, was, sizeof(was)),
			    "state was saved where writing is denied");
		smram_set(g, STATE_PAGE, 0);
	}
	in_handler(g, 0);
	TEST_ASSERT(in_smm(g) && !smi_pending(g), "the handler runs outside of SMM");
	TEST_ASSERT(memcmp(smram(g, STATE_PAGE) + 0xe00, was, sizeof(was)),
		    "no state was saved");
	handled(g);
	TEST_ASSERT_EQ(own_finish(g), 0);
	TEST_ASSERT(!in_smm(g), "the guest goes on in SMM");
	smram_set(g, STATE_PAGE, 0);

	/* There was one SMI. */
	own_call(g, own_do_nothing, 0, 0, 0);
	TEST_ASSERT_EQ(vcpu_get_msr(g->vcpu, MSR_SMI_COUNT), smis + 1);
}

TEST_F(smm, state_is_not_saved_where_writing_is_denied)
{
	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++)
		entry(&self->g, false, kma_restrictions[i]);
}

TEST_F(smm, state_is_not_saved_where_writing_is_denied_later)
{
	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++)
		entry(&self->g, true, kma_restrictions[i]);
}

/* The guest chooses where its state goes, which may be half in the next page. */
TEST_F(smm, state_across_two_pages_is_not_saved_where_writing_to_either_is_denied)
{
	const u64 smbase = SMRAM_GPA - PAGE_SIZE + 0x100;
	struct rwx_guest *g = &self->g;
	u8 *state = smram(g, smbase + 0xfe00), was[0x200];

	memcpy(smram(g, smbase + 0x8000), handler, sizeof(handler));
	vcpu_set_msr(g->vcpu, MSR_IA32_SMBASE, smbase);
	memset(was, 0xee, sizeof(was));

	for (u64 page = STATE_PAGE - PAGE_SIZE; page <= STATE_PAGE; page += PAGE_SIZE) {
		memcpy(state, was, sizeof(was));
		smram_set(g, page, KMA_NW);
		own_issue(g, own_do_nothing, 0, 0, 0);
		inject_smi(g->vcpu);
		rwx_assert_exit(g->vcpu, page, KVM_MEMORY_EXIT_FLAG_WRITE);
		TEST_ASSERT(smi_pending(g) && !in_smm(g), "the SMI is lost, or it was taken");
		TEST_ASSERT(!memcmp(state, was, sizeof(was)), "state was saved");
		smram_set(g, page, 0);

		in_handler(g, 0);
		TEST_ASSERT(memcmp(state, was, 0x100) && memcmp(state + 0x100, was, 0x100),
			    "no state was saved to a page");
		handled(g);
		TEST_ASSERT_EQ(own_finish(g), 0);
	}
}

TEST_F(smm, state_is_not_restored_from_where_reading_is_denied)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		own_issue(g, own_do_nothing, 0, 0, 0);
		inject_smi(g->vcpu);
		in_handler(g, 0);
		handled(g);
		smram_set(g, STATE_PAGE, kma_restrictions[i]);
		if (kma_restrictions[i] & KMA_NR) {
			rwx_assert_exit(g->vcpu, STATE_PAGE, KVM_MEMORY_EXIT_FLAG_READ);
			TEST_ASSERT(in_smm(g), "SMM was left without its state");
			rwx_assert_exit(g->vcpu, STATE_PAGE, KVM_MEMORY_EXIT_FLAG_READ);
			smram_set(g, STATE_PAGE, 0);
		}
		TEST_ASSERT_EQ(own_finish(g), 0);
		TEST_ASSERT(!in_smm(g), "the guest goes on in SMM");
		smram_set(g, STATE_PAGE, 0);
	}
}

/* SMM's own accesses. */
static void access_in_smm(struct rwx_guest *g, u8 what, u64 word, u64 flag)
{
	u8 *data = smram(g, DATA_PAGE), was;

	*data = was = 0x10;
	own_issue(g, own_do_nothing, 0, 0, 0);
	inject_smi(g->vcpu);
	in_handler(g, what);
	smram_set(g, DATA_PAGE, word);
	if (flag) {
		rwx_assert_exit(g->vcpu, DATA_PAGE, flag);
		TEST_ASSERT_EQ(*data, was);
		smram_set(g, DATA_PAGE, 0);
	}
	TEST_ASSERT_EQ(handled(g), what == 1 ? was : what);
	TEST_ASSERT_EQ(*data, what == 1 ? was : what);
	own_finish(g);
	smram_set(g, DATA_PAGE, 0);
}

TEST_F(smm, restrictions_bind_in_smm)
{
	struct rwx_guest *g = &self->g;

	for (int touched = 0; touched < 2; touched++) {
		access_in_smm(g, 1, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ);
		access_in_smm(g, 2, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_WRITE);
		access_in_smm(g, 2, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE);
		access_in_smm(g, 1, KMA_NW | KMA_NX, 0);
		access_in_smm(g, 2, KMA_NX, 0);
	}
}

TEST_F(smm, handlers_are_not_executed_where_that_is_denied)
{
	static const u64 words[] = { KMA_NX, KMA_NW | KMA_NX, KMA_NO_ACCESS };
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		smram_set(g, HANDLER_PAGE, words[i]);
		own_issue(g, own_do_nothing, 0, 0, 0);
		inject_smi(g->vcpu);
		rwx_assert_exit(g->vcpu, HANDLER_PAGE, KVM_MEMORY_EXIT_FLAG_EXEC);
		TEST_ASSERT(in_smm(g), "the handler's first fetch is outside of SMM");
		smram_set(g, HANDLER_PAGE, 0);
		in_handler(g, 0);
		handled(g);
		own_finish(g);
	}
}

/* One gfn, other memory in each address space, one attribute. */
TEST_F(smm, one_restriction_binds_in_each_address_space)
{
	struct rwx_guest *g = &self->g;
	u8 *data;

	/* Not by the library: it has one address space. */
	data = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(data != MAP_FAILED, "mmap: %s", strerror(errno));
	vm_set_user_memory_region(g->vm, KMA_SLOT + 1, 0, DATA_PAGE, PAGE_SIZE, data);
	virt_map(g->vm, DATA_PAGE, DATA_PAGE, 1);
	*data = 0x20;
	*smram(g, DATA_PAGE) = 0x10;
	TEST_ASSERT_EQ(own_call(g, own_do_read, DATA_PAGE, 0, 0), 0x20);
	access_in_smm(g, 1, 0, 0);

	/* Denied in SMM, and mapped there before; and in the other. */
	access_in_smm(g, 1, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ);
	TEST_ASSERT_EQ(own_call(g, own_do_read, DATA_PAGE, 0, 0), 0x20);
	smram_set(g, DATA_PAGE, KMA_NO_ACCESS);
	own_issue(g, own_do_read, DATA_PAGE, 0, 0);
	rwx_assert_exit(g->vcpu, DATA_PAGE, KVM_MEMORY_EXIT_FLAG_READ);
	smram_set(g, DATA_PAGE, KMA_NW);
	TEST_ASSERT_EQ(own_finish(g), 0x20);

	own_issue(g, own_do_write, DATA_PAGE, 0x21, 0);
	rwx_assert_exit(g->vcpu, DATA_PAGE, KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT_EQ(*data, 0x20);
	smram_set(g, DATA_PAGE, 0);
	own_finish(g);
	TEST_ASSERT_EQ(*data, 0x21);
	TEST_ASSERT_EQ(*smram(g, DATA_PAGE), 0x10);
	access_in_smm(g, 2, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT_EQ(*data, 0x21);
}

/* SMM's memory is a block that KVM can map as one page. */
FIXTURE(smm_block) {
	struct rwx_guest g;
};

static void add_block(struct rwx_guest *g)
{
	vm_userspace_mem_region_add(g->vm, VM_MEM_SRC_ANONYMOUS_THP, SMRAM_GPA, SMRAM_MEMSLOT,
				    SZ_2M / PAGE_SIZE, 0);
	memset(smram(g, SMRAM_GPA), 0, SZ_2M);
	memcpy(smram(g, HANDLER_PAGE), handler, sizeof(handler));
}

FIXTURE_SETUP(smm_block)
{
	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "KVM has no system management mode here");

	own_init(&self->g);
	add_block(&self->g);
	vcpu_set_msr(self->g.vcpu, MSR_IA32_SMBASE, SMRAM_GPA);
}

FIXTURE_TEARDOWN(smm_block)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

static u64 blocks(struct rwx_guest *g)
{
	return vm_get_stat(g->vm, pages_2m);
}

/* What's next to a page that can't be read is used first, and then that page. */
static void next_page_first(struct rwx_guest *g, u64 mapped)
{
	own_issue(g, own_do_nothing, 0, 0, 0);
	inject_smi(g->vcpu);
	in_handler(g, 1);
	TEST_ASSERT_EQ(blocks(g), mapped);
	rwx_assert_exit(g->vcpu, DATA_PAGE, KVM_MEMORY_EXIT_FLAG_READ);
	smram_set(g, DATA_PAGE, 0);
	TEST_ASSERT_EQ(handled(g), 0);
	own_finish(g);

	/* Nothing differs any more. */
	go_once(g);
	TEST_ASSERT_EQ(blocks(g), mapped + 1);
}

TEST_F(smm_block, restricted_page_is_in_no_huge_page)
{
	struct rwx_guest *g = &self->g;
	u64 mapped = blocks(g);

	go_once(g);
	TEST_ASSERT_EQ(blocks(g), mapped + 1);
	access_in_smm(g, 1, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ);
	*smram(g, DATA_PAGE) = 0;

	smram_set(g, DATA_PAGE, KMA_NO_ACCESS);
	next_page_first(g, mapped);
}

TEST_F(smm_block, slot_that_is_created_later_has_no_huge_page_there_either)
{
	struct rwx_guest *g = &self->g;
	u64 mapped = blocks(g);

	vm_mem_region_delete(g->vm, SMRAM_MEMSLOT);
	smram_set(g, DATA_PAGE, KMA_NO_ACCESS);
	add_block(g);
	next_page_first(g, mapped);
}

TEST_HARNESS_MAIN
