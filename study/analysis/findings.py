"""Everything a report says about a study, worked out once."""

from dataclasses import dataclass

from study.analysis import answer, cautions
from study.analysis.deeper import Deeper, deeper
from study.analysis.entities import StudyRecords
from study.analysis.pareto import ParetoFront, pareto_fronts
from study.analysis.protocols import ProtocolCost, cost_sentence, protocol_costs
from study.analysis.scaling import Comparison
from study.analysis.standing import Standing, standings
from study.analysis.summary import CellSummary, compare_methods, summarise


@dataclass(frozen=True)
class Findings:
    """What the page, the tables and report.json are made from."""

    study: StudyRecords
    cells: tuple[CellSummary, ...]
    comparisons: tuple[Comparison, ...]
    costs: tuple[ProtocolCost, ...]
    fronts: tuple[ParetoFront, ...]
    standings: tuple[Standing, ...]
    answers: tuple[str, ...]
    deeper: Deeper
    warnings: tuple[str, ...]


def findings(study: StudyRecords) -> Findings:
    """Works everything out."""
    cells = summarise(study)
    comparisons = compare_methods(cells)
    costs = protocol_costs(study, cells)
    leading = standings(cells, comparisons)
    answers = answer.answers(cells, comparisons, leading)
    if sentence := cost_sentence(costs):
        answers.append(sentence)
    return Findings(
        study=study,
        cells=tuple(cells),
        comparisons=tuple(comparisons),
        costs=tuple(costs),
        fronts=tuple(pareto_fronts(study, cells)),
        standings=tuple(leading),
        deeper=deeper(study, cells),
        answers=tuple(answers),
        warnings=tuple(cautions.warnings(study, cells, comparisons)),
    )
