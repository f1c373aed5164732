"""The head of our pages, and their style sheet.

Colours are variables: each checkpoint has one, light and dark have their own set.
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
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: 0.9em; }
details { margin-top: 1rem; } summary { cursor: pointer; color: var(--soft); }
td.value { white-space: normal; overflow-wrap: anywhere; }
#method p { max-width: 46rem; }
@media (max-width: 640px) { body { padding: 1.2rem 0.8rem 3rem; } .row { grid-template-columns: 1fr; gap: 0; }
.row .name { padding: 0.4rem 0 0; } .row.axis .name { display: none; } h2 { margin-top: 2.4rem; } }
"""


def head(title: str, own: str = "") -> str:
    """All of a page's HTML before its body; `own` are styles beside the common ones."""
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{STYLE}{own}
</style>
</head>"""
