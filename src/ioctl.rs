// SPDX-License-Identifier: GPL-2.0

//! Which command on which fd: copy in, check, do, copy out. Errnos are chosen here.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    batch::{
        self,
        Batch, //
    },
    conversion,
    gmem::Gmem,
    host::{
        gfn::{
            Gfn,
            PageNumber, //
        },
        gmem::GmemInode,
        provider::VmRef,
        sched::cond_resched,
        uapi::{
            self,
            KvmMemoryAttributes,
            KvmMemoryAttributes2,
            KvmMemoryAttributesBatch,
            KvmMemoryAttributesEntry,
            KvmMemoryAttributesGet,
            KvmMemoryAttributesRun,
            ERROR_INDEX,
            ERROR_OFFSET,
            PAGE_SHIFT, //
        },
    },
    policy::{
        Direction,
        Policies,
        Policy, //
    },
    readback::{
        self,
        AttrsRun, //
    },
    request::{
        self,
        ConvertRequest,
        GetRequest,
        RawEntry,
        RawGet,
        RawRequest,
        RawRequest2,
        Rejection,
        SetRequest, //
    },
    runs::{
        Runs,
        Unhurried, //
    },
    scope::VmType,
    trace,
    transaction::{
        self,
        BatchFailure,
        Failure, //
    },
    vm::{
        show,
        supported, //
    },
    word::Layer,
};
use kernel::{
    prelude::*,
    transmute::AsBytes,
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
const _: () = assert!(request::WHOLE_LAYER == uapi::WHOLE_LAYER);
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
            | Rejection::Layer
            | Rejection::Mask
            | Rejection::WholeLayer
            | Rejection::Number
            | Rejection::OutsideFile => EINVAL,
            Rejection::Policy => EOPNOTSUPP,
        }
    }
}

/// Handles a VM ioctl. `None` if it's none of the module's.
pub(crate) fn vm_ioctl(vm: &VmRef<'_>, cmd: u32, arg: usize) -> Option<Result<i32>> {
    let arg = UserPtr::from_addr(arg);
    let done = match cmd {
        uapi::SET_MEMORY_ATTRIBUTES => set(vm, arg),
        uapi::SET_MEMORY_ATTRIBUTES2 => set2(vm, arg),
        uapi::SET_MEMORY_ATTRIBUTES_RESUMABLE => set_resumable(vm, arg),
        uapi::SET_MEMORY_ATTRIBUTES_BATCH => set_batch(vm, arg),
        uapi::GET_MEMORY_ATTRIBUTES => get(vm, arg),
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
        uapi::GET_MEMORY_ATTRIBUTES => get_of_gmem(inode, gmem, arg),
        uapi::GET_SUPPORTED_MEMORY_ATTRIBUTES => get_supported(gmem.supported(), arg),
        _ => return None,
    };
    Some(done.map(|()| 0))
}

/// Answers KVM_CHECK_EXTENSION, on a VM or, without one, on /dev/kvm. `None` if the capability is
/// none of the module's.
pub(crate) fn check_extension(vm: Option<&VmRef<'_>>, ext: usize) -> Option<i32> {
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
        uapi::CAP_MEMORY_ATTRIBUTES_LAYERS => Layer::NR.into(),
        uapi::CAP_MEMORY_ATTRIBUTES_BATCH => batch::MOST.into(),
        uapi::CAP_MEMORY_ATTRIBUTES_GET
        | uapi::CAP_MEMORY_ATTRIBUTES_RESUMABLE
        | uapi::CAP_MEMORY_FAULT_ACCESS => 1,
        _ => return None,
    };
    Some(answer as i32)
}

/// Why a command on a range is refused, and the first byte that's to blame, if it has one that is.
struct Refusal {
    error: Error,
    at: Option<u64>,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self {
            error: rejection.into(),
            at: None,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, at: None }
    }
}

impl<P: PageNumber> From<Failure<P>> for Refusal {
    fn from(failure: Failure<P>) -> Self {
        Self {
            error: failure.error,
            at: Some(failure.at.raw() << PAGE_SHIFT),
        }
    }
}

impl Refusal {
    /// Says where, and fails.
    fn tell(self, arg: UserPtr) -> Result {
        if let Some(at) = self.at {
            write_back(arg, ERROR_OFFSET, &at)?;
        }
        Err(self.error)
    }
}

/// How a command on a range that begins at `start` has ended, for who traces.
fn ended(done: &Result<u64, Refusal>, start: u64) -> trace::Ended {
    match done {
        Ok(end) => (0, *end),
        Err(refusal) => (refusal.error.to_errno(), refusal.at.unwrap_or(start)),
    }
}

