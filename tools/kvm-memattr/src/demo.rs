// SPDX-License-Identifier: GPL-2.0

//! `kvm-memattr demo`: a guest has its memory converted, and at each step three
//! accounts of it must agree with what is expected: what the guest reads, what the
//! host reads through its own mapping, and what the module's store holds.

use std::fmt;
use std::ops::Range;

use anyhow::{ensure, Result};
use kvm_memattr::{ATTRIBUTE_PRIVATE, PAGE_SIZE};

use crate::guest::{CONVERTED, DATA, DATA_BYTES, PAGES, RETURNED};
use crate::runs::{require_module, Run, Runs, Store};
use crate::view::Content::{self, Letter, Zeros};
use crate::view::{Pages, View};
use crate::vm::Machine;

/// A step of the guest's program, and what must be seen when it is finished.
struct Step {
    says: String,
    /// What the host writes to its mapping before the step.
    host_writes: Option<u8>,
    guest: &'static [(Range<u32>, Content)],
    host: &'static [(Range<u32>, Content)],
    private: &'static [Range<u32>],
}

const BEFORE: Range<u32> = 0..CONVERTED.start;
const KEPT_FIRST: Range<u32> = CONVERTED.start..RETURNED.start;
const KEPT_LAST: Range<u32> = RETURNED.end..CONVERTED.end;
const AFTER: Range<u32> = CONVERTED.end..PAGES;
const ALL: Range<u32> = 0..PAGES;

/// The story. The guest's side of it is the program in guest.rs.
fn story() -> [Step; 6] {
    let converted = Pages(&CONVERTED);
    let returned = Pages(&RETURNED);

    [
        Step {
            says: "The guest writes A to every page. All memory is shared.".into(),
            host_writes: None,
            guest: &[(ALL, Letter('A'))],
            host: &[(ALL, Letter('A'))],
            private: &[],
        },
        Step {
            says: format!("The guest has {converted} made private: it finds new memory there."),
            host_writes: None,
            guest: &[
                (BEFORE, Letter('A')),
                (CONVERTED, Zeros),
                (AFTER, Letter('A')),
            ],
            host: &[(ALL, Letter('A'))],
            private: &[CONVERTED],
        },
        Step {
            says: "The guest writes B to its private pages. The host does not see it.".into(),
            host_writes: None,
            guest: &[
                (BEFORE, Letter('A')),
                (CONVERTED, Letter('B')),
                (AFTER, Letter('A')),
            ],
            host: &[(ALL, Letter('A'))],
            private: &[CONVERTED],
        },
        Step {
            says: "The host writes C to every page. The guest's private pages keep B.".into(),
            host_writes: Some(b'C'),
            guest: &[
                (BEFORE, Letter('C')),
                (CONVERTED, Letter('B')),
                (AFTER, Letter('C')),
            ],
            host: &[(ALL, Letter('C'))],
            private: &[CONVERTED],
        },
        Step {
            says: format!("The guest has {returned} made shared again: it finds the host's C."),
            host_writes: None,
            guest: &[
                (BEFORE, Letter('C')),
                (KEPT_FIRST, Letter('B')),
                (RETURNED, Letter('C')),
                (KEPT_LAST, Letter('B')),
                (AFTER, Letter('C')),
            ],
            host: &[(ALL, Letter('C'))],
            private: &[KEPT_FIRST, KEPT_LAST],
        },
        Step {
            says: "The guest writes D to the pages that it shares again. The host sees it.".into(),
            host_writes: None,
            guest: &[
                (BEFORE, Letter('C')),
                (KEPT_FIRST, Letter('B')),
                (RETURNED, Letter('D')),
                (KEPT_LAST, Letter('B')),
                (AFTER, Letter('C')),
            ],
            host: &[
                (0..RETURNED.start, Letter('C')),
                (RETURNED, Letter('D')),
                (RETURNED.end..PAGES, Letter('C')),
            ],
            private: &[KEPT_FIRST, KEPT_LAST],
        },
    ]
}

