// SPDX-License-Identifier: GPL-2.0
/*
 * When the ioctl that denies an access has returned, KVM doesn't make it any
 * more, however busily it did until then: memory doesn't change from then on.
 */
/* modes: npt=0 */
#include <asm/kvm_para.h>
#include <pthread.h>

#include "kvm_memattr_own.h"

#define ROUNDS		200
/* How long a page is watched after it is denied. */
#define WATCH_US	2000

/* The pages of the window. */
enum { DATA, TIME, STEAL, RUNSTATE };

FIXTURE(revoke) {
	struct rwx_guest g;
};

FIXTURE_SETUP(revoke)
{
	own_force_emulation(true);
	own_init(&self->g);
}

FIXTURE_TEARDOWN(revoke)
{
	kvm_vm_free(self->g.vm);
	own_force_emulation(false);
}

static u64 do_wrmsr(u64 a, u64 b, u64 c)
{
	wrmsr(a, b);
	return 0;
}

static u64 do_emulated_writes(u64 a, u64 b, u64 c)
{
	for (;;)
		asm volatile(KVM_FEP "mov %1, (%0)" : : "r"(a), "r"(b++) : "memory");
	return 0;
}

static u64 do_emulated_atomics(u64 a, u64 b, u64 c)
{
	for (;;)
		asm volatile(KVM_FEP "lock incq (%0)" : : "r"(a) : "memory", "cc");
	return 0;
}

static u64 do_string_input(u64 a, u64 b, u64 c)
{
	u64 rdi, rcx;

	for (;;) {
		rdi = a;
		rcx = 64;
		asm volatile("rep insb" : "+D"(rdi), "+c"(rcx) : "d"(0x80) : "memory");
	}
	return 0;
}

static bool stop;
/*
 * Does the guest change what it reads? The emulator reads that first, and all may be
 * denied by then: as a read, too.
 */
static bool reads_first;
/* How often KVM was denied, which the guest can go on from once it's granted. */
static u64 nr_denied;

static bool denies_a_change(struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
	       (run->memory_fault.flags == KVM_MEMORY_EXIT_FLAG_WRITE ||
		(reads_first && run->memory_fault.flags == KVM_MEMORY_EXIT_FLAG_READ));
}

static void *run_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	u8 count = 0;

	while (!READ_ONCE(stop)) {
		if (!_vcpu_run(vcpu)) {
			/* Each byte of a device is another. */
			if (vcpu->run->exit_reason == KVM_EXIT_IO &&
			    vcpu->run->io.port == 0x80)
				memset((u8 *)vcpu->run + vcpu->run->io.data_offset, ++count,
				       vcpu->run->io.count);
			continue;
		}

		if (errno == EINTR)
			continue;
		TEST_ASSERT(errno == EFAULT && denies_a_change(vcpu->run),
			    "KVM_RUN: %s, exit reason %u (%s), flags 0x%llx", strerror(errno),
			    vcpu->run->exit_reason, exit_reason_str(vcpu->run->exit_reason),
			    vcpu->run->memory_fault.flags);
		WRITE_ONCE(nr_denied, nr_denied + 1);
	}
	return NULL;
}

/* Wait until KVM has written to the page. */
static void wait_for_write(struct rwx_guest *g, u64 page, void (*poke)(struct rwx_guest *g))
{
	void *copy = own_copy(g, page, 1);

	for (int i = 0; !memcmp(own_page(g, page), copy, PAGE_SIZE); i++) {
		if (poke)
			poke(g);
		TEST_ASSERT(i < 100 * 1000, "nothing writes to the page");
		usleep(100);
	}
	free(copy);
}

