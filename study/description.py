"""What a checked study file will do, in a few lines."""

from study.planning import Plan
from study.spec import StudySpec


def describe(plan: Plan) -> list[str]:
    """The study's size, what is not as usual in how it searches, and what each cell searches."""
    spec = plan.spec
    head = (
        f"{spec.source} is valid: {len(plan.cells)} cells, up to {plan.search_trials} search "
        f"trials and {plan.confirmation_trials} confirmation trials."
    )
    cells = []
    for cell in plan.cells:
        what = f"searches {', '.join(cell.space) or 'nothing'}"
        if cell.tuned_in is not None:
            what = f"takes the settings of {cell.tuned_in}"
        cells.append(f"  {cell.id}: {what}")
    return [head, *_unusual(spec), *cells]


def _unusual(spec: StudySpec) -> list[str]:
    search, budget, lines = spec.search, spec.budget, []
    if search.protocol == "first_k_tasks":
        lines.append(f"  searches see the first {search.first_tasks} tasks only")
    elif search.protocol == "transfer":
        lines.append(
            f"  searches use seed {spec.seeds[0]}, confirmations {list(spec.seeds[1:])}: "
            f"settings are confirmed on data they were not chosen on"
        )
    if search.compare:
        lines.append("  whole_stream runs beside it, for comparison")
    if spec.sampler != StudySpec.sampler:
        lines.append(f"  sampler: {spec.sampler}")
    if len(spec.objective) > 1:
        both = ", ".join(f"{metric} {mode}" for metric, mode in spec.objective.items())
        lines.append(f"  every setting on a cell's front is confirmed: {both}")
    if search.warm_start is not None:
        lines.append(f"  searches begin with the best settings of {search.warm_start}")
    limits = [
        f"{value:g} {words}"
        for value, words in (
            (budget.gpu_hours, "GPU-hours"),
            (budget.wall_hours, "hours"),
        )
        if value is not None
    ]
    if limits:
        lines.append(f"  a cell's search ends at {' or '.join(limits)}, if trials are left")
    return lines
