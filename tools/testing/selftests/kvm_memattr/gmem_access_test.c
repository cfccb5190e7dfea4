// SPDX-License-Identifier: GPL-2.0
/*
 * Userspace has no way to a private page: not by its own accesses, from whichever
 * process and mapping, and not by the kernel's on its behalf.
 */
#include <sys/uio.h>
#include <sys/wait.h>

#include "kvm_memattr_gmem.h"

FIXTURE(access) {
	struct gmem m;
};

FIXTURE_VARIANT(access) {
	/* Do userspace's page tables have the pages when they become private? */
	bool mapped;
};

FIXTURE_VARIANT_ADD(access, used_before) {
	.mapped = true,
};

FIXTURE_VARIANT_ADD(access, never_used) {
	.mapped = false,
};

/* Odd pages are private, and all hold what the guest has written. */
FIXTURE_SETUP(access)
{
	struct gmem *m = &self->m;

	KMA_REQUIRE_PROTECTED_VMS();
	gmem_init(m, KVM_X86_SW_PROTECTED_VM, GMEM_SHARED);
	if (variant->mapped)
		gmem_host_fill(m, KMA_ALL, KMA_KIND_SHARED);
	gmem_set(m, KMA_ODD, KMA_PRIVATE, GMEM_PRESERVE);
	kma_fill(&m->g, KMA_ALL, KMA_KIND_NEW);
}

/* Whatever was tried, it has changed no page and no state. */
FIXTURE_TEARDOWN(access)
{
	struct gmem *m = &self->m;

	if (!m->g.vm)
		return;
	kma_scan(&m->g, KMA_SEEN(.fresh = KMA_ALL));
	GMEM_ASSERT_PRIVATE(m, KMA_ODD);
	gmem_free(m);
}

#define PRIVATE_PAGE	5
#define SHARED_PAGE	4

TEST_F(access, load_is_sigbus)
{
	struct gmem *m = &self->m;
	u64 value;

	for (u64 page = 0; page < KMA_PAGES; page++)
		TEST_ASSERT(gmem_load(gmem_page(m, page), &value) == !(page % 2),
			    "load from page %lu", page);
}

TEST_F(access, store_is_sigbus)
{
	struct gmem *m = &self->m;

	for (u64 page = 0; page < KMA_PAGES; page++)
		TEST_ASSERT(gmem_store(gmem_page(m, page), kma_word(KMA_KIND_NEW, m->g.gpa +
								    page * PAGE_SIZE)) ==
			    !(page % 2), "store to page %lu", page);
}

static void *volatile fault_address;

static void note_address(int sig, siginfo_t *info, void *context)
{
	fault_address = info->si_code == BUS_ADRERR ? info->si_addr : NULL;
	siglongjmp(gmem_sigbus, 1);
}

TEST_F(access, sigbus_says_where)
{
	struct sigaction action = { .sa_sigaction = note_address,
				    .sa_flags = SA_SIGINFO | SA_NODEFER };
	void *at = gmem_page(&self->m, PRIVATE_PAGE) + 264;
	u64 value;

	sigaction(SIGBUS, &action, NULL);
	TEST_ASSERT(!gmem_load(at, &value), "a private page was read");
	TEST_ASSERT(fault_address == at, "wanted SIGBUS for %p, got %p", at, fault_address);
	gmem_catch_sigbus();
}

TEST_F(access, other_mappings_are_no_way_to_it)
{
	const int flags[] = { MAP_SHARED, MAP_SHARED | MAP_POPULATE, MAP_SHARED | MAP_LOCKED };

	for (int i = 0; i < ARRAY_SIZE(flags); i++) {
		void *mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, flags[i], self->m.fd);

		TEST_ASSERT_EQ(gmem_unloadable(mem), KMA_ODD);
		kvm_munmap(mem, KMA_SIZE);
	}
}

