//! Standard output and standard error, whatever stands behind them: a terminal, a file, a full disk,
//! a pipe that nobody reads. One choice turns colours on and off everywhere.
//!
//! Standard error is for people: that nobody can read it stops no work, so failures to write there are
//! ignored. What can't be written to standard output is an error, since that is the work.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, StderrLock, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use clap::ColorChoice;
use same_file::Handle;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const NOTE: Style = AnsiColor::Yellow.on_default();

static QUIET: AtomicBool = AtomicBool::new(false);

/// Whether there are colours: `auto` asks what the streams are, and `NO_COLOR`, `CLICOLOR` and
/// `CLICOLOR_FORCE`.
pub fn set_color(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// From now on only errors and answers to questions are told on standard error.
pub fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Standard output for text with styles, which are taken out where there are no colours.
pub fn out() -> Out<AutoStream<StdoutLock<'static>>> {
    Out(AutoStream::auto(stdout().lock()))
}

/// Standard output for data, which arrives byte for byte.
pub fn data() -> Out<StdoutLock<'static>> {
    Out(stdout().lock())
}

/// Standard output, whose errors say so.
pub struct Out<W>(W);

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(OutError::wrap)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(OutError::wrap)
    }
}

/// Standard output can't be written to.
#[derive(Debug)]
pub struct OutError(io::Error);

impl OutError {
    fn wrap(error: io::Error) -> io::Error {
        io::Error::new(error.kind(), OutError(error))
    }
}

impl fmt::Display for OutError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "can't write to standard output: {}", self.0)
    }
}

impl std::error::Error for OutError {}

/// Whether whoever read the output has seen enough of it.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| {
        error.kind() == io::ErrorKind::BrokenPipe
            && error.get_ref().is_some_and(|inner| inner.is::<OutError>())
    };
    error.chain().filter_map(|cause| cause.downcast_ref()).any(closed)
}

/// Whether a terminal shows standard output.
pub fn out_is_terminal() -> bool {
    stdout().is_terminal()
}

/// The one place that names it.
#[allow(clippy::disallowed_methods)]
fn stdout() -> io::Stdout {
    io::stdout()
}

/// Columns of the terminal that standard output is, if it is one.
pub fn width() -> Option<usize> {
    Some(terminal_size::terminal_size_of(stdout())?.0.0.into())
}

/// Standard error in the same way.
fn err() -> AutoStream<StderrLock<'static>> {
    anstream::stderr().lock()
}

/// Whether standard error shows colours.
pub fn err_has_colors() -> bool {
    AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
}

/// A line on standard error that somebody asked for.
pub fn say(text: impl Display) {
    let _ = writeln!(err(), "{text}");
}

/// The beginning of a line on standard error.
fn ask(text: impl Display) {
    let mut err = err();
    let _ = write!(err, "{text}").and_then(|()| err.flush());
}

/// A line on standard error that is good to know, unless quiet was asked for.
pub fn tell(text: impl Display) {
    if !is_quiet() {
        say(text);
    }
}

/// Whether only errors and answers to questions are told.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// As [`tell`], with a word before it.
pub fn note(text: impl Display) {
    tell(format_args!("{NOTE}note:{NOTE:#} {text}"));
}

/// What failed.
pub fn error(text: impl Display) {
    say(format_args!("{ERROR}error:{ERROR:#} {text}"));
}

/// Ends a line of standard output that is still open, where what comes on standard error would
/// otherwise stand in the same line.
pub fn end_open_line() -> io::Result<()> {
    let same = || Some(Handle::stdout().ok()? == Handle::stderr().ok()?);
    if out_is_terminal() || same() == Some(true) {
        let mut out = data();
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

/// Asks at the terminal; without one the answer is no.
pub fn confirmed(question: &str) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    ask(format_args!("{question} [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
