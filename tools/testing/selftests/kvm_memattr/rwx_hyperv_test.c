// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM does with the memory of a guest of Hyper-V: pages that the guest has
 * enabled with an MSR, messages of timers, and the input of hypercalls.
 */
/* modes: npt=0 */
#include <sys/eventfd.h>

#include "hyperv.h"
#include "kvm_memattr_own.h"

#define ENABLE			1
#define SINT			1
#define SINT_VECTOR		0x42
#define CONNECTION		1

#define STIMER_ENABLE		BIT(0)
#define STIMER_SINT_SHIFT	16

/* The pages of the window. */
enum { TSC_PAGE, HYPERCALL_PAGE, MESSAGE_PAGE, ASSIST_PAGE, INPUT_PAGE };

FIXTURE(hyperv) {
	struct rwx_guest g;
};

FIXTURE_SETUP(hyperv)
{
	struct rwx_guest *g = &self->g;

	if (!kvm_has_cap(KVM_CAP_HYPERV_SYNIC2) || !kvm_has_cap(KVM_CAP_SYS_HYPERV_CPUID))
		SKIP(return, "KVM has no guests of Hyper-V here");

	own_create(g);
	vcpu_set_hv_cpuid(g->vcpu);
	vcpu_enable_cap(g->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	vcpu_set_msr(g->vcpu, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID);
	own_finish(g);
}

FIXTURE_TEARDOWN(hyperv)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

TEST_F(hyperv, hypercall_page_is_written_once_allowed)
{
	struct rwx_guest *g = &self->g;

	own_assert_wrmsr_repeated(g, HYPERCALL_PAGE, HV_X64_MSR_HYPERCALL,
				  rwx_gpa(g, HYPERCALL_PAGE) | ENABLE);
}

/* Of a VMM that is asked about MSRs that KVM refuses. */
TEST_F(hyperv, hypercall_page_is_written_once_allowed_though_msrs_exit)
{
	struct rwx_guest *g = &self->g;

	vm_enable_cap(g->vm, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_INVAL);
	own_assert_wrmsr_repeated(g, HYPERCALL_PAGE, HV_X64_MSR_HYPERCALL,
				  rwx_gpa(g, HYPERCALL_PAGE) | ENABLE);
}

/* What KVM itself clears when it's enabled can't be enabled while it's denied. */
static void refused_while_denied(struct rwx_guest *g, u32 msr, u64 page, bool exits)
{
	u64 gpa = rwx_gpa(g, page);

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		void *copy;

		memset(own_page(g, page), 0xee, PAGE_SIZE);
		copy = own_copy(g, page, 1);
		rwx_set(g, page, 1, kma_restrictions[i]);
		if (kma_restrictions[i] & KMA_NW) {
			TEST_ASSERT_EQ(own_call(g, own_do_wrmsr, msr, gpa | ENABLE, 0), GP_VECTOR);
			TEST_ASSERT(!own_changed(g, page, copy), "a denied page has changed");
			rwx_set(g, page, 1, 0);
		}
		own_issue(g, own_do_wrmsr, msr, gpa | ENABLE, 0);
		if (exits) {
			vcpu_run(g->vcpu);
			TEST_ASSERT_KVM_EXIT_REASON(g->vcpu, KVM_EXIT_HYPERV);
		}
		TEST_ASSERT_EQ(own_finish(g), 0);
		TEST_ASSERT_EQ(*(u32 *)own_page(g, page), 0);
		rwx_set(g, page, 1, 0);
		free(copy);
	}
}

TEST_F(hyperv, message_page_is_not_cleared_while_denied)
{
	/* The first version of it has KVM clear them. */
	vcpu_enable_cap(self->g.vcpu, KVM_CAP_HYPERV_SYNIC, 0);
	refused_while_denied(&self->g, HV_X64_MSR_SIMP, MESSAGE_PAGE, true);
}

TEST_F(hyperv, event_page_is_not_cleared_while_denied)
{
	/* The first version of it has KVM clear them. */
	vcpu_enable_cap(self->g.vcpu, KVM_CAP_HYPERV_SYNIC, 0);
	refused_while_denied(&self->g, HV_X64_MSR_SIEFP, MESSAGE_PAGE, true);
}

