//! What is read of a kernel: its instructions, and what its registers begin with.

/// A register of a warp: where its 32 lanes lie.
pub(crate) type Slot = u32;

/// An operand with its names resolved.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    /// A register.
    Register(Slot),
    /// A number, and the register that holds it.
    Constant(Slot, u64),
    /// `{a, b}`
    Vector(Vec<Operand>),
    /// `a|b`
    Pair(Box<Operand>, Box<Operand>),
    /// `_`
    Nothing,
    /// `[base + offset]`
    Address { base: Option<Slot>, offset: i64 },
    /// An offset into the kernel's parameters.
    Parameter(i64),
    /// A parameter or result of a function that was put in here: a register.
    Passed(Slot),
    /// The number of the instruction that a label stands at.
    Label(u32),
}

/// One instruction as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    /// The predicate, and whether it has to be false.
    pub(crate) predicate: Option<(Slot, bool)>,
    /// The name and its modifiers: `add.s32`.
    pub(crate) name: String,
    pub(crate) operands: Vec<Operand>,
    pub(crate) text: String,
    /// Line of the PTX, from 1.
    pub(crate) line: usize,
}

/// A register that tells a lane who it is; those of three dimensions with the axis.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Special {
    Thread(usize),
    Block(usize),
    BlockSize(usize),
    GridSize(usize),
    Lane,
    Warp,
    LanesBelow,
}

/// A parameter's place among the arguments, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

/// A kernel as it was read.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) parameter_bytes: usize,
    /// The block size that `.reqntid` demands.
    pub(crate) required_block: Option<[u32; 3]>,
    /// How many registers there are.
    pub(crate) slots: usize,
    /// Registers that hold a number throughout.
    pub(crate) constants: Vec<(Slot, u64)>,
    pub(crate) specials: Vec<(Slot, Special)>,
    /// Registers that hold the address of a parameter, by its offset.
    pub(crate) parameter_addresses: Vec<(Slot, usize)>,
    /// Bytes of shared memory with names of their own; what the launch adds lies behind.
    pub(crate) static_shared: usize,
    /// Bytes of local memory of each lane.
    pub(crate) local: usize,
    pub(crate) instructions: Vec<Instruction>,
}
