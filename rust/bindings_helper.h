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
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/sort.h>
#include <linux/swap.h>

struct mutex *kma_slots_lock(struct kvm *kvm);
unsigned long kma_vm_type(const struct kvm *kvm);
bool kma_has_private_mem(const struct kvm *kvm);

gfn_t kma_slot_base_gfn(const struct kvm_memory_slot *slot);
unsigned long kma_slot_npages(const struct kvm_memory_slot *slot);
bool kma_slot_is_user(const struct kvm_memory_slot *slot);
bool kma_slot_is_gmem_only(const struct kvm_memory_slot *slot);
void *kma_slot_gmem(const struct kvm_memory_slot *slot);
pgoff_t kma_slot_pgoff(const struct kvm_memory_slot *slot);
struct kvm_memory_slot *kma_find_slot(struct kvm *kvm, gfn_t gfn);
void kma_slots_start(struct kvm_memslot_iter *iter, struct kvm *kvm, gfn_t start);
bool kma_slots_valid(struct kvm_memslot_iter *iter, gfn_t end);
void kma_slots_next(struct kvm_memslot_iter *iter);
struct kvm_memory_slot *kma_slots_slot(struct kvm_memslot_iter *iter);

loff_t kma_inode_size(const struct inode *inode);
u64 kma_inode_number(const struct inode *inode);
void kma_invalidate_lock(struct inode *inode);
void kma_invalidate_unlock(struct inode *inode);
void kma_unmap_pages(struct inode *inode, pgoff_t start, pgoff_t nr);
struct xarray *kma_pages(struct inode *inode);

pgoff_t kma_folio_index(const struct folio *folio);
unsigned long kma_folio_nr_pages(const struct folio *folio);
int kma_folio_ref_count(const struct folio *folio);
bool kma_folio_is_poisoned(struct folio *folio);
bool kma_folio_is_uptodate(struct folio *folio);
void kma_folio_mark_uptodate(struct folio *folio);
void kma_folio_lock(struct folio *folio);
void kma_folio_unlock(struct folio *folio);
void kma_folio_fill(struct folio *folio, u8 byte);

void kma_xa_init_accounted(struct xarray *xa);
void kma_xa_lock(struct xarray *xa);
void kma_xa_unlock(struct xarray *xa);
bool kma_xa_is_retry(const void *entry);
bool kma_xa_is_zero(const void *entry);
void *kma_xa_mk_value(unsigned long value);
void *kma_xa_zero_entry(void);
void *kma_xas_next_entry(struct xa_state *xas, unsigned long max);
int kma_xas_error(const struct xa_state *xas);

void kma_cond_resched(void);
bool kma_signal_pending(void);
bool kma_fatal_signal_pending(void);

unsigned int kma_default_content_policy(void);

struct dentry *kma_debugfs_lookup(const char *name);
struct dentry *kma_debugfs_create_dir(const char *name, struct dentry *parent);
void kma_debugfs_create_file(const char *name, struct dentry *parent, void *data,
			     const struct file_operations *fops);
void kma_debugfs_remove(struct dentry *dentry);

/* What the tracepoints show, see trace.h. */
struct kma_set_event {
	u64 vm;
	u64 gpa;
	u64 size;
	u64 attributes;
	u64 flags;
	u64 at;
	unsigned int cmd;
	unsigned int layer;
	int ret;
};

struct kma_batch_event {
	u64 vm;
	unsigned int nr;
	int ret;
	int entry;
};

struct kma_convert_event {
	u64 ino;
	u64 offset;
	u64 size;
	u64 attributes;
	u64 flags;
	u64 at;
	int ret;
};

struct kma_pages_event {
	u64 vm;
	u64 gpa;
	u64 size;
	bool only_private;
	bool only_shared;
};

