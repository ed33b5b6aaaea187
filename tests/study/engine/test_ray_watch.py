"""A part of Ray that dies is noticed, and what hangs on it is left."""

import threading
import time
from types import SimpleNamespace

import pytest

from study.engine import ray_watch
from study.engine.ray_watch import GCS, RayWatch


class LeftError(BaseException):
    """As the engine's own: no Exception, since Tune goes on after one."""


def process(code: int | None) -> SimpleNamespace:
    return SimpleNamespace(returncode=code, poll=lambda: code)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_SECONDS", "GRACE_SECONDS", "GIVE_UP_SECONDS"):
        monkeypatch.setattr(ray_watch, name, 0.02)


def test_what_lives_is_left_alone() -> None:
    watch = RayWatch()
    with watch.over(LeftError, pytest.fail):
        watch.begin({"raylet": process(None), GCS: process(None)})
        time.sleep(0.2)
    assert watch.dead is None


def test_what_ends_once_nobody_watches_it_is_not_dead() -> None:
    watch = RayWatch()
    with watch.over(LeftError, pytest.fail):
        watch.begin({"raylet": process(None)})
        watch.begin({})
        time.sleep(0.1)
    assert watch.dead is None


def test_a_main_thread_that_hangs_on_a_dead_raylet_is_woken() -> None:
    watch = RayWatch()
    with pytest.raises(LeftError), watch.over(LeftError, pytest.fail):
        watch.begin({"raylet": process(-9)})
        threading.Event().wait(10)
    assert watch.dead == "Ray's raylet has died (code -9)"


def test_a_loop_that_looks_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "GRACE_SECONDS", 10.0)
    watch = RayWatch()
    with watch.over(LeftError, pytest.fail):
        watch.begin({"raylet": process(1)})
        while watch.dead is None:
            time.sleep(0.01)


def test_what_cannot_be_woken_is_given_up() -> None:
    told: list[str] = []
    gone = threading.Event()

    def give_up(dead: str) -> None:
        told.append(dead)
        gone.set()

    watch = RayWatch()
    with watch.over(LeftError, give_up):
        # No Python runs in the main thread that waits for a GCS server, so that it is not woken.
        watch.begin({GCS: process(-9)})
        assert gone.wait(10)
    assert told == ["Ray's GCS server has died (code -9)"]


def test_a_thread_watches_nothing() -> None:
    done = threading.Event()

    def work() -> None:
        with RayWatch().over(LeftError, pytest.fail):
            done.set()

    threading.Thread(target=work).start()
    assert done.wait(10)
