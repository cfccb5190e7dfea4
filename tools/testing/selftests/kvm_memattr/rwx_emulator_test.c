// SPDX-License-Identifier: GPL-2.0
/*
 * Instructions that KVM emulates: each access of theirs to a restricted page is
 * denied as the guest's own would be, memory and registers are as before, and
 * the instruction is executed once when the restriction is lifted.
 */
/* modes: npt=0 */
#include <linux/kvm_para.h>

#include "kvm_memattr_own.h"

/* Nothing is there. */
#define MMIO_GPA	(KMA_GPA + SZ_1G)
#define PORT		0x80

#define VALUE		0x1122334455667788ull
#define OLD		0x0102030405060708ull

FIXTURE(emulator) {
	struct rwx_guest g;
};

FIXTURE_SETUP(emulator)
{
	own_force_emulation(true);
	own_init(&self->g);
	virt_map(self->g.vm, MMIO_GPA, MMIO_GPA, 4);
}

FIXTURE_TEARDOWN(emulator)
{
	kvm_vm_free(self->g.vm);
	own_force_emulation(false);
}

/* Each is given the address of a word that holds OLD, and VALUE. */
static u64 do_read(u64 a, u64 b, u64 c)
{
	asm volatile(KVM_FEP "mov (%1), %0" : "=r"(b) : "r"(a) : "memory");
	return b;
}

static u64 do_write(u64 a, u64 b, u64 c)
{
	asm volatile(KVM_FEP "mov %1, (%0)" : : "r"(a), "r"(b) : "memory");
	return 0;
}

static u64 do_compare(u64 a, u64 b, u64 c)
{
	u8 equal;

	asm volatile(KVM_FEP "cmp %2, (%1); sete %0"
		     : "=q"(equal) : "r"(a), "r"(b) : "memory", "cc");
	return equal;
}

static u64 do_increment(u64 a, u64 b, u64 c)
{
	asm volatile(KVM_FEP "incq (%0)" : : "r"(a) : "memory", "cc");
	return 0;
}

static u64 do_locked_add(u64 a, u64 b, u64 c)
{
	asm volatile(KVM_FEP "lock addq %1, (%0)" : : "r"(a), "r"(b) : "memory", "cc");
	return 0;
}

static u64 do_exchange(u64 a, u64 b, u64 c)
{
	asm volatile(KVM_FEP "xchg %0, (%1)" : "+r"(b) : "r"(a) : "memory");
	return b;
}

static u64 do_cmpxchg(u64 a, u64 b, u64 c)
{
	u64 rax = OLD;

	asm volatile(KVM_FEP "lock cmpxchg %2, (%1)"
		     : "+a"(rax) : "r"(a), "r"(b) : "memory", "cc");
	return rax;
}

/* Writes what it has read. */
static u64 do_cmpxchg_that_fails(u64 a, u64 b, u64 c)
{
	u64 rax = VALUE;

	asm volatile(KVM_FEP "lock cmpxchg %2, (%1)"
		     : "+a"(rax) : "r"(a), "r"(b) : "memory", "cc");
	return rax;
}

static u64 do_cmpxchg8b(u64 a, u64 b, u64 c)
{
	u32 eax = (u32)OLD, edx = OLD >> 32;

	asm volatile(KVM_FEP "lock cmpxchg8b (%2)"
		     : "+a"(eax), "+d"(edx)
		     : "r"(a), "b"((u32)b), "c"((u32)(b >> 32)) : "memory", "cc");
	return (u64)edx << 32 | eax;
}

static u64 do_push(u64 a, u64 b, u64 c)
{
	u64 rsp = a + 8;

	asm volatile("xchg %%rsp, %0\n\t"
		     KVM_FEP "push %1\n\t"
		     "xchg %%rsp, %0"
		     : "+r"(rsp) : "r"(b) : "memory");
	return a - rsp;
}

static u64 do_pop(u64 a, u64 b, u64 c)
{
	u64 rsp = a;

	asm volatile("xchg %%rsp, %0\n\t"
		     KVM_FEP "pop %1\n\t"
		     "xchg %%rsp, %0"
		     : "+r"(rsp), "=r"(b) : : "memory");
	return rsp - a == 8 ? b : 0;
}

