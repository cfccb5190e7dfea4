/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A guest that reads and writes a window of pages on command, and the host's
 * side of it. Each page holds one word that says what kind of memory it is
 * and at which address, so that one look tells which backing the guest sees.
 * What a look costs in guest page faults, KVM's own statistics say.
 */
#ifndef KVM_MEMATTR_GUEST_H
#define KVM_MEMATTR_GUEST_H

#include "kvm_memattr_test.h"

/* A set of pages of the window is one word, page 0 in bit 0. */
#define KMA_PAGES	64
#define KMA_SIZE	((u64)KMA_PAGES * PAGE_SIZE)
#define KMA_VCPUS	2

#define KMA_NONE	0ull
#define KMA_ALL		(~0ull)
#define KMA_ODD		0xaaaaaaaaaaaaaaaaull
#define KMA_EVEN	0x5555555555555555ull
#define KMA_MIDDLE	0x0000ffffffff0000ull

enum kma_kind {
	KMA_KIND_SHARED = 1,
	KMA_KIND_PRIVATE,
	KMA_KIND_NEW,
};

/* What a page is filled with whose contents nobody is to rely on. */
#define KMA_JUNK	0xababababababababull

#define KMA_PAGE_WORDS	(PAGE_SIZE / sizeof(u64))

enum kma_op {
	KMA_OP_READ,
	KMA_OP_WRITE,
	/* As those, with all words of a page and not the first alone. */
	KMA_OP_SCAN,
	KMA_OP_FILL,
};

struct kma_cmd {
	u64 op;
	u64 gva;
	u64 pages;
	u64 kind;
};

/* Which pages hold which word; a page in none of them holds garbage. */
struct kma_seen {
	u64 shared;
	u64 private;
	u64 fresh;
	u64 zero;
	u64 junk;
};

struct kma_faults {
	u64 taken;
	u64 fixed;
};

struct kma_guest {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct userspace_mem_region *region;
	u64 gpa;
};

static struct kma_cmd kma_cmds[KMA_VCPUS];

static inline u64 kma_word(enum kma_kind kind, u64 gpa)
{
	return (u64)kind << 56 | gpa;
}

/* For the guest and the host: what the word of a page says. */
static void kma_sort(u64 word, u64 gpa, u64 bit, struct kma_seen *seen)
{
	if (word == kma_word(KMA_KIND_SHARED, gpa))
		seen->shared |= bit;
	else if (word == kma_word(KMA_KIND_PRIVATE, gpa))
		seen->private |= bit;
	else if (word == kma_word(KMA_KIND_NEW, gpa))
		seen->fresh |= bit;
	else if (word == KMA_JUNK)
		seen->junk |= bit;
	else if (!word)
		seen->zero |= bit;
}

/* A page with a word that does not go with the first one holds garbage. */
static void kma_scan_page(const u64 *page, u64 gpa, u64 bit, struct kma_seen *seen)
{
	u64 first = READ_ONCE(page[0]);
	u64 step = first && first != KMA_JUNK ? sizeof(*page) : 0;

	for (u64 i = 1; i < KMA_PAGE_WORDS; i++) {
		if (READ_ONCE(page[i]) != first + i * step)
			return;
	}
	kma_sort(first, gpa, bit, seen);
}

static void kma_fill_page(u64 *page, u64 gpa, u64 kind)
{
	for (u64 i = 0; i < KMA_PAGE_WORDS; i++)
		WRITE_ONCE(page[i], kma_word(kind, gpa + i * sizeof(*page)));
}

static void kma_guest_do(struct kma_cmd *cmd, u64 gpa, u64 bit, struct kma_seen *seen)
{
	u64 *page = (u64 *)gpa;

	switch (READ_ONCE(cmd->op)) {
	case KMA_OP_READ:
		kma_sort(READ_ONCE(*page), gpa, bit, seen);
		break;
	case KMA_OP_WRITE:
		WRITE_ONCE(*page, kma_word(READ_ONCE(cmd->kind), gpa));
		break;
	case KMA_OP_SCAN:
		kma_scan_page(page, gpa, bit, seen);
		break;
	case KMA_OP_FILL:
		kma_fill_page(page, gpa, READ_ONCE(cmd->kind));
		break;
	}
}

static void kma_guest_code(u64 vcpu_id)
{
	struct kma_cmd *cmd = &kma_cmds[vcpu_id];
	struct kma_seen seen = {};
	u64 bit, i;

	for (;;) {
		GUEST_SYNC5(seen.shared, seen.private, seen.fresh, seen.zero, seen.junk);

		memset(&seen, 0, sizeof(seen));
		for (i = 0; i < KMA_PAGES; i++) {
			bit = 1ull << i;
			if (READ_ONCE(cmd->pages) & bit)
				kma_guest_do(cmd, READ_ONCE(cmd->gva) + i * PAGE_SIZE, bit, &seen);
		}
	}
}

