// SPDX-License-Identifier: GPL-2.0

//! KVM's per-page memory attributes, for a VMM that is written in Rust.
//!
//! This crate stands beside `kvm-ioctls` and `kvm-bindings`: what they have is
//! used from there, what only a host with the kvm-memattr module has is here. The
//! C side of the same interface is `include/uapi/linux/kvm_memattr.h`, and each
//! command is described in `Documentation/virt/kvm/memory-attributes.rst`.
//!
//! # Examples
//!
//! ```no_run
//! use kvm_bindings::KVM_X86_SW_PROTECTED_VM;
//! use kvm_ioctls::Kvm;
//! use kvm_memattr::{set_memory_attributes, supported_memory_attributes, ATTRIBUTE_PRIVATE};
//!
//! let kvm = Kvm::new()?;
//! let vm = kvm.create_vm_with_type(KVM_X86_SW_PROTECTED_VM.into())?;
//!
//! if supported_memory_attributes(&vm) & ATTRIBUTE_PRIVATE != 0 {
//!     // 2 MiB at 4 GiB become private.
//!     set_memory_attributes(&vm, 1 << 32, 2 << 20, ATTRIBUTE_PRIVATE)?;
//! }
//! # Ok::<(), kvm_ioctls::Error>(())
//! ```

mod convert;
mod layers;

pub use convert::{
    convert, get_supported_gmem_attributes, kvm_memory_attributes2, ContentPolicy, ConvertError,
    State, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES, KVM_CAP_MEMORY_ATTRIBUTES2,
    KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS, KVM_SET_MEMORY_ATTRIBUTES2,
};

pub use layers::{
    get_runs, kvm_memory_attributes_batch, kvm_memory_attributes_entry, kvm_memory_attributes_get,
    kvm_memory_attributes_run, set_batch, set_resumable, set_whole_layer, BatchError,
    KVM_CAP_MEMORY_ATTRIBUTES_BATCH, KVM_CAP_MEMORY_ATTRIBUTES_GET,
    KVM_CAP_MEMORY_ATTRIBUTES_LAYERS, KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE,
    KVM_GET_MEMORY_ATTRIBUTES, KVM_SET_MEMORY_ATTRIBUTES_BATCH,
    KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, UNION,
};

use std::ffi::{c_uint, c_ulong};
use std::mem::{offset_of, size_of};

use kvm_bindings::{
    kvm_memory_attributes, KVMIO, KVM_CAP_MEMORY_ATTRIBUTES, KVM_MEMORY_ATTRIBUTE_PRIVATE,
};
use kvm_ioctls::{Error, Kvm, VmFd};
use vmm_sys_util::ioctl::{ioctl_expr, ioctl_with_mut_ref, _IOC_READ, _IOC_WRITE};

/// The result of a command; the error is the errno of the ioctl.
pub type Result<T> = std::result::Result<T, Error>;

/// The page is guest private: the guest reaches the guest_memfd that is bound to
/// the slot, and the VMM's own mapping is out of its sight. Where the guest_memfd has
/// shared pages, too, userspace cannot touch it.
pub const ATTRIBUTE_PRIVATE: u64 = KVM_MEMORY_ATTRIBUTE_PRIVATE as u64;

/// The guest must not read the page. Comes with [`ATTRIBUTE_NW`] and [`ATTRIBUTE_NX`] only.
pub const ATTRIBUTE_NR: u64 = 1 << 0;
/// The guest must not write to the page.
pub const ATTRIBUTE_NW: u64 = 1 << 1;
/// The guest must not execute the page.
pub const ATTRIBUTE_NX: u64 = 1 << 2;

/// Flag of KVM_EXIT_MEMORY_FAULT: a restriction denies a read.
pub const MEMORY_EXIT_FLAG_READ: u64 = 1 << 0;
/// Flag of KVM_EXIT_MEMORY_FAULT: a restriction denies a write.
pub const MEMORY_EXIT_FLAG_WRITE: u64 = 1 << 1;
/// Flag of KVM_EXIT_MEMORY_FAULT: a restriction denies the fetch of an instruction.
pub const MEMORY_EXIT_FLAG_EXEC: u64 = 1 << 2;

/// Exits tell which access a restriction denies, see the flags above.
pub const KVM_CAP_MEMORY_FAULT_ACCESS: c_ulong = 0x6b6d_6107;

/// The unit of every address and size here, on x86.
pub const PAGE_SIZE: u64 = 4096;

/// The command's number, as a VMM's seccomp filter has it. In
/// [`set_memory_attributes`].
pub const KVM_SET_MEMORY_ATTRIBUTES: c_ulong = ioctl_expr(
    _IOC_WRITE,
    KVMIO,
    0xd2,
    size_of::<kvm_memory_attributes>() as c_uint,
);

