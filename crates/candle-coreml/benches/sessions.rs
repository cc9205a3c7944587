//! What several conversations with one model give together.
//!
//! `cargo bench -p candle-coreml --bench sessions -- DIRECTORY [TOKENS] [COUNT,…] [ROUNDS]` lets 1, 2 and 4
//! conversations, or as many as are given, generate tokens at the same time, each on a thread of its own, in
//! turns, and prints the tokens per second of all together: medians of the rounds, and their ratio to one's.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use candle_coreml::{GenerationOptions, LanguageModel, Session, Speculation};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Tokens per second of so many conversations, from each one's first token on.
fn run(model: &LanguageModel, count: usize, tokens: usize) -> Result<f64, Failure> {
    let start = std::sync::Barrier::new(count);
    let talk = |number: usize, mut session: Session| -> Result<f64, Failure> {
        let options = GenerationOptions::new().max_tokens(tokens + 1).ignore_eos(true);
        let options = options.speculation(Speculation::Off);
        let prompt = [1 + number as u32, 2];
        let mut stream = session.stream_ids(&prompt, &options)?;
        stream.next().transpose()?;
        start.wait();
        let started = Instant::now();
        for token in stream {
            token?;
        }
        Ok(started.elapsed().as_secs_f64())
    };
    std::thread::scope(|scope| {
        let talk = &talk;
        let start = |number| {
            let session = model.session();
            scope.spawn(move || talk(number, session))
        };
        let threads: Vec<_> = (0..count).map(start).collect();
        let mut longest = 0.0f64;
        for thread in threads {
            longest = longest.max(thread.join().map_err(|_| "a conversation broke down")??);
        }
        Ok((count * tokens) as f64 / longest)
    })
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let Some(directory) = arguments.first() else {
        println!("give a model: -- DIRECTORY [TOKENS] [COUNT,…] [ROUNDS]");
        return Ok(());
    };
    let tokens: usize = arguments.get(1).map_or(Ok(32), |text| text.parse())?;
    let counts = arguments.get(2).map_or("1,2,4", String::as_str);
    let counts: Vec<usize> = counts.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let rounds: usize = arguments.get(3).map_or(Ok(5), |text| text.parse())?;
    let model = LanguageModel::load(directory)?;
    let mut rates = vec![Vec::new(); counts.len()];
    for _ in 0..rounds {
        for (count, rates) in counts.iter().zip(&mut rates) {
            rates.push(run(&model, *count, tokens)?);
        }
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let medians: Vec<f64> = rates.iter_mut().map(median).collect();
    for (count, rate) in counts.iter().zip(&medians) {
        println!("{count} at once: {rate:.1} tokens/s, {:.2} times the first", rate / medians[0]);
    }
    Ok(())
}
