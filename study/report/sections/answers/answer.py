"""Short answer: a sentence for each declared contrast, where accuracy is lost, one picture."""

from study.evidence import count
from study.report.section import Block, Bullets, Findings, Heading, Paragraph, Picture, Section
from study.report.sections.answers import contrasts, described, gallery, losses
from study.report.sections.answers.overview import overview

TITLE = "Short answer"
MOST_CONTRASTS = 24
"""More contrasts than this are counted in the answer, and told apart in a section of their own."""
NOTHING = "No cell has been confirmed on test images yet: there is no answer."


def section(findings: Findings) -> Section:
    """The sentences about contrasts, the picture that shows them, and where accuracy is lost.

    Without contrasts a description takes their place.
    """
    shown, lost = picture(findings), _lost(findings)
    blocks: list[Block] = [Bullets(_verdicts(findings), "answer")]
    blocks += [shown] if shown else []
    if references := _references(findings):
        blocks.append(Paragraph(references))
    blocks += [Heading(losses.TITLE), Bullets(lost, "why")] if lost else []
    if not findings.contrasts and (words := described.description(findings)):
        blocks += [Heading(described.TITLE), Bullets(words, "why")]
    if findings.contrasts and findings.standings:
        blocks.append(Paragraph(contrasts.SPEAK))
    return Section(TITLE, tuple(blocks), {"answer": answers(findings)})


def picture(findings: Findings) -> Picture | None:
    """The figure of the answer: contrasts, or else accuracies; None where there are none yet."""
    return contrasts.first_picture(findings.contrasts) or next(
        iter(gallery.curve_pictures(findings.confirmed)), None
    )


def answers(findings: Findings) -> list[str]:
    """An overview of many contrasts, one sentence a contrast, then where accuracy is lost."""
    return _verdicts(findings) + _lost(findings)


def _references(findings: Findings) -> str:
    """What the reference points are that contrasts name; "" where they name none."""
    compared = {cell for result in findings.contrasts for cell in result.cells}
    named = {
        cell.method: cell.reference
        for cell in findings.cells
        if cell.cell in compared and cell.reference
    }
    told = [f"{name} ({about})" for name, about in named.items()]
    return f"Compared with: {'; '.join(told)}." if told else ""


def _lost(findings: Findings) -> list[str]:
    """Where accuracy is lost, of cells that are in a contrast with an answer."""
    return losses.sentences(findings) if findings.standings and findings.contrasts else []


def _verdicts(findings: Findings) -> list[str]:
    results = findings.contrasts
    if not findings.standings:
        return [NOTHING]
    if not results:
        return [_nothing_declared(findings)]
    words = overview(results) + contrasts.sentences(results[:MOST_CONTRASTS])
    if len(results) > MOST_CONTRASTS:
        words.append(
            f"Below: {count(len(results) - MOST_CONTRASTS, 'more contrast')}; of all "
            f"{len(results)}: {contrasts.counted(results)}."
        )
    return words


def _nothing_declared(findings: Findings) -> str:
    """Why nothing is tested."""
    asked = findings.study.study.spec.get("contrasts")
    why = (
        "by default the first method under study is compared with each reference point, of which "
        "there is no pair here"
        if asked is None
        else "the study file declares none"
    )
    return f"Nothing is tested: {why}. What follows is a description."
