/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest whose window is a guest_memfd that is converted in place, the host's
 * mapping of that file, and what each of them has of a page.
 */
#ifndef KVM_MEMATTR_GMEM_H
#define KVM_MEMATTR_GMEM_H

#include "kvm_memattr_guest.h"

#define GMEM_ZERO	KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_ZERO
#define GMEM_PRESERVE	KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_PRESERVE
#define GMEM_NONE	KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_NONE
#define GMEM_POLICIES	(GMEM_ZERO | GMEM_PRESERVE | GMEM_NONE)

static const u64 gmem_policies[] __maybe_unused = { 0, GMEM_ZERO, GMEM_PRESERVE, GMEM_NONE };

/* How the files are created that keep what is private of them. */
#define GMEM_IN_PLACE	GUEST_MEMFD_FLAG_MMAP
#define GMEM_SHARED	(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)

/* In error_offset before each call. */
#define GMEM_UNWRITTEN	0x5a5a5a5a5a5a5a5aull

/*
 * The module itself waits for references that are held for a moment, so that few
 * calls are refused for these, and not many in a row.
 */
#define GMEM_ATTEMPTS	100

static inline struct kvm_memory_attributes2 gmem_attr(u64 offset, u64 size, u64 attributes,
						      u64 flags)
{
	return (struct kvm_memory_attributes2) {
		.offset = offset,
		.size = size,
		.attributes = attributes,
		.flags = flags,
		.error_offset = GMEM_UNWRITTEN,
	};
}

/* A request that nothing can be written back to. */
static inline struct kvm_memory_attributes2 *gmem_read_only(struct kvm_memory_attributes2 attr)
{
	struct kvm_memory_attributes2 *copy = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE,
						       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	*copy = attr;
	TEST_ASSERT(!mprotect(copy, PAGE_SIZE, PROT_READ), "mprotect: %s", strerror(errno));
	return copy;
}

/* On a VM's file descriptor, too. */
static inline int __gmem_ioctl(int fd, struct kvm_memory_attributes2 *attr)
{
	return ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, attr);
}

/* It succeeds and writes nothing back. */
#define GMEM_ASSERT_SET(_fd, ...)						\
do {										\
	struct kvm_memory_attributes2 __attr = gmem_attr(__VA_ARGS__);		\
	struct kvm_memory_attributes2 __was = __attr;				\
	int __r = __gmem_ioctl(_fd, &__attr);					\
										\
	TEST_ASSERT(!__r, "KVM_SET_MEMORY_ATTRIBUTES2: %s at 0x%llx",		\
		    strerror(errno), __attr.error_offset);			\
	TEST_ASSERT(!memcmp(&__attr, &__was, sizeof(__attr)),			\
		    "a call that succeeds has written to its argument");	\
} while (0)

/* It fails with this errno, error_offset is @_where, and nothing else was written. */
#define GMEM_ASSERT_ATTR_FAILS(_errno, _where, _fd, _attr)			\
do {										\
	struct kvm_memory_attributes2 __attr = (_attr), __was = __attr;		\
	u64 __where = (_where);							\
										\
	KMA_ASSERT_ERRNO(_errno, __gmem_ioctl(_fd, &__attr));			\
	TEST_ASSERT(__attr.error_offset == __where,				\
		    "wanted error_offset 0x%lx, got 0x%llx", __where,		\
		    __attr.error_offset);					\
	__attr.error_offset = __was.error_offset;				\
	TEST_ASSERT(!memcmp(&__attr, &__was, sizeof(__attr)),			\
		    "a call has written more than error_offset");		\
} while (0)

#define GMEM_ASSERT_FAILS(_errno, _where, _fd, ...)				\
	GMEM_ASSERT_ATTR_FAILS(_errno, _where, _fd, gmem_attr(__VA_ARGS__))

/*
 * Like GMEM_ASSERT_SET(), while others use the pages for a moment: EAGAIN is an
 * answer then, if it names a page of the range. Returns how often it was given.
 */
static inline int gmem_set_despite_users(int fd, u64 offset, u64 size, u64 attributes,
					 u64 flags)
{
	struct kvm_memory_attributes2 attr;
	int refused;

	for (refused = 0; refused < GMEM_ATTEMPTS; refused++) {
		attr = gmem_attr(offset, size, attributes, flags);
		if (!__gmem_ioctl(fd, &attr))
			return refused;
		TEST_ASSERT(errno == EAGAIN && attributes, "%s at 0x%llx", strerror(errno),
			    attr.error_offset);
		TEST_ASSERT(attr.error_offset - offset < size &&
			    !(attr.error_offset % PAGE_SIZE),
			    "EAGAIN for 0x%llx, which was not asked for", attr.error_offset);
	}
	TEST_FAIL("refused %d times", refused);
}

/*
 * A thread catches its own SIGBUS. The signal is not blocked meanwhile, so that
 * there is no mask to be restored and a look costs no system call.
 */
static __thread sigjmp_buf gmem_sigbus;

static void gmem_on_sigbus(int sig)
{
	siglongjmp(gmem_sigbus, 1);
}

static inline void gmem_catch_sigbus(void)
{
	struct sigaction action = { .sa_handler = gmem_on_sigbus, .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &action, NULL);
}

/* False if the access raises SIGBUS. */
static __maybe_unused bool gmem_load(const void *at, u64 *value)
{
	if (sigsetjmp(gmem_sigbus, 0))
		return false;
	*value = READ_ONCE(*(const u64 *)at);
	return true;
}

static __maybe_unused bool gmem_store(void *at, u64 value)
{
	if (sigsetjmp(gmem_sigbus, 0))
		return false;
	WRITE_ONCE(*(u64 *)at, value);
	return true;
}

