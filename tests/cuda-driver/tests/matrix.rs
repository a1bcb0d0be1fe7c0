//! Matrix instructions against plain products.

use crate::device::{Run, ptx};

/// Rows of words of each lane: register `i` of lane `l` is `words[l * registers + i]`.
fn registers(count: usize, word: impl Fn(usize, usize) -> u32) -> Vec<u32> {
    (0..32).flat_map(|lane| (0..count).map(move |i| (lane, i))).map(|(lane, i)| word(lane, i)).collect()
}

/// Two halves of 16 bits in a word, the first lower.
fn pair(first: u16, second: u16) -> u32 {
    (second as u32) << 16 | first as u32
}

/// What `mma` of one warp gives, `[16, 8]`, from registers of `a`, `b` and `c` one lane after the other.
fn multiplied(name: &str, a: (usize, Vec<u32>), b: (usize, Vec<u32>), c: &[f32]) -> Vec<f32> {
    let list = |first: usize, count: usize| {
        let names: Vec<String> = (first..first + count).map(|i| format!("%r{i}")).collect();
        names.join(", ")
    };
    let load = |first: usize, count: usize, at: usize| {
        let one = |i: usize| format!("ld.global.b32 %r{}, [%rd6+{}];\n", first + i, 4 * i);
        let loads: String = (0..count).map(one).collect();
        format!("mad.lo.s32 %r2, %r1, {}, {at};\ncvt.u64.u32 %rd6, %r2;\nadd.s64 %rd6, %rd6, %rd1;\n{loads}", 4 * count)
    };
    let text = ptx(&format!(
        "{}{}{}mma.sync.aligned.{name} {{{}}}, {{{}}}, {{{}}}, {{{}}};
        mul.wide.u32 %rd6, %r1, 16;
        add.s64 %rd6, %rd6, %rd2;
        st.global.v4.b32 [%rd6], {{{}}};",
        load(10, a.0, 0),
        load(20, b.0, 4 * a.1.len()),
        load(30, 4, 4 * (a.1.len() + b.1.len())),
        list(40, 4),
        list(10, a.0),
        list(20, b.0),
        list(30, 4),
        list(40, 4),
    ));
    let c = registers(4, |lane, i| c[place(lane, i)].to_bits());
    let input = [a.1, b.1, c].concat();
    let words = Run { ptx: &text, input: &input, outputs: 128, ..Run::default() }.words();
    let mut result = vec![f32::NAN; 128];
    for (at, word) in words.iter().enumerate() {
        result[place(at / 4, at % 4)] = f32::from_bits(*word);
    }
    result
}

/// Where register `i` of `c` and `d` is in `[16, 8]` (PTX ISA 8.8, figure of `mma.m16n8k16`'s accumulator).
fn place(lane: usize, i: usize) -> usize {
    let row = if i < 2 { lane / 4 } else { lane / 4 + 8 };
    row * 8 + (lane % 4) * 2 + (i & 1)
}

/// `a b + c` of `[16, k]`, `[k, 8]`, `[16, 8]`.
fn product(k: usize, a: &[f32], b: &[f32], c: &[f32]) -> Vec<f32> {
    let sum = |row: usize, column: usize| (0..k).map(|i| a[row * k + i] * b[i * 8 + column]).sum::<f32>();
    (0..128).map(|at| c[at] + sum(at / 8, at % 8)).collect()
}

/// Numbers that are all different, and whose products and sums have no fraction that is rounded.
fn numbers(count: usize, first: f32) -> Vec<f32> {
    (0..count).map(|i| first + i as f32).collect()
}

