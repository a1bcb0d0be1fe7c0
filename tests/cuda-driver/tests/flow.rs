//! Lanes that part, meet again, and return.

use crate::device::{Run, ptx};
use cuda::Fault;

/// Lane `i` goes round `i` times, through one of two ways each time. The barrier behind the loop fails unless all have met.
#[test]
fn lanes_part_in_a_loop_and_meet_behind_it() {
    let text = ptx("mov.b32 %r2, 0;
        mov.b32 %r3, 0;
        LOOP:
        setp.ge.u32 %p1, %r2, %r1;
        @%p1 bra DONE;
        and.b32 %r4, %r2, 1;
        setp.eq.b32 %p2, %r4, 0;
        @%p2 bra EVEN;
        add.s32 %r3, %r3, 100;
        bra.uni NEXT;
        EVEN:
        add.s32 %r3, %r3, 1;
        NEXT:
        add.s32 %r2, %r2, 1;
        bra.uni LOOP;
        DONE:
        bar.warp.sync -1;
        st.global.b32 [%rd4], %r3;");
    let expected: Vec<u32> = (0..32).map(|lane: u32| lane.div_ceil(2) + 100 * (lane / 2)).collect();
    assert_eq!(Run { ptx: &text, ..Run::default() }.words(), expected);
}

/// The two ways of a branch are one after the other, and each knows only its own lanes.
#[test]
fn a_branch_shows_only_its_own_lanes() {
    let text = ptx("setp.lt.u32 %p1, %r1, 12;
        @%p1 bra FEW;
        activemask.b32 %r3;
        bra.uni JOIN;
        FEW:
        activemask.b32 %r3;
        JOIN:
        activemask.b32 %r4;
        and.b32 %r3, %r3, %r4;
        st.global.b32 [%rd4], %r3;");
    let expected: Vec<u32> = (0..32).map(|lane| if lane < 12 { 0xfff } else { 0xffff_f000 }).collect();
    assert_eq!(Run { ptx: &text, ..Run::default() }.words(), expected);
}

#[test]
fn lanes_that_return_by_their_predicate_do_nothing_more() {
    let text = ptx("and.b32 %r2, %r1, 1;
        setp.eq.b32 %p1, %r2, 1;
        @%p1 ret;
        bar.warp.sync -1;
        setp.gt.u32 %p2, %r1, 20;
        @%p2 exit;
        bar.sync 0;
        st.global.b32 [%rd4], %r1;");
    let stays = |lane: u32| if lane.is_multiple_of(2) && lane <= 20 { lane } else { u32::MAX };
    assert_eq!(Run { ptx: &text, ..Run::default() }.words(), (0..32).map(stays).collect::<Vec<_>>());
}

/// The kernel, the instruction and its line are named.
#[test]
fn a_barrier_that_part_of_a_warp_reaches_fails() {
    for barrier in ["bar.sync 0", "bar.warp.sync -1"] {
        let text = ptx(&format!("setp.lt.u32 %p1, %r1, 3;\n@%p1 {barrier};"));
        let failure = Run { ptx: &text, ..Run::default() }.result().expect_err("lanes 0 to 2 alone wait");
        assert_eq!(*failure.fault, Fault::PartOfWarp { active: 7, live: u32::MAX });
        let message = failure.to_string();
        assert!(
            message.contains("kernel test") && message.contains(barrier) && message.contains("line 14"),
            "{message}"
        );
    }
}

#[test]
fn a_trap_fails_and_one_that_nobody_reaches_does_not() {
    let run = |predicate| {
        let text = ptx(&format!("setp.gt.u32 %p1, %r1, 30;\n@{predicate} trap;\nst.global.b32 [%rd4], 1;"));
        Run { ptx: &text, block: [31, 1, 1], ..Run::default() }.result()
    };
    assert_eq!(*run("!%p1").expect_err("all lanes").fault, Fault::Trap);
    assert_eq!(run("%p1").expect("no lane")[..31], [1; 31]);
}
