"""Networks that evaluations need beside the classifier; each is trained at its first use, and stored."""

from pathlib import Path
from typing import Any

from common.progress import progress_bar
from evaluation.sanity import with_random_labels
from experiments.checkpoints import find_classifier, has_code_changed, load_checkpoint, save_checkpoint, train_and_save
from experiments.pipeline import Pipeline
from reporting.labels import classifier_line
from training.checkpoint import Checkpoint
from training.finetuning import finetune, finetuning_record


def provide_network(name: str, pipeline: Pipeline, config: Any) -> Checkpoint:
    """Return the network that `Evaluation.networks` calls `name`."""
    return provide_finetuned(pipeline, config) if name == "finetuned" else provide_random_labels(pipeline)


def provide_finetuned(pipeline: Pipeline, config: Any) -> Checkpoint:
    """Return the classifier fine-tuned on random masks, which judges in F-Fidelity."""
    path = finetuned_path(pipeline)
    with pipeline.folders.exclusive(f"finetuned {path.name}"):
        checkpoint = find_finetuned(pipeline, config)
        if checkpoint is None:
            record, images = _record(pipeline, config), pipeline.config.limit_train or len(pipeline.whole.train)
            with progress_bar(config.tuning.epochs * images, f"fine-tuning {path.stem}", "images") as bar:
                facts = pipeline.whole, record, config.tuning
                checkpoint = finetune(pipeline.checkpoint, *facts, pipeline.device, bar.update)
            save_checkpoint(path, checkpoint)
            before, after = (each.metadata.get("test_accuracy") for each in (pipeline.checkpoint, checkpoint))
            earlier = "" if before is None else f", {before:.4f} before"
            print(f"fine-tuned: {path}: test accuracy {after:.4f}{earlier}", flush=True)
    return checkpoint


def find_finetuned(pipeline: Pipeline, config: Any) -> Checkpoint | None:
    """Return the stored fine-tuned network; None if there is none, or it was tuned otherwise.

    Raises:
        InputError: the file is damaged.
    """
    path = finetuned_path(pipeline)
    if not (pipeline.has_classifier and path.exists()):
        return None
    record, checkpoint = _record(pipeline, config), load_checkpoint(path)
    if has_code_changed(checkpoint.metadata, record):
        return None
    return checkpoint if all(checkpoint.metadata.get(name) == value for name, value in record.items()) else None


def finetuned_path(pipeline: Pipeline) -> Path:
    """Return `<checkpoints>/finetuned/<name of the classifier's file>`."""
    return pipeline.folders.checkpoints / "finetuned" / pipeline.path.name


def _record(pipeline: Pipeline, config: Any) -> dict[str, Any]:
    limit = pipeline.config.limit_train
    record = finetuning_record(pipeline.checkpoint, config.tuning, config.beta, config.fill, limit)
    return {"dataset": pipeline.config.dataset, "dataset_sum": pipeline.dataset_sha256} | record


def provide_random_labels(pipeline: Pipeline) -> Checkpoint:
    """Return the classifier trained on shuffled labels, stored in `checkpoints/random_labels`."""
    folder = pipeline.folders.checkpoints / "random_labels"
    path = pipeline.config.path(folder)
    with pipeline.folders.exclusive(f"random_labels {path.name}"):
        checkpoint = find_classifier(pipeline.config, pipeline.dataset_sha256, folder)
        if checkpoint is None:
            print(f"model: {path} is not there: training it on shuffled labels ...", flush=True)
            shuffled = with_random_labels(pipeline.whole, pipeline.config.seed)
            checkpoint = train_and_save(pipeline.config, shuffled, folder, pipeline.device)
            print(classifier_line(checkpoint.metadata, path), flush=True)
    return checkpoint
