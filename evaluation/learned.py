"""Dependence of an explanation on learning: the trained network's map against a map of the same network untrained.

Both maps remove pixels from the images that the trained network classifies, as in insertion and deletion. A map that
removes no better than that of random weights shows nothing that the network has learned (after Adebayo et al., NeurIPS
2018, arXiv 1810.03292, who compare how the two maps look).
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import torch

from attribution.maps import compute_maps
from attribution.spec import MethodSpec
from evaluation.configs import RemovalConfig
from evaluation.masking import importance, ranks
from evaluation.protocol import Artefacts, Result, Work
from evaluation.removal import DIGITS, RemovalEvaluation, measure
from evaluation.sanity import randomise, randomization_cascade, require_random
from evaluation.tasks import OnImages
from training.loop import seed_for


class Learned(RemovalEvaluation):
    """The gap of insertion and deletion of the trained network's map, minus that of the map of random weights."""

    def __init__(self) -> None:
        super().__init__("learned")

    def images(self, config: RemovalConfig) -> int:
        return 2 * config.limit_test

    def work(self, config: RemovalConfig) -> Work:
        return replace(super().work(config), maps=config.limit_test)

    def includes(self, config: RemovalConfig) -> tuple[str, RemovalConfig]:
        return "insertion-deletion", replace(config, evaluation="insertion-deletion", by_image=True)

    def networks(self, config: RemovalConfig) -> Sequence[str]:
        return ()

    def measure(self, config: RemovalConfig, method: MethodSpec, artefacts: Artefacts, on_images: OnImages) -> Result:
        """Return `learned`, the difference of the gaps of each image: (N,)."""
        test, model, config = artefacts.test, artefacts.network(), replace(config, by_image=True)
        assert artefacts.maps is not None
        target, trained = (torch.from_numpy(artefacts.maps[name]).to(artefacts.device) for name in ("target", "ranks"))
        names = [*chain(*randomization_cascade(model, 1, test.images.batch(test.batches()[0][:1])))]
        network = randomise(model, names, seed_for(artefacts.seed, "random weights"))
        require_random(network, model, test.images.batch(test.batches()[0]))
        explainer, _network = artefacts.explainer(method, network)
        places = []
        for rows in test.batches():
            batch = test.images.batch(rows).contiguous(memory_format=torch.channels_last)
            values = importance(compute_maps(explainer, batch, target[rows]), batch.shape[1], rank=config.rank)
            places.append(ranks(values, test.index[rows]))
        random, whole = torch.cat(places), artefacts.included
        if whole is None:
            whole = measure(model, test, target, trained, config, on_images)
        else:
            on_images(len(target))
        if torch.equal(random, trained):  # of maps that don't depend on the network
            other = whole
            on_images(len(target))
        else:
            other = measure(model, test, target, random, config, on_images)
        difference = np.array(whole["image_gap"]) - np.array(other["image_gap"])
        return {"learned": difference.round(DIGITS).tolist(), "test_images": len(target)}
