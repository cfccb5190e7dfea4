// SPDX-License-Identifier: GPL-2.0

//! Conversions of a guest_memfd's memory, in place.

use std::ffi::{c_uint, c_ulong};
use std::fmt;
use std::mem::{offset_of, size_of};
use std::os::fd::AsFd;

use kvm_bindings::KVMIO;
use kvm_ioctls::Error;
use vmm_sys_util::ioctl::{ioctl_expr, ioctl_with_mut_ref, _IOC_READ, _IOC_WRITE};

use crate::{Result, ATTRIBUTE_PRIVATE, KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES, PAGE_SIZE};

/// `struct kvm_memory_attributes2`, the argument of [`KVM_SET_MEMORY_ATTRIBUTES2`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub struct kvm_memory_attributes2 {
    /// The first byte: an offset in the file on a guest_memfd, a guest physical
    /// address (the C struct calls it `address`) on a VM.
    pub offset: u64,
    /// How many bytes.
    pub size: u64,
    /// The new attributes of each page.
    pub attributes: u64,
    /// A content policy, on a guest_memfd. On a VM 0, or the flag of all addresses.
    pub flags: u64,
    /// Out: where the request has failed.
    pub error_offset: u64,
    /// The layer, on a VM. Must be 0 on a guest_memfd.
    pub layer: u32,
    /// Must be 0.
    pub pad: u32,
    /// Must be 0.
    pub reserved: [u64; 10],
}

/// The command's number, as a VMM's seccomp filter has it. In [`convert`].
pub const KVM_SET_MEMORY_ATTRIBUTES2: c_ulong = ioctl_expr(
    _IOC_READ | _IOC_WRITE,
    KVMIO,
    0xd2,
    size_of::<kvm_memory_attributes2>() as c_uint,
);

// What the kernel reads and writes: the layout is part of the interface.
const _: () = {
    assert!(size_of::<kvm_memory_attributes2>() == 128);
    assert!(offset_of!(kvm_memory_attributes2, offset) == 0);
    assert!(offset_of!(kvm_memory_attributes2, size) == 8);
    assert!(offset_of!(kvm_memory_attributes2, attributes) == 16);
    assert!(offset_of!(kvm_memory_attributes2, flags) == 24);
    assert!(offset_of!(kvm_memory_attributes2, error_offset) == 32);
    assert!(offset_of!(kvm_memory_attributes2, layer) == 40);
    assert!(offset_of!(kvm_memory_attributes2, pad) == 44);
    assert!(offset_of!(kvm_memory_attributes2, reserved) == 48);
};

/// The attributes that `KVM_SET_MEMORY_ATTRIBUTES2` takes on a VM.
pub const KVM_CAP_MEMORY_ATTRIBUTES2: c_ulong = 0x6b6d_6100;
/// The attributes that `KVM_SET_MEMORY_ATTRIBUTES2` takes on the guest_memfds of a VM.
pub const KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES: c_ulong = 0x6b6d_6101;
/// The content policies that the guest_memfds of a VM can be converted with.
pub const KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS: c_ulong = 0x6b6d_6102;

/// Which side pages change to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The guest's alone.
    Private,
    /// Within reach of whoever maps the file.
    Shared,
}

/// What becomes of the contents of pages that change sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentPolicy {
    /// What the module was loaded with: [`Self::Zero`] where that can be promised and
    /// [`Self::None`] elsewhere, unless it was told otherwise.
    #[default]
    Default,
    /// They read as zeros.
    Zero,
    /// They stay.
    Preserve,
    /// Nothing is promised.
    None,
}

impl ContentPolicy {
    /// The flag of `KVM_SET_MEMORY_ATTRIBUTES2`, and of
    /// [`KVM_CAP_MEMORY_ATTRIBUTES2_FLAGS`].
    pub const fn flag(self) -> u64 {
        match self {
            Self::Default => 0,
            Self::Zero => 1 << 0,
            Self::Preserve => 1 << 1,
            Self::None => 1 << 2,
        }
    }
}

/// Why memory was not converted, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvertError {
    /// The errno of the ioctl.
    pub error: Error,
    /// The offset of the first page that the request did not cover. `None` if the request
    /// was refused before any page was looked at.
    pub at: Option<u64>,
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "cannot convert memory at {at:#x}: {}", self.error),
            None => write!(f, "cannot convert memory: {}", self.error),
        }
    }
}

impl std::error::Error for ConvertError {}

/// In `error_offset` before a call. No page begins there.
const UNWRITTEN: u64 = u64::MAX;
const _: () = assert!(UNWRITTEN % PAGE_SIZE != 0);

/// The attributes that can be set on this guest_memfd
/// (`KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES`): [`ATTRIBUTE_PRIVATE`] if its memory can be
/// converted in place, both ways.
///
/// # Errors
///
/// - `ENOTTY`: the module was not loaded when the VM of the file was created.
/// - `EIO`: the VM is dead.
pub fn get_supported_gmem_attributes(gmem: &impl AsFd) -> Result<u64> {
    let mut mask = 0u64;

    // SAFETY: On each kind of KVM's files that knows this command it writes one u64
    // through the pointer, which is valid for the length of the call.
    let ret = unsafe {
        ioctl_with_mut_ref(
            &gmem.as_fd(),
            KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES,
            &mut mask,
        )
    };
    if ret == 0 {
        Ok(mask)
    } else {
        Err(Error::last())
    }
}