#[test]
fn mma_of_bf16_and_f16_is_the_plain_product() {
    let (a, b, c) = (numbers(256, 0.0), numbers(128, -60.0), numbers(128, 1000.0));
    for (kind, bits) in [("bf16", cuda::bf16_bits as fn(f32) -> u16), ("f16", cuda::f16_bits)] {
        // rows: registers 0 and 2 the group's, 1 and 3 eight below; columns: from register 2 on eight to the right
        let a_registers = registers(4, |lane, i| {
            let (row, column) = (lane / 4 + 8 * (i & 1), (lane % 4) * 2 + 8 * (i >> 1));
            pair(bits(a[row * 16 + column]), bits(a[row * 16 + column + 1]))
        });
        let b_registers = registers(2, |lane, i| {
            let (row, column) = ((lane % 4) * 2 + 8 * i, lane / 4);
            pair(bits(b[row * 8 + column]), bits(b[(row + 1) * 8 + column]))
        });
        let name = format!("m16n8k16.row.col.f32.{kind}.{kind}.f32");
        assert_eq!(multiplied(&name, (4, a_registers), (2, b_registers), &c), product(16, &a, &b, &c), "{kind}");
    }
}

#[test]
fn mma_of_bf16_with_8_columns_is_the_plain_product() {
    let (a, b, c) = (numbers(128, 0.0), numbers(64, -30.0), numbers(128, 1000.0));
    let bits = cuda::bf16_bits;
    let a_registers = registers(2, |lane, i| {
        let (row, column) = (lane / 4 + 8 * i, (lane % 4) * 2);
        pair(bits(a[row * 8 + column]), bits(a[row * 8 + column + 1]))
    });
    let b_registers = registers(1, |lane, _| {
        let (row, column) = ((lane % 4) * 2, lane / 4);
        pair(bits(b[row * 8 + column]), bits(b[(row + 1) * 8 + column]))
    });
    let found = multiplied("m16n8k8.row.col.f32.bf16.bf16.f32", (2, a_registers), (1, b_registers), &c);
    assert_eq!(found, product(8, &a, &b, &c));
}

/// The lowest 13 bits are not read.
#[test]
fn mma_of_tf32_is_the_plain_product() {
    for k in [4, 8] {
        let (a, b, c) = (numbers(16 * k, 1.0), numbers(8 * k, -30.0), numbers(128, 1000.0));
        let noise = 0x1fff;
        let a_registers =
            registers(k / 2, |lane, i| a[(lane / 4 + 8 * (i & 1)) * k + lane % 4 + 4 * (i >> 1)].to_bits() | noise);
        let b_registers = registers(k / 4, |lane, i| b[(lane % 4 + 4 * i) * 8 + lane / 4].to_bits() | noise);
        let name = format!("m16n8k{k}.row.col.f32.tf32.tf32.f32");
        let found = multiplied(&name, (k / 2, a_registers), (k / 4, b_registers), &c);
        assert_eq!(found, product(k, &a, &b, &c), "k = {k}");
    }
}

/// Four tiles of 8 x 8 numbers of 16 bits lie in shared memory by rows of 16 bytes, the rows in an order of their own; number
/// `64 t + 8 r + c` is that of tile `t`, row `r`, column `c`.
fn tiles(count: usize, trans: &str) -> Vec<u32> {
    let list: Vec<String> = (10..10 + count).map(|i| format!("%r{i}")).collect();
    let list = list.join(", ");
    let stores: String = (0..count).map(|i| format!("st.global.b32 [%rd4+{}], %r{};\n", 128 * i, 10 + i)).collect();
    let text = ptx(&format!(
        ".shared .align 16 .b8 tiles[512];
        mul.wide.u32 %rd6, %r1, 16;
        add.s64 %rd6, %rd6, %rd1;
        ld.global.v4.b32 {{%r2, %r3, %r4, %r5}}, [%rd6];
        xor.b32 %r6, %r1, 5;
        shl.b32 %r6, %r6, 4;
        mov.b32 %r7, tiles;
        add.s32 %r7, %r7, %r6;
        st.shared.v4.b32 [%r7], {{%r2, %r3, %r4, %r5}};
        bar.warp.sync -1;
        ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{list}}}, [%r7];
        {stores}"
    ));
    let input: Vec<u32> = (0..128).map(|i| pair(2 * i, 2 * i + 1)).collect();
    Run { ptx: &text, input: &input, outputs: 32 * count, ..Run::default() }.words()
}

