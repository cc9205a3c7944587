use super::*;
use crate::context::Workers;

const COUNT: usize = 100_000;

fn context() -> Context {
    Context::new(Workers::shared())
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64
}

fn variance(values: &[f32]) -> f64 {
    let mean = mean(values);
    values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / values.len() as f64
}

/// The statistic of Kolmogorov and Smirnov: the largest distance of the numbers' distribution from one.
fn distance(values: &[f32], distribution: impl Fn(f64) -> f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f32::total_cmp);
    let count = sorted.len() as f64;
    let distances = sorted.iter().enumerate().map(|(i, &x)| {
        let expected = distribution(f64::from(x));
        (expected - i as f64 / count).abs().max((expected - (i + 1) as f64 / count).abs())
    });
    distances.fold(0.0, f64::max)
}

/// What a distance exceeds once in a thousand times, for so many numbers.
fn critical(count: usize) -> f64 {
    1.95 / (count as f64).sqrt()
}

/// The normal distribution, by Abramowitz and Stegun's formula 7.1.26, which is exact to 1.5e-7.
fn normal_distribution(x: f64) -> f64 {
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let sum = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    let erf = 1.0 - sum.iter().fold(0.0, |sum, c| (sum + c) * t) * (-z * z).exp();
    0.5 * (1.0 + erf.copysign(x))
}

#[test]
fn uniform_numbers_fill_their_range() {
    let mut values = vec![0.0; COUNT];
    Source::seeded(1).uniform(&context(), -2.0, 3.0, 24, &mut values);
    assert!(values.iter().all(|value| (-2.0..3.0).contains(value)));
    assert!(distance(&values, |x| (x + 2.0) / 5.0) < critical(COUNT));
    assert!((mean(&values) - 0.5).abs() < 0.02, "{}", mean(&values));
    assert!((variance(&values) - 25.0 / 12.0).abs() < 0.02, "{}", variance(&values));
}

#[test]
fn uniform_numbers_stay_below_the_end() {
    let run = |low, high, bits| {
        let mut values = vec![9.0; COUNT];
        Source::seeded(2).uniform(&context(), low, high, bits, &mut values);
        values
    };
    // Few numbers lie between these: most products are rounded, many to the end.
    let next = 1f32.next_up();
    assert!(run(1.0, next, 24).iter().all(|&value| value == 1.0));
    assert!(run(1.0, next.next_up(), 24).iter().all(|value| (1.0..next.next_up()).contains(value)));
    assert!(run(2.0, 2.0, 24).iter().all(|&value| value == 2.0));
    assert!(run(f32::MIN, f32::MAX, 24).iter().all(|value| value.is_finite()));
    // As many bits as a half has are such numbers.
    let halves = run(0.0, 1.0, 11);
    assert!(halves.iter().all(|&x| half::f16::from_f32(x).to_f32() == x && x < 1.0));
}

#[test]
fn normal_numbers_are_normally_distributed() {
    let mut values = vec![0.0; COUNT + 1];
    Source::seeded(3).normal(&context(), 0.0, 1.0, &mut values);
    assert!(distance(&values, normal_distribution) < critical(COUNT));
    assert!(mean(&values).abs() < 0.012, "{}", mean(&values));
    assert!((variance(&values) - 1.0).abs() < 0.02, "{}", variance(&values));
    let mut scaled = vec![0.0; COUNT + 1];
    Source::seeded(3).normal(&context(), 5.0, 0.5, &mut scaled);
    assert!(values.iter().zip(&scaled).all(|(x, y)| (x * 0.5 + 5.0 - y).abs() < 1e-5));
    // Neighbours, which are made of the same two numbers, do not go together.
    let pairs = values.chunks_exact(2).map(|pair| f64::from(pair[0]) * f64::from(pair[1]));
    assert!((pairs.sum::<f64>() / (COUNT / 2) as f64).abs() < 0.02);
}

#[test]
fn ones_come_as_often_as_they_should() {
    for probability in [0.0f32, 0.25, 1.0] {
        let mut values = vec![9.0; COUNT];
        Source::seeded(4).bernoulli(&context(), probability, &mut values);
        assert!(values.iter().all(|&value| value == 0.0 || value == 1.0));
        let tolerance = if probability == 0.25 { 0.006 } else { 0.0 };
        assert!((mean(&values) - f64::from(probability)).abs() <= tolerance, "{}", mean(&values));
    }
}

#[test]
fn classes_are_drawn_by_their_weights() {
    let weights = [1.0, 0.0, 2.0, 5.0, 3.0, 3.0, 0.0, 0.0];
    let mut draws = vec![9.0; 2 * COUNT];
    Source::seeded(5).categorical(&context(), &weights, 4, &mut draws).unwrap();
    for (line, draws) in draws.chunks(COUNT).enumerate() {
        let weights = &weights[line * 4..][..4];
        let total: f32 = weights.iter().sum();
        let mut chi = 0.0;
        for (class, &weight) in weights.iter().enumerate() {
            let drawn = draws.iter().filter(|&&draw| draw == class as f32).count() as f64;
            let expected = f64::from(weight / total) * COUNT as f64;
            assert!(weight > 0.0 || drawn == 0.0, "class {class} was drawn");
            chi += if weight > 0.0 { (drawn - expected).powi(2) / expected } else { 0.0 };
        }
        // Exceeded once in a thousand times, with two degrees of freedom.
        assert!(chi < 13.8, "{chi}");
    }
}

#[test]
fn what_is_no_probability_is_refused() {
    let draw = |weights: &[f32], classes, out: usize| {
        Source::seeded(6).categorical(&context(), weights, classes, &mut vec![0.0; out])
    };
    assert!(draw(&[1.0, 2.0], 2, 3).is_ok());
    assert!(draw(&[], 0, 0).is_ok());
    for weights in [[f32::NAN, 1.0], [0.0, 0.0], [f32::INFINITY, 1.0], [-1.0, 2.0]] {
        let message = draw(&weights, 2, 1).unwrap_err().to_string();
        assert!(message.contains("line 0"), "{message}");
    }
    assert!(draw(&[1.0; 3], 2, 2).is_err());
    assert!(draw(&[1.0; 4], 2, 3).is_err());
}

#[test]
fn a_seed_means_the_same_numbers_on_any_number_of_threads() {
    let run = |seed, workers| {
        let mut values = vec![0.0; 3 * PART + 5];
        Source::seeded(seed).uniform(&Context::new(workers), 0.0, 1.0, 24, &mut values);
        values
    };
    let first = run(7, Workers::serial());
    assert_eq!(first, run(7, Workers::new(3).unwrap()));
    assert_ne!(first, run(8, Workers::serial()));
    // Parts differ, too.
    assert_ne!(first[..PART], first[PART..2 * PART]);
    let fresh = || {
        let mut values = [0.0; 8];
        Source::fresh().unwrap().uniform(&context(), 0.0, 1.0, 24, &mut values);
        values
    };
    assert_ne!(fresh(), fresh());
}
