// SPDX-License-Identifier: Apache-2.0
//! A folder's chat templates: where they are found, which one a request gets, and their rendering.

use std::fs;
use std::path::Path;

use crate::conversation::{cut_at_mark, Request};
use crate::engine::Engine;
use crate::fault::{read_object, read_text, Fault};
use crate::json::Json;
use crate::special_tokens::SpecialTokens;

struct Named {
    name: String,
    engine: Engine,
}

pub struct ChatTemplates {
    templates: Vec<Named>,
    /// The file gave several templates by name, so tools may choose among them.
    is_set: bool,
    special_tokens: Vec<(String, String)>,
}

impl ChatTemplates {
    pub fn open(folder: &Path) -> Result<Option<ChatTemplates>, Fault> {
        let config = read_object(&folder.join("tokenizer_config.json"))?;
        let (mut sources, mut is_set) = from_files(folder)?;
        if sources.is_empty() {
            (sources, is_set) = from_config(folder, config.as_ref())?;
        }
        if sources.is_empty() {
            return Ok(None);
        }
        let mut templates = Vec::new();
        for (name, file, source) in sources {
            templates.push(Named { name, engine: Engine::compile(&file, &source)? });
        }
        let special_tokens = SpecialTokens::read(folder, config.as_ref())?.named;
        Ok(Some(ChatTemplates { templates, is_set, special_tokens }))
    }

    pub fn render(&self, request: &str) -> Result<String, Fault> {
        let mut request = Request::parse(request)?;
        let engine = self.choose(&request)?;
        let marked = match request.continue_field.clone() {
            Some(field) => Some(request.mark_final_message(&field, engine.source())?),
            None => None,
        };
        let text = engine.render(self.variables(request))?;
        match marked {
            Some(message) => cut_at_mark(&text, &message),
            None => Ok(text),
        }
    }

    fn choose(&self, request: &Request) -> Result<&Engine, Fault> {
        let find = |name: &str| self.templates.iter().find(|t| t.name == name).map(|t| &t.engine);
        let names = || self.templates.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", ");
        if let Some(name) = &request.template {
            return find(name)
                .ok_or_else(|| Fault::config(format!("no chat template is named \"{name}\"; there are: {}", names())));
        }
        let for_tools = if self.is_set && !request.tools.is_null() { find("tool_use") } else { None };
        for_tools.or_else(|| find("default")).ok_or_else(|| {
            Fault::config(format!(
                "the model has several chat templates and none is named \"default\"; choose one of: {}",
                names()
            ))
        })
    }

    /// Special tokens, then the request's own variables over them, then what every template gets.
    fn variables(&self, request: Request) -> Json {
        let mut variables: Vec<(String, Json)> = Vec::new();
        let mut set = |key: String, value: Json| match variables.iter_mut().find(|(name, _)| *name == key) {
            Some(entry) => entry.1 = value,
            None => variables.push((key, value)),
        };
        for (key, token) in &self.special_tokens {
            set(key.clone(), Json::String(token.clone()));
        }
        for (key, value) in request.variables {
            set(key, value);
        }
        set("messages".into(), Json::Array(request.messages.into_iter().map(Json::Object).collect()));
        set("tools".into(), request.tools);
        set("documents".into(), request.documents);
        set("add_generation_prompt".into(), request.add_generation_prompt);
        Json::Object(variables)
    }
}

type Sources = Vec<(String, String, String)>;

/// `chat_template.jinja` and `additional_chat_templates/*.jinja`, which win over the configuration.
fn from_files(folder: &Path) -> Result<(Sources, bool), Fault> {
    let mut sources = Sources::new();
    let main = folder.join("chat_template.jinja");
    if let Some(text) = read_text(&main)? {
        sources.push(("default".into(), main.display().to_string(), text));
    }
    let more = folder.join("additional_chat_templates");
    let mut files: Vec<_> = fs::read_dir(&more).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "jinja"));
    files.sort();
    for path in &files {
        let (Some(text), Some(name)) = (read_text(path)?, path.file_stem()) else { continue };
        let name = name.to_string_lossy().into_owned();
        sources.retain(|(known, _, _)| *known != name);
        sources.push((name, path.display().to_string(), text));
    }
    Ok((sources, !files.is_empty()))
}

fn from_config(folder: &Path, config: Option<&Json>) -> Result<(Sources, bool), Fault> {
    let file = folder.join("tokenizer_config.json").display().to_string();
    match config.and_then(|c| c.get("chat_template")) {
        None | Some(Json::Null) => Ok((Sources::new(), false)),
        Some(Json::String(text)) => {
            Ok((vec![("default".into(), format!("{file} (chat_template)"), text.clone())], false))
        }
        Some(Json::Array(items)) => Ok((named_templates(&file, items)?, true)),
        Some(other) => Err(Fault::format(format!(
            "{file}: field chat_template: expected a string or a list of {{name, template}}, found {}",
            other.kind()
        ))),
    }
}

fn named_templates(file: &str, items: &[Json]) -> Result<Sources, Fault> {
    let mut sources = Sources::new();
    for (index, item) in items.iter().enumerate() {
        let text = |key: &str| item.get(key).and_then(Json::as_str);
        let (Some(name), Some(template)) = (text("name"), text("template")) else {
            return Err(Fault::format(format!(
                "{file}: field chat_template[{index}]: expected an object with the strings \"name\" and \"template\""
            )));
        };
        sources.retain(|(known, _, _)| known != name);
        sources.push((name.to_string(), format!("{file} (chat_template \"{name}\")"), template.to_string()));
    }
    Ok(sources)
}
