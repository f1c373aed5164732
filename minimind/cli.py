"""The command `minimind`."""

import argparse
import contextlib
import difflib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from minimind import config, declarations, files

PLACED = Path(".profile")
"""What `minimind profile` put in place last: git-ignored, and safe to delete."""

INTERRUPTED, BROKEN_PIPE = 130, 141  # as shells count them: 128 and the signal's number


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; return the exit status. User mistakes end in one line on stderr."""
    parser = argparse.ArgumentParser(prog="minimind", description="Small tools around the pipeline (dvc repro).")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("profile", help="put profiles/NAME.yaml in place as params.yaml")
    command.add_argument("name", metavar="NAME")
    command.add_argument("--force", action="store_true", help="overwrite a params.yaml with edits saved nowhere else")
    command.set_defaults(run=lambda options: profile(options.name, options.force))

    command = commands.add_parser("check", help="check params.yaml and the data that it names, before the first stage")
    command.set_defaults(run=lambda options: check())

    command = commands.add_parser("next", help="what to look at, and what to try, after `dvc repro`")
    command.set_defaults(run=lambda options: print("\n".join(next_steps())))

    command = commands.add_parser("deps", help="bring the lists under deps: and params: in dvc.yaml up to date")
    command.set_defaults(run=lambda options: deps())

    command = commands.add_parser(
        "chat", help="talk with a checkpoint", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    command.add_argument(
        "name", metavar="CHECKPOINT", help="its folder, for example models/dpo, or organisation/name on the hub"
    )
    command.add_argument(
        "prompts", nargs="*", metavar="PROMPT", help="turns to say, instead of reading them from the terminal"
    )
    command.add_argument("--system", default="", metavar="TEXT", help="system prompt")
    command.add_argument("--tools", action="store_true", help="let the model use a calculator")
    command.add_argument("--temperature", type=float, default=0.0, help="0 takes the most probable token each time")
    command.add_argument("--top-k", type=int, default=0, help="draw from so many tokens; 0: from all")
    command.add_argument(
        "--top-p", type=float, default=1.0, help="draw from the most probable tokens that hold this share"
    )
    command.add_argument("--max-new-tokens", type=int, default=200, help="of an answer")
    command.add_argument("--seed", type=int, default=0, help="of the draws")
    command.add_argument(
        "--rope-scaling", default="", metavar="FACTOR:LENGTH",
        help="reach FACTOR times as far as the LENGTH in tokens that the model was trained on (YaRN)",
    )  # fmt: skip
    command.add_argument(
        "--transcript", action="store_true", help="write who says what also where the output is no terminal"
    )
    command.set_defaults(run=chat)

    command = commands.add_parser(
        "doctor", help="what this machine has, which way training takes, how long it will need"
    )
    command.add_argument(
        "--seconds", type=float, default=10.0, help="of training to probe the speed with; at most 10 more will pass"
    )
    command.add_argument(
        "--family", action="store_true",
        help="instead: MiniMind's models with parameters, data, and estimated hours and cost on one rented GPU",
    )  # fmt: skip
    command.add_argument("--price", type=float, metavar="DOLLARS", help="of an hour of that GPU, for --family")
    command.add_argument("--share", type=float, help="of that GPU's peak that training reaches, for --family")
    command.set_defaults(run=doctor)

    command = commands.add_parser("estimate", help="how long `dvc repro` will take here, stage by stage")
    command.set_defaults(run=lambda options: foresee())

    command = commands.add_parser("ui", help="MLflow's page over all runs, at an address that shows them")
    command.add_argument("--port", type=int, default=5000, help="where it answers")
    command.set_defaults(run=lambda options: ui(options.port))

    command = commands.add_parser("fetch", help="download the sources of params.yaml, or check what was fetched")
    command.add_argument(
        "--verify", action="store_true", help="compare data/raw with its manifests, and with upstream where it answers"
    )
    command.set_defaults(run=lambda options: fetch(options.verify))

    command = commands.add_parser("verify", help="compare a folder with the manifest inside it")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="for example models/sft")
    command.set_defaults(run=lambda options: verify(options.folder))

    command = commands.add_parser(
        "export", help="write a checkpoint in another format", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="its folder, for example models/dpo")
    command.add_argument("--to", choices=("gguf", "onnx", "hf", "ollama"), default="hf", help="format")
    command.add_argument(
        "--quantize", choices=("f32", "f16", "bf16", "q8_0"), default="f32", help="of gguf and ollama: the matrices"
    )
    command.add_argument("--dtype", choices=("f32", "f16", "bf16"), default="f32", help="of hf: all weights")
    command.add_argument("--out", type=Path, metavar="FOLDER", help="default: exports/NAME/FORMAT-PRECISION")
    command.add_argument(
        "--text", type=Path, default=Path("data/packed/pretrain"), metavar="PATH",
        help="what perplexity is measured on: a packed data set's validation split, or a file of text",
    )  # fmt: skip
    command.add_argument("--tokens", type=int, default=20_000, help="of it, at most")
    command.add_argument("--push-to-hub", metavar="REPO", help="upload what was written to this repository")
    command.set_defaults(run=export)

    command = commands.add_parser("import", help="make a checkpoint of someone else's model")
    command.add_argument(
        "source", metavar="SOURCE", help="a folder (Llama, Qwen3, Qwen3-MoE), MiniMind's *.pth, hf://org/name@revision"
    )
    command.add_argument("out", type=Path, metavar="OUT", help="the checkpoint's folder, for example models/theirs")
    command.add_argument(
        "--tokenizer", type=Path, metavar="FOLDER", help="refuse the model unless its tokenizer is this one"
    )
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="of a *.pth, what neither names nor shapes tell, for example num_experts_per_tok=2",
    )  # fmt: skip
    command.add_argument(
        "--reference", type=Path, metavar="CHECKOUT", help="of MiniMind: compare a *.pth with its own class there"
    )
    command.set_defaults(run=adopt)

    options = parser.parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has had enough
        with contextlib.suppress(OSError):  # what is left of it goes nowhere, or Python complains at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:
        print(f"minimind: {error}", file=sys.stderr)
        return 1
    return 0


def profile(name: str, force: bool = False) -> None:
    """Make params.yaml a copy of profiles/`name`.yaml, and say so.

    Raises ConfigError where there is no such profile, and, unless `force`, where params.yaml has edits that
    stand neither in a profile nor in git's HEAD. Raises UserError where the profile can't be run.
    """
    profiles = {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path("profiles").glob("*.yaml"))}
    if name not in profiles:
        close = difflib.get_close_matches(name, profiles, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise config.ConfigError(f"there is no profiles/{name}.yaml{hint} (there are: {', '.join(profiles) or 'none'})")
    absent = _preflight(Path("profiles", f"{name}.yaml"))
    current = config.PARAMS.read_text(encoding="utf-8") if config.PARAMS.exists() else None
    if current == profiles[name]:
        _note(name)
        print("\n".join([f"params.yaml is {name} already", *absent]))
        return
    if not (force or current is None or current in (*profiles.values(), _committed()) or _placed(current, profiles)):
        raise config.ConfigError(
            "params.yaml has edits that are saved nowhere else: commit it, or copy it to profiles/<name>.yaml, "
            f"or lose them with `minimind profile --force {name}`"
        )
    files.write_text(config.PARAMS, profiles[name])
    _note(name)
    print("\n".join([f"params.yaml is now {name}; `dvc params diff` shows what changed", *absent]))


def check() -> None:
    """Check params.yaml and the data that it names. Raises UserError."""
    if absent := _preflight(config.PARAMS):
        raise config.ConfigError(f"{config.PARAMS}: {absent[0]}")
    print("params.yaml and what lies here of its data are as they should be")


def _preflight(path: Path) -> list[str]:
    from minimind import preflight  # imports torch

    return preflight.check(path)


def next_steps() -> list[str]:
    """What there is to see and to try in the current folder, as commands to copy."""
    program = ".venv/bin/minimind" if Path(".venv/bin/minimind").exists() else "minimind"
    page, checkpoints = Path("metrics/report.html"), [Path("models", name) for name in ("dpo", "sft", "pretrain")]
    steps = {str(page): "to open in a browser: scores, curves, answers side by side"} if page.exists() else {}
    for checkpoint in [folder for folder in checkpoints if (folder / files.MANIFEST).exists()][:1]:
        steps[f"{program} chat {checkpoint}"] = "to talk to the model"
    steps["make ui"] = "to see all runs in MLflow"
    width = max(map(len, steps))
    return ["What now:", *(f"    {step:<{width}}   {purpose}" for step, purpose in steps.items())]


def deps() -> None:
    """Bring dvc.yaml up to date with the code, and say whether anything changed."""
    path = Path("dvc.yaml")
    if not path.exists():
        raise config.ConfigError("there is no dvc.yaml here: run from the root of the repository")
    old = path.read_text(encoding="utf-8")
    new = declarations.complete(old, Path.cwd())
    if new == old:
        print("dvc.yaml is up to date")
    else:
        files.write_text(path, new)
        print("dvc.yaml was brought up to date; `git diff dvc.yaml` shows how")


def verify(folder: Path) -> None:
    """Compare the folder with its manifest, and say how much was compared. Raises files.CorruptError."""
    manifest = files.verify_manifest(folder)
    num_bytes = sum(entry["bytes"] for entry in manifest["files"].values())
    print(f"{folder}: {len(manifest['files'])} files, {num_bytes:,} bytes, all as they were written")


def fetch(check: bool) -> None:
    """Download what params.yaml names, for the stage to read; or check what the stage wrote. Raises UserError."""
    from minimind.sources import collection  # imports clients of hubs and clouds, which take a second

    data = config.load(collection.Params).data
    if not check:
        collection.download(data)
        print("every file that lies elsewhere is in .downloads; `dvc repro` makes records of them")
        return
    for line in collection.verify(data, Path("data/raw")):
        print(line, flush=True)


def chat(options: argparse.Namespace) -> None:
    """Talk with a checkpoint in the terminal. Raises ValueError."""
    from minimind import talk  # imports torch, which takes seconds that the other subcommands don't need
    from minimind.inference.sampling import Sampling

    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_k, options.top_p, seed=options.seed)
    scaling = talk.scaling(options.rope_scaling) if options.rope_scaling else None
    talk.main(options.name, options.prompts, sampling, options.system, options.tools, scaling, options.transcript)


def export(options: argparse.Namespace) -> None:
    """Write a checkpoint in another format. Raises ValueError."""
    from minimind.export import command

    command.main(options)


def adopt(options: argparse.Namespace) -> None:
    """Make a checkpoint of someone else's model. Raises ValueError."""
    from minimind.intake import command

    command.main(options)


