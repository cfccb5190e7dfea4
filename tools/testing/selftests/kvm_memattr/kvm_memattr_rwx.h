/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that reads, writes and executes single pages on command, and the
 * host's side of it: what is denied, with which exit, and that the vCPU goes on
 * once it is allowed.
 */
#ifndef KVM_MEMATTR_RWX_H
#define KVM_MEMATTR_RWX_H

#include "kvm_memattr_test.h"

/* What a VM of any type can restrict. */
static const u64 kma_restrictions[] __maybe_unused = {
	0, KMA_NW, KMA_NX, KMA_NW | KMA_NX, KMA_NO_ACCESS,
};

enum rwx_op {
	RWX_READ,
	RWX_WRITE,
	RWX_EXEC,
	/* Reads and writes at once: a write, whatever is denied. */
	RWX_MODIFY,
	RWX_NR_OPS,
};

static const char * const rwx_op_names[] __maybe_unused = {
	"read", "write", "execute", "modify",
};

/* Where in a page the guest finds data, and where a function that returns. */
#define RWX_DATA	0x100
#define RWX_CODE	0x800

struct rwx_cmd {
	u64 op;
	u64 gva;
	u64 value;
};

struct rwx_guest {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct userspace_mem_region *region;
	u64 gpa;
	u64 nr_pages;
	/* How many dirty pages a vCPU's ring has room for, if there is one. */
	u32 ring;
};

#define RWX_VCPUS	2

static struct rwx_cmd rwx_cmds[RWX_VCPUS];

static void rwx_do(u64 op, u64 gva, u64 value)
{
	u64 *data = (u64 *)(gva + RWX_DATA);

	switch (op) {
	case RWX_READ:
		GUEST_ASSERT_EQ(READ_ONCE(*data) >> 32, value >> 32);
		break;
	case RWX_WRITE:
		WRITE_ONCE(*data, value);
		break;
	case RWX_EXEC:
		((void (*)(void))(gva + RWX_CODE))();
		break;
	case RWX_MODIFY:
		asm volatile("lock incq %0" : "+m"(*data));
		break;
	}
}

static void rwx_guest_code(u64 vcpu_id)
{
	struct rwx_cmd *cmd = &rwx_cmds[vcpu_id];

	for (;;) {
		GUEST_SYNC(0);
		rwx_do(READ_ONCE(cmd->op), READ_ONCE(cmd->gva), READ_ONCE(cmd->value));
	}
}

/* Each page's data begins with a word that says where it is. */
static inline u64 rwx_word(u64 gpa)
{
	return gpa << 20;
}

static inline u64 rwx_gpa(struct rwx_guest *g, u64 page)
{
	return g->gpa + page * PAGE_SIZE;
}

static inline u64 *rwx_hva(struct rwx_guest *g, u64 page)
{
	return (u64 *)((u8 *)g->region->host_mem + page * PAGE_SIZE + RWX_DATA);
}

static inline void rwx_run(struct kvm_vcpu *vcpu)
{
	kma_run_to_sync(vcpu);
}

static inline void rwx_issue(struct rwx_guest *g, enum rwx_op op, u64 page)
{
	struct rwx_cmd cmd = {
		.op = op,
		.gva = rwx_gpa(g, page),
		.value = rwx_word(rwx_gpa(g, page)),
	};

	memcpy(addr_gva2hva(g->vm, (gva_t)&rwx_cmds[g->vcpu->id]), &cmd, sizeof(cmd));
}

/* The guest does it, and nothing hinders it. */
static inline void rwx_allowed(struct rwx_guest *g, enum rwx_op op, u64 page)
{
	rwx_issue(g, op, page);
	rwx_run(g->vcpu);
}

/* The exit flag for the access if the word denies it, else 0. */
static inline u64 rwx_denied_flag(u64 word, enum rwx_op op)
{
	switch (op) {
	case RWX_READ:
		return word & KMA_NR ? KVM_MEMORY_EXIT_FLAG_READ : 0;
	case RWX_EXEC:
		return word & KMA_NX ? KVM_MEMORY_EXIT_FLAG_EXEC : 0;
	default:
		return word & KMA_NW ? KVM_MEMORY_EXIT_FLAG_WRITE : 0;
	}
}

