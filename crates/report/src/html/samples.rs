//! Samples by prompt.

use super::data::{PictureData, Pictures, Prompt, ResponseData, round};
use crate::Sample;
use crate::kept::{KeptPictures, KeptSamples};

/// The prompts of a run in the order of steps.
pub(super) fn prompts(run: usize, kept: &KeptSamples, chosen: &KeptPictures, pictures: &mut Pictures) -> Vec<Prompt> {
    let mut prompts = Vec::new();
    for step in kept.steps.keys() {
        for responses in kept.prompts(*step) {
            let first = responses[0];
            let mut place = |paths: &[String]| -> Vec<PictureData> {
                let mut at = |path: &String| chosen.read(path).map(|png| pictures.place(&png));
                paths.iter().map(|path| PictureData { path: path.clone(), at: at(path) }).collect()
            };
            prompts.push(Prompt {
                run,
                step: *step,
                row: first.row.clone(),
                problem: first.problem.clone(),
                answer: first.answer.clone(),
                pictures: place(first.picture.paths()),
                masked: place(first.masked_picture.paths()),
                responses: responses.into_iter().map(response).collect(),
            });
        }
    }
    prompts
}

fn response(sample: &Sample) -> ResponseData {
    let pieces = sample.pieces.clone().unwrap_or_default();
    let divergence = sample.divergence.as_deref().unwrap_or_default();
    let finite = || divergence.iter().flatten().copied().filter(|value| value.is_finite());
    let (sum, count) = finite().fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    ResponseData {
        text: if pieces.concat() == sample.response { String::new() } else { sample.response.clone() },
        divergence: divergence.iter().map(|value| value.map(|value| (value * 1e3).round() / 1e3)).collect(),
        mean: (count > 0).then(|| round(sum / f64::from(count))),
        largest: finite().max_by(f64::total_cmp).map(round),
        correct: sample.is_correct(),
        reward: sample.reward.map(round),
        advantage: sample.advantage.map(round),
        parts: sample.parts.iter().map(|(name, score)| (name.clone(), score.map(round))).collect(),
        tokens: sample.tokens,
        pieces,
    }
}

#[cfg(test)]
mod tests {
    use super::{Pictures, prompts};
    use crate::kept::{KeptPictures, KeptSamples};
    use serde_json::json;
    use std::path::Path;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x04\0\0\0\x04\x08\x02\0\0\0";

    fn write_run(run: &Path) {
        let mut lines = String::new();
        for (step, group, text) in [(1, 0, "a"), (1, 1, "b"), (1, 0, "c"), (2, 0, "d")] {
            let line = json!({"step": step, "row": "row", "problem": "p", "answer": "a", "response": text, "reward": 1.0,
                "advantage": 0.0, "tokens": 1, "group": group, "pieces": [text, "<end>"], "divergence": [0.5, null],
                "picture": format!("{step}.png"), "masked_picture": ["masked.png"]});
            lines += &format!("{line}\n");
        }
        std::fs::write(run.join("samples.jsonl"), lines).expect("written");
        for name in ["1.png", "masked.png"] {
            std::fs::write(run.join(name), PNG).expect("written");
        }
        std::fs::write(run.join("2.png"), [PNG, b"more"].concat()).expect("written");
    }

    fn read(run: &Path, max_picture_bytes: u64) -> (Vec<super::Prompt>, Vec<String>, Vec<String>) {
        let kept = KeptSamples::read(run, 1 << 20).expect("samples");
        let chosen = KeptPictures::choose(run, &kept, max_picture_bytes);
        let mut pictures = Pictures::default();
        (prompts(0, &kept, &chosen, &mut pictures), pictures.files, chosen.notes)
    }

    #[test]
    fn responses_of_a_prompt_stand_together() {
        let folder = tempfile::tempdir().expect("a folder");
        write_run(folder.path());
        let (prompts, files, notes) = read(folder.path(), 1 << 20);
        assert_eq!(prompts.iter().map(|prompt| prompt.responses.len()).collect::<Vec<_>>(), [2, 1, 1]);
        let last = &prompts[0].responses[1];
        assert_eq!((last.text.as_str(), last.mean, last.largest), ("c", Some(0.5), Some(0.5)));
        // one picture is the same as its masked twin, byte for byte
        assert_eq!((files.len(), prompts[2].pictures[0].at, prompts[2].masked[0].at), (2, Some(1), Some(0)));
        assert!(notes.is_empty());
    }

    #[test]
    fn pictures_beyond_the_limit_are_left_out_with_a_note() {
        let folder = tempfile::tempdir().expect("a folder");
        write_run(folder.path());
        let (prompts, files, notes) = read(folder.path(), 2 * PNG.len() as u64 + 4);
        assert_eq!((files.len(), prompts[0].pictures[0].at, prompts[2].pictures[0].at), (2, None, Some(1)));
        assert!(notes[0].contains("1 of 3 pictures were left out: those of 1 of 2 steps are kept"), "{notes:?}");
    }
}
