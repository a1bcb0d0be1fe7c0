//! Checkpoints: a Hugging Face folder that others can load, and beside the weights what resuming needs.

use crate::optimizer::Optimizer;
use crate::settings::{KeptWeights, Settings};
use crate::{SavePolicy, TrainError};
use burn::tensor::{Tensor, TensorData};
use percept_core::{Parameter, Policy};
use percept_ops::{MomentType, Moments, StoredMoment};
use percept_weights::{
    StagedFolder, StateFile, StateKind, StateTensor, StateWriter, WeightsError, check_manifest, write_atomically,
    write_manifest,
};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Names of the moments in the state.
const MOMENTS: [&str; 2] = ["first_moment", "second_moment"];
const STATE_FILE: &str = "trainer.safetensors";

/// Where a run is; with the weights and moments, all that decides its future.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Optimizer updates done.
    pub updates: u64,
    /// The next visit of the data set.
    pub next_visit: u64,
    /// Skipped updates in a row.
    pub nonfinite: usize,
    /// Best validation score so far, and the step it was reached at.
    pub best: Option<(f64, u64)>,
    /// "train" or "sft": what the checkpoint can be resumed by.
    pub kind: String,
    /// Steps of the whole run, which schedules depend on.
    pub total_steps: u64,
    /// Tokens computed at once, where the configuration does not say: chosen by what fits, or made less by memory that ran out.
    #[serde(default)]
    pub micro_tokens: Option<usize>,
}

impl State {
    /// Tokens computed at once from here on.
    pub(crate) fn micro_tokens(&self, settings: &Settings) -> usize {
        self.micro_tokens.map_or(settings.micro_tokens, |known| known.min(settings.micro_tokens))
    }

    /// Notes what fits, so that a resumed run does the same.
    pub(crate) fn keep_micro_tokens(&mut self, settings: &Settings, micro_tokens: usize) {
        let known = settings.micro_tokens_chosen || micro_tokens < settings.micro_tokens;
        self.micro_tokens = known.then_some(micro_tokens);
    }
}

/// Reads and writes the checkpoints of a run directory.
pub struct Checkpoint<'a> {
    pub settings: &'a Settings,
    pub save: &'a SavePolicy,
}

/// A checkpoint that is written, and not yet in its place.
#[derive(Debug)]
pub struct StagedCheckpoint {
    staged: StagedFolder,
    step: u64,
}

/// The name of a step's checkpoint.
pub fn step_name(step: u64) -> String {
    format!("step-{step:06}")
}

