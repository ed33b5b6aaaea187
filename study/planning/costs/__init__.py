"""What a study will cost, and what a trial takes of a GPU."""

from typing import TYPE_CHECKING

from study.system import door

if TYPE_CHECKING:
    from study.planning.costs.contrast_power import ContrastPower, contrast_powers
    from study.planning.costs.forecast import CellForecast, Forecast, study_forecast
    from study.planning.costs.outlook import Remaining, remaining
    from study.planning.costs.past_studies import past_costs
    from study.planning.costs.probe import Measured, measure, open_trainer, use_threads
    from study.planning.costs.timings import reference_costs
    from study.planning.costs.trial_cost import Costs, Probed, heaviest, probe_costs, shared_among
else:
    __getattr__ = door(
        __name__,
        {
            "contrast_power": ("ContrastPower", "contrast_powers"),
            "forecast": ("CellForecast", "Forecast", "study_forecast"),
            "past_studies": ("past_costs",),
            "probe": ("Measured", "measure", "open_trainer", "use_threads"),
            "outlook": ("Remaining", "remaining"),
            "timings": ("reference_costs",),
            "trial_cost": ("Costs", "Probed", "heaviest", "probe_costs", "shared_among"),
        },
    )

__all__ = [
    "CellForecast",
    "ContrastPower",
    "Costs",
    "Forecast",
    "Measured",
    "Probed",
    "Remaining",
    "contrast_powers",
    "heaviest",
    "measure",
    "open_trainer",
    "past_costs",
    "probe_costs",
    "reference_costs",
    "remaining",
    "shared_among",
    "study_forecast",
    "use_threads",
]
