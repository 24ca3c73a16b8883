"""ROAD, F-Fidelity, insertion and deletion: removal by a map, judged by networks that never saw a map's masks."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attribution.spec import MethodSpec
from common.progress import progress_bar
from evaluation.chance import chance_of
from evaluation.removal import measure
from experiments.measurements import Found, Measurements, Task
from experiments.pipeline import Pipeline
from reporting.removal_summary import RemovalSummary, Settings
from training.checkpoint import Checkpoint
from training.classifier import restore
from training.finetuning import find_finetuned, finetune, finetuned_path, finetuning
from training.inputs import Images, labels_of


class Removing(Measurements):
    """One of these evaluations of several methods on the classifiers of one model, a seed each."""

    def __init__(
        self, pipelines: Sequence[Pipeline], methods: Sequence[MethodSpec], settings: Settings, overwrite: bool = False
    ) -> None:
        self.settings = settings
        self._networks: dict[Pipeline, nn.Module] = {}
        super().__init__(settings.evaluation, pipelines, methods, overwrite)

    def _check(self, task: Task) -> None:
        task.pipeline.kept_or_checked(task.method)

    def settings_of(self, task: Task) -> dict[str, Any]:
        settings = self.settings
        plain = asdict(settings) | {"ratios": list(settings.ratios)}
        if settings.tuning is not None:
            plain["tuning"] = settings.tuning.plain()
        return plain | {"map_dtype": task.pipeline.map_dtype}

    def lines_of(self, todo: Sequence[Task]) -> list[str]:
        lines = []
        if self.settings.tuning is not None:
            tuned = dict.fromkeys(task.pipeline for task in todo)
            lines += [f"tune    {self._tuned_path(one)}" for one in tuned if self._kept_tuned(one) is None]
        unexplained = [task for task in todo if not task.pipeline.has_maps(task.method)]
        lines += [f"explain {one.pipeline.map_path(one.method)}" for one in unexplained]
        return lines + [f"remove  {one.method.label} seed {one.pipeline.order.seed}" for one in todo]

    @property
    def images_each(self) -> int:
        return self.settings.limit_test

    def prepare(self, todo: Sequence[Task]) -> None:
        """Maps, and networks to judge by."""
        for task in todo:
            task.pipeline.maps(task.method)
        self._networks = {one: self._network(one) for one in dict.fromkeys(task.pipeline for task in todo)}

    def measure(self, task: Task, on_images: Callable[[int], object]) -> Found:
        pipeline, settings = task.pipeline, self.settings
        ranks, target = pipeline.explained_test(task.method, settings.rank)
        test = pipeline.dataset.test
        measured = measure(
            self._networks[pipeline],
            Images(test, pipeline.normalisation, pipeline.device),
            labels_of(test, pipeline.device),
            target,
            torch.from_numpy(test.index).to(pipeline.device),
            ranks,
            settings.ratios,
            settings.perturbation(pipeline.normalisation),
            on_images,
        )
        return asdict(measured) | {"test_images": len(test), "chance": chance_of(test.labels)}

    def _network(self, pipeline: Pipeline) -> nn.Module:
        """What judges: the classifier itself, or F-Fidelity's fine-tuned one, which is made now if it is not there."""
        if self.settings.tuning is None:
            return restore(pipeline.checkpoint, pipeline.device)
        path = self._tuned_path(pipeline)
        with pipeline.claims.alone(f"finetuned {path.name}"):
            tuned = self._kept_tuned(pipeline)
            if tuned is None:
                images = pipeline.order.limit_train or len(pipeline.whole.train)
                with progress_bar(self.settings.tuning.epochs * images, f"fine-tuning {path.stem}", "images") as bar:
                    facts = pipeline.whole, self._wanted(pipeline), self.settings.tuning
                    tuned = finetune(pipeline.checkpoint, *facts, path, pipeline.device, bar.update)
                before, after = (one.metadata["test_accuracy"] for one in (pipeline.checkpoint, tuned))
                print(f"fine-tuned: {path}: test accuracy {after:.4f}, {before:.4f} before", flush=True)
        return restore(tuned, pipeline.device)

    def _tuned_path(self, pipeline: Pipeline) -> Path:
        return finetuned_path(pipeline.folders.checkpoints, pipeline.order.path(pipeline.folders.checkpoints))

    def is_tuned(self, pipeline: Pipeline) -> bool:
        """Whether the network that judges is there, where it has to be fine-tuned."""
        return self._kept_tuned(pipeline) is not None

    def _wanted(self, pipeline: Pipeline) -> dict[str, Any]:
        settings = self.settings
        assert settings.tuning is not None
        limit = pipeline.order.limit_train
        return finetuning(pipeline.checkpoint, settings.tuning, settings.most, settings.fill, limit)

    def _kept_tuned(self, pipeline: Pipeline) -> Checkpoint | None:
        return find_finetuned(self._tuned_path(pipeline), self._wanted(pipeline)) if pipeline.kept else None

    def report(self) -> str:
        first = self.pipelines[0]
        return RemovalSummary(self.settings, *self.facts(), first.dataset_sum, first.folders.data).write(self.folder)
