//! Generation with a fake model.

use super::core::Core;
use super::fake::Fake;
use super::{FinishReason, Session};
use crate::error::Result;
use crate::llm::network::{Network, Prediction};
use crate::llm::request::{
    CancelToken, ChatMessage, ChatOptions, ContextOverflow, GenerationOptions, Speculation,
};
use crate::llm::sampling::ChooseToken;
use crate::llm::text::testing::byte_tokenizer;

fn options(count: usize) -> GenerationOptions {
    GenerationOptions::new().max_tokens(count)
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

fn calls(fake: &Fake) -> Vec<(usize, usize)> {
    std::mem::take(&mut fake.calls.lock().unwrap())
}

fn text(ids: &[u32]) -> String {
    ids.iter().map(|&id| char::from(u8::try_from(id).unwrap())).collect()
}

#[test]
fn greedy_text_is_the_reference_and_only_new_tokens_run() {
    let fake = Fake::default();
    let mut session = fake.session();
    let first = session.generate("hello", &options(6)).unwrap();
    assert_eq!(first.token_ids, fake.greedy(&bytes("hello"), 6));
    assert_eq!(calls(&fake), [(0, 5), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1)]);

    let longer = format!("hello{} and on", first.text);
    let second = session.generate(&longer, &options(2)).unwrap();
    assert_eq!(second.token_ids, fake.greedy(&bytes(&longer), 2));
    assert_eq!((second.usage.reused_tokens, second.usage.prefilled_tokens), (10, 8));
    assert_eq!(calls(&fake), [(10, 8), (18, 1)]);

    let third = session.generate("help", &options(1)).unwrap();
    assert_eq!(third.token_ids, fake.greedy(&bytes("help"), 1));
    assert_eq!(calls(&fake), [(3, 1)]);
}

#[test]
fn a_cache_that_can_not_go_back_starts_again() {
    let fake = Fake { rewinds: false, ..Fake::default() };
    let mut session = fake.session();
    session.generate("hello", &options(3)).unwrap();
    calls(&fake);
    let other = session.generate("help", &options(2)).unwrap();
    assert_eq!(other.token_ids, fake.greedy(&bytes("help"), 2));
    assert_eq!((other.usage.reused_tokens, calls(&fake)), (0, vec![(0, 4), (4, 1)]));
}

/// A run that breaks off leaves some of its tokens in a cache that can't give them back.
#[test]
fn after_a_failure_no_token_is_twice_in_the_cache() {
    for rewinds in [true, false] {
        let fake = Fake { rewinds, ..Fake::default() };
        let mut session = fake.session();
        let before = session.generate("hello", &options(3)).unwrap();
        let longer = format!("hello{} and more", before.text);
        calls(&fake);
        *fake.fails_at.lock().unwrap() = Some(longer.len() - 2);
        assert!(session.generate(&longer, &options(4)).is_err());
        let again = session.generate(&longer, &options(4)).unwrap();
        assert_eq!(again.token_ids, fake.greedy(&bytes(&longer), 4), "{rewinds}");
        assert_eq!(again.usage.reused_tokens > 0, rewinds);
    }
}

#[test]
fn stop_strings_end_the_text_before_them() {
    let fake = Fake::default();
    let mut session = fake.session();
    let ids = fake.greedy(&bytes("x"), 20);
    let all = text(&ids);
    let stop = &all[6..9];
    let end = all.find(stop).unwrap();
    let options = options(20).stop("never there").stop(stop);
    let mut stream = session.stream("x", &options).unwrap();
    let pieces: String = stream.by_ref().map(|token| token.unwrap().text).collect();
    let generation = stream.generation();
    assert_eq!(generation.finish_reason, FinishReason::Stop);
    assert_eq!(generation.stop_string.as_deref(), Some(stop));
    assert_eq!(generation.text, all[..end]);
    assert_eq!(pieces, generation.text);
    assert_eq!(generation.token_ids, ids[..end + 3]);
    // Text that was held back comes when generation ends otherwise.
    let begun = format!("{}#", &all[..3]);
    let cut = session.generate("x", &self::options(3).stop(begun)).unwrap();
    assert_eq!((cut.text.as_str(), cut.finish_reason), (&all[..3], FinishReason::Length));
}

