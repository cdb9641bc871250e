"""Self-correction as one would explain it on a blackboard: one conversation at a time, Hugging Face's model alone, the
whole conversation encoded again for every single token. For models whose chat template is ChatML."""

import os.path
from collections import namedtuple

import numpy as np
import torch

from mechmsc.noise import gumbel, noise_key

LETTERS = "abcdefghij"
END = "<|im_end|>"
Said = namedtuple("Said", "ids logprobs stop_reason")
Sampling = namedtuple("Sampling", "samples temperature top_p max_new_tokens seed", defaults=(0, 1.0, 1.0, 8, 0))


class Naive:
    """A model and a tokenizer, and nothing remembered between two tokens."""

    def __init__(self, hf, tokenizer, *, map_back=True):
        self.hf, self.tokenizer, self.map_back = hf, tokenizer, map_back
        self.end = tokenizer.convert_tokens_to_ids(END)

    def encode(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def logprobs(self, ids):
        """log p of the next token, after all of `ids`."""
        return self.hf(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].float().log_softmax(-1).numpy()

    @torch.no_grad()
    def teacher_forced(self, prompt, response):
        """log p of each token of a given response."""
        logits = self.hf(torch.tensor([[*prompt, *response]]), logits_to_keep=len(response) + 1).logits[0, :-1]
        return [float(row.log_softmax(-1)[token]) for row, token in zip(logits.float(), response, strict=True)]

    def respond(self, prompt, sampling, key=None):
        """Greedy without a key, else with the noise of the key."""
        ids, logprobs = [], []
        while len(ids) < sampling.max_new_tokens and ids[-1:] != [self.end]:
            raw = self.logprobs([*prompt, *ids])
            wanted = raw if key is None else noised(raw, key, len(ids), sampling)
            ids.append(int(wanted.argmax()))
            logprobs.append(float(raw[ids[-1]]))
        return Said(ids, logprobs, "eos" if ids[-1] == self.end else "length")

    def first_turn(self, item, order, instruction, system):
        listed = [f"({LETTERS[letter]}) {item.options[option]}" for letter, option in enumerate(order)]
        content = "\n".join([item.question, *listed]) + (f"\n\n{instruction}" if instruction else "")
        messages = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": content}]
        return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def next_turn(self, history, instruction):
        """Text of a further user turn; the end of the assistant's turn is written unless it was drawn."""
        closing = "" if history[-1] == self.end else END
        return f"{closing}\n<|im_start|>user\n{instruction}{END}\n<|im_start|>assistant\n"

    def converse(self, item, instructions, sampling, *, prefix=None, free=False, permutations=None, system=None):
        """A dict a round, of the conversation in canonical order.

        instructions: the text of each round; [None] for the question alone.
        """
        n = len(item.options)
        orders = [tuple((j + s) % n for j in range(n)) for s in range(permutations or n)] if n else [()]
        histories = {order: [] for order in orders}
        rows = []
        for round, instruction in enumerate(instructions, start=1):
            said, q = {}, {}
            for order in orders:
                first = round == 1
                text = (
                    self.first_turn(item, order, instruction, system)
                    if first
                    else self.next_turn(histories[order], instruction)
                )
                if n:
                    texts = [self.encode(f"{text}{prefix} ({LETTERS[j]})") for j in range(n)]
                    shared = os.path.commonprefix(texts)
                    labels = [ids[len(shared) :] for ids in texts]
                    histories[order] = histories[order] + shared
                    scores = [self.teacher_forced(histories[order], label) for label in labels]
                    p = np.exp([sum(score) for score in scores])
                    q[order] = [float(p[order.index(option)] / p.sum()) for option in range(n)]
                    said[order] = [Said(label, score, "forced") for label, score in zip(labels, scores, strict=True)]
                else:
                    histories[order] = histories[order] + self.encode(text)
            canonical = orders[0]
            prompt = histories[canonical]
            log_p = self.logprobs(prompt).astype(float)
            row = {"round": round, "prompt_ids": prompt, "first_token_entropy": -(np.exp(log_p) * log_p).sum()}
            if n:
                mean = [np.float32(sum(q[order][option] for order in orders) / len(orders)) for option in range(n)]
                choice = mean.index(max(mean))
                row |= {"choice": choice, "choice_probs": mean, "permutation_probs": [q[order] for order in orders]}
            for order in orders:
                if free or not n:
                    said[order] = self.respond(histories[order], sampling)
                else:
                    said[order] = said[order][order.index(choice) if self.map_back else choice]
                histories[order] = histories[order] + said[order].ids
            keys = [
                noise_key(seed=sampling.seed, item_id=item.item_id, round=round, sample=s)
                for s in range(sampling.samples)
            ]
            row["said"] = said[canonical]
            row["samples"] = [self.respond(prompt, sampling, key) for key in keys]
            rows.append(row)
        return rows


def noised(raw, key, step, sampling):
    """log p / temperature + g, and -inf outside the nucleus."""
    scores = raw / sampling.temperature
    p = np.exp(scores - scores.max())
    p /= p.sum()
    before = 0.0
    for token in np.argsort(-p):
        if before >= sampling.top_p:
            scores[token] = -np.inf
        before += p[token]
    return scores + gumbel(key, step=step, d_vocab=len(raw))
