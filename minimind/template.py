"""What the report's page is made of: its template (Jinja) and its style sheet.

No script and nothing from elsewhere, so the page can be mailed, and opened in ten years. Colours are variables: each
checkpoint has one, light and dark have their own set.
"""

PAGE = """\
{% macro chip(checkpoint) -%}
<span class="chip ink-{{ checkpoint | ink }}">{{ checkpoint }}</span>
{%- endmacro %}
{% macro score_row(family) %}
<div class="row">
<div class="name">{{ family }}{% if family in lower_is_better %} <span class="down">lower is better</span>{% endif %}
<small>{{ descriptions.get(family, "") }}</small></div>
<div class="strip">{{ strips[family] }}</div>
</div>
{% endmacro %}
{% macro mark(change) %}
{% if change.verdict == "better" %}<span class="mark better">▲ {{ change.difference | signed }}</span>
{% elif change.verdict == "worse" %}<span class="mark worse">▼ {{ change.difference | signed }}</span>
{% else %}<span class="mark">{{ change.difference | signed }}</span>{% endif %}
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>MiniMind report</title>
<style>
{{ style }}
</style>
</head>
<body>
<header>
<h1>MiniMind report</h1>
<p>{{ report.evaluations | length }} checkpoints on the {{ split }} split: {{ report.families | length }} families,
{{ num_answers | count }} scored answers each.</p>
<nav><a href="#scores">Scores</a> <a href="#changes">Changes</a> <a href="#curves">Training</a>
<a href="#data">Data</a> <a href="#samples">Samples</a> <a href="#method">How to read this</a></nav>
{% for note in report.notes %}
<p class="note">{{ note }}</p>
{% endfor %}
</header>

<section id="glance" class="cards">
{% for comparison in report.comparisons %}
<article class="card ink-{{ comparison.after | ink }}">
<h3>{{ chip(comparison.after) }} against {{ comparison.before }}</h3>
<p class="big"><span class="better">▲ {{ comparison.families("better") | length }}</span>
<span class="worse">▼ {{ comparison.families("worse") | length }}</span>
<span class="even">= {{ comparison.families("unclear") | length }}</span></p>
{% for verdict in ("better", "worse") if comparison.families(verdict) %}
{% set ranked = comparison.ranked(verdict) %}
<p>{{ verdict | capitalize }}: {% for change in ranked[:max_named] %}{{ change.family }}
<b class="{{ verdict }}">{{ change.difference | signed }}</b>{{ ", " if not loop.last }}{% endfor %}
{% if ranked | length > max_named %} and {{ ranked | length - max_named }} more{% endif %}</p>
{% endfor %}
</article>
{% endfor %}
</section>
<p class="soft">▲ families that are really better, ▼ really worse, = without a real difference.</p>

<section id="scores">
<h2>Scores</h2>
<p class="lead">Share of right answers in percent; the line through a dot is its 95% interval.</p>
<p class="legend">{% for evaluation in report.evaluations %}
<span class="ink-{{ evaluation.checkpoint | ink }}"><i></i>{{ evaluation.checkpoint }}</span>{% endfor %}</p>
<div class="forest">
{% for family in report.families %}
{{ score_row(family) }}
{% endfor %}
<div class="row axis"><div class="name"></div><div class="strip">{{ score_axis }}</div></div>
</div>

<div class="scroll"><table>
<thead><tr><th>family</th><th>n</th>{% for evaluation in report.evaluations %}
<th>{{ chip(evaluation.checkpoint) }}</th>{% endfor %}</tr></thead>
<tbody>
{% for family in report.families %}
<tr><th>{{ family }}</th>
<td class="n">{% for n in report.evaluations | map(attribute="scores") | selectattr(family, "defined")
| map(attribute=family) | map(attribute="n") | unique %}{{ n }}{{ "/" if not loop.last }}{% endfor %}</td>
{% for evaluation in report.evaluations %}
{% set score = evaluation.scores.get(family) %}
{% if score %}
<td><b>{{ score.share | percent }}</b> <small>{{ score.low | percent }}–{{ score.high | percent }}</small>
{% set change = changes[evaluation.checkpoint].get(family) %}
{% if change %}{{ mark(change) }}{% endif %}</td>
{% else %}
<td>–</td>
{% endif %}
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="soft">Below each score: the interval, and the difference from {% for comparison in report.comparisons
if report.parent(comparison.after) is sameas comparison %}{{ comparison.before }} (for {{ comparison.after }}){{ ", " }}
{%- endfor %} marked ▲ or ▼ where it is real.</p>
</section>

<section id="changes">
<h2>What changed, item by item</h2>
<p class="lead">The share of items that got worse to the left, better to the right. Strong bars: the difference is real.
Faint bars: chance can't be ruled out.</p>
<div class="pairs">
{% for balance in balances %}
<figure>
<figcaption><b>{{ chip(balance.comparison.after) }} against {{ balance.comparison.before }}</b>
<small>{{ balance.comparison.reason }}</small></figcaption>
{% for change, picture in balance.rows %}
<div class="change{{ " real" if change.verdict != "unclear" }}" title="{{ change | explained }}">
<div class="name">{{ change.family }}</div><div class="strip">{{ picture }}</div>
<div class="value">{{ mark(change) }}</div></div>
{% endfor %}
<div class="change"><div class="name"></div><div class="strip">{{ balance.axis }}</div><div class="value"></div></div>
</figure>
{% endfor %}
</div>
</section>

<section id="curves">
<h2>Training</h2>
{% for group, charts in curve_groups %}
<h3>{% for curve in group %}{{ chip(curve.name) }} {% endfor %}
<small>{{ group[0].steps | count }} steps, {{ group[0].tokens | count }} tokens</small></h3>
<div class="charts">
{% for chart in charts %}
<figure>
<figcaption><b>{{ chart.title }}</b> <small>{{ chart.note }}</small></figcaption>
{{ chart.picture }}
{% if chart.legend %}
<p class="legend">{% for line in chart.legend %}
<span class="ink-{{ line.ink }}{{ " faint" if line.faint }}"><i></i>{{ line.label }}</span>{% endfor %}</p>
{% endif %}
</figure>
{% endfor %}
</div>
{% endfor %}
</section>

<section id="data">
<h2>Data</h2>
<div class="scroll"><table>
<thead><tr><th>data set</th><th>lines</th><th>set aside</th><th>documents</th><th>cut short</th><th>tokens</th>
<th>learned</th><th>rows</th><th>fill</th><th>held out</th></tr></thead>
<tbody>
{% for name, statistics in report.packing.items() %}
{% set train = statistics.train %}
<tr><th>{{ name }}</th><td>{{ statistics.lines | count }}</td>
<td{% if statistics.quarantined %} class="worse"{% endif %}>{{ statistics.quarantined | count }}</td>
<td>{{ train.documents | count }}</td><td>{{ train.truncated | count }}</td><td>{{ train.tokens | count }}</td>
<td>{{ train.target_tokens | count }}</td><td>{{ train.rows | count }}</td><td>{{ train.fill | percent }} %</td>
<td>{{ statistics.validation.documents | count }} documents</td></tr>
{% endfor %}
</tbody></table></div>
<p class="soft">A vocabulary of {{ report.tokenizer.vocab_size | count }} tokens. On text that it never saw, a token
stands for {% for language, one in report.tokenizer.held_out.items() %}<b>{{ "%.2f" | format(one.bytes_per_token) }}</b>
bytes of {{ languages.get(language, language) }}{{ " and " if not loop.last }}{% endfor %}.</p>
<div class="charts">
{% for name, picture in lengths.items() %}
<figure>
<figcaption><b>{{ name }}</b> <small>documents by length in tokens</small></figcaption>
{{ picture }}
</figure>
{% endfor %}
</div>
</section>

<section id="samples">
<h2>Samples</h2>
<p class="lead">One item of each family, drawn by a hash of its id and neither by hand nor by score.</p>
{% for sample in report.samples %}
<article class="sample"{% if sample.language %} lang="{{ sample.language }}"{% endif %}>
<h3>{{ sample.family }} <small>{{ sample.id }}</small></h3>
<div class="prompt">
{% for role, text in sample.messages %}
<p><span class="role">{{ role }}</span>{{ text }}</p>
{% endfor %}
</div>
<div class="answers">
{% for checkpoint, (correct, output) in sample.answers.items() %}
<div class="answer ink-{{ checkpoint | ink }}">
<p class="head">{{ chip(checkpoint) }}
<span class="{{ "better" if correct else "worse" }}">{{ "✓ right" if correct else "✗ wrong" }}</span></p>
{% for kind, text in output | pieces %}
<p class="{{ kind }}">{{ text }}</p>
{% else %}
<p class="soft">(nothing)</p>
{% endfor %}
</div>
{% endfor %}
</div>
</article>
{% endfor %}
</section>

<section id="method">
<h2>How to read this</h2>
<p>{{ method }}</p>
</section>
</body>
</html>
"""

