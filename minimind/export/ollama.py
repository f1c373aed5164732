"""A checkpoint for Ollama: a GGUF file and a Modelfile beside it.

    ollama create my-model --file exports/dpo/ollama-f32/Modelfile

Ollama has templates of its own, in Go, and takes from them whether a model can think and call tools. TEMPLATE says what
tokenizer.CHAT_TEMPLATE says, with differences that are not in its hands: Ollama hands it content as text and arguments
as objects, whatever a client sent; it writes a tool's description and a
call's arguments as JSON without spaces, orders the keys of a tool's parameters itself (type, required, properties)
and drops those that it does not know, and it trims neither answers nor thoughts.
"""

from pathlib import Path

from minimind import files
from minimind.export import gguf
from minimind.export.contents import Contents, ExportError
from minimind.tokenizer import CHAT_TEMPLATE

TEMPLATE = """\
{{- $closed := and .IsThinkSet (not .Think) -}}
{{- $tools := .Tools -}}
{{- $previous := "" -}}
{{- $first := (index .Messages 0).Role -}}
{{- if and $tools (ne $first "system") (ne $first "developer") -}}
<|im_start|>system
# Tools{{ range $tools }}
{{ .Function }}{{ end }}<|im_end|>
{{- $previous = "system" -}}
{{- end -}}
{{- range $number, $message := .Messages -}}
{{- $follows := and (eq .Role "tool") (eq $previous "tool") -}}
{{- if and $previous (not $follows) }}
{{ end -}}
{{- if or (eq .Role "system") (eq .Role "developer") -}}
<|im_start|>system
{{ .Content }}
{{- if and $tools (eq $number 0) }}{{ if .Content }}
{{ end }}# Tools{{ range $tools }}
{{ .Function }}{{ end }}{{ end }}<|im_end|>
{{- else if eq .Role "user" -}}
<|im_start|>user
{{ .Content }}<|im_end|>
{{- else if eq .Role "tool" -}}
{{ if not $follows }}<|im_start|>user
{{ end }}<tool_response>{{ .Content }}</tool_response>
{{- $rest := slice $.Messages $number }}{{ $ends := true -}}
{{ if gt (len $rest) 1 }}{{ $ends = ne (index $rest 1).Role "tool" }}{{ end -}}
{{ if $ends }}<|im_end|>{{ end -}}
{{- else if eq .Role "assistant" -}}
<|im_start|>assistant
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ else if $closed }}<think></think>{{ end }}{{ .Content }}
{{- range .ToolCalls }}<tool_call>{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}</tool_call>
{{- end }}<|im_end|>
{{- end -}}
{{- $previous = .Role -}}
{{- end }}
<|im_start|>assistant
{{ if $closed }}<think></think>{{ end }}"""


def write(contents: Contents, folder: Path, quantize: str) -> None:
    """Write `folder` with the GGUF file and the Modelfile, atomically.

    Raises ExportError for a chat template that is not ours, and for what GGUF can't hold.
    """
    if contents.tokenizer_config.get("chat_template") != CHAT_TEMPLATE:
        raise ExportError(
            f"{contents.folder / 'tokenizer_config.json'}: the chat_template is not the one that this code has in "
            "Ollama's language: export it with `--to gguf`, and write a Modelfile with its author's template"
        )
    with files.folder(folder) as partial:
        name = f"{contents.name}-{quantize}.gguf"
        gguf.write(contents, partial / name, quantize)
        files.write_text(partial / "Modelfile", modelfile(contents, name))
        files.write_text(partial / "README.md", contents.card("ollama"))


def modelfile(contents: Contents, name: str) -> str:
    """The Modelfile beside a GGUF file called `name`; its sampling is that of generation_config.json."""
    drawn = contents.generation if contents.generation.get("do_sample") else {"temperature": 0}
    parameters = {
        "stop": '"<|im_end|>"',  # with which TEMPLATE ends an answer
        "num_ctx": contents.config["max_position_embeddings"],
        **{key: drawn[key] for key in ("temperature", "top_k", "top_p", "min_p") if key in drawn},
    }
    lines = [f"PARAMETER {key} {value}" for key, value in parameters.items()]
    return "\n".join([f"FROM ./{name}", f'TEMPLATE """{TEMPLATE}"""', *lines]) + "\n"
