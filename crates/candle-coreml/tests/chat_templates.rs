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
fn endless_and_greedy_templates_are_stopped() {
    let sources = [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set n = namespace(x='0123456789') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}\
         {% endfor %}{{ n.x|length }}",
        "{{ 'x' * 99999999999 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ];
    for source in sources {
        let template = ChatTemplate::new(source, None, None).unwrap();
        let result = template.render(&[ChatMessage::user("hi")], &ChatOptions::default());
        assert!(result.is_err(), "{source}");
    }
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
