"""Shared by server, training and client: control tokens, prompt, card, splitting, counting.

The contract between the server and the training, which meet only here. Standard library and
pydantic only.
"""

from extracot.answers import extract_answer
from extracot.card import (
    CARD_FILENAME,
    CARD_VERSION,
    PROMPT_FORMAT,
    BudgetCard,
    LevelCard,
    Provenance,
    tokenizer_hash,
)
from extracot.control import (
    DEFAULT_RATIOS,
    POLICY_TOKEN,
    Control,
    ControlKind,
    level_token,
    parse_level_token,
)
from extracot.errors import CardError, ControlTokenError, ExtracotError, PromptError
from extracot.figures import AccuracySummary, BaselineBin, BaselineCard, RatioSummary, TokenSummary
from extracot.prompt import Message, PromptRenderer, RenderedPrompt, Role, Tokenizer, ToolCall
from extracot.reasoning import Part, Piece, ReasoningSplitter, SplitText, ThinkTags, split_reasoning
from extracot.usage import mean_of_ratios, ratio_of_sums, realised_ratio, saved_tokens, split_saving

__version__ = "0.1.0"

__all__ = [
    "CARD_FILENAME",
    "CARD_VERSION",
    "DEFAULT_RATIOS",
    "POLICY_TOKEN",
    "PROMPT_FORMAT",
    "AccuracySummary",
    "BaselineBin",
    "BaselineCard",
    "BudgetCard",
    "CardError",
    "Control",
    "ControlKind",
    "ControlTokenError",
    "ExtracotError",
    "LevelCard",
    "Message",
    "Part",
    "Piece",
    "PromptError",
    "PromptRenderer",
    "Provenance",
    "RatioSummary",
    "ReasoningSplitter",
    "RenderedPrompt",
    "Role",
    "SplitText",
    "ThinkTags",
    "TokenSummary",
    "Tokenizer",
    "ToolCall",
    "extract_answer",
    "level_token",
    "mean_of_ratios",
    "parse_level_token",
    "ratio_of_sums",
    "realised_ratio",
    "saved_tokens",
    "split_reasoning",
    "split_saving",
    "tokenizer_hash",
]
