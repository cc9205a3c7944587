//! Tokens as an asynchronous stream, for any runtime.

use std::pin::Pin;
use std::task::{Context, Poll};

use async_channel::{Receiver, Sender};
use futures_core::Stream;

use super::outcome::{Generation, Token};
use super::session::Session;
use super::stream::TokenStream;
use crate::error::{GenerationError, Result};
use crate::llm::request::{CancelToken, ChatMessage, ChatOptions, GenerationOptions};

/// The tokens of a generation that runs on a thread of its own, a few tokens ahead of whoever takes
/// them. Dropping the stream ends the generation.
pub struct AsyncTokenStream {
    events: Pin<Box<Receiver<Event>>>,
    /// Ours alone: ends a prompt that is still running when the stream is dropped.
    dropped: Option<CancelToken>,
    finished: Option<(Session, Generation)>,
}

enum Event {
    Token(Result<Token>),
    Finished(Box<(Session, Generation)>),
}

/// Tokens that the thread may be ahead.
const AHEAD: usize = 16;

impl AsyncTokenStream {
    /// Runs `start` on a new thread and takes the tokens from there.
    fn spawn(
        mut session: Session,
        dropped: Option<CancelToken>,
        start: impl FnOnce(&mut Session) -> Result<TokenStream<'_>> + Send + 'static,
    ) -> Result<Self> {
        let (sender, receiver) = async_channel::bounded(AHEAD);
        let run = move || {
            if let Some(generation) = send_all(start(&mut session), &sender) {
                // Nobody waits for it if this fails.
                let _ = sender.send_blocking(Event::Finished(Box::new((session, generation))));
            }
        };
        std::thread::Builder::new()
            .name("generation".to_owned())
            .spawn(run)
            .map_err(GenerationError::Thread)?;
        Ok(AsyncTokenStream { events: Box::pin(receiver), dropped, finished: None })
    }

    /// The session, to go on with the conversation, and the whole generation: after the stream's
    /// end. `None` before it, and where generation could not start.
    pub fn into_parts(mut self) -> Option<(Session, Generation)> {
        self.finished.take()
    }
}

/// Sends tokens as long as somebody takes them.
fn send_all(stream: Result<TokenStream>, sender: &Sender<Event>) -> Option<Generation> {
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error) => {
            // Nobody waits for it if this fails.
            let _ = sender.send_blocking(Event::Token(Err(error)));
            return None;
        }
    };
    for token in stream.by_ref() {
        sender.send_blocking(Event::Token(token)).ok()?;
    }
    Some(stream.generation())
}

impl Session {
    /// Like [`stream`](Self::stream), on a thread of its own. The session comes back with
    /// [`AsyncTokenStream::into_parts`].
    ///
    /// # Errors
    /// When the thread can't be started. All other errors come from the stream.
    pub fn stream_async(
        self,
        prompt: impl Into<String>,
        options: &GenerationOptions,
    ) -> Result<AsyncTokenStream> {
        let (prompt, mut options) = (prompt.into(), options.clone());
        let dropped = own_token(&mut options);
        AsyncTokenStream::spawn(self, dropped, move |session| session.stream(&prompt, &options))
    }

    /// Like [`chat_stream`](Self::chat_stream), on a thread of its own. The session comes back with
    /// [`AsyncTokenStream::into_parts`].
    ///
    /// # Errors
    /// When the thread can't be started. All other errors come from the stream.
    pub fn chat_stream_async(
        self,
        messages: Vec<ChatMessage>,
        options: &ChatOptions,
    ) -> Result<AsyncTokenStream> {
        let mut options = options.clone();
        let dropped = own_token(&mut options.generation);
        AsyncTokenStream::spawn(self, dropped, move |session| {
            session.chat_stream(&messages, &options)
        })
    }
}

/// A token to cancel with, unless the caller has one, which may serve other generations too.
fn own_token(options: &mut GenerationOptions) -> Option<CancelToken> {
    if options.cancel.is_some() {
        return None;
    }
    options.cancel = Some(CancelToken::new());
    options.cancel.clone()
}

impl Stream for AsyncTokenStream {
    type Item = Result<Token>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.events.as_mut().poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Event::Token(token))) => Poll::Ready(Some(token)),
            Poll::Ready(Some(Event::Finished(parts))) => {
                self.finished = Some(*parts);
                Poll::Ready(None)
            }
            Poll::Ready(None) => Poll::Ready(None),
        }
    }
}

impl Drop for AsyncTokenStream {
    fn drop(&mut self) {
        if let Some(token) = &self.dropped {
            token.cancel();
        }
    }
}

impl std::fmt::Debug for AsyncTokenStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncTokenStream").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Wake, Waker};
    use std::thread::Thread;

    use super::super::fake::Fake;
    use super::super::outcome::FinishReason;
    use super::*;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn next(stream: &mut AsyncTokenStream) -> Option<Result<Token>> {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            match Pin::new(&mut *stream).poll_next(&mut context) {
                Poll::Ready(item) => return item,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    #[test]
    fn tokens_are_those_of_the_blocking_stream_and_the_session_comes_back() {
        let fake = Fake::default();
        let options = GenerationOptions::new().max_tokens(40);
        let mut stream = fake.session().stream_async("abc", &options).unwrap();
        let tokens: Vec<u32> =
            std::iter::from_fn(|| next(&mut stream)).map(|token| token.unwrap().id).collect();
        let prompt: Vec<u32> = "abc".bytes().map(u32::from).collect();
        assert_eq!(tokens, fake.greedy(&prompt, 40));
        let (mut session, generation) = stream.into_parts().unwrap();
        assert_eq!((generation.token_ids, session.cached_ids().len()), (tokens, 3 + 39));
        assert_eq!(session.generate("abc", &options).unwrap().usage.reused_tokens, 2);
    }

    #[test]
    fn errors_come_from_the_stream() {
        let options = GenerationOptions::new().temperature(-1.0);
        let mut stream = Fake::default().session().stream_async("abc", &options).unwrap();
        assert!(next(&mut stream).unwrap().unwrap_err().to_string().contains("temperature"));
        assert!(next(&mut stream).is_none());
        assert!(stream.into_parts().is_none());
    }

    #[test]
    fn dropping_the_stream_ends_the_generation() {
        let fake = Fake::default();
        let options = GenerationOptions::new().max_tokens(4000).ignore_eos(true);
        let mut stream = fake.session().stream_async("abc", &options).unwrap();
        next(&mut stream).unwrap().unwrap();
        let events = stream.events.clone();
        drop(stream);
        // The thread holds the only sender: the channel closes when the thread lets go of it.
        while events.recv_blocking().is_ok() {}
        assert!(fake.calls.lock().unwrap().len() < 4000);
    }

    #[test]
    fn chats_stream_too_and_can_be_cancelled() {
        let cancel = CancelToken::new();
        cancel.cancel();
        let options = ChatOptions::new(GenerationOptions::new().cancel(cancel));
        let session = Fake::default().chat_session("{{ messages[0].content }}");
        let mut stream = session.chat_stream_async(vec![ChatMessage::user("x")], &options).unwrap();
        assert!(next(&mut stream).is_none());
        let (_, generation) = stream.into_parts().unwrap();
        assert_eq!(generation.finish_reason, FinishReason::Cancelled);
    }
}