/* The address to return to, if that's what was pushed and popped. */
static u64 do_call(u64 a, u64 b, u64 c)
{
	u64 rsp = a + 8, ret = 0, want;

	asm volatile("xchg %%rsp, %0\n\t"
		     KVM_FEP "call 1f\n\t"
		     "2:\n\t"
		     "jmp 3f\n\t"
		     "1:\n\t"
		     "mov (%%rsp), %1\n\t"
		     "add $8, %%rsp\n\t"
		     "3:\n\t"
		     "xchg %%rsp, %0\n\t"
		     "lea 2b(%%rip), %2"
		     : "+&r"(rsp), "+&r"(ret), "=&r"(want) : : "memory", "cc");
	return ret == want && rsp == a + 8 ? ret : 0;
}

static u64 do_store_string(u64 a, u64 b, u64 c)
{
	u64 rdi = a;

	asm volatile(KVM_FEP "stosq" : "+D"(rdi) : "a"(b) : "memory");
	return rdi - a;
}

static u64 do_load_string(u64 a, u64 b, u64 c)
{
	u64 rsi = a;

	asm volatile(KVM_FEP "lodsq" : "+S"(rsi), "=a"(b) : : "memory");
	return rsi - a == 8 ? b : 0;
}

static u64 first_bytes_of(const struct desc_ptr *desc)
{
	return desc->address << 16 | desc->size;
}

/* System instructions take another way to memory. */
static u64 do_store_idtr(u64 a, u64 b, u64 c)
{
	struct desc_ptr is;

	asm volatile("sidt %0" : "=m"(is));
	asm volatile(KVM_FEP "sidt (%0)" : : "r"(a) : "memory");
	return first_bytes_of(&is);
}

static u64 do_load_idtr(u64 a, u64 b, u64 c)
{
	struct desc_ptr was, now;

	asm volatile("sidt %0" : "=m"(was));
	asm volatile(KVM_FEP "lidt (%0)" : : "r"(a) : "memory");
	asm volatile("sidt %0" : "=m"(now));
	asm volatile("lidt %0" : : "m"(was));
	return first_bytes_of(&now);
}

enum what { READS = 1, WRITES = 2, MODIFIES = 3 };

struct operation {
	const char *name;
	own_fn fn;
	enum what what;
	/* What is in memory afterwards, and what is returned. */
	u64 memory;
	u64 result;
};

/* In memory, what is returned, which is not 0. */
#define THE_RESULT	(~0ull)

static const struct operation operations[] = {
	{ "mov from memory", do_read, READS, OLD, OLD },
	{ "mov to memory", do_write, WRITES, VALUE },
	{ "cmp", do_compare, READS, OLD },
	{ "inc", do_increment, MODIFIES, OLD + 1 },
	{ "lock add", do_locked_add, MODIFIES, OLD + VALUE },
	{ "xchg", do_exchange, MODIFIES, VALUE, OLD },
	{ "cmpxchg", do_cmpxchg, MODIFIES, VALUE, OLD },
	{ "cmpxchg that fails", do_cmpxchg_that_fails, MODIFIES, OLD, OLD },
	{ "cmpxchg8b", do_cmpxchg8b, MODIFIES, VALUE, OLD },
	{ "push", do_push, WRITES, VALUE },
	{ "pop", do_pop, READS, OLD, OLD },
	{ "call", do_call, WRITES, THE_RESULT },
	{ "stos", do_store_string, WRITES, VALUE, 8 },
	{ "lods", do_load_string, READS, OLD, OLD },
	{ "sidt", do_store_idtr, WRITES, THE_RESULT },
	{ "lidt", do_load_idtr, READS, OLD, OLD },
};

static u64 flag_of(const struct operation *op, u64 word)
{
	if (op->what & WRITES)
		return word & KMA_NW ? KVM_MEMORY_EXIT_FLAG_WRITE : 0;

	return word & KMA_NR ? KVM_MEMORY_EXIT_FLAG_READ : 0;
}

/* What both reads and writes is told apart where reading is denied. */
static bool reads_first(const struct operation *op, u64 word)
{
	return op->what == MODIFIES && (word & KMA_NR);
}

