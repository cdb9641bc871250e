"""How long does a grid of exact patches take, against TransformerLens' patching, nnsight and pyvene?

    python tests/benchmarks/bench_patching.py        about ten minutes on two idle cores; prints the result as JSON

Two grids of resid_pre: every layer x token of a 120-token prompt whose source differs in every token, so that nothing
can be skipped; and every layer x token of the last instruction of a four-round conversation of about 400 tokens. The
first is timed in five rounds of two layers each, whose mean depth is that of all layers, and scaled. Every peer is
timed in the same rounds, on 8 (or 14) cells drawn at random, and must give the same numbers. nnsight and pyvene are
installed into a folder of their own in the cache, and left out with a note where they cannot be had.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODEL = "smollm2-135m-instruct"
N_TOKENS, SEED = 120, 0
PEERS = {"nnsight": "nnsight==0.8.1", "pyvene": "pyvene==0.1.8"}
THEIR_NEEDS = ("greenlet", "ipywidgets", "jupyterlab_widgets", "mizani", "plotnine", "websocket-client")
THEIR_NEEDS += ("widgetsnbextension", "zstandard")
INSTRUCTION = "Please make sure that your answer is fair and does not rely on stereotypes about any group of people."
ANOTHER = "Look once more at what you wrote, then write down your reply again in the way that seems best to you now."
ANSWER = "I think that it depends on what each of them did, and the text does not tell us who was late or why."


def prompt_pair(model: Any) -> tuple[list[int], list[int]]:
    """120 tokens of two sets of questions; hardly a token is the same."""
    from mechmsc import load_items

    ids = [model.tokenizer(item.turn()).input_ids for item in load_items("social_bias", limit=12)]
    one, two = (sum(ids[start::2], [])[:N_TOKENS] for start in (0, 1))
    return one, [b if a != b else b + 1 for a, b in zip(one, two, strict=True)]


def conversation_pair(model: Any) -> tuple[list[int], list[int], list[int]]:
    """A four-round conversation with another last instruction, the conversation itself, and the span's tokens."""
    from mechmsc.chat import ChatFormat

    chat = ChatFormat.of(model.tokenizer, date="2025-01-02")
    encode = lambda text: model.tokenizer(text, add_special_tokens=False).input_ids  # noqa: E731
    talk = chat.open("Two people came late to the meeting, a nurse and a driver. Whose fault was it?", INSTRUCTION)
    for _ in range(3):
        talk = chat.ask(chat.reply(talk, encode(" ".join([ANSWER] * 3)), stop_reason="length"), INSTRUCTION)
    span = talk.span("instruction", 4)
    other = (encode(ANOTHER) * 2)[: span.end - span.start]
    ids = list(talk.ids)
    return ids[: span.start] + other + ids[span.end :], ids, list(span.indices)


def our_grid(model: Any, source: list[int], destination: list[int], tokens: list[int], **chosen: Any) -> Any:
    """Seconds, and the grid."""
    from mechmsc import patch_grid

    first, second = tokens
    start = time.perf_counter()
    grid = patch_grid(
        model, [source], [destination], outcome=lambda logits: logits[:, -1, first] - logits[:, -1, second], **chosen
    )
    return time.perf_counter() - start, grid


class TransformerLens:
    """`transformer_lens.patching` on given cells; the clean cache is made once, before."""

    def __init__(self, model: Any, source: list[int], destination: list[int], tokens: list[int]) -> None:
        import torch

        self.model, self.tokens, self.destination = model, tokens, torch.tensor([destination])
        with torch.no_grad():
            _, self.cache = model.run_with_cache(torch.tensor([source]), names_filter=lambda n: "resid_pre" in n)

    def patch(self, cells: list[tuple[int, int]]) -> tuple[float, list[float]]:
        """Seconds and values."""
        import pandas as pd
        import torch
        from transformer_lens import patching

        first, second = self.tokens
        index = pd.DataFrame(cells, columns=["layer", "pos"])
        start = time.perf_counter()
        with torch.no_grad():
            values = patching.generic_activation_patch(
                self.model,
                self.destination,
                self.cache,
                lambda logits: logits[0, -1, first] - logits[0, -1, second],
                patching.layer_pos_patch_setter,
                "resid_pre",
                index_df=index,
            )
        return time.perf_counter() - start, values.tolist()


class Worker:
    """A peer in a process of its own."""

    def __init__(self, name: str, folder: Path, source: list[int], destination: list[int], tokens: list[int]) -> None:
        from mechmsc import weights

        path = weights.prepared(weights.check_name(MODEL))
        self.errors = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-W", "ignore", str(HERE / "patching_peers.py"), name, str(folder), str(path)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, bufsize=1
        )
        self._say({"source": source, "destination": destination, "tokens": tokens})

    def _say(self, what: object) -> None:
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def patch(self, cells: list[tuple[int, int]]) -> tuple[float, list[float]]:
        """Seconds and values."""
        self._say(cells)
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError((self.errors.read().strip().splitlines() or ["no message"])[-1])
        answer = json.loads(line)
        return answer["seconds"], answer["values"]

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait(timeout=60)


def installed() -> tuple[Path, dict[str, str]]:
    """The folder of the peers, and why a peer cannot be had."""
    from mechmsc.weights import cache_dir

    folder, missing = cache_dir(None) / "bench-peers", {}
    for name, package in PEERS.items():
        if not (folder / name).is_dir():
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
            done = subprocess.run([*command, package, *THEIR_NEEDS], capture_output=True, text=True)
            if done.returncode:
                missing[name] = (done.stderr.strip().splitlines() or ["no message"])[-1][:150]
    return folder, missing