struct gmem {
	struct kma_guest g;
	int fd;
	void *mem;
};

static inline void gmem_init(struct gmem *m, u32 type, u64 flags)
{
	kma_guest_init(&m->g, type, KVM_MEM_GUEST_MEMFD, flags);
	m->fd = kvm_dup(m->g.region->region.guest_memfd);
	m->mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd);
	gmem_catch_sigbus();
}

/*
 * As gmem_init(), and the file is what userspace_addr of the slot maps: KVM is told of
 * what becomes of that mapping. There is no region.
 */
static inline void gmem_init_at_userspace_addr(struct gmem *m, u32 type, u64 flags)
{
	struct vm_shape shape = { .mode = VM_MODE_DEFAULT, .type = type };

	m->g.gpa = KMA_GPA;
	m->g.vm = vm_create_shape_with_one_vcpu(shape, &m->g.vcpu, kma_guest_code);
	m->fd = vm_create_guest_memfd(m->g.vm, KMA_SIZE, flags);
	m->mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd);
	vm_set_user_memory_region2(m->g.vm, KMA_SLOT, KVM_MEM_GUEST_MEMFD, m->g.gpa, KMA_SIZE,
				   m->mem, m->fd, 0);
	virt_map(m->g.vm, m->g.gpa, m->g.gpa, KMA_PAGES);
	kma_warm_up(m->g.vcpu);
	gmem_catch_sigbus();
}

/* A test may have given up some of it. */
static inline void gmem_free(struct gmem *m)
{
	if (m->mem)
		kvm_munmap(m->mem, KMA_SIZE);
	if (m->g.vm) {
		kvm_close(m->fd);
		kvm_vm_free(m->g.vm);
	}
}

static inline void *gmem_page(struct gmem *m, u64 page)
{
	return (u8 *)m->mem + page * PAGE_SIZE;
}

/* Make exactly these pages private, or shared, one call for each run of them. */
static inline void gmem_set(struct gmem *m, u64 pages, u64 attributes, u64 flags)
{
	while (pages) {
		u64 first = __builtin_ctzll(pages), rest = ~(pages >> first);
		u64 nr = rest ? __builtin_ctzll(rest) : KMA_PAGES;

		GMEM_ASSERT_SET(m->fd, first * PAGE_SIZE, nr * PAGE_SIZE, attributes, flags);
		pages &= ~GENMASK_ULL(first + nr - 1, first);
	}
}

/* Which pages userspace cannot load from. The others have memory after this. */
static inline u64 gmem_unloadable(void *mem)
{
	u64 pages = 0, value;

	for (u64 i = 0; i < KMA_PAGES; i++) {
		if (!gmem_load((u8 *)mem + i * PAGE_SIZE, &value))
			pages |= 1ull << i;
	}
	return pages;
}

/* These pages of the window are private, and the others shared. */
#define GMEM_ASSERT_PRIVATE(_m, _pages)						\
do {										\
	u64 __got = gmem_unloadable((_m)->mem), __want = (_pages);		\
										\
	TEST_ASSERT(__got == __want, "wanted the pages %016lx private, got %016lx",\
		    __want, __got);						\
} while (0)

/* All of each page, by userspace's mapping. */
static inline void gmem_host_fill(struct gmem *m, u64 pages, enum kma_kind kind)
{
	for (u64 i = 0; i < KMA_PAGES; i++) {
		if (pages & 1ull << i)
			kma_fill_page(gmem_page(m, i), m->g.gpa + i * PAGE_SIZE, kind);
	}
}

static inline void gmem_host_scan(struct gmem *m, struct kma_seen want)
{
	u64 pages = kma_pages_of(&want), got = pages & ~gmem_unloadable(m->mem);
	struct kma_seen seen = {};

	TEST_ASSERT(got == pages, "wanted to see the pages %016lx, of which %016lx are private",
		    pages, pages & ~got);
	for (u64 i = 0; i < KMA_PAGES; i++) {
		if (pages & 1ull << i)
			kma_scan_page(gmem_page(m, i), m->g.gpa + i * PAGE_SIZE, 1ull << i,
				      &seen);
	}
	kma_assert_seen("the host", seen, want);
}

static inline void gmem_punch(int fd, u64 offset, u64 size)
{
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, size);
}

static inline void gmem_allocate(int fd, u64 offset, u64 size)
{
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, size);
}

/* What the pages hold that were filled by kma_fill() and converted since. */
static inline struct kma_seen gmem_filled_seen(u64 policy, u64 converted)
{
	/* The module's default, unless a test says otherwise. */
	if (!policy)
		policy = GMEM_ZERO;

	return (struct kma_seen) {
		.fresh = policy == GMEM_PRESERVE ? KMA_ALL : ~converted,
		.zero = policy == GMEM_ZERO ? converted : 0,
		.junk = policy == GMEM_NONE ? converted : 0,
	};
}

/* Only the observer can poison what userspace cannot touch. 0, or an errno. */
static inline int __gmem_poison(int gmem, u64 page)
{
	int ret, fd = open("/sys/kernel/debug/kvm_memattr_observer/poison", O_WRONLY);

	TEST_ASSERT(fd >= 0, "the observer is not loaded: %s", strerror(errno));
	ret = dprintf(fd, "%d %lu", gmem, page) > 0 ? 0 : errno;
	close(fd);
	return ret;
}

static inline void gmem_poison(int gmem, u64 page)
{
	int err = __gmem_poison(gmem, page);

	TEST_ASSERT(!err, "no memory error in page %lu: %s", page, strerror(err));
}

#endif /* KVM_MEMATTR_GMEM_H */
