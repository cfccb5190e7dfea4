/* SPDX-License-Identifier: GPL-2.0 */
/*
 * QEMU's emulation of SVM (seen in 7.2 and 10.0) at times has a CPU leave its
 * guest twice after one VMRUN: the second time from the host's own code, whose
 * page tables it still walks through the nested ones. The vCPU is left with
 * the host's registers, which end in a shutdown or fault for ever. A test that
 * has lost a vCPU so goes on with a new VM; one that loses it every time has not
 * QEMU to blame. Documentation/testing.rst has more on it.
 */
#ifndef KVM_MEMATTR_LOST_H
#define KVM_MEMATTR_LOST_H

#include <pthread.h>

#include "kvm_memattr_test.h"

#define KMA_ATTEMPTS	3

/*
 * Was this vCPU, which has just left KVM_RUN, lost by the emulation, rather than by
 * KVM? @interrupted: by a signal, as it had made no progress for long.
 */
static inline bool kma_is_lost(struct kvm_vcpu *vcpu, bool interrupted)
{
	struct kvm_regs regs;

	if (vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN)
		return true;

	vcpu_regs_get(vcpu, &regs);
	return interrupted && regs.rip >> 63;
}

static inline void kma_ignore_signal(int sig)
{
}

/* SIGUSR1 ends a KVM_RUN and does nothing else. */
static inline void kma_interrupt_by_signal(void)
{
	struct sigaction action = { .sa_handler = kma_ignore_signal };

	sigaction(SIGUSR1, &action, NULL);
}

#endif /* KVM_MEMATTR_LOST_H */
