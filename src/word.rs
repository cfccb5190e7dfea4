// SPDX-License-Identifier: GPL-2.0

//! The word that is stored for a page: the attributes of all layers in one, and how it changes.
//!
//! Uses nothing but `core`, so that it can be compiled and tested on any host.

#![deny(unsafe_code)]

use crate::attrs::Attrs;
use core::fmt;

/// One of the independent sets of restrictions of a VM. Layer 0, the base layer, also has PRIVATE.
///
/// # Invariants
///
/// It's less than [`Layer::NR`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layer(u32);

impl Layer {
    /// The number of layers.
    pub(crate) const NR: u32 = 16;
    /// The layer of the commands that name none.
    pub(crate) const BASE: Self = Self(0);

    /// The layer of a number, if there's one.
    pub(crate) const fn new(number: u32) -> Option<Self> {
        if number < Self::NR {
            // INVARIANT: Checked above.
            Some(Self(number))
        } else {
            None
        }
    }

    /// All layers, in order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::NR).filter_map(Self::new)
    }

    /// The attributes that a layer can have, of those that the VM supports.
    pub(crate) const fn supported(self, by_vm: Attrs) -> Attrs {
        if self.0 == 0 {
            by_vm
        } else {
            by_vm.masked(Attrs::RESTRICTIONS)
        }
    }

    /// Where the layer's attributes are in a word. The base layer's are where userspace has them, and
    /// its PRIVATE is in the way of the others.
    const fn shift(self) -> u32 {
        if self.0 == 0 {
            0
        } else {
            BITS * self.0 + 1
        }
    }
}

/// Number of restrictions, a bit each.
const BITS: u32 = 3;
const RESTRICTIONS: u64 = Attrs::RESTRICTIONS.raw();
/// All that the base layer has.
const BASE: u64 = RESTRICTIONS | Attrs::PRIVATE.raw();
/// The NR of each layer, in a row of all layers.
const UNREADABLE: u64 = ((1 << (Layer::NR * BITS)) - 1) / RESTRICTIONS * Attrs::NR.raw();

const _: () = assert!(RESTRICTIONS == (1 << BITS) - 1 && Attrs::PRIVATE.raw() == 1 << BITS);
const _: () = assert!(Attrs::NR.raw() == 1);
// An xarray's value entry has a bit less than a word.
const _: () = assert!(Layer::NR * BITS + 1 < u64::BITS);

/// What a page has in each layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    /// No attribute in any layer.
    pub(crate) const NONE: Self = Self(0);
    /// Guest private.
    pub(crate) const PRIVATE: Self = Self(Attrs::PRIVATE.raw());

    /// The word of a page with attributes in the base layer only.
    pub(crate) const fn base(attrs: Attrs) -> Self {
        Self(attrs.raw() & BASE)
    }

    /// A word from what the store has for it.
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// What the store has for the word.
    pub(crate) const fn raw(self) -> u64 {
        self.0
    }

    /// Is the page private?
    #[inline]
    pub(crate) const fn is_private(self) -> bool {
        self.0 & Attrs::PRIVATE.raw() != 0
    }

    /// The attributes of one layer.
    pub(crate) const fn layer(self, layer: Layer) -> Attrs {
        let attrs = Attrs::from_raw(self.0 >> layer.shift());
        attrs.masked(layer.supported(Attrs::supported(None)))
    }

    /// What binds the guest: the restrictions of all layers, and PRIVATE.
    #[inline]
    pub(crate) const fn enforced(self) -> Attrs {
        Attrs::from_raw(self.0 & Attrs::PRIVATE.raw() | self.restrictions())
    }

    /// The restrictions of all layers in a row, without what's in the way.
    #[inline]
    const fn row(self) -> u64 {
        self.0 & RESTRICTIONS | self.0 >> 1 & !RESTRICTIONS
    }

    /// The restrictions of all layers in one.
    #[inline]
    const fn restrictions(self) -> u64 {
        // Most VMs have no other layer than the base layer.
        if self.0 <= BASE {
            return self.0 & RESTRICTIONS;
        }
        let mut row = self.row();
        let mut layers = Layer::NR;
        while layers > 1 {
            layers /= 2;
            row |= row >> (layers * BITS);
        }
        row & RESTRICTIONS
    }

    /// Can a page have this? Each layer must have what a page can have alone, and a private page has
    /// no restriction in any of them.
    pub(crate) const fn is_valid(self) -> bool {
        let row = self.row();
        // Of what isn't readable nothing else is left either, see `Attrs::is_valid()`.
        let denied = (row & UNREADABLE) * RESTRICTIONS;
        row & denied == denied && !(self.is_private() && row != 0)
    }

    /// The bits of a word that isn't valid that can't be together: PRIVATE and all restrictions, or all
    /// that a layer can have which isn't valid by itself.
    pub(crate) fn conflict(self) -> Self {
        if self.is_private() {
            return self;
        }
        let bad = |layer: &Layer| !self.layer(*layer).is_valid();
        Self(
            Layer::all()
                .filter(bad)
                .fold(0, |bits, layer| bits | RESTRICTIONS << layer.shift()),
        )
    }
}

