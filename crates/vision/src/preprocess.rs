//! From an RGB picture to the rows of patches that a Qwen-VL vision tower reads.
//!
//! Reference: the Pillow path of transformers' Qwen2-VL image processor, which Qwen2.5-VL and Qwen3-VL share: resize to
//! multiples of `patch_size * merge_size`, rescale, normalise, cut into patches.

use crate::error::VisionError;
use crate::picture::Rgb;
use crate::size::smart_resize;

const NUM_CHANNELS: usize = 3;

/// How a checkpoint wants its pictures; [`Preprocessor::default`] is that of Qwen2-VL and Qwen2.5-VL as released.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessor {
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Frames in a patch; a still picture is repeated.
    pub temporal_patch_size: usize,
    /// Patches along a side of a merged token.
    pub merge_size: usize,
    /// Per channel, after rescaling.
    pub mean: [f32; 3],
    /// Per channel, after rescaling.
    pub deviation: [f32; 3],
    /// Factor that brings 0..=255 to 0..=1.
    pub rescale: f64,
    /// Pixel count that a picture is enlarged to at least.
    pub min_pixels: u64,
    /// Pixel count that a picture is shrunk to at most.
    pub max_pixels: u64,
}

impl Default for Preprocessor {
    fn default() -> Self {
        Self {
            patch_size: 14,
            temporal_patch_size: 2,
            merge_size: 2,
            mean: [0.48145466, 0.4578275, 0.40821073],
            deviation: [0.26862954, 0.261_302_6, 0.275_777_1],
            rescale: 1.0 / 255.0,
            min_pixels: 3136,
            max_pixels: 12_845_056,
        }
    }
}

/// The patches of one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Patches {
    /// `[num_patches, row_width]`. Patches of one merged token are neighbours: rows run over (block row, block column,
    /// row in the block, column in the block), and within a row over (channel, frame, y, x).
    pub rows: Vec<f32>,
    /// Frames, rows and columns of patches.
    pub grid: [usize; 3],
    /// Numbers in a row: channels * frames * patch_size^2.
    pub row_width: usize,
    /// Patches along a side of a merged token.
    pub merge_size: usize,
}

impl Patches {
    pub fn num_patches(&self) -> usize {
        self.grid.iter().product()
    }

    /// Merged tokens: how many image placeholders the picture takes in the prompt.
    pub fn num_tokens(&self) -> usize {
        self.num_patches() / (self.merge_size * self.merge_size)
    }
}

impl Preprocessor {
    /// Both sides of a resized picture are multiples of this, in pixels.
    pub fn factor(&self) -> usize {
        self.patch_size * self.merge_size
    }

    /// Frames, rows and columns of patches of a picture of this size; the same as [`Preprocessor::preprocess`] gives.
    ///
    /// # Errors
    /// Those of [`smart_resize`].
    pub fn grid(&self, width: usize, height: usize) -> Result<[usize; 3], VisionError> {
        let (height, width) = smart_resize(height, width, self.factor(), self.min_pixels, self.max_pixels)?;
        Ok([1, height / self.patch_size, width / self.patch_size])
    }

