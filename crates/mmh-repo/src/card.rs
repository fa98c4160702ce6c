//! Model cards: what the front matter of a README says that a model was made from.

/// Bytes at the beginning of a card that are looked at.
pub(crate) const CARD_LEN_MAX: u64 = 64 << 10;
/// Most base models that are taken note of.
const MODELS_MAX: usize = 16;

/// The names under `base_model` in the YAML front matter of a card, in order: a single value, a
/// list in brackets, or one of lines with hyphens. What is written otherwise is passed over.
pub(crate) fn base_models(card: &str) -> Vec<String> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    if lines.next().map(str::trim_end) != Some("---") {
        return Vec::new();
    }
    let front = lines.take_while(|line| line.trim_end() != "---");
    let mut models = Vec::new();
    let mut inside = false;
    for line in front {
        if let Some(value) = line.strip_prefix("base_model:") {
            let value = uncommented(value);
            inside = value.is_empty();
            let list = value.strip_prefix('[').and_then(|v| v.strip_suffix(']'));
            match list {
                Some(list) => models.extend(list.split(',').map(unquoted)),
                None => models.push(unquoted(value)),
            }
        } else if inside && let Some(item) = line.trim_start().strip_prefix("- ") {
            models.push(unquoted(uncommented(item)));
        } else if !line.trim().is_empty() {
            inside = false;
        }
    }
    models.retain(|model| !model.is_empty());
    models.truncate(MODELS_MAX);
    models
}

fn uncommented(value: &str) -> &str {
    value.split(" #").next().unwrap_or_default().trim()
}

fn unquoted(value: &str) -> String {
    value.trim().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn models(front: &str) -> Vec<String> {
        base_models(&format!("---\n{front}\n---\n# A model\nbase_model: no\n"))
    }

    #[test]
    fn every_spelling_of_base_models_is_read() {
        assert_eq!(models("base_model: acme/minilm"), ["acme/minilm"]);
        assert_eq!(
            models("license: mit\nbase_model: \"a/b\" # why\ntags: x"),
            ["a/b"]
        );
        assert_eq!(models("base_model: [a/b, 'c/d']"), ["a/b", "c/d"]);
        assert_eq!(
            models("base_model:\n- a/b\n  - c/d\ntags:\n- x"),
            ["a/b", "c/d"]
        );
        assert_eq!(models("base_model:\r\n- a/b\r"), ["a/b"]);
    }

    #[test]
    fn other_texts_name_no_model() {
        assert!(models("license: mit\nbase_model_relation: finetune").is_empty());
        assert!(models("base_model:").is_empty());
        assert!(base_models("base_model: a/b").is_empty(), "no front matter");
        assert!(base_models("").is_empty());
        assert_eq!(models(&"base_model: a/b\n".repeat(100)).len(), MODELS_MAX);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text: String) {
            base_models(&text);
            base_models(&format!("---\nbase_model:{text}"));
        }
    }
}
