//! Setup and undo on real files.

use super::*;

struct Home {
    _dir: tempfile::TempDir,
    codex: Codex,
}

fn home(config: Option<&str>, env: Option<&str>) -> Home {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("codex");
    fs::create_dir(&home).unwrap();
    for (name, text) in [("config.toml", config), (".env", env)] {
        if let Some(text) = text {
            fs::write(home.join(name), text).unwrap();
        }
    }
    let codex = Codex {
        home,
        base_url: "http://127.0.0.1:8787/v1".into(),
        program: "/opt/relay-agent".into(),
        data: "/home/u/data".into(),
        no_proxy: None,
    };
    Home { _dir: dir, codex }
}

impl Home {
    fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.codex.home.join(name)).ok()
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&self.codex.home)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

const CONFIG: &str = "# mine\nmodel = \"gpt-5\"\n\n[tui] # look\nx = 1\n";
const ENV: &str = "SECRET=s\nNO_PROXY=corp\n";

#[test]
fn undo_brings_back_the_very_bytes() {
    for (config, env) in [
        (None, None),
        (Some(""), None),
        (Some(CONFIG), Some(ENV)),
        (None, Some("A=1")),
    ] {
        let home = home(config, env);
        let before = home.files();
        home.codex.plan().unwrap().apply().unwrap();
        assert!(home.text("config.toml").unwrap().contains("model_provider = \"relay\""));
        assert!(home.text(".env").unwrap().contains("127.0.0.1,localhost,::1"));
        home.codex.plan_undo().unwrap().apply().unwrap();
        assert_eq!(home.text("config.toml").as_deref(), config);
        assert_eq!(home.text(".env").as_deref(), env);
        assert_eq!(home.files(), before);
    }
}

#[test]
fn a_second_setup_changes_nothing_and_keeps_the_first_backup() {
    let mut home = home(Some(CONFIG), Some(ENV));
    home.codex.plan().unwrap().apply().unwrap();
    assert_eq!(home.codex.plan().unwrap().changes().count(), 0);
    home.codex.base_url = "http://127.0.0.1:9000/v1".into();
    home.codex.plan().unwrap().apply().unwrap();
    assert!(home.text("config.toml").unwrap().contains("9000"));
    assert_eq!(home.text("config.toml.before-relay").as_deref(), Some(CONFIG));
    home.codex.plan_undo().unwrap().apply().unwrap();
    assert_eq!(home.text("config.toml").as_deref(), Some(CONFIG));
}

#[test]
fn undo_keeps_what_the_user_changed_since() {
    let home = home(Some(CONFIG), Some(ENV));
    home.codex.plan().unwrap().apply().unwrap();
    let changed = home.text("config.toml").unwrap().replace("gpt-5", "gpt-6") + "\n[later]\nz = 3\n";
    fs::write(home.codex.config(), changed).unwrap();
    fs::write(home.codex.env(), home.text(".env").unwrap() + "LATER=1\n").unwrap();
    home.codex.plan_undo().unwrap().apply().unwrap();
    let config = home.text("config.toml").unwrap();
    assert!(
        config.contains("gpt-6") && config.contains("[later]") && config.contains("# mine"),
        "{config}"
    );
    assert!(!config.contains("relay") && !config.contains("8787"), "{config}");
    assert_eq!(home.text(".env").unwrap(), "SECRET=s\nNO_PROXY=corp\nLATER=1\n");
}

#[test]
fn a_setup_after_a_change_of_the_user_does_not_lose_it_on_undo() {
    let mut home = home(Some(CONFIG), None);
    home.codex.plan().unwrap().apply().unwrap();
    fs::write(
        home.codex.config(),
        home.text("config.toml").unwrap().replace("x = 1", "x = 2"),
    )
    .unwrap();
    home.codex.base_url = "http://127.0.0.1:9000/v1".into();
    home.codex.plan().unwrap().apply().unwrap();
    home.codex.plan_undo().unwrap().apply().unwrap();
    let config = home.text("config.toml").unwrap();
    assert!(config.contains("x = 2") && !config.contains("relay"), "{config}");
}

#[test]
fn undo_without_setup_changes_nothing() {
    let home = home(Some(CONFIG), Some(ENV));
    assert_eq!(home.codex.plan_undo().unwrap().changes().count(), 0);
}

#[test]
fn a_plan_alone_writes_nothing_and_shows_no_unchanged_line() {
    let home = home(Some(CONFIG), Some(ENV));
    let plan = home.codex.plan().unwrap();
    let lines: Vec<_> = plan.changes().flat_map(Change::lines).collect();
    assert!(lines.contains(&"- NO_PROXY=corp".to_owned()), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("SECRET")), "{lines:?}");
    assert_eq!(home.text("config.toml").as_deref(), Some(CONFIG));
    assert_eq!(home.files(), [".env", "config.toml"]);
}

#[test]
fn a_broken_file_is_named_and_left_alone() {
    let home = home(Some("model = = 1\n"), None);
    let failure = home.codex.plan().err().unwrap();
    assert!(failure.message().contains("config.toml"), "{failure}");
    assert_eq!(failure.exit_code(), 1);
    assert_eq!(home.files(), ["config.toml"]);
}

#[cfg(unix)]
#[test]
fn links_and_permissions_are_kept() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let home = home(None, None);
    let real = home.codex.home.join("dotfiles.toml");
    fs::write(&real, CONFIG).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&real, home.codex.config()).unwrap();
    home.codex.plan().unwrap().apply().unwrap();
    assert!(fs::symlink_metadata(home.codex.config()).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    home.codex.plan_undo().unwrap().apply().unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), CONFIG);
}
