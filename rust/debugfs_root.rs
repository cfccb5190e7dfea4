// SPDX-License-Identifier: GPL-2.0

//! The module's folder in debugfs, for those who have no reference to the module's own state.
//!
//! A static isn't dropped when a module is unloaded, so that the folder has to be taken out of it.

use kernel::{
    debugfs::Dir,
    prelude::*,
    sync::SetOnce, //
};

kernel::sync::global_lock! {
    // SAFETY: Used only when `READY` says that it's initialised.
    unsafe(uninit) static ROOT: Mutex<Option<Dir>> = None;
}

/// Populated by the one who is to initialise `ROOT`.
static CLAIMED: SetOnce<()> = SetOnce::new();
/// Populated when `ROOT` is initialised.
static READY: SetOnce<()> = SetOnce::new();

/// Puts a folder in, or takes it out. It's removed once nobody uses it.
pub(crate) fn set(dir: Option<Dir>) {
    if CLAIMED.populate(()) {
        // SAFETY: Populating succeeds only once, and nobody uses the lock before it's ready.
        unsafe { ROOT.init() };
        READY.populate(());
    }
    if READY.as_ref().is_some() {
        *ROOT.lock() = dir;
    }
}

/// The folder, if there's one.
pub(crate) fn get() -> Option<Dir> {
    READY.as_ref()?;
    ROOT.lock().clone()
}
