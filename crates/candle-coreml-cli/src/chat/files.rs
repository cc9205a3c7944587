//! Conversations in files: a JSON list of messages, each with `role` and `content`.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_coreml::ChatMessage;

/// No conversation that fits a context is longer.
const MOST_BYTES: u64 = 64 << 20;

/// Writes beside the file and renames, so that a full disk spoils nothing that was there.
pub fn save(path: &Path, conversation: &[ChatMessage]) -> Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let write = || -> Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
        serde_json::to_writer_pretty(&mut file, conversation)?;
        file.write_all(b"\n")?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("can't write {}", path.display()))
}

/// The system's message, if there is one, and the others.
pub fn load(path: &Path) -> Result<(Option<String>, Vec<ChatMessage>)> {
    let read = || -> Result<Vec<ChatMessage>> {
        let file = File::open(path)?;
        ensure!(file.metadata()?.is_file(), "it is not a file");
        let text = BufReader::new(file.take(MOST_BYTES));
        let messages = serde_json::from_reader(text);
        messages
            .context("it is not a conversation: a JSON list of objects with `role` and `content`")
    };
    let mut messages = read().with_context(|| format!("can't read {}", path.display()))?;
    let begins = messages.first().is_some_and(|first| first.role == "system");
    let system = begins.then(|| messages.remove(0));
    Ok((system.map(|system| system.content.text().into_owned()), messages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("chat.json");
        let messages = [
            ChatMessage::system("Be nice."),
            ChatMessage::user("Hi"),
            ChatMessage::assistant("\u{1b}"),
        ];
        save(&path, &messages).unwrap();
        let (system, others) = load(&path).unwrap();
        assert_eq!((system.as_deref(), &others[..]), (Some("Be nice."), &messages[1..]));
        save(&path, &messages[1..2]).unwrap();
        assert_eq!(load(&path).unwrap(), (None, messages[1..2].to_vec()));
        std::fs::write(&path, "{}").unwrap();
        let message = format!("{:#}", load(&path).unwrap_err());
        assert!(message.contains("chat.json") && message.contains("JSON list"), "{message}");
        assert!(load(directory.path()).is_err());
    }
}