TEST_F(hyperv, assist_page_is_not_cleared_while_denied)
{
	refused_while_denied(&self->g, HV_X64_MSR_VP_ASSIST_PAGE, ASSIST_PAGE, false);
}

/* As by a VMM that restores a guest. */
static void set_by_userspace_while_denied(struct rwx_guest *g, u32 msr, u64 page)
{
	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		memset(own_page(g, page), 0xee, PAGE_SIZE);
		rwx_set(g, page, 1, kma_restrictions[i]);
		vcpu_set_msr(g->vcpu, msr, rwx_gpa(g, page) | ENABLE);
		TEST_ASSERT(*(u32 *)own_page(g, page) != 0xeeeeeeee, "nothing was written");
		/* The guest goes on. */
		own_call(g, own_do_wrmsr, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID, 0);
		rwx_set(g, page, 1, 0);
	}
}

TEST_F(hyperv, hypercall_page_is_set_by_userspace_while_denied)
{
	set_by_userspace_while_denied(&self->g, HV_X64_MSR_HYPERCALL, HYPERCALL_PAGE);
}

TEST_F(hyperv, assist_page_is_set_by_userspace_while_denied)
{
	set_by_userspace_while_denied(&self->g, HV_X64_MSR_VP_ASSIST_PAGE, ASSIST_PAGE);
}

/* A page with the clock is given up if it can't be written, until enabled again. */
TEST_F(hyperv, reference_tsc_page_is_not_written_while_denied)
{
	struct rwx_guest *g = &self->g;
	u64 gpa = rwx_gpa(g, TSC_PAGE);

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		void *copy;

		memset(own_page(g, TSC_PAGE), 0, PAGE_SIZE);
		copy = own_copy(g, TSC_PAGE, 1);
		rwx_set(g, TSC_PAGE, 1, kma_restrictions[i]);
		TEST_ASSERT_EQ(own_call(g, own_do_wrmsr, HV_X64_MSR_REFERENCE_TSC, gpa | ENABLE, 0),
			       0);
		own_call(g, own_do_wrmsr, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID, 0);
		TEST_ASSERT(own_changed(g, TSC_PAGE, copy) == !(kma_restrictions[i] & KMA_NW),
			    "word 0x%lx: the page has %schanged", kma_restrictions[i],
			    kma_restrictions[i] & KMA_NW ? "" : "not ");

		rwx_set(g, TSC_PAGE, 1, 0);
		memset(own_page(g, TSC_PAGE), 0, PAGE_SIZE);
		TEST_ASSERT_EQ(own_call(g, own_do_wrmsr, HV_X64_MSR_REFERENCE_TSC, gpa | ENABLE, 0),
			       0);
		own_call(g, own_do_wrmsr, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID, 0);
		TEST_ASSERT(own_changed(g, TSC_PAGE, copy), "nothing is written after it");
		free(copy);
	}
}

static void expire_timer(struct rwx_guest *g)
{
	own_call(g, own_do_wrmsr, HV_X64_MSR_STIMER0_CONFIG,
		 STIMER_ENABLE | SINT << STIMER_SINT_SHIFT, 0);
	/* It was due long ago. */
	own_call(g, own_do_wrmsr, HV_X64_MSR_STIMER0_COUNT, 1, 0);
	usleep(10 * 1000);
	own_call(g, own_do_wrmsr, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID, 0);
}

/* A message waits for the slot, until the guest says that it's free. */
TEST_F(hyperv, messages_are_not_delivered_while_denied)
{
	struct rwx_guest *g = &self->g;

	vcpu_set_msr(g->vcpu, HV_X64_MSR_SCONTROL, ENABLE);
	vcpu_set_msr(g->vcpu, HV_X64_MSR_SIMP, rwx_gpa(g, MESSAGE_PAGE) | ENABLE);
	vcpu_set_msr(g->vcpu, HV_X64_MSR_SINT0 + SINT, SINT_VECTOR);
	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		u32 *type = own_page(g, MESSAGE_PAGE) + SINT * 256;
		void *copy;

		memset(own_page(g, MESSAGE_PAGE), 0, PAGE_SIZE);
		expire_timer(g);
		TEST_ASSERT(*type, "a timer sends no message without restrictions");

		memset(own_page(g, MESSAGE_PAGE), 0, PAGE_SIZE);
		copy = own_copy(g, MESSAGE_PAGE, 1);
		rwx_set(g, MESSAGE_PAGE, 1, kma_restrictions[i]);
		expire_timer(g);
		TEST_ASSERT(own_changed(g, MESSAGE_PAGE, copy) == !(kma_restrictions[i] & KMA_NW),
			    "word 0x%lx: the page has %schanged", kma_restrictions[i],
			    kma_restrictions[i] & KMA_NW ? "" : "not ");

		rwx_set(g, MESSAGE_PAGE, 1, 0);
		own_call(g, own_do_wrmsr, HV_X64_MSR_EOM, 0, 0);
		own_call(g, own_do_wrmsr, HV_X64_MSR_GUEST_OS_ID, HYPERV_LINUX_OS_ID, 0);
		TEST_ASSERT(*type, "the message was lost");
		free(copy);
	}
}

