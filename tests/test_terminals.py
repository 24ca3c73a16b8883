"""Output fits the terminal, and a reader that goes away ends a command quietly."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import main
from common import progress
from common.files import write_text
from common.terminal import set_up_streams
from data import load_dataset
from data.folders import folder_name
from tests.samples import sample_arrays
from tests.test_own import write
from tests.test_report import keep

ROOT = Path(__file__).parent.parent
LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "strict utf-8": {"PYTHONIOENCODING": "utf-8:strict"},
    "C locale": {"LC_ALL": "C"},
    "plain C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
ODD = os.fsdecode(b"v\xf6gel \xc3\xa9 \xe6\x97\xa5")  # the first is no UTF-8


def command(options: list[str], given: dict[str, str], **pipes) -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, "main.py", *map(os.fsencode, options)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    return subprocess.run(words, cwd=ROOT, env=clean | given, check=False, **{"capture_output": True} | pipes)


@pytest.mark.parametrize("name", LOCALES)
def test_help_and_wrong_options_in_any_encoding(name):
    shown = command(["--help"], LOCALES[name])
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"seeds 0" in shown.stdout
    shown = command(["--train", f"--target={ODD}"], LOCALES[name])
    assert shown.returncode == 2
    assert shown.stderr.startswith(b"main.py: argument --target: unknown target 'v")
    assert shown.stderr.count(b"\n") == 1


def test_tables_and_errors_in_the_plainest_locale(tmp_path):
    keep(tmp_path)
    shown = command(["--report", f"--output-dir={tmp_path}"], LOCALES["plain C locale"])
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"0.9000 " in shown.stdout
    assert "±" in (tmp_path / "results" / "accuracy.md").read_text(encoding="utf-8"), "files are UTF-8 anyhow"
    shown = command(["--train", f"--target=folder:{ODD}", f"--output-dir={tmp_path}"], LOCALES["plain C locale"])
    assert shown.returncode == 2
    assert shown.stderr.startswith(b"main.py: --target=folder:v")
    assert shown.stderr.count(b"\n") == 1


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_tables_and_errors_on_streams_of_any_encoding(encoding, tmp_path, monkeypatch):
    keep(tmp_path)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
    statuses = [
        main.main([*options, f"--output-dir={tmp_path}"])
        for options in (["--report"], ["--train", f"--target=folder:{ODD}"])
    ]
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue() for stream in streams)
    assert statuses == [0, 2]
    assert "0.9000 ±".encode(encoding) in out
    assert err.startswith(b"main.py: --target=folder:v")
    assert err.count(b"\n") == 1


def test_letters_are_spelled_and_utf8_stays(monkeypatch):
    text = "0.990 ± 0.002 × − … ≥ ≈ σ † é ’ → ² 日 \udce9"
    for encoding, wanted in (
        ("ascii", b"0.990 +/- 0.002 x - ... >= ~ sigma * e ' -> 2 \\u65e5 \\udce9"),
        ("latin-1", b"0.990 \xb1 0.002 \xd7 - ... >= ~ sigma * \xe9 ' -> \xb2 \\u65e5 \\udce9"),
        ("utf-8", text[:-1].encode() + b"\\udce9"),
    ):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        set_up_streams()
        print(text, end="", flush=True)
        assert stream.buffer.getvalue() == wanted


def test_a_bar_in_any_encoding(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    set_up_streams()
    with progress.progress_bar(3, "σ of größe 日", "images") as bar:
        bar.update(3)
        bar.refresh()
    assert b"sigma of gro" in stream.buffer.getvalue()


class NoStream:
    """As a notebook's: without an encoding to change."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass

    closed = False


@pytest.mark.parametrize("stream", [None, NoStream()])
def test_streams_that_are_none(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(SystemExit) as stop:
        main.main(["--help"])
    assert stop.value.code == 0
    if stream is None:
        with progress.progress_bar(3, "work", "images") as bar:
            bar.update(3)
            bar.set_postfix_str("more")


@pytest.mark.parametrize("options", [["--help"], ["--report", "--dry-run"], ["--train", "--target=nowhere"]])
def test_a_reader_that_has_gone_ends_a_command_without_a_traceback(options, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    where = {"stdout": writer, "stderr": subprocess.PIPE, "capture_output": False}
    shown = command([*options, f"--output-dir={tmp_path}"], {}, **where)
    assert b"Traceback" not in shown.stderr
    assert b"BrokenPipe" not in shown.stderr
    wanted = {"--help": (0, 141), "--report": (141,), "--train": (2,)}  # argparse itself may have met it
    assert shown.returncode in wanted[options[0]]
    where = {"stdout": writer, "stderr": writer, "capture_output": False}
    assert command(["--train", "--target=nowhere"], {}, **where).returncode in (2, 141)
    os.close(writer)


def test_a_folder_whose_name_is_no_text_is_a_data_set(tmp_path, monkeypatch):
    images = sample_arrays("mnist")["train_images"]
    monkeypatch.chdir(tmp_path)
    for name in (ODD, "bee"):
        write(tmp_path / ODD / name, images[:5])
    dataset = load_dataset(folder_name(f"folder:{ODD}", tmp_path))
    assert len(dataset.train) == 8
    assert dataset.name.isascii()
    write_text(tmp_path / "table.md", " ".join(dataset.classes))
    assert dataset.classes == ("bee", "v\\udcf6gel é 日")
