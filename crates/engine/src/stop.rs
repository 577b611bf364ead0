//! Stop texts over a stream: text goes out as soon as it can no longer be the beginning of one.

/// Watches a stream of text for the first of several stop texts.
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// What a push let through.
#[derive(Debug, PartialEq, Eq)]
pub struct Released {
    /// Text that is safe to show.
    pub text: String,
    /// A stop text was met; it and what follows are not shown.
    pub stopped: bool,
}

impl StopMatcher {
    /// A matcher for these texts (none may be empty).
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Adds text; releases all that cannot be the beginning of a stop text.
    pub fn push(&mut self, text: &str) -> Released {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return Released { text: std::mem::take(&mut self.held), stopped: true };
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Released { text: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// The end of the stream: what was held back was no stop text after all.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` that begins `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let ends = stop.char_indices().map(|(at, _)| at).filter(|&at| at > 0 && at <= text.len());
    ends.filter(|&at| text.ends_with(&stop[..at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], parts: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.iter().map(|s| s.to_string()).collect());
        let mut out = String::new();
        for part in parts {
            let released = matcher.push(part);
            out += &released.text;
            if released.stopped {
                return (out, true);
            }
        }
        (out + &matcher.finish(), false)
    }

    #[test]
    fn a_stop_text_is_found_however_the_stream_is_cut() {
        let text = "one two\n\nUser: three é";
        for stop in ["\n\nUser:", "two", "é", " "] {
            let expected = (text[..text.find(stop).unwrap()].to_string(), true);
            for cut in text.char_indices().map(|(at, _)| at) {
                assert_eq!(run(&[stop], &[&text[..cut], &text[cut..]]), expected, "{stop:?} cut at {cut}");
            }
            let letters: Vec<String> = text.chars().map(String::from).collect();
            assert_eq!(run(&[stop], &letters.iter().map(String::as_str).collect::<Vec<_>>()), expected);
        }
    }

    #[test]
    fn the_earliest_of_several_wins_and_near_misses_come_out_whole() {
        assert_eq!(run(&["cd", "bc"], &["a", "b", "c", "d"]), ("a".into(), true));
        assert_eq!(run(&["aab"], &["a", "a", "a", "c"]), ("aaac".into(), false));
    }

    #[test]
    fn text_is_held_only_as_long_as_needed() {
        let mut matcher = StopMatcher::new(vec!["##".into()]);
        assert_eq!(matcher.push("x#"), Released { text: "x".into(), stopped: false });
        assert_eq!(matcher.push("y"), Released { text: "#y".into(), stopped: false });
    }
}
