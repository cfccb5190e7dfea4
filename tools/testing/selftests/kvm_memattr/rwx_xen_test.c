// SPDX-License-Identifier: GPL-2.0
/*
 * What KVM keeps in the memory of a guest of Xen: clocks, runstate and event
 * channels, which it leaves alone while their page is denied; and what it does
 * because of an instruction of the guest, which is repeated.
 */
/* modes: npt=0 */
#include "kvm_memattr_own.h"

#define HYPERCALL_MSR		0x40000000
#define VECTOR			0x42
#define PORT			15
#define SEND_PORT		127

#define __HYPERVISOR_event_channel_op	32
#define EVTCHNOP_send			4
#define EVTCHNSTAT_interdomain		2

/* The pages of the window. */
enum { SHINFO, VCPU_INFO, TIME_INFO, RUNSTATE, RUNSTATE2, ARGUMENTS, HYPERCALLS };

/* Offsets of what is looked at, in the 64-bit layouts. */
#define SHINFO_PENDING		0x800
#define VINFO_UPCALL_PENDING	0
#define VINFO_PENDING_SEL	8

FIXTURE(xen) {
	struct rwx_guest g;
};

static void vm_attr(struct rwx_guest *g, struct kvm_xen_hvm_attr attr)
{
	vm_ioctl(g->vm, KVM_XEN_HVM_SET_ATTR, &attr);
}

static void vcpu_attr(struct rwx_guest *g, u16 type, u64 gpa)
{
	struct kvm_xen_vcpu_attr attr = { .type = type, .u.gpa = gpa };

	vcpu_ioctl(g->vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
}

static u64 seen;

static void handler(struct ex_regs *regs)
{
	seen++;
	*(u8 *)(KMA_GPA + VCPU_INFO * PAGE_SIZE + VINFO_UPCALL_PENDING) = 0;
	*(u64 *)(KMA_GPA + VCPU_INFO * PAGE_SIZE + VINFO_PENDING_SEL) = 0;
}

FIXTURE_SETUP(xen)
{
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL | KVM_XEN_HVM_CONFIG_EVTCHN_SEND,
		.msr = HYPERCALL_MSR,
	};
	int caps = kvm_check_cap(KVM_CAP_XEN_HVM);
	struct rwx_guest *g = &self->g;

	if (!(caps & KVM_XEN_HVM_CONFIG_RUNSTATE) || !(caps & KVM_XEN_HVM_CONFIG_EVTCHN_SEND))
		SKIP(return, "KVM has no guests of Xen here");

	own_init(g);
	for (u64 page = 0; page <= HYPERCALLS; page++)
		memset(own_page(g, page), 0, PAGE_SIZE);
	vm_ioctl(g->vm, KVM_XEN_HVM_CONFIG, &config);
	vm_attr(g, (struct kvm_xen_hvm_attr) {
		.type = KVM_XEN_ATTR_TYPE_LONG_MODE, .u.long_mode = 1 });
	vm_attr(g, (struct kvm_xen_hvm_attr) {
		.type = KVM_XEN_ATTR_TYPE_UPCALL_VECTOR, .u.vector = VECTOR });
	vm_attr(g, (struct kvm_xen_hvm_attr) {
		.type = KVM_XEN_ATTR_TYPE_EVTCHN,
		.u.evtchn.send_port = SEND_PORT,
		.u.evtchn.type = EVTCHNSTAT_interdomain,
		.u.evtchn.deliver.port.port = PORT,
		.u.evtchn.deliver.port.vcpu = g->vcpu->id,
		.u.evtchn.deliver.port.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL });
	vm_install_exception_handler(g->vm, VECTOR, handler);
}

FIXTURE_TEARDOWN(xen)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

static void set_shared_info(struct rwx_guest *g)
{
	vm_attr(g, (struct kvm_xen_hvm_attr) {
		.type = KVM_XEN_ATTR_TYPE_SHARED_INFO,
		.u.shared_info.gfn = rwx_gpa(g, SHINFO) / PAGE_SIZE });
}

static void set_vcpu_info(struct rwx_guest *g)
{
	vcpu_attr(g, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO, rwx_gpa(g, VCPU_INFO));
}

/* KVM has a look at what is pending after an exit that it handles by itself. */
static u64 do_exit(u64 a, u64 b, u64 c)
{
	u32 unused;

	cpuid(0, &unused, &unused, &unused, &unused);
	return 0;
}

static u64 do_take_interrupts(u64 a, u64 b, u64 c)
{
	do_exit(a, b, c);
	sti_nop();
	do_exit(a, b, c);
	cli();
	return 0;
}

/* From running to running: KVM brings the times up to date. */
static void update_runstate(struct rwx_guest *g)
{
	own_call(g, own_do_nothing, 0, 0, 0);
}

