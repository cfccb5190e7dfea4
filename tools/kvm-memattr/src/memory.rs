// SPDX-License-Identifier: GPL-2.0

//! The VMM's own mapping of guest memory: what the host can see of the guest.

use std::io;
use std::ptr::{self, NonNull};

use anyhow::{Context, Result};
use kvm_memattr::PAGE_SIZE;

const WORD: usize = size_of::<u32>();
const WORDS_PER_PAGE: usize = PAGE_SIZE as usize / WORD;

/// Anonymous memory, mapped shared and zero at first.
///
/// A guest may write to it at any time, so it is only ever read and written word by
/// word through volatile accesses, and never lent as a slice.
pub(crate) struct Memory {
    base: NonNull<u32>,
    bytes: usize,
}

impl Memory {
    /// Maps `bytes` of memory, a multiple of the page size.
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        // SAFETY: A new anonymous mapping, wherever the kernel likes to have it,
        // touches nothing that exists.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("cannot map guest memory");
        }

        let base = NonNull::new(base.cast()).context("guest memory was mapped at address 0")?;
        Ok(Self { base, bytes })
    }

    /// Where the memory is mapped, for KVM.
    pub(crate) fn address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// How many bytes are mapped.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Copies a program to `offset`, with zeros up to the end of its last word.
    pub(crate) fn load(&self, offset: usize, program: &[u8]) {
        for (i, bytes) in program.chunks(WORD).enumerate() {
            let mut word = [0; WORD];
            word[..bytes.len()].copy_from_slice(bytes);
            self.write_word(offset / WORD + i, u32::from_le_bytes(word));
        }
    }

    /// Reads `count` words from `offset`.
    pub(crate) fn words(&self, offset: usize, count: usize) -> impl Iterator<Item = u32> + '_ {
        (offset / WORD..).take(count).map(|i| self.read_word(i))
    }

    /// Fills a page with one word.
    pub(crate) fn fill_page(&self, page: usize, word: u32) {
        for i in 0..WORDS_PER_PAGE {
            self.write_word(page * WORDS_PER_PAGE + i, word);
        }
    }

    /// The word that a page is filled with, or `None` if its words differ.
    pub(crate) fn page_word(&self, page: usize) -> Option<u32> {
        let mut words = self.words(page * PAGE_SIZE as usize, WORDS_PER_PAGE);
        let first = words.next()?;

        words.all(|word| word == first).then_some(first)
    }

    fn read_word(&self, index: usize) -> u32 {
        assert!(index < self.bytes / WORD, "read past the end of a mapping");
        // SAFETY: The index is inside the mapping, which lives as long as `self`, and
        // any bit pattern is a u32.
        unsafe { self.base.add(index).read_volatile() }
    }

    fn write_word(&self, index: usize, word: u32) {
        assert!(index < self.bytes / WORD, "write past the end of a mapping");
        // SAFETY: The index is inside the mapping, which lives as long as `self`, and
        // no reference into it exists.
        unsafe { self.base.add(index).write_volatile(word) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours, and nothing refers to it any more: see the
        // order of fields in `Machine`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_words() {
        let memory = Memory::new(2 * PAGE_SIZE as usize).unwrap();

        assert_eq!(memory.page_word(0), Some(0));
        memory.fill_page(1, 7);
        assert_eq!(memory.page_word(0), Some(0));
        assert_eq!(memory.page_word(1), Some(7));

        memory.load(PAGE_SIZE as usize, &[1, 2, 3, 4, 5]);
        assert_eq!(memory.page_word(1), None);
        let words: Vec<u32> = memory.words(PAGE_SIZE as usize, 3).collect();
        assert_eq!(words, [0x0403_0201, 5, 7]);
    }
}
