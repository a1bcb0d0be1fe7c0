//! Which device a test computes on.

use burn::tensor::Device;
use std::cell::RefCell;

thread_local! {
    static CURRENT: RefCell<Option<Device>> = const { RefCell::new(None) };
}

/// The CPU, but for tests that run [`on`] another device.
pub(crate) fn current() -> Device {
    CURRENT.with_borrow(|device| device.clone().unwrap_or_else(Device::flex))
}

/// Runs a test of this thread on a device.
pub(crate) fn on(device: &Device, test: impl FnOnce()) {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            CURRENT.set(None);
        }
    }
    let _back = Back;
    CURRENT.set(Some(device.clone()));
    test();
}
