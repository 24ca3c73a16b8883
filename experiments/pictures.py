"""Coherence: pictures of the maps of several methods, layers and networks on the same images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attribution import CONTROLS, build_method
from attribution.maps import explain_batch
from attribution.method import Method
from attribution.spec import MethodSpec
from data import Split
from evaluation import EXPLAIN
from evaluation.coherence import choose_examples
from evaluation.configs import ExampleFilter
from experiments.pipeline import Pipeline
from models.inspection import attention_maps, layers
from reporting.labels import explained_class, file_name_value, parameter_words, readable_dataset, readable_model
from reporting.pictures import SCALE_NOTE, Caption, Column, draw_grid
from training.classifier import restore
from training.inputs import Images
from training.loop import predict

Array = npt.NDArray[Any]

BY_LAYER = {"GC": "Grad-CAM", "CO": "Mean activation"}


class Subject:
    """A trained classifier with some examples: its predictions and its maps of them."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.name, self.dataset = pipeline.model, pipeline.config.dataset
        self.examples = pipeline.dataset.test.subset(0)
        self._networks: dict[bool, torch.nn.Module] = {}

    @property
    def words(self) -> str:
        """The data set and the network, in titles."""
        return f"{readable_dataset(self.dataset)}, {readable_model(self.name)}"

    @cached_property
    def model(self) -> torch.nn.Module:
        """The network that our methods explain."""
        return self.network(MethodSpec("VBP"))

    def network(self, method: MethodSpec) -> torch.nn.Module:
        """Return the network that `method` explains."""
        if method.explains_network_itself not in self._networks:
            restored = restore(self.pipeline.checkpoint, self.pipeline.device)
            self._networks[method.explains_network_itself] = method.network(restored)
        return self._networks[method.explains_network_itself]

    def images(self, split: Split) -> Images:
        return Images(split, self.pipeline.normalisation, self.pipeline.device)

    def correct(self, split: Split) -> npt.NDArray[np.bool_]:
        """Return whether the prediction of each image of `split` is right: (N,)."""
        return predict(self.model, self.images(split)).cpu().numpy() == split.labels

    @cached_property
    def inputs(self) -> Tensor:
        images = self.images(self.examples)
        batch = images.batch(torch.arange(len(self.examples), device=self.pipeline.device))
        return batch.contiguous(memory_format=torch.channels_last)

    @cached_property
    def probabilities(self) -> Tensor:
        model, inputs = self.model, self.inputs  # a training of the model needs gradients
        with torch.no_grad():
            return model(inputs).softmax(dim=1)

    def captions(self) -> list[Caption]:
        """Return prediction and probability of each example."""
        probabilities, predictions = (values.tolist() for values in self.probabilities.max(dim=1))
        classes, labels = self.pipeline.whole.classes, self.examples.labels
        return [
            Caption(f"{classes[prediction]}: {probability:.0%}", prediction == label)
            for prediction, probability, label in zip(predictions, probabilities, labels, strict=True)
        ]

    def maps(self, method: MethodSpec) -> list[Array]:
        """Return a map (H, W) of each example, summed over the channels."""
        network = self.network(method)
        return self._maps(method.build(network, self.pipeline.normalisation.pixels), network)

    def maps_of_layer(self, method: str, layer: str) -> list[Array]:
        return self._maps(build_method(method, self.model, layer=layer), self.model)

    def _maps(self, method: Method, network: torch.nn.Module) -> list[Array]:
        label = torch.from_numpy(self.examples.labels).to(self.inputs.device)
        batch = explain_batch(method, network, self.inputs, label, self.pipeline.explain)
        return list(batch.attribution.sum(axis=1))


