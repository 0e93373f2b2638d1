"""3x3 convolutions of many pictures by Winograd's F(2x2, 3x3): 16 multiplications for the 36 of four outputs.

    z = A^T [ (G w G^T) * (B^T x B) ] A      for every 4x4 tile x of the input, which overlaps the next by two

The product * goes over input channels: 16 matrix products with tiles as rows. Everything else is sums, and each is
linear, so that gradients are the same with every matrix transposed. Exact but for rounding, which is that of a plain
convolution nearly. Layouts are (N, H, W, C); kernels are (C', 9 C) outside and (16, C, C') inside.

Source: Lavin and Gray 2016, arXiv 1509.09308, section 4.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def kernel_inside(kernel: Tensor) -> Tensor:
    """G w G^T of a kernel (C', 9 C): (16, C, C')."""
    w = kernel.view(len(kernel), 3, 3, -1).permute(1, 2, 3, 0)
    return _to_four(_to_four(w, 0), 1).flatten(0, 1).contiguous()


def kernel_outside(gradient: Tensor) -> Tensor:
    """The gradient in the kernel (C', 9 C) from that in `kernel_inside` (16, C, C')."""
    return _to_three(_to_three(gradient.unflatten(0, (4, 4)), 0), 1).permute(3, 0, 1, 2).flatten(1)


def _to_four(w: Tensor, axis: int) -> Tensor:
    """G w along an axis: rows (1, 0, 0), (1, 1, 1) / 2, (1, -1, 1) / 2 and (0, 0, 1)."""
    first, middle, last = w.unbind(axis)
    outer = first + last
    return torch.stack([first, (outer + middle) / 2, (outer - middle) / 2, last], axis)


def _to_three(v: Tensor, axis: int) -> Tensor:
    """G^T v along an axis."""
    first, plus, minus, last = v.unbind(axis)
    both = (plus + minus) / 2
    return torch.stack([first + both, (plus - minus) / 2, both + last], axis)


def tiles(x: Tensor) -> Tensor:
    """B^T x B of all tiles of x (N, H, W, C), zeros beyond its edges: (16, N tiles, C)."""
    N, H, W, C = x.shape
    high, wide = (H - 1) // 2, (W - 1) // 2
    x = F.pad(x, (0, 0, 0, 2 * wide + 2 - W, 0, 2 * high + 2 - H))
    rows = x.new_empty(4, N, high, 2 * wide + 2, C)
    _to_tiles([x[:, i : i + 2 * high : 2] for i in range(4)], rows.unbind(0))
    inside = x.new_empty(4, 4, N, high, wide, C)
    _to_tiles([rows[:, :, :, i : i + 2 * wide : 2] for i in range(4)], inside.unbind(1))
    return inside.view(16, N * high * wide, C)


def _to_tiles(x: list[Tensor], out: tuple[Tensor, ...]) -> None:
    """B^T x along one axis."""
    torch.sub(x[0], x[2], out=out[0])
    torch.add(x[1], x[2], out=out[1])
    torch.sub(x[2], x[1], out=out[2])
    torch.sub(x[1], x[3], out=out[3])


def _from_tiles(v: tuple[Tensor, ...], even: tuple[Tensor, Tensor], odd: tuple[Tensor, Tensor]) -> None:
    """B v along one axis, where tiles lie: rows 0 and 1 on the first of the even and odd ones, 2 and 3 on the second.

    First and second overlap but for the first and last line; the second's last line is written before it is added to.
    """
    even[0].copy_(v[0])
    torch.sub(v[1], v[2], out=odd[0]).add_(v[3])
    even[1].add_(torch.add(v[1], v[2]).sub_(v[0]))
    odd[1].sub_(v[3])


def pictures_gradient(gradient: Tensor, kernel: Tensor, shape: torch.Size) -> Tensor:
    """The gradient in pictures of the given shape (N, H, W, C), from that in the products (16, N tiles, C')."""
    N, H, W, C = shape
    high, wide = (H - 1) // 2, (W - 1) // 2
    v = (gradient @ kernel.mT).view(4, 4, N, high, wide, C)
    rows = v.new_empty(4, N, high, 2 * wide + 2, C)
    rows[:, :, :, -2:] = 0
    part = [rows[:, :, :, i : i + 2 * wide : 2] for i in range(4)]
    _from_tiles(v.unbind(1), (part[0], part[2]), (part[1], part[3]))
    x = v.new_empty(N, 2 * high + 2, 2 * wide + 2, C)
    x[:, -2:] = 0
    part = [x[:, i : i + 2 * high : 2] for i in range(4)]
    _from_tiles(rows.unbind(0), (part[0], part[2]), (part[1], part[3]))
    return x[:, :H, :W]


def outputs(products: Tensor, shape: torch.Size) -> Tensor:
    """A^T m A of the products (16, N tiles, C'), as the convolution (N, H - 2, W - 2, C') of pictures (N, H, W, C)."""
    N, H, W, _ = shape
    high, wide = (H - 1) // 2, (W - 1) // 2
    m = products.view(4, 4, N, high, wide, -1)
    middle = torch.add(m[1], m[2]), torch.sub(m[1], m[2])
    rows = middle[0].add_(m[0]), middle[1].sub_(m[3])
    z = m.new_empty(N, high, 2, wide, 2, m.shape[-1])
    for i, row in enumerate(rows):
        torch.add(row[0] + row[1], row[2], out=z[:, :, i, :, 0])
        torch.sub(row[1] - row[2], row[3], out=z[:, :, i, :, 1])
    return z.view(N, 2 * high, 2 * wide, -1)[:, : H - 2, : W - 2]


def products_gradient(gradient: Tensor) -> Tensor:
    """The gradient in the products (16, N tiles, C') from that in the convolution (N, H, W, C')."""
    N, H, W, C = gradient.shape
    high, wide = (H + 1) // 2, (W + 1) // 2
    z = F.pad(gradient, (0, 0, 0, 2 * wide - W, 0, 2 * high - H)).view(N, high, 2, wide, 2, C)
    m = z.new_empty(4, 4, N, high, wide, C)
    left, right = z[:, :, :, :, 0].unbind(2), z[:, :, :, :, 1].unbind(2)
    both = list(zip(left, right, strict=True))
    columns = left, [a + b for a, b in both], [a - b for a, b in both], [-b for b in right]
    for j, (top, bottom) in enumerate(columns):
        m[0, j] = top
        torch.add(top, bottom, out=m[1, j])
        torch.sub(top, bottom, out=m[2, j])
        torch.neg(bottom, out=m[3, j])
    return m.view(16, N * high * wide, C)
