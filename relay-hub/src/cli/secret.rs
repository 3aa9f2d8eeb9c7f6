//! A secret that an operator names by a variable or a file, never by its own text.

use std::{fs, path::Path};

use relay_shared::secret::Secret;

use super::{Failure, typed};

/// Reads a secret from one of two places; none where neither is named. `what` it is goes into errors.
pub(super) fn read(env: Option<&str>, file: Option<&Path>, what: &str) -> Result<Option<Secret<String>>, Failure> {
    let (text, place) = match (env, file) {
        (Some(name), _) => (from_env(name)?, format!("the environment variable {}", typed(name))),
        (None, Some(path)) => {
            let place = path.display().to_string();
            let unreadable = |error| {
                Failure::fixable(format!("cannot read {place}: {error}")).hint(format!("name a file that holds {what}"))
            };
            (Secret::new(fs::read_to_string(path).map_err(unreadable)?), place)
        }
        (None, None) => return Ok(None),
    };
    let trimmed = text.expose().trim();
    if trimmed.is_empty() {
        return Err(Failure::fixable(format!("{place} is empty")).hint(format!("put {what} there")));
    }
    if !trimmed.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(
            Failure::fixable(format!("{place} holds something that cannot be {what}"))
                .hint("one line of visible ASCII characters"),
        );
    }
    Ok(Some(Secret::new(trimmed.to_owned())))
}

fn from_env(name: &str) -> Result<Secret<String>, Failure> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the operator named this variable on the command line"
    )]
    let value = std::env::var(name);
    let missing = |_| {
        Failure::fixable(format!(
            "the environment variable {} is not set, or is not text",
            typed(name)
        ))
        .hint("set it for this command, or name a file")
    };
    value.map(Secret::new).map_err(missing)
}
