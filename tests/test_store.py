import h5py
import numpy as np
import pytest
import torch
from torch import nn

from attribution.spec import MethodSpec
from common.errors import InputError
from experiments import map_files as store
from experiments.explaining import explain_rows
from experiments.map_files import MapReader, MapWriter, map_bytes, scale_maps
from experiments.pipeline import Pipeline
from experiments.store import Folders
from training.config import TrainingConfig
from training.inputs import batch_size
from training.recipe import recipe_for

PROVENANCE = {
    "dataset": "mnist",
    "dataset_sum": "data-sum",
    "model": "SimpleCNN",
    "checkpoint_sum": "weights-sum",
    "method": "VBP",
    "explain": "prediction",
    "parameters": '{"layer": null}',
    "ensemble": "none",
    "dtype": "float32",
}
INDEX = {"train": np.array([2, 3, 5, 7, 11, 13, 17]), "test": np.array([0, 4, 8])}
ROWS = {"attribution": np.zeros((2, 1, 4, 4)), "label": np.zeros(2), "prediction": np.zeros(2)}
LABELS = {split: index % 3 for split, index in INDEX.items()}


class Pictures:
    """Images that are recognisable by their number."""

    def __init__(self, index):
        self.images = torch.tensor(index, dtype=torch.float32).view(-1, 1, 1, 1) + torch.arange(16.0).view(1, 1, 4, 4)

    def batch(self, rows):
        return self.images[rows]


class Doubled:
    """A method whose maps tell image and class."""

    calls = 0

    def attribute(self, inputs, target):
        self.calls += 1
        return 2 * inputs + 100 * target.view(-1, 1, 1, 1)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(store, "PART_ROWS", 2)


def make(path, method=None, provenance=PROVENANCE):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    told = []
    writer, method = MapWriter(path, provenance, INDEX), method or Doubled()
    for split, part in writer.missing():
        images, labels = Pictures(INDEX[split]), LABELS[split]
        rows = explain_rows(method, model, images, labels, part, provenance["explain"], told.append)
        writer.write(split, part, rows | {"index": INDEX[split][part]})
    writer.finish()
    return model, sum(told)


def everything(path, index=INDEX):
    return {split: read(MapReader(path, PROVENANCE), split, index[split]) for split in index}


def read(reader, split, index):
    parts = list(reader.rows(split, index))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_round_trip(tmp_path, small_parts):
    path = tmp_path / "maps.h5"
    model, told = make(path)
    assert told == 10
    got = everything(path)
    for split, index in INDEX.items():
        inputs = Pictures(index).images
        prediction = model(inputs).argmax(1)
        np.testing.assert_array_equal(got[split]["index"], index)
        np.testing.assert_array_equal(got[split]["label"], LABELS[split])
        np.testing.assert_array_equal(got[split]["prediction"], prediction)
        np.testing.assert_array_equal(got[split]["attribution"], Doubled().attribute(inputs, prediction))
        assert got[split]["attribution"].dtype == np.float32
    with h5py.File(path) as file:
        assert dict(file.attrs) == PROVENANCE | {"format": 2, "complete": True}
        assert file["train/attribution"].compression == "lzf"
        assert file["train/attribution"].chunks[1:] == (1, 4, 4)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def pipeline(folder, attention=None, seed=0, quick=False):
    config = TrainingConfig("mnist", attention, seed, recipe_for("mnist", attention), quick=quick)
    return Pipeline(config, Folders.below(folder, folder), torch.device("cpu"))


def test_the_name_of_a_file_tells_data_set_model_and_method(tmp_path):
    assert pipeline(tmp_path).map_path(MethodSpec("VBP")) == tmp_path / "saliency_maps/mnist_SimpleCNN_VBP.h5"
    squared, theirs = MethodSpec("GB-GC", "SG-SQ"), MethodSpec("captum.attr:DeepLift")
    assert pipeline(tmp_path, "CAM", quick=True).map_path(squared).name == "mnist_CAM_GB-GC_SG-SQ_quick.h5"
    assert pipeline(tmp_path, "CAM", seed=2).map_path(theirs).name == "mnist_CAM_seed2_captum.attr.DeepLift.h5"


def test_everything_that_decides_on_maps_is_compared(tmp_path):
    own = pipeline(tmp_path, "tests.own_model:small").provenance(MethodSpec("captum.attr:DeepLift", code="x"))
    assert set(own) == set(OTHERS)


