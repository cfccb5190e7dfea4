// SPDX-License-Identifier: GPL-2.0
/*
 * Each layer keeps what was set in it, whatever becomes of the others, and the
 * guest is bound by what all of them come to: in its accesses, and in what is
 * mapped as one page. Only the base layer has PRIVATE, which excludes restrictions
 * in all of them.
 */
#include "kvm_memattr_guest.h"
#include "kvm_memattr_layers.h"
#include "kvm_memattr_random.h"
#include "kvm_memattr_rwx_huge.h"

#define PAGES		64ull
#define NR_WORDS	ARRAY_SIZE(kma_restrictions)

FIXTURE(layers) {
	struct rwx_guest g;
	struct kma_view view;
};

FIXTURE_VARIANT(layers) {
	u32 type;
};

FIXTURE_VARIANT_ADD(layers, default) {
	.type = KVM_X86_DEFAULT_VM,
};

FIXTURE_VARIANT_ADD(layers, protected) {
	.type = KVM_X86_SW_PROTECTED_VM,
};

FIXTURE_SETUP(layers)
{
	struct rwx_guest *g = &self->g;

	if (!(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type)))
		SKIP(return, "KVM has no VMs of that type here");
	rwx_create(g, variant->type, PAGES, VM_MEM_SRC_ANONYMOUS);
	virt_map(g->vm, g->gpa, g->gpa, PAGES);
	vcpu_regs_get(g->vcpu, &rwx_entry);
	rwx_run(g->vcpu);
	self->view = kma_view_of(g->vm);
}

FIXTURE_TEARDOWN(layers)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

static void set_pages(struct rwx_guest *g, u32 layer, u64 page, u64 nr, u64 word)
{
	layers_set(g->vm, layer, rwx_gpa(g, page), nr * PAGE_SIZE, word);
}

static void assert_pages(struct rwx_guest *g, u32 layer, u64 page, u64 nr, u64 word)
{
	layers_assert(g->vm, layer, rwx_gpa(g, page), nr * PAGE_SIZE, word);
}

/* Another one for each layer, so that one that is taken for another shows. */
static u64 word_of(u32 layer, u32 shift)
{
	return kma_restrictions[(layer + layer / NR_WORDS + shift) % NR_WORDS];
}

TEST_F_TIMEOUT(layers, each_layer_keeps_its_own, 240)
{
	struct rwx_guest *g = &self->g;
	u64 want[LAYERS];

	for (u32 shift = 0; shift < NR_WORDS; shift++) {
		for (u32 layer = 0; layer < LAYERS; layer++) {
			want[layer] = word_of(layer, shift);
			set_pages(g, layer, 8, 16, want[layer]);
		}
		for (u32 layer = 0; layer < LAYERS; layer++)
			assert_pages(g, layer, 8, 16, want[layer]);

		/* Change each of them once more: the others stay. */
		for (u32 layer = 0; layer < LAYERS; layer++) {
			u64 all = 0;

			want[layer] = kma_restrictions[(shift + layer) % NR_WORDS];
			set_pages(g, layer, 8, 16, want[layer]);
			for (u32 other = 0; other < LAYERS; other++) {
				assert_pages(g, other, 8, 16, want[other]);
				all |= want[other];
			}
			assert_pages(g, LAYERS_UNION, 8, 16, all);
		}
	}
	/* And nothing beside the range. */
	assert_pages(g, LAYERS_UNION, 0, 8, 0);
	assert_pages(g, LAYERS_UNION, 24, PAGES - 24, 0);
}

TEST_F(layers, runs_of_layers_overlap_freely)
{
	struct rwx_guest *g = &self->g;

	for (u32 layer = 0; layer < LAYERS; layer++)
		set_pages(g, layer, 2 * layer, 10, KMA_NW);
	for (u32 layer = 0; layer < LAYERS; layer++) {
		if (layer)
			assert_pages(g, layer, 0, 2 * layer, 0);
		assert_pages(g, layer, 2 * layer, 10, KMA_NW);
		assert_pages(g, layer, 2 * layer + 10, PAGES - 2 * layer - 10, 0);
	}
	assert_pages(g, LAYERS_UNION, 0, 2 * LAYERS + 8, KMA_NW);
}

