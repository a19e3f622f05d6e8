// SPDX-License-Identifier: Apache-2.0
//! Python's methods of strings, lists and dicts that templates call: Octet's own where minijinja-contrib has none or
//! differs, its `pycompat` for the rest.

use minijinja::value::{from_args, Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::python_ops::{bounded_width, replace_text, split_lines};
use crate::python_str::{invalid, is_blank};

pub fn call_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let own = match (value.kind(), value.as_str()) {
        (_, Some(text)) => string_method(text, method, args)?,
        (ValueKind::Seq, _) => list_method(value, method, args)?,
        (ValueKind::Map, _) => map_method(value, method, args)?,
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => unknown_method_callback(state, value, method, args),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "strip" | "lstrip" | "rstrip" => strip(text, method, args)?,
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "splitlines" => {
            let (keep, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.or(kwargs.get("keepends")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            strings(split_lines(text, keep))
        }
        "partition" | "rpartition" => partition(text, method == "rpartition", from_args::<(&str,)>(args)?.0)?,
        "removeprefix" => Value::from(text.strip_prefix(from_args::<(&str,)>(args)?.0).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(from_args::<(&str,)>(args)?.0).unwrap_or(text)),
        "find" | "rfind" | "index" | "rindex" => find(text, method, args)?,
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            Value::from(replace_text(text, old, new, count.unwrap_or(-1))?)
        }
        "title" => Value::from(title(text)),
        "swapcase" => Value::from(text.chars().map(swap_case).collect::<String>()),
        "isspace" => Value::from(!text.is_empty() && text.chars().all(is_blank)),
        "zfill" | "ljust" | "rjust" | "center" => pad(text, method, args)?,
        "join" => join(text, from_args::<(&Value,)>(args)?.0)?,
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn strings(items: Vec<&str>) -> Value {
    Value::from(items.into_iter().map(Value::from).collect::<Vec<_>>())
}

fn strip(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (chars,): (Option<&str>,) = from_args(args)?;
    let is_stripped = |c: char| chars.map_or(is_blank(c), |set| set.contains(c));
    Ok(Value::from(match method {
        "lstrip" => text.trim_start_matches(is_stripped),
        "rstrip" => text.trim_end_matches(is_stripped),
        _ => text.trim_matches(is_stripped),
    }))
}

fn split(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator, limit, kwargs): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(kwargs.get("sep")?).filter(|v| !v.is_none());
    let limit = limit.or(kwargs.get("maxsplit")?).unwrap_or(-1);
    kwargs.assert_all_used()?;
    let parts = usize::try_from(limit).map_or(usize::MAX, |limit| limit.saturating_add(1));
    let Some(separator) = separator else {
        return Ok(strings(split_blanks(text, from_right, parts)));
    };
    let separator = separator
        .as_str()
        .filter(|s| !s.is_empty())
        .ok_or_else(|| invalid("the separator must be a text that is not empty"))?;
    Ok(strings(if from_right {
        let mut items: Vec<_> = text.rsplitn(parts, separator).collect();
        items.reverse();
        items
    } else {
        text.splitn(parts, separator).collect()
    }))
}

/// At most `parts` pieces between runs of blanks; the last piece keeps the blanks at its far side.
fn split_blanks(text: &str, from_right: bool, parts: usize) -> Vec<&str> {
    let near_end = |rest: &'_ str| -> usize {
        if from_right {
            rest.trim_end_matches(is_blank).len()
        } else {
            rest.len() - rest.trim_start_matches(is_blank).len()
        }
    };
    let skip = |rest: &'_ str| if from_right { (0, near_end(rest)) } else { (near_end(rest), rest.len()) };
    let mut items = Vec::new();
    let mut rest = text;
    loop {
        let (first, last) = skip(rest);
        rest = &rest[first..last];
        if rest.is_empty() {
            break;
        }
        let cut = if from_right { rest.rfind(is_blank) } else { rest.find(is_blank) };
        let Some(cut) = cut.filter(|_| items.len() + 1 < parts) else {
            items.push(rest);
            break;
        };
        let after = cut + rest[cut..].chars().next().map_or(0, char::len_utf8);
        items.push(if from_right { &rest[after..] } else { &rest[..cut] });
        rest = if from_right { &rest[..cut] } else { &rest[after..] };
    }
    if from_right {
        items.reverse();
    }
    items
}

fn partition(text: &str, from_right: bool, separator: &str) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let parts = match (from_right, if from_right { text.rsplit_once(separator) } else { text.split_once(separator) }) {
        (_, Some((before, after))) => [before, separator, after],
        (true, None) => ["", "", text],
        (false, None) => [text, "", ""],
    };
    Ok(Value::from(minijinja::value::Tuple::from(parts.map(Value::from))))
}

