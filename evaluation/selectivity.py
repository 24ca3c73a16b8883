"""Selectivity: remove the most important pixel, look again, remove the next; does the class's score fall?

After Montavon et al. 2018 (arXiv 1706.07979, section 7.2) and the original White Box: no retraining, and the map is
made anew of each image as it then is. All images of a step go through the network together.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from attribution.maps import BATCH, compute_maps
from attribution.method import Method
from attribution.pixel_hash import pixel_hash
from attribution.spec import MethodSpec, methods_stem
from common.errors import InputError
from common.files import atomic_write, catch_read_errors, json_sha256, require_not_in_use, require_space
from common.progress import progress_bar
from data import dataset_info
from evaluation import FILLS, ORDERS, REMOVALS
from evaluation.chance import chance_level
from evaluation.masking import TIE_SEED, importance
from evaluation.statistics import Estimate, at_chance, chance_words
from experiments.pipeline import Pipeline, given_by_setting, network_for
from experiments.runs import say_other_code
from models import model_name
from reporting.labels import described_parameters, explained_class, unusual_parameters, usual_images
from reporting.selectivity import SelectivityCurve, selectivity_csv, selectivity_table
from reporting.tables import write_table
from training.checkpoint import versions
from training.classifier import restore
from training.device import device_name
from training.inputs import Images

Array = npt.NDArray[Any]

FORMAT = 1
KEEP_EVERY = 5  # steps: images and maps in the file


@dataclass(frozen=True)
class Settings:
    """What decides on the result beside method and model.

    Attributes:
        removals: pixels removed one after the other, all channels of each.
        order: "most" important first, or "least".
        rank: see `masking.importance`.
        fill: what replaces a pixel: the training set's mean per channel, or black.
        limit_test: how many test images, drawn by a fixed seed.
    """

    limit_test: int
    removals: int = REMOVALS
    order: str = ORDERS[0]
    rank: str = "signed"
    fill: str = FILLS[0]
    explain: str = "prediction"


@dataclass(frozen=True)
class Removed:
    """What happened to some images.

    Attributes:
        score: (N, removals + 1) float32, softmax probability of the explained class; column 0 is the whole image.
        correct: (N, removals + 1) bool, whether the prediction is the label.
        pixel: (N, removals) int32, row · width + column of each removed pixel.
        images: (N, kept, C, H, W) uint8, every `KEEP_EVERY` removals, the first one whole.
        maps: (N, kept, H, W) float16, what those images' pixels were ranked by, divided by the largest absolute value.
    """

    score: Array
    correct: Array
    pixel: Array
    images: Array
    maps: Array


def remove_one_by_one(
    method: Method,
    model: nn.Module,
    inputs: Tensor,
    label: Tensor,
    index: Tensor,
    fill: Tensor,
    settings: Settings,
    on_step: Callable[[int], object] = lambda images: None,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor], list[Tensor]]:
    """The loop itself, for one batch.

    Args:
        inputs: (N, C, H, W) as the network sees them; not changed.
        label, index: (N,) int64; the images' numbers, on which the order of equal pixels depends.
        fill: (C,), what replaces a pixel.
        on_step: told of N images after each step.

    Returns:
        score, correct and pixel as in `Removed`; the kept images as the network sees them, and their maps.
    """
    n, channels, height, width = inputs.shape
    images = inputs.clone(memory_format=torch.channels_last)
    remaining = torch.ones(n, height * width, dtype=torch.bool, device=inputs.device)
    tie = pixel_hash(index, height * width, TIE_SEED)
    rows = torch.arange(n, device=inputs.device)
    sign = 1 if settings.order == "most" else -1
    scores, correct, pixels, kept, maps = [], [], [], [], []
    with torch.no_grad():
        logits = model(images)
    target = logits.argmax(dim=1) if settings.explain == "prediction" else label
    says_the_same = False  # the network, when a method asks it
    for step in range(settings.removals + 1):
        last = step == settings.removals
        said = None
        if not last or step % KEEP_EVERY == 0:
            with overheard(model, images) as answers:
                attribution = compute_maps(method, images, target)
            values = importance(attribution, channels, "pixel", settings.rank).flatten(1)
            said = torch.cat(answers) if answers and sum(map(len, answers)) == n else None
        if step == 0:
            says_the_same = said is not None and torch.allclose(said, logits, rtol=1e-3, atol=1e-3)
        elif said is not None and says_the_same:
            logits = said
        else:
            with torch.no_grad():
                logits = model(images)
        scores.append(logits.softmax(dim=1).gather(1, target.view(-1, 1)).squeeze(1))
        correct.append(logits.argmax(dim=1) == label)
        if step % KEEP_EVERY == 0:
            kept.append(images.clone())
            maps.append(values.view(n, height, width))
        if last:
            break
        pixel = first_of(sign * values, remaining, tie)
        pixels.append(pixel)
        remaining[rows, pixel] = False
        images[rows, :, pixel // width, pixel % width] = fill
        on_step(n)
    return torch.stack(scores, 1), torch.stack(correct, 1), torch.stack(pixels, 1), kept, maps


@contextmanager
def overheard(model: nn.Module, images: Tensor) -> Iterator[list[Tensor]]:
    """In the `with` block, the logits that `model` gives, as long as it is asked about exactly `images`, in turn.

    A method that begins with a gradient at the image itself has them, and they need not be computed again.
    """
    answers: list[Tensor] = []

    def note(_module: nn.Module, inputs: tuple[Any, ...], answer: Any) -> None:
        done = sum(map(len, answers))
        if done == len(images):
            return
        asked = inputs[0] if len(inputs) == 1 else None
        for start in (done, 0):  # what came before may have been a trial of the first image
            if isinstance(asked, Tensor) and torch.equal(asked, images[start : start + len(asked)]):
                answers[:] = [*(answers if start else []), answer.detach()]
                return
        answers.clear()

    hook = model.register_forward_hook(note)
    try:
        yield answers
    finally:
        hook.remove()


def first_of(values: Tensor, remaining: Tensor, tie: Tensor) -> Tensor:
    """The remaining position of the largest value in each row of (N, P); among equal ones that of the largest tie."""
    open_values = values.masked_fill(~remaining, -torch.inf)
    largest = open_values == open_values.amax(dim=1, keepdim=True)
    return tie.masked_fill(~(largest & remaining), -1).argmax(dim=1)


class Selectivity:
    """The selectivity of several methods on one classifier; each method's result is a file of its own."""

    def __init__(
        self, pipeline: Pipeline, methods: tuple[MethodSpec, ...], settings: Settings, overwrite: bool = False
    ) -> None:
        """
        Raises:
            InputError: more removals than pixels, a method that the model refuses, a damaged result.
        """
        self.pipeline, self.methods, self.settings, self.overwrite = pipeline, methods, settings, overwrite
        self.dataset = pipeline.order.dataset
        self.shape = dataset_info(self.dataset).image_shape
        pixels = self.shape[1] * self.shape[2]
        if settings.removals > pixels:
            raise InputError(f"--removals={settings.removals}: an image of {self.dataset} has {pixels} pixels")
        if settings.limit_test < 2:
            raise InputError("--limit-test=1: selectivity needs two test images or more for its intervals")
        for method in methods:
            pipeline.check(method)
        self.results: dict[MethodSpec, Path] = {}
        if pipeline.kept is not None:
            self._find(pipeline.kept.sum)
        if not overwrite:
            found = kept_selectivity(pipeline.folders.results)
            say_other_code(found, [self.configuration(method, "") for method in self.todo])

    def _find(self, checkpoint_sum: str) -> None:
        for method in self.methods:
            path = self.path(method, checkpoint_sum)
            require_not_in_use(path)
            if path.exists() and not self.overwrite:
                read_result(path)
                self.results[method] = path

    def configuration(self, method: MethodSpec, checkpoint_sum: str) -> dict[str, Any]:
        return {
            "evaluation": "selectivity",
            "dataset": self.dataset,
            "dataset_sum": self.pipeline.dataset_sum,
            "model": model_name(self.pipeline.order.attention),
            "checkpoint_sum": checkpoint_sum,
            **self.pipeline.order.model_code,
            **method.plain,
            **asdict(self.settings),
        }

    def path(self, method: MethodSpec, checkpoint_sum: str) -> Path:
        """`results/selectivity/<dataset>_<model>_<method>[_<ensemble>]-<hash of the configuration>.h5`."""
        model = model_name(self.pipeline.order.attention)
        words = [self.dataset, model, method.method_stem, method.ensemble]
        name = "_".join(word for word in words if word)
        configuration = json_sha256(self.configuration(method, checkpoint_sum))[:12]
        return self.pipeline.folders.results / "selectivity" / f"{name}-{configuration}.h5"

    @property
    def todo(self) -> list[MethodSpec]:
        """What is not finished."""
        return [method for method in self.methods if method not in self.results]

    def plan(self) -> str:
        """What `complete` would do, in lines."""
        todo = self.todo
        lines = [
            *self.pipeline.train_lines(),
            *(f"remove  {self.settings.removals} pixels by {method.label}" for method in todo),
        ]
        size = len(todo) * self.bytes
        said = f"{len(self.methods)} methods, {len(self.results)} finished, at most {size / 1e6:,.1f} MB to write"
        return "\n".join([*lines, f"{said}, nothing written"])

    @property
    def bytes(self) -> int:
        """What one result takes on the disk at most."""
        channels, height, width = self.shape
        kept = self.settings.removals // KEEP_EVERY + 1
        each = kept * height * width * (channels + 2) + 9 * (self.settings.removals + 1) + 16
        return self.settings.limit_test * each + 2**20

    def complete(self) -> None:
        """Do the methods that are not finished, each kept as soon as it is done."""
        pipeline = self.pipeline
        if pipeline.kept is None:
            self._find(pipeline.checkpoint.sum)
        todo = self.todo
        print(f"methods: {len(self.results)} of {len(self.methods)} are finished, {len(todo)} to do", flush=True)
        if not todo:
            return
        restored = restore(pipeline.checkpoint, pipeline.device)
        examples = {one.explains_network_itself: one for one in todo}
        models = {itself: network_for(one, restored) for itself, one in examples.items()}
        total = len(todo) * self.settings.limit_test * self.settings.removals
        with progress_bar(total, "selectivity", "explanations") as bar:
            for method in todo:
                bar.set_postfix_str(method.label, refresh=False)
                path = self.path(method, pipeline.checkpoint.sum)
                with pipeline.claims.alone(path.name):
                    if self.overwrite or not path.exists():  # another process may have done it by now
                        self._do(method, models[method.explains_network_itself], bar.update)
                self.results[method] = path

    def _do(self, method: MethodSpec, model: nn.Module, on_step: Callable[[int], object]) -> None:
        pipeline, settings = self.pipeline, self.settings
        normalisation = pipeline.normalisation
        built = method.build(model, **given_by_setting(method, model, normalisation.black))
        fill = normalisation.fill(settings.fill)
        test = pipeline.whole.test.subset(settings.limit_test)
        images = Images(test, normalisation, pipeline.device)
        label, index = (torch.from_numpy(array).to(pipeline.device) for array in (test.labels, test.index))
        parts = []
        for rows in torch.arange(len(test), device=pipeline.device).split(BATCH):
            batch = images.batch(rows).contiguous(memory_format=torch.channels_last)
            *found, kept, maps = remove_one_by_one(
                *(built, model, batch, label[rows], index[rows], fill, settings, on_step)
            )
            arrays = [one.cpu().numpy() for one in found]
            parts.append((*arrays, pixels_of(kept, normalisation), relative(maps)))
        score, correct, pixel, kept_images, kept_maps = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        removed = Removed(score, correct, pixel.astype(np.int32), kept_images, kept_maps)
        self._save(self.path(method, pipeline.checkpoint.sum), method, removed, test.labels, test.index)

    def _save(self, path: Path, method: MethodSpec, removed: Removed, label: Array, index: Array) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        require_space(path.parent, self.bytes)  # HDF5 takes the whole process down when the disk is full
        facts = self.configuration(method, self.pipeline.checkpoint.sum)
        with atomic_write(path) as unfinished, h5py.File(unfinished, "w") as file:
            for name, values in (asdict(removed) | {"label": label, "index": index}).items():
                file.create_dataset(name, data=values, compression="lzf", chunks=True, fletcher32=True)
            file.attrs["configuration"] = json.dumps(facts, sort_keys=True)
            file.attrs["device"] = device_name(self.pipeline.device)
            file.attrs["versions"] = json.dumps(versions())
            file.attrs["format"] = FORMAT

    def report(self) -> str:
        """Write tables and figures; return what is to be said at the end."""
        from reporting.figures import draw_falls, draw_scores  # here, so that nothing else waits for matplotlib

        falls = [SelectivityCurve.of(method.label, read_result(self.results[method])) for method in self.methods]
        random = next((fall for fall in falls if fall.method == "RANDOM"), None)
        stem = self.pipeline.folders.results / self.stem
        text = f"{self.title}\n\n{self.note}\n\n{self._doubt(falls[0].accuracy[0])}{selectivity_table(falls, random)}"
        write_table(stem, text, selectivity_csv(falls))
        figures = draw_falls(falls, self.title, self.note, stem.with_name(stem.name + "_accuracy"))
        figures += draw_scores(falls, self.title, self.note, stem.with_name(stem.name + "_scores"))
        files = "\n".join(f"figure: {path}" for path in figures)
        return f"\n{text}\ndata:   {self.results[self.methods[0]].parent}\ntable:  {stem}.md and .csv\n{files}"

    def _doubt(self, whole: Estimate) -> str:
        """A line where the network is no better than chance: its scores say little of any map."""
        pipeline, limit = self.pipeline, self.settings.limit_test
        chance = chance_level((), self.dataset, pipeline.dataset_sum, limit, pipeline.folders.data)
        known = chance is not None and at_chance(whole, chance)
        return f"No map can be judged, since {chance_words(whole, chance)}.\n\n" if known and chance else ""

    @property
    def title(self) -> str:
        order = self.settings.order
        return f"Selectivity on {self.dataset}, {model_name(self.pipeline.order.attention)}, {order} important first"

    @property
    def note(self) -> str:
        one = self.settings
        return (
            f"{one.limit_test:,} test images; {one.removals} of {self.shape[1] * self.shape[2]} pixels replaced by "
            f"{one.fill}, one after the other, by the {one.rank} attribution of the "
            f"{explained_class(one.explain)} of the image as it then is. One network (seed 0)."
            f"{described_parameters(self.methods)}\n"
            "± is the 95 % interval over the test images, of accuracies Wilson's, of scores and areas Student's t."
        )

    @property
    def stem(self) -> str:
        order = self.pipeline.order
        usual = Settings(usual_images(self.dataset))
        words = {"limit_test": "tested", "removals": "removals"}
        special = [
            f"{value}-{words[name]}" if name in words else str(value)
            for name, value in asdict(self.settings).items()
            if value != getattr(usual, name)
        ]
        special += unusual_parameters(self.methods)
        quick = ["quick"] if order.quick else []
        methods = methods_stem(self.methods)
        return "_".join(["selectivity", self.dataset, model_name(order.attention), methods, *special, *quick])


