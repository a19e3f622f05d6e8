// SPDX-License-Identifier: Apache-2.0
//! Python's `datetime.now().strftime(format)` in the C locale.

use std::fmt::Write;

use chrono::format::{Item, StrftimeItems};
use chrono::NaiveDateTime;

/// `time` without a zone, as Python's naive datetimes: `%Z` and `%z` are empty, `%f` has six digits, a directive that
/// does not exist stays as it is.
pub fn strftime(time: NaiveDateTime, format: &str) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let directive = directive(&rest[at..]);
        rest = &rest[at + directive.len()..];
        match directive {
            "%Z" | "%z" => {}
            "%f" => write_directive(&mut out, time, "%6f"),
            _ => write_directive(&mut out, time, directive),
        }
    }
    out.push_str(rest);
    out
}

/// `%`, a padding flag and a letter.
fn directive(text: &str) -> &str {
    let flag = usize::from(matches!(text.as_bytes().get(1), Some(b'-' | b'_' | b'0')));
    let end = text.char_indices().nth(2 + flag).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn write_directive(out: &mut String, time: NaiveDateTime, directive: &str) {
    let items: Vec<Item> = StrftimeItems::new(directive).collect();
    let before = out.len();
    let known = !items.iter().any(|item| matches!(item, Item::Error));
    if !known || write!(out, "{}", time.and_utc().format_with_items(items.iter())).is_err() {
        out.truncate(before);
        out.push_str(directive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_python_does() {
        let time = chrono::NaiveDate::from_ymd_opt(2026, 3, 5).and_then(|d| d.and_hms_micro_opt(7, 8, 9, 42)).unwrap();
        let cases = [
            ("%Y-%m-%d", "2026-03-05"),
            ("%d %b %Y", "05 Mar 2026"),
            ("%d %B %Y", "05 March 2026"),
            ("%B %d, %Y", "March 05, 2026"),
            ("%A", "Thursday"),
            ("%Y-%m-%d %H:%M:%S", "2026-03-05 07:08:09"),
            ("%-d/%-m %I %p %j %y %a", "5/3 07 AM 064 26 Thu"),
            ("%f|%Z|%z|%%", "000042|||%"),
            ("%c", "Thu Mar  5 07:08:09 2026"),
            ("é %", "é %"),
        ];
        for (format, text) in cases {
            assert_eq!(strftime(time, format), text, "{format}");
        }
    }
}
