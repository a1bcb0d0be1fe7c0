//! Modules, their kernels, and how one is launched.

use super::block::Block;
use crate::compile::{Step, compile};
use crate::error::{Failure, Fault, PtxError};
use crate::flow::meetings;
use crate::memory::Regions;
use crate::parse::{Listing, listings};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A module of PTX, ready to run.
pub struct Module {
    kernels: HashMap<String, Kernel>,
    /// What the module's variables hold; kernels have the addresses.
    variables: Vec<Vec<u128>>,
}

impl Module {
    /// Reads a module.
    ///
    /// # Errors
    /// Names the kernel and the line of the first thing in it that this driver does not know.
    pub fn parse(text: &str) -> Result<Self, PtxError> {
        let (listings, variables) = listings(text)?;
        let kernels = listings.into_iter().map(|listing| Ok((listing.name.clone(), Kernel::new(listing)?)));
        Ok(Self { kernels: kernels.collect::<Result<_, _>>()?, variables })
    }

    /// The kernel of this name.
    pub fn kernel(&self, name: &str) -> Option<&Kernel> {
        self.kernels.get(name)
    }

    /// Address and bytes of each of the module's variables, which its kernels may access.
    pub fn variables(&self) -> impl Iterator<Item = (u64, usize)> {
        self.variables.iter().map(|variable| (variable.as_ptr() as u64, size_of_val(&variable[..])))
    }
}

/// A kernel, ready to run.
pub struct Kernel {
    pub(super) listing: Listing,
    pub(super) code: Vec<Step>,
    /// For each instruction the one where lanes that part there meet again.
    pub(super) meetings: Vec<u32>,
}

/// How a kernel is launched.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// Blocks, `[x, y, z]`.
    pub grid: [u32; 3],
    /// Threads of a block, `[x, y, z]`.
    pub block: [u32; 3],
    /// Bytes of shared memory beside those with names of their own.
    pub shared_bytes: usize,
    /// The parameters as [`Kernel::arguments`] lays them out.
    pub arguments: Vec<u8>,
    /// Threads of the process that run blocks.
    pub threads: usize,
    /// The byte that each block's shared memory begins with.
    pub fill: u8,
    /// Memory that may be accessed, beside a block's own; nothing where accesses are not checked.
    pub allowed: Option<&'a Regions>,
}

impl Kernel {
    fn new(listing: Listing) -> Result<Self, PtxError> {
        let code = compile(&listing)?;
        let meetings = meetings(&code);
        Ok(Self { listing, code, meetings })
    }

    /// Its name in the PTX.
    pub fn name(&self) -> &str {
        &self.listing.name
    }

    /// Bytes of each parameter.
    pub fn parameter_bytes(&self) -> impl Iterator<Item = usize> {
        self.listing.parameters.iter().map(|parameter| parameter.bytes)
    }

    /// Lays out values of the parameters.
    ///
    /// # Panics
    /// When there are more or fewer values than parameters, or one is not as long as its parameter.
    pub fn arguments(&self, values: &[&[u8]]) -> Vec<u8> {
        assert_eq!(values.len(), self.listing.parameters.len(), "arguments of {}", self.listing.name);
        let mut bytes = vec![0; self.listing.parameter_bytes];
        for (parameter, value) in self.listing.parameters.iter().zip(values) {
            bytes[parameter.offset..parameter.offset + parameter.bytes].copy_from_slice(value);
        }
        bytes
    }

    /// Runs all blocks, and returns when they are done: how many bytes of global memory their lanes loaded and stored, but for atomic
    /// operations and fragments of matrices.
    ///
    /// # Safety
    /// Addresses among the arguments have to be those of memory that the kernel may access, as the kernel does; with
    /// [`Launch::allowed`] that is found out, and the kernel fails.
    ///
    /// # Errors
    /// The first failure; other blocks may have run or not.
    pub unsafe fn launch(&self, launch: &Launch<'_>) -> Result<u64, Failure> {
        self.check(launch)?;
        let total = launch.grid.iter().map(|&size| size as usize).product::<usize>();
        let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let failure = Mutex::new(None);
        let traffic = AtomicU64::new(0);
        let work = || {
            let mut block = Block::new(self, launch);
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= total || has_failed.load(Ordering::Relaxed) {
                    break;
                }
                if let Err(error) = block.run(index) {
                    has_failed.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
            traffic.fetch_add(block.traffic(), Ordering::Relaxed);
        };
        if launch.threads <= 1 || total == 1 {
            work();
        } else {
            std::thread::scope(|scope| (0..launch.threads.min(total)).for_each(|_| drop(scope.spawn(work))));
        }
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(traffic.into_inner()),
            Some(failure) => Err(failure),
        }
    }

    fn check(&self, launch: &Launch<'_>) -> Result<(), Failure> {
        let failed = |reason| {
            let (kernel, fault) = (self.listing.name.clone(), Box::new(Fault::Launch { reason }));
            Err(Failure { kernel, instruction: None, block: [0; 3], fault })
        };
        let threads = launch.block.iter().map(|&size| size as usize).product::<usize>();
        match self.listing.required_block {
            Some(required) if required != launch.block => {
                failed(format!("launched with blocks of {:?} threads, and it demands {required:?}", launch.block))
            }
            _ if threads == 0 || threads > 1024 => failed(format!("a block of {threads} threads")),
            _ if launch.grid.contains(&0) => failed(format!("a grid of {:?} blocks", launch.grid)),
            _ if launch.arguments.len() != self.listing.parameter_bytes => {
                failed(format!("{} bytes of arguments", launch.arguments.len()))
            }
            _ => Ok(()),
        }
    }
}