bool kma_trace_set_enabled(void);
void kma_trace_set(const struct kma_set_event *event);
bool kma_trace_batch_enabled(void);
void kma_trace_batch(const struct kma_batch_event *event);
bool kma_trace_convert_enabled(void);
void kma_trace_convert(const struct kma_convert_event *event);
bool kma_trace_zap_enabled(void);
void kma_trace_zap(const struct kma_pages_event *event);
bool kma_trace_spare_enabled(void);
void kma_trace_spare(const struct kma_pages_event *event);

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
	KMA_SET_MEMORY_ATTRIBUTES2 = KVM_SET_MEMORY_ATTRIBUTES2,
	KMA_SIZEOF_ATTRIBUTES2 = sizeof(struct kvm_memory_attributes2),
	KMA_OFFSETOF_ERROR_OFFSET = offsetof(struct kvm_memory_attributes2, error_offset),
	KMA_WHOLE_LAYER = KVM_SET_MEMORY_ATTRIBUTES2_WHOLE_LAYER,
	KMA_SET_MEMORY_ATTRIBUTES_RESUMABLE = KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE,
	KMA_SET_MEMORY_ATTRIBUTES_BATCH = KVM_SET_MEMORY_ATTRIBUTES_BATCH,
	KMA_SIZEOF_BATCH = sizeof(struct kvm_memory_attributes_batch),
	KMA_SIZEOF_ENTRY = sizeof(struct kvm_memory_attributes_entry),
	KMA_OFFSETOF_ERROR_INDEX = offsetof(struct kvm_memory_attributes_batch, error_index),
	KMA_GET_MEMORY_ATTRIBUTES = KVM_GET_MEMORY_ATTRIBUTES,
	KMA_SIZEOF_GET = sizeof(struct kvm_memory_attributes_get),
	KMA_OFFSETOF_GET_NR = offsetof(struct kvm_memory_attributes_get, nr),
	KMA_SIZEOF_RUN = sizeof(struct kvm_memory_attributes_run),
	KMA_POLICY_ZERO = KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_ZERO,
	KMA_POLICY_PRESERVE = KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_PRESERVE,
	KMA_POLICY_NONE = KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_NONE,
	KMA_CAP_MEMORY_ATTRIBUTES = KVM_CAP_MEMORY_ATTRIBUTES,
	KMA_CAP_MEMORY_FAULT_ACCESS = KVM_CAP_MEMORY_FAULT_ACCESS,
	KMA_CAP_MEMORY_ATTRIBUTES2 = KVM_CAP_MEMORY_ATTRIBUTES2,
	KMA_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES = KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES,
	KMA_CAP_MEMORY_ATTRIBUTES2_FLAGS = KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS,
	KMA_CAP_MEMORY_ATTRIBUTES_LAYERS = KVM_CAP_MEMORY_ATTRIBUTES_LAYERS,
	KMA_CAP_MEMORY_ATTRIBUTES_BATCH = KVM_CAP_MEMORY_ATTRIBUTES_BATCH,
	KMA_CAP_MEMORY_ATTRIBUTES_GET = KVM_CAP_MEMORY_ATTRIBUTES_GET,
	KMA_CAP_MEMORY_ATTRIBUTES_RESUMABLE = KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE,
	KMA_MEMORY_ATTRIBUTE_NR = KVM_MEMORY_ATTRIBUTE_NR,
	KMA_MEMORY_ATTRIBUTE_NW = KVM_MEMORY_ATTRIBUTE_NW,
	KMA_MEMORY_ATTRIBUTE_NX = KVM_MEMORY_ATTRIBUTE_NX,
	KMA_MEM_R = KVM_MEM_R,
	KMA_MEM_W = KVM_MEM_W,
	KMA_MEM_X = KVM_MEM_X,
	KMA_MEMORY_ATTRIBUTE_PRIVATE = KVM_MEMORY_ATTRIBUTE_PRIVATE,
	KMA_GMEM_FLAG_MMAP = GUEST_MEMFD_FLAG_MMAP,
	KMA_GMEM_FLAG_INIT_SHARED = GUEST_MEMFD_FLAG_INIT_SHARED,
};

#endif /* __KMA_BINDINGS_HELPER_H */
