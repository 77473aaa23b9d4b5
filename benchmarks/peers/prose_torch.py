"""PROSE-ODE's 2-to-2 model in plain PyTorch, to compare time and results with: the published layers and order of norms.

Rows are `(batch, rows, width)`. Attention is PyTorch's fused one; keys and values of one tensor are one product.
"""

import numpy as np
import prose_problems as problems
import torch
import torch.nn.functional as F

BEGIN = 0  # any token will do
Pair = tuple[torch.Tensor, torch.Tensor]


class Prose:
    """The model; weights are a dict, by the names of the published state dict."""

    def __init__(self, settings: dict) -> None:
        self.weights = {name: torch.from_numpy(array) for name, array in problems.weights(settings).items()}
        for name, weight in self.weights.items():
            weight.requires_grad_("position" not in name)
        self.heads, self.layers = settings["heads"], settings["layers"]

    def parameters(self) -> list[torch.Tensor]:
        return [weight for weight in self.weights.values() if weight.requires_grad]

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-12)

    def project(self, x: torch.Tensor, name: str, first: int, last: int) -> list[torch.Tensor]:
        """Those of query, key and value (0, 1, 2) from `first` to before `last`, `(batch, heads, rows, size)`."""
        weight, bias = (self.weights[f"{name}.in_proj_{kind}"] for kind in ("weight", "bias"))
        if last - first < 3:
            rows = slice(first * x.shape[-1], last * x.shape[-1])
            weight, bias = weight[rows], bias[rows]
        packed = F.linear(x, weight, bias)
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in packed.chunk(last - first, dim=-1)]

    def attend(self, query, key, value, name: str, mask=None, causal: bool = False) -> torch.Tensor:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self.linear(mixed.transpose(1, 2).flatten(2), f"{name}.out_proj")

    def network(self, x: torch.Tensor, name: str, i: int) -> torch.Tensor:
        hidden = F.gelu(self.linear(x, f"{name}.ffns.{i}.lin1"))
        return self.norm(x + self.linear(hidden, f"{name}.ffns.{i}.lin2"), f"{name}.layer_norm2.{i}")

    def encoder(self, x: torch.Tensor, name: str, mask: torch.Tensor | None = None) -> torch.Tensor:
        x = self.norm(x, f"{name}.layer_norm_emb")
        for i in range(self.layers[name]):
            own = f"{name}.attentions.{i}.attn"
            x = self.norm(x + self.attend(*self.project(x, own, 0, 3), own, mask), f"{name}.layer_norm1.{i}")
            x = self.network(x, name, i)
        return x

    def embedded(self, tokens: torch.Tensor, name: str, start: int = 0) -> torch.Tensor:
        places = self.weights[f"{name}.position_embeddings.weight"][start : start + tokens.shape[1]]
        return F.embedding(tokens, self.weights[f"{name}.embeddings.weight"]) + places

    def encode(self, times, states, tokens, mask) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the trajectory and of the equation; the mask is true where a token stands."""
        pairs = torch.cat((times[..., None], states), dim=-1)
        data = self.linear(F.gelu(self.linear(pairs, "embedder.0")), "embedder.2")
        data = self.encoder(data, "data_encoder")
        symbols = self.encoder(self.embedded(tokens, "text_encoder"), "text_encoder", mask[:, None, None])
        kinds = self.weights["fusion.type_embeddings.weight"]
        both = torch.cat((data + kinds[0], symbols + kinds[1]), dim=1)
        seen = torch.cat((torch.ones_like(times, dtype=torch.bool), mask), dim=1)
        fused = self.encoder(both, "fusion", seen[:, None, None])
        return fused[:, : times.shape[1]], fused[:, times.shape[1] :]

    def predict(self, data: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        name = "data_decoder"
        x = self.norm(self.linear(times[..., None], f"{name}.query_embedder"), f"{name}.layer_norm_emb")
        for i in range(self.layers[name]):
            own = f"{name}.attentions.{i}.attn"
            (query,), memory = self.project(x, own, 0, 1), self.project(data, own, 1, 3)
            x = self.norm(x + self.attend(query, *memory, own), f"{name}.layer_norm1.{i}")
            x = self.network(x, name, i)
        return self.linear(x, f"{name}.proj")

    def logits(self, symbols: torch.Tensor, mask: torch.Tensor, equation: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embedded(equation, "text_decoder"), "text_decoder.layer_norm_emb")
        for i in range(self.layers["text_decoder"]):
            own = f"text_decoder.attentions.{i}.attn"
            change = self.attend(*self.project(x, own, 0, 3), own, causal=True)
            x = self.read(x + change, self.remember(symbols, i), mask, i)
        return self.words(x)

    def remember(self, symbols: torch.Tensor, i: int) -> list[torch.Tensor]:
        """Keys and values of the memory in a layer of the decoder."""
        return self.project(symbols, f"text_decoder.encoder_attn.{i}.attn", 1, 3)

    def read(self, x: torch.Tensor, memory: list[torch.Tensor], mask: torch.Tensor, i: int) -> torch.Tensor:
        """What follows the attention of the rows to themselves in a layer of the decoder."""
        other = f"text_decoder.encoder_attn.{i}.attn"
        x = self.norm(x, f"text_decoder.layer_norm1.{i}")
        (query,) = self.project(x, other, 0, 1)
        change = self.attend(query, *memory, other, mask[:, None, None])
        return self.network(self.norm(x + change, f"text_decoder.layer_norm15.{i}"), "text_decoder", i)

    def words(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weights["text_decoder.embeddings.weight"], self.weights["text_decoder.proj.bias"])

    def recomputed(self, symbols: torch.Tensor, mask: torch.Tensor, length: int) -> torch.Tensor:
        """The likeliest tokens; each step goes through all tokens so far, as the published code does."""
        tokens = torch.full((len(symbols), 1), BEGIN)
        for _ in range(length):
            best = self.logits(symbols, mask, tokens)[:, -1:].argmax(-1)
            tokens = torch.cat((tokens, best), dim=1)
        return tokens[:, 1:]

    def cached(self, symbols: torch.Tensor, mask: torch.Tensor, length: int) -> torch.Tensor:
        """The same; keys and values are kept."""
        depth, name = self.layers["text_decoder"], "text_decoder"
        memory = [self.remember(symbols, i) for i in range(depth)]
        shape = len(symbols), self.heads, length, symbols.shape[-1] // self.heads
        kept: list[Pair] = [(symbols.new_zeros(shape), symbols.new_zeros(shape)) for _ in range(depth)]
        tokens = torch.full((len(symbols), length + 1), BEGIN)
        for t in range(length):
            x = self.norm(self.embedded(tokens[:, t : t + 1], name, t), f"{name}.layer_norm_emb")
            for i, pair in enumerate(kept):
                own = f"{name}.attentions.{i}.attn"
                query, *new = self.project(x, own, 0, 3)
                for all_, one in zip(pair, new, strict=True):
                    all_[:, :, t : t + 1] = one
                change = self.attend(query, *(all_[:, :, : t + 1] for all_ in pair), own)
                x = self.read(x + change, memory[i], mask, i)
            tokens[:, t + 1] = self.words(x)[:, 0].argmax(-1)
        return tokens[:, 1:]


def inputs(settings: dict) -> dict[str, torch.Tensor]:
    """The batch, with tokens as PyTorch wants them."""
    given = {name: torch.from_numpy(array) for name, array in problems.batch(settings).items()}
    return given | {name: given[name].long() for name in ("tokens", "equation")}


def _info(model: Prose, **more) -> dict:
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), "parameters": parameters, **more}


def decode(settings: dict) -> dict:
    """Settings: those of the model, and `cache` (bool)."""
    model, given, n = Prose(settings), inputs(settings), settings["data"]
    write = model.cached if settings.get("cache") else model.recomputed
    mask = given["tokens_mask"]
    with torch.inference_mode():
        _, symbols = model.encode(given["times"][:, :n], given["states"][:, :n], given["tokens"], mask)

    def decode():
        with torch.inference_mode():
            return write(symbols, mask, settings["length"])

    tokens = decode().numpy()
    return {"decode": decode, "outputs": tokens.astype(np.float64), "info": _info(model, tokens=tokens.size)}


def outputs(model: Prose, given: dict[str, torch.Tensor], n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Predicted states and logits of the equation, `n` states given."""
    times, states, equation = given["times"], given["states"], given["equation"]
    data, symbols = model.encode(times[:, :n], states[:, :n], given["tokens"], given["tokens_mask"])
    return model.predict(data, times[:, n:]), model.logits(symbols, given["tokens_mask"], equation[:, :-1])


def loss(model: Prose, given: dict[str, torch.Tensor], n: int) -> torch.Tensor:
    """The published loss: 6 times the relative squared error of the states, and the cross entropy of the tokens."""
    prediction, logits = outputs(model, given, n)
    truth = given["states"][:, n:]
    squares = ((prediction - truth) ** 2).sum((1, 2)) / ((truth**2).sum((1, 2)) + 1e-5)
    return 6 * squares.mean() + F.cross_entropy(logits.flatten(0, 1), given["equation"][:, 1:].flatten())


def train(settings: dict) -> dict:
    """Settings: those of the model, and optionally `compile` (bool)."""
    model, given, n = Prose(settings), inputs(settings), settings["data"]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    both = lambda given: loss(model, given, n)
    apply = torch.compile(both) if settings.get("compile") else both

    def forward():
        with torch.no_grad():
            return apply(given)

    def step():
        optimiser.zero_grad(set_to_none=True)
        apply(given).backward()
        optimiser.step()

    with torch.no_grad():
        prediction, logits = outputs(model, given, n)
    values = torch.cat((prediction.flatten(), logits.flatten())).numpy()
    return {"forward": forward, "step": step, "outputs": values, "info": _info(model)}