/// Checks a request on the base layer and makes it.
fn set_base(
    vm: &VmRef<'_>,
    cmd: u32,
    raw: RawRequest,
    set: impl FnOnce(&SetRequest) -> Result<Gfn, Refusal>,
) -> Result<u64> {
    let done = SetRequest::check(raw, supported(vm))
        .map_err(Refusal::from)
        .and_then(|request| Ok(set(&request)?.raw() << PAGE_SHIFT));
    let shared = vm.state.shared();
    trace::set(shared, cmd, &raw.into(), || ended(&done, raw.address));
    done.map_err(|refusal| refusal.error)
}

fn set(vm: &VmRef<'_>, arg: UserPtr) -> Result {
    let set = |request: &_| Ok(transaction::set(vm, request)?);
    set_base(vm, uapi::SET_MEMORY_ATTRIBUTES, read(arg)?, set).map(|_| ())
}

fn set_resumable(vm: &VmRef<'_>, arg: UserPtr) -> Result {
    let raw = read(arg)?;
    let write = |address: u64, size: u64| write_back(arg, 0, &[address, size]);
    let next = set_base(vm, uapi::SET_MEMORY_ATTRIBUTES_RESUMABLE, raw, |request| {
        // Where that isn't possible, it's better to know before anything is set.
        write(raw.address, raw.size)?;
        Ok(transaction::set_resumable(vm, request)?)
    })?;
    write(next, raw.address + raw.size - next)
}

fn read(arg: UserPtr) -> Result<RawRequest> {
    let mut reader = UserSlice::new(arg, size_of::<KvmMemoryAttributes>()).reader();
    let [address, size, attributes, flags] = reader.read::<KvmMemoryAttributes>()?;
    Ok(RawRequest {
        address,
        size,
        attributes,
        flags,
    })
}

fn set2(vm: &VmRef<'_>, arg: UserPtr) -> Result {
    let raw = read2(arg)?;
    let done = SetRequest::check2(raw, supported(vm))
        .map_err(|rejection| Refusal {
            at: (rejection == Rejection::Policy).then_some(raw.start),
            ..rejection.into()
        })
        .and_then(|request| Ok(transaction::set(vm, &request)?.raw() << PAGE_SHIFT));
    let (shared, cmd) = (vm.state.shared(), uapi::SET_MEMORY_ATTRIBUTES2);
    trace::set(shared, cmd, &raw, || ended(&done, raw.start));
    done.map(|_| ()).or_else(|refusal| refusal.tell(arg))
}

fn convert(inode: &GmemInode, gmem: &Gmem, arg: UserPtr) -> Result {
    let raw = read2(arg)?;
    let done = ConvertRequest::check(raw, gmem.known(), inode.size())
        .map_err(Refusal::from)
        .and_then(|request| {
            conversion::convert(inode, gmem, &request)?;
            Ok(request.range().end().raw() << PAGE_SHIFT)
        });
    trace::convert(inode, &raw, || ended(&done, raw.start));
    done.map(|_| ()).or_else(|refusal| refusal.tell(arg))
}

fn read2(arg: UserPtr) -> Result<RawRequest2> {
    let mut reader = UserSlice::new(arg, size_of::<KvmMemoryAttributes2>()).reader();
    let [start, size, attributes, flags, _error_offset, layer_and_pad, reserved @ ..] =
        reader.read::<KvmMemoryAttributes2>()?;
    let (layer, pad) = uapi::halves(layer_and_pad);
    Ok(RawRequest2 {
        start,
        size,
        attributes,
        flags,
        layer,
        zero: all_of(&reserved) | u64::from(pad),
    })
}

/// All bits that are set in any of what must be zero.
fn all_of(reserved: &[u64]) -> u64 {
    reserved.iter().fold(0, |all, word| all | word)
}

fn set_batch(vm: &VmRef<'_>, arg: UserPtr) -> Result {
    let mut reader = UserSlice::new(arg, size_of::<KvmMemoryAttributesBatch>()).reader();
    let [entries, nr_and_flags, index_and_pad, reserved @ ..] =
        reader.read::<KvmMemoryAttributesBatch>()?;
    let (nr, flags) = uapi::halves(nr_and_flags);
    let (_error_index, pad) = uapi::halves(index_and_pad);
    let done = if all_of(&reserved) | u64::from(pad) | u64::from(flags) != 0 {
        Err(Rejection::Reserved.into())
    } else if nr == 0 || nr > batch::MOST {
        Err(Rejection::Number.into())
    } else {
        set_entries(vm, entries, nr)
    };
    let (ret, entry) = match &done {
        Ok(()) => (0, None),
        Err(failure) => (failure.error.to_errno(), failure.entry),
    };
    trace::batch(vm.state.shared(), nr, ret, entry);
    done.or_else(|failure| {
        if let Some(entry) = failure.entry {
            write_back(arg, ERROR_INDEX, &entry)?;
        }
        Err(failure.error)
    })
}

