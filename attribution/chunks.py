"""Chunks of images that fit into memory at once, measured on the network itself."""

import math

import torch
from torch import Tensor

from attribution.network import Network

ACTIVATION_BYTES = {"cpu": 64 * 2**20, "cuda": 4 * 2**30}  # a few times a processor's cache; more is slower
FEWEST_ROWS = 8  # more memory than that, but faster than image by image


class Chunks:
    """Cuts images into chunks whose activations fit into `ACTIVATION_BYTES`, whatever the network."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def rows(self, inputs: Tensor) -> int:
        """Return the number of images like `inputs` (N, …) in a chunk, at least `FEWEST_ROWS`."""
        key, memo = ("activation bytes", inputs.shape[1:]), self.network.memo
        if key not in memo:
            memo[key] = max(1, activation_bytes(self.network, inputs[:1]))
        return max(FEWEST_ROWS, ACTIVATION_BYTES.get(inputs.device.type, ACTIVATION_BYTES["cpu"]) // int(memo[key]))

    def __call__(self, inputs: Tensor) -> list[slice]:
        """Cut `inputs` into slices of nearly equal length."""
        count = math.ceil(len(inputs) / self.rows(inputs))
        rows = math.ceil(len(inputs) / count)
        return [slice(start, start + rows) for start in range(0, len(inputs), rows)]


def activation_bytes(network: Network, inputs: Tensor) -> int:
    """Return the bytes that autograd saves for the backward pass of `inputs` (N, …), without parameters."""
    module = network.root
    weights = () if module is None else (*module.parameters(), *module.buffers())
    weight_addresses = {tensor.untyped_storage().data_ptr() for tensor in weights}
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> None:
        saved[tensor.untyped_storage().data_ptr()] = (
            tensor.detach()
        )  # alive, so that no address is used twice; no cycle

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(save, lambda nothing: nothing):
        network(inputs.detach().requires_grad_())
    return sum(
        tensor.untyped_storage().nbytes() for address, tensor in saved.items() if address not in weight_addresses
    )
