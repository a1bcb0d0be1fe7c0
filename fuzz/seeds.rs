//! Writes whole files for the fuzzer to start from: `corpus/TARGET/N`.

#[allow(dead_code)]
#[path = "../crates/config/tests/hostile/reading.rs"]
mod config;
#[allow(dead_code)]
#[path = "../crates/data/tests/hostile/reading.rs"]
mod data;
#[allow(dead_code)]
#[path = "../models/tests/hostile/reading.rs"]
mod models;
#[allow(dead_code)]
#[path = "../crates/report/tests/hostile/reading.rs"]
mod report;
#[allow(dead_code)]
#[path = "../crates/reward/tests/hostile/reading.rs"]
mod reward;
#[allow(dead_code)]
#[path = "../crates/text/tests/hostile/reading.rs"]
mod text;
#[allow(dead_code)]
#[path = "../crates/vision/tests/hostile/reading.rs"]
mod vision;
#[allow(dead_code)]
#[path = "../crates/weights/tests/hostile/reading.rs"]
mod weights;

fn main() -> std::io::Result<()> {
    let files = [
        ("json_lines", data::json_files()),
        ("parquet", data::parquet_files()),
        ("task_config", data::tasks()),
        ("safetensors", weights::safetensors_files()),
        ("weight_index", weights::indexes()),
        ("trainer_state", weights::states()),
        ("weight_config", weights::configs()),
        ("model_config", models::model_configs()),
        ("adapter_config", models::adapter_configs()),
        ("run_file", config::run_files()),
        ("easyr1", config::yaml_files()),
        ("picture", vision::pictures()),
        ("preprocessor_config", vision::preprocessor_configs()),
        ("tokenizer", text::tokenizers()),
        ("template", text::templates()),
        ("checkpoint_texts", text::small_files()),
        ("response", reward::responses()),
        ("reply", reward::replies()),
        ("run_metrics", report::metrics_files()),
        ("run_samples", report::samples_files()),
        ("run_configuration", report::configuration_files()),
        ("row_scores", report::scores_files()),
    ];
    for (target, files) in files {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, bytes) in files.iter().enumerate() {
            std::fs::write(folder.join(number.to_string()), bytes)?;
        }
        println!("{}: {} files", folder.display(), files.len());
    }
    Ok(())
}
