//! A golden file's tensors, and the prompts and responses they describe.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept_core::{PicturePatches, Prompt};
use percept_vision::{Limits, Preprocessor, Rgb, decode};
use safetensors::SafeTensors;
use serde_json::Value;

/// A JSON file of the goldens.
pub fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Folders inside those of a kind that hold this file, in order of their names.
pub fn folders_with(kind: &str, file: &str) -> Vec<PathBuf> {
    let inside =
        |folder: PathBuf| std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut folders: Vec<PathBuf> = super::golden::folders(kind).into_iter().flat_map(inside).collect();
    folders.retain(|folder| folder.join(file).is_file());
    folders.sort();
    folders
}

/// A checkpoint's family, when it is one that is compared; families nobody asked for yet are printed as skipped.
pub fn is_asked_for(checkpoint: &Path) -> bool {
    const LATER: [&str; 5] = ["qwen2_vl", "qwen3_vl", "idefics3", "smolvlm", "smolvlm2"];
    let config = json(&checkpoint.join("config.json"));
    let family = config["model_type"].as_str().expect("config.json names a model_type");
    if LATER.contains(&family) {
        println!("{}: skipped, family {family}", checkpoint.display());
        return false;
    }
    assert_eq!(family, "qwen2_5_vl", "{}: a family that no test knows", checkpoint.display());
    true
}

/// A safetensors file.
pub struct Tensors {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Tensors {
    pub fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.to_owned(), bytes }
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    pub fn has(&self, name: &str) -> bool {
        self.file().tensor(name).is_ok()
    }

    /// A tensor's shape and values; `SIZE` bytes each.
    fn read<T, const SIZE: usize>(&self, name: &str, value: fn([u8; SIZE]) -> T) -> (Vec<usize>, Vec<T>) {
        let file = self.file();
        let view = file.tensor(name).unwrap_or_else(|error| panic!("{}: {name}: {error}", self.path.display()));
        assert_eq!(view.dtype().bitsize(), 8 * SIZE, "{}: {name}: {:?}", self.path.display(), view.dtype());
        let values = view.data().chunks_exact(SIZE).map(|bytes| value(bytes.try_into().expect("whole values")));
        (view.shape().to_vec(), values.collect())
    }

    pub fn f32(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        self.read(name, f32::from_le_bytes)
    }

    pub fn i64(&self, name: &str) -> (Vec<usize>, Vec<i64>) {
        self.read(name, i64::from_le_bytes)
    }

    /// Rows of numbers `[rows, columns]`.
    pub fn rows(&self, name: &str) -> Vec<Vec<f32>> {
        let (shape, values) = self.f32(name);
        values.chunks_exact(shape[1]).map(<[f32]>::to_vec).collect()
    }

    /// The columns of each row where the mask is 1.
    pub fn shown(&self, mask: &str) -> Vec<Vec<usize>> {
        let (shape, values) = self.i64(mask);
        let columns = |row: &[i64]| row.iter().enumerate().filter(|(_, on)| **on == 1).map(|(at, _)| at).collect();
        values.chunks_exact(shape[1]).map(columns).collect()
    }

    /// Token ids of each row where the mask is 1.
    pub fn tokens(&self, ids: &str, mask: &str) -> Vec<Vec<u32>> {
        let (shape, values) = self.i64(ids);
        let rows = values.chunks_exact(shape[1]).zip(self.shown(mask));
        rows.map(|(row, shown)| shown.into_iter().map(|at| row[at] as u32).collect()).collect()
    }

    /// The pictures' sizes in patches.
    fn grids(&self) -> Vec<[usize; 3]> {
        let (_, values) = self.i64("image_grid_thw");
        values.chunks_exact(3).map(|grid| [0, 1, 2].map(|axis| grid[axis] as usize)).collect()
    }

    /// Pictures from a tensor of patches `[patches, width]`; from `files` where the golden does not repeat that tensor.
    pub fn pictures(&self, name: &str, files: &[PathBuf], pictures: &Pictures) -> Vec<PicturePatches> {
        let grids = self.grids();
        if !self.has(name) {
            assert_eq!(files.len(), grids.len(), "{}: pictures", self.path.display());
            let read = files.iter().map(|file| pictures.open(file)).collect::<Vec<_>>();
            assert_eq!(read.iter().map(|picture| picture.grid).collect::<Vec<_>>(), grids, "{}", self.path.display());
            return read;
        }
        let (shape, values) = self.f32(name);
        let mut rest = values.as_slice();
        let picture = |grid: [usize; 3]| {
            let (own, behind) = rest.split_at(grid.iter().product::<usize>() * shape[1]);
            rest = behind;
            PicturePatches { rows: own.to_vec().into(), grid }
        };
        let result = grids.into_iter().map(picture).collect();
        assert!(rest.is_empty(), "{}: {name} holds patches of no picture", self.path.display());
        result
    }
}

/// How picture files become patches.
pub struct Pictures<'a> {
    pub preprocessor: Preprocessor,
    pub prepare: &'a dyn Fn(percept_vision::Picture) -> Rgb,
}

impl Pictures<'_> {
    fn open(&self, path: &Path) -> PicturePatches {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let picture = decode(&bytes, &Limits::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let patches = self.preprocessor.preprocess(&(self.prepare)(picture)).expect("a picture of allowed size");
        PicturePatches { rows: patches.rows.into(), grid: patches.grid }
    }
}

/// A list of lists of file names, as paths.
pub fn picture_files(folder: &Path, lists: &Value) -> Vec<Vec<PathBuf>> {
    let file = |name: &Value| folder.join(name.as_str().expect("a file name"));
    let list = |row: &Value| row.as_array().expect("a list of files").iter().map(file).collect();
    lists.as_array().expect("a list for each prompt").iter().map(list).collect()
}

/// Prompts from their tokens, the number of pictures of each, and all pictures in order.
pub fn prompts(
    tokens: Vec<Vec<u32>>,
    counts: &[usize],
    pictures: Vec<PicturePatches>,
    corrupted: Vec<PicturePatches>,
) -> Vec<Arc<Prompt>> {
    assert_eq!(tokens.len(), counts.len(), "a number of pictures for each prompt");
    let (mut pictures, mut corrupted) = (pictures.into_iter(), corrupted.into_iter());
    let prompts = tokens.into_iter().zip(counts).enumerate().map(|(id, (tokens, &count))| {
        let twins: Vec<PicturePatches> = corrupted.by_ref().take(count).collect();
        let corrupted = if twins.is_empty() { Vec::new() } else { vec![twins] };
        Arc::new(Prompt { id: id as u64, tokens, pictures: pictures.by_ref().take(count).collect(), corrupted })
    });
    let prompts = prompts.collect();
    assert!(pictures.next().is_none(), "a picture belongs to no prompt");
    prompts
}

/// The largest difference seen of numbers that must agree.
#[derive(Debug)]
pub struct Largest {
    pub difference: f32,
    pub count: usize,
}

impl Largest {
    pub fn new() -> Self {
        Self { difference: 0.0, count: 0 }
    }

    /// Compares; fails above the tolerance, and where a number is not finite.
    pub fn check(&mut self, found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}: how many numbers");
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            let difference = (found - expected).abs();
            assert!(difference <= tolerance, "{what}: number {at} is {found}, not {expected}: off by {difference:e}");
            self.difference = self.difference.max(difference);
            self.count += 1;
        }
    }
}
