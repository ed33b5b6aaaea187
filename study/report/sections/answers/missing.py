"""What is missing: what a study under way has not run yet, cell by cell."""

from collections import Counter
from dataclasses import dataclass

from study.ledger import CellRecord, StudyRecords, TrialRecord, cell_label, shown_keys, varying_keys
from study.report.section import Block, Findings, Paragraph, Section, Table
from study.report.wording import DASH, MOST_ROWS, cut_note

TITLE = "What is missing"
NUMBERS = ("search trials ended", "confirmations completed", "failed", "without an end")
# What a trial is that has not ended, or that will go on.
OPEN = ("running", "interrupted")


@dataclass(frozen=True)
class MissingCell:
    """What a cell still lacks.

    `searched` of `search_trials` search trials have ended (a budget may end the search before all
    of them have run), `running` trials of any kind have no end. `settings` are to be confirmed on
    `seeds`, the winner on `further` ones too, which looks at contrasts have asked for: `confirmed`
    of these runs are completed, `failed` ones will not be. `pending` names the confirmations that
    are neither, setting by setting: empty while the search is not over, when nobody knows the
    settings yet. `why` says why nothing more comes, where the cell failed.
    """

    cell: str
    label: str
    searched: int
    search_trials: int
    search_over: bool
    running: int
    settings: int
    seeds: tuple[int, ...]
    further: tuple[int, ...]
    confirmed: int
    failed: int
    pending: tuple[tuple[int, int], ...]
    why: str | None

    @property
    def confirmations(self) -> int:
        """Confirmations planned, as far as is known: one setting while the search is not over."""
        return self.settings * len(self.seeds) + len(self.further)

    @property
    def lacks(self) -> bool:
        """Whether anything is missing at all."""
        return self.why is not None or not self.search_over or self.confirmed < self.confirmations


def section(findings: Findings) -> Section:
    """A table of the cells that lack something."""
    study = findings.study
    cells = missing_cells(study)
    about = (
        f"{len(study.cells) - len(cells)} of {len(study.cells)} cells have all their results; "
        f"these do not. A search may end before all its trials have run, where a budget is used up "
        f"or no new setting is left.{cut_note(len(cells))}"
    )
    rows = [_row(cell) for cell in cells[:MOST_ROWS]]
    blocks: tuple[Block, ...] = (Paragraph(about), Table(rows, NUMBERS)) if cells else ()
    return Section(TITLE, blocks, {"missing": cells})


def missing_lines(study: StudyRecords) -> list[str]:
    """The same for a terminal, a line a cell, after one about the whole; empty if all is there."""
    cells = missing_cells(study)
    if study.status == "complete" and not cells:
        return []
    done = len(study.cells) - len(cells)
    lines = [f"This study is {study.status}: {done} of {len(study.cells)} cells have all results."]
    return [*lines, *(f"{cell.label}: {'; '.join(_parts(cell))}." for cell in cells)]


def missing_cells(study: StudyRecords) -> list[MissingCell]:
    """Every cell that lacks something, in the order of the ledger; none of one configuration."""
    if study.study.once:
        return []
    keys = shown_keys([(cell.key, cell.fixed) for cell in study.cells])
    varying = varying_keys(keys)
    states = [
        _state(study, cell, cell_label(key, varying))
        for cell, key in zip(study.cells, keys, strict=True)
    ]
    return [state for state in states if state.lacks]


def _state(study: StudyRecords, cell: CellRecord, label: str) -> MissingCell:
    searches = study.searches(cell.cell)
    over = cell.cell in study.winners and cell.cell not in study.searching
    planned = int(study.study.spec.get("trials") or 0) if cell.search else 0
    runs = _runs(study, cell) if over else {1: ()}
    confirmations = [(number, trial) for number, trials in runs.items() for trial in trials]
    ends = {(number, trial.seed): trial.status for number, trial in confirmations}
    due = [(number, seed) for number in runs for seed in cell.seeds]
    further = study.further_seeds.get(cell.cell, ()) if over else ()
    due += [(_of_winner(study, cell), seed) for seed in further]
    counts = Counter(ends.get(run, "to run") for run in due)
    statuses = [trial.status for trial in (*searches, *(trial for _, trial in confirmations))]
    return MissingCell(
        cell=cell.cell,
        label=label,
        searched=sum(trial.status not in OPEN for trial in searches),
        search_trials=0 if cell.tuned_in else max(planned, len(searches)),
        search_over=over,
        running=statuses.count("running"),
        settings=len(runs),
        seeds=cell.seeds,
        further=further,
        confirmed=counts["completed"],
        failed=counts["failed"],
        pending=tuple(run for run in due if over and ends.get(run, "running") in OPEN),
        why=study.failed_cells.get(cell.cell),
    )


def _runs(study: StudyRecords, cell: CellRecord) -> dict[int, tuple[TrialRecord, ...]]:
    """The confirmations of a cell by the number of their setting."""
    points = study.points(cell.cell)
    if points:
        return {point.number: point.confirmations for point in points}
    return {1: study.confirmations(cell.cell)}


def _of_winner(study: StudyRecords, cell: CellRecord) -> int:
    """The number of the setting that contrasts compare."""
    searched = study.winners[cell.cell].searched
    points = study.points(cell.cell)
    return next((point.number for point in points if point.searched == searched), 1)


def _row(cell: MissingCell) -> dict[str, str]:
    pending = "no setting is chosen yet"
    if cell.why is not None:
        pending = f"none: {cell.why}"
    elif cell.search_over:
        pending = _pending(cell) or "none"
    return {
        "cell": cell.label,
        "search trials ended": f"{cell.searched} of {cell.search_trials}"
        if cell.search_trials
        else "none to run",
        "confirmations completed": f"{cell.confirmed} of {cell.confirmations}"
        if cell.search_over
        else DASH,
        "failed": str(cell.failed),
        "without an end": str(cell.running),
        "confirmations to run": pending,
    }


def _parts(cell: MissingCell) -> list[str]:
    if cell.why is not None:
        return [f"failed: {cell.why}"]
    parts = []
    if cell.search_over:
        failed = f", {cell.failed} failed" if cell.failed else ""
        parts.append(
            f"{cell.confirmed} of {cell.confirmations} confirmations are completed{failed}"
        )
    else:
        parts.append(
            f"{cell.searched} of {cell.search_trials} search trials have ended, no setting is "
            f"chosen yet"
        )
    if cell.pending:
        parts.append(f"still to confirm: {_pending(cell)}")
    if cell.running:
        parts.append(f"without an end: {cell.running} trial" + ("s" if cell.running > 1 else ""))
    return parts


def _pending(cell: MissingCell) -> str:
    """The confirmations still to run, by their seeds, and by their setting where it is of many."""
    by_setting: dict[int, list[str]] = {}
    for setting, seed in sorted(cell.pending, key=lambda run: run[0]):
        by_setting.setdefault(setting, []).append(str(seed))
    if cell.settings == 1:
        return "".join(f"seed {', '.join(seeds)}" for seeds in by_setting.values())
    return "; ".join(
        f"setting {setting} on seed {', '.join(seeds)}" for setting, seeds in by_setting.items()
    )
