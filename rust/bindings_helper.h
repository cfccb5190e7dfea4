/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the Rust side of the module knows of KVM: the provider interface of the
 * host series, and wrappers of macros and inline functions, see helpers.c.
 * struct kvm and struct kvm_memory_slot stay opaque.
 */
#ifndef __KMA_BINDINGS_HELPER_H
#define __KMA_BINDINGS_HELPER_H

#include <linux/debugfs.h>
#include <linux/kvm_host.h>
#include <linux/kvm_mem_attr.h>
#include <linux/kvm_memattr.h>

struct mutex *kma_slots_lock(struct kvm *kvm);
unsigned long kma_vm_type(const struct kvm *kvm);
bool kma_has_private_mem(const struct kvm *kvm);

gfn_t kma_slot_base_gfn(const struct kvm_memory_slot *slot);
unsigned long kma_slot_npages(const struct kvm_memory_slot *slot);
bool kma_slot_is_user(const struct kvm_memory_slot *slot);
bool kma_slot_is_gmem_only(const struct kvm_memory_slot *slot);

void kma_xa_init_accounted(struct xarray *xa);
void kma_xa_lock(struct xarray *xa);
void kma_xa_unlock(struct xarray *xa);
bool kma_xa_is_retry(const void *entry);
bool kma_xa_is_zero(const void *entry);
void *kma_xa_mk_value(unsigned long value);
void *kma_xa_zero_entry(void);
int kma_xas_error(const struct xa_state *xas);

void kma_cond_resched(void);

struct dentry *kma_debugfs_lookup(const char *name);
struct dentry *kma_debugfs_create_dir(const char *name, struct dentry *parent);
void kma_debugfs_create_file(const char *name, struct dentry *parent, void *data,
			     const struct file_operations *fops);
void kma_debugfs_remove(struct dentry *dentry);

enum {
	KMA_XA_CHUNK_SHIFT = XA_CHUNK_SHIFT,
	/* The largest of the values of xa_state's xa_node that are no pointers. */
	KMA_XAS_RESTART = (unsigned long)XAS_RESTART,
	/* What each lookup reads, which would have to call a helper otherwise. */
	KMA_OFFSETOF_DATA = offsetof(struct kvm, mem_attr_data),
	KMA_PAGE_SHIFT = PAGE_SHIFT,
	KMA_PG_LEVEL_2M = PG_LEVEL_2M,
	KMA_PG_LEVEL_1G = PG_LEVEL_1G,
	KMA_PAGES_PER_2M = KVM_PAGES_PER_HPAGE(PG_LEVEL_2M),
	KMA_PAGES_PER_1G = KVM_PAGES_PER_HPAGE(PG_LEVEL_1G),
	KMA_VM_TYPE_DEFAULT = KVM_X86_DEFAULT_VM,
	KMA_VM_TYPE_SW_PROTECTED = KVM_X86_SW_PROTECTED_VM,
	KMA_VM_TYPE_SEV = KVM_X86_SEV_VM,
	KMA_VM_TYPE_SEV_ES = KVM_X86_SEV_ES_VM,
	KMA_VM_TYPE_SNP = KVM_X86_SNP_VM,
	KMA_VM_TYPE_TDX = KVM_X86_TDX_VM,
	KMA_SET_MEMORY_ATTRIBUTES = KVM_SET_MEMORY_ATTRIBUTES,
	KMA_GET_SUPPORTED_MEMORY_ATTRIBUTES = KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES,
	KMA_SIZEOF_ATTRIBUTES = sizeof(struct kvm_memory_attributes),
	KMA_CAP_MEMORY_ATTRIBUTES = KVM_CAP_MEMORY_ATTRIBUTES,
	KMA_CAP_MEMORY_FAULT_ACCESS = KVM_CAP_MEMORY_FAULT_ACCESS,
	KMA_MEMORY_ATTRIBUTE_NR = KVM_MEMORY_ATTRIBUTE_NR,
	KMA_MEMORY_ATTRIBUTE_NW = KVM_MEMORY_ATTRIBUTE_NW,
	KMA_MEMORY_ATTRIBUTE_NX = KVM_MEMORY_ATTRIBUTE_NX,
	KMA_MEM_R = KVM_MEM_R,
	KMA_MEM_W = KVM_MEM_W,
	KMA_MEM_X = KVM_MEM_X,
	KMA_MEMORY_ATTRIBUTE_PRIVATE = KVM_MEMORY_ATTRIBUTE_PRIVATE,
	KMA_GMEM_FLAG_INIT_SHARED = GUEST_MEMFD_FLAG_INIT_SHARED,
};

#endif /* __KMA_BINDINGS_HELPER_H */
