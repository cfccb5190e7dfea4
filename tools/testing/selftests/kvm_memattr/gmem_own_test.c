// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's own accesses to memory that is converted in place. They go by way of
 * userspace_addr, where the VMM has mapped the file: KVM reaches what is shared, as
 * the VMM does, and private memory is none to it.
 */
#include <asm/kvm_para.h>
#include <asm/pvclock-abi.h>

#include "kvm_memattr_gmem.h"
#include "kvm_memattr_own.h"

#define MEM_SIZE	(OWN_PAGES * PAGE_SIZE)
#define DEVICE_GPA	(KMA_GPA + SZ_1G)

FIXTURE(own) {
	struct rwx_guest g;
	int fd;
	u8 *mem;
};

FIXTURE_SETUP(own)
{
	struct rwx_guest *g = &self->g;

	KMA_REQUIRE_PROTECTED_VMS();
	gmem_catch_sigbus();
	g->gpa = KMA_GPA;
	g->nr_pages = OWN_PAGES;
	g->vm = vm_create_shape_with_one_vcpu(kma_protected_shape, &g->vcpu, own_guest_code);
	vcpu_args_set(g->vcpu, 1, (u64)g->vcpu->id);
	self->fd = vm_create_guest_memfd(g->vm, MEM_SIZE, GMEM_SHARED);
	self->mem = kvm_mmap(MEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd);
	vm_set_user_memory_region2(g->vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, g->gpa, MEM_SIZE,
				   self->mem, self->fd, 0);
	virt_map(g->vm, g->gpa, g->gpa, OWN_PAGES);
	virt_map(g->vm, DEVICE_GPA, DEVICE_GPA, 1);
	own_finish(g);
}

FIXTURE_TEARDOWN(own)
{
	if (!self->g.vm)
		return;
	kvm_munmap(self->mem, MEM_SIZE);
	kvm_close(self->fd);
	kvm_vm_free(self->g.vm);
}

static void set_page(FIXTURE_DATA(own) * self, u64 page, u64 attributes)
{
	GMEM_ASSERT_SET(self->fd, page * PAGE_SIZE, PAGE_SIZE, attributes, GMEM_PRESERVE);
}

static void move_from_device(FIXTURE_DATA(own) * self, u64 gpa, u8 value)
{
	own_issue(&self->g, own_do_move, gpa, DEVICE_GPA, 0);
	own_assert_mmio(self->g.vcpu, DEVICE_GPA, false, 1);
	self->g.vcpu->run->mmio.data[0] = value;
}

TEST_F(own, emulator_writes_what_is_shared_and_nothing_else)
{
	struct rwx_guest *g = &self->g;
	u64 gpa = rwx_gpa(g, 3);

	move_from_device(self, gpa, 0x11);
	own_finish(g);
	TEST_ASSERT_EQ(self->mem[3 * PAGE_SIZE], 0x11);
	TEST_ASSERT_EQ(own_call(g, own_do_read, gpa, 0, 0), 0x11);

	set_page(self, 3, KMA_PRIVATE);
	move_from_device(self, gpa, 0x22);
	own_assert_mmio(g->vcpu, gpa, true, 1);
	own_finish(g);
	TEST_ASSERT_EQ(own_call(g, own_do_read, gpa, 0, 0), 0x11);

	set_page(self, 3, 0);
	TEST_ASSERT_EQ(self->mem[3 * PAGE_SIZE], 0x11);
	move_from_device(self, gpa, 0x33);
	own_finish(g);
	TEST_ASSERT_EQ(self->mem[3 * PAGE_SIZE], 0x33);
}

TEST_F(own, emulator_reads_what_is_shared_and_nothing_else)
{
	struct rwx_guest *g = &self->g;
	struct kvm_run *run = g->vcpu->run;
	u64 gpa = rwx_gpa(g, 4);

	own_call(g, own_do_write, gpa, 0x44, 0);
	own_issue(g, own_do_move, DEVICE_GPA, gpa, 0);
	own_assert_mmio(g->vcpu, DEVICE_GPA, true, 1);
	TEST_ASSERT_EQ(run->mmio.data[0], 0x44);
	own_finish(g);

	set_page(self, 4, KMA_PRIVATE);
	own_issue(g, own_do_move, DEVICE_GPA, gpa, 0);
	own_assert_mmio(g->vcpu, gpa, false, 1);
	run->mmio.data[0] = 0x55;
	own_assert_mmio(g->vcpu, DEVICE_GPA, true, 1);
	TEST_ASSERT_EQ(run->mmio.data[0], 0x55);
	own_finish(g);

	set_page(self, 4, 0);
	own_issue(g, own_do_move, DEVICE_GPA, gpa, 0);
	own_assert_mmio(g->vcpu, DEVICE_GPA, true, 1);
	TEST_ASSERT_EQ(run->mmio.data[0], 0x44);
	own_finish(g);
}

/* KVM has the page's address from before. */
TEST_F(own, clock_is_not_written_to_a_page_that_has_become_private)
{
	struct rwx_guest *g = &self->g;
	struct pvclock_vcpu_time_info *clock = (void *)(self->mem + 5 * PAGE_SIZE), was;

	TEST_ASSERT_EQ(own_call(g, own_do_wrmsr, MSR_KVM_SYSTEM_TIME_NEW, rwx_gpa(g, 5) | 1, 0), 0);
	own_call(g, own_do_nothing, 0, 0, 0);
	was = *clock;
	TEST_ASSERT(was.version, "there is no clock in the page");
	own_update_clock(g);
	TEST_ASSERT(clock->version != was.version, "the clock in the page is not updated");

	was = *clock;
	set_page(self, 5, KMA_PRIVATE);
	own_update_clock(g);
	own_update_clock(g);
	set_page(self, 5, 0);
	TEST_ASSERT(!memcmp(clock, &was, sizeof(was)), "the clock was written to private memory");

	own_update_clock(g);
	TEST_ASSERT(clock->version != was.version, "the clock is not written after that");
}

TEST_HARNESS_MAIN
