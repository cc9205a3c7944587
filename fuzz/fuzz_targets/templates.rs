//! Any text as a chat template: it gives a text or an error, in the small stack of a server's thread,
//! and neither does the process end nor does the renderer panic.
#![no_main]

use std::thread;

use candle_coreml::{ChatMessage, ChatOptions, ChatTemplate};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const STACK: usize = 2 << 20;

fn render(source: &str) -> candle_coreml::Result<String> {
    let call = json!([{"type": "function", "function": {"name": "f", "arguments": {"n": 2}}}]);
    let messages = [
        ChatMessage::system("Be brief."),
        ChatMessage::user(vec![json!({"type": "text", "text": "What?"}), json!({"type": "image"})]),
        ChatMessage::assistant("").with("tool_calls", call),
        ChatMessage::assistant("<think>\nHm.\n</think>\n\nA cat."),
    ];
    let options = ChatOptions::default().tools(json!([{"type": "function"}]));
    ChatTemplate::new(source, Some("<s>"), Some("</s>"))?.render(&messages, &options)
}

fuzz_target!(|source: &str| {
    let result = thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK);
        let running = thread.spawn_scoped(scope, || render(source)).expect("a thread");
        running.join().expect("no panic")
    });
    match result {
        Ok(text) => assert!(text.len() < 64 << 20),
        Err(error) => assert!(!error.to_string().contains("stopped unexpectedly"), "{error}"),
    }
});
