//! `relay-agent status`: asks the running agent.

use std::process::ExitCode;

use http::{Method, StatusCode};
use serde_json::json;

use super::{args, block_on, data_or_default, print, print_json};
use crate::config::Config;
use crate::config::dir::DataDir;
use crate::control::client::{Agent, AskError, addr_in};
use crate::control::{RunFile, STATUS_PATH, Status};
use crate::enroll::{self, Device};
use crate::failure::Failure;
use crate::keystore;

pub(super) fn status(args: &args::Report) -> Result<ExitCode, Failure> {
    let config = Config::load(data_or_default(args.data.data.clone())?)?;
    let dir = DataDir::open(&config.data)?;
    match running(&dir)? {
        Some(status) if args.json => print_json(&status)?,
        Some(status) => print(&status.to_text())?,
        None => return not_running(&dir, args.json),
    }
    Ok(ExitCode::SUCCESS)
}

/// The status of the agent of this directory; `None` when none runs.
pub(super) fn running(dir: &DataDir) -> Result<Option<Status>, Failure> {
    let Some(run_file) = RunFile::read(dir)? else {
        return Ok(None);
    };
    let Some(addr) = addr_in(&run_file.base_url) else {
        return Ok(None);
    };
    let key = keystore::local_key(dir)?;
    match block_on(Agent { addr, key: Some(&key) }.ask(Method::GET, STATUS_PATH))? {
        Ok((StatusCode::OK, body)) => serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| strange(&error.to_string())),
        // The agent is gone and another program, or another user's agent, has its port.
        Ok((StatusCode::UNAUTHORIZED, _)) | Err(AskError::Nobody(_)) => Ok(None),
        Ok((status, _)) => Err(strange(&format!("it answers {status}"))),
        Err(error) => Err(strange(&error.to_string())),
    }
}

fn strange(reason: &str) -> Failure {
    Failure::user(
        format!("the agent cannot be asked: {reason}"),
        "`relay-agent doctor` looks closer",
    )
}

/// What can be said without a running agent. Not running is for the user to change: exit code 1.
fn not_running(dir: &DataDir, json: bool) -> Result<ExitCode, Failure> {
    let device = Device::load(dir)?;
    let key_store = enroll::describe(device.key_store, dir);
    if json {
        print_json(&json!({
            "running": false,
            "device": { "id": device.device, "tenant": device.tenant, "hub": device.hub, "key_store": device.key_store },
        }))?;
    } else {
        print(&format!(
            "agent        not running; start it with: relay-agent run\nhub          {}\ndevice       {} of tenant {}\ndevice key   {key_store}\n",
            device.hub, device.device, device.tenant,
        ))?;
    }
    Ok(ExitCode::from(1))
}
