//! Responses of a micro-batch as padded rows, as objectives see them.

use crate::batch::{CollectedGroup, Slice, ViewNumbers};
use burn::tensor::{Device, Tensor, TensorData};
use percept_core::Scores;
use std::ops::Range;

/// Responses of a micro-batch as padded rows.
pub(super) struct Rows<'a> {
    groups: &'a [&'a CollectedGroup],
    pub(super) rows: Vec<(usize, usize)>,
    pub(super) tokens: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(groups: &'a [&'a CollectedGroup], slices: &[Slice]) -> Self {
        let all = |slice: &Slice| -> Vec<(usize, usize)> {
            let responses: Range<usize> = slice.responses.clone();
            responses.map(|response| (slice.group, response)).collect()
        };
        let rows: Vec<(usize, usize)> = slices.iter().flat_map(all).collect();
        let length = |&(group, response): &(usize, usize)| groups[group].group.responses[response].tokens.len();
        let tokens = rows.iter().map(length).max().unwrap_or(0);
        Self { groups, rows, tokens }
    }

    /// Each row's length, or 0 for rows of groups that are not shown.
    pub(super) fn lengths(&self, shown: impl Fn(usize) -> bool) -> Vec<usize> {
        let length = |&(group, response): &(usize, usize)| {
            if shown(group) { self.groups[group].group.responses[response].tokens.len() } else { 0 }
        };
        self.rows.iter().map(length).collect()
    }

    fn tensor(&self, device: &Device, fill: impl Fn(usize, usize, &mut [f32])) -> Tensor<2> {
        let mut values = vec![0f32; self.rows.len() * self.tokens];
        for (row, &(group, response)) in values.chunks_exact_mut(self.tokens).zip(&self.rows) {
            fill(group, response, row);
        }
        Tensor::from_data(TensorData::new(values, [self.rows.len(), self.tokens]), device)
    }

    pub(super) fn mask(&self, device: &Device) -> Tensor<2> {
        self.tensor(device, |group, response, row| {
            row[..self.groups[group].group.responses[response].tokens.len()].fill(1.0);
        })
    }

    pub(super) fn padded(&self, device: &Device, numbers: impl Fn(usize, usize) -> &'a [f32]) -> Tensor<2> {
        self.tensor(device, |group, response, row| {
            let numbers = numbers(group, response);
            row[..numbers.len()].copy_from_slice(numbers);
        })
    }

    /// Numbers of a view; zeros where the group has none, which may be all groups.
    pub(super) fn constant(
        &self,
        device: &Device,
        entropy: bool,
        view: impl Fn(usize) -> Option<&'a ViewNumbers>,
    ) -> Scores {
        let log_probs = self.padded(device, |group, response| view(group).map_or(&[][..], |v| &v.log_probs[response]));
        let entropies = |group: usize, response: usize| -> &'a [f32] {
            view(group).and_then(|v| v.entropies.as_ref()).map_or(&[][..], |entropies| &entropies[response])
        };
        Scores { log_probs, entropy: entropy.then(|| self.padded(device, entropies)) }
    }
}
