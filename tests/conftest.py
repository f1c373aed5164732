"""What several tests share: a small tokenizer, random checkpoints, transformers 4, a stand-in for the hub.

And which tests are run: those marked `arm` where its compiler and emulator are installed, or with --arm. Of several
workers each takes the next file, and the longest come first, lest one worker ends with them alone.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from arm import emulator
from filelock import FileLock
from huggingface_hub import constants
from toy.models import random_model

from benchmarks import workload
from minimind import checkpoint, tokenizer
from minimind.model import ModelConfig
from minimind.sources import transfer
from minimind.tokenizer import TokenizerConfig

os.environ["HF_HUB_OFFLINE"] = "1"  # whatever a test loads is on this disk

TEXTS = [
    "The capital of France is Paris. Paris lies on the Seine, and the Seine runs to the sea.",
    "法国的首都是巴黎。巴黎在塞纳河边，塞纳河流向大海。",
    "What is 12 + 7? It is 19, and 19 + 23 is 42.\n\n\tAdd the digits one by one: 9 + 3 = 12, carry 1.",
    '{"name": "calculator", "arguments": {"expression": "12 + 7", "unit": null}}',
    *(f"{role}\n" for role in ("system", "user", "assistant", "# Tools")),
]


LONGEST = [
    "test_pipeline.py", "test_train.py", "test_tracking.py", "test_cpu.py", "test_resume.py", "test_exactness.py",
    "test_network.py", "test_zero.py", "test_profiles.py", "test_encoding.py", "test_engine.py",
]  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    help = f"run the tests on an emulated ARM processor, and fail where that is not installed ({emulator.INSTALL})"
    parser.addoption("--arm", action="store_true", help=help)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if emulator.missing() and not config.getoption("--arm"):
        left_out = [item for item in items if item.get_closest_marker("arm")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("arm") and emulator.missing():
        pytest.fail(f"the compiler for ARM, or the emulator, is not installed: {emulator.INSTALL}", pytrace=False)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if emulator.missing() and not terminalreporter.config.getoption("--arm"):
        terminalreporter.line(f"tests on an emulated ARM processor are left out, for want of it: {emulator.INSTALL}")


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as of the stage tokenizer, with a vocabulary learned from TEXTS."""
    folder = tmp_path_factory.mktemp("tokenizer")
    config = TokenizerConfig(vocab_size=512, isolate=True, max_bytes=1 << 20, held_out_share=0.1)
    tokenizer.save(tokenizer.train(TEXTS * 4, config), folder)
    return folder


@pytest.fixture(scope="session")
def small_workload(tmp_path_factory: pytest.TempPathFactory) -> workload.Workload:
    """The text of the benchmarks, but little of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "VOCAB_SIZE", 600)
        patch.setattr(workload, "TOKENIZER_DOCUMENTS", 100)
        patch.setattr(workload, "VALIDATION_DOCUMENTS", 8)
        return workload.build(tmp_path_factory.mktemp("workload"), 15_000, 512)


@pytest.fixture(scope="session")
def transformers4() -> Callable[..., str]:
    """Runs a Python program, given as text with its arguments, under transformers 4.57; returns what it prints."""
    root = Path(__file__).resolve().parents[1]
    pins = root / "tests" / "transformers4.txt"
    folder = root / ".oracles" / "transformers4"
    installed = folder / "pins.txt"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # other workers want it too
        if not installed.exists() or installed.read_text() != pins.read_text():
            fresh = folder.with_name(f"transformers4.{os.getpid()}.partial")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", fresh]
            pip += ["--requirement", pins]
            subprocess.run(pip, check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
            shutil.copyfile(pins, fresh / "pins.txt")
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)

    def run(program: str, *arguments: object) -> str:
        environment = os.environ | {"PYTHONPATH": str(folder)}
        command = [sys.executable, "-c", program, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def checkpoints(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint with random weights of each kind that a class of Hugging Face computes, by name."""
    llama = ModelConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
        rope_theta=1e6, rms_norm_eps=1e-5, qk_norm=False, max_position_embeddings=256,
        vocab_size=512,  # more rows than the tokenizer has tokens, as rounded matrices have
    )  # fmt: skip
    qwen3 = replace(llama, qk_norm=True, tie_word_embeddings=False, head_dim=32, rope_theta=1e4)
    experts = replace(qwen3, use_moe=True, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32)
    configs = {
        "llama": llama,
        "qwen3": qwen3,
        "experts": experts,
        "experts-top1-tied": replace(experts, num_experts_per_tok=1, tie_word_embeddings=True),
    }
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, config in configs.items():
        checkpoint.save(folder / name, random_model(config), tokenizer_folder, {"stage": name})
    return {name: folder / name for name in configs}


