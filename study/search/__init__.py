"""Which trial runs next, over all cells of a plan; knows no Ray."""

from study.search.past_trials import PastTrials
from study.search.pruning import Rungs
from study.search.study_search import Start, StudySearch

__all__ = ["PastTrials", "Rungs", "Start", "StudySearch"]
