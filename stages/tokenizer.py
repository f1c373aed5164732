"""Stage tokenizer: clean texts, or the base → vocabulary, and how well it compresses text that it has not seen."""

from dataclasses import dataclass
from pathlib import Path

from minimind import config, corpus, files, process, tokenizer
from minimind.chat import Template
from minimind.intake import vocabulary
from minimind.progress import Progress
from minimind.tokenizer import CHAT_TEMPLATE, TokenizerConfig


@dataclass(frozen=True)
class Params:
    base: bool
    tokenizer: TokenizerConfig


def main(base: Path, pretrain: Path, sft: Path, out: Path, metrics: Path) -> None:
    given = config.load(Params)
    params = given.tokenizer
    process.claim("tokenizer")
    folders = [pretrain, sft]
    files.verify(pretrain, sft)
    template = Template(CHAT_TEMPLATE)
    share = min(1.0, params.max_bytes / max(1, corpus.size(folders)))
    held_out = params.held_out_share
    with files.folder(out) as folder:
        if given.base:
            trained = vocabulary.adopt(base / "model", folder)
        else:
            learned = corpus.texts(folders, template, held_out, held_out + (1 - held_out) * share)
            with Progress("tokenizer", None, "document") as bar:
                trained = tokenizer.train((piece for pieces in bar.over(learned) for piece in pieces), params)
            tokenizer.check(trained, params)
            tokenizer.save(trained, folder)
        files.write_manifest(folder)
    with Progress("tokenizer: held out", None, "document") as bar:
        unseen = bar.over(corpus.texts(folders, template, 0, held_out * share))
        by_language = corpus.compression(tokenizer.plain(trained), unseen)
    files.write_json(metrics, {"vocab_size": trained.get_vocab_size(), "held_out": by_language})


if __name__ == "__main__":
    process.run(main)
