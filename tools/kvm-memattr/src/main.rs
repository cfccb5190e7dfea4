// SPDX-License-Identifier: GPL-2.0

//! kvm-memattr: shows KVM's per-page memory attributes at work on this host.

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the guest of `kvm-memattr demo` is x86 code; the library has no such limit");

mod demo;
mod guest;
mod memory;
mod runs;
mod supported;
mod view;
mod vm;

use std::process::ExitCode;

use clap::Command;

fn main() -> ExitCode {
    let result = match command().get_matches().subcommand_name() {
        Some("demo") => demo::run(),
        Some("supported") => supported::run(),
        _ => unreachable!("clap lets no other command pass"),
    };

    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kvm-memattr: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The command line. Without clap's derive: a program whose build has a procedural
/// macro cannot be linked statically by RUSTFLAGS alone.
fn command() -> Command {
    Command::new("kvm-memattr")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Shows KVM's per-page memory attributes at work on this host")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("demo").about(
            "Runs a small guest that has its memory converted between shared and private, \
             and compares what guest, host and the module's store say at each step",
        ))
        .subcommand(
            Command::new("supported")
                .about("Prints which attributes this host and a VM of each type support"),
        )
}

#[cfg(test)]
mod tests {
    #[test]
    fn command_line_is_consistent() {
        super::command().debug_assert();
    }
}
