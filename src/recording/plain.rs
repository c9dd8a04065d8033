//! Words for a person out of words for a machine: a message that came with JSON in it (an agent's last lines, a cluster's answer) is
//! told by what the JSON says went wrong. The recording keeps the message as it was; what is read back from it is plain.

use serde_json::{Deserializer, Map, Value};

/// Between several lines that were put into one sentence.
const BETWEEN: &str = " / ";

/// `text` with every JSON object in it replaced by its own words for what happened; an object that has none is left out. Text
/// without JSON comes back as it is.
pub fn plain(text: &str) -> String {
    if !text.contains("{\"") {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{\"") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut objects = Deserializer::from_str(rest).into_iter::<Map<String, Value>>();
        rest = match objects.next() {
            Some(Ok(object)) => {
                out.push_str(&said(&object));
                &rest[objects.byte_offset()..]
            }
            // Torn, or only something like it: what belongs to it cannot be told from what follows.
            _ => &rest[rest.find(BETWEEN).unwrap_or(rest.len())..],
        };
    }
    out.push_str(rest);
    tidy(&out)
}

/// What an object says went wrong: its `message`, `reason` or `error`, after the `event` that it tells.
fn said(object: &Map<String, Value>) -> String {
    let word = |key: &str| object.get(key).and_then(Value::as_str).map(str::trim).filter(|word| !word.is_empty());
    let Some(why) = ["message", "reason", "error"].into_iter().find_map(word) else { return String::new() };
    match word("event") {
        Some(event) => format!("{}, {why}", event.replace('_', " ")),
        None => why.to_owned(),
    }
}

/// Without the separators and introductions of what was left out.
fn tidy(text: &str) -> String {
    let lines = text.split(BETWEEN).map(str::trim);
    // `its last words: / the last` is an introduction before a line that said nothing.
    let mut out = String::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if !out.is_empty() {
            out.push_str(if out.ends_with(':') { " " } else { BETWEEN });
        }
        out.push_str(line);
    }
    if out.ends_with(':') {
        let end = out.rfind("; ").unwrap_or(out.len() - 1);
        out.truncate(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_last_words_are_told_and_not_quoted() {
        let text = r#"the agent did not begin: it ended; its last words: {"event":"active","table":[{"port":1}]} / {"event":"evidence","chunks":2} / {"event":"reverted","reason":"heartbeats stopped","cleared":true}"#;
        assert_eq!(plain(text), "the agent did not begin: it ended; its last words: reverted, heartbeats stopped");
        let silent = r#"the agent did not begin: it ended; its last words: {"event":"active","table":[]}"#;
        assert_eq!(plain(silent), "the agent did not begin: it ended");
        let torn = r#"it ended; its last words: {"event":"act / {"event":"renewal_failed","reason":"no socket"}"#;
        assert_eq!(plain(torn), "it ended; its last words: renewal failed, no socket");
        let mixed = r#"it ended; its last words: cannot start: no port / {"a":1}"#;
        assert_eq!(plain(mixed), "it ended; its last words: cannot start: no port");
    }

    #[test]
    fn a_clusters_answer_is_told_and_text_without_json_is_left_alone() {
        assert_eq!(plain(r#"refused: {"kind":"Status","message":"no such pod","code":404}"#), "refused: no such pod");
        for text in ["", "a / b / c:", "{not json}", "ends in ünicode: {"] {
            assert_eq!(plain(text), text);
        }
    }
}
