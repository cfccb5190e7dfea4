// SPDX-License-Identifier: GPL-2.0

//! What one side, guest or host, sees in the guest's data: a letter a page.
//!
//! Whoever writes a page fills all of it with one word: a letter in the top byte, the
//! page's number in the others. So a page that was only partly written, or that holds
//! another page's data, does not pass for a written one.

use std::fmt;
use std::ops::Range;

/// The word that fills `page` when someone writes `letter` to it.
pub(crate) const fn word(letter: u8, page: u32) -> u32 {
    (letter as u32) << 24 | page
}

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Zeros throughout: never written.
    Zeros,
    /// This letter, with the number of this very page.
    Letter(char),
    /// One word throughout that nobody should have written there.
    Foreign(u32),
    /// Words that differ.
    Mixed,
}

impl Content {
    /// Reads a page's word; `None` stands for words that differ.
    fn new(page: u32, found: Option<u32>) -> Self {
        let Some(found) = found else {
            return Self::Mixed;
        };
        let letter = (found >> 24) as u8;

        if found == 0 {
            Self::Zeros
        } else if letter.is_ascii_uppercase() && found == word(letter, page) {
            Self::Letter(letter.into())
        } else {
            Self::Foreign(found)
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeros => write!(f, "zeros"),
            Self::Letter(letter) => write!(f, "{letter}"),
            Self::Foreign(word) => write!(f, "the word {word:#010x}"),
            Self::Mixed => write!(f, "a mixture"),
        }
    }
}

/// Runs of pages with the same content, in order and as long as they can be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct View(Vec<(Range<u32>, Content)>);

impl View {
    /// From the word of each page, in order.
    pub(crate) fn from_pages(words: impl Iterator<Item = Option<u32>>) -> Self {
        Self::from_runs((0..).zip(words).map(|(page, word)| {
            let content = Content::new(page, word);
            (page..page + 1, content)
        }))
    }

    /// From neighbouring runs, in order.
    pub(crate) fn from_runs(runs: impl IntoIterator<Item = (Range<u32>, Content)>) -> Self {
        let mut merged: Vec<(Range<u32>, Content)> = Vec::new();

        for (pages, content) in runs {
            match merged.last_mut() {
                Some((last, same)) if *same == content && last.end == pages.start => {
                    last.end = pages.end;
                }
                _ => merged.push((pages, content)),
            }
        }
        Self(merged)
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";

        for (pages, content) in &self.0 {
            write!(f, "{separator}{}: {content}", Pages(pages))?;
            separator = ", ";
        }
        Ok(())
    }
}

/// A range of pages in words: the last one is part of it, as people count.
pub(crate) struct Pages<'a>(pub(crate) &'a Range<u32>);

impl fmt::Display for Pages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "page {}", self.0.start),
            _ => write!(f, "pages {}-{}", self.0.start, self.0.end - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_belong_to_their_page() {
        let words = [
            Some(0),
            Some(word(b'A', 1)),
            Some(word(b'A', 2)),
            Some(word(b'A', 2)),
            None,
        ];

        assert_eq!(
            View::from_pages(words.into_iter()),
            View(vec![
                (0..1, Content::Zeros),
                (1..3, Content::Letter('A')),
                (3..4, Content::Foreign(word(b'A', 2))),
                (4..5, Content::Mixed),
            ])
        );
    }

    #[test]
    fn neighbours_merge() {
        let a = Content::Letter('A');

        assert_eq!(
            View::from_runs([(0..2, a), (2..4, a), (4..5, Content::Zeros)]),
            View(vec![(0..4, a), (4..5, Content::Zeros)])
        );
    }

    #[test]
    fn words_for_people() {
        let view = View::from_runs([
            (0..1, Content::Zeros),
            (1..4, Content::Letter('B')),
            (4..6, Content::Foreign(0x42)),
        ]);

        assert_eq!(
            view.to_string(),
            "page 0: zeros, pages 1-3: B, pages 4-5: the word 0x00000042"
        );
    }
}
