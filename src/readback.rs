// SPDX-License-Identifier: GPL-2.0

//! Reading back what is set, as runs.

#![deny(unsafe_code)]

use crate::{
    attrs::Attrs,
    host::gfn::PageNumber,
    range::PageRange,
    runs::{
        Run,
        Runs, //
    },
    word::Layers, //
};
use kernel::prelude::*;

/// The most runs that are answered at once.
pub(crate) const MOST: usize = 4096;
/// The most stretches of pages with the same word that are looked at for that. What other layers say
/// may make them many more.
const MOST_LOOKED_AT: usize = 1 << 16;

/// A stretch of pages with the same attributes, as far as they're asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttrsRun<P> {
    pub(crate) range: PageRange<P>,
    pub(crate) attrs: Attrs,
}

/// Reads the runs of `range`, in order and without gaps, as many as there is capacity for in `runs`, or
/// less if that would take long; neighbours differ. The caller must keep others from changing
/// attributes.
///
/// Returns the first page that isn't in them: the end of `range`, or where to go on.
pub(crate) fn read<P: PageNumber>(
    stored: &impl Runs<P>,
    range: &PageRange<P>,
    layers: Layers,
    runs: &mut KVVec<AttrsRun<P>>,
) -> P {
    for (n, Run { range, word }) in stored.runs(range).enumerate() {
        if n == MOST_LOOKED_AT {
            return range.start();
        }
        let attrs = layers.of(word);
        let same = runs.last_mut().filter(|last| last.attrs == attrs);
        let joined = same.and_then(|last| {
            last.range = PageRange::new(last.range.start(), range.end())?;
            Some(())
        });
        let new = AttrsRun { range, attrs };
        if joined.is_none() && runs.push_within_capacity(new).is_err() {
            return range.start();
        }
    }
    range.end()
}

#[cfg(KMA_KUNIT)]
#[allow(unsafe_code)]
#[kunit_tests(kvm_memattr_readback)]
mod tests {
    use super::*;
    use crate::{
        host::gfn::Gfn,
        runs::testing::{
            range,
            Pages, //
        },
        word::Layer,
    };

    fn reads(layers: Layers, room: usize, end: u64, want: &[(u64, u64, Attrs)]) -> Result<bool> {
        let mut runs = KVVec::with_capacity(room, GFP_KERNEL)?;
        let next = read(&Pages(b".WwWx"), &range(0, end), layers, &mut runs);
        let want_next = want.last().map_or(0, |(_, end, _)| *end);
        let want = want.iter().map(|(start, end, attrs)| AttrsRun {
            range: range(*start, *end),
            attrs: *attrs,
        });
        Ok(runs.iter().copied().eq(want) && next == Gfn::new(want_next))
    }

    const NONE: Attrs = Attrs::NONE;
    const NW: Attrs = Attrs::NW;
    const NX: Attrs = Attrs::NX;

    #[test]
    fn what_comes_to_the_same_is_one_run() -> Result {
        let want = [(0, 1, NONE), (1, 4, NW), (4, 5, NX), (5, 9, NONE)];
        assert!(reads(Layers::ALL, 4, 9, &want)?);
        Ok(())
    }

    #[test]
    fn a_layer_has_its_own_runs() -> Result {
        let base = [
            (0, 1, NONE),
            (1, 2, NW),
            (2, 3, NONE),
            (3, 4, NW),
            (4, 9, NONE),
        ];
        assert!(reads(Layers::only(Layer::BASE), 8, 9, &base)?);
        let first = [(0, 2, NONE), (2, 3, NW), (3, 4, NONE), (4, 5, NX)];
        assert!(reads(
            Layers::parse(1).unwrap_or(Layers::ALL),
            8,
            5,
            &first
        )?);
        let second = [(0, 9, NONE)];
        assert!(reads(
            Layers::parse(2).unwrap_or(Layers::ALL),
            1,
            9,
            &second
        )?);
        Ok(())
    }

    #[test]
    fn what_has_no_room_is_next() -> Result {
        assert!(reads(Layers::ALL, 2, 9, &[(0, 1, NONE), (1, 4, NW)])?);
        assert!(reads(Layers::ALL, 1, 9, &[(0, 1, NONE)])?);
        Ok(())
    }
}
