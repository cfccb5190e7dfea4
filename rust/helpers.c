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

void *kma_data(const struct kvm *kvm)
{
	return kvm->mem_attr_data;
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

int kma_xa_reserve(struct xarray *xa, unsigned long index)
{
	return xa_reserve(xa, index, GFP_KERNEL_ACCOUNT);
}

void kma_xa_release(struct xarray *xa, unsigned long index)
{
	xa_release(xa, index);
}

bool kma_xa_is_value(const void *entry)
{
	return xa_is_value(entry);
}

unsigned long kma_xa_to_value(const void *entry)
{
	return xa_to_value(entry);
}

/* Nothing is allocated, and nothing fails, where there's a reservation. */
void kma_xa_store_reserved(struct xarray *xa, unsigned long index, unsigned long value)
{
	WARN_ON_ONCE(xa_err(xa_store(xa, index, xa_mk_value(value), 0)));
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
