"""What cleaning did, as one web page: a funnel for each data set, what each rule removed, what stayed."""

from dataclasses import dataclass

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from minimind import plots
from minimind.cleaning.collection import Cleaned
from minimind.cleaning.funnel import NUM_REMOVED, Counts, Funnel, Removed
from minimind.cleaning.shards import EDITS, RULES
from minimind.cleaning.template import OWN_STYLE, PAGE
from minimind.style import head

INKS = {"pretrain": "pretrain", "sft": "sft", "dpo": "dpo", "prompts": "distill"}  # colours of the style sheet
EDITED = "taken out of documents that stay"


def html(cleaned: Cleaned) -> str:
    """The whole page. Texts are escaped by the template, so that no document can become part of it."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"count": "{:,}".format, "percent": plots.percent, "size": size}
    return environment.from_string(PAGE).render(
        cleaned=cleaned,
        head=Markup(head("MiniMind: cleaning", OWN_STYLE)),
        edits=EDITS,
        rules=RULES,
        inks=INKS,
        funnels={name: funnels(name, funnel) for name, funnel in cleaned.funnels.items()},
        by_rule=by_rule(cleaned),
        most=NUM_REMOVED,
        axis=Markup(plots.axis(["0", "25", "50", "75", "100 %"])),
    )


def size(num_bytes: int) -> str:
    """12 B, 3.4 kB, 5.67 MB."""
    number = plots.number(num_bytes)
    return f"{number[:-1]} {number[-1]}B" if number[-1].isalpha() else f"{number} B"


@dataclass(frozen=True)
class Step:
    """What a rule, or edits, took: documents and bytes, each with its picture."""

    name: str
    explained: str
    documents: int
    num_bytes: int  # below 0 where edits made documents longer
    pictures: tuple[Markup, Markup]


def funnels(name: str, funnel: Funnel) -> list[tuple[str, Counts, list[Step]]]:
    """Title, counts and steps of a data set, and then of each of its sources if it has several."""
    parts = funnel.sources if len(funnel.sources) == 1 else {"all": funnel, **funnel.sources}
    return [(title, counts, steps(f"{name}, {title}", counts, INKS[name])) for title, counts in parts.items()]


def steps(title: str, counts: Counts, ink: str) -> list[Step]:
    """What edits took of the bytes, then what each rule took that removed something."""
    taken = [("edits", EDITED, 0, counts.edited_bytes)] if counts.edited_bytes else []
    taken += [
        (rule, told, counts.removed[rule], counts.removed_bytes[rule])
        for rule, told in RULES.items()
        if counts.removed[rule]
    ]
    rows, lines, num_bytes = [], counts.documents, max(counts.num_bytes, counts.num_bytes - counts.edited_bytes)
    all_lines, all_bytes = max(1, lines), max(1, num_bytes)
    for rule, told, documents, size in taken:
        lines_left, bytes_left = lines - documents, num_bytes - max(0, size)
        pictures = (
            plots.funnel(f"{title}, {rule}: documents", lines / all_lines, lines_left / all_lines, ink),
            plots.funnel(f"{title}, {rule}: bytes", num_bytes / all_bytes, bytes_left / all_bytes, ink),
        )
        rows.append(Step(rule, told, documents, size, (Markup(pictures[0]), Markup(pictures[1]))))
        lines, num_bytes = lines_left, bytes_left
    return rows


def by_rule(cleaned: Cleaned) -> dict[str, list[tuple[str, Removed]]]:
    """Rule → samples of what it removed, with their data set."""
    found = {
        rule: [(name, entry) for name, funnel in cleaned.funnels.items() for entry in funnel.shown(rule)]
        for rule in RULES
    }
    return {rule: samples for rule, samples in found.items() if samples}
