"""What a command needs: data, a trained classifier, maps. What is not there is made first, and kept."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attribution import LAYER_METHODS, MAP_DTYPES
from attribution.custom import construction
from attribution.maps import explain_batch
from attribution.spec import MethodSpec
from common.files import require_not_in_use
from common.progress import progress_bar
from data import Dataset, dataset_info, dataset_sha256, load_dataset
from data.load import subset_index
from evaluation.masking import ranks_of_maps
from evaluation.tasks import SharedArrays, arrays_of
from experiments.checkpoints import find_classifier, made_by_other_code, train_and_save
from experiments.map_files import SPLITS, MapReader, MapWriter, Provenance, map_bytes, map_path, recorded, write_maps
from experiments.store import Folders
from models import model_name
from models.inspection import Inspectable, last_block
from reporting.labels import classifier_line
from training.checkpoint import Checkpoint
from training.classifier import restore
from training.config import TrainingConfig
from training.inputs import Images, Normalisation
from training.networks import new_model

RANKS_HELD = 4  # methods


class Pipeline:
    """Makes, step by step and only when asked, what an evaluation of one classifier needs."""

    def __init__(
        self,
        order: TrainingConfig,
        folders: Folders,
        device: torch.device,
        explain: str = "prediction",
        limit_train: int | None = None,
        limit_test: int | None = None,
        overwrite: bool = False,
        resume: bool = False,
        map_dtype: str = MAP_DTYPES[0],
    ) -> None:
        """What there is, and what it is made of.

        Args:
            order: the classifier to train if there is none.
            limit_train, limit_test: images to explain.
            resume: go on with a training that was interrupted.
            map_dtype: how maps are kept.

        Raises:
            InputError: a kept classifier that can't be used.
        """
        self.order, self.folders, self.device, self.explain = order, folders, device, explain
        self.limit_train, self.limit_test = limit_train, limit_test
        self.overwrite, self.resume, self.map_dtype = overwrite, resume, map_dtype
        self.dataset_sum = dataset_sha256(order.dataset)
        self._made: set[Path] = set()  # maps that --overwrite need not make a second time
        self._values: dict[MethodSpec, int] = {}  # what `check` found
        self._ranks: dict[str, SharedArrays] = {}
        self.kept = find_classifier(order, self.dataset_sum, folders.checkpoints)

    @property
    def has_classifier(self) -> bool:
        """Whether the classifier is known: it was there, or it has been trained by now."""
        return self.kept is not None or "checkpoint" in self.__dict__

    @cached_property
    def whole(self) -> Dataset:
        return load_dataset(self.order.dataset, self.folders.data)

    @cached_property
    def dataset(self) -> Dataset:
        """The images to explain and to retrain on."""
        return self.whole.subset(self.limit_train, self.limit_test)

    @cached_property
    def normalisation(self) -> Normalisation:
        return Normalisation.from_dataset(self.whole, self.device)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The kept classifier, or else one trained now."""
        if self.kept is not None:
            return self.kept
        path = self.order.path(self.folders.checkpoints)
        with self.folders.making(path.name):
            trained = find_classifier(self.order, self.dataset_sum, self.folders.checkpoints)
            if trained is None:
                print(f"model: {path} is not there: training it ({self.order.recipe.epochs} epochs) ...", flush=True)
                trained = train_and_save(self.order, self.whole, self.folders.checkpoints, self.device, self.resume)
        print(classifier_line(trained.metadata, path), flush=True)
        return trained

    def train_lines(self) -> list[str]:
        """What a dry run says of the classifier: a line if it is still to be trained."""
        return [] if self.kept else [f"train   {self.order.path(self.folders.checkpoints)}"]

    def map_path(self, method: MethodSpec) -> Path:
        order = self.order
        model = model_name(order.attention)
        return map_path(
            self.folders.maps, order.dataset, model, method.method, method.ensemble, order.quick, order.seed
        )

    def provenance(self, method: MethodSpec, checkpoint: Checkpoint) -> Provenance:
        return Provenance(
            dataset=self.order.dataset,
            dataset_sum=self.dataset_sum,
            model=model_name(self.order.attention),
            checkpoint_sum=checkpoint.sha256,
            explain=self.explain,
            dtype=self.map_dtype,
            **self.order.model_code,
            **method.plain,
        )

    def kept_maps(self, method: MethodSpec) -> MapReader | None:
        """The maps of `method` that are there already, whatever images they are of.

        Raises:
            InputError: there is a file of other maps in their place, or it is in use.
        """
        path = self.map_path(method)
        require_not_in_use(path)
        if self.overwrite or self.kept is None or not path.exists():
            return None
        provenance = self.provenance(method, self.kept)
        return None if of_other_code(path, provenance) else MapReader(path, provenance)

    def has_maps(self, method: MethodSpec) -> bool:
        """Whether the maps of `method` are there for all the images; known without reading the data."""
        kept = self.kept_maps(method)
        index = {split: subset_index(total, limit) for split, (total, limit) in self._limits().items()}
        return kept is not None and not kept.lacks(index)

    def _limits(self) -> dict[str, tuple[int, int | None]]:
        """For each split how many images it has, and how many of them are asked for (None: all)."""
        shapes, limits = dataset_info(self.order.dataset).shapes, (self.limit_train, self.limit_test)
        return {split: (shapes[f"{split}_images"][0], limit) for split, limit in zip(SPLITS, limits, strict=True)}

    @property
    def images_to_explain(self) -> int:
        """Training and test images together."""
        return sum(total if limit is None else limit for total, limit in self._limits().values())

    def kept_or_checked(self, method: MethodSpec) -> MapReader | None:
        """`kept_maps`; where there are none, `method` is tried first, so that a hopeless one is refused at once."""
        kept = self.kept_maps(method)
        if kept is None:
            self.check(method)
        return kept

    def maps(self, method: MethodSpec) -> MapReader:
        """The maps of `method` for all images of `dataset`, made now if they are not there."""
        path, provenance = self.map_path(method), self.provenance(method, self.checkpoint)
        index = {split: getattr(self.dataset, split).index for split in SPLITS}
        with self.folders.making(path.name):
            again = self.overwrite and path not in self._made
            if path.exists() and not again and not of_other_code(path, provenance):
                reader = MapReader(path, provenance)
                if not reader.lacks(index):
                    return reader
            writer = MapWriter(path, provenance, index)
            if self.overwrite:
                writer.forget()
            self._write_maps(writer, method)
        self._made.add(path)
        return MapReader(path, provenance)

    def _write_maps(self, writer: MapWriter, method: MethodSpec) -> None:
        model = method.network(restore(self.checkpoint, self.device))
        splits = {split: getattr(self.dataset, split) for split in SPLITS}
        images = {split: Images(rows, self.normalisation, self.device) for split, rows in splits.items()}
        labels = {split: rows.labels for split, rows in splits.items()}
        total = sum(map(len, splits.values()))
        given = method_kwargs(method, model, self.normalisation.black)
        print(f"maps: {method.label} of {total:,} images -> {writer.path}", flush=True)
        with progress_bar(total, f"maps {method.label}", "images") as bar:
            method_of_model = method.build(model, **given)
            write_maps(writer, method_of_model, model, images, labels, bar.update)

    def map_bytes(self, method: MethodSpec) -> int:
        """What the maps of `method` take on the disk at most."""
        return map_bytes(self.images_to_explain, self.check(method), self.map_dtype)

    def check(self, method: MethodSpec) -> int:
        """Explain one black image with an untrained model, to see beforehand whether `method` works on it.

        Returns:
            how many values the map of one image has.

        Raises:
            InputError: it does not.
        """
        if method not in self._values:
            self._values[method] = self._explained_values(method)
        return self._values[method]

    def _explained_values(self, method: MethodSpec) -> int:
        model = new_model(self.order.dataset, self.order.attention).eval()
        black = torch.zeros(1, *dataset_info(self.order.dataset).image_shape)
        given = method_kwargs(method, model, torch.zeros(len(black[0])))
        label = torch.zeros(1, dtype=torch.int64)
        return explain_batch(method.build(model, **given), model, black, label, self.explain).attribution.size

    def test_maps(self, method: MethodSpec, rank: str) -> SharedArrays:
        """Return of the test images the `ranks` of the pixels (N, 1, H, W) and the class explained, `target` (N,)."""
        reader, test = self.maps(method), self.dataset.test
        parts = list(reader.rows("test", test.index))
        ranks, _tied = ranks_of_maps(
            [(part.attribution, part.index) for part in parts],
            self.dataset.shape[0],
            "pixel",
            rank,
            self.device,
            method.blur,
        )
        name = "prediction" if self.explain == "prediction" else "label"
        target = np.concatenate([getattr(rows, name) for rows in parts])
        return SharedArrays(
            f"{self.map_path(method)} {rank} {method.blur}", {"ranks": ranks.cpu().numpy(), "target": target}
        )

    @cached_property
    def arrays(self) -> SharedArrays:
        """The images of both splits, for tasks."""
        return self.arrays_of(self.dataset)

    def arrays_of(self, dataset: Dataset) -> SharedArrays:
        """Return some images of the data set, for tasks."""
        key = f"{self.dataset_sum} {len(dataset.train)} {len(dataset.test)}"
        return SharedArrays(key, arrays_of(dataset, self.normalisation))

    def ranks(self, method: MethodSpec, granularity: str, rank: str) -> SharedArrays:
        """Return ranks of both splits' positions by the maps of `method`: `train`, `test`, `tied` and their `key`."""
        key = f"{self.map_path(method)} {granularity} {rank} {method.blur}"
        if key not in self._ranks:
            while len(self._ranks) >= RANKS_HELD:
                del self._ranks[next(iter(self._ranks))]
            reader, channels = self.maps(method), self.dataset.shape[0]
            (train, tied), (test, _tied) = (
                ranks_of_maps(
                    ((part.attribution, part.index) for part in reader.rows(split, getattr(self.dataset, split).index)),
                    *(channels, granularity, rank, self.device, method.blur),
                )
                for split in SPLITS
            )
            arrays = {"train": train.cpu().numpy(), "test": test.cpu().numpy()}
            self._ranks[key] = SharedArrays(key, arrays | {"tied": np.array(tied), "key": np.array(key)})
        return self._ranks[key]