/* KVM_RUN ends with a memory fault of one page, with this flag and no other. */
static inline void rwx_assert_exit(struct kvm_vcpu *vcpu, u64 gpa, u64 flag)
{
	struct kvm_run *run = vcpu->run;

	KMA_ASSERT_ERRNO(EFAULT, _vcpu_run(vcpu));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT(run->memory_fault.flags == flag && run->memory_fault.gpa == gpa &&
		    run->memory_fault.size == PAGE_SIZE,
		    "wanted an exit for 0x%lx of page 0x%lx, got 0x%llx of 0x%llx, size 0x%llx",
		    flag, gpa, run->memory_fault.flags, run->memory_fault.gpa,
		    run->memory_fault.size);
}

/* The guest tries, and is where it was: it can be asked again, and goes on. */
static inline void rwx_denied(struct rwx_guest *g, enum rwx_op op, u64 page, u64 flag)
{
	rwx_issue(g, op, page);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page), flag);
}

/* The guest makes the access, and what comes of it is what the word says. */
static inline void rwx_check(struct rwx_guest *g, enum rwx_op op, u64 page, u64 word)
{
	u64 flag = rwx_denied_flag(word, op);

	if (!flag) {
		rwx_allowed(g, op, page);
		return;
	}

	rwx_denied(g, op, page, flag);
	/* The same again, as nothing has been changed. */
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page), flag);
	kma_set(g->vm, rwx_gpa(g, page), PAGE_SIZE, 0);
	rwx_run(g->vcpu);
	kma_set(g->vm, rwx_gpa(g, page), PAGE_SIZE, word);
}

static inline void rwx_set(struct rwx_guest *g, u64 page, u64 nr_pages, u64 word)
{
	kma_set(g->vm, rwx_gpa(g, page), nr_pages * PAGE_SIZE, word);
}

/* The guest makes every kind of access to the page. */
static inline void rwx_touch(struct rwx_guest *g, u64 page)
{
	for (int op = 0; op < RWX_NR_OPS; op++)
		rwx_allowed(g, op, page);
}

/* The pages from the start that hold data and code: enough for what is looked at. */
static inline u64 rwx_nr_filled(struct rwx_guest *g)
{
	return min_t(u64, g->nr_pages, 1024);
}

static inline void rwx_fill(struct rwx_guest *g)
{
	for (u64 page = 0; page < rwx_nr_filled(g); page++) {
		*rwx_hva(g, page) = rwx_word(rwx_gpa(g, page));
		/* ret */
		((u8 *)rwx_hva(g, page))[RWX_CODE - RWX_DATA] = 0xc3;
	}
}

static inline void rwx_add_slot(struct rwx_guest *g, enum vm_mem_backing_src_type src,
				u32 flags)
{
	vm_mem_add(g->vm, src, g->gpa, KMA_SLOT, g->nr_pages, flags, -1, 0);
	g->region = memslot2region(g->vm, KMA_SLOT);
	rwx_fill(g);
}

/* Not by the library's function: a ring is for vCPUs that are not there yet. */
static inline struct kvm_vm *rwx_create_vm(u32 type, u32 ring, void *code, u32 nr_vcpus,
					   struct kvm_vcpu *vcpus[])
{
	struct vm_shape shape = { .mode = VM_MODE_DEFAULT, .type = type };
	struct kvm_vm *vm = __vm_create(shape, nr_vcpus, 0);

	if (ring)
		vm_enable_dirty_ring(vm, ring * sizeof(struct kvm_dirty_gfn));
	for (u32 i = 0; i < nr_vcpus; i++) {
		vcpus[i] = vm_vcpu_add(vm, i, code);
		vcpu_args_set(vcpus[i], 1, (u64)i);
	}
	kvm_arch_vm_finalize_vcpus(vm);
	return vm;
}

/* A guest with its memory, which is not in the guest's page tables yet. */
static inline void rwx_create(struct rwx_guest *g, u32 type, u64 nr_pages,
			      enum vm_mem_backing_src_type src)
{
	g->gpa = KMA_GPA;
	g->nr_pages = nr_pages;
	g->vm = rwx_create_vm(type, g->ring, rwx_guest_code, 1, &g->vcpu);
	rwx_add_slot(g, src, 0);
}

static inline void rwx_init(struct rwx_guest *g, u32 type, u64 nr_pages,
			    enum vm_mem_backing_src_type src)
{
	rwx_create(g, type, nr_pages, src);
	virt_map(g->vm, g->gpa, g->gpa, rwx_nr_filled(g));
	rwx_run(g->vcpu);
}

#endif /* KVM_MEMATTR_RWX_H */
