// SPDX-License-Identifier: GPL-2.0
/*
 * What an operator sees in a trace: each command that changes attributes, with what
 * has come of it, and which mappings went or stayed for what reason.
 */
#include <sys/stat.h>

#include "kvm_memattr_gmem.h"
#include "kvm_memattr_layers.h"
#include "kvm_memattr_module.h"

/* Of its own, so that nobody else's events are in it. */
#define INSTANCE	"/sys/kernel/tracing/instances/kvm_memattr_test"

FIXTURE(trace) {
	struct kvm_vm *vm;
	unsigned long nr;
};

static unsigned long number_of(struct kvm_vm *vm)
{
	struct kma_view view = kma_view_of(vm);
	unsigned long nr;

	TEST_ASSERT(sscanf(view.dir, KMA_DEBUGFS "/vm-%*d-%lu", &nr) == 1,
		    "no number in %s", view.dir);
	return nr;
}

static void forget(void)
{
	kma_write_file(INSTANCE "/trace", "");
}

FIXTURE_SETUP(trace)
{
	KMA_REQUIRE_MODULE();
	KMA_REQUIRE_PROTECTED_VMS();

	self->vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	self->nr = number_of(self->vm);
	TEST_ASSERT(!mkdir(INSTANCE, 0700), "mkdir " INSTANCE ": %s", strerror(errno));
	kma_write_file(INSTANCE "/events/kvm_memattr/enable", "1");
}

/* In the parent, so that a test that fails leaves nobody who traces. */
FIXTURE_TEARDOWN_PARENT(trace)
{
	rmdir(INSTANCE);
}

/*
 * Exactly these lines were traced since the last time, from each event's name on, all
 * of the VM or the inode of this number, which is left out of @want.
 */
static void assert_traced(unsigned long number, const char *want)
{
	char *line = NULL, got[4096] = "";
	size_t room = 0, at = 0;
	FILE *file;

	file = fopen(INSTANCE "/trace", "r");
	TEST_ASSERT(file, "cannot open " INSTANCE "/trace: %s", strerror(errno));
	while (getline(&line, &room, file) > 0) {
		char *event = strstr(line, " kvm_memattr_"), name[16];
		unsigned long of;
		int begin;

		if (*line == '#')
			continue;
		TEST_ASSERT(event && sscanf(event, " kvm_memattr_%15[a-z]: %*s %lu %n", name,
					    &of, &begin) == 2,
			    "not one of the module's lines: %s", line);
		TEST_ASSERT(of == number, "not of %lu: %s", number, line);
		at += snprintf(got + at, sizeof(got) - at, "%s: %s", name, event + begin);
		TEST_ASSERT(at < sizeof(got), "a long trace: %s", got);
	}
	free(line);
	fclose(file);
	forget();
	TEST_ASSERT(!strcmp(want, got), "wanted the trace\n%sgot\n%s", want, got);
}

#define SET(_cmd, _layer, _gpa, _size, _attributes, _flags, _ret, _at)		\
	"set: " _cmd " layer " _layer " gpa " _gpa " size " _size			\
	" attributes " _attributes " flags " _flags " ret " _ret " at " _at "\n"

#define CONVERT(_offset, _size, _attributes, _flags, _ret, _at)			\
	"convert: offset " _offset " size " _size			\
	" attributes " _attributes " flags " _flags " ret " _ret " at " _at "\n"

#define ZAP(_gpa, _size, _kinds)						\
	"zap: gpa " _gpa " size " _size " " _kinds "\n"

TEST_F(trace, set_and_what_it_zaps)
{
	kma_set(self->vm, KMA_GPA, SZ_16K, KMA_PRIVATE);
	assert_traced(self->nr, ZAP("0x100000000", "0x4000", "shared")
		      SET("SET", "0", "0x100000000", "0x4000", "PRIVATE", "0x0", "0",
			  "0x100004000"));
	/* One page of it changes, which was private. */
	kma_set(self->vm, KMA_GPA + SZ_4K, SZ_4K, 0);
	assert_traced(self->nr, ZAP("0x100001000", "0x1000", "private")
		      SET("SET", "0", "0x100001000", "0x1000", "0", "0x0", "0", "0x100002000"));
	kma_set(self->vm, KMA_GPA, SZ_4K, KMA_PRIVATE);
	assert_traced(self->nr,
		      SET("SET", "0", "0x100000000", "0x1000", "PRIVATE", "0x0", "0",
			  "0x100001000"));
	kma_set(self->vm, KMA_GPA + SZ_1M, SZ_4K, KMA_NO_ACCESS);
	assert_traced(self->nr, ZAP("0x100100000", "0x1000", "private shared")
		      SET("SET", "0", "0x100100000", "0x1000", "NR|NW|NX", "0x0", "0",
			  "0x100101000"));
}

TEST_F(trace, set_of_a_layer)
{
	layers_set(self->vm, 5, KMA_GPA, SZ_4K, KMA_NX);
	assert_traced(self->nr, ZAP("0x100000000", "0x1000", "private shared")
		      SET("SET2", "5", "0x100000000", "0x1000", "NX", "0x0", "0", "0x100001000"));
	layers_set_whole(self->vm, 15, KMA_NX);
	assert_traced(self->nr, ZAP("0x0", "0x100000000", "private shared")
		      ZAP("0x100001000", "0xfffffffeffffe000", "private shared")
		      SET("SET2", "15", "0x0", "0x0", "NX", "0x8", "0", "0xfffffffffffff000"));
}

