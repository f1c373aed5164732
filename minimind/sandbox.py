"""Chat templates of others, run so that whatever they say ends: in a text, or in an error.

jinja's sandbox keeps a template from attributes and from the disk. Here it also gets a number of steps and a size of
what it makes, counted and not timed, so that the same template ends in the same way everywhere. A round of a loop, a
call, a filter, a test and a comparison are steps, and so are every few hundred characters or entries they are given.
"""

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SOURCE = 1_000_000  # characters of a template
MAX_STEPS = 100_000  # of one rendering
MAX_SIZE = 5_000_000  # characters of a text or entries of a list that a template makes
MAX_NUMBER = 1_000_000  # that is handed to a filter or a method: widths, counts
PER_STEP = 500  # characters or entries
MAX_BITS = 1_000  # of a whole number
UNBOUND = ("wordwrap", "urlize", "translate", "expandtabs")  # whose results may be of any size
WIDE = re.compile(r"\d{6,}|\*")  # in a format: a field of a million blanks, or of a width that is handed in

FAULTS = (
    TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError,
    NotImplementedError,
)  # fmt: skip
"""What reading or rendering a template may raise, whoever wrote it."""


class LimitError(SecurityError):
    """A template that takes too many steps or makes something too large."""


def describe(error: BaseException) -> str:
    """One of FAULTS in one line of a few hundred characters at most, whatever the template put into it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]}…"


def refuse(message: str) -> None:
    """What templates call `raise_exception`. Raises TemplateError."""
    raise TemplateError(message)


class Generation(Extension):
    """The `{% generation %}` block of transformers, whose content is written as it is."""

    tags = {"generation"}  # noqa: RUF012  (jinja declares it so)

    def parse(self, parser: Parser) -> nodes.Node:
        """A call of `write` with what stands in the block."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("write"), [], [], body).set_lineno(line)

    def write(self, caller: Callable[[], str]) -> str:
        """The content, as it is to be written."""
        return caller()


class Environment(ImmutableSandboxedEnvironment):
    """jinja's sandbox with limits. `from_string` and `render` raise FAULTS."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.steps = self.characters = 0
        self.template_class = _Template
        self.globals.pop("lipsum")
        filters: Any = _Limited(self, dict[str, Any](self.filters))
        tests: Any = _Limited(self, dict[str, Any](self.tests))
        dict.__setitem__(filters, "_count", self._count)
        self.filters, self.tests = filters, tests
        self.globals["_join"] = self._join

    def from_string(self, source: Any, *arguments: Any, **options: Any) -> jinja2.Template:
        """The template. Raises FAULTS, for anything but text too."""
        if not isinstance(source, str):
            raise TemplateError(f"it is {type(source).__name__}, expected text")
        if len(source) > MAX_SOURCE:
            raise LimitError(f"it has {len(source):,} characters, more than {MAX_SOURCE:,}")
        self.begin()
        return super().from_string(source, *arguments, **options)

    def begin(self) -> None:
        """Count anew: a rendering begins."""
        self.steps = self.characters = 0

    def step(self, *values: object) -> None:
        """One more step, that works on these values. Raises LimitError when there were too many."""
        self.steps += 1 + sum(len(value) // PER_STEP for value in values if isinstance(value, Sized))
        if self.steps > MAX_STEPS:
            raise LimitError(f"it takes more than {MAX_STEPS:,} steps: does it loop for ever?")

    def grow(self, size: int) -> None:
        """So many characters more were written. Raises LimitError when there were too many."""
        self.characters += size
        _check_size(self.characters)

    def concat(self, parts: Iterable[str]) -> str:
        """The parts of a text, joined: jinja writes everything through this."""
        taken = []
        for part in parts:
            self.grow(len(part))
            taken.append(part)
        return "".join(taken)

    def call(self, context: Context, callee: Any, *arguments: Any, **options: Any) -> Any:
        """Call what the template calls, unless that is too much. Raises LimitError."""
        values = [*arguments, *options.values()]
        self.step(*values)
        owner = getattr(getattr(callee, "__wrapped__", callee), "__self__", None)  # jinja wraps str.format
        if isinstance(owner, str):
            self.step(owner)
            _check_text_method(callee.__name__, owner, arguments)
            _check_numbers(values)
        return super().call(context, callee, *arguments, **options)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The value of a sum, product, power or format, unless that is too large. Raises LimitError."""
        self.step(left, right)
        if operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            _check_size(len(left) + len(right))
        elif operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, Sized) and isinstance(other, int):
                    _check_size(len(one) * other)
        elif operator == "%" and isinstance(left, str):
            _check_format(left)
        if operator in ("*", "**", "+") and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(right, 1) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MAX_BITS:
                raise LimitError("it computes with a number of hundreds of digits")
        value = super().call_binop(context, operator, left, right)
        self.step(value)
        return value

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        loops: list[Any] = [*tree.find_all(nodes.For), *tree.find_all(nodes.Macro), *tree.find_all(nodes.CallBlock)]
        for loop in loops:
            loop.body.insert(0, nodes.ExprStmt(_counted(nodes.Const(None))).set_lineno(loop.lineno))
        _Counts().visit(tree)
        tree.set_environment(self)
        return tree

    @jinja2.pass_context  # or the value of a constant would be counted once, when it is compiled
    def _count(self, context: Context, value: object) -> object:
        """A filter that gives back what it is given, and counts it."""
        self.step(value)
        return value

    def _join(self, *values: object) -> str:
        texts = [str(value) for value in values]
        _check_size(sum(map(len, texts)))
        self.step(*texts)
        return "".join(texts)


