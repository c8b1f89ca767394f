"""Chat templates as models are published, each with a tokenizer to render it.

Read from the package ``trl``, from ``tests/data/templates`` and, where ``CHAT_TEMPLATES`` names
a folder, from there. Where no package brings a model's vocabulary, a small one stands in that has
the tokens that the template writes as added tokens: a prompt's text is then the model's, its ids
are not.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from extracot import PromptRenderer, ThinkTags
from tests.extracot import families, zoo

STORED = Path(__file__).resolve().parents[1] / "data" / "templates"
ARCHIVE = "CHAT_TEMPLATES"

_TAGS = (
    ("<think:opensource>", "</think:opensource>", "HYTK"),
    ("<seed:think>", "</seed:think>", "<seed:think>"),
    ("<mm:think>", "</mm:think>", "<mm:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_THINKING|>"),
    ("[THINK]", "[/THINK]", "[THINK]"),
    ("<|channel>thought", "<channel|>", "<|channel>thought"),
    ("<|channel|>analysis<|message|>", "<|end|>", "<|channel|>analysis"),
    ("<|inner_prefix|>", "<|inner_suffix|>", "<|inner_prefix|>"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>", "open_tag('think'"),
    ("<|think|>", "<|end|>", "<|begin|>assistant<|think|>"),
)
_TOKENS = re.compile(
    r"<\|[^|<>\s'\"{}]{1,40}\|?>|<[^|<>\s'\"{}]{1,40}\|>|</?[a-z_:]+>|\[/?[A-Z_]{3,}\]"
    r"|<｜[^｜<>\s'\"{}]{1,40}｜>|<SPECIAL_\d+>"
)
# Templates whose vocabulary a package brings.
_VOCABULARIES = {
    **dict.fromkeys(("qwen2_5", "qwen3", "qwen3_instruct_2507"), "qwen"),
    **dict.fromkeys(("deepseek_r1_distill", "deepseekv3"), "deepseek"),
}


@dataclass(frozen=True)
class RealTemplate:
    """A template: ``place`` is ``trl``, ``stored`` or ``archive``."""

    name: str
    place: str
    path: Path

    @property
    def text(self) -> str:
        """The template."""
        return self.path.read_text()

    @functools.cached_property
    def tags(self) -> ThinkTags:
        """The think tags that it writes."""
        text = self.text
        return next(
            (ThinkTags(start, end) for start, end, sign in _TAGS if sign in text), ThinkTags()
        )

    @property
    def vocabulary(self) -> str:
        """Whose vocabulary it is rendered with; empty: a stand-in."""
        return _VOCABULARIES.get(self.name, "") if self.place == "trl" else ""

    @functools.cached_property
    def tokenizer(self) -> Any:
        """A tokenizer with this template."""
        tags = (self.tags.start, self.tags.end)
        if self.vocabulary:
            return families.with_tokens(self.vocabulary, self.text, tags)
        backend = Tokenizer.from_str(zoo.trained("bytes"))
        backend.add_special_tokens([*zoo.SPECIAL, "<s>"])
        written = sorted({*_TOKENS.findall(self.text), *tags})
        backend.add_tokens([AddedToken(token, normalized=False) for token in written])
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token="<s>",
            eos_token="<|im_end|>",
            chat_template=self.text,
            clean_up_tokenization_spaces=False,
        )

    @functools.cached_property
    def renderer(self) -> PromptRenderer:
        """Our renderer of it."""
        return PromptRenderer(self.tokenizer, tags=self.tags)


def _found() -> dict[str, RealTemplate]:
    shipped = sorted((families.folder("trl") / "chat_templates").glob("*.jinja"))
    places = [("trl", path) for path in shipped if not path.stem.endswith("_training")]
    places += [("stored", path) for path in sorted(STORED.glob("*.jinja"))]
    if folder := os.environ.get(ARCHIVE):
        kept = {path.stem for _, path in places}
        places += [
            ("archive", p) for p in sorted(Path(folder).glob("*.jinja")) if p.stem not in kept
        ]
    return {path.stem: RealTemplate(path.stem, place, path) for place, path in places}


TEMPLATES = _found()
"""All that are at hand, by name."""
