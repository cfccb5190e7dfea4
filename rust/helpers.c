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

void *kma_slot_gmem(const struct kvm_memory_slot *slot)
{
	return rcu_dereference(slot->gmem.attr_data);
}

pgoff_t kma_slot_pgoff(const struct kvm_memory_slot *slot)
{
	return slot->gmem.pgoff;
}

struct kvm_memory_slot *kma_find_slot(struct kvm *kvm, gfn_t gfn)
{
	return __gfn_to_memslot(kvm_memslots(kvm), gfn);
}

void kma_slots_start(struct kvm_memslot_iter *iter, struct kvm *kvm, gfn_t start)
{
	kvm_memslot_iter_start(iter, kvm_memslots(kvm), start);
}

bool kma_slots_valid(struct kvm_memslot_iter *iter, gfn_t end)
{
	return kvm_memslot_iter_is_valid(iter, end);
}

void kma_slots_next(struct kvm_memslot_iter *iter)
{
	kvm_memslot_iter_next(iter);
}

struct kvm_memory_slot *kma_slots_slot(struct kvm_memslot_iter *iter)
{
	return iter->slot;
}

loff_t kma_inode_size(const struct inode *inode)
{
	return i_size_read(inode);
}

u64 kma_inode_number(const struct inode *inode)
{
	return inode->i_ino;
}

void kma_invalidate_lock(struct inode *inode)
{
	filemap_invalidate_lock(inode->i_mapping);
}

void kma_invalidate_unlock(struct inode *inode)
{
	filemap_invalidate_unlock(inode->i_mapping);
}

void kma_unmap_pages(struct inode *inode, pgoff_t start, pgoff_t nr)
{
	unmap_mapping_pages(inode->i_mapping, start, nr, false);
}

struct xarray *kma_pages(struct inode *inode)
{
	return &inode->i_mapping->i_pages;
}

pgoff_t kma_folio_index(const struct folio *folio)
{
	return folio->index;
}

unsigned long kma_folio_nr_pages(const struct folio *folio)
{
	return folio_nr_pages(folio);
}

int kma_folio_ref_count(const struct folio *folio)
{
	return folio_ref_count(folio);
}

bool kma_folio_is_poisoned(struct folio *folio)
{
	return folio_test_hwpoison(folio);
}

bool kma_folio_is_uptodate(struct folio *folio)
{
	return folio_test_uptodate(folio);
}

void kma_folio_mark_uptodate(struct folio *folio)
{
	folio_mark_uptodate(folio);
}

void kma_folio_lock(struct folio *folio)
{
	folio_lock(folio);
}

void kma_folio_unlock(struct folio *folio)
{
	folio_unlock(folio);
}

void kma_folio_fill(struct folio *folio, u8 byte)
{
	memset(folio_address(folio), byte, folio_size(folio));
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

void *kma_xas_next_entry(struct xa_state *xas, unsigned long max)
{
	return xas_next_entry(xas, max);
}

int kma_xas_error(const struct xa_state *xas)
{
	return xas_error(xas);
}

void kma_cond_resched(void)
{
	cond_resched();
}

bool kma_signal_pending(void)
{
	return signal_pending(current);
}

bool kma_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
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

/* Rust reads the structs as arrays. */
static_assert(offsetof(struct kvm_memory_attributes, address) == 0);
static_assert(offsetof(struct kvm_memory_attributes, size) == 8);
static_assert(offsetof(struct kvm_memory_attributes, attributes) == 16);
static_assert(offsetof(struct kvm_memory_attributes, flags) == 24);
static_assert(offsetof(struct kvm_memory_attributes2, address) == 0);
static_assert(offsetof(struct kvm_memory_attributes2, offset) == 0);
static_assert(offsetof(struct kvm_memory_attributes2, size) == 8);
static_assert(offsetof(struct kvm_memory_attributes2, attributes) == 16);
static_assert(offsetof(struct kvm_memory_attributes2, flags) == 24);
static_assert(offsetof(struct kvm_memory_attributes2, error_offset) == 32);
static_assert(offsetof(struct kvm_memory_attributes2, layer) == 40);
static_assert(offsetof(struct kvm_memory_attributes2, pad) == 44);
static_assert(offsetof(struct kvm_memory_attributes2, reserved) == 48);
static_assert(sizeof(struct kvm_memory_attributes2) == 128);
static_assert(offsetof(struct kvm_memory_attributes_batch, entries) == 0);
static_assert(offsetof(struct kvm_memory_attributes_batch, nr) == 8);
static_assert(offsetof(struct kvm_memory_attributes_batch, flags) == 12);
static_assert(offsetof(struct kvm_memory_attributes_batch, error_index) == 16);
static_assert(offsetof(struct kvm_memory_attributes_batch, pad) == 20);
static_assert(offsetof(struct kvm_memory_attributes_batch, reserved) == 24);
static_assert(sizeof(struct kvm_memory_attributes_batch) == 56);
static_assert(offsetof(struct kvm_memory_attributes_entry, address) == 0);
static_assert(offsetof(struct kvm_memory_attributes_entry, size) == 8);
static_assert(offsetof(struct kvm_memory_attributes_entry, attributes) == 16);
static_assert(offsetof(struct kvm_memory_attributes_entry, mask) == 24);
static_assert(offsetof(struct kvm_memory_attributes_entry, layer) == 32);
static_assert(offsetof(struct kvm_memory_attributes_entry, pad) == 36);
static_assert(sizeof(struct kvm_memory_attributes_entry) == 40);
static_assert(offsetof(struct kvm_memory_attributes_get, start) == 0);
static_assert(offsetof(struct kvm_memory_attributes_get, size) == 8);
static_assert(offsetof(struct kvm_memory_attributes_get, runs) == 16);
static_assert(offsetof(struct kvm_memory_attributes_get, nr) == 24);
static_assert(offsetof(struct kvm_memory_attributes_get, layer) == 28);
static_assert(offsetof(struct kvm_memory_attributes_get, flags) == 32);
static_assert(offsetof(struct kvm_memory_attributes_get, next) == 40);
static_assert(offsetof(struct kvm_memory_attributes_get, reserved) == 48);
static_assert(sizeof(struct kvm_memory_attributes_get) == 80);
static_assert(offsetof(struct kvm_memory_attributes_run, start) == 0);
static_assert(offsetof(struct kvm_memory_attributes_run, size) == 8);
static_assert(offsetof(struct kvm_memory_attributes_run, attributes) == 16);
static_assert(sizeof(struct kvm_memory_attributes_run) == 24);
