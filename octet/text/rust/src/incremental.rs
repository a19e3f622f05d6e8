// SPDX-License-Identifier: Apache-2.0
//! Decoding token by token. A short window of tokens is decoded at each step, so the cost does not grow with the
//! text; its first tokens are known already and only give the context that decides about spaces.

use std::sync::Arc;

use crate::fault::Fault;
use crate::tokenizer::FolderTokenizer;

const UNFINISHED: char = '\u{fffd}';
/// A character has at most four bytes, so three tokens at most can wait for the one that completes it.
const MAX_WAITING: usize = 3;
/// Longer windows occur only in garbage; they are cut so that garbage cannot make each step slower.
const MAX_WINDOW: usize = 64;
const CUT_WINDOW: usize = 8;

pub struct IncrementalDecoder {
    tokenizer: Arc<FolderTokenizer>,
    skip_special: bool,
    window: Vec<u32>,
    /// How many tokens of the window have been given out wholly.
    settled: usize,
    /// What of the window's text has been given out.
    printed: String,
}

impl IncrementalDecoder {
    pub fn new(tokenizer: Arc<FolderTokenizer>, skip_special: bool) -> IncrementalDecoder {
        IncrementalDecoder { tokenizer, skip_special, window: Vec::new(), settled: 0, printed: String::new() }
    }

    /// The text that `id` makes certain.
    pub fn push(&mut self, id: i32) -> Result<String, Fault> {
        let id = self.tokenizer.check(id)?;
        if self.tokenizer.is_silent(id, self.skip_special) {
            return Ok(String::new());
        }
        self.window.push(id);
        let text = self.decode(0)?;
        if text.ends_with(UNFINISHED) {
            return self.push_unfinished(&text);
        }
        self.give_out(text)
    }

    /// The rest, with U+FFFD for a character that never became whole. The decoder then starts anew.
    pub fn finish(&mut self) -> Result<String, Fault> {
        let text = self.decode(0)?;
        let rest = match text.strip_prefix(&self.printed) {
            Some(rest) => rest.to_string(),
            None => self.decode(self.settled)?,
        };
        self.window.clear();
        self.settled = 0;
        self.printed.clear();
        Ok(rest)
    }

    fn decode(&self, from: usize) -> Result<String, Fault> {
        self.tokenizer.decode_checked(&self.window[from..], self.skip_special)
    }

    fn give_out(&mut self, text: String) -> Result<String, Fault> {
        let new = match text.strip_prefix(&self.printed) {
            Some(new) => new.to_string(),
            // Byte tokens that turned out to be no character change the text before them: only the new tokens count.
            None => {
                self.window.drain(..self.settled);
                self.settled = 0;
                self.decode(0)?
            }
        };
        if new.is_empty() && self.window.len() < MAX_WINDOW {
            return Ok(new);
        }
        // The tokens given out just now are the context of the next ones.
        let context = if new.is_empty() { self.window.len() - CUT_WINDOW } else { self.settled };
        self.window.drain(..context);
        self.settled = self.window.len();
        self.printed = self.decode(0)?;
        Ok(new)
    }

    fn push_unfinished(&mut self, text: &str) -> Result<String, Fault> {
        if self.window.len() - self.settled <= MAX_WAITING {
            return Ok(String::new());
        }
        // More tokens wait than a character has bytes: all but the last three replacement characters are final.
        let mut certain = text;
        for _ in 0..MAX_WAITING {
            certain = certain.strip_suffix(UNFINISHED).unwrap_or(certain);
        }
        let new = match certain.strip_prefix(&self.printed) {
            Some(new) => new.to_string(),
            None => String::new(),
        };
        self.printed.push_str(&new);
        if self.window.len() > MAX_WINDOW {
            self.cut_window()?;
        }
        Ok(new)
    }

    fn cut_window(&mut self) -> Result<(), Fault> {
        self.window.drain(..self.window.len() - CUT_WINDOW);
        self.settled = 0;
        let text = self.decode(0)?;
        let mut certain = text.as_str();
        for _ in 0..MAX_WAITING {
            certain = certain.strip_suffix(UNFINISHED).unwrap_or(certain);
        }
        self.printed = certain.to_string();
        Ok(())
    }
}
