// SPDX-License-Identifier: GPL-2.0

//! What an operator can look at, below /sys/kernel/debug/kvm_memattr.
//!
//! `stats` has the totals since the module was loaded. A VM has a folder `vm-PID-SEQ`, after the
//! process that made it and the number of VMs made until then, with its own `stats`, and `runs`: a
//! line for each run of pages with attributes, with the guest physical address and the size in bytes,
//! the attribute word, and the names of the attributes. The listing isn't atomic with regard to
//! changes that are made meanwhile.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::{
        debugfs_root,
        gfn::Gfn,
        vm::PAGE_SHIFT, //
    },
    range::GfnRange,
    runs::Runs,
    stats::{
        Totals,
        TOTALS, //
    },
    vm::Shared,
};
use kernel::{
    debugfs::{
        Dir,
        File, //
    },
    fmt,
    prelude::*,
    str::CString,
    sync::Arc, //
};

/// The module's folder, with its own files.
#[pin_data]
pub(crate) struct ModuleFiles {
    #[pin]
    stats: File<&'static Totals>,
    _root: Root,
}

/// Keeps the folder where VMs find it.
struct Root;

impl Drop for Root {
    fn drop(&mut self) {
        debugfs_root::set(None);
    }
}

impl ModuleFiles {
    /// Makes the module's folder and its files.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        let root = Dir::new(c"kvm_memattr");
        debugfs_root::set(Some(root.clone()));

        pin_init::pin_init_scope(move || {
            Ok(try_pin_init!(Self {
                stats <- root.read_callback_file(c"stats", &TOTALS, &|totals, f| {
                    write!(f, "{totals}")
                }),
                _root: Root,
            }))
        })
    }
}

/// The folder of a VM, with its files.
#[pin_data]
pub(crate) struct VmFiles {
    #[pin]
    runs: File<Arc<Shared>>,
    #[pin]
    stats: File<Arc<Shared>>,
}

impl VmFiles {
    /// Makes the folder of a VM that the current process is creating, and the files in it.
    pub(crate) fn new(shared: Arc<Shared>, seq: i64) -> impl PinInit<Self, Error> {
        pin_init::pin_init_scope(move || {
            let name = CString::try_from_fmt(fmt!("vm-{}-{}", current!().tgid(), seq))?;
            let dir = debugfs_root::get().map_or_else(|| Dir::new(&name), |d| d.subdir(&name));

            Ok(try_pin_init!(Self {
                runs <- dir.read_callback_file(c"runs", shared.clone(), &|vm, f| {
                    show_runs(vm, f)
                }),
                stats <- dir.read_callback_file(c"stats", shared, &|vm, f| {
                    write!(f, "{}", vm.stats)
                }),
            }? Error))
        })
    }
}

fn show_runs(vm: &Shared, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let end = Gfn::new(u64::MAX >> PAGE_SHIFT);
    let Some(all) = GfnRange::new(Gfn::new(0), end) else {
        return Ok(());
    };
    for run in vm.store.runs(&all).filter(|run| run.attrs != Attrs::NONE) {
        let start = run.range.start().raw() << PAGE_SHIFT;
        let size = run.range.nr_pages() << PAGE_SHIFT;
        writeln!(
            f,
            "{start:#018x} {size:#x} {:#x} {}",
            run.attrs.raw(),
            run.attrs
        )?;
    }
    Ok(())
}