/* KVM writes to @looked_at when it updates, but not while @page is denied. */
static void skipped(struct rwx_guest *g, u64 page, u64 looked_at,
		    void (*update)(struct rwx_guest *g))
{
	void *copy;

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		u64 word = kma_restrictions[i];

		copy = own_copy(g, looked_at, 1);
		update(g);
		TEST_ASSERT(own_changed(g, looked_at, copy),
			    "nothing is written without restrictions");
		free(copy);

		rwx_set(g, page, 1, word);
		copy = own_copy(g, looked_at, 1);
		update(g);
		update(g);
		TEST_ASSERT(own_changed(g, looked_at, copy) == !(word & KMA_NW),
			    "word 0x%lx: the page has %schanged", word,
			    word & KMA_NW ? "" : "not ");
		free(copy);

		copy = own_copy(g, looked_at, 1);
		rwx_set(g, page, 1, 0);
		update(g);
		TEST_ASSERT(own_changed(g, looked_at, copy),
			    "word 0x%lx: nothing is written after it", word);
		free(copy);
	}
}

TEST_F(xen, vcpu_time_info_is_not_written_while_denied)
{
	vcpu_attr(&self->g, KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO, rwx_gpa(&self->g, TIME_INFO));
	skipped(&self->g, TIME_INFO, TIME_INFO, own_update_clock);
}

TEST_F(xen, time_in_vcpu_info_is_not_written_while_denied)
{
	set_vcpu_info(&self->g);
	skipped(&self->g, VCPU_INFO, VCPU_INFO, own_update_clock);
}

TEST_F(xen, runstate_is_not_written_while_denied)
{
	vcpu_attr(&self->g, KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR, rwx_gpa(&self->g, RUNSTATE));
	skipped(&self->g, RUNSTATE, RUNSTATE, update_runstate);
}

/* In two pages, it is written as a whole or not at all. */
TEST_F(xen, runstate_across_two_pages_is_not_written_while_either_is_denied)
{
	struct rwx_guest *g = &self->g;

	vcpu_attr(g, KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR, rwx_gpa(g, RUNSTATE2) - 15);
	skipped(g, RUNSTATE, RUNSTATE, update_runstate);
	skipped(g, RUNSTATE, RUNSTATE2, update_runstate);
	skipped(g, RUNSTATE2, RUNSTATE, update_runstate);
	skipped(g, RUNSTATE2, RUNSTATE2, update_runstate);
}

/* The VMM is told, as it's the one that asks. */
TEST_F(xen, shared_info_is_not_initialised_while_denied)
{
	struct rwx_guest *g = &self->g;
	struct kvm_xen_hvm_attr attr = {
		.type = KVM_XEN_ATTR_TYPE_SHARED_INFO,
		.u.shared_info.gfn = rwx_gpa(g, SHINFO) / PAGE_SIZE,
	};

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		void *copy = own_copy(g, SHINFO, 1);

		rwx_set(g, SHINFO, 1, kma_restrictions[i]);
		if (kma_restrictions[i] & KMA_NW) {
			KMA_ASSERT_ERRNO(EFAULT, __vm_ioctl(g->vm, KVM_XEN_HVM_SET_ATTR, &attr));
			TEST_ASSERT(!own_changed(g, SHINFO, copy), "a denied page has changed");
		}
		rwx_set(g, SHINFO, 1, 0);
		vm_ioctl(g->vm, KVM_XEN_HVM_SET_ATTR, &attr);
		TEST_ASSERT(own_changed(g, SHINFO, copy), "nothing is written after it");
		free(copy);
	}
}

static int send_event(struct rwx_guest *g)
{
	struct kvm_irq_routing_xen_evtchn event = {
		.port = PORT,
		.vcpu = g->vcpu->id,
		.priority = KVM_IRQ_ROUTING_XEN_EVTCHN_PRIO_2LEVEL,
	};

	return __vm_ioctl(g->vm, KVM_XEN_HVM_EVTCHN_SEND, &event);
}

static u64 events_seen(struct rwx_guest *g)
{
	own_call(g, do_take_interrupts, 0, 0, 0);
	own_call(g, do_take_interrupts, 0, 0, 0);
	return READ_ONCE(*(u64 *)addr_gva2hva(g->vm, (gva_t)&seen));
}

