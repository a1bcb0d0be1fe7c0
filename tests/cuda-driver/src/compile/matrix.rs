//! Matrix instructions of a warp (PTX ISA 8.8, `mma`, `ldmatrix`, `stmatrix`, `wmma`).

use super::memory::space;
use super::opcode::Opcode;
use super::operands::Operands;
use super::operation::{Fragment, Matrix, Operation};
use crate::parse::Slot;
use crate::types::Type::{self, *};

pub(super) fn compile(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Operation, String> {
    opcode.ignore(&["sync", "aligned"]);
    let matrix = match opcode.name() {
        "mma" => multiply(opcode, operands),
        "wmma" if opcode.has("mma") => fragment_multiply(opcode, operands),
        "wmma" => fragment(opcode, operands),
        _ => tiles(opcode, operands),
    };
    Ok(Operation::Matrix(Box::new(matrix?)))
}

/// `m16n8k16` as `[16, 8, 16]`.
fn shape(opcode: &Opcode<'_>) -> Result<[usize; 3], String> {
    let read = |part: &str| {
        let (m, rest) = part.strip_prefix('m')?.split_once('n')?;
        let (n, k) = rest.split_once('k')?;
        Some([m.parse().ok()?, n.parse().ok()?, k.parse().ok()?])
    };
    opcode.find(|part| read(part).is_some()).and_then(read).ok_or_else(|| "no shape".to_owned())
}

/// `mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32`
fn multiply(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Matrix, String> {
    let ([m, n, k], types) = (shape(opcode)?, opcode.types());
    let layout = opcode.has("row") && opcode.has("col");
    let kind = match (types[..].try_into().unwrap_or([Pred; 4]), m, n, k) {
        ([F32, a @ (BF16 | F16), b, F32], 16, 8, 8 | 16) if a == b && layout => a,
        ([F32, TF32, TF32, F32], 16, 8, 4 | 8) if layout => TF32,
        _ => return Err("no such product of matrices".to_owned()),
    };
    let per_register = 4 / kind.bytes();
    let four = |at| -> Result<[Slot; 4], String> {
        operands.fragment(at, 4)?.try_into().map_err(|_| "four registers were expected".to_owned())
    };
    let (d, c) = (four(0)?, four(3)?);
    let a = operands.fragment(1, m * k / 32 / per_register)?;
    let b = operands.fragment(2, k * n / 32 / per_register)?;
    Ok(Matrix::Multiply { k, kind, d, a, b, c })
}

/// `ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16`, and `stmatrix`.
fn tiles(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Matrix, String> {
    let count = match opcode.one_of(&["x1", "x2", "x4"]) {
        Some("x1") => 1,
        Some("x2") => 2,
        Some(_) => 4,
        None => return Err("no number of matrices".to_owned()),
    };
    operands.expect(2)?;
    if !opcode.has("m8n8") || opcode.last_type()? != B16 {
        return Err("only matrices of 8 x 8 numbers of 16 bits are known".to_owned());
    }
    let (space, transposed) = (space(opcode), opcode.has("trans"));
    Ok(match opcode.name() {
        "ldmatrix" => Matrix::Load { to: operands.fragment(0, count)?, at: operands.address(1, space)?, transposed },
        _ => Matrix::Store { from: operands.fragment(1, count)?, at: operands.address(0, space)?, transposed },
    })
}

/// Registers of a fragment of so many elements. Those of f16 and bf16 hold each element of `a` and `b` twice over.
fn fits(slots: usize, elements: usize, kind: Type) -> bool {
    let held = slots * 32 * 4 / kind.bytes();
    held == elements || (kind.bytes() == 2 && held == 2 * elements)
}

/// `wmma.load.a.sync.aligned.row.m16n16k16.shared.bf16`, and `wmma.store.d`.
fn fragment(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Matrix, String> {
    let ([m, n, k], kind) = (shape(opcode)?, opcode.last_type()?);
    let is_load = match opcode.one_of(&["load", "store"]) {
        Some(name) => name == "load",
        None => return Err("no such instruction".to_owned()),
    };
    let (rows, columns) = match opcode.one_of(&["a", "b", "c", "d"]) {
        Some("a") => (m, k),
        Some("b") => (k, n),
        Some(_) => (m, n),
        None => return Err("no matrix is named".to_owned()),
    };
    let by_rows = match opcode.one_of(&["row", "col"]) {
        Some(layout) => layout == "row",
        None => return Err("no layout".to_owned()),
    };
    let (at, slots) = if is_load { (1, 0) } else { (0, 1) };
    let (at, slots) = (operands.address(at, space(opcode))?, operands.slots(slots)?);
    if !matches!(kind, F32 | TF32 | F16 | BF16) || !fits(slots.len(), rows * columns, kind) {
        return Err(format!("no such fragment: {} registers of {kind:?}", slots.len()));
    }
    let fragment = Fragment { slots, at, stride: operands.optional_slot(2)?, rows, columns, by_rows, kind };
    Ok(if is_load { Matrix::FragmentLoad(fragment) } else { Matrix::FragmentStore(fragment) })
}

/// `wmma.mma.sync.aligned.row.col.m16n16k16.f32.bf16.bf16.f32`; of f16 only `d` and `c` are named.
fn fragment_multiply(opcode: &Opcode<'_>, operands: Operands<'_>) -> Result<Matrix, String> {
    let [m, n, k] = shape(opcode)?;
    // fragments hold their elements in one order, whatever the layout in memory was
    opcode.ignore(&["row", "col"]);
    let (d_kind, a_kind, c_kind) = match opcode.types()[..] {
        [d, a @ (BF16 | TF32), b, c] if a == b => (d, a, c),
        [d, c] => (d, F16, c),
        _ => return Err("no such product of matrices".to_owned()),
    };
    let slots = |at| operands.slots(at);
    let (d, a, b, c) = (slots(0)?, slots(1)?, slots(2)?, slots(3)?);
    let whole = fits(a.len(), m * k, a_kind) && fits(b.len(), k * n, a_kind);
    let sums = [(&d, d_kind), (&c, c_kind)];
    let sums = sums.iter().all(|(slots, kind)| matches!(kind, F32 | F16) && fits(slots.len(), m * n, *kind));
    if !whole || !sums {
        return Err("no such product of matrices".to_owned());
    }
    Ok(Matrix::FragmentMultiply { m, n, k, a_kind, c_kind, d_kind, d, a, b, c })
}