#[test]
fn stop_tokens_end_the_text_even_where_end_tokens_do_not() {
    let fake = Fake::default();
    let ids = fake.greedy(&bytes("x"), 20);
    let position = ids.iter().position(|&id| id == ids[5]).unwrap();
    let options = options(20).stop_id(ids[5]).ignore_eos(true);
    let generation = fake.session().generate("x", &options).unwrap();
    assert_eq!(generation.token_ids, ids[..=position]);
    assert_eq!(generation.text, text(&ids[..position]));
    assert_eq!((generation.finish_reason, generation.stop_string), (FinishReason::Stop, None));
}

#[test]
fn log_probabilities_come_with_each_token() {
    let fake = Fake::default();
    let options = options(3).logprobs(2).temperature(1.5).seed(4).presence_penalty(1.0);
    let generation = fake.session().generate("abc", &options).unwrap();
    let logprobs = generation.logprobs.unwrap();
    assert_eq!(logprobs.len(), 3);
    let mut seen = bytes("abc");
    for (entry, &id) in logprobs.iter().zip(&generation.token_ids) {
        let logits: Vec<f64> = fake.logits(&seen).into_iter().map(f64::from).collect();
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        assert_eq!(entry.chosen.id, id);
        assert!((entry.chosen.logprob - (logits[id as usize].exp() / sum).ln()).abs() < 1e-9);
        assert_eq!((entry.top.len(), entry.top[0].id), (2, fake.next(&seen)));
        seen.push(id);
    }
    assert_eq!(fake.session().generate("abc", &self::options(3)).unwrap().logprobs, None);
}

/// Chooses the second most likely token, and notes what it is shown.
struct SecondBest<'a>(&'a mut Vec<(usize, usize)>);

impl ChooseToken for SecondBest<'_> {
    fn choose(&mut self, logits: &[f32], prompt: &[u32], generated: &[u32]) -> Result<u32> {
        self.0.push((prompt.len(), generated.len()));
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        Ok(ids[1])
    }
}

#[test]
fn another_sampler_chooses() {
    let fake = Fake::default();
    let mut shown = Vec::new();
    let mut session = fake.session();
    let mut chooser = SecondBest(&mut shown);
    let stream = session.stream_with("abc", &options(3), &mut chooser).unwrap();
    let generation = stream.finish().unwrap();
    let mut seen = bytes("abc");
    for &id in &generation.token_ids {
        let logits = fake.logits(&seen);
        let better = logits.iter().filter(|&&logit| logit > logits[id as usize]).count();
        assert_eq!(better, 1);
        seen.push(id);
    }
    assert_eq!(shown, [(3, 0), (3, 1), (3, 2)]);
}

struct Constant(u32);

impl ChooseToken for Constant {
    fn choose(&mut self, _: &[f32], _: &[u32], _: &[u32]) -> Result<u32> {
        Ok(self.0)
    }
}

#[test]
fn a_sampler_that_chooses_no_token_is_an_error() {
    let mut session = Fake::default().session();
    let mut chooser = Constant(260);
    let stream = session.stream_with("a", &options(3), &mut chooser).unwrap();
    assert!(stream.finish().unwrap_err().to_string().contains("token 260"));
}

#[test]
fn models_without_logits_are_greedy_or_refuse_before_they_start() {
    let fake = Fake { logits: false, ..Fake::default() };
    let mut session = fake.session();
    let greedy = session.generate("abc", &options(5)).unwrap();
    assert_eq!(greedy.token_ids, fake.greedy(&bytes("abc"), 5));
    calls(&fake);
    let refused = [
        options(5).temperature(0.5),
        options(5).logprobs(0),
        options(5).repetition_penalty(1.1),
        options(5).presence_penalty(1.0),
        options(5).frequency_penalty(1.0),
        options(5).logit_bias(1, 1.0),
        options(5).sequence_bias([1, 2], 1.0),
        options(5).no_repeat_ngram_size(2),
        options(5).min_tokens(2),
        options(5).min_length(20),
        options(5).forced_eos_token(2),
        options(5).exponential_decay_length_penalty(2, 1.5),
    ];
    for options in refused {
        let message = session.stream("abc", &options).unwrap_err().to_string();
        assert!(message.contains("gives no logits"), "{message}");
    }
    assert!(session.stream_with("abc", &options(5), &mut Constant(1)).is_err());
    assert!(session.logits("abc").unwrap_err().to_string().contains("no logits"));
}

