/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which functions of the host's kernel the measured calls spend their instructions
 * in, by samples. With the word "profile" among a program's arguments, the clock
 * that perf has in any kernel interrupts them each 10,000 instructions, and in the
 * end there's a line for each function that was met:
 *
 *   profile: mainline|module SELF TOTAL FUNCTION
 *
 * the samples in it, and those in it or in what it has called. A profile is of one
 * row, the one that the program is told to run. What's printed as its cost is then
 * the cost of the interrupts, too.
 */
#ifndef KVM_MEMATTR_BENCH_PROFILE_H
#define KVM_MEMATTR_BENCH_PROFILE_H

#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PROFILE_WORD	"profile"
/* The shortest period of that clock. */
#define PROFILE_PERIOD	10000
/* Room for the samples of one call. */
#define PROFILE_PAGES	8192
/* PERF_REG_X86_DI: a system call's first argument. */
#define PROFILE_REG_DI	5
#define PROFILE_DEPTH	127
#define PROFILE_REPS	200

struct profile_function {
	u64 start;
	char *name;
	u64 self;
	u64 total;
	/* The last sample that has counted in total. */
	u64 sample;
};

/* Of one side: a module that's loaded in between brings functions of its own. */
struct profile {
	struct profile_function *functions;
	int nr;
	u64 samples;
};

static int profile_fd = -1;
static struct perf_event_mmap_page *profile_ring;

static void profile_sysctl(const char *name, const char *value)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/sys/kernel/%s", name);
	file = fopen(path, "w");
	TEST_ASSERT(file && fputs(value, file) >= 0 && !fclose(file), "cannot write %s", path);
}

static void profile_open(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = PROFILE_PERIOD,
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN | PERF_SAMPLE_REGS_USER,
		.sample_regs_user = 1ull << PROFILE_REG_DI,
		.disabled = 1,
		.exclude_user = 1,
		.exclude_callchain_user = 1,
	};

	/*
	 * Where an instruction takes a nanosecond, interrupts take much of the time.
	 * The rate can't be set where it's not limited by that.
	 */
	profile_sysctl("perf_cpu_time_max_percent", "50");
	profile_sysctl("perf_event_max_sample_rate", "1000000");
	profile_sysctl("perf_cpu_time_max_percent", "0");

	profile_fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	TEST_ASSERT(profile_fd >= 0, "perf_event_open: %s", strerror(errno));
	profile_ring = mmap(NULL, (1 + PROFILE_PAGES) * getpagesize(), PROT_READ | PROT_WRITE,
			    MAP_SHARED, profile_fd, 0);
	TEST_ASSERT(profile_ring != MAP_FAILED, "no ring of samples: %s", strerror(errno));
}

static int profile_compare(const void *a, const void *b)
{
	const struct profile_function *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void profile_read_functions(struct profile *profile)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	char line[1024], name[768], type;
	u64 start;

	TEST_ASSERT(file, "cannot open /proc/kallsyms: %s", strerror(errno));
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx %c %767s", &start, &type, name) != 3 ||
		    !strchr("tTwW", type))
			continue;
		if (!(profile->nr & (profile->nr - 1)))
			profile->functions = realloc(profile->functions,
						     (2 * profile->nr + 1) *
						     sizeof(*profile->functions));
		profile->functions[profile->nr++] = (struct profile_function) {
			.start = start,
			.name = strdup(name),
		};
	}
	fclose(file);
	TEST_ASSERT(profile->nr, "no function in /proc/kallsyms");
	qsort(profile->functions, profile->nr, sizeof(*profile->functions), profile_compare);
}

/* The function at @address, NULL if that's none of the kernel's. */
static struct profile_function *profile_find(struct profile *profile, u64 address)
{
	int low = 0, high = profile->nr;

	while (low < high) {
		int middle = (low + high) / 2;

		if (profile->functions[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? &profile->functions[low - 1] : NULL;
}

static void profile_count(struct profile *profile, const u64 *sample)
{
	u64 ip = sample[0], nr = sample[1];
	const u64 *chain = &sample[2], *regs = &chain[nr];
	struct profile_function *function;

	/* The calls that switch the samples on and off: by their first argument. */
	if (regs[0] != PERF_SAMPLE_REGS_ABI_NONE && regs[1] == (u64)profile_fd)
		return;

	profile->samples++;
	function = profile_find(profile, ip);
	if (function)
		function->self++;
	for (u64 i = 0; i < nr; i++) {
		if (chain[i] >= PERF_CONTEXT_MAX)
			continue;
		function = profile_find(profile, chain[i]);
		if (!function || function->sample == profile->samples)
			continue;
		function->sample = profile->samples;
		function->total++;
	}
}

static void profile_drain(struct profile *profile)
{
	u64 size = (u64)PROFILE_PAGES * getpagesize(), head = profile_ring->data_head;
	u64 *data = (void *)profile_ring + profile_ring->data_offset;

	/* Written by the kernel on this CPU. */
	asm volatile("" ::: "memory");
	while (profile_ring->data_tail < head) {
		u64 at = profile_ring->data_tail, record[3 + PROFILE_DEPTH + 4];
		struct perf_event_header *header = (void *)record;
		u64 words;

		/* All sizes are multiples of 8, so that no word goes around the end. */
		record[0] = data[at % size / 8];
		words = header->size / 8;
		TEST_ASSERT(header->type != PERF_RECORD_LOST, "no room for all samples");
		TEST_ASSERT(words && words <= ARRAY_SIZE(record), "a sample of %lu words", words);
		for (u64 i = 1; i < words; i++)
			record[i] = data[(at + i * 8) % size / 8];
		if (header->type == PERF_RECORD_SAMPLE)
			profile_count(profile, &record[1]);
		profile_ring->data_tail = at + header->size;
	}
}

static void profile_start(struct profile *profile)
{
	if (profile_fd < 0)
		profile_open();
	if (!profile->nr)
		profile_read_functions(profile);
	ioctl(profile_fd, PERF_EVENT_IOC_ENABLE, 0);
	/* Calls that are all alike must not be met in the same places all the time. */
	for (int i = random() & 1023; i; i--)
		asm volatile("");
}

static void profile_stop(struct profile *profile)
{
	ioctl(profile_fd, PERF_EVENT_IOC_DISABLE, 0);
	profile_drain(profile);
}

static void profile_print(const struct profile *profile, const char *side)
{
	for (int i = 0; i < profile->nr; i++) {
		const struct profile_function *function = &profile->functions[i];

		if (function->total)
			printf("profile: %s %lu %lu %s\n", side, function->self,
			       function->total, function->name);
	}
	printf("profile: %s 0 %lu all\n", side, profile->samples);
}

#endif /* KVM_MEMATTR_BENCH_PROFILE_H */
