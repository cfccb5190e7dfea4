// SPDX-License-Identifier: GPL-2.0
/*
 * Who holds the module: each VM that was created under it, by whatever keeps
 * that VM, and nobody else. Once they are gone so is their state, and the
 * module can go and come back.
 */
#include "kvm_memattr_guest.h"
#include "kvm_memattr_module.h"

FIXTURE(lifetime) {
	bool unloads;
	int refcnt;
	u64 vms;
	u64 vms_alive;
	u64 gmem_inodes_alive;
};

FIXTURE_SETUP(lifetime)
{
	KMA_REQUIRE_MODULE();
	KMA_REQUIRE_PROTECTED_VMS();

	/* What earlier tests left behind is on its way out. */
	KMA_WAIT_FOR(!kma_refcnt());
	self->refcnt = kma_refcnt();
	self->vms = kma_total("vms");
	self->vms_alive = kma_total("vms_alive");
	self->gmem_inodes_alive = kma_total("gmem_inodes_alive");
}

/* In the parent, so that a test that fails leaves the module loaded. */
FIXTURE_TEARDOWN_PARENT(lifetime)
{
	if (self->unloads && !kma_loaded())
		kma_load();
}

#define ASSERT_PINNED()								\
do {										\
	TEST_ASSERT(kma_refcnt() > self->refcnt, "nobody holds the module");	\
	KMA_ASSERT_ERRNO(EWOULDBLOCK, __kma_unload());				\
} while (0)

#define WAIT_UNTIL_GONE()							\
do {										\
	KMA_WAIT_FOR(kma_refcnt() == self->refcnt);				\
	KMA_WAIT_FOR(kma_total("vms_alive") == self->vms_alive);		\
	KMA_WAIT_FOR(kma_total("gmem_inodes_alive") == self->gmem_inodes_alive);\
} while (0)

TEST_F(lifetime, vm_pins_the_module_and_lets_go)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	struct kma_view view;

	/* Nobody has asked for anything yet. */
	TEST_ASSERT(!__kma_view_newest(&view), "a VM without attributes has a folder");
	view = kma_view_of(vm);

	ASSERT_PINNED();
	TEST_ASSERT_EQ(kma_total("vms"), self->vms + 1);
	TEST_ASSERT_EQ(kma_total("vms_alive"), self->vms_alive + 1);
	TEST_ASSERT_EQ(access(view.dir, F_OK), 0);

	kvm_vm_free(vm);
	WAIT_UNTIL_GONE();
	TEST_ASSERT_EQ(kma_total("vms"), self->vms + 1);
	KMA_ASSERT_ERRNO(ENOENT, access(view.dir, F_OK));
}

TEST_F(lifetime, default_vm_pins_the_module_and_lets_go)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_DEFAULT_VM);

	ASSERT_PINNED();
	kvm_vm_free(vm);
	WAIT_UNTIL_GONE();
}

TEST_F(lifetime, each_vm_pins_the_module)
{
	struct kvm_vm *first = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	struct kvm_vm *second = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	int both = kma_refcnt();

	kvm_vm_free(first);
	KMA_WAIT_FOR(kma_refcnt() < both);
	ASSERT_PINNED();
	kvm_vm_free(second);
	WAIT_UNTIL_GONE();
}

TEST_F(lifetime, vcpu_without_its_vms_fd_pins_the_module)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	int fd = kvm_dup(vcpu->fd);

	kvm_vm_free(vm);
	ASSERT_PINNED();
	close(fd);
	WAIT_UNTIL_GONE();
}

TEST_F(lifetime, guest_memfd_without_its_vms_fd_pins_the_module)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	int gmem = vm_create_guest_memfd(vm, KMA_SIZE, 0);

	kvm_fallocate(gmem, FALLOC_FL_KEEP_SIZE, 0, KMA_SIZE);
	kvm_vm_free(vm);
	ASSERT_PINNED();

	/* And it still works. */
	kvm_fallocate(gmem, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 0, KMA_SIZE);
	ASSERT_PINNED();
	close(gmem);
	WAIT_UNTIL_GONE();
}

TEST_F(lifetime, mapping_of_a_guest_memfd_without_any_fd_pins_the_module)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_DEFAULT_VM);
	int gmem = vm_create_guest_memfd(vm, KMA_SIZE, GUEST_MEMFD_FLAG_MMAP |
						       GUEST_MEMFD_FLAG_INIT_SHARED);
	u64 *mem = kvm_mmap(KMA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, gmem);

	close(gmem);
	kvm_vm_free(vm);
	*mem = 1;
	ASSERT_PINNED();

	kvm_munmap(mem, KMA_SIZE);
	WAIT_UNTIL_GONE();
}

TEST_F(lifetime, open_debugfs_file_pins_the_module)
{
	int fd = open(KMA_DEBUGFS "/stats", O_RDONLY);

	TEST_ASSERT(fd >= 0, "cannot open " KMA_DEBUGFS "/stats: %s", strerror(errno));
	ASSERT_PINNED();
	close(fd);
	WAIT_UNTIL_GONE();
}

