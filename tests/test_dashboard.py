"""What `make ui` prints, over a real store, and what it refuses. A browser has shown that the view is what it says."""

import json
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient

from minimind import cli, dashboard, store


def test_the_address_shows_the_scores_of_all_runs(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert "nothing has been recorded yet" in dashboard.describe(address)
    client = MlflowClient(address)
    number = client.create_experiment(store.EXPERIMENT)
    for name, metric in (("sft", "loss"), ("evaluate@sft", "test/know"), ("evaluate@dpo", "test/tool")):
        run = client.create_run(number, run_name=name)
        client.log_metric(run.info.run_id, metric, 0.5)
    lines = dashboard.describe(address).splitlines()
    page = f"{address}/#/experiments/{number}/runs?workflowType=machine_learning&viewStateShareKey=minimind"
    assert lines[0].endswith(f"  {page}&compareRunsMode=CHART") and lines[1].endswith(f"  {page}")
    assert "PORT=" in lines[-1] and "Columns" in lines[-1]
    view = json.loads(client.get_experiment(number).tags["mlflow.sharedViewState.minimind"])
    assert view["selectedColumns"][1:] == ["metrics.`test/know`", "metrics.`test/tool`"]
    assert view["runsHiddenMode"] == "FIRST_20_RUNS"


def test_a_port_that_is_taken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with socket.create_server((dashboard.HOST, 0)) as other:
        port = other.getsockname()[1]
        assert cli.main(["ui", "--port", str(port)]) == 1
    assert f"port {port} already: make ui PORT={port + 1}" in capsys.readouterr().err
