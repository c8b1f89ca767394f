"""Teaches a tokenizer the control tokens and gives a model rows for them.

Tokens are added as normal ones, so that decoding with ``skip_special_tokens=True`` keeps them, and
each must be exactly one id. Embeddings only grow. New rows are initialised here, explicitly,
because a model may have spare rows already (Qwen3): a library's "initialise when resized" would
leave those as they are. Knows tokenizers and models of ``transformers``; knows no stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from extracot.control import POLICY_TOKEN, level_token
from extracot.errors import ControlTokenError

# Words for levels from 0.0 to 1.0.
LENGTHS = (
    " tiny", " brief", " short", " compact", " modest", " medium", " moderate", " long",
    " extended", " thorough", " whole",
)  # fmt: skip
NOISE = 0.1
"""Spread of new rows around the mean row, as a share of the old entries' standard deviation."""


@dataclass(frozen=True, slots=True)
class ControlTokens:
    """Ids of the tokens in a prepared tokenizer.

    ``levels`` are in the order of the ratios; ``policy`` is ``None`` if it is not trained.
    ``added`` are the ids that the tokenizer did not know before: their rows need initialising.
    """

    think_start: int
    think_end: int
    levels: tuple[int, ...]
    policy: int | None
    added: tuple[int, ...]

    @property
    def all(self) -> tuple[int, ...]:
        """Every id, in the order in which tokens are added."""
        policy = () if self.policy is None else (self.policy,)
        return (self.think_start, self.think_end, *self.levels, *policy)


def prepare_tokenizer(
    tokenizer: Any,
    ratios: Sequence[float],
    *,
    policy: bool = True,
    think: tuple[str, str] = ("<think>", "</think>"),
) -> ControlTokens:
    """Add what is missing: think tags, level tokens by ascending ratio, the policy token.

    ``tokenizer`` (a fast one of ``transformers``) is changed in place; a second call changes
    nothing. Raises :class:`ControlTokenError` if a token is not exactly one id even when added,
    if two tokens share an id, or if decoding with ``skip_special_tokens=True`` loses one.
    """
    from tokenizers import AddedToken

    levels = [level_token(ratio) for ratio in ratios]
    names = [*think, *levels, *([POLICY_TOKEN] if policy else [])]
    added = []
    for name in names:
        if _single_id(tokenizer, name) is None:
            tokenizer.add_tokens([AddedToken(name, normalized=False, special=False)])
            added.append(name)
    ids = {name: single_id(tokenizer, name) for name in names}
    if len(set(ids.values())) != len(ids):
        raise ControlTokenError(f"two of the control tokens share an id: {ids}")
    for name, id_ in ids.items():
        if tokenizer.decode([id_], skip_special_tokens=True).strip() != name:
            raise ControlTokenError(
                f"{name} is lost when special tokens are skipped: this tokenizer holds it as one"
            )
    return ControlTokens(
        think_start=ids[think[0]],
        think_end=ids[think[1]],
        levels=tuple(ids[name] for name in levels),
        policy=ids.get(POLICY_TOKEN),
        added=tuple(ids[name] for name in added),
    )


def single_id(tokenizer: Any, token: str) -> int:
    """The one id that ``token`` is; raises :class:`ControlTokenError` if it is none or several."""
    id_ = _single_id(tokenizer, token)
    if id_ is None:
        raise ControlTokenError(f"{token} is not exactly one id in this tokenizer")
    return id_


def _single_id(tokenizer: Any, token: str) -> int | None:
    ids = tokenizer.encode(token, add_special_tokens=False)
    if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
        return None
    return int(ids[0])


def seed_words(tokens: ControlTokens, ratios: Sequence[float]) -> dict[int, str]:
    """A word of like meaning for every control token, each a different one while they last."""
    words = {tokens.think_start: " think", tokens.think_end: " answer"}
    if tokens.policy is not None:
        words[tokens.policy] = " choose"
    left = list(LENGTHS)
    for id_, ratio in zip(tokens.levels, ratios, strict=True):
        among = left or LENGTHS
        words[id_] = min(among, key=lambda word: abs(LENGTHS.index(word) / 10 - ratio))
        left = [word for word in left if word != words[id_]]
    return words


def grow_embeddings(
    model: Any,
    tokenizer: Any,
    added: Sequence[int],
    *,
    seed: int,
    words: Mapping[int, str] | None = None,
) -> int:
    """Give ``model`` a row for every token of ``tokenizer`` and initialise those of ``added``.

    A new row is the mean of the rows that were in use before (or of the tokens of its word in
    ``words``) plus normal noise of :data:`NOISE` times their standard deviation; the output matrix
    gets its own where it is not tied. Matrices never shrink; a tied pair stays tied. Same seed,
    same rows. Returns how many rows were added to the matrices (0 where spare rows sufficed).
    """
    import torch

    needed = max(len(tokenizer), max(tokenizer.get_vocab().values(), default=0) + 1)
    before = int(model.get_input_embeddings().weight.shape[0])
    if needed > before:
        model.resize_token_embeddings(needed, mean_resizing=False)
    grown = int(max(0, needed - before))
    if not added:
        return grown
    generator = torch.Generator().manual_seed(seed)
    in_use = min(before, min(added))
    matrices = [model.get_input_embeddings().weight]
    output = model.get_output_embeddings()
    if output is not None and output.weight is not matrices[0]:
        matrices.append(output.weight)
    with torch.no_grad():
        for weight in matrices:
            old = weight[:in_use].float()
            noise = torch.randn((len(added), weight.shape[1]), generator=generator)
            means = old.mean(dim=0).cpu()
            if words is not None:
                told = [words[id_] for id_ in added]
                means = torch.stack([_row_of(word, old, tokenizer, means) for word in told])
            rows = means + NOISE * old.std().cpu() * noise
            weight[list(added)] = rows.to(weight)
        bias = getattr(output, "bias", None)
        if bias is not None:
            bias[list(added)] = bias[:in_use].mean()
    return grown


def _row_of(word: str, rows: Any, tokenizer: Any, otherwise: Any) -> Any:
    """The mean of the rows of a word's tokens; ``otherwise`` where it has none of its own."""
    ids = tokenizer.encode(word, add_special_tokens=False)
    known = [id_ for id_ in ids if id_ < len(rows) and id_ != tokenizer.unk_token_id]
    return rows[known].mean(dim=0).cpu() if known else otherwise
