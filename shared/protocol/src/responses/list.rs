//! A conversation as text: the elements of a list of items, without its brackets.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The elements of a list; of a text the message that it stands for.
pub(crate) fn elements(items: Option<&RawValue>) -> Cow<'_, str> {
    let text = items.map_or("", |items| items.get().trim());
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(elements) => elements.trim().into(),
        None if text.is_empty() || text == "null" => "".into(),
        None => format!(r#"{{"role":"user","content":{text}}}"#).into(),
    }
}

/// Adds more of them.
pub(crate) fn join(items: &mut String, more: &str) {
    if !items.is_empty() && !more.is_empty() {
        items.push(',');
    }
    items.push_str(more);
}
