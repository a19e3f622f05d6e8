// SPDX-License-Identifier: Apache-2.0
//! What the C ABI reports instead of a result, and reading files so that each fault names its file.

use std::fs;
use std::path::Path;

use crate::json::Json;

/// Which exception the C++ face throws; the numbers are the ABI's status codes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(i32)]
pub enum Kind {
    Format = 1,
    Config = 2,
    Argument = 3,
    Internal = 4,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub kind: Kind,
    pub message: String,
}

impl Fault {
    pub fn format(message: impl Into<String>) -> Fault {
        Fault { kind: Kind::Format, message: message.into() }
    }

    pub fn config(message: impl Into<String>) -> Fault {
        Fault { kind: Kind::Config, message: message.into() }
    }

    pub fn argument(message: impl Into<String>) -> Fault {
        Fault { kind: Kind::Argument, message: message.into() }
    }
}

const MAX_FILE: u64 = 512 << 20;

/// The file's text; `None` where there is no such file.
pub fn read_text(path: &Path) -> Result<Option<String>, Fault> {
    let refuse = |what: String| Fault::format(format!("{}: {what}", path.display()));
    let info = match fs::metadata(path) {
        Ok(info) => info,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(format!("cannot be read: {error}"))),
    };
    if !info.is_file() {
        return Err(refuse("expected a file, found something else (a folder or a device)".into()));
    }
    if info.len() > MAX_FILE {
        return Err(refuse(format!("has {} bytes, more than the {MAX_FILE} that such a file may have", info.len())));
    }
    let bytes = fs::read(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(refuse(format!("is not UTF-8: invalid byte at offset {}", error.utf8_error().valid_up_to()))),
    }
}

/// The file as a JSON object; `None` where there is no such file.
pub fn read_object(path: &Path) -> Result<Option<Json>, Fault> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    match Json::parse(&text) {
        Ok(object @ Json::Object(_)) => Ok(Some(object)),
        Ok(other) => Err(Fault::format(format!("{}: expected a JSON object, found {}", path.display(), other.kind()))),
        Err(what) => Err(Fault::format(format!("{}: {what}", path.display()))),
    }
}