static void denied(struct rwx_guest *g, const struct operation *op, u64 word, u64 gpa)
{
	struct kvm_run *run = g->vcpu->run;
	int ret = _vcpu_run(g->vcpu), err = errno;
	u64 flag = flag_of(op, word);

	TEST_ASSERT(ret == -1 && err == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT,
		    "'%s' with word 0x%lx: rc %d errno %d (%s) exit reason %u (%s)",
		    op->name, word, ret, err, strerror(err), run->exit_reason,
		    exit_reason_str(run->exit_reason));
	TEST_ASSERT(run->memory_fault.flags == flag && run->memory_fault.gpa == gpa &&
		    run->memory_fault.size == PAGE_SIZE,
		    "'%s' with word 0x%lx: wanted flag 0x%lx of 0x%lx, got 0x%llx of 0x%llx, size 0x%llx",
		    op->name, word, flag, gpa, run->memory_fault.flags,
		    run->memory_fault.gpa, run->memory_fault.size);
}

static void one_operation(struct rwx_guest *g, const struct operation *op, u64 page, u64 word,
			  bool touched)
{
	u64 gpa = rwx_gpa(g, page), flag = flag_of(op, word), result, memory;
	void *copy;

	if (touched) {
		own_call(g, do_write, gpa + RWX_DATA, OLD, 0);
		own_call(g, do_read, gpa + RWX_DATA, 0, 0);
	}
	*rwx_hva(g, page) = OLD;
	copy = own_copy(g, page, 1);

	rwx_set(g, page, 1, word);
	own_issue(g, op->fn, gpa + RWX_DATA, VALUE, 0);
	if (flag) {
		denied(g, op, word, gpa);
		own_assert_same(g, page, 1, copy);
		/* Now it's up to the CPU what it does first. */
		if (!reads_first(op, word))
			rwx_assert_exit(g->vcpu, gpa, flag);
		rwx_set(g, page, 1, 0);
	} else {
		free(copy);
	}

	result = own_finish(g);
	memory = op->memory == THE_RESULT ? result : op->memory;
	TEST_ASSERT(*rwx_hva(g, page) == memory,
		    "'%s' with word 0x%lx: left 0x%lx in memory, not 0x%lx",
		    op->name, word, *rwx_hva(g, page), memory);
	TEST_ASSERT(op->memory == THE_RESULT ? result : result == op->result,
		    "'%s' with word 0x%lx: came to 0x%lx, not 0x%lx",
		    op->name, word, result, op->result);
	rwx_set(g, page, 1, 0);
}

static void operations_where(struct rwx_guest *g, bool reading_first, bool touched)
{
	u64 page = 0;

	for (int i = 0; i < ARRAY_SIZE(operations); i++) {
		for (int w = 0; w < ARRAY_SIZE(kma_restrictions); w++) {
			if (reads_first(&operations[i], kma_restrictions[w]) != reading_first)
				continue;

			one_operation(g, &operations[i], page, kma_restrictions[w], touched);
			if (++page < OWN_PAGES)
				continue;

			/* Pages that nobody has used yet, again. */
			page = 0;
			vm_mem_region_delete(g->vm, KMA_SLOT);
			rwx_add_slot(g, VM_MEM_SRC_ANONYMOUS, 0);
		}
	}
}

TEST_F(emulator, each_word_denies_what_it_says_on_pages_never_used)
{
	operations_where(&self->g, false, false);
}

TEST_F(emulator, each_word_denies_what_it_says_on_pages_used_before)
{
	operations_where(&self->g, false, true);
}

/* As one access, by a CPU, they are writes. */
TEST_F(emulator, what_reads_and_writes_is_a_write_on_pages_never_used)
{
	operations_where(&self->g, true, false);
}

TEST_F(emulator, what_reads_and_writes_is_a_write_on_pages_used_before)
{
	operations_where(&self->g, true, true);
}

/* The last four bytes of one page, the first four of the next. */
static u64 across(struct rwx_guest *g, u64 page)
{
	memcpy(own_page(g, page) + PAGE_SIZE - 4, &(u64){ OLD }, 8);
	return rwx_gpa(g, page + 1) - 4;
}

static u64 *across_hva(struct rwx_guest *g, u64 page)
{
	return own_page(g, page) + PAGE_SIZE - 4;
}