static u64 do_hypercall(u64 a, u64 b, u64 c)
{
	u64 status;
	u8 vector = __hyperv_hypercall(a, b, 0, &status);

	GUEST_ASSERT_EQ(vector, 0);
	return status;
}

static u64 count_of(int fd)
{
	u64 count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/* The result of a hypercall that is repeated is that of the last time. */
TEST_F(hyperv, events_are_signalled_once_their_input_can_be_read)
{
	struct rwx_guest *g = &self->g;
	struct kvm_hyperv_eventfd event = {
		.conn_id = CONNECTION,
		.fd = eventfd(0, EFD_NONBLOCK),
	};
	u64 gpa = rwx_gpa(g, INPUT_PAGE);

	TEST_ASSERT(event.fd >= 0, "eventfd: %s", strerror(errno));
	vm_ioctl(g->vm, KVM_HYPERV_EVENTFD, &event);
	*(u64 *)own_page(g, INPUT_PAGE) = CONNECTION;
	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		rwx_set(g, INPUT_PAGE, 1, kma_restrictions[i]);
		own_issue(g, do_hypercall, HVCALL_SIGNAL_EVENT, gpa, 0);
		if (kma_restrictions[i] & KMA_NR) {
			rwx_assert_exit(g->vcpu, gpa, KVM_MEMORY_EXIT_FLAG_READ);
			rwx_assert_exit(g->vcpu, gpa, KVM_MEMORY_EXIT_FLAG_READ);
			TEST_ASSERT_EQ(count_of(event.fd), 0);
			rwx_set(g, INPUT_PAGE, 1, 0);
		}
		TEST_ASSERT_EQ(own_finish(g), HV_STATUS_SUCCESS);
		TEST_ASSERT_EQ(count_of(event.fd), 1);
		rwx_set(g, INPUT_PAGE, 1, 0);
	}
	close(event.fd);
}

struct flush_input {
	u64 address_space;
	u64 flags;
	u64 processor_mask;
};

struct ipi_input {
	u32 vector;
	u32 reserved;
	u64 processor_mask;
};

/* Others fail, as they do where there's no memory at all. */
static void fails_while_denied(struct rwx_guest *g, u64 control)
{
	u64 gpa = rwx_gpa(g, INPUT_PAGE);

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		rwx_set(g, INPUT_PAGE, 1, kma_restrictions[i]);
		TEST_ASSERT_EQ(own_call(g, do_hypercall, control, gpa, 0) & 0xffff,
			       kma_restrictions[i] & KMA_NR ? HV_STATUS_INVALID_HYPERCALL_INPUT :
							      HV_STATUS_SUCCESS);
		rwx_set(g, INPUT_PAGE, 1, 0);
		TEST_ASSERT_EQ(own_call(g, do_hypercall, control, gpa, 0) & 0xffff,
			       HV_STATUS_SUCCESS);
	}
}

TEST_F(hyperv, flushes_fail_while_their_input_is_denied)
{
	*(struct flush_input *)own_page(&self->g, INPUT_PAGE) = (struct flush_input) {
		.flags = HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES | HV_FLUSH_ALL_PROCESSORS,
	};
	fails_while_denied(&self->g, HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE);
}

TEST_F(hyperv, ipis_fail_while_their_input_is_denied)
{
	*(struct ipi_input *)own_page(&self->g, INPUT_PAGE) = (struct ipi_input) {
		.vector = SINT_VECTOR,
	};
	fails_while_denied(&self->g, HVCALL_SEND_IPI);
}

TEST_HARNESS_MAIN