    /// Numbers in a row of patches.
    pub fn row_width(&self) -> usize {
        NUM_CHANNELS * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Resizes, normalises and cuts into patches.
    ///
    /// # Errors
    /// Those of [`smart_resize`].
    pub fn preprocess(&self, picture: &Rgb) -> Result<Patches, VisionError> {
        let grid = self.grid(picture.width, picture.height)?;
        let resized = picture.resize(grid[2] * self.patch_size, grid[1] * self.patch_size);
        Ok(Patches { rows: self.cut(&resized, grid), grid, row_width: self.row_width(), merge_size: self.merge_size })
    }

    /// The picture that patches were cut from, at the size that the policy sees: what [`Preprocessor::preprocess`] did, undone.
    ///
    /// # Panics
    /// When the rows are not those of a grid of this preprocessor.
    pub fn picture(&self, rows: &[f32], [frames, grid_rows, grid_columns]: [usize; 3]) -> Rgb {
        let (patch, merge, width) = (self.patch_size, self.merge_size, self.row_width());
        assert_eq!(
            rows.len(),
            frames * grid_rows * grid_columns * width,
            "rows of a grid of {grid_rows} x {grid_columns}"
        );
        let (height, columns) = (grid_rows * patch, grid_columns * patch);
        let mut data = vec![0; height * columns * NUM_CHANNELS];
        let (mut left, blocks) = (rows.chunks_exact(width), grid_columns / merge);
        for block in 0..grid_rows / merge * blocks {
            for within in 0..merge * merge {
                let values = left.next().expect("counted above");
                let row = block / blocks * merge + within / merge;
                let column = block % blocks * merge + within % merge;
                for channel in 0..NUM_CHANNELS {
                    // frames are the same: the first of them
                    let plane = &values[channel * self.temporal_patch_size * patch * patch..][..patch * patch];
                    for (at, value) in plane.iter().enumerate() {
                        let level = f64::from(value * self.deviation[channel] + self.mean[channel]) / self.rescale;
                        let (y, x) = (row * patch + at / patch, column * patch + at % patch);
                        data[(y * columns + x) * NUM_CHANNELS + channel] = level.round().clamp(0.0, 255.0) as u8;
                    }
                }
            }
        }
        Rgb { width: columns, height, data }
    }

    /// The normalised value of every level of every channel. Rescaling is in f64 and rounded to f32, what follows is in
    /// f32, as in numpy.
    fn levels(&self) -> [[f32; 256]; NUM_CHANNELS] {
        std::array::from_fn(|channel| {
            std::array::from_fn(|level| {
                let rescaled = (level as f64 * self.rescale) as f32;
                (rescaled - self.mean[channel]) / self.deviation[channel]
            })
        })
    }

    fn cut(&self, picture: &Rgb, [_, grid_rows, grid_columns]: [usize; 3]) -> Vec<f32> {
        let (patch, merge) = (self.patch_size, self.merge_size);
        let levels = self.levels();
        let mut rows = Vec::with_capacity(grid_rows * grid_columns * self.row_width());
        let mut plane = Vec::with_capacity(patch * patch);
        for block_row in (0..grid_rows).step_by(merge) {
            for block_column in (0..grid_columns).step_by(merge) {
                for within in 0..merge * merge {
                    let (row, column) = (block_row + within / merge, block_column + within % merge);
                    for (channel, levels) in levels.iter().enumerate() {
                        plane.clear();
                        for y in row * patch..(row + 1) * patch {
                            let line = &picture.data[(y * picture.width + column * patch) * NUM_CHANNELS..];
                            let line = &line[..patch * NUM_CHANNELS];
                            plane.extend(
                                line.chunks_exact(NUM_CHANNELS).map(|pixel| levels[usize::from(pixel[channel])]),
                            );
                        }
                        (0..self.temporal_patch_size).for_each(|_| rows.extend_from_slice(&plane));
                    }
                }
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Preprocessor {
        Preprocessor {
            patch_size: 2,
            merge_size: 2,
            mean: [0.0; 3],
            deviation: [1.0; 3],
            rescale: 1.0,
            min_pixels: 1,
            max_pixels: 1000,
            ..Preprocessor::default()
        }
    }

    #[test]
    fn rows_follow_blocks_and_frames_repeat() {
        // 8 wide, 4 high: two blocks of 2x2 patches of 2x2 pixels; the first channel holds the pixel's number.
        let data = (0..32u8).flat_map(|i| [i, 100 + i, 200 - i]).collect();
        let patches = small().preprocess(&Rgb { width: 8, height: 4, data }).unwrap();
        assert_eq!((patches.grid, patches.row_width, patches.num_tokens()), ([1, 2, 4], 24, 2));
        let first_channel = |row: usize| &patches.rows[row * 24..row * 24 + 8];
        assert_eq!(first_channel(0), [0., 1., 8., 9., 0., 1., 8., 9.]);
        assert_eq!(first_channel(1), [2., 3., 10., 11., 2., 3., 10., 11.]);
        assert_eq!(first_channel(2), [16., 17., 24., 25., 16., 17., 24., 25.]);
        assert_eq!(first_channel(4), [4., 5., 12., 13., 4., 5., 12., 13.]);
        assert_eq!(patches.rows[8..10], [100., 101.]);
        assert_eq!(patches.rows[16..18], [200., 199.]);
    }

    #[test]
    fn a_picture_comes_back_from_its_patches() {
        let preprocessor = Preprocessor::default();
        let (height, width) = (3 * preprocessor.factor(), 2 * preprocessor.factor());
        let data = (0..height * width * 3).map(|i| (i * 31 % 256) as u8).collect();
        let picture = Rgb { width, height, data };
        let patches = preprocessor.preprocess(&picture).unwrap();
        let found = preprocessor.picture(&patches.rows, patches.grid);
        assert_eq!((found.width, found.height), (width, height));
        assert!(found.data == picture.data, "every level of every pixel");
    }

    #[test]
    fn levels_are_those_of_the_reference() {
        // numpy: ((255 * 0.00392156862745098).astype(f32) - mean) / std, and the same for 0.
        let levels = Preprocessor::default().levels();
        assert_eq!(levels[0][255], 1.930_336_1);
        assert_eq!(levels[2][0], -1.480_219_8);
    }

    #[test]
    fn the_grid_is_known_before_the_pixels() {
        let preprocessor = Preprocessor::default();
        let picture = Rgb { width: 150, height: 61, data: vec![9; 150 * 61 * 3] };
        let patches = preprocessor.preprocess(&picture).unwrap();
        assert_eq!(patches.grid, preprocessor.grid(150, 61).unwrap());
        assert_eq!(patches.rows.len(), patches.num_patches() * preprocessor.row_width());
        assert!(preprocessor.grid(1, 500).is_err());
    }
}
