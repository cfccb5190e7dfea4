/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What KVM takes a VM's memory for, asked in the kernel and not of a guest: a
 * million pages in the time that a guest takes for thousands.
 */
#ifndef KVM_MEMATTR_OBSERVE_H
#define KVM_MEMATTR_OBSERVE_H

#include <libgen.h>

#include "kvm_memattr_module.h"
#include "observer/kvm_memattr_observer.h"

#define KMA_OBSERVER_VM		"/sys/kernel/debug/kvm_memattr_observer/vm"

/* Beside the module, where nobody has loaded it yet. */
static inline void kma_load_observer(void)
{
	const char *module = getenv("KVM_MEMATTR_KO");
	char dir[PATH_MAX], path[PATH_MAX + 32];
	int fd;

	snprintf(dir, sizeof(dir), "%s", module ?: KMA_MODULE_FILE);
	snprintf(path, sizeof(path), "%s/kvm_memattr_observer.ko", dirname(dir));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	TEST_ASSERT(fd >= 0, "cannot open %s: %s", path, strerror(errno));
	TEST_ASSERT(!syscall(__NR_finit_module, fd, "", 0), "loading %s: %s", path,
		    strerror(errno));
	close(fd);
}

static inline int kma_observer_open(void)
{
	int fd;

	if (access(KMA_OBSERVER_VM, F_OK))
		kma_load_observer();
	fd = open(KMA_OBSERVER_VM, O_RDWR | O_CLOEXEC);
	TEST_ASSERT(fd >= 0, "cannot open " KMA_OBSERVER_VM ": %s", strerror(errno));
	return fd;
}

/* Returns the number of answers. */
static inline u64 kma_observe(int observer, unsigned long question, struct kvm_vm *vm,
			      u32 what, u64 start, u64 end, void *buffer, u64 room)
{
	struct kma_observe o = {
		.vm_fd = vm->fd,
		.what = what,
		.start = start,
		.end = end,
		.buffer = (u64)buffer,
		.room = room,
	};
	int nr = ioctl(observer, question, &o);

	TEST_ASSERT(nr >= 0, "asking about the gfns [%lx, %lx): %s", start, end,
		    strerror(errno));
	return nr;
}

#endif /* KVM_MEMATTR_OBSERVE_H */
