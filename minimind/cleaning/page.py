"""What cleaning did, as one web page: a funnel for each data set, what each rule removed, what stayed."""

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from minimind import plots
from minimind.cleaning.collection import Cleaned
from minimind.cleaning.funnel import Funnel, Removed
from minimind.cleaning.shards import EDITS, RULES
from minimind.template import STYLE

INKS = {"pretrain": "pretrain", "sft": "sft", "dpo": "dpo", "prompts": "distill"}  # colours of the style sheet


def html(cleaned: Cleaned) -> str:
    """The whole page. Texts are escaped by the template, so that no document can become part of it."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"count": "{:,}".format, "percent": plots.percent, "size": lambda n: plots.number(n) + "B"}
    return environment.from_string(PAGE).render(
        cleaned=cleaned,
        style=Markup(STYLE + OWN_STYLE),
        edits=EDITS,
        rules=RULES,
        inks=INKS,
        steps={name: steps(name, funnel) for name, funnel in cleaned.funnels.items()},
        by_rule=by_rule(cleaned),
        axis=Markup(plots.axis(["0", "25", "50", "75", "100 %"])),
    )


def steps(name: str, funnel: Funnel) -> list[tuple[str, int, int, Markup]]:
    """For each rule that removed something: its name, documents and bytes that it removed, the picture."""
    rows, left = [], funnel.documents
    for rule in RULES:
        if number := funnel.removed[rule]:
            before, left = left, left - number
            picture = plots.funnel(f"{name}, {rule}", before / funnel.documents, left / funnel.documents, INKS[name])
            rows.append((rule, number, funnel.removed_bytes[rule], Markup(picture)))
    return rows


def by_rule(cleaned: Cleaned) -> dict[str, list[tuple[str, Removed]]]:
    """Rule → samples of what it removed, with their data set."""
    found = {
        rule: [(name, entry) for name, funnel in cleaned.funnels.items() for entry in funnel.shown(rule)]
        for rule in RULES
    }
    return {rule: samples for rule, samples in found.items() if samples}


OWN_STYLE = """\
.document { border-top: 1px solid var(--line); padding: 0.5rem 0; font-size: 0.9rem; }
.document:first-of-type { border-top: 0; }
.document p { white-space: pre-wrap; overflow-wrap: anywhere; }
.document .head { justify-content: flex-start; gap: 0.8rem; color: var(--soft); white-space: normal; }
.step { display: grid; grid-template-columns: 11rem 1fr 11rem; gap: 1rem; align-items: center;
border-top: 1px solid var(--line); padding: 0.25rem 0; font-size: 0.9rem; }
.step:first-child { border-top: 0; }
.step .value { text-align: right; }
.forest { margin-bottom: 1rem; }
@media (max-width: 640px) { .step { grid-template-columns: 1fr; gap: 0; } .step .value { text-align: left; } }
"""

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>MiniMind: cleaning</title>
<style>
{{ style }}
</style>
</head>
<body>
<header>
<h1>Cleaning</h1>
<p>What became of the raw data on its way to training. The list of all removed lines, with file, line and reason, is
in data/clean/removed/.</p>
<nav><a href="#funnels">Funnels</a> <a href="#removed">Removed</a> <a href="#kept">Kept</a></nav>
<p class="note">{{ cleaned.note }}</p>
</header>

<section class="cards">
{% for name, funnel in cleaned.funnels.items() %}
<article class="card ink-{{ inks[name] }}">
<h3><span class="chip">{{ name }}</span></h3>
<p class="big">{{ (funnel.kept / funnel.documents if funnel.documents else 1) | percent }} %</p>
<p>{{ funnel.kept | count }} of {{ funnel.documents | count }} lines kept,
{{ funnel.kept_bytes | size }} of {{ funnel.num_bytes | size }}</p>
{% for edit, number in funnel.edits.items() %}
<p>{{ number | count }} {{ edit }}: <small>{{ edits[edit] }}</small></p>
{% endfor %}
{% if funnel.blank %}
<p>{{ funnel.blank | count }} blank lines, left out</p>
{% endif %}
{% if funnel.unreadable %}
<p>{{ funnel.unreadable | count }} unreadable, left to the quarantine of pack</p>
{% endif %}
</article>
{% endfor %}
</section>

<section id="funnels">
<h2>Funnels</h2>
<p class="lead">Share of the lines that is left after each rule, in the order in which rules are asked. A line is
counted for the first rule that it breaks.</p>
{% for name, rows in steps.items() %}
<h3>{{ name }}</h3>
<div class="forest">
{% for rule, number, num_bytes, picture in rows %}
<div class="step"><div title="{{ rules[rule] }}">{{ rule }}</div><div>{{ picture }}</div>
<div class="value">−{{ number | count }} <small>{{ num_bytes | size }}</small></div></div>
{% else %}
<p class="soft">Nothing was removed.</p>
{% endfor %}
{% if rows %}
<div class="step"><div></div><div>{{ axis }}</div><div></div></div>
{% endif %}
</div>
{% endfor %}
</section>

<section id="removed">
<h2>Removed</h2>
<p class="lead">For each rule and data set up to three documents, drawn by a hash of their content. Read them: a rule
that takes what you would keep is set wrongly for this data.</p>
{% for rule, samples in by_rule.items() %}
<article class="sample">
<h3>{{ rule }} <small>{{ rules[rule] }}</small></h3>
{% for name, entry in samples %}
<div class="document ink-{{ inks[name] }}">
<div class="head"><span class="chip">{{ name }}</span><span>{{ entry.file }}:{{ entry.line }}</span>
<span>{{ entry.detail }}</span></div>
<p>{{ entry.excerpt }}</p>
</div>
{% endfor %}
</article>
{% else %}
<p class="soft">Nothing was removed.</p>
{% endfor %}
</section>

<section id="kept">
<h2>Kept</h2>
<p class="lead">Some of what stayed, drawn by a hash of their content.</p>
{% for name, funnel in cleaned.funnels.items() %}
<article class="sample">
<h3>{{ name }}</h3>
{% for entry in funnel.shown("kept") %}
<div class="document ink-{{ inks[name] }}">
<div class="head"><span>{{ entry.file }}:{{ entry.line }}</span></div>
<p>{{ entry.excerpt }}</p>
</div>
{% endfor %}
</article>
{% endfor %}
</section>
</body>
</html>
"""
