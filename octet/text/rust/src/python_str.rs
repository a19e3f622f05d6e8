// SPDX-License-Identifier: Apache-2.0
//! Python's `str()` and `repr()` of template values, and the strings and numbers that both need.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use crate::json::Json;
use crate::printable::NOT_PRINTABLE;

/// Values nested deeper than this are refused wherever one is walked: a value that holds itself ends there.
pub const MAX_DEPTH: usize = 300;

/// A JSON number that minijinja would print in another way than Python: a float that Python writes with an exponent,
/// or an integer beyond 128 bits. It prints as the text; arithmetic on it is an error.
#[derive(Debug)]
pub struct PythonNumber {
    pub text: String,
    pub value: f64,
    pub is_float: bool,
}

impl Object for PythonNumber {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        self.value != 0.0
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.into())
}

/// The characters that Python's `str.strip()` and `str.split()` take as blanks.
pub fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// A template value from JSON, as `json.loads` gives it to jinja2.
pub fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(text) => number(text),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(from_json).collect::<Vec<_>>()),
        Json::Object(entries) => Value::from_pairs(entries.iter().map(|(key, value)| (key.as_str(), from_json(value)))),
    }
}

fn number(text: &str) -> Value {
    if text.bytes().all(|b| b == b'-' || b.is_ascii_digit()) {
        return integer(text);
    }
    let value = match text {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => text.parse().unwrap_or(f64::NAN),
    };
    let size = value.abs();
    if !value.is_finite() || size >= 1e16 || (size > 0.0 && size < 1e-4) {
        return Value::from_object(PythonNumber { text: float_repr(value), value, is_float: true });
    }
    Value::from(value)
}

fn integer(text: &str) -> Value {
    if let Ok(value) = text.parse::<i64>() {
        return Value::from(value);
    }
    if let Ok(value) = text.parse::<i128>() {
        return Value::from(value);
    }
    let value = text.parse().unwrap_or(f64::NAN);
    Value::from_object(PythonNumber { text: text.to_string(), value, is_float: false })
}

/// Python's `repr` of a float: the shortest digits, an exponent below 1e-4 and from 1e16 on.
pub fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let text = format!("{value}");
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

/// The float that `value` is, if it is one and not an integer or boolean.
pub fn as_float(value: &Value) -> Option<f64> {
    if let Some(number) = value.downcast_object_ref::<PythonNumber>() {
        return number.is_float.then_some(number.value);
    }
    if value.kind() != ValueKind::Number || value.is_integer() {
        return None;
    }
    f64::try_from(value.clone()).ok()
}

pub fn string_repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if c == quote => out.extend(['\\', c]),
            _ if is_printable(c) => out.push(c),
            _ => out.push_str(&match c as u32 {
                code @ 0..=0xff => format!("\\x{code:02x}"),
                code @ 0x100..=0xffff => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    out.push(quote);
    out
}

fn is_printable(c: char) -> bool {
    let code = c as u32;
    let after = NOT_PRINTABLE.partition_point(|&(first, _)| first <= code);
    after == 0 || NOT_PRINTABLE[after - 1].1 < code
}

/// Python's `str(value)`.
pub fn python_str(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_string()),
        None if value.is_undefined() => Ok(String::new()),
        None => python_repr(value),
    }
}

/// Python's `repr(value)`.
pub fn python_repr(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(value, &mut out, 0)?;
    Ok(out)
}

fn write_repr(value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(invalid(format!("a value is nested more than {MAX_DEPTH} deep")));
    }
    if let Some(text) = value.as_str() {
        out.push_str(&string_repr(text));
        return Ok(());
    }
    if let Some(float) = as_float(value) {
        out.push_str(&float_repr(float));
        return Ok(());
    }
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(&key, out, depth + 1)?;
                out.push_str(": ");
                write_repr(&value.get_item(&key)?, out, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable if value.len().is_some() => write_sequence(value, out, depth)?,
        ValueKind::Invalid => return Err(invalid(value.to_string())),
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

fn write_sequence(value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    let tuple = value.is_tuple();
    out.push(if tuple { '(' } else { '[' });
    let mut count = 0;
    for item in value.try_iter()?.checked() {
        out.push_str(if count > 0 { ", " } else { "" });
        write_repr(&item?, out, depth + 1)?;
        count += 1;
    }
    out.push_str(match (tuple, count) {
        (true, 1) => ",)",
        (true, _) => ")",
        (false, _) => "]",
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e300, "1e+300"),
            (0.1, "0.1"),
            (123456.789, "123456.789"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, text) in cases {
            assert_eq!(float_repr(value), text);
        }
    }

    #[test]
    fn strings_are_quoted_as_python_quotes_them() {
        assert_eq!(string_repr("it's"), "\"it's\"");
        assert_eq!(string_repr("a'b\"c"), "'a\\'b\"c'");
        assert_eq!(string_repr("\u{200b}\u{a0}é\u{7f}\u{e0001}"), "'\\u200b\\xa0é\\x7f\\U000e0001'");
    }

    #[test]
    fn a_value_nested_without_end_is_refused() {
        let mut value = Value::from(1);
        for _ in 0..1000 {
            value = Value::from(vec![value]);
        }
        assert!(python_repr(&value).is_err());
    }

    #[test]
    fn integers_beyond_128_bits_keep_their_digits() {
        let digits = "9".repeat(60);
        assert_eq!(python_str(&from_json(&Json::Number(digits.clone()))).unwrap(), digits);
    }
}