/* A thread has KVM write; @poke does so, too. Odd rounds deny all, others writes. */
static void revoked(struct rwx_guest *g, u64 page, void (*poke)(struct rwx_guest *g), bool exits)
{
	pthread_t thread;
	u64 was;

	WRITE_ONCE(stop, false);
	pthread_create(&thread, NULL, run_thread, g->vcpu);
	for (int i = 0; i < ROUNDS; i++) {
		void *copy;

		wait_for_write(g, page, poke);
		usleep(i % 16 * 50);
		was = READ_ONCE(nr_denied);
		rwx_set(g, page, 1, i & 1 ? KMA_NO_ACCESS : KMA_NW);
		copy = own_copy(g, page, 1);
		if (poke)
			poke(g);
		usleep(WATCH_US);
		while (exits && READ_ONCE(nr_denied) == was)
			usleep(100);
		own_assert_same(g, page, 1, copy);
		rwx_set(g, page, 1, 0);
	}
	WRITE_ONCE(stop, true);
	/* A guest that doesn't stop by itself. */
	rwx_set(g, page, 1, KMA_NW);
	pthread_join(thread, NULL);
}

TEST_F(revoke, emulated_writes_end_before_the_ioctl_does)
{
	own_issue(&self->g, do_emulated_writes, rwx_gpa(&self->g, DATA), 1, 0);
	revoked(&self->g, DATA, NULL, true);
}

TEST_F(revoke, emulated_atomics_end_before_the_ioctl_does)
{
	reads_first = true;
	own_issue(&self->g, do_emulated_atomics, rwx_gpa(&self->g, DATA), 0, 0);
	revoked(&self->g, DATA, NULL, true);
}

TEST_F(revoke, string_input_ends_before_the_ioctl_does)
{
	own_issue(&self->g, do_string_input, rwx_gpa(&self->g, DATA), 0, 0);
	revoked(&self->g, DATA, NULL, true);
}

/* Written with each KVM_RUN, through an address that KVM has looked up before. */
TEST_F(revoke, steal_time_ends_before_the_ioctl_does)
{
	struct rwx_guest *g = &self->g;

	own_call(g, do_wrmsr, MSR_KVM_STEAL_TIME, rwx_gpa(g, STEAL) | KVM_MSR_ENABLED, 0);
	own_issue(g, own_do_nothing, 0, 0, 0);
	revoked(g, STEAL, NULL, false);
}

static void set_clock(struct rwx_guest *g)
{
	struct kvm_clock_data data;

	vm_ioctl(g->vm, KVM_GET_CLOCK, &data);
	data.flags = 0;
	vm_ioctl(g->vm, KVM_SET_CLOCK, &data);
}

/* Written through a page that KVM has mapped before. */
TEST_F(revoke, system_time_ends_before_the_ioctl_does)
{
	struct rwx_guest *g = &self->g;

	own_call(g, do_wrmsr, MSR_KVM_SYSTEM_TIME_NEW, rwx_gpa(g, TIME) | 1, 0);
	own_issue(g, own_do_nothing, 0, 0, 0);
	revoked(g, TIME, set_clock, false);
}

/* Written whenever the vCPU is scheduled, by its thread or the one before. */
TEST_F(revoke, runstate_of_xen_ends_before_the_ioctl_does)
{
	struct kvm_xen_vcpu_attr attr = {
		.type = KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR,
	};
	struct kvm_xen_hvm_config config = {
		.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
		.msr = 0x40000000,
	};
	struct rwx_guest *g = &self->g;

	if (!(kvm_check_cap(KVM_CAP_XEN_HVM) & KVM_XEN_HVM_CONFIG_RUNSTATE))
		SKIP(return, "KVM has no guests of Xen here");

	vm_ioctl(g->vm, KVM_XEN_HVM_CONFIG, &config);
	attr.u.gpa = rwx_gpa(g, RUNSTATE);
	vcpu_ioctl(g->vcpu, KVM_XEN_VCPU_SET_ATTR, &attr);
	own_issue(g, own_do_nothing, 0, 0, 0);
	revoked(g, RUNSTATE, NULL, false);
}

TEST_HARNESS_MAIN
