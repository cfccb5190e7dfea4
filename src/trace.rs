// SPDX-License-Identifier: GPL-2.0

//! What is to be seen in a trace, below events/kvm_memattr in tracefs: commands that change
//! attributes, as they were asked for and how they have ended, and mappings that go or stay.

#![deny(unsafe_code)]

use crate::{
    host::{
        gmem::GmemInode,
        trace::{
            self,
            BatchEvent,
            ConvertEvent,
            PagesEvent,
            SetEvent, //
        },
        uapi::PAGE_SHIFT,
    },
    range::GfnRange,
    request::RawRequest2,
    scope::ZapScope,
    vm::Shared, //
};

/// How a command on a range has ended: with 0 or an errno, and at which byte.
pub(crate) type Ended = (i32, u64);

/// A range of a VM's memory, or a whole layer, was to be set by the command `cmd`.
pub(crate) fn set(vm: &Shared, cmd: u32, raw: &RawRequest2, ended: impl FnOnce() -> Ended) {
    trace::set(|| {
        let (ret, at) = ended();
        SetEvent {
            vm: vm.seq as u64,
            gpa: raw.start,
            size: raw.size,
            attributes: raw.attributes,
            flags: raw.flags,
            at,
            cmd,
            layer: raw.layer,
            ret,
        }
    })
}

/// A batch of `nr` entries was to be set. If one is to blame for the failure, `entry` is the first.
pub(crate) fn batch(vm: &Shared, nr: u32, ret: i32, entry: Option<u32>) {
    trace::batch(|| BatchEvent {
        vm: vm.seq as u64,
        nr,
        ret,
        entry: entry.map_or(-1, |entry| entry as i32),
    })
}

/// A range of a guest_memfd was to be converted.
pub(crate) fn convert(inode: &GmemInode, raw: &RawRequest2, ended: impl FnOnce() -> Ended) {
    trace::convert(|| {
        let (ret, at) = ended();
        ConvertEvent {
            ino: inode.number(),
            offset: raw.start,
            size: raw.size,
            attributes: raw.attributes,
            flags: raw.flags,
            at,
            ret,
        }
    })
}

/// Pages of which attributes change lose their mappings. In any context.
pub(crate) fn zap(vm: &Shared, pages: &GfnRange, scope: ZapScope) {
    trace::zap(|| event(vm, pages, scope))
}

/// An invalidation that is about one kind, `scope`, leaves pages of the other kind mapped. In any
/// context.
pub(crate) fn spare(vm: &Shared, pages: &GfnRange, scope: ZapScope) {
    let other = ZapScope {
        only_private: scope.only_shared,
        only_shared: scope.only_private,
    };
    trace::spare(|| event(vm, pages, other))
}

fn event(vm: &Shared, pages: &GfnRange, scope: ZapScope) -> PagesEvent {
    PagesEvent {
        vm: vm.seq as u64,
        gpa: pages.start().raw() << PAGE_SHIFT,
        size: pages.nr_pages() << PAGE_SHIFT,
        only_private: scope.only_private,
        only_shared: scope.only_shared,
    }
}
