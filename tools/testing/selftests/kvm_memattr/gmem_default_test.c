// SPDX-License-Identifier: GPL-2.0
/*
 * The module's parameter that says what becomes of contents where a conversion
 * names no policy, and what there is of conversions without the module.
 */
#include <sys/stat.h>

#include "kvm_memattr_gmem.h"
#include "kvm_memattr_module.h"

#define PARAMETER	"default_content_policy"
#define PARAMETER_FILE	KMA_MODULE_DIR "/parameters/" PARAMETER

static void assert_parameter(const char *want)
{
	FILE *file = fopen(PARAMETER_FILE, "r");
	char word[32];

	TEST_ASSERT(file, "cannot open " PARAMETER_FILE ": %s", strerror(errno));
	TEST_ASSERT(fscanf(file, "%31s", word) == 1, "no word in " PARAMETER_FILE);
	fclose(file);
	TEST_ASSERT(!strcmp(word, want), "wanted " PARAMETER " %s, got %s", want, word);
}

static void reload_with(const char *parameters)
{
	kma_unload();
	TEST_ASSERT(!__kma_load_with(parameters), "loading with '%s': %s", parameters,
		    strerror(errno));
}

/* Other tests have the module without parameters, and it has been used. */
static void restore_module(void)
{
	struct kvm_vm *vm;

	if (kma_loaded())
		kma_unload();
	kma_load();
	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	kma_set(vm, KMA_GPA, KMA_SIZE, KMA_PRIVATE);
	kvm_vm_free(vm);
}

FIXTURE(loaded) {
	bool reloads;
};

FIXTURE_VARIANT(loaded) {
	const char *parameters;
	const char *word;
	u64 policy;
};

FIXTURE_VARIANT_ADD(loaded, without) {
	.parameters = "",
	.word = "zero",
	.policy = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(loaded, with_zero) {
	.parameters = PARAMETER "=zero",
	.word = "zero",
	.policy = GMEM_ZERO,
};

FIXTURE_VARIANT_ADD(loaded, with_preserve) {
	.parameters = PARAMETER "=preserve",
	.word = "preserve",
	.policy = GMEM_PRESERVE,
};

FIXTURE_VARIANT_ADD(loaded, with_none) {
	.parameters = PARAMETER "=none",
	.word = "none",
	.policy = GMEM_NONE,
};

FIXTURE_SETUP(loaded)
{
	KMA_REQUIRE_MODULE();
	KMA_REQUIRE_PROTECTED_VMS();
	self->reloads = true;
	reload_with(variant->parameters);
}

/* In the parent, so that a test that fails leaves the module as it was. */
FIXTURE_TEARDOWN_PARENT(loaded)
{
	if (self->reloads)
		restore_module();
}

TEST_F(loaded, parameter_can_be_read)
{
	struct stat st;

	assert_parameter(variant->word);
	TEST_ASSERT(!stat(PARAMETER_FILE, &st), "stat: %s", strerror(errno));
	TEST_ASSERT_EQ(st.st_mode & 07777, 0444);
}

/* A conversion of the filled window without a policy, and one with each. */
static void assert_default(u64 flags, u64 attributes, u64 policy)
{
	for (int i = 0; i < ARRAY_SIZE(gmem_policies); i++) {
		struct gmem m;

		gmem_init(&m, KVM_X86_SW_PROTECTED_VM, flags);
		kma_fill(&m.g, KMA_ALL, KMA_KIND_NEW);
		gmem_set(&m, KMA_MIDDLE, attributes, gmem_policies[i]);
		kma_scan(&m.g, gmem_filled_seen(gmem_policies[i] ?: policy, KMA_MIDDLE));
		gmem_free(&m);
	}
}

TEST_F(loaded, conversions_to_shared_are_by_it_if_they_name_no_policy)
{
	assert_default(GMEM_IN_PLACE, 0, variant->policy);
}

TEST_F(loaded, conversions_to_private_are_by_it_if_they_name_no_policy)
{
	assert_default(GMEM_SHARED, KMA_PRIVATE, variant->policy);
}

FIXTURE(unloaded) {
	bool reloads;
};

FIXTURE_SETUP(unloaded)
{
	KMA_REQUIRE_MODULE();
	KMA_REQUIRE_PROTECTED_VMS();
	self->reloads = true;
	kma_unload();
}

FIXTURE_TEARDOWN_PARENT(unloaded)
{
	if (self->reloads)
		restore_module();
}

TEST_F(unloaded, another_word_refuses_the_load)
{
	static const char * const words[] = {
		"", "ZERO", "zeros", "zer", "0", "1", "zero,none", "default",
	};

	for (int i = 0; i < ARRAY_SIZE(words); i++) {
		char parameters[64];

		snprintf(parameters, sizeof(parameters), PARAMETER "=%s", words[i]);
		KMA_ASSERT_ERRNO(EINVAL, __kma_load_with(parameters));
		TEST_ASSERT(!kma_loaded(), "loaded with '%s'", parameters);
	}
}

/* The commands and capabilities of layers, batches and the like. */
static void assert_no_layers(struct kvm_vm *vm, int fd)
{
	unsigned char arg[128], before[128];

	memset(arg, 0x5a, sizeof(arg));
	memcpy(before, arg, sizeof(arg));
	KMA_ASSERT_ERRNO(ENOTTY, ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, arg));
	KMA_ASSERT_ERRNO(ENOTTY, ioctl(vm->fd, KVM_SET_MEMORY_ATTRIBUTES_BATCH, arg));
	KMA_ASSERT_ERRNO(ENOTTY, ioctl(vm->fd, KVM_GET_MEMORY_ATTRIBUTES, arg));
	KMA_ASSERT_ERRNO(ENOTTY, ioctl(fd, KVM_GET_MEMORY_ATTRIBUTES, arg));
	TEST_ASSERT(!memcmp(arg, before, sizeof(arg)), "a command has written to its argument");
	for (long cap = KVM_CAP_MEMORY_ATTRIBUTES_LAYERS;
	     cap <= KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE; cap++)
		TEST_ASSERT_EQ(vm_check_cap(vm, cap), 0);
}

