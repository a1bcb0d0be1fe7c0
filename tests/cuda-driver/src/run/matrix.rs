//! Matrix instructions of a warp. Sums are made in f32, one product after the other; the hardware's own order is not known.

use super::LANES;
use super::fused::add_product;
use super::memory::{Spaces, read, write};
use super::warp::{Outcome, Warp};
use crate::compile::{Address, Fragment, Matrix};
use crate::numbers::{BFloat16, Float16, TF32, Word};
use crate::parse::Slot;
use crate::types::Type;

impl Warp {
    pub(super) fn matrix(&mut self, matrix: &Matrix, mask: u32, spaces: &Spaces<'_>) -> Outcome {
        // undefined, but the hardware goes on, and cubecl stores fragments with one lane where it measures throughput
        if !matches!(matrix, Matrix::FragmentStore(_)) {
            self.whole(mask)?;
        }
        match matrix {
            Matrix::Multiply { k, kind, d, a, b, c } => self.multiply(*k, *kind, *d, a, b, *c),
            Matrix::Load { to, at, transposed } => return self.load_tiles(to, at, *transposed, spaces),
            Matrix::Store { from, at, transposed } => return self.store_tiles(from, at, *transposed, spaces),
            Matrix::FragmentLoad(fragment) => return self.load_fragment(fragment, spaces),
            Matrix::FragmentStore(fragment) => return self.store_fragment(fragment, spaces),
            Matrix::FragmentMultiply { m, n, k, a_kind, c_kind, d_kind, d, a, b, c } => {
                let (a, b) = (self.elements(a, *a_kind, m * k), self.elements(b, *a_kind, k * n));
                let mut sums = self.elements(c, *c_kind, m * n);
                add_product(&mut sums, &a, &b, *n);
                self.set_elements(d, *d_kind, &sums);
            }
        }
        Ok(())
    }

    /// `mma.m16n8k4`, `k8`, `k16` (PTX ISA 8.8, the figures of each fragment's layout under "Matrix Fragments for mma").
    fn multiply(&mut self, k: usize, kind: Type, d: [Slot; 4], a: &[Slot], b: &[Slot], c: [Slot; 4]) {
        const N: usize = 8;
        // [16, k] and [k, 8]
        let (mut left, mut right) = ([0f32; 16 * 16], [0f32; 16 * N]);
        for lane in 0..LANES {
            let (group, member) = (lane / 4, lane % 4);
            for (i, slot) in a.iter().enumerate() {
                let (value, row) = (self.get(*slot, lane), group + 8 * (i % 2));
                if kind == Type::TF32 {
                    left[row * k + member + 4 * (i / 2)] = element(value, kind);
                } else {
                    left[row * k + 2 * member + 8 * (i / 2)] = element(value, kind);
                    left[row * k + 2 * member + 8 * (i / 2) + 1] = element(value >> 16, kind);
                }
            }
            for (i, slot) in b.iter().enumerate() {
                let value = self.get(*slot, lane);
                if kind == Type::TF32 {
                    right[(member + 4 * i) * N + group] = element(value, kind);
                } else {
                    right[(2 * member + 8 * i) * N + group] = element(value, kind);
                    right[(2 * member + 8 * i + 1) * N + group] = element(value >> 16, kind);
                }
            }
        }
        let place = |lane: usize, i: usize| (lane / 4 + 8 * (i / 2)) * N + 2 * (lane % 4) + i % 2;
        let mut sums = [0f32; 16 * N];
        for lane in 0..LANES {
            for (i, slot) in c.iter().enumerate() {
                sums[place(lane, i)] = f32::of(self.get(*slot, lane));
            }
        }
        add_product(&mut sums, &left[..16 * k], &right[..k * N], N);
        for lane in 0..LANES {
            for (i, slot) in d.iter().enumerate() {
                self.set(*slot, lane, sums[place(lane, i)].bits());
            }
        }
    }

    /// Where the 8 rows of each tile begin; the lanes say so, 8 for each tile.
    fn rows(&self, tiles: usize, at: &Address, spaces: &Spaces<'_>) -> Result<[*mut u8; LANES], Box<crate::Fault>> {
        self.check(at, 16, 16, u32::MAX >> (LANES - 8 * tiles), spaces)?;
        Ok(std::array::from_fn(|lane| self.pointer(at, lane, spaces)))
    }

    /// `ldmatrix`: a lane gets two elements of each tile of 8 x 8.
    fn load_tiles(&mut self, to: &[Slot], at: &Address, transposed: bool, spaces: &Spaces<'_>) -> Outcome {
        let rows = self.rows(to.len(), at, spaces)?;
        for (rows, slot) in rows.chunks_exact(8).zip(to) {
            for lane in 0..LANES {
                let [first, second] = places(lane, transposed).map(|(row, column)| {
                    // SAFETY: whoever launches the kernel says that it may access this.
                    unsafe { read(rows[row].add(2 * column), 2) }
                });
                self.set(*slot, lane, first | second << 16);
            }
        }
        Ok(())
    }

