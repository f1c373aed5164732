"""Pictures: well-formed, the same bytes each time, marks where the numbers say."""

import xml.etree.ElementTree as ElementTree

import pytest

from minimind import plots
from minimind.plots import Interval, Line


def parse(picture: str) -> ElementTree.Element:
    return ElementTree.fromstring(picture)


def test_lines_are_where_the_numbers_are() -> None:
    line = Line("run", "sft", [(0, 1.0), (50, 3.0), (100, 2.0)])
    picture = plots.lines("loss", [line])
    path = next(parse(picture).iter("path")).attrib["d"].removeprefix("M")
    places = [tuple(map(float, point.split())) for point in path.split("L")]
    across, up = [x for x, _ in places], [y for _, y in places]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1])
    assert up[0] - up[2] == pytest.approx(up[2] - up[1], abs=0.2)  # y runs downwards; places have one decimal
    assert plots.lines("loss", [line]) == picture


def test_logarithmic_lines_turn_ratios_into_distances() -> None:
    line = Line("run", "sft", [(0, 0.1), (1, 1.0), (2, 10.0)])
    path = next(parse(plots.lines("norm", [line], logarithmic=True)).iter("path")).attrib["d"].removeprefix("M")
    up = [float(point.split()[1]) for point in path.split("L")]
    assert up[0] - up[1] == pytest.approx(up[1] - up[2], abs=0.2)
    with pytest.raises(ValueError, match="no logarithmic scale"):
        plots.lines("rate", [Line("run", "sft", [(0, 0.0), (1, 1.0)])], logarithmic=True)


def test_a_scale_is_logarithmic_where_it_helps() -> None:
    assert plots.spans_magnitudes([Line("run", "sft", [(0, 8.0), (1, 1.0)])])
    assert not plots.spans_magnitudes([Line("run", "sft", [(0, 2.0), (1, 1.0)])])
    assert not plots.spans_magnitudes([Line("run", "sft", [(0, 8.0), (1, 0.0)])])
    assert not plots.spans_magnitudes([])


@pytest.mark.parametrize("points", [[(20, 0.5)], [(20, 0.0), (40, 0.0)], [(20, -1e-9), (40, 3e9)]])
def test_lines_of_odd_shape(points: list[tuple[float, float]]) -> None:
    root = parse(plots.lines("odd", [Line("run", "sft", points), Line("empty", "dpo", [])]))
    numbers = [float(root_y) for node in root.iter("text") for root_y in (node.attrib["x"], node.attrib["y"])]
    assert all(-1 <= number <= plots.WIDTH for number in numbers)
    with pytest.raises(ValueError, match="at least one point"):
        plots.lines("none", [Line("run", "sft", [])])


def test_values_at_the_ends_do_not_overlap() -> None:
    series = [Line(f"run {i}", "sft", [(0, 1.0), (1, 1.0 + i / 1000)]) for i in range(4)]
    root = parse(plots.lines("loss", series))
    heights = sorted(float(node.attrib["y"]) for node in root.iter("text") if node.attrib["class"] == "value")
    assert all(later - earlier >= 11.9 for earlier, later in zip(heights, heights[1:], strict=False))


def test_histogram_heights_are_proportional() -> None:
    root = parse(plots.histogram("lengths", [("≤8", 10), ("≤16", 40), ("≤32", 0)], "sft"))
    heights = [float(node.attrib["height"]) for node in root.iter("rect")]
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.5)
    assert heights[2] == 0
    assert [node.text for node in root.iter("title")] == ["≤8: 10", "≤16: 40", "≤32: 0"]
    with pytest.raises(ValueError, match="at least one bar"):
        plots.histogram("lengths", [], "sft")


def test_a_grid_fills_its_cells_in_proportion() -> None:
    root = parse(plots.grid("load", [[0.0, 1.0, 5.0], [2.0, 0.5, 0.5]], "sft"))
    frames = [float(node.attrib["height"]) for node in root.iter("rect") if node.attrib.get("class") == "cell"]
    fillings = [float(node.attrib["height"]) for node in root.iter("rect") if "class" not in node.attrib]
    shares = [filling / frame for filling, frame in zip(fillings, frames, strict=True)]
    assert shares == pytest.approx([0, 0.5, 1, 1, 0.25, 0.25], abs=0.01)
    assert [node.text for node in root.iter("title")][:2] == ["layer 0, expert 0: 0.00", "layer 0, expert 1: 1.00"]
    with pytest.raises(ValueError, match="at least one cell"):
        plots.grid("load", [], "sft")