impl Checkpoint<'_> {
    fn folder(&self, step: u64) -> PathBuf {
        self.settings.run_dir.join("checkpoints").join(step_name(step))
    }

    /// Writes a checkpoint beside the others; it counts when it is published.
    ///
    /// # Errors
    /// When the disk refuses; earlier checkpoints are untouched then.
    pub fn stage(
        &self,
        policy: &dyn Policy,
        optimizer: &Optimizer,
        state: &State,
    ) -> Result<StagedCheckpoint, TrainError> {
        let staged = StagedFolder::create(self.folder(state.step))?;
        self.write_into(staged.path(), policy, optimizer, state)?;
        Ok(StagedCheckpoint { staged, step: state.step })
    }

    /// Writes the files of a checkpoint into an empty folder.
    pub(crate) fn write_into(
        &self,
        folder: &Path,
        policy: &dyn Policy,
        optimizer: &Optimizer,
        state: &State,
    ) -> Result<(), TrainError> {
        (self.save)(policy, folder)?;
        self.write_state(&folder.join(STATE_FILE), policy, optimizer, state)?;
        Ok(write_manifest(folder)?)
    }

    /// Puts a checkpoint into place, points `latest` (and `best`) at it, and removes old ones.
    ///
    /// `latest` comes behind all else that belongs to the step: a run that is killed before goes on from the checkpoint before, and
    /// does the step again.
    ///
    /// # Errors
    /// When the disk refuses; earlier checkpoints are untouched then.
    pub fn publish(&self, checkpoint: StagedCheckpoint, is_best: bool) -> Result<PathBuf, TrainError> {
        let StagedCheckpoint { staged, step } = checkpoint;
        staged.publish()?;
        if is_best && self.settings.keep_best {
            point(&self.settings.run_dir, "best", &step_name(step))?;
        }
        point(&self.settings.run_dir, "latest", &step_name(step))?;
        self.remove_old()?;
        Ok(self.folder(step))
    }

    /// Keeps what was learned before a part failed: the steps done so far are saved, unless they are.
    pub(crate) fn rescue(
        &self,
        policy: &dyn Policy,
        optimizer: &Optimizer,
        state: &State,
        last_saved: Option<&Path>,
        error: TrainError,
    ) -> TrainError {
        if state.step == 0 {
            return error;
        }
        let is_saved = last_saved.and_then(Path::file_name) == Some(step_name(state.step).as_ref());
        let save = || self.publish(self.stage(policy, optimizer, state)?, false);
        match if is_saved { Ok(self.folder(state.step)) } else { save() } {
            Ok(_) => TrainError::Stopped { step: state.step, error: Box::new(error) },
            Err(second) => second,
        }
    }

    /// Makes `best` name what the state says, after a run was killed between two pointers, or went on from an older checkpoint.
    pub(crate) fn mend_best(&self, state: &State) -> Result<(), TrainError> {
        let run_dir = &self.settings.run_dir;
        let Some(pointed) = read_pointer(run_dir, "best") else { return Ok(()) };
        let best = state.best.map(|(_, step)| step_name(step));
        if pointed.file_name().and_then(|name| name.to_str()) == best.as_deref() {
            return Ok(());
        }
        match best.filter(|best| run_dir.join("checkpoints").join(best).is_dir()) {
            Some(best) => point(run_dir, "best", &best),
            None => {
                let path = run_dir.join("best");
                std::fs::remove_file(&path).map_err(|source| TrainError::File { path, source })
            }
        }
    }

    fn write_state(
        &self,
        path: &Path,
        policy: &dyn Policy,
        optimizer: &Optimizer,
        state: &State,
    ) -> Result<(), TrainError> {
        let mut specs: Vec<StateTensor> = Vec::new();
        for (parameter, moments) in policy.parameters().into_iter().zip(&optimizer.moments) {
            let (label, dims, kept) = (label(parameter), parameter.value.dims(), self.keeps(parameter));
            let spec = |name: String, dims: &[usize]| StateTensor::new(name, StateKind::F32, dims.to_vec());
            if kept {
                specs.push(spec(format!("weight.{label}"), &dims));
            }
            let Some(moments) = moments else { continue };
            for name in MOMENTS {
                if moments.kind() == MomentType::EightBit {
                    let blocks = (dims[0] * dims[1]).div_ceil(percept_ops::MOMENT_BLOCK);
                    let codes = vec![blocks, percept_ops::MOMENT_BLOCK];
                    specs.push(StateTensor::new(format!("{name}.{label}.codes"), StateKind::U8, codes));
                    specs.push(spec(format!("{name}.{label}.scales"), &[blocks]));
                } else {
                    specs.push(spec(format!("{name}.{label}"), &dims));
                }
            }
        }
        let json = serde_json::to_string(state).expect("the state is plain data");
        let mut writer = StateWriter::create(path, &specs, &json)?;
        // one parameter at a time: host memory never holds them all
        for (parameter, moments) in policy.parameters().into_iter().zip(&optimizer.moments) {
            let label = label(parameter);
            if self.keeps(parameter) {
                let values: Vec<f32> = plain(parameter.value.clone()).into_data().try_to_vec().expect("float32");
                writer.add_f32(&format!("weight.{label}"), &values)?;
            }
            let Some(moments) = moments else { continue };
            for (name, moment) in MOMENTS.into_iter().zip(moments.store()) {
                match moment {
                    StoredMoment::Float(values) => writer.add_f32(&format!("{name}.{label}"), &values)?,
                    StoredMoment::Coded { codes, scales } => {
                        writer.add_u8(&format!("{name}.{label}.codes"), &codes)?;
                        writer.add_f32(&format!("{name}.{label}.scales"), &scales)?;
                    }
                }
            }
        }
        Ok(writer.finish()?)
    }

    /// Whether the state holds a parameter's exact value.
    fn keeps(&self, parameter: &Parameter) -> bool {
        match self.settings.kept_weights {
            KeptWeights::None => false,
            KeptWeights::All => true,
            KeptWeights::Learning => parameter.trainable,
        }
    }

    /// Reads the state of a checkpoint back into a policy (whose weights were loaded from it) and an optimizer.
    ///
    /// # Errors
    /// When the state is missing, damaged, or of another model.
    pub fn read(folder: &Path, policy: &mut dyn Policy, optimizer: &mut Optimizer) -> Result<State, TrainError> {
        let path = folder.join(STATE_FILE);
        let file = StateFile::open(&path)?;
        let bad = |reason: String| TrainError::State { path: path.clone(), reason };
        let state: State = serde_json::from_str(file.json())
            .map_err(|error| bad(format!("the trainer's state cannot be read: {error}")))?;
        let (device, settings) = (policy.device(), optimizer.settings().clone());
        let read = |name: String, dims: [usize; 2]| -> Result<Tensor<2>, TrainError> {
            let values = file.f32(&name)?;
            if values.len() != dims[0] * dims[1] {
                return Err(bad(format!("{name}: {} values, expected {dims:?}", values.len())));
            }
            Ok(Tensor::from_data(TensorData::new(values, dims), &device.clone().without_autodiff()))
        };
        for (parameter, moments) in policy.parameters_mut().into_iter().zip(&mut optimizer.moments) {
            let (label, dims) = (label(parameter).to_owned(), parameter.value.dims());
            let weight = format!("weight.{label}");
            if file.contains(&weight) {
                let value = Tensor::from_inner(read(weight, dims)?);
                parameter.value = if parameter.trainable { value.require_grad() } else { value };
            }
            let Some(moments) = moments else { continue };
            let [first, second] = MOMENTS.map(|name| {
                let whole = format!("{name}.{label}");
                if !file.contains(&format!("{whole}.codes")) {
                    return Ok(StoredMoment::Float(file.f32(&whole)?));
                }
                let (codes, scales) = (file.u8(&format!("{whole}.codes"))?, file.f32(&format!("{whole}.scales"))?);
                Ok::<_, WeightsError>(StoredMoment::Coded { codes, scales })
            });
            let place = device.clone().without_autodiff();
            *moments = Moments::restore(dims, settings.moments, settings.offload, &place, [first?, second?])
                .map_err(|reason| bad(format!("{label}: {reason} (optimizer.moments)")))?;
        }
        optimizer.updates = state.updates;
        Ok(state)
    }

    /// Removes checkpoints beyond the last few; the best stays.
    fn remove_old(&self) -> Result<(), TrainError> {
        let keep = self.settings.keep_last;
        if keep == 0 {
            return Ok(());
        }
        let folder = self.settings.run_dir.join("checkpoints");
        let failed = |source| TrainError::File { path: folder.clone(), source };
        let mut names = step_folders(&self.settings.run_dir)?;
        names.sort();
        let best = read_pointer(&self.settings.run_dir, "best");
        let old = names.len().saturating_sub(keep);
        for name in &names[..old] {
            if best.as_ref().and_then(|best| best.file_name()?.to_str()) != Some(name) {
                std::fs::remove_dir_all(folder.join(name)).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn plain(tensor: Tensor<2>) -> Tensor<2> {
    if tensor.device().is_autodiff() { tensor.inner() } else { tensor }
}

/// A parameter's name in the state: that of its first tensor.
fn label(parameter: &Parameter) -> &str {
    &parameter.pieces[0].name
}

/// Makes `latest` or `best` of a run directory name one of its checkpoints.
///
/// # Errors
/// When the disk refuses.
pub fn point(run_dir: &Path, pointer: &str, name: &str) -> Result<(), TrainError> {
    let text = format!("checkpoints/{name}\n");
    Ok(write_atomically(run_dir.join(pointer), |file| file.write_all(text.as_bytes()))?)
}

/// Where a checkpoint's run was, without its weights.
///
/// # Errors
/// When the state is missing or damaged.
pub fn read_state(folder: &Path) -> Result<State, TrainError> {
    let path = folder.join(STATE_FILE);
    serde_json::from_str(StateFile::open(&path)?.json())
        .map_err(|error| TrainError::State { path, reason: format!("the trainer's state cannot be read: {error}") })
}

/// The checkpoint folder that `latest` or `best` of a run directory names.
pub fn read_pointer(run_dir: &Path, pointer: &str) -> Option<PathBuf> {
    let text = std::fs::read_to_string(run_dir.join(pointer)).ok()?;
    Some(run_dir.join(text.trim()))
}

/// The checkpoint that a run goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    pub folder: PathBuf,
    /// Newer ones that are not whole, and what is wrong with them.
    pub skipped: Vec<(PathBuf, String)>,
}

/// The newest whole checkpoint of a run: what `latest` names, or, where that was damaged or deleted, the one before. One that is
/// newer than `latest` was not finished as a step, and is taken only when there is no other.
///
/// # Errors
/// When the run directory has no whole checkpoint.
pub fn find_resume(run_dir: &Path) -> Result<Resume, TrainError> {
    let latest = read_pointer(run_dir, "latest");
    let latest = latest.as_ref().and_then(|folder| folder.file_name()?.to_str());
    let mut names = step_folders(run_dir).unwrap_or_default();
    names.sort();
    let mut candidates: Vec<&str> = names.iter().map(String::as_str).collect();
    // a pointer to what is not there is told like a damaged checkpoint
    candidates.extend(latest.filter(|latest| !names.iter().any(|name| name == latest)));
    candidates.sort_unstable_by_key(|&name| (latest.is_none_or(|latest| name <= latest), name));
    let mut skipped = Vec::new();
    for name in candidates.into_iter().rev() {
        let folder = run_dir.join("checkpoints").join(name);
        match check_manifest(&folder) {
            Ok(()) => return Ok(Resume { folder, skipped }),
            Err(error) => skipped.push((folder, error.to_string())),
        }
    }
    let run = run_dir.display();
    Err(TrainError::Settings(match skipped.first() {
        None => format!("{run}: nothing to resume: there is no checkpoint. Start the run without --resume"),
        Some((_, reason)) => format!(
            "{run}: nothing to resume: none of its {} checkpoints is whole; the newest: {reason}. Put the file back, or start a new run",
            skipped.len()
        ),
    }))
}

/// Puts a checkpoint that is not whole out of the way of those to come; what is left of it stays in the run directory.
///
/// # Errors
/// When the disk refuses.
pub fn set_aside(folder: &Path) -> Result<Option<PathBuf>, TrainError> {
    if !folder.exists() {
        return Ok(None);
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(format!("damaged-{name}"));
    let _ = std::fs::remove_dir_all(&aside);
    let failed = |source| TrainError::File { path: folder.to_owned(), source };
    std::fs::rename(folder, &aside).map_err(failed)?;
    Ok(Some(aside))
}

/// Names of a run's checkpoints, in no order.
fn step_folders(run_dir: &Path) -> Result<Vec<String>, TrainError> {
    let folder = run_dir.join("checkpoints");
    let entries = std::fs::read_dir(&folder).map_err(|source| TrainError::File { path: folder, source })?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_step = |name: &String| {
        name.strip_prefix("step-")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    Ok(names.filter(is_step).collect())
}
