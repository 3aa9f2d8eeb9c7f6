//! One account of a file: its keys, and the words of a command that they stand for. Opens no secret.

use relay_shared::config::Problems;

use super::{
    super::{
        add::{Add, PREFERENCES},
        credential::{ClientSecretFrom, CredentialWords, SecretFrom, SessionTokenFrom},
    },
    Tenants,
};
use crate::{
    cli::terms,
    limit::ModelName,
    store::sharing::{Change, HEAVIEST, Users},
    tree::{Kind, Node, Table, shown},
    vendor::{CredentialKind, Settings, VendorKind},
};

/// One account's keys as the file has them.
pub(super) struct Record {
    /// From 1.
    number: usize,
    /// 0 where it is not known.
    line: usize,
    keys: Table,
}

/// The accounts of a file. The name's end tells CSV and JSON from TOML.
pub(super) fn read(name: &str, text: &str) -> Result<Vec<Record>, Problems> {
    if name.ends_with(".csv") {
        return of_csv(name, text);
    }
    let mut file = Node::parse(name, text)?;
    let mut problems = Problems::new();
    for (key, _) in file.0.iter().filter(|(key, _)| key != LIST) {
        problems.push(shown(key), "unknown key", "there is account alone");
    }
    let list = file
        .0
        .iter()
        .position(|(key, _)| key == LIST)
        .map(|at| file.0.swap_remove(at).1.kind);
    let Some(Kind::List(list)) = list.filter(|list| matches!(list, Kind::List(all) if !all.is_empty())) else {
        problems.push(LIST, "there is no account in the file", "each begins with [[account]]");
        return Err(problems);
    };
    let mut records = Vec::new();
    for (at, node) in list.into_iter().enumerate() {
        let number = at.saturating_add(1);
        match node.kind {
            Kind::Table(keys) => records.push(Record {
                number,
                line: node.line,
                keys,
            }),
            _ => problems.push(
                format!("account {number}"),
                "is no table",
                "each begins with [[account]]",
            ),
        }
    }
    problems.or(records)
}

/// A line for each; an empty field is a key that is not there.
fn of_csv(name: &str, text: &str) -> Result<Vec<Record>, Problems> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut problems = Problems::new();
    let heads = match reader.headers() {
        Ok(heads) => heads.clone(),
        Err(error) => {
            problems.push(shown(name), error.to_string(), "the first line has the keys");
            return Err(problems);
        }
    };
    let mut records = Vec::new();
    for (at, read) in reader.records().enumerate() {
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                problems.push(
                    shown(name),
                    error.to_string(),
                    "a field for each of the first line's keys",
                );
                continue;
            }
        };
        let line = read
            .position()
            .map_or(0, |position| usize::try_from(position.line()).unwrap_or_default());
        let fields = heads.iter().zip(read.iter()).filter(|(_, field)| !field.is_empty());
        let fields = fields.map(|(key, field)| {
            let kind = Kind::Text(field.to_owned());
            (key.to_owned(), Node { line, kind })
        });
        records.push(Record {
            number: at.saturating_add(1),
            line,
            keys: Table(fields.collect()),
        });
    }
    if records.is_empty() && problems.is_empty() {
        problems.push(
            shown(name),
            "there is no account in the file",
            "a line for each, after that of the keys",
        );
    }
    problems.or(records)
}

impl Record {
    /// Where it stands, in the words of a problem.
    pub(super) fn place(&self) -> String {
        let Self { number, line, .. } = self;
        let name = self
            .name()
            .map(|name| format!(" ({})", shown(name)))
            .unwrap_or_default();
        match line {
            0 => format!("account {number}{name}"),
            line => format!("line {line}: account {number}{name}"),
        }
    }

    /// What it is called.
    pub(super) fn name(&self) -> Option<&str> {
        match &self.keys.get("name")?.kind {
            Kind::Text(name) => Some(name),
            _ => None,
        }
    }

