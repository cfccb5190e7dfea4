// SPDX-License-Identifier: GPL-2.0
/*
 * What a guest_memfd keeps of its pages goes with it, and not before: files that
 * come, are converted and go leave nothing behind.
 */
/* seconds: release 300, debug 900 */
#include "kvm_memattr_gmem.h"
#include "kvm_memattr_module.h"
#include "kvm_memattr_slab.h"

#define NODES		"radix_tree_node"
#define INODES		"kvm_gmem_inode_cache"

FIXTURE(lifetime) {
	int refcnt;
	u64 vms_alive;
	u64 inodes_alive;
};

FIXTURE_SETUP(lifetime)
{
	KMA_REQUIRE_MODULE();
	KMA_REQUIRE_PROTECTED_VMS();

	/* What earlier tests left behind is on its way out. */
	KMA_WAIT_FOR(!kma_refcnt());
	gmem_catch_sigbus();
	self->refcnt = kma_refcnt();
	self->vms_alive = kma_total("vms_alive");
	self->inodes_alive = kma_total("gmem_inodes_alive");
}

FIXTURE_TEARDOWN(lifetime)
{
	KMA_WAIT_FOR(kma_total("gmem_inodes_alive") == self->inodes_alive);
	KMA_WAIT_FOR(kma_total("vms_alive") == self->vms_alive);
	KMA_WAIT_FOR(kma_refcnt() == self->refcnt);
}

/* A VM with a file whose pages are used, in either state, in fragments. */
static void come_and_go(int i)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	int fd = vm_create_guest_memfd(vm, KMA_SIZE, i % 2 ? GMEM_SHARED : GMEM_IN_PLACE);
	void *mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	struct gmem m = { .fd = fd, .mem = mem };
	u64 policy = gmem_policies[i % ARRAY_SIZE(gmem_policies)];

	gmem_set(&m, 0xf0f0, 0, policy);
	TEST_ASSERT(!(gmem_unloadable(mem) & 0xf0f0), "shared pages are private");
	gmem_set(&m, 0x3c3c, KMA_PRIVATE, policy);
	TEST_ASSERT_EQ(gmem_unloadable(mem) & 0x3c3c, 0x3c3c);

	/* The VM, the file or the mapping goes last. */
	if (i % 3 == 0)
		kvm_vm_free(vm);
	kvm_close(fd);
	if (i % 3 == 1)
		kvm_munmap(mem, KMA_SIZE);
	if (i % 3)
		kvm_vm_free(vm);
	if (i % 3 != 1)
		kvm_munmap(mem, KMA_SIZE);
}

/* Fewer of all that there are many of, in the same proportion to each other. */
#define DEBUG_SHARE	8

/* Others come and go meanwhile, of which a few may be there at any time. */
static u64 slack(void)
{
	return kma_rounds(200, DEBUG_SHARE);
}

TEST_F_TIMEOUT(lifetime, vms_with_converted_memory_leave_nothing, 1500)
{
	const u64 vms = kma_rounds(1000, DEBUG_SHARE);
	u64 nodes, inodes;

	for (int i = 0; i < 10; i++)
		come_and_go(i);
	KMA_WAIT_FOR(kma_total("gmem_inodes_alive") == self->inodes_alive);
	nodes = kma_slab_objects(NODES);
	inodes = kma_slab_objects(INODES);

	for (int i = 0; i < vms; i++)
		come_and_go(i);
	KMA_WAIT_FOR(kma_total("gmem_inodes_alive") == self->inodes_alive);
	KMA_WAIT_FOR(kma_slab_objects(INODES) <= inodes + slack() / 10);
	KMA_WAIT_FOR(kma_slab_objects(NODES) <= nodes + slack());
	printf("# figure: " INODES ": %lu before, %lu after; " NODES ": %lu before, %lu after\n",
	       inodes, kma_slab_objects(INODES), nodes, kma_slab_objects(NODES));
}

static int fragmented_file(struct kvm_vm *vm, u64 fragments, u64 policy)
{
	int fd = vm_create_guest_memfd(vm, 2 * fragments * PAGE_SIZE, GMEM_IN_PLACE);

	for (u64 i = 0; i < fragments; i++)
		GMEM_ASSERT_SET(fd, 2 * i * PAGE_SIZE, PAGE_SIZE, 0, policy);
	return fd;
}

TEST_F_TIMEOUT(lifetime, memory_for_fragments_goes_with_uniformity_and_with_the_file, 600)
{
	const u64 fragments = kma_rounds(16384, DEBUG_SHARE);
	/* A node has 64 pages. */
	const u64 taken = 2 * fragments / 64;
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	u64 before = kma_slab_objects(NODES);
	int fd = fragmented_file(vm, fragments, 0);

	TEST_ASSERT(kma_slab_objects(NODES) >= before + taken * 9 / 10,
		    "%lu nodes, after %lu without", kma_slab_objects(NODES), before);
	GMEM_ASSERT_SET(fd, 0, 2 * fragments * PAGE_SIZE, 0, 0);
	KMA_WAIT_FOR(kma_slab_objects(NODES) <= before + slack());
	kvm_close(fd);

	fd = fragmented_file(vm, fragments, GMEM_PRESERVE);
	kvm_close(fd);
	KMA_WAIT_FOR(kma_slab_objects(NODES) <= before + slack());
	kvm_vm_free(vm);
}

TEST_F(lifetime, file_keeps_its_state_and_the_module_until_it_is_closed)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	int fd = vm_create_guest_memfd(vm, KMA_SIZE, GMEM_IN_PLACE);
	void *mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	struct gmem m = { .fd = fd, .mem = mem };

	gmem_set(&m, KMA_ODD, 0, 0);
	kvm_vm_free(vm);
	gmem_set(&m, KMA_MIDDLE, KMA_PRIVATE, 0);
	TEST_ASSERT(kma_refcnt() > self->refcnt, "nobody holds the module");
	KMA_ASSERT_ERRNO(EWOULDBLOCK, __kma_unload());

	kvm_close(fd);
	TEST_ASSERT_EQ(gmem_unloadable(mem), KMA_EVEN | KMA_MIDDLE);
	KMA_ASSERT_ERRNO(EWOULDBLOCK, __kma_unload());
	kvm_munmap(mem, KMA_SIZE);
}

TEST_HARNESS_MAIN
