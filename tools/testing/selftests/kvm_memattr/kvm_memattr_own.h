/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that calls functions on command, to have KVM access memory on its
 * behalf, and the host's side of it: what KVM is denied, with which exit or
 * without one, and that memory is as it was.
 */
#ifndef KVM_MEMATTR_OWN_H
#define KVM_MEMATTR_OWN_H

#include "kvm_memattr_rwx.h"

typedef u64 (*own_fn)(u64 a, u64 b, u64 c);

struct own_cmd {
	own_fn fn;
	u64 arg[3];
};

#define OWN_PAGES	32ull

static struct own_cmd own_cmds[RWX_VCPUS];

static void own_guest_code(u64 vcpu_id)
{
	struct own_cmd *cmd = &own_cmds[vcpu_id];
	u64 ret = 0;
	own_fn fn;

	for (;;) {
		GUEST_SYNC(ret);
		fn = READ_ONCE(cmd->fn);
		ret = fn(READ_ONCE(cmd->arg[0]), READ_ONCE(cmd->arg[1]), READ_ONCE(cmd->arg[2]));
	}
}

static inline void own_issue_on(struct kvm_vcpu *vcpu, own_fn fn, u64 a, u64 b, u64 c)
{
	struct own_cmd cmd = { .fn = fn, .arg = { a, b, c } };

	memcpy(addr_gva2hva(vcpu->vm, (gva_t)&own_cmds[vcpu->id]), &cmd, sizeof(cmd));
}

/* Run until the function has returned, which nothing hinders: what it returned. */
static inline u64 own_finish_on(struct kvm_vcpu *vcpu)
{
	return kma_run_to_sync(vcpu).args[1];
}

static inline void own_issue(struct rwx_guest *g, own_fn fn, u64 a, u64 b, u64 c)
{
	own_issue_on(g->vcpu, fn, a, b, c);
}

static inline u64 own_finish(struct rwx_guest *g)
{
	return own_finish_on(g->vcpu);
}

static inline u64 own_call(struct rwx_guest *g, own_fn fn, u64 a, u64 b, u64 c)
{
	own_issue(g, fn, a, b, c);
	return own_finish(g);
}

/* The vCPU hasn't run yet. */
static inline void own_create(struct rwx_guest *g)
{
	g->gpa = KMA_GPA;
	g->nr_pages = OWN_PAGES;
	g->vm = vm_create_with_one_vcpu(&g->vcpu, own_guest_code);
	vcpu_args_set(g->vcpu, 1, (u64)g->vcpu->id);
	rwx_add_slot(g, VM_MEM_SRC_ANONYMOUS, 0);
	virt_map(g->vm, g->gpa, g->gpa, g->nr_pages);
}

static inline void own_init(struct rwx_guest *g)
{
	own_create(g);
	own_finish(g);
}

static inline void *own_page(struct rwx_guest *g, u64 page)
{
	return (u8 *)g->region->host_mem + page * PAGE_SIZE;
}

/* The VMM's own copy of pages, to compare with later. */
static inline void *own_copy(struct rwx_guest *g, u64 page, u64 nr_pages)
{
	void *copy = malloc(nr_pages * PAGE_SIZE);

	TEST_ASSERT(copy, "no memory for a copy of %lu pages", nr_pages);
	memcpy(copy, own_page(g, page), nr_pages * PAGE_SIZE);
	return copy;
}

/* Is the page another than when own_copy() was made of it? */
static inline bool own_changed(struct rwx_guest *g, u64 page, const void *copy)
{
	return memcmp(own_page(g, page), copy, PAGE_SIZE);
}

static u64 own_do_nothing(u64 a, u64 b, u64 c)
{
	return 0;
}

static u64 own_do_read(u64 gva, u64 b, u64 c)
{
	return READ_ONCE(*(u8 *)gva);
}

static u64 own_do_write(u64 gva, u64 value, u64 c)
{
	WRITE_ONCE(*(u8 *)gva, value);
	return 0;
}

/* A byte, which KVM moves if either place is a device's: how many were moved. */
static u64 own_do_move(u64 to, u64 from, u64 c)
{
	u64 rdi = to, rsi = from;

	asm volatile("movsb" : "+D"(rdi), "+S"(rsi) : : "memory");
	return rdi - to;
}

