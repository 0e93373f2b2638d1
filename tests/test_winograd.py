"""Winograd's convolution against torch's: output and gradients."""

import pytest
import torch
import torch.nn.functional as F

from snn_anml.networks import winograd


@pytest.mark.parametrize(("height", "width"), [(13, 13), (8, 7), (3, 10), (4, 3)])
def test_equals_the_plain_convolution(height, width):
    generator = torch.Generator().manual_seed(height)
    x = torch.randn((3, height, width, 5), generator=generator, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn((4, 3, 3, 5), generator=generator, dtype=torch.float64, requires_grad=True)
    z = F.conv2d(x.permute(0, 3, 1, 2), kernel.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    pull = torch.randn(z.shape, generator=generator, dtype=torch.float64)
    dx, dkernel = torch.autograd.grad(z, (x, kernel), pull)

    x, inside = x.detach(), winograd.kernel_inside(kernel.detach().flatten(1))
    tiles, products = winograd.tiles(x), winograd.products_gradient(pull)
    torch.testing.assert_close(winograd.outputs(tiles @ inside, x.shape), z.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(winograd.pictures_gradient(products, inside, x.shape), dx, rtol=1e-12, atol=1e-12)
    ours = winograd.kernel_outside(tiles.mT @ products)
    torch.testing.assert_close(ours, dkernel.flatten(1), rtol=1e-12, atol=1e-12)
