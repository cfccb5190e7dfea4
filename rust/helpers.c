// SPDX-License-Identifier: GPL-2.0
/*
 * One-expression wrappers of what bindgen can't see: macros, inline functions,
 * and fields of structs that stay opaque to Rust. No policy, no loops.
 */
#include "bindings_helper.h"

struct mutex *kma_slots_lock(struct kvm *kvm)
{
	return &kvm->slots_lock;
}

unsigned long kma_vm_type(const struct kvm *kvm)
{
	return kvm->arch.vm_type;
}

bool kma_has_private_mem(const struct kvm *kvm)
{
	return kvm_arch_has_private_mem(kvm);
}

gfn_t kma_slot_base_gfn(const struct kvm_memory_slot *slot)
{
	return slot->base_gfn;
}

unsigned long kma_slot_npages(const struct kvm_memory_slot *slot)
{
	return slot->npages;
}

bool kma_slot_is_user(const struct kvm_memory_slot *slot)
{
	return slot->id < KVM_USER_MEM_SLOTS;
}

bool kma_slot_is_gmem_only(const struct kvm_memory_slot *slot)
{
	return kvm_memslot_is_gmem_only(slot);
}

void kma_xa_init_accounted(struct xarray *xa)
{
	xa_init_flags(xa, XA_FLAGS_ACCOUNT);
}

void kma_xa_lock(struct xarray *xa)
{
	xa_lock(xa);
}

void kma_xa_unlock(struct xarray *xa)
{
	xa_unlock(xa);
}

bool kma_xa_is_retry(const void *entry)
{
	return xa_is_retry(entry);
}

bool kma_xa_is_zero(const void *entry)
{
	return xa_is_zero(entry);
}

void *kma_xa_mk_value(unsigned long value)
{
	return xa_mk_value(value);
}

void *kma_xa_zero_entry(void)
{
	return XA_ZERO_ENTRY;
}

int kma_xas_error(const struct xa_state *xas)
{
	return xas_error(xas);
}

void kma_cond_resched(void)
{
	cond_resched();
}

struct dentry *kma_debugfs_lookup(const char *name)
{
	return debugfs_lookup(name, NULL);
}

struct dentry *kma_debugfs_create_dir(const char *name, struct dentry *parent)
{
	return debugfs_create_dir(name, parent);
}

void kma_debugfs_create_file(const char *name, struct dentry *parent, void *data,
			     const struct file_operations *fops)
{
	debugfs_create_file(name, 0444, parent, data, fops);
}

void kma_debugfs_remove(struct dentry *dentry)
{
	debugfs_remove(dentry);
}

/* Rust reads the struct as an array. */
static_assert(offsetof(struct kvm_memory_attributes, address) == 0);
static_assert(offsetof(struct kvm_memory_attributes, size) == 8);
static_assert(offsetof(struct kvm_memory_attributes, attributes) == 16);
static_assert(offsetof(struct kvm_memory_attributes, flags) == 24);
