// SPDX-License-Identifier: GPL-2.0

//! Bindings generated from `bindings_helper.h`.
//!
//! Private to this layer: wrap what is needed from here in a module beside this one.

#![allow(
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]

use kernel::{
    bindings::{
        dentry,
        file_operations,
        module,
        mutex,
        xa_state,
        xarray, //
    },
    ffi,
};
use pin_init::MaybeZeroable;

/// The kernel's own typedefs, as bindgen spells what is a primitive type in Rust.
type bool_ = bool;
type u8_ = u8;
type u64_ = u64;

/// Opaque: Rust gets at its fields only through helpers.
#[repr(C)]
pub struct kvm {
    _opaque: [u8; 0],
}

/// Opaque: Rust gets at its fields only through helpers.
#[repr(C)]
pub struct kvm_memory_slot {
    _opaque: [u8; 0],
}

/// Opaque: Rust gets at its fields only through helpers.
#[repr(C)]
pub struct inode {
    _opaque: [u8; 0],
}

/// Opaque: Rust gets at its fields only through helpers.
#[repr(C)]
pub struct folio {
    _opaque: [u8; 0],
}

include!(concat!(env!("KMA_OBJ"), "/rust/bindings_generated.rs"));
