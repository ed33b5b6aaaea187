"""A plan: cells, and from a cell its search and confirmation trials."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from study.ledger import OF_SEARCH, ContrastRecord, Record, records
from study.planning import space
from study.planning.space import MOST_CHECKS, Conditions, Space
from study.planning.spec import StudySpec
from trainables.config import Params, TrialConfig, as_before

if TYPE_CHECKING:
    from study.evidence import Design

Role: TypeAlias = Literal["search", "confirm"]
EVALUATION: Mapping[Role, str] = {"search": "validation", "confirm": "test"}
SPLIT_KEY = "data.split_sha256"


@dataclass(frozen=True)
class PlannedTrial:
    """One training run: all that it depends on is in `params` (flat, every key present).

    `id` is a stable hash of cell and params, so that it is the same in every run of a study. The
    hash of the split is left out: a driver without the files does not know it. So are keys that
    came later, where they say what trials before them did. `tasks` is the number of tasks that it
    sees: fewer than the stream has where the protocol looks at the first ones only.
    """

    id: str
    cell: str
    role: Role
    params: Params
    searched: Mapping[str, Any]
    seed: int
    tasks: int

    def record(
        self, gpus: float = 0.0, sampler: Mapping[str, Any] | None = None, of: str | None = None
    ) -> Record:
        """The ledger's record of it, see `records.trial`."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return records.trial(trial=own.pop("id"), **own, gpus=gpus, sampler=sampler, of=of)


@dataclass(frozen=True)
class Cell:
    """One point of the grid: trials are compared inside it only.

    `key` holds the grid's values (and, under "search.", which protocol a cell of a comparison
    follows, or where a setting comes from), `fixed` what else holds in it, `space` what is
    searched, `tasks` the length of the sequence. Its searches see `search_tasks` tasks with
    `search_seed`, its confirmations all tasks with each of `seeds`, and with those of `further`, in
    their order, as long as a contrast of the cell is open. `tuned_in` is the id of the cell whose
    search finds the settings, where that is another one. `conditions` are those of searched keys
    that are not in every setting; `split_sha256` is the hash of the split that its trials must find
    (None: any). `first` are the settings that a search begins with.
    """

    id: str
    key: Mapping[str, Any]
    fixed: Mapping[str, Any]
    space: Space
    tasks: int
    search_tasks: int
    search_seed: int
    seeds: tuple[int, ...]
    tuned_in: str | None = None
    split_sha256: str | None = None
    conditions: Conditions = field(default_factory=dict)
    first: tuple[Mapping[str, Any], ...] = ()
    further: tuple[int, ...] = ()

    @property
    def searches(self) -> bool:
        """Whether search trials run in this cell."""
        return bool(self.space) and self.tuned_in is None

    def corners(self, most: int = MOST_CHECKS, start: int = 0) -> Iterator[dict[str, Any]]:
        """Settings at the border of the space; see `space.corners`."""
        return space.corners(self.space, self.conditions, most, start)

    def misfit(self, settings: Mapping[str, Any]) -> str | None:
        """Why `settings` are not a point of the space; None where they are."""
        return space.misfit(settings, self.space, self.conditions)

    def params(self, role: Role, searched: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """What is said of one trial, in flat keys; the others have what recipes and types say."""
        key = {name: value for name, value in self.key.items() if not name.startswith(OF_SEARCH)}
        own = {"data.evaluation": EVALUATION[role], "seed": seed, SPLIT_KEY: self.split_sha256}
        return {**self.fixed, **key, **searched, **own}

    def config(self, role: Role, searched: Mapping[str, Any], seed: int) -> TrialConfig:
        """The config of one trial.

        Raises:
            ValueError: if the values do not fit together.
        """
        return TrialConfig.from_params(self.params(role, searched, seed))

    def trial(self, role: Role, searched: Mapping[str, Any], seed: int) -> PlannedTrial:
        """One trial of this cell."""
        params = self.config(role, searched, seed).to_params()
        tasks = self.search_tasks if role == "search" else self.tasks
        trial = _hash(self.id if tasks == self.tasks else f"{self.id}\n{tasks} tasks", params)
        return PlannedTrial(trial, self.id, role, params, searched, seed, tasks)


@dataclass(frozen=True)
class Plan:
    """What a study will run. `chance` is the accuracy of guessing, where all cells agree on it.

    `contrasts` are what it compares: one family, whose error rate `design` shares out.
    """

    spec: StudySpec
    cells: tuple[Cell, ...]
    chance: float | None
    contrasts: tuple[ContrastRecord, ...] = ()

    @property
    def order(self) -> tuple[int, ...]:
        """The seeds that a contrast is looked at on, in the order in which they are spent."""
        return (*self.spec.first_seeds, *self.spec.further_seeds)

    @property
    def design(self) -> "Design":
        """The looks at each contrast and their error rate; of one where there is none."""
        # Half a second of imports, which checking a study file can do without.
        from study.evidence import Design

        return Design(len(self.spec.first_seeds), len(self.order), max(1, len(self.contrasts)))

    @property
    def search_trials(self) -> int:
        """Number of search trials, over all cells, at most."""
        return sum(self.spec.trials for cell in self.cells if cell.searches)

    @property
    def confirmation_trials(self) -> int:
        """Number of confirmation trials, over all cells, for one setting each, at least."""
        return sum(len(cell.seeds) for cell in self.cells)

    @property
    def most_confirmation_trials(self) -> int:
        """The same, where no contrast is decided before its last seed."""
        return sum(len(cell.seeds) + len(cell.further) for cell in self.cells)


def _hash(cell_id: str, params: Params) -> str:
    hashed = {key: value for key, value in as_before(params).items() if key != SPLIT_KEY}
    canonical = json.dumps(hashed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{cell_id}\n{canonical}".encode()).hexdigest()[:16]