TEST_F(access, read_only_and_moved_mappings_are_no_way_to_it)
{
	void *mem = kvm_mmap(KMA_SIZE, PROT_READ, MAP_SHARED, self->m.fd), *moved;

	TEST_ASSERT_EQ(gmem_unloadable(mem), KMA_ODD);
	moved = kvm_mmap(KMA_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	mem = mremap(mem, KMA_SIZE, KMA_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, moved);
	TEST_ASSERT(mem == moved, "mremap: %s", strerror(errno));
	TEST_ASSERT_EQ(gmem_unloadable(mem), KMA_ODD);
	kvm_munmap(mem, KMA_SIZE);
}

TEST_F(access, populating_is_efault)
{
	struct gmem *m = &self->m;

	for (int advice = MADV_POPULATE_READ; advice <= MADV_POPULATE_WRITE; advice++) {
		void *private = gmem_page(m, PRIVATE_PAGE);

		KMA_ASSERT_ERRNO(EFAULT, madvise(private, PAGE_SIZE, advice));
		KMA_ASSERT_ERRNO(EFAULT, madvise(m->mem, KMA_SIZE, advice));
		kvm_madvise(gmem_page(m, SHARED_PAGE), PAGE_SIZE, advice);
	}
}

/* A file whose reads and writes go through the page as a buffer. */
static int scratch_file(void)
{
	char byte = 1;
	int fd = kvm_memfd_alloc(4 * PAGE_SIZE, false);

	TEST_ASSERT(pwrite(fd, &byte, 1, 4 * PAGE_SIZE - 1) == 1, "%s", strerror(errno));
	return fd;
}

TEST_F(access, buffer_of_read_and_write_is_efault)
{
	void *private = gmem_page(&self->m, PRIVATE_PAGE);
	int fd = scratch_file();

	KMA_ASSERT_ERRNO(EFAULT, pwrite(fd, private, 64, 0));
	KMA_ASSERT_ERRNO(EFAULT, pread(fd, private, 64, 0));
	close(fd);
}

TEST_F(access, buffer_that_becomes_private_half_way_is_used_until_there)
{
	void *shared = gmem_page(&self->m, SHARED_PAGE);
	u8 copy[PAGE_SIZE];
	int fd = scratch_file();

	memcpy(copy, shared, PAGE_SIZE);
	TEST_ASSERT_EQ(pwrite(fd, shared, 2 * PAGE_SIZE, 0), PAGE_SIZE);
	TEST_ASSERT_EQ(pread(fd, shared, 2 * PAGE_SIZE, 0), PAGE_SIZE);
	TEST_ASSERT(!memcmp(copy, shared, PAGE_SIZE), "the page is not what was written");
	close(fd);
}

TEST_F(access, buffer_of_a_pipe_is_efault)
{
	void *private = gmem_page(&self->m, PRIVATE_PAGE);
	int fds[2];
	char byte = 1;

	TEST_ASSERT(!pipe(fds), "pipe: %s", strerror(errno));
	KMA_ASSERT_ERRNO(EFAULT, write(fds[1], private, 64));
	TEST_ASSERT_EQ(write(fds[1], &byte, 1), 1);
	KMA_ASSERT_ERRNO(EFAULT, read(fds[0], private, 1));
	close(fds[0]);
	close(fds[1]);
}

TEST_F(access, pages_cannot_be_spliced)
{
	struct iovec iov = { .iov_base = gmem_page(&self->m, PRIVATE_PAGE), .iov_len = 64 };
	int fds[2];

	TEST_ASSERT(!pipe(fds), "pipe: %s", strerror(errno));
	KMA_ASSERT_ERRNO(EFAULT, vmsplice(fds[1], &iov, 1, 0));
	close(fds[0]);
	close(fds[1]);
}

static ssize_t copy_in_or_out(pid_t pid, void *remote, bool in)
{
	u64 buffer = 0;
	struct iovec local = { .iov_base = &buffer, .iov_len = sizeof(buffer) };
	struct iovec there = { .iov_base = remote, .iov_len = sizeof(buffer) };

	return in ? process_vm_readv(pid, &local, 1, &there, 1, 0) :
		    process_vm_writev(pid, &local, 1, &there, 1, 0);
}

TEST_F(access, another_processs_memory_is_efault)
{
	void *private = gmem_page(&self->m, PRIVATE_PAGE);

	KMA_ASSERT_ERRNO(EFAULT, copy_in_or_out(getpid(), private, true));
	KMA_ASSERT_ERRNO(EFAULT, copy_in_or_out(getpid(), private, false));
	TEST_ASSERT_EQ(copy_in_or_out(getpid(), gmem_page(&self->m, SHARED_PAGE), true), 8);
}

TEST_F(access, memory_by_proc_is_eio)
{
	void *private = gmem_page(&self->m, PRIVATE_PAGE);
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	u64 value = 0;

	TEST_ASSERT(fd >= 0, "cannot open /proc/self/mem: %s", strerror(errno));
	KMA_ASSERT_ERRNO(EIO, pread(fd, &value, sizeof(value), (off_t)private));
	KMA_ASSERT_ERRNO(EIO, pwrite(fd, &value, sizeof(value), (off_t)private));
	close(fd);
}

/* Runs in a child, whose exit status it is: 0 if only the wanted pages are private. */
static int look_by_all_means(struct gmem *m, u64 want)
{
	void *mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd);
	u64 inherited = gmem_unloadable(m->mem), own = gmem_unloadable(mem);

	if (inherited != want || own != want)
		fprintf(stderr, "# inherited %016lx, of its own %016lx, wanted %016lx\n",
			inherited, own, want);
	return inherited != want || own != want;
}

