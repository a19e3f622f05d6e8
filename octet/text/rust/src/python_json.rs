// SPDX-License-Identifier: Apache-2.0
//! The `tojson` filter as transformers defines it: Python's `json.dumps`, without HTML escaping.

use minijinja::value::{from_args, Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind};

use crate::python_str::{as_float, float_repr, invalid, python_str, PythonNumber, MAX_DEPTH};

const MAX_INDENT: usize = 1000;

struct Style {
    ensure_ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// `value|tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`, by place or name.
pub fn tojson(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let args = args.into_values();
    let (given, kwargs): (&[Value], Kwargs) = from_args(&args)?;
    if given.len() > 4 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let option = |place: usize, name: &str| -> Result<Value, Error> {
        let named = kwargs.get::<Option<Value>>(name)?;
        Ok(given.get(place).cloned().or(named).unwrap_or(Value::from(())))
    };
    let ensure_ascii = option(0, "ensure_ascii")?.is_true();
    let indent = indent_text(&option(1, "indent")?)?;
    let separators = option(2, "separators")?;
    let sort_keys = option(3, "sort_keys")?.is_true();
    kwargs.assert_all_used()?;
    let mut style = Style {
        ensure_ascii,
        item_separator: if indent.is_some() { "," } else { ", " }.to_string(),
        key_separator: ": ".to_string(),
        indent,
        sort_keys,
    };
    if !separators.is_none() {
        let text = |index| -> Result<String, Error> {
            let item = separators.get_item_by_index(index)?;
            item.as_str().map(str::to_string).ok_or_else(|| invalid("separators must be two strings"))
        };
        (style.item_separator, style.key_separator) = (text(0)?, text(1)?);
    }
    let mut out = String::new();
    style.write(value, &mut out, 0)?;
    Ok(Value::from(out))
}

fn indent_text(indent: &Value) -> Result<Option<String>, Error> {
    if indent.is_none() {
        return Ok(None);
    }
    if let Some(text) = indent.as_str() {
        return Ok(Some(text.to_string()));
    }
    let width = if indent.kind() == ValueKind::Bool {
        i64::from(indent.is_true())
    } else {
        indent.as_i64().ok_or_else(|| invalid("indent must be a number or a string"))?
    };
    match usize::try_from(width).unwrap_or(0) {
        width if width <= MAX_INDENT => Ok(Some(" ".repeat(width))),
        width => Err(invalid(format!("an indent of {width} is more than {MAX_INDENT}"))),
    }
}

impl Style {
    fn write(&self, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("a value is nested more than {MAX_DEPTH} deep")));
        }
        if let Some(text) = scalar(value) {
            out.push_str(&text);
            return Ok(());
        }
        if let Some(text) = value.as_str() {
            self.write_string(text, out);
            return Ok(());
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                self.write_items(out, depth, ['[', ']'], &items, |item, out| self.write(item, out, depth + 1))
            }
            ValueKind::Map => self.write_map(value, out, depth),
            ValueKind::Undefined => Err(invalid("Object of type Undefined is not JSON serializable")),
            kind => Err(invalid(format!("a value of type {kind} is not JSON serializable"))),
        }
    }

    fn write_map(&self, map: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
        let mut entries = Vec::new();
        for key in map.try_iter()?.checked() {
            let key = key?;
            let text = match key.as_str() {
                Some(text) => text.to_string(),
                None => scalar(&key).ok_or_else(|| invalid("keys must be str, int, float, bool or None"))?,
            };
            entries.push((text, map.get_item(&key)?));
        }
        if self.sort_keys {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
        }
        self.write_items(out, depth, ['{', '}'], &entries, |(key, value), out| {
            self.write_string(key, out);
            out.push_str(&self.key_separator);
            self.write(value, out, depth + 1)
        })
    }

    fn write_items<T>(
        &self,
        out: &mut String,
        depth: usize,
        brackets: [char; 2],
        items: &[T],
        mut write: impl FnMut(&T, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(brackets[0]);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(&self.item_separator);
            }
            self.new_line(out, depth + 1);
            write(item, out)?;
        }
        if !items.is_empty() {
            self.new_line(out, depth);
        }
        out.push(brackets[1]);
        Ok(())
    }

    fn new_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn write_string(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\0'..='\u{1f}' => out.push_str(&format!("\\u{:04x}", c as u32)),
                _ if self.ensure_ascii && !matches!(c, ' '..='~') => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => out.push(c),
            }
        }
        out.push('"');
    }
}

/// JSON of a value without parts that is not a string.
fn scalar(value: &Value) -> Option<String> {
    if let Some(float) = as_float(value) {
        return Some(match float {
            f if f.is_nan() => "NaN".into(),
            f if f.is_infinite() => if f > 0.0 { "Infinity" } else { "-Infinity" }.into(),
            f => float_repr(f),
        });
    }
    match value.kind() {
        ValueKind::None => Some("null".into()),
        ValueKind::Bool => Some(if value.is_true() { "true" } else { "false" }.into()),
        ValueKind::Number => Some(value.to_string()),
        _ if value.downcast_object_ref::<PythonNumber>().is_some() => python_str(value).ok(),
        _ => None,
    }
}
