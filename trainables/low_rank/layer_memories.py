"""The subspace memories of all adapted layers, and what happens where free directions run out."""

import logging
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from trainables.low_rank.down_init import LayerView, Strategy, fill_up
from trainables.low_rank.dual_gpm import DualGPM

logger = logging.getLogger(__name__)

OnExhaustion: TypeAlias = Literal["clip", "freeze", "relax", "released"]


class LayerMemories:
    """One DualGPM a layer, under one policy for layers with fewer than `rank` free directions.

    All that is computed is computed where the moments are: nothing moves to another device.

    "clip": a strategy's valid rows and no others. "freeze": no branch in such a layer. "relax":
    a memory takes in less than its threshold, so that `rank` directions stay free. "released":
    always `rank` rows, arbitrary ones where the strategy has none left. Strategies that do not
    look at the memory (gaussian, orthonormal, principal) feel "freeze" and "relax" alone.
    """

    def __init__(
        self, memories: Mapping[str, DualGPM], rank: int, on_exhaustion: OnExhaustion
    ) -> None:
        self._memories = dict(memories)
        self._rank = rank
        self._policy = on_exhaustion
        self._relaxed: set[str] = set()
        self._warned = False

    def __getitem__(self, layer: str) -> DualGPM:
        return self._memories[layer]

    @property
    def bytes(self) -> int:
        """Size of all stored bases in bytes."""
        return sum(memory.bytes for memory in self._memories.values())

    def design(
        self,
        strategy: Strategy,
        moments: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """The rows of `down` (≤ rank, dim) of each layer; `gradients` may be empty."""
        rows = {}
        for name, memory in self._memories.items():
            view = LayerView(memory, moments[name], gradients.get(name), generator)
            if self._policy == "freeze" and self._is_short(name):
                rows[name] = view.moment.new_zeros(0, memory.dim)
                continue
            rows[name] = strategy(view, self._rank)
            if self._policy == "released":
                rows[name] = fill_up(rows[name], self._rank)
        return rows

    def free_energy(self, moments: Mapping[str, Tensor]) -> dict[str, float]:
        """Share of each moment's energy that is still free."""
        return {
            name: memory.free_energy_share(moments[name]) for name, memory in self._memories.items()
        }

    def angles(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """Smallest principal angle in degrees between rows and M, where both hold directions."""
        angles = {name: self._memories[name].angle(designed) for name, designed in rows.items()}
        return {name: angle for name, angle in angles.items() if angle is not None}

    def absorb(
        self, moments: Mapping[str, Tensor], threshold: float, task: int
    ) -> dict[str, float]:
        """Lets each memory take in its moment; returns the thresholds that took effect.

        Warns the first time in a trial that a layer runs short, after `task` (from 1).
        """
        keep_free = self._rank if self._policy == "relax" else 0
        took_effect = {
            name: memory.absorb(moments[name], threshold, keep_free)
            for name, memory in self._memories.items()
        }
        self._relaxed = {name for name, effect in took_effect.items() if effect < threshold}
        exhausted = [name for name in self._memories if self._is_exhausted(name)]
        if exhausted and not self._warned:
            self._warned = True
            logger.warning(
                "After task %d the subspace memory leaves fewer than method.rank %d free "
                "directions in %s, or would without a lower threshold; method.on_exhaustion is %s. "
                "Later layers and tasks are counted in subspace/exhausted_layers only.",
                task,
                self._rank,
                ", ".join(exhausted),
                self._policy,
            )
        return took_effect

    def dimensions(self) -> tuple[dict[str, float], dict[str, float], dict[str, bool]]:
        """Free and used dimensions of each layer, and which are exhausted.

        A layer is that has fewer than `rank` free directions, or would have if the last
        `absorb` had not lowered its threshold ("relax").
        """
        free = {name: float(memory.free_dim) for name, memory in self._memories.items()}
        used = {name: memory.dim - free[name] for name, memory in self._memories.items()}
        return free, used, {name: self._is_exhausted(name) for name in self._memories}

    def state_dict(self) -> dict[str, Any]:
        """Memories by layer, and whether the warning was given."""
        return {
            "layers": {name: memory.state_dict() for name, memory in self._memories.items()},
            "warned": self._warned,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self._warned = state["warned"]
        for name, memory in self._memories.items():
            memory.load_state_dict(state["layers"][name])

    def _is_exhausted(self, name: str) -> bool:
        return self._is_short(name) or name in self._relaxed

    def _is_short(self, name: str) -> bool:
        return self._memories[name].free_dim < self._rank
