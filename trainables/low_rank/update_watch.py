"""How far each task's update reaches into the inputs of old tasks, where no memory keeps them."""

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from trainables.low_rank.branch import LowRankLinear
from trainables.low_rank.moments import second_moments
from trainables.low_rank.old_moments import OldMoments


class UpdateWatch:
    """Interference of every task's update, from a pass of its own over each task's images.

    For diagnosis only: where it is not `enabled`, it keeps nothing and measures nothing. `calls`
    is as in `second_moments`; the state is that of the moments of old tasks.
    """

    def __init__(
        self, layers: Mapping[str, LowRankLinear], enabled: bool, calls: int | None = None
    ) -> None:
        self._layers = layers
        self._calls = calls
        self._old = OldMoments(enabled)
        self.state_dict, self.load_state_dict = self._old.state_dict, self._old.load_state_dict
        self._before: dict[str, Tensor] = {}

    def start(self, deltas: Mapping[str, Tensor]) -> None:
        """Takes what was added to each layer's weight before the task, (rows, in)."""
        if self._old.enabled:
            self._before = dict(deltas)

    def finish(
        self,
        deltas: Mapping[str, Tensor],
        forward: Callable[[Tensor], object],
        batches: Iterable[Tensor],
        images: int,
    ) -> dict[str, float]:
        """Returns ‖ΔW C_old‖ / (‖ΔW‖ ‖C_old‖) by layer, and takes the task's moments in.

        `deltas` is what is added after the task; a layer that `start` did not name began at 0.
        `batches` are the task's `images` images, for `forward` as the network now stands.
        """
        if not self._old.enabled:
            return {}
        moved = {
            name: delta - self._before[name] if name in self._before else delta
            for name, delta in deltas.items()
        }
        self._before = {}
        disturbed = self._old.interference(moved)
        self._old.add(second_moments(forward, self._layers, batches, self._calls), images)
        return disturbed