#[test]
fn unknown_tokens_are_refused() {
    let mut session = Fake::default().session();
    let refused = [
        options(5).logit_bias(260, 1.0),
        options(5).sequence_bias([1, 260], 1.0),
        options(5).begin_suppress_token(260),
        options(5).forced_eos_token(260),
    ];
    for options in refused {
        let message = session.stream("abc", &options).unwrap_err().to_string();
        assert!(message.contains("token 260"), "{message}");
    }
}

#[test]
fn a_session_goes_on_after_options_that_leave_no_token() {
    let fake = Fake::default();
    let mut session = fake.session();
    let all = (0..260).fold(options(5), |all, id| all.logit_bias(id, f64::NEG_INFINITY));
    let refused = [all, options(5).repetition_penalty(1e-300), options(5).max_length(3)];
    for options in refused {
        let message = session.generate("abc", &options).unwrap_err().to_string();
        assert!(!message.contains("export"), "{message}");
        let again = session.generate("abc", &self::options(5)).unwrap();
        assert_eq!(again.token_ids, fake.greedy(&bytes("abc"), 5));
    }
}

#[test]
fn lengths_count_the_prompt_or_do_not() {
    let fake = Fake::default();
    let ids = fake.greedy(&bytes("abc"), 12);
    let count = |options: GenerationOptions| {
        let generation = fake.session().generate("abc", &options).unwrap();
        assert_eq!(generation.finish_reason, FinishReason::Length);
        generation.token_ids.len()
    };
    assert_eq!(count(options(12)), 12);
    assert_eq!(count(options(12).max_length(10)), 7);
    assert_eq!(count(options(1).max_length(10).max_tokens(9)), 9);
    // `E` is an end token of the fake, which no longer comes before its time.
    let favoured = options(12).logit_bias(69, 100.0);
    let run = |options| fake.session().generate("abc", &options).unwrap().token_ids;
    assert_eq!(run(favoured.clone()), [69]);
    assert_eq!(run(favoured.clone().min_tokens(4)), [&ids[..4], &[69]].concat());
    assert_eq!(run(favoured.min_length(6)), [&ids[..3], &[69]].concat());
    assert_eq!(run(options(3).forced_eos_token(256)), [&ids[..2], &[256]].concat());
}

#[test]
fn cancelling_ends_between_tokens_and_the_session_goes_on() {
    let fake = Fake::default();
    let mut session = fake.session();
    let cancel = CancelToken::new();
    let options = options(20).cancel(cancel.clone());
    let mut stream = session.stream("abc", &options).unwrap();
    for _ in 0..4 {
        stream.next().unwrap().unwrap();
    }
    cancel.cancel();
    assert!(stream.next().is_none());
    let generation = stream.generation();
    assert_eq!(generation.finish_reason, FinishReason::Cancelled);
    assert_eq!(generation.token_ids, fake.greedy(&bytes("abc"), 4));
    let again = session.generate("abc", &self::options(6)).unwrap();
    assert_eq!(again.token_ids, fake.greedy(&bytes("abc"), 6));
}

/// Cancels when the model has run so many times.
struct CancelAfter {
    fake: Fake,
    calls: usize,
    cancel: CancelToken,
}

impl Network for CancelAfter {
    fn context_length(&self) -> usize {
        self.fake.context_length()
    }

    fn vocabulary_size(&self) -> usize {
        self.fake.vocabulary_size()
    }

    fn gives_logits(&self) -> bool {
        self.fake.gives_logits()
    }

    fn make_states(&self) -> Result<Vec<crate::CoreMLState>> {
        self.fake.make_states()
    }

    fn rewinds(&self, held: usize, kept: usize) -> bool {
        self.fake.rewinds(held, kept)
    }

    fn run(&self, ids: &[u32], at: usize, states: &mut [crate::CoreMLState]) -> Result<Prediction> {
        let next = self.fake.run(ids, at, states);
        if self.fake.calls.lock().unwrap().len() == self.calls {
            self.cancel.cancel();
        }
        next
    }

    fn lookahead(&self, start: usize) -> usize {
        self.fake.lookahead(start)
    }

    fn run_each(
        &self,
        ids: &[u32],
        start: usize,
        states: &mut [crate::CoreMLState],
    ) -> Result<Vec<Prediction>> {
        self.fake.run_each(ids, start, states)
    }
}

