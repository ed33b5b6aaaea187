"""What a study has recorded: its ledger, what the records mean, and its folder."""

from study.ledger.folder import RESULTS, StudyFolder, file_sizes, shared_folder
from study.ledger.history import (
    Checkpoint,
    History,
    TrialHistory,
    history_of,
    read_history,
    read_study,
)
from study.ledger.journal import Journal, StorageError, is_full, storage_error
from study.ledger.labels import (
    METHOD,
    OF_SEARCH,
    PROTOCOL,
    TASKS,
    TUNED_ON,
    WHOLE_STREAM,
    cell_label,
    contender_keys,
    protocol,
    range_text,
    shown_keys,
    value_text,
    varying_keys,
)
from study.ledger.ledger import LEDGER, Ledger, read_ledger, whole_lines
from study.ledger.own_paths import check_paths, own_path
from study.ledger.records import Record
from study.ledger.study_records import (
    CellRecord,
    EstimateRecord,
    PointRecord,
    Session,
    StudyRecords,
    TaskRecord,
    TrialRecord,
)
from study.ledger.times import CellTimes, compute_seconds

__all__ = [
    "LEDGER",
    "METHOD",
    "OF_SEARCH",
    "PROTOCOL",
    "RESULTS",
    "TASKS",
    "TUNED_ON",
    "WHOLE_STREAM",
    "CellRecord",
    "CellTimes",
    "Checkpoint",
    "EstimateRecord",
    "History",
    "Journal",
    "Ledger",
    "PointRecord",
    "Record",
    "Session",
    "StorageError",
    "StudyFolder",
    "StudyRecords",
    "TaskRecord",
    "TrialHistory",
    "TrialRecord",
    "cell_label",
    "check_paths",
    "compute_seconds",
    "contender_keys",
    "file_sizes",
    "history_of",
    "is_full",
    "labels",
    "own_path",
    "protocol",
    "provenance",
    "range_text",
    "read_history",
    "read_ledger",
    "read_study",
    "records",
    "shared_folder",
    "shown_keys",
    "storage_error",
    "value_text",
    "varying_keys",
    "whole_lines",
]