static void crossing(struct rwx_guest *g, own_fn fn, u64 page, u64 denied, u64 word,
		     u64 flag, u64 memory)
{
	u64 gva = across(g, page);
	void *copy = own_copy(g, page, 2);
	u64 now;

	rwx_set(g, denied, 1, word);
	own_issue(g, fn, gva, VALUE, 0);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, denied), flag);
	own_assert_same(g, page, 2, copy);
	rwx_set(g, denied, 1, 0);
	own_finish(g);
	memcpy(&now, across_hva(g, page), 8);
	TEST_ASSERT_EQ(now, memory);
}

TEST_F(emulator, reads_across_two_pages_are_denied_by_either)
{
	struct rwx_guest *g = &self->g;

	crossing(g, do_read, 0, 0, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ, OLD);
	crossing(g, do_read, 2, 3, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ, OLD);
}

TEST_F(emulator, writes_across_two_pages_are_denied_by_the_first)
{
	struct rwx_guest *g = &self->g;

	crossing(g, do_write, 0, 0, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE, VALUE);
	crossing(g, do_increment, 2, 2, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE, OLD + 1);
	crossing(g, do_push, 4, 4, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE, VALUE);
}

/* The part on the first page isn't written while the second denies the rest. */
TEST_F(emulator, writes_across_two_pages_are_denied_by_the_second)
{
	crossing(&self->g, do_write, 0, 1, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE, VALUE);
}

TEST_F(emulator, increments_across_two_pages_are_denied_by_the_second)
{
	crossing(&self->g, do_increment, 0, 1, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE, OLD + 1);
}

TEST_F(emulator, pushes_across_two_pages_are_denied_by_the_second)
{
	crossing(&self->g, do_push, 0, 1, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE, VALUE);
}

/* The guest's descriptor table is moved to the page, and a segment is loaded. */
static u64 do_load_segment(u64 a, u64 b, u64 c)
{
	struct desc_ptr was, now;
	u16 ds;

	asm volatile("sgdt %0" : "=m"(was));
	now.size = was.size;
	now.address = a;
	if (b)
		memcpy((void *)a, (void *)was.address, was.size + 1);
	asm volatile("mov %%ds, %0" : "=r"(ds));
	asm volatile("lgdt %0" : : "m"(now));
	asm volatile(KVM_FEP "mov %w0, %%ds" : : "r"((u32)ds) : "memory");
	asm volatile("lgdt %0" : : "m"(was));
	return 1;
}

TEST_F(emulator, descriptors_are_not_read_from_denied_pages)
{
	struct rwx_guest *g = &self->g;

	own_call(g, do_load_segment, rwx_gpa(g, 0), true, 0);
	rwx_set(g, 0, 1, KMA_NO_ACCESS);
	own_issue(g, do_load_segment, rwx_gpa(g, 0), false, 0);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, 0), KVM_MEMORY_EXIT_FLAG_READ);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, 0), KVM_MEMORY_EXIT_FLAG_READ);
	rwx_set(g, 0, 1, KMA_NW | KMA_NX);
	TEST_ASSERT_EQ(own_finish(g), 1);
}

/* Code at any address: inc %rdi; mov %rdi, %rax; ret; the first with KVM_FEP. */
static const u8 code[] = {
	0x0f, 0x0b, 'k', 'v', 'm',
	0x48, 0xff, 0xc7,
	0x48, 0x89, 0xf8,
	0xc3,
};

#define FEP_LEN		5

static u64 do_execute(u64 a, u64 b, u64 c)
{
	return ((u64 (*)(u64))a)(b);
}

/* The first @before bytes are on one page, the rest is on the next. */
static void fetching(struct rwx_guest *g, u64 page, u64 before, u64 word, bool denied)
{
	u64 offset = PAGE_SIZE - before;
	void *copy;

	memcpy(own_page(g, page) + offset, code, sizeof(code));
	copy = own_copy(g, page, 2);
	rwx_set(g, page + 1, 1, word);
	own_issue(g, do_execute, rwx_gpa(g, page) + offset, VALUE, 0);
	if (denied) {
		rwx_assert_exit(g->vcpu, rwx_gpa(g, page + 1), KVM_MEMORY_EXIT_FLAG_EXEC);
		rwx_set(g, page + 1, 1, 0);
	}
	TEST_ASSERT_EQ(own_finish(g), VALUE + 1);
	own_assert_same(g, page, 2, copy);
	rwx_set(g, page + 1, 1, 0);
}