/* Neither without the module nor for what was created before it. */
static void assert_not_served(struct kvm_vm *vm, int fd)
{
	__u64 mask = 7;

	GMEM_ASSERT_FAILS(ENOTTY, GMEM_UNWRITTEN, fd, 0, KMA_SIZE, 0, 0);
	GMEM_ASSERT_FAILS(ENOTTY, GMEM_UNWRITTEN, fd, 0, 0, ~0ull, ~0ull);
	KMA_ASSERT_ERRNO(ENOTTY, __kma_get_supported(fd, &mask));
	GMEM_ASSERT_FAILS(ENOTTY, GMEM_UNWRITTEN, vm->fd, KMA_GPA, KMA_SIZE, KMA_PRIVATE, 0);
	TEST_ASSERT_EQ(mask, 7);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES2), 0);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES), 0);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS), 0);
	KMA_ASSERT_ERRNO(EINVAL, __vm_create_guest_memfd(vm, KMA_SIZE, GMEM_SHARED));
	assert_no_layers(vm, fd);
}

TEST_F(unloaded, nothing_is_served_and_nothing_offered)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	int fd = vm_create_guest_memfd(vm, KMA_SIZE, GMEM_IN_PLACE);

	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES2), 0);
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES), 0);
	TEST_ASSERT_EQ(kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS), 0);
	for (long cap = KVM_CAP_MEMORY_ATTRIBUTES_LAYERS;
	     cap <= KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE; cap++)
		TEST_ASSERT_EQ(kvm_check_cap(cap), 0);
	assert_not_served(vm, fd);

	kma_load();
	assert_not_served(vm, fd);
	/* A file of a VM from before the module is mainline's, too. */
	kvm_close(fd);
	fd = vm_create_guest_memfd(vm, KMA_SIZE, GMEM_IN_PLACE);
	assert_not_served(vm, fd);
	kvm_close(fd);
	kvm_vm_free(vm);
}

TEST_F(unloaded, vm_from_before_the_module_has_mainlines_private_memory)
{
	struct kma_guest g;

	kma_guest_init(&g, KVM_X86_SW_PROTECTED_VM, KVM_MEM_GUEST_MEMFD, GMEM_IN_PLACE);
	kma_load();
	kma_set(g.vm, g.gpa, KMA_SIZE, KMA_PRIVATE);
	kma_fill(&g, KMA_ALL, KMA_KIND_NEW);
	kma_set(g.vm, g.gpa, KMA_SIZE, 0);
	kma_scan(&g, KMA_SEEN(.fresh = KMA_ALL));
	kvm_vm_free(g.vm);
}

TEST_HARNESS_MAIN
