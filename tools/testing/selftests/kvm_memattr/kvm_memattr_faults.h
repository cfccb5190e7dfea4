/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocations that fail, of the calling task, between faults_begin() and
 * faults_end(). The release kernel has no fault injection.
 */
#ifndef KVM_MEMATTR_FAULTS_H
#define KVM_MEMATTR_FAULTS_H

#include <sys/mman.h>

#include "kvm_memattr_test.h"

#define FAILSLAB	"/sys/kernel/debug/failslab/"
#define FAIL_PAGE	"/sys/kernel/debug/fail_page_alloc/"

/* What a node of the store takes, in which a budget is counted. */
#define NODE_BYTES	576
#define ENOUGH_TIMES	1000000

/* No request makes as many allocations. */
#define MOST_FAULTS	20000

enum how {
	/* One allocation fails, and what is tried in its place does not. */
	NTH_FAILS,
	/* Memory has run out: all fail from some point on. */
	ALL_FAIL_FROM,
};

/* Open, as opening allocates. */
struct knobs {
	enum how how;
	int nth;
	int make_fail;
	int times;
	int space;
};

static inline void write_knob(int fd, long value)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%ld\n", value);

	TEST_ASSERT(write(fd, text, len) == len, "cannot write %ld: %s", value, strerror(errno));
}

static inline int open_knob(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	TEST_ASSERT(fd >= 0, "cannot open %s: %s", path, strerror(errno));
	return fd;
}

static inline long read_once(const char *path)
{
	char text[32] = {};
	int fd = open_knob(path);

	TEST_ASSERT(read(fd, text, sizeof(text) - 1) > 0, "cannot read %s: %s", path,
		    strerror(errno));
	close(fd);
	return atol(text);
}

static inline void write_once(const char *path, const char *text)
{
	int fd = open_knob(path);

	TEST_ASSERT(write(fd, text, strlen(text)) == strlen(text), "cannot write %s: %s", path,
		    strerror(errno));
	close(fd);
}

/*
 * Faults in all kinds of allocations, of this task only, with no word in the log:
 * what each knob is set to, if it is before a request, and what it was at boot.
 */
static const struct {
	const char *path;
	const char *for_faults;
	const char *at_boot;
} knob_values[] = {
	{ FAILSLAB "ignore-gfp-wait", "N", "Y" },
	{ FAIL_PAGE "ignore-gfp-wait", "N", "Y" },
	{ FAIL_PAGE "ignore-gfp-highmem", "N", "Y" },
	{ FAIL_PAGE "min-order", "0", "1" },
	{ FAILSLAB "verbose", "0", "2" },
	{ FAIL_PAGE "verbose", "0", "2" },
	{ FAILSLAB "space", NULL, "0" },
	{ FAILSLAB "times", NULL, "1" },
	{ FAILSLAB "task-filter", "Y", "N" },
};

static inline void knobs_open(struct knobs *knobs, enum how how)
{
	char path[64];

	knobs->how = how;
	for (int i = 0; i < ARRAY_SIZE(knob_values); i++) {
		if (knob_values[i].for_faults)
			write_once(knob_values[i].path, knob_values[i].for_faults);
	}
	write_once(FAILSLAB "interval", "1");
	write_once(FAILSLAB "probability", how == ALL_FAIL_FROM ? "100" : "0");

	snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", kvm_gettid());
	knobs->nth = open_knob(path);
	snprintf(path, sizeof(path), "/proc/self/task/%d/make-it-fail", kvm_gettid());
	knobs->make_fail = open_knob(path);
	knobs->times = open_knob(FAILSLAB "times");
	knobs->space = open_knob(FAILSLAB "space");

	/* The faults are for the request, not for the pages that the test itself needs. */
	TEST_ASSERT(!mlockall(MCL_CURRENT | MCL_FUTURE), "mlockall: %s", strerror(errno));
}

static inline void knobs_reset(void)
{
	write_once(FAILSLAB "probability", "0");
	for (int i = ARRAY_SIZE(knob_values) - 1; i >= 0; i--)
		write_once(knob_values[i].path, knob_values[i].at_boot);
}

static inline void faults_begin(const struct knobs *knobs, long n)
{
	if (knobs->how == NTH_FAILS) {
		write_knob(knobs->nth, n);
		return;
	}
	write_knob(knobs->times, ENOUGH_TIMES);
	write_knob(knobs->space, n * NODE_BYTES);
	write_knob(knobs->make_fail, 1);
}

/* Returns whether there was a fault. */
static inline bool faults_end(const struct knobs *knobs)
{
	char text[32] = {};

	if (knobs->how == NTH_FAILS) {
		/* It counts down to 0. Reading is no allocation, opening is. */
		TEST_ASSERT(pread(knobs->nth, text, sizeof(text) - 1, 0) > 0,
			    "cannot read fail-nth: %s", strerror(errno));
		write_knob(knobs->nth, 0);
		return !atol(text);
	}
	write_knob(knobs->make_fail, 0);
	return read_once(FAILSLAB "times") != ENOUGH_TIMES;
}

#endif /* KVM_MEMATTR_FAULTS_H */
