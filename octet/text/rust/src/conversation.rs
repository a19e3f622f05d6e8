// SPDX-License-Identifier: Apache-2.0
//! What transformers does to a conversation before and after the template engine sees it.

use crate::fault::Fault;
use crate::json::Json;
use crate::python_str::is_blank;

const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

type Message = Vec<(String, Json)>;

/// A request for rendering, checked and normalized.
#[derive(Debug)]
pub struct Request {
    pub messages: Vec<Message>,
    pub tools: Json,
    pub documents: Json,
    pub add_generation_prompt: Json,
    /// The message field to be continued instead of beginning a new message.
    pub continue_field: Option<String>,
    pub template: Option<String>,
    /// Further template variables.
    pub variables: Vec<(String, Json)>,
}

impl Request {
    pub fn parse(text: &str) -> Result<Request, Fault> {
        let Json::Object(entries) = Json::parse(text).map_err(|what| wrong(&what))? else {
            return Err(wrong("expected an object with \"messages\""));
        };
        let mut request = Request {
            messages: Vec::new(),
            tools: Json::Null,
            documents: Json::Null,
            add_generation_prompt: Json::Bool(false),
            continue_field: None,
            template: None,
            variables: Vec::new(),
        };
        let mut messages = Json::Null;
        for (key, value) in entries {
            match key.as_str() {
                "messages" => messages = value,
                "tools" => request.tools = objects("tools", value)?,
                "documents" => request.documents = objects("documents", value)?,
                "add_generation_prompt" => request.add_generation_prompt = value,
                "continue_final_message" => request.continue_field = continue_field(value)?,
                "chat_template" => request.template = name("chat_template", value)?,
                _ => request.variables.push((key, value)),
            }
        }
        request.set_messages(messages)?;
        if request.continue_field.is_some() && is_true(&request.add_generation_prompt) {
            return Err(wrong("continue_final_message and add_generation_prompt exclude each other"));
        }
        Ok(request)
    }

    fn set_messages(&mut self, messages: Json) -> Result<(), Fault> {
        let Json::Array(messages) = messages else {
            return Err(wrong(&format!("field messages: expected a list of messages, found {}", messages.kind())));
        };
        if messages.is_empty() {
            return Err(wrong("field messages: expected at least one message, found an empty list"));
        }
        for (index, message) in messages.into_iter().enumerate() {
            let Json::Object(fields) = message else {
                return Err(wrong(&format!("field messages[{index}]: expected an object, found {}", message.kind())));
            };
            self.messages.push(alias_reasoning(fields.into_iter().filter(|(_, value)| !value.is_null()).collect()));
        }
        Ok(())
    }

    /// Marks the end of the message that is to be continued. Returns the text that the mark was put behind.
    pub fn mark_final_message(&mut self, field: &str, template: &str) -> Result<String, Fault> {
        let Some(last) = self.messages.last_mut() else { return Err(wrong("there is no message to continue")) };
        let Some(value) = get(last, field).cloned() else {
            return Err(wrong(&format!(
                "continue_final_message is set but the final message has no \"{field}\" to continue"
            )));
        };
        let fields: Vec<&str> = match REASONING.contains(&field) {
            true => REASONING.into_iter().filter(|name| get(last, name) == Some(&value)).collect(),
            false => vec![field],
        };
        if !fields.iter().any(|name| template.contains(name)) {
            return Err(wrong(&format!(
                "continue_final_message is set to \"{field}\", which the chat template does not use"
            )));
        }
        match value {
            Json::Array(_) => mark_last_part(last, field),
            Json::String(text) => {
                for (_, value) in last.iter_mut().filter(|(name, _)| fields.contains(&name.as_str())) {
                    *value = Json::String(format!("{text}{TAG}"));
                }
                Ok(text)
            }
            other => Err(wrong(&format!(
                "continue_final_message: the final message's \"{field}\" is {}, not text",
                other.kind()
            ))),
        }
    }
}

fn mark_last_part(message: &mut Message, field: &str) -> Result<String, Fault> {
    let parts = message.iter_mut().find(|(name, _)| name == field).map(|(_, value)| value);
    if let Some(Json::Array(parts)) = parts {
        for part in parts.iter_mut().rev() {
            let Json::Object(entries) = part else { continue };
            let Some((_, value)) = entries.iter_mut().find(|(name, _)| name == "text") else { continue };
            let Json::String(text) = value else { break };
            let before = text.clone();
            text.push_str(TAG);
            return Ok(before);
        }
    }
    Err(wrong("continue_final_message is set but the final message has no text to continue"))
}