#[test]
fn cancelling_ends_between_pieces_of_a_long_prompt() {
    let fake = Fake::default();
    let cancel = CancelToken::new();
    let directory = tempfile::tempdir().unwrap();
    let network = CancelAfter { fake: fake.clone(), calls: 2, cancel: cancel.clone() };
    let model = Core::new(network, byte_tokenizer(directory.path()));
    let mut session = Session::new(std::sync::Arc::new(model));
    let prompt = "a long prompt ".repeat(100);
    let generation = session.generate(&prompt, &options(5).cancel(cancel)).unwrap();
    assert_eq!(generation.finish_reason, FinishReason::Cancelled);
    assert_eq!((generation.token_ids.len(), generation.usage.prefilled_tokens), (0, 1024));
    assert_eq!(calls(&fake), [(0, 512), (512, 512)]);
    // What has run is kept, and pieces change nothing of the result.
    let whole = session.generate(&prompt, &options(3).cancel(CancelToken::new())).unwrap();
    assert_eq!(whole.token_ids, fake.greedy(&bytes(&prompt), 3));
    assert_eq!((whole.usage.reused_tokens, whole.usage.prefilled_tokens), (1024, 376));
}

#[test]
fn a_full_context_stops_fails_or_shifts() {
    let fake = Fake { context: 32, ..Fake::default() };
    let prompt = "0123456789";
    let ids = bytes(prompt);
    let mut session = fake.session();
    let stopped = session.generate(prompt, &options(40)).unwrap();
    assert_eq!(stopped.token_ids, fake.greedy(&ids, 22));
    assert_eq!(stopped.finish_reason, FinishReason::Context);

    let error = options(40).overflow(ContextOverflow::Error);
    let tokens: Vec<_> = session.stream(prompt, &error).unwrap().collect();
    assert_eq!(tokens.len(), 23);
    assert!(tokens[22].as_ref().unwrap_err().to_string().contains("context of 32"));

    let shift = options(40).overflow(ContextOverflow::Shift { keep: 4 });
    let shifted = session.generate(prompt, &shift).unwrap();
    let first = fake.greedy(&ids, 22);
    assert_eq!(shifted.token_ids[..22], first);
    // Of 32 tokens the first 4 stay, and 14 of the other 28: 14 are dropped and 14 are free.
    let kept = [&ids[..4], &first[22 - 14..]].concat();
    assert_eq!(shifted.token_ids[22..36], fake.greedy(&kept, 14));
    assert_eq!(shifted.usage.shifted_tokens, 28, "twice 14");
    assert_eq!(shifted.token_ids.len(), 40);
    assert_eq!(shifted.finish_reason, FinishReason::Length);
}

#[test]
fn a_prompt_that_is_too_long_is_an_error_or_shortened() {
    let fake = Fake { context: 16, ..Fake::default() };
    let mut session = fake.session();
    let prompt = "the quick brown fox jumps";
    let message = session.generate(prompt, &options(2)).unwrap_err().to_string();
    assert!(message.contains("25 tokens") && message.contains("shorten"), "{message}");
    let shift = options(2).overflow(ContextOverflow::Shift { keep: 2 });
    let generation = session.generate(prompt, &shift).unwrap();
    assert_eq!(generation.token_ids, fake.greedy(&bytes("thx jumps"), 2));
    assert_eq!((generation.usage.prompt_tokens, generation.usage.shifted_tokens), (25, 16));
    let keep = options(2).overflow(ContextOverflow::Shift { keep: 15 });
    let message = session.generate(prompt, &keep).unwrap_err().to_string();
    assert!(message.contains("14 at most"), "{message}");
}

/// A model whose text goes in circles, so that drafts are often right, and often not.
fn repetitive(lookahead: usize) -> Fake {
    Fake { memory: 1, lookahead, ..Fake::default() }
}

