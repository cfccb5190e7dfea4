/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of kvm_memattr share: the raw ioctls, exact errors, and the
 * module's own view of a VM in debugfs.
 */
#ifndef KVM_MEMATTR_TEST_H
#define KVM_MEMATTR_TEST_H

#include <dirent.h>

#include <linux/kvm_memattr.h>
#include <linux/sizes.h>

#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

/*
 * Seconds for a test.  What takes two on the release kernel takes thirty, which is
 * the harness's own limit, on the debug kernel on a busy machine.  What hangs is
 * found all the same.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	240

#define KMA_DEBUGFS	"/sys/kernel/debug/kvm_memattr"

/* Above the 4 GiB line: slot 0 and the holes for devices are below it. */
#define KMA_GPA		((u64)SZ_4G)
#define KMA_SLOT	10

#define KMA_PRIVATE	KVM_MEMORY_ATTRIBUTE_PRIVATE
#define KMA_NR		KVM_MEMORY_ATTRIBUTE_NR
#define KMA_NW		KVM_MEMORY_ATTRIBUTE_NW
#define KMA_NX		KVM_MEMORY_ATTRIBUTE_NX
#define KMA_NO_ACCESS	(KMA_NR | KMA_NW | KMA_NX)

/* What a VM supports, by whether it has private memory. */
#define KMA_ALL_ATTRIBUTES	(KMA_NO_ACCESS | KMA_PRIVATE)
#define KMA_ALL_WITHOUT_PRIVATE	KMA_NO_ACCESS

static const struct vm_shape kma_protected_shape __maybe_unused = {
	.mode = VM_MODE_DEFAULT,
	.type = KVM_X86_SW_PROTECTED_VM,
};

/* The kernel with all checks takes many times as long for the same. */
static inline bool kma_is_debug(void)
{
	return !access("/sys/kernel/debug/kmemleak", F_OK);
}

/* How often something is done: @rounds, fewer on the kernel with all checks. */
static inline u64 kma_rounds(u64 rounds, u64 debug_share)
{
	return kma_is_debug() ? rounds / debug_share : rounds;
}

/* The call fails with exactly this errno. */
#define KMA_ASSERT_ERRNO(_errno, _call)						\
do {										\
	int __ret, __err;							\
										\
	errno = 0;								\
	__ret = (_call);							\
	__err = errno;								\
	TEST_ASSERT(__ret == -1 && __err == (_errno),				\
		    "wanted %s from " #_call ", got rc %d errno %d (%s)",	\
		    #_errno, __ret, __err, strerror(__err));			\
} while (0)

/* Not the library's wrapper: that knows PRIVATE only, and asserts success. */
static inline int __kma_set(struct kvm_vm *vm, u64 gpa, u64 size, u64 attributes)
{
	struct kvm_memory_attributes attr = {
		.address = gpa,
		.size = size,
		.attributes = attributes,
	};

	return __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &attr);
}

static inline void kma_set(struct kvm_vm *vm, u64 gpa, u64 size, u64 attributes)
{
	int ret = __kma_set(vm, gpa, size, attributes);

	TEST_ASSERT_VM_VCPU_IOCTL(!ret, KVM_SET_MEMORY_ATTRIBUTES, ret, vm);
}

static inline int __kma_get_supported(int fd, __u64 *mask)
{
	return ioctl(fd, KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, mask);
}

static inline u64 kma_get_supported(struct kvm_vm *vm)
{
	__u64 mask = ~0ull;
	int ret = __kma_get_supported(vm->fd, &mask);

	TEST_ASSERT_VM_VCPU_IOCTL(!ret, KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, ret, vm);
	return mask;
}

/* Run a guest to its next GUEST_SYNC(): where it takes its commands. */
static inline struct ucall kma_run_to_sync(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		return uc;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("the guest stopped with exit reason %u (%s), not at its command",
			  vcpu->run->exit_reason,
			  exit_reason_str(vcpu->run->exit_reason));
	}
}

/* The module's view of one VM: a folder in debugfs, named by pid and number. */
struct kma_view {
	char dir[64];
};

