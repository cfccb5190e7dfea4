// SPDX-License-Identifier: GPL-2.0

//! What the module's store holds for a VM, read from its `runs` file in debugfs.
//!
//! One line a run of neighbouring pages with the same attributes, none for the
//! default: `ADDRESS SIZE WORD NAMES`, the first three in hexadecimal with 0x.

use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{anyhow, bail, ensure, Context, Error, Result};

const MODULE: &str = "/sys/kernel/debug/kvm_memattr";

/// A run of guest physical memory with the same attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Guest physical addresses, in bytes.
    pub(crate) addresses: Range<u64>,
    /// The attribute word.
    pub(crate) attributes: u64,
    /// The word's bits by name, and then those of each layer where layers differ.
    pub(crate) names: String,
}

impl FromStr for Run {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [address, size, attributes, names, ref layers @ ..] = fields[..] else {
            bail!("expected four fields or more in '{line}'");
        };
        ensure!(
            layers.iter().all(|layer| layer.contains(':')),
            "what's behind the names in '{line}' are no layers"
        );
        let number = |text: &str| {
            text.strip_prefix("0x")
                .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                .ok_or_else(|| anyhow!("'{text}' in '{line}' is no hexadecimal number"))
        };
        let (address, size) = (number(address)?, number(size)?);
        let end = address
            .checked_add(size)
            .ok_or_else(|| anyhow!("the run in '{line}' wraps around"))?;

        ensure!(address < end, "the run in '{line}' is empty");
        Ok(Self {
            addresses: address..end,
            attributes: number(attributes)?,
            names: [&[names], layers].concat().join(" "),
        })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.addresses;
        let last = end - 1;

        write!(
            f,
            "{:#x} {} at {start:#x}-{last:#x}",
            self.attributes, self.names
        )
    }
}

/// Every run of a VM, by rising address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Runs(pub(crate) Vec<Run>);

impl FromStr for Runs {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.lines()
            .map(Run::from_str)
            .collect::<Result<_>>()
            .map(Self)
    }
}

/// Fails, with what to do, unless the module shows itself in debugfs.
pub(crate) fn require_module() -> Result<()> {
    if Path::new(MODULE).is_dir() {
        return Ok(());
    }
    if !Path::new("/sys/kernel/debug/kvm").is_dir() {
        bail!(
            "there is no /sys/kernel/debug/kvm: load KVM's modules, mount debugfs \
             (mount -t debugfs none /sys/kernel/debug), and run this as root"
        );
    }
    bail!("kvm_memattr.ko is not loaded: there is no {MODULE}");
}

/// The store of the one VM that this process has.
pub(crate) struct Store {
    runs: PathBuf,
}

impl Store {
    /// Finds the VM's folder, `vm-<pid>-<number>`.
    pub(crate) fn of_this_process() -> Result<Self> {
        let prefix = format!("vm-{}-", std::process::id());
        let mut found = Vec::new();

        for entry in fs::read_dir(MODULE).with_context(|| format!("cannot read {MODULE}"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                found.push(entry.path());
            }
        }
        match &found[..] {
            [folder] => Ok(Self {
                runs: folder.join("runs"),
            }),
            [] => bail!("the module does not know this VM: no {MODULE}/{prefix}*"),
            _ => bail!("more than one {MODULE}/{prefix}*, this process has one VM"),
        }
    }

    /// What the store holds now.
    pub(crate) fn read(&self) -> Result<Runs> {
        let path = self.runs.display();

        fs::read_to_string(&self.runs)
            .with_context(|| format!("cannot read {path}"))?
            .parse()
            .with_context(|| format!("cannot understand {path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(addresses: Range<u64>, attributes: u64, names: &str) -> Run {
        Run {
            addresses,
            attributes,
            names: names.into(),
        }
    }

    #[test]
    fn file_of_a_vm() {
        let runs: Runs = "0x0000000040040000 0x40000 0x8 PRIVATE\n\
                          0x00000000400c0000 0x1000 0x6 NW|NX\n"
            .parse()
            .unwrap();

        assert_eq!(
            runs,
            Runs(vec![
                run(0x4004_0000..0x4008_0000, 8, "PRIVATE"),
                run(0x400c_0000..0x400c_1000, 6, "NW|NX"),
            ])
        );
        assert_eq!(runs.0[1].to_string(), "0x6 NW|NX at 0x400c0000-0x400c0fff");
    }

    #[test]
    fn empty_file_is_no_run() {
        assert_eq!("".parse::<Runs>().unwrap(), Runs(vec![]));
    }

    #[test]
    fn faulty_lines() {
        for line in [
            "0x1000 0x1000 0x8",
            "0x1000 0x1000 0x8 PRIVATE more",
            "1000 0x1000 0x8 PRIVATE",
            "0x1000 0x 0x8 PRIVATE",
            "0x1000 0x0 0x8 PRIVATE",
            "0xfffffffffffff000 0x2000 0x8 PRIVATE",
            "",
        ] {
            assert!(line.parse::<Run>().is_err(), "'{line}' was understood");
        }
    }
}
