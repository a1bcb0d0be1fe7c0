//! What lanes learn of each other: shuffles, votes, reductions.

use crate::device::{Run, each_lane, ptx};
use cuda::Fault;

/// Each lane's value is 100 more than its number.
fn shuffled(kind: &str, by: &str, clamp: u32) -> Vec<u32> {
    let text = format!("add.s32 %r4, %r1, 100;\nshfl.sync.{kind}.b32 %r3, %r4, {by}, {clamp}, -1;");
    each_lane(&text, &[0; 32])
}

fn lanes(f: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..32).map(|lane| 100 + f(lane)).collect()
}

#[test]
fn shuffles_of_each_kind() {
    assert_eq!(shuffled("bfly", "5", 31), lanes(|lane| lane ^ 5));
    assert_eq!(shuffled("up", "3", 0), lanes(|lane| if lane < 3 { lane } else { lane - 3 }));
    assert_eq!(shuffled("down", "3", 31), lanes(|lane| if lane > 28 { lane } else { lane + 3 }));
    assert_eq!(shuffled("idx", "7", 31), lanes(|_| 7));
    assert_eq!(shuffled("idx", "%r1", 31), lanes(|lane| lane));
}

/// Segments of 8 lanes: the mask 24 is in bits 8 to 12.
#[test]
fn shuffles_stay_in_their_segment() {
    let segments = 24 << 8;
    assert_eq!(shuffled("idx", "2", segments | 7), lanes(|lane| lane / 8 * 8 + 2));
    assert_eq!(shuffled("down", "1", segments | 7), lanes(|lane| if lane % 8 == 7 { lane } else { lane + 1 }));
    assert_eq!(shuffled("up", "1", segments), lanes(|lane| if lane.is_multiple_of(8) { lane } else { lane - 1 }));
}

#[test]
fn a_shuffle_says_whether_it_was_in_range() {
    let text = "shfl.sync.down.b32 %r4|%p1, %r1, 4, 31, -1;\nselp.b32 %r3, 1, 0, %p1;";
    assert_eq!(each_lane(text, &[0; 32]), (0..32).map(|lane| (lane < 28) as u32).collect::<Vec<_>>());
}

#[test]
fn a_shuffle_from_a_lane_that_takes_no_part_fails() {
    let text = ptx("setp.lt.u32 %p1, %r1, 16;\n@%p1 shfl.sync.bfly.b32 %r3, %r1, 16, 31, -1;");
    let failure = Run { ptx: &text, ..Run::default() }.result().expect_err("lane 16 is idle");
    assert_eq!(*failure.fault, Fault::IdleLane { lane: 0, from: 16 });
}

#[test]
fn votes_of_each_kind() {
    let vote = |kind: &str, limit: u32| {
        let text = format!(
            "setp.lt.u32 %p1, %r1, {limit};
            vote.sync.{kind}.pred %p2, %p1, -1;
            selp.b32 %r3, 1, 0, %p2;"
        );
        let found = each_lane(&text, &[0; 32]);
        assert_eq!(found, [found[0]; 32]);
        found[0]
    };
    let kinds = ["all", "any", "uni"];
    assert_eq!(kinds.map(|kind| vote(kind, 0)), [0, 0, 1]);
    assert_eq!(kinds.map(|kind| vote(kind, 5)), [0, 1, 0]);
    assert_eq!(kinds.map(|kind| vote(kind, 32)), [1, 1, 1]);
    let ballot = "setp.lt.u32 %p1, %r1, 5;\nvote.sync.ballot.b32 %r3, %p1, -1;";
    assert_eq!(each_lane(ballot, &[0; 32]), [31; 32]);
}

#[test]
fn reductions_and_elections() {
    let input: Vec<u32> = (0..32).map(|lane: u32| (lane * 11 % 32).wrapping_sub(16)).collect();
    let reduced = |kind: &str| each_lane(&format!("redux.sync.{kind} %r3, %r2, -1;"), &input)[31];
    assert_eq!(reduced("add.s32"), input.iter().fold(0u32, |sum, value| sum.wrapping_add(*value)));
    assert_eq!(reduced("min.s32"), input.iter().map(|value| *value as i32).min().expect("some") as u32);
    assert_eq!(reduced("max.u32"), *input.iter().max().expect("some"));
    assert_eq!(reduced("xor.b32"), input.iter().fold(0, |all, value| all ^ value));
    let elected = "mov.b32 %r3, 0;
        setp.gt.u32 %p1, %r1, 2;
        @%p1 elect.sync %r4|%p2, -1;
        and.pred %p2, %p2, %p1;
        selp.b32 %r3, %r4, 77, %p2;";
    let expected: Vec<u32> = (0..32).map(|lane| if lane == 3 { 3 } else { 77 }).collect();
    assert_eq!(each_lane(elected, &[0; 32]), expected);
}
