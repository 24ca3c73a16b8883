"""ROAD, F-Fidelity, insertion and deletion: removal by a map, judged by networks that never saw a map's masks."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attribution.choice import Choice
from evaluation.perturbation import measure
from evaluation.pipeline import Pipeline
from evaluation.removals import Found, Removals, Settings
from evaluation.runs import naming_damage, read_record, write_record
from models import model_name
from progress import progress_bar
from storage import plain_sum
from training.checkpoint import Checkpoint, versions
from training.classifier import restore
from training.device import device_name
from training.finetuning import find_finetuned, finetune, finetuned_path, finetuning
from training.inputs import Images, labels_of


@dataclass(frozen=True)
class Task:
    """One method on one classifier."""

    pipeline: Pipeline
    method: Choice


class Removing:
    """One of these evaluations of several methods on the classifiers of one model, a seed each."""

    def __init__(
        self, pipelines: Sequence[Pipeline], methods: Sequence[Choice], settings: Settings, overwrite: bool = False
    ) -> None:
        """
        Raises:
            InputError: a method that the model refuses, maps of something else, a damaged result.
        """
        self.pipelines, self.methods, self.settings, self.overwrite = pipelines, methods, settings, overwrite
        self.dataset, self.model = pipelines[0].order.dataset, model_name(pipelines[0].order.attention)
        self.folder = pipelines[0].folders.results
        self.tasks = [Task(pipeline, method) for pipeline in pipelines for method in methods]
        self.results: dict[Task, Found] = {}
        for task in self.tasks:
            found = self._find(task) if task.pipeline.kept else None
            if found is None:
                task.pipeline.kept_or_checked(task.method)
            else:
                self.results[task] = found

    def configuration(self, task: Task, checkpoint_sum: str) -> dict[str, Any]:
        order = task.pipeline.order
        return {
            "dataset": order.dataset,
            "dataset_sum": task.pipeline.dataset_sum,
            "model": model_name(order.attention),
            "seed": order.seed,
            "checkpoint_sum": checkpoint_sum,
            "map_dtype": task.pipeline.map_dtype,
            **task.method.plain,
            "blur": task.method.blur,
            **asdict(self.settings),
            "ratios": list(self.settings.ratios),
        }

    def path(self, task: Task) -> Path:
        """`results/<evaluation>/<dataset>_<model>_<method>_seed<k>-<hash of the configuration>.json`."""
        name = f"{self.dataset}_{self.model}_{task.method.filed}_seed{task.pipeline.order.seed}"
        configuration = plain_sum(self.configuration(task, task.pipeline.checkpoint.sum))[:12]
        return self.folder / self.settings.evaluation / f"{name}-{configuration}.json"

    def _find(self, task: Task) -> Found | None:
        path = self.path(task)
        if self.overwrite or not path.exists():
            return None
        with naming_damage(path):
            configuration, result = read_record(path)
            if configuration != self.configuration(task, task.pipeline.checkpoint.sum):
                raise ValueError("another configuration")
            return {name: result[name] for name in ("accuracy", "score", "whole_accuracy", "whole_score")}

    def plan(self) -> str:
        """What `complete` would do, in lines."""
        lines = [line for pipeline in self.pipelines for line in pipeline.train_lines()]
        todo = [task for task in self.tasks if task not in self.results]
        if self.settings.tuning is not None:
            tuned = dict.fromkeys(task.pipeline for task in todo)
            lines += [
                f"tune    {self._tuned_path(pipeline)}" for pipeline in tuned if self._kept_tuned(pipeline) is None
            ]
        lines += [
            f"explain {one.pipeline.map_path(one.method)}" for one in todo if not one.pipeline.has_maps(one.method)
        ]
        lines += [
            f"remove  {self.settings.evaluation} {one.method.label} seed {one.pipeline.order.seed}" for one in todo
        ]
        return "\n".join([*lines, f"{len(self.tasks)} measurements, {len(self.results)} finished, nothing written"])

    def complete(self) -> None:
        """Do what is not finished, each measurement kept as soon as it is done."""
        for task in self.tasks:
            if task not in self.results and (found := self._find(task)) is not None:
                self.results[task] = found
        todo = [task for task in self.tasks if task not in self.results]
        said = f"{self.settings.evaluation}: {len(self.results)} of {len(self.tasks)} measurements are finished"
        print(f"{said}, {len(todo)} to do", flush=True)
        for task in todo:
            task.pipeline.maps(task.method)
        networks = {pipeline: self._network(pipeline) for pipeline in dict.fromkeys(task.pipeline for task in todo)}
        total = len(todo) * self.settings.limit_test
        if not todo:
            return
        with progress_bar(total, self.settings.evaluation, "images") as bar:
            for task in self.pipelines[0].claims.shared(todo, lambda task: self.path(task).name):
                found = self._find(task)  # another process may have done it by now
                if found is None:
                    bar.set_postfix_str(f"{task.method.label} seed {task.pipeline.order.seed}", refresh=False)
                    found = self._do(task, networks[task.pipeline], bar.update)
                else:
                    bar.update(self.settings.limit_test)
                self.results[task] = found

    def _do(self, task: Task, network: nn.Module, on_images: Callable[[int], object]) -> Found:
        pipeline, settings = task.pipeline, self.settings
        ranks, target = pipeline.explained_test(task.method, settings.rank)
        test = pipeline.dataset.test
        measured = measure(
            network,
            Images(test, pipeline.normalisation, pipeline.device),
            labels_of(test, pipeline.device),
            target,
            torch.from_numpy(test.index).to(pipeline.device),
            ranks,
            settings.ratios,
            settings.perturbation(pipeline.normalisation),
            on_images,
        )
        found = asdict(measured)
        how = {"test_images": len(test), "device": device_name(pipeline.device), "versions": versions()}
        write_record(self.path(task), self.configuration(task, pipeline.checkpoint.sum), found | how)
        return found

    def _network(self, pipeline: Pipeline) -> nn.Module:
        """What judges: the classifier itself, or F-Fidelity's fine-tuned one, which is made now if it is not there."""
        if self.settings.tuning is None:
            return restore(pipeline.checkpoint, pipeline.device)
        path = self._tuned_path(pipeline)
        with pipeline.claims.alone(f"finetuned {path.name}"):
            tuned = self._kept_tuned(pipeline)
            if tuned is None:
                images = pipeline.order.limit_train or len(pipeline.whole.train)
                total = self.settings.tuning.epochs * images
                with progress_bar(total, f"fine-tuning {path.stem}", "images") as bar:
                    wanted = self._wanted(pipeline)
                    tuned = finetune(
                        pipeline.checkpoint,
                        pipeline.whole,
                        wanted,
                        self.settings.tuning,
                        path,
                        pipeline.device,
                        bar.update,
                    )
                before, after = (one.metadata["test_accuracy"] for one in (pipeline.checkpoint, tuned))
                print(f"fine-tuned: {path}: test accuracy {after:.4f}, {before:.4f} before", flush=True)
        return restore(tuned, pipeline.device)

    def _tuned_path(self, pipeline: Pipeline) -> Path:
        return finetuned_path(pipeline.folders.checkpoints, pipeline.order.path(pipeline.folders.checkpoints))

    def _wanted(self, pipeline: Pipeline) -> dict[str, Any]:
        settings = self.settings
        assert settings.tuning is not None
        limit = pipeline.order.limit_train
        return finetuning(pipeline.checkpoint, settings.tuning, settings.most, settings.fill, limit)

    def _kept_tuned(self, pipeline: Pipeline) -> Checkpoint | None:
        return find_finetuned(self._tuned_path(pipeline), self._wanted(pipeline)) if pipeline.kept else None

    def report(self) -> str:
        """Write table and figure; return what is to be said at the end."""
        found = {(task.method, task.pipeline.order.seed): found for task, found in self.results.items()}
        seeds = tuple(pipeline.order.seed for pipeline in self.pipelines)
        quick = self.pipelines[0].order.quick
        removals = Removals(self.settings, self.dataset, self.model, tuple(self.methods), seeds, found, quick)
        return removals.write(self.folder)
