// SPDX-License-Identifier: GPL-2.0
/*
 * The same guest in one boot, once on mainline's code and once on the
 * module's: what an MMU notifier event over the shared backing costs in
 * faults on private pages.
 */
#include "kvm_memattr_guest.h"
#include "kvm_memattr_module.h"

FIXTURE(one_boot) {
	struct kma_guest mainline;
	struct kma_guest module;
	bool unloads;
};

FIXTURE_SETUP(one_boot)
{
	KMA_REQUIRE_MODULE();
	KMA_REQUIRE_PROTECTED_VMS();

	self->unloads = true;
	kma_unload();
	kma_protected_guest_init(&self->mainline);
	kma_load();
	kma_protected_guest_init(&self->module);
}

/* In the parent, so that a test that fails leaves the module loaded. */
FIXTURE_TEARDOWN_PARENT(one_boot)
{
	if (self->unloads && !kma_loaded())
		kma_load();
}

static struct kma_faults count(struct kma_guest *g, u64 private)
{
	kma_prepare(g, private);
	kvm_madvise(g->region->host_mem, KMA_SIZE, MADV_DONTNEED);
	return kma_look(g, KMA_SEEN_PRIVATE(private));
}

TEST_F(one_boot, the_first_vm_is_mainlines_and_the_second_the_modules)
{
	__u64 mask;

	KMA_ASSERT_ERRNO(ENOTTY, __kma_get_supported(self->mainline.vm->fd, &mask));
	TEST_ASSERT_EQ(kma_get_supported(self->module.vm), KMA_ALL_ATTRIBUTES);
}

TEST_F(one_boot, notifier_costs_mainline_every_private_page_and_the_module_none)
{
	TEST_ASSERT_EQ(count(&self->mainline, KMA_ALL).fixed, KMA_PAGES);
	TEST_ASSERT_EQ(count(&self->module, KMA_ALL).taken, 0);
}

TEST_F(one_boot, notifier_costs_mainline_all_pages_and_the_module_the_shared_half)
{
	TEST_ASSERT_EQ(count(&self->mainline, KMA_ODD).fixed, KMA_PAGES);
	TEST_ASSERT_EQ(count(&self->module, KMA_ODD).fixed, KMA_PAGES / 2);
}

TEST_F(one_boot, notifier_costs_both_every_shared_page)
{
	TEST_ASSERT_EQ(count(&self->mainline, KMA_NONE).fixed, KMA_PAGES);
	TEST_ASSERT_EQ(count(&self->module, KMA_NONE).fixed, KMA_PAGES);
}

TEST_HARNESS_MAIN
