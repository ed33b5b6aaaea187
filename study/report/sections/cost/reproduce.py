"""How to reproduce: commit, packages, machine, data and command of a study."""

from study.ledger import Session, StudyRecords
from study.report.section import Code, Findings, Folded, Paragraph, Section, Table
from study.report.wording import listed, yaml_text

TITLE = "How to reproduce"
ABOUT = (
    "From a clone of the repository, with the versions below installed "
    "(cluster/constraints-cpu.txt at that commit is the tested set). study.yaml lies in "
    "this folder and is printed below; changes that were made by --set are part of it."
)
DIRTY = "-dirty"
GIB = 2**30
MOST_PLACES = 20


def section(findings: Findings) -> Section:
    """The commands, what the study ran with, and its study file."""
    about = findings.study.study
    text = yaml_text(about.spec)
    return Section(
        TITLE,
        (
            Paragraph(ABOUT),
            Code(_commands(about.commit)),
            Table(_facts(findings.study)),
            Folded("The study file", Code(text)),
        ),
    )


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

    def seeds(role: str) -> str:
        used = sorted({trial.seed for trial in study.trials if trial.role == role})
        return ", ".join(map(str, used)) or "none"

    facts = {
        "commit": about.commit or "not known",
        "packages": ", ".join(f"{name} {version}" for name, version in about.versions.items()),
        "machine that drove it": "; ".join(dict.fromkeys(map(_machine, study.sessions))),
        "trials ran on": listed(study.places, MOST_PLACES) or "not recorded",
        "data: sha256 of the split": "\n".join(
            f"{name} {sha256}" for name, sha256 in about.data.items()
        )
        or "not recorded",
        "seeds of the searches": seeds("search"),
        "seeds of the confirmations": seeds("confirm"),
    }
    if len(study.sessions) > 1:
        facts["sessions"] = str(len(study.sessions))
    return [{"what": key, "value": value} for key, value in facts.items()]


def _machine(session: Session) -> str:
    """Host, processor, cores, memory and GPUs, as far as the ledger has them."""
    machine = session.machine
    memory = machine.get("memory_bytes")
    parts = [
        session.host,
        str(machine.get("processor") or ""),
        f"{machine['cores']} cores" if machine.get("cores") else "",
        f"{memory / GIB:.0f} GiB of memory" if memory else "",
        str(machine.get("system") or ""),
        *(machine.get("gpus") or ()),
    ]
    return ", ".join(part for part in parts if part)
