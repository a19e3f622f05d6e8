// SPDX-License-Identifier: Apache-2.0
//! One chat template compiled by minijinja, set up so that it renders as jinja2 does for transformers, and bounded in
//! steps, output and recursion so that a hostile template ends in an error.

use std::io::Write;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State};

use crate::fault::{Fault, Kind};
use crate::json::Json;
use crate::python_str::{from_json, invalid, python_str};
use crate::strftime::strftime;
use crate::template_rewrite::rewrite;
use crate::{pycompat, python_ops};

const MAX_SOURCE: usize = 1 << 20;
const MAX_STEPS: u64 = 5_000_000;
const MAX_OUTPUT: usize = 64 << 20;
/// Deeply nested values are freed and printed recursively; the pages of the stack are touched only when needed.
const STACK: usize = 256 << 20;
const NAME: &str = "template";
const PRINTED: &str = "octet_printed";

pub struct Engine {
    env: Environment<'static>,
    file: String,
    source: String,
}

/// What a template said through `raise_exception`.
#[derive(Debug)]
struct Raised(String);

impl std::fmt::Display for Raised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

impl Engine {
    pub fn compile(file: &str, source: &str) -> Result<Engine, Fault> {
        if source.len() > MAX_SOURCE {
            return Err(Fault::format(format!(
                "chat template {file}: has {} bytes, more than the {MAX_SOURCE} that a template may have",
                source.len()
            )));
        }
        let rewritten = rewrite(source);
        let outcome = on_large_stack(move || {
            let mut env = environment()?;
            env.add_template_owned(NAME, rewritten)?;
            Ok(env)
        })?;
        match outcome {
            Ok(env) => Ok(Engine { env, file: file.to_string(), source: source.to_string() }),
            Err(error) => Err(Fault { kind: Kind::Format, message: explain(file, &error) }),
        }
    }

    /// The template as the file has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    pub fn render(&self, variables: Json) -> Result<String, Fault> {
        let outcome = on_large_stack(|| {
            let mut out = Bounded::default();
            let template = self.env.get_template(NAME)?;
            template.render_captured_to(from_json(&variables), &mut out)?;
            Ok(out.bytes)
        })?;
        let bytes = outcome.map_err(|error| Fault::config(explain(&self.file, &error)))?;
        String::from_utf8(bytes)
            .map_err(|_| Fault::config(format!("chat template {}: made text that is not UTF-8", self.file)))
    }
}

fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<Result<T, Error>, Fault> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("chat-template".into()).stack_size(STACK).spawn_scoped(scope, work);
        let worker = worker.map_err(|error| Fault {
            kind: Kind::Internal,
            message: format!("no thread for the chat template: {error}"),
        })?;
        worker.join().map_err(|_| Fault { kind: Kind::Internal, message: "the chat template engine failed".into() })
    })
}

#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
}

impl Write for Bounded {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + data.len() > MAX_OUTPUT {
            return Err(std::io::Error::other(format!("more than {MAX_OUTPUT} bytes of output")));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn environment() -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    env.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_unknown_method_callback(pycompat::call_method);
    env.set_formatter(print);
    env.set_fuel(Some(MAX_STEPS));
    env.remove_global("debug");
    python_ops::install(&mut env);
    env.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(invalid("raise_exception").with_source(Raised(python_str(message)?)))
    });
    env.add_function("strftime_now", |format: &str| strftime(chrono::Local::now().naive_local(), format));
    Ok(env)
}

/// Prints a value as Python does, and counts: captured blocks never reach the bounded output.
fn print(out: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let owned;
    let text = match value.as_str() {
        Some(text) => text,
        None => {
            owned = python_str(value)?;
            &owned
        }
    };
    let printed = state.get_temp(PRINTED).and_then(|v| v.as_usize()).unwrap_or(0) + text.len();
    if printed > 2 * MAX_OUTPUT {
        return Err(Error::new(ErrorKind::OutOfFuel, format!("more than {} bytes printed", 2 * MAX_OUTPUT)));
    }
    state.set_temp(PRINTED, Value::from(printed));
    out.write_str(text).map_err(Error::from)
}

/// The message for an error: the template's own words where it raised, else what went wrong and where.
fn explain(file: &str, error: &Error) -> String {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut line = error.line();
    let mut detail = error.detail().map(str::to_string);
    let mut kind = error.kind();
    while let Some(current) = source {
        if let Some(Raised(words)) = current.downcast_ref::<Raised>() {
            return format!("the chat template {file} refuses the conversation{}: {words}", place(line));
        }
        if let Some(inner) = current.downcast_ref::<Error>() {
            line = inner.line().or(line);
            detail = inner.detail().map(str::to_string).or(detail);
            kind = inner.kind();
        }
        source = current.source();
    }
    let what = match (kind, &detail) {
        (ErrorKind::OutOfFuel, None) => format!("did not end within {MAX_STEPS} steps"),
        (ErrorKind::OutOfFuel, Some(detail)) => format!("stopped: {detail}"),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    format!("chat template {file}{}: {what}", place(line))
}

fn place(line: Option<usize>) -> String {
    line.map_or(String::new(), |line| format!(" (line {line})"))
}
