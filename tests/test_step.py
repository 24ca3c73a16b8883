"""Recorded steps of training, on a CPU with a recorder that does what a CUDA graph does: operations, no Python."""

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import training.classifier
import training.loop
from models import build_model
from training.augmentation import drawn
from training.device import exact_float32
from training.inputs import Images, Normalisation, labels_of
from training.loop import initialised, train
from training.recipe import recipe_for
from training.step import FEWEST_STEPS, RecordedStep, Step, as_cuda_graph, recorded, step_for

RECIPE = recipe_for("mnist")
CROPPED = replace(RECIPE, flip=True)
CPU = torch.device("cpu")
RATES = [0.05, 0.1, 0.2, 0.01, 0.03, 0.3]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Tape(TorchDispatchMode):
    """Notes each operation with the tensors that it works on and those that it makes."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, made))
        return made

    @torch.no_grad()
    def play(self):
        for func, args, kwargs, made in self.operations:
            again = func(*args, **kwargs)
            pairs = zip(*((one if isinstance(one, list | tuple) else [one]) for one in (made, again)), strict=True)
            for old, new in pairs:
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def taped(body):
    body()  # as a warm-up does
    with Tape() as tape:
        loss = body()
    assert len(tape.operations) > 50

    def play():
        tape.play()
        return loss

    return play


class Noise:
    """96 images, and their labels."""

    fixed = True

    def __init__(self, device):
        random = torch.Generator().manual_seed(1)
        self.images = torch.randn(96, 1, 28, 28, generator=random).to(device)
        self.labels = torch.randint(10, (96,), generator=random).to(device)
        self.border = self.images[0, :, 0, 0]

    def __len__(self):
        return len(self.images)

    def batch(self, index):
        return self.images[index]


class NewNoise(Noise):
    """Noise upon noise, drawn on the CPU at every call."""

    fixed = False

    def __init__(self, device):
        super().__init__(device)
        self.random = torch.Generator().manual_seed(2)

    def batch(self, index):
        images = super().batch(index)
        return images + torch.rand(images.shape, generator=self.random).to(images.device)


def batches(device=CPU):
    random = torch.Generator().manual_seed(3)
    for index in torch.randperm(96, generator=random).split(16):
        yield tuple(draws.to(device) for draws in (index, *drawn(CROPPED, 16, random, CPU)))


def built(rate=None, device=CPU, model=None, inputs=Noise, kind=Step):
    torch.manual_seed(0)
    model = (model or build_model("mnist")).to(device).to(memory_format=torch.channels_last).train()
    rate = torch.tensor(RATES[0], device=device) if rate is None else rate
    settings = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3, "fused": True}
    inputs = inputs(device)
    return kind(model, torch.optim.SGD(model.parameters(), lr=rate, **settings), CROPPED, inputs, inputs.labels)


def trained(take, step):
    """The losses, and all that the steps changed."""
    losses = []
    for batch, rate in zip(batches(step.labels.device), RATES, strict=True):
        (group,) = step.optimiser.param_groups
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
        losses.append(take(*batch).item())
    return losses, [tensor.detach().clone() for part in step.state() for tensor in part]


def same(some, others):
    return some[0] == others[0] and all(torch.equal(one, other) for one, other in zip(some[1], others[1], strict=True))


def test_recorded_steps_are_the_plain_ones_bit_by_bit():
    plain, step = built(), built()
    recording = recorded(step, taped)
    assert same(trained(recording, step), trained(plain, plain))
    assert recording.play is not None
    assert recording.calls == len(RATES)


def test_a_batch_that_is_drawn_anew_stays_out_of_the_recording():
    plain, step = built(inputs=NewNoise), built(inputs=NewNoise)
    tapes = []

    def noted(body):
        tapes.append(taped(body))
        return tapes[-1]

    assert same(trained(recorded(step, noted), step), trained(plain, plain))
    assert len(tapes) == 1


def test_a_learning_rate_that_is_a_number_is_not_recorded():
    plain, step = built(), built(rate=RATES[0])
    recording = recorded(step, taped)
    assert same(trained(recording, step), trained(plain, plain))
    assert recording.play is None


def test_a_step_that_makes_a_number_of_the_learning_rate_is_found_out():
    """By the rate that is another one during the recording: the first batch's would be right on the first batch."""

    class Numbered(Step):
        def __call__(self, *batch):
            (group,) = self.optimiser.param_groups
            rate, group["lr"] = group["lr"], float(group["lr"])
            try:
                return super().__call__(*batch)
            finally:
                group["lr"] = rate

    plain, numbered = built(), built(kind=Numbered)
    recording = recorded(numbered, taped)
    assert same(trained(recording, numbered), trained(plain, plain))
    assert recording.play is None


@pytest.fixture(autouse=True)
def nothing_refused(monkeypatch):
    monkeypatch.setattr(RecordedStep, "refused", set())
    monkeypatch.setattr(RecordedStep, "fates", Counter())


def refused(body):
    body()
    raise RuntimeError("operation not permitted when stream is capturing")


def full(body):
    body()
    raise torch.OutOfMemoryError("CUDA out of memory")


def idle(body):
    loss = body()
    return lambda: loss


def stale(body):
    """Plays with the batch of the recording."""
    step = body.__closure__[0].cell_contents
    given = [tensor.clone() for tensor in step.held]
    return lambda: step.part(*given)


def twice(body):
    def play():
        body()
        return body()

    return play