def test_the_label_is_explained_when_asked(tmp_path):
    path = tmp_path / "maps.h5"
    provenance = dict(PROVENANCE, explain="label")
    make(path, provenance=provenance)
    (rows,) = MapReader(path, provenance).rows("train", INDEX["train"])
    want = 2 * Pictures(INDEX["train"]).images + 100 * torch.tensor(LABELS["train"]).view(-1, 1, 1, 1)
    np.testing.assert_array_equal(rows["attribution"], want)


def test_a_subset_is_read_in_its_order(tmp_path, small_parts):
    make(tmp_path / "maps.h5")
    whole, subset = everything(tmp_path / "maps.h5"), {"train": np.array([3, 7, 13, 17])}
    got = everything(tmp_path / "maps.h5", subset)["train"]
    np.testing.assert_array_equal(got["index"], subset["train"])
    np.testing.assert_array_equal(got["attribution"], whole["train"]["attribution"][[1, 3, 5, 6]])
    reader = MapReader(tmp_path / "maps.h5", PROVENANCE)
    assert reader.has_all(subset)
    assert not reader.has_all({"train": np.array([3, 4])})


OTHERS = {
    "dataset": "cifar10",
    "dataset_sum": "x",
    "model": "CBAM",
    "checkpoint_sum": "x",
    "method": "GC",
    "explain": "label",
    "parameters": '{"layer": "features"}',
    "ensemble": "SG",
    "dtype": "float16",
    "code": "x",
    "model_code": "x",
}


def test_a_file_that_another_command_has_replaced_is_not_read(tmp_path, small_parts, monkeypatch):
    path = tmp_path / "maps.h5"
    make(path)
    reader = MapReader(path, PROVENANCE)
    make(path)
    list(reader.rows("train", INDEX["train"]))  # the same maps again
    with pytest.raises(InputError, match="another command has replaced"):
        list(reader.rows("train", np.array([2, 4])))
    make(path, provenance=PROVENANCE | {"parameters": "{}"})
    with pytest.raises(InputError, match="another command has replaced"):
        list(reader.rows("train", INDEX["train"]))
    monkeypatch.setitem(INDEX, "test", np.array([1, 4]))
    monkeypatch.setitem(LABELS, "test", np.array([1, 1]))
    make(path)
    for read_again in (lambda: list(reader.rows("train", INDEX["train"])), reader.gaps):
        with pytest.raises(InputError, match="another command has replaced"):
            read_again()


@pytest.mark.parametrize("name", OTHERS)
def test_maps_of_something_else_are_refused(tmp_path, name):
    make(tmp_path / "maps.h5")
    with pytest.raises(InputError, match=rf"maps\.h5 holds maps of {name} "):
        MapReader(tmp_path / "maps.h5", dict(PROVENANCE, **{name: OTHERS[name]}))


def test_incomplete_foreign_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "maps.h5"
    make(path)
    with h5py.File(path, "a") as file:
        del file.attrs["complete"]
    with pytest.raises(InputError, match="not complete"):
        MapReader(path, PROVENANCE)
    path.write_bytes(b"not HDF5")
    with pytest.raises(InputError, match="damaged"):
        MapReader(path, PROVENANCE)


def test_a_flipped_byte_in_the_maps_is_noticed(tmp_path):
    path = tmp_path / "maps.h5"
    make(path)
    with h5py.File(path) as file:
        place = file["train/attribution"].id.get_chunk_info(0).byte_offset + 20
    content = bytearray(path.read_bytes())
    content[place] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        everything(path)


def test_killed_in_the_middle_it_goes_on_and_the_result_is_the_same(tmp_path, small_parts):
    class Killed(BaseException):
        pass

    class Dying(Doubled):
        def attribute(self, inputs, target):
            if self.calls == 3:
                raise Killed
            return super().attribute(inputs, target)

    path, unbroken = tmp_path / "maps.h5", tmp_path / "unbroken.h5"
    make(unbroken)
    with pytest.raises(Killed):
        make(path, Dying())
    assert not path.exists()
    second = Doubled()
    make(path, second)
    assert second.calls == 6 - 3, "parts that were written are not computed again"
    got, want = everything(path), everything(unbroken)
    for split in INDEX:
        for name in got[split]:
            np.testing.assert_array_equal(got[split][name], want[split][name])


