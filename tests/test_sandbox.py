"""Templates that would run for ever, take all memory, or are none: each ends in an error, and in a little memory."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from jinja2.exceptions import TemplateError

from minimind import sandbox
from minimind.sandbox import Environment, LimitError

LOOP, END = "{% for i in range(99999) %}", "{% endfor %}"


def growing(start: str, step: str) -> str:
    """A template that goes on from a value."""
    return f"{{% set ns = namespace(x={start}) %}}{LOOP}{{% set ns.x = {step} %}}{END}"


ENDLESS = {
    "loops in loops": LOOP + LOOP + END + END,
    "text in loops": LOOP + LOOP + "abc" + END + END,
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "joined texts": growing("'a'", "ns.x ~ ns.x"),
    "added texts": growing("'a'", "ns.x + ns.x"),
    "added lists": growing("[1]", "ns.x + ns.x"),
    "squares": growing("7", "ns.x * ns.x"),
    "a product": "{{ 'a' * 10 ** 10 }}",
    "a product with a list": "{{ 10 ** 10 * [1] }}",
    "a power": "{{ 9 ** (9 ** 9) }}",
    "a width": "{{ 'a' | center(10 ** 10) }}",
    "a method's width": "{{ 'a'.ljust(10 ** 10) }}",
    "a format": "{{ '%9999999999d' % 1 }}",
    "a format's filter": "{{ '%9999999999d' | format(1) }}",
    "a format's method": "{{ '{:>9999999999}'.format(1) }}",
    "a format with a width given": "{{ '{:>{}}'.format(1, 10 ** 10) }}",
    "a batch": "{{ [1] | batch(10 ** 10, 'x') | list }}",
    "replaced": "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "joined by a filter": "{{ (['a' * 99999] * 99999) | join }}",
    "joined with a long text": "{{ range(99999) | join('b' * 99999) }}",
    "joined by a method": "{{ ''.join(['a' * 99999] * 99999) }}",
    "indented": "{{ ('\n' * 99999) | indent(999999) }}",
    "captured": "{% set x %}" + LOOP + "{{ 'a' * 99999 }}" + END + "{% endset %}",
    "comparisons": "{% set x = 'a' * 4999999 %}" + LOOP + "{{ 'b' * 999 in x }}" + END,
    "tests": "{% set x = 'a' * 4999999 %}" + LOOP + "{{ 'b' is in x }}" + END,
    "wrapped": "{{ ('a ' * 99999) | wordwrap(1, true, 'b' * 99999) }}",
}


@pytest.fixture
def environment() -> Environment:
    return Environment(trim_blocks=True, lstrip_blocks=True)


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS)
def test_what_would_not_end_is_ended(environment: Environment, source: str) -> None:
    with pytest.raises(LimitError, match=r"steps|characters|number|field|no chat template"):
        environment.from_string(source).render()


def test_it_ends_before_the_memory_does() -> None:
    """All of them in a process that has 400 MB."""
    program = (
        "import resource; from test_sandbox import ENDLESS, Environment, LimitError\n"
        "for source in ENDLESS.values():\n"
        "    try: Environment().from_string(source).render()\n"
        "    except LimitError: continue\n"
        "    raise AssertionError(source)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20)),
        env={"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "source",
    [
        "{% for %}", "{{ nothing.at.all }}", "{{ ''.__class__.__mro__ }}", "{{ none() }}", "{{ 1 / 0 }}",
        "{{ [][3].x }}",
        "{% include 'x' %}", "{{ lipsum() }}", "{{ 'a' + 1 }}", "{{ ('9' * 5000) | int + 'a' }}",
        "{{ " + "(" * 2000 + "}}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ 'a' | nothing }}", None, 5, [{"template": "x"}],
    ],
)  # fmt: skip
def test_every_fault_is_one_of_those_that_callers_expect(environment: Environment, source: object) -> None:
    with pytest.raises(sandbox.FAULTS) as found:
        environment.from_string(source).render()
    assert 0 < len(sandbox.describe(found.value)) <= 301 and "\n" not in sandbox.describe(found.value)


def test_what_real_templates_do_is_as_it_was(environment: Environment) -> None:
    source = (
        "{% macro show(m) %}<{{ m.role | upper ~ ':' ~ loop_number }}>{{ m['content'] | trim }}{% endmacro %}"
        "{% set ns = namespace(n=0, text='') %}{% for m in messages if m.role in ('user', 'assistant') %}"
        "{% set ns.n = ns.n + 1 %}{% set loop_number = ns.n %}{% set ns.text = ns.text + m.role.split('s')[0] %}"
        "<{{ m.role ~ ns.n * 2 }}>{{ m.content | trim }}{{ '%s' % m.role }}{{ m | tojson(indent=1) }}{% endfor %}"
        "{{ ns.text if ns.n == 2 and messages | length > 1 and ns is defined }}"
        "{{ messages | map(attribute='role') | join }}"
    )
    messages = [{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "x" * 100_000}]
    plain = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    expected = plain.from_string(source).render(messages=messages)
    template = environment.from_string(source)
    for _ in range(50):  # every rendering counts anew
        assert template.render(messages=messages) == expected


def test_a_text_that_is_long_because_the_conversation_is_may_be_written(environment: Environment) -> None:
    template = environment.from_string("{% for m in messages %}{{ '<' ~ m.content | trim ~ '>' }}{% endfor %}")
    assert len(template.render(messages=[{"content": "word " * 20}] * 5_000)) == 5_000 * 101
    with pytest.raises(TemplateError, match="more than 1,000,000"):
        environment.from_string("x" * 1_000_001)
