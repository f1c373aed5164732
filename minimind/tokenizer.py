"""Byte-level BPE: training, files on disk, and the chat template that travels with them.

Every text can be encoded and comes back byte by byte: no normaliser, no prefix space, no unknown token. Ids 0 to 35
are MiniMind's markers. The files are those that AutoTokenizer of transformers 4.57 and 5 loads.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from minimind import limits, pointless
from minimind.errors import UserError
from minimind.limits import Limits, Part

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|audio_pad|>",
    "<tts_pad>",
    "<tts_text_bos>",
    "<tts_text_eod>",
    "<tts_text_bos_single>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    *(f"<|buffer{number}|>" for number in range(1, 10)),
)
"""MiniMind's markers; a marker's place is its id."""

PAD, BOS, EOS = 0, 1, 2

MEND = "take the file from where the model comes from, or make the folder anew with `dvc repro`"

NUM_HIDDEN = SPECIAL_TOKENS.index("<tool_call>")
"""Markers below this id vanish when text is decoded with skip_special_tokens; the later ones belong to the answer."""

SMALLEST = len(SPECIAL_TOKENS) + 256
"""Tokens of a vocabulary without merges: markers and bytes."""

CHAT_TEMPLATE = """\
{% set closed = enable_thinking is defined and enable_thinking == false %}
{% set instructs = ['system', 'developer'] %}
{% set returns = ['tool', 'function'] %}
{% if tools and messages[0].role not in instructs %}
{% set messages = [{'role': 'system', 'content': ''}] + messages %}
{% endif %}
{% for message in messages %}
{% set content = message.content or '' %}
{% if content[0] is mapping or content is not string %}
{% set joined = namespace(text='') %}
{% for part in content %}
{% if content is not mapping and (part is string or part.text is string) %}
{% set joined.text = joined.text ~ (part if part is string else part.text) %}
{% else %}
{{ raise_exception('a part of the content is no text') }}
{% endif %}
{% endfor %}
{% set content = joined.text %}
{% endif %}
{% set follows = message.role in returns and not loop.first and messages[loop.index0 - 1].role in returns %}
{% if not loop.first and not follows %}

{% endif %}
{% if message.role in instructs %}
<|im_start|>system
{{ content }}
{%- if tools and loop.first %}
{% if content %}

{% endif %}
# Tools
{%- for tool in tools %}

{{ (tool.function or tool) | tojson }}
{%- endfor %}
{% endif %}
<|im_end|>
{%- elif message.role == 'user' %}
<|im_start|>user
{{ content }}<|im_end|>
{%- elif message.role in returns %}
{% if not follows %}
<|im_start|>user
{% endif %}
<tool_response>{{ content }}</tool_response>
{%- if loop.last or messages[loop.index0 + 1].role not in returns %}
<|im_end|>
{%- endif %}
{% elif message.role == 'assistant' %}
{% set reasoning = (message.reasoning_content or '') | trim %}
{% set content = content | trim %}
{% if not reasoning and content.startswith('<think>') and '</think>' in content %}
{% set parts = content.split('</think>', 1) %}
{% set reasoning = parts[0][7:] | trim %}
{% set content = parts[1] | trim %}
{% endif %}
<|im_start|>assistant
{% if closed and not reasoning %}
<think></think>
{%- endif %}
{% generation %}
{% if reasoning %}
<think>{{ reasoning }}</think>
{%- endif %}
{{ content }}
{%- for call in message.tool_calls or ([message.function_call] if message.function_call else []) %}
{% set function = call.function or call %}
{% set arguments = function.arguments or {} %}
{% if arguments is string %}
{% set json = namespace(text='', quoted=false, escape='', pair=0) %}
{% for c in arguments %}
{% if json.escape %}
{% set json.escape = json.escape ~ c %}
{% if json.escape[1] != 'u' %}
{% set json.text = json.text ~ ('/' if c == '/' else json.escape) %}
{% set json.escape = '' %}
{% elif json.escape | length == 6 %}
{% set code = json.escape[2:] | int(base=16) %}
{% if 55296 <= code < 56320 %}
{% set json.pair = code %}
{% else %}
{% set code = code + 9216 + (json.pair - 55296) * 1024 if json.pair else code %}
{% set json.text = json.text ~ ('%c' | format(code) | tojson)[1:-1] %}
{% set json.pair = 0 %}
{% endif %}
{% set json.escape = '' %}
{% endif %}
{% elif json.quoted %}
{% if c == '\\\\' %}
{% set json.escape = c %}
{% else %}
{% set json.text = json.text ~ c %}
{% set json.quoted = c != '"' %}
{% endif %}
{% elif c not in ' \\n\\r\\t' %}
{% set json.text = json.text ~ c ~ (' ' if c in ',:' else '') %}
{% set json.quoted = c == '"' %}
{% endif %}
{% endfor %}
<tool_call>{"name": {{ function.name | tojson }}, "arguments": {{ json.text or '{}' }}}</tool_call>
{%- else %}
<tool_call>{"name": {{ function.name | tojson }}, "arguments": {{ arguments | tojson }}}</tool_call>
{%- endif %}
{%- endfor %}
<|im_end|>
{%- endgeneration %}
{% else %}
{{ raise_exception('unknown role ' ~ message.role) }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}

<|im_start|>assistant
{% if closed %}
<think></think>
{%- endif %}
{% endif %}
"""
"""ChatML in the manner of Qwen3, with little that a tiny model must spend its tokens on.

