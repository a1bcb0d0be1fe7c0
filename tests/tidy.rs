//! The invariants that a reader of the sources can check: who depends on whom, who names a backend, what is left undone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder that the check reads, build outputs and hidden folders left out.
fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "runs"].contains(&name.as_str()) {
            found.extend(files(&path, extensions));
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("a file of the repository").to_string_lossy().replace('\\', "/")
}

fn manifest(path: &Path) -> Table {
    read(path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The workspace's members by short name (`core`, `models`, ...), with their manifests.
fn members() -> BTreeMap<String, Table> {
    let mut folders: Vec<PathBuf> = ["models", "algorithms"].map(|name| root().join(name)).to_vec();
    let crates = std::fs::read_dir(root().join("crates")).expect("the folder of crates");
    folders.extend(crates.map(|entry| entry.expect("a readable folder").path()).filter(|path| path.is_dir()));
    let member = |folder: PathBuf| {
        let manifest = manifest(&folder.join("Cargo.toml"));
        let name = manifest["package"]["name"].as_str().expect("a package has a name").to_owned();
        let short =
            name.strip_prefix("percept-").unwrap_or_else(|| panic!("{name} is not called percept-...")).to_owned();
        assert_eq!(folder.file_name().and_then(|name| name.to_str()), Some(short.as_str()), "folder of {name}");
        (short, manifest)
    };
    folders.into_iter().map(member).collect()
}

/// Tables of dependencies of a kind, also those of one target only.
fn dependency_tables<'a>(manifest: &'a Table, kinds: &'a [&str]) -> impl Iterator<Item = &'a Table> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(|targets| targets.values());
    let tables = std::iter::once(manifest).chain(targets.filter_map(Value::as_table));
    tables.flat_map(move |table| kinds.iter().filter_map(move |kind| table.get(*kind).and_then(Value::as_table)))
}

/// What a package is built from: its dependencies, but not those of its tests.
fn dependencies(manifest: &Table) -> Vec<String> {
    let tables = dependency_tables(manifest, &["dependencies", "build-dependencies"]);
    let name = |(key, value): (&String, &Value)| {
        // a dependency can be called something else where it is used
        value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned()
    };
    tables.flatten().map(name).collect()
}

/// Who may depend on whom, beside crates from outside; the app may on all.
const ARROWS: &[(&str, &[&str])] = &[
    ("random", &[]),
    ("vision", &["random"]),
    ("text", &["random"]),
    ("reward", &["random"]),
    ("data", &["random"]),
    ("config", &["random"]),
    ("hostile", &[]),
    ("doctor", &[]),
    ("weights", &["random"]),
    ("report", &[]),
    ("ops", &[]),
    ("core", &["ops"]),
    ("rollout", &["core", "ops", "random"]),
    ("algorithms", &["core", "ops", "random"]),
    ("models", &["core", "ops", "random", "weights"]),
    ("trainer", &["core", "ops", "random", "weights"]),
];

/// These know no tensor.
const WITHOUT_TENSORS: [&str; 10] =
    ["random", "vision", "text", "reward", "data", "config", "weights", "report", "hostile", "doctor"];

#[test]
fn arrows_point_where_the_design_says() {
    let members = members();
    for (name, manifest) in &members {
        let all = dependencies(manifest);
        let own: Vec<&str> = all.iter().filter_map(|name| name.strip_prefix("percept-")).collect();
        if name == "app" {
            continue;
        }
        let arrows = ARROWS.iter().find(|(known, _)| known == name);
        let (_, allowed) = arrows.unwrap_or_else(|| panic!("percept-{name} is new: say here what it may depend on"));
        for dependency in &own {
            assert!(allowed.contains(dependency), "percept-{name} must not depend on percept-{dependency}");
        }
        assert!(!all.iter().any(|name| name == "percept"), "percept-{name} must not depend on the facade");
        let tensors = all.iter().find(|name| *name == "burn" || name.starts_with("burn-"));
        if WITHOUT_TENSORS.contains(&name.as_str()) {
            assert_eq!(tensors, None, "percept-{name} knows no tensor");
        }
        let backend = all.iter().find(|name| name.starts_with("burn-"));
        assert!(backend.is_none() || name == "ops", "percept-{name} names a backend's crate: {backend:?}");
    }
    for (name, _) in ARROWS {
        assert!(members.contains_key(*name), "percept-{name} is gone: take its arrows away");
    }
}

#[test]
fn only_the_app_names_two_implementations() {
    let implementations = ["models", "algorithms", "rollout", "reward"];
    for (name, manifest) in members() {
        let all = dependencies(&manifest);
        let named: Vec<&str> =
            implementations.into_iter().filter(|known| all.contains(&format!("percept-{known}"))).collect();
        let least = if name == "app" { 2 } else { 0 };
        let most = if name == "app" { 4 } else { 1 };
        assert!((least..=most).contains(&named.len()), "percept-{name} names {named:?}");
        if implementations.contains(&name.as_str()) {
            assert_eq!(named, [""; 0], "percept-{name} knows another implementation");
        }
    }
}

#[test]
fn manifests_take_what_is_common_from_the_workspace() {
    let inherited = ["version", "edition", "rust-version", "license", "publish"];
    let workspace = manifest(&root().join("Cargo.toml"));
    for (name, manifest) in members().into_iter().chain([("the root".to_owned(), workspace.clone())]) {
        for key in inherited {
            let value = manifest["package"].get(key).and_then(|value| value.get("workspace"));
            assert_eq!(value, Some(&Value::Boolean(true)), "{name}: package.{key} is not the workspace's");
        }
        // crates of this repository, and burn, are named in one place
        for (key, value) in dependency_tables(&manifest, &["dependencies", "dev-dependencies"]).flatten() {
            if key == "burn" || key.starts_with("percept-") {
                let inherits = value.get("workspace") == Some(&Value::Boolean(true));
                assert!(inherits, "{name}: {key} is not the workspace's");
            }
        }
    }
}

#[test]
fn burn_is_pinned_exactly() {
    let workspace = manifest(&root().join("Cargo.toml"));
    let version = |value: &Value| value.as_str().or_else(|| value.get("version")?.as_str()).map(str::to_owned);
    let pinned = version(&workspace["workspace"]["dependencies"]["burn"]).expect("burn has a version");
    assert!(pinned.starts_with('='), "burn is at {pinned:?}, not pinned");
    for (name, manifest) in members() {
        for (key, value) in dependency_tables(&manifest, &["dependencies", "dev-dependencies"]).flatten() {
            if key.starts_with("burn-") {
                assert_eq!(version(value).as_deref(), Some(pinned.as_str()), "{name}: {key} is of another version");
            }
        }
    }
}

/// Whether a file is a module that stands under `#[cfg(test)] mod NAME;`, itself or with its folder.
fn is_test_module(path: &Path) -> bool {
    let mut path = path.to_owned();
    loop {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = path.parent().expect("a file in a folder").to_owned();
        if stem == "src" || folder == root() {
            return false;
        }
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|name| folder.join(name));
        let declaration = format!("#[cfg(test)]\nmod {stem};");
        for parent in parents.into_iter().chain([folder.with_extension("rs")]).filter(|parent| parent.is_file()) {
            if read(&parent).contains(&declaration) {
                return true;
            }
        }
        path = folder;
    }
}

