// SPDX-License-Identifier: GPL-2.0

//! Which command on which fd: copy in, check, do, copy out. Errnos are chosen here.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::{
        provider::VmRef,
        uapi::{
            self,
            KvmMemoryAttributes, //
        },
    },
    request::{
        self,
        RawRequest,
        Rejection,
        SetRequest, //
    },
    transaction,
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

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Flags
            | Rejection::UnsupportedAttributes
            | Rejection::InvalidCombination
            | Rejection::Empty
            | Rejection::Wraps
            | Rejection::Unaligned => EINVAL,
        }
    }
}

/// Handles a VM ioctl. `None` if it's none of the module's.
pub(crate) fn vm_ioctl(vm: &VmRef<'_, Vm>, cmd: u32, arg: usize) -> Option<Result<i32>> {
    let arg = UserPtr::from_addr(arg);
    let done = match cmd {
        uapi::SET_MEMORY_ATTRIBUTES => set(vm, arg),
        uapi::GET_SUPPORTED_MEMORY_ATTRIBUTES => get_supported(vm, arg),
        _ => return None,
    };
    show(vm);
    Some(done.map(|()| 0))
}

/// Answers KVM_CHECK_EXTENSION, on a VM or, without one, on /dev/kvm. `None` if the capability is
/// none of the module's.
pub(crate) fn check_extension(vm: Option<&VmRef<'_, Vm>>, ext: usize) -> Option<i32> {
    match ext {
        uapi::CAP_MEMORY_ATTRIBUTES => {
            Some(vm.map_or(Attrs::supported(None), supported).raw() as i32)
        }
        uapi::CAP_MEMORY_FAULT_ACCESS => Some(1),
        _ => None,
    }
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
    transaction::set(vm, &SetRequest::check(raw, supported(vm))?)
}

fn get_supported(vm: &VmRef<'_, Vm>, arg: UserPtr) -> Result {
    let mask = supported(vm).raw();
    UserSlice::new(arg, size_of_val(&mask))
        .writer()
        .write(&mask)
}
