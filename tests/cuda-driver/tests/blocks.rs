//! Blocks: barriers, shared memory, atomics between them.

use crate::device::{Run, ptx};

/// A tree over 4 warps: without barriers a warp would read what another has not written yet.
#[test]
fn a_block_sums_over_its_threads_in_shared_memory() {
    let text = ptx(".shared .align 4 .b8 sums[512];
        ld.global.b32 %r2, [%rd3];
        mov.b32 %r3, sums;
        shl.b32 %r4, %r1, 2;
        add.s32 %r3, %r3, %r4;
        st.shared.b32 [%r3], %r2;
        mov.b32 %r5, 64;
        LOOP:
        bar.sync 0;
        setp.ge.u32 %p1, %r1, %r5;
        @%p1 bra SKIP;
        shl.b32 %r6, %r5, 2;
        add.s32 %r6, %r6, %r3;
        ld.shared.b32 %r7, [%r6];
        ld.shared.b32 %r8, [%r3];
        add.s32 %r8, %r8, %r7;
        st.shared.b32 [%r3], %r8;
        SKIP:
        shr.u32 %r5, %r5, 1;
        setp.ne.b32 %p2, %r5, 0;
        @%p2 bra LOOP;
        bar.sync 0;
        ld.shared.b32 %r9, [sums];
        st.global.b32 [%rd4], %r9;");
    let input: Vec<u32> = (0..128).map(|i| i * i + 7).collect();
    let run = Run { ptx: &text, block: [128, 1, 1], input: &input, outputs: 128, ..Run::default() };
    assert_eq!(run.words(), [input.iter().sum::<u32>(); 128]);
}

/// What one block leaves in shared memory the next one does not see; memory with a name and memory that the launch adds do not overlap.
#[test]
fn shared_memory_begins_filled_and_in_two_parts() {
    let text = format!(
        ".extern .shared .align 16 .b8 dynamic[];\n{}",
        ptx(".shared .align 4 .b8 named[128];
        mov.u32 %r2, %ctaid.x;
        mul.wide.u32 %rd6, %r2, 12;
        add.s64 %rd6, %rd2, %rd6;
        ld.shared.b32 %r3, [named];
        mov.b32 %r4, dynamic;
        st.shared.b32 [%r4+60], 5;
        st.shared.b32 [named+124], 6;
        ld.shared.b32 %r5, [%r4+60];
        st.shared.b32 [named], 4;
        st.global.b32 [%rd6], %r3;
        st.global.b32 [%rd6+4], %r5;
        mov.b32 %r6, named;
        setp.ge.u32 %p1, %r4, 128;
        selp.b32 %r6, 1, 0, %p1;
        st.global.b32 [%rd6+8], %r6;")
    );
    let run = Run { ptx: &text, grid: [8, 1, 1], shared_bytes: 64, outputs: 24, ..Run::default() };
    assert_eq!(run.words(), [u32::MAX, 5, 1].repeat(8));
}

/// 3 x 2 x 2 blocks of 5 x 3 x 2 threads, each of which writes where it is.
#[test]
fn threads_know_where_they_are() {
    let text = ptx("mov.u32 %r2, %tid.y;
        mov.u32 %r3, %tid.z;
        mov.u32 %r4, %ntid.x;
        mov.u32 %r5, %ntid.y;
        mad.lo.s32 %r6, %r3, %r5, %r2;
        mad.lo.s32 %r6, %r6, %r4, %r1;
        mov.u32 %r7, %ctaid.x;
        mov.u32 %r8, %ctaid.y;
        mov.u32 %r9, %ctaid.z;
        mov.u32 %r10, %nctaid.x;
        mov.u32 %r11, %nctaid.y;
        mad.lo.s32 %r12, %r9, %r11, %r8;
        mad.lo.s32 %r12, %r12, %r10, %r7;
        mad.lo.s32 %r13, %r12, 30, %r6;
        mul.wide.u32 %rd6, %r13, 4;
        add.s64 %rd6, %rd2, %rd6;
        mad.lo.s32 %r14, %r7, 1000, %r1;
        mad.lo.s32 %r14, %r8, 100000, %r14;
        mad.lo.s32 %r14, %r2, 10, %r14;
        st.global.b32 [%rd6], %r14;");
    let words = Run { ptx: &text, grid: [3, 2, 2], block: [5, 3, 2], outputs: 360, ..Run::default() }.words();
    let expected = (0..12).flat_map(|block| (0..30).map(move |thread| (block, thread))).map(|(block, thread)| {
        let (block_x, block_y, x, y) = (block % 3, block / 3 % 2, thread % 5, thread / 5 % 3);
        block_x * 1000 + block_y * 100_000 + x + 10 * y
    });
    assert_eq!(words, expected.collect::<Vec<u32>>());
}

/// 64 blocks of 64 threads on two threads of the process: none of the additions may be lost.
#[test]
fn atomics_of_many_blocks_lose_nothing() {
    let text = ptx("mov.u32 %r2, %ctaid.x;
        mad.lo.s32 %r3, %r2, 64, %r1;
        red.global.add.u32 [%rd2], 1;
        atom.global.add.f32 %r4, [%rd2+4], 0f3F800000;
        atom.global.max.s32 %r4, [%rd2+8], %r3;
        red.global.min.u32 [%rd2+12], %r3;
        atom.global.or.b32 _, [%rd2+16], %r3;
        atom.global.max.u32 %r4, [%rd2+20], %r3;
        mov.b64 %rd6, 3;
        red.global.add.u64 [%rd2+24], %rd6;
        red.global.add.noftz.bf16x2 [%rd2+32], 0x40003F80;
        RETRY:
        ld.global.b32 %r5, [%rd2+36];
        add.s32 %r6, %r5, 2;
        atom.global.cas.b32 %r7, [%rd2+36], %r5, %r6;
        setp.ne.b32 %p1, %r7, %r5;
        @%p1 bra RETRY;");
    let before = [0, 0, 0, u32::MAX, 0, 0, u32::MAX, 0, 0, 0];
    let run = Run { ptx: &text, grid: [64, 1, 1], block: [64, 1, 1], before: &before, outputs: 10, ..Run::default() };
    let (words, total) = (run.words(), 64 * 64);
    assert_eq!(words[..6], [total, (total as f32).to_bits(), total - 1, 0, total - 1, total - 1]);
    assert_eq!(
        (words[7] as u64) << 32 | words[6] as u64,
        u32::MAX as u64 + 3 * total as u64,
        "a carry into the upper half"
    );
    // 1 and 2 are added until they are half of the last place of 256 and 512: ties go to even
    assert_eq!(words[8], 0x4400_4380);
    assert_eq!(words[9], 2 * total, "by comparing and exchanging");
}
