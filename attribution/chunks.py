"""How many images fit into memory at once, measured on the network itself."""

import math

import torch
from torch import Tensor

from attribution.network import Network

ACTIVATION_BYTES = {"cpu": 64 * 2**20, "cuda": 4 * 2**30}  # a few times a processor's cache; more is slower there
FEWEST_ROWS = 8  # where fewer images take all of that, some at once are still faster than one after the other


class Chunks:
    """Cuts images into chunks whose activations fit into `ACTIVATION_BYTES`, whatever the network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._rows: dict[torch.Size, int] = {}

    def rows(self, inputs: Tensor) -> int:
        """How many images like those of `inputs` (N, …) go through at once, `FEWEST_ROWS` or more."""
        shape = inputs.shape[1:]
        if shape not in self._rows:
            budget = ACTIVATION_BYTES.get(inputs.device.type, ACTIVATION_BYTES["cpu"])
            self._rows[shape] = max(FEWEST_ROWS, budget // max(1, activation_bytes(self.network, inputs[:1])))
        return self._rows[shape]

    def __call__(self, inputs: Tensor) -> list[slice]:
        """Slices of nearly equal length that together are all of `inputs`."""
        count = math.ceil(len(inputs) / self.rows(inputs))
        rows = math.ceil(len(inputs) / count)
        return [slice(start, start + rows) for start in range(0, len(inputs), rows)]


def activation_bytes(network: Network, inputs: Tensor) -> int:
    """What autograd keeps for the backward pass of `inputs` (N, …), parameters not counted."""
    module = network.root
    held = () if module is None else (*module.parameters(), *module.buffers())
    own = {tensor.untyped_storage().data_ptr() for tensor in held}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> None:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held to the end, so that no address is given twice

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda nothing: nothing):
        network(inputs.detach().requires_grad_().clone())
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in own)
