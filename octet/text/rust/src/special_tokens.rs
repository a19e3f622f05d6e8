// SPDX-License-Identifier: Apache-2.0
//! What `tokenizer_config.json` and `special_tokens_map.json` say of special tokens, read as transformers reads them.

use std::path::Path;

use crate::fault::{read_object, Fault};
use crate::json::Json;
use crate::tekken;

/// The names that must be tokens; other fields that end in `_token` may be anything.
const STANDARD: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token of the configuration, with the flags that an added token has.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigToken {
    pub content: String,
    pub special: bool,
    pub normalized: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub single_word: bool,
}

#[derive(Debug, Default)]
pub struct SpecialTokens {
    /// `bos_token`, `eos_token` and every other `*_token`, in the order of the file: template variables.
    pub named: Vec<(String, String)>,
    /// Tokens that must be cut out of a text whole.
    pub added: Vec<ConfigToken>,
    /// Whether the configuration has the field at all (then it rules the post-processor), and what it says.
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    /// `split_special_tokens`: special tokens inside a text are text.
    pub split_special: bool,
}

impl SpecialTokens {
    pub fn read(folder: &Path, config: Option<&Json>) -> Result<SpecialTokens, Fault> {
        let mut tokens = SpecialTokens::of_config(folder, config)?;
        if !folder.join("tokenizer.json").is_file() && folder.join(tekken::FILE).is_file() {
            // The names of its first ranks, which no other file of the folder need say.
            for (name, token) in [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")] {
                if tokens.get(name).is_none() {
                    tokens.set_named(name, token.into());
                }
            }
        }
        Ok(tokens)
    }

    fn of_config(folder: &Path, config: Option<&Json>) -> Result<SpecialTokens, Fault> {
        let path = folder.join("tokenizer_config.json");
        let Some(config @ Json::Object(entries)) = config else {
            return SpecialTokens::default().with_map(folder);
        };
        let mut tokens = SpecialTokens {
            add_bos: flag(config, "add_bos_token", &path)?,
            add_eos: flag(config, "add_eos_token", &path)?,
            split_special: flag(config, "split_special_tokens", &path)?.unwrap_or(false),
            ..SpecialTokens::default()
        };
        tokens.read_decoder(config, &path)?;
        tokens.read_fields(entries, &path)?;
        if config.get("added_tokens_decoder").is_some() {
            return Ok(tokens);
        }
        tokens.with_map(folder)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(key, _)| key == name).map(|(_, token)| token.as_str())
    }

    /// The older file goes over the newer one, but only where the newer one lists no added tokens.
    fn with_map(mut self, folder: &Path) -> Result<SpecialTokens, Fault> {
        let path = folder.join("special_tokens_map.json");
        if let Some(Json::Object(entries)) = read_object(&path)? {
            self.read_fields(&entries, &path)?;
        }
        Ok(self)
    }

    fn read_fields(&mut self, entries: &[(String, Json)], path: &Path) -> Result<(), Fault> {
        for (key, value) in entries {
            if key == "additional_special_tokens"
                || key == "extra_special_tokens"
                || key == "model_specific_special_tokens"
            {
                self.read_extra(key, value, path)?;
            } else if key.ends_with("_token") && !matches!(value, Json::Null | Json::Bool(_)) {
                match special(value) {
                    Some(token) => {
                        self.set_named(key, token.content.clone());
                        self.added.push(token);
                    }
                    None if STANDARD.contains(&key.as_str()) => {
                        return Err(Fault::format(format!(
                            "{}: field {key}: expected a string or an object with \"content\", found {}",
                            path.display(),
                            value.kind()
                        )));
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn set_named(&mut self, key: &str, token: String) {
        match self.named.iter_mut().find(|(name, _)| name == key) {
            Some(entry) => entry.1 = token,
            None => self.named.push((key.to_string(), token)),
        }
    }

    fn read_extra(&mut self, key: &str, value: &Json, path: &Path) -> Result<(), Fault> {
        let wrong =
            || Fault::format(format!("{}: field {key}: expected tokens, found {}", path.display(), value.kind()));
        match value {
            Json::Null => {}
            Json::Array(items) => {
                for item in items {
                    self.added.push(special(item).ok_or_else(wrong)?);
                }
            }
            Json::Object(entries) => {
                for (name, item) in entries {
                    let token = special(item).ok_or_else(wrong)?;
                    self.set_named(name, token.content.clone());
                    self.added.push(token);
                }
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn read_decoder(&mut self, config: &Json, path: &Path) -> Result<(), Fault> {
        let wrong = |what: &str| Fault::format(format!("{}: field added_tokens_decoder: {what}", path.display()));
        let entries = match config.get("added_tokens_decoder") {
            None | Some(Json::Null) => return Ok(()),
            Some(Json::Object(entries)) => entries,
            Some(other) => return Err(wrong(&format!("expected an object, found {}", other.kind()))),
        };
        let mut numbered = Vec::new();
        for (id, token) in entries {
            let number: u32 = id.parse().map_err(|_| wrong(&format!("expected token ids as keys, found \"{id}\"")))?;
            let token =
                added(token).ok_or_else(|| wrong(&format!("token {id}: expected an object with \"content\"")))?;
            numbered.push((number, token));
        }
        numbered.sort_by_key(|(id, _)| *id);
        self.added.extend(numbered.into_iter().map(|(_, token)| token));
        Ok(())
    }
}

fn flag(config: &Json, key: &str, path: &Path) -> Result<Option<bool>, Fault> {
    match config.get(key) {
        None => Ok(None),
        Some(Json::Null) => Ok(Some(false)),
        Some(Json::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(Fault::format(format!(
            "{}: field {key}: expected true or false, found {}",
            path.display(),
            other.kind()
        ))),
    }
}

fn added(value: &Json) -> Option<ConfigToken> {
    let content = value.get("content")?.as_str()?.to_string();
    let flag = |key: &str| match value.get(key) {
        Some(Json::Bool(value)) => Some(*value),
        _ => None,
    };
    let special = flag("special").unwrap_or(false);
    Some(ConfigToken {
        content,
        special,
        normalized: flag("normalized").unwrap_or(!special),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        single_word: flag("single_word").unwrap_or(false),
    })
}

/// A token given by name is special whatever its flags say.
fn special(value: &Json) -> Option<ConfigToken> {
    let plain = |content: &str| ConfigToken {
        content: content.to_string(),
        special: true,
        normalized: false,
        lstrip: false,
        rstrip: false,
        single_word: false,
    };
    match value {
        Json::String(content) => Some(plain(content)),
        _ => added(value).map(|token| ConfigToken { special: true, ..token }),
    }
}