    /// The words of `account add`; none where the least is missing.
    pub(super) fn words(&self, problems: &mut Problems) -> Option<Add> {
        for (key, _) in self.keys.0.iter().filter(|(key, _)| !KEYS.contains(&key.as_str())) {
            problems.push(shown(key), "unknown key", format!("there are: {}", KEYS.join(", ")));
        }
        let secret = self.either(["secret_env", "secret_file"], problems);
        let client_secret = self.either(["client_secret_env", "client_secret_file"], problems);
        let session_token = self.either(["session_token_env", "session_token_file"], problems);
        let [token_url, entra_tenant] = self.either(["token_url", "entra_tenant"], problems);
        let [base_url, aws_region] = ["base_url", "aws_region"].map(|key| self.text(key, problems));
        if base_url.is_none() && aws_region.is_none() {
            problems.push("base_url", "is missing", "such as https://api.openai.com");
        }
        let has_secret = secret.iter().any(Option::is_some);
        if !has_secret {
            problems.push("secret_file", "no secret is named", "write secret_env or secret_file");
        }
        let name = self.text("name", problems);
        if name.is_none() {
            problems.push("name", "is missing", "what you call it");
        }
        let [secret_env, secret_file] = secret;
        let [client_secret_env, client_secret_file] = client_secret;
        let [session_token_env, session_token_file] = session_token;
        let vendor = self.one_of("vendor", &VendorKind::NAMES, problems);
        if vendor.is_none() && self.keys.get("vendor").is_none() {
            problems.push(
                "vendor",
                "is missing",
                format!("one of {}", VendorKind::NAMES.join(", ")),
            );
        }
        let words = Add {
            credential: CredentialWords {
                secret: SecretFrom {
                    secret_env,
                    secret_file: secret_file.map(Into::into),
                },
                credential: self.one_of("credential", &CredentialKind::NAMES, problems),
                client_id: self.text("client_id", problems),
                token_url,
                entra_tenant,
                scope: self.text("scope", problems),
                client_secret: ClientSecretFrom {
                    client_secret_env,
                    client_secret_file: client_secret_file.map(Into::into),
                },
                key_id: self.text("key_id", problems),
                aws_region,
                session_token: SessionTokenFrom {
                    session_token_env,
                    session_token_file: session_token_file.map(Into::into),
                },
            },
            api_version: self.text("api_version", problems),
            wires: self.wires(problems),
            no_websocket: self.flag("no_websocket", problems),
            prefer: self.one_of("prefer", &PREFERENCES, problems),
            allow_private: self.flag("allow_private", problems),
            vendor: vendor?,
            name: name?,
            base_url,
        };
        let is_reachable = words.base_url.is_some() || words.credential.aws_region.is_some();
        (has_secret && is_reachable).then_some(words)
    }

    /// The words of `account share` and `account set`.
    pub(super) fn change(&self, known: &Tenants, problems: &mut Problems) -> Change {
        let mut number = |key: &str, most: i64| {
            let text = self.text(key, problems)?;
            terms::count(problems, key, &text, most)
        };
        let weight = number("weight", i64::from(HEAVIEST)).and_then(|weight| u8::try_from(weight).ok());
        let [concurrency, rpm] = [("concurrency", 1_000_000), ("rpm", 100_000_000)]
            .map(|(key, most)| number(key, most).and_then(|count| u32::try_from(count).ok()));
        let (with, exclusive) = (self.list("with", problems), self.text("exclusive", problems));
        let models = self.models(problems);
        if exclusive.is_some() && !with.is_empty() {
            problems.push("exclusive", "goes with no other tenants", "leave with or exclusive out");
        }
        let mut find = |key: &str, name: &str| {
            let found = known.get(name).cloned();
            if found.is_none() {
                let problem = format!("there is no tenant `{}`", shown(name));
                problems.push(key, problem, "`relay-hub tenant list` shows them");
            }
            found
        };
        let users = match exclusive {
            Some(tenant) => Some(Users::Exclusive(find("exclusive", &tenant))),
            None if with.is_empty() => None,
            None => Some(Users::Named(
                with.iter().filter_map(|name| find("with", name)).collect(),
            )),
        };
        Change {
            users,
            weight,
            concurrency: concurrency.map(Some),
            rpm: rpm.map(Some),
            models: (!models.is_empty()).then_some(Some(models)),
            revived_ms: None,
        }
    }

