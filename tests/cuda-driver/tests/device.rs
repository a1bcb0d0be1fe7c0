//! How the tests run PTX.

use cuda::{Allocations, Failure, Launch, Module};

/// A kernel `test(input, output)` of these statements. It finds the addresses in `%rd1` and `%rd2`, those moved on by 4 bytes for each
/// thread in `%rd3` and `%rd4`, and the thread's number in `%r1`; registers up to 99 are free.
pub fn ptx(statements: &str) -> String {
    format!(
        ".version 8.8
.target sm_90a
.address_size 64
.visible .entry test(.param .u64 .ptr .global .align 4 input, .param .u64 .ptr .global .align 4 output)
{{
    .reg .pred %p<100>; .reg .b16 %h<100>; .reg .b32 %r<100>; .reg .b64 %rd<100>;
    ld.param.b64 %rd1, [input];
    ld.param.b64 %rd2, [output];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd5, %r1, 4;
    add.s64 %rd3, %rd1, %rd5;
    add.s64 %rd4, %rd2, %rd5;
    {statements}
    ret;
}}
"
    )
}

/// A launch of a kernel with memory before and behind it.
pub struct Run<'t> {
    pub ptx: &'t str,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: usize,
    pub input: &'t [u32],
    /// What the output begins with.
    pub before: &'t [u32],
    /// Words that the kernel may write; those it does not, and that nothing was in before, are `u32::MAX`.
    pub outputs: usize,
    pub check: bool,
}

impl Default for Run<'_> {
    fn default() -> Self {
        let (grid, block, before) = ([1; 3], [32, 1, 1], &[]);
        Self { ptx: "", grid, block, shared_bytes: 0, input: &[0], before, outputs: 32, check: true }
    }
}

impl Run<'_> {
    /// What the kernel has written, or why it failed.
    pub fn result(&self) -> Result<Vec<u32>, Failure> {
        let module = Module::parse(self.ptx).unwrap_or_else(|error| panic!("{error}"));
        let kernel = module.kernel("test").expect("the module has the kernel");
        let memory = Allocations::new();
        let input = memory.allocate(4 * self.input.len(), 255).expect("memory");
        let output = memory.allocate(4 * self.outputs, 255).expect("memory");
        // SAFETY: just allocated, and as long.
        unsafe {
            (input as *mut u32).copy_from_nonoverlapping(self.input.as_ptr(), self.input.len());
            (output as *mut u32).copy_from_nonoverlapping(self.before.as_ptr(), self.before.len().min(self.outputs));
        }
        let regions = memory.regions().and(module.variables());
        let launch = Launch {
            grid: self.grid,
            block: self.block,
            shared_bytes: self.shared_bytes,
            arguments: kernel.arguments(&[&input.to_le_bytes(), &output.to_le_bytes()]),
            threads: 2,
            fill: 255,
            allowed: self.check.then_some(&regions),
        };
        // SAFETY: the arguments are what the kernel takes, and accesses are checked.
        unsafe { kernel.launch(&launch) }?;
        // SAFETY: allocated with so many words.
        let written = unsafe { std::slice::from_raw_parts(output as *const u32, self.outputs) }.to_vec();
        assert!(memory.free(input) && memory.free(output));
        Ok(written)
    }

    /// What the kernel has written.
    pub fn words(&self) -> Vec<u32> {
        self.result().unwrap_or_else(|failure| panic!("{failure}"))
    }
}

/// What one warp makes of these statements: each lane a word of `input` in `%r2`, and its result in `%r3`.
pub fn each_lane(statements: &str, input: &[u32]) -> Vec<u32> {
    let mut words = [0; 32];
    words[..input.len()].copy_from_slice(input);
    let text = ptx(&format!("ld.global.b32 %r2, [%rd3];\n{statements}\nst.global.b32 [%rd4], %r3;"));
    let mut results = Run { ptx: &text, input: &words, ..Run::default() }.words();
    results.truncate(input.len());
    results
}