TEST_F(lifetime, open_debugfs_file_of_a_vm_that_is_gone_pins_the_module)
{
	struct kvm_vm *vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	struct kma_view view = kma_view_of(vm);
	char path[96], byte;
	int fd;

	snprintf(path, sizeof(path), "%s/runs", view.dir);
	fd = open(path, O_RDONLY);
	TEST_ASSERT(fd >= 0, "cannot open %s: %s", path, strerror(errno));

	kvm_vm_free(vm);
	KMA_WAIT_FOR(kma_total("vms_alive") == self->vms_alive);
	ASSERT_PINNED();
	KMA_ASSERT_ERRNO(EIO, read(fd, &byte, 1));
	close(fd);
	WAIT_UNTIL_GONE();
}

TEST_F(lifetime, guest_with_both_kinds_of_pages_lets_go)
{
	struct kma_guest g;

	kma_protected_guest_init(&g);
	kma_prepare(&g, KMA_ODD);
	ASSERT_PINNED();
	kvm_vm_free(g.vm);
	WAIT_UNTIL_GONE();
}

TEST_F(lifetime, dead_vm_pins_the_module_and_lets_go)
{
	struct kma_guest g;

	kma_protected_guest_init(&g);
	kma_prepare(&g, KMA_ODD);
	kma_kill(g.vcpu);
	ASSERT_PINNED();
	kvm_vm_free(g.vm);
	WAIT_UNTIL_GONE();
}

TEST_F(lifetime, fifty_vms_leave_nothing)
{
	for (int i = 0; i < 50; i++) {
		struct kvm_vm *vm = vm_create_barebones_type(i % 2 ? KVM_X86_DEFAULT_VM :
								     KVM_X86_SW_PROTECTED_VM);
		int gmem = vm_create_guest_memfd(vm, KMA_SIZE, 0);

		kma_set(vm, KMA_GPA, KMA_SIZE, i % 2 ? 0 : KMA_PRIVATE);
		kvm_vm_free(vm);
		close(gmem);
	}
	WAIT_UNTIL_GONE();
	TEST_ASSERT_EQ(kma_total("vms"), self->vms + 50);
}

TEST_F(lifetime, module_without_vms_unloads_and_loads_again)
{
	self->unloads = true;
	kma_unload();
	TEST_ASSERT(!kma_loaded(), "the module is still there");
	KMA_ASSERT_ERRNO(ENOENT, access(KMA_DEBUGFS, F_OK));

	kma_load();
	TEST_ASSERT_EQ(kma_refcnt(), 0);
	TEST_ASSERT_EQ(kma_total("vms"), 0);
}

TEST_F(lifetime, module_that_was_used_unloads_and_serves_again)
{
	struct kma_guest g;

	self->unloads = true;
	for (int i = 0; i < 3; i++) {
		kma_protected_guest_init(&g);
		kma_prepare(&g, KMA_MIDDLE);
		kvm_vm_free(g.vm);
		kma_unload();
		kma_load();
	}
	kma_protected_guest_init(&g);
	TEST_ASSERT_EQ(kma_get_supported(g.vm), KMA_ALL_ATTRIBUTES);
	kma_prepare(&g, KMA_MIDDLE);
	kvm_vm_free(g.vm);
}

TEST_F(lifetime, second_load_is_eexist)
{
	KMA_ASSERT_ERRNO(EEXIST, __kma_load());
}

TEST_F(lifetime, vm_from_before_the_module_stays_mainlines)
{
	struct kma_guest before, after;
	__u64 mask;

	self->unloads = true;
	kma_unload();
	kma_protected_guest_init(&before);
	KMA_ASSERT_ERRNO(ENOTTY, __kma_get_supported(before.vm->fd, &mask));
	kma_prepare(&before, KMA_MIDDLE);

	kma_load();
	KMA_ASSERT_ERRNO(ENOTTY, __kma_get_supported(before.vm->fd, &mask));
	TEST_ASSERT_EQ(kma_total("vms"), 0);
	KMA_ASSERT_FAULTS(&before, 0, KMA_SEEN_PRIVATE(KMA_MIDDLE));

	/* Both work, side by side, and only the new one is the module's. */
	kma_protected_guest_init(&after);
	TEST_ASSERT_EQ(kma_get_supported(after.vm), KMA_ALL_ATTRIBUTES);
	TEST_ASSERT_EQ(kma_total("vms"), 1);
	kma_prepare(&after, KMA_ODD);
	kma_convert(&before, KMA_EVEN);
	kma_look(&before, KMA_SEEN_PRIVATE(KMA_EVEN));
	KMA_ASSERT_FAULTS(&after, 0, KMA_SEEN_PRIVATE(KMA_ODD));

	kvm_vm_free(after.vm);
	KMA_WAIT_FOR(!kma_refcnt());
	kma_look(&before, KMA_SEEN_PRIVATE(KMA_EVEN));
	kvm_vm_free(before.vm);
}

TEST_HARNESS_MAIN
