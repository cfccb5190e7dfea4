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

/// `struct kvm_memory_attributes`: address, size, attributes and flags. The order is asserted in
/// `helpers.c`.
pub(crate) type KvmMemoryAttributes = [u64; 4];
const _: () = assert!(size_of::<KvmMemoryAttributes>() == bindings::KMA_SIZEOF_ATTRIBUTES as usize);

/// KVM_CAP_MEMORY_ATTRIBUTES.
pub(crate) const CAP_MEMORY_ATTRIBUTES: usize = bindings::KMA_CAP_MEMORY_ATTRIBUTES as usize;

/// KVM_CAP_MEMORY_FAULT_ACCESS.
pub(crate) const CAP_MEMORY_FAULT_ACCESS: usize = bindings::KMA_CAP_MEMORY_FAULT_ACCESS as usize;

/// KVM_MEMORY_ATTRIBUTE_NR.
pub(crate) const MEMORY_ATTRIBUTE_NR: u64 = bindings::KMA_MEMORY_ATTRIBUTE_NR as u64;
/// KVM_MEMORY_ATTRIBUTE_NW.
pub(crate) const MEMORY_ATTRIBUTE_NW: u64 = bindings::KMA_MEMORY_ATTRIBUTE_NW as u64;
/// KVM_MEMORY_ATTRIBUTE_NX.
pub(crate) const MEMORY_ATTRIBUTE_NX: u64 = bindings::KMA_MEMORY_ATTRIBUTE_NX as u64;
/// KVM_MEMORY_ATTRIBUTE_PRIVATE.
pub(crate) const MEMORY_ATTRIBUTE_PRIVATE: u64 = bindings::KMA_MEMORY_ATTRIBUTE_PRIVATE as u64;

/// GUEST_MEMFD_FLAG_INIT_SHARED.
pub(crate) const GUEST_MEMFD_FLAG_INIT_SHARED: u64 = bindings::KMA_GMEM_FLAG_INIT_SHARED as u64;

/// Number of bits by which an address in bytes exceeds a page number.
pub(crate) const PAGE_SHIFT: u32 = bindings::KMA_PAGE_SHIFT;
