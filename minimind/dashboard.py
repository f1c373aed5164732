"""MLflow's page over the runs of the pipeline: the server, and a view of the experiment that shows something.

MLflow 3 opens in a mode for other things, where the table has no metrics and the charts leave out all runs but ten.
What a page shows can be shared as a tag of the experiment; so the address that is printed names such a tag.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from minimind import store
from minimind.errors import UserError

HOST = "127.0.0.1"
VIEW = "minimind"  # the tag's name is mlflow.sharedViewState.VIEW
START_SECONDS = 300  # for the server, which takes a minute where training has all cores
ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def main(port: int) -> None:
    """Serve the store until Ctrl-C, and print the address once it answers. Raises UserError."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('mlflow.db').resolve()}"
    if re.match(r"https?://", uri):  # a server that runs elsewhere has a page of its own
        print(describe(uri.rstrip("/")))
        return
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise UserError(f"something else answers at port {port} already: make ui PORT={port + 1}")
    # One process: four take minutes to start beside a training, and their supervisor ends those that are slow.
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri]
    server = subprocess.Popen(
        command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr is not None
    print("MLflow starts, which takes a minute beside a training …", flush=True)
    try:
        address = f"http://{HOST}:{port}"
        _wait(server, address)
        print(describe(address), flush=True)
        for _ in server.stderr:  # or the pipe would fill up
            pass
    finally:
        server.terminate()
        server.wait()


def describe(address: str) -> str:
    """What to open, and what is to be seen there; the view is made where there is something to see."""
    from mlflow import MlflowClient

    client = MlflowClient(address)
    experiment = client.get_experiment_by_name(store.EXPERIMENT)
    if experiment is None:
        return f"{address}: nothing has been recorded yet; `dvc repro` does, and `make ui` then says where to look"
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    scores = sorted({name for run in runs for name in run.data.metrics if "/" in name})
    client.set_experiment_tag(experiment.experiment_id, f"mlflow.sharedViewState.{VIEW}", json.dumps(view(scores)))
    page = f"{address}/#/experiments/{experiment.experiment_id}"
    shared = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
    return "\n".join(
        [
            f"curves and scores  {page}/runs?{shared}&compareRunsMode=CHART",
            f"table of runs      {page}/runs?{shared}",
            f"models             {page}/models?workflowType=machine_learning",
            "Further columns: the button `Columns` of the table. Another port: make ui PORT=5001. Ctrl-C ends it.",
        ]
    )


def view(scores: list[str]) -> dict[str, object]:
    """What MLflow's page is to show: the newest 20 runs, one `dvc repro` being 11, and these metrics as columns."""
    return {
        "runsHiddenMode": "FIRST_20_RUNS",
        "selectedColumns": ["attributes.`Source`", *(f"metrics.`{name}`" for name in scores)],
        "hideEmptyCharts": True,
    }


def _wait(server: "subprocess.Popen[str]", address: str) -> None:
    """Return when the server answers. Raises UserError with its last words if it ends before."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            assert server.stderr is not None
            lines = server.stderr.read().strip().splitlines() or ["it said nothing"]
            raise UserError(f"MLflow's server ended: {lines[-1]}")
        try:
            with urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise UserError(f"MLflow's server has not answered within {START_SECONDS} seconds: is the machine busy?")