/* The sender is told where the pending bit can't be set. */
TEST_F(xen, events_are_not_sent_while_shared_info_is_denied)
{
	struct rwx_guest *g = &self->g;
	u64 *pending = own_page(g, SHINFO) + SHINFO_PENDING;
	u64 sent = 0;

	set_shared_info(g);
	set_vcpu_info(g);
	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		*pending = 0;
		TEST_ASSERT(send_event(g) >= 0, "no event can be sent: %s", strerror(errno));
		TEST_ASSERT_EQ(*pending, BIT(PORT));
		TEST_ASSERT_EQ(events_seen(g), ++sent);
		*pending = 0;

		rwx_set(g, SHINFO, 1, kma_restrictions[i]);
		if (kma_restrictions[i] & KMA_NW) {
			KMA_ASSERT_ERRNO(EFAULT, send_event(g));
			TEST_ASSERT_EQ(*pending, 0);
		} else {
			TEST_ASSERT(send_event(g) >= 0, "no event can be sent: %s",
				    strerror(errno));
			TEST_ASSERT_EQ(*pending, BIT(PORT));
			sent++;
		}
		TEST_ASSERT_EQ(events_seen(g), sent);
		rwx_set(g, SHINFO, 1, 0);
	}
}

/* KVM itself keeps what has to be set there, until it may. */
TEST_F(xen, events_wait_while_vcpu_info_is_denied)
{
	static const u64 words[] = { KMA_NW, KMA_NW | KMA_NX, KMA_NO_ACCESS };
	struct rwx_guest *g = &self->g;
	u64 *pending = own_page(g, SHINFO) + SHINFO_PENDING;

	set_shared_info(g);
	set_vcpu_info(g);
	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		void *copy = own_copy(g, VCPU_INFO, 1);

		*pending = 0;
		rwx_set(g, VCPU_INFO, 1, words[i]);
		TEST_ASSERT(send_event(g) >= 0, "no event can be sent: %s", strerror(errno));
		TEST_ASSERT_EQ(*pending, BIT(PORT));
		own_call(g, do_exit, 0, 0, 0);
		own_call(g, do_take_interrupts, 0, 0, 0);
		own_assert_same(g, VCPU_INFO, 1, copy);
		rwx_set(g, VCPU_INFO, 1, 0);
		TEST_ASSERT_EQ(events_seen(g), i + 1);
	}
}

static u64 do_hypercall(u64 a, u64 b, u64 c)
{
	return __xen_hypercall(a, b, (void *)c);
}

/* The number of the hypercall is still there when it is repeated. */
TEST_F(xen, hypercalls_are_repeated_where_their_arguments_are_denied)
{
	struct rwx_guest *g = &self->g;
	u64 *pending = own_page(g, SHINFO) + SHINFO_PENDING;
	u64 sent = 0;

	set_shared_info(g);
	set_vcpu_info(g);
	*(u32 *)own_page(g, ARGUMENTS) = SEND_PORT;
	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		*pending = 0;
		rwx_set(g, ARGUMENTS, 1, kma_restrictions[i]);
		own_issue(g, do_hypercall, __HYPERVISOR_event_channel_op, EVTCHNOP_send,
			  rwx_gpa(g, ARGUMENTS));
		if (kma_restrictions[i] & KMA_NR) {
			rwx_assert_exit(g->vcpu, rwx_gpa(g, ARGUMENTS),
					KVM_MEMORY_EXIT_FLAG_READ);
			rwx_assert_exit(g->vcpu, rwx_gpa(g, ARGUMENTS),
					KVM_MEMORY_EXIT_FLAG_READ);
			TEST_ASSERT_EQ(*pending, 0);
			rwx_set(g, ARGUMENTS, 1, 0);
		}
		TEST_ASSERT_EQ(own_finish(g), 0);
		TEST_ASSERT_EQ(*pending, BIT(PORT));
		TEST_ASSERT_EQ(events_seen(g), ++sent);
		rwx_set(g, ARGUMENTS, 1, 0);
	}
}

TEST_F(xen, hypercall_page_is_written_once_allowed)
{
	struct rwx_guest *g = &self->g;

	own_assert_wrmsr_repeated(g, HYPERCALLS, HYPERCALL_MSR, rwx_gpa(g, HYPERCALLS));
}

/* By its address in the VMM it is the VMM's own, whatever the gfn denies. */
TEST_F(xen, vcpu_info_by_the_vmms_address_is_not_restricted)
{
	struct rwx_guest *g = &self->g;
	void *copy;

	if (!(kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_SHARED_INFO_HVA))
		SKIP(return, "KVM takes no addresses of the VMM here");

	vcpu_attr(g, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO_HVA, (u64)own_page(g, VCPU_INFO));
	rwx_set(g, VCPU_INFO, 1, KMA_NO_ACCESS);
	copy = own_copy(g, VCPU_INFO, 1);
	own_update_clock(g);
	TEST_ASSERT(own_changed(g, VCPU_INFO, copy), "nothing is written");
	free(copy);
}

TEST_HARNESS_MAIN