    fn text(&self, key: &str, problems: &mut Problems) -> Option<String> {
        match &self.keys.get(key)?.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Number(number) => Some(number.to_string()),
            Kind::Bool(_) | Kind::List(_) | Kind::Table(_) | Kind::Other => {
                problems.push(key, "is no text", "put it in \"quotes\"");
                None
            }
        }
    }

    /// At most one of two.
    fn either(&self, keys: [&str; 2], problems: &mut Problems) -> [Option<String>; 2] {
        let found = keys.map(|key| self.text(key, problems));
        if found.iter().all(Option::is_some) {
            problems.push(
                keys.join(", "),
                "are two ways to say one thing",
                "leave one of them out",
            );
        }
        found
    }

    fn one_of(&self, key: &str, names: &[&str], problems: &mut Problems) -> Option<String> {
        let text = self.text(key, problems)?;
        if names.contains(&text.as_str()) {
            return Some(text);
        }
        let problem = format!("`{}` is not known", shown(&text));
        problems.push(key, problem, format!("one of {}", names.join(", ")));
        None
    }

    fn flag(&self, key: &str, problems: &mut Problems) -> bool {
        let Some(node) = self.keys.get(key) else { return false };
        match &node.kind {
            Kind::Bool(is_so) => *is_so,
            Kind::Text(text) if text == "true" || text == "false" => text == "true",
            Kind::Text(_) | Kind::Number(_) | Kind::List(_) | Kind::Table(_) | Kind::Other => {
                problems.push(key, "is neither true nor false", "write one of them");
                false
            }
        }
    }

    fn wires(&self, problems: &mut Problems) -> Vec<String> {
        let wires = self.list("wires", problems);
        for wire in wires.iter().filter(|wire| !Settings::WIRES.contains(&wire.as_str())) {
            let problem = format!("`{}` is not known", shown(wire));
            problems.push("wires", problem, format!("some of {}", Settings::WIRES.join(", ")));
        }
        wires
    }

    fn models(&self, problems: &mut Problems) -> Vec<ModelName> {
        let names = self.list("models", problems);
        let mut read = |name: &String| {
            let model = ModelName::parse(name);
            if model.is_none() {
                let told = format!("`{}` is no model's name", shown(name));
                problems.push("models", told, "as in `gpt-6-sol` or `o3*`");
            }
            model
        };
        names.iter().filter_map(&mut read).collect()
    }

    /// A list of texts, or one text with commas between them.
    fn list(&self, key: &str, problems: &mut Problems) -> Vec<String> {
        let Some(node) = self.keys.get(key) else {
            return Vec::new();
        };
        let text = |node: &Node| match &node.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Number(_) | Kind::Bool(_) | Kind::List(_) | Kind::Table(_) | Kind::Other => None,
        };
        let texts: Option<Vec<_>> = match &node.kind {
            Kind::Text(text) => Some(text.split(',').map(|part| part.trim().to_owned()).collect()),
            Kind::List(all) if !all.is_empty() => all.iter().map(text).collect(),
            Kind::Number(_) | Kind::Bool(_) | Kind::List(_) | Kind::Table(_) | Kind::Other => None,
        };
        texts.unwrap_or_else(|| {
            problems.push(key, "is no list of texts", "write it like [\"one\", \"two\"]");
            Vec::new()
        })
    }
}

/// What the list is called.
const LIST: &str = "account";
const KEYS: [&str; 27] = [
    "name",
    "vendor",
    "base_url",
    "secret_env",
    "secret_file",
    "credential",
    "client_id",
    "token_url",
    "entra_tenant",
    "scope",
    "client_secret_env",
    "client_secret_file",
    "key_id",
    "aws_region",
    "session_token_env",
    "session_token_file",
    "api_version",
    "wires",
    "no_websocket",
    "prefer",
    "allow_private",
    "with",
    "exclusive",
    "weight",
    "concurrency",
    "rpm",
    "models",
];