STYLE = """\
:root { --paper: #fbfbf9; --card: #ffffff; --text: #1c2127; --soft: #66707a; --line: #e2e4df; --grid: #ecede9;
--better: #1d7f4e; --worse: #c63d2f; --pretrain: #7b8794; --sft: #2b6cd4; --dpo: #8b4bcf; --distill: #0c8f7a;
--control: #b9730c; --other: #55606b; }
@media (prefers-color-scheme: dark) { :root { --paper: #101316; --card: #171b20; --text: #e4e7ea; --soft: #939da7;
--line: #2a3037; --grid: #22272d; --better: #4cc38a; --worse: #ff7b6b; --pretrain: #93a1af; --sft: #6aa5ff;
--dpo: #bd93ff; --distill: #3ecfb4; --control: #e8ab4a; --other: #a5afb9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--text);
font: 16px/1.5 system-ui, "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif;
font-variant-numeric: tabular-nums; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0; letter-spacing: -0.02em; }
h2 { font-size: 1.35rem; margin: 3.2rem 0 0.3rem; letter-spacing: -0.01em; }
h3 { font-size: 1rem; margin: 1.6rem 0 0.6rem; }
p { margin: 0.4rem 0; }
small, .soft, .lead, header p { color: var(--soft); }
small { font-size: 0.8rem; font-weight: 400; }
.lead { margin-bottom: 1rem; max-width: 46rem; }
nav { margin-top: 0.8rem; }
nav a { color: var(--text); margin-right: 1.1rem; text-decoration-color: var(--line); text-underline-offset: 0.25em; }
.note { border-left: 3px solid var(--control); padding-left: 0.7rem; }
.ink-pretrain { --ink: var(--pretrain); } .ink-sft { --ink: var(--sft); } .ink-dpo { --ink: var(--dpo); }
.ink-distill { --ink: var(--distill); } .ink-control { --ink: var(--control); } .ink-other { --ink: var(--other); }
.better { color: var(--better); } .worse { color: var(--worse); }
.chip { color: var(--ink); font-weight: 650; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 1rem; margin-top: 1.8rem; }
.card, figure, .sample, .forest { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
margin: 0; padding: 1rem 1.1rem; }
.card { border-top: 3px solid var(--ink); }
.card h3 { margin: 0; }
.card p { margin: 0.2rem 0; font-size: 0.88rem; }
.card .big { font-size: 1.5rem; font-weight: 650; }
.card .big span { margin-right: 0.8rem; }
.even { color: var(--soft); }
.legend { display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; font-size: 0.85rem; color: var(--soft); }
.legend i { display: inline-block; width: 0.7rem; height: 0.7rem; border-radius: 50%; background: var(--ink);
margin-right: 0.4rem; }
.forest { padding: 0.5rem 1.1rem; }
.row { display: grid; grid-template-columns: 15rem 1fr; gap: 1rem; align-items: center;
border-top: 1px solid var(--line); }
.row:first-child, .row.axis { border-top: 0; }
.row .name { font-weight: 650; padding: 0.3rem 0; }
.row .name small { display: block; line-height: 1.3; }
.down { font-size: 0.75rem; font-weight: 400; color: var(--control); }
.strip { min-width: 0; }
svg { display: block; width: 100%; overflow: visible; }
svg text { font-size: 11px; fill: var(--soft); font-family: inherit; }
.middle { text-anchor: middle; } .end { text-anchor: end; }
.grid { stroke: var(--grid); stroke-width: 1; } .zero { stroke: var(--soft); stroke-width: 1; }
.whisker { stroke: var(--ink); stroke-width: 2; stroke-opacity: 0.45; stroke-linecap: round; }
.dot { fill: var(--ink); }
.curve { fill: none; stroke: var(--ink); stroke-width: 1.7; stroke-linejoin: round; }
svg .value { fill: var(--ink); font-weight: 650; }
svg .faint .curve, .legend .faint i { opacity: 0.4; }
svg .faint .value { fill: var(--soft); font-weight: 400; }
.bar rect { fill: var(--ink); fill-opacity: 0.75; }
.bar rect.cell { fill-opacity: 0.12; }
rect.worse { fill: var(--worse); } rect.better { fill: var(--better); }
rect.faint { fill-opacity: 0.22; }
.scroll { overflow-x: auto; margin-top: 1.2rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { text-align: right; padding: 0.35rem 0.7rem; border-bottom: 1px solid var(--line); white-space: nowrap;
vertical-align: top; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
td b { font-size: 1rem; } td small { display: block; line-height: 1.2; }
td .mark { display: block; }
.n { color: var(--soft); }
.mark { font-size: 0.8rem; color: var(--soft); }
.mark.better { color: var(--better); font-weight: 650; } .mark.worse { color: var(--worse); font-weight: 650; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 1rem; }
figcaption { margin-bottom: 0.6rem; }
.change { display: grid; grid-template-columns: 5.6rem 1fr 4.2rem; gap: 0.7rem; align-items: center;
font-size: 0.88rem; }
.change .name { color: var(--soft); } .change.real .name { color: var(--text); font-weight: 600; }
.change .value { text-align: right; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 255px), 1fr)); gap: 0.8rem; }
.charts figure { padding: 0.7rem 0.8rem 0.5rem; }
.charts figcaption small { display: block; min-height: 1.2em; line-height: 1.2; }
.charts figcaption { margin-bottom: 0.3rem; }
.sample { margin-bottom: 1rem; }
.sample h3 { margin: 0 0 0.5rem; }
.prompt p { margin: 0.15rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.role { color: var(--soft); font-size: 0.8rem; margin-right: 0.6rem; }
.answers { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 0.8rem;
margin-top: 0.8rem; }
.answer { border-top: 2px solid var(--ink); padding-top: 0.4rem; font-size: 0.9rem; min-width: 0; }
.answer p { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0.2rem 0; }
.head { display: flex; justify-content: space-between; font-size: 0.85rem; }
.thought { color: var(--soft); font-size: 0.82rem; border-left: 2px solid var(--line); padding-left: 0.5rem; }
.call { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 0.8rem; background: var(--grid);
border-radius: 5px; padding: 0.3rem 0.5rem; }
#method p { max-width: 46rem; }
@media (max-width: 640px) { body { padding: 1.2rem 0.8rem 3rem; } .row { grid-template-columns: 1fr; gap: 0; }
.row .name { padding: 0.4rem 0 0; } .row.axis .name { display: none; } h2 { margin-top: 2.4rem; } }
"""
