// SPDX-License-Identifier: GPL-2.0

//! Numbers that userspace knows, from the kernel's own headers.
//!
//! C headers: [`include/uapi/linux/kvm.h`](srctree/include/uapi/linux/kvm.h),
//! `include/uapi/linux/kvm_memattr.h`

use super::bindings;

/// KVM_SET_MEMORY_ATTRIBUTES.
pub(crate) const SET_MEMORY_ATTRIBUTES: u32 = bindings::KMA_SET_MEMORY_ATTRIBUTES;
/// KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES.
pub(crate) const GET_SUPPORTED_MEMORY_ATTRIBUTES: u32 =
    bindings::KMA_GET_SUPPORTED_MEMORY_ATTRIBUTES;

/// KVM_SET_MEMORY_ATTRIBUTES2.
pub(crate) const SET_MEMORY_ATTRIBUTES2: u32 = bindings::KMA_SET_MEMORY_ATTRIBUTES2;

/// `struct kvm_memory_attributes`: address, size, attributes and flags. The order is asserted in
/// `helpers.c`.
pub(crate) type KvmMemoryAttributes = [u64; 4];
const _: () = assert!(size_of::<KvmMemoryAttributes>() == bindings::KMA_SIZEOF_ATTRIBUTES as usize);

/// `struct kvm_memory_attributes2`: address or offset, size, attributes, flags, error_offset, layer and
/// pad in one, and what's reserved. The order is asserted in `helpers.c`.
pub(crate) type KvmMemoryAttributes2 = [u64; 16];
const _: () =
    assert!(size_of::<KvmMemoryAttributes2>() == bindings::KMA_SIZEOF_ATTRIBUTES2 as usize);

/// Where error_offset is in `struct kvm_memory_attributes2`, in bytes.
pub(crate) const ERROR_OFFSET: usize = bindings::KMA_OFFSETOF_ERROR_OFFSET as usize;

/// KVM_SET_MEMORY_ATTRIBUTES2_WHOLE_LAYER.
pub(crate) const WHOLE_LAYER: u64 = bindings::KMA_WHOLE_LAYER as u64;

/// KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE.
pub(crate) const SET_MEMORY_ATTRIBUTES_RESUMABLE: u32 =
    bindings::KMA_SET_MEMORY_ATTRIBUTES_RESUMABLE;

/// KVM_SET_MEMORY_ATTRIBUTES_BATCH.
pub(crate) const SET_MEMORY_ATTRIBUTES_BATCH: u32 = bindings::KMA_SET_MEMORY_ATTRIBUTES_BATCH;

/// `struct kvm_memory_attributes_batch`: entries, nr and flags, error_index and pad, and what's
/// reserved. The order is asserted in `helpers.c`.
pub(crate) type KvmMemoryAttributesBatch = [u64; 7];
const _: () = assert!(size_of::<KvmMemoryAttributesBatch>() == bindings::KMA_SIZEOF_BATCH as usize);

/// Where error_index is in `struct kvm_memory_attributes_batch`, in bytes.
pub(crate) const ERROR_INDEX: usize = bindings::KMA_OFFSETOF_ERROR_INDEX as usize;

/// `struct kvm_memory_attributes_entry`: address, size, attributes, mask, layer and pad. The order is
/// asserted in `helpers.c`.
pub(crate) type KvmMemoryAttributesEntry = [u64; 5];
const _: () = assert!(size_of::<KvmMemoryAttributesEntry>() == bindings::KMA_SIZEOF_ENTRY as usize);

/// KVM_GET_MEMORY_ATTRIBUTES.
pub(crate) const GET_MEMORY_ATTRIBUTES: u32 = bindings::KMA_GET_MEMORY_ATTRIBUTES;

/// `struct kvm_memory_attributes_get`: start, size, runs, nr and layer, flags, next, and what's
/// reserved. The order is asserted in `helpers.c`.
pub(crate) type KvmMemoryAttributesGet = [u64; 10];
const _: () = assert!(size_of::<KvmMemoryAttributesGet>() == bindings::KMA_SIZEOF_GET as usize);

/// Where nr, with layer, is in `struct kvm_memory_attributes_get`, in bytes.
pub(crate) const GET_ANSWER: usize = bindings::KMA_OFFSETOF_GET_NR as usize;

/// `struct kvm_memory_attributes_run`: start, size and attributes. The order is asserted in
/// `helpers.c`.
pub(crate) type KvmMemoryAttributesRun = [u64; 3];
const _: () = assert!(size_of::<KvmMemoryAttributesRun>() == bindings::KMA_SIZEOF_RUN as usize);