TEST_F(trace, resumable_set)
{
	struct kvm_memory_attributes attr = {
		.address = KMA_GPA,
		.size = SZ_8K,
		.attributes = KMA_PRIVATE,
	};

	TEST_ASSERT_EQ(ioctl(self->vm->fd, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, &attr), 0);
	assert_traced(self->nr, ZAP("0x100000000", "0x2000", "shared")
		      SET("RESUMABLE", "0", "0x100000000", "0x2000", "PRIVATE", "0x0", "0",
			  "0x100002000"));
}

TEST_F(trace, set_that_is_refused)
{
	KMA_ASSERT_ERRNO(EINVAL, __kma_set(self->vm, KMA_GPA, SZ_4K, BIT(5) | KMA_NW));
	assert_traced(self->nr,
		      SET("SET", "0", "0x100000000", "0x1000", "NW|0x20", "0x0", "-22",
			  "0x100000000"));

	kma_set(self->vm, KMA_GPA + SZ_8K, SZ_4K, KMA_PRIVATE);
	forget();
	LAYERS_ASSERT_FAILS(EINVAL, KMA_GPA + SZ_8K, self->vm, 3, KMA_GPA, SZ_16K, KMA_NX, 0);
	assert_traced(self->nr,
		      SET("SET2", "3", "0x100000000", "0x4000", "NX", "0x0", "-22", "0x100002000"));
	LAYERS_ASSERT_FAILS(EOPNOTSUPP, KMA_GPA, self->vm, 0, KMA_GPA, SZ_4K, 0, GMEM_ZERO);
	assert_traced(self->nr,
		      SET("SET2", "0", "0x100000000", "0x1000", "0", "0x1", "-95", "0x100000000"));
}

TEST_F(trace, batch_and_its_first_bad_entry)
{
	struct kvm_memory_attributes_entry *entries =
		ENTRIES(layers_entry(0, KMA_GPA, SZ_4K, KMA_PRIVATE, KMA_PRIVATE),
			layers_entry(1, KMA_GPA + SZ_1M, SZ_8K, KMA_NX, KMA_NX),
			layers_entry(16, KMA_GPA, SZ_4K, KMA_NX, KMA_NX));
	struct kvm_memory_attributes_batch batch = {
		.entries = (u64)entries,
		.nr = 2,
	};

	TEST_ASSERT_EQ(ioctl(self->vm->fd, KVM_SET_MEMORY_ATTRIBUTES_BATCH, &batch), 0);
	assert_traced(self->nr, ZAP("0x100000000", "0x1000", "shared")
		      ZAP("0x100100000", "0x2000", "private shared")
		      "batch: entries 2 ret 0 entry -1\n");
	batch.nr = 3;
	KMA_ASSERT_ERRNO(EINVAL,
			 ioctl(self->vm->fd, KVM_SET_MEMORY_ATTRIBUTES_BATCH, &batch));
	assert_traced(self->nr, "batch: entries 3 ret -22 entry 2\n");
	batch.nr = 0;
	KMA_ASSERT_ERRNO(EINVAL,
			 ioctl(self->vm->fd, KVM_SET_MEMORY_ATTRIBUTES_BATCH, &batch));
	assert_traced(self->nr, "batch: entries 0 ret -22 entry -1\n");
}

TEST_F(trace, conversion)
{
	int fd = vm_create_guest_memfd(self->vm, SZ_64K, GMEM_SHARED);
	struct stat st;

	TEST_ASSERT_EQ(fstat(fd, &st), 0);
	GMEM_ASSERT_SET(fd, SZ_8K, SZ_8K, KMA_PRIVATE, GMEM_PRESERVE);
	assert_traced(st.st_ino, CONVERT("0x2000", "0x2000", "PRIVATE", "0x2", "0", "0x4000"));
	GMEM_ASSERT_FAILS(EINVAL, GMEM_UNWRITTEN, fd, SZ_8K, SZ_64K, 0, 0);
	assert_traced(st.st_ino, CONVERT("0x2000", "0x10000", "0", "0x0", "-22", "0x2000"));
	close(fd);
}

TEST_F(trace, mappings_that_an_invalidation_spares)
{
	unsigned long nr;
	struct kma_guest g;

	kma_protected_guest_init(&g);
	kma_prepare(&g, KMA_MIDDLE);
	nr = number_of(g.vm);
	forget();
	kvm_madvise(g.region->host_mem, KMA_SIZE, MADV_DONTNEED);
	assert_traced(nr, "spare: gpa 0x100010000 size 0x20000 private\n");
	kvm_vm_free(g.vm);
}

/* perf and trace-cmd print events by their formats, and know numbers and casts there. */
TEST_F(trace, formats_are_what_parsers_know)
{
	static const char * const events[] = { "set", "batch", "convert", "zap", "spare" };
	char path[128], *line = NULL;
	size_t room = 0;
	int prints = 0;

	for (int i = 0; i < ARRAY_SIZE(events); i++) {
		FILE *file;

		snprintf(path, sizeof(path), INSTANCE "/events/kvm_memattr/kvm_memattr_%s/format",
			 events[i]);
		file = fopen(path, "r");
		TEST_ASSERT(file, "cannot open %s: %s", path, strerror(errno));
		while (getline(&line, &room, file) > 0) {
			if (strncmp(line, "print fmt: ", strlen("print fmt: ")))
				continue;
			prints++;
			TEST_ASSERT(!strstr(line, "sizeof") && !strstr(line, "KVM_"), "%s", line);
		}
		fclose(file);
	}
	free(line);
	TEST_ASSERT_EQ(prints, ARRAY_SIZE(events));
}

TEST_F(trace, nothing_is_seen_unless_somebody_looks)
{
	kma_write_file(INSTANCE "/events/kvm_memattr/enable", "0");
	kma_set(self->vm, KMA_GPA, SZ_4K, KMA_PRIVATE);
	assert_traced(self->nr, "");
}

TEST_HARNESS_MAIN