static inline void kma_issue(struct kvm_vcpu *vcpu, enum kma_op op, u64 gva,
			     u64 pages, u64 kind)
{
	struct kma_cmd cmd = { .op = op, .gva = gva, .pages = pages, .kind = kind };

	memcpy(addr_gva2hva(vcpu->vm, (gva_t)&kma_cmds[vcpu->id]), &cmd, sizeof(cmd));
}

/* Run the command that was issued to its end. */
static inline struct kma_seen kma_finish(struct kvm_vcpu *vcpu)
{
	struct ucall uc = kma_run_to_sync(vcpu);

	return (struct kma_seen) {
		.shared = uc.args[0],
		.private = uc.args[1],
		.fresh = uc.args[2],
		.zero = uc.args[3],
		.junk = uc.args[4],
	};
}

/* Run the command until it exits with a memory fault of one page. */
static inline void kma_finish_in_fault(struct kvm_vcpu *vcpu, int err, u64 gpa,
				       u64 flags)
{
	struct kvm_run *run = vcpu->run;

	KMA_ASSERT_ERRNO(err, _vcpu_run(vcpu));
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(run->memory_fault.flags, flags);
	TEST_ASSERT_EQ(run->memory_fault.gpa, gpa);
	TEST_ASSERT_EQ(run->memory_fault.size, PAGE_SIZE);
}

static inline struct kma_seen kma_read_by(struct kvm_vcpu *vcpu, u64 gpa, u64 pages)
{
	kma_issue(vcpu, KMA_OP_READ, gpa, pages, 0);
	return kma_finish(vcpu);
}

static inline void kma_write_by(struct kvm_vcpu *vcpu, u64 gpa, u64 pages,
				enum kma_kind kind)
{
	kma_issue(vcpu, KMA_OP_WRITE, gpa, pages, kind);
	kma_finish(vcpu);
}

static inline struct kma_seen kma_read(struct kma_guest *g, u64 pages)
{
	return kma_read_by(g->vcpu, g->gpa, pages);
}

static inline void kma_write(struct kma_guest *g, u64 pages, enum kma_kind kind)
{
	kma_write_by(g->vcpu, g->gpa, pages, kind);
}

