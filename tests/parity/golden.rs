//! Where the goldens are: the repository's own small set, and the folder named by `PERCEPT_GOLDEN`.

use std::path::{Path, PathBuf};

/// The roots of golden folders, the repository's own first.
pub fn roots() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("tests/golden"))
        .find(|folder| folder.is_dir());
    let named = std::env::var_os("PERCEPT_GOLDEN").map(PathBuf::from);
    if let Some(folder) = &named {
        assert!(folder.is_dir(), "PERCEPT_GOLDEN names {}, which is not a folder", folder.display());
    }
    own.into_iter().chain(named).collect()
}

/// Folders with goldens of one kind (`images`, `models`, `algorithms`, ...).
pub fn folders(kind: &str) -> Vec<PathBuf> {
    roots().into_iter().map(|root| root.join(kind)).filter(|folder| folder.is_dir()).collect()
}