/// The two fields of 32 bits that share a word of a struct, in their order. On x86, which is all that
/// the module is built for, the first one is the lower half.
pub(crate) const fn halves(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// The word that two fields of 32 bits share.
pub(crate) const fn word_of(first: u32, second: u32) -> u64 {
    first as u64 | (second as u64) << 32
}

/// KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_ZERO.
pub(crate) const POLICY_ZERO: u64 = bindings::KMA_POLICY_ZERO as u64;
/// KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_PRESERVE.
pub(crate) const POLICY_PRESERVE: u64 = bindings::KMA_POLICY_PRESERVE as u64;
/// KVM_SET_MEMORY_ATTRIBUTES2_CONTENT_POLICY_NONE.
pub(crate) const POLICY_NONE: u64 = bindings::KMA_POLICY_NONE as u64;

/// KVM_CAP_MEMORY_ATTRIBUTES.
pub(crate) const CAP_MEMORY_ATTRIBUTES: usize = bindings::KMA_CAP_MEMORY_ATTRIBUTES as usize;

/// KVM_CAP_MEMORY_FAULT_ACCESS.
pub(crate) const CAP_MEMORY_FAULT_ACCESS: usize = bindings::KMA_CAP_MEMORY_FAULT_ACCESS as usize;

/// KVM_CAP_MEMORY_ATTRIBUTES2.
pub(crate) const CAP_MEMORY_ATTRIBUTES2: usize = bindings::KMA_CAP_MEMORY_ATTRIBUTES2 as usize;

/// KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES.
pub(crate) const CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES: usize =
    bindings::KMA_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES as usize;

/// KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS.
pub(crate) const CAP_MEMORY_ATTRIBUTES2_FLAGS: usize =
    bindings::KMA_CAP_MEMORY_ATTRIBUTES2_FLAGS as usize;

/// KVM_CAP_MEMORY_ATTRIBUTES_LAYERS.
pub(crate) const CAP_MEMORY_ATTRIBUTES_LAYERS: usize =
    bindings::KMA_CAP_MEMORY_ATTRIBUTES_LAYERS as usize;

/// KVM_CAP_MEMORY_ATTRIBUTES_BATCH.
pub(crate) const CAP_MEMORY_ATTRIBUTES_BATCH: usize =
    bindings::KMA_CAP_MEMORY_ATTRIBUTES_BATCH as usize;

/// KVM_CAP_MEMORY_ATTRIBUTES_GET.
pub(crate) const CAP_MEMORY_ATTRIBUTES_GET: usize =
    bindings::KMA_CAP_MEMORY_ATTRIBUTES_GET as usize;

/// KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE.
pub(crate) const CAP_MEMORY_ATTRIBUTES_RESUMABLE: usize =
    bindings::KMA_CAP_MEMORY_ATTRIBUTES_RESUMABLE as usize;

/// KVM_MEMORY_ATTRIBUTE_NR.
pub(crate) const MEMORY_ATTRIBUTE_NR: u64 = bindings::KMA_MEMORY_ATTRIBUTE_NR as u64;
/// KVM_MEMORY_ATTRIBUTE_NW.
pub(crate) const MEMORY_ATTRIBUTE_NW: u64 = bindings::KMA_MEMORY_ATTRIBUTE_NW as u64;
/// KVM_MEMORY_ATTRIBUTE_NX.
pub(crate) const MEMORY_ATTRIBUTE_NX: u64 = bindings::KMA_MEMORY_ATTRIBUTE_NX as u64;
/// KVM_MEMORY_ATTRIBUTE_PRIVATE.
pub(crate) const MEMORY_ATTRIBUTE_PRIVATE: u64 = bindings::KMA_MEMORY_ATTRIBUTE_PRIVATE as u64;

/// GUEST_MEMFD_FLAG_MMAP.
pub(crate) const GUEST_MEMFD_FLAG_MMAP: u64 = bindings::KMA_GMEM_FLAG_MMAP as u64;

/// GUEST_MEMFD_FLAG_INIT_SHARED.
pub(crate) const GUEST_MEMFD_FLAG_INIT_SHARED: u64 = bindings::KMA_GMEM_FLAG_INIT_SHARED as u64;

/// Number of bits by which an address in bytes exceeds a page number.
pub(crate) const PAGE_SHIFT: u32 = bindings::KMA_PAGE_SHIFT;
