// SPDX-License-Identifier: Apache-2.0
//! Mistral's own tokenizer file, `tekken.json`, as a byte-level BPE of the `tokenizers` crate. The file lists tokens by
//! rank and no merges; a token's merge is found by running BPE with the tokens of lower rank on its bytes.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{json, Value};
use tokenizers::models::bpe::{Vocab, BPE};
use tokenizers::{AddedToken, DecoderWrapper, PreTokenizerWrapper, Tokenizer};

use crate::fault::{read_text, Fault};

pub const FILE: &str = "tekken.json";

/// The control tokens of files that list none, which are of the first versions.
const SPECIALS: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

/// No published file comes near.
const MOST_TOKENS: u64 = 1 << 22;
/// The first tokens are the single bytes.
const BYTES: usize = 256;
const SHOWN: usize = 10;

struct File {
    pattern: String,
    specials: Vec<String>,
    tokens: Vec<Vec<u8>>, // by rank
}

/// The tokenizer of `folder`, without anything around a text.
pub fn open(folder: &Path) -> Result<Tokenizer, Fault> {
    let path = folder.join(FILE);
    let refuse = |what: String| Fault::format(format!("{}: {what}", path.display()));
    let text = read_text(&path)?.ok_or_else(|| refuse("is not there".into()))?;
    let file = {
        let json: Value = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        drop(text);
        read(&json).map_err(refuse)?
    };
    build(&file).map_err(refuse)
}

fn read(json: &Value) -> Result<File, String> {
    let config = json.get("config").filter(|c| c.is_object()).ok_or("field config: expected an object")?;
    let number = |name: &str| {
        let found = config.get(name).unwrap_or(&Value::Null);
        found.as_u64().filter(|&n| n <= MOST_TOKENS).map(|n| n as usize).ok_or_else(|| {
            format!("field config.{name}: expected an integer from 0 to {MOST_TOKENS}, found {}", shortened(found))
        })
    };
    let pattern = config.get("pattern").and_then(Value::as_str).ok_or("field config.pattern: expected a string")?;
    let specials_count = number("default_num_special_tokens")?;
    let size = number("default_vocab_size")?;
    let used = size.checked_sub(specials_count).ok_or_else(|| {
        format!("field config: expected a vocabulary larger than its {specials_count} special tokens, found {size}")
    })?;
    let vocab = json.get("vocab").and_then(Value::as_array).ok_or("field vocab: expected a list")?;
    if used < BYTES || vocab.len() < used {
        return Err(format!(
            "field vocab: expected {used} tokens, as config says, and at least the {BYTES} bytes, found {}",
            vocab.len()
        ));
    }
    let specials = read_specials(json.get("special_tokens"), specials_count)?;
    Ok(File { pattern: pattern.into(), specials, tokens: read_tokens(&vocab[..used])? })
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// All faults of one kind in one message.
fn together(faults: Vec<String>) -> Result<(), String> {
    match faults.len() {
        0 => Ok(()),
        1 => Err(faults.into_iter().next().unwrap_or_default()),
        count => {
            let rest = if count > SHOWN { format!("\n  and {} more", count - SHOWN) } else { String::new() };
            Err(format!("{count} faults:\n  {}{rest}", faults[..count.min(SHOWN)].join("\n  ")))
        }
    }
}

/// The special tokens by rank, filled up as Mistral's own package does.
fn read_specials(listed: Option<&Value>, count: usize) -> Result<Vec<String>, String> {
    let names: Vec<String> = match listed {
        None | Some(Value::Null) => SPECIALS.iter().map(|name| (*name).to_string()).collect(),
        Some(Value::Array(items)) => {
            let mut faults = Vec::new();
            let mut names = Vec::new();
            for (place, item) in items.iter().enumerate() {
                let rank = item.get("rank").and_then(Value::as_u64);
                let name = item.get("token_str").and_then(Value::as_str);
                match (rank, name) {
                    (Some(rank), Some(name)) if rank == place as u64 => names.push(name.to_string()),
                    (Some(rank), Some(name)) => faults.push(format!(
                        "special token {name:?}: expected rank {place}, found {rank}: ranks follow each other without \
                         holes, none twice"
                    )),
                    _ => faults.push(format!("special token {place}: expected a rank and a token_str")),
                }
            }
            together(faults)?;
            names
        }
        Some(other) => return Err(format!("field special_tokens: expected a list, found {}", shortened(other))),
    };
    if names.len() > count {
        return Err(format!("field special_tokens: expected at most {count}, as config says, found {}", names.len()));
    }
    let filled: Vec<String> =
        names.iter().cloned().chain((names.len()..count).map(|rank| format!("<SPECIAL_{rank}>"))).collect();
    let mut seen = HashMap::new();
    let faults = filled.iter().enumerate().filter_map(|(rank, name)| {
        seen.insert(name, rank).map(|first| format!("special tokens {first} and {rank} are both {name:?}"))
    });
    together(faults.collect())?;
    Ok(filled)
}

fn read_tokens(vocab: &[Value]) -> Result<Vec<Vec<u8>>, String> {
    let mut tokens = Vec::with_capacity(vocab.len());
    let mut faults = Vec::new();
    for (place, entry) in vocab.iter().enumerate() {
        let rank = entry.get("rank").and_then(Value::as_u64);
        if rank != Some(place as u64) {
            let found = entry.get("rank").map_or("nothing".into(), shortened);
            faults.push(format!("vocab[{place}]: expected rank {place}, found {found}: ranks follow each other without holes, none twice"));
        }
        match entry.get("token_bytes").and_then(Value::as_str).and_then(from_base64) {
            Some(bytes) if place < BYTES && bytes != [place as u8] => {
                faults.push(format!("vocab[{place}]: expected the byte {place}, found {} bytes", bytes.len()));
            }
            Some(bytes) if !bytes.is_empty() => tokens.push(bytes),
            _ => faults.push(format!("vocab[{place}]: token_bytes: expected bytes in base64")),
        }
    }
    together(faults)?;
    let mut seen = HashMap::new();
    let faults = tokens.iter().enumerate().filter_map(|(rank, bytes)| {
        seen.insert(bytes.as_slice(), rank).map(|first| format!("vocab[{first}] and vocab[{rank}] hold the same bytes"))
    });
    together(faults.collect())?;
    Ok(tokens)
}

/// Strict base64 with padding.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(u32::from(c - b'A')),
        b'a'..=b'z' => Some(u32::from(c - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(c - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    if text.len() % 4 != 0 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    for group in digits.as_bytes().chunks(4) {
        let mut bits = 0;
        for &c in group {
            bits = bits << 6 | value(c)?;
        }
        bits <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len().max(1)]);
    }
    Some(bytes)
}

/// How GPT-2 writes each byte as a character.
fn byte_characters() -> [char; BYTES] {
    let plain = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut next = 256;
    std::array::from_fn(|byte| {
        let byte = byte as u32;
        let code = if plain(byte) {
            byte
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).unwrap_or(' ')
    })
}

/// The two pieces that BPE with the tokens of lower rank leaves of a token: its merge. None where more are left: such a
/// token is only found whole.
fn merge_of<'a>(ranks: &HashMap<&[u8], usize>, token: &'a [u8], rank: usize) -> Option<(&'a [u8], &'a [u8])> {
    let mut ends: Vec<usize> = (0..=token.len()).collect();
    loop {
        let lowest = (0..ends.len().saturating_sub(2))
            .filter_map(|i| ranks.get(&token[ends[i]..ends[i + 2]]).filter(|&&r| r < rank).map(|&r| (r, i)))
            .min();
        match lowest {
            Some((_, i)) => {
                ends.remove(i + 1);
            }
            None => break,
        }
    }
    (ends.len() == 3).then(|| token.split_at(ends[1]))
}

