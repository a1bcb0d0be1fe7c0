//! What is kept between runs of the program.

use std::path::PathBuf;

/// `$XDG_CACHE_HOME/percept`, or below `~/.cache`; nothing where neither is set.
pub(crate) fn folder() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").or_else(|| std::env::var_os("USERPROFILE")).map(PathBuf::from);
    let folder = cache.or_else(|| Some(home()?.join(".cache")))?;
    Some(folder.join("percept"))
}
