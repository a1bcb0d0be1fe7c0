//! The driver's functions as a program calls them.

use crate::device::ptx;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};

type Handle = *mut c_void;

unsafe extern "C" {
    fn cuInit(flags: u32) -> c_int;
    fn cuDeviceGetName(name: *mut c_char, bytes: c_int, device: c_int) -> c_int;
    fn cuModuleLoadData(module: *mut Handle, image: *const c_char) -> c_int;
    fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) -> c_int;
    fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> c_int;
    fn cuMemFree_v2(address: u64) -> c_int;
    fn cuMemcpyHtoD_v2(to: u64, from: *const u32, bytes: usize) -> c_int;
    fn cuMemcpyDtoH_v2(to: *mut u32, from: u64, bytes: usize) -> c_int;
    fn cuLaunchKernel(
        function: Handle,
        grid_x: u32,
        grid_y: u32,
        grid_z: u32,
        block_x: u32,
        block_y: u32,
        block_z: u32,
        shared_bytes: u32,
        stream: Handle,
        parameters: *const *const c_void,
        extra: *const Handle,
    ) -> c_int;
}

/// Loads a module: what the driver returns, and the module.
fn load(text: &str) -> (c_int, Handle) {
    let (text, mut module) = (CString::new(text).expect("text"), null_mut());
    // SAFETY: a text and a place for the result.
    (unsafe { cuModuleLoadData(&mut module, text.as_ptr()) }, module)
}

/// Launches `test` with these addresses: what the driver returns.
fn launch(module: Handle, addresses: [u64; 2]) -> c_int {
    let mut function = null_mut();
    let parameters = addresses.each_ref().map(|address| std::ptr::from_ref(address).cast::<c_void>());
    // SAFETY: the module was loaded, and its kernel takes two addresses.
    unsafe {
        assert_eq!(cuModuleGetFunction(&mut function, module, c"test".as_ptr()), 0);
        cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, null_mut(), parameters.as_ptr(), null())
    }
}

#[test]
fn a_program_loads_launches_and_reads_back() {
    let (status, module) = load(&ptx("ld.global.b32 %r2, [%rd3];\nadd.s32 %r2, %r2, 5;\nst.global.b32 [%rd4], %r2;"));
    assert_eq!(status, 0);
    let (input, mut output, mut addresses): ([u32; 32], _, _) = (std::array::from_fn(|i| i as u32), [0; 32], [0; 2]);
    // SAFETY: places for the results, and memory of 32 words on both sides of each copy.
    unsafe {
        assert_eq!(cuInit(0), 0);
        for address in &mut addresses {
            assert_eq!(cuMemAlloc_v2(address, 128), 0);
        }
        assert_eq!(cuMemcpyHtoD_v2(addresses[0], input.as_ptr(), 128), 0);
        assert_eq!(launch(module, addresses), 0);
        assert_eq!(cuMemcpyDtoH_v2(output.as_mut_ptr(), addresses[1], 128), 0);
        assert_eq!(addresses.map(|address| cuMemFree_v2(address)), [0; 2]);
        assert_eq!(cuMemFree_v2(addresses[0]), 1);
        assert_eq!(cuModuleGetFunction(&mut null_mut(), module, c"other".as_ptr()), 500);
    }
    assert_eq!(output, input.map(|value| value + 5));
}

#[test]
fn new_memory_is_not_a_number() {
    let (mut address, mut word) = (0, 0);
    // SAFETY: places for the results.
    unsafe {
        assert_eq!(cuMemAlloc_v2(&mut address, 4), 0);
        assert_eq!(cuMemcpyDtoH_v2(&mut word, address, 4), 0);
        assert_eq!(cuMemFree_v2(address), 0);
    }
    assert!(f32::from_bits(word).is_nan());
}

#[test]
fn what_cannot_run_has_a_status_of_its_own() {
    assert_eq!(load(&ptx("frobnicate.b32 %r2, %r1;")).0, 218);
    let (status, module) = load(&ptx("trap;"));
    assert_eq!((status, launch(module, [0; 2])), (0, 719));
}

#[test]
fn the_name_is_cut_to_what_there_is_room_for() {
    let mut name = [1 as c_char; 8];
    // SAFETY: there is room for 4 bytes.
    assert_eq!(unsafe { cuDeviceGetName(name.as_mut_ptr(), 4, 0) }, 0);
    assert_eq!(name.map(|c| c as u8), *b"PTX\0\x01\x01\x01\x01");
}
