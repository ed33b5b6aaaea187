"""Sections on settings: what mattered, rank, memory, interference, and what accuracy costs."""

from study.analysis import cost_plots, looks, plots, scaling, units
from study.analysis.correlation import Correlation
from study.analysis.deeper import Deeper, Labelled, RankStudy
from study.analysis.evidence import NotEnough
from study.analysis.importance import Importance
from study.analysis.interaction import Interaction
from study.analysis.markup import bullets, paragraph, table
from study.analysis.overhead import Overhead, OverheadAt
from study.analysis.picture import as_html, picture
from study.analysis.summary import with_interval
from study.analysis.wording import DASH, bounds, listed, number, p_text, percent

MOST_PANELS = 6
MATTERED = (
    "PED-ANOVA (arXiv 2304.10255): how far the values of a key among the best tenth of the search "
    "trials are from those among all. Shares of all keys add up to 100 %. Black line: range over "
    "random halves of the trials, which shows how stable a share is and is no confidence interval. "
    "Red tick: what a key without effect stays below in 95 of 100 cases."
)
OVERHEAD = (
    "What the subspace memory takes, beside the branches of earlier tasks that would have to be "
    "kept if they were not merged into the weights (where the weight itself is trained inside the "
    "span, a branch is as large as the weight); mean over seeds, band = 95 % t-interval. "
    "Dotted: from this task on merging saves at least what the memory takes."
)
CLOUDS = (
    "A point is a trial: the mean interference of its tasks, and its forgetting after the last one."
)
COST = (
    "Accuracy: mean over seeds with the 95 % t-interval; seconds: designing, training, absorbing "
    "and evaluating in one confirmation, which depend on the machine and on what ran beside it. "
    "Numbers are those of the table."
)


def importance_section(deeper: Deeper) -> str:
    """Which searched keys decided; "" where nothing was searched."""
    if not deeper.importances:
        return ""
    found = {label: one for label, one in deeper.importances if isinstance(one, Importance)}
    sentences = [
        f"{label}: {one.leader} mattered most, clearly ({one.trials} search trials)."
        if one.leader
        else f"{label}: not enough evidence for one key that mattered most ({one.trials} search "
        f"trials)."
        for label, one in found.items()
    ]
    figure = ""
    if found:
        drawn = dict(list(found.items())[:MOST_PANELS])
        with looks.style():
            figure = as_html(picture("", MATTERED, plots.importances(drawn)))
    rows = [
        {
            "cell": label,
            "key": key.key,
            "share, %": percent(key.share),
            "range over halves, %": f"{percent(key.low)} to {percent(key.high)}",
            "by chance up to, %": percent(key.chance),
            "p (Holm)": p_text(key.p_holm).removeprefix("= "),
            "leads in halves, %": percent(key.first, 0),
        }
        for label, one in found.items()
        for key in one.keys
    ]
    cut = ""
    if deeper.searches > len(deeper.importances):
        cut = paragraph(
            f"{len(deeper.importances)} of {deeper.searches} searches were looked at: those over "
            "the most tasks, of methods under study first."
        )
    listed_rows = table(rows, set(rows[0]) - {"cell", "key"}) if rows else ""
    return (
        f"<h2>What mattered</h2>{bullets([*sentences, *_reasons(deeper.importances)])}{figure}"
        f"{listed_rows}{cut}"
    )


def rank_section(deeper: Deeper) -> str:
    """Rank × tasks; "" where the grid has no ranks."""
    parts = [_rank_part(one) for one in deeper.ranks[:MOST_PANELS]]
    return f"<h2>Rank</h2>{''.join(parts)}" if parts else ""


def memory_section(deeper: Deeper) -> str:
    """The memory against the branches that merging saves; "" without a subspace memory."""
    found = {label: one for label, one in deeper.overheads if isinstance(one, Overhead)}
    if not found:
        return ""
    most = max(one.rows[-1].task for one in found.values())
    longest = [(label, one) for label, one in found.items() if one.rows[-1].task == most]
    drawn = dict(longest[:MOST_PANELS])
    with looks.style():
        figure = as_html(picture("", OVERHEAD, cost_plots.memory_over_tasks(drawn)))
    rows = [_memory_row(label, one, one.rows[-1]) for label, one in found.items()]
    numbers = {*rows[0]} - {"cell", "keeps"}
    return f"<h2>Memory</h2>{figure}{table(rows, numbers)}"


