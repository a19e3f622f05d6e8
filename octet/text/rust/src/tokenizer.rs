// SPDX-License-Identifier: Apache-2.0
//! A folder's tokenizer: the `tokenizers` crate set up as transformers sets it up.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::OnceLock;

use serde_json::{json, Value};
use tokenizers::{AddedToken, PostProcessorWrapper, Tokenizer};

use crate::fault::{read_object, read_text, Fault};
use crate::json::Json;
use crate::special_tokens::{ConfigToken, SpecialTokens};
use crate::tekken;

pub struct FolderTokenizer {
    tokenizer: Tokenizer,
    /// The same, but special tokens inside a text are text. Made when first asked for: it doubles the memory.
    plain: OnceLock<Tokenizer>,
    size: i64,
    split_special: bool,
    bos: Option<u32>,
    eos: Option<u32>,
}

/// Whether `open` would find a tokenizer.
pub fn present(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("tokenizer.json") || has(tekken::FILE) || (has("vocab.json") && has("merges.txt"))
}

impl FolderTokenizer {
    pub fn open(folder: &Path) -> Result<FolderTokenizer, Fault> {
        let config = read_object(&folder.join("tokenizer_config.json"))?;
        let mut specials = SpecialTokens::read(folder, config.as_ref())?;
        let mut tokenizer = match read_text(&folder.join("tokenizer.json"))? {
            Some(text) => {
                let text = as_llama_class(folder, config.as_ref(), text)?;
                parse(&folder.join("tokenizer.json"), text.as_bytes())?
            }
            None if folder.join(tekken::FILE).is_file() => {
                // Mistral's package puts BOS before every prompt.
                specials.add_bos = specials.add_bos.or(Some(true));
                tekken::open(folder)?
            }
            None => from_vocabulary(folder, config.as_ref(), &mut specials)?,
        };
        // Lengths are the engine's business; transformers switches both off for a plain call.
        tokenizer.with_truncation(None).map_err(|error| Fault::format(format!("{}: {error}", folder.display())))?;
        tokenizer.with_padding(None);
        add_tokens(&mut tokenizer, &specials.added)
            .map_err(|what| Fault::format(format!("{}: {what}", folder.display())))?;
        let id_of = |name: &str| specials.get(name).and_then(|token| tokenizer.token_to_id(token));
        let (bos, eos) = (id_of("bos_token"), id_of("eos_token"));
        if !folder.join("tokenizer.json").is_file() {
            set_post_processor(&mut tokenizer, &specials, bos, eos)?;
        }
        let size = tokenizer.get_vocab(true).values().max().map_or(0, |&id| i64::from(id) + 1);
        Ok(FolderTokenizer { tokenizer, plain: OnceLock::new(), size, split_special: specials.split_special, bos, eos })
    }

    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<i32>, Fault> {
        let tokenizer = if parse_special && !self.split_special { &self.tokenizer } else { self.without_special() };
        let encoding = tokenizer
            .encode_fast(text, add_special)
            .map_err(|error| Fault::config(format!("the tokenizer failed: {error}")))?;
        Ok(encoding.get_ids().iter().map(|&id| id as i32).collect())
    }

    fn without_special(&self) -> &Tokenizer {
        self.plain.get_or_init(|| {
            let mut plain = self.tokenizer.clone();
            plain.set_encode_special_tokens(true);
            plain
        })
    }

    pub fn decode(&self, ids: &[i32], skip_special: bool) -> Result<String, Fault> {
        let ids = ids.iter().map(|&id| self.check(id)).collect::<Result<Vec<_>, _>>()?;
        self.decode_checked(&ids, skip_special)
    }

    pub fn decode_checked(&self, ids: &[u32], skip_special: bool) -> Result<String, Fault> {
        self.tokenizer
            .decode(ids, skip_special)
            .map_err(|error| Fault::config(format!("the tokenizer failed to decode: {error}")))
    }

