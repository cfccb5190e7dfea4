/* SPDX-License-Identifier: GPL-2.0 */
/* A signal that comes again and again, and does nothing but be there. */
#ifndef KVM_MEMATTR_ALARM_H
#define KVM_MEMATTR_ALARM_H

#include <signal.h>
#include <sys/time.h>

#include "kvm_memattr_test.h"

static volatile sig_atomic_t alarms;

static void on_alarm(int sig)
{
	alarms++;
}

static inline void alarm_catch(int sig)
{
	/* Calls that could be restarted would be: those that are tested say where they stopped. */
	struct sigaction action = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };

	sigaction(sig, &action, NULL);
}

/* SIGALRM from now on, each so many microseconds; 0 ends it. */
static inline void alarm_each(long usec)
{
	struct itimerval timer = {
		.it_interval.tv_usec = usec,
		.it_value.tv_usec = usec,
	};

	TEST_ASSERT(!setitimer(ITIMER_REAL, &timer, NULL), "setitimer: %s", strerror(errno));
}

#endif /* KVM_MEMATTR_ALARM_H */