TEST_F_TIMEOUT(layers, each_restriction_of_each_layer_binds_the_guest, 240)
{
	struct rwx_guest *g = &self->g;

	for (u32 layer = 0; layer < LAYERS; layer++) {
		for (int i = 1; i < NR_WORDS; i++) {
			rwx_touch(g, 5);
			set_pages(g, layer, 5, 1, kma_restrictions[i]);
			rwx_check_all(g, 4, 0);
			rwx_check_all(g, 5, kma_restrictions[i]);
			rwx_check_all(g, 6, 0);
			set_pages(g, layer, 5, 1, 0);
		}
		rwx_check_all(g, 5, 0);
	}
}

TEST_F(layers, what_two_layers_deny_is_denied)
{
	struct rwx_guest *g = &self->g;

	for (u32 a = 0; a < LAYERS; a++) {
		u32 b = (a + 1 + a % 5) % LAYERS;

		rwx_touch(g, 7);
		set_pages(g, a, 7, 1, KMA_NW);
		set_pages(g, b, 7, 1, KMA_NX);
		rwx_check_all(g, 7, KMA_NW | KMA_NX);
		set_pages(g, b, 7, 1, KMA_NO_ACCESS);
		rwx_check_all(g, 7, KMA_NO_ACCESS);
		set_pages(g, b, 7, 1, 0);
		rwx_check_all(g, 7, KMA_NW);
		set_pages(g, a, 7, 1, 0);
	}
}

TEST_F(layers, guest_is_bound_until_the_last_layer_lets_go)
{
	struct rwx_guest *g = &self->g;

	kma_random_init();
	for (int round = 0; round < 4; round++) {
		u32 left = BIT(LAYERS) - 1;

		for (u32 layer = 0; layer < LAYERS; layer++)
			set_pages(g, layer, 9, 1, KMA_NW);
		rwx_issue(g, RWX_WRITE, 9);
		while (left) {
			u32 layer = kma_random_below(LAYERS);

			if (!(left & BIT(layer)))
				continue;
			rwx_assert_exit(g->vcpu, rwx_gpa(g, 9), KVM_MEMORY_EXIT_FLAG_WRITE);
			set_pages(g, layer, 9, 1, 0);
			left &= ~BIT(layer);
		}
		/* It makes the access that it was stopped at. */
		rwx_run(g->vcpu);
	}
}

TEST_F(layers, what_another_layer_denies_already_is_no_work)
{
	struct rwx_guest *g = &self->g;
	u64 zapped, faults, sets;

	set_pages(g, 3, 8, 16, KMA_NW);
	rwx_allowed(g, RWX_READ, 10);
	rwx_allowed(g, RWX_EXEC, 10);
	zapped = kma_stat(&self->view, "pages_zapped");
	sets = kma_stat(&self->view, "sets");
	faults = vcpu_get_stat(g->vcpu, pf_taken);

	set_pages(g, 9, 8, 16, KMA_NW);
	set_pages(g, 3, 8, 16, 0);
	set_pages(g, 0, 8, 16, KMA_NW);
	TEST_ASSERT_EQ(kma_stat(&self->view, "pages_zapped"), zapped);
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets"), sets + 3);
	rwx_allowed(g, RWX_READ, 10);
	rwx_allowed(g, RWX_EXEC, 10);
	TEST_ASSERT_EQ(vcpu_get_stat(g->vcpu, pf_taken), faults);
	rwx_check_all(g, 10, KMA_NW);
}

TEST_F(layers, setting_what_is_set_is_nothing)
{
	struct rwx_guest *g = &self->g;
	u64 sets, unchanged;

	for (u32 layer = 0; layer < LAYERS; layer++)
		set_pages(g, layer, 8, 16, word_of(layer, 1));
	sets = kma_stat(&self->view, "sets");
	unchanged = kma_stat(&self->view, "sets_unchanged");

	for (u32 layer = 0; layer < LAYERS; layer++) {
		set_pages(g, layer, 8, 16, word_of(layer, 1));
		set_pages(g, layer, 12, 3, word_of(layer, 1));
		set_pages(g, layer, 24, 8, 0);
	}
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets"), sets);
	TEST_ASSERT_EQ(kma_stat(&self->view, "sets_unchanged"), unchanged + 3 * LAYERS);
}

