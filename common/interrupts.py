"""Ctrl-C that is heard wherever it comes."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 0.05  # until another attempt


@contextmanager
def lasting_interrupts() -> Iterator[None]:
    """Raise `KeyboardInterrupt` in the `with` block even if Ctrl-C comes while an object is freed.

    Python drops what a finaliser or a weak reference's callback raises, and those that end with the graph of a
    gradient are often the first Python code after a long computation. A dropped interrupt is sent again.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        again = threading.Timer(SECONDS, _interrupt_main_thread)  # later: here it would be dropped again
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt_main_thread() -> None:
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, signal.SIGINT)  # which also ends its waiting
    else:
        _thread.interrupt_main()
