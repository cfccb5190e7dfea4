// SPDX-License-Identifier: GPL-2.0

//! Which command on which fd: copy in, check, do, copy out. Errnos are chosen here.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    conversion,
    gmem::Gmem,
    host::{
        gfn::PageNumber,
        gmem::GmemInode,
        provider::VmRef,
        uapi::{
            self,
            KvmMemoryAttributes,
            KvmMemoryAttributes2,
            ERROR_OFFSET,
            PAGE_SHIFT, //
        },
    },
    policy::{
        Direction,
        Policies,
        Policy, //
    },
    request::{
        self,
        ConvertRequest,
        RawRequest,
        RawRequest2,
        Rejection,
        SetRequest, //
    },
    scope::VmType,
    transaction::{
        self,
        Failure, //
    },
    vm::{
        show,
        supported,
        Vm, //
    },
};
use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

// What the sources that use only `core` say themselves.
const _: () = assert!(request::PAGE_SHIFT == uapi::PAGE_SHIFT);
const _: () = assert!(Attrs::NR.raw() == uapi::MEMORY_ATTRIBUTE_NR);
const _: () = assert!(Attrs::NW.raw() == uapi::MEMORY_ATTRIBUTE_NW);
const _: () = assert!(Attrs::NX.raw() == uapi::MEMORY_ATTRIBUTE_NX);
const _: () = assert!(Attrs::PRIVATE.raw() == uapi::MEMORY_ATTRIBUTE_PRIVATE);
const _: () = assert!(Policies::of(Policy::Zero).raw() == uapi::POLICY_ZERO);
const _: () = assert!(Policies::of(Policy::Preserve).raw() == uapi::POLICY_PRESERVE);
const _: () = assert!(Policies::of(Policy::None).raw() == uapi::POLICY_NONE);

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Flags
            | Rejection::UnsupportedAttributes
            | Rejection::InvalidCombination
            | Rejection::Empty
            | Rejection::Wraps
            | Rejection::Unaligned
            | Rejection::Reserved
            | Rejection::OutsideFile => EINVAL,
            Rejection::Policy => EOPNOTSUPP,
        }
    }
}

/// Handles a VM ioctl. `None` if it's none of the module's.
pub(crate) fn vm_ioctl(vm: &VmRef<'_, Vm>, cmd: u32, arg: usize) -> Option<Result<i32>> {
    let arg = UserPtr::from_addr(arg);
    let done = match cmd {
        uapi::SET_MEMORY_ATTRIBUTES => set(vm, arg),
        uapi::SET_MEMORY_ATTRIBUTES2 => set2(vm, arg),
        uapi::GET_SUPPORTED_MEMORY_ATTRIBUTES => get_supported(supported(vm), arg),
        _ => return None,
    };
    show(vm);
    Some(done.map(|()| 0))
}

/// Handles an ioctl on a guest_memfd. `None` if it's none of the module's.
pub(crate) fn gmem_ioctl(
    inode: &GmemInode,
    gmem: &Gmem,
    cmd: u32,
    arg: usize,
) -> Option<Result<i32>> {
    let arg = UserPtr::from_addr(arg);
    let done = match cmd {
        uapi::SET_MEMORY_ATTRIBUTES2 => convert(inode, gmem, arg),
        uapi::GET_SUPPORTED_MEMORY_ATTRIBUTES => get_supported(gmem.supported(), arg),
        _ => return None,
    };
    Some(done.map(|()| 0))
}

/// Answers KVM_CHECK_EXTENSION, on a VM or, without one, on /dev/kvm. `None` if the capability is
/// none of the module's.
pub(crate) fn check_extension(vm: Option<&VmRef<'_, Vm>>, ext: usize) -> Option<i32> {
    let attrs = || vm.map_or(Attrs::supported(None), supported);
    let vm_type = || vm.map_or(VmType::SwProtected, |vm| vm.kvm.vm_type().into());
    let answer = match ext {
        uapi::CAP_MEMORY_ATTRIBUTES | uapi::CAP_MEMORY_ATTRIBUTES2 => attrs().raw(),
        uapi::CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES => {
            match Policies::promised(vm_type(), Direction::ToPrivate) {
                Some(_) => Attrs::PRIVATE.raw(),
                None => Attrs::NONE.raw(),
            }
        }
        uapi::CAP_MEMORY_ATTRIBUTES2_FLAGS => Policies::promised_at_all(vm_type()).raw(),
        uapi::CAP_MEMORY_FAULT_ACCESS => 1,
        _ => return None,
    };
    Some(answer as i32)
}

fn set(vm: &VmRef<'_, Vm>, arg: UserPtr) -> Result {
    let mut reader = UserSlice::new(arg, size_of::<KvmMemoryAttributes>()).reader();
    let [address, size, attributes, flags] = reader.read::<KvmMemoryAttributes>()?;
    let raw = RawRequest {
        address,
        size,
        attributes,
        flags,
    };
    let request = SetRequest::check(raw, supported(vm))?;
    transaction::set(vm, &request).map_err(|failure| failure.error)
}

fn set2(vm: &VmRef<'_, Vm>, arg: UserPtr) -> Result {
    let raw = read2(arg)?;
    match SetRequest::check2(raw, supported(vm)) {
        Ok(request) => transaction::set(vm, &request).or_else(|failure| fail(arg, failure)),
        Err(Rejection::Policy) => fail_at(arg, Rejection::Policy.into(), raw.start),
        Err(rejection) => Err(rejection.into()),
    }
}

fn convert(inode: &GmemInode, gmem: &Gmem, arg: UserPtr) -> Result {
    let request = ConvertRequest::check(read2(arg)?, gmem.known(), inode.size())?;
    conversion::convert(inode, gmem, &request).or_else(|failure| fail(arg, failure))
}

fn read2(arg: UserPtr) -> Result<RawRequest2> {
    let mut reader = UserSlice::new(arg, size_of::<KvmMemoryAttributes2>()).reader();
    let [start, size, attributes, flags, _error_offset, zero @ ..] =
        reader.read::<KvmMemoryAttributes2>()?;
    Ok(RawRequest2 {
        start,
        size,
        attributes,
        flags,
        zero: zero.into_iter().fold(0, |all, word| all | word),
    })
}

fn fail<P: PageNumber>(arg: UserPtr, failure: Failure<P>) -> Result {
    fail_at(arg, failure.error, failure.at.raw() << PAGE_SHIFT)
}

/// Says where a request has failed, and fails.
fn fail_at(arg: UserPtr, error: Error, at: u64) -> Result {
    let field = arg.wrapping_byte_add(ERROR_OFFSET);
    UserSlice::new(field, size_of_val(&at))
        .writer()
        .write(&at)?;
    Err(error)
}

fn get_supported(supported: Attrs, arg: UserPtr) -> Result {
    let mask = supported.raw();
    UserSlice::new(arg, size_of_val(&mask))
        .writer()
        .write(&mask)
}
