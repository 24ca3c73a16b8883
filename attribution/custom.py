"""Methods of the user's own and of other libraries, by their place: `package.module:Name`."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attribution.layers import find_layer, find_module
from attribution.libraries import library_construction, library_of, require_relu_modules
from attribution.maps import as_maps
from attribution.method import AttributionMethod
from attribution.network import Network
from attribution.network_state import Change, NetworkState, changes_undone
from attribution.own_map import require_own_map
from attribution.random_state import seeded_by
from attribution.signature import TARGET, MethodSignature, Signature
from attribution.tapped import with_modules
from common.errors import InputError
from common.imports import import_object

BASELINES = "baselines"


class ExternalMethod(AttributionMethod):
    """A method of the user's or of another library, held to the convention of `Method`.

    It explains the network itself, contains its hooks only while it explains, and undoes its other changes after each
    call. A method that draws random numbers explains image by image, with generators seeded by the image's pixels, so
    that its maps depend neither on the run nor on the batch.
    """

    network: Network

    def __init__(
        self, place: str, network: Network, layer: Any = None, arguments: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        """
        Args:
            place: `package.module:Name` of a class, or of a function that makes a method; or the name of a method of
                one of `LIBRARIES`.
            network: of a module, which is explained itself.
            layer: a module, its name, or a list of them, for a method that takes layers; None for the one that
                Grad-CAM takes, where the method needs a layer.
            arguments, more: of the class or function, and of `attribute`.

        Raises:
            InputError: there is no such method, or it can't be made.
        """
        super().__init__(network)
        assert network.module is not None
        self.place, self.model, self.layer, self.arguments = place, network.module, layer, {**(arguments or {}), **more}
        self.is_random = False
        self._is_of_library = library_of(place) is not None and "reshape_transform" not in self.arguments
        self._shape: torch.Size | None = None  # of the images for which a library's method was made
        self._build, self.signature = construction(place)
        self._attribute: Callable[..., Any] | None = None
        self._hooks: list[Change] = []
        self._is_tried = False
        parameter = self.signature.layer
        if parameter is not None and parameter.name in self.arguments:
            self.layer = self.arguments.pop(parameter.name)
        elif parameter is None and layer is not None:
            raise InputError(f"{place} takes no layer")
        self.signature.require(self.arguments)
        self._choice = self.layer
        if self.layer is not None or not self.signature.needs_layer:
            self._make()

    def maps(self, inputs: Tensor, target: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C, H, W) or (N, 1, H, W) float32.

        Raises:
            InputError: the method fails, returns no maps, or doesn't explain each image by itself.
        """
        if self._is_of_library and self._shape != inputs.shape[1:]:
            self._make_for(inputs)
        elif self._attribute is None:
            layer = find_layer(self.network, inputs)
            if layer.module is None:
                raise InputError(
                    f"{self.place} needs a layer, and the usual one is {layer.name}: choose one with layer="
                )
            self.layer = layer.module
            self._make()
        if not self._is_tried:
            self.is_random = require_own_map(
                self._seeded_maps, inputs[:1], target[:1], self.network.classes, self.place
            )
            self._is_tried = True
        if library_of(self.place) is None:
            return self._maps_of_batch(inputs, target)
        return torch.cat([self._maps_of_batch(inputs[part], target[part]) for part in self.chunks(inputs)])

    def _make_for(self, inputs: Tensor) -> None:
        """Make a library's method for images like `inputs`, with modules that return the maps of its layers."""
        layers = self._choice.split(",") if isinstance(self._choice, str) else self._choice
        layers = layers if isinstance(layers, list | tuple) else [layers]
        is_used = self._choice is not None or self.signature.needs_layer
        require_relu_modules(self.place, self.network, inputs[:1])
        found = [find_layer(self.network, inputs, layer) for layer in layers] if is_used else []
        self.model, modules = with_modules(self.network, found, inputs[:1])
        self.layer = modules or None
        self._make()
        self._shape = inputs.shape[1:]

    def _maps_of_batch(self, inputs: Tensor, target: Tensor) -> Tensor:
        if not self.is_random:
            maps, self.is_random = self._seeded_maps(inputs, target)
            if not self.is_random:
                return maps
        pairs = zip(inputs.split(1), target.split(1), strict=True)
        return torch.cat([self._seeded_maps(*pair)[0] for pair in pairs])

    def _make(self) -> None:
        """Call the class or function, and read the signature of the result.

        Raises:
            InputError: the call fails, or returns no method.
        """
        signature = self.signature
        of_attribute = signature.attribute.by_name if signature.attribute else {}
        of_constructor = {
            name: value
            for name, value in self.arguments.items()
            if name in signature.constructor.by_name or (signature.constructor.takes_any and name not in of_attribute)
        }
        with changes_undone(self.model) as before:
            with self._failing_in_one_line("can't be built"):
                built = self._build(self.model, **self._layer_argument(), **of_constructor)
            after = NetworkState(self.model)
            if before.has_other_weights():
                raise InputError(f"{self.place} changes the network's weights: let it work on copy.deepcopy(model)")
            self._hooks = after.changes_since(before)
        attribute = getattr(built, "attribute", None if isinstance(built, nn.Module) else built)
        if not callable(attribute):
            raise InputError(
                f"{self.place} has no attribute(inputs, target), which a method needs; a function make(model) may "
                "return an object that has it, or a function f(inputs, target)"
            )
        of_result = Signature.of(attribute)
        if not of_result.takes(TARGET):
            raise InputError(
                f"{self.place} explains no target=, it takes {', '.join(of_result.by_name) or 'images alone'}: name a "
                "function make(model) of your own that returns a function f(inputs, target), which calls it"
            )
        MethodSignature(self.place, signature.constructor, of_result).require(self.arguments)
        self._attribute_arguments = {name: self.arguments[name] for name in self.arguments if name in of_result.by_name}
        self._needs_baselines = BASELINES in of_result.required
        self._attribute = attribute

    def _layer_argument(self) -> dict[str, Any]:
        """Return the layer as the method takes it: as a module or a name, alone or in a list."""
        parameter = self.signature.layer
        if parameter is None or self.layer is None:
            return {}
        layers = self.layer.split(",") if isinstance(self.layer, str) else self.layer
        by_name = "_name" in parameter.name or parameter.annotation in (str, "str")
        layers = [
            self._single_layer(layer, by_name) for layer in (layers if isinstance(layers, list | tuple) else [layers])
        ]
        if parameter.name.endswith("s"):
            return {parameter.name: layers}
        if len(layers) != 1:
            raise InputError(f"{self.place} takes one layer, not {len(layers)}")
        return {parameter.name: layers[0]}

    def _single_layer(self, layer: Any, by_name: bool) -> Any:
        if isinstance(layer, str):
            module = find_module(self.network, layer)
            return layer if by_name else module
        names = {module: name for name, module in self.model.named_modules()}
        if layer not in names:
            raise InputError(f"{self.place}: the layer is no module of the network, and no name of one")
        return names[layer] if by_name else layer

    def _seeded_maps(self, inputs: Tensor, target: Tensor) -> tuple[Tensor, bool]:
        """Return the maps by a call with generators seeded by the first image, and whether it drew from them."""
        assert self._attribute is not None
        with (
            seeded_by(inputs[:1]) as draws,
            torch.inference_mode(False),
            torch.enable_grad(),
            changes_undone(self.model, self._hooks),
        ):
            images = inputs.detach().to(self.network.dtype or inputs.dtype)
            images = images.clone(memory_format=torch.contiguous_format)
            arguments = dict(self._attribute_arguments)
            if BASELINES in arguments:
                arguments[BASELINES] = self._baselines(arguments[BASELINES], images)
            with self._failing_in_one_line("fails" if len(images) > 1 else "fails on one image"):
                result = self._attribute(images, target=target.clone(), **arguments)
            maps = as_maps(result, inputs, self.place)
        return maps, draws.any

    def _baselines(self, value: Any, images: Tensor) -> Any:
        """Return a list of numbers, or a number for a method that requires baselines, as images of one value each."""
        is_number = isinstance(value, int | float)
        is_list = isinstance(value, list | tuple) and all(isinstance(number, int | float) for number in value)
        if is_list or (is_number and self._needs_baselines):
            values = images.new_tensor(value).reshape(-1, *[1] * (images.ndim - 1))
            return values.expand(-1, *images.shape[1:]).clone()
        return value

    @contextmanager
    def _failing_in_one_line(self, what: str) -> Iterator[None]:
        """Turn any exception of other people's code into an `InputError` that says where it was raised."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{frame.filename.rpartition('/')[2]}, line {frame.lineno}"
            raise InputError(f"{self.place} {what}: {type(error).__name__}: {error} ({place})") from error


def construction(place: str) -> tuple[Callable[..., Any], MethodSignature]:
    """Return the class or function at `place` that makes a method, and its signature.

    Raises:
        InputError: nothing is there, or nothing callable.
    """
    library = library_of(place)
    if library is not None:
        return library_construction(place, library)
    build = import_object(place, "a method")
    if not callable(build):
        raise InputError(f"{place} is a {type(build).__name__}: give a class, or a function make(model)")
    return build, MethodSignature.of(place, build)