def test_intervals_are_shares_of_the_width() -> None:
    root = parse(plots.intervals("scores", [Interval("sft", "sft", 0.5, 0.4321, 0.5678)]))
    dot = next(root.iter("circle"))
    whisker = next(node for node in root.iter("line") if node.attrib["class"] == "whisker")
    assert (dot.attrib["cx"], whisker.attrib["x1"], whisker.attrib["x2"]) == ("50.00%", "43.21%", "56.78%")
    assert next(root.iter("title")).text == "sft: 50.0 [43.2, 56.8]"


def test_balance_grows_from_the_middle() -> None:
    worse, better = parse(plots.balance("word", worse=0.1, better=0.2, limit=0.4)).iter("rect")
    assert (worse.attrib["x"], worse.attrib["width"], worse.attrib["class"]) == ("37.50%", "12.50%", "worse")
    assert (better.attrib["x"], better.attrib["width"], better.attrib["class"]) == ("50.00%", "25.00%", "better")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1]),
        (0.13, 0.58, [0, 0.2, 0.4, 0.6]),
        (-3, 9, [-5, 0, 5, 10]),
        (2400, 2400, [1000, 2000, 3000, 4000]),
    ],
)
def test_ticks_are_round_and_hold_the_range(low: float, high: float, expected: list[float]) -> None:
    values = plots.ticks(low, high, 4)
    assert values == pytest.approx(expected)
    assert values[0] <= low <= high <= values[-1]


def test_logarithmic_ticks() -> None:
    assert plots.logarithmic_ticks(0.9, 8.1) == [1.0, 2.0, 5.0]
    assert plots.logarithmic_ticks(1e-4, 30.0) == [1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0]
    assert plots.logarithmic_ticks(3.0, 3.0) == [3.0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "0"), (0.03125, "0.0312"), (1.5, "1.5"), (999.4, "999"), (999.9, "1k"), (2400, "2.4k"),
        (9_830_400, "9.83M"), (2e9, "2G"), (1e-5, "1e-5"), (-0.00032, "-3.2e-4"),
    ],
)  # fmt: skip
def test_numbers_are_short(value: float, expected: str) -> None:
    assert plots.number(value) == expected


def test_text_is_escaped() -> None:
    for picture in (
        plots.lines("a < b & c", [Line('"<run>"', "sft", [(0, 1)])]),
        plots.intervals("<x>", [Interval("<b>", "sft", 0.5, 0.4, 0.6)]),
        plots.histogram("<x>", [("<8", 3)], "sft"),
        plots.axis(["<", "0", ">"]),
    ):
        parse(picture)
        assert "<b>" not in picture and "<run>" not in picture


def test_a_funnel_is_full_up_to_what_stays() -> None:
    rects = [rect.attrib for rect in parse(plots.funnel("language", 0.9, 0.75, "sft")).iter("rect")]
    assert [(rect["x"], rect["width"]) for rect in rects] == [("0%", "75.00%"), ("75.00%", "15.00%")]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.6931, 0.6932, 0.6933], ["0.6931", "0.6932", "0.6933"]),
        ([0, 500, 1000], ["0", "500", "1k"]),
        ([1000, 1002, 1004], ["1k", "1.002k", "1.004k"]),
        ([1.00001e-5, 1.00002e-5], ["1.00001e-5", "1.00002e-5"]),
        ([-1, 0, 1], ["-1", "0", "1"]),
        ([2.0, 2.0], ["2", "2"]),
    ],
)
def test_labels_tell_values_apart(values: list[float], expected: list[str]) -> None:
    assert plots.labels(values) == expected


def test_labels_of_a_flat_curve_have_room() -> None:
    points = [(step, 0.69314 + step * 1e-7) for step in range(0, 50, 5)]
    root = parse(plots.lines("loss", [Line("run", "dpo", points)]))
    names = [node for node in root.iter("text") if node.attrib["class"] == "tick end"]
    assert len({node.text for node in names}) == len(names) >= 3
    assert all(float(node.attrib["x"]) > plots.CHARACTER * len(node.text or "") for node in names)
