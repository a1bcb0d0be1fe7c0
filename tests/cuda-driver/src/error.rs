//! What can go wrong between PTX and its results.

use std::error::Error;
use std::fmt;

/// PTX that cannot be run: it names something this driver does not know, or is not PTX.
#[derive(Debug)]
#[non_exhaustive]
pub struct PtxError {
    /// `kernel NAME`, `function NAME in kernel NAME`, or `module`.
    pub place: String,
    /// Counted from 1.
    pub line: usize,
    pub reason: String,
}

impl fmt::Display for PtxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {} of the PTX: {}", self.place, self.line, self.reason)
    }
}

impl Error for PtxError {}

/// Why a kernel cannot go on.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The launch does not fit the kernel.
    Launch { reason: String },
    /// An instruction that the whole warp has to execute together was reached by some of its lanes.
    PartOfWarp { active: u32, live: u32 },
    /// A shuffle reads a lane that does not take part: the value is undefined.
    IdleLane { lane: usize, from: usize },
    /// Only with [`Launch::allowed`](crate::Launch::allowed): no allocation holds all of the bytes.
    OutOfBounds { lane: usize, space: &'static str, address: u64, bytes: usize },
    /// Only with [`Launch::allowed`](crate::Launch::allowed): the address is no multiple of the access's size.
    Misaligned { lane: usize, space: &'static str, address: u64, bytes: usize },
    /// `trap` was executed.
    Trap,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launch { reason } => f.write_str(reason),
            Self::PartOfWarp { active, live } => {
                write!(f, "reached by a part of the warp: lanes {active:08x} of {live:08x}")
            }
            Self::IdleLane { lane, from } => write!(f, "lane {lane} reads lane {from}, which does not take part"),
            Self::OutOfBounds { lane, space, address, bytes } => {
                write!(f, "lane {lane}: {bytes} bytes at {address:#x} of {space} memory lie outside of any allocation")
            }
            Self::Misaligned { lane, space, address, bytes } => {
                write!(f, "lane {lane}: {bytes} bytes at {address:#x} of {space} memory are not aligned")
            }
            Self::Trap => f.write_str("trap"),
        }
    }
}

/// A kernel that failed while running.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failure {
    pub kernel: String,
    /// Line of the PTX and the instruction there, where one is to blame.
    pub instruction: Option<(usize, String)>,
    /// Which block of the grid, `[x, y, z]`.
    pub block: [usize; 3],
    pub fault: Box<Fault>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}", self.kernel)?;
        if let Some((line, text)) = &self.instruction {
            write!(f, ", block {:?}, line {line} of the PTX, `{text}`", self.block)?;
        }
        write!(f, ": {}", self.fault)
    }
}

impl Error for Failure {}