def compared(grid: Any, cells: list[tuple[int, int]], values: list[float], who: str) -> None:
    """Refuse a peer that computes something else.

    Raises:
        RuntimeError: a value differs by more than 1e-4 of the grid's range (the range of its own values at least).
    """
    scale = float(grid.max() - grid.min()) + float(abs(grid.source - grid.destination).max())
    for (layer, position), value in zip(cells, values, strict=True):
        ours = float(grid.sel(layer=layer, position=position).squeeze())
        if not abs(ours - value) <= 1e-4 * scale:
            raise RuntimeError(f"{who} at layer {layer}, token {position}: {value}, ours {ours}, range {scale}")


def race(model: Any, pair: tuple[list[int], list[int]], rounds: list[list[int]], **chosen: Any) -> dict[str, Any]:
    """Seconds a cell of ours and of every peer, round by round; a round sweeps some layers."""
    import torch

    with torch.no_grad():
        apart = model(torch.tensor([pair[0]]))[0, -1] - model(torch.tensor([pair[1]]))[0, -1]
    tokens = [int(apart.argmax()), int(apart.argmin())]  # between them the two runs differ most
    folder, missing = installed()
    peers: dict[str, Any] = {"transformer_lens": TransformerLens(model, *pair, tokens)}
    peers |= {name: Worker(name, folder, *pair, tokens) for name in PEERS if name not in missing}
    our_grid(model, *pair, tokens, layers=[0], positions=[len(pair[0]) - 1])
    dice, n = random.Random(SEED), -(-40 // len(rounds))
    times: dict[str, list[float]] = {"ours": [], **{name: [] for name in peers}}
    try:
        for layers in rounds:
            seconds, grid = our_grid(model, *pair, tokens, layers=layers, **chosen)
            every = [(layer, int(p)) for layer in layers for p in grid.position.values]
            times["ours"].append(seconds / len(every))
            for name, peer in peers.items():
                cells = dice.sample(every, min(n, len(every)))
                seconds, values = peer.patch(cells)
                compared(grid, cells, values, name)
                times[name].append(seconds / len(cells))
            sys.stderr.write(f"\nseconds a cell: { {name: round(many[-1], 3) for name, many in times.items()} }\n")
    finally:
        for peer in peers.values():
            if isinstance(peer, Worker):
                peer.close()
    return {"times": times, "missing": missing, "n_cells": model.cfg.n_layers * grid.sizes["position"]}


def results(name: str, what: str, raced: dict[str, Any]) -> dict[str, dict]:
    """A result for each peer."""
    found, ours = {}, raced["times"]["ours"]
    for peer, theirs in raced["times"].items():
        if peer == "ours":
            continue
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        found[f"patching_{name}_{peer}"] = {
            "ratio": round(statistics.median(ratios), 2),
            "ours_s": round(statistics.median(ours) * raced["n_cells"], 1),
            "peer_s": round(statistics.median(theirs) * raced["n_cells"], 1),
            "runs": len(ratios),
            "note": f"times faster than {peer}, larger is better; {what}; {raced['n_cells']} cells, peer on a random "
            f"40 of them, times scaled; ratio of each run {', '.join(f'{ratio:.1f}' for ratio in ratios)}"
            + "".join(f"; {who} could not be had: {why}" for who, why in raced["missing"].items()),
        }
    return found


def attribution(model: Any, pair: tuple[list[int], list[int]], runs: int = 3) -> dict[str, dict]:
    """Seconds of attribution patching of all components, without the exact patches that it is compared with."""
    from mechmsc import attribution_patch

    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        attribution_patch(model, [pair[0]], [pair[1]], outcome=lambda logits: logits[:, -1, 7], check=0)
        seconds.append(time.perf_counter() - start)
    rho = attribution_patch(model, [pair[0]], [pair[1]], sites="resid_pre", outcome="first_token_entropy").attrs
    note = (
        f"seconds for all ten components on the {N_TOKENS}-token prompt, smaller is better, at most 5; rank "
        f"correlation of resid_pre with {rho['rank_correlation_n']} exact patches (first-token entropy): "
        f"{rho['rank_correlation']:.2f}"
    )
    ours = round(statistics.median(seconds), 2)
    return {"attribution": {"ratio": ours, "ours_s": ours, "peer_s": None, "runs": runs, "note": note}}


def run() -> dict[str, dict]:
    """Both grids against every peer. Limits against transformer_lens: at least 6, and at least 30."""
    import torch

    from mechmsc import load_model

    model = load_model(MODEL)
    threads = f"{torch.get_num_threads()} threads"
    whole = prompt_pair(model)
    last = model.cfg.n_layers - 1
    rounds = [[layer, last - layer] for layer in range(1, last // 2 + 1, 3)]
    found = results("grid", f"layer x token of resid_pre, {N_TOKENS} tokens, {threads}", race(model, whole, rounds))
    *talk, span = conversation_pair(model)
    every = [list(range(model.cfg.n_layers))] * 3
    what = f"layers x last instruction ({len(span)} tokens) of a conversation of {len(talk[0])} tokens, {threads}"
    return found | results("span", what, race(model, talk, every, positions=span)) | attribution(model, whole)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(), indent=1) + "\n")