TEST_F(emulator, instructions_are_not_fetched_from_where_execution_is_denied)
{
	/* All of the instruction, all but its first byte, its last byte. */
	for (u64 i = 0; i < 3; i++) {
		fetching(&self->g, 6 * i, FEP_LEN + i, KMA_NX, true);
		fetching(&self->g, 6 * i + 2, FEP_LEN + i, KMA_NO_ACCESS, true);
		fetching(&self->g, 6 * i + 4, FEP_LEN + i, KMA_NW, false);
	}
}

TEST_F(emulator, instructions_next_to_a_denied_page_are_executed)
{
	fetching(&self->g, 0, sizeof(code), KMA_NO_ACCESS, false);
}

/* vmcall, vmmcall; then ret. KVM replaces the one that isn't the CPU's. */
static const u8 vmcalls[2][4] = {
	{ 0x0f, 0x01, 0xc1, 0xc3 },
	{ 0x0f, 0x01, 0xd9, 0xc3 },
};

static u64 do_call_hypervisor(u64 a, u64 b, u64 c)
{
	u64 rax = ~0u;

	asm volatile("call *%1" : "+a"(rax) : "r"(a) : "memory", "rbx", "rcx", "rdx");
	return rax;
}

TEST_F(emulator, hypercall_instructions_are_not_replaced_where_writing_is_denied)
{
	const u8 *right = vmcalls[host_cpu_is_amd], *wrong = vmcalls[!host_cpu_is_amd];
	struct rwx_guest *g = &self->g;
	void *copy;

	memcpy(own_page(g, 0), wrong, 4);
	copy = own_copy(g, 0, 1);
	rwx_set(g, 0, 1, KMA_NW);
	own_issue(g, do_call_hypervisor, rwx_gpa(g, 0), 0, 0);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, 0), KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, 0), KVM_MEMORY_EXIT_FLAG_WRITE);
	own_assert_same(g, 0, 1, copy);
	rwx_set(g, 0, 1, 0);
	TEST_ASSERT_EQ(own_finish(g), (u64)-KVM_ENOSYS);
	TEST_ASSERT(!memcmp(own_page(g, 0), right, 4), "the instruction is not replaced");

	/* With the right one there's nothing to write. */
	rwx_set(g, 0, 1, KMA_NW);
	TEST_ASSERT_EQ(own_call(g, do_call_hypervisor, rwx_gpa(g, 0), 0, 0), (u64)-KVM_ENOSYS);
}

/* Registers and memory while a string instruction is stopped, and after it. */
static u64 string_regs[3];

static u64 do_copy_string(u64 a, u64 b, u64 c)
{
	u64 rdi = a, rsi = b, rcx = c;

	asm volatile(KVM_FEP "rep movsb" : "+D"(rdi), "+S"(rsi), "+c"(rcx) : : "memory");
	string_regs[0] = rdi - a;
	string_regs[1] = rsi - b;
	string_regs[2] = rcx;
	return 0;
}

static void copying(struct rwx_guest *g, u64 dst, u64 src, u64 denied, u64 word, u64 flag)
{
	u64 to = rwx_gpa(g, dst + 1) - 5, from = rwx_gpa(g, src + 1) - 5;
	u8 *to_hva = own_page(g, dst + 1) - 5, *from_hva = own_page(g, src + 1) - 5;
	struct kvm_regs regs;
	u64 after[3];

	memset(to_hva, 0xee, 12);
	for (int i = 0; i < 12; i++)
		from_hva[i] = i + 1;

	rwx_set(g, denied, 1, word);
	own_issue(g, do_copy_string, to, from, 12);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, denied), flag);

	/* What came before is done, and only that. */
	vcpu_regs_get(g->vcpu, &regs);
	TEST_ASSERT_EQ(regs.rcx, 7);
	TEST_ASSERT_EQ(regs.rdi, to + 5);
	TEST_ASSERT_EQ(regs.rsi, from + 5);
	TEST_ASSERT(!memcmp(to_hva, from_hva, 5), "what came before is not copied");
	for (int i = 5; i < 12; i++)
		TEST_ASSERT_EQ(to_hva[i], 0xee);

	/* If it were done again, it would copy these. */
	memset(from_hva, 0, 5);
	rwx_set(g, denied, 1, 0);
	own_finish(g);
	for (int i = 0; i < 12; i++)
		TEST_ASSERT_EQ(to_hva[i], i + 1);
	memcpy(after, addr_gva2hva(g->vm, (gva_t)string_regs), sizeof(after));
	TEST_ASSERT_EQ(after[0], 12);
	TEST_ASSERT_EQ(after[1], 12);
	TEST_ASSERT_EQ(after[2], 0);
}