#[test]
fn ldmatrix_gives_each_lane_its_part_of_a_row_or_column() {
    for count in [1, 2, 4] {
        let number = |tile: usize, row: usize, column: usize| (64 * tile + 8 * row + column) as u16;
        let places = || (0..count).flat_map(|tile| (0..32).map(move |lane| (tile, lane / 4, 2 * (lane % 4))));
        let rows = places().map(|(tile, line, at)| pair(number(tile, line, at), number(tile, line, at + 1)));
        assert_eq!(tiles(count, ""), rows.collect::<Vec<_>>(), "x{count}");
        let columns = places().map(|(tile, line, at)| pair(number(tile, at, line), number(tile, at + 1, line)));
        assert_eq!(tiles(count, ".trans"), columns.collect::<Vec<_>>(), "x{count}.trans");
    }
}

/// What `stmatrix` writes is what `ldmatrix` read; with `.trans` on one side only, the transpose.
#[test]
fn stmatrix_is_the_other_way_round() {
    let stored = |load: &str, store: &str| {
        let text = ptx(&format!(
            ".shared .align 16 .b8 tile[128];
            mov.b32 %r7, tile;
            shl.b32 %r6, %r1, 2;
            add.s32 %r6, %r6, %r7;
            ld.global.b32 %r2, [%rd3];
            st.shared.b32 [%r6], %r2;
            and.b32 %r8, %r1, 7;
            shl.b32 %r8, %r8, 4;
            add.s32 %r8, %r8, %r7;
            ldmatrix.sync.aligned.m8n8.x1{load}.shared.b16 {{%r3}}, [%r8];
            stmatrix.sync.aligned.m8n8.x1{store}.shared.b16 [%r8], {{%r3}};
            ld.shared.b32 %r4, [%r6];
            st.global.b32 [%rd4], %r4;"
        ));
        let input: Vec<u32> = (0..32).map(|i| pair(2 * i, 2 * i + 1)).collect();
        Run { ptx: &text, input: &input, ..Run::default() }.words()
    };
    let by_rows: Vec<u32> = (0..32).map(|i| pair(2 * i, 2 * i + 1)).collect();
    let by_columns: Vec<u32> = (0..32u16).map(|i| pair(i / 4 + 16 * (i % 4), i / 4 + 16 * (i % 4) + 8)).collect();
    assert_eq!([stored("", ""), stored(".trans", ".trans")], [by_rows.clone(), by_rows]);
    assert_eq!([stored(".trans", ""), stored("", ".trans")], [by_columns.clone(), by_columns]);
}

