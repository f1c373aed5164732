"""Results of shards that an interrupted run has left: taken up if they are whole, else worked out again."""

from pathlib import Path

import numpy as np
import pytest

from minimind import shards

KEPT = {"notes": 1}


@pytest.mark.parametrize("place", ["cut", "gone", "empty", 0, 40, 200, 0.5, -30, -3])
def test_a_damaged_result_is_not_taken_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str | float
) -> None:
    path = tmp_path / "a-0.rows-1.0.npz"
    shards._save(path, KEPT, {"tokens": np.arange(200, dtype=np.uint16)})
    found = shards.taken_up(path)
    assert found is not None and found[0] == KEPT
    content = bytearray(path.read_bytes())
    if isinstance(place, str):
        path.unlink()
        if place != "gone":
            path.write_bytes(content[: len(content) // 2 if place == "cut" else 0])
    else:
        content[int(place * len(content)) if isinstance(place, float) else place] ^= 255
        path.write_bytes(content)
    found = shards.taken_up(path)
    if found is not None:  # damaged in what the archive has twice, or doesn't use
        notes, arrays = found
        assert notes == KEPT and arrays["tokens"].tolist() == list(range(200))
    else:
        assert place == "gone" or "is damaged" in capsys.readouterr().err