/// Tells the story, and fails at the first step in which an account differs.
pub(crate) fn run() -> Result<()> {
    require_module()?;
    let mut machine = Machine::new()?;
    let store = Store::of_this_process()?;
    let mut held = Runs(Vec::new());

    println!(
        "A guest with {PAGES} pages of data ({} KiB) at {DATA:#x}, and one virtual CPU.",
        DATA_BYTES / 1024
    );
    for (number, step) in (1..).zip(story()) {
        println!("\n{number}. {}", step.says);
        if let Some(letter) = step.host_writes {
            machine.host_writes(letter);
        }
        let finished = machine.run_to_step()?;
        ensure!(
            finished == number,
            "the guest finished step {finished}, not {number}"
        );

        held = store.read()?;
        let (guest, host) = (machine.guest_view(), machine.host_view());
        let agreed = [
            show("guest reads", &guest, &view(step.guest)),
            show("host reads", &host, &view(step.host)),
            show("store holds", &Held(&held), &Held(&runs(step.private))),
        ];
        ensure!(
            agreed == [true; 3],
            "disagreement in step {number}, see above"
        );
    }

    let private = private_pages(&held);
    let shared = u64::from(PAGES) - private;
    println!("\nOK: {private} pages private, {shared} pages shared, host and guest agree");
    Ok(())
}

/// Prints an account, and what was expected if it differs; returns whether it agrees.
fn show<T: fmt::Display + PartialEq>(who: &str, found: &T, expected: &T) -> bool {
    let agreed = found == expected;

    println!("     {who:<11}  {found}");
    if !agreed {
        println!("     {:>11}  {expected}", "expected");
    }
    agreed
}

fn view(runs: &[(Range<u32>, Content)]) -> View {
    View::from_runs(runs.iter().cloned())
}

/// The store's account of private pages, by guest physical address.
fn runs(private: &[Range<u32>]) -> Runs {
    let address = |page: u32| u64::from(DATA) + u64::from(page) * PAGE_SIZE;

    Runs(
        private
            .iter()
            .map(|pages| Run {
                addresses: address(pages.start)..address(pages.end),
                attributes: ATTRIBUTE_PRIVATE,
                names: "PRIVATE".into(),
            })
            .collect(),
    )
}

/// The store's account with the numbers of the guest's pages beside the addresses.
#[derive(PartialEq)]
struct Held<'a>(&'a Runs);

impl fmt::Display for Held<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = u64::from(DATA)..u64::from(DATA) + DATA_BYTES;
        let page = |address: u64| ((address - data.start) / PAGE_SIZE) as u32;
        let mut separator = "";

        if self.0 .0.is_empty() {
            return write!(f, "nothing");
        }
        for run in &self.0 .0 {
            let Range { start, end } = run.addresses;

            write!(f, "{separator}{run}")?;
            if data.start <= start && end <= data.end {
                write!(f, " ({})", Pages(&(page(start)..page(end))))?;
            }
            separator = ", ";
        }
        Ok(())
    }
}

/// How many pages the store has as private.
fn private_pages(held: &Runs) -> u64 {
    let private = held
        .0
        .iter()
        .filter(|run| run.attributes & ATTRIBUTE_PRIVATE != 0);

    private
        .map(|run| (run.addresses.end - run.addresses.start) / PAGE_SIZE)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_covers_all_pages() {
        for step in story() {
            for account in [step.guest, step.host] {
                let pages: Vec<u32> = account
                    .iter()
                    .flat_map(|(pages, _)| pages.clone())
                    .collect();
                assert_eq!(pages, ALL.collect::<Vec<u32>>(), "{}", step.says);
            }
        }
    }

    #[test]
    fn private_pages_of_the_last_step() {
        let [.., last] = story();

        assert_eq!(private_pages(&runs(last.private)), 192);
    }

    #[test]
    fn pages_beside_addresses() {
        let outside = Run {
            addresses: 0..0x1000,
            attributes: 8,
            names: "PRIVATE".into(),
        };
        let mut held = runs(&[CONVERTED]);
        assert_eq!(
            Held(&held).to_string(),
            "0x8 PRIVATE at 0x40040000-0x4013ffff (pages 64-319)"
        );

        held.0.insert(0, outside);
        assert_eq!(
            Held(&held).to_string(),
            "0x8 PRIVATE at 0x0-0xfff, 0x8 PRIVATE at 0x40040000-0x4013ffff (pages 64-319)"
        );
        assert_eq!(Held(&Runs(vec![])).to_string(), "nothing");
    }

    #[test]
    fn disagreement_is_seen() {
        let (found, other) = (runs(&[CONVERTED]), runs(&[]));

        assert!(show("store holds", &Held(&found), &Held(&found)));
        assert!(!show("store holds", &Held(&found), &Held(&other)));
    }
}