/// A source file without its tests, which stand at its end, and without lines that are comments; each with its number.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = read(path);
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().enumerate().map(|(at, line)| (at + 1, line.to_owned()));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//")).collect()
}

/// Sources of the library crates: all but the app, and no tests.
fn library_sources() -> Vec<PathBuf> {
    let folders = members().into_keys().filter(|name| name != "app").map(|name| {
        let top = root().join(&name);
        if top.is_dir() { top.join("src") } else { root().join("crates").join(&name).join("src") }
    });
    folders.flat_map(|folder| files(&folder, &["rs"])).filter(|path| !is_test_module(path)).collect()
}

/// Names behind `Device::`, where that is a whole word: constructors, since methods are called on a value.
fn device_functions(line: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let behind = line.match_indices("Device::").filter(|(at, _)| !line[..*at].ends_with(is_word));
    behind.map(|(at, found)| line[at + found.len()..].split(|c| !is_word(c)).next().unwrap_or("")).collect()
}

#[test]
fn library_crates_name_no_backend() {
    // kernels, their dispatch by device, and the fused optimizer step work on a backend's memory
    let may_name_backends = |path: &str| {
        let kernels = ["crates/ops/src/cpu/", "crates/ops/src/cube/", "crates/ops/src/adamw/"];
        kernels.iter().any(|folder| path.starts_with(folder)) || path == "crates/ops/src/lib.rs"
    };
    let sources = library_sources();
    assert!(sources.len() > 100, "only {} source files were found", sources.len());
    for path in sources {
        let name = relative(&path);
        for (at, line) in code(&path) {
            let functions = device_functions(&line);
            assert!(functions.is_empty(), "{name}:{at}: a library crate is given its device; Device::{functions:?}");
            let backend = ["burn::backend", "burn_flex", "burn_cubecl", "burn_wgpu", "burn_cuda"]
                .into_iter()
                .find(|b| line.contains(b));
            assert!(backend.is_none() || may_name_backends(&name), "{name}:{at}: {backend:?} outside the kernels");
        }
    }
}

