//! The only place that names backends: which devices this build reaches, and the one that a run takes.

use crate::hardware::{self, Hardware};
use crate::messages::silently;
use anyhow::{bail, ensure};
use burn::tensor::{DType, Device, DeviceType};
use percept_config::{Backend, DeviceConfig, FloatType};
use percept_models::Placement;

/// A device of this machine that this build reaches.
#[derive(Clone, Debug)]
pub struct Found {
    pub backend: Backend,
    /// Among the backend's devices, from 0.
    pub index: usize,
    /// Without gradient.
    pub device: Device,
}

/// What a device says of itself.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub name: String,
    /// What kernels are compiled for.
    pub target: String,
    /// Whether it is a card, and no software that stands in for one.
    pub is_card: bool,
    /// Bytes of the largest buffer; nothing where there is no limit but memory.
    pub largest_buffer: Option<u64>,
    /// Bytes that it holds, where it tells.
    pub memory: Option<u64>,
    /// Types in which it computes.
    pub dtypes: Vec<FloatType>,
    pub hardware: Hardware,
}

/// Backends in the order in which `auto` prefers them, with how their devices are listed.
fn compiled() -> Vec<(Backend, DeviceType)> {
    vec![
        #[cfg(feature = "cuda")]
        (Backend::Cuda, DeviceType::Cuda),
        #[cfg(feature = "rocm")]
        (Backend::Rocm, DeviceType::Rocm),
        #[cfg(feature = "metal")]
        (Backend::Metal, DeviceType::Metal),
        #[cfg(feature = "vulkan")]
        (Backend::Vulkan, DeviceType::Vulkan),
        // the API that the system offers, with kernels in WGSL
        #[cfg(feature = "webgpu")]
        (Backend::Webgpu, DeviceType::Wgpu),
        (Backend::Cpu, DeviceType::Flex),
    ]
}

/// All devices that this build reaches, best first. A backend without driver has none.
pub fn found() -> Vec<Found> {
    #[cfg(feature = "cuda")]
    crate::device_math::provide();
    let list = |(backend, kind): (Backend, DeviceType)| {
        // drivers that are not there are told by panicking
        let devices: Vec<Device> = silently(|| Device::enumerate(kind).into_iter().collect()).unwrap_or_default();
        devices.into_iter().enumerate().map(move |(index, device)| Found { backend, index, device })
    };
    compiled().into_iter().flat_map(list).collect()
}

impl Found {
    /// As `--device` takes it: `cuda:0`.
    pub fn key(&self) -> String {
        match self.backend {
            Backend::Cpu => "cpu".to_owned(),
            backend => format!("{}:{}", backend.name(), self.index),
        }
    }

    /// What it says of itself. Opens the device.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn facts(&self) -> anyhow::Result<Facts> {
        let asked = || {
            let supports = |(_, dtype): &(FloatType, DType)| self.device.supports_dtype(*dtype);
            let dtypes = [(FloatType::F32, DType::F32), (FloatType::Bf16, DType::BF16), (FloatType::F16, DType::F16)];
            let mut facts = identity(&self.device);
            facts.dtypes = dtypes.into_iter().filter(supports).map(|(name, _)| name).collect();
            if has_tf32(&facts.target) {
                facts.dtypes.insert(1, FloatType::Tf32);
            }
            facts.hardware = hardware::ask(self.backend, &facts.name, self.index);
            facts
        };
        match silently(asked) {
            Ok(facts) => Ok(facts),
            Err(why) => {
                bail!("{}: the device is listed, but cannot be opened; is its driver installed? ({why})", self.key())
            }
        }
    }
}

#[cfg(any(feature = "cuda", feature = "rocm", feature = "metal", feature = "vulkan", feature = "webgpu"))]
fn identity(device: &Device) -> Facts {
    use burn::backend::DispatchDevice;
    match device.as_dispatch() {
        DispatchDevice::Cube(cube) => {
            let client = cube.client();
            let properties = client.properties();
            Facts {
                name: properties.identity.name.clone(),
                target: properties.identity.fingerprint.clone(),
                is_card: properties.identity.physical.is_some(),
                largest_buffer: Some(properties.memory.max_page_size),
                memory: properties.memory.max_memory(),
                ..Facts::default()
            }
        }
        _ => processor(),
    }
}

