//! Stop strings in text that comes in pieces.

/// Finds stop strings, and holds back text that may be the beginning of one.
#[derive(Debug, Default)]
pub(super) struct StopStrings {
    stops: Vec<String>,
    held: String,
}

/// What a piece of text led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Released {
    /// Text that comes before any stop string.
    pub(super) text: String,
    /// The stop string that was found.
    pub(super) stop: Option<String>,
}

impl StopStrings {
    /// `stops` are not empty.
    pub(super) fn new(stops: &[String]) -> Self {
        StopStrings { stops: stops.to_vec(), held: String::new() }
    }

    /// Adds text. The stop string that is complete first ends it, so that it does not matter how
    /// the text is cut into pieces; the longest one of those that end at the same place.
    pub(super) fn push(&mut self, piece: &str) -> Released {
        self.held.push_str(piece);
        let found = self
            .stops
            .iter()
            .filter_map(|stop| Some((self.held.find(stop.as_str())?, stop)))
            .min_by_key(|(start, stop)| (start + stop.len(), *start));
        if let Some((start, stop)) = found {
            let stop = Some(stop.clone());
            self.held.truncate(start);
            return Released { text: std::mem::take(&mut self.held), stop };
        }
        let rest = self.held.split_off(self.held.len() - self.longest_beginning());
        Released { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// What is still held back, when nothing more comes.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length of the longest end of the held text with which a stop string begins.
    fn longest_beginning(&self) -> usize {
        let begins = |stop: &String| {
            let ends = stop.char_indices().map(|(end, _)| end);
            ends.rev().find(|&end| self.held.ends_with(&stop[..end])).unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut search = StopStrings::new(&stops);
        let mut texts = Vec::new();
        for piece in pieces {
            let released = search.push(piece);
            texts.push(released.text);
            if released.stop.is_some() {
                return (texts, released.stop);
            }
        }
        texts.push(search.finish());
        (texts, None)
    }

    #[test]
    fn text_that_may_begin_a_stop_string_is_held_back() {
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], Option<&'a str>);
        let cases: [Case; 8] = [
            (&["END"], &["a E", "N", "D b"], &["a ", "", ""], Some("END")),
            (&["END"], &["a E", "N", "X"], &["a ", "", "ENX", ""], None),
            (&["END"], &["a EN"], &["a ", "EN"], None),
            (&["aab"], &["aa", "ab"], &["", "a"], Some("aab")),
            (&["\n\n"], &["x\n", "\ny"], &["x", ""], Some("\n\n")),
            (&["猫猫"], &["a猫", "b猫", "猫"], &["a", "猫b", ""], Some("猫猫")),
            (&[], &["any", "thing"], &["any", "thing", ""], None),
            (&["no"], &["yes"], &["yes", ""], None),
        ];
        for (stops, pieces, texts, stop) in cases {
            let (seen, found) = run(stops, pieces);
            assert_eq!(
                (seen, found.as_deref()),
                (texts.iter().map(|t| (*t).to_owned()).collect(), stop)
            );
        }
    }

    #[test]
    fn how_the_text_is_cut_does_not_matter() {
        let text = "one abcd two";
        for stops in [&["abcd", "bc"][..], &["bc", "abc"], &["d t", "cd"]] {
            let whole = run(stops, &[text]);
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            let single = run(stops, &letters);
            assert_eq!((whole.0.concat(), whole.1), (single.0.concat(), single.1), "{stops:?}");
        }
        assert_eq!(
            run(&["abcd", "bc"], &[text]),
            (vec!["one a".to_owned()], Some("bc".to_owned()))
        );
        assert_eq!(run(&["bc", "abc"], &[text]), (vec!["one ".to_owned()], Some("abc".to_owned())));
    }
}
