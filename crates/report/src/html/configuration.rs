//! Configurations of runs, key by key.

use super::data::ConfigurationRow;
use crate::ReportError;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use toml::{Table, Value};

/// A run's configuration; a note when it has none.
pub(super) fn read(run: &Path) -> Result<Result<Table, String>, ReportError> {
    let path = run.join("config.toml");
    match fs::read_to_string(&path) {
        Ok(text) => text.parse().map(Ok).map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            ReportError::Config { path, line, reason: error.message().to_owned() }
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(Err(format!("{}: the run has no configuration", path.display())))
        }
        Err(source) => Err(ReportError::Read { path, source }),
    }
}

/// A row for each key that any run has: keys outside of sections first, then by section.
pub(super) fn rows(runs: &[Result<Table, String>]) -> Vec<ConfigurationRow> {
    let mut found: BTreeMap<(String, String), Vec<Option<String>>> = BTreeMap::new();
    for (run, table) in runs.iter().enumerate() {
        let mut put = |section: &str, key: &str, value: String| {
            let entry = found.entry((section.to_owned(), key.to_owned()));
            entry.or_insert_with(|| vec![None; runs.len()])[run] = Some(value);
        };
        table.iter().for_each(|table| flatten("", table, &mut put));
    }
    // a run without any configuration differs in nothing
    let known = |values: &[Option<String>]| -> Vec<Option<String>> {
        values.iter().zip(runs).filter(|(_, run)| run.is_ok()).map(|(value, _)| value.clone()).collect()
    };
    let row = |((section, key), values): ((String, String), Vec<Option<String>>)| {
        let differs = known(&values).windows(2).any(|pair| pair[0] != pair[1]);
        ConfigurationRow { section, key, values, differs }
    };
    found.into_iter().map(row).collect()
}

fn flatten(section: &str, table: &Table, put: &mut impl FnMut(&str, &str, String)) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                let name = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
                flatten(&name, inner, put);
            }
            value => put(section, key, value.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{read, rows};

    #[test]
    fn keys_of_all_runs_with_what_differs() {
        let parse = |text: &str| Ok(text.parse().expect("TOML"));
        let first = parse("seed = 1\n[objective]\nkind = \"papo_g\"\ngamma = 0.02\n[data.corruption]\nratio = 0.6\n");
        let second = parse("seed = 1\n[objective]\nkind = \"grpo\"\n[data.corruption]\nratio = 0.6\n");
        let found = rows(&[first, second, Err("no configuration".to_owned())]);
        let told: Vec<String> = found
            .iter()
            .map(|row| format!("{}.{} {:?} {}", row.section, row.key, row.values[..2].to_vec(), row.differs))
            .collect();
        let expected = [
            ".seed [Some(\"1\"), Some(\"1\")] false",
            "data.corruption.ratio [Some(\"0.6\"), Some(\"0.6\")] false",
            "objective.gamma [Some(\"0.02\"), None] true",
            "objective.kind [Some(\"\\\"papo_g\\\"\"), Some(\"\\\"grpo\\\"\")] true",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_damaged_configuration_is_an_error_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(read(folder.path()).expect("none").expect_err("a note").contains("no configuration"));
        std::fs::write(folder.path().join("config.toml"), "a = 1\n\nb = [\n").expect("written");
        let error = read(folder.path()).expect_err("damaged").to_string();
        assert!(error.contains("config.toml:3: expected the TOML that the run wrote"), "{error}");
    }
}
