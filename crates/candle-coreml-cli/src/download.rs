//! `download`: models by name.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use candle_coreml::hub::{DownloadEvent, DownloadOptions, HubClient};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::DownloadArgs;
use crate::term;

/// Downloads and prints the directory of the model.
pub fn run(args: &DownloadArgs) -> Result<()> {
    let mut client = HubClient::new();
    if args.offline {
        client = client.offline(true);
    }
    let mut options = with_progress(DownloadOptions::new().revision(&args.revision));
    for pattern in &args.include {
        options = options.include(pattern);
    }
    let directory = match &args.to {
        Some(directory) => client.download_to(&args.model, directory, &options)?,
        None => client.model_directory(&client.download(&args.model, &options)?)?,
    };
    // Takes the bar away.
    drop(options);
    writeln!(term::data(), "{}", directory.display())?;
    Ok(())
}

/// The directory of a model that is given as a directory or as an id on the hub.
pub fn model_directory(model: &Path) -> Result<PathBuf> {
    let Some(id) = model.to_str().filter(|id| !model.exists() && is_id(id)) else {
        return Ok(model.to_owned());
    };
    HubClient::new()
        .ensure(id, &with_progress(DownloadOptions::new()))
        .with_context(|| format!("there is no directory `{id}`, and no model of that name came"))
}

/// Whether a text that is no existing path may be meant as a model's id.
fn is_id(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    matches!(parts.as_slice(), [org, name] if !name.is_empty() && !org.is_empty())
        && !text.starts_with(['.', '~'])
}

/// Shows a bar when standard error is a terminal, and what a user should know in any case.
fn with_progress(options: DownloadOptions) -> DownloadOptions {
    // It shows nothing unless standard error is a terminal.
    let bar = if term::is_quiet() {
        ProgressBar::hidden()
    } else {
        ProgressBar::no_length().with_style(style())
    };
    options.on_event(move |event| show(&bar, event))
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn show(bar: &ProgressBar, event: &DownloadEvent<'_>) {
    match event {
        DownloadEvent::Started { bytes, present, .. } => {
            bar.set_length(*bytes);
            bar.set_position(*present);
            // For a rate that does not count what was here.
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        DownloadEvent::Received { bytes, .. } => bar.inc(*bytes),
        DownloadEvent::Restarted { bytes, .. } => bar.dec(*bytes),
        DownloadEvent::Retrying { reason, pause, .. } => {
            note(bar, &format!("{reason}; trying again in {:.1} s", pause.as_secs_f64()));
        }
        DownloadEvent::Note { message } => note(bar, message),
        _ => {}
    }
}

/// A line above the bar.
fn note(bar: &ProgressBar, text: &str) {
    bar.suspend(|| term::note(text));
}
