//! What a warp executes.

use crate::parse::Slot;
use crate::types::Type;

/// A lane's result from one, two, three registers.
pub(crate) type One = fn(u64) -> u64;
pub(crate) type Two = fn(u64, u64) -> u64;
pub(crate) type Three = fn(u64, u64, u64) -> u64;

/// An operation, and the lanes that execute it: those whose predicate is so.
pub(crate) struct Step {
    /// The predicate, and whether it has to be false.
    pub(crate) predicate: Option<(Slot, bool)>,
    pub(crate) operation: Operation,
}

/// A kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// Also generic addresses: all memory has an address of the process.
    Global,
    Shared,
    Local,
    Parameter,
}

/// An address that each lane computes: `base + offset`, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) base: Option<Slot>,
    pub(crate) offset: i64,
    pub(crate) space: Space,
}

/// One operation. Results come first, as in PTX.
pub(crate) enum Operation {
    Move(Slot, Slot),
    One(One, Slot, Slot),
    Two(Two, Slot, Slot, Slot),
    Three(Three, Slot, Slot, Slot, Slot),
    /// The commonest four, so that the compiler makes vectors of them.
    FmaF32(Slot, Slot, Slot, Slot),
    FmaF64(Slot, Slot, Slot, Slot),
    Add32(Slot, Slot, Slot),
    Add64(Slot, Slot, Slot),
    /// Parts of so many bits into one register, the first lowest.
    Pack(Slot, Vec<Slot>, u32),
    Unpack(Vec<Option<Slot>>, Slot, u32),
    /// Values of `size` bytes each, one behind the other.
    Load {
        to: Vec<Option<Slot>>,
        size: usize,
        signed: bool,
        at: Address,
    },
    Store {
        from: Vec<Slot>,
        size: usize,
        at: Address,
    },
    /// The address that all spaces have in common, from one of a space.
    ToGeneric(Slot, Slot, Space),
    ToSpace(Slot, Slot, Space),
    /// To the instruction of this number.
    Branch(u32),
    /// Lanes that are done.
    Return,
    Trap,
    /// All warps of a block wait for each other.
    Barrier,
    WarpBarrier,
    /// What orders memory accesses, or is a hint: accesses happen in order here.
    Nothing,
    Exchange(Box<Exchange>),
    Atomic {
        change: Atomic,
        to: Option<Slot>,
        at: Address,
        a: Slot,
        b: Option<Slot>,
    },
    CopyAsync(Box<Copy>),
    Matrix(Box<Matrix>),
}

/// `size` bytes from global into shared memory; zeros in place of those beyond the register `source`.
pub(crate) struct Copy {
    pub(crate) to: Address,
    pub(crate) from: Address,
    pub(crate) size: usize,
    pub(crate) source: Option<Slot>,
}

/// Which lane a shuffle reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// What a vote asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    All,
    Any,
    Ballot,
    Uniform,
}

/// What lanes learn of each other.
pub(crate) enum Exchange {
    Shuffle {
        kind: Shuffle,
        to: Slot,
        in_range: Option<Slot>,
        value: Slot,
        lane: Slot,
        clamp: Slot,
    },
    Vote {
        kind: Vote,
        to: Slot,
        from: Slot,
    },
    Reduce {
        step: Two,
        to: Slot,
        from: Slot,
    },
    /// One of the lanes, the same for all.
    Elect {
        to: Option<Slot>,
        is_elected: Slot,
    },
    Active(Slot),
}

/// What an atomic operation makes of what is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Atomic {
    Add(Type),
    Smaller(Type),
    Larger(Type),
    And32,
    Or32,
    Xor32,
    Exchange32,
    Exchange64,
    CompareExchange32,
    CompareExchange64,
}

impl Atomic {
    /// Bytes that it changes.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Add(kind) | Self::Smaller(kind) | Self::Larger(kind) => kind.bytes(),
            Self::Exchange64 | Self::CompareExchange64 => 8,
            _ => 4,
        }
    }
}

/// A matrix that a warp's registers hold together, and where it is in memory.
#[derive(Clone, Debug)]
pub(crate) struct Fragment {
    pub(crate) slots: Vec<Slot>,
    pub(crate) at: Address,
    /// Elements from one row, or column, to the next.
    pub(crate) stride: Option<Slot>,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Whether a row's elements lie beside each other, or a column's.
    pub(crate) by_rows: bool,
    pub(crate) kind: Type,
}

/// What a whole warp does with matrices. Shapes are `a [m, k]`, `b [k, n]`, `c` and `d [m, n]`.
pub(crate) enum Matrix {
    /// `mma`: `m` is 16 and `n` is 8; `c` and `d` are f32.
    Multiply {
        k: usize,
        kind: Type,
        d: [Slot; 4],
        a: Vec<Slot>,
        b: Vec<Slot>,
        c: [Slot; 4],
    },
    Load {
        to: Vec<Slot>,
        at: Address,
        transposed: bool,
    },
    Store {
        from: Vec<Slot>,
        at: Address,
        transposed: bool,
    },
    FragmentLoad(Fragment),
    FragmentStore(Fragment),
    FragmentMultiply {
        m: usize,
        n: usize,
        k: usize,
        a_kind: Type,
        c_kind: Type,
        d_kind: Type,
        d: Vec<Slot>,
        a: Vec<Slot>,
        b: Vec<Slot>,
        c: Vec<Slot>,
    },
}
