//! Where the work tree, the built programs and the fetched tools are.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The root of the work tree.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Cargo's target folder.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Tools that were fetched for the work tree alone.
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// The search path: ours, then `extra`.
pub(crate) fn search_path(extra: &[PathBuf]) -> OsString {
    let inherited = env::var_os("PATH").unwrap_or_default();
    let all = env::split_paths(&inherited).chain(extra.iter().cloned());
    env::join_paths(all).unwrap_or(inherited)
}

/// The program's file, when the search path or `extra` has it.
pub(crate) fn find(program: &str, extra: &[PathBuf]) -> Option<PathBuf> {
    env::split_paths(&search_path(extra))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