#[test]
fn drafts_change_no_token() {
    let all = [
        options(80),
        options(80).repetition_penalty(1.05).frequency_penalty(0.02),
        options(80).temperature(0.3).seed(3),
        options(80).temperature(0.8).top_k(5).top_p(0.95).min_p(0.01).seed(9),
        options(80).temperature(0.5).presence_penalty(0.1).seed(1).logprobs(1),
    ];
    for options in all {
        for lookahead in [2, 3, 16, 64] {
            let fake = repetitive(lookahead);
            let prompt = "abcabcabc";
            let run = |speculation| {
                let mut session = fake.session();
                let options = options.clone().speculation(speculation);
                let generation = session.generate(prompt, &options).unwrap();
                (generation, calls(&fake).len())
            };
            let (plain, plain_calls) = run(Speculation::Off);
            let (drafted, drafted_calls) = run(Speculation::On);
            assert_eq!(drafted.token_ids, plain.token_ids);
            assert_eq!(drafted.logprobs, plain.logprobs);
            assert_eq!((plain.usage.drafted_tokens, plain_calls), (0, 80));
            let usage = drafted.usage;
            assert!(usage.accepted_tokens > 0 && usage.accepted_tokens <= usage.drafted_tokens);
            assert_eq!(drafted_calls, 80 - usage.accepted_tokens);
        }
    }
}

#[test]
fn drafts_keep_within_the_budget_and_the_context() {
    // The fake fails where a run would reach past the context.
    let fake = Fake { context: 60, ..repetitive(64) };
    let shift = ContextOverflow::Shift { keep: 0 };
    for overflow in [ContextOverflow::Stop, shift] {
        let run = |speculation| {
            let options = options(150).overflow(overflow).speculation(speculation);
            fake.session().generate("abcabc", &options).unwrap()
        };
        let (plain, drafted) = (run(Speculation::Off), run(Speculation::On));
        assert_eq!(drafted.token_ids, plain.token_ids);
        assert_eq!(drafted.usage.shifted_tokens, plain.usage.shifted_tokens);
        assert!(drafted.usage.accepted_tokens > 0);
    }
    calls(&fake);
    let options = options(10).speculation(Speculation::On);
    fake.session().generate("abcabc", &options).unwrap();
    assert!(calls(&fake).iter().all(|(start, count)| start + count <= 6 + 10));
}

#[test]
fn a_cache_that_can_not_go_back_gets_no_drafts() {
    let fake = Fake { rewinds: false, ..repetitive(8) };
    let options = options(40).speculation(Speculation::On);
    let generation = fake.session().generate("abcabc", &options).unwrap();
    assert_eq!(generation.token_ids, fake.greedy(&bytes("abcabc"), 40));
    assert_eq!((generation.usage.drafted_tokens, calls(&fake).len()), (0, 40));
}

#[test]
fn after_drafts_the_conversation_goes_on() {
    let fake = repetitive(16);
    let options = options(30).speculation(Speculation::On);
    let mut session = fake.session();
    let first = session.generate("abcabc", &options).unwrap();
    let longer = format!("abcabc{}, then", first.text);
    let second = session.generate(&longer, &options).unwrap();
    assert_eq!(second.token_ids, fake.greedy(&bytes(&longer), 30));
    assert!(second.usage.reused_tokens >= 35);
}

const PLAIN_CHAT: &str = "{% for message in messages %}<{{ message.role }}>{{ message.content }}\n\
                          {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

#[test]
fn a_conversation_runs_only_what_is_new_and_gives_what_a_fresh_one_gives() {
    let fake = Fake::default();
    let mut session = fake.chat_session(PLAIN_CHAT);
    let options = ChatOptions::new(options(8));
    let mut messages = vec![ChatMessage::system("be brief"), ChatMessage::user("hi")];
    let first = session.chat(&messages, &options).unwrap();
    let text = "<system>be brief\n<user>hi\n<assistant>";
    assert_eq!(first.prompt_ids, bytes(text));
    assert_eq!(first.token_ids, fake.greedy(&bytes(text), 8));
    messages.extend([first.message(), ChatMessage::user("more")]);
    let second = session.chat(&messages, &options).unwrap();
    let fresh = fake.chat_session(PLAIN_CHAT).chat(&messages, &options).unwrap();
    assert_eq!((&second.token_ids, &second.prompt_ids), (&fresh.token_ids, &fresh.prompt_ids));
    // All but the answer's last token, which has not run, and what is new.
    assert_eq!(second.usage.reused_tokens, first.prompt_ids.len() + 7);
    assert_eq!(second.usage.prefilled_tokens, 1 + "\n<user>more\n<assistant>".len());

    messages[1] = ChatMessage::user("hey");
    let changed = session.chat(&messages, &options).unwrap();
    assert_eq!(changed.usage.reused_tokens, "<system>be brief\n<user>h".len());
    let fresh = fake.chat_session(PLAIN_CHAT).chat(&messages, &options).unwrap();
    assert_eq!(changed.token_ids, fresh.token_ids);
}