TEST_F(layers, set_of_before_layers_is_of_the_base_layer)
{
	struct rwx_guest *g = &self->g;

	for (u32 layer = 1; layer < LAYERS; layer++)
		set_pages(g, layer, 8, 16, word_of(layer, 0));
	for (int i = 0; i < NR_WORDS; i++) {
		rwx_set(g, 4, 16, kma_restrictions[i]);
		assert_pages(g, 0, 4, 16, kma_restrictions[i]);
		for (u32 layer = 1; layer < LAYERS; layer++) {
			assert_pages(g, layer, 8, 16, word_of(layer, 0));
			assert_pages(g, layer, 4, 4, 0);
		}
	}
	/* And what it grants is denied by others all the same. */
	for (u32 layer = 2; layer < LAYERS; layer++)
		set_pages(g, layer, 8, 16, 0);
	set_pages(g, 1, 8, 16, KMA_NW);
	rwx_set(g, 8, 16, KMA_NX);
	rwx_set(g, 8, 16, 0);
	rwx_check_all(g, 9, KMA_NW);
}

TEST_F_TIMEOUT(layers, whole_layer_is_cleared_and_no_other, 240)
{
	struct rwx_guest *g = &self->g;

	for (u32 cleared = 0; cleared < LAYERS; cleared++) {
		for (u32 layer = 0; layer < LAYERS; layer++) {
			set_pages(g, layer, layer, 3, KMA_NW);
			set_pages(g, layer, 40, 8, word_of(layer, 2));
			layers_set(g->vm, layer, BIT_ULL(40) * (layer + 1), SZ_1G, KMA_NX);
		}
		layers_set_whole(g->vm, cleared, 0);
		layers_assert(g->vm, cleared, 0, LAYERS_ALL, 0);
		for (u32 layer = 0; layer < LAYERS; layer++) {
			if (layer == cleared)
				continue;
			assert_pages(g, layer, layer, 3, KMA_NW);
			assert_pages(g, layer, 40, 8, word_of(layer, 2));
			layers_assert(g->vm, layer, BIT_ULL(40) * (layer + 1), SZ_1G, KMA_NX);
		}
	}
	layers_clear_all(g->vm);
	kma_assert_runs(&self->view, "");
	rwx_check_all(g, 41, 0);
}

TEST_F(layers, whole_layer_is_all_addresses)
{
	struct rwx_guest *g = &self->g;
	u64 code;

	layers_set(g->vm, 2, KMA_GPA + SZ_1G, SZ_1M, KMA_NW);
	layers_set_whole(g->vm, 11, KMA_NX);
	layers_assert(g->vm, 11, 0, LAYERS_ALL, KMA_NX);
	layers_assert(g->vm, 2, KMA_GPA + SZ_1G, SZ_1M, KMA_NW);
	layers_assert(g->vm, 0, 0, LAYERS_ALL, 0);

	/* The guest's own code is there, too. */
	rwx_issue(g, RWX_READ, 3);
	KMA_ASSERT_ERRNO(EFAULT, _vcpu_run(g->vcpu));
	TEST_ASSERT_KVM_EXIT_REASON(g->vcpu, KVM_EXIT_MEMORY_FAULT);
	TEST_ASSERT_EQ(g->vcpu->run->memory_fault.flags, KVM_MEMORY_EXIT_FLAG_EXEC);
	code = g->vcpu->run->memory_fault.gpa;
	TEST_ASSERT(code < KMA_GPA, "the guest is at 0x%lx", code);

	layers_set_whole(g->vm, 11, KMA_NX);
	rwx_assert_exit(g->vcpu, code, KVM_MEMORY_EXIT_FLAG_EXEC);
	layers_set_whole(g->vm, 11, 0);
	rwx_run(g->vcpu);
	rwx_check_all(g, 3, 0);
}

TEST_F(layers, attributes_outlive_slots_in_each_layer)
{
	struct rwx_guest *g = &self->g;

	for (u32 layer = 0; layer < LAYERS; layer++)
		set_pages(g, layer, layer, 1, word_of(layer, 3));
	vm_mem_region_delete(g->vm, KMA_SLOT);
	for (u32 layer = 0; layer < LAYERS; layer++)
		set_pages(g, layer, 32 + layer, 1, word_of(layer, 1));
	rwx_add_slot(g, VM_MEM_SRC_ANONYMOUS, 0);
	for (u32 layer = 0; layer < LAYERS; layer++) {
		assert_pages(g, layer, layer, 1, word_of(layer, 3));
		rwx_check_all(g, layer, word_of(layer, 3));
		rwx_check_all(g, 32 + layer, word_of(layer, 1));
	}
}