@pytest.mark.parametrize(
    ("record", "fate"),
    [
        (refused, "refused: operation not permitted when stream is capturing"),
        (idle, "something else than the plain step"),
        (stale, "something else than the plain step"),
        (twice, "something else than the plain step"),
        (full, "no memory left for it"),
    ],
)
def test_a_recording_that_fails_is_not_used_and_leaves_no_trace(record, fate):
    plain, step = built(), built()
    recording = recorded(step, record)
    assert same(trained(recording, step), trained(plain, plain))
    assert recording.play is None
    assert RecordedStep.fates == {fate: 1}


class Refusing(nn.Sequential):
    pass


def test_a_network_that_can_not_be_recorded_is_tried_once():
    tries = []

    def record(body):
        tries.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    for _ in range(2):
        step = built(model=Refusing(nn.Flatten(), nn.Linear(784, 10)))
        trained(recorded(step, record), step)
    assert tries == [1]


def test_a_step_that_moves_its_tensors_is_not_recorded():
    class Moving(Step):
        def __call__(self, *batch):
            loss = super().__call__(*batch)
            for parameter in self.model.parameters():
                parameter.data = parameter.data.clone()
            return loss

    plain, moving = built(), built(kind=Moving)
    recording = recorded(moving, lambda body: body)
    assert same(trained(recording, moving), trained(plain, plain))
    assert recording.play is None


def test_chance_is_not_recorded():
    step = built(model=nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(784, 10)))
    recording = recorded(step, taped)
    trained(recording, step)
    assert recording.play is None


def test_other_mistakes_are_not_hidden():
    def mistaken(body):
        raise KeyError("no such thing")

    step = built()
    with pytest.raises(KeyError):
        trained(recorded(step, mistaken), step)


def test_a_cpu_takes_plain_steps():
    step = built()
    assert step_for(step, FEWEST_STEPS) is step


def test_a_whole_training_of_recorded_steps_also_interrupted(mnist, monkeypatch):
    recipe = replace(RECIPE, epochs=2, batch_size=64)
    normalisation = Normalisation.of(mnist, CPU)
    images, labels = Images(mnist.train, normalisation, CPU), labels_of(mnist.train, CPU)
    kept, kept_plain, made = [], [], []

    def weights(**options):
        model = initialised(lambda: build_model("mnist"), 0, CPU)
        train(model, images, labels, recipe, 0, **options)
        return model.state_dict()

    def recorded_step(step, steps):
        made.append(recorded(step, taped))
        return made[-1]

    plain = weights(keep=lambda state: kept_plain.append(copy.deepcopy(state)))
    monkeypatch.setattr(training.loop, "step_for", recorded_step)
    monkeypatch.setattr(training.loop, "learning_rate", lambda value, device: torch.tensor(value, device=device))
    through = weights(keep=lambda state: kept.append(copy.deepcopy(state)))
    resumed = weights(resumed=kept[0])
    begun_without = weights(resumed=kept_plain[0])
    assert [one.play is not None for one in made] == [True, True, True]
    assert all(torch.equal(through[name], value) for name, value in resumed.items())
    for name, value in plain.items():
        torch.testing.assert_close(through[name], value, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(begun_without[name], value, rtol=1e-3, atol=1e-4)


@CUDA
@pytest.mark.parametrize("attention", [None, "CAM", "CBAM"])
def test_cuda_graph_is_used_and_comes_to_the_same(attention):
    exact_float32()
    model, device = build_model("mnist", attention), torch.device("cuda")
    plain, step = built(model=copy.deepcopy(model), device=device), built(model=model, device=device)
    recording = step_for(step, FEWEST_STEPS)
    assert isinstance(recording, RecordedStep)
    assert recording.record is as_cuda_graph
    got, want = trained(recording, step), trained(plain, plain)
    assert RecordedStep.fates == {"used": 1}
    assert recording.play is not None
    torch.testing.assert_close(got[0], want[0], rtol=0.02, atol=0.02)


@CUDA
def test_trainings_one_after_the_other_and_through_the_file_on_a_gpu(mnist, tmp_path, monkeypatch):
    device, recipe = torch.device("cuda"), replace(RECIPE, epochs=2, batch_size=5)
    order = training.classifier.TrainingConfig("mnist", None, 0, recipe)
    made = []

    def noted(*arguments):
        made.append(step_for(*arguments))
        return made[-1]

    monkeypatch.setattr(training.loop, "step_for", noted)
    first, second = (training.classifier.train_classifier(order, mnist, tmp_path / name, device) for name in "ab")

    class Killed(BaseException):
        pass

    save = training.classifier.ResumeFile.save

    def save_and_die(file, state):
        save(file, state)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training.classifier.ResumeFile, "save", save_and_die)
        with pytest.raises(Killed):
            training.classifier.train_classifier(order, mnist, tmp_path / "c", device)
    third = training.classifier.train_classifier(order, mnist, tmp_path / "c", device, resume=True)
    assert [one.play is not None for one in made] == [True] * 4
    for other in (second, third):
        assert other.metadata["test_accuracy"] == pytest.approx(first.metadata["test_accuracy"], abs=0.05)


@CUDA
def test_cuda_graph_refuses_what_waits_for_a_result():
    class Waiting(nn.Sequential):
        def forward(self, images):
            logits = super().forward(images)
            return logits * (1 + 0 * logits.sum().item())

    model, device = Waiting(nn.Flatten(), nn.Linear(784, 10)), torch.device("cuda")
    plain, step = built(model=copy.deepcopy(model), device=device), built(model=model, device=device)
    recording = step_for(step, FEWEST_STEPS)
    got, want = trained(recording, step), trained(plain, plain)
    assert [fate.startswith("refused: called a synchronizing CUDA operation") for fate in RecordedStep.fates] == [True]
    assert recording.play is None
    torch.testing.assert_close(got[0], want[0], rtol=0.02, atol=0.02)
    assert torch.zeros(3, device=device).sum().item() == 0  # the device is still usable
