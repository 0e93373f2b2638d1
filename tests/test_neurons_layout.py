"""How operands of the scans lie in memory."""

import torch

from snn_anml.neurons.layout import layout_of
from tests.neuron_helpers import currents


def test_layouts_expand_as_torch_does():
    """An operand read through its pattern is the broadcast operand, for every shape that broadcasts."""
    x = currents((2, 2, 3, 4, 5), 0)[0:2].detach()
    for laid in (x, x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (2, 2))):
        layout = layout_of(laid)
        assert torch.equal(layout.unflat(layout.flat(laid)), laid)
        for bits in range(16):
            shape = [size if bits >> d & 1 else 1 for d, size in enumerate(layout.shape)]
            operand = torch.rand(1, *shape)
            flat, (M, K, so, sm, sk) = layout.operand(operand)
            n = torch.arange(layout.neurons)
            read = flat[0][n // (M * K) * so + n // K % M * sm + n % K * sk]
            assert torch.equal(read, layout.flat(operand.expand(1, *layout.shape))[0])
