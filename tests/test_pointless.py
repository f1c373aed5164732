"""One notion of settings that leave nothing, or little, of what a stage is for."""

import pytest

from minimind import pointless
from minimind.pointless import PointlessError


def test_nothing_left_is_an_error_and_little_a_warning(capsys):
    with pytest.raises(PointlessError, match=r"answers: 0 of 8 are left\. Raise it"):
        pointless.check("answers", 0, 8, "Raise it")
    pointless.check("answers", 4, 8, "Raise it")
    pointless.check("answers", 0, 0, "Raise it")
    assert capsys.readouterr().err == ""
    pointless.check("answers", 3, 8, "Raise it")
    assert capsys.readouterr().err == "WARNING: answers: 3 of 8 are left. Raise it\n"
