//! What the policy is shown in place of a row's own pictures, and training as a control of what is learned without looking.

use crate::parts::Parts;
use crate::report::bar;
use crate::source::Source;
use anyhow::ensure;
use percept_config::TrainingPicture;
use percept_core::{Image, Objective};
use percept_data::Swaps;
use percept_trainer::TaskSource;
use percept_vision::{Blank, BlankColor, Corruption};

/// What the policy is shown.
pub(crate) enum Shown {
    /// The row's own pictures.
    Whole,
    /// They, spoiled.
    Corrupted(Box<dyn Corruption>),
    /// Another row's, of as many.
    Swapped(Swaps),
}

impl Shown {
    pub(crate) fn blank() -> Self {
        Self::Corrupted(Box::new(Blank { color: BlankColor::Black }))
    }
}

/// Shows training what `data.picture` says, and tells what that means.
///
/// # Errors
/// When pictures are to be swapped and no row can be given another's.
pub(crate) fn control(parts: &Parts, source: &mut Source, objective: Option<&dyn Objective>) -> anyhow::Result<()> {
    let (shown, what) = match parts.run.data.picture {
        TrainingPicture::Whole => return Ok(()),
        TrainingPicture::Blank => (Shown::blank(), "blank"),
        TrainingPicture::Swapped => (swapped(parts, source)?, "swapped"),
    };
    source.shown = shown;
    let pictures = if what == "blank" { "black pictures" } else { "each row the pictures of another" };
    eprintln!("data.picture = \"{what}\": training shows {pictures}; validation shows each row its own");
    let masks = |objective: &dyn Objective| {
        objective.needs().views.iter().any(|view| matches!(view.image, Image::Corrupted(_)))
    };
    if objective.is_some_and(masks) {
        let why = match parts.run.data.picture {
            TrainingPicture::Blank => {
                "both are black, so that their divergence is 0 (but for what earlier updates of a step have moved), and its term \
                 teaches nothing"
            }
            _ => {
                "its term rewards answers for depending on a picture that does not belong to the question, and not for looking"
            }
        };
        let kind = parts.run.objective_kind()?;
        eprintln!(
            "warning: objective.kind = \"{kind}\" compares pictures with masked ones, and is degenerate under data.picture = \
             \"{what}\": {why}; as a control, compare with its base method under the same data.picture"
        );
    }
    Ok(())
}

fn swapped(parts: &Parts, source: &Source) -> anyhow::Result<Shown> {
    let pictures = source.fingerprints(&bar("comparing pictures"))?;
    let swaps = Swaps::new(parts.run.trainer.seed, &pictures);
    let (left_out, with_pictures) = (swaps.num_left_out(), pictures.iter().filter(|own| !own.is_empty()).count());
    ensure!(
        left_out < with_pictures,
        "data.picture = \"swapped\": of {} rows, {with_pictures} have pictures, and none can be given another's: that needs rows \
         with as many pictures that are not the same",
        source.num_rows()
    );
    if left_out > 0 {
        eprintln!("{left_out} rows left out in each epoch: no other row has as many and different pictures to spare");
    }
    Ok(Shown::Swapped(swaps))
}
