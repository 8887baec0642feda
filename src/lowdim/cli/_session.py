"""What surrounds every command: streams that show control characters instead of obeying them, signals, and signs of life."""

import _thread
import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Generator
from types import FrameType
from typing import Any, TextIO

_CONTROL = re.compile("[\0-\b\v-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """The text with control characters, and those that turn the direction of text, written out.

    Names of classes, files and models come from data; a terminal would obey what stands in them. JSON reads the same from it.

    Example:
        >>> print(visible("a" + chr(27) + "[2J"))
        a\\u001b[2J
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class Visible:
    """A stream that writes `visible` text to another one, `plain`."""

    def __init__(self, plain: TextIO) -> None:
        self.plain = plain

    def write(self, text: str) -> int:
        """Writes the text, and returns its length."""
        self.plain.write(visible(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)


def plain(stream: Any) -> TextIO:
    """The stream behind a `Visible` one, for what lowdim itself colours; names in that must go through `visible`."""
    return getattr(stream, "plain", stream)


@contextlib.contextmanager
def visible_streams() -> Generator[None]:
    """Standard output and error as `Visible` ones."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Visible(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class ReaderGone(Exception):
    """Nobody reads what is printed any more."""


class Signals:
    """Which signal stopped the command, if one did: an exception alone does not say who raised it."""

    def __init__(self) -> None:
        self.received: int | None = None

    @contextlib.contextmanager
    def caught(self) -> Generator[None]:
        """Inside, an interrupt and a termination raise `KeyboardInterrupt`; outside the main thread nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        hook, sys.unraisablehook = sys.unraisablehook, self._swallowed
        try:
            yield
        finally:
            sys.unraisablehook = hook
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        raise KeyboardInterrupt

    def _swallowed(self, raised: Any) -> None:
        """Python drops what is raised inside a finaliser or a callback from C: the signal comes once more, a little later."""
        if self.received is not None and isinstance(raised.exc_value, KeyboardInterrupt):
            threading.Timer(0.01, _send_again, [self.received]).start()
        else:
            sys.__unraisablehook__(raised)


def _send_again(number: int) -> None:
    """To the main thread, which wakes from what it waits for where the system has signals of threads."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


FIRST, LATER = 8.0, 25.0
"""Seconds of silence that a run whose output is redirected allows itself, at its beginning and afterwards."""


class _Life:
    """What the command does now."""

    def __init__(self) -> None:
        self.what, self.done, self.total = "at work", 0.0, 0.0

    def line(self, seconds: float) -> str:
        """For people."""
        share = f", {self.done:g} of {self.total:g} done" if self.total else ""
        spent = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        return f"{self.what}{share}, {spent} so far"


life = _Life()


def doing(what: str, done: float = 0, total: float = 0) -> None:
    """Notes what the command does now, and how far it is."""
    life.what, life.done, life.total = what, done, total


@contextlib.contextmanager
def signs_of_life(what: str) -> Generator[None]:
    """While standard error is no terminal, says there what is being done: soon after the start, then now and again."""
    stream, over = sys.stderr, threading.Event()
    doing(what)
    if stream.isatty() or os.environ.get("RANK", "0") != "0":
        yield
        return

    def speak() -> None:
        begun, wait = time.monotonic(), FIRST
        while not over.wait(wait):
            with contextlib.suppress(OSError, ValueError):
                print(life.line(time.monotonic() - begun), file=stream, flush=True)
            wait = LATER

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        over.set()
        speaker.join()
