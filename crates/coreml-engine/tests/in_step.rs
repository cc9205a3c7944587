//! Calls of several participants, which run together.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

#[path = "common/blobs.rs"]
mod blobs;

use std::ops::ControlFlow;
use std::sync::Barrier;
use std::time::Duration;

use coreml_engine::{Buffer, CallOptions, CancelToken, Function, Model, Participant, Shape};

use self::blobs::{Blobs, compiled};

const SIZE: usize = 2048;
const STEPS: usize = 6;

/// A layer with a state: what it gives is the next one's input, and is added up.
fn model() -> (tempfile::TempDir, Model) {
    let mut blobs = Blobs::new();
    let (weight, filters) =
        (blobs.palettized(&[SIZE, SIZE]), blobs.palettized(&[SIZE, SIZE, 1, 1]));
    let text = format!(
        r#"func main<ios18>(tensor<fp16, [1, {SIZE}]> x, state<tensor<fp16, [1, {SIZE}]>> sum) {{
            tensor<fp16, [{SIZE}, {SIZE}]> w = {weight};
            tensor<fp16, [{SIZE}, {SIZE}, 1, 1]> f = {filters};
            tensor<fp16, [1, {SIZE}]> y = linear(x = x, weight = w);
            tensor<fp16, [1, {SIZE}]> scaled = mul(x = y, y = fp16(0.03125));
            tensor<fp16, [1, {SIZE}, 1, 1]> points =
                reshape(x = scaled, shape = tensor<int32, [4]>([1, {SIZE}, 1, 1]));
            tensor<fp16, [1, {SIZE}, 1, 1]> z = conv(x = points, weight = f);
            tensor<fp16, [1, {SIZE}]> flat =
                reshape(x = z, shape = tensor<int32, [2]>([1, {SIZE}]));
            tensor<fp16, [1, {SIZE}]> old = read_state(input = sum);
            tensor<fp16, [1, {SIZE}]> small = mul(x = flat, y = fp16(0.03125));
            tensor<fp16, [1, {SIZE}]> new = add(x = old, y = small);
            write_state(data = new, input = sum);
            tensor<fp16, [1, {SIZE}]> out = tanh(x = new);
        }} -> (out);"#
    );
    compiled(&text, &blobs)
}

/// A conversation: each output is the next input.
struct Conversation<'m> {
    model: &'m Model,
    function: &'m Function,
    states: Vec<Buffer>,
    x: Buffer,
}

impl<'m> Conversation<'m> {
    fn new(model: &'m Model, number: usize) -> Self {
        let function = model.functions().next().unwrap();
        let states = function.states().iter();
        let zeroed = |len: Option<usize>| Buffer::zeroed(len.unwrap()).unwrap();
        let x: Vec<f32> =
            (0..SIZE).map(|i| ((i * 7 + number * 31) % 17) as f32 / 8.0 - 1.0).collect();
        Conversation {
            model,
            function,
            states: states.map(|state| zeroed(state.storage.byte_len(&state.shape))).collect(),
            x: Buffer::copy_of(bytemuck::cast_slice(&x)).unwrap(),
        }
    }

    fn step(&mut self, options: CallOptions) -> coreml_engine::Result<Vec<f32>> {
        let mut out = Vec::new();
        let shapes = [Shape::from_slice(&[1, SIZE])];
        let (inputs, context) = ([self.x.bytes()], self.model.context());
        self.function.predict(
            context,
            &shapes,
            &inputs,
            &mut self.states,
            options,
            |_, tensor| {
                out = bytemuck::pod_collect_to_vec(tensor.dense_bytes().unwrap());
                ControlFlow::Continue(())
            },
        )?;
        self.x = Buffer::copy_of(bytemuck::cast_slice(&out)).unwrap();
        Ok(out)
    }
}

fn assert_close(got: &[f32], expected: &[f32]) {
    let apart = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 2e-3, "{apart} apart");
}

fn alone(model: &Model, number: usize) -> Vec<Vec<f32>> {
    let mut conversation = Conversation::new(model, number);
    (0..STEPS).map(|_| conversation.step(CallOptions::default()).unwrap()).collect()
}

#[test]
fn conversations_in_step_give_what_each_gives_alone() {
    let (_directory, model) = model();
    for count in [2, 4, 9] {
        let start = Barrier::new(count);
        let talk = |number: usize| -> Vec<Vec<f32>> {
            let (mut conversation, participant) =
                (Conversation::new(&model, number), Participant::new());
            let options = CallOptions::default().participant(Some(&participant));
            start.wait();
            (0..STEPS).map(|_| conversation.step(options).unwrap()).collect()
        };
        let given: Vec<_> = std::thread::scope(|scope| {
            let talk = &talk;
            let threads: Vec<_> =
                (0..count).map(|number| scope.spawn(move || talk(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (number, given) in given.iter().enumerate() {
            let expected = alone(&model, number);
            assert!(expected[0].iter().any(|value| value.abs() > 0.01));
            given.iter().zip(&expected).for_each(|(got, expected)| assert_close(got, expected));
        }
    }
}

#[test]
fn one_that_is_cancelled_does_not_stop_the_others() {
    let (_directory, model) = model();
    let token = CancelToken::new();
    token.cancel();
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let participant = Participant::new();
            let options =
                CallOptions::default().participant(Some(&participant)).cancel(Some(&token));
            start.wait();
            for _ in 0..STEPS {
                assert!(Conversation::new(&model, 1).step(options).is_err());
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let (mut conversation, participant) = (Conversation::new(&model, 0), Participant::new());
        let options = CallOptions::default().participant(Some(&participant));
        start.wait();
        for expected in alone(&model, 0) {
            assert_close(&conversation.step(options).unwrap(), &expected);
        }
    });
}
