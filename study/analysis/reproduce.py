"""How to run a study again: commit, packages, machine, data, command."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import yaml

from study.analysis.entities import Session, StudyRecords
from study.analysis.markup import paragraph, table
from study.analysis.wording import listed

DIRTY = "-dirty"
GIB = 2**30
MOST_PLACES = 20


def reproduce_section(study: StudyRecords) -> str:
    """The commands, what the study ran with, and its study file."""
    about = study.study
    text = yaml.safe_dump(dict(about.spec), sort_keys=False, allow_unicode=True)
    parts = [
        "<h2>How to reproduce</h2>",
        paragraph(
            "From a clone of the repository, with the versions below installed "
            "(cluster/constraints-cpu.txt at that commit is the tested set). study.yaml lies in "
            "this folder and is printed below; changes that were made by --set are part of it."
        ),
        f"<pre>{escape(_commands(about.commit))}</pre>",
        table(_facts(study), set()),
        f"<details><summary>The study file</summary><pre>{escape(text)}</pre></details>",
    ]
    return "".join(parts)


def _commands(commit: str | None) -> str:
    run = "python study/run.py PATH/TO/study.yaml --output NEW_FOLDER"
    if commit is None:
        return f"# The commit is not known: the study did not run from a git repository.\n{run}"
    if commit.endswith(DIRTY):
        note = "# The source had changes on top of this commit that were not committed.\n"
        return f"{note}git checkout {commit.removesuffix(DIRTY)}\n{run}"
    return f"git checkout {commit}\n{run}"


def _facts(study: StudyRecords) -> list[dict[str, str]]:
    about = study.study
    seeds = {
        role: sorted({one.seed for one in study.trials if one.role == role})
        for role in ("search", "confirm")
    }
    facts = {
        "commit": about.commit or "not known",
        "packages": _pairs(about.versions),
        "machine that drove it": "; ".join(dict.fromkeys(map(_machine, study.sessions))),
        "trials ran on": listed(study.places, MOST_PLACES) or "not recorded",
        "data: sha256 of the split": "\n".join(f"{key} {one}" for key, one in about.data.items())
        or "not recorded",
        "seeds of the searches": _numbers(seeds["search"]),
        "seeds of the confirmations": _numbers(seeds["confirm"]),
    }
    if len(study.sessions) > 1:
        facts["sessions"] = str(len(study.sessions))
    return [{"what": key, "value": value} for key, value in facts.items()]


def _machine(session: Session) -> str:
    """Host, processor, cores, memory and GPUs, as far as the ledger has them."""
    found = session.machine
    memory = found.get("memory_bytes")
    parts = [
        session.host,
        str(found.get("processor") or ""),
        f"{found['cores']} cores" if found.get("cores") else "",
        f"{memory / GIB:.0f} GiB of memory" if memory else "",
        str(found.get("system") or ""),
        *(found.get("gpus") or ()),
    ]
    return ", ".join(one for one in parts if one)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(str(one) for one in values) or "none"
