// SPDX-License-Identifier: Apache-2.0
//! Rewrites a chat template before minijinja compiles it, because minijinja has no hook for tags and operators:
//! - line ends become `\n`, as jinja2 does to the whole source;
//! - `{% generation %}` becomes `{% with %}`, whose variables do not leak out either;
//! - `{% for x in EXPR %}` becomes `{% for x in (EXPR)|_octet_iter %}`: fails on none and gives strings a length;
//! - the left side of `+`, `*` and `~` goes through `_octet_operand`, which stops values that grow without end.
//!
//! No rewriting adds or removes a line, so line numbers in errors stay those of the file.

pub const ITERATE: &str = "_octet_iter";
pub const OPERAND: &str = "_octet_operand";

const KEYWORDS: [&str; 9] = ["in", "not", "and", "or", "if", "else", "is", "elif", "recursive"];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Name,
    Number,
    String,
    Operator,
}

#[derive(Clone, Copy)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
    start: usize,
    depth: usize,
}

impl Token<'_> {
    fn end(&self) -> usize {
        self.start + self.text.len()
    }

    fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Name | Kind::Operator) && self.text == text
    }

    /// Whether an operator after this token has two sides.
    fn ends_operand(&self) -> bool {
        match self.kind {
            Kind::Name => !KEYWORDS.contains(&self.text),
            Kind::Number | Kind::String => true,
            Kind::Operator => matches!(self.text, ")" | "]" | "}"),
        }
    }
}

pub fn rewrite(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len() + source.len() / 8);
    let mut at = 0;
    while let Some(open) = next_opening(&source, at) {
        out.push_str(&source[at..open]);
        at = match &source[open..open + 2] {
            "{#" => copy_through(&source, open, "#}", &mut out),
            "{{" => rewrite_tag(&source, open, "}}", &mut out),
            _ => rewrite_tag(&source, open, "%}", &mut out),
        };
    }
    out.push_str(&source[at..]);
    out
}

fn next_opening(source: &str, from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = source[at..].find('{') {
        at += found;
        if matches!(source.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#')) {
            return Some(at);
        }
        at += 1;
    }
    None
}

fn copy_through(source: &str, from: usize, end: &str, out: &mut String) -> usize {
    let stop = source[from + 2..].find(end).map_or(source.len(), |found| from + 2 + found + end.len());
    out.push_str(&source[from..stop]);
    stop
}

fn rewrite_tag(source: &str, open: usize, close: &str, out: &mut String) -> usize {
    let (tokens, stop) = tokenize(source, open + 2, close);
    let tokens = match tokens.first() {
        Some(sign) if sign.start == open + 2 && matches!(sign.text, "-" | "+") => &tokens[1..],
        _ => &tokens[..],
    };
    let statement =
        if close == "%}" { tokens.first().filter(|t| t.kind == Kind::Name).map_or("", |t| t.text) } else { "" };
    if statement == "raw" {
        out.push_str(&source[open..stop]);
        let end = end_of_raw(source, stop);
        out.push_str(&source[stop..end]);
        return end;
    }
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    match statement {
        "generation" => edits.push((tokens[0].start, tokens[0].end(), "with".into())),
        "endgeneration" => edits.push((tokens[0].start, tokens[0].end(), "endwith".into())),
        "for" => wrap_iterable(tokens, &mut edits),
        _ => {}
    }
    for pair in tokens.windows(2) {
        if pair[0].ends_operand() && pair[1].kind == Kind::Operator && matches!(pair[1].text, "+" | "*" | "~") {
            edits.push((pair[0].end(), pair[0].end(), format!("|{OPERAND}")));
        }
    }
    edits.sort_by_key(|edit| edit.0);
    let mut at = open;
    for (start, end, text) in edits {
        out.push_str(&source[at..start]);
        out.push_str(&text);
        at = end;
    }
    out.push_str(&source[at..stop]);
    stop
}

fn wrap_iterable(tokens: &[Token], edits: &mut Vec<(usize, usize, String)>) {
    let Some(keyword) = tokens.iter().position(|t| t.is("in") && t.depth == 0) else { return };
    let rest = &tokens[keyword + 1..];
    let is_end = |t: &Token| t.kind == Kind::Name && t.depth == 0 && (t.text == "if" || t.text == "recursive");
    let length = rest.iter().position(is_end).unwrap_or(rest.len());
    let (Some(first), Some(last)) = (rest.first(), rest[..length].last()) else { return };
    edits.push((first.start, first.start, "(".into()));
    edits.push((last.end(), last.end(), format!(")|{ITERATE}")));
}

