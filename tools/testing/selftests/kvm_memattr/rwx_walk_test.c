// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's page tables on restricted pages: KVM's own walks read them, and
 * write them where an accessed or dirty bit has to be set; a CPU's walk through
 * nested page tables always counts as a write of theirs.
 */
/* modes: npt=0 */
#include "kvm_memattr_own.h"

FIXTURE(walk) {
	struct rwx_guest g;
	/* The page tables that map the window alone: 4 KiB and 2 MiB entries. */
	u64 tables[2];
	bool tdp;
};

static u64 table_of(struct rwx_guest *g, u64 *pte)
{
	return addr_hva2gpa(g->vm, (void *)((u64)pte & PAGE_MASK));
}

static u64 *pte_of(struct rwx_guest *g, u64 page)
{
	return vm_get_pte(g->vm, rwx_gpa(g, page));
}

/* The entry for the window in the table above its own. */
static u64 *pde_of(struct rwx_guest *g)
{
	u64 *table = addr_gpa2hva(g->vm, g->vm->mmu.pgd), index;

	for (int level = g->vm->mmu.pgtable_levels; ; level--) {
		index = g->gpa >> (12 + 9 * (level - 1)) & 511;
		if (level == 2)
			return &table[index];

		TEST_ASSERT(table[index] & 1, "the window is not mapped");
		table = addr_gpa2hva(g->vm, table[index] & GENMASK_ULL(51, 12));
	}
}

FIXTURE_SETUP(walk)
{
	struct rwx_guest *g = &self->g;

	own_force_emulation(true);
	own_init(g);
	self->tables[0] = table_of(g, pte_of(g, 0));
	self->tables[1] = table_of(g, pde_of(g));
	self->tdp = own_uses_tdp();
}

FIXTURE_TEARDOWN(walk)
{
	kvm_vm_free(self->g.vm);
	own_force_emulation(false);
}

static u64 do_read(u64 a, u64 b, u64 c)
{
	return READ_ONCE(*(u64 *)a);
}

static u64 do_write(u64 a, u64 b, u64 c)
{
	WRITE_ONCE(*(u64 *)a, b);
	return 0;
}

static u64 do_emulated_read(u64 a, u64 b, u64 c)
{
	asm volatile(KVM_FEP "mov (%1), %0" : "=r"(b) : "r"(a) : "memory");
	return b;
}

static u64 do_emulated_write(u64 a, u64 b, u64 c)
{
	asm volatile(KVM_FEP "mov %1, (%0)" : : "r"(a), "r"(b) : "memory");
	return 0;
}

static u64 do_flush(u64 a, u64 b, u64 c)
{
	asm volatile("invlpg (%0)" : : "r"(a) : "memory");
	return 0;
}

#define ACCESSED	BIT_ULL(5)
#define DIRTY		BIT_ULL(6)

/* As if the guest had never used the page, or had read it, or had written it. */
static void set_bits(struct rwx_guest *g, u64 page, u64 bits)
{
	u64 *pte = pte_of(g, page);

	*pde_of(g) |= ACCESSED;
	*pte = (*pte & ~(ACCESSED | DIRTY)) | bits;
}

static u64 bits_of(struct rwx_guest *g, u64 page)
{
	return *pte_of(g, page) & (ACCESSED | DIRTY);
}

static u64 word_of(struct rwx_guest *g, u64 page)
{
	return rwx_word(rwx_gpa(g, page));
}

/*
 * The table is denied the access that needs it, and the page is reached once it
 * isn't. A first KVM_RUN alone is KVM's own walk where an instruction is emulated
 * as it has a prefix: it is tried again by the CPU.
 */
static void denied(struct rwx_guest *g, own_fn fn, u64 page, u64 table, u64 word, u64 flag)
{
	u64 bits = bits_of(g, page);

	kma_set(g->vm, table, PAGE_SIZE, word);
	own_issue(g, fn, rwx_gpa(g, page) + RWX_DATA, word_of(g, page), 0);
	rwx_assert_exit(g->vcpu, table, flag);
	TEST_ASSERT_EQ(bits_of(g, page), bits);
	kma_set(g->vm, table, PAGE_SIZE, 0);
	own_finish(g);
	TEST_ASSERT_EQ(*rwx_hva(g, page), word_of(g, page));
}

