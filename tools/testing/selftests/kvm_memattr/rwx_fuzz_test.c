// SPDX-License-Identifier: GPL-2.0
/*
 * Random words on random ranges, and a guest that reads, writes and executes at
 * random: each outcome is held against a plain model, which knows of each page
 * only its word and what it holds. Slots come and go, dirty pages are logged now
 * and then, and the model says which may be dirty and which have to be.
 *
 * KMA_SEED repeats a run, KMA_STEPS says how long one is.
 */
/* modes: npt=0 tdp_mmu=0 nx_huge_pages=force */
/* not with npt=0 tdp_mmu=0: protected */
#include <linux/bitmap.h>

#include "kvm_memattr_age.h"
#include "kvm_memattr_random.h"
#include "kvm_memattr_rwx_huge.h"

/* Steps with each type of VM, fewer on the kernel with all checks. */
#define STEPS		10000
#define DEBUG_SHARE	10

#define PAGES		(3 * RWX_BLOCK)
#define GIVE_UP		64

/* Beside the kinds of access of the other tests. */
enum {
	FUZZ_CODE = RWX_NR_OPS,
};

static void fuzz_code(void)
{
	struct rwx_cmd *cmd = &rwx_cmds[0];
	u64 result = 0;

	for (;;) {
		u64 *data;

		GUEST_SYNC(result);
		result = 0;
		data = (u64 *)(READ_ONCE(cmd->gva) + RWX_DATA);
		switch (READ_ONCE(cmd->op)) {
		case RWX_READ:
			result = READ_ONCE(*data);
			break;
		case FUZZ_CODE:
			WRITE_ONCE(*(u8 *)(READ_ONCE(cmd->gva) + RWX_CODE), 0xc3);
			break;
		default:
			rwx_do(READ_ONCE(cmd->op), READ_ONCE(cmd->gva), READ_ONCE(cmd->value));
		}
	}
}

struct model {
	u64 word[PAGES];
	/* By whether the page is private: what it holds, and whether there's code. */
	u64 data[2][PAGES];
	bool code[2][PAGES];
	/* Since the log was fetched: written by the guest, and possibly mapped writable. */
	bool written[PAGES];
	bool writable[PAGES];
	bool slot;
	bool log;
};

struct fuzz {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	u8 *host;
	int gmem;
	bool protected;
	struct model m;
	unsigned long dirty[BITS_TO_LONGS(PAGES)];
	struct {
		u64 sets, accesses, denied, granted, mmio, slots, logs, prefaults, aged;
	} nr;
	/* For the message of a failure. */
	u64 step;
};

