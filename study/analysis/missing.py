"""What a study has not done yet, cell by cell."""

from collections import Counter
from dataclasses import dataclass

from study.analysis.entities import CellRecord, StudyRecords, TrialRecord
from study.labels import cell_label, shown_keys, varying_keys

# What a trial is that has not ended, or that will go on.
OPEN = ("running", "interrupted")


@dataclass(frozen=True)
class MissingCell:
    """What one cell still lacks.

    `searched` of `search_trials` search trials have ended (a budget may end the search before all
    of them have run), `running` trials of any kind have no end. `settings` are to be confirmed on
    `seeds`: `confirmed` of these runs are completed, `failed` ones will not be. `pending` names
    the confirmations that are neither, setting by setting: empty while the search is not over,
    when nobody knows the settings yet. `why` says why nothing more comes, where the cell failed.
    """

    cell: str
    label: str
    searched: int
    search_trials: int
    search_over: bool
    running: int
    settings: int
    seeds: tuple[int, ...]
    confirmed: int
    failed: int
    pending: tuple[tuple[int, int], ...]
    why: str | None

    @property
    def confirmations(self) -> int:
        """Confirmations planned, as far as is known: one setting while the search is not over."""
        return self.settings * len(self.seeds)

    @property
    def lacks(self) -> bool:
        """Whether anything is missing at all."""
        return self.why is not None or not self.search_over or self.confirmed < self.confirmations


def missing_cells(study: StudyRecords) -> list[MissingCell]:
    """Every cell that lacks something, in the order of the ledger; none of one configuration."""
    if study.study.once:
        return []
    keys = shown_keys([(one.key, one.fixed) for one in study.cells])
    varying = varying_keys(keys)
    found = [
        _missing(study, one, cell_label(key, varying))
        for one, key in zip(study.cells, keys, strict=True)
    ]
    return [one for one in found if one.lacks]


def missing_lines(study: StudyRecords) -> list[str]:
    """The same in words, a line a cell, after a line about the whole; empty if all is there."""
    cells = missing_cells(study)
    if study.status == "complete" and not cells:
        return []
    done = len(study.cells) - len(cells)
    lines = [f"This study is {study.status}: {done} of {len(study.cells)} cells have all results."]
    return [*lines, *(f"{one.label}: {'; '.join(parts(one))}." for one in cells)]


def parts(one: MissingCell) -> list[str]:
    """What a cell lacks, in words."""
    if one.why is not None:
        return [f"failed: {one.why}"]
    found = []
    if not one.search_over:
        found.append(
            f"{one.searched} of {one.search_trials} search trials have ended, no setting is chosen "
            f"yet"
        )
    of = f"{one.confirmed} of {one.confirmations} confirmations are completed"
    if one.failed:
        of += f", {one.failed} failed"
    if one.search_over:
        found.append(of)
    if one.pending:
        found.append(f"still to confirm: {pending_text(one)}")
    if one.running:
        found.append(f"without an end: {one.running} trial" + ("s" if one.running > 1 else ""))
    return found


def pending_text(one: MissingCell) -> str:
    """The confirmations still to run, by their seeds, and by their setting where it is of many."""
    settings = sorted({setting for setting, _ in one.pending})
    by_setting = [
        ", ".join(str(seed) for place, seed in one.pending if place == setting)
        for setting in settings
    ]
    if one.settings == 1:
        return "".join(f"seed {seeds}" for seeds in by_setting)
    pairs = zip(settings, by_setting, strict=True)
    return "; ".join(f"setting {setting} on seed {seeds}" for setting, seeds in pairs)


def _missing(study: StudyRecords, cell: CellRecord, label: str) -> MissingCell:
    searches = study.searches(cell.cell)
    over = cell.cell in study.winners and cell.cell not in study.searching
    planned = int(study.study.spec.get("trials") or 0) if cell.search else 0
    runs = _runs(study, cell) if over else {1: ()}
    tried = {(number, one.seed): one.status for number, found in runs.items() for one in found}
    wanted = [(number, seed) for number in runs for seed in cell.seeds]
    states = Counter(tried.get(one, "to run") for one in wanted)
    trials = [*searches, *(one for found in runs.values() for one in found)]
    return MissingCell(
        cell=cell.cell,
        label=label,
        searched=sum(one.status not in OPEN for one in searches),
        search_trials=0 if cell.tuned_in else max(planned, len(searches)),
        search_over=over,
        running=sum(one.status == "running" for one in trials),
        settings=len(runs),
        seeds=cell.seeds,
        confirmed=states["completed"],
        failed=states["failed"],
        pending=tuple(one for one in wanted if over and tried.get(one, "running") in OPEN),
        why=study.failed_cells.get(cell.cell),
    )


def _runs(study: StudyRecords, cell: CellRecord) -> dict[int, tuple[TrialRecord, ...]]:
    """The confirmations of a cell by the number of their setting."""
    points = study.points(cell.cell)
    if points:
        return {one.number: one.confirmations for one in points}
    return {1: study.confirmations(cell.cell)}
