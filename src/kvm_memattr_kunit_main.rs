// SPDX-License-Identifier: GPL-2.0

//! The KUnit suites of kvm-memattr's sources that need no VM, as a module of its own that registers
//! no provider. The suites run when it's loaded.

#![allow(
    dead_code,
    reason = "what isn't tested here is used by the module itself"
)]

#[path = "../rust/bindings.rs"]
mod bindings;
#[path = "../rust/gfn.rs"]
mod gfn;
#[path = "../rust/sched.rs"]
mod sched;
#[path = "../rust/sort.rs"]
mod sort;
#[path = "../rust/xarray.rs"]
mod xarray;

mod host {
    //! What the sources under test need of the kernel-facing layer: what needs no VM.

    pub(crate) use crate::{
        gfn,
        sched,
        sort,
        xarray, //
    };
}

mod attrs;
mod batch;
mod plan;
mod policy;
mod range;
mod readback;
mod request;
mod runs;
mod scope;
mod store;
mod store_model_kunit;
mod store_race_kunit;
mod word;

use kernel::prelude::*;

module! {
    type: KvmMemattrKunit,
    name: "kvm_memattr_kunit",
    authors: ["The kvm-memattr developers"],
    description: "KUnit suites of kvm_memattr",
    license: "GPL",
}

struct KvmMemattrKunit;

impl kernel::Module for KvmMemattrKunit {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}