fn find(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let count = text.chars().count() as i64;
    let place = |index: i64| (if index < 0 { index + count } else { index }).clamp(0, count);
    let (first, last) = (start.map_or(0, place), end.map_or(count, place));
    let byte = |index: i64| text.char_indices().nth(index as usize).map_or(text.len(), |(at, _)| at);
    let range = text.get(byte(first)..byte(last)).filter(|_| start.is_none_or(|s| s <= count));
    let found = range.and_then(|part| {
        let at = if method.starts_with('r') { part.rfind(what) } else { part.find(what) }?;
        Some(first + part[..at].chars().count() as i64)
    });
    match found {
        Some(index) => Ok(Value::from(index)),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(invalid("substring not found")),
    }
}

fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match (c.is_alphabetic(), inside) {
            (true, false) => out.extend(c.to_uppercase()),
            (true, true) => out.extend(c.to_lowercase()),
            _ => out.push(c),
        }
        inside = c.is_alphabetic();
    }
    out
}

fn swap_case(c: char) -> String {
    if c.is_uppercase() {
        c.to_lowercase().collect()
    } else {
        c.to_uppercase().collect()
    }
}

fn pad(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let fill = fill.unwrap_or(" ");
    if fill.chars().count() != 1 || (method == "zfill" && args.len() > 1) {
        return Err(invalid("the fill character must be exactly one character long"));
    }
    let length = text.chars().count();
    let missing = bounded_width(width)?.saturating_sub(length);
    if method == "zfill" {
        let (sign, digits) = match text.strip_prefix(['+', '-']) {
            Some(digits) => text.split_at(text.len() - digits.len()),
            None => ("", text),
        };
        return Ok(Value::from(format!("{sign}{}{digits}", "0".repeat(missing))));
    }
    // CPython puts the odd one of `center` to the left only when the width is odd.
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        _ => missing / 2 + (missing & bounded_width(width)? & 1),
    };
    Ok(Value::from(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))))
}

fn join(separator: &str, items: &Value) -> Result<Value, Error> {
    let mut out = String::new();
    for (index, item) in items.try_iter()?.checked().enumerate() {
        let item = item?;
        if index > 0 {
            out.push_str(separator);
        }
        let text = item
            .as_str()
            .ok_or_else(|| invalid(format!("sequence item {index}: expected str instance, {} found", item.kind())))?;
        out.push_str(text);
    }
    Ok(Value::from(out))
}

fn list_method(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" => {
            let () = from_args(args)?;
            Ok(Some(value.clone()))
        }
        "index" => {
            let (what,): (&Value,) = from_args(args)?;
            for (index, item) in value.try_iter()?.checked().enumerate() {
                if item? == *what {
                    return Ok(Some(Value::from(index)));
                }
            }
            Err(invalid("the value is not in the list"))
        }
        _ => Ok(None),
    }
}

fn map_method(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" => {
            let () = from_args(args)?;
            Ok(Some(value.clone()))
        }
        "update" | "pop" | "setdefault" | "clear" | "popitem" => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("dict.{method} would change the dict, which templates may not"),
        )),
        _ => Ok(None),
    }
}
