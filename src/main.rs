//! The program `percept`; everything it does stands in `percept-app`.

use std::process::ExitCode;

// Training allocates and frees large buffers all the time; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    percept_app::App::default().run()
}