#define FUZZ_ASSERT(_f, _cond, _fmt, ...)					\
	TEST_ASSERT(_cond, "step %lu (KMA_SEED=%#lx): " _fmt, (_f)->step,	\
		    kma_seed, ##__VA_ARGS__)

static u64 page_gpa(u64 page)
{
	return KMA_GPA + page * PAGE_SIZE;
}

static u64 *data_of(struct fuzz *f, u64 page)
{
	return (u64 *)(f->host + page * PAGE_SIZE + RWX_DATA);
}

static bool is_private(struct fuzz *f, u64 page)
{
	return f->m.word[page] & KMA_PRIVATE;
}

static void set_slot(struct fuzz *f, bool there)
{
	u32 flags = f->gmem >= 0 ? KVM_MEM_GUEST_MEMFD : 0;

	if (f->m.log)
		flags |= KVM_MEM_LOG_DIRTY_PAGES;
	vm_set_user_memory_region2(f->vm, KMA_SLOT, flags, KMA_GPA,
				   there ? PAGES * PAGE_SIZE : 0, f->host, f->gmem, 0);
	f->m.slot = there;
}

static void forget_dirty(struct fuzz *f)
{
	memset(f->m.written, 0, sizeof(f->m.written));
	memset(f->m.writable, 0, sizeof(f->m.writable));
}

static void fuzz_init(struct fuzz *f, u32 type)
{
	struct vm_shape shape = { .mode = VM_MODE_DEFAULT, .type = type };

	f->protected = type == KVM_X86_SW_PROTECTED_VM;
	f->vm = vm_create_shape_with_one_vcpu(shape, &f->vcpu, fuzz_code);
	f->gmem = f->protected ? vm_create_guest_memfd(f->vm, PAGES * PAGE_SIZE, 0) : -1;
	f->host = kvm_mmap((PAGES + RWX_BLOCK) * PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1);
	f->host = align_ptr_up(f->host, RWX_BLOCK * PAGE_SIZE);
	kvm_madvise(f->host, PAGES * PAGE_SIZE, MADV_HUGEPAGE);
	for (u64 page = 0; page < PAGES; page++) {
		f->m.data[0][page] = *data_of(f, page) = rwx_word(page_gpa(page));
		f->host[page * PAGE_SIZE + RWX_CODE] = 0xc3;
		f->m.code[0][page] = true;
	}
	set_slot(f, true);
	virt_map(f->vm, KMA_GPA, KMA_GPA, PAGES);
	vcpu_regs_get(f->vcpu, &rwx_entry);
	rwx_run(f->vcpu);
}

/* --- the guest's accesses --- */

static void issue(struct fuzz *f, u64 op, u64 page, u64 value)
{
	struct rwx_cmd cmd = { .op = op, .gva = page_gpa(page), .value = value };

	memcpy(addr_gva2hva(f->vm, (gva_t)&rwx_cmds[0]), &cmd, sizeof(cmd));
}

/* The guest finishes its command. What it returns is what it has read. */
static u64 run(struct fuzz *f, u64 op, u64 page)
{
	struct ucall uc;
	int ret = _vcpu_run(f->vcpu);

	FUZZ_ASSERT(f, !ret,
		    "%s page %lu with word %lx: errno %d, exit %u, flags 0x%llx, gpa 0x%llx",
		    op == FUZZ_CODE ? "prepare" : rwx_op_names[op], page, f->m.word[page], errno,
		    f->vcpu->run->exit_reason, f->vcpu->run->memory_fault.flags,
		    f->vcpu->run->memory_fault.gpa);
	switch (get_ucall(f->vcpu, &uc)) {
	case UCALL_SYNC:
		return uc.args[1];
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("step %lu (KMA_SEED=%#lx): exit %u (%s)", f->step, kma_seed,
			  f->vcpu->run->exit_reason,
			  exit_reason_str(f->vcpu->run->exit_reason));
	}
}

static void give_up(struct fuzz *f)
{
	vcpu_regs_set(f->vcpu, &rwx_entry);
	rwx_run(f->vcpu);
}

/*
 * Without a slot: MMIO, which no restriction is about, or a private page's exit.
 * Where pages can become private, the guest stays away from MMIO: KVM remembers
 * that an address is MMIO, and attributes don't make it forget that.
 */
static void access_nothing(struct fuzz *f, u64 op, u64 page, u64 value)
{
	struct kvm_run *kvm_run = f->vcpu->run;
	int ret = _vcpu_run(f->vcpu);

	if (is_private(f, page)) {
		FUZZ_ASSERT(f, ret && errno == EFAULT &&
			    kvm_run->exit_reason == KVM_EXIT_MEMORY_FAULT &&
			    kvm_run->memory_fault.flags == KVM_MEMORY_EXIT_FLAG_PRIVATE &&
			    kvm_run->memory_fault.gpa == page_gpa(page),
			    "private page %lu without a slot: rc %d errno %d exit %u", page,
			    ret, errno, kvm_run->exit_reason);
		give_up(f);
		return;
	}

	FUZZ_ASSERT(f, !ret && kvm_run->exit_reason == KVM_EXIT_MMIO &&
		    kvm_run->mmio.phys_addr == page_gpa(page) + RWX_DATA &&
		    kvm_run->mmio.is_write == (op == RWX_WRITE) && kvm_run->mmio.len == 8,
		    "page %lu with word %lx isn't MMIO without a slot: errno %d exit %u", page,
		    f->m.word[page], errno, kvm_run->exit_reason);
	f->nr.mmio++;
	if (op == RWX_WRITE) {
		FUZZ_ASSERT(f, !memcmp(kvm_run->mmio.data, &value, 8), "MMIO of another value");
		run(f, op, page);
	} else {
		memcpy(kvm_run->mmio.data, &value, 8);
		FUZZ_ASSERT(f, run(f, op, page) == value, "MMIO read another value");
	}
}

static void change_word(struct fuzz *f, u64 page, u64 word)
{
	kma_set(f->vm, page_gpa(page), PAGE_SIZE, word);
	f->m.word[page] = word;
}

/* The access has been made. */
static void account(struct fuzz *f, u64 op, u64 page, u64 value, u64 result)
{
	bool private = is_private(f, page);
	u64 *data = &f->m.data[private][page];

	if (op == RWX_READ)
		FUZZ_ASSERT(f, result == *data, "page %lu with word %lx: read %lx, not %lx", page,
			    f->m.word[page], result, *data);
	if (op == RWX_WRITE)
		*data = value;
	if (op == RWX_MODIFY)
		*data += 1;
	if (op == FUZZ_CODE)
		f->m.code[private][page] = true;

	if (!private)
		FUZZ_ASSERT(f, READ_ONCE(*data_of(f, page)) == *data,
			    "page %lu with word %lx holds %lx, not %lx", page, f->m.word[page],
			    *data_of(f, page), *data);
	if (op == RWX_WRITE || op == RWX_MODIFY || op == FUZZ_CODE)
		f->m.written[page] = true;
}

static void access_page(struct fuzz *f)
{
	u64 op = kma_random_below(RWX_NR_OPS), page = kma_random_below(PAGES);
	u64 value = kma_random(), flag;
	bool private = is_private(f, page);

	if (!f->m.slot) {
		if (f->protected && !private)
			return;
		op = op == RWX_READ ? RWX_READ : RWX_WRITE;
		f->nr.accesses++;
		issue(f, op, page, value);
		access_nothing(f, op, page, value);
		return;
	}

	f->nr.accesses++;
	if (op == RWX_EXEC && !f->m.code[private][page])
		op = FUZZ_CODE;
	issue(f, op, page, value);
	flag = rwx_denied_flag(f->m.word[page], op);
	if (flag) {
		f->nr.denied++;
		for (u64 i = kma_random_below(3); i <= 2; i++)
			rwx_assert_exit(f->vcpu, page_gpa(page), flag);
		if (!private)
			FUZZ_ASSERT(f, READ_ONCE(*data_of(f, page)) == f->m.data[0][page],
				    "page %lu with word %lx was changed", page, f->m.word[page]);
		if (kma_random_below(2)) {
			give_up(f);
			return;
		}
		/* Without the bit that denies it, and what comes with that. */
		f->nr.granted++;
		change_word(f, page, kma_random_below(2) ? 0 :
			    flag == KVM_MEMORY_EXIT_FLAG_READ ? KMA_NW | KMA_NX :
			    flag == KVM_MEMORY_EXIT_FLAG_EXEC ? KMA_NW : KMA_NX);
	}
	account(f, op, page, value, run(f, op, page));
	/* A page is mapped writable where it can be, whatever the access. */
	if (!(f->m.word[page] & KMA_NW))
		f->m.writable[page] = true;
}

/* --- everything else --- */

static u64 random_word(struct fuzz *f)
{
	if (f->protected && !kma_random_below(4))
		return KMA_PRIVATE;
	return kma_restrictions[kma_random_below(ARRAY_SIZE(kma_restrictions))];
}

/* Of any length, now and then whole blocks, and possibly beyond the memory. */
static void set_range(struct fuzz *f)
{
	u64 first = kma_random_below(PAGES), nr = kma_random_log(PAGES), word = random_word(f);
	u64 beyond = kma_random_below(1024);

	if (!kma_random_below(4)) {
		first = first / RWX_BLOCK * RWX_BLOCK;
		nr = (1 + nr / RWX_BLOCK) * RWX_BLOCK;
	}
	if (first + nr < PAGES || kma_random_below(2))
		beyond = 0;
	nr = min(nr, PAGES - first);
	kma_set(f->vm, page_gpa(first), (nr + beyond) * PAGE_SIZE, word);
	for (u64 page = first; page < first + nr; page++)
		f->m.word[page] = word;
	f->nr.sets++;
}

static void check_log(struct fuzz *f)
{
	if (!f->m.log || !f->m.slot)
		return;

	kvm_vm_get_dirty_log(f->vm, KMA_SLOT, f->dirty);
	for (u64 page = 0; page < PAGES; page++) {
		bool dirty = test_bit(page, f->dirty);

		FUZZ_ASSERT(f, dirty || !f->m.written[page], "page %lu isn't dirty", page);
		FUZZ_ASSERT(f, !dirty || f->m.writable[page],
			    "page %lu is dirty, but was never writable; its word is %lx", page,
			    f->m.word[page]);
	}
	forget_dirty(f);
	f->nr.logs++;
}

static void toggle_log(struct fuzz *f)
{
	/* A slot with a guest_memfd can't have its pages logged. */
	if (f->gmem >= 0 || !f->m.slot)
		return;

	check_log(f);
	f->m.log = !f->m.log;
	set_slot(f, true);
	forget_dirty(f);
	/* What has been writable so far may be so for a moment longer. */
	if (f->m.log)
		kvm_vm_get_dirty_log(f->vm, KMA_SLOT, f->dirty);
}

static void toggle_slot(struct fuzz *f)
{
	set_slot(f, !f->m.slot);
	forget_dirty(f);
	f->nr.slots++;
}

static void prefault(struct fuzz *f)
{
	u64 page = kma_random_below(PAGES), nr = kma_random_log(GIVE_UP), i;
	struct kvm_pre_fault_memory range;
	int ret;

	nr = min(nr, PAGES - page);
	range = (struct kvm_pre_fault_memory) {
		.gpa = page_gpa(page),
		.size = nr * PAGE_SIZE,
	};
	if (!f->m.slot || !kvm_is_tdp_enabled())
		return;

	for (i = page; i < page + nr && !(f->m.word[i] & KMA_NR); i++)
		if (!(f->m.word[i] & KMA_NW))
			f->m.writable[i] = true;
	do {
		ret = __vcpu_ioctl(f->vcpu, KVM_PRE_FAULT_MEMORY, &range);
	} while (!ret && range.size);
	FUZZ_ASSERT(f, i == page + nr ? !ret :
		    ret && errno == EFAULT && range.gpa == page_gpa(i),
		    "prefaulting from %lu to %lu ends at 0x%llx with errno %d, not at %lu", page,
		    page + nr, range.gpa, errno, i);
	f->nr.prefaults++;
}

/* What the VMM does is not restricted, and seen by the guest. */
static void host_write(struct fuzz *f)
{
	u64 page = kma_random_below(PAGES);

	f->m.data[0][page] = kma_random();
	WRITE_ONCE(*data_of(f, page), f->m.data[0][page]);
}

/* All that the guest has mapped of the host's huge page there. */
static void age(struct fuzz *f)
{
	kma_age(f->host + kma_random_below(PAGES) / RWX_BLOCK * RWX_BLOCK * PAGE_SIZE);
	f->nr.aged++;
}

static void step(struct fuzz *f)
{
	u64 what = kma_random_below(1000);

	if (what < 250)
		set_range(f);
	else if (what < (f->m.slot ? 253 : 275))
		toggle_slot(f);
	else if (what < 260)
		toggle_log(f);
	else if (what < 280)
		check_log(f);
	else if (what < 300)
		prefault(f);
	else if (what < 320)
		host_write(f);
	else if (what < 330)
		age(f);
	else
		access_page(f);
}

/* All that is there in the end, in the host's memory and as the guest has it. */
static void check_everything(struct fuzz *f)
{
	if (!f->m.slot)
		toggle_slot(f);
	for (u64 page = 0; page < PAGES; page++)
		FUZZ_ASSERT(f, *data_of(f, page) == f->m.data[0][page],
			    "in the end page %lu holds %lx, not %lx", page, *data_of(f, page),
			    f->m.data[0][page]);
	for (u64 page = 0; page < PAGES; page++) {
		u64 flag = rwx_denied_flag(f->m.word[page], RWX_READ);

		issue(f, RWX_READ, page, 0);
		if (flag) {
			rwx_assert_exit(f->vcpu, page_gpa(page), flag);
			give_up(f);
		} else {
			account(f, RWX_READ, page, 0, run(f, RWX_READ, page));
		}
	}
}

FIXTURE(fuzz) {
};

FIXTURE_VARIANT(fuzz) {
	u32 type;
	const char *name;
};

FIXTURE_VARIANT_ADD(fuzz, default) {
	.type = KVM_X86_DEFAULT_VM,
	.name = "default VM",
};

FIXTURE_VARIANT_ADD(fuzz, protected) {
	.type = KVM_X86_SW_PROTECTED_VM,
	.name = "protected VM",
};

FIXTURE_SETUP(fuzz)
{
	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");
}

FIXTURE_TEARDOWN(fuzz)
{
}

/* As long as KMA_STEPS takes. */
TEST_F_TIMEOUT(fuzz, every_outcome_is_the_models, 100000)
{
	static struct fuzz fuzz;
	struct fuzz *f = &fuzz;
	u64 steps = kma_steps(STEPS, DEBUG_SHARE);

	kma_random_init();
	fuzz_init(f, variant->type);
	for (f->step = 0; f->step < steps; f->step++)
		step(f);
	check_everything(f);

	printf("# figure: %s: %lu accesses, %lu denied, %lu of these granted, %lu MMIO; ",
	       variant->name, f->nr.accesses, f->nr.denied, f->nr.granted, f->nr.mmio);
	printf("%lu sets, %lu logs, %lu slots, %lu prefaults, aged %lu times\n", f->nr.sets,
	       f->nr.logs, f->nr.slots, f->nr.prefaults, f->nr.aged);
	kvm_vm_free(f->vm);
}

TEST_HARNESS_MAIN
