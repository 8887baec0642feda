"""Memory that stays at hand."""

from types import SimpleNamespace

import pytest

from lowdim import _memory
from lowdim._memory import keep_freed_memory


def test_freed_memory_is_kept_unless_the_user_says_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(_memory.sys, "platform", "linux")
    monkeypatch.setattr(_memory.ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=lambda *option: asked.append(option)))
    for name in _memory._KEPT:
        monkeypatch.delenv(name, raising=False)
    keep_freed_memory()
    assert asked == [(-3, 2**25), (-1, 2**30)]
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    keep_freed_memory()
    assert asked[2:] == [(-3, 2**25)]


def test_nothing_is_asked_of_a_system_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory.ctypes, "CDLL", lambda _: SimpleNamespace())
    keep_freed_memory()
    monkeypatch.setattr(_memory.sys, "platform", "win32")
    monkeypatch.setattr(_memory.ctypes, "CDLL", None)
    keep_freed_memory()