/* The view of the VM that this process has created last. */
static inline bool __kma_view_newest(struct kma_view *view)
{
	DIR *dir = opendir(KMA_DEBUGFS);
	unsigned long seq, newest = 0;
	struct dirent *entry;
	bool found = false;
	int pid;

	if (!dir)
		return false;

	while ((entry = readdir(dir))) {
		if (sscanf(entry->d_name, "vm-%d-%lu", &pid, &seq) != 2 ||
		    pid != getpid() || (found && seq < newest))
			continue;

		newest = seq;
		found = true;
	}
	closedir(dir);

	snprintf(view->dir, sizeof(view->dir), KMA_DEBUGFS "/vm-%d-%lu",
		 getpid(), newest);
	return found;
}

/* The module shows a VM once it has been asked for something about it. */
static inline struct kma_view kma_view_of(struct kvm_vm *vm)
{
	struct kma_view view;
	__u64 mask;

	__kma_get_supported(vm->fd, &mask);
	TEST_ASSERT(__kma_view_newest(&view),
		    "the module has no view of this VM in " KMA_DEBUGFS);
	return view;
}

static inline u64 kma_stat_in(const char *path, const char *name)
{
	unsigned long long value;
	char line_name[64];
	FILE *file;

	file = fopen(path, "r");
	TEST_ASSERT(file, "cannot open %s: %s", path, strerror(errno));

	while (fscanf(file, "%63s %llu", line_name, &value) == 2) {
		if (!strcmp(line_name, name)) {
			fclose(file);
			return value;
		}
	}
	TEST_FAIL("%s has no line '%s'", path, name);
}

/* A counter of this VM. */
static inline u64 kma_stat(const struct kma_view *view, const char *name)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/stats", view->dir);
	return kma_stat_in(path, name);
}

/* A counter of all VMs since the module was loaded. */
static inline u64 kma_total(const char *name)
{
	return kma_stat_in(KMA_DEBUGFS "/stats", name);
}

/* Every run with attributes of this VM, as the module prints it. To be freed. */
static inline char *kma_runs(const struct kma_view *view)
{
	char path[96], *text;
	size_t got;
	FILE *file;

	snprintf(path, sizeof(path), "%s/runs", view->dir);
	file = fopen(path, "r");
	TEST_ASSERT(file, "cannot open %s: %s", path, strerror(errno));

	text = calloc(1, SZ_64K);
	TEST_ASSERT(text, "no memory for %s", path);

	got = fread(text, 1, SZ_64K - 1, file);
	TEST_ASSERT(!ferror(file), "cannot read %s", path);
	TEST_ASSERT(got < SZ_64K - 1, "%s is longer than the test expects", path);
	fclose(file);
	return text;
}

static inline void kma_assert_runs(const struct kma_view *view, const char *want)
{
	char *runs = kma_runs(view);

	TEST_ASSERT(!strcmp(runs, want), "wanted the runs\n%sgot\n%s", want, runs);
	free(runs);
}

/* A line of the runs file for a private run. */
#define KMA_RUN_PRIVATE(_buf, _gpa, _size)					\
	snprintf(_buf, sizeof(_buf), "0x%016llx 0x%llx 0x8 PRIVATE\n",		\
		 (unsigned long long)(_gpa), (unsigned long long)(_size))

/* Replaces what a file of the kernel's has. */
static inline void kma_write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	TEST_ASSERT(file, "cannot open %s: %s", path, strerror(errno));
	fputs(text, file);
	TEST_ASSERT(!fclose(file), "cannot write '%s' to %s: %s", text, path, strerror(errno));
}

/* For pages of 1 GiB, which have to be asked for and given back. */
#define KMA_GIANT_POOL	"/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"

static inline u64 kma_giant_pages(u64 want)
{
	unsigned long got;
	FILE *file = fopen(KMA_GIANT_POOL, "r+");

	TEST_ASSERT(file, "cannot open " KMA_GIANT_POOL ": %s", strerror(errno));
	fprintf(file, "%lu\n", want);
	rewind(file);
	TEST_ASSERT(fscanf(file, "%lu", &got) == 1, "no number in " KMA_GIANT_POOL);
	fclose(file);
	return got;
}

#endif /* KVM_MEMATTR_TEST_H */