static void allowed(struct rwx_guest *g, own_fn fn, u64 page, u64 table, u64 word)
{
	kma_set(g->vm, table, PAGE_SIZE, word);
	own_call(g, fn, rwx_gpa(g, page) + RWX_DATA, word_of(g, page), 0);
	kma_set(g->vm, table, PAGE_SIZE, 0);
	TEST_ASSERT_EQ(*rwx_hva(g, page), word_of(g, page));
}

/* What KVM walks for: an instruction that it emulates, or shadow page tables. */
static void walks_of_kvm(struct rwx_guest *g, u64 *tables, own_fn read, own_fn write)
{
	u64 page = 0;

	for (int i = 0; i < 2; i++) {
		set_bits(g, page, ACCESSED | DIRTY);
		denied(g, read, page++, tables[i], KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ);
		set_bits(g, page, ACCESSED | DIRTY);
		denied(g, write, page++, tables[i], KMA_NO_ACCESS, KVM_MEMORY_EXIT_FLAG_READ);
	}

	/* The accessed bit has to be set, or the dirty bit. */
	set_bits(g, page, 0);
	denied(g, read, page, tables[0], KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT_EQ(bits_of(g, page++), ACCESSED);
	set_bits(g, page, 0);
	denied(g, read, page++, tables[0], KMA_NW | KMA_NX, KVM_MEMORY_EXIT_FLAG_WRITE);
	set_bits(g, page, ACCESSED);
	denied(g, write, page, tables[0], KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT_EQ(bits_of(g, page++), ACCESSED | DIRTY);
	set_bits(g, page, ACCESSED);
	*pde_of(g) &= ~ACCESSED;
	denied(g, read, page++, tables[1], KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT(*pde_of(g) & ACCESSED, "the table above was not marked accessed");

	/* Nothing has to be set. */
	set_bits(g, page, ACCESSED);
	allowed(g, read, page++, tables[0], KMA_NW);
	set_bits(g, page, ACCESSED | DIRTY);
	allowed(g, write, page++, tables[0], KMA_NW);
	set_bits(g, page, ACCESSED | DIRTY);
	allowed(g, write, page++, tables[1], KMA_NW | KMA_NX);

	/* Tables aren't executed. */
	set_bits(g, page, 0);
	allowed(g, write, page, tables[0], KMA_NX);
	TEST_ASSERT_EQ(bits_of(g, page++), ACCESSED | DIRTY);
	set_bits(g, page, 0);
	allowed(g, write, page++, tables[1], KMA_NX);
}

TEST_F(walk, emulated_instructions_are_walked_for_as_reads_and_updates)
{
	walks_of_kvm(&self->g, self->tables, do_emulated_read, do_emulated_write);
}

static void walks_of_the_cpu(struct rwx_guest *g, u64 *tables)
{
	static const u64 words[] = { KMA_NW, KMA_NW | KMA_NX, KMA_NO_ACCESS };
	u64 page = 0;

	for (int touched = 0; touched < 2; touched++) {
		for (int w = 0; w < ARRAY_SIZE(words); w++) {
			for (int i = 0; i < 2; i++, page++) {
				if (touched)
					own_call(g, do_write, rwx_gpa(g, page) + RWX_DATA,
						 word_of(g, page), 0);
				set_bits(g, page, ACCESSED | DIRTY);
				denied(g, page & 1 ? do_write : do_read, page,
				       tables[i], words[w], KVM_MEMORY_EXIT_FLAG_WRITE);
			}
		}
	}
}

/* By the CPU they are writes, even where no bit changes; KVM's are what they are. */
TEST_F(walk, tables_are_walked_for_the_guests_own_accesses)
{
	if (self->tdp)
		walks_of_the_cpu(&self->g, self->tables);
	else
		walks_of_kvm(&self->g, self->tables, do_read, do_write);
}

TEST_F(walk, tables_are_not_executed)
{
	struct rwx_guest *g = &self->g;

	for (u64 page = 0; page < 4; page++) {
		set_bits(g, page, 0);
		allowed(g, page & 1 ? do_write : do_read, page, self->tables[page / 2], KMA_NX);
		TEST_ASSERT_EQ(bits_of(g, page), page & 1 ? ACCESSED | DIRTY : ACCESSED);
	}
}

/* Where the guest sees its table as data. */
#define TABLE_GVA	(KMA_GPA + 2ull * SZ_1G)

/* A table that KVM shadows is written by KVM, for the guest. */
static void table_written(struct rwx_guest *g, u64 table, own_fn write, u64 page, u64 word)
{
	u64 *pte = pte_of(g, page), was, other = *pte_of(g, page + 1) | ACCESSED;
	u64 gva = TABLE_GVA + ((u64)pte & ~PAGE_MASK);

	own_call(g, do_read, rwx_gpa(g, page), 0, 0);
	own_call(g, do_read, gva, 0, 0);
	was = *pte;
	kma_set(g->vm, table, PAGE_SIZE, word);
	own_issue(g, write, gva, other, 0);
	rwx_assert_exit(g->vcpu, table, KVM_MEMORY_EXIT_FLAG_WRITE);
	TEST_ASSERT_EQ(*pte, was);
	kma_set(g->vm, table, PAGE_SIZE, 0);
	own_finish(g);
	TEST_ASSERT_EQ(*pte & ~DIRTY, other & ~DIRTY);
	own_call(g, do_flush, rwx_gpa(g, page), 0, 0);
	TEST_ASSERT_EQ(own_call(g, do_read, rwx_gpa(g, page) + RWX_DATA, 0, 0),
		       word_of(g, page + 1));
}

TEST_F(walk, tables_in_use_are_not_written_where_that_is_denied)
{
	struct rwx_guest *g = &self->g;

	virt_map(g->vm, TABLE_GVA, self->tables[0], 1);
	table_written(g, self->tables[0], do_write, 0, KMA_NW);
	table_written(g, self->tables[0], do_write, 2, KMA_NO_ACCESS);
	table_written(g, self->tables[0], do_emulated_write, 4, KMA_NW);
	table_written(g, self->tables[0], do_emulated_write, 6, KMA_NO_ACCESS);
}

#define WRITABLE	BIT_ULL(1)
#define USER		BIT_ULL(2)
#define NO_EXEC		BIT_ULL(63)

static u64 do_exec(u64 a, u64 b, u64 c)
{
	((void (*)(void))(a - RWX_DATA + RWX_CODE))();
	return 0;
}

/* The guest changes an entry, and has the CPU look at it again. */
static u64 do_change(u64 pte, u64 value, u64 gva)
{
	WRITE_ONCE(*(u64 *)pte, value);
	asm volatile("invlpg (%0)" : : "r"(gva) : "memory");
	return 0;
}

/*
 * The guest's own entry for the page gives it another right, or takes it away and
 * gives it back, while KVM has the page mapped. Returns with the right given.
 */
static void change_entry(struct rwx_guest *g, u64 page, u64 bit, bool twice)
{
	u64 *pte = pte_of(g, page), gva = rwx_gpa(g, page);
	u64 at = TABLE_GVA + ((u64)pte & ~PAGE_MASK);
	u64 given = (*pte | ACCESSED | DIRTY | WRITABLE | USER) & ~NO_EXEC;
	u64 taken = given ^ bit;

	*pte = twice ? given : taken;
	own_call(g, do_read, gva + RWX_DATA, 0, 0);
	if (twice)
		own_call(g, do_change, at, taken, gva);
	own_call(g, do_change, at, given, gva);
	TEST_ASSERT_EQ(*pte, given);
}

/* Without nested paging, KVM works out anew what it has mapped at each INVLPG. */
TEST_F(walk, changed_entries_do_not_restore_what_the_page_denies)
{
	static const struct {
		own_fn fn;
		u64 bit;
		u64 word;
		u64 flag;
	} cases[] = {
		{ do_write, WRITABLE, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE },
		{ do_write, WRITABLE, KMA_NW | KMA_NX, KVM_MEMORY_EXIT_FLAG_WRITE },
		{ do_write, NO_EXEC, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE },
		{ do_write, USER, KMA_NW, KVM_MEMORY_EXIT_FLAG_WRITE },
		{ do_exec, NO_EXEC, KMA_NX, KVM_MEMORY_EXIT_FLAG_EXEC },
		{ do_exec, NO_EXEC, KMA_NW | KMA_NX, KVM_MEMORY_EXIT_FLAG_EXEC },
		{ do_exec, WRITABLE, KMA_NX, KVM_MEMORY_EXIT_FLAG_EXEC },
		{ do_exec, USER, KMA_NX, KVM_MEMORY_EXIT_FLAG_EXEC },
		/* And a page that denies nothing, to see that it's done. */
		{ do_write, WRITABLE, 0, 0 },
		{ do_exec, NO_EXEC, 0, 0 },
	};
	struct rwx_guest *g = &self->g;
	u64 page = 0, faults;

	virt_map(g->vm, TABLE_GVA, self->tables[0], 1);
	/* What else the guest needs for it is mapped. */
	change_entry(g, OWN_PAGES - 1, WRITABLE, true);
	own_call(g, do_write, rwx_gpa(g, OWN_PAGES - 1) + RWX_DATA, 0, 0);
	own_call(g, do_exec, rwx_gpa(g, OWN_PAGES - 1) + RWX_DATA, 0, 0);

	for (int twice = 0; twice < 2; twice++) {
		for (int i = 0; i < ARRAY_SIZE(cases); i++, page++) {
			rwx_set(g, page, 1, cases[i].word);
			change_entry(g, page, cases[i].bit, twice);
			own_issue(g, cases[i].fn, rwx_gpa(g, page) + RWX_DATA,
				  word_of(g, page), 0);
			faults = vcpu_get_stat(g->vcpu, pf_taken);
			if (cases[i].word) {
				rwx_assert_exit(g->vcpu, rwx_gpa(g, page), cases[i].flag);
				rwx_set(g, page, 1, 0);
				own_finish(g);
				continue;
			}
			own_finish(g);
			TEST_ASSERT(self->tdp || vcpu_get_stat(g->vcpu, pf_taken) == faults,
				    "page %lu was mapped by a fault, not with the change", page);
		}
	}
}

static bool has_translation(struct rwx_guest *g, u64 page)
{
	struct kvm_translation tr = { .linear_address = rwx_gpa(g, page) };

	vcpu_ioctl(g->vcpu, KVM_TRANSLATE, &tr);
	TEST_ASSERT(!tr.valid || tr.physical_address == rwx_gpa(g, page),
		    "0x%lx translates to 0x%llx", rwx_gpa(g, page), tr.physical_address);
	return tr.valid;
}

/* An answer for the VMM is nothing that the guest has to stop for. */
TEST_F(walk, translations_for_the_vmm_do_not_read_denied_tables)
{
	struct rwx_guest *g = &self->g;

	for (int touched = 0; touched < 2; touched++) {
		for (int i = 0; i < 2; i++) {
			u64 page = 2 * touched + i;

			if (touched)
				own_call(g, do_read, rwx_gpa(g, page), 0, 0);
			TEST_ASSERT(has_translation(g, page), "no translation of page %lu", page);

			kma_set(g->vm, self->tables[i], PAGE_SIZE, KMA_NO_ACCESS);
			TEST_ASSERT(!has_translation(g, page), "page %lu was translated", page);
			own_call(g, own_do_nothing, 0, 0, 0);
			TEST_ASSERT(!has_translation(g, page), "page %lu was translated", page);
			kma_set(g->vm, self->tables[i], PAGE_SIZE, KMA_NX);
			TEST_ASSERT(has_translation(g, page), "no translation of page %lu", page);
			kma_set(g->vm, self->tables[i], PAGE_SIZE, 0);
			own_call(g, do_read, rwx_gpa(g, page), 0, 0);
		}
	}
}

TEST_F(walk, translations_for_the_vmm_do_not_write_denied_tables)
{
	struct rwx_guest *g = &self->g;

	set_bits(g, 0, 0);
	kma_set(g->vm, self->tables[0], PAGE_SIZE, KMA_NW);
	TEST_ASSERT(!has_translation(g, 0), "a page was translated that can't be marked accessed");
	TEST_ASSERT_EQ(bits_of(g, 0), 0);
	own_call(g, own_do_nothing, 0, 0, 0);
	set_bits(g, 0, ACCESSED);
	TEST_ASSERT(has_translation(g, 0), "no translation of a page that is marked accessed");
}

/* The page itself is neither read nor written for that. */
TEST_F(walk, pages_that_are_denied_have_a_translation)
{
	struct rwx_guest *g = &self->g;

	rwx_set(g, 0, 1, KMA_NO_ACCESS);
	TEST_ASSERT(has_translation(g, 0), "no translation of a page that is denied itself");
	own_call(g, own_do_nothing, 0, 0, 0);
}

TEST_HARNESS_MAIN