TEST_F(layers, layers_are_listed)
{
	const u64 gpa = self->g.gpa;
	char lines[256];

	layers_set(self->g.vm, 0, gpa, PAGE_SIZE, KMA_NW);
	layers_set(self->g.vm, 3, gpa, 2 * PAGE_SIZE, KMA_NX);
	layers_set(self->g.vm, 15, gpa + 4 * PAGE_SIZE, PAGE_SIZE, KMA_NO_ACCESS);
	snprintf(lines, sizeof(lines),
		 "0x%016lx 0x1000 0x6 NW|NX 0:NW 3:NX\n0x%016lx 0x1000 0x4 NX 3:NX\n"
		 "0x%016lx 0x1000 0x7 NR|NW|NX 15:NR|NW|NX\n", gpa, gpa + PAGE_SIZE,
		 gpa + 4 * PAGE_SIZE);
	kma_assert_runs(&self->view, lines);
}

TEST_F_TIMEOUT(layers, all_layers_at_random_bind_the_guest_together, 240)
{
	static u64 model[LAYERS][PAGES];
	struct rwx_guest *g = &self->g;

	kma_random_init();
	for (int i = 0; i < 600; i++) {
		u64 first = kma_random_below(PAGES), nr = kma_random_log(PAGES - first);
		u64 word = kma_restrictions[kma_random_below(2) ? kma_random_below(NR_WORDS) : 0];
		u32 layer = kma_random_below(LAYERS);

		set_pages(g, layer, first, nr, word);
		for (u64 page = first; page < first + nr; page++)
			model[layer][page] = word;
	}
	for (u64 page = 0; page < PAGES; page++) {
		u64 all = 0;

		for (u32 layer = 0; layer < LAYERS; layer++) {
			assert_pages(g, layer, page, 1, model[layer][page]);
			all |= model[layer][page];
		}
		rwx_check_all(g, page, all);
	}
}

/* --- PRIVATE --- */

FIXTURE(private) {
	struct kma_guest g;
	struct kma_view view;
};

FIXTURE_SETUP(private)
{
	KMA_REQUIRE_PROTECTED_VMS();
	kma_protected_guest_init(&self->g);
	self->view = kma_view_of(self->g.vm);
	kma_prepare(&self->g, KMA_NONE);
}

FIXTURE_TEARDOWN(private)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

static u64 gpa_of(struct kma_guest *g, u64 page)
{
	return g->gpa + page * PAGE_SIZE;
}

TEST_F(private, only_the_base_layer_has_private)
{
	struct kma_guest *g = &self->g;

	for (u32 layer = 1; layer < LAYERS; layer++) {
		LAYERS_ASSERT_FAILS(EINVAL, LAYERS_UNWRITTEN, g->vm, layer, g->gpa, PAGE_SIZE,
				    KMA_PRIVATE, 0);
		LAYERS_ASSERT_FAILS(EINVAL, LAYERS_UNWRITTEN, g->vm, layer, 0, 0, KMA_PRIVATE,
				    LAYERS_WHOLE);
	}
	kma_assert_runs(&self->view, "");
	layers_set(g->vm, 0, gpa_of(g, 16), 32 * PAGE_SIZE, KMA_PRIVATE);
	kma_look(g, KMA_SEEN_PRIVATE(KMA_MIDDLE));
	layers_assert(g->vm, LAYERS_UNION, gpa_of(g, 16), 32 * PAGE_SIZE, KMA_PRIVATE);
}