def interference_section(deeper: Deeper) -> str:
    """Whether interference goes with forgetting; "" where neither can be said."""
    kinds = (
        ("over trials", deeper.across),
        ("over the tasks of a trial", deeper.within),
        ("over the cells of a seed", deeper.pooled),
    )
    known = [
        (label, over, one)
        for over, found in kinds
        for label, one in found
        if isinstance(one, Correlation)
    ]
    if not known:
        return ""
    corrected = scaling.holm([one.p for _, _, one in known])
    rows = [
        {
            "cell": label,
            "ranks": over,
            "Spearman's rho": number(one.rho, 2),
            "95 % interval": f"{number(one.low, 2)} to {number(one.high, 2)}",
            "n": f"{one.n} {'seeds' if one.over == 'cells within a seed' else 'trials'}",
            "p": p_text(one.p).removeprefix("= "),
            "p (Holm)": p_text(p).removeprefix("= "),
            "verdict": _direction(one, p),
        }
        for (label, over, one), p in zip(known, corrected, strict=True)
    ]
    about = (
        "Interference is ‖ΔW C‖ / (‖ΔW‖ ‖C‖) of a task's update and the inputs of old tasks. Over "
        "trials: its mean with the forgetting at the end. Over the tasks of a trial: its value "
        "with the accuracy that the task cost the earlier ones; one rho a trial. Over the cells of "
        "a seed: as over trials, one rho a seed; method and settings differ between these cells, "
        "and what is said holds for them alone. Holm's correction "
        f"is over these {len(rows)} rows. None says that one causes the other."
    )
    reasons = [f"{text[:-1]} ({over})." for over, found in kinds for text in _reasons(found)]
    numbers = {"Spearman's rho", "95 % interval", "n", "p", "p (Holm)"}
    drawn = ""
    for one in [one for one in deeper.clouds if len(one.cells) > 1][:MOST_PANELS]:
        with looks.style():
            figure = cost_plots.forgetting_against_interference(one)
            drawn += as_html(picture(f"Same data: {one.data}", CLOUDS, figure))
    return (
        f"<h2>Interference and forgetting</h2>{paragraph(about)}{drawn}{table(rows, numbers)}"
        f"{bullets(reasons)}"
    )


def _direction(one: Correlation, p_holm: float) -> str:
    if not one.enough_evidence or not p_holm <= 1 - scaling.LEVEL:
        return "not enough evidence"
    return f"more interference, {'more' if one.rho > 0 else 'less'} forgetting"


def cost_section(deeper: Deeper) -> str:
    """What accuracy costs, data by data; "" for a single cell."""
    parts = []
    for data in dict.fromkeys(one.data for one in deeper.costs):
        points = [one for one in deeper.costs if one.data == data]
        if len(points) < 2:
            continue
        with looks.style():
            figure = picture(f"Same data: {data}", COST, cost_plots.cost_against_accuracy(points))
        rows = [
            {
                "number": str(place),
                "cell": one.label,
                "final accuracy, %": with_interval(one.accuracy),
                "compute, s": f"{one.seconds:.3g}",
                "on the front": "yes" if one.on_front else "no",
                "in resamples, %": DASH if one.front_share is None else percent(one.front_share, 0),
                "shown to be beaten by a cheaper one": one.beaten_by or "no",
            }
            for place, one in enumerate(points, start=1)
        ]
        numbers = {"number", "final accuracy, %", "compute, s", "in resamples, %"}
        parts.append(as_html(figure) + table(rows, numbers))
    return f"<h2>What accuracy costs</h2>{''.join(parts[:MOST_PANELS])}" if parts else ""


def _rank_part(one: RankStudy) -> str:
    table_, metric = one.table, one.table.metric
    label = f"{table_.label}: {units.heading(metric)}"
    with looks.style():
        figure = cost_plots.rank_lines(one.effects, metric, "")
        caption = "Mean over seeds with the 95 % t-interval."
        drawn = as_html(picture(label, caption, figure))
    rows = [
        {
            "tasks": str(effect.tasks),
            "best rank by the mean": DASH if effect.best is None else str(effect.best),
            "change per doubling of the rank": (
                f"{units.text(metric, effect.slope.mean)} ({bounds(effect.slope)})"
            ),
            "p (Holm)": p_text(effect.p_holm).removeprefix("= "),
            "verdict": ("more rank, " + ("more" if effect.slope.mean > 0 else "less"))
            if effect.enough_evidence
            else "not enough evidence",
        }
        for effect in one.effects
    ]
    if isinstance(one.interaction, NotEnough):
        text = f"Rank × tasks: not enough evidence, {one.interaction.reason}."
    else:
        text = _interaction_text(one.interaction)
    return drawn + table(rows, {"tasks", "p (Holm)"}) + bullets([text])


def _interaction_text(found: Interaction) -> str:
    shares = listed([f"{percent(x, 0)} % {name}" for name, x in found.shares.items() if x == x])
    best = listed([f"{one.rank} in {one.tasks} tasks" for one in found.best])
    variation = f"; of the variation of the means, less noise: {shares}" if shares else ""
    return (
        f"Rank × tasks over {found.n} seeds: {found.verdict} (permutation p {p_text(found.p)}, the "
        f"least possible {p_text(found.least_p).removeprefix('= ')}){variation}. Best rank by the "
        f"means: {best}."
    )


def _memory_row(label: str, one: Overhead, last: OverheadAt) -> dict[str, str]:
    kind = {None: "not known", True: "the smaller basis (dual)", False: "the used one"}
    return {
        "cell": label,
        "after task": str(last.task),
        "memory, MB": _megabytes(last.measured.mean),
        "used basis alone, MB": _megabytes(last.plain),
        "smaller basis, MB": _megabytes(last.dual),
        "keeps": kind[one.dual_used],
        "branches saved, MB": _megabytes(last.saved),
        "memory by saved": DASH if last.share is None else f"{last.share:.3g}",
        "saves from task": DASH if one.break_even is None else str(one.break_even),
        "trials": str(last.measured.n),
    }


def _megabytes(value: float | None) -> str:
    return DASH if value is None else f"{value / units.MEGA:.3g}"


def _reasons(found: Labelled[object]) -> list[str]:
    """Cells without enough evidence, those with the same reason in one sentence."""
    reasons: dict[str, list[str]] = {}
    for label, one in found:
        if isinstance(one, NotEnough):
            reasons.setdefault(one.reason, []).append(label)
    return [
        f"{listed(labels)}: not enough evidence, {reason}." for reason, labels in reasons.items()
    ]
