// SPDX-License-Identifier: GPL-2.0

//! The VMM: a VM with private memory, one virtual CPU, and the conversions that its
//! guest asks for.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

use anyhow::{bail, ensure, Context, Result};
use kvm_bindings::{
    kvm_create_guest_memfd, kvm_enable_cap, kvm_regs, kvm_segment, kvm_userspace_memory_region2,
    CpuId, KVM_CAP_VM_TYPES, KVM_MAX_CPUID_ENTRIES, KVM_MEM_GUEST_MEMFD, KVM_X86_SW_PROTECTED_VM,
};
use kvm_ioctls::{Cap, HypercallExit, Kvm, VcpuExit, VcpuFd, VmFd};
use kvm_memattr::{
    get_supported_memory_attributes, set_memory_attributes, ATTRIBUTE_PRIVATE, PAGE_SIZE,
};

use crate::guest;
use crate::memory::Memory;
use crate::view::{self, View};

/// A VM, ready to run the guest's program.
///
/// The mappings come last, so that they are gone only after the VM that uses them.
pub(crate) struct Machine {
    vcpu: VcpuFd,
    vm: VmFd,
    _private: File,
    low: Memory,
    data: Memory,
}

impl Machine {
    pub(crate) fn new() -> Result<Self> {
        let kvm = Kvm::new().context("cannot open /dev/kvm")?;
        let types = kvm.check_extension_raw(KVM_CAP_VM_TYPES.into());
        ensure!(
            types & (1 << KVM_X86_SW_PROTECTED_VM) != 0,
            "this KVM has no VMs of the type KVM_X86_SW_PROTECTED_VM \
             (CONFIG_KVM_SW_PROTECTED_VM, and two-dimensional paging)"
        );
        let vm = kvm
            .create_vm_with_type(KVM_X86_SW_PROTECTED_VM.into())
            .context("cannot create a VM")?;
        // From here on the module shows the VM, too.
        let supported = get_supported_memory_attributes(&vm)
            .context("the module does not serve a VM that was created just now")?;
        ensure!(
            supported & ATTRIBUTE_PRIVATE != 0,
            "a VM of this type cannot have private memory"
        );
        vm.enable_cap(&kvm_enable_cap {
            cap: Cap::ExitHypercall as u32,
            args: [1 << guest::MAP_GPA_RANGE, 0, 0, 0],
            ..Default::default()
        })
        .context("cannot have KVM_HC_MAP_GPA_RANGE exit to the VMM")?;

        let low = Memory::new(guest::LOW_BYTES)?;
        add_slot(&vm, 0, 0, &low, None)?;
        let data = Memory::new(guest::DATA_BYTES as usize)?;
        let private = create_guest_memfd(&vm, guest::DATA_BYTES)?;
        add_slot(&vm, 1, guest::DATA.into(), &data, Some(&private))?;

        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .context("cannot ask for the supported CPUID")?;
        low.load(guest::CODE as usize, guest::program());
        low.load(
            guest::HYPERCALL as usize,
            &guest::hypercall_function(is_intel(&cpuid)),
        );

        let vcpu = vm.create_vcpu(0).context("cannot create a virtual CPU")?;
        vcpu.set_cpuid2(&cpuid).context("cannot set CPUID")?;
        enter_program(&vcpu).context("cannot set registers")?;

        Ok(Self {
            vcpu,
            vm,
            _private: private,
            low,
            data,
        })
    }

    /// Runs the guest until it has finished a step, and tells which.
    ///
    /// On the way the guest has the conversions that it asks for.
    pub(crate) fn run_to_step(&mut self) -> Result<u32> {
        loop {
            match self.vcpu.run().context("KVM_RUN failed")? {
                VcpuExit::Hypercall(exit) => convert(&self.vm, exit)?,
                VcpuExit::IoOut(guest::STEP_PORT, step) => return word(step),
                VcpuExit::IoOut(guest::REFUSED_PORT, value) => bail!(
                    "the guest's conversion failed, its hypercall returned {}",
                    word(value)? as i32
                ),
                VcpuExit::MemoryFault { flags, gpa, size } => bail!(
                    "unexpected exit KVM_EXIT_MEMORY_FAULT at {gpa:#x}, {size:#x} bytes, flags \
                     {flags:#x}: KVM could not resolve an access of the guest"
                ),
                exit => bail!("unexpected exit of the virtual CPU: {exit:?}"),
            }
        }
    }

