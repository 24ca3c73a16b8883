"""Data, classifier and maps of one classifier: each is loaded, or made and stored, at its first use."""

import json
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from attribution import BASELINES, MAP_DTYPES
from attribution.maps import explain_batch
from attribution.spec import MethodSpec
from common.files import require_not_in_use
from common.random_state import seeded
from data import Dataset, dataset_info, dataset_sha256, load_dataset
from data.load import subset_index
from evaluation.tasks import SharedArrays, arrays_of
from experiments.checkpoints import find_classifier, has_code_changed
from experiments.engine import Local
from experiments.explaining import MapJob, MapPlan, MapSubject
from experiments.given import describe_given
from experiments.jobs import Job, make, require_success
from experiments.map_files import SPLITS, Array, MapReader, MapWriter, Provenance, map_bytes, read_attributes
from experiments.ranking import Ranking
from experiments.store import Folders
from experiments.trainings import Training
from models import model_name
from training.checkpoint import Checkpoint
from training.classifier import restore
from training.config import TrainingConfig
from training.given import normalisation_for
from training.inputs import Normalisation
from training.networks import new_model

NO_ENSEMBLE = "none"
UNTRAINED = "not trained yet"  # in place of the sum of the weights


@dataclass(eq=False)
class Pipeline:
    """Provides everything that an evaluation of one classifier needs.

    Attributes:
        config: the classifier to train if there is none.
        limit_train, limit_test: images to explain; None for all.
        resume: continue an interrupted training.
        map_dtype: the type in which maps are stored.
        given: a network with weights that are not trained here; None for one of `config`.
        task_device: that of tasks that run elsewhere; None for the same.

    Raises:
        InputError: the stored classifier can't be used.
    """

    config: TrainingConfig
    folders: Folders
    device: torch.device
    explain: str = "prediction"
    limit_train: int | None = None
    limit_test: int | None = None
    overwrite: bool = False
    resume: bool = False
    map_dtype: str = MAP_DTYPES[0]
    given: Checkpoint | None = None
    task_device: torch.device | None = None

    def __post_init__(self) -> None:
        self.device_of_tasks = self.task_device or self.device
        self.model = model_name(self.config.attention)
        self.path = self.config.path(self.folders.checkpoints)
        self.dataset_sha256 = dataset_sha256(self.config.dataset)
        shapes, limits = dataset_info(self.config.dataset).shapes, {"train": self.limit_train, "test": self.limit_test}
        self._index = {split: subset_index(shapes[f"{split}_images"][0], limits[split]) for split in SPLITS}
        self._fresh_maps: set[Path] = set()  # already made anew for --overwrite
        self._map_sizes: dict[MethodSpec, int] = {}
        self.ranking = Ranking(self)
        self._is_announced = False
        self._checkpoint = self.given or find_classifier(self.config, self.dataset_sha256, self.folders.checkpoints)

    @property
    def has_classifier(self) -> bool:
        """The classifier is stored, or trained by now."""
        return self._checkpoint is not None

    @cached_property
    def whole(self) -> Dataset:
        return load_dataset(self.config.dataset, self.folders.data)

    @cached_property
    def dataset(self) -> Dataset:
        """The images to explain and to retrain on."""
        return self.whole.subset(self.limit_train, self.limit_test)

    @cached_property
    def normalisation(self) -> Normalisation:
        return self._normalisation_of(self.dataset)

    def _normalisation_of(self, dataset: Dataset) -> Normalisation:
        """Return the normalisation; the mean pixel of a given network's is that of the test images of `dataset`."""
        metadata = self.given.metadata if self.given else {}
        return normalisation_for(metadata, replace(self.whole, test=dataset.test), self.device)

    def announce(self) -> None:
        """Make the classifier if it is missing; print a line on a given one, once."""
        _ = self.checkpoint
        if self.given is not None and not self._is_announced:
            print(describe_given(self.given, self.dataset.test, self.normalisation, self.device), flush=True)
        self._is_announced = True

    @property
    def checkpoint(self) -> Checkpoint:
        """The stored classifier, or one that is trained now."""
        if self._checkpoint is None:
            self._make_here(self.training())
            self._checkpoint = find_classifier(self.config, self.dataset_sha256, self.folders.checkpoints)
        assert self._checkpoint is not None
        return self._checkpoint

    def training(self) -> Training:
        """Return the training of the classifier, which is missing."""
        config, folder = self.config, self.folders.checkpoints
        return Training(
            *(config, lambda: self.whole, folder, self.device_of_tasks),
            look_up=lambda: find_classifier(config, self.dataset_sha256, folder),
            resume=self.resume,
            announcement=f"model: {self.path} is not there: training it ({config.recipe.epochs} epochs) ...",
        )

    @property
    def training_facts(self) -> dict[str, Any]:
        """The recipe and the images that train the classifier; empty for a given network."""
        if self.given is not None:
            return {}
        facts = self._checkpoint.metadata if self._checkpoint else self.config.plain()
        return {name: facts.get(name) for name in ("recipe", "limit_train", "validation_rate")}

    @property
    def checkpoint_sha256(self) -> str:
        """The sum of the classifier's weights; `UNTRAINED` if there is none yet."""
        return self.checkpoint.sha256 if self.has_classifier else UNTRAINED

    def plan_training(self) -> list[str]:
        """Return the line of a dry run about a classifier that is missing."""
        return [] if self.has_classifier else [f"train   {self.path}"]

    def plan_maps(self, method: MethodSpec) -> str:
        """Return the line of a dry run about maps that are missing."""
        return f"explain {self.map_path(method)}: at most {self.map_bytes(method) / 1e6:,.1f} MB"

    def key_of_maps(self, method: MethodSpec) -> Hashable:
        """Return what tells planned maps apart: their file, and which images it needs."""
        return self.map_path(method), self.limit_train, self.limit_test

    def map_path(self, method: MethodSpec) -> Path:
        """Return `<maps>/<dataset>_<model>[_seed<k>]_<method>[_<ensemble>][_quick].h5`; seed 0 is left out."""
        config = self.config
        seed, quick = f"seed{config.seed}" if config.seed else None, "quick" if config.quick else None
        words = [config.dataset, self.model, seed, method.method_stem, method.ensemble, quick]
        return self.folders.maps / f"{'_'.join(word for word in words if word)}.h5"

    def provenance(self, method: MethodSpec) -> Provenance:
        """Return everything that decides on the values of maps by `method`."""
        facts = {"code": method.code} if method.code else {}
        if self.given and dict(method.parameters).get("baseline") == "mean":  # which depends on the images explained
            facts["mean_pixel"] = json.dumps(self.normalisation.pixels["mean"].tolist())
        return {
            "dataset": self.config.dataset,
            "dataset_sum": self.dataset_sha256,
            "model": self.model,
            "checkpoint_sum": self.checkpoint_sha256,
            "method": method.method,
            "explain": self.explain,
            "parameters": json.dumps(dict(method.parameters), sort_keys=True),
            "ensemble": method.ensemble or NO_ENSEMBLE,
            "dtype": self.map_dtype,
            **facts,
            **self.config.model_code,
        }

    def find_maps(self, method: MethodSpec) -> MapReader | None:
        """Return the stored maps of `method`, whatever images they are of.

        Raises:
            InputError: there is a file of other maps in their place, or it is in use.
        """
        path = self.map_path(method)
        require_not_in_use(path)
        is_old = self.overwrite and path not in self._fresh_maps
        if is_old or not self.has_classifier or not path.exists():
            return None
        provenance = self.provenance(method)
        return None if _is_of_other_code(path, provenance) else MapReader(path, provenance)

    def find_all_maps(self, method: MethodSpec) -> MapReader | None:
        """Return the stored maps if they are of all images, without reading the data."""
        reader = self.find_maps(method)
        return reader if reader is not None and reader.has_all(self._index) else None

    def has_maps(self, method: MethodSpec) -> bool:
        """Return whether the maps of all images are stored."""
        return self.find_all_maps(method) is not None

    @property
    def images_to_explain(self) -> int:
        """Number of training and test images."""
        return sum(map(len, self._index.values()))

    def map_bytes(self, method: MethodSpec) -> int:
        """Return the largest size of the file of maps."""
        return map_bytes(self.images_to_explain, self.try_method(method), self.map_dtype)

    def try_method(self, method: MethodSpec) -> int:
        """Explain one image of noise with the given, or an untrained, model; return the number of values of its map.

        Raises:
            InputError: the method doesn't work on this model.
        """
        if method not in self._map_sizes:
            with seeded(1):  # so that a method is refused, or taken, in every run
                untrained = self.given is None
                model = new_model(self.config.dataset, self.config.attention).eval() if untrained else self._given_model
            shape = dataset_info(self.config.dataset).image_shape
            image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
            built = method.build(model, dict.fromkeys(BASELINES, torch.zeros(shape[0])))
            batch = explain_batch(built, model, image, torch.zeros(1, dtype=torch.int64), self.explain)
            self._map_sizes[method] = batch.attribution.size
        return self._map_sizes[method]

    @cached_property
    def _given_model(self) -> nn.Module:
        assert self.given is not None
        return restore(self.given, torch.device("cpu"))

    def maps(self, method: MethodSpec) -> MapReader:
        """Return the maps of `method` for all images of `dataset`; make them if they are missing."""
        _ = self.checkpoint
        if (reader := self.find_all_maps(method)) is not None:
            return reader
        self._make_here(self.map_job(method))
        return MapReader(self.map_path(method), self.provenance(method))

    def _make_here(self, job: Job) -> None:
        require_success(make([job], Local(1), self.folders, job.title).values(), 1, job.name)

    def map_job(self, method: MethodSpec) -> MapJob:
        """Return the job that makes the maps of `method`."""
        checkpoint, path, shape = self.checkpoint, self.map_path(method), self.dataset.shape

        def make_writer(index: dict[str, Array]) -> MapWriter:
            return MapWriter(path, self.provenance(method), index, shape)

        def subject(index: dict[str, Array]) -> MapSubject:
            data = self._arrays_at(index)
            return MapSubject(method, checkpoint.sha256, data, self.explain, self.device_of_tasks, checkpoint)

        return MapJob(
            method,
            self.config.dataset,
            path,
            lambda: self.find_all_maps(method),
            lambda: MapPlan.of(self._index, self.find_maps(method), make_writer),
            subject,
            self.overwrite,
            self._fresh_maps,
        )

    def _arrays_at(self, index: dict[str, Array]) -> SharedArrays:
        """Return the images of `dataset` at some positions of the published splits, for tasks."""
        if all(len(rows) == len(self._index[split]) for split, rows in index.items()):
            return self.arrays
        train, test = (
            getattr(self.dataset, split).take(np.searchsorted(self._index[split], index[split])) for split in SPLITS
        )
        return SharedArrays(arrays_of(replace(self.dataset, train=train, test=test), self.normalisation))

    @cached_property
    def arrays(self) -> SharedArrays:
        """The images of `dataset`, for tasks."""
        return self.arrays_of(self.dataset)

    def arrays_of(self, dataset: Dataset) -> SharedArrays:
        """Return some images of the data set, for tasks."""
        return SharedArrays(arrays_of(dataset, self._normalisation_of(dataset) if self.given else self.normalisation))


def _is_of_other_code(path: Path, provenance: Provenance) -> bool:
    """Return whether a user's own code that made the maps was edited since, and say so."""
    is_own = "code" in provenance or "model_code" in provenance
    return is_own and bool(stored := read_attributes(path)) and has_code_changed(stored, provenance)
