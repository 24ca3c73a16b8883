"""The order of pixels by the maps of one classifier, as tasks take it."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from attribution.spec import MethodSpec
from evaluation.masking import ranks_of_maps
from evaluation.tasks import Arrays, SharedArrays
from experiments.map_files import SPLITS, Rows

if TYPE_CHECKING:
    from experiments.pipeline import Pipeline

HELD = 4  # methods, the latest


class Ranking:
    """Ranks the pixels of a pipeline's images by its maps, which are made if they are missing."""

    def __init__(self, pipeline: "Pipeline") -> None:
        self.pipeline = pipeline
        self._held: dict[str, SharedArrays] = {}

    def of_test(self, method: MethodSpec, rank: str) -> SharedArrays:
        """Return the test images' `ranks` (N, 1, H, W) of pixels, and `target` (N,), the class explained."""
        pipeline = self.pipeline
        targets: list[Any] = []

        def rows() -> Iterator[Rows]:
            for part in pipeline.maps(method).rows("test", pipeline.dataset.test.index):
                targets.append(part[pipeline.explain])
                yield part

        ranks, _tied = self._rank(rows(), method, "pixel", rank)
        return SharedArrays({"ranks": ranks, "target": np.concatenate(targets)})

    def of_splits(self, method: MethodSpec, granularity: str, rank: str) -> SharedArrays:
        """Return the ranks of both splits' positions: `train`, `test` and `tied`."""
        pipeline = self.pipeline
        key = f"{pipeline.map_path(method)} {granularity} {rank} {method.blur}"
        if key not in self._held:
            while len(self._held) >= HELD:
                del self._held[next(iter(self._held))]
            reader = pipeline.maps(method)
            (train, tied), (test, _tied) = (
                self._rank(reader.rows(split, getattr(pipeline.dataset, split).index), method, granularity, rank)
                for split in SPLITS
            )
            arrays: Arrays = {"train": train, "test": test, "tied": np.array(tied)}
            self._held[key] = SharedArrays(arrays)
        return self._held[key]

    def _rank(self, rows: Iterable[Rows], method: MethodSpec, granularity: str, rank: str) -> tuple[Any, float]:
        maps = ((part["attribution"], part["index"]) for part in rows)
        pipeline = self.pipeline
        channels = pipeline.dataset.shape[0]
        ranks, tied = ranks_of_maps(maps, channels, granularity, rank, pipeline.device, method.blur)
        return ranks.cpu().numpy(), tied
