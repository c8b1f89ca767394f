"""``extracot-train compress --text trace.txt --question q.txt --ratio 0.3``: one trace, no YAML.

The result goes to standard output, figures to standard error. On a terminal the original is shown
with what was kept standing out. Parsing flags imports nothing heavy.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from extracot_training.config.flags import Once
from extracot_training.errors import ConfigError

_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("one trace, without --config")
    for flag, holds, told in (
        ("--text", "FILE", "the reasoning to shorten; - for stdin"),
        ("--question", "FILE", "the question it answers"),
        ("--ratio", "R", "share of tokens to keep, in (0, 1] [0.3]"),
        ("--compressor", "FOLDER", "a trained one [the shipped one]"),
        ("--tokenizer", "NAME", "whose tokens to count [the compressor's encoder's]"),
    ):
        group.add_argument(flag, action=Once, metavar=holds, help=told)
    group.add_argument("--json", action="store_true", help="text and figures as JSON")


def run_direct(args: argparse.Namespace) -> int | None:
    """Compress one text; ``None`` when ``--text`` was not given."""
    if args.text is None:
        for flag in ("question", "ratio", "compressor", "tokenizer", "json"):
            if getattr(args, flag) not in (None, False):
                raise ConfigError(f"--{flag} wants --text FILE as well")
        return None
    for flag in ("config", "set", "input", "out", "force"):
        if getattr(args, flag):
            raise ConfigError(f"--{flag} does not go with --text, which reads and fills no folder")
    try:
        ratio = float(args.ratio if args.ratio is not None else 0.3)
    except ValueError as error:
        raise ConfigError(f"--ratio {args.ratio}: want a number in (0, 1]") from error
    if not 0 < ratio <= 1:
        raise ConfigError(f"--ratio {args.ratio}: want a number in (0, 1]")
    text = _read(args.text, "--text")
    question = _read(args.question, "--question") if args.question else ""
    # Terminals want one answer, not the loading of weights told in bars.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return _compress(args, text, question.strip(), ratio)


def _compress(args: argparse.Namespace, text: str, question: str, ratio: float) -> int:
    from transformers.utils import logging

    from extracot_training.compression.segment import segment
    from extracot_training.stages.compress.stage import Compressor

    logging.disable_progress_bar()
    folder = Path(args.compressor) if args.compressor else None
    compressor = Compressor.load(folder, tokenizer=args.tokenizer)
    (one,) = compressor.compress(question, text, [ratio])
    if args.json:
        figures = {
            "target": one.target, "realised": round(one.realised, 6),
            "overshoot": round(one.overshoot, 6), "tokens": one.tokens,
            "tokens_full": one.tokens_full, "text": one.text,
        }  # fmt: skip
        print(json.dumps(figures, ensure_ascii=False))
        return 0
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        kept = set(one.kept)
        for index, atom in enumerate(segment(text)):
            style = _BOLD if index in kept else _DIM
            sys.stdout.write(f"{style}{atom.body}{_PLAIN}{atom.trail}")
        sys.stdout.write("\n")
    else:
        sys.stdout.write(one.text if one.text.endswith("\n") else one.text + "\n")
    print(
        f"kept {one.tokens} of {one.tokens_full} tokens: {one.realised:.3f}, wanted {ratio:g}",
        file=sys.stderr,
    )
    return 0


def _read(name: str, flag: str) -> str:
    try:
        if name == "-":
            return sys.stdin.buffer.read().decode("utf-8")
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{flag} {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{flag} {name}: not UTF-8 text") from error
