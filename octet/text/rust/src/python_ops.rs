// SPDX-License-Identifier: Apache-2.0
//! Filters, tests and functions in which jinja2 differs from minijinja, written as jinja2 has them.

use minijinja::formatting::{format, FormatStyle};
use minijinja::value::{Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{filters, Environment, Error, ErrorKind, State};

use crate::python_json::tojson;
use crate::python_str::{as_float, invalid, is_blank, python_repr, python_str, PythonNumber};
use crate::template_rewrite::{ITERATE, OPERAND};

/// The longest text and list that may be an operand: far above any prompt, far below a machine's memory.
const MAX_TEXT: usize = 16 << 20;
const MAX_LIST: usize = 1 << 20;
const MAX_WIDTH: usize = 1 << 20;

pub fn install(env: &mut Environment<'static>) {
    env.add_filter(ITERATE, iterate);
    env.add_filter(OPERAND, operand);
    env.add_filter("tojson", tojson);
    env.add_filter("trim", trim);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_filter("indent", indent);
    env.add_filter("string", |value: &Value| python_str(value));
    env.add_filter("join", join);
    env.add_filter("format", format_percent);
    env.add_filter("replace", replace);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("e", escape);
    env.add_filter("escape", escape);
    env.add_filter("list", list);
    env.add_test("iterable", is_iterable);
    env.add_test("sequence", is_sequence);
    env.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain && !is_python_number(value));
    env.add_test("number", |value: &Value| is_number(value) || is_python_number(value));
    env.add_test("float", |value: &Value| as_float(value).is_some());
    env.add_test("integer", is_integer);
}

fn is_python_number(value: &Value) -> bool {
    value.downcast_object_ref::<PythonNumber>().is_some()
}

fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
}

fn is_integer(value: &Value) -> bool {
    match value.downcast_object_ref::<PythonNumber>() {
        Some(number) => !number.is_float,
        None => value.is_integer(),
    }
}

fn is_iterable(value: &Value) -> bool {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    matches!(value.kind(), Undefined | String | Seq | Map | Iterable)
}

fn is_sequence(value: &Value) -> bool {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    match value.kind() {
        Undefined | String | Seq | Map => true,
        Iterable => value.len().is_some(),
        _ => false,
    }
}

/// The iterable of a `for`: as jinja2, nothing comes from none but an error, and a string has a length.
fn iterate(value: Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) => Ok(characters(text)),
        None if value.is_none() => Err(invalid("'NoneType' object is not iterable")),
        None => Ok(value),
    }
}

fn characters(text: &str) -> Value {
    Value::from(text.chars().map(|c| Value::from(c.to_string())).collect::<Vec<_>>())
}

/// The left side of `+`, `*` or `~`, refused when it has grown beyond reason.
fn operand(value: Value) -> Result<Value, Error> {
    let too_long = match value.as_str() {
        Some(text) => text.len() > MAX_TEXT,
        None if matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) => value.len().unwrap_or(0) > MAX_LIST,
        None => false,
    };
    if too_long {
        return Err(Error::new(
            ErrorKind::OutOfFuel,
            format!("a text of more than {MAX_TEXT} bytes or a list of more than {MAX_LIST} items"),
        ));
    }
    Ok(value)
}

fn trim(value: &Value, chars: Option<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let chars = chars.or(kwargs.get("chars")?);
    kwargs.assert_all_used()?;
    let text = python_str(value)?;
    Ok(match chars.filter(|c| !c.is_none()) {
        Some(chars) => text.trim_matches(&python_str(&chars)?.chars().collect::<Vec<_>>()[..]).to_string(),
        None => text.trim_matches(is_blank).to_string(),
    })
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| invalid(format!("object of type {} has no len()", value.kind())))
}

/// The lines of a text without their ends, cut where Python's `str.splitlines` cuts.
pub fn split_lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let is_end = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    let mut lines = Vec::new();
    let mut start = 0;
    while let Some(found) = text[start..].find(is_end) {
        let end = start + found;
        let mark =
            if text[end..].starts_with("\r\n") { 2 } else { text[end..].chars().next().map_or(1, char::len_utf8) };
        lines.push(&text[start..if keep_ends { end + mark } else { end }]);
        start = end + mark;
    }
    if start < text.len() {
        lines.push(&text[start..]);
    }
    lines
}

fn indent(
    value: &Value,
    width: Option<Value>,
    first: Option<Value>,
    blank: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = width.or(kwargs.get("width")?).unwrap_or(Value::from(4));
    let first = first.or(kwargs.get("first")?).is_some_and(|v| v.is_true());
    let blank = blank.or(kwargs.get("blank")?).is_some_and(|v| v.is_true());
    kwargs.assert_all_used()?;
    let text = value.as_str().ok_or_else(|| invalid(format!("indent needs a string, not {}", value.kind())))?;
    let by = match width.as_str() {
        Some(text) => text.to_string(),
        None => {
            " ".repeat(bounded_width(width.as_i64().ok_or_else(|| invalid("width must be a number or a string"))?)?)
        }
    };
    let text = format!("{text}\n");
    let mut out = String::new();
    for (index, line) in split_lines(&text, false).into_iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if (index > 0 && (blank || !line.is_empty())) || (index == 0 && first) {
            out.push_str(&by);
        }
        out.push_str(line);
        if out.len() > MAX_TEXT {
            return Err(invalid("the indented text is too long"));
        }
    }
    Ok(out)
}

