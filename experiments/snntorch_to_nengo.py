"""A network of snnTorch, as its tutorials write one, on NengoDL: how many spikes differ.

    python -m experiments.snntorch_to_nengo [--samples N]

The network learns ten classes of glyphs, shown at every step, for half a minute. `export` is all that its owner would
add.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import snntorch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from converters import Fidelity, Recording, compare, from_torch, simulate
from snn_anml.data import load_dataset
from snn_anml.data.tasks import pictures
from snn_anml.errors import UserError

STEPS = 25
CLASSES = 10


class Net(nn.Module):
    """That of snnTorch's tutorial 6, with 24 channels for its 64: maxima of currents; knows nothing of the export."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 5)
        self.lif1 = snntorch.Leaky(beta=0.9)
        self.conv2 = nn.Conv2d(12, 24, 5)
        self.lif2 = snntorch.Leaky(beta=0.9)
        self.fc1 = nn.Linear(24 * 4 * 4, CLASSES)
        self.lif3 = snntorch.Leaky(beta=0.9)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Spikes and membranes of the last layer, (T, B, classes)."""
        mem1, mem2, mem3 = self.lif1.reset_mem(), self.lif2.reset_mem(), self.lif3.reset_mem()
        spk3_rec, mem3_rec = [], []
        for _ in range(STEPS):
            cur1 = F.max_pool2d(self.conv1(x), 2)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = F.max_pool2d(self.conv2(spk1), 2)
            spk2, mem2 = self.lif2(cur2, mem2)
            cur3 = self.fc1(spk2.view(len(x), -1))
            spk3, mem3 = self.lif3(cur3, mem3)
            spk3_rec.append(spk3)
            mem3_rec.append(mem3)
        return torch.stack(spk3_rec), torch.stack(mem3_rec)


def train(net: Net, x: Tensor, labels: Tensor, iterations: int, seed: int) -> None:
    """Cross-entropy of the spike counts, on random batches."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(iterations):
        batch = torch.randint(len(x), (32,), generator=generator)
        loss = F.cross_entropy(net(x[batch])[0].sum(0), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def export(net: Net, x: Tensor) -> Recording:
    """The network on NengoDL. What forward calls as a function stands in the order as the module of the same name."""
    pool = nn.MaxPool2d(2)
    order = ["conv1", pool, "lif1", "conv2", pool, "lif2", nn.Flatten(), "fc1", "lif3"]
    graph = from_torch(net.eval(), order=order, steps=STEPS, example_input=x)
    return simulate(graph, x, backend="nengo-dl")


@torch.no_grad()
def record(net: Net, x: Tensor) -> Recording:
    """The network itself, stepped by snnTorch."""
    neurons = {"lif1": net.lif1, "lif2": net.lif2, "lif3": net.lif3}
    results: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in neurons}
    hooks = [
        neuron.register_forward_hook(lambda module, arguments, result, rows=results[name]: rows.append(result))
        for name, neuron in neurons.items()
    ]
    output = net(x)[0].mean(0).numpy()
    for hook in hooks:
        hook.remove()
    spikes, membranes = (
        {name: torch.stack([row[i].flatten(1) for row in rows], 1).numpy() for name, rows in results.items()}
        for i in (0, 1)
    )
    thresholds = {name: neuron.threshold.numpy() for name, neuron in neurons.items()}
    return Recording("snntorch", output, {name: s > 0 for name, s in spikes.items()}, membranes, {}, thresholds)


def run(samples: int, iterations: int = 60, seed: int = 0) -> tuple[Fidelity, Recording]:
    """NengoDL against snnTorch on the first drawings of all classes, and what snnTorch did.

    Raises:
        UserError: no samples, or more than there are.
        MissingExtraError: NengoDL is not installed.
    """
    with torch.random.fork_rng(devices=[]):  # torch's initialisers draw from the global generator only
        torch.default_generator.manual_seed(seed)
        net = Net()
    data = load_dataset("glyphs", classes=CLASSES)
    drawing, label = np.divmod(np.arange(data.classes * data.drawings), data.classes)
    x, labels = pictures(torch.from_numpy(data.images), label, drawing), torch.from_numpy(label)
    if not 1 <= samples <= len(x):
        raise UserError(f"{samples} drawings were asked for; there are {len(x)}.")
    train(net, x, labels, iterations, seed)
    x, label = x[:samples], label[:samples]
    reference = record(net, x)
    return compare(export(net, x), reference, label), reference


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the mismatches of every layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100, help="drawings to compare on (default: 100)")
    samples = parser.parse_args(arguments).samples
    try:
        fidelity, reference = run(samples)
    except UserError as error:
        parser.error(str(error))
    for name, layer in fidelity.layers.items():
        print(
            f"{name}: {layer.mismatches} of {layer.slots} spike slots differ ({reference.spikes[name].mean():.1%} of "
            f"them hold a spike), membranes by at most {layer.max_membrane_difference:.1e}"
        )
    print(
        f"accuracy on {fidelity.samples} drawings of the training: {fidelity.accuracy:.1%}, in snnTorch "
        f"{fidelity.reference_accuracy:.1%}"
    )


if __name__ == "__main__":
    main()
