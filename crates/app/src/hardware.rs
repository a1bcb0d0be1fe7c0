//! What drivers say of their devices, and burn does not pass on: the driver's own version, and the memory.

use percept_config::Backend;

/// What a driver says of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hardware {
    /// Its name and version; empty for the processor.
    pub driver: String,
    /// Bytes of the device's own memory, or of the memory that it shares with the processor; nothing where the driver does not tell.
    pub memory: Option<u64>,
}

/// Asks the driver of a device. `name`: the device's, as burn reports it; `index`: its number among the backend's devices.
pub(crate) fn ask(backend: Backend, name: &str, index: usize) -> Hardware {
    match backend {
        Backend::Cpu => Hardware { driver: String::new(), memory: host_memory() },
        Backend::Cuda => cuda(index),
        _ => adapter(name),
    }
}

/// Bytes of the host's memory: what a container may use, where that is less than what the machine has.
pub(crate) fn host_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let total = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
    });
    // "max" where there is no limit
    let limit = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    [total, limit].into_iter().flatten().min()
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Hardware {
    use cudarc::driver::{result, sys};
    let asked = || -> Option<Hardware> {
        result::init().ok()?;
        let device = result::device::get(i32::try_from(index).ok()?).ok()?;
        // SAFETY: the handle was given by the driver above.
        let memory = unsafe { result::device::total_mem(device) }.ok()?;
        let mut version = 0;
        // SAFETY: writes one integer.
        unsafe { sys::cuDriverGetVersion(&mut version) }.result().ok()?;
        // 13020 is 13.2
        let mut driver = format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
        if let Ok(module) = std::fs::read_to_string("/sys/module/nvidia/version") {
            driver = format!("NVIDIA {}, {driver}", module.trim());
        }
        Some(Hardware { driver, memory: Some(memory as u64) })
    };
    // a driver that is not there is told by panicking
    crate::messages::silently(asked).ok().flatten().unwrap_or_default()
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Hardware {
    Hardware::default()
}

#[cfg(any(feature = "metal", feature = "vulkan", feature = "webgpu"))]
fn adapter(name: &str) -> Hardware {
    let asked = || {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = ready(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let adapter = adapters.into_iter().find(|adapter| adapter.get_info().name == name)?;
        let info = adapter.get_info();
        let driver = format!("{} {}", info.driver, info.driver_info).trim().to_owned();
        Some(Hardware { driver, memory: vulkan_memory(&adapter) })
    };
    crate::messages::silently(asked).ok().flatten().unwrap_or_default()
}

#[cfg(not(any(feature = "metal", feature = "vulkan", feature = "webgpu")))]
fn adapter(_: &str) -> Hardware {
    Hardware::default()
}

/// The largest heap of the device's own; Vulkan alone tells.
#[cfg(all(any(feature = "vulkan", feature = "webgpu"), not(target_vendor = "apple")))]
fn vulkan_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the handle is only asked for numbers, while the adapter lives.
    let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = vulkan.shared_instance().raw_instance();
    // SAFETY: both handles belong to this adapter.
    let properties = unsafe { instance.get_physical_device_memory_properties(vulkan.raw_physical_device()) };
    let heaps = properties.memory_heaps_as_slice();
    let local = heaps.iter().filter(|heap| heap.flags.as_raw() & 1 != 0);
    local.map(|heap| heap.size).max()
}

#[cfg(all(
    any(feature = "metal", feature = "vulkan", feature = "webgpu"),
    any(target_vendor = "apple", not(any(feature = "vulkan", feature = "webgpu")))
))]
fn vulkan_memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}

/// The result of a future that never waits, as wgpu's on a system's own API.
#[cfg(any(feature = "metal", feature = "vulkan", feature = "webgpu"))]
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_says_how_much_memory_it_has() {
        let memory = host_memory().expect("Linux tells");
        assert!((1 << 28..1 << 50).contains(&memory), "{memory} bytes");
        assert_eq!(ask(Backend::Cpu, "", 0), Hardware { driver: String::new(), memory: Some(memory) });
    }
}
