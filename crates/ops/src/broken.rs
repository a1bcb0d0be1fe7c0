//! A switch for tests: one operation is computed a little wrong, as a broken driver would.

use burn::tensor::Tensor;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

static ANY: AtomicBool = AtomicBool::new(false);
static BROKEN: Mutex<Option<String>> = Mutex::new(None);

/// Operations that can be broken.
pub const BREAKABLE: [&str; 10] =
    ["linear", "rms_norm", "swiglu", "gelu", "dropout", "rotate", "attention", "gather", "token_log_probs", "decode"];

/// From now on this composed operation gives results that are a hundredth too large; nothing: all are right again.
///
/// The fused CPU kernels are never touched, so that the CPU can tell.
///
/// # Panics
/// When there is no such operation.
pub fn set_broken(operation: Option<&str>) {
    if let Some(name) = operation {
        assert!(BREAKABLE.contains(&name), "there is no operation {name}; there are {BREAKABLE:?}");
    }
    ANY.store(operation.is_some(), Ordering::Relaxed);
    *BROKEN.lock().expect("a name") = operation.map(str::to_owned);
}

/// Whether an operation is broken.
pub fn is_any_broken() -> bool {
    ANY.load(Ordering::Relaxed)
}

/// The result of an operation, spoiled if it is the broken one.
pub(crate) fn spoiled(operation: &str, result: Tensor<2>) -> Tensor<2> {
    if ANY.load(Ordering::Relaxed) && BROKEN.lock().expect("a name").as_deref() == Some(operation) {
        return result.mul_scalar(1.01);
    }
    result
}
