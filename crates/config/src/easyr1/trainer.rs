//! `trainer:` to `[trainer]` and to when validation happens.

use super::draft::Draft;
use super::error::ImportError;
use super::source::Source;

pub(super) fn convert(source: &mut Source, draft: &mut Draft) -> Result<(), ImportError> {
    // the first versions of EasyR1 call epochs episodes
    let episodes = source.count("trainer.total_episodes")?;
    draft.set("trainer.epochs", source.count("trainer.total_epochs")?.or(episodes).unwrap_or(15));
    if let Some(steps) = source.count("trainer.max_steps")? {
        draft.set_with("trainer.steps", steps, "trainer.max_steps");
    }
    if let Some(folder) = source.text("trainer.save_checkpoint_path")? {
        draft.set_with("trainer.run_dir", folder, "trainer.save_checkpoint_path");
    } else if let Some(name) = source.text("trainer.experiment_name")? {
        draft.set_with("trainer.run_dir", format!("runs/{name}"), "trainer.experiment_name");
    }
    // what EasyR1 switches off with -1 is off at 0 here
    draft.set("validation.every", source.whole("trainer.val_freq")?.unwrap_or(-1).max(0));
    draft.set("validation.before_training", source.flag("trainer.val_before_train")?.unwrap_or(true));
    draft.set("trainer.checkpoint_every", source.whole("trainer.save_freq")?.unwrap_or(-1).max(0));
    draft.set("trainer.keep_last", source.whole("trainer.save_limit")?.unwrap_or(-1).max(0));
    draft.set("trainer.keep_best", source.flag("trainer.save_best")?.unwrap_or(true));
    Ok(())
}