    /// What the guest read when it finished its last step.
    pub(crate) fn guest_view(&self) -> View {
        let report = self
            .low
            .words(guest::REPORT as usize, guest::PAGES as usize);

        View::from_pages(report.map(guest::reported))
    }

    /// What the host reads through its own mapping.
    pub(crate) fn host_view(&self) -> View {
        View::from_pages((0..guest::PAGES).map(|page| self.data.page_word(page as usize)))
    }

    /// Writes a letter to each page through the host's own mapping.
    pub(crate) fn host_writes(&self, letter: u8) {
        for page in 0..guest::PAGES {
            self.data.fill_page(page as usize, view::word(letter, page));
        }
    }
}

/// Does what the guest's hypercall asks for.
fn convert(vm: &VmFd, exit: HypercallExit<'_>) -> Result<()> {
    let [address, pages, state, ..] = exit.args;
    let data = u64::from(guest::DATA)..u64::from(guest::DATA) + guest::DATA_BYTES;
    let size = pages.saturating_mul(PAGE_SIZE);

    ensure!(
        exit.nr == guest::MAP_GPA_RANGE.into(),
        "the guest made hypercall {}, only KVM_HC_MAP_GPA_RANGE was to come here",
        exit.nr
    );
    ensure!(
        data.contains(&address) && size <= data.end - address,
        "the guest asked for {pages} pages at {address:#x}, which are not its data"
    );
    let attributes = match u32::try_from(state) {
        Ok(guest::ENCRYPTED) => ATTRIBUTE_PRIVATE,
        Ok(guest::DECRYPTED) => 0,
        _ => bail!("the guest asked for an unknown state, {state:#x}"),
    };

    set_memory_attributes(vm, address, size, attributes)
        .with_context(|| format!("cannot set attributes of {pages} pages at {address:#x}"))?;
    *exit.ret = 0;
    Ok(())
}

fn create_guest_memfd(vm: &VmFd, size: u64) -> Result<File> {
    let fd = vm
        .create_guest_memfd(kvm_create_guest_memfd {
            size,
            ..Default::default()
        })
        .context("cannot create a guest_memfd")?;

    // SAFETY: KVM has just made this file descriptor for us, nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Puts memory into the guest, shared, with a guest_memfd for its private pages.
fn add_slot(vm: &VmFd, slot: u32, at: u64, shared: &Memory, private: Option<&File>) -> Result<()> {
    let region = kvm_userspace_memory_region2 {
        slot,
        flags: private.map_or(0, |_| KVM_MEM_GUEST_MEMFD),
        guest_phys_addr: at,
        memory_size: shared.bytes(),
        userspace_addr: shared.address(),
        guest_memfd: private.map_or(0, |file| file.as_raw_fd() as u32),
        ..Default::default()
    };

    // SAFETY: The guest is let into the whole of a `Memory` and nothing else, which
    // lives as long as the guest can run and is only used in ways that bear its writes.
    unsafe { vm.set_user_memory_region2(region) }
        .with_context(|| format!("cannot add a slot at {at:#x}"))
}

/// 32-bit protected mode, all segments flat, no paging, at the program's start.
fn enter_program(vcpu: &VcpuFd) -> Result<()> {
    const CR0_PE: u64 = 1 << 0;
    const CR0_ET: u64 = 1 << 4;
    const CODE_SEGMENT: u8 = 0xb; // execute, read, accessed
    const DATA_SEGMENT: u8 = 0x3; // read, write, accessed

    let flat = |selector, type_| kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs = flat(0x8, CODE_SEGMENT);
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.ss] {
        *segment = flat(0x10, DATA_SEGMENT);
    }
    sregs.cr0 = CR0_PE | CR0_ET;
    vcpu.set_sregs(&sregs)?;

    vcpu.set_regs(&kvm_regs {
        rip: guest::CODE.into(),
        rsp: guest::STACK_TOP.into(),
        rflags: 1 << 1, // reserved, always set
        ..Default::default()
    })?;
    Ok(())
}

/// Whether the CPU knows the hypercall by Intel's instruction; all others have AMD's.
fn is_intel(cpuid: &CpuId) -> bool {
    let vendor = cpuid.as_slice().iter().find(|leaf| leaf.function == 0);

    vendor.is_some_and(|leaf| leaf.ebx.to_le_bytes() == *b"Genu")
}

/// The word that the guest wrote to a port.
fn word(data: &[u8]) -> Result<u32> {
    let bytes = data
        .try_into()
        .context("the guest wrote no 32-bit word to its port")?;

    Ok(u32::from_le_bytes(bytes))
}
