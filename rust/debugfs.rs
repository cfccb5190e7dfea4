// SPDX-License-Identifier: GPL-2.0

//! Read-only files in debugfs that pin the module as long as they're open.
//!
//! C headers: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h),
//! [`include/linux/seq_file.h`](srctree/include/linux/seq_file.h)
//!
//! The files of the kernel crate's `debugfs` have operations without an owner, which are part of the
//! module that uses them all the same: a file that's still open when the module is unloaded leads to
//! code that's gone.

use super::bindings;
use core::{
    fmt::{
        self,
        Write, //
    },
    marker::PhantomData,
    ptr,
};
use kernel::{
    bindings::{
        dentry,
        file,
        file_operations,
        inode,
        seq_file, //
    },
    error::from_err_ptr,
    prelude::*,
    str::CStrExt,
    sync::Arc,
    ModuleMetadata, //
};

/// Writes what a file shows.
pub(crate) type Show<T> = fn(&T, &mut dyn Write) -> fmt::Result;

/// What a file's inode refers to.
struct Entry<T> {
    data: Arc<T>,
    show: Show<T>,
}

/// A folder with files, which go when it's dropped. Errors of debugfs are ignored, as is the custom:
/// nothing but an operator's view depends on them.
///
/// # Invariants
///
/// `dir` is a folder, or an error pointer, and only its files refer to `entries`.
pub(crate) struct Folder<T: Send + Sync + 'static> {
    dir: *mut dentry,
    entries: KVec<KBox<Entry<T>>>,
}

impl<T: Send + Sync + 'static> Folder<T> {
    /// Makes a folder, at the root of debugfs or in the folder `parent` there, with files that show
    /// `data`. `M` is the module that the functions are part of.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new<M: ModuleMetadata>(
        name: &CStr,
        parent: Option<&CStr>,
        data: Arc<T>,
        files: &[(&CStr, Show<T>)],
    ) -> Result<Self> {
        let mut entries = KVec::with_capacity(files.len(), GFP_KERNEL_ACCOUNT)?;
        for (_, show) in files {
            let entry = Entry {
                data: data.clone(),
                show: *show,
            };
            entries.push(KBox::new(entry, GFP_KERNEL_ACCOUNT)?, GFP_KERNEL_ACCOUNT)?;
        }

        let parent = parent.map_or(ptr::null_mut(), |parent| {
            // SAFETY: The name is a valid string.
            let found = unsafe { bindings::kma_debugfs_lookup(parent.as_char_ptr()) };
            // Without it there's no folder, rather than one at the root.
            if found.is_null() {
                ENOENT.to_ptr()
            } else {
                found
            }
        });
        // SAFETY: The name is a valid string, and the parent is a folder that was looked up, an
        // error pointer, which is passed on, or NULL, which is the root.
        let dir = unsafe { bindings::kma_debugfs_create_dir(name.as_char_ptr(), parent) };
        if from_err_ptr(parent).is_ok() {
            // SAFETY: NULL, or the reference of the lookup.
            unsafe { kernel::bindings::dput(parent) };
        }
        // INVARIANT: A folder or an error pointer; no file refers to an entry yet.
        let folder = Self { dir, entries };
        for ((name, _), entry) in files.iter().zip(&folder.entries) {
            let entry: *const Entry<T> = &**entry;
            // SAFETY: The folder is one, or an error pointer, which is passed on. The entry lives in
            // a box until the folder has been removed. The operations are static.
            unsafe {
                bindings::kma_debugfs_create_file(
                    name.as_char_ptr(),
                    folder.dir,
                    entry.cast_mut().cast(),
                    &Operations::<M, T>::OPS,
                )
            }
        }
        Ok(folder)
    }
}

impl<T: Send + Sync + 'static> Drop for Folder<T> {
    fn drop(&mut self) {
        // SAFETY: `dir` is a folder or an error pointer by the type invariant. Waits for those who
        // are reading, after which no entry is referred to.
        unsafe { bindings::kma_debugfs_remove(self.dir) }
    }
}

// SAFETY: A dentry has no tie to a thread, and the data is `Send` and `Sync`.
unsafe impl<T: Send + Sync + 'static> Send for Folder<T> {}

// SAFETY: There's no method by shared reference, and the data is `Send` and `Sync`.
unsafe impl<T: Send + Sync + 'static> Sync for Folder<T> {}

/// The operations of a file that shows a `T`, in code of the module `M`.
struct Operations<M, T>(PhantomData<(M, T)>);

impl<M: ModuleMetadata, T: Send + Sync + 'static> Operations<M, T> {
    const OPS: file_operations = file_operations {
        owner: M::THIS_MODULE.as_ptr(),
        open: Some(Self::open),
        read: Some(kernel::bindings::seq_read),
        llseek: Some(kernel::bindings::seq_lseek),
        release: Some(kernel::bindings::single_release),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by debugfs, for a file that [`Folder::new`] has made.
    unsafe extern "C" fn open(inode: *mut inode, file: *mut file) -> c_int {
        // SAFETY: The inode and the file are valid. debugfs calls only while the file isn't removed,
        // so that the entry is valid, and calls `show` only then.
        unsafe { kernel::bindings::single_open(file, Some(Self::show), (*inode).i_private) }
    }

    /// # Safety
    ///
    /// Called by a read of a file that `open()` has opened, with debugfs keeping removal away.
    unsafe extern "C" fn show(seq: *mut seq_file, _: *mut c_void) -> c_int {
        // SAFETY: `open()` has passed the entry on, and it's valid as the file isn't removed.
        let entry = unsafe { &*(*seq).private.cast::<Entry<T>>() };
        // A buffer that's too small is seen by seq_file, which tries again with a larger one.
        let _ = (entry.show)(&entry.data, &mut SeqWriter(seq));
        0
    }
}

/// Writes to a seq_file.
///
/// # Invariants
///
/// The pointer is valid as long as the writer.
struct SeqWriter(*mut seq_file);

impl Write for SeqWriter {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        // SAFETY: The seq_file is valid by the type invariant, and the string is `len` bytes.
        match unsafe { kernel::bindings::seq_write(self.0, s.as_ptr().cast(), s.len()) } {
            0 => Ok(()),
            _ => Err(fmt::Error),
        }
    }
}
