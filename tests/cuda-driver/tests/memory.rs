//! Loads and stores of each kind, and accesses that go astray.

use crate::device::{Run, each_lane, ptx};
use cuda::Fault;

#[test]
fn loads_fill_a_register_by_their_type() {
    let text = ptx("ld.global.s8 %r2, [%rd1+1];
        ld.global.b8 %r3, [%rd1+1];
        ld.global.s16 %r4, [%rd1];
        ld.global.b16 %h1, [%rd1];
        cvt.u32.u16 %r5, %h1;
        ld.global.s32 %rd6, [%rd1+4];
        mov.b64 {_, %r6}, %rd6;
        st.global.v4.b32 [%rd2], {%r2, %r3, %r4, %r5};
        st.global.b32 [%rd2+16], %r6;
        st.global.b8 [%rd2+20], %r2;
        ld.global.v2.b32 {_, %r7}, [%rd1];
        st.global.b32 [%rd2+24], %r7;");
    let run = Run { ptx: &text, block: [1; 3], input: &[0x0000_9180, 0x8000_0000], outputs: 8, ..Run::default() };
    let expected = [0xffff_ff91, 0x91, 0xffff_9180, 0x9180, u32::MAX, 0xffff_ff91, 0x8000_0000, u32::MAX];
    assert_eq!(run.words(), expected);
}

/// Global and shared memory by their generic addresses, local memory, a variable of the module, a parameter by its address.
#[test]
fn memory_of_each_space() {
    let text = ptx("{
            .reg .b32 %r<3>;
            mov.b32 %r1, 12345;
        }
        .local .align 4 .b8 own[8];
        .shared .align 4 .b8 common[4];
        mov.b64 %rd6, own;
        cvta.local.u64 %rd7, %rd6;
        st.b32 [%rd7+4], %r1;
        ld.local.b32 %r2, [%rd6+4];
        mov.b32 %r4, common;
        cvt.u64.u32 %rd8, %r4;
        cvta.shared.u64 %rd9, %rd8;
        setp.eq.b32 %p1, %r1, 31;
        @%p1 st.b32 [%rd9], 1000;
        cvta.to.shared.u64 %rd10, %rd9;
        ld.shared.b32 %r5, [%rd10];
        ld.global.b32 %r6, [table+4];
        mov.b64 %rd11, output;
        ld.param.b64 %rd12, [%rd11];
        add.s64 %rd12, %rd12, %rd5;
        add.s32 %r2, %r2, %r5;
        add.s32 %r2, %r2, %r6;
        st.b32 [%rd12], %r2;");
    let text = format!(".global .align 4 .b8 table[8] = {{1, 2, 3, 4, 16, 39, 0, 0}};\n{text}");
    assert_eq!(Run { ptx: &text, ..Run::default() }.words(), (0..32).map(|lane| lane + 11_000).collect::<Vec<u32>>());
}

/// `cp.async` fills with zeros what the source is too short for, and reads nothing of a source of no bytes.
#[test]
fn copies_into_shared_memory_are_padded() {
    let text = ".shared .align 16 .b8 tile[512];
        shl.b32 %r4, %r1, 4;
        mov.b32 %r5, tile;
        add.s32 %r5, %r5, %r4;
        shr.u32 %r6, %r1, 1;
        min.u32 %r6, %r6, 8;
        setp.eq.b32 %p1, %r6, 0;
        mov.b64 %rd6, 0;
        selp.b64 %rd7, %rd6, %rd1, %p1;
        cp.async.ca.shared.global [%r5], [%rd7], 8, %r6;
        cp.async.commit_group;
        cp.async.wait_group 0;
        ld.shared.v2.b32 {%r7, %r8}, [%r5];
        add.s32 %r3, %r7, %r8;";
    let found = each_lane(text, &[0x0403_0201, 0x1008_0402].repeat(16));
    let sum = |bytes: u32| {
        let all = 0x1008_0402_0403_0201u64;
        let kept = if bytes == 8 { all } else { all & ((1 << (8 * bytes)) - 1) };
        (kept as u32).wrapping_add((kept >> 32) as u32)
    };
    assert_eq!(found, (0..32).map(|lane: u32| sum((lane / 2).min(8))).collect::<Vec<_>>());
}

/// The last thread reads, or writes, behind what there is; with one thread fewer all stay within.
#[test]
fn an_access_out_of_bounds_is_found() {
    for (access, space, threads) in [
        ("ld.global.b32 %r2, [%rd4+4]", "global", 32),
        ("st.global.b32 [%rd4+4], %r1", "global", 32),
        ("ld.b32 %r2, [%rd4+4]", "global", 32),
        ("red.global.add.u32 [%rd4+4], 1", "global", 32),
        ("ld.local.b32 %r2, [%rd5]", "local", 3),
        ("st.shared.b32 [%rd5+1000], %r1", "shared", 7),
    ] {
        let text = ptx(&format!(".local .align 4 .b8 own[8]; .shared .align 4 .b8 common[1024];\n{access};"));
        let run = |threads| Run { ptx: &text, block: [threads, 1, 1], ..Run::default() }.result();
        assert!(run(threads - 1).is_ok(), "{access}");
        let failure = run(threads).expect_err(access);
        let Fault::OutOfBounds { space: found, lane, bytes: 4, .. } = *failure.fault else { panic!("{failure}") };
        assert_eq!((found, lane), (space, threads as usize - 1));
        let message = failure.to_string();
        assert!(message.contains("kernel test") && message.contains(access), "{message}");
    }
}

#[test]
fn an_access_that_is_not_aligned_is_found() {
    for (access, bytes) in [("ld.global.v2.b32 {%r2, %r3}, [%rd2+4];", 8), ("st.global.b16 [%rd2+1], %h1;", 2)] {
        let failure = Run { ptx: &ptx(access), ..Run::default() }.result().expect_err(access);
        assert!(
            matches!(*failure.fault, Fault::Misaligned { lane: 0, bytes: found, .. } if found == bytes),
            "{failure}"
        );
        assert!(Run { ptx: &ptx(access), check: false, ..Run::default() }.result().is_ok(), "{access}");
    }
}
