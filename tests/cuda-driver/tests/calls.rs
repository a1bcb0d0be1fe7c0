//! Functions that a kernel calls.

use crate::device::{Run, ptx};
use cuda::Module;

const DISTANCE: &str = ".visible .func (.param .b32 result) distance(.param .b32 first, .param .b32 second)
{
    .reg .pred %p<2>; .reg .b32 %r<9>;
    ld.param.b32 %r1, [first];
    ld.param.b32 %r2, [second];
    sub.s32 %r3, %r1, %r2;
    st.param.b32 [result], %r3;
    setp.lt.s32 %p1, %r1, %r2;
    @%p1 bra SWAP;
    ret;
    SWAP:
    neg.s32 %r3, %r3;
    st.param.b32 [result], %r3;
    ret;
}
";

const CALL: &str = "{
        .param .b32 a; .param .b32 b; .param .b32 back;
        st.param.b32 [a], %r1;
        st.param.b32 [b], 10;
        PREDICATE call.uni (back), distance, (a, b);
        ld.param.b32 %r3, [back];
    }";

fn module(functions: &str, statements: &str) -> String {
    format!("{functions}{}", ptx(statements))
}

/// The names of its registers and labels are the function's own; lanes that return early go on together with the others.
#[test]
fn a_function_is_called_twice() {
    let call = CALL.replace("PREDICATE", "");
    let statements = format!(
        "{call}\nmov.b32 %r4, %r3;\n{call}\nbar.warp.sync -1;\nadd.s32 %r3, %r3, %r4;\nst.global.b32 [%rd4], %r3;"
    );
    let expected: Vec<u32> = (0..32).map(|lane: u32| 2 * lane.abs_diff(10)).collect();
    assert_eq!(Run { ptx: &module(DISTANCE, &statements), ..Run::default() }.words(), expected);
}

#[test]
fn a_call_has_a_predicate() {
    let call = CALL.replace("PREDICATE", "@!%p1");
    let statements =
        format!("setp.gt.u32 %p1, %r1, 15;\n{call}\nselp.b32 %r3, 7, %r3, %p1;\nst.global.b32 [%rd4], %r3;");
    let expected: Vec<u32> = (0..32).map(|lane: u32| if lane > 15 { 7 } else { lane.abs_diff(10) }).collect();
    assert_eq!(Run { ptx: &module(DISTANCE, &statements), ..Run::default() }.words(), expected);
}

#[test]
fn what_a_value_passes_through_cuts_it() {
    let function = ".func (.param .b8 result) low(.param .b32 value)
        { .reg .b32 %r<3>; ld.param.b32 %r1, [value]; st.param.b8 [result], %r1; ret; }\n";
    let statements = "{
            .param .b32 a; .param .b8 back;
            mad.lo.s32 %r2, %r1, 1, 250;
            st.param.b32 [a], %r2;
            call (back), low, (a);
            ld.param.s8 %r3, [back];
        }
        st.global.b32 [%rd4], %r3;";
    let expected: Vec<u32> = (0..32).map(|lane: u32| (lane + 250) as u8 as i8 as i32 as u32).collect();
    assert_eq!(Run { ptx: &module(function, statements), ..Run::default() }.words(), expected);
}

#[test]
fn calls_that_cannot_be_put_in_are_refused() {
    let refused = |functions: &str, statements: &str| {
        Module::parse(&module(functions, statements)).err().expect("it is refused").to_string()
    };
    let itself = ".func again() { call again; ret; }\n";
    assert!(refused(itself, "call again;").contains("again calls itself"));
    let array = ".func many(.param .align 8 .b8 values[16]) { ret; }\n";
    assert!(refused(array, "{ .param .align 8 .b8 a[16]; call many, (a); }").contains("array"));
    assert!(
        refused(".extern .func (.param .b32 r) vprintf(.param .b64 a);\n", "call vprintf;").contains("has no body")
    );
    assert!(refused("", "call %rd1, (), prototype;").contains("named"));
    assert!(refused("", "call nothing;").contains("nothing is no function"));
    let unknown = refused(".func odd()\n{\n frobnicate.b32 1;\n ret;\n}\n", "call odd;");
    assert!(unknown.contains("frobnicate"), "{unknown}");
    assert!(unknown.contains("kernel test, line 3"), "{unknown}");
}