#[test]
fn a_method_is_seen_whole() {
    let methods = files(&root().join("algorithms/src"), &["rs"]);
    assert!(!methods.is_empty(), "no method was found");
    for path in methods {
        let text = read(&path);
        let end = text.find("#[cfg(test)]").unwrap_or(text.len());
        let lines = text[..end].lines().count();
        assert!(lines <= 300, "{}: {lines} lines without tests", relative(&path));
    }
}

#[test]
fn nothing_is_left_undone() {
    // written in two parts, so that this file passes its own test
    let unfinished =
        [["todo", "!"], ["unimplemented", "!"], ["dbg", "!"], ["#[", "ignore"]].map(|parts| parts.concat());
    let sources = files(root(), &["rs"]);
    assert!(sources.len() > 150, "only {} source files were found", sources.len());
    for path in sources {
        for (at, line) in read(&path).lines().enumerate() {
            for word in &unfinished {
                assert!(!line.contains(word.as_str()), "{}:{}: {word}", relative(&path), at + 1);
            }
        }
    }
}

#[test]
fn nothing_names_a_place_on_somebodys_machine() {
    let places = [["/ho", "me/"], ["/wo", "rk/"], ["/Us", "ers/"], ["C:\\Us", "ers"]].map(|parts| parts.concat());
    for path in files(root(), &["rs", "toml", "md", "sh", "yml", "py"]) {
        for (at, line) in read(&path).lines().enumerate() {
            let found = places.iter().find(|place| is_absolute(line, place));
            assert_eq!(found, None, "{}:{}: {line}", relative(&path), at + 1);
        }
    }
}

/// Whether the path begins where it is found: `https://host/home/` does not.
fn is_absolute(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/".contains(c)))
}

#[test]
fn every_configuration_loads_and_names_a_method() {
    let paths = files(&root().join("configs"), &["toml"]);
    assert!(paths.len() >= 8, "the eight reference runs are missing: {paths:?}");
    for path in paths {
        let run = percept_config::RunConfig::load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
        let objective = percept_app::Objectives::default().build(&run);
        objective.unwrap_or_else(|error| panic!("{}: {error:#}", relative(&path)));
        // a reference run's file is named after its method
        let kind = run.objective_kind().expect("an objective");
        let name = relative(&path);
        assert!(
            !name.contains("qwen2_5_vl_") || name.ends_with(&format!("b_{kind}.toml")),
            "{name} is a run of {kind}"
        );
    }
}

#[test]
fn what_the_checks_look_for_is_found() {
    assert_eq!(device_functions("let device = Device::flex().autodiff();"), ["flex"]);
    assert_eq!(device_functions("match x { DispatchDevice::Flex(_) => device.name() }"), [""; 0]);
    assert_eq!(device_functions("burn::tensor::Device::default()"), ["default"]);
    let place = ["/ho", "me/"].concat();
    assert!(is_absolute(&format!("open(\"{place}someone\")"), &place));
    assert!(!is_absolute(&format!("https://host{place}page"), &place));
    assert!(is_test_module(&root().join("crates/ops/src/agreement.rs")));
    assert!(!is_test_module(&root().join("crates/ops/src/sums.rs")));
}