def pixels_of(kept: list[Tensor], normalisation: Any) -> Array:
    """Images as the network sees them, (n, C, H, W) each, -> (n, kept, C, H, W) uint8."""
    mean, std = normalisation.mean.view(-1, 1, 1), normalisation.std.view(-1, 1, 1)
    shown = ((torch.stack(kept, 1) * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    return shown.cpu().numpy()


def relative(maps: list[Tensor]) -> Array:
    """(n, H, W) each -> (n, kept, H, W) float16, each divided by its largest absolute value."""
    values = torch.stack(maps, 1)
    largest = values.abs().amax(dim=(2, 3), keepdim=True)
    return (values / torch.where(largest > 0, largest, 1)).half().cpu().numpy()


def shorten(path: Path, to: Path) -> None:
    """Of a finished method scores, in half precision, and hits alone, as `read_result` reads them: for publishing."""
    with reading_result(path), h5py.File(path, "r") as file:
        arrays = {"score": file["score"][:].astype(np.float16), "correct": file["correct"][:]}
        facts = dict(file.attrs)
    with atomic_write(to) as unfinished, h5py.File(unfinished, "w") as short:
        for name, values in arrays.items():
            short.create_dataset(name, data=values, compression="gzip", compression_opts=9, shuffle=True)
        short.attrs.update(facts)


def kept_selectivity(results: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Path and configuration of each method that is finished."""
    for path in sorted((results / "selectivity").glob("*.h5")):
        with reading_result(path), h5py.File(path, "r") as file:
            yield path, json.loads(file.attrs["configuration"])


def read_result(path: Path) -> dict[str, Array]:
    """Scores and hits of a finished method.

    Raises:
        InputError: the file is damaged or in use.
    """
    with reading_result(path), h5py.File(path, "r") as file:
        if file.attrs["format"] != FORMAT:
            raise InputError(f"{path} has another format: delete it, and it is made anew")
        return {name: file[name][:] for name in ("score", "correct")}


def reading_result(path: Path) -> AbstractContextManager[None]:
    """What keeps a method's file from being read in the `with` block becomes an `InputError`."""
    return catch_read_errors(path, "is damaged: delete it, and it is made anew", (KeyError, ValueError))