def test_parts_of_another_model_are_not_taken_over(tmp_path, small_parts):
    writer = MapWriter(tmp_path / "maps.h5", PROVENANCE, INDEX)
    split, part = next(writer.missing())
    writer.write(split, part, ROWS | {"index": INDEX["train"][:2]})
    assert len(list(writer.missing())) == 5
    other = MapWriter(tmp_path / "maps.h5", dict(PROVENANCE, checkpoint_sum="other"), INDEX)
    assert len(list(other.missing())) == 6


@pytest.mark.parametrize(
    ("maps", "message"),
    [(lambda x: x[:, :, :2], "shape"), (lambda x: x * float("nan"), "not finite"), (lambda x: x.mean(0), "shape")],
)
def test_maps_that_are_none_are_refused(tmp_path, maps, message):
    class Wrong:
        def attribute(self, inputs, target):
            return maps(inputs)

    with pytest.raises(InputError, match=message):
        make(tmp_path / "maps.h5", Wrong())
    assert not (tmp_path / "maps.h5").exists()


class Tiny(Doubled):
    """A method with maps from 1e-9 to 1e9, and one that is zero."""

    def attribute(self, inputs, target):
        maps = super().attribute(inputs, target)
        maps = maps * 10.0 ** (inputs[:, :1, :1, :1] - 9)
        return maps * (inputs[:, :1, :1, :1] != 4)


def test_half_precision_keeps_small_and_large_maps_alike(tmp_path, small_parts):
    single, half = tmp_path / "single.h5", tmp_path / "half.h5"
    make(single, Tiny())
    provenance = dict(PROVENANCE, dtype="float16")
    make(half, Tiny(), provenance)
    with h5py.File(half) as file:
        assert file["test/attribution"].dtype == np.float16
        assert file.attrs["dtype"] == "float16"
    for split, index in INDEX.items():
        exact = read(MapReader(single, PROVENANCE), split, index)["attribution"]
        kept = read(MapReader(half, provenance), split, index)["attribution"]
        assert kept.dtype == np.float32
        largest = np.abs(exact).max(axis=(1, 2, 3), keepdims=True)
        assert (np.abs(kept - exact) <= largest * 2.0**-11).all()
        assert (kept[exact == 0] == 0).all()


def test_maps_of_another_precision_are_refused(tmp_path):
    make(tmp_path / "maps.h5")
    with pytest.raises(InputError, match="dtype 'float32', not 'float16'"):
        MapReader(tmp_path / "maps.h5", dict(PROVENANCE, dtype="float16"))


def test_scaled_maps_of_zero_stay_zero():
    arrays = scale_maps(np.zeros((2, 1, 3, 3), np.float32), "float16")
    assert not arrays["attribution"].any()
    assert not arrays["scale"].any()


class Gapped(Doubled):
    def completeness_gap(self, inputs, target, attributions):
        return inputs[:, 0, 0, 0] / 100


def test_completeness_gaps_are_kept_with_the_maps(tmp_path, small_parts):
    make(tmp_path / "maps.h5")
    assert MapReader(tmp_path / "maps.h5", PROVENANCE).gaps() is None
    make(tmp_path / "gapped.h5", Gapped())
    reader = MapReader(tmp_path / "gapped.h5", PROVENANCE)
    want = np.concatenate([INDEX["train"], INDEX["test"]]) / 100
    np.testing.assert_allclose(reader.gaps(), want, rtol=1e-6)
    (rows,) = reader.rows("test", INDEX["test"][:2])
    np.testing.assert_allclose(rows["gap"], want[-3:-1], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_file_is_no_larger_than_said(tmp_path, dtype):
    make(tmp_path / "maps.h5", Gapped(), dict(PROVENANCE, dtype=dtype))
    assert (tmp_path / "maps.h5").stat().st_size <= map_bytes(10, 16, dtype)


@pytest.mark.parametrize(("shape", "rows"), [((1, 28, 28), 2000), ((3, 32, 32), 2000), ((3, 224, 224), 108)])
def test_parts_of_large_maps_are_whole_batches_that_fit_into_memory(shape, rows):
    assert store.rows_of_part(shape) == rows
    assert rows % batch_size(shape) == 0
