"""Hands the trials of all cells to one Tuner: searches, then the confirmation of each winner."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import Searcher

from study.findings import findings
from study.ledger import Record
from study.ordering import Order
from study.planning import Cell, Plan, PlannedTrial
from study.restarts import Restarts
from study.restore import RESUME_FROM, Past, PastTrial
from study.sampling import CellSearch, Winner
from study.warm_start import first_settings

METRICS = "metrics/"


class StudySearcher(Searcher):
    """Proposes the next trial of the whole study.

    Trials that an earlier session has left unfinished go first, then the longest chain of a search
    and its confirmation; see `Order`. A cell is confirmed once its search is over, and with it
    the cells that take its settings over.

    A trial whose process dies or raises is handed out again, as often as `Restarts` says, from its
    newest checkpoint. Tune's own restarts would not do: where a process dies with two calls
    under way, it takes the second for a failure of the restart and gives the trial up.

    Args:
        plan: what to run.
        slots: how many trials may run at the same time; nothing is proposed beyond, so that
            every proposal knows all results there are.
        record: takes the records of launched trials, winners and cells without one.
        past: all that is recorded, kept up to date by the caller; what earlier sessions have
            launched is never launched again.
        spent: whether the search of a cell (by id) has used up its budget.
    """

    def __init__(
        self,
        plan: Plan,
        slots: Callable[[], int],
        record: Callable[[Record], None],
        past: Past,
        spent: Callable[[str], bool] = lambda cell: False,
    ) -> None:
        super().__init__()
        self._spec = plan.spec
        self._slots = slots
        self._record = record
        self._past = past
        self._spent = spent
        self._searches = {
            cell.id: CellSearch(cell, plan.spec, first_settings(plan.spec, cell))
            for cell in plan.cells
            if cell.tuned_in is None
        }
        self._followers = {
            tuned: [cell for cell in plan.cells if cell.tuned_in == tuned]
            for tuned in self._searches
        }
        self._unsettled = list(self._searches)
        self._unfinished: list[PastTrial] = []
        self._confirmations: list[PlannedTrial] = []
        # Of each confirmation, the search trial that has the same settings; by id.
        self._of: dict[str, str] = {}
        self._order = Order(plan.spec.trials)
        self._known: set[str] = set()
        self._noted: set[tuple[str, str]] = set()
        self._planned: dict[str, PlannedTrial] = {}
        self._live: dict[str, dict[int, Mapping[str, float]]] = {}
        self._restarts = Restarts(plan.spec.retries)
        self._times: dict[str, int] = {}
        self._handed_back: set[str] = set()
        self._folders: dict[str, str] = {}
        self._recall(past)

    def planned(self, ray_id: str) -> PlannedTrial:
        """The trial that Tune knows as `ray_id`."""
        return self._planned[ray_id]

    def folder(self, ray_id: str) -> str:
        """The name of a folder for Tune's files of a trial that no other has."""
        return self._folders[ray_id]

    def goes_on(self, ray_id: str) -> bool:
        """Whether a trial that failed is handed out again."""
        return ray_id in self._handed_back

    def blame_node(self, ray_id: str) -> None:
        """Says that a failure which is told next was that of the trial's node."""
        self._restarts.blame_node(self._planned[ray_id])

    def restarts(self, ray_id: str) -> int:
        """How often a trial was handed out again, in this session."""
        return self._restarts.count(self._planned[ray_id])

    @property
    def live(self) -> list[PlannedTrial]:
        """Trials that were handed out and have not ended, also those that wait for a restart."""
        waiting = [one.planned for one in self._unfinished if one.planned.id in self._times]
        return [*(self._planned[ray_id] for ray_id in self._live), *waiting]

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The flat params of the next trial; None while waiting; FINISHED when all are out.

        Those of a trial that goes on have `resume_from` as well, the folder of its checkpoint.
        """
        if self._unfinished:
            # They run, or they would be counted as ended: nothing is settled before.
            if len(self._live) >= self._slots():
                return None
            return self._go_on(trial_id, self._unfinished.pop(0))
        self._settle()
        if len(self._live) >= self._slots():
            return None
        found = self._next()
        if found is None:
            # FINISHED is for good, and a trial that runs may have to be handed out again.
            waiting = self._unsettled or self._confirmations or self._live
            return None if waiting else Searcher.FINISHED
        trial, details = found
        self._known.add(trial.id)
        self._hand_out(trial_id, trial, {})
        self._record(
            {
                "kind": "trial",
                "trial": trial.id,
                "cell": trial.cell,
                "role": trial.role,
                "params": dict(trial.params),
                "searched": dict(trial.searched),
                "seed": trial.seed,
                "tasks": trial.tasks,
                **details,
            }
        )
        return dict(trial.params)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Notes the metrics of a trial that goes on."""
        self._note(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Notes the end of a trial: all tasks seen, pruned, or failed."""
        if trial_id not in self._live:
            return
        trial = self._planned[trial_id]
        if error and self._restarts.goes_on(trial):
            self._handed_back.add(trial_id)
            self._unfinished.append(self._past.trials[trial.id])
            del self._live[trial_id]
            return
        failure = (result or {}).get("failed")
        if result and not failure:
            self._note(trial_id, result)
        curve = self._live.pop(trial_id)
        if trial.role == "search":
            reason = (result or {}).get("reason") if failure else None
            status = "failed" if error or failure else _status(trial, curve)
            self._searches[trial.cell].tell(trial.id, curve, _outcome(status, reason))

    def __getstate__(self) -> dict[str, Any]:
        # Tuner pickles whatever it is given, for a restore that the ledger serves better.
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is what a study is restored from."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is what a study is restored from."""

    def _recall(self, past: Past) -> None:
        """Plays earlier sessions to the searches of all cells, in the order of the ledger."""
        for record in past.records:
            if record["kind"] not in ("trial", "end"):
                continue
            one = past.trials[record["trial"]]
            if record["kind"] == "trial" and one.planned.id not in self._known:
                self._known.add(one.planned.id)
                if one.planned.role == "search":
                    self._searches[one.planned.cell].recall(one.planned, one.sampler)
            elif record is one.end and one.planned.role == "search":
                outcome = _outcome(record["status"], record.get("reason"))
                self._searches[one.planned.cell].tell(one.planned.id, one.curve, outcome)
        self._noted = {(one["cell"], one["text"]) for one in past.records if one["kind"] == "note"}
        for trial, task, metrics in past.results():
            self._order.lengths.note(trial, {"task": task, **metrics})
        self._unfinished = past.unfinished

    def _hand_out(
        self, trial_id: str, trial: PlannedTrial, curve: dict[int, Mapping[str, float]]
    ) -> None:
        self._planned[trial_id] = trial
        self._live[trial_id] = curve
        again = self._times.get(trial.id, 0)
        self._times[trial.id] = again + 1
        self._folders[trial_id] = f"{trial.id}-{again}" if again else trial.id

    def _go_on(self, trial_id: str, one: PastTrial) -> dict[str, Any]:
        """Hands out again a trial that has begun."""
        folder, task, wrong = self._past.start_of(one.planned.id)
        # What is recorded already counts, also where it has to be trained again.
        self._hand_out(trial_id, one.planned, dict(one.curve))
        begun = {"kind": "continued", "trial": one.planned.id, "from_task": task, "problem": wrong}
        self._record(begun)
        start = {} if folder is None else {RESUME_FROM: str(folder)}
        return {**one.planned.params, **start}

    def _note(self, trial_id: str, result: Mapping[str, Any]) -> None:
        metrics = {
            key.removeprefix(METRICS): math.nan if value is None else value
            for key, value in result.items()
            if key.startswith(METRICS)
        }
        if metrics:
            self._live[trial_id].setdefault(result["task"], metrics)
            self._order.lengths.note(self._planned[trial_id], {"task": result["task"], **metrics})

    def _next(self) -> tuple[PlannedTrial, dict[str, Any]] | None:
        """The next trial, and what its record holds beside itself."""
        open_searches = self._order.searches(self._searches.values(), self.live)
        first = self._order.confirmation(self._confirmations, open_searches, self._slots())
        if first is None:
            for search in open_searches:
                proposal = search.ask()
                self._tell_passed_over(search)
                if proposal is not None:
                    return proposal.trial, {"sampler": proposal.sampler, "of": None}
            # Asking may have shown that a space is used up.
            self._settle()
            first = next(iter(self._confirmations), None)
        if first is None:
            return None
        self._confirmations.remove(first)
        return first, {"sampler": None, "of": self._of[first.id]}

    def _tell_passed_over(self, search: CellSearch) -> None:
        """Records once which settings that were to be tried first could not be."""
        for text in search.passed_over:
            note = {"kind": "note", "cell": search.cell.id, "text": f"not tried first: {text}"}
            if (note["cell"], note["text"]) not in self._noted:
                self._noted.add((note["cell"], note["text"]))
                self._record(note)

    def _settle(self) -> None:
        """Names the winners of every cell whose search is over and queues their confirmation."""
        for cell_id in list(self._unsettled):
            search = self._searches[cell_id]
            if not search.exhausted and self._spent(cell_id):
                search.close()
            if not search.over:
                continue
            self._unsettled.remove(cell_id)
            for cell in (search.cell, *self._followers[cell_id]):
                self._announce(cell, search)
                for point in search.front:
                    for seed in cell.seeds:
                        self._confirm(cell.trial("confirm", point.trial.searched, seed), point)

    def _confirm(self, trial: PlannedTrial, point: Winner) -> None:
        """Queues a confirmation, unless it was launched before."""
        if trial.id not in self._known:
            self._known.add(trial.id)
            self._of[trial.id] = point.trial.id
            self._confirmations.append(trial)

    def _announce(self, cell: Cell, search: CellSearch) -> None:
        """Records what a cell's search has found, unless that is recorded already."""
        for record in findings(cell, search, list(self._spec.objective)):
            if not self._past.holds(record):
                self._record(record)


def _status(trial: PlannedTrial, curve: Mapping[int, Any]) -> str:
    return "completed" if trial.tasks in curve else "pruned"


def _outcome(status: str, reason: str | None) -> Any:
    """What a search is told of the end of a trial."""
    return "infeasible" if status == "failed" and reason == "out_of_memory" else status
