import pytest
import torch

from errors import InputError
from models import IMAGE_SHAPES, build_model


@pytest.mark.parametrize(("dataset", "parameters"), [("mnist", 1_284_042), ("cifar10", 2_202_122)])
def test_simple_cnn_has_its_published_size_and_no_dead_parameter(dataset, parameters):
    model = build_model(dataset)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    logits = model(torch.randn(4, *IMAGE_SHAPES[dataset]))
    assert logits.shape == (4, 10)
    assert not torch.allclose(logits.exp().sum(1), torch.ones(4)), "these are probabilities, not logits"
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize(("dataset", "attention"), [("imagenet", None), ("mnist", "SE")])
def test_unknown_names_are_refused(dataset, attention):
    with pytest.raises(InputError, match="unknown"):
        build_model(dataset, attention)
