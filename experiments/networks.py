"""Networks beside the classifier that evaluations need: trained when they are needed first, and kept."""

from pathlib import Path
from typing import Any

from common.progress import progress_bar
from evaluation.sanity import with_random_labels
from experiments.checkpoints import find_classifier, find_finetuned, finetuned_path, save_checkpoint, train_and_save
from experiments.pipeline import Pipeline
from reporting.labels import classifier_line
from training.checkpoint import Checkpoint
from training.finetuning import finetune, finetuning_record


def network(name: str, pipeline: Pipeline, settings: Any) -> Checkpoint:
    """Return the network that `Evaluation.networks` calls `name`."""
    return finetuned(pipeline, settings) if name == "finetuned" else with_shuffled_labels(pipeline)


def finetuned(pipeline: Pipeline, settings: Any) -> Checkpoint:
    """Return the classifier fine-tuned on random masks, which judges in F-Fidelity."""
    path = path_of_finetuned(pipeline)
    with pipeline.folders.making(f"finetuned {path.name}"):
        checkpoint = kept_finetuned(pipeline, settings)
        if checkpoint is None:
            images = pipeline.order.limit_train or len(pipeline.whole.train)
            with progress_bar(settings.tuning.epochs * images, f"fine-tuning {path.stem}", "images") as bar:
                facts = pipeline.whole, _finetuning(pipeline, settings), settings.tuning
                checkpoint = finetune(pipeline.checkpoint, *facts, pipeline.device, bar.update)
            save_checkpoint(path, checkpoint)
            before, after = (network.metadata["test_accuracy"] for network in (pipeline.checkpoint, checkpoint))
            print(f"fine-tuned: {path}: test accuracy {after:.4f}, {before:.4f} before", flush=True)
    return checkpoint


def kept_finetuned(pipeline: Pipeline, settings: Any) -> Checkpoint | None:
    """Return the fine-tuned network if it is there."""
    if not pipeline.has_classifier:
        return None
    return find_finetuned(path_of_finetuned(pipeline), _finetuning(pipeline, settings))


def path_of_finetuned(pipeline: Pipeline) -> Path:
    return finetuned_path(pipeline.folders.checkpoints, pipeline.order.path(pipeline.folders.checkpoints))


def _finetuning(pipeline: Pipeline, settings: Any) -> dict[str, Any]:
    limit = pipeline.order.limit_train
    return finetuning_record(pipeline.checkpoint, settings.tuning, settings.beta, settings.fill, limit)


def with_shuffled_labels(pipeline: Pipeline) -> Checkpoint:
    """Return the same classifier trained on shuffled labels, kept in `checkpoints/random_labels`."""
    folder = pipeline.folders.checkpoints / "random_labels"
    path = pipeline.order.path(folder)
    with pipeline.folders.making(f"random_labels {path.name}"):
        checkpoint = find_classifier(pipeline.order, pipeline.dataset_sum, folder)
        if checkpoint is None:
            print(f"model: {path} is not there: training it on shuffled labels ...", flush=True)
            shuffled = with_random_labels(pipeline.whole, pipeline.order.seed)
            checkpoint = train_and_save(pipeline.order, shuffled, folder, pipeline.device)
            print(classifier_line(checkpoint.metadata, path), flush=True)
    return checkpoint
