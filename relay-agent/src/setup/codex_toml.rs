//! The provider block in Codex's `config.toml`. Pure text edits that keep comments and order.

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// What the block says.
pub(super) struct Provider {
    pub(super) base_url: String,
    /// The program that prints the local key.
    pub(super) program: String,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
}

/// Why the file cannot be edited.
#[derive(Debug, thiserror::Error)]
pub(super) enum EditError {
    #[error("it is not valid TOML: {}", first_line(.0))]
    Syntax(#[from] toml_edit::TomlError),
    #[error("`{0}` is not a table")]
    NotATable(&'static str),
}

fn first_line(error: &toml_edit::TomlError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The text with Codex pointed at the relay.
pub(super) fn point_at_relay(text: &str, provider: &Provider) -> Result<String, EditError> {
    let mut doc: DocumentMut = text.parse()?;
    set(doc.as_table_mut(), "model_provider", Value::from(ID));
    let block = block(&mut doc)?;
    set(block, "name", Value::from("Relay"));
    set(block, "base_url", Value::from(provider.base_url.as_str()));
    set(block, "supports_websockets", Value::from(true));
    // Codex refuses a provider that names two sources of its key.
    for other in OTHER_KEYS {
        block.remove(other);
    }
    let auth = table_in(block, "auth", "model_providers.relay.auth")?;
    set(auth, "command", Value::from(provider.program.as_str()));
    set(auth, "args", Value::from(provider.arguments.iter().collect::<Array>()));
    Ok(doc.to_string())
}

/// The text with our keys as they are in `before`: gone, or what they were. The rest stays as it is in `text`.
pub(super) fn as_before(text: &str, before: &str) -> Result<String, EditError> {
    let mut doc: DocumentMut = text.parse()?;
    // A backup that cannot be read any more is as good as none.
    let old: DocumentMut = before.parse().unwrap_or_default();
    if doc.get("model_provider").and_then(Item::as_str) == Some(ID) {
        put_back(doc.as_table_mut(), old.as_table(), "model_provider");
    }
    let Some(block) = doc
        .get("model_providers")
        .and_then(|all| all.as_table_like()?.get(ID))
        .cloned()
    else {
        return Ok(doc.to_string());
    };
    let ours = base_url_of(&block);
    let providers = table_in(doc.as_table_mut(), "model_providers", "model_providers")?;
    match old.get("model_providers").and_then(Item::as_table_like) {
        Some(old) => put_back(providers, old, ID),
        None => drop(providers.remove(ID)),
    }
    if providers.is_empty() && !old.contains_key("model_providers") {
        doc.remove("model_providers");
    }
    if ours.is_some() && doc.get("openai_base_url").and_then(Item::as_str) == ours.as_deref() {
        put_back(doc.as_table_mut(), old.as_table(), "openai_base_url");
    }
    Ok(doc.to_string())
}

/// The base URL Codex would use, and whether it comes from the relay's own block.
pub(crate) fn base_url_in(text: &str) -> Result<Option<String>, String> {
    let doc: DocumentMut = text.parse().map_err(|error| first_line(&error))?;
    let block = doc.get("model_providers").and_then(|all| all.as_table_like()?.get(ID));
    match doc.get("model_provider").and_then(Item::as_str) {
        Some(ID) => Ok(block.and_then(base_url_of)),
        _ => Ok(doc.get("openai_base_url").and_then(Item::as_str).map(str::to_owned)),
    }
}

fn base_url_of(block: &Item) -> Option<String> {
    Some(block.as_table_like()?.get("base_url")?.as_str()?.to_owned())
}

fn block(doc: &mut DocumentMut) -> Result<&mut dyn TableLike, EditError> {
    if !doc.contains_key("model_providers") {
        let mut providers = Table::new();
        providers.set_implicit(true);
        doc.insert("model_providers", Item::Table(providers));
    }
    let providers = table_in(doc.as_table_mut(), "model_providers", "model_providers")?;
    table_in(providers, ID, "model_providers.relay")
}

/// A table within a table, made when it is not there: a block of its own, or inline when its parent is.
fn table_in<'a>(
    parent: &'a mut dyn TableLike,
    key: &str,
    name: &'static str,
) -> Result<&'a mut dyn TableLike, EditError> {
    if !parent.contains_key(key) {
        parent.insert(key, Item::Table(Table::new()));
    }
    parent
        .get_mut(key)
        .and_then(Item::as_table_like_mut)
        .ok_or(EditError::NotATable(name))
}

/// Sets a value and keeps the comment behind it.
fn set(table: &mut dyn TableLike, key: &str, value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) if same(old, &value) => {}
        Some(old) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(key, Item::Value(value))),
    }
}