fn build(file: &File) -> Result<Tokenizer, String> {
    let characters = byte_characters();
    let spell = |bytes: &[u8]| bytes.iter().map(|&byte| characters[usize::from(byte)]).collect::<String>();
    let ranks: HashMap<&[u8], usize> =
        file.tokens.iter().enumerate().map(|(rank, token)| (token.as_slice(), rank)).collect();
    let merges = file
        .tokens
        .iter()
        .enumerate()
        .skip(BYTES)
        .filter_map(|(rank, token)| merge_of(&ranks, token, rank).map(|(left, right)| (spell(left), spell(right))));
    let merges: Vec<(String, String)> = merges.collect();
    let first = file.specials.len();
    let mut vocab: Vocab = file.specials.iter().enumerate().map(|(id, name)| (name.clone(), id as u32)).collect();
    for (rank, token) in file.tokens.iter().enumerate() {
        if vocab.insert(spell(token), (first + rank) as u32).is_some() {
            return Err(format!("vocab[{rank}] is spelled as a special token is"));
        }
    }
    let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(true).build();
    let mut tokenizer = Tokenizer::new(model.map_err(|error| error.to_string())?);
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let split = json!({"type": "Split", "pattern": {"Regex": file.pattern}, "behavior": "Isolated", "invert": false});
    let sequence = json!({"type": "Sequence", "pretokenizers": [split, byte_level]});
    let wrong_pattern = |error: serde_json::Error| format!("field config.pattern: cannot be compiled: {error}");
    let pre_tokenizer: PreTokenizerWrapper = serde_json::from_value(sequence).map_err(wrong_pattern)?;
    let decoder: DecoderWrapper = serde_json::from_value(byte_level).map_err(wrong_pattern)?;
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    tokenizer.with_decoder(Some(decoder));
    let specials = file.specials.iter().map(|name| AddedToken::from(name.clone(), true).normalized(false));
    tokenizer.add_special_tokens(specials).map_err(|error| error.to_string())?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_base64_strictly() {
        assert_eq!(from_base64("AQID"), Some(vec![1, 2, 3]));
        assert_eq!(from_base64("AQI="), Some(vec![1, 2]));
        assert_eq!(from_base64("/w=="), Some(vec![255]));
        assert_eq!(from_base64(""), Some(vec![]));
        for wrong in ["A", "AQ", "A===", "A*==", "AQI=AQI=", "===="] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn spells_bytes_as_gpt2_does() {
        let characters = byte_characters();
        assert_eq!((characters[b' ' as usize], characters[b'a' as usize]), ('Ġ', 'a'));
        assert_eq!((characters[0], characters[173], characters[255]), ('Ā', 'Ń', 'ÿ'));
    }

    #[test]
    fn finds_the_merge_that_lower_ranks_leave() {
        let tokens: [&[u8]; 4] = [b"ab", b"bc", b"abc", b"xyz"];
        let ranks: HashMap<&[u8], usize> = tokens.iter().enumerate().map(|(rank, &token)| (token, rank)).collect();
        assert_eq!(merge_of(&ranks, b"ab", 0), Some((&b"a"[..], &b"b"[..])));
        assert_eq!(merge_of(&ranks, b"abc", 2), Some((&b"ab"[..], &b"c"[..])));
        assert_eq!(merge_of(&ranks, b"xyz", 3), None);
    }
}
