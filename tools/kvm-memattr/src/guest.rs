// SPDX-License-Identifier: GPL-2.0

//! The guest: where its memory is, and the program that it runs.
//!
//! The program runs in 32-bit protected mode without paging, so an address in it is a
//! guest physical address. It asks for conversions as guest kernels do, by the
//! hypercall KVM_HC_MAP_GPA_RANGE.

use std::arch::global_asm;
use std::ops::Range;

use kvm_memattr::PAGE_SIZE;

// The small slot: shared memory only, for what is not data.
pub(crate) const LOW_BYTES: usize = 0x8000;
pub(crate) const CODE: u32 = 0x1000;
/// The hypercall instruction, which differs between vendors, as a function.
pub(crate) const HYPERCALL: u32 = 0x3000;
/// One word a page of data: what the guest read there.
pub(crate) const REPORT: u32 = 0x4000;
pub(crate) const STACK_TOP: u32 = 0x8000;

// The large slot: the data that is converted, shared memory with a guest_memfd
// beside it.
pub(crate) const DATA: u32 = 0x4000_0000;
pub(crate) const PAGES: u32 = 512;
pub(crate) const DATA_BYTES: u64 = PAGES as u64 * PAGE_SIZE;

/// The pages that the guest has made private, and those of them that it takes back.
pub(crate) const CONVERTED: Range<u32> = 64..320;
pub(crate) const RETURNED: Range<u32> = 128..192;

/// The guest writes the number of the step that it has finished to this port.
pub(crate) const STEP_PORT: u16 = 0x10;
/// Or, when the hypercall failed, its return value to this one.
pub(crate) const REFUSED_PORT: u16 = 0x14;

/// The hypercall: guest physical address, number of 4 KiB pages, and one of the two
/// states below (its low bits are a page size, 0 is 4 KiB).
pub(crate) const MAP_GPA_RANGE: u32 = 12;
pub(crate) const DECRYPTED: u32 = 0;
pub(crate) const ENCRYPTED: u32 = 1 << 4;

/// What a report has for a page whose words differ.
const MIXED: u32 = u32::MAX;

const _: () = assert!(PAGES * 4 <= STACK_TOP - REPORT - 0x1000, "room for a stack");

global_asm!(
    r#"
    .pushsection .rodata.kvm_memattr_guest, "a"
    .code32
    .global kvm_memattr_guest, kvm_memattr_guest_end

    // Writes a letter to each page of a range.
    .macro write letter, first, count
        mov   edx, \letter
        mov   ebx, \first
        mov   esi, \count
        call  write_pages
    .endm

    // Asks the host for another state of a range.
    .macro convert state, first, count
        mov   ebx, {data} + (\first << 12)
        mov   ecx, \count
        mov   edx, \state
        call  map_gpa_range
    .endm

    // Reads all data, and tells the host that the step is finished.
    .macro finish step
        call  read_pages
        mov   eax, \step
        out   {step_port}, eax
    .endm

kvm_memattr_guest:
    cld
    write   'A', 0, {pages}
    finish  1
    convert {encrypted}, {converted_first}, {converted_count}
    finish  2
    write   'B', {converted_first}, {converted_count}
    finish  3
    // Here the host writes C to all of its mapping.
    finish  4
    convert {decrypted}, {returned_first}, {returned_count}
    finish  5
    write   'D', {returned_first}, {returned_count}
    finish  6
    hlt

// edx: letter, ebx: first page, esi: number of pages
write_pages:
    shl   edx, 24
1:  mov   edi, ebx
    shl   edi, 12
    add   edi, {data}
    mov   eax, edx
    or    eax, ebx              // the word: letter, page
    mov   ecx, 1024
    rep   stosd
    inc   ebx
    dec   esi
    jnz   1b
    ret

// For each page, puts its word into the report if its words are all the same.
read_pages:
    xor   edx, edx
    mov   edi, {data}
2:  mov   eax, [edi]
    mov   ecx, 1024
    repe  scasd
    je    3f
    mov   eax, {mixed}
3:  mov   [edx * 4 + {report}], eax
    inc   edx
    mov   edi, edx
    shl   edi, 12
    add   edi, {data}
    cmp   edx, {pages}
    jb    2b
    ret

// ebx: address, ecx: number of pages, edx: state
map_gpa_range:
    mov   eax, {map_gpa_range}
    mov   edi, {hypercall}
    call  edi
    test  eax, eax
    jnz   4f
    ret
4:  out   {refused_port}, eax
    hlt
kvm_memattr_guest_end:

    .purgem write
    .purgem convert
    .purgem finish
    .code64
    .popsection
    "#,
    data = const DATA,
    pages = const PAGES,
    report = const REPORT,
    hypercall = const HYPERCALL,
    mixed = const MIXED,
    step_port = const STEP_PORT,
    refused_port = const REFUSED_PORT,
    map_gpa_range = const MAP_GPA_RANGE,
    encrypted = const ENCRYPTED,
    decrypted = const DECRYPTED,
    converted_first = const CONVERTED.start,
    converted_count = const CONVERTED.end - CONVERTED.start,
    returned_first = const RETURNED.start,
    returned_count = const RETURNED.end - RETURNED.start,
);

unsafe extern "C" {
    safe static kvm_memattr_guest: u8;
    safe static kvm_memattr_guest_end: u8;
}

/// The program, to be loaded at [`CODE`].
pub(crate) fn program() -> &'static [u8] {
    let start = &raw const kvm_memattr_guest;
    let end = &raw const kvm_memattr_guest_end;

    // SAFETY: Both symbols are in the one block above, the second after the first,
    // and what lies between them is never written.
    unsafe { std::slice::from_raw_parts(start, end as usize - start as usize) }
}

/// The function at [`HYPERCALL`]: the vendor's instruction, and a return.
pub(crate) fn hypercall_function(intel: bool) -> [u8; 4] {
    const RET: u8 = 0xc3;

    if intel {
        [0x0f, 0x01, 0xc1, RET] // vmcall
    } else {
        [0x0f, 0x01, 0xd9, RET] // vmmcall
    }
}

/// What the guest says of a page in its report, as the words of the page.
pub(crate) fn reported(word: u32) -> Option<u32> {
    (word != MIXED).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_fits() {
        let room = (HYPERCALL - CODE) as usize;

        assert!(!program().is_empty() && program().len() <= room);
        // cld
        assert_eq!(program()[0], 0xfc);
    }
}