class Hub(ThreadingHTTPServer):
    """A stand-in for the Hugging Face hub: one commit a repository, files whole. `files[repository][path]` is content.

    It speaks what huggingface_hub asks of it: repositories/create, preupload, LFS batch, commit; revision, tree and
    resolve.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.files: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}  # LFS objects by sha256
        self.messages: list[str] = []
        self.refuse = 0  # a status to answer everything with

    @property
    def address(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repository: str) -> str:
        """Forty hexadecimal digits that stand for the files of a repository."""
        listing = {path: hashlib.sha256(content).hexdigest() for path, content in self.files[repository].items()}
        return hashlib.sha1(json.dumps(listing, sort_keys=True).encode()).hexdigest()


class Answering(BaseHTTPRequestHandler):
    """Answers with bytes as they are, and with anything else as JSON."""

    def answer(self, value: object, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, content in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, content)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class HubRequest(Answering):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        hub = self.server
        if hub.refuse:
            self.answer({"error": "You may not."}, hub.refuse)
        elif path == "/api/repos/create":
            made = json.loads(body)
            repository = f"{made.get('organization') or 'me'}/{made['name']}"
            hub.files.setdefault(repository, {})
            self.answer({"url": f"{hub.address}/{repository}", "id": repository, "name": repository})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            wanted = json.loads(body)["files"]
            self.answer({"files": [self.mode(entry["path"]) for entry in wanted]})
        elif match := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            self.answer({"transfer": "basic", "objects": [
                {"oid": entry["oid"], "size": entry["size"],
                 "actions": {"upload": {"href": f"{hub.address}/blob/{entry['oid']}", "header": {}}}}
                for entry in json.loads(body)["objects"]
            ]})  # fmt: skip
        elif match := re.fullmatch(r"/blob/(\w+)", path):
            assert hashlib.sha256(body).hexdigest() == match[1]
            hub.blobs[match[1]] = body
            self.answer({})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            for line in map(json.loads, body.decode().splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    hub.messages.append(value["summary"])
                elif line["key"] == "file":
                    hub.files[match[1]][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    hub.files[match[1]][value["path"]] = hub.blobs[value["oid"]]
            commit = hub.commit(match[1])
            self.answer(
                {"commitUrl": f"{hub.address}/{match[1]}/commit/{commit}", "commitOid": commit, "hookOutput": ""}
            )
        elif (match := re.fullmatch(r"/api/models/(.+?)/tree/(\w+)", path)) and match[1] in hub.files:
            listing = hub.files[match[1]].items()
            self.answer([
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in listing
            ])  # fmt: skip
        elif (match := re.fullmatch(r"/api/models/(.+?)(?:/revision/(.+))?", path)) and match[1] in hub.files:
            names = [{"rfilename": name} for name in sorted(hub.files[match[1]])]
            self.answer({"id": match[1], "sha": hub.commit(match[1]), "siblings": names})
        elif (match := re.fullmatch(r"/(\w+/[\w-]+)/resolve/(\w+)/(.+)", path)) and match[3] in hub.files[match[1]]:
            content = hub.files[match[1]][match[3]]
            tag = f'"{hashlib.sha1(content).hexdigest()}"'
            self.answer(content, headers={"ETag": tag, "X-Repo-Commit": hub.commit(match[1])})
        else:
            self.answer({"error": "Not here."}, 404, {"X-Error-Code": "RepoNotFound"})

    def mode(self, path: str) -> dict[str, object]:
        large = path.endswith((".safetensors", ".gguf"))
        return {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, "oid": None}

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """The stand-in, running, and huggingface_hub pointed at it, with a token."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # large files go by LFS, as to a mirror
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
        yield server
        server.shutdown()
        thread.join()