#[test]
fn a_template_that_drops_earlier_thinking_takes_the_cache_back() {
    let template = "{% for message in messages %}<{{ message.role }}>\
                    {{ message.content.split('</think>')[-1] }}\n{% endfor %}<assistant>";
    let fake = Fake::default();
    let mut session = fake.chat_session(template);
    let options = ChatOptions::new(options(4));
    let mut messages = vec![ChatMessage::user("hi")];
    session.chat(&messages, &options).unwrap();
    messages.extend([ChatMessage::assistant("hm</think>yes"), ChatMessage::user("more")]);
    let second = session.chat(&messages, &options).unwrap();
    let text = "<user>hi\n<assistant>yes\n<user>more\n<assistant>";
    assert_eq!(second.token_ids, fake.greedy(&bytes(text), 4));
    assert!(second.usage.reused_tokens >= "<user>hi\n<assistant>".len());
}

#[test]
fn a_long_chat_forgets_its_oldest_messages() {
    let fake = Fake { context: 100, ..Fake::default() };
    let shift = ContextOverflow::Shift { keep: 0 };
    let options = ChatOptions::new(options(4).overflow(shift));
    let mut messages = vec![ChatMessage::system("sys")];
    for number in 0..6 {
        messages.push(ChatMessage::user(format!("question {number}")));
        messages.push(ChatMessage::assistant(format!("answer {number}")));
    }
    messages.push(ChatMessage::user("last"));
    let generation = fake.chat_session(PLAIN_CHAT).chat(&messages, &options).unwrap();
    // 12 tokens of the system message, and at most 44 of the other 88.
    let text = "<system>sys\n<user>last\n<assistant>";
    assert_eq!(generation.token_ids, fake.greedy(&bytes(text), 4));
    assert_eq!(generation.usage.shifted_tokens, generation.prompt_ids.len() - text.len());
    assert!(fake.chat_session(PLAIN_CHAT).chat(&messages, &ChatOptions::default()).is_err());
}

#[test]
fn a_long_answer_forgets_messages_and_then_tokens() {
    let fake = Fake { context: 200, ..Fake::default() };
    let long = "long ".repeat(20);
    let messages = [
        ChatMessage::system("sys"),
        ChatMessage::user(long.as_str()),
        ChatMessage::assistant("two"),
        ChatMessage::user("three"),
    ];
    let shift = ContextOverflow::Shift { keep: 0 };
    let options = ChatOptions::new(options(175).overflow(shift).ignore_eos(true));
    let generation = fake.chat_session(PLAIN_CHAT).chat(&messages, &options).unwrap();
    let ids = &generation.token_ids;
    let system = "<system>sys\n";
    let last = "<user>three\n<assistant>";
    // 157 tokens of the prompt leave 43.
    let prompt = bytes(&format!("{system}<user>{long}\n<assistant>two\n{last}"));
    assert_eq!(ids[..43], fake.greedy(&prompt, 43));
    // Without the first turn, 78 tokens are left, which leave 122.
    let turn = [bytes(system), bytes(last), ids[..43].to_vec()].concat();
    assert_eq!(ids[43..165], fake.greedy(&turn, 122));
    // There is no other turn to forget: half of what lies behind the system message stays.
    let half = [bytes(system), ids[165 - 94..165].to_vec()].concat();
    assert_eq!(ids[165..], fake.greedy(&half, 10));
    assert_eq!(generation.usage.shifted_tokens, (200 - 78) + (200 - 106));
}

#[test]
fn a_model_without_a_template_says_so() {
    let messages = [ChatMessage::user("hi")];
    let message = Fake::default().session().chat(&messages, &ChatOptions::default());
    let message = message.unwrap_err().to_string();
    assert!(message.contains("has no chat template"), "{message}");
    let broken = Fake::default().chat_session("{% for %}").chat(&messages, &ChatOptions::default());
    let message = broken.unwrap_err().to_string();
    assert!(message.contains("chat_template.jinja") && message.contains("valid"), "{message}");
}
