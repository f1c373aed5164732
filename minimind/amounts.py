"""How much data params.yaml stands for, before any of it is here. What can't be told is UNKNOWN."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNKNOWN = math.nan  # so is what is computed from it

RECORD_BYTES = {"pretrain": 160, "sft": 280, "dpo": 330, "prompts": 430, "benchmark": 430}
"""Of a record of each data set, as JSON: those of the atlas."""

TOKENS_PER_BYTE = 4e9 / 20e9
"""Of a file of JSON lines, by MiniMind's own count: 20 GB make about 4G tokens."""
TOKENS = {
    **{name: TOKENS_PER_BYTE * 1e9 * size for name, size in {
        "pretrain_hq": 1.6, "sft_mini_512": 1.2, "sft_512": 7.5, "sft_1024": 5.6, "r1_mix_1024": 0.34,
        "pretrain_t2t_mini": 1.2, "pretrain_t2t": 10.0, "sft_t2t_mini": 1.6, "sft_t2t": 14.0,
    }.items()},
    "pretrain_data": 10e9, "sft_data_multi": 3e9,
}  # fmt: skip
"""Of MiniMind's files, by their documented sizes in GB; of V1's, what its README says of the collections they are from,
which is more than the files hold."""


@dataclass(frozen=True)
class Amount:
    """How much a data set holds, and how it comes here."""

    num_bytes: float = 0.0
    records: float = 0.0
    generated: float = 0.0  # of the records, by our own code
    downloaded: float = 0.0  # of the bytes


def amount(entries: list[dict[str, Any]], data_set: str, raw: Path | None = None) -> Amount:
    """Of the `entries` of a data set in the section `data`; the folder `raw` holds what they brought, unless None."""
    total = Amount()
    for entry in entries:
        one = of_entry(entry, data_set)
        total = Amount(
            total.num_bytes + one.num_bytes, total.records + one.records, total.generated + one.generated,
            total.downloaded + one.downloaded,
        )  # fmt: skip
    if raw is None or not raw.is_dir():
        return total
    num_bytes = float(sum(path.stat().st_size for path in raw.glob("*.jsonl")))
    records = num_bytes / RECORD_BYTES[data_set] if math.isnan(total.records) else total.records
    return Amount(num_bytes, records, total.generated, total.downloaded)


def of_entry(entry: dict[str, Any], data_set: str) -> Amount:
    """Of one entry. A file on this machine is no download."""
    if "count" in entry:
        count = float(entry["count"])
        return Amount(count * RECORD_BYTES[data_set], count, count)
    uri = str(entry["uri"])
    named = [TOKENS[name] / TOKENS_PER_BYTE for name in re.findall(r"[\w-]+", uri) if name in TOKENS]
    num_bytes = named[0] if named else UNKNOWN
    return Amount(num_bytes, num_bytes / RECORD_BYTES[data_set], 0.0, 0.0 if uri.startswith("file:") else num_bytes)
