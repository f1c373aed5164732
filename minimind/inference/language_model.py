"""`minimind.Model`: a checkpoint, ready to be used from Python.

model = Model("models/dpo")
model.predict("法国的首都是哪里？")
for piece in model.stream([{"role": "user", "content": "…"}], temperature=0.7): …
model.score("context", ["choice a", "choice b"])
"""

import os
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

from tokenizers import Tokenizer, decoders

from minimind import checkpoint, files, hardware, tokenizer, verify
from minimind.chat import NO_STOP, Chat
from minimind.config import Runtime
from minimind.errors import UserError
from minimind.generate import loglikelihood
from minimind.inference import constraints
from minimind.inference.constraints import Constraints, Form
from minimind.inference.engine import Engine, Row
from minimind.inference.network import Source
from minimind.inference.sampling import DEFAULT_NEW_TOKENS, Sampling
from minimind.inference.text import Writer, num_ids, token_byte_values
from minimind.intake import origin
from minimind.model import Decoder, RopeScaling
from minimind.score import num_common
from minimind.tokenizer import BOS, EOS

Message = dict[str, Any]
HUB = "hf://"
OPTIONS = ("tools", "tool_choice", "thinking", "schema", "regex", "batch_size")  # of conversations
Prompt = str | list[Message]
"""What a user says, or a whole conversation in MiniMind's or OpenAI's schema."""