/// Shows what's enforced, and which layers say what.
impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.enforced())?;
        if *self == Self::base(self.enforced()) {
            return Ok(());
        }
        for layer in Layer::all() {
            let attrs = self.layer(layer);
            if attrs != Attrs::NONE {
                write!(f, " {}:{attrs}", layer.0)?;
            }
        }
        Ok(())
    }
}

/// The layers that a lookup asks about. A guest is bound by all of them; nothing else depends on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layers(u64);

impl Layers {
    /// What userspace has for all of them.
    const NUMBER_OF_ALL: u32 = !0;
    /// All of them.
    pub(crate) const ALL: Self = Self(u64::MAX);

    /// One of them.
    pub(crate) const fn only(layer: Layer) -> Self {
        Self(layer.supported(Attrs::supported(None)).raw() << layer.shift())
    }

    /// The layers of a number. `None` if there's no such layer.
    pub(crate) fn parse(number: u32) -> Option<Self> {
        match number {
            Self::NUMBER_OF_ALL => Some(Self::ALL),
            _ => Layer::new(number).map(Self::only),
        }
    }

    /// What they come to for a page.
    #[inline]
    pub(crate) const fn of(self, word: Word) -> Attrs {
        Word(word.0 & self.0).enforced()
    }
}

/// What becomes of a page's word: some of its bits get the values that are asked for, the others
/// stay.
///
/// Making a change twice is making it once, which the store relies on: where any word becomes the
/// default, the default stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    mask: u64,
    value: u64,
}

impl Change {
    /// The word becomes `word`.
    pub(crate) const fn to(word: Word) -> Self {
        Self {
            mask: u64::MAX,
            value: word.0,
        }
    }

    /// Of one layer, the attributes in `mask` become what they are in `attrs`. Both must be ones that
    /// the layer can have.
    pub(crate) const fn layer(layer: Layer, mask: Attrs, attrs: Attrs) -> Self {
        Self {
            mask: mask.raw() << layer.shift(),
            value: attrs.masked(mask).raw() << layer.shift(),
        }
    }

    /// This change, and then another one.
    pub(crate) const fn then(self, later: Self) -> Self {
        Self {
            mask: self.mask | later.mask,
            value: self.value & !later.mask | later.value,
        }
    }

    /// What a page has that had `old`.
    #[inline]
    pub(crate) const fn apply(self, old: Word) -> Word {
        Word(old.0 & !self.mask | self.value)
    }

    /// Is what a page has that had `old` another word?
    #[inline]
    pub(crate) fn changes(self, old: Word) -> bool {
        self.apply(old) != old
    }

    /// What all pages have, whatever they had, if that's so.
    pub(crate) const fn constant(self) -> Option<Word> {
        if self.mask == u64::MAX {
            Some(Word(self.value))
        } else {
            None
        }
    }

    /// Can a page become private by it?
    pub(crate) const fn sets_private(self) -> bool {
        Word(self.value).is_private()
    }

    /// The bits of which it says what becomes of them.
    pub(crate) const fn about(self) -> Word {
        Word(self.mask)
    }

    /// Is something denied afterwards in any case?
    pub(crate) const fn denies(self) -> bool {
        Word(self.value).restrictions() != 0
    }

    /// Does it set something in another layer than the base layer?
    pub(crate) const fn sets_layered(self) -> bool {
        self.value > BASE
    }
}

#[cfg(any(test, KMA_KUNIT))]
#[cfg_attr(
    KMA_KUNIT,
    allow(unsafe_code),
    kernel::prelude::kunit_tests(kvm_memattr_word)
)]
mod tests {
    use super::*;

    fn set(word: Word, layer: u32, attrs: Attrs) -> Word {
        let mask = |layer: Layer| layer.supported(Attrs::supported(None));
        Layer::new(layer).map_or(word, |layer| {
            Change::layer(layer, mask(layer), attrs).apply(word)
        })
    }

    #[test]
    fn there_are_sixteen_layers() {
        assert!(Layer::all().count() == 16);
        assert!(Layer::new(15).is_some());
        assert!(Layer::new(16).is_none());
        assert!(Layer::new(u32::MAX).is_none());
        assert!(Layer::new(0) == Some(Layer::BASE));
    }

    #[test]
    fn only_the_base_layer_has_private() {
        for vm in [Attrs::supported(Some(true)), Attrs::supported(Some(false))] {
            for layer in Layer::all() {
                let base = layer == Layer::BASE;
                let want = if base { vm } else { Attrs::RESTRICTIONS };
                assert!(layer.supported(vm) == want);
            }
        }
    }

    #[test]
    fn a_layer_is_none_of_the_others_business() {
        let mut word = Word::NONE;
        for (n, attrs) in [
            (0, Attrs::NW),
            (1, Attrs::NX),
            (7, Attrs::RESTRICTIONS),
            (15, Attrs::NW),
        ] {
            word = set(word, n, attrs);
        }
        for layer in Layer::all() {
            let want = match layer.0 {
                0 | 15 => Attrs::NW,
                1 => Attrs::NX,
                7 => Attrs::RESTRICTIONS,
                _ => Attrs::NONE,
            };
            assert!(word.layer(layer) == want);
        }
        let word = set(word, 7, Attrs::NONE);
        assert!(word.enforced() == Attrs::from_raw(6));
        assert!(set(set(word, 0, Attrs::NONE), 1, Attrs::NONE).enforced() == Attrs::NW);
        assert!(set(word, 15, Attrs::NONE).layer(Layer::BASE) == Attrs::NW);
    }

