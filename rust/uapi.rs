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
