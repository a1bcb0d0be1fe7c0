//! Mathematics for NVIDIA's GPUs where the CUDA toolkit is not installed.
//!
//! cubecl takes functions that the GPU has no instruction for, such as the exponential, out of a file of the toolkit, which a machine with
//! nothing but the driver does not have; then no kernel with one of them can be compiled. The program brings the same functions, out of
//! libm (`device-math/`), and puts them where cubecl looks.

use percept_weights::write_atomically;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// LLVM's bitcode of `device-math/src/lib.rs`, by `device-math/make.sh`.
const MATH: &[u8] = include_bytes!("../device-math/math.bc");
/// In a toolkit's folder.
const PLACE: &str = "nvvm/libdevice/libdevice.10.bc";
/// Where cubecl looks for a toolkit that `CUDA_PATH` does not name (cubecl-llvm 0.11.3, `nvptx/libdevice.rs`).
const ROOTS: [&str; 4] = ["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr"];

/// Makes sure that kernels find their functions, before the first is compiled.
#[cfg(feature = "cuda")]
pub(crate) fn provide() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let set = std::env::var_os("CUDA_PATH");
        if is_there(set.as_deref()) {
            return;
        }
        // a folder that cannot be written to leaves cubecl's own message, at the first kernel
        let Some(folder) = crate::cache::folder().and_then(|cache| put(&cache).ok()) else { return };
        // SAFETY: nothing of this program has started a thread that reads the environment in C: devices are looked for first
        unsafe { std::env::set_var("CUDA_PATH", folder) };
    });
}

/// Whether cubecl finds a toolkit's functions. `set`: the value of `CUDA_PATH`.
fn is_there(set: Option<&OsStr>) -> bool {
    let has = |root: &Path| root.join(PLACE).is_file();
    match set {
        Some(root) => has(Path::new(root)),
        None => ROOTS.iter().any(|root| has(Path::new(root))),
    }
}

/// Writes the functions below `cache`, and gives what `CUDA_PATH` must name.
fn put(cache: &Path) -> io::Result<PathBuf> {
    let folder = cache.join(format!("device-math-{}", env!("CARGO_PKG_VERSION")));
    let file = folder.join(PLACE);
    if std::fs::read(&file).is_ok_and(|known| known == MATH) {
        return Ok(folder);
    }
    std::fs::create_dir_all(file.parent().expect("it lies in a folder"))?;
    write_atomically(&file, |out| out.write_all(MATH)).map_err(io::Error::other)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_put_where_a_toolkit_has_them() {
        let cache = tempfile::tempdir().expect("a folder");
        let folder = put(cache.path()).expect("it can be written to");
        assert!(is_there(Some(folder.as_os_str())));
        assert!(!is_there(Some(cache.path().as_os_str())));
        // bitcode, and what was damaged is written again
        assert!(MATH.starts_with(b"BC\xc0\xde"));
        std::fs::write(folder.join(PLACE), b"half").expect("it can be written to");
        put(cache.path()).expect("it can be written to");
        assert_eq!(std::fs::read(folder.join(PLACE)).expect("it is there"), MATH);
    }
}