class _Template(jinja2.Template):
    """A template that counts anew at every rendering."""

    def render(self, *arguments: Any, **options: Any) -> str:
        assert isinstance(self.environment, Environment)
        self.environment.begin()
        return super().render(*arguments, **options)


class _Counts(jinja2.visitor.NodeTransformer):
    """Comparisons count what they compare, and `a ~ b` becomes a call."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802  (jinja's name)
        self.generic_visit(node)
        node.expr = _counted(node.expr)
        for operand in node.ops:
            operand.expr = _counted(operand.expr)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  (jinja's name)
        self.generic_visit(node)
        return nodes.Call(nodes.Name("_join", "load"), node.nodes, [], None, None).set_lineno(node.lineno)


def _counted(node: nodes.Expr) -> nodes.Expr:
    counted = nodes.Filter(node, "_count", [], [], None, None)
    counted.set_lineno(node.lineno)
    return counted


class _Limited(dict[str, Callable[..., Any]]):
    """Filters or tests by name; whatever is put here is limited."""

    def __init__(self, environment: Environment, functions: Mapping[str, Callable[..., Any]]):
        super().__init__()
        self._environment = environment
        for name, function in functions.items():
            self[name] = function

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        super().__setitem__(name, _limited(self._environment, name, function))


def _limited(environment: Environment, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    hidden = getattr(function, "jinja_pass_arg", None) is not None  # the first argument is jinja's own

    @functools.wraps(function)
    def limited(*arguments: Any, **options: Any) -> Any:
        given = arguments[1:] if hidden else arguments
        values = [*given, *options.values()]
        environment.step(*values)
        if given and isinstance(given[0], str):
            _check_text_method(name, given[0], given[1:])
        elif name == "join" and given:
            _check_text_method(name, str(given[1]) if len(given) > 1 else str(options.get("d", "")), given[:1])
        _check_numbers([*given[1:], *options.values()])
        return function(*arguments, **options)

    return limited


def _check_text_method(name: str, text: str, arguments: tuple[Any, ...]) -> None:
    """Raise LimitError for a method or filter that would make a text too large."""
    if name in ("format", "format_map"):
        _check_format(text)
    elif name == "replace" and len(arguments) > 1:
        _check_size(len(text) + text.count(str(arguments[0])) * len(str(arguments[1])))
    elif name == "join" and arguments and isinstance(arguments[0], Sized) and isinstance(arguments[0], Iterable):
        entries = arguments[0]
        _check_size(len(entries) * len(text) + sum(len(entry) for entry in entries if isinstance(entry, str)))
    elif name in UNBOUND:
        raise LimitError(f"it uses `{name}`, which no chat template needs")
    elif name == "indent":
        _check_size(len(text) + text.count("\n") * (arguments[0] if arguments and isinstance(arguments[0], int) else 4))


def _check_format(text: str) -> None:
    if WIDE.search(text):
        raise LimitError("it formats a field of a million characters")


def _check_numbers(values: Iterable[object]) -> None:
    if any(isinstance(value, int | float) and not math.fabs(value) <= MAX_NUMBER for value in values):
        raise LimitError(f"it hands a filter or a method a number above {MAX_NUMBER:,}")


def _check_size(size: int) -> None:
    if size > MAX_SIZE:
        raise LimitError(f"it makes a text or a list of more than {MAX_SIZE:,} characters or entries")
