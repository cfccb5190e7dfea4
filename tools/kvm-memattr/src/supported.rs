// SPDX-License-Identifier: GPL-2.0

//! `kvm-memattr supported`: the masks of attributes, by every way to ask for them.

use anyhow::{Context, Result};
use kvm_bindings::{
    KVM_CAP_VM_TYPES, KVM_X86_DEFAULT_VM, KVM_X86_SEV_ES_VM, KVM_X86_SEV_VM, KVM_X86_SNP_VM,
    KVM_X86_SW_PROTECTED_VM, KVM_X86_TDX_VM,
};
use kvm_ioctls::Kvm;
use kvm_memattr::{
    get_supported_memory_attributes, supported_memory_attributes, system_memory_attributes,
    ATTRIBUTE_PRIVATE,
};

const VM_TYPES: [(u32, &str); 6] = [
    (KVM_X86_DEFAULT_VM, "DEFAULT"),
    (KVM_X86_SW_PROTECTED_VM, "SW_PROTECTED"),
    (KVM_X86_SEV_VM, "SEV"),
    (KVM_X86_SEV_ES_VM, "SEV_ES"),
    (KVM_X86_SNP_VM, "SNP"),
    (KVM_X86_TDX_VM, "TDX"),
];

pub(crate) fn run() -> Result<()> {
    let kvm = Kvm::new().context("cannot open /dev/kvm")?;
    let types = kvm.check_extension_raw(KVM_CAP_VM_TYPES.into());

    println!(
        "{:<16} KVM_CAP_MEMORY_ATTRIBUTES {}",
        "/dev/kvm",
        describe(system_memory_attributes(&kvm))
    );

    for (vm_type, name) in VM_TYPES {
        if types & (1 << vm_type) == 0 {
            println!("{name:<16} not offered by this host");
            continue;
        }
        let vm = match kvm.create_vm_with_type(vm_type.into()) {
            Ok(vm) => vm,
            Err(error) => {
                println!("{name:<16} no such VM can be made: {error}");
                continue;
            }
        };
        let own = match get_supported_memory_attributes(&vm) {
            Ok(mask) => describe(mask),
            Err(error) if error.errno() == libc::ENOTTY => {
                "not served: kvm_memattr.ko is not loaded".into()
            }
            Err(error) => error.to_string(),
        };
        println!(
            "{name:<16} KVM_CAP_MEMORY_ATTRIBUTES {}",
            describe(supported_memory_attributes(&vm))
        );
        println!("{:<16} KVM_GET_SUPPORTED_MEMORY_ATTRIBUTES {own}", "");
    }
    Ok(())
}

/// A mask as a number and in words.
fn describe(mask: u64) -> String {
    let rest = mask & !ATTRIBUTE_PRIVATE;

    match (mask & ATTRIBUTE_PRIVATE != 0, rest != 0) {
        (false, false) => "0x0".into(),
        (true, false) => format!("{mask:#x} PRIVATE"),
        (true, true) => format!("{mask:#x} PRIVATE and {rest:#x}"),
        (false, true) => format!("{mask:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::describe;

    #[test]
    fn masks() {
        assert_eq!(describe(0), "0x0");
        assert_eq!(describe(8), "0x8 PRIVATE");
        assert_eq!(describe(0xa), "0xa PRIVATE and 0x2");
        assert_eq!(describe(2), "0x2");
    }
}
