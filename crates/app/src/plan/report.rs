//! The plan, printed and as JSON.

use super::capacity::{Capacity, show};
use super::memory::{Moment, Peak, Workload};
use super::request::Target;
use super::trial::Trial;
use crate::cost::rates::Rates;
use serde_json::{Value, json};

/// Everything that a plan says.
pub(crate) struct Plan<'a> {
    pub(crate) target: &'a Target,
    pub(crate) workload: &'a Workload,
    pub(crate) moments: Vec<Moment>,
    pub(crate) peak: Peak,
    pub(crate) capacity: Capacity,
    pub(crate) rates: Option<Rates>,
    pub(crate) trial: Option<Trial>,
    pub(crate) seconds: Vec<(&'static str, f64)>,
    pub(crate) fits: bool,
    /// What to change when it does not fit; nothing when no change was found.
    pub(crate) change: Option<Vec<String>>,
}

impl Plan<'_> {
    pub(crate) fn print(&self) {
        let Self { workload, target, .. } = self;
        let numbers = workload.outline.num_parameters() as f64 / 1e6;
        let learning = workload.learning() as f64 / 1e6;
        println!(
            "{numbers:.1} million parameters, {learning:.1} million of them learn; {}, {}",
            target.name,
            crate::device::type_name(target.dtype)
        );
        let mean =
            workload.groups.iter().map(|group| group.prompt).sum::<usize>() as f64 / workload.groups.len() as f64;
        let group = &workload.groups[0];
        println!(
            "{} prompts of {mean:.0} tokens x {} responses x {} tokens; {} prompts an update, micro-batches of {} tokens, {} rows decoded",
            workload.prompts_per_step,
            group.responses.len(),
            workload.max_new_tokens,
            workload.prompts_per_update,
            workload.micro_tokens,
            workload.max_rows
        );
        for on_host in [false, true] {
            self.print_memory(on_host);
        }
        let all = |what: &str, bytes: f64, limit: Option<f64>| {
            let limit = limit
                .map_or_else(|| "how much there is, is not known".to_owned(), |limit| format!("of {}", show(limit)));
            println!("{what}: {} at most, {limit}", show(bytes));
        };
        all(if workload.unified { "memory" } else { "device memory" }, self.peak.device, self.capacity.device);
        if !workload.unified {
            all("host memory", self.peak.host, self.capacity.host);
        }
        if self.seconds.is_empty() {
            println!("time: the device is not here; --rates FILE gives what it reaches");
        } else {
            let total: f64 = self.seconds.iter().map(|(_, seconds)| seconds).sum();
            let phases: Vec<String> =
                self.seconds.iter().map(|(name, seconds)| format!("{name} {seconds:.2}")).collect();
            let by = self.trial.as_ref().map_or_else(
                || ", from the device's rates".to_owned(),
                |trial| format!(", by a trial of {}", trial.describe(workload.outline.text.layers)),
            );
            println!("time: about {total:.2} s a step ({}){by}", phases.join(", "));
        }
        self.print_verdict();
    }

    fn print_memory(&self, on_host: bool) {
        let sum = |moment: &Moment| -> f64 {
            moment.parts.iter().filter(|part| part.on_host == on_host).map(|part| part.bytes).sum()
        };
        if self.moments.iter().all(|moment| sum(moment) == 0.0) {
            return;
        }
        println!("{} memory by what is held at the same time:", if on_host { "host" } else { "device" });
        for moment in &self.moments {
            println!("  {:<36}{:>12}", moment.name, show(sum(moment)));
            for part in moment.parts.iter().filter(|part| part.on_host == on_host && part.bytes >= 512.0 * 1024.0) {
                println!("    {:<34}{:>12}", part.name, show(part.bytes));
            }
        }
    }

    fn print_verdict(&self) {
        if self.fits {
            println!("it fits");
            return;
        }
        println!("it does not fit");
        match &self.change {
            Some(change) => println!("the smallest change that makes it fit: {}", change.join(", ")),
            None => println!(
                "neither smaller portions nor fewer bits, offloading and freezing make it fit: try [model.lora], a smaller model, or more \
                 memory"
            ),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let moment = |moment: &Moment| {
            let parts: Vec<Value> = moment
                .parts
                .iter()
                .map(|part| json!({ "name": part.name, "bytes": part.bytes, "on_host": part.on_host }))
                .collect();
            json!({ "name": moment.name, "parts": parts })
        };
        let seconds: serde_json::Map<String, Value> =
            self.seconds.iter().map(|(name, seconds)| ((*name).to_owned(), json!(seconds))).collect();
        json!({
            "device": self.target.name,
            "dtype": crate::device::type_name(self.target.dtype),
            "parameters": self.workload.outline.num_parameters(),
            "learning": self.workload.learning(),
            "micro_tokens": self.workload.micro_tokens,
            "max_rows": self.workload.max_rows,
            "peak_device_bytes": self.peak.device,
            "peak_host_bytes": self.peak.host,
            "device_bytes": self.capacity.device,
            "host_bytes": self.capacity.host,
            "moments": self.moments.iter().map(moment).collect::<Vec<_>>(),
            "seconds": seconds,
            "rates": self.rates,
            "trial": self.trial,
            "fits": self.fits,
            "change": self.change,
        })
    }
}