TEST_F(private, private_is_refused_at_the_first_page_that_a_layer_restricts)
{
	struct kma_guest *g = &self->g;
	char *runs;

	for (u32 layer = 1; layer < LAYERS; layer++) {
		layers_set(g->vm, layer, gpa_of(g, 20), 2 * PAGE_SIZE, KMA_NW);
		layers_set(g->vm, LAYERS - layer, gpa_of(g, 30), PAGE_SIZE, KMA_NX);
		runs = kma_runs(&self->view);

		LAYERS_ASSERT_FAILS(EINVAL, gpa_of(g, 20), g->vm, 0, g->gpa, KMA_SIZE,
				    KMA_PRIVATE, 0);
		LAYERS_ASSERT_FAILS(EINVAL, gpa_of(g, 21), g->vm, 0, gpa_of(g, 21),
				    5 * PAGE_SIZE, KMA_PRIVATE, 0);
		LAYERS_ASSERT_FAILS(EINVAL, gpa_of(g, 30), g->vm, 0, gpa_of(g, 22),
				    9 * PAGE_SIZE, KMA_PRIVATE, 0);
		LAYERS_ASSERT_FAILS(EINVAL, gpa_of(g, 20), g->vm, 0, 0, 0, KMA_PRIVATE,
				    LAYERS_WHOLE);
		KMA_ASSERT_ERRNO(EINVAL, __kma_set(g->vm, g->gpa, KMA_SIZE, KMA_PRIVATE));
		kma_assert_runs(&self->view, runs);
		kma_look(g, KMA_SEEN_PRIVATE(KMA_NONE));
		free(runs);

		layers_set_whole(g->vm, layer, 0);
		layers_set_whole(g->vm, LAYERS - layer, 0);
	}
	kma_set(g->vm, g->gpa, KMA_SIZE, KMA_PRIVATE);
}

TEST_F(private, restriction_of_another_layer_is_refused_at_the_first_private_page)
{
	struct kma_guest *g = &self->g;
	char *runs;

	layers_set(g->vm, 0, gpa_of(g, 20), 2 * PAGE_SIZE, KMA_PRIVATE);
	layers_set(g->vm, 0, gpa_of(g, 30), PAGE_SIZE, KMA_PRIVATE);
	runs = kma_runs(&self->view);
	for (u32 layer = 1; layer < LAYERS; layer++) {
		for (int i = 1; i < NR_WORDS; i++) {
			u64 word = kma_restrictions[i];

			LAYERS_ASSERT_FAILS(EINVAL, gpa_of(g, 20), g->vm, layer, g->gpa,
					    KMA_SIZE, word, 0);
			LAYERS_ASSERT_FAILS(EINVAL, gpa_of(g, 21), g->vm, layer, gpa_of(g, 21),
					    PAGE_SIZE, word, 0);
			LAYERS_ASSERT_FAILS(EINVAL, gpa_of(g, 30), g->vm, layer, gpa_of(g, 22),
					    SZ_1G, word, 0);
			LAYERS_ASSERT_FAILS(EINVAL, gpa_of(g, 20), g->vm, layer, 0, 0, word,
					    LAYERS_WHOLE);
		}
		/* That there is none is no restriction. */
		layers_set(g->vm, layer, g->gpa, KMA_SIZE, 0);
		layers_set_whole(g->vm, layer, 0);
	}
	kma_assert_runs(&self->view, runs);
	free(runs);
	kma_look(g, KMA_SEEN_PRIVATE(3ull << 20 | 1ull << 30));
}

/* As it has always been: what is set replaces what was. */
TEST_F(private, word_of_the_base_layer_is_replaced)
{
	struct kma_guest *g = &self->g;

	for (int i = 1; i < NR_WORDS; i++) {
		layers_set(g->vm, 0, g->gpa, KMA_SIZE, kma_restrictions[i]);
		layers_assert(g->vm, 0, g->gpa, KMA_SIZE, kma_restrictions[i]);
		layers_set(g->vm, 0, gpa_of(g, 16), 32 * PAGE_SIZE, KMA_PRIVATE);
		layers_assert(g->vm, 0, gpa_of(g, 16), 32 * PAGE_SIZE, KMA_PRIVATE);
		layers_set(g->vm, 0, g->gpa, KMA_SIZE, KMA_PRIVATE);
	}
	kma_look(g, KMA_SEEN_PRIVATE(KMA_ALL));
	layers_set_whole(g->vm, 0, 0);
	kma_look(g, KMA_SEEN_PRIVATE(KMA_NONE));
}

TEST_F(private, private_and_restricted_pages_are_beside_each_other)
{
	struct kma_guest *g = &self->g;

	kma_convert(g, KMA_ODD);
	for (u64 page = 0; page < KMA_PAGES; page += 2)
		layers_set(g->vm, 1 + page % 15, gpa_of(g, page), PAGE_SIZE, KMA_NX);
	kma_look(g, KMA_SEEN_PRIVATE(KMA_ODD));
	for (u32 layer = 1; layer < LAYERS; layer++)
		layers_set_whole(g->vm, layer, 0);
	kma_set(g->vm, g->gpa, KMA_SIZE, KMA_PRIVATE);
	kma_look(g, KMA_SEEN_PRIVATE(KMA_ALL));
}

