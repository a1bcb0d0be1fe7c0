//! Pictures of which little is left.

use crate::finding::share;
use crate::{Finding, Observations, PictureSeen, Severity};

/// A picture of so few tokens shows a colour or two.
const FEW_TOKENS: usize = 4;
/// Pictures are shrunk when they keep at most this share of their pixels; twice the size of a side costs three quarters.
const SHRUNK: f64 = 0.25;
/// So little is too little for details, whatever number of tokens is left.
const HARDLY_ANYTHING: f64 = 0.04;

impl PictureSeen {
    /// Share of its pixels that is left.
    fn left(&self) -> f64 {
        let pixels = |(width, height): (usize, usize)| width as f64 * height as f64;
        pixels(self.shown) / pixels(self.original).max(1.0)
    }

    fn is_nothing(&self) -> bool {
        self.tokens <= FEW_TOKENS && self.left() <= SHRUNK
    }
}

pub(crate) fn judge(seen: &Observations, _before: &[Finding]) -> Vec<Finding> {
    let pictures = &seen.pictures;
    let nothing = pictures.iter().filter(|picture| picture.is_nothing()).count();
    let shrunk = pictures.iter().filter(|picture| picture.is_nothing() || picture.left() <= HARDLY_ANYTHING).count();
    let Some(worst) = pictures.iter().min_by(|a, b| a.left().total_cmp(&b.left())).filter(|_| shrunk > 0) else {
        return Vec::new();
    };
    let severity = match () {
        () if 2 * nothing >= pictures.len() => Severity::Error,
        () if 10 * shrunk >= pictures.len() => Severity::Warning,
        () => Severity::Note,
    };
    let settings = &seen.settings;
    let tokens: usize = pictures.iter().map(|picture| picture.tokens).sum();
    let own = settings.max_pixels.filter(|&pixels| pixels <= settings.checkpoint_max_pixels);
    let ((width, height), (shown_width, shown_height)) = (worst.original, worst.shown);
    let finding = Finding::new(
        "pictures_shrunk",
        severity,
        format!(
            "{} are shrunk to almost nothing, one from {width} x {height} to {shown_width} x {shown_height} pixels; a picture has {:.1} \
             tokens on average",
            share(shrunk, pictures.len(), "picture"),
            tokens as f64 / pictures.len() as f64
        ),
        match own {
            Some(pixels) => format!("data.max_pixels = {pixels} is too small for what the questions ask about"),
            None => format!(
                "max_pixels = {} in the checkpoint's preprocessor_config.json is too small for what the questions ask about",
                settings.checkpoint_max_pixels
            ),
        },
        match own {
            Some(_) => "Let pictures keep more pixels",
            None => "Raise it there",
        },
    );
    let original = pictures.iter().map(|picture| picture.original.0 as u64 * picture.original.1 as u64).max();
    let enough = original.unwrap_or(0).clamp(28 * 28, 1_003_520);
    vec![if own.is_some() { finding.set("data.max_pixels", enough) } else { finding }]
}

#[cfg(test)]
mod tests {
    use crate::observations::tests::{healthy, only};
    use crate::{PictureSeen, Severity, judge};

    #[test]
    fn pictures_of_one_token_are_an_error() {
        let mut seen = healthy();
        seen.settings.max_pixels = Some(784);
        seen.pictures = vec![PictureSeen { original: (400, 300), shown: (28, 28), tokens: 1 }; 8];
        let finding = only(&seen);
        assert_eq!((finding.code, finding.severity), ("pictures_shrunk", Severity::Error));
        for word in ["8 of 8 pictures", "400 x 300", "28 x 28", "1.0 tokens"] {
            assert!(finding.seen.contains(word), "{finding:?}");
        }
        assert!(finding.cause.contains("data.max_pixels = 784"));
        assert_eq!(finding.set, ["data.max_pixels=120000"]);
        seen.settings.checkpoint_max_pixels = 700;
        let finding = only(&seen);
        assert!(finding.cause.contains("preprocessor_config.json") && finding.set.is_empty(), "{finding:?}");
    }

    #[test]
    fn small_pictures_that_stay_as_they_are_and_large_ones_within_the_bounds_are_fine() {
        let mut seen = healthy();
        seen.pictures = vec![PictureSeen { original: (28, 28), shown: (28, 28), tokens: 1 }; 8];
        assert_eq!(judge(&seen), []);
        seen.pictures = vec![PictureSeen { original: (4000, 3000), shown: (1148, 840), tokens: 1230 }; 8];
        assert_eq!(judge(&seen), []);
        seen.pictures[0].shown = (280, 196);
        assert_eq!(only(&seen).severity, Severity::Warning);
    }
}
