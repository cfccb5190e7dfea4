/* SPDX-License-Identifier: GPL-2.0 */
/* Loading and unloading kvm_memattr.ko, for the tests that are about that. */
#ifndef KVM_MEMATTR_MODULE_H
#define KVM_MEMATTR_MODULE_H

#include <time.h>

#include "kvm_memattr_test.h"

#define KMA_MODULE	"kvm_memattr"
#define KMA_MODULE_DIR	"/sys/module/" KMA_MODULE
#define KMA_MODULE_FILE	"/lib/modules/kvm_memattr.ko"

/* How long a VM or an inode that has lost its last user may take to go. */
#define KMA_WAIT_SECONDS	30

static inline bool kma_loaded(void)
{
	return !access(KMA_MODULE_DIR, F_OK);
}

static inline int kma_refcnt(void)
{
	FILE *file = fopen(KMA_MODULE_DIR "/refcnt", "r");
	int count;

	TEST_ASSERT(file, "cannot open " KMA_MODULE_DIR "/refcnt: %s", strerror(errno));
	TEST_ASSERT(fscanf(file, "%d", &count) == 1, "no number in " KMA_MODULE_DIR "/refcnt");
	fclose(file);
	return count;
}

static inline int __kma_load_with(const char *parameters)
{
	const char *path = getenv("KVM_MEMATTR_KO");
	int fd, ret;

	if (!path)
		path = KMA_MODULE_FILE;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fd;
	ret = syscall(__NR_finit_module, fd, parameters, 0);
	close(fd);
	return ret;
}

static inline int __kma_load(void)
{
	return __kma_load_with("");
}

static inline void kma_load(void)
{
	int ret = __kma_load();

	TEST_ASSERT(!ret, "loading " KMA_MODULE ": %s", strerror(errno));
}

/* Does not wait for users of the module, but fails. */
static inline int __kma_unload(void)
{
	return syscall(__NR_delete_module, KMA_MODULE, O_NONBLOCK);
}

#define KMA_WAIT_FOR(_cond)							\
do {										\
	struct timespec __tick = { .tv_nsec = 10000000 };			\
	struct timespec __start;						\
										\
	clock_gettime(CLOCK_MONOTONIC, &__start);				\
	while (!(_cond)) {							\
		TEST_ASSERT(timespec_elapsed(__start).tv_sec < KMA_WAIT_SECONDS,\
			    "not within %d s: " #_cond, KMA_WAIT_SECONDS);	\
		nanosleep(&__tick, NULL);					\
	}									\
} while (0)

/* Other users may be on their way out: inodes are freed after grace periods. */
static inline void kma_unload(void)
{
	KMA_WAIT_FOR(!__kma_unload());
}

/* For a fixture's setup: what is there to be unloaded. */
#define KMA_REQUIRE_MODULE()							\
do {										\
	if (!kma_loaded())							\
		SKIP(return, KMA_MODULE " is not loaded");			\
} while (0)

#endif /* KVM_MEMATTR_MODULE_H */
