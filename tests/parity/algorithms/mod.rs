//! Advantages, losses with their gradients, divergences, filters and schedules against the PAPO repository's (`algorithms/*.json`).

mod groups;
mod losses;
mod schedules;
mod stop_tokens;

pub(crate) use losses::{divergences, policy_loss, total_loss};

use super::golden;
use burn::tensor::{Tensor, TensorData};
use serde::Deserialize;
use serde::de::DeserializeOwned;

type Rows = Vec<Vec<f32>>;

/// Every case of a file, over all golden folders.
fn cases<T: DeserializeOwned>(file: &str) -> Vec<T> {
    #[derive(Deserialize)]
    struct File<T> {
        cases: Vec<T>,
    }
    let mut all = Vec::new();
    for folder in golden::folders("algorithms") {
        let path = folder.join(file);
        // A folder may hold some of the files; that none has a case is an error below.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let file: File<T> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        all.extend(file.cases);
    }
    assert!(!all.is_empty(), "no case of {file} was found in the goldens");
    all
}

/// The goldens' tolerance, 1e-5 relative + 1e-6 absolute, and how much of it was ever used.
#[derive(Default)]
struct Tolerance {
    absolute: f64,
    used: f64,
}

impl Tolerance {
    fn check(&mut self, what: impl Fn() -> String, found: f64, want: f64) {
        let difference = (found - want).abs();
        let used = difference / (1e-6 + 1e-5 * want.abs());
        // written so that a NaN fails
        assert!(used <= 1.0, "{}: {found}, not {want} ({used:.2} of the tolerance)", what());
        self.absolute = self.absolute.max(difference);
        self.used = self.used.max(used);
    }

    fn check_all(&mut self, what: &str, found: &[f32], want: &[f32]) {
        assert_eq!(found.len(), want.len(), "{what}: numbers");
        for (i, (found, want)) in found.iter().zip(want).enumerate() {
            self.check(|| format!("{what}[{i}]"), f64::from(*found), f64::from(*want));
        }
    }

    fn print(&self, name: &str) {
        println!("{name}: largest difference {:.1e}, {:.2} of the tolerance", self.absolute, self.used);
    }
}

fn tensor(rows: &[Vec<f32>]) -> Tensor<2> {
    let device = crate::device::current().autodiff();
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), rows[0].len()]), &device)
}
