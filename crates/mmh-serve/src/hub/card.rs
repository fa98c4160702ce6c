//! What the front matter of a README says of a model or data set, as far as it is plain: values,
//! lists of values, and nothing nested (a part of YAML 1.2 that cards are mostly written in).

use serde_json::{Map, Value};

/// Bytes at the beginning of a card that are looked at.
pub(crate) const CARD_LEN_MAX: u64 = 64 << 10;
/// Most keys, and values of one.
const ITEMS_MAX: usize = 256;

/// A card.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Card {
    /// Its values, by key.
    pub(crate) data: Map<String, Value>,
}

impl Card {
    /// Reads the front matter, if there is one; what is nested is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let mut card = Self::default();
        // As clients do, blank lines before it are passed over.
        let mut lines = text.trim_start_matches('\u{feff}').trim_start().lines();
        if lines.next().map(str::trim_end) != Some("---") {
            return card;
        }
        let front: Vec<&str> = lines.take_while(|line| line.trim_end() != "---").collect();
        let mut at = 0;
        while let Some(line) = front.get(at) {
            at += 1;
            let below = front[at..].iter().take_while(|l| is_below(l)).count();
            let block = &front[at..at + below];
            at += below;
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let (key, value) = (key.trim(), uncommented(value));
            let read = match value {
                "" => list_below(block),
                value => block.is_empty().then(|| inline(value)).flatten(),
            };
            if let (Some(read), false, true) = (read, key.is_empty(), card.data.len() < ITEMS_MAX) {
                card.data.insert(key.to_owned(), read);
            }
        }
        card
    }

    /// A value that is one text.
    /// What is wrong with a card, in the eyes of its readers: errors, and what is only missing.
    pub(crate) fn complaints(&self) -> (Vec<String>, Vec<String>) {
        let (mut errors, mut warnings) = (Vec::new(), Vec::new());
        if self.data.is_empty() {
            warnings.push("the card says nothing of the repository (YAML between ---)".to_owned());
        }
        // A nested list is left out of what is read.
        if self
            .data
            .get("model-index")
            .is_some_and(|value| !value.is_array())
        {
            errors.push("model-index is a list".to_owned());
        }
        (errors, warnings)
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key)?.as_str()
    }

    /// A value or the values of a list, as text.
    fn texts(&self, key: &str) -> Vec<String> {
        match self.data.get(key) {
            Some(Value::Array(values)) => {
                let texts = values.iter().filter_map(Value::as_str);
                texts.map(str::to_owned).collect()
            }
            Some(Value::String(text)) => vec![text.clone()],
            _ => Vec::new(),
        }
    }

    /// The tags that hubs make of a card, by which repositories are looked for.
    pub(crate) fn tags(&self) -> Vec<String> {
        let mut tags = self.texts("tags");
        for key in ["library_name", "pipeline_tag", "language"] {
            tags.extend(self.texts(key));
        }
        for (key, label) in [
            ("license", "license"),
            ("datasets", "dataset"),
            ("base_model", "base_model"),
        ] {
            tags.extend(self.texts(key).iter().map(|text| format!("{label}:{text}")));
        }
        tags
    }
}

/// Whether a line belongs to the key above it.
fn is_below(line: &str) -> bool {
    line.is_empty() || line.starts_with([' ', '\t', '-', '#'])
}

fn uncommented(value: &str) -> &str {
    value.split(" #").next().unwrap_or_default().trim()
}

fn list_below(block: &[&str]) -> Option<Value> {
    let lines = block.iter().map(|line| uncommented(line));
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let items: Option<Vec<Value>> = lines
        .take(ITEMS_MAX)
        .map(|line| inline(line.strip_prefix("- ")?.trim()))
        .collect();
    items.filter(|items| !items.is_empty()).map(Value::Array)
}

/// A value on one line: a text, number or truth, or a list of such in brackets.
fn inline(value: &str) -> Option<Value> {
    if let Some(list) = value.strip_prefix('[') {
        let list = list.strip_suffix(']')?;
        let items = list
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        let items: Option<Vec<Value>> = items.take(ITEMS_MAX).map(scalar).collect();
        return items.map(Value::Array);
    }
    scalar(value)
}

fn scalar(value: &str) -> Option<Value> {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            return inner.strip_suffix(quote).map(Value::from);
        }
    }
    // What begins like this is a mapping, a block or a reference.
    if value.starts_with(['{', '[', '|', '>', '&', '*', '!', '%', '@', '`']) || value.contains(": ")
    {
        return None;
    }
    match value {
        "true" => return Some(true.into()),
        "false" => return Some(false.into()),
        "null" | "~" => return Some(Value::Null),
        _ => {}
    }
    let digits = value.strip_prefix('-').unwrap_or(value);
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    match value.parse::<i64>() {
        Ok(whole) if number => Some(whole.into()),
        _ => Some(value.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn card(front: &str) -> Value {
        Card::parse(&format!("---\n{front}\n---\n# text\nkey: no\n"))
            .data
            .into()
    }

    #[test]
    fn plain_cards_are_read() {
        let text = "license: mit # free\ntags:\n- a\n  - \"b c\"\n\nlanguage: [en, 'de']\nn: -3\n\
                    ok: true\npipeline_tag: text-generation\nbase_model: x/y\nv: 1.5";
        assert_eq!(
            card(text),
            json!({
                "license": "mit", "tags": ["a", "b c"], "language": ["en", "de"], "n": -3,
                "ok": true, "pipeline_tag": "text-generation", "base_model": "x/y", "v": "1.5",
            })
        );
        let tags = Card::parse(&format!("---\n{text}\n---")).tags();
        let expected = [
            "a",
            "b c",
            "text-generation",
            "en",
            "de",
            "license:mit",
            "base_model:x/y",
        ];
        assert_eq!(tags, expected);
    }

    #[test]
    fn what_is_nested_is_left_out() {
        assert_eq!(
            card("model-index:\n- name: x\n  results:\n  - y: 1\na: b"),
            json!({ "a": "b" })
        );
        assert_eq!(card("a: {b: c}\nd: |\n  text\ne:\nf: [x"), json!({}));
        assert_eq!(Card::parse("no front matter\na: b"), Card::default());
        assert_eq!(Card::parse(""), Card::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String) {
            Card::parse(&text);
            Card::parse(&format!("---\n{text}"));
        }
    }
}
