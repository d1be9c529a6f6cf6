"""The layers of a stack: K linear layers or K convolutions side by side, with explicit backward products.

A convolution is a linear layer over patches of its image. Rows below are samples of a linear layer and patches of a
convolution; weight gradients and their inner products are the same matrix products for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench.engine.products import Pieces, Products, joined, write


@dataclass(frozen=True)
class Saved:
    """What a layer saves in a forward pass for the backward products.

    `inputs` is `[K, B, in]`; for a convolution the images of all replicas side by side, `[B, K * C, H, W]`. It also
    saves `convolved`, the convolution's output before pooling, and `places`, the indices of the maxima in it. `weight`
    is the layer's. `inputs` and `weight` are operands of products, which may have a lower precision.
    """

    inputs: Tensor
    weight: Tensor
    convolved: Tensor | None = None
    places: Tensor | None = None


@dataclass(frozen=True)
class Linear:
    """K linear layers side by side.

    `weight` `[K, out, in]` consists of `pieces`, which have its gradient; `bias` `[K, out]` has its own. Deltas are
    gradients with respect to the pre-activation: `[K, B, F]`, or one per task, `[K, T, B, F]`.
    """

    weight: Tensor
    bias: Tensor
    pieces: Pieces
    products: Products

    @property
    def weight_grad(self) -> Tensor:
        """Gradient of the weight, `[K, out, in]`."""
        return joined(self.pieces)

    @property
    def bias_grad(self) -> Tensor:
        """Gradient of the bias, `[K, out]`, in a buffer that is kept."""
        return joined((self.bias,))

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        """The pre-activation `[K, B, F]` for an input `[K, B, in]`, and what to save for the backward products."""
        saved = Saved(self.products.operand(x), self.products.operand(self.weight))
        return self.products.affine(saved.inputs, saved.weight, self.bias), saved

    def input_delta(self, saved: Saved, delta: Tensor) -> Tensor:
        """Gradient with respect to the input, `[K, B, in]` or `[K, T, B, in]`, from the deltas."""
        rows = self.products.operand(delta.flatten(1, -2))
        return self.products.multiply(rows, saved.weight).view(*delta.shape[:-1], -1)

    def write_gradient(self, saved: Saved, delta: Tensor) -> None:
        """Write the gradients of weight and bias, from the deltas `[K, B, F]`."""
        self.products.write_gradient(self.products.operand(delta).mT, saved.inputs, self.pieces)
        torch.sum(delta, 1, out=self.bias_grad)

    def write(self, weight: Tensor, bias: Tensor) -> None:
        """Write given gradients."""
        write(weight.view(self.weight.shape), self.pieces)
        self.bias_grad.copy_(bias.view(self.bias.shape))

    def jacobian(self, saved: Saved, deltas: Tensor, jacobian: Tensor | None = None) -> Tensor:
        """The task gradients, weight then bias, `[K, T, out * in + out]`; written into `jacobian` if given."""
        return explicit_jacobian(saved.inputs.to(deltas.dtype), deltas, jacobian, self.products)

    def rows(self, saved: Saved, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """The N rows that the weight multiplies, `[K, N, in]`, and the gradients of the products, `[K, T, N, out]`."""
        return saved.inputs.to(deltas.dtype), deltas

    def row_count(self, saved: Saved) -> int:
        """N, computed without the rows."""
        return saved.inputs.shape[1]


@dataclass(frozen=True)
class Convolution(Linear):
    """K convolutions with pooling side by side; `weight` `[K, out, C * k * k]` holds the flattened kernels.

    The input is images `[K, B, C * H * W]`, the output `[K, B, out * h * w]`; the pre-activation is taken after
    pooling. Replicas are the groups of one convolution. Memory is channels last, for which pooling is several times as
    fast. Rows are patches, which are extracted only for inner products of gradients.
    """

    image: tuple[int, int, int]
    kernel: int
    pool: int

    def forward(self, x: Tensor) -> tuple[Tensor, Saved]:
        """See `Linear`."""
        operand = self.products.operand
        images, kernels = operand(self._side_by_side(x, self.image)), operand(self._kernels)
        convolved = F.conv2d(images, kernels, operand(self.bias.flatten()), groups=len(self.bias))
        pooled, places = F.max_pool2d(convolved, self.pool, return_indices=True)
        return self._apart(pooled).to(x.dtype), Saved(images, kernels, convolved, places)

    def input_delta(self, saved: Saved, delta: Tensor) -> Tensor:
        """See `Linear`."""
        if delta.dim() == 4:
            return torch.stack([self.input_delta(saved, each) for each in delta.unbind(1)], 1)
        return self._apart(self._differentiate(saved, delta, [True, False, False])[0]).to(delta.dtype)

    def write_gradient(self, saved: Saved, delta: Tensor) -> None:
        """See `Linear`."""
        _, by_weight, by_bias = self._differentiate(saved, delta, [False, True, True])
        self.write(by_weight.reshape(self.weight.shape), by_bias)

    def jacobian(self, saved: Saved, deltas: Tensor, jacobian: Tensor | None = None) -> Tensor:
        """See `Linear`."""
        if jacobian is None:
            jacobian = deltas.new_empty(*deltas.shape[:2], self.weight[0].numel() + self.bias.shape[1])
        weight, bias = jacobian.split([self.weight[0].numel(), self.bias.shape[1]], dim=-1)
        for task, delta in enumerate(deltas.unbind(1)):
            _, by_weight, by_bias = self._differentiate(saved, delta, [False, True, True])
            weight[:, task] = by_weight.reshape(len(self.bias), -1)
            bias[:, task] = by_bias.view(self.bias.shape)
        return jacobian

    def rows(self, saved: Saved, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """See `Linear`; N is the number of patches of all samples."""
        replicas, out = self.bias.shape
        patches = (
            saved.inputs.to(deltas.dtype).unfold(2, self.kernel, 1).unfold(3, self.kernel, 1)
        )  # [B, K * C, h, w, k, k]
        apart = patches.unflatten(1, (replicas, -1)).permute(1, 0, 3, 4, 2, 5, 6)
        each = [
            self._before_pooling(saved, delta).to(deltas.dtype).unflatten(1, (replicas, out))
            for delta in deltas.unbind(1)
        ]
        by_row = torch.stack(each).permute(2, 0, 1, 4, 5, 3)  # [K, T, B, h, w, out]
        return apart.flatten(4).flatten(1, 3), by_row.flatten(2, 4)

    def row_count(self, saved: Saved) -> int:
        """See `Linear`."""
        assert saved.convolved is not None
        return saved.convolved[:, 0].numel()

    @property
    def _kernels(self) -> Tensor:
        return self.weight.view(-1, self.image[0], self.kernel, self.kernel)

    def _differentiate(self, saved: Saved, delta: Tensor, wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of images, kernels and biases; `wanted` selects which of them."""
        output, sizes, ones, zeros = self._before_pooling(saved, delta), [self.bias.numel()], [1, 1], [0, 0]
        options = {"stride": ones, "padding": zeros, "dilation": ones, "transposed": False, "output_padding": zeros}
        return torch.ops.aten.convolution_backward(
            output, saved.inputs, saved.weight, sizes, **options, groups=len(self.bias), output_mask=wanted
        )

    def _before_pooling(self, saved: Saved, delta: Tensor) -> Tensor:
        """Gradient of the output before pooling, `[B, K * out, h, w]`, from the deltas `[K, B, F]`."""
        assert saved.convolved is not None and saved.places is not None
        pooled = self._side_by_side(self.products.operand(delta), (self.bias.shape[1], *saved.places.shape[2:]))
        size = [self.pool, self.pool]
        return torch.ops.aten.max_pool2d_with_indices_backward(
            pooled, saved.convolved, size, size, [0, 0], [1, 1], ceil_mode=False, indices=saved.places
        )

    def _side_by_side(self, x: Tensor, image: tuple[int, ...]) -> Tensor:
        """Images `[K, B, C * H * W]` as `[B, K * C, H, W]`, channels last in memory."""
        replicas, batch, _ = x.shape
        apart = x.reshape(replicas, batch, *image).permute(1, 3, 4, 0, 2)  # [B, H, W, K, C]
        return apart.flatten(3).contiguous().permute(0, 3, 1, 2)

    def _apart(self, images: Tensor) -> Tensor:
        """The inverse of `_side_by_side`."""
        return images.unflatten(1, (len(self.bias), -1)).transpose(0, 1).flatten(2)


def explicit_jacobian(
    x: Tensor, deltas: Tensor, jacobian: Tensor | None = None, products: Products | None = None
) -> Tensor:
    """One layer's task gradients, weight then bias, `[K, T, out * in + out]`, from its input and deltas.

    They are written into `jacobian` if given, which may be a slice of a larger Jacobian.
    """
    replicas, tasks, _, out = deltas.shape
    size = out * x.shape[-1]
    if jacobian is None:
        jacobian = deltas.new_empty(replicas, tasks, size + out)
    weight, bias = jacobian.split([size, out], dim=-1)
    multiply_into = (products or Products()).multiply_into
    for task in range(tasks):
        multiply_into(deltas[:, task].mT, x, weight[:, task].view(replicas, out, -1))
    torch.sum(deltas, 2, out=bias)
    return jacobian
