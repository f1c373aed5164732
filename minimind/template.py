"""The template (Jinja) of the report's page; its style sheet is `style`.

No script and nothing from elsewhere, so the page can be mailed, and opened in ten years.
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
{{ head }}
<body>
<header>
<h1>MiniMind report</h1>
{% if report.is_scored %}
<p>{{ num_scored }} checkpoints on the {{ split }} split: {{ report.families | length }} families,
{{ num_answers | count }} scored answers each.</p>
{% endif %}
<p>Profile <b>{{ report.provenance.profile }}</b>, seed <b>{{ report.provenance.seed }}</b>, digest of all params
<code>{{ report.provenance.digest }}</code></p>
<nav>{% if report.is_scored %}<a href="#scores">Scores</a> <a href="#changes">Changes</a> {% endif %}
{% if report.places %}<a href="#heldout">Held out</a> {% endif %}
<a href="#curves">Training</a> <a href="#data">Data</a>
{% if report.samples %}<a href="#samples">Samples</a> {% endif %}
<a href="#about">Params</a> <a href="#method">How to read this</a></nav>
{% for note in report.notes %}
<p class="note">{{ note }}</p>
{% endfor %}
</header>

{% if report.is_scored %}
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
| map(attribute=family) | map(attribute="n") | unique %}
<span{% if n < few %} class="worse" title="too few to say anything"{% endif %}>{{ n }}</span>
{%- if not loop.last %}/{% endif %}{% endfor %}</td>
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

{% endif %}
{% if report.places %}
<section id="heldout">
<h2>Held-out bits per byte</h2>
<p class="lead">{{ held_out }}</p>
<div class="scroll"><table>
<thead><tr><th>data set</th><th>file</th><th>language</th><th>documents</th><th>bytes</th>
{% for evaluation in report.evaluations %}
<th>{{ chip(evaluation.checkpoint) }}</th>{% endfor %}</tr></thead>
<tbody>
{% for place in report.places %}
{% set figures = report.evaluations | map(attribute="held_out") | selectattr(place, "defined") | map(attribute=place)
| first %}
<tr><th>{{ place.data_set }}</th><td>{{ place.source }}</td>
<td>{{ languages.get(place.language, place.language) }}</td>
<td>{{ figures.documents | count }}</td><td>{{ figures.bytes | count }}</td>
{% for evaluation in report.evaluations %}
<td>{% if place in evaluation.held_out %}<b>{{ "%.3f" | format(evaluation.held_out[place].bits_per_byte) }}</b>
{%- else %}–{% endif %}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
</section>
{% endif %}

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

{% if report.samples %}
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
<p class="better"><span class="role">right</span>{{ sample.expected }}</p>
</div>
<div class="answers">
{% for checkpoint, (correct, output, cut) in sample.answers.items() %}
<div class="answer ink-{{ checkpoint | ink }}">
<p class="head">{{ chip(checkpoint) }}
<span class="{{ "better" if correct else "worse" }}">{{ "✓ right" if correct else "✗ wrong" }}</span></p>
{% for kind, text in output | pieces %}
<p class="{{ kind }}">{{ text }}</p>
{% else %}
<p class="soft">(nothing)</p>
{% endfor %}
{% if cut %}
<p class="soft">(cut off at evaluate.max_new_tokens)</p>
{% endif %}
</div>
{% endfor %}
</div>
</article>
{% endfor %}
</section>
{% endif %}

<section id="about">
<h2>Params</h2>
<div class="scroll"><table>
<thead><tr><th>model</th><th>parameters</th><th>digest</th></tr></thead>
<tbody>
{% for evaluation in report.evaluations if evaluation.digest %}
<tr><th>{{ chip(evaluation.checkpoint) }}</th><td>{{ evaluation.parameters | count }}</td>
<td><code>{{ evaluation.digest[:12] }}</code></td></tr>
{% endfor %}
</tbody></table></div>
<p class="soft">The digest of a model is that of its manifest: `minimind verify` checks the files against it.</p>
<details><summary>All {{ report.provenance.values | length }} values of params.yaml but for runtime</summary>
<div class="scroll"><table>
<tbody>
{% for name, value in report.provenance.values.items() %}
<tr><th>{{ name }}</th><td class="value">{{ value }}</td></tr>
{% endfor %}
</tbody></table></div>
</details>
</section>

<section id="method">
<h2>How to read this</h2>
<p>{{ method }}</p>
</section>
</body>
</html>
"""