/// A width that a template asks for; negative ones are zero.
pub fn bounded_width(width: i64) -> Result<usize, Error> {
    match usize::try_from(width).unwrap_or(0) {
        width if width <= MAX_WIDTH => Ok(width),
        width => Err(invalid(format!("a width of {width} is more than {MAX_WIDTH}"))),
    }
}

fn join(value: &Value, separator: Option<Value>, attribute: Option<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let separator = separator.or(kwargs.get("d")?).map_or(Ok(String::new()), |v| python_str(&v))?;
    let attribute = attribute.or(kwargs.get("attribute")?).filter(|v| !v.is_none());
    kwargs.assert_all_used()?;
    if value.is_none() {
        return Err(invalid("'NoneType' object is not iterable"));
    }
    let mut out = String::new();
    for (index, item) in value.try_iter()?.checked().enumerate() {
        let item = match &attribute {
            Some(path) => follow(item?, path)?,
            None => item?,
        };
        if index > 0 {
            out.push_str(&separator);
        }
        out.push_str(&python_str(&item)?);
        if out.len() > 4 * MAX_TEXT {
            return Err(invalid("the joined text is too long"));
        }
    }
    Ok(out)
}

/// The attribute at a dotted path; numbers in it are indices.
fn follow(item: Value, path: &Value) -> Result<Value, Error> {
    let Some(path) = path.as_str() else { return item.get_item(path) };
    path.split('.').try_fold(item, |value, part| match part.parse::<usize>() {
        Ok(index) => value.get_item_by_index(index),
        Err(_) => value.get_attr(part),
    })
}

/// `format|format(args)`: printf style, with `%s` and `%r` by Python's `str` and `repr`.
fn format_percent(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let template = python_str(value)?;
    let mut args = args.into_values();
    let mut out = String::with_capacity(template.len());
    let mut rest = template.as_str();
    let mut index = 0;
    while let Some(at) = rest.find('%') {
        let end = at + 1 + rest[at + 1..].find(|c: char| c.is_ascii_alphabetic() || c == '%' || c == '(').unwrap_or(0);
        let spec = &rest[at..(end + 1).min(rest.len())];
        if spec.split(|c: char| !c.is_ascii_digit()).any(|n| n.len() > 6) {
            return Err(invalid("a width or precision is too large"));
        }
        match (spec.as_bytes().last(), args.get_mut(index)) {
            (Some(b'%' | b'('), _) => {}
            (Some(b's'), Some(arg)) => *arg = Value::from(python_str(arg)?),
            (Some(b'r'), Some(arg)) => *arg = Value::from(python_repr(arg)?),
            _ => {}
        }
        if !spec.ends_with(['%', '(']) {
            index += 1;
        }
        out.push_str(&rest[..at]);
        match spec.strip_suffix('r') {
            Some(start) => out.extend([start, "s"]),
            None => out.push_str(spec),
        }
        rest = &rest[at + spec.len()..];
    }
    out.push_str(rest);
    format(FormatStyle::Printf, &out, &args)
}

fn replace(value: &Value, old: &Value, new: &Value, count: Option<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let count = count.or(kwargs.get("count")?).filter(|v| !v.is_none());
    kwargs.assert_all_used()?;
    let count = count.map_or(Ok(-1), |v| v.as_i64().ok_or_else(|| invalid("count must be a number")))?;
    replace_text(&python_str(value)?, &python_str(old)?, &python_str(new)?, count)
}

/// Python's `text.replace(old, new, count)`.
pub fn replace_text(text: &str, old: &str, new: &str, count: i64) -> Result<String, Error> {
    if text.len().saturating_add(1).saturating_mul(new.len()) > 4 * MAX_TEXT {
        let growth = text.matches(old).count().saturating_mul(new.len());
        if growth > 4 * MAX_TEXT {
            return Err(invalid("the replaced text is too long"));
        }
    }
    Ok(match usize::try_from(count) {
        Ok(count) => text.replacen(old, new, count),
        Err(_) => text.replace(old, new),
    })
}

fn int(
    state: &State,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let default = default.or(kwargs.get("default")?).unwrap_or(Value::from(0));
    let base = base.or(kwargs.get("base")?);
    kwargs.assert_all_used()?;
    let value = numeric_input(value)?;
    if as_float(&value).is_some_and(|f| !f.is_finite()) {
        return Ok(default);
    }
    Ok(filters::int(state, &value, Some(default.clone()), base, no_kwargs()).unwrap_or(default))
}

fn float(state: &State, value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = default.or(kwargs.get("default")?).unwrap_or(Value::from(0.0));
    kwargs.assert_all_used()?;
    Ok(filters::float(state, &numeric_input(value)?, Some(default.clone()), no_kwargs()).unwrap_or(default))
}

fn no_kwargs() -> Kwargs {
    Kwargs::from_iter(std::iter::empty::<(String, Value)>())
}

/// What `int()` and `float()` read: blanks around text do not count, Octet's own numbers are plain floats.
fn numeric_input(value: &Value) -> Result<Value, Error> {
    if let Some(number) = value.downcast_object_ref::<PythonNumber>() {
        return Ok(if number.is_float { Value::from(number.value) } else { value.clone() });
    }
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    Ok(value.as_str().map_or_else(|| value.clone(), |text| Value::from(text.trim_matches(is_blank))))
}

fn escape(value: &Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let mut out = String::new();
    for c in python_str(value)?.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            _ => out.push(c),
        }
    }
    Ok(Value::from_safe_string(out))
}

fn list(value: &Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(text) => Ok(characters(text)),
        None if value.is_none() => Err(invalid("'NoneType' object is not iterable")),
        None => Ok(Value::from(value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?)),
    }
}
