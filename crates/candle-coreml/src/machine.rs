//! The machine that models run on, and what it can do at most.

use coreml_engine::{Context, Roof, Workers};
use serde::Serialize;

use crate::error::Result;
use crate::profile::Cost;

/// A machine, and what it can do at most on some threads.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Machine {
    /// The processor's name, as far as the system tells it.
    pub cpu: String,
    /// The instruction set that is used: `generic`, `avx2`, `avx512` or `avx512vbmi`.
    pub instruction_set: &'static str,
    /// The threads.
    pub threads: usize,
    /// How fast they read memory together, in 10⁹ bytes a second.
    pub read_gigabytes_per_second: f64,
    /// How fast they multiply and add numbers of single precision together, in 10⁹ operations a second.
    pub gigaflops_per_second: f64,
}

impl Machine {
    /// Measures the machine on these threads, which should do nothing else meanwhile. Takes about a second, and
    /// 512 MiB of memory.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn measure(workers: &Workers) -> Result<Self> {
        let context = Context::new(workers.clone());
        let roof = Roof::measure(&context)?;
        Ok(Machine {
            cpu: cpu(),
            instruction_set: context.isa().name(),
            threads: workers.threads(),
            read_gigabytes_per_second: roof.read_bytes_per_second * 1e-9,
            gigaflops_per_second: roof.flops_per_second * 1e-9,
        })
    }

    /// How much of its time something would take if the machine did nothing but read its bytes or compute its
    /// products as fast as it can, from 0 to 1; more where caches hold the bytes.
    pub fn share(&self, cost: &Cost) -> f64 {
        let read = cost.gigabytes_per_second / self.read_gigabytes_per_second;
        read.max(cost.gigaflops_per_second / self.gigaflops_per_second)
    }

    /// The machine in a few words.
    pub fn words(&self) -> String {
        let Machine { cpu, instruction_set, threads, .. } = self;
        let (read, flops) = (self.read_gigabytes_per_second, self.gigaflops_per_second);
        let threads =
            if *threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        format!("{cpu} ({instruction_set}), {threads}: reads {read:.1} GB/s, {flops:.0} GFLOP/s")
    }
}

/// The processor's name; its architecture where the system does not tell it.
fn cpu() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").ok();
    let name = told.as_deref().and_then(|text| field(text, "model name"));
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// The most memory that this process has held so far, in bytes, files that are mapped included; `None` where
/// the system does not tell it.
pub(crate) fn peak_memory() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/self/status").ok()?;
    let kibibytes: u64 = field(&told, "VmHWM")?.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The value of a line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut values = text.lines().filter_map(|line| line.split_once(':'));
    values.find(|(of, _)| of.trim() == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_names() {
        let text = "Name:\tcat\nVmHWM:\t    1234 kB\nmodel name\t: A CPU @ 2:1 GHz\n";
        assert_eq!(field(text, "VmHWM"), Some("1234 kB"));
        assert_eq!(field(text, "model name"), Some("A CPU @ 2:1 GHz"));
        assert_eq!(field(text, "model"), None);
        assert!(!cpu().is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_has_held_some_memory() {
        assert!(peak_memory().unwrap() > 1 << 20);
    }
}