/// Cuts the rendered text where the marked message ends.
pub fn cut_at_mark(rendered: &str, final_message: &str) -> Result<String, Fault> {
    let mark = TAG.trim_end();
    let found = rendered.rfind(mark).filter(|_| rendered.contains(final_message.trim_matches(is_blank)));
    let Some(place) = found else {
        return Err(Fault::config("continue_final_message is set but the final message does not appear in the text that the chat template makes"));
    };
    let text = &rendered[..place];
    Ok(if rendered[place..].starts_with(TAG) { text } else { text.trim_end_matches(is_blank) }.to_string())
}

fn wrong(what: &str) -> Fault {
    Fault::argument(format!("chat request: {what}"))
}

fn get<'a>(message: &'a Message, key: &str) -> Option<&'a Json> {
    message.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// The first of the names of reasoning fills the standard name, and `thinking` where the message has none.
fn alias_reasoning(message: Message) -> Message {
    let Some(reasoning) = REASONING.iter().find_map(|key| get(&message, key)).cloned() else { return message };
    let thinking = get(&message, "thinking").unwrap_or(&reasoning).clone();
    let mut result = vec![("thinking".to_string(), thinking)];
    result.extend(message.into_iter().filter(|(key, _)| key != "thinking"));
    match result.iter_mut().find(|(key, _)| key == "reasoning_content") {
        Some(entry) => entry.1 = reasoning,
        None => result.push(("reasoning_content".to_string(), reasoning)),
    }
    result
}

fn objects(field: &str, value: Json) -> Result<Json, Fault> {
    match &value {
        Json::Null => Ok(value),
        Json::Array(items) => match items.iter().position(|item| !matches!(item, Json::Object(_))) {
            None => Ok(value),
            Some(index) => {
                Err(wrong(&format!("field {field}[{index}]: expected an object, found {}", items[index].kind())))
            }
        },
        other => Err(wrong(&format!("field {field}: expected a list of objects, found {}", other.kind()))),
    }
}

fn name(field: &str, value: Json) -> Result<Option<String>, Fault> {
    match value {
        Json::Null => Ok(None),
        Json::String(text) => Ok(Some(text)),
        other => Err(wrong(&format!("field {field}: expected the name of a template, found {}", other.kind()))),
    }
}

fn continue_field(value: Json) -> Result<Option<String>, Fault> {
    match value {
        Json::Null | Json::Bool(false) => Ok(None),
        Json::Bool(true) => Ok(Some("content".to_string())),
        Json::String(field) => Ok(Some(field).filter(|f| !f.is_empty())),
        other => Err(wrong(&format!(
            "field continue_final_message: expected true, false or a field's name, found {}",
            other.kind()
        ))),
    }
}

/// Python's truth of a JSON value.
fn is_true(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Number(text) => text.parse::<f64>() != Ok(0.0),
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => !items.is_empty(),
        Json::Object(entries) => !entries.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_keys_of_messages_go_and_nested_ones_stay() {
        let request = Request::parse(r#"{"messages":[{"role":"user","content":null,"x":{"y":null}}]}"#).unwrap();
        let names: Vec<_> = request.messages[0].iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["role", "x"]);
        assert_eq!(get(&request.messages[0], "x").unwrap().get("y"), Some(&Json::Null));
    }

    #[test]
    fn reasoning_goes_under_all_its_names() {
        let request = Request::parse(r#"{"messages":[{"role":"a","reasoning":"r","content":"c"}]}"#).unwrap();
        let names: Vec<_> = request.messages[0].iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(names, ["thinking", "role", "reasoning", "content", "reasoning_content"]);
    }

    #[test]
    fn wrong_requests_name_the_field() {
        for (text, part) in [
            ("[]", "expected an object"),
            ("{}", "messages"),
            (r#"{"messages":[]}"#, "at least one"),
            (r#"{"messages":["x"]}"#, "messages[0]"),
            (r#"{"messages":[{}],"tools":{}}"#, "tools"),
            (r#"{"messages":[{}],"tools":[1]}"#, "tools[0]"),
            (r#"{"messages":[{}],"continue_final_message":1}"#, "continue_final_message"),
            (r#"{"messages":[{}],"continue_final_message":true,"add_generation_prompt":true}"#, "exclude"),
            (r#"{"messages":[{}],"chat_template":1}"#, "chat_template"),
        ] {
            let fault = Request::parse(text).unwrap_err();
            assert!(fault.message.contains(part), "{text}: {}", fault.message);
        }
    }

    #[test]
    fn the_text_is_cut_at_the_last_mark() {
        assert_eq!(cut_at_mark("a hi CONTINUE_FINAL_MESSAGE_TAG </s>", "hi ").unwrap(), "a hi ");
        assert_eq!(cut_at_mark("a hi CONTINUE_FINAL_MESSAGE_TAG</s>", "hi ").unwrap(), "a hi");
        assert!(cut_at_mark("a hi", "hi").is_err());
    }
}