class Coherence:
    """All pictures of one data set: of each model its methods and its layers, and of each method all models."""

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        methods: Sequence[MethodSpec],
        examples: ExampleFilter,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        """Try every method on every model.

        Args:
            left_out: the reason why a method is not among `methods`, by its label.

        Raises:
            InputError: a method that a model refuses.
        """
        self.pipelines, self.methods, self.examples = list(pipelines), list(methods), examples
        self.left_out = left_out or {}
        self.dataset = pipelines[0].config.dataset
        self.folder = pipelines[0].folders.results
        for pipeline in pipelines:
            for method in methods:
                pipeline.try_method(method)

    def plan(self) -> str:
        """Return the lines of a dry run."""
        lines = [line for pipeline in self.pipelines for line in pipeline.plan_training()]
        return "\n".join([*lines, f"draw    {self._path('...')}.png and .pdf", "nothing written"])

    def choose(self, correct: Sequence[Callable[[Split], Array]] = ()) -> Split:
        """Return the images to show, see `choose_examples`; without `correct`, before the networks are trained.

        Raises:
            InputError: a class or position that there is not, or no example that fits.
        """
        first = self.pipelines[0]
        return choose_examples(first.dataset.test, first.whole.classes, self.examples, correct)

    def draw(self) -> list[Path]:
        """Write all pictures.

        Raises:
            InputError: a class or position that there is not, or no example that fits.
        """
        subjects = [Subject(pipeline) for pipeline in self.pipelines]
        examples = self.choose([subject.correct for subject in subjects])
        for subject in subjects:
            subject.examples = examples
        paths = [path for subject in subjects for path in (*self._draw_methods(subject), *self._draw_layers(subject))]
        return [*paths, *(self._draw_models(subjects) if len(subjects) > 1 else ())]

    def _draw_methods(self, subject: Subject) -> Iterator[Path]:
        """Draw one grid without ensembles, and one for each ensemble."""
        for ensemble in dict.fromkeys(method.ensemble for method in self.methods):
            methods = [method for method in self.methods if method.ensemble == ensemble]
            if all(method.method in CONTROLS for method in methods) and len(methods) < len(self.methods):
                continue  # the controls alone, beside ensembles
            columns = [self._image_column(subject, captions=True)]
            columns += [Column(method.method.rpartition(":")[2], subject.maps(method)) for method in methods]
            title = f"{f'{ensemble}: a' if ensemble else 'A'}ttribution methods on {subject.words}"
            yield from self._draw_grid(subject, columns, title, f"{subject.name}_methods", ensemble)

    def _draw_layers(self, subject: Subject) -> Iterator[Path]:
        """Draw Grad-CAM and the mean activation of each layer, and the attention maps."""
        first = self._image_column(subject, captions=True)
        for method, words in BY_LAYER.items() if layers(subject.model) else ():
            columns = [Column(name, subject.maps_of_layer(method, name)) for name in layers(subject.model)]
            title = f"{words} by layer on {subject.words}"
            yield from self._draw_grid(subject, [first, *columns], title, f"{subject.name}_layers", method)
        gates = {name: gate for name, gate in attention_maps(subject.model, subject.inputs).items() if gate.ndim == 4}
        if gates:
            columns = [
                Column(name, list(gate.mean(dim=1).cpu().numpy()), from_minimum=True) for name, gate in gates.items()
            ]
            title = f"Attention on {subject.words}"
            note = "Mean over the channels of each map, at its own size; black is its smallest value."
            yield from self._draw_grid(subject, [first, *columns], title, f"{subject.name}_attention", None, note)

    def _draw_models(self, subjects: Sequence[Subject]) -> Iterator[Path]:
        """Draw one grid for each method, with a column for each model."""
        for method in (method for method in self.methods if method.method not in CONTROLS):
            columns = [self._image_column(subjects[0], captions=False)]
            columns += [
                Column(readable_model(subject.name), subject.maps(method), subject.captions()) for subject in subjects
            ]
            title = f"{method.label} across models on {readable_dataset(self.dataset)}"
            yield from self._draw_grid(subjects[0], columns, title, f"models_{method.file_stem}", None)

    def _image_column(self, subject: Subject, captions: bool) -> Column:
        return Column("image", list(subject.examples.images), subject.captions() if captions else ())

    def _draw_grid(
        self, subject: Subject, columns: list[Column], title: str, name: str, part: str | None, note: str | None = None
    ) -> list[Path]:
        examples, classes = subject.examples, subject.pipeline.whole.classes
        rows = [classes[label] for label in examples.labels]
        explained = explained_class(subject.pipeline.explain)
        about = f"Maps explain the {explained}, and are summed over the colour channels. {SCALE_NOTE}"
        numbers = ", ".join(map(str, examples.index))
        caption = f"Test images {numbers}. Below: prediction and probability, red if wrong. {note or about}"
        return draw_grid(rows, columns, title, caption, self._path("_".join(filter(None, [name, part]))))

    def _path(self, name: str) -> Path:
        return self.folder / "_".join(["coherence", self.dataset, name, *self.words])

    @property
    def words(self) -> list[str]:
        """The choices that are not the default, but `--correct-only`, as words of file names."""
        first, chosen = self.pipelines[0], {"classes": self.examples.classes, "index": self.examples.index}
        words = [f"{name}-{'-'.join(map(str, values))}" for name, values in chosen.items() if values]
        words += [f"explain-{first.explain}"] * (first.explain != EXPLAIN[0])
        return [*map(file_name_value, words), *parameter_words(self.methods), *["quick"] * first.config.quick]
