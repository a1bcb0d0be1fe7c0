//! libm's functions under the names that cubecl's kernels call them by (cubecl-llvm 0.11.3, `nvptx/libdevice.rs`).

#![no_std]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

macro_rules! functions {
    ($($name:ident, $name_f32:ident = $f64:ident, $f32:ident ($($x:ident),+);)+) => {
        $(
            #[unsafe(no_mangle)]
            pub extern "C" fn $name($($x: f64),+) -> f64 {
                libm::$f64($($x),+)
            }

            #[unsafe(no_mangle)]
            pub extern "C" fn $name_f32($($x: f32),+) -> f32 {
                libm::$f32($($x),+)
            }
        )+
    };
}

functions! {
    __nv_sin, __nv_sinf = sin, sinf(x);
    __nv_cos, __nv_cosf = cos, cosf(x);
    __nv_tan, __nv_tanf = tan, tanf(x);
    __nv_asin, __nv_asinf = asin, asinf(x);
    __nv_acos, __nv_acosf = acos, acosf(x);
    __nv_atan, __nv_atanf = atan, atanf(x);
    __nv_atan2, __nv_atan2f = atan2, atan2f(y, x);
    __nv_sinh, __nv_sinhf = sinh, sinhf(x);
    __nv_cosh, __nv_coshf = cosh, coshf(x);
    __nv_tanh, __nv_tanhf = tanh, tanhf(x);
    __nv_exp, __nv_expf = exp, expf(x);
    __nv_exp2, __nv_exp2f = exp2, exp2f(x);
    __nv_exp10, __nv_exp10f = exp10, exp10f(x);
    __nv_log, __nv_logf = log, logf(x);
    __nv_log2, __nv_log2f = log2, log2f(x);
    __nv_log10, __nv_log10f = log10, log10f(x);
    __nv_pow, __nv_powf = pow, powf(x, y);
    __nv_cbrt, __nv_cbrtf = cbrt, cbrtf(x);
    __nv_erf, __nv_erff = erf, erff(x);
}
