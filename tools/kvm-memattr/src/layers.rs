// SPDX-License-Identifier: GPL-2.0

//! Layers of restrictions, several ranges at once, and reading back.

use std::ffi::{c_uint, c_ulong};
use std::fmt;
use std::mem::{offset_of, size_of};
use std::os::fd::AsFd;

use kvm_bindings::{kvm_memory_attributes, KVMIO};
use kvm_ioctls::{Error, VmFd};
use vmm_sys_util::ioctl::{ioctl_expr, ioctl_with_mut_ref, _IOC_READ, _IOC_WRITE};

use crate::{kvm_memory_attributes2, Result, KVM_SET_MEMORY_ATTRIBUTES2};

/// One range of a batch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub struct kvm_memory_attributes_entry {
    /// Guest physical address, in bytes.
    pub address: u64,
    /// How many bytes.
    pub size: u64,
    /// The new attributes, all of which must be in `mask`.
    pub attributes: u64,
    /// The attributes that don't stay as they are.
    pub mask: u64,
    /// The layer.
    pub layer: u32,
    /// Must be 0.
    pub pad: u32,
}

/// `struct kvm_memory_attributes_batch`, the argument of [`KVM_SET_MEMORY_ATTRIBUTES_BATCH`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub struct kvm_memory_attributes_batch {
    /// Address of the entries.
    pub entries: u64,
    /// How many there are.
    pub nr: u32,
    /// Must be 0.
    pub flags: u32,
    /// Out: the first bad entry.
    pub error_index: u32,
    /// Must be 0.
    pub pad: u32,
    /// Must be 0.
    pub reserved: [u64; 4],
}

/// A stretch of pages with the same attributes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub struct kvm_memory_attributes_run {
    /// Guest physical address, or offset in a guest_memfd, in bytes.
    pub start: u64,
    /// How many bytes.
    pub size: u64,
    /// The attributes of each page.
    pub attributes: u64,
}

/// `struct kvm_memory_attributes_get`, the argument of [`KVM_GET_MEMORY_ATTRIBUTES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub struct kvm_memory_attributes_get {
    /// The first byte.
    pub start: u64,
    /// How many bytes.
    pub size: u64,
    /// Address of the room for runs.
    pub runs: u64,
    /// How many there is room for; then how many were written.
    pub nr: u32,
    /// A layer, or [`UNION`].
    pub layer: u32,
    /// Must be 0.
    pub flags: u64,
    /// Out: where to go on.
    pub next: u64,
    /// Must be 0.
    pub reserved: [u64; 4],
}

const fn number(minor: c_uint, size: usize) -> c_ulong {
    ioctl_expr(_IOC_READ | _IOC_WRITE, KVMIO, minor, size as c_uint)
}

/// The command's number. In [`set_resumable`].
pub const KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE: c_ulong =
    number(0xd3, size_of::<kvm_memory_attributes>());
/// The command's number. In [`set_batch`].
pub const KVM_SET_MEMORY_ATTRIBUTES_BATCH: c_ulong =
    number(0xf0, size_of::<kvm_memory_attributes_batch>());
/// The command's number. In [`get_runs`].
pub const KVM_GET_MEMORY_ATTRIBUTES: c_ulong = number(0xf1, size_of::<kvm_memory_attributes_get>());

// What the kernel reads and writes: the layout is part of the interface.
const _: () = {
    assert!(size_of::<kvm_memory_attributes_entry>() == 40);
    assert!(offset_of!(kvm_memory_attributes_entry, mask) == 24);
    assert!(offset_of!(kvm_memory_attributes_entry, layer) == 32);
    assert!(size_of::<kvm_memory_attributes_batch>() == 56);
    assert!(offset_of!(kvm_memory_attributes_batch, nr) == 8);
    assert!(offset_of!(kvm_memory_attributes_batch, error_index) == 16);
    assert!(size_of::<kvm_memory_attributes_run>() == 24);
    assert!(size_of::<kvm_memory_attributes_get>() == 80);
    assert!(offset_of!(kvm_memory_attributes_get, nr) == 24);
    assert!(offset_of!(kvm_memory_attributes_get, next) == 40);
};

/// The number of layers of a VM.
pub const KVM_CAP_MEMORY_ATTRIBUTES_LAYERS: c_ulong = 0x6b6d_6103;
/// The most entries of a batch.
pub const KVM_CAP_MEMORY_ATTRIBUTES_BATCH: c_ulong = 0x6b6d_6104;
/// 1 if attributes can be read back.
pub const KVM_CAP_MEMORY_ATTRIBUTES_GET: c_ulong = 0x6b6d_6105;
/// 1 if there is [`set_resumable`].
pub const KVM_CAP_MEMORY_ATTRIBUTES_RESUMABLE: c_ulong = 0x6b6d_6106;

/// In place of a layer: the restrictions of all of them, which is what is enforced.
pub const UNION: u32 = u32::MAX;

/// A flag of `KVM_SET_MEMORY_ATTRIBUTES2`: all addresses.
const WHOLE_LAYER: u64 = 1 << 3;