fn set_entries(vm: &VmRef<'_>, entries: u64, nr: u32) -> Result<(), BatchFailure> {
    let size = size_of::<KvmMemoryAttributesEntry>() * nr as usize;
    let mut reader = UserSlice::new(UserPtr::from_addr(entries as usize), size).reader();
    let supported = supported(vm);
    let mut batch = Batch::new(nr)?;
    for entry in 0..nr {
        let [address, size, attributes, mask, layer_and_pad] =
            reader.read::<KvmMemoryAttributesEntry>()?;
        let (layer, pad) = uapi::halves(layer_and_pad);
        let raw = RawEntry {
            address,
            size,
            attributes,
            mask,
            layer,
            pad,
        };
        if let Err(rejection) = batch.push(raw, supported) {
            return Err(BatchFailure {
                error: rejection.into(),
                entry: Some(entry),
            });
        }
    }
    transaction::set_batch(vm, &batch)
}

fn get(vm: &VmRef<'_>, arg: UserPtr) -> Result {
    let raw = read_get(arg)?;
    let request = GetRequest::check(raw)?;
    let answer = Answer::new(&request)?;
    let slots = vm.kvm.lock_slots();
    let answer = answer.read(&vm.state.shared().store);
    drop(slots);
    answer.write(arg, raw)
}

fn get_of_gmem(inode: &GmemInode, gmem: &Gmem, arg: UserPtr) -> Result {
    let raw = read_get(arg)?;
    let request = GetRequest::check_file(raw, inode.size())?;
    let answer = Answer::new(&request)?;
    let guard = inode.lock();
    let answer = answer.read(&gmem.store);
    drop(guard);
    answer.write(arg, raw)
}

fn read_get(arg: UserPtr) -> Result<RawGet> {
    let mut reader = UserSlice::new(arg, size_of::<KvmMemoryAttributesGet>()).reader();
    let [start, size, runs, nr_and_layer, flags, _next, reserved @ ..] =
        reader.read::<KvmMemoryAttributesGet>()?;
    let (nr, layer) = uapi::halves(nr_and_layer);
    Ok(RawGet {
        start,
        size,
        runs,
        nr,
        layer,
        flags,
        zero: all_of(&reserved),
    })
}

/// What is answered to KVM_GET_MEMORY_ATTRIBUTES. As userspace's memory may take long, it's written
/// to when the lock that keeps the attributes has been dropped.
struct Answer<P> {
    request: GetRequest<P>,
    runs: KVVec<AttrsRun<P>>,
    next: P,
}

impl<P: PageNumber> Answer<P> {
    fn new(request: &GetRequest<P>) -> Result<Self> {
        let room = (request.room() as usize).min(readback::MOST);
        Ok(Self {
            request: *request,
            runs: KVVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?,
            next: request.range().start(),
        })
    }

    /// The caller must hold the lock of whoever changes what's `stored`.
    fn read(mut self, stored: &impl Runs<P>) -> Self {
        let (range, layers) = (self.request.range(), self.request.layers());
        let stored = Unhurried(stored, cond_resched);
        self.next = readback::read(&stored, range, layers, &mut self.runs);
        self
    }

    fn write(self, arg: UserPtr, raw: RawGet) -> Result {
        let size = size_of::<KvmMemoryAttributesRun>() * self.runs.len();
        let mut runs = UserSlice::new(UserPtr::from_addr(raw.runs as usize), size).writer();
        for AttrsRun { range, attrs } in &self.runs {
            let run: KvmMemoryAttributesRun = [
                range.start().raw() << PAGE_SHIFT,
                range.nr_pages() << PAGE_SHIFT,
                attrs.raw(),
            ];
            runs.write(&run)?;
        }
        let answer = [
            uapi::word_of(self.runs.len() as u32, raw.layer),
            raw.flags,
            self.next.raw() << PAGE_SHIFT,
        ];
        write_back(arg, uapi::GET_ANSWER, &answer)
    }
}

fn get_supported(supported: Attrs, arg: UserPtr) -> Result {
    write_back(arg, 0, &supported.raw())
}

/// Writes to what userspace has passed, `offset` bytes in it.
fn write_back<T: AsBytes>(arg: UserPtr, offset: usize, value: &T) -> Result {
    UserSlice::new(arg.wrapping_byte_add(offset), size_of_val(value))
        .writer()
        .write(value)
}