/// Converts `size` bytes of a guest_memfd from `offset` on, in place
/// (`KVM_SET_MEMORY_ATTRIBUTES2` on a guest_memfd).
///
/// Both are in bytes and multiples of [`PAGE_SIZE`]. Pages that are in that state already
/// are left alone. Userspace gets `SIGBUS` for pages that have become private.
///
/// # Errors
///
/// All of them but `EINTR` leave state and contents as they were.
///
/// - `EINTR`: a signal; what is before [`ConvertError::at`] is converted. Go on from there,
///   or repeat the call.
/// - `EAGAIN`: the page at [`ConvertError::at`] is to become private and somebody has a
///   reference to it, such as a pin for DMA. Have it dropped and repeat the call.
/// - `EHWPOISON`: the page at [`ConvertError::at`] has a memory error.
/// - `EOPNOTSUPP`: this type of VM does not have the policy in this direction.
/// - `EPERM`: it is not the file that says what is private, but the VM.
/// - `ENOMEM`: out of memory.
/// - `EINVAL`: `offset` or `size` is not a multiple of a page, `size` is 0, the range is not
///   all in the file, or it is to be private and the VM has no private memory.
/// - `ENOTTY`: the module was not loaded when the VM of the file was created.
/// - `EIO`: the VM is dead.
///
/// # Examples
///
/// ```no_run
/// use std::fs::File;
/// use kvm_memattr::{convert, ContentPolicy, ConvertError, State};
///
/// /// All of a range, however many signals there are.
/// fn share(gmem: &File, mut offset: u64, end: u64) -> Result<(), ConvertError> {
///     while let Err(failure) = convert(
///         gmem,
///         offset,
///         end - offset,
///         State::Shared,
///         ContentPolicy::Preserve,
///     ) {
///         match failure.at {
///             Some(at) if failure.error.errno() == libc::EINTR => offset = at,
///             _ => return Err(failure),
///         }
///     }
///     Ok(())
/// }
/// ```
pub fn convert(
    gmem: &impl AsFd,
    offset: u64,
    size: u64,
    state: State,
    policy: ContentPolicy,
) -> std::result::Result<(), ConvertError> {
    let mut attr = request(offset, size, state, policy);

    // SAFETY: On each kind of KVM's files that knows this command it reads and writes one
    // such struct, which is valid for the length of the call. What it does to the file's
    // memory, a guest could do as well: whoever has mapped it bears that.
    let ret = unsafe { ioctl_with_mut_ref(&gmem.as_fd(), KVM_SET_MEMORY_ATTRIBUTES2, &mut attr) };
    if ret == 0 {
        return Ok(());
    }
    Err(ConvertError {
        error: Error::last(),
        at: written(&attr),
    })
}

fn request(offset: u64, size: u64, state: State, policy: ContentPolicy) -> kvm_memory_attributes2 {
    kvm_memory_attributes2 {
        offset,
        size,
        attributes: match state {
            State::Private => ATTRIBUTE_PRIVATE,
            State::Shared => 0,
        },
        flags: policy.flag(),
        error_offset: UNWRITTEN,
        ..Default::default()
    }
}

fn written(attr: &kvm_memory_attributes2) -> Option<u64> {
    (attr.error_offset != UNWRITTEN).then_some(attr.error_offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The value that the documentation lists for seccomp filters.
    #[test]
    fn ioctl_number() {
        assert_eq!(KVM_SET_MEMORY_ATTRIBUTES2, 0xc080_aed2);
    }

    #[test]
    fn flags_are_those_of_the_uapi() {
        assert_eq!(ContentPolicy::default().flag(), 0);
        assert_eq!(ContentPolicy::Zero.flag(), 1);
        assert_eq!(ContentPolicy::Preserve.flag(), 2);
        assert_eq!(ContentPolicy::None.flag(), 4);
    }

    #[test]
    fn requests_are_filled_in() {
        let attr = request(0x1000, 0x2000, State::Private, ContentPolicy::Preserve);
        assert_eq!((attr.offset, attr.size), (0x1000, 0x2000));
        assert_eq!((attr.attributes, attr.flags), (8, 2));
        assert_eq!((attr.layer, attr.pad, attr.reserved), (0, 0, [0; 10]));

        let attr = request(0, 0x1000, State::Shared, ContentPolicy::Default);
        assert_eq!((attr.attributes, attr.flags), (0, 0));
    }

    #[test]
    fn where_it_failed_is_told_if_it_was_written() {
        let mut attr = request(0, 0x1000, State::Shared, ContentPolicy::Zero);
        assert_eq!(written(&attr), None);
        attr.error_offset = 0;
        assert_eq!(written(&attr), Some(0));
    }

    // What is no guest_memfd does not know the command.
    #[test]
    fn other_files_are_enotty() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let failure = convert(&file, 0, PAGE_SIZE, State::Shared, ContentPolicy::Zero);
        let failure = failure.unwrap_err();

        assert_eq!(failure.error.errno(), libc::ENOTTY);
        assert_eq!(failure.at, None);
        assert_eq!(
            get_supported_gmem_attributes(&file).unwrap_err().errno(),
            libc::ENOTTY
        );
    }

    #[test]
    fn failures_say_where() {
        let error = Error::new(libc::EAGAIN);
        let text = ConvertError {
            error,
            at: Some(0x3000),
        };
        assert!(text
            .to_string()
            .starts_with("cannot convert memory at 0x3000: "));
        let text = ConvertError { error, at: None };
        assert!(text.to_string().starts_with("cannot convert memory: "));
    }
}
