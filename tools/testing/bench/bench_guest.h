/* SPDX-License-Identifier: GPL-2.0 */
/* A guest that touches pages on command, on either side. */
#ifndef KVM_MEMATTR_BENCH_GUEST_H
#define KVM_MEMATTR_BENCH_GUEST_H

#include "bench.h"

/* What benchmarks are about lies in the slot with room on both sides of it. */
#define BENCH_BESIDE	((u64)SZ_2M)
#define BENCH_ROOM	((u64)SZ_64M)
#define BENCH_SLOT_SIZE	(BENCH_ROOM + 2 * BENCH_BESIDE)
#define BENCH_GPA	(KMA_GPA + BENCH_BESIDE)

struct bench_guest {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	void *hva;
	u64 pages;
};

static u64 bench_guest_gva, bench_guest_pages;

/* What the guest does after that: it goes round in circles until told to stop. */
enum bench_spin {
	BENCH_SPIN_NOT,
	BENCH_SPIN,
	BENCH_SPINS,
};

static u64 bench_guest_spin;

static void bench_guest_code(void)
{
	for (;;) {
		GUEST_SYNC(0);
		for (u64 i = 0; i < READ_ONCE(bench_guest_pages); i++)
			WRITE_ONCE(*(u64 *)(READ_ONCE(bench_guest_gva) + i * PAGE_SIZE), i);
		if (READ_ONCE(bench_guest_spin) == BENCH_SPIN) {
			WRITE_ONCE(bench_guest_spin, BENCH_SPINS);
			while (READ_ONCE(bench_guest_spin))
				cpu_relax();
		}
	}
}

static inline void bench_run(struct bench_guest *g)
{
	struct ucall uc;

	vcpu_run(g->vcpu);
	TEST_ASSERT(get_ucall(g->vcpu, &uc) == UCALL_SYNC,
		    "the guest stopped with exit reason %u (%s), not at its command",
		    g->vcpu->run->exit_reason, exit_reason_str(g->vcpu->run->exit_reason));
}

/* The pages that the guest touches from now on. */
static inline void bench_aim(struct bench_guest *g, u64 gva, u64 pages)
{
	u64 *to = addr_gva2hva(g->vm, (gva_t)&bench_guest_gva);

	*to = gva;
	to = addr_gva2hva(g->vm, (gva_t)&bench_guest_pages);
	*to = pages;
	g->pages = pages;
}

/* Touch them. Returns the faults that it took. */
static inline u64 bench_touch(struct bench_guest *g)
{
	u64 faults = vcpu_get_stat(g->vcpu, pf_taken);

	bench_run(g);
	return vcpu_get_stat(g->vcpu, pf_taken) - faults;
}

static inline void bench_guest_create(struct bench_guest *g, enum bench_side side)
{
	g->vm = __vm_create_with_vcpus(kma_protected_shape, 1, BENCH_SLOT_SIZE / PAGE_SIZE,
				       bench_guest_code, &g->vcpu);
	bench_assert_side(g->vm->fd, side);

	vm_mem_add(g->vm, VM_MEM_SRC_SHMEM, KMA_GPA, KMA_SLOT, BENCH_SLOT_SIZE / PAGE_SIZE,
		   KVM_MEM_GUEST_MEMFD, -1, 0);
	virt_map(g->vm, KMA_GPA, KMA_GPA, BENCH_SLOT_SIZE / PAGE_SIZE);
	g->hva = addr_gpa2hva(g->vm, BENCH_GPA);

	/* Everything of the guest that is not in the slot is mapped after this. */
	bench_run(g);
	bench_aim(g, KMA_GPA, 1);
	bench_run(g);
}

#endif /* KVM_MEMATTR_BENCH_GUEST_H */
