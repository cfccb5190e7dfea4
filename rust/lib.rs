// SPDX-License-Identifier: GPL-2.0

//! The kernel-facing layer: safe wrappers of what the host series and the kernel offer to C.
//!
//! All unsafe code of the module is here, and nobody else can name [`bindings`]. The layer knows
//! pages, slots, locks and entries, but nothing of attributes: that's the business of `src/`.

mod bindings;
pub(crate) mod debugfs;
pub(crate) mod folio;
pub(crate) mod gfn;
pub(crate) mod gmem;
pub(crate) mod invalidation;
pub(crate) mod memslot;
pub(crate) mod params;
pub(crate) mod provider;
pub(crate) mod sched;
pub(crate) mod sort;
pub(crate) mod trace;
pub(crate) mod uapi;
pub(crate) mod vm;
pub(crate) mod xarray;