fn same(old: &Value, new: &Value) -> bool {
    let plain = |value: &Value| {
        let mut table = InlineTable::new();
        table.insert("v", value.clone());
        table.fmt();
        table.to_string()
    };
    plain(old) == plain(new)
}

fn put_back(table: &mut dyn TableLike, old: &dyn TableLike, key: &str) {
    match old.get(key) {
        Some(was) => drop(table.insert(key, was.clone())),
        None => drop(table.remove(key)),
    }
}

/// The provider's id. Codex binds threads to it, so it never changes.
const ID: &str = "relay";
const OTHER_KEYS: [&str; 3] = ["env_key", "experimental_bearer_token", "requires_openai_auth"];

#[cfg(test)]
mod tests {
    use super::*;

    fn provider() -> Provider {
        Provider {
            base_url: "http://127.0.0.1:8787/v1".into(),
            program: "/opt/relay agent/relay-agent".into(),
            arguments: vec!["token".into(), "--data".into(), "/home/u/data".into()],
        }
    }

    const BLOCK: &str = r#"
[model_providers.relay]
name = "Relay"
base_url = "http://127.0.0.1:8787/v1"
supports_websockets = true

[model_providers.relay.auth]
command = "/opt/relay agent/relay-agent"
args = ["token", "--data", "/home/u/data"]
"#;

    #[test]
    fn an_empty_file_becomes_the_block_alone() {
        let text = point_at_relay("", &provider()).unwrap();
        assert_eq!(text, format!("model_provider = \"relay\"\n{BLOCK}"));
        assert_eq!(
            point_at_relay(&text, &provider()).unwrap(),
            text,
            "a second time changes nothing"
        );
    }

    #[test]
    fn comments_and_order_stay() {
        let before = "# mine\nmodel = \"gpt-5\" # good\nmodel_provider = \"openai\" # for now\n\n[tui]\nx = 1 # one\n\n[model_providers.other]\nname = \"Other\"\n";
        let after = point_at_relay(before, &provider()).unwrap();
        let kept = before.replace("\"openai\" # for now", "\"relay\" # for now");
        assert!(after.starts_with(&kept), "{after}");
        assert_eq!(&after[kept.len()..], BLOCK);
        assert_eq!(as_before(&after, before).unwrap(), before);
    }

    #[test]
    fn inline_tables_are_understood() {
        let before = "model_providers = { other = { name = \"Other\" } }\n";
        let after = point_at_relay(before, &provider()).unwrap();
        let read: toml::Table = after.parse().unwrap();
        assert_eq!(
            read["model_providers"]["relay"]["auth"]["args"][0].as_str(),
            Some("token")
        );
        assert_eq!(read["model_providers"]["other"]["name"].as_str(), Some("Other"));
    }

    #[test]
    fn what_the_user_changed_since_stays_when_ours_is_taken_away() {
        let before = "model_provider = \"mine\"\n[model_providers.mine]\nname = \"Mine\"\n";
        let mut after = point_at_relay(before, &provider()).unwrap();
        after.push_str("\n[new]\ny = 2\n");
        let undone = as_before(&after, before).unwrap();
        assert!(!undone.contains("relay") && !undone.contains("8787"), "{undone}");
        assert!(undone.starts_with("model_provider = \"mine\"\n"), "{undone}");
        assert!(undone.contains("[new]\ny = 2\n"), "{undone}");
        // A provider chosen since is not ours to change.
        let chosen = after.replacen("\"relay\"", "\"chosen\"", 1);
        assert!(
            as_before(&chosen, before)
                .unwrap()
                .starts_with("model_provider = \"chosen\"\n")
        );
    }

    #[test]
    fn a_block_that_was_there_comes_back() {
        let before = "[model_providers.relay]\nname = \"Old\"\nbase_url = \"https://old.example\"\nenv_key = \"K\"\n";
        let after = point_at_relay(before, &provider()).unwrap();
        assert!(!after.contains("env_key"), "{after}");
        let undone = as_before(&format!("{after}\n[z]\n"), before).unwrap();
        assert!(
            undone.contains("https://old.example") && undone.contains("env_key"),
            "{undone}"
        );
        assert!(!undone.contains("8787"), "{undone}");
    }

    #[test]
    fn a_base_url_that_would_be_dead_goes_too() {
        let after = point_at_relay(
            "openai_base_url = \"http://127.0.0.1:8787/v1\"\nmodel = \"m\"\n",
            &provider(),
        )
        .unwrap();
        assert_eq!(as_before(&after, "").unwrap(), "model = \"m\"\n");
    }

    #[test]
    fn a_broken_file_is_not_touched() {
        assert!(matches!(
            point_at_relay("model = \n", &provider()),
            Err(EditError::Syntax(_))
        ));
        assert!(matches!(
            point_at_relay("model_providers = 1\n", &provider()),
            Err(EditError::NotATable(_))
        ));
    }
}