TEST_F(emulator, strings_stop_where_their_destination_is_denied)
{
	copying(&self->g, 0, 4, 1, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE);
	copying(&self->g, 8, 12, 9, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_WRITE);
}

TEST_F(emulator, strings_stop_where_their_source_is_denied)
{
	copying(&self->g, 0, 4, 5, KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ);
}

/* Emulated without a prefix, and so each time that they're tried. */
static u64 do_string_out(u64 a, u64 b, u64 c)
{
	u64 rsi = a, rcx = b;

	asm volatile("rep outsb" : "+S"(rsi), "+c"(rcx) : "d"(PORT) : "memory");
	return rsi - a;
}

static u64 do_string_in(u64 a, u64 b, u64 c)
{
	u64 rdi = a, rcx = b;

	asm volatile("rep insb" : "+D"(rdi), "+c"(rcx) : "d"(PORT) : "memory");
	return rdi - a;
}

static void string_out(struct rwx_guest *g, u64 page, bool touched)
{
	u64 offset = PAGE_SIZE - 3;
	u8 *hva = own_page(g, page) + offset;

	if (touched)
		rwx_set(g, page, 2, 0);
	for (int i = 0; i < 6; i++)
		hva[i] = 0x40 + i;
	if (touched) {
		own_call(g, do_read, rwx_gpa(g, page), 0, 0);
		own_call(g, do_read, rwx_gpa(g, page + 1), 0, 0);
	}

	rwx_set(g, page + 1, 1, KMA_NO_ACCESS);
	own_issue(g, do_string_out, rwx_gpa(g, page) + offset, 6, 0);
	for (int i = 0; i < 3; i++)
		TEST_ASSERT_EQ(*own_assert_pio(g->vcpu, PORT, KVM_EXIT_IO_OUT, 1), 0x40 + i);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page + 1), KVM_MEMORY_EXIT_FLAG_READ);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page + 1), KVM_MEMORY_EXIT_FLAG_READ);
	rwx_set(g, page + 1, 1, KMA_NW | KMA_NX);
	for (int i = 3; i < 6; i++)
		TEST_ASSERT_EQ(*own_assert_pio(g->vcpu, PORT, KVM_EXIT_IO_OUT, 1), 0x40 + i);
	TEST_ASSERT_EQ(own_finish(g), 6);
}

TEST_F(emulator, strings_to_a_port_are_not_read_from_denied_pages)
{
	string_out(&self->g, 0, false);
	string_out(&self->g, 4, true);
}

static void string_in(struct rwx_guest *g, u64 page, bool touched, u64 word)
{
	u8 *hva = own_page(g, page) + RWX_DATA;
	void *copy;

	if (touched)
		own_call(g, do_write, rwx_gpa(g, page), OLD, 0);
	copy = own_copy(g, page, 1);
	rwx_set(g, page, 1, word);
	own_issue(g, do_string_in, rwx_gpa(g, page) + RWX_DATA, 1, 0);
	/* The port isn't read while there's no place for what it says. */
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page), KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page), KVM_MEMORY_EXIT_FLAG_WRITE);
	own_assert_same(g, page, 1, copy);
	rwx_set(g, page, 1, 0);
	*own_assert_pio(g->vcpu, PORT, KVM_EXIT_IO_IN, 1) = 0x77;
	TEST_ASSERT_EQ(own_finish(g), 1);
	TEST_ASSERT_EQ(*hva, 0x77);
}

TEST_F(emulator, strings_from_a_port_are_not_written_to_denied_pages)
{
	string_in(&self->g, 0, false, KMA_NW);
	string_in(&self->g, 1, true, KMA_NW);
	string_in(&self->g, 2, false, KMA_NO_ACCESS);
	string_in(&self->g, 3, true, KMA_NO_ACCESS);
}

static u64 do_native_read(u64 a, u64 b, u64 c)
{
	return READ_ONCE(*(u8 *)a);
}

static u64 do_native_write(u64 a, u64 b, u64 c)
{
	WRITE_ONCE(*(u8 *)a, b);
	return 0;
}

