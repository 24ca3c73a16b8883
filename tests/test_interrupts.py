"""Ctrl-C ends a command wherever it comes."""

import signal
import threading
import time
import weakref

import main
from experiments import commands


def test_ctrl_c_is_heard_where_python_drops_it(monkeypatch, capsys):
    """Python ignores an exception in the callback of a weak reference. The first interrupt comes in one."""
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us without it

    def long_work(_request):
        freed = threading.Event()
        reference = weakref.ref(freed, lambda _: signal.raise_signal(signal.SIGINT))
        del freed
        assert reference() is None
        for _ in range(500):
            time.sleep(0.01)

    monkeypatch.setattr(commands, "run", long_work)
    try:
        assert main.main(["--train", "--target=mnist"]) == 130
    finally:
        signal.signal(signal.SIGINT, heard)
    assert "goes on where it stopped" in capsys.readouterr().err
