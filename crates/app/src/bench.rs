//! `percept bench`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {}
pub(crate) fn run(_app: &crate::App, _arguments: &Arguments) -> anyhow::Result<()> { Ok(()) }
