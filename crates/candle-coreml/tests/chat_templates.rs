//! Chat templates against what Jinja2 makes of the same conversations (`fixtures/chat/cases.json`,
//! written by `tools/chat-templates`), and where templates are looked for.
#![cfg(feature = "llm")]
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::path::{Path, PathBuf};

use candle_coreml::{ChatMessage, ChatOptions, ChatTemplate};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chat")
}

fn render(template: &ChatTemplate, case: &Json) -> Result<String, String> {
    let messages: Vec<ChatMessage> = serde_json::from_value(case["messages"].clone()).unwrap();
    let mut options = ChatOptions::default();
    for (name, value) in case["variables"].as_object().unwrap() {
        options = match name.as_str() {
            "tools" => options.tools(value.clone()),
            "enable_thinking" => options.thinking(value.as_bool().unwrap()),
            _ => options.variable(name, value.clone()),
        };
    }
    template.render(&messages, &options).map_err(|error| error.to_string())
}

#[test]
fn templates_give_what_jinja2_gives() {
    let text = std::fs::read_to_string(directory().join("cases.json")).unwrap();
    let cases: Vec<Json> = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let name = case["template"].as_str().unwrap();
        let source = std::fs::read_to_string(directory().join(format!("{name}.jinja"))).unwrap();
        let template = ChatTemplate::new(&source, Some("<s>"), Some("</s>")).unwrap();
        let same = match (render(&template, case), case["error"].as_str()) {
            (Err(message), Some(expected)) if message.contains(expected) => continue,
            (Ok(text), None) if text == case["text"] => continue,
            (same, _) => same,
        };
        wrong.push(format!("case {number}, {name}: {same:?}\nexpected {}", case["text"]));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The text of a template with these variables, and with `messages` among them.
fn render_with(source: &str, variables: &Json) -> Result<String, String> {
    let mut options = ChatOptions::default();
    for (name, value) in variables.as_object().unwrap() {
        options = options.variable(name, value.clone());
    }
    let template = ChatTemplate::new(source, None, None).map_err(|error| error.to_string())?;
    template.render(&[], &options).map_err(|error| error.to_string())
}

/// `fixtures/chat/constructs.json` has hundreds of small templates with what they give in
/// Hugging Face's own environment, or that they are errors there.
#[test]
fn constructs_give_what_they_give_in_transformers() {
    let text = std::fs::read_to_string(directory().join("constructs.json")).unwrap();
    let all: Json = serde_json::from_str(&text).unwrap();
    let cases = all["cases"].as_array().unwrap();
    assert!(cases.len() > 400);
    let mut wrong = Vec::new();
    for case in cases {
        let source = case["template"].as_str().unwrap();
        match (render_with(source, &all["variables"]), case["text"].as_str()) {
            (Ok(text), Some(expected)) if text == expected => {}
            (Err(_), None) => {}
            (result, _) => {
                let expected = case.get("text").unwrap_or(&case["error"]);
                wrong.push(format!("{source}\n  gives {result:?}\n  expected {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What other than in Python is an error, so that no other text comes out.
#[test]
fn what_differs_from_python_is_an_error() {
    for source in [
        "{{ 'abc'.encode('utf-8') }}",
        "{{ 2**200 }}",
        "{{ namespace }}",
        "{{ lipsum() }}",
        "{{ (-8)**0.5 }}",
        "{{ '&bogus;'|striptags }}",
        "{{ self.block() }}",
    ] {
        assert!(render_with(source, &json!({})).is_err(), "{source}");
    }
}

#[test]
fn errors_say_where_and_in_which_template() {
    let error = |source| render_with(source, &json!({})).unwrap_err();
    let message = error("\n\n{{ 1 + }}");
    assert!(message.contains("template `default`, line 3"), "{message}");
    let message = error("a\n{% if true %}\n{{ missing.x }}{% endif %}");
    assert!(message.contains("`missing` is undefined"), "{message}");
    assert!(message.contains("template `default`, line 3"), "{message}");
    let message = error("{{ raise_exception('Only users, please') }}");
    assert!(message.contains("Only users, please"), "{message}");
}

#[test]
fn messages_may_have_parts_or_no_content() {
    let source = "{% for m in messages %}{{ m.role }}:{% if m.content is string %}{{ m.content }}\
                  {% elif m.content %}{% for part in m.content %}{{ part.text or '<' ~ part.type ~ '>' }}\
                  {% endfor %}{% else %}{{ m.content }}{% endif %};{% endfor %}";
    let template = ChatTemplate::new(source, None, None).unwrap();
    let messages: Vec<ChatMessage> = serde_json::from_value(json!([
        {"role": "a", "content": "text"},
        {"role": "b", "content": [{"type": "text", "text": "What?"}, {"type": "image"}]},
        {"role": "c", "content": null},
        {"role": "d"},
    ]))
    .unwrap();
    let text = template.render(&messages, &ChatOptions::default()).unwrap();
    assert_eq!(text, "a:text;b:What?<image>;c:None;d:;");
}

#[test]
fn thoughts_have_both_names_that_templates_know() {
    let source = "{% for m in messages %}{{ m.thinking }}/{{ m.reasoning_content }};{% endfor %}";
    let template = ChatTemplate::new(source, None, None).unwrap();
    let messages = ["thinking", "reasoning", "reasoning_content", "other"]
        .map(|name| ChatMessage::assistant("Yes.").with(name, "Hm."));
    let text = template.render(&messages, &ChatOptions::default()).unwrap();
    assert_eq!(text, "Hm./Hm.;Hm./Hm.;Hm./Hm.;/;");
}

fn load(files: &[(&str, String)]) -> candle_coreml::Result<Option<ChatTemplate>> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    ChatTemplate::load(directory.path())
}

fn say(template: &ChatTemplate, options: &ChatOptions) -> String {
    template.render(&[ChatMessage::user("hi")], options).unwrap()
}

#[test]
fn templates_are_found_in_any_of_three_files() {
    let config = |template: Json| {
        json!({"chat_template": template, "bos_token": {"content": "<b>"}, "eos_token": "<e>"})
            .to_string()
    };
    let options = ChatOptions::default();
    assert!(load(&[]).unwrap().is_none());
    assert!(load(&[("tokenizer_config.json", config(Json::Null))]).unwrap().is_none());

    let source = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}";
    let in_config = load(&[("tokenizer_config.json", config(source.into()))]).unwrap().unwrap();
    assert_eq!(say(&in_config, &options), "<b>hi<e>");
    let file = ("chat_template.jinja", "file {{ bos_token }}".to_owned());
    let both = load(&[("tokenizer_config.json", config(source.into())), file]).unwrap().unwrap();
    assert_eq!(say(&both, &options), "file <b>");
    let json = json!({"chat_template": "json {{ messages[0].role }}"}).to_string();
    let in_json = load(&[("chat_template.json", json)]).unwrap().unwrap();
    assert_eq!(say(&in_json, &options), "json user");

    let named = json!([{"name": "default", "template": "plain"},
                       {"name": "tool_use", "template": "with {{ tools|length }}"}]);
    let named = load(&[("tokenizer_config.json", config(named))]).unwrap().unwrap();
    assert_eq!(say(&named, &options), "plain");
    assert_eq!(say(&named, &ChatOptions::default().tools(json!([1, 2]))), "with 2");
}

#[test]
fn wrong_templates_are_errors_that_name_the_file() {
    let message = load(&[("chat_template.jinja", "{% if %}".to_owned())]).unwrap_err().to_string();
    assert!(message.contains("chat_template.jinja") && message.contains("not a valid template"));
    let message = load(&[("tokenizer_config.json", "{".to_owned())]).unwrap_err().to_string();
    assert!(message.contains("tokenizer_config.json") && message.contains("JSON"), "{message}");
}

#[test]
fn long_conversations_are_no_greedy_templates() {
    let turn = |i: usize| match i % 2 {
        0 => ChatMessage::user("What is that, and how does it work? ".repeat(10)),
        _ => ChatMessage::assistant("<think>\nHm.\n</think>\n\n".to_owned() + &"So. ".repeat(100)),
    };
    let messages: Vec<ChatMessage> = (0..4001).map(turn).collect();
    for name in ["thinking", "functions", "turns", "reasoning", "chatml"] {
        let source = std::fs::read_to_string(directory().join(format!("{name}.jinja"))).unwrap();
        let template = ChatTemplate::new(&source, Some("<s>"), Some("</s>")).unwrap();
        template
            .render(&messages, &ChatOptions::default())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

proptest! {
    /// Damaged templates are errors, or render something; they never panic.
    #[test]
    fn damaged_templates_do_no_harm(start in 0usize..4000, length in 0usize..60, which in 0usize..5) {
        let name = ["thinking", "functions", "turns", "reasoning", "chatml"][which];
        let source = std::fs::read_to_string(directory().join(format!("{name}.jinja"))).unwrap();
        let start = start % source.len();
        let end = (start + length).min(source.len());
        let source = source[..start].to_owned() + &source[end..];
        let messages = [
            ChatMessage::system("be brief"),
            ChatMessage::user("hi"),
            ChatMessage::assistant("<think>hm</think>yes"),
            ChatMessage::user("more"),
        ];
        if let Ok(template) = ChatTemplate::new(&source, Some("<s>"), None) {
            drop(template.render(&messages, &ChatOptions::default().tools(json!([{"a": 1}]))));
        }
    }
}

#[test]
fn templates_reach_no_files() {
    for source in ["{% include 'chat_template.jinja' %}", "{% import '/etc/passwd' as x %}"] {
        let refused = match ChatTemplate::new(source, None, None) {
            Ok(template) => template.render(&[], &ChatOptions::default()).is_err(),
            Err(_) => true,
        };
        assert!(refused, "{source}");
    }
}

#[test]
fn the_time_is_formatted_as_asked_or_refused() {
    let render = |source: &str| {
        let template = ChatTemplate::new(source, None, None).unwrap();
        template.render(&[ChatMessage::user("hi")], &ChatOptions::default())
    };
    let text = render("{{ strftime_now('%d|%H|day %%') }}").unwrap();
    let parts: Vec<&str> = text.split('|').collect();
    assert!((1..=31).contains(&parts[0].parse::<u32>().unwrap()), "{text}");
    assert!(parts[1].parse::<u32>().unwrap() < 24 && parts[2] == "day %", "{text}");
    assert!(render("{{ strftime_now('%!') }}").unwrap_err().to_string().contains("`%!`"));
}
