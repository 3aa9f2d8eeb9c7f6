//! The map of ARCHITECTURE.md, checked against the sources: which module may name which. The table
//! is read from the page itself, so that page and code cannot part. A new edge is a decision: it is
//! added there, in its own commit, with its reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::visit::{self, Visit};

#[test]
fn hub_modules_keep_their_layers() {
    keeps_its_layers("relay-hub");
}

#[test]
fn agent_modules_keep_their_layers() {
    keeps_its_layers("relay-agent");
}

#[test]
fn the_wire_crate_stays_pure_and_the_two_programs_apart() {
    let pure = ["bytes", "flate2", "memchr", "serde", "serde_json", "thiserror"];
    let found = dependencies("shared/protocol");
    let impure: Vec<_> = found.iter().filter(|name| !pure.contains(&name.as_str())).collect();
    assert!(
        impure.is_empty(),
        "relay-protocol does no IO and knows no runtime, yet depends on {impure:?}"
    );
    for (package, never) in [
        ("relay-agent", &["relay-hub", "sqlx"][..]),
        ("relay-hub", &["relay-agent", "keyring-core"]),
        ("shared", &["relay-agent", "relay-hub", "sqlx", "clap"]),
    ] {
        let found = dependencies(package);
        let wrong: Vec<_> = never.iter().filter(|name| found.contains(**name)).collect();
        assert!(wrong.is_empty(), "{package} must not depend on {wrong:?}");
    }
}

/// What stands above every layer: it puts the parts together.
const COMPOSITION: [&str; 4] = ["app", "cli", "lib", "main"];

fn keeps_its_layers(package: &str) {
    let layers = layers(package);
    for (at, (module, may)) in layers.iter().enumerate() {
        for to in may {
            let is_below = to == "protocol" || layers[..at].iter().any(|(below, _)| below == to);
            assert!(
                is_below,
                "{package}: `{module}` may name `{to}`, which the table does not list above it"
            );
        }
    }
    let allowed: BTreeMap<_, _> = layers.into_iter().collect();
    let mut wrong = Vec::new();
    for ((from, to), file) in edges(&root().join(package).join("src")) {
        match allowed.get(&from) {
            None => wrong.push(format!("{from}: not in the table ({file})")),
            Some(may) if !may.contains(&to) => wrong.push(format!("{from} -> {to} ({file})")),
            Some(_) => {}
        }
    }
    wrong.dedup();
    assert!(
        wrong.is_empty(),
        "{package}: edges that ARCHITECTURE.md does not have:\n{}",
        wrong.join("\n")
    );
}

/// The table of the page: a fenced block that opens with "layers PACKAGE", a line per module.
fn layers(package: &str) -> Vec<(String, BTreeSet<String>)> {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is in the root");
    let (_, rest) = page
        .split_once(&format!("```layers {package}\n"))
        .expect("the page has the package's table");
    let (table, _) = rest.split_once("```").expect("the table ends");
    let row = |line: &str| {
        let (module, may) = line
            .split_once("->")
            .expect("a line reads `module -> modules it may name`");
        let may = may
            .split_whitespace()
            .filter(|word| *word != "–")
            .map(str::to_owned)
            .collect();
        (module.trim().to_owned(), may)
    };
    table.lines().filter(|line| !line.trim().is_empty()).map(row).collect()
}

/// Every pair of top-level modules where the first names the second, with one file that does.
/// The wire crate counts as the module `protocol`.
fn edges(src: &Path) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for file in sources(src) {
        let inside = file.strip_prefix(src).expect("the walk started there");
        let modules = module_path(inside);
        let from = modules.first().cloned().unwrap_or_else(|| "lib".to_owned());
        if COMPOSITION.contains(&from.as_str()) || modules.iter().any(|name| name == "tests" || name == "testing") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source is readable");
        let mut names = Names {
            depth: modules.len(),
            found: BTreeSet::new(),
        };
        names.visit_file(&syn::parse_file(&text).expect("a source parses"));
        for to in names.found.into_iter().filter(|to| *to != from) {
            found
                .entry((from.clone(), to))
                .or_insert_with(|| inside.display().to_string());
        }
    }
    found
}

fn sources(src: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = walkdir::WalkDir::new(src).sort_by_file_name().into_iter();
    let files = entries.map(|entry| entry.expect("the tree is readable").into_path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
}

/// `exchange/serve.rs` is `[exchange, serve]`, `exchange/mod.rs` is `[exchange]`.
fn module_path(inside: &Path) -> Vec<String> {
    let mut parts: Vec<_> = inside
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// The top-level modules that a file names, its tests left out.
struct Names {
    /// How many modules deep the code being read is.
    depth: usize,
    found: BTreeSet<String>,
}

impl Names {
    fn path(&mut self, segments: &[String]) {
        let ups = segments.iter().take_while(|segment| *segment == "super").count();
        let next = match segments.first().map(String::as_str) {
            Some("relay_protocol") => Some("protocol"),
            Some("crate") => segments.get(1).map(String::as_str),
            Some("super") if ups >= self.depth => segments.get(ups).map(String::as_str),
            _ => None,
        };
        // `crate::Name` is an item of the front door, not a module.
        if let Some(next) = next.filter(|next| next.starts_with(|first: char| first.is_ascii_lowercase())) {
            self.found.insert(next.to_owned());
        }
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.path(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.path(&with(&rename.ident)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
            syn::UseTree::Glob(_) => self.path(before),
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            self.depth += 1;
            visit::visit_item_mod(self, module);
            self.depth -= 1;
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(&segments);
        visit::visit_path(self, path);
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    let says_test = |attribute: &syn::Attribute| attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test");
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg") && says_test(attribute))
}

/// The names in a package's `[dependencies]`.
fn dependencies(package: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join(package).join("Cargo.toml")).expect("the package has a manifest");
    let (_, rest) = manifest
        .split_once("[dependencies]\n")
        .expect("the package has dependencies");
    let section = rest.lines().take_while(|line| !line.starts_with('['));
    let names = section.filter_map(|line| line.split(['.', ' ', '=']).next());
    names
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is in the workspace")
        .to_owned()
}