    /// The id as the crate wants it, if the vocabulary reaches that far.
    pub fn check(&self, id: i32) -> Result<u32, Fault> {
        match u32::try_from(id) {
            Ok(valid) if i64::from(valid) < self.size => Ok(valid),
            _ => Err(Fault::argument(format!(
                "token id {id} is not in the tokenizer's vocabulary of {} ids (0 to {})",
                self.size,
                self.size - 1
            ))),
        }
    }

    /// Whether decoding drops the id: it is a hole in the vocabulary, or a special token that is to be skipped.
    pub fn is_silent(&self, id: u32, skip_special: bool) -> bool {
        match self.tokenizer.id_to_token(id) {
            None => true,
            Some(token) => skip_special && self.tokenizer.get_added_vocabulary().is_special_token(&token),
        }
    }

    pub fn piece(&self, id: i32) -> Result<String, Fault> {
        Ok(self.tokenizer.id_to_token(self.check(id)?).unwrap_or_default())
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    pub fn size(&self) -> i64 {
        self.size
    }

    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub fn eos(&self) -> Option<u32> {
        self.eos
    }
}

/// The crate's own reading, with its panics on absurd files turned into faults that name the file.
fn parse(path: &Path, bytes: &[u8]) -> Result<Tokenizer, Fault> {
    match catch_unwind(AssertUnwindSafe(|| Tokenizer::from_bytes(bytes))) {
        Ok(Ok(tokenizer)) => Ok(tokenizer),
        Ok(Err(error)) => {
            Err(Fault::format(format!("{}: not a tokenizer of the Hugging Face format: {error}", path.display())))
        }
        Err(_) => Err(Fault::format(format!("{}: the tokenizer contradicts itself", path.display()))),
    }
}

/// transformers 5 gives `LlamaTokenizer` models of a SentencePiece kind a pre-tokenizer and decoder of its own in place
/// of the file's: the blank at the start of a text is not doubled, and none is put after special tokens.
fn as_llama_class(folder: &Path, config: Option<&Json>, text: String) -> Result<String, Fault> {
    let model = read_object(&folder.join("config.json"))?;
    let named =
        |file: Option<&Json>, key: &str| file.and_then(|f| f.get(key)).and_then(Json::as_str).map(str::to_string);
    let class =
        named(config, "tokenizer_class").or_else(|| named(model.as_ref(), "tokenizer_class")).unwrap_or_default();
    let is_llama = class.strip_suffix("Fast").unwrap_or(&class) == "LlamaTokenizer";
    if !is_llama || named(model.as_ref(), "model_type").as_deref() != Some("llama") {
        return Ok(text);
    }
    // What is no JSON is left for the crate to refuse.
    let Ok(mut file) = serde_json::from_str::<Value>(&text) else { return Ok(text) };
    let byte_level = ["pre_tokenizer", "decoder"].iter().any(|part| file[part].to_string().contains("\"ByteLevel\""));
    if byte_level || file["model"]["byte_fallback"] != Value::Bool(true) {
        return Ok(text);
    }
    let is = |key: &str, value: bool| config.and_then(|c| c.get(key)) == Some(&Json::Bool(value));
    let scheme = match (is("add_prefix_space", false), is("legacy", true)) {
        (true, _) => "never",
        (_, true) => "always",
        _ => "first",
    };
    file["normalizer"] = Value::Null;
    file["pre_tokenizer"] = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if scheme != "never" {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    file["decoder"] = json!({"type": "Sequence", "decoders": decoders});
    Ok(file.to_string())
}

/// GPT-2 and OPT folders without tokenizer.json: a byte-level BPE from vocab.json and merges.txt.
fn from_vocabulary(folder: &Path, config: Option<&Json>, specials: &mut SpecialTokens) -> Result<Tokenizer, Fault> {
    let (vocab_path, merges_path) = (folder.join("vocab.json"), folder.join("merges.txt"));
    let (Some(vocab), Some(merges)) = (read_text(&vocab_path)?, read_text(&merges_path)?) else {
        return Err(Fault::format(format!(
            "{}: no tokenizer: expected tokenizer.json, tekken.json, or vocab.json with merges.txt",
            folder.display()
        )));
    };
    let vocab: Value =
        serde_json::from_str(&vocab).map_err(|error| Fault::format(format!("{}: {error}", vocab_path.display())))?;
    let merges: Vec<&str> =
        merges.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty()).collect();
    let prefix_space = config.and_then(|c| c.get("add_prefix_space")) == Some(&Json::Bool(true));
    if vocab.get("<|endoftext|>").is_some() {
        for name in ["bos_token", "eos_token", "unk_token"] {
            if specials.get(name).is_none() {
                specials.named.push((name.into(), "<|endoftext|>".into()));
            }
        }
    }
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": true, "use_regex": true});
    let assembled = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges},
    });
    let mut tokenizer = parse(&vocab_path, assembled.to_string().as_bytes())?;
    let named: Vec<ConfigToken> = specials.named.iter().map(|(_, content)| plain_special(content)).collect();
    add_tokens(&mut tokenizer, &named).map_err(|what| Fault::format(format!("{}: {what}", vocab_path.display())))?;
    Ok(tokenizer)
}