    /// `stmatrix`
    fn store_tiles(&mut self, from: &[Slot], at: &Address, transposed: bool, spaces: &Spaces<'_>) -> Outcome {
        let rows = self.rows(from.len(), at, spaces)?;
        for (rows, slot) in rows.chunks_exact(8).zip(from) {
            for lane in 0..LANES {
                let value = self.get(*slot, lane);
                for ((row, column), value) in places(lane, transposed).into_iter().zip([value, value >> 16]) {
                    // SAFETY: whoever launches the kernel says that it may access this.
                    unsafe { write(rows[row].add(2 * column), 2, value) };
                }
            }
        }
        Ok(())
    }

    /// Where a fragment begins in memory, and elements from one of its rows, or columns, to the next.
    fn place(&self, fragment: &Fragment, spaces: &Spaces<'_>) -> Result<(*mut u8, usize), Box<crate::Fault>> {
        let Fragment { at, rows, columns, by_rows, kind, .. } = fragment;
        let (lines, length) = if *by_rows { (*rows, *columns) } else { (*columns, *rows) };
        let stride = fragment.stride.map_or(length, |slot| self.get(slot, 0) as u32 as usize);
        self.check(at, ((lines - 1) * stride + length) * kind.bytes(), kind.bytes(), 1, spaces)?;
        Ok((self.pointer(at, 0, spaces), stride))
    }

    /// `wmma.load`. How elements are spread among lanes is not specified (PTX ISA 8.8, "Matrix Fragments for WMMA"): here one after
    /// the other, by rows.
    fn load_fragment(&mut self, fragment: &Fragment, spaces: &Spaces<'_>) -> Outcome {
        let (from, stride) = self.place(fragment, spaces)?;
        let Fragment { slots, rows, columns, kind, .. } = fragment;
        let size = kind.bytes();
        let per_register = 4 / size;
        for lane in 0..LANES {
            for (i, slot) in slots.iter().enumerate() {
                let mut value = 0;
                for half in 0..per_register {
                    // fragments that have room for twice as many elements hold them twice
                    let number = ((lane * slots.len() + i) * per_register + half) % (rows * columns);
                    let at = fragment.offset(number, stride) * size;
                    // SAFETY: whoever launches the kernel says that it may access this.
                    value |= unsafe { read(from.add(at), size) } << (16 * half);
                }
                self.set(*slot, lane, value);
            }
        }
        Ok(())
    }

    /// `wmma.store`
    fn store_fragment(&mut self, fragment: &Fragment, spaces: &Spaces<'_>) -> Outcome {
        let (to, stride) = self.place(fragment, spaces)?;
        let Fragment { slots, rows, columns, kind, .. } = fragment;
        let size = kind.bytes();
        let per_register = 4 / size;
        for lane in 0..LANES {
            for (i, slot) in slots.iter().enumerate() {
                for half in 0..per_register {
                    let number = (lane * slots.len() + i) * per_register + half;
                    if number < rows * columns {
                        let at = fragment.offset(number, stride) * size;
                        // SAFETY: whoever launches the kernel says that it may access this.
                        unsafe { write(to.add(at), size, self.get(*slot, lane) >> (16 * half)) };
                    }
                }
            }
        }
        Ok(())
    }

    /// The first elements that registers hold as a fragment.
    fn elements(&self, slots: &[Slot], kind: Type, count: usize) -> Vec<f32> {
        let per_register = 4 / kind.bytes();
        let each = slots.len() * per_register;
        let held = (0..count).map(|number| (number / each, number % each));
        held.map(|(lane, i)| element(self.get(slots[i / per_register], lane) >> (16 * (i % per_register)), kind))
            .collect()
    }

    /// Gives registers the elements of a fragment.
    fn set_elements(&mut self, slots: &[Slot], kind: Type, elements: &[f32]) {
        let per_register = 4 / kind.bytes();
        for lane in 0..LANES {
            for (i, slot) in slots.iter().enumerate() {
                let mut value = 0;
                for half in 0..per_register {
                    let number = ((lane * slots.len() + i) * per_register + half) % elements.len();
                    value |= bits(elements[number], kind) << (16 * half);
                }
                self.set(*slot, lane, value);
            }
        }
    }
}

impl Fragment {
    /// Where an element is in memory, counted in elements; its number counts them by rows.
    fn offset(&self, number: usize, stride: usize) -> usize {
        let (row, column) = (number / self.columns, number % self.columns);
        if self.by_rows { row * stride + column } else { column * stride + row }
    }
}

/// Row and column of the two elements that a lane has of a tile of 8 x 8 (PTX ISA 8.8, `ldmatrix`).
fn places(lane: usize, transposed: bool) -> [(usize, usize); 2] {
    let (line, place) = (lane / 4, 2 * (lane % 4));
    [place, place + 1].map(|place| if transposed { (place, line) } else { (line, place) })
}

/// The value of an element in a register's lowest bits.
fn element(bits: u64, kind: Type) -> f32 {
    match kind {
        Type::F32 => f32::of(bits),
        Type::TF32 => f32::from_bits(bits as u32 & TF32),
        Type::BF16 => BFloat16::of(bits).0,
        _ => Float16::of(bits).0,
    }
}

/// An element as a register holds it.
fn bits(value: f32, kind: Type) -> u64 {
    match kind {
        Type::F32 => value.bits(),
        _ => Float16(value).bits(),
    }
}
