"""A file that another program holds, a folder or a forbidden file is called that, not damaged."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

import main
from common.errors import InputError
from common.files import catch_read_errors, require_not_in_use, write_text
from experiments.checkpoints import ResumeFile, load_checkpoint
from experiments.map_files import MapReader, MapWriter
from reporting.groups import load_measurements
from reporting.records import load_gathered, read_record, read_result
from tests.run_main import run
from tests.test_store import INDEX, PROVENANCE, make

HOLD = "import h5py, sys\nwith h5py.File(sys.argv[1], 'a'):\n    print('open', flush=True)\n    sys.stdin.read()\n"


@pytest.fixture
def hold():
    """A function that opens a file for writing in another process, until the test ends."""
    held = []

    def open_elsewhere(path: Path) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        held.append(subprocess.Popen([sys.executable, "-c", HOLD, str(path)], **pipes))
        assert held[-1].stdout.readline() == b"open\n"

    yield open_elsewhere
    for process in held:
        process.communicate()


def refused(call) -> str:
    with pytest.raises(InputError) as error:
        call()
    assert "damaged" not in str(error.value)
    return str(error.value)


def test_maps_that_another_process_writes_are_in_use(tmp_path, hold):
    path = tmp_path / "maps.h5"
    make(path)
    reader = MapReader(path, PROVENANCE)
    hold(path)
    for call in (
        lambda: MapReader(path, PROVENANCE),
        lambda: list(reader.rows("train", INDEX["train"])),
        reader.gaps,
        lambda: make(path),
    ):
        assert "in use" in refused(call)
    assert "in use" in refused(lambda: read_result(path))


def test_maps_that_are_open_in_this_process_are_in_use(tmp_path):
    path = tmp_path / "maps.h5"
    make(path)
    with h5py.File(path, "a"):
        assert "in use" in refused(lambda: MapReader(path, PROVENANCE))
    with h5py.File(path, "r"):
        MapReader(path, PROVENANCE)
        require_not_in_use(path)


def test_selectivity_in_use_stops_a_report_with_one_line(tmp_path, hold, capsys):
    path = tmp_path / "results" / "selectivity" / "mnist_SimpleCNN_GC-0.h5"
    path.parent.mkdir(parents=True)
    h5py.File(path, "w").close()
    hold(path)
    assert "in use" in refused(lambda: load_measurements(tmp_path / "results"))
    assert main.main(["--report", f"--output-dir={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "in use" in line


@pytest.mark.parametrize("extra", [[], ["--overwrite"], ["--dry-run"], ["--overwrite", "--dry-run"]])
def test_commands_say_so_and_write_nothing(extra, data_dir, tmp_path, hold, capsys):
    asked = ["--saliency", "--method=RANDOM", "--quick", "--limit-train=4", "--limit-test=4"]
    assert run(data_dir, tmp_path / "out", asked) == 0
    (maps,) = (tmp_path / "out" / "saliency_maps").glob("*.h5")
    hold(maps)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    capsys.readouterr()
    assert run(data_dir, tmp_path / "out", [*asked, *extra]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "in use" in line and maps.name in line
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


READERS = {
    "maps": lambda path: MapReader(path, PROVENANCE),
    "selectivity": read_result,
    "record": read_record,
    "gathered records": lambda path: load_gathered(path.parent),
    "checkpoint": load_checkpoint,
    "resume file": lambda path: ResumeFile(path.with_suffix(""), {}).load(),
}


def place(name: str, folder: Path) -> Path:
    return folder / {"gathered records": "records.jsonl", "resume file": "weights.resume"}.get(name, "file")


@pytest.mark.parametrize("name", READERS)
def test_a_folder_is_called_one(name, tmp_path):
    place(name, tmp_path).mkdir()
    assert "is a folder" in refused(lambda: READERS[name](place(name, tmp_path)))


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_nobody_may_read_is_called_that(name, tmp_path, monkeypatch):
    """Permission is refused by hand, since root may read everything."""
    path = place(name, tmp_path)
    path.write_bytes(b"")

    def forbidden(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for reader in ("h5py.File", "torch.load", "pathlib.Path.read_text"):
        monkeypatch.setattr(reader, forbidden)
    assert "permission denied" in refused(lambda: READERS[name](path))


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04 and no more", bytes(range(256)) * 9])
def test_damage_is_still_called_damage(name, content, tmp_path):
    path = place(name, tmp_path)
    path.write_bytes(content)
    if not (name == "gathered records" and not content):  # no line is no record
        with pytest.raises(InputError, match="damaged"):
            READERS[name](path)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EAGAIN, "in use"), (errno.EIO, "Input/output"), (errno.EMFILE, "Too many"), (None, "is damaged")],
)
def test_the_system_knows_why(number, words, tmp_path):
    with pytest.raises(InputError, match=words), catch_read_errors(tmp_path, "is damaged"):
        raise OSError(number, "words of a library\nover several lines") if number else OSError("no signature")


def test_damaged_parts_of_maps_are_named(tmp_path):
    writer = MapWriter(tmp_path / "maps.h5", PROVENANCE, INDEX)
    for split, part in list(writer.missing()):
        path = writer._part(split, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match="npz is damaged: delete it"):
        writer.finish()
    assert not (tmp_path / "maps.h5").exists()


def test_a_table_where_a_folder_stands_is_named_by_its_own_name(tmp_path):
    (tmp_path / "table.md").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        write_text(tmp_path / "table.md", "text")
    assert error.value.filename == str(tmp_path / "table.md")
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]
