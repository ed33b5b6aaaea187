"""Where the time of a trial goes: seconds by part, each moment counted once.

Parts are told apart by what every trial calls: batches, the network, backward, the optimizer,
torch's decompositions, saving. They are measured around these calls, so a GPU is waited for at
each of them: shares are right, the sum is larger than without.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from tests.benchmarks import measuring
from trainables import usage
from trainables.backbones.adapted import AdaptedBackbone
from trainables.data.batches import TaskImages
from trainables.data.stream import ImageSet
from trainables.trainer import SequentialTrainer

PHASES = ("design", "train", "absorb", "evaluate")
# Of a pass through the network, by phase.
PASSES = {"design": "moments", "train": "forward", "absorb": "moments", "evaluate": "evaluation"}
DECOMPOSITIONS = ("svd", "svdvals", "eigh", "eigvalsh", "qr")
REST = "rest"


class Shares:
    """Seconds by (phase, part) while `watching`; a part inside another takes its own time away."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self._device = device
        self._open = [REST]
        self._phase = 0
        self._since = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Counts from here to the end of the block; the trainer must stand between two tasks."""
        with ExitStack() as until:

            def replace(owner: Any, name: str, by: Callable[[Any], Any]) -> None:
                until.enter_context(mock.patch.object(owner, name, by(vars(owner)[name])))

            replace(usage.Clock, "lap", self._lapping)
            for name in ("_features", "prompted"):
                replace(AdaptedBackbone, name, lambda call: self._timed(call, None))
            replace(SequentialTrainer, "save", lambda call: self._timed(call, "checkpoint"))
            replace(torch.Tensor, "backward", lambda call: self._timed(call, "backward"))
            for name in ("shuffled", "plain"):
                replace(TaskImages, name, self._each_timed)
            replace(ImageSet, "batches", self._each_timed)
            for name in DECOMPOSITIONS:
                replace(torch.linalg, name, lambda call: self._timed(call, "decompositions"))
            enter = register_optimizer_step_pre_hook(lambda *_: self._enter("optimizer"))
            leave = register_optimizer_step_post_hook(lambda *_: self._leave())
            until.callback(enter.remove)
            until.callback(leave.remove)
            self._since = measuring.now(self._device)
            yield
            self._count()

    def of_phase(self, *phases: str, part: str | None = None) -> float:
        """Seconds of phases, of all parts or of one."""
        return sum(
            value
            for (phase, own), value in self.seconds.items()
            if phase in phases and part in (None, own)
        )

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by part, the largest first."""
        seconds: dict[str, float] = defaultdict(float)
        for (_, part), value in self.seconds.items():
            seconds[part] += value
        return dict(sorted(seconds.items(), key=lambda item: -item[1]))

    def _lapping(self, lap: Callable[..., float]) -> Callable[..., float]:
        def lapped(clock: usage.Clock, name: str) -> float:
            seconds = lap(clock, name)
            self._count()
            self._phase = (PHASES.index(name) + 1) % len(PHASES)
            return seconds

        return lapped

    def _timed(self, call: Callable[..., Any], part: str | None) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            # Helper threads work beside what is counted here.
            if threading.current_thread() is not threading.main_thread():
                return call(*arguments, **options)
            self._enter(PASSES[PHASES[self._phase]] if part is None else part)
            try:
                return call(*arguments, **options)
            finally:
                self._leave()

        return timed

    def _each_timed(self, batches: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def timed(*arguments: Any) -> Iterator[Any]:
            following = self._timed(batches(*arguments).__next__, "data")
            while True:
                try:
                    batch = following()
                except StopIteration:
                    return
                yield batch

        return timed

    def _enter(self, part: str) -> None:
        self._count()
        self._open.append(part)

    def _leave(self) -> None:
        self._count()
        self._open.pop()

    def _count(self) -> None:
        now = measuring.now(self._device)
        self.seconds[PHASES[self._phase], self._open[-1]] += now - self._since
        self._since = now