/* Of a batch that is the first to restrict anything, as much as of a single request. */
TEST_F(private, first_restriction_may_come_second_in_a_batch)
{
	struct kma_guest *g = &self->g;
	const struct kvm_memory_attributes_entry entries[] = {
		layers_entry(0, gpa_of(g, 1), PAGE_SIZE, KMA_PRIVATE, KMA_PRIVATE),
		layers_entry(1, gpa_of(g, 3), PAGE_SIZE, KMA_NW, KMA_NW),
	};

	kma_write(g, BIT_ULL(3), KMA_KIND_NEW);
	layers_batch(g->vm, entries, ARRAY_SIZE(entries));
	kma_issue(g->vcpu, KMA_OP_WRITE, g->gpa, BIT_ULL(3), KMA_KIND_NEW);
	kma_finish_in_fault(g->vcpu, EFAULT, gpa_of(g, 3), KVM_MEMORY_EXIT_FLAG_WRITE);
	layers_set_whole(g->vm, 1, 0);
	kma_finish(g->vcpu);
}

/* --- huge pages --- */

FIXTURE(huge) {
	struct rwx_guest g;
	struct kma_view view;
};

FIXTURE_SETUP(huge)
{
	if (!thp_configured() || get_trans_hugepagesz() != SZ_2M)
		SKIP(return, "no transparent huge pages of 2 MiB here");
	rwx_huge_init(&self->g, KVM_X86_DEFAULT_VM, 2 * RWX_BLOCK, VM_MEM_SRC_ANONYMOUS_THP);
	self->view = kma_view_of(self->g.vm);
}

FIXTURE_TEARDOWN(huge)
{
	if (self->g.vm)
		kvm_vm_free(self->g.vm);
}

#define HALF		(RWX_BLOCK / 2)

TEST_F_TIMEOUT(huge, halves_that_come_to_the_same_are_one_page, 240)
{
	struct rwx_guest *g = &self->g;

	for (u32 a = 0; a < LAYERS; a++) {
		u32 b = (a + 5) % LAYERS;

		set_pages(g, a, RWX_BLOCK, HALF, KMA_NW);
		rwx_unmap(g);
		RWX_ASSERT_MAPS(g, RWX_BLOCK + 3, PG_LEVEL_4K);
		set_pages(g, b, RWX_BLOCK + HALF, HALF, KMA_NW);
		rwx_unmap(g);
		RWX_ASSERT_MAPS(g, RWX_BLOCK + 3, PG_LEVEL_2M);
		rwx_denied(g, RWX_WRITE, RWX_BLOCK + 3, KVM_MEMORY_EXIT_FLAG_WRITE);
		rwx_abandon(g);
		rwx_denied(g, RWX_WRITE, RWX_BLOCK + HALF + 3, KVM_MEMORY_EXIT_FLAG_WRITE);
		rwx_abandon(g);
		RWX_ASSERT_BLOCKS(g, 1, 0);

		/* One of the two is dropped: the halves differ. */
		layers_set_whole(g->vm, a, 0);
		rwx_allowed(g, RWX_WRITE, RWX_BLOCK + 3);
		rwx_denied(g, RWX_WRITE, RWX_BLOCK + HALF + 3, KVM_MEMORY_EXIT_FLAG_WRITE);
		rwx_abandon(g);
		rwx_unmap(g);
		RWX_ASSERT_MAPS(g, RWX_BLOCK + 3, PG_LEVEL_4K);
		/* So is the other. */
		layers_set_whole(g->vm, b, 0);
		rwx_unmap(g);
		RWX_ASSERT_MAPS(g, RWX_BLOCK + 3, PG_LEVEL_2M);
		rwx_allowed(g, RWX_WRITE, RWX_BLOCK + HALF + 3);
		rwx_unmap(g);
	}
}

