//! Models as people name them: by id, with a revision behind, or by the address of their page.

use percent_encoding::percent_decode_str;

use super::{HubError, ModelId};

/// Hosts that the hub's pages have, besides that of the endpoint.
const HOSTS: [&str; 3] = ["huggingface.co", "www.huggingface.co", "hf.co"];
const SCHEME: &str = "hf://";
/// First parts of addresses of what is no model.
const OTHERS: [&str; 6] = ["datasets", "spaces", "collections", "papers", "docs", "blog"];
/// Pages of a revision, which is named behind.
const OF_REVISION: [&str; 6] = ["tree", "blob", "resolve", "raw", "commit", "commits"];
/// Other pages of a model.
const OF_MODEL: [&str; 2] = ["discussions", "settings"];

/// A model's id, and the revision if one is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) id: ModelId,
    pub(super) revision: Option<String>,
}

impl Reference {
    /// Reads `org/name`, `org/name@revision`, `hf://org/name@revision` or the address of a page, such
    /// as `https://huggingface.co/org/name/tree/main`, at the hub's usual hosts or the endpoint.
    ///
    /// # Errors
    /// When it is none of these, or names only a part of a model.
    pub(super) fn parse(text: &str, endpoint: &str) -> Result<Self, HubError> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix(SCHEME) {
            return Self::of_scheme(text, rest.trim_matches('/'));
        }
        match page(text, endpoint)? {
            Some(path) => Self::of_page(text, path),
            None => Self::of_id(text),
        }
    }

    fn of_id(text: &str) -> Result<Self, HubError> {
        let (id, revision) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision.to_owned())),
            None => (text, None),
        };
        Ok(Reference { id: ModelId::parse(id)?, revision })
    }

    /// As Hugging Face's file system has it: a slash in a revision is escaped, and what follows one is
    /// a path.
    fn of_scheme(text: &str, rest: &str) -> Result<Self, HubError> {
        refuse_others(text, rest)?;
        let Some((id, revision)) = rest.split_once('@') else {
            let parts: Vec<&str> = rest.split('/').collect();
            return match parts.as_slice() {
                [org, name, _, ..] => Err(part_of_model(text, &format!("{org}/{name}"))),
                _ => Self::of_id(rest),
            };
        };
        match revision.split_once('/') {
            Some((revision, _)) => Err(part_of_model(text, &format!("{id}@{revision}"))),
            None => Ok(Reference { id: ModelId::parse(id)?, revision: Some(decoded(revision)) }),
        }
    }

    fn of_page(text: &str, path: &str) -> Result<Self, HubError> {
        refuse_others(text, path)?;
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let is_page = |part: &&str| OF_REVISION.contains(part) || OF_MODEL.contains(part);
        let end = parts.iter().skip(1).position(is_page).map_or(parts.len(), |at| at + 1);
        let (id, rest) = parts.split_at(end);
        let id = id.join("/");
        let id = ModelId::parse(id.strip_suffix(".git").unwrap_or(&id))?;
        match rest {
            // In addresses written by hand, the slashes of this kind of revision need no escape.
            [page, "refs", kind, number] if OF_REVISION.contains(page) => {
                Ok(Reference { id, revision: Some(format!("refs/{kind}/{number}")) })
            }
            [page, revision] if OF_REVISION.contains(page) => {
                Ok(Reference { id, revision: Some(decoded(revision)) })
            }
            [page, revision, ..] if OF_REVISION.contains(page) => {
                Err(part_of_model(text, &format!("{id}@{}", decoded(revision))))
            }
            _ => Ok(Reference { id, revision: None }),
        }
    }
}