class Upstream(ThreadingHTTPServer):
    """Where data comes from: plain files below /files/, the hub's data sets, ModelScope's data sets; all with Range.

    `files[path]` is content, of `<organisation>/<name>/<path>` on both hubs. `faults[path]` are what befalls the next
    GETs of a file: a status, with ("Retry-After", …) if it is a pair, or a number of bytes after which the connection
    is cut, or what to add to the Content-Length, or `page`. `asked` lists method, path and range of all requests.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), UpstreamRequest)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[tuple[str, Any]]] = {}
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def address(self) -> str:
        """Without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def gets(self, path: str) -> list[str | None]:
        """The ranges of all GETs of a file."""
        return [asked for method, name, asked in self.asked if method == "GET" and name == path]


class UpstreamRequest(Answering):
    server: Upstream
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path, query = unquote(url.path), dict(parse_qsl(url.query))
        files = self.server.files
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/revision/(.+)", path):
            self.answer({"id": match[1], "sha": "c0ffee" + "0" * 34, "siblings": []})
        elif match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/paths-info/(.+)", path):
            wanted = (
                json.loads(body)["paths"]
                if body[:1] == b"{"
                else [v for k, v in parse_qsl(body.decode()) if k == "paths"]
            )
            found = [(name, files[f"{match[1]}/{name}"]) for name in wanted if f"{match[1]}/{name}" in files]
            self.answer([
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest(),
                 **({"lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1}}
                    if len(content) > 100 else {})}
                for name, content in found
            ])  # fmt: skip
        elif match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            self.serve(f"{match[1]}/{match[3]}")
        elif match := re.fullmatch(r"/api/v1/datasets/([^/]+/[^/]+)/repo/tree", path):
            inside = {name.removeprefix(f"{match[1]}/"): name for name in files if name.startswith(f"{match[1]}/")}
            self.answer({"Data": {"Files": [
                {"Path": name, "Type": "blob", "Size": len(files[whole]),
                 "Sha256": hashlib.sha256(files[whole]).hexdigest()}
                for name, whole in inside.items() if name.rpartition("/")[0] == query.get("Root", "")
            ]}})  # fmt: skip
        elif match := re.fullmatch(r"/api/v1/datasets/([^/]+/[^/]+)/repo", path):
            self.serve(f"{match[1]}/{query['FilePath']}")
        else:
            self.serve(path.removeprefix("/files/"))

    def serve(self, name: str) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.command, name, wanted))
        faults = self.server.faults.get(name, []) if self.command == "GET" else []
        kind, value = faults.pop(0) if faults else ("", None)
        if kind == "status":
            status, headers = value if isinstance(value, tuple) else (value, {})
            return self.answer({"error": "no"}, status, headers)
        if kind == "page":
            return self.answer(b"<!DOCTYPE html><title>Log in</title>", 200, {"Content-Type": value})
        if name not in self.server.files:
            return self.answer({"error": "Not here."}, 404)
        content = self.server.files[name]
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        start = int(wanted[6:-1]) if wanted and kind != "whole" else 0
        if self.headers.get("If-Range", tag) != tag:
            start = 0
        if start and start >= len(content):
            return self.answer(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", tag)
        announced = len(content) - start + (value if kind == "lie" else 0)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        if self.command != "HEAD":
            sent = content[start:][: value if kind == "cut" else None]
            self.wfile.write(sent[: max(0, announced)])
            if kind in ("cut", "lie"):
                self.close_connection = True

    do_GET = do_HEAD = do_POST = handle_request  # noqa: N815


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    """The server, running, with clients of both hubs pointed at it, and pauses between tries that are short."""
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = f"{server.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("MODELSCOPE_DOMAIN", server.address)
        monkeypatch.setattr(transfer, "PAUSE_SECONDS", 0.01)
        yield server
        server.shutdown()
        thread.join()