/* A device's byte is lost if it's read before there's a place for it. */
static void move_from_device(struct rwx_guest *g, u64 page, bool touched, u64 word)
{
	u8 *hva = own_page(g, page) + RWX_DATA;
	void *copy;

	if (touched)
		own_call(g, do_native_write, rwx_gpa(g, page), 1, 0);
	copy = own_copy(g, page, 1);
	rwx_set(g, page, 1, word);
	own_issue(g, own_do_move, rwx_gpa(g, page) + RWX_DATA, MMIO_GPA, 0);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page), KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page), KVM_MEMORY_EXIT_FLAG_WRITE);
	own_assert_same(g, page, 1, copy);
	rwx_set(g, page, 1, 0);
	own_assert_mmio(g->vcpu, MMIO_GPA, false, 1);
	g->vcpu->run->mmio.data[0] = 0x66;
	TEST_ASSERT_EQ(own_finish(g), 1);
	TEST_ASSERT_EQ(*hva, 0x66);
}

TEST_F(emulator, devices_are_not_read_into_denied_pages)
{
	move_from_device(&self->g, 0, false, KMA_NW);
	move_from_device(&self->g, 1, true, KMA_NW);
	move_from_device(&self->g, 2, false, KMA_NO_ACCESS);
	move_from_device(&self->g, 3, true, KMA_NO_ACCESS);
}

/* What interrupts the guest between a denied instruction and the next try. */
#define OTHER_PORT	(PORT + 1)

static u64 nmi_read;

static void nmi_handler(struct ex_regs *regs)
{
	u8 in;

	nmi_read = READ_ONCE(*(u8 *)(MMIO_GPA + 8));
	asm volatile("in %1, %0" : "=a"(in) : "d"((u16)OTHER_PORT));
	nmi_read |= (u64)in << 8;
}

/*
 * The device has been read already when the page is denied, and KVM has what it
 * said. No other instruction may get that.
 */
static void answer_is_not_anothers(struct rwx_guest *g, u64 page, bool port)
{
	u8 *hva = own_page(g, page) + RWX_DATA;

	vm_install_exception_handler(g->vm, NMI_VECTOR, nmi_handler);
	if (port) {
		own_issue(g, do_string_in, rwx_gpa(g, page) + RWX_DATA, 1, 0);
		*own_assert_pio(g->vcpu, PORT, KVM_EXIT_IO_IN, 1) = 0x66;
	} else {
		own_issue(g, own_do_move, rwx_gpa(g, page) + RWX_DATA, MMIO_GPA, 0);
		own_assert_mmio(g->vcpu, MMIO_GPA, false, 1);
		g->vcpu->run->mmio.data[0] = 0x66;
	}
	rwx_set(g, page, 1, KMA_NW);
	*hva = 0x11;
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page), KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT_EQ(*hva, 0x11);

	vcpu_ioctl(g->vcpu, KVM_NMI, NULL);
	own_assert_mmio(g->vcpu, MMIO_GPA + 8, false, 1);
	g->vcpu->run->mmio.data[0] = 0x77;
	*own_assert_pio(g->vcpu, OTHER_PORT, KVM_EXIT_IO_IN, 1) = 0x88;
	rwx_assert_exit(g->vcpu, rwx_gpa(g, page), KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT_EQ(*(u64 *)addr_gva2hva(g->vm, (gva_t)&nmi_read), 0x8877);
	TEST_ASSERT_EQ(*hva, 0x11);

	rwx_set(g, page, 1, 0);
	if (port) {
		*own_assert_pio(g->vcpu, PORT, KVM_EXIT_IO_IN, 1) = 0x67;
	} else {
		own_assert_mmio(g->vcpu, MMIO_GPA, false, 1);
		g->vcpu->run->mmio.data[0] = 0x67;
	}
	TEST_ASSERT_EQ(own_finish(g), 1);
	TEST_ASSERT_EQ(*hva, 0x67);
}

TEST_F(emulator, devices_answer_is_not_anothers)
{
	answer_is_not_anothers(&self->g, 0, false);
}

TEST_F(emulator, ports_answer_is_not_anothers)
{
	answer_is_not_anothers(&self->g, 0, true);
}

