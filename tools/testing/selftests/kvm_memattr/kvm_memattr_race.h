/* SPDX-License-Identifier: GPL-2.0 */
/* vCPUs that run in threads of their own while a test changes what they use. */
#ifndef KVM_MEMATTR_RACE_H
#define KVM_MEMATTR_RACE_H

#include <pthread.h>

#include "kvm_memattr_test.h"

/* How often a race is run again that has lost a vCPU: zap_race_test.c says why. */
#define RACE_ATTEMPTS	3

/*
 * Was this vCPU, which has stopped, lost by the emulation, rather than by KVM?
 * @interrupted is whether it had to be made to stop.
 */
static inline bool race_is_lost(struct kvm_vcpu *vcpu, bool interrupted)
{
	struct kvm_regs regs;

	if (vcpu->run->exit_reason == KVM_EXIT_SHUTDOWN)
		return true;

	vcpu_regs_get(vcpu, &regs);
	return interrupted && regs.rip >> 63;
}

static void race_on_signal(int sig)
{
}

/* SIGUSR1 stops a vCPU, and does nothing else. */
static inline void race_catch_signal(void)
{
	struct sigaction action = { .sa_handler = race_on_signal };

	sigaction(SIGUSR1, &action, NULL);
}

#endif /* KVM_MEMATTR_RACE_H */
