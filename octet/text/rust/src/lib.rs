// SPDX-License-Identifier: Apache-2.0
//! Octet's text library: Hugging Face tokenizers and chat templates behind a C ABI (`abi`). Templates run in minijinja,
//! taught to render as Python's jinja2 does for transformers.

pub mod abi;
pub mod chat_template;
mod conversation;
mod engine;
pub mod fault;
pub mod incremental;
mod json;
mod printable;
mod pycompat;
mod python_json;
mod python_ops;
mod python_str;
mod special_tokens;
mod strftime;
mod tekken;
mod template_rewrite;
pub mod tokenizer;
