//! `download`: models by name.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use candle_coreml::hub::{DownloadEvent, DownloadOptions, HubClient};
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::DownloadArgs;
use crate::demo::{self, Demo};
use crate::names::{self, NameKind};
use crate::term;

/// Downloads and prints the directory of the model.
pub fn run(args: &DownloadArgs) -> Result<()> {
    let mut client = HubClient::new();
    if args.offline {
        client = client.offline(true);
    }
    let mut options = with_progress(DownloadOptions::new());
    if let Some(revision) = &args.revision {
        options = options.revision(revision);
    }
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

/// Where a model lies that is given as a directory, by its name on the hub, or as `demo`, the model in
/// this program, whose files have to stay as long as the second value.
pub fn model_directory(model: &Path) -> Result<(PathBuf, Option<Demo>)> {
    if model == Path::new(demo::NAME) {
        let demo = demo::extract()?;
        return Ok((demo.path().to_owned(), Some(demo)));
    }
    if model.symlink_metadata().is_ok() {
        return Ok((model.to_owned(), None));
    }
    let client = HubClient::new();
    let options = with_progress(DownloadOptions::new());
    let directory = match names::kind_of(model) {
        NameKind::Address(name) => client.ensure(name, &options)?,
        NameKind::Id(name) => client.ensure(name, &options).with_context(|| {
            let near = names::near(&client, model);
            format!("there is no directory `{name}`, and no model of that name came{near}")
        })?,
        // The hub has few models of such names, none of them in Core ML, and people mean others.
        NameKind::Word(name) => match client.cached(name, &options) {
            Ok(Some(snapshot)) => client.model_directory(&snapshot)?,
            _ => bail!(names::unknown(&client, model)),
        },
        NameKind::Path => bail!(names::unknown(&client, model)),
    };
    Ok((directory, None))
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
        DownloadEvent::Retrying { reason, pause, attempt, attempts, .. } => {
            let pause = pause.as_secs_f64();
            let times = format!("attempt {attempt} of {attempts}");
            note(bar, &format!("{reason}; trying again in {pause:.1} s ({times})"));
        }
        DownloadEvent::Note { message } => note(bar, message),
        _ => {}
    }
}

/// A line above the bar.
fn note(bar: &ProgressBar, text: &str) {
    bar.suspend(|| term::note(text));
}
