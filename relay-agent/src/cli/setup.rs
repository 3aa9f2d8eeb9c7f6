//! `relay-agent setup codex`.

use std::process::ExitCode;

use super::status::running;
use super::{args, data_or_default, print, talk};
use crate::config::dir::DataDir;
use crate::config::{Config, env};
use crate::failure::Failure;
use crate::setup::{Codex, Plan};

pub(super) fn codex(args: args::Codex) -> Result<ExitCode, Failure> {
    let home = args.codex_home.or_else(env::codex_home).ok_or_else(|| {
        Failure::user(
            "Codex's directory is not known",
            "name it with --codex-home DIR or CODEX_HOME",
        )
    })?;
    let config = Config::load(data_or_default(args.data.data)?)?;
    let codex = Codex {
        home,
        base_url: if args.undo { String::new() } else { base_url(&config)? },
        program: this_program()?,
        data: config.data,
        no_proxy: env::no_proxy(),
    };
    let plan = if args.undo { codex.plan_undo()? } else { codex.plan()? };
    show(&plan, args.undo)?;
    if args.dry_run {
        talk("dry run: nothing was changed");
        return Ok(ExitCode::SUCCESS);
    }
    let changes = plan.changes().count();
    plan.apply()?;
    match (changes, args.undo) {
        (0, _) => {}
        (_, false) => talk(
            "done. Backups are beside the files (*.before-relay); `relay-agent setup codex --undo` goes back. Restart Codex.",
        ),
        (_, true) => talk(
            "done. Codex threads begun with the relay stay bound to the provider `relay` and can be resumed only while it is configured. Restart Codex.",
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the agent is: the running one knows best, else where it would listen.
fn base_url(config: &Config) -> Result<String, Failure> {
    let dir = DataDir::open(&config.data)?;
    // An agent that cannot be asked is a matter for `doctor`, not for this command.
    if let Ok(Some(status)) = running(&dir) {
        return Ok(status.base_url);
    }
    match config.listen.port() {
        0 => Err(Failure::user(
            "agent.toml lets the agent listen on any free port, and it is not running",
            "set a fixed `listen` in agent.toml, or start the agent first",
        )),
        _ => Ok(format!("http://{}/v1", config.listen)),
    }
}

fn this_program() -> Result<std::path::PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::program(format!("cannot find this program's own path: {error}")))
}

fn show(plan: &Plan, is_undo: bool) -> Result<(), Failure> {
    let mut text = String::new();
    for change in plan.changes() {
        let verb = match (&change.before, &change.after) {
            (None, _) => "new",
            (_, None) => "removed",
            (Some(_), Some(_)) => "changed",
        };
        text.push_str(&format!("{} ({verb})\n", change.path.display()));
        for line in change.lines() {
            text.push_str(&format!("{line}\n"));
        }
    }
    if text.is_empty() {
        text.push_str(if is_undo {
            "nothing to undo\n"
        } else {
            "Codex uses the agent already; nothing to change\n"
        });
    }
    print(&text)
}
