"""The page, its tables and figures, made from what a study has recorded."""

from typing import TYPE_CHECKING

from study.system import door

if TYPE_CHECKING:
    from study.report.report import write_study
    from study.report.rewriting import rewritten
    from study.report.sections.answers.missing import missing_lines
    from study.report.sections.cost.estimate import estimate_lines
    from study.report.wording import between, p_text, percent, text_rows, with_interval, yaml_text
else:
    __getattr__ = door(
        __name__,
        {
            "report": ("write_study",),
            "rewriting": ("rewritten",),
            "sections.answers.missing": ("missing_lines",),
            "sections.cost.estimate": ("estimate_lines",),
            "wording": ("between", "p_text", "percent", "text_rows", "with_interval", "yaml_text"),
        },
    )

__all__ = [
    "between",
    "estimate_lines",
    "figures",
    "missing_lines",
    "p_text",
    "percent",
    "rewritten",
    "text_rows",
    "with_interval",
    "write_study",
    "yaml_text",
]
