"""What palettization does to a network, seen on Linux with coremltools' own API.

A small ResNet is trained on handwritten digits, converted, and predicted with `MLModel.predict`, which
`candle_coreml.coremltools.enable()` makes work without macOS. Then its weights are palettized with 6, 4 and 2
bits, and each form is compared with PyTorch on digits that the training has not seen.

The cells run in an editor that knows `# %%`, or all at once:

    pip install candle-coreml coremltools torch torchvision scikit-learn matplotlib
    python palettize.py [--check]        # --check asserts and draws, but leaves the picture as it is
"""

# %% The data: 1797 digits of 8 × 8 pixels, enlarged to what the network takes. Every fifth is held out.
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy, interpolate
from torchvision.models.resnet import BasicBlock, ResNet

digits = load_digits()
small = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
images = interpolate(small, size=(32, 32), mode="bilinear").repeat(1, 3, 1, 1)
labels = torch.tensor(digits.target)
held_out = torch.arange(len(images)) % 5 == 0

# %% The network: torchvision's ResNet with one block in each of its four stages, trained for four epochs.
EPOCHS, BATCH = 4, 64

torch.manual_seed(0)
network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
train_images, train_labels = images[~held_out], labels[~held_out]
optimizer = torch.optim.AdamW(network.parameters())
steps = EPOCHS * -(-len(train_images) // BATCH)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
for _ in range(EPOCHS):
    for rows in torch.randperm(len(train_images)).split(BATCH):
        optimizer.zero_grad()
        cross_entropy(network(train_images[rows]), train_labels[rows]).backward()
        optimizer.step()
        schedule.step()
network.eval()

test_images, test_labels = images[held_out].numpy(), labels[held_out].numpy()
with torch.no_grad():
    expected = network(images[held_out]).numpy()

# %% The conversion, once with fp32 and once with fp16, for any number of images at a time.
import coremltools as ct  # noqa: E402
from coremltools.optimize import coreml as optimize  # noqa: E402

import candle_coreml.coremltools  # noqa: E402

candle_coreml.coremltools.enable()  # from here on, MLModel.predict works on this machine

traced = torch.jit.trace(network, images[:1])


def converted(precision: ct.precision) -> ct.models.MLModel:
    """The network as an ML Program: `image` float32 [n, 3, 32, 32] → `logits` [n, 10]."""
    return ct.convert(
        traced,
        inputs=[ct.TensorType("image", (ct.RangeDim(1, 512), 3, 32, 32))],
        outputs=[ct.TensorType("logits", dtype=np.float32)],
        compute_precision=precision,
        minimum_deployment_target=ct.target.iOS18,
    )


forms = {"fp32": converted(ct.precision.FLOAT32), "fp16": converted(ct.precision.FLOAT16)}

# %% Palettization: each weight becomes an index of 6, 4 or 2 bits into a table that k-means has found.
for bits in (6, 4, 2):
    palette = optimize.OpPalettizerConfig(nbits=bits, mode="kmeans")
    config = optimize.OptimizationConfig(global_config=palette)
    forms[f"fp16, {bits}-bit"] = optimize.palettize_weights(forms["fp16"], config)

# %% The comparison: logits beside PyTorch's, accuracy on the digits held out, bytes of the weights.
scale = np.abs(expected).max()
errors: dict[str, np.ndarray] = {}
accuracy = {"PyTorch": np.mean(expected.argmax(1) == test_labels)}
sizes: dict[str, float] = {}
for name, model in forms.items():
    logits = model.predict({"image": test_images})["logits"]
    errors[name] = np.abs(logits - expected).ravel() / scale
    accuracy[name] = np.mean(logits.argmax(1) == test_labels)
    with tempfile.TemporaryDirectory() as directory:
        package = Path(directory) / "model.mlpackage"
        model.save(str(package))
        sizes[name] = sum(file.stat().st_size for file in package.rglob("weight.bin")) / 1e6

print(f"{'':12}  {'largest':>10}  {'median':>10}  accuracy      MB")
print(f"{'PyTorch':12}  {'':>10}  {'':>10}  {accuracy['PyTorch']:8.1%}")
for name, error in errors.items():
    print(
        f"{name:12}  {error.max():10.1e}  {np.median(error):10.1e}  {accuracy[name]:8.1%}  {sizes[name]:6.2f}"
    )

# %% What must hold. Errors are relative to the largest logit.
assert accuracy["PyTorch"] > 0.95, "the network has learnt too little for a comparison"
assert errors["fp32"].max() < 1e-5, "fp32 must be PyTorch's result"
assert errors["fp16"].max() < 1e-2, "fp16 weights have three digits"
assert np.median(errors["fp16, 6-bit"]) < np.median(errors["fp16, 4-bit"]) < np.median(errors["fp16, 2-bit"])
assert abs(accuracy["fp16, 6-bit"] - accuracy["PyTorch"]) < 0.01, "6 bits must cost next to nothing"
assert 2.5 < sizes["fp16"] / sizes["fp16, 6-bit"] < 16 / 6 + 0.1
assert 3.8 < sizes["fp16"] / sizes["fp16, 4-bit"] < 16 / 4 + 0.1

# %% The picture.
import matplotlib  # noqa: E402

matplotlib.use("agg")
from matplotlib import pyplot as plt  # noqa: E402

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
left.boxplot(list(errors.values()), whis=(1, 100), showfliers=False, tick_labels=list(errors))
left.set_yscale("log")
left.set_ylabel("difference of logits / largest logit")
left.set_title(
    f"Beside PyTorch ({len(test_labels)} digits)\nbox: quartiles, lines: from the lowest percent to the largest",
    fontsize=10,
)
left.grid(axis="y", alpha=0.3)

bars = right.bar(list(sizes), list(sizes.values()), color="tab:gray")
right.bar_label(bars, [f"{accuracy[name]:.1%}" for name in sizes], padding=2)
right.set_ylabel("weights in MB")
right.set_title(f"Size of the weights\nabove: accuracy (PyTorch: {accuracy['PyTorch']:.1%})", fontsize=10)
right.margins(y=0.1)
for axes in (left, right):
    axes.tick_params(axis="x", labelsize=9)

with tempfile.TemporaryDirectory() as directory:
    picture = Path(__file__).resolve().parents[3] / "docs" / "images" / "palettize.png"
    if "--check" in sys.argv[1:]:
        picture = Path(directory) / "palettize.png"
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, dpi=110)
    print(f"drawn: {picture.name}")