def of_other_code(path: Path, wanted: Provenance) -> bool:
    """Return whether a user's own code that made the maps was edited since, and say so."""
    attributes = wanted.attributes()
    is_own = wanted.code is not None or wanted.model_code is not None
    return is_own and bool(found := recorded(path)) and made_by_other_code(found, attributes)


def method_kwargs(method: MethodSpec, model: nn.Module, black: Tensor) -> dict[str, Any]:
    """What `method` can't know by itself: what a black pixel (C,) is to the network, and its last convolution block.

    WARN's attention convolves after the last block, so that the last feature map is not the one to explain.
    """
    if method.method == "IG":
        return {"black": black}
    needs_layer = construction(method.method)[1].needs_layer if method.is_external else method.method in LAYER_METHODS
    named = needs_layer and isinstance(model, Inspectable)  # others leave it to the method
    return {"layer": last_block(model)} if named else {}


def explain_line(pipeline: Pipeline, method: MethodSpec) -> str:
    """What would be said of maps that are still to be made, and what they take on the disk."""
    return f"explain {pipeline.map_path(method)}: at most {pipeline.map_bytes(method) / 1e6:,.1f} MB"


def maps_line(reader: MapReader) -> str:
    """What is to be said of maps, in one line."""
    gaps = reader.gaps()
    said = f"maps: {reader.path}, {reader.path.stat().st_size / 1e6:,.1f} MB"
    if gaps is None:
        return said
    median, most = np.nanpercentile(gaps, [50, 95])
    return f"{said}; completeness gap: median {median:.2%}, 95 % of the images below {most:.2%}"
