"""Every method on every model of ours and a few real images."""

import pytest
import torch

from attribution import ANY_MODEL_METHODS, CONTROLS, ENSEMBLES
from attribution.fusing import fuse_batchnorm
from attribution.spec import MethodSpec
from common.errors import InputError
from data import load_dataset
from models import ATTENTIONS, build_model
from training.inputs import Images, Normalisation

IMAGES = 3
SMALL = {"steps": 3, "samples": 2, "level": 0.15}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def kept():
    """The network of the latest tests, made once."""
    return {}


def explained(kept, data_dir, name, attention):
    """A network with lively batch norm statistics, folded, and real images."""
    dataset = load_dataset(name, data_dir)
    normalisation = Normalisation.from_dataset(dataset, CPU)
    images = Images(dataset.test, normalisation, CPU)
    if (name, attention) not in kept:
        torch.manual_seed(0)
        model = build_model(name, attention).train()
        with torch.no_grad():
            model(images.batch(torch.arange(12)))
        kept.clear()  # the tests come network by network
        kept[name, attention] = fuse_batchnorm(model.eval())
    return kept[name, attention], images.batch(torch.arange(IMAGES)), normalisation.pixels


@pytest.mark.parametrize("method", [*ANY_MODEL_METHODS, "CAM"])
@pytest.mark.parametrize("attention", [None, *ATTENTIONS])
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_maps_are_finite_of_the_right_shape_and_not_constant(kept, data_dir, name, attention, method):
    model, inputs, pixels = explained(kept, data_dir, name, attention)
    choice = MethodSpec.of(method, **SMALL)
    built = choice.build(model, pixels)
    target = torch.arange(IMAGES)
    if method == "CAM" and attention not in ("CAM", "RAN"):
        with pytest.raises(InputError, match="CAM needs a CAM head"):
            built.attribute(inputs, target)
        return
    maps = built.attribute(inputs, target)
    assert maps.dtype == torch.float32
    assert maps.shape in {inputs.shape, (IMAGES, 1, *inputs.shape[2:])}
    assert maps.isfinite().all()
    spread = maps.flatten(1).amax(1) - maps.flatten(1).amin(1)
    if method in ("GC", "GB-GC"):  # which are zero where no feature speaks for the class
        assert (spread > 0).any()
    else:
        assert (spread > 0).all()


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("method", [method for method in ANY_MODEL_METHODS if method not in CONTROLS])
@pytest.mark.parametrize("attention", [None, "CAM", "CBAM"])
def test_ensembles_around_every_method(kept, data_dir, attention, method, ensemble):
    model, inputs, pixels = explained(kept, data_dir, "mnist", attention)
    choice = MethodSpec.of(method, ensemble, **SMALL)
    maps = choice.build(model, pixels).attribute(inputs, torch.arange(IMAGES))
    assert maps.isfinite().all()
    assert maps.any()
    if ensemble != "SG":
        assert (maps >= 0).all()