class Model:
    """A checkpoint folder, such as `models/dpo`; `dpo` alone means the same. Or one on the Hugging Face hub, as
    `minimind export --push-to-hub` leaves it there: `organisation/name` or `organisation/name@revision`.

    Every method that answers takes the fields of `Sampling` by name (max_new_tokens, temperature, top_k, top_p, min_p,
    repetition_penalty, presence_penalty, stop, seed), and for conversations:

    - tools: list of {"name", "description"?, "parameters"}, which the model may call
    - tool_choice: "required" makes the answer one call of a tool, with arguments that its parameters allow
    - thinking: False keeps the model from thinking, True lets it think also before a constrained answer
    - schema (a JSON schema) or regex: the form that the answer has

    Answers are all that the model wrote, thoughts and calls in their markers; `reply` takes them apart. Mistakes raise
    minimind.errors.UserError and its kin.

    An imported model's own chat template writes its conversations. Without one it has `complete` and `score`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        draft: str | os.PathLike[str] | None = None,
        draft_tokens: int = 4,
        device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
        dtype: Literal["auto", "bfloat16", "float32"] = "auto",
        quantize: Literal["q8_0"] | None = None,
        threads: int = 0,
        rope_scaling: RopeScaling | None = None,
    ):
        """With `draft`, a smaller checkpoint of the same tokenizer guesses `draft_tokens` ahead, and this one checks.

        Answers keep their distribution; greedy ones stay the same. `quantize` keeps the matrices in a byte a weight,
        in the format of llama.cpp, for answers (not for `score`). threads 0: every core. `rope_scaling` takes the place
        of the checkpoint's own.
        """
        if quantize not in (None, "q8_0"):
            raise UserError(f"quantize is {quantize!r}, expected q8_0 or nothing")
        if draft_tokens < 1:
            raise UserError(f"draft_tokens is {draft_tokens}, expected 1 or more; leave `draft` out for none")
        self.folder = _found(os.fspath(folder))
        runtime = Runtime(device=device, dtype=dtype, threads=threads, compile="off")
        self._device, self._dtype = hardware.setup(runtime)
        self.decoder, self._tokenizer = self._load(self.folder, rope_scaling)
        self._text_tokenizer = tokenizer.plain(self._tokenizer)
        self._chat: Chat | None = None
        self._begin, stop = [BOS], EOS
        try:
            self._chat = Chat(self.folder)
        except UserError as error:
            self._no_chat = error
        if self._chat is None or self._chat.why_foreign:  # documents of an imported model begin and end in its own way
            ids = checkpoint.special_ids(self.folder)
            self._begin = [ids["bos_token_id"]] if "bos_token_id" in ids else []
            stop = ids.get("eos_token_id", NO_STOP) if self._chat is None else self._chat.stop
        self._constraints: Constraints | None = None
        source = Source(self.decoder, quantize is not None)
        self._precision = source.precision
        self._engine = Engine(
            source,
            stop,
            None if draft is None else Source(self._draft(os.fspath(draft), rope_scaling), quantize is not None),
            draft_tokens,
        )

    def __repr__(self) -> str:
        config = self.decoder.config
        kind = f"{config.num_experts} experts, " if config.use_moe else ""
        return (
            f"Model({os.fspath(self.folder)!r}: {self.decoder.num_parameters():,} parameters, {kind}"
            f"{config.vocab_size:,} tokens, {self.max_tokens:,} positions, {self._precision} on {self._device})"
        )

    def _load(self, folder: Path, rope_scaling: RopeScaling | None) -> tuple[Decoder, Tokenizer]:
        decoder, words = checkpoint.load(folder, self._dtype), tokenizer.read(folder)
        size = num_ids(words)
        if size > decoder.config.vocab_size:
            raise UserError(
                f"{folder / 'tokenizer.json'} has a token with id {size - 1}, and the model's embedding has "
                f"{decoder.config.vocab_size} rows: it is another model's tokenizer"
            )
        decoder.cut_vocabulary(size)
        if rope_scaling is not None:
            decoder.rescale(rope_scaling)
        return decoder.to(self._device).requires_grad_(False), words

    def _draft(self, name: str, rope_scaling: RopeScaling | None) -> Decoder:
        folder = _found(name)
        if tokenizer.read(folder).to_str() != self._tokenizer.to_str():
            raise UserError(
                f"{folder} has another tokenizer than {self.folder}: a draft must write the same tokens; take a "
                "checkpoint of the same pipeline, for example its student"
            )
        decoder, _ = self._load(folder, rope_scaling)
        if decoder.config.max_position_embeddings < self.max_tokens:
            raise UserError(
                f"{folder} takes {decoder.config.max_position_embeddings} tokens, {self.folder} {self.max_tokens}: a "
                "draft must reach as far (model.max_position_embeddings)"
            )
        return decoder

    @property
    def chat(self) -> Chat:
        """Conversations in its tokens. Raises UserError for an imported model without a chat template."""
        if self._chat is None:
            raise UserError(
                f"{self.folder} holds no conversations: {self._no_chat}; `complete` and `score` take plain text"
            ) from self._no_chat
        return self._chat

    @cached_property
    def _written(self) -> list[bytes]:
        if not isinstance(self._tokenizer.decoder, decoders.ByteLevel):
            raise UserError(
                f"{self.folder / 'tokenizer.json'} is no byte-level BPE, and of others text can't be written token by "
                "token here: `score` works, and transformers writes"
            )
        return token_byte_values(self._tokenizer)

    @property
    def max_tokens(self) -> int:
        """Tokens that prompt and answer can have together."""
        return self.decoder.config.max_position_embeddings

    @overload
    def predict(self, prompt: Prompt, **options: Any) -> str: ...
    @overload
    def predict(
        self, prompt: list[str] | list[list[Message]], *, batch_size: int = 32, **options: Any
    ) -> list[str]: ...
    def predict(self, prompt: Any, *, batch_size: int = 32, **options: Any) -> str | list[str]:
        """The answer to a prompt, or a list of them to a list of prompts, decoded side by side."""
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}, expected 1 or more prompts at a time")
        single = _is_single(prompt)
        texts = [row.text for row in self._finished([prompt] if single else prompt, batch_size, options)]
        return texts[0] if single else texts

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[str]:
        """The same answer piece by piece, as soon as its text is settled; mistakes are raised at once."""
        return self._pieces(self._rows([prompt], **options))

    def reply(self, prompt: Prompt, **options: Any) -> Message:
        """The answer as a message, to be appended: {"role", "content", "reasoning_content"?, "tool_calls"?,
        "finish_reason"}.

        finish_reason: "stop" if the answer came to its end; "length" if it was cut at `max_new_tokens` or at the last
        position of the model, so that JSON or a call is not whole; "tool_calls" if it ends and makes some.
        With `tool_choice="required"` there are always "tool_calls", an empty list where the answer was cut.
        """
        (row,) = self._finished([prompt], 1, options)
        message = verify.message(row.text)
        if options.get("tool_choice") == "required":
            message.setdefault("tool_calls", [])
        reason = "tool_calls" if row.end == "stop" and message.get("tool_calls") else row.end
        return message | {"finish_reason": reason}

    def complete(self, text: str, **options: Any) -> str:
        """What follows `text` in a document, for a base model, which knows no conversations: fields of `Sampling`."""
        prompt = [*self._begin, *self._encode(text)]
        if not prompt:
            raise UserError(f"the text is empty, and {self.folder} has no token that texts begin with: give some text")
        return "".join(self._pieces([self._row(0, prompt, Sampling.of(options), None)]))

    def score(self, context: str, choices: Sequence[str]) -> list[float]:
        """Log-probability, in nats, of each choice as what follows `context` in a document."""
        before = self._encode(context)
        texts = [self._encode(context + choice) for choice in choices]
        # A merge across the border makes the context's last tokens part of the choice.
        borders = [num_common(before, text) for text in texts]
        for number, (text, border) in enumerate(zip(texts, borders, strict=True)):
            if border == len(text):
                raise UserError(f"choice {number} is empty: there is nothing to score")
            if not border and not self._begin:
                raise UserError(
                    f"no token stands before choice {number}, and {self.folder} has none that texts begin with: "
                    "lengthen the context"
                )
        scores = loglikelihood(
            self.decoder,
            [[*self._begin, *text[:border]] for text, border in zip(texts, borders, strict=True)],
            [text[border:] for text, border in zip(texts, borders, strict=True)],
        )
        return [total for total, _ in scores]

    def _finished(self, prompts: Sequence[Prompt], batch_size: int, options: dict[str, Any]) -> list[Row]:
        rows = self._rows(prompts, **options)
        for _ in self._engine.run(rows, batch_size):
            pass
        return rows

    def _encode(self, text: str) -> list[int]:
        return self._text_tokenizer.encode(text, add_special_tokens=False).ids

    def _pieces(self, rows: list[Row]) -> Iterator[str]:
        for row in self._engine.run(rows):
            if piece := row.take():
                yield piece

    def _rows(
        self,
        prompts: Sequence[Prompt],
        *,
        tools: Sequence[dict[str, Any]] | None = None,
        tool_choice: Literal["auto", "required"] = "auto",
        thinking: bool | None = None,
        schema: dict[str, Any] | str | None = None,
        regex: str | None = None,
        **options: Any,
    ) -> list[Row]:
        form = _form(tools, tool_choice, thinking, schema, regex)
        if form is not None and form.has_markers and self.chat.why_foreign:
            self._check_markers()
        sampling = Sampling.of(options, OPTIONS)
        conversations = [[{"role": "user", "content": p}] if isinstance(p, str) else p for p in prompts]
        return [
            self._row(number, self.chat.prompt(messages, list(tools or []), thinking), sampling, form)
            for number, messages in enumerate(conversations)
        ]

    def _check_markers(self) -> None:
        """Raise UserError unless thoughts and calls have the markers of ours, by which a form holds them apart."""
        try:
            tokenizer.check_markers(self._tokenizer, self.folder)
        except ValueError as error:
            raise UserError(
                f"{self.folder} has other markers than MiniMind's, so neither tool_choice='required' nor a thought "
                f"before a form can be asked of it: leave them out ({error})"
            ) from None

    def _row(self, number: int, prompt: list[int], sampling: Sampling, form: Form | None) -> Row:
        room = self.max_tokens - len(prompt)
        wanted = sampling.max_new_tokens
        if room < (wanted or 1):
            raise UserError(
                f"prompt {number} has {len(prompt)} tokens, which leaves {max(room, 0)} of the model's "
                f"{self.max_tokens} for the answer: shorten it{'' if wanted is None else ', or lower max_new_tokens'}"
            )
        constraint = None
        if form is not None:
            if self._constraints is None:
                self._constraints = Constraints(self.folder, self.decoder.config.vocab_size, self.chat.stop)
            constraint = self._constraints.make(form)
        return Row(
            prompt,
            sampling,
            wanted or min(room, DEFAULT_NEW_TOKENS),
            Writer(self._written, tuple(sampling.stop)),
            constraint,
            number,
        )


def _found(name: str) -> Path:
    """The checkpoint of this name: a folder, one under models/, or one of the hub. Raises UserError."""
    for folder in (Path(name), Path("models") / name):
        if folder.is_dir():
            return folder
    place = name.removeprefix(HUB)
    owner = place.partition("/")[0]
    # What begins with a folder that is here, or belongs here, is a mistyped path.
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", place) or owner == "models" or Path(owner).is_dir():
        raise UserError(
            f"{name} is no folder: name a checkpoint, for example models/dpo, which `dvc repro` makes, or one on the "
            "hub, organisation/name@revision"
        )
    found = origin.locate(HUB + place).path
    if not (found / files.MANIFEST).is_file() or "model" not in files.read_manifest(found):
        raise UserError(
            f"{name} is no checkpoint of minimind's: `minimind import {HUB}{place} models/theirs` makes one of a "
            "Llama, Qwen3 or Qwen3-MoE"
        )
    return found


def _is_single(prompt: object) -> bool:
    if isinstance(prompt, str):
        return True
    if not isinstance(prompt, list):
        raise UserError(f"the prompt is {type(prompt).__name__}, expected text, a list of messages, or a list of those")
    return bool(prompt) and isinstance(prompt[0], dict)


def _form(
    tools: Sequence[dict[str, Any]] | None,
    tool_choice: str,
    thinking: bool | None,
    schema: dict[str, Any] | str | None,
    regex: str | None,
) -> Form | None:
    if tool_choice not in ("auto", "required"):
        raise UserError(f"tool_choice is {tool_choice!r}, expected auto or required")
    if (tool_choice == "required") + (schema is not None) + (regex is not None) > 1:
        raise UserError("an answer has one form: pass one of schema, regex and tool_choice='required'")
    if schema is not None:
        return constraints.schema(schema, thinking is True)
    if regex is not None:
        return constraints.regex(regex, thinking is True)
    return constraints.call(tools or [], thinking is True) if tool_choice == "required" else None