/// Where the tag `{% endraw %}` that belongs to a raw block begins; the end of the source if there is none.
fn end_of_raw(source: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(found) = source[at..].find("{%") {
        let tag = source[at + found + 2..].trim_start_matches(['-', '+']).trim_start();
        if tag.starts_with("endraw") {
            return at + found;
        }
        at += found + 2;
    }
    source.len()
}

/// The tokens of a tag, and the place after its closing mark. Signs of whitespace control at the end are left out.
fn tokenize<'a>(source: &'a str, from: usize, close: &str) -> (Vec<Token<'a>>, usize) {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut depth) = (from, 0usize);
    while at < bytes.len() {
        let rest = &source[at..];
        let closes = |text: &str| text.starts_with(close);
        if closes(rest) && !(close == "}}" && depth > 0) {
            return (tokens, at + close.len());
        }
        let (kind, length) = match bytes[at] {
            b'-' | b'+' if closes(&rest[1..]) && depth == 0 => return (tokens, at + 1 + close.len()),
            b if b.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'\'' | b'"' => (Kind::String, string_length(rest)),
            b'0'..=b'9' => (Kind::Number, number_length(rest)),
            b if b == b'_' || b.is_ascii_alphabetic() || b >= 0x80 => (Kind::Name, name_length(rest)),
            b'*' if rest.starts_with("**") => (Kind::Operator, 2),
            _ => (Kind::Operator, 1),
        };
        let text = &rest[..length];
        if kind == Kind::Operator && matches!(text, ")" | "]" | "}") {
            depth = depth.saturating_sub(1);
        }
        tokens.push(Token { kind, text, start: at, depth });
        if kind == Kind::Operator && matches!(text, "(" | "[" | "{") {
            depth += 1;
        }
        at += length;
    }
    (tokens, source.len())
}

fn string_length(text: &str) -> usize {
    let quote = text.as_bytes()[0];
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        if escaped {
            escaped = false;
        } else if byte == b'\\' {
            escaped = true;
        } else if byte == quote {
            return index + 1;
        }
    }
    text.len()
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| !(c == '_' || c.is_alphanumeric() || !c.is_ascii())).unwrap_or(text.len())
}

/// Digits, a fraction and an exponent; `1.` before a name is an attribute, and not part of the number.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_digit = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_digit);
    let word =
        |from: usize| from + bytes[from..].iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    let mut end = word(0);
    if bytes.get(end) == Some(&b'.') && is_digit(end + 1) {
        end = word(end + 1);
    }
    if matches!(bytes[end - 1], b'e' | b'E') && matches!(bytes.get(end), Some(b'+' | b'-')) && is_digit(end + 1) {
        end = word(end + 1);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str) {
        assert_eq!(rewrite(from), to.replace("|I", "|_octet_iter").replace("|O", "|_octet_operand"));
    }

    #[test]
    fn line_ends_become_newlines() {
        check("a\r\nb\rc\n", "a\nb\nc\n");
    }

    #[test]
    fn generation_becomes_with_and_keeps_its_signs() {
        check("{%- generation -%}x{%+ endgeneration %}", "{%- with -%}x{%+ endwith %}");
    }

    #[test]
    fn iterables_of_loops_are_wrapped_up_to_the_filter() {
        check("{% for m in messages %}", "{% for m in (messages)|I %}");
        check("{%- for k, v in d.items() if v in [1] -%}", "{%- for k, v in (d.items())|I if v in [1] -%}");
        check("{% for x in f(' if ', [y if z]) recursive %}", "{% for x in (f(' if ', [y if z]))|I recursive %}");
        check("{% for i in 1, 2 %}", "{% for i in (1, 2)|I %}");
    }

    #[test]
    fn left_sides_of_growing_operators_are_guarded() {
        check("{{ a + b ~ 'c'*2 }}", "{{ a|O + b|O ~ 'c'|O*2 }}");
        check("{{ -1 + (+x) * f(**k) }}", "{{ -1|O + (+x)|O * f(**k) }}");
        check("{{ x if not +y else ~z }}", "{{ x if not +y else ~z }}");
        check("{% if a +%}{{ 1.5e+3 + {'}}': 1}|length }}", "{% if a +%}{{ 1.5e+3|O + {'}}': 1}|length }}");
        check("{{ 2 ** 3 }}", "{{ 2 ** 3 }}");
    }

    #[test]
    fn comments_raw_blocks_and_text_are_left_alone() {
        let source = "{# for x in y + z #}{% raw %}{% for a in b %}{{ a + b }}{%- endraw %} a + b { {";
        check(source, source);
    }

    #[test]
    fn unclosed_tags_are_passed_on_for_the_compiler_to_report() {
        for source in ["{{", "{%", "{#", "{{ 'a", "{% raw %}", "{% for", "{% for x in", "{{ {", "{% generation"] {
            rewrite(source);
        }
    }
}
