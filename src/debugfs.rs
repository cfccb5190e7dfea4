// SPDX-License-Identifier: GPL-2.0

//! What an operator can look at, below /sys/kernel/debug/kvm_memattr.
//!
//! `stats` has the totals since the module was loaded. A VM has a folder `vm-PID-SEQ`, after its
//! process and the number of VMs made until it was, with its own `stats`, and `runs`: a
//! line for each run of pages with attributes, with the guest physical address and the size in bytes,
//! the attributes that are enforced as a number and by name, and where layers other than the base
//! layer have a part in that, the attributes of each layer, `LAYER:NAMES`. The listing isn't atomic with regard to
//! changes that are made meanwhile.

#![deny(unsafe_code)]

use crate::{
    host::{
        debugfs::Folder,
        gfn::Gfn,
        sched::cond_resched,
        uapi::PAGE_SHIFT, //
    },
    range::GfnRange,
    runs::{
        Runs,
        Unhurried, //
    },
    stats::{
        Totals,
        TOTALS, //
    },
    vm::Shared,
    word::Word,
    KvmMemattr, //
};
use core::fmt;
use kernel::{
    prelude::*,
    str::CString,
    sync::Arc, //
};

/// The module's folder.
const ROOT: &CStr = c"kvm_memattr";

/// Makes the module's folder.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn module_folder() -> Result<Folder<&'static Totals>> {
    let totals = Arc::new(&TOTALS, GFP_KERNEL)?;
    Folder::new::<KvmMemattr>(ROOT, None, totals, &[(c"stats", |t, w| write!(w, "{t}"))])
}

/// Makes the folder of a VM of the current process.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn vm_folder(shared: Arc<Shared>) -> Result<Folder<Shared>> {
    let name = CString::try_from_fmt(fmt!("vm-{}-{}", current!().tgid(), shared.seq))?;
    Folder::new::<KvmMemattr>(
        &name,
        Some(ROOT),
        shared,
        &[(c"runs", show_runs), (c"stats", show_stats)],
    )
}

fn show_stats(vm: &Shared, w: &mut dyn fmt::Write) -> fmt::Result {
    let usage = vm.store.usage();
    writeln!(w, "blocks {}", usage.blocks)?;
    writeln!(w, "nodes {}", usage.nodes)?;
    write!(w, "{}", vm.stats)
}

fn show_runs(vm: &Shared, w: &mut dyn fmt::Write) -> fmt::Result {
    let end = Gfn::new(u64::MAX >> PAGE_SHIFT);
    let Some(all) = GfnRange::new(Gfn::new(0), end) else {
        return Ok(());
    };
    let stored = Unhurried(&vm.store, cond_resched);
    for run in stored.runs(&all).filter(|run| run.word != Word::NONE) {
        let start = run.range.start().raw() << PAGE_SHIFT;
        let size = run.range.nr_pages() << PAGE_SHIFT;
        let (raw, names) = (run.word.enforced().raw(), run.word);
        writeln!(w, "{start:#018x} {size:#x} {raw:#x} {names}")?;
    }
    Ok(())
}