static void assert_child_succeeds(pid_t child)
{
	int status;

	TEST_ASSERT_EQ(waitpid(child, &status, 0), child);
	TEST_ASSERT(WIFEXITED(status) && !WEXITSTATUS(status), "the child sees other pages");
}

TEST_F(access, child_has_no_way_to_it)
{
	pid_t child = fork();

	TEST_ASSERT(child >= 0, "fork: %s", strerror(errno));
	if (!child)
		_exit(look_by_all_means(&self->m, KMA_ODD));
	assert_child_succeeds(child);
}

/* The child has used all pages, then some become private, and shared again. */
TEST_F(access, child_loses_what_becomes_private_later)
{
	struct gmem *m = &self->m;
	int to_child[2], to_parent[2];
	char byte = 0;
	pid_t child;

	gmem_set(m, KMA_ALL, 0, GMEM_PRESERVE);
	TEST_ASSERT(!pipe(to_child) && !pipe(to_parent), "pipe: %s", strerror(errno));
	child = fork();
	TEST_ASSERT(child >= 0, "fork: %s", strerror(errno));
	if (!child) {
		int wrong = 0;
		const u64 want[] = { KMA_NONE, KMA_MIDDLE, KMA_NONE, KMA_ALL };

		for (int i = 0; i < ARRAY_SIZE(want); i++) {
			wrong |= look_by_all_means(m, want[i]);
			wrong |= write(to_parent[1], &byte, 1) != 1;
			wrong |= read(to_child[0], &byte, 1) != 1;
		}
		_exit(wrong);
	}
	for (int i = 0; i < 4; i++) {
		TEST_ASSERT_EQ(read(to_parent[0], &byte, 1), 1);
		if (i == 0)
			gmem_set(m, KMA_MIDDLE, KMA_PRIVATE, GMEM_PRESERVE);
		else if (i == 1)
			gmem_set(m, KMA_MIDDLE, 0, GMEM_PRESERVE);
		else if (i == 2)
			gmem_set(m, KMA_ALL, KMA_PRIVATE, GMEM_PRESERVE);
		TEST_ASSERT_EQ(write(to_child[1], &byte, 1), 1);
	}
	assert_child_succeeds(child);
	gmem_set(m, KMA_EVEN, 0, GMEM_PRESERVE);
}

TEST_F(access, pages_that_become_shared_can_be_used_at_once)
{
	struct gmem *m = &self->m;

	gmem_set(m, KMA_ODD, 0, GMEM_PRESERVE);
	gmem_host_scan(m, KMA_SEEN(.fresh = KMA_ALL));
	gmem_set(m, KMA_ODD, KMA_PRIVATE, GMEM_PRESERVE);
}

TEST_HARNESS_MAIN
