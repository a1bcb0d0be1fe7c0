//! What is not known is refused by name.

use crate::device::{Run, ptx};
use cuda::{Fault, Module};

/// The message about a kernel with this statement in line 13.
fn refused(statement: &str) -> String {
    let text = ptx(statement);
    Module::parse(&text).err().unwrap_or_else(|| panic!("{statement} is refused")).to_string()
}

#[test]
fn an_instruction_that_is_not_known_is_refused_by_name() {
    for statement in [
        "frobnicate.b32 %r1, %r1;",
        "add.u8 %r2, %r2, %r2;",
        "mbarrier.init.shared.b64 [%rd1], 1;",
        "wgmma.fence.sync.aligned;",
        "cp.async.bulk.commit_group;",
        "bar.sync 1;",
        "bar.sync 0, 64;",
        "setp.odd.b32 %p1, %r1, %r1;",
        "cvt.rz.bf16.f32 %h1, %r1;",
        "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%r1}, {%r1}, {%r1}, {%r1};",
        "mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%r1}, {%r1}, {%r1}, {%r1};",
        "ld.global.v2.b32 %r1, [%rd1];",
    ] {
        let message = refused(statement);
        let named = statement.trim_end_matches(';');
        assert!(message.contains("kernel test, line 13 ") && message.contains(named), "{message}");
    }
}

/// Each of these is an instruction with a modifier that changes its result.
#[test]
fn a_modifier_that_is_not_known_is_refused_by_name() {
    for (statement, modifier) in [
        ("add.sat.s32 %r2, %r2, %r2;", ".sat"),
        ("mul.ftz.f32 %r2, %r2, %r2;", ".ftz"),
        ("add.rz.f32 %r2, %r2, %r2;", ".rz"),
        ("fma.rn.relu.bf16x2 %r2, %r2, %r2, %r2;", ".relu"),
        ("add.cc.u32 %r2, %r2, %r2;", ".cc"),
        ("max.xorsign.f32 %r2, %r2, %r2;", ".xorsign"),
        ("ld.shared::cluster.b32 %r2, [%r1];", ".shared::cluster"),
    ] {
        let message = refused(statement);
        assert!(message.contains(&format!("the modifier {modifier} ")), "{message}");
    }
}

#[test]
fn names_and_directives_that_are_not_known_are_refused() {
    assert!(refused("mov.u32 %r2, %clock;").contains("nothing is called `%clock`"));
    assert!(refused("add.s32 %r2, %r100, 1;").contains("`%r100`"));
    assert!(refused("bra NOWHERE;").contains("no label NOWHERE"));
    assert!(refused("@%p200 bra NOWHERE;").contains("no predicate %p200"));
    assert!(refused(".branchtargets A, B;").contains(".branchtargets"));
    let text = ptx("ret;").replace(")\n{", ")\n.reqnctapercluster 2\n{");
    assert!(Module::parse(&text).err().expect("clusters").to_string().contains(".reqnctapercluster"));
    let text = format!("{}\n.tex .u32 image;", ptx("ret;"));
    let message = Module::parse(&text).err().expect("textures").to_string();
    assert!(message.starts_with("module, line 17 ") && message.contains(".tex .u32 image"), "{message}");
}

/// A register that a brace encloses is not known behind it, and one that it hides is known again.
#[test]
fn names_end_with_their_braces() {
    assert!(refused("{ .reg .b32 %inner; }\nmov.b32 %inner, 1;").contains("`%inner`"));
    let text = ptx("mov.b32 %r2, 3;\n{ .reg .b32 %r2; mov.b32 %r2, 4; }\nst.global.b32 [%rd2], %r2;");
    assert_eq!(Run { ptx: &text, outputs: 1, ..Run::default() }.words(), [3]);
}

#[test]
fn a_launch_that_the_kernel_does_not_allow_fails() {
    let text = ptx("st.global.b32 [%rd4], 1;").replace(")\n{", ")\n.reqntid 16, 2, 1\n{");
    let run = |block| Run { ptx: &text, block, ..Run::default() }.result();
    assert!(run([16, 2, 1]).is_ok());
    for block in [[32, 1, 1], [16, 2, 2]] {
        let failure = run(block).expect_err("another block size");
        assert!(matches!(*failure.fault, Fault::Launch { .. }), "{failure}");
    }
    let too_large = Run { ptx: &ptx(""), block: [1025, 1, 1], ..Run::default() }.result();
    assert!(too_large.expect_err("too many threads").to_string().contains("1025"));
}