/* Have KVM write the clocks that the guest has, if it may. */
static inline void own_update_clock(struct rwx_guest *g)
{
	struct kvm_clock_data data;

	vm_ioctl(g->vm, KVM_GET_CLOCK, &data);
	data.flags = 0;
	vm_ioctl(g->vm, KVM_SET_CLOCK, &data);
	own_call(g, own_do_nothing, 0, 0, 0);
}

static u64 own_do_wrmsr(u64 msr, u64 value, u64 c)
{
	return wrmsr_safe(msr, value);
}

/* KVM writes a page because of a WRMSR, which is repeated if it's denied. */
static inline void own_assert_wrmsr_repeated(struct rwx_guest *g, u64 page, u32 msr, u64 value)
{
	u64 gpa = rwx_gpa(g, page);

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		void *copy;

		memset(own_page(g, page), 0, PAGE_SIZE);
		copy = own_copy(g, page, 1);
		rwx_set(g, page, 1, kma_restrictions[i]);
		own_issue(g, own_do_wrmsr, msr, value, 0);
		if (kma_restrictions[i] & KMA_NW) {
			rwx_assert_exit(g->vcpu, gpa, KVM_MEMORY_EXIT_FLAG_WRITE);
			rwx_assert_exit(g->vcpu, gpa, KVM_MEMORY_EXIT_FLAG_WRITE);
			TEST_ASSERT(!own_changed(g, page, copy), "a denied page has changed");
			rwx_set(g, page, 1, 0);
		}
		/* No exception. */
		TEST_ASSERT_EQ(own_finish(g), 0);
		TEST_ASSERT(own_changed(g, page, copy), "nothing is written after it");
		rwx_set(g, page, 1, 0);
		free(copy);
	}
}

/* The pages are as they were. The copy is freed. */
static inline void own_assert_same(struct rwx_guest *g, u64 page, u64 nr_pages, void *copy)
{
	u8 *now = own_page(g, page), *was = copy;

	for (u64 i = 0; i < nr_pages * PAGE_SIZE; i++)
		TEST_ASSERT(now[i] == was[i],
			    "byte 0x%lx of page %lu was 0x%x and is 0x%x",
			    i % PAGE_SIZE, page + i / PAGE_SIZE, was[i], now[i]);
	free(copy);
}

/* KVM_RUN stops for this MMIO or port access of userspace, and no other. */
static inline void own_assert_mmio(struct kvm_vcpu *vcpu, u64 gpa, bool write, u32 len)
{
	struct kvm_run *run = vcpu->run;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT(run->mmio.phys_addr == gpa && run->mmio.is_write == write &&
		    run->mmio.len == len,
		    "wanted an MMIO %s of %u bytes at 0x%lx, got %s of %u at 0x%llx",
		    write ? "write" : "read", len, gpa,
		    run->mmio.is_write ? "write" : "read", run->mmio.len,
		    run->mmio.phys_addr);
}

static inline u8 *own_assert_pio(struct kvm_vcpu *vcpu, u16 port, u8 direction, u32 count)
{
	struct kvm_run *run = vcpu->run;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	TEST_ASSERT(run->io.port == port && run->io.direction == direction &&
		    run->io.size == 1 && run->io.count == count,
		    "wanted %u bytes of port 0x%x, direction %u, got %u of size %u, port 0x%x, direction %u",
		    count, port, direction, run->io.count, run->io.size, run->io.port,
		    run->io.direction);
	return (u8 *)run + run->io.data_offset;
}

/* Is it the CPU that walks the guest's page tables? */
static inline bool own_uses_tdp(void)
{
	return host_cpu_is_amd ? get_kvm_amd_param_bool("npt") : get_kvm_intel_param_bool("ept");
}

/* Instructions with KVM_FEP before them are emulated as long as this is set. */
static inline void own_force_emulation(bool on)
{
	int fd = open("/sys/module/kvm/parameters/force_emulation_prefix", O_WRONLY);

	TEST_ASSERT(fd >= 0 && write(fd, on ? "1" : "0", 1) == 1,
		    "cannot set KVM's force_emulation_prefix: %s", strerror(errno));
	close(fd);
}

#endif /* KVM_MEMATTR_OWN_H */