/* The guest reads a page where there's no slot, i.e. a device. */
static inline void kma_read_device(struct kma_guest *g, u64 page)
{
	kma_issue(g->vcpu, KMA_OP_READ, g->gpa, 1ull << page, 0);
	vcpu_run(g->vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(g->vcpu, KVM_EXIT_MMIO);
	TEST_ASSERT_EQ(g->vcpu->run->mmio.phys_addr, g->gpa + page * PAGE_SIZE);
	kma_finish(g->vcpu);
}

static inline u64 kma_pages_of(const struct kma_seen *seen)
{
	return seen->shared | seen->private | seen->fresh | seen->zero | seen->junk;
}

/* Somebody has looked at the pages: @want and nothing else is what was seen. */
static inline void kma_assert_seen(const char *who, struct kma_seen seen, struct kma_seen want)
{
	TEST_ASSERT(!memcmp(&seen, &want, sizeof(seen)),
		    "%s sees shared %016lx private %016lx new %016lx zero %016lx junk %016lx\n"
		    "  not shared %016lx private %016lx new %016lx zero %016lx junk %016lx", who,
		    seen.shared, seen.private, seen.fresh, seen.zero, seen.junk,
		    want.shared, want.private, want.fresh, want.zero, want.junk);
}

/*
 * The guest reads the pages and sees what is wanted and nothing else. Returns
 * the page faults that it took: @fixed ended in a mapping.
 */
static inline struct kma_faults kma_look(struct kma_guest *g, struct kma_seen want)
{
	struct kma_faults faults = {
		.taken = vcpu_get_stat(g->vcpu, pf_taken),
		.fixed = vcpu_get_stat(g->vcpu, pf_fixed),
	};

	kma_assert_seen("the guest", kma_read(g, kma_pages_of(&want)), want);

	faults.taken = vcpu_get_stat(g->vcpu, pf_taken) - faults.taken;
	faults.fixed = vcpu_get_stat(g->vcpu, pf_fixed) - faults.fixed;
	return faults;
}

/* All of each page, and not its first word alone. */
static inline void kma_scan(struct kma_guest *g, struct kma_seen want)
{
	kma_issue(g->vcpu, KMA_OP_SCAN, g->gpa, kma_pages_of(&want), 0);
	kma_assert_seen("the guest", kma_finish(g->vcpu), want);
}

static inline void kma_fill(struct kma_guest *g, u64 pages, enum kma_kind kind)
{
	kma_issue(g->vcpu, KMA_OP_FILL, g->gpa, pages, kind);
	kma_finish(g->vcpu);
}

#define KMA_SEEN(...)	((struct kma_seen) { __VA_ARGS__ })

/* What a guest sees whose pages are private where @pages says, else shared. */
#define KMA_SEEN_PRIVATE(_pages)						\
	KMA_SEEN(.private = (_pages), .shared = ~(_pages))

/*
 * A fault can be taken and retried for reasons that are no business of the
 * test, so mappings are counted where there are some; none means not one exit.
 */
#define KMA_ASSERT_FAULTS(_g, _nr, ...)						\
do {										\
	struct kma_faults __f = kma_look(_g, __VA_ARGS__);			\
	u64 __nr = (_nr);							\
										\
	TEST_ASSERT(__f.fixed == __nr && (__nr || !__f.taken),			\
		    "wanted %lu guest faults, got %lu (%lu taken)",		\
		    __nr, __f.fixed, __f.taken);				\
} while (0)

/* Make exactly these pages of the window private. */
static inline void kma_convert(struct kma_guest *g, u64 pages)
{
	u64 i;

	kma_set(g->vm, g->gpa, KMA_SIZE, 0);
	for (i = 0; i < KMA_PAGES; i++) {
		if (pages & (1ull << i))
			kma_set(g->vm, g->gpa + i * PAGE_SIZE, PAGE_SIZE, KMA_PRIVATE);
	}
}

/* Through the slot's own mapping, so that the host's page tables have it too. */
static inline void kma_host_write(struct kma_guest *g, u64 pages, enum kma_kind kind)
{
	u64 i;

	for (i = 0; i < KMA_PAGES; i++) {
		if (pages & (1ull << i))
			WRITE_ONCE(*(u64 *)(g->region->host_mem + i * PAGE_SIZE),
				   kma_word(kind, g->gpa + i * PAGE_SIZE));
	}
}

/*
 * Fill both backings with their words and leave these pages private, the rest
 * shared, and all of them mapped into the guest.
 */
static inline void kma_prepare(struct kma_guest *g, u64 private)
{
	kma_host_write(g, KMA_ALL, KMA_KIND_SHARED);
	kma_set(g->vm, g->gpa, KMA_SIZE, KMA_PRIVATE);
	kma_write(g, KMA_ALL, KMA_KIND_PRIVATE);
	kma_convert(g, private);
	kma_look(g, KMA_SEEN_PRIVATE(private));
}

/* Everything of the guest that is not in the window is mapped after this. */
static inline void kma_warm_up(struct kvm_vcpu *vcpu)
{
	gva_t scratch = vm_alloc_page(vcpu->vm);

	vcpu_args_set(vcpu, 1, (u64)vcpu->id);
	kma_finish(vcpu);
	kma_write_by(vcpu, scratch, 1, KMA_KIND_NEW);
	kma_read_by(vcpu, scratch, 1);
}

static inline void kma_add_slot(struct kma_guest *g, int flags, int gmem)
{
	vm_mem_add(g->vm, VM_MEM_SRC_SHMEM, g->gpa, KMA_SLOT, KMA_PAGES, flags, gmem, 0);
	g->region = memslot2region(g->vm, KMA_SLOT);
}

/* A guest with the window backed by @gmem, or by a new guest_memfd if -1. */
static inline void kma_guest_init(struct kma_guest *g, u32 type, int slot_flags,
				  s64 gmem_flags)
{
	struct vm_shape shape = { .mode = VM_MODE_DEFAULT, .type = type };
	int gmem = -1;

	g->gpa = KMA_GPA;
	g->vm = vm_create_shape_with_one_vcpu(shape, &g->vcpu, kma_guest_code);
	if (gmem_flags)
		gmem = vm_create_guest_memfd(g->vm, KMA_SIZE, gmem_flags);
	kma_add_slot(g, slot_flags, gmem);
	if (gmem >= 0)
		close(gmem);
	virt_map(g->vm, g->gpa, g->gpa, KMA_PAGES);
	kma_warm_up(g->vcpu);
}

/* The usual one: a software-protected VM, guest_memfd beside shared memory. */
static inline void kma_protected_guest_init(struct kma_guest *g)
{
	kma_guest_init(g, KVM_X86_SW_PROTECTED_VM, KVM_MEM_GUEST_MEMFD, 0);
}

/*
 * Have KVM give the VM up: it cannot put a vCPU into SMM without memory in the
 * address space of SMM, which the guests here do not have.
 */
static inline void kma_kill(struct kvm_vcpu *vcpu)
{
	vcpu_ioctl(vcpu, KVM_SMI, NULL);
	KMA_ASSERT_ERRNO(EIO, _vcpu_run(vcpu));
}

static inline bool kma_has_protected_vms(void)
{
	return kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM);
}

/* For a fixture's setup. */
#define KMA_REQUIRE_PROTECTED_VMS()						\
do {										\
	if (!kma_has_protected_vms())						\
		SKIP(return, "KVM has no software-protected VMs here");		\
} while (0)

#endif /* KVM_MEMATTR_GUEST_H */