fn plain_special(content: &str) -> ConfigToken {
    ConfigToken {
        content: content.into(),
        special: true,
        normalized: false,
        lstrip: false,
        rstrip: false,
        single_word: false,
    }
}

fn add_tokens(tokenizer: &mut Tokenizer, tokens: &[ConfigToken]) -> Result<(), String> {
    for token in tokens {
        let added = AddedToken::from(token.content.clone(), token.special)
            .normalized(token.normalized)
            .lstrip(token.lstrip)
            .rstrip(token.rstrip)
            .single_word(token.single_word);
        let known = tokenizer.get_added_vocabulary().get_vocab().contains_key(&token.content);
        if known {
            continue;
        }
        let outcome = if token.special { tokenizer.add_special_tokens([added]) } else { tokenizer.add_tokens([added]) };
        outcome.map_err(|error| format!("the added token {:?} cannot be added: {error}", token.content))?;
    }
    Ok(())
}

/// What `add_bos_token` and `add_eos_token` of the configuration put around a text. As in transformers 5 they count
/// only where there is no tokenizer.json: its own post-processor stands.
fn set_post_processor(
    tokenizer: &mut Tokenizer,
    specials: &SpecialTokens,
    bos: Option<u32>,
    eos: Option<u32>,
) -> Result<(), Fault> {
    if specials.add_bos.is_none() && specials.add_eos.is_none() {
        return Ok(());
    }
    let around = |wanted: Option<bool>, name: &str, id: Option<u32>| match (wanted, specials.get(name), id) {
        (Some(true), Some(token), Some(id)) => Some((token.to_string(), id)),
        _ => None,
    };
    let (before, after) = (around(specials.add_bos, "bos_token", bos), around(specials.add_eos, "eos_token", eos));
    let part = |token: &Option<(String, u32)>| {
        token.as_ref().map(|(text, _)| json!({"SpecialToken": {"id": text, "type_id": 0}}))
    };
    let sequence = json!({"Sequence": {"id": "A", "type_id": 0}});
    let single: Vec<Value> = part(&before).into_iter().chain([sequence.clone()]).chain(part(&after)).collect();
    let named: serde_json::Map<String, Value> = [before, after]
        .into_iter()
        .flatten()
        .map(|(text, id)| (text.clone(), json!({"id": text, "ids": [id], "tokens": [text]})))
        .collect();
    let template = json!({
        "type": "TemplateProcessing", "single": single, "special_tokens": named,
        "pair": [sequence, {"Sequence": {"id": "B", "type_id": 1}}],
    });
    let processor: PostProcessorWrapper = serde_json::from_value(template)
        .map_err(|error| Fault::format(format!("add_bos_token or add_eos_token cannot be honoured: {error}")))?;
    tokenizer.with_post_processor(Some(processor));
    Ok(())
}