def doctor(options: argparse.Namespace) -> None:
    """Say what this machine has and how fast it trains the models of params.yaml, or what the family costs.

    Raises UserError.
    """
    if options.family:
        from minimind import prices  # imports torch

        given = {"dollars_per_hour": options.price, "share": options.share}
        device = prices.Device(**{name: value for name, value in given.items() if value is not None})
        print("\n".join(prices.family(device)))
        return
    from minimind import doctor, machine

    # What counts is when the command was typed.
    for line in doctor.report(seconds=options.seconds, more=doctor.MORE_SECONDS - machine.age()):
        print(line, flush=True)


def ui(port: int) -> None:
    """Serve MLflow's page until Ctrl-C. Raises UserError."""
    from minimind import dashboard

    dashboard.main(port)


def foresee() -> None:
    """Say how long `dvc repro` will take here, stage by stage. Raises UserError."""
    from minimind.estimate import report

    for line in report():
        print(line, flush=True)


def _note(name: str) -> None:
    """Remember that params.yaml is a copy of profiles/`name`.yaml as it is now."""
    files.write_text(PLACED, f"{_digest(config.PARAMS.read_text(encoding='utf-8'))} {name}\n")


def _placed(text: str, names: Iterable[str]) -> bool:
    """Whether `profile` wrote the text last, as a copy of one of these profiles, which has been edited since."""
    noted = PLACED.read_text(encoding="utf-8").strip() if PLACED.exists() else ""
    return noted in {f"{_digest(text)} {name}" for name in names}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _committed() -> str | None:
    """params.yaml as of git's HEAD, or None where there is none."""
    command = ["git", "show", f"HEAD:./{config.PARAMS}"]
    result = subprocess.run(command, capture_output=True, check=False)
    return result.stdout.decode() if result.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
