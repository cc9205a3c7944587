//! The loop. A [`Session`] holds a conversation's cache and runs what it lacks; a [`TokenStream`]
//! drives it, one token after another. The two are one thing in two files, and know each other.

#[cfg(feature = "async")]
mod async_stream;
mod core;
#[cfg(test)]
mod fake;
mod outcome;
mod prompt;
mod session;
mod speculation;
mod stop;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use self::core::Core;
#[cfg(feature = "async")]
pub use async_stream::AsyncTokenStream;
pub use outcome::{FinishReason, Generation, Timings, Token, Usage};
pub use session::Session;
pub use stream::TokenStream;