#[cfg(not(any(feature = "cuda", feature = "rocm", feature = "metal", feature = "vulkan", feature = "webgpu")))]
fn identity(_: &Device) -> Facts {
    processor()
}

/// Whether tensor cores multiply float32: NVIDIA's since Ampere. `target`: `ptx_sm90`.
fn has_tf32(target: &str) -> bool {
    target.strip_prefix("ptx_sm").and_then(|number| number.parse().ok()).is_some_and(|number: u32| number >= 80)
}

/// The processor, as the system names it.
fn processor() -> Facts {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = name.map_or_else(|| "processor".to_owned(), |(_, name)| name.trim().to_owned());
    Facts { name, target: std::env::consts::ARCH.to_owned(), ..Facts::default() }
}

/// The device of a run and the type it computes in.
pub(crate) fn open(config: &DeviceConfig) -> anyhow::Result<(Found, Placement)> {
    if let Some(threads) = config.threads {
        // fails only when a pool is already running, in which case that pool stays
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    break_operation()?;
    let chosen = choose(config)?;
    if chosen.backend == Backend::Cpu {
        ensure!(
            config.dtype != FloatType::Tf32,
            "device.dtype = \"tf32\": the CPU does not compute in it; expected \"f32\""
        );
        let dtype = dtype(config.dtype, FloatType::F32);
        percept_ops::set_rounded_products(false);
        return Ok((
            chosen.clone(),
            Placement { device: chosen.device, dtype, largest_buffer: None, kept_features: 0 },
        ));
    }
    let facts = chosen.facts()?;
    let usual = match chosen.backend {
        Backend::Cuda | Backend::Rocm | Backend::Metal if facts.dtypes.contains(&FloatType::Bf16) => FloatType::Bf16,
        _ => FloatType::F32,
    };
    let wanted = if config.dtype == FloatType::Auto { usual } else { config.dtype };
    let known: Vec<&str> = facts.dtypes.iter().map(|dtype| dtype.name()).collect();
    ensure!(
        facts.dtypes.contains(&wanted),
        "device.dtype = \"{}\": {} ({}) does not compute in it; it computes in {}",
        wanted.name(),
        chosen.key(),
        facts.name,
        known.join(", ")
    );
    // products in 16 bits are rounded by more than tf32's
    percept_ops::set_rounded_products(wanted != FloatType::F32);
    Ok((
        chosen.clone(),
        Placement {
            device: chosen.device,
            dtype: dtype(wanted, usual),
            largest_buffer: facts.largest_buffer,
            kept_features: 0,
        },
    ))
}

fn dtype(wanted: FloatType, usual: FloatType) -> DType {
    match wanted {
        FloatType::F32 | FloatType::Tf32 => DType::F32,
        FloatType::Bf16 => DType::BF16,
        FloatType::F16 => DType::F16,
        FloatType::Auto => dtype(usual, FloatType::F32),
    }
}

/// A type's name in configurations.
pub(crate) fn type_name(dtype: DType) -> &'static str {
    match dtype {
        DType::BF16 => "bf16",
        DType::F16 => "f16",
        _ => "f32",
    }
}

/// For tests of what finds it: the operation that PERCEPT_BREAK_OPERATION names is computed wrong from now on.
fn break_operation() -> anyhow::Result<()> {
    let Ok(name) = std::env::var("PERCEPT_BREAK_OPERATION") else { return Ok(()) };
    let known = percept_ops::BREAKABLE;
    ensure!(known.contains(&name.as_str()), "PERCEPT_BREAK_OPERATION={name}: there are {}", known.join(", "));
    eprintln!("{name} is computed wrong on purpose: PERCEPT_BREAK_OPERATION is set");
    percept_ops::set_broken(Some(&name));
    Ok(())
}

/// Whether this build has a backend.
pub(crate) fn is_compiled(backend: Backend) -> bool {
    backend == Backend::Auto || compiled().iter().any(|(known, _)| *known == backend)
}