- An empty line stands for the newline between turns; nothing follows the last turn.
- Tools come below the system prompt, one line of JSON each. A tool's answers are a user's turn.
- `<think>`, `</think>`, `<tool_call>` and `<tool_response>` have no whitespace beside them, so an answer begins with
  the same tokens whether or not a thought comes before it. Answers and thoughts are trimmed for the same reason.
- Past thoughts stay, in training and when talking: what was learned is what is seen again.
- Thinking: the model decides by itself, and a turn without a thought has no block. `enable_thinking=False` closes an
  empty `<think></think>` before the answer, outside of what is learned. True is the same as unset, as in Qwen3.
- Conversations in OpenAI's form read as ours: the roles `developer` and `function`, `function_call`, content in parts
  of text, and arguments as JSON text, whose blanks and escapes become those of `tojson`.
- Markers stand in the template's text only, never in an expression: so `chat` tells them from data.
- Needs trim_blocks and lstrip_blocks, which transformers and llama.cpp set.
"""


@dataclass(frozen=True)
class TokenizerConfig:
    """How the vocabulary is learned. Raises ValueError naming the field."""

    # An upper bound, since a small corpus may run out of pairs to merge; markers and bytes are the lower one.
    vocab_size: Annotated[int, Limits(len(SPECIAL_TOKENS) + 256, 2**20)]
    isolate: bool  # every digit and every Han character is a piece of its own, in every context
    max_bytes: Annotated[int, Limits(1, 10**11)]  # of text to learn from, drawn over all files
    held_out_share: Part  # of the documents is kept aside, to measure bytes per token on

    def __post_init__(self) -> None:
        limits.check(self, "tokenizer")


def train(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Learn the merges from `texts`, streamed; equal texts in equal order give an equal tokenizer.

    Markers within the texts are ordinary characters here. Source: BPE, arXiv:1508.07909; on bytes, GPT-2.
    """
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    singles = pre_tokenizers.Split(Regex(r"\p{N}|\p{Han}"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([singles, words]) if config.isolate else words
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    description = json.loads(tokenizer.to_str())
    for entry in description["added_tokens"]:  # the trainer knows special tokens only
        entry["special"] = entry["id"] < NUM_HIDDEN
    return Tokenizer.from_str(json.dumps(description))


def check(tokenizer: Tokenizer, config: TokenizerConfig) -> None:
    """Raise PointlessError if there were merges to learn and none was learned; warn if few were."""
    pointless.check(
        "tokenizer: merges", tokenizer.get_vocab_size() - SMALLEST, config.vocab_size - SMALLEST,
        f"There was too little text: raise tokenizer.max_bytes, which is {config.max_bytes}, bring more documents, or "
        f"lower tokenizer.vocab_size to what they bear (at least {SMALLEST})",
    )  # fmt: skip


def save(tokenizer: Tokenizer, folder: Path, template: str = CHAT_TEMPLATE) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`, with the chat template, into an existing folder."""
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    added = json.loads(tokenizer.to_str())["added_tokens"]
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {str(entry["id"]): {k: v for k, v in entry.items() if k != "id"} for entry in added},
        "additional_special_tokens": list(SPECIAL_TOKENS[EOS + 1 : NUM_HIDDEN]),
        "bos_token": SPECIAL_TOKENS[BOS],
        "eos_token": SPECIAL_TOKENS[EOS],
        "pad_token": SPECIAL_TOKENS[PAD],
        "unk_token": SPECIAL_TOKENS[PAD],
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
    }
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> Tokenizer:
    """The tokenizer in `folder`, whoever made it. Raises FileNotFoundError, and UserError if it is none."""
    path = folder / "tokenizer.json"
    content = path.read_bytes()
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except BaseException as error:  # the library raises Exception itself, and of its panics what is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise UserError(f"{path} is no tokenizer ({' '.join(str(error).split())[:200]}): {MEND}") from error
    if not tokenizer.get_vocab_size():
        raise UserError(f"{path} has no tokens: {MEND}")
    return tokenizer


def read_config(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json in `folder` says. Raises FileNotFoundError, and UserError if it says nothing."""
    path = folder / "tokenizer_config.json"
    try:
        described = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): {MEND}") from None
    if not isinstance(described, dict):
        raise UserError(f"{path} is no JSON object: {MEND}")
    return described


def load(folder: Path) -> Tokenizer:
    """The tokenizer in `folder`. Raises FileNotFoundError; UserError if it is none; ValueError if the markers have
    other ids than ours.
    """
    path = folder / "tokenizer.json"
    tokenizer = read(folder)
    for number, token in enumerate(SPECIAL_TOKENS):
        if tokenizer.token_to_id(token) != number:
            raise ValueError(f"{path}: {token} has id {tokenizer.token_to_id(token)}, expected {number}: train it anew")
    return tokenizer


def plain(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer without its markers: whatever a text contains, none of its tokens is one."""
    description = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**description, "added_tokens": []}))


def token_bytes(tokenizer: Tokenizer) -> list[int]:
    """Number of UTF-8 bytes that each token stands for, by id; 0 for markers."""
    sizes = [0] * tokenizer.get_vocab_size()
    for token, number in tokenizer.get_vocab().items():
        if number >= len(SPECIAL_TOKENS):
            sizes[number] = len(token)  # the byte-level alphabet writes one character a byte
    return sizes