/// Sets all of a layer to `attributes`; with 0, clears it.
///
/// # Errors
///
/// - `EINVAL`: there is no such layer, it cannot have these attributes, or they are a
///   restriction and there is private memory.
/// - `ENOTTY`: the module was not loaded when the VM was created.
pub fn set_whole_layer(vm: &VmFd, layer: u32, attributes: u64) -> Result<()> {
    let mut attr = kvm_memory_attributes2 {
        attributes,
        flags: WHOLE_LAYER,
        layer,
        ..Default::default()
    };
    // SAFETY: The command reads and writes one such struct, which is valid for the length of
    // the call.
    check(unsafe { ioctl_with_mut_ref(vm, KVM_SET_MEMORY_ATTRIBUTES2, &mut attr) })
}

/// Why a batch had no effect, and the first entry that is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchError {
    /// The errno of the ioctl.
    pub error: Error,
    /// `None` if it is no entry's fault.
    pub entry: Option<usize>,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry {
            Some(entry) => write!(f, "entry {entry} of a batch: {}", self.error),
            None => write!(f, "cannot set a batch: {}", self.error),
        }
    }
}

impl std::error::Error for BatchError {}

/// Sets all entries at once, or none. The most that there can be is what the VM says to
/// [`KVM_CAP_MEMORY_ATTRIBUTES_BATCH`].
///
/// # Errors
///
/// - `EINVAL`: an entry is bad, or there are too many or none.
/// - `EPERM`: an entry sets PRIVATE where a guest_memfd says what is private.
/// - `ENOTTY`: the module was not loaded when the VM was created.
pub fn set_batch(
    vm: &VmFd,
    entries: &[kvm_memory_attributes_entry],
) -> std::result::Result<(), BatchError> {
    let mut batch = kvm_memory_attributes_batch {
        entries: entries.as_ptr() as u64,
        // More than the kernel takes is refused by it, whatever the number.
        nr: u32::try_from(entries.len()).unwrap_or(u32::MAX),
        error_index: u32::MAX,
        ..Default::default()
    };
    // SAFETY: The command reads and writes one such struct, and reads the entries; all are valid
    // for the length of the call.
    let ret = unsafe { ioctl_with_mut_ref(vm, KVM_SET_MEMORY_ATTRIBUTES_BATCH, &mut batch) };
    check(ret).map_err(|error| BatchError {
        error,
        entry: (batch.error_index != u32::MAX).then_some(batch.error_index as usize),
    })
}

/// Reads back the attributes of a range, of a layer or [`UNION`], of a VM or a guest_memfd, as
/// runs that follow each other without gaps.
///
/// # Errors
///
/// - `EINVAL`: the range is bad, or there is no such layer.
/// - `ENOTTY`: the module was not loaded when the VM was created.
pub fn get_runs(
    fd: &impl AsFd,
    start: u64,
    size: u64,
    layer: u32,
) -> Result<Vec<kvm_memory_attributes_run>> {
    const ROOM: usize = 4096;
    let mut all = Vec::new();
    let mut buffer = vec![kvm_memory_attributes_run::default(); ROOM];
    let mut get = kvm_memory_attributes_get {
        start,
        size,
        runs: buffer.as_mut_ptr() as u64,
        layer,
        ..Default::default()
    };
    loop {
        get.nr = ROOM as u32;
        // SAFETY: The command reads and writes one such struct, and writes as many runs as there is
        // room for; all are valid for the length of the call.
        check(unsafe { ioctl_with_mut_ref(&fd.as_fd(), KVM_GET_MEMORY_ATTRIBUTES, &mut get) })?;
        all.extend_from_slice(&buffer[..get.nr as usize]);
        get.size -= get.next - get.start;
        get.start = get.next;
        if get.size == 0 {
            return Ok(all);
        }
    }
}

/// Sets the attributes of a range until a signal comes. Returns what is left of it: an address
/// and a size, 0 if nothing is.
///
/// # Errors
///
/// As [`crate::set_memory_attributes`], and `EINTR` if nothing was set.
pub fn set_resumable(vm: &VmFd, address: u64, size: u64, attributes: u64) -> Result<(u64, u64)> {
    let mut attr = kvm_memory_attributes {
        address,
        size,
        attributes,
        flags: 0,
    };
    // SAFETY: The command reads and writes one such struct, which is valid for the length of
    // the call.
    check(unsafe { ioctl_with_mut_ref(vm, KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, &mut attr) })?;
    Ok((attr.address, attr.size))
}

fn check(ret: i32) -> Result<()> {
    if ret == 0 {
        return Ok(());
    }
    Err(Error::last())
}

#[cfg(test)]
mod tests {
    use super::*;

    // The values that the documentation lists for seccomp filters.
    #[test]
    fn ioctl_numbers() {
        assert_eq!(KVM_SET_MEMORY_ATTRIBUTES_RESUMABLE, 0xc020_aed3);
        assert_eq!(KVM_SET_MEMORY_ATTRIBUTES_BATCH, 0xc038_aef0);
        assert_eq!(KVM_GET_MEMORY_ATTRIBUTES, 0xc050_aef1);
    }
}