fn choose(config: &DeviceConfig) -> anyhow::Result<Found> {
    if config.backend == Backend::Auto {
        // software that stands in for a card is slower than the processor itself
        let card = |found: &Found| found.facts().is_ok_and(|facts| facts.is_card);
        let all = found();
        let best = all.iter().find(|found| found.backend == Backend::Cpu || card(found));
        return Ok(best.expect("the processor is always there").clone());
    }
    let name = config.backend.name();
    ensure!(
        is_compiled(config.backend),
        "device.backend = \"{name}\" is not part of this build: build with `cargo build --release --features {name}`, \
         or set device.backend = \"cpu\""
    );
    let all = found();
    let own: Vec<&Found> = all.iter().filter(|found| found.backend == config.backend).collect();
    match own.get(config.index) {
        Some(chosen) => Ok((*chosen).clone()),
        None if own.is_empty() => bail!(
            "device.backend = \"{name}\": no device was found; is its driver installed? `percept devices` lists what there is"
        ),
        None => bail!(
            "device.index = {}: there {} of {name}, numbered from 0; `percept devices` lists them",
            config.index,
            if own.len() == 1 { "is 1 device".to_owned() } else { format!("are {} devices", own.len()) }
        ),
    }
}

/// The flag by which commands choose a device.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct DeviceFlag {
    /// Device: cpu, or a backend and a number as `percept devices` lists them, for example cuda:0
    #[arg(long, value_name = "BACKEND[:INDEX]")]
    pub(crate) device: Option<String>,
}

impl DeviceFlag {
    /// Backend and number.
    pub(crate) fn keys(&self) -> anyhow::Result<(String, usize)> {
        let text = self.device.as_deref().unwrap_or("auto");
        let (backend, index) = text.split_once(':').unwrap_or((text, "0"));
        let Ok(index) = index.parse::<usize>() else {
            bail!("--device {text}: expected a backend and a number, for example cuda:0");
        };
        Ok((backend.to_owned(), index))
    }

    /// As overrides of the configuration.
    pub(crate) fn sets(&self) -> anyhow::Result<Vec<String>> {
        if self.device.is_none() {
            return Ok(Vec::new());
        }
        let (backend, index) = self.keys()?;
        Ok(vec![format!("device.backend={backend}"), format!("device.index={index}")])
    }

    /// The flag's overrides behind those of `--set`.
    pub(crate) fn over(&self, sets: &[String]) -> anyhow::Result<Vec<String>> {
        Ok([sets, &self.sets()?].concat())
    }
}

/// `percept devices`: what there is.
pub(crate) fn list() {
    for found in found() {
        match found.facts() {
            Ok(facts) => println!("{:<12}{}", found.key(), describe(&facts, found.backend)),
            Err(error) => println!("{:<12}{error}", found.key()),
        }
    }
    let missing: Vec<&str> = [Backend::Cuda, Backend::Rocm, Backend::Metal, Backend::Vulkan, Backend::Webgpu]
        .into_iter()
        .filter(|backend| compiled().iter().all(|(known, _)| known != backend))
        .map(Backend::name)
        .collect();
    if !missing.is_empty() {
        println!("not in this build: {} (cargo build --release --features NAME)", missing.join(", "));
    }
}

/// A device's name, and below it what else is known.
fn describe(facts: &Facts, backend: Backend) -> String {
    let size = |bytes: u64| match bytes >> 30 {
        0 => format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    };
    let driver = match facts.hardware.driver.as_str() {
        "" => String::new(),
        driver => format!("driver {driver}; "),
    };
    let memory = facts.hardware.memory.map_or_else(|| "not told by the driver".to_owned(), size);
    let buffer = facts.largest_buffer.map_or_else(|| "as memory".to_owned(), size);
    let dtypes: Vec<&str> = facts.dtypes.iter().map(|dtype| dtype.name()).collect();
    let note = if facts.is_card || backend == Backend::Cpu { "" } else { " (software)" };
    format!(
        "{}{note}\n{:<12}{driver}memory {memory}; largest buffer {buffer}; kernels for {}; computes in {}",
        facts.name,
        "",
        facts.target,
        dtypes.join(", ")
    )
}