TEST_F(emulator, devices_are_not_written_from_denied_pages)
{
	struct rwx_guest *g = &self->g;

	*((u8 *)own_page(g, 0) + RWX_DATA) = 0x55;
	rwx_set(g, 0, 1, KMA_NO_ACCESS);
	own_issue(g, own_do_move, MMIO_GPA, rwx_gpa(g, 0) + RWX_DATA, 0);
	rwx_assert_exit(g->vcpu, rwx_gpa(g, 0), KVM_MEMORY_EXIT_FLAG_READ);
	rwx_set(g, 0, 1, KMA_NW | KMA_NX);
	own_assert_mmio(g->vcpu, MMIO_GPA, true, 1);
	TEST_ASSERT_EQ(g->vcpu->run->mmio.data[0], 0x55);
	TEST_ASSERT_EQ(own_finish(g), 1);
}

/* Attributes bind memory. Nothing is where there's no slot but devices. */
TEST_F(emulator, addresses_without_a_slot_are_devices_whatever_their_gfn_denies)
{
	struct rwx_guest *g = &self->g;

	for (int i = 0; i < ARRAY_SIZE(kma_restrictions); i++) {
		kma_set(g->vm, MMIO_GPA, PAGE_SIZE, kma_restrictions[i]);

		own_issue(g, do_native_read, MMIO_GPA, 0, 0);
		own_assert_mmio(g->vcpu, MMIO_GPA, false, 1);
		g->vcpu->run->mmio.data[0] = 0x33;
		TEST_ASSERT_EQ(own_finish(g), 0x33);

		own_issue(g, do_native_write, MMIO_GPA, 0x44, 0);
		own_assert_mmio(g->vcpu, MMIO_GPA, true, 1);
		TEST_ASSERT_EQ(g->vcpu->run->mmio.data[0], 0x44);
		own_finish(g);

		own_issue(g, do_read, MMIO_GPA, 0, 0);
		own_assert_mmio(g->vcpu, MMIO_GPA, false, 8);
		own_finish(g);

		own_issue(g, do_write, MMIO_GPA, VALUE, 0);
		own_assert_mmio(g->vcpu, MMIO_GPA, true, 8);
		own_finish(g);

		own_issue(g, do_string_out, rwx_gpa(g, 0), 1, 0);
		own_assert_pio(g->vcpu, PORT, KVM_EXIT_IO_OUT, 1);
		own_finish(g);
	}
}

TEST_F(emulator, slot_created_where_a_device_was_honours_what_was_set_before)
{
	struct rwx_guest *g = &self->g;
	struct rwx_guest late = *g;

	kma_set(g->vm, MMIO_GPA, PAGE_SIZE, KMA_NO_ACCESS);
	kma_set(g->vm, MMIO_GPA + PAGE_SIZE, PAGE_SIZE, KMA_NW);
	own_issue(g, do_read, MMIO_GPA, 0, 0);
	own_assert_mmio(g->vcpu, MMIO_GPA, false, 8);
	own_finish(g);

	vm_userspace_mem_region_add(g->vm, VM_MEM_SRC_ANONYMOUS, MMIO_GPA, KMA_SLOT + 1, 4, 0);
	late.region = memslot2region(g->vm, KMA_SLOT + 1);
	late.gpa = MMIO_GPA;
	late.nr_pages = 4;
	rwx_fill(&late);

	own_issue(g, do_read, MMIO_GPA + RWX_DATA, 0, 0);
	rwx_assert_exit(g->vcpu, MMIO_GPA, KVM_MEMORY_EXIT_FLAG_READ);
	kma_set(g->vm, MMIO_GPA, PAGE_SIZE, 0);
	TEST_ASSERT_EQ(own_finish(g), rwx_word(MMIO_GPA));

	own_issue(g, do_write, MMIO_GPA + PAGE_SIZE + RWX_DATA, VALUE, 0);
	rwx_assert_exit(g->vcpu, MMIO_GPA + PAGE_SIZE, KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT_EQ(*rwx_hva(&late, 1), rwx_word(MMIO_GPA + PAGE_SIZE));
	kma_set(g->vm, MMIO_GPA + PAGE_SIZE, PAGE_SIZE, 0);
	own_finish(g);
	TEST_ASSERT_EQ(*rwx_hva(&late, 1), VALUE);
}

TEST_HARNESS_MAIN
