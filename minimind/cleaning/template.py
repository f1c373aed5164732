"""The web page of cleaning: its style, beside the report's, and the template that `minimind.cleaning.page` fills."""

OWN_STYLE = """\
.document { border-top: 1px solid var(--line); padding: 0.5rem 0; font-size: 0.9rem; counter-increment: read; }
.document p { white-space: pre-wrap; overflow-wrap: anywhere; }
.document .head { justify-content: flex-start; flex-wrap: wrap; gap: 0.8rem; color: var(--soft); white-space: normal; }
.document .detail { overflow-wrap: anywhere; }
.verdict { margin-left: auto; white-space: nowrap; }
.sample { counter-reset: read right wrong; }
.right:checked { counter-increment: right; }
.wrong:checked { counter-increment: wrong; }
.tally { font-size: 0.85rem; margin-bottom: 0; }
.tally::after { content: counter(right) " right, " counter(wrong) " wrong of " counter(read); }
.step { display: grid; grid-template-columns: 9rem 1fr 5rem 1fr 5rem; gap: 0.8rem; align-items: center;
border-top: 1px solid var(--line); padding: 0.25rem 0; font-size: 0.9rem; }
.step.titles { border-top: 0; color: var(--soft); }
.step .value { text-align: right; white-space: nowrap; }
.forest { margin-bottom: 1rem; }
.forest h4 { margin: 0.6rem 0 0.3rem; overflow-wrap: anywhere; }
@media (max-width: 640px) { .step { grid-template-columns: 1fr 4rem; gap: 0.2rem; } .step .value { text-align: left; } }
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
<p>{{ funnel.kept | count }} of {{ funnel.documents | count }} documents kept,
{{ funnel.kept_bytes | size }} of {{ funnel.num_bytes | size }}</p>
{% for edit, number in funnel.edits.items() %}
<p>{{ number | count }} {{ edit }}: <small>{{ edits[edit] }}</small></p>
{% endfor %}
{% if funnel.blank %}
<p>{{ funnel.blank | count }} blank lines left out</p>
{% endif %}
{% if funnel.unreadable %}
<p>{{ funnel.unreadable | count }} unreadable, left to the quarantine of pack</p>
{% endif %}
</article>
{% endfor %}
</section>

<section id="funnels">
<h2>Funnels</h2>
<p class="lead">What is left of each source after each rule, of its documents on the left and of its bytes on the right,
in the order in which rules are asked. A document is counted for the first rule that it breaks. Edits change what
stays.</p>
{% for name, rows in funnels.items() %}
<h3>{{ name }}</h3>
{% for title, counts, steps in rows %}
<div class="forest ink-{{ inks[name] }}">
<h4>{{ title }} <small>{{ counts.kept | count }} of {{ counts.documents | count }} documents
({{ (counts.kept / counts.documents if counts.documents else 1) | percent }} %), {{ counts.kept_bytes | size }} of
{{ counts.num_bytes | size }} ({{ (counts.kept_bytes / counts.num_bytes if counts.num_bytes else 1) | percent }} %)
stay</small></h4>
{% if steps %}
<div class="step titles"><div></div><div>documents</div><div></div><div>bytes</div><div></div></div>
{% endif %}
{% for step in steps %}
<div class="step"><div title="{{ step.explained }}">{{ step.name }}</div>
<div>{{ step.pictures[0] }}</div>
<div class="value">{{ "−{:,}".format(step.documents) if step.documents else "" }}</div>
<div>{{ step.pictures[1] }}</div>
<div class="value">{{ "−" if step.num_bytes > 0 else "+" }}{{ step.num_bytes | abs | size }}</div></div>
{% else %}
<p class="soft">Nothing was removed.</p>
{% endfor %}
{% if steps %}
<div class="step"><div></div><div>{{ axis }}</div><div></div><div>{{ axis }}</div><div></div></div>
{% endif %}
</div>
{% endfor %}
{% endfor %}
</section>

<section id="removed">
<h2>Removed</h2>
<p class="lead">For each rule and data set up to {{ most }} documents, drawn by a hash of their content. Read them and
tick whether it was right to remove each: a rule that takes what you would keep is set wrongly for this data. Ticks are
counted below each rule, and are gone when the page is closed.</p>
{% for rule, samples in by_rule.items() %}
<article class="sample">
<h3>{{ rule }} <small>{{ rules[rule] }}</small></h3>
{% for name, entry in samples %}
<div class="document ink-{{ inks[name] }}">
<div class="head"><span class="chip">{{ name }}</span><span>{{ entry.file }}:{{ entry.line }}</span>
<span class="detail">{{ entry.detail }}</span>
<span class="verdict"><label><input type="radio" class="right" name="{{ rule }} {{ loop.index }}"> right</label>
<label><input type="radio" class="wrong" name="{{ rule }} {{ loop.index }}"> wrong</label></span></div>
<p>{{ entry.excerpt }}</p>
</div>
{% endfor %}
<p class="soft tally"></p>
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