    #[test]
    fn each_restriction_of_each_layer_is_enforced() {
        for layer in 0..16 {
            for attrs in [Attrs::NR, Attrs::NW, Attrs::NX] {
                let word = set(Word::NONE, layer, attrs);
                assert!(word.enforced() == attrs);
                assert!(word.raw().count_ones() == 1);
                assert!(!word.is_private());
            }
        }
        assert!(Word::PRIVATE.enforced() == Attrs::PRIVATE);
    }

    #[test]
    fn private_excludes_restrictions_of_each_layer() {
        assert!(Word::PRIVATE.is_valid());
        assert!(Word::NONE.is_valid());
        for layer in 0..16 {
            assert!(!set(Word::PRIVATE, layer, Attrs::from_raw(8 | 2)).is_valid() || layer > 0);
            if layer > 0 {
                assert!(!set(Word::PRIVATE, layer, Attrs::NW).is_valid());
            }
            assert!(set(Word::NONE, layer, Attrs::NW).is_valid());
        }
    }

    #[test]
    fn each_layer_is_valid_alone() {
        for (layer, raw) in (0..16).flat_map(|layer| (0..8).map(move |raw| (layer, raw))) {
            let attrs = Attrs::from_raw(raw);
            assert!(set(Word::NONE, layer, attrs).is_valid() == attrs.is_valid());
        }
        // What makes one layer valid isn't taken from another.
        let word = set(set(Word::NONE, 3, Attrs::NR), 4, Attrs::from_raw(6));
        assert!(word.enforced() == Attrs::RESTRICTIONS);
        assert!(!word.is_valid());
        assert!(set(word, 3, Attrs::RESTRICTIONS).is_valid());
    }

    #[test]
    fn what_excludes_each_other_is_told() {
        let word = set(set(Word::NONE, 3, Attrs::NR), 4, Attrs::NX);
        assert!(word.conflict() == set(Word::NONE, 3, Attrs::RESTRICTIONS));
        let word = set(Word::PRIVATE, 4, Attrs::NX);
        assert!(word.conflict() == word);
    }

    #[test]
    fn what_denies_something_is_known() {
        let deny = Attrs::from_raw(6);
        for layer in Layer::all() {
            assert!(Change::layer(layer, deny, Attrs::NX).denies());
            assert!(!Change::layer(layer, deny, Attrs::NONE).denies());
        }
        assert!(!Change::to(Word::PRIVATE).denies());
    }

    #[test]
    fn a_change_leaves_what_is_not_in_its_mask() {
        let change = Change::layer(
            Layer::BASE,
            Attrs::from_raw(0b0110),
            Attrs::from_raw(0b1010),
        );
        assert!(change.apply(Word(0b1101)) == Word(0b1011));
        assert!(change.constant().is_none());
        let change = Change::to(Word::PRIVATE);
        assert!(change.apply(Word(0b0111)) == Word::PRIVATE);
        assert!(change.constant() == Some(Word::PRIVATE));
    }

    #[test]
    fn a_change_made_twice_is_made_once() {
        for bits in 0..1u64 << 9 {
            let attrs = |bits: u64| Attrs::from_raw(bits & 7);
            let change = Change::layer(Layer::BASE, attrs(bits), attrs(bits >> 3));
            let new = change.apply(Word(bits >> 6));
            assert!(change.apply(new) == new);
        }
    }

    #[test]
    fn layers_are_numbered() {
        assert!(Layers::parse(0) == Some(Layers::only(Layer::BASE)));
        assert!(Layers::parse(15) == Layer::new(15).map(Layers::only));
        assert!(Layers::parse(16).is_none());
        assert!(Layers::parse(!0) == Some(Layers::ALL));
        assert!(Layers::parse(!0 - 1).is_none());
    }

    #[test]
    fn a_lookup_asks_about_some_layers() {
        let word = set(set(Word::PRIVATE, 3, Attrs::NW), 15, Attrs::NX);
        assert!(Layers::ALL.of(word) == word.enforced());
        for layer in Layer::all() {
            assert!(Layers::only(layer).of(word) == word.layer(layer));
        }
    }

    #[test]
    fn two_changes_are_one() {
        for bits in 0..1u64 << 12 {
            let attrs = |bits: u64| Attrs::from_raw(bits & 7);
            let first = Change::layer(Layer::BASE, attrs(bits), attrs(bits >> 3));
            let second = Change::layer(Layer::BASE, attrs(bits >> 6), attrs(bits >> 9));
            for old in [Word(0), Word(5), Word(7), Word(0x70)] {
                assert!(first.then(second).apply(old) == second.apply(first.apply(old)));
            }
        }
    }
}
