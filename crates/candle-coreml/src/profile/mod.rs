//! What the operations of a model take, one by one, by operator and by layer.

mod chart;
mod layers;

use std::collections::HashMap;
use std::time::Duration;

use coreml_engine::{OperationProfile, Profile};
use serde::Serialize;

use self::layers::Layers;

/// What something has taken: sums over all times that it ran. Bytes and operations follow from the shapes of
/// values and from how constants are stored; what caches spare is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cost {
    /// How often it ran.
    pub times: usize,
    /// How long.
    pub seconds: f64,
    /// The part of the time of all calls, from 0 to 1.
    pub share: f64,
    /// Bytes of constants that were read, as the model's files hold them.
    pub constant_bytes: u64,
    /// Bytes of other values that were read and written.
    pub value_bytes: u64,
    /// Multiplications and additions of products, convolutions and attention; others count as none.
    pub flops: u64,
    /// Bytes of both kinds by time, in 10⁹ a second.
    pub gigabytes_per_second: f64,
    /// Multiplications and additions by time, in 10⁹ a second.
    pub gigaflops_per_second: f64,
}

/// What an operation has taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OperationCost {
    /// The name of the model's file, without its extension.
    pub model: String,
    /// The function.
    pub function: String,
    /// The names of the loops and branches that it is in, from outside.
    pub path: Vec<String>,
    /// Its name in the program; of several that were replaced by one, that of one of them.
    pub operation: String,
    /// Its operator in the program.
    pub operator: String,
    /// What was computed, which may be something else that gives the same.
    pub computes: String,
    /// The layer that its name tells of: what it begins with, up to the first number.
    pub layer: String,
    /// What it has taken.
    #[serde(flatten)]
    pub cost: Cost,
}

/// What several operations have taken together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GroupCost {
    /// What they have in common.
    pub name: String,
    /// How many there are.
    pub operations: usize,
    /// What they have taken.
    #[serde(flatten)]
    pub cost: Cost,
}

/// Where the time of a model goes. Serialized, it is a part of what `candle-coreml profile --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ProfileReport {
    /// What was run so often: `predictions`, `decoded tokens` or `prompt tokens`.
    pub unit: &'static str,
    /// How often.
    pub runs: usize,
    /// Calls of functions that were made for that.
    pub calls: usize,
    /// How long all calls took.
    pub seconds: f64,
    /// How much of that no operation has taken.
    pub between_seconds: f64,
    /// The operations, in the order in which they first ran.
    pub operations: Vec<OperationCost>,
    /// The same by what was computed, those first that took longest.
    pub operators: Vec<GroupCost>,
    /// The same by layer, as far as names tell of layers, those first that took longest.
    pub layers: Vec<GroupCost>,
}

impl Cost {
    fn of(operation: &OperationProfile) -> Self {
        Cost {
            times: operation.times,
            seconds: operation.time.as_secs_f64(),
            constant_bytes: operation.constant_bytes,
            value_bytes: operation.value_bytes,
            flops: operation.flops,
            ..Cost::default()
        }
    }

    /// Bytes of constants and other values.
    pub fn bytes(&self) -> u64 {
        self.constant_bytes.saturating_add(self.value_bytes)
    }

    fn add(&mut self, more: &Cost) {
        self.times += more.times;
        self.seconds += more.seconds;
        self.constant_bytes = self.constant_bytes.saturating_add(more.constant_bytes);
        self.value_bytes = self.value_bytes.saturating_add(more.value_bytes);
        self.flops = self.flops.saturating_add(more.flops);
    }

    /// The same with what follows from it, among `seconds` in all.
    fn rated(self, seconds: f64) -> Self {
        let rate = |amount: f64, time: f64| if time > 0.0 { amount / time } else { 0.0 };
        Cost {
            share: rate(self.seconds, seconds),
            gigabytes_per_second: rate(self.bytes() as f64 * 1e-9, self.seconds),
            gigaflops_per_second: rate(self.flops as f64 * 1e-9, self.seconds),
            ..self
        }
    }
}

impl ProfileReport {
    /// What a profile tells of `runs` times that something was run; `unit` says what, e.g. `predictions`.
    pub fn new(profile: &Profile, unit: &'static str, runs: usize) -> Self {
        let seconds = profile.time.as_secs_f64();
        let layers = Layers::of(profile);
        let operations: Vec<OperationCost> = profile
            .operations
            .iter()
            .map(|of| OperationCost {
                model: of.model.clone(),
                function: of.function.clone(),
                path: of.path.clone(),
                operation: of.operation.clone(),
                operator: of.operator.clone(),
                computes: of.computes.clone(),
                layer: layers.layer(of).to_owned(),
                cost: Cost::of(of).rated(seconds),
            })
            .collect();
        let measured: Duration = profile.operations.iter().map(|of| of.time).sum();
        ProfileReport {
            unit,
            runs,
            calls: profile.calls,
            seconds,
            between_seconds: profile.time.saturating_sub(measured).as_secs_f64(),
            operators: groups(&operations, seconds, |of| of.computes.clone()),
            layers: groups(&operations, seconds, |of| {
                layers.group(&of.model, &of.function, &of.layer)
            }),
            operations,
        }
    }

    /// What all operations have taken together.
    pub fn total(&self) -> Cost {
        let mut total = Cost::default();
        self.operations.iter().for_each(|of| total.add(&of.cost));
        total.rated(self.seconds)
    }

    /// The operations, those first that took longest.
    pub fn costliest(&self) -> Vec<&OperationCost> {
        let mut operations: Vec<&OperationCost> = self.operations.iter().collect();
        operations.sort_by(|a, b| b.cost.seconds.total_cmp(&a.cost.seconds));
        operations
    }

    /// A page for a browser, of its own: time by name as nested bars in the order in which operations ran, then
    /// tables.
    pub fn html(&self, title: &str) -> String {
        chart::page(self, title)
    }
}

/// What operations take that have a name in common, those first that took longest.
fn groups(
    operations: &[OperationCost],
    seconds: f64,
    name: impl Fn(&OperationCost) -> String,
) -> Vec<GroupCost> {
    let mut groups: Vec<GroupCost> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for operation in operations {
        let name = name(operation);
        let place = *places.entry(name.clone()).or_insert(groups.len());
        if place == groups.len() {
            groups.push(GroupCost { name, ..GroupCost::default() });
        }
        groups[place].operations += 1;
        groups[place].cost.add(&operation.cost);
    }
    groups.iter_mut().for_each(|group| group.cost = group.cost.rated(seconds));
    groups.sort_by(|a, b| b.cost.seconds.total_cmp(&a.cost.seconds));
    groups
}