/// The path in the address of a page; `None` where the text is no address.
fn page<'a>(text: &'a str, endpoint: &str) -> Result<Option<&'a str>, HubError> {
    let text_without_query = text.split(['?', '#']).next().unwrap_or_default();
    if let Some(path) = text_without_query.strip_prefix(endpoint)
        && (path.is_empty() || path.starts_with('/'))
    {
        return Ok(Some(path));
    }
    let scheme = ["https://", "http://"].iter().find_map(|s| text_without_query.strip_prefix(s));
    let (host, path) = scheme.unwrap_or(text_without_query).split_once('/').unwrap_or_default();
    if HOSTS.iter().any(|known| host.eq_ignore_ascii_case(known)) {
        return Ok(Some(path));
    }
    match text.contains("://") {
        true => Err(HubError::argument(
            text,
            format!("is no page of a model; expected `https://{}/ORG/NAME`", HOSTS[0]),
        )),
        false => Ok(None),
    }
}

fn refuse_others(text: &str, path: &str) -> Result<(), HubError> {
    match path.trim_start_matches('/').split('/').next() {
        Some(first) if OTHERS.contains(&first) => {
            let message = format!("is none of a model, but one of the hub's {first}");
            Err(HubError::argument(text, message))
        }
        _ => Ok(()),
    }
}

fn part_of_model(text: &str, model: &str) -> HubError {
    let message = format!(
        "is a part of a model; name the model itself, `{model}`, and choose its files with a pattern"
    );
    HubError::argument(text, message)
}

fn decoded(part: &str) -> String {
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, Option<String>), String> {
        Reference::parse(text, "https://mirror.test/hf")
            .map(|found| (found.id.to_string(), found.revision))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_addresses_are_understood() {
        for (text, revision) in [
            ("org/name", None),
            ("org/name@v1", Some("v1")),
            ("org/name@refs/pr/1", Some("refs/pr/1")),
            ("https://huggingface.co/org/name", None),
            (" https://huggingface.co/org/name/ ", None),
            ("http://www.huggingface.co/org/name?library=x#top", None),
            ("https://HuggingFace.co/org/name.git", None),
            ("huggingface.co/org/name", None),
            ("hf.co/org/name/tree/main", Some("main")),
            ("https://huggingface.co/org/name/tree/refs%2Fpr%2F1", Some("refs/pr/1")),
            ("https://huggingface.co/org/name/tree/refs/pr/1", Some("refs/pr/1")),
            ("https://huggingface.co/org/name/commit/0123abc", Some("0123abc")),
            ("https://huggingface.co/org/name/discussions/3", None),
            ("https://mirror.test/hf/org/name/tree/v1", Some("v1")),
            ("hf://org/name", None),
            ("hf://org/name@v1", Some("v1")),
            ("hf://org/name@refs%2Fpr%2F1", Some("refs/pr/1")),
        ] {
            let expected = ("org/name".to_owned(), revision.map(str::to_owned));
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
        for text in ["gpt2", "https://huggingface.co/gpt2", "hf://gpt2", "hf.co/gpt2"] {
            assert_eq!(parse(text), Ok(("gpt2".to_owned(), None)), "{text}");
        }
    }

    #[test]
    fn what_is_no_model_is_explained() {
        for (text, expected) in [
            ("https://example.com/org/name", "https://huggingface.co/ORG/NAME"),
            ("https://huggingface.co.evil.test/org/name", "no page of a model"),
            ("ftp://huggingface.co/org/name", "no page of a model"),
            ("https://huggingface.co/datasets/org/name", "the hub's datasets"),
            ("hf://spaces/org/name", "the hub's spaces"),
            ("https://huggingface.co/org/name/blob/main/config.json", "`org/name@main`"),
            ("https://huggingface.co/org/name/tree/v1/ios", "`org/name@v1`"),
            ("hf://org/name/config.json", "`org/name`"),
            ("hf://org/name@v1/config.json", "`org/name@v1`"),
            ("https://huggingface.co/", "no model id"),
            ("https://huggingface.co", "no page of a model"),
            ("https://huggingface.co/a/b/c", "no model id"),
            ("org/name@", "is no revision"),
            ("a b", "no model id"),
        ] {
            let message = match Reference::parse(text, "https://mirror.test/hf") {
                Ok(found) => crate::hub::DownloadOptions::new().of(&found).unwrap_err().to_string(),
                Err(error) => error.to_string(),
            };
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
