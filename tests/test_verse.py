"""What has the form asked for, and what has not."""

import pytest

from minimind.specification import check
from minimind.verify import verify
from minimind.verse import has_form, split

QUATRAIN = "白日依山尽，黄河入海流。\n欲穷千里目，更上一层楼。"


def test_lines_end_at_stops_and_line_ends() -> None:
    assert split(QUATRAIN) == ["白日依山尽", "黄河入海流", "欲穷千里目", "更上一层楼"]


def test_a_quatrain_has_its_form() -> None:
    assert has_form(QUATRAIN, 4, 5)
    assert has_form(QUATRAIN, 4, 5, "流楼")
    assert has_form(QUATRAIN.replace("\n", ""), 4, 5, given=["千山鸟飞绝"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        QUATRAIN.replace("一层", "层"),
        QUATRAIN.replace("更上一层楼", "黄河入海流"),
        QUATRAIN + "又",
        QUATRAIN + "\n千山鸟飞绝，万径人踪灭。",
        QUATRAIN.replace("白日", "ab"),
        QUATRAIN.replace("，", ""),
    ],
)
def test_other_text_has_not(text: str) -> None:
    assert not has_form(text, 4, 5)


def test_rhyme_and_given_lines_are_judged() -> None:
    assert not has_form(QUATRAIN, 4, 5, "流东")
    assert not has_form(QUATRAIN, 4, 5, given=["欲穷千里目"])


def test_a_form_is_a_specification() -> None:
    spec = {"kind": "form", "value": {"lines": 2, "length": 5, "rhyme": "楼", "given": ["黄河入海流"]}}
    assert verify(spec, "欲穷千里目，更上一层楼。")
    assert not verify(spec, "白日依山尽，黄河入海流。")
    with pytest.raises(ValueError, match=r"verify\.value\.length is None, expected int"):
        check({"kind": "form", "value": {"lines": 2}})
    with pytest.raises(ValueError, match=r"verify\.value\.rhyme is 7, expected str"):
        check({"kind": "form", "value": {"lines": 2, "length": 5, "rhyme": 7}})
