//! The program `percept`; everything it does stands in `percept-app`.

use std::process::ExitCode;

// Training allocates and frees large buffers all the time; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // Freed pages are kept: a step asks for the same buffers again, and clearing new pages took a fifth of its time. Who is short of memory
    // says otherwise by mimalloc's own variable.
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: an option is set before any other thread runs.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    }
    percept_app::App::default().run()
}
