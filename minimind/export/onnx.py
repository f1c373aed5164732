"""A checkpoint as an ONNX graph with a cache of keys and values, written node by node.

| input                         | shape, type         | output                | shape, type            |
|-------------------------------|---------------------|-----------------------|------------------------|
| input_ids, position_ids       | (B, T) int64        | logits                | (B, T, V) fp32         |
| attention_mask                | (B, P + T) int64    | present.i.key, .value | (B, G, P + T, K) fp32  |
| past_key_values.i.key, .value | (B, G, P, K) fp32   |                       |                        |

B batch, T new tokens, P tokens in the cache (0 at first), V vocabulary, G key/value heads, K head width, i layer.
The names and the folder are those that optimum and transformers.js expect. Standard
operators of opset 18 only. Experts are visited sparsely: each takes the tokens that chose it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from minimind import checkpoint, files
from minimind.export.contents import Contents
from minimind.intake import huggingface
from minimind.model import rotary_table

OPSET = 18
IR_VERSION = 9
MASKED = float(np.finfo(np.float32).min)  # no infinity: a row of padding sees nothing at all
MAX_FILE_BYTES = 1 << 30  # protobuf ends at 2 GiB; above this, weights go into a file beside the graph


def write(contents: Contents, folder: Path) -> None:
    """Write `folder`/onnx/model.onnx with the tokenizer and the configuration beside it, atomically, in fp32.

    Raises ExportError for a kind of model that is not written to ONNX.
    """
    contents.check_kind("ONNX")
    graph = Graph()
    Network(graph, contents).build()
    model = graph.model()
    with files.folder(folder) as partial:
        (partial / "onnx").mkdir()
        path = partial / "onnx" / "model.onnx"
        if graph.num_bytes > MAX_FILE_BYTES:
            onnx.save_model(model, path, save_as_external_data=True, location="model.onnx_data")
        else:
            onnx.save_model(model, path)
        onnx.checker.check_model(path, full_check=True)
        files.write_text(partial / "README.md", contents.card("onnx"))
        for name in ("config.json", "generation_config.json", *checkpoint.TOKENIZER_FILES):
            (partial / name).write_bytes((contents.folder / name).read_bytes())


class Graph:
    """Nodes, weights, inputs and outputs as they come; every method returns the name of what it added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def node(self, operator: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes: Any) -> Any:
        """One output's name, or the list of several."""
        names = [name or f"{operator}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, name: str, value: Tensor | np.ndarray) -> str:
        """A constant of the file, written once."""
        if name not in self.weights:
            array = value if isinstance(value, np.ndarray) else value.detach().contiguous().numpy()
            self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def integers(self, *values: int) -> str:
        """A vector of int64."""
        return self.weight(f"integers_{'_'.join(map(str, values))}", np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        """A scalar, fp32."""
        return self.weight(f"number_{value!r}", np.array(value, dtype=np.float32))

    def input(self, name: str, kind: int, shape: list[str | int]) -> str:
        """An input of the graph."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, shape: list[str | int]) -> None:
        """Declare what a node named `name` as an output of the graph, fp32."""
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    @property
    def num_bytes(self) -> int:
        """Size of the weights."""
        return sum(weight.ByteSize() for weight in self.weights.values())

    def model(self) -> onnx.ModelProto:
        """The whole, to be saved."""
        graph = helper.make_graph(
            self.nodes, "minimind", self.inputs, self.outputs, initializer=list(self.weights.values())
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


class Network:
    """The decoder of minimind.model, one method for each of its parts."""

    def __init__(self, graph: Graph, contents: Contents):
        self.graph, self.config, self.tensors = graph, contents.config, contents.tensors
        self.rotary_table = rotary_table(huggingface.translate(self.config, contents.folder / "config.json"))
        self.heads, self.groups = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        self.width = self.config["head_dim"]

    def build(self) -> None:
        """Fill the graph."""
        g = self.graph
        ids = g.input("input_ids", TensorProto.INT64, ["batch", "tokens"])
        mask = g.input("attention_mask", TensorProto.INT64, ["batch", "past + tokens"])
        positions = g.input("position_ids", TensorProto.INT64, ["batch", "tokens"])
        g.output("logits", ["batch", "tokens", self.config["vocab_size"]])
        embedding = g.weight("model.embed_tokens.weight", self.tensors["model.embed_tokens.weight"])
        x = g.node("Gather", embedding, ids)
        turns = [
            g.node("Unsqueeze", g.node("Gather", g.weight(name, table), positions), g.integers(1))
            for name, table in zip(("cos", "sin"), self.rotary_table, strict=True)
        ]
        allowed = self.allowed(ids, mask)
        for layer in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{layer}"
            h = self.norm(x, f"{name}.input_layernorm")
            x = g.node("Add", x, self.attention(h, layer, turns, allowed))
            h = self.norm(x, f"{name}.post_attention_layernorm")
            experts = self.config["model_type"] == "qwen3_moe"
            x = g.node("Add", x, self.experts(h, f"{name}.mlp") if experts else self.feed_forward(h, f"{name}.mlp"))
        h = self.norm(x, "model.norm")
        if self.config["tie_word_embeddings"]:
            g.node("MatMul", h, g.node("Transpose", embedding, perm=[1, 0]), name="logits")
        else:
            g.node("MatMul", h, self.matrix("lm_head"), name="logits")

    def allowed(self, ids: str, mask: str) -> str:
        """bool (B, 1, T, P + T): real keys that are not later than the query."""
        g = self.graph
        tokens = g.node("Shape", ids, start=1, end=2)
        total = g.node("Shape", mask, start=1, end=2)
        zero, one = g.weight("zero", np.array(0)), g.weight("one", np.array(1))
        scalar = g.integers()
        end = g.node("Reshape", total, scalar)
        keys = g.node("Range", zero, end, one)
        queries = g.node("Range", g.node("Reshape", g.node("Sub", total, tokens), scalar), end, one)
        causal = g.node("LessOrEqual", keys, g.node("Unsqueeze", queries, g.integers(1)))
        real = g.node("Unsqueeze", g.node("Greater", mask, zero), g.integers(1, 2))
        return str(g.node("And", causal, real))

    def matrix(self, name: str) -> str:
        """A weight in the order in which MatMul wants it: (inputs, outputs)."""
        return self.graph.weight(f"{name}.weight", self.tensors[f"{name}.weight"].T)

    def norm(self, x: str, name: str) -> str:
        """RMSNorm over the last dimension."""
        g = self.graph
        mean = g.node("ReduceMean", g.node("Mul", x, x), g.integers(-1))
        root = g.node("Sqrt", g.node("Add", mean, g.number(self.config["rms_norm_eps"])))
        return str(g.node("Mul", g.node("Div", x, root), g.weight(f"{name}.weight", self.tensors[f"{name}.weight"])))

    def attention(self, x: str, layer: int, turns: list[str], allowed: str) -> str:
        """Grouped heads over the cache and these tokens; the longer cache becomes an output."""
        g, name = self.graph, f"model.layers.{layer}.self_attn"
        past_shape: list[str | int] = ["batch", self.groups, "past", self.width]
        parts = {}
        for part, heads in (("q", self.heads), ("k", self.groups), ("v", self.groups)):
            y = g.node("MatMul", x, self.matrix(f"{name}.{part}_proj"))
            y = g.node("Reshape", y, g.integers(0, 0, heads, self.width))
            if f"{name}.{part}_norm.weight" in self.tensors:
                y = self.norm(y, f"{name}.{part}_norm")
            y = g.node("Transpose", y, perm=[0, 2, 1, 3])
            parts[part] = y if part == "v" else self.rotate(y, turns)
        for part, kind in (("k", "key"), ("v", "value")):
            past = g.input(f"past_key_values.{layer}.{kind}", TensorProto.FLOAT, past_shape)
            parts[part] = g.node("Concat", past, parts[part], axis=2, name=f"present.{layer}.{kind}")
            g.output(parts[part], ["batch", self.groups, "past + tokens", self.width])
        # (B, G, H / G, T, K) against (B, G, 1, P + T, K): keys and values are read in place.
        q = g.node("Mul", parts["q"], g.number(self.width**-0.5))
        q = g.node("Reshape", q, g.integers(0, self.groups, self.heads // self.groups, -1, self.width))
        k = g.node("Unsqueeze", g.node("Transpose", parts["k"], perm=[0, 1, 3, 2]), g.integers(2))
        v = g.node("Unsqueeze", parts["v"], g.integers(2))
        seen = g.node("Unsqueeze", allowed, g.integers(1))
        scores = g.node("Where", seen, g.node("MatMul", q, k), g.number(MASKED))
        y = g.node("MatMul", g.node("Softmax", scores, axis=-1), v)
        y = g.node("Reshape", y, g.integers(0, self.heads, -1, self.width))
        y = g.node("Reshape", g.node("Transpose", y, perm=[0, 2, 1, 3]), g.integers(0, 0, self.heads * self.width))
        return str(g.node("MatMul", y, self.matrix(f"{name}.o_proj")))

    def rotate(self, x: str, turns: list[str]) -> str:
        """Turn the pairs (i, i + K/2) of (B, H, T, K)."""
        g, (cos, sin) = self.graph, turns
        a, b = g.node("Split", x, outputs=2, axis=-1, num_outputs=2)
        first = g.node("Sub", g.node("Mul", a, cos), g.node("Mul", b, sin))
        second = g.node("Add", g.node("Mul", b, cos), g.node("Mul", a, sin))
        return str(g.node("Concat", first, second, axis=-1))

    def feed_forward(self, x: str, name: str) -> str:
        """SwiGLU."""
        g = self.graph
        gate = g.node("MatMul", x, self.matrix(f"{name}.gate_proj"))
        up = g.node("MatMul", x, self.matrix(f"{name}.up_proj"))
        inner = g.node("Mul", g.node("Mul", gate, g.node("Sigmoid", gate)), up)
        return str(g.node("MatMul", inner, self.matrix(f"{name}.down_proj")))

    def experts(self, x: str, name: str) -> str:
        """Feed-forwards behind a router."""
        g, top_k = self.graph, self.config["num_experts_per_tok"]
        flat = g.node("Reshape", x, g.integers(-1, self.config["hidden_size"]))
        probabilities = g.node("Softmax", g.node("MatMul", flat, self.matrix(f"{name}.gate")), axis=-1)
        weights, chosen = g.node("TopK", probabilities, g.integers(top_k), outputs=2, axis=-1)
        if self.config["norm_topk_prob"]:
            weights = g.node("Div", weights, g.node("ReduceSum", weights, g.integers(-1)))
        out = g.node("Sub", flat, flat)
        for expert in range(self.config["num_experts"]):
            number = g.weight(f"expert_{expert}", np.array(expert))
            visits = g.node("Transpose", g.node("NonZero", g.node("Equal", chosen, number)), perm=[1, 0])
            rows = g.node("Gather", visits, g.integers(0), axis=1)
            taken = g.node("GatherND", flat, rows)
            share = g.node("Unsqueeze", g.node("GatherND", weights, visits), g.integers(1))
            made = g.node("Mul", self.feed_forward(taken, f"{name}.experts.{expert}"), share)
            out = g.node("ScatterND", out, rows, made, reduction="add")
        return str(g.node("Reshape", out, g.node("Shape", x)))
