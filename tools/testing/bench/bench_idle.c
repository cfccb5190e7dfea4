// SPDX-License-Identifier: GPL-2.0
/* What a VM pays for the module that uses no attributes at all. */
#include "bench_guest.h"

#define PAGES	((u64)SZ_16M / PAGE_SIZE)

static void idle_create(enum bench_side side)
{
	int kvm = open_kvm_dev_path_or_exit();

	for (int i = -1; i < bench_reps(); i++) {
		u64 start, cost;
		int vm;

		bench_drain();
		start = bench_start("idle_create", side);
		vm = ioctl(kvm, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM);
		cost = bench_stop("idle_create", side, start);
		TEST_ASSERT(vm >= 0, KVM_IOCTL_ERROR(KVM_CREATE_VM, vm));
		bench_assert_side(vm, side);
		if (i >= 0)
			bench_report("idle_create", "-", side, cost, 1);
		close(vm);
	}
	close(kvm);
}

/* The event takes away what the guest has mapped, and it maps it again. */
static void idle_faults(struct bench_guest *g, enum bench_side side)
{
	bench_aim(g, BENCH_GPA, PAGES);
	bench_touch(g);

	for (int i = -1; i < BENCH_REPS; i++) {
		u64 start, event, fault;

		bench_drain();
		start = bench_start("idle_notifier", side);
		kvm_madvise(g->hva, PAGES * PAGE_SIZE, MADV_DONTNEED);
		event = bench_stop("idle_notifier", side, start);

		start = bench_start("idle_fault", side);
		bench_run(g);
		fault = bench_stop("idle_fault", side, start);
		if (i < 0)
			continue;
		if (bench_wanted("idle_notifier"))
			bench_report("idle_notifier", "-", side, event, 1);
		if (bench_wanted("idle_fault"))
			bench_report("idle_fault", "-", side, fault, PAGES);
	}

	bench_check(g->vm, BENCH_GPA, PAGES * PAGE_SIZE, false, false);
	kvm_madvise(g->hva, PAGES * PAGE_SIZE, MADV_DONTNEED);
	TEST_ASSERT_EQ(bench_touch(g), PAGES);
}

int main(int argc, char *argv[])
{
	struct bench_guest guests[BENCH_SIDES];

	bench_init(argv);
	/* A process with more mappings pays more: mainline's guest is there on both sides. */
	bench_guest_create(&guests[BENCH_MAINLINE], BENCH_MAINLINE);
	for_each_side(side) {
		bench_begin(side);
		if (bench_wanted("idle_create"))
			idle_create(side);
	}
	bench_guest_create(&guests[BENCH_MODULE], BENCH_MODULE);
	for_each_side(side)
		idle_faults(&guests[side], side);
	for_each_side(side)
		kvm_vm_free(guests[side].vm);
	bench_end();
	return 0;
}