/// `a [16, 16]`, `b [16, 16]` and `c [16, 16]` in rows or columns of 20 elements, and the product stored by rows or columns.
fn wmma(layouts: [&str; 4]) -> Vec<f32> {
    let [a, b, c, d] = layouts;
    let text = ptx(&format!(
        "add.s64 %rd6, %rd1, 640;
        add.s64 %rd7, %rd1, 1280;
        wmma.load.a.sync.aligned.{a}.m16n16k16.global.bf16 {{%r10, %r11, %r12, %r13, %r14, %r15, %r16, %r17}}, [%rd1], 20;
        wmma.load.b.sync.aligned.{b}.m16n16k16.global.bf16 {{%r20, %r21, %r22, %r23, %r24, %r25, %r26, %r27}}, [%rd6], 20;
        wmma.load.c.sync.aligned.{c}.m16n16k16.global.f32 {{%r30, %r31, %r32, %r33, %r34, %r35, %r36, %r37}}, [%rd7], 20;
        wmma.mma.sync.aligned.{a}.{b}.m16n16k16.f32.bf16.bf16.f32
            {{%r40, %r41, %r42, %r43, %r44, %r45, %r46, %r47}},
            {{%r10, %r11, %r12, %r13, %r14, %r15, %r16, %r17}},
            {{%r20, %r21, %r22, %r23, %r24, %r25, %r26, %r27}},
            {{%r30, %r31, %r32, %r33, %r34, %r35, %r36, %r37}};
        wmma.store.d.sync.aligned.{d}.m16n16k16.global.f32 [%rd2], {{%r40, %r41, %r42, %r43, %r44, %r45, %r46, %r47}}, 20;"
    ));
    let lines = |layout: &str, value: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
        let value = |at: usize| match (at / 20, at % 20, layout) {
            (_, 16.., _) => f32::NAN,
            (line, place, "row") => value(line, place),
            (line, place, _) => value(place, line),
        };
        (0..320).map(value).collect()
    };
    let halves = |values: Vec<f32>| -> Vec<u32> {
        values.chunks_exact(2).map(|both| pair(cuda::bf16_bits(both[0]), cuda::bf16_bits(both[1]))).collect()
    };
    let (a, b) = (halves(lines(a, &|row, i| left(row, i))), halves(lines(b, &|i, column| right(i, column))));
    let c = lines(c, &|row, column| added(row, column)).into_iter().map(f32::to_bits).collect();
    let words = Run { ptx: &text, input: &[a, b, c].concat(), outputs: 320, ..Run::default() }.words();
    let at = |row: usize, column: usize| if d == "row" { row * 20 + column } else { column * 20 + row };
    // what lies between the lines is not touched
    assert!(words.chunks_exact(20).all(|line| line[16..] == [u32::MAX; 4]), "{layouts:?}");
    (0..256).map(|i| f32::from_bits(words[at(i / 16, i % 16)])).collect()
}

fn left(row: usize, i: usize) -> f32 {
    (16 * row + i) as f32
}

fn right(i: usize, column: usize) -> f32 {
    (16 * i + column) as f32 - 128.0
}

fn added(row: usize, column: usize) -> f32 {
    (16 * row + column) as f32 + 1000.0
}

#[test]
fn wmma_in_all_layouts_is_the_plain_product() {
    let sum = |row: usize, column: usize| (0..16).map(|i| left(row, i) * right(i, column)).sum::<f32>();
    let expected: Vec<f32> = (0..256).map(|i| added(i / 16, i % 16) + sum(i / 16, i % 16)).collect();
    let names = ["row", "col"];
    for layouts in (0..16).map(|i| [names[i & 1], names[i >> 1 & 1], names[i >> 2 & 1], names[i >> 3]]) {
        assert_eq!(wmma(layouts), expected, "{layouts:?}");
    }
}

/// `a [16, 8]` of tf32 through registers and back, from rows into columns; a matrix instruction needs the whole warp.
#[test]
fn wmma_goes_through_registers_and_back() {
    let registers = "{%r10, %r11, %r12, %r13, %r14, %r15, %r16, %r17}";
    for (load, store) in [("row", "row"), ("row", "col"), ("col", "row"), ("col", "col")] {
        let text = ptx(&format!(
            "wmma.load.c.sync.aligned.{load}.m16n16k8.global.f32 {registers}, [%rd1], 16;
            wmma.store.d.sync.aligned.{store}.m16n16k8.global.f32 [%rd2], {registers}, 16;"
        ));
        let input: Vec<u32> = (0..256).collect();
        let turned = |i: u32| if load == store { i } else { i % 16 * 16 + i / 16 };
        let found = Run { ptx: &text, input: &input, outputs: 256, ..Run::default() }.words();
        assert_eq!(found, (0..256).map(turned).collect::<Vec<_>>(), "{load} to {store}");
    }
    let text = ptx(&format!(
        "setp.lt.u32 %p1, %r1, 16;\n@%p1 wmma.load.c.sync.aligned.row.m16n16k8.global.f32 {registers}, [%rd1], 16;"
    ));
    assert!(Run { ptx: &text, input: &[0; 256], ..Run::default() }.result().is_err());
}
