//! Counter-based randomness: every draw is a pure function of (seed, purpose, step, prompt, sample, position).
//!
//! There is no generator that is passed along and advanced. Whoever needs numbers names what they are for, so the numbers
//! depend neither on the layout of a batch, nor on the number of threads, nor on what was drawn before. The numbers are
//! those of ChaCha8 (crate `rand_chacha`), keyed by the name.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// What numbers are drawn for; streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// The order in which rows of a data set are visited.
    Order = 1,
    /// Which cells of a picture are masked, and noise on it.
    Corruption = 2,
    /// Tokens of a response during training.
    Sampling = 3,
    /// Tokens of a response during validation and evaluation.
    Evaluation = 4,
    /// Initial weights.
    Initialization = 5,
    /// The synthetic visual task.
    Task = 6,
    /// Initial weights of low-rank adapters.
    Adapter = 7,
    /// How the optimizer's moments are rounded.
    Rounding = 8,
    /// Whose pictures a row is given in place of its own.
    Swap = 9,
    /// What a policy with dropout leaves out while it learns.
    Dropout = 10,
}

/// The name of a stream of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    seed: u64,
    purpose: Purpose,
    step: u64,
    prompt: u64,
    sample: u32,
}

impl Key {
    /// A stream for `purpose` in the run with this `seed`, at step, prompt and sample 0.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        Self { seed, purpose, step: 0, prompt: 0, sample: 0 }
    }

    /// The same stream at another step (or epoch).
    pub fn step(self, step: u64) -> Self {
        Self { step, ..self }
    }

    /// The same stream for another prompt (or row, or tensor).
    pub fn prompt(self, prompt: u64) -> Self {
        Self { prompt, ..self }
    }

    /// The same stream for another sample of a prompt (or picture of a row).
    pub fn sample(self, sample: u32) -> Self {
        Self { sample, ..self }
    }

    /// The stream from its beginning.
    pub fn stream(self) -> Stream {
        let mut seed = [0u8; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8..16].copy_from_slice(&self.step.to_le_bytes());
        seed[16..24].copy_from_slice(&self.prompt.to_le_bytes());
        seed[24..28].copy_from_slice(&self.sample.to_le_bytes());
        seed[28..].copy_from_slice(&(self.purpose as u32).to_le_bytes());
        Stream(ChaCha8Rng::from_seed(seed))
    }

    /// The stream from `position` on, counted in uniform numbers; a normal number takes two.
    pub fn stream_at(self, position: u64) -> Stream {
        let mut stream = self.stream();
        stream.0.set_word_pos(2 * u128::from(position));
        stream
    }

    /// The one uniform number in [0, 1) at `position` (a token) of the stream.
    pub fn uniform_at(self, position: u64) -> f64 {
        self.stream_at(position).uniform()
    }
}

/// A stream of random numbers, read in order.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a number below {bound} was asked for");
        ((u128::from(self.0.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Standard normal (Box-Muller, the cosine branch).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Fisher-Yates, in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_can_be_read_without_those_before_it() {
        let key = Key::new(7, Purpose::Sampling).step(3).prompt(5).sample(2);
        let mut stream = key.stream();
        for position in 0..100 {
            assert_eq!(stream.uniform(), key.uniform_at(position));
        }
        let mut stream = key.stream();
        for number in 0..100 {
            assert_eq!(stream.normal(), key.stream_at(2 * number).normal());
        }
    }

    #[test]
    fn every_part_of_the_name_matters() {
        let key = Key::new(7, Purpose::Sampling).step(3).prompt(5).sample(2);
        let others = [
            key.step(4),
            key.prompt(6),
            key.sample(3),
            Key::new(8, Purpose::Sampling).step(3).prompt(5).sample(2),
            Key::new(7, Purpose::Order).step(3).prompt(5).sample(2),
        ];
        for other in others {
            assert_ne!(key.uniform_at(0), other.uniform_at(0), "{other:?}");
        }
    }

    #[test]
    fn moments_and_permutation() {
        let mut stream = Key::new(1, Purpose::Initialization).stream();
        let draws: Vec<f64> = (0..20_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
        let mut items: Vec<u32> = (0..50).collect();
        stream.shuffle(&mut items);
        let mut sorted = items.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_ne!(items, sorted);
    }
}
