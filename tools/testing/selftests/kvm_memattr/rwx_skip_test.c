// SPDX-License-Identifier: GPL-2.0
/*
 * An instruction that KVM or the VMM has executed is over. KVM may have to read
 * it to know where the next one is: if that were denied, it would be executed
 * again.
 */
/* modes: nrips=0 npt=0 */
#include "kvm_memattr_own.h"

/* KVM doesn't know it. */
#define UNKNOWN_MSR	0x12345678

FIXTURE(skip) {
	struct rwx_guest g;
};

FIXTURE_SETUP(skip)
{
	own_create(&self->g);
	vm_enable_cap(self->g.vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN);
	own_finish(&self->g);
}

FIXTURE_TEARDOWN(skip)
{
	kvm_vm_free(self->g.vm);
}

/* rdmsr; ret */
static const u8 read_msr[] = { 0x0f, 0x32, 0xc3 };
/* wrmsr; ret */
static const u8 write_msr[] = { 0x0f, 0x30, 0xc3 };

static u64 do_call_msr(u64 a, u64 b, u64 c)
{
	u32 eax = b, edx = 0;

	asm volatile("call *%2" : "+a"(eax), "+d"(edx) : "r"(a), "c"(UNKNOWN_MSR) : "memory");
	return eax;
}

static void done_once(struct rwx_guest *g, u64 page, const u8 *code, u32 reason, u64 word)
{
	memcpy(own_page(g, page), code, sizeof(read_msr));
	own_issue(g, do_call_msr, rwx_gpa(g, page), 0x11, 0);
	vcpu_run(g->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(g->vcpu, reason);
	g->vcpu->run->msr.error = 0;
	g->vcpu->run->msr.data = 0x22;

	/* The MSR has been read or written. What is denied is the next instruction. */
	rwx_set(g, page, 1, word);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page), KVM_MEMORY_EXIT_FLAG_EXEC);
	rwx_set(g, page, 1, 0);
	TEST_ASSERT_EQ(own_finish(g), reason == KVM_EXIT_X86_RDMSR ? 0x22 : 0x11);
}

TEST_F(skip, instructions_that_the_vmm_has_executed_are_not_executed_again)
{
	static const u64 words[] = { KMA_NX, KMA_NW | KMA_NX, KMA_NO_ACCESS };

	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		done_once(&self->g, 2 * i, read_msr, KVM_EXIT_X86_RDMSR, words[i]);
		done_once(&self->g, 2 * i + 1, write_msr, KVM_EXIT_X86_WRMSR, words[i]);
	}
}

TEST_HARNESS_MAIN
