"""How often trials that failed are handed out again, and what counts against that."""

from study.planning import PlannedTrial

NODE_LOSSES = 10


class Restarts:
    """Counts by trial, in this session of a study.

    A trial that failed goes on `retries` times. The failure of its node does not count, but for
    what goes beyond NODE_LOSSES: it may be the trial that takes nodes down, say with their memory.
    """

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._counts: dict[str, int] = {}
        self._losses: dict[str, int] = {}
        self._lost: set[str] = set()

    def blame_node(self, trial: PlannedTrial) -> None:
        """Says of a failure that `goes_on` is asked about next that it was the node's."""
        self._lost.add(trial.id)

    def goes_on(self, trial: PlannedTrial) -> bool:
        """Counts a failure; whether the trial is to be handed out again."""
        if trial.id in self._lost:
            self._lost.remove(trial.id)
            self._losses[trial.id] = self._losses.get(trial.id, 0) + 1
            if self._losses[trial.id] <= NODE_LOSSES:
                return True
        count = self.count(trial) + 1
        if count > self._retries:
            return False
        self._counts[trial.id] = count
        return True

    def count(self, trial: PlannedTrial) -> int:
        """How often the trial was handed out again for failures that count."""
        return self._counts.get(trial.id, 0)