TEST_F(huge, page_that_another_layer_keeps_restricted_keeps_its_block_split)
{
	struct rwx_guest *g = &self->g;

	for (u32 layer = 1; layer < LAYERS; layer++) {
		set_pages(g, layer, 100, 1, KMA_NW);
		set_pages(g, 0, 100, 1, KMA_NW);
		rwx_unmap(g);
		RWX_ASSERT_MAPS(g, 101, PG_LEVEL_4K);
		set_pages(g, 0, 100, 1, 0);
		rwx_unmap(g);
		RWX_ASSERT_MAPS(g, 101, PG_LEVEL_4K);
		rwx_denied(g, RWX_WRITE, 100, KVM_MEMORY_EXIT_FLAG_WRITE);
		rwx_abandon(g);
		set_pages(g, layer, 100, 1, 0);
		RWX_ASSERT_MAPS(g, 100, PG_LEVEL_2M);
		rwx_unmap(g);
	}
}

TEST_F(huge, page_that_is_restricted_like_its_block_splits_nothing)
{
	struct rwx_guest *g = &self->g;
	u64 zapped;

	set_pages(g, 4, 0, RWX_BLOCK, KMA_NW);
	RWX_ASSERT_MAPS(g, 5, PG_LEVEL_2M);
	zapped = kma_stat(&self->view, "pages_zapped");
	for (u32 layer = 0; layer < LAYERS; layer++)
		set_pages(g, layer, 30 * layer, 7, KMA_NW);
	TEST_ASSERT_EQ(kma_stat(&self->view, "pages_zapped"), zapped);
	RWX_ASSERT_BLOCKS(g, 1, 0);
	rwx_unmap(g);
	RWX_ASSERT_MAPS(g, 300, PG_LEVEL_2M);

	/* Only those pages are left, so that the block is in pieces. */
	set_pages(g, 4, 0, RWX_BLOCK, 0);
	rwx_unmap(g);
	RWX_ASSERT_MAPS(g, 500, PG_LEVEL_4K);
	rwx_denied(g, RWX_WRITE, 35, KVM_MEMORY_EXIT_FLAG_WRITE);
	rwx_abandon(g);
}

/*
 * One page that only another layer has makes words differ where the union doesn't:
 * that the block is in pieces already can't be told from it.
 */
TEST_F(huge, page_beside_one_that_only_differs_by_layer_splits_the_block)
{
	struct rwx_guest *g = &self->g;

	set_pages(g, 4, 0, RWX_BLOCK, KMA_NW);
	set_pages(g, 3, 30, 1, KMA_NW);
	rwx_unmap(g);
	RWX_ASSERT_MAPS(g, 5, PG_LEVEL_2M);
	for (int i = 0; i < 2; i++) {
		set_pages(g, 3, 100, 1, KMA_NX);
		RWX_ASSERT_MAPS(g, 5, PG_LEVEL_4K);
		rwx_denied(g, RWX_EXEC, 100, KVM_MEMORY_EXIT_FLAG_EXEC);
		rwx_abandon(g);
		set_pages(g, 3, 100, 1, 0);
		rwx_unmap(g);
		RWX_ASSERT_MAPS(g, 5, PG_LEVEL_2M);
	}
}

TEST_F(huge, slot_created_over_layers_has_their_blocks)
{
	struct rwx_guest *g = &self->g;

	vm_mem_region_delete(g->vm, KMA_SLOT);
	for (u32 layer = 0; layer < LAYERS; layer++)
		set_pages(g, layer, RWX_BLOCK + 32 * layer, 32, KMA_NW);
	set_pages(g, 8, 7, 1, KMA_NX);
	rwx_add_slot(g, VM_MEM_SRC_ANONYMOUS_THP, 0);
	/* What the guest uses besides is gone with the slot, too. */
	rwx_use_all_but_memory(g);
	RWX_ASSERT_MAPS(g, RWX_BLOCK + 1, PG_LEVEL_2M);
	RWX_ASSERT_MAPS(g, 1, PG_LEVEL_4K);
}

/* What is enforced is given back in each step, and larger pages with it. */
TEST_F(huge, grant_by_the_last_layer_makes_a_larger_page_possible_at_once)
{
	struct rwx_guest *g = &self->g;

	set_pages(g, 2, 60, 9, KMA_NW);
	set_pages(g, 6, 64, 9, KMA_NW);
	for (u64 page = 58; page < 75; page++)
		rwx_allowed(g, RWX_READ, page);
	layers_set_whole(g->vm, 2, 0);
	RWX_ASSERT_BLOCKS(g, 0, 0);
	layers_set_whole(g->vm, 6, 0);
	RWX_ASSERT_MAPS(g, 66, PG_LEVEL_2M);
	rwx_allowed(g, RWX_WRITE, 66);
}

TEST_HARNESS_MAIN