/// The command's number, as a VMM's seccomp filter has it. In
/// [`get_supported_memory_attributes`].
pub const KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES: c_ulong =
    ioctl_expr(_IOC_READ, KVMIO, 0xd2, size_of::<u64>() as c_uint);

// What the kernel reads and writes: the layout is part of the interface.
const _: () = {
    assert!(size_of::<kvm_memory_attributes>() == 32);
    assert!(offset_of!(kvm_memory_attributes, address) == 0);
    assert!(offset_of!(kvm_memory_attributes, size) == 8);
    assert!(offset_of!(kvm_memory_attributes, attributes) == 16);
    assert!(offset_of!(kvm_memory_attributes, flags) == 24);
    assert!(ATTRIBUTE_PRIVATE == 1 << 3);
};

/// The attributes that this host's KVM knows, whatever the type of the VM
/// (`KVM_CHECK_EXTENSION` of `KVM_CAP_MEMORY_ATTRIBUTES` on `/dev/kvm`).
///
/// 0 where KVM has none. The same with and without the module as long as mainline
/// has the attribute too.
pub fn system_memory_attributes(kvm: &Kvm) -> u64 {
    mask(kvm.check_extension_raw(KVM_CAP_MEMORY_ATTRIBUTES.into()))
}

/// The attributes that can be set on this VM (`KVM_CHECK_EXTENSION` of
/// `KVM_CAP_MEMORY_ATTRIBUTES` on the VM).
///
/// Without the module 0 where the VM's type has no private memory.
pub fn supported_memory_attributes(vm: &VmFd) -> u64 {
    mask(vm.check_extension_raw(KVM_CAP_MEMORY_ATTRIBUTES.into()))
}

/// The attributes that can be set on this VM, as the module itself says
/// (`KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES`).
///
/// The mask is always the one of [`supported_memory_attributes`]. Mainline does not
/// have this command, so it also tells whether the module serves this VM.
///
/// # Errors
///
/// - `ENOTTY`: the module was not loaded when the VM was created.
/// - `EIO`: the VM is dead, or belongs to another process.
pub fn get_supported_memory_attributes(vm: &VmFd) -> Result<u64> {
    let mut mask = 0u64;

    // SAFETY: The file is a VM, and on a VM this command writes one u64 through the
    // pointer, which is valid for the length of the call.
    let ret = unsafe { ioctl_with_mut_ref(vm, KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, &mut mask) };
    if ret == 0 {
        Ok(mask)
    } else {
        Err(Error::last())
    }
}

/// Gives `size` bytes of guest physical memory from `address` on exactly these
/// attributes (`KVM_SET_MEMORY_ATTRIBUTES`); 0 takes them back to the default.
///
/// Both are in bytes and multiples of [`PAGE_SIZE`]. No slot needs to cover the
/// range, and the attributes outlive the slots in it. The request takes effect as a
/// whole or not at all; no signal interrupts it and there is nothing to retry.
///
/// This is [`VmFd::set_memory_attributes`] of `kvm-ioctls` with the struct filled in.
///
/// # Errors
///
/// - `EINVAL`: `address` or `size` is not a multiple of a page, `size` is 0,
///   `address + size` wraps around, or `attributes` has a bit that this VM does
///   not support.
/// - `EPERM`: `attributes` is [`ATTRIBUTE_PRIVATE`], and a guest_memfd in the range keeps
///   that itself, see [`convert`].
/// - `ENOMEM`: out of memory; nothing has changed.
/// - `ENOTTY`: KVM was built without memory attributes.
/// - `EIO`: the VM is dead, or belongs to another process.
pub fn set_memory_attributes(vm: &VmFd, address: u64, size: u64, attributes: u64) -> Result<()> {
    vm.set_memory_attributes(kvm_memory_attributes {
        address,
        size,
        attributes,
        flags: 0,
    })
}

/// The answer to `KVM_CHECK_EXTENSION` is an int, here a mask of bits; an error
/// (an old KVM) means that there are none.
fn mask(answer: i32) -> u64 {
    u64::try_from(answer).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The values that the documentation lists for seccomp filters.
    #[test]
    fn ioctl_numbers() {
        assert_eq!(KVM_SET_MEMORY_ATTRIBUTES, 0x4020_aed2);
        assert_eq!(KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, 0x8008_aed2);
    }

    #[test]
    fn failed_check_is_no_attribute() {
        assert_eq!(mask(-1), 0);
        assert_eq!(mask(8), ATTRIBUTE_PRIVATE);
    }
}
