"""The ``extracot`` command: parses first, imports what a subcommand needs after.

Exit codes: 0 success, 1 the server or the connection failed, 2 wrong usage or an unusable file,
130 Ctrl-C, 141 the reader of our output went away. Errors are one line on standard error.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

from extracot_client.terminal import printable

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction["_Parser"]

OK, FAILED, USAGE, INTERRUPTED, NO_READER = 0, 1, 2, 130, 141

BUDGET_HELP = "ratio in (0, 1], auto, native or none (default: the server's)"
_PROBLEM_HELP = "the problem; - reads standard input"
_MEANT = {"--url": "--base-url", "--server": "--base-url", "--key": "--api-key"}
_MEANT |= dict.fromkeys(("--effort", "--reasoning-effort", "--level", "--ratio"), "--budget")
_EPILOG = """\
The server and the key come from --base-url/--api-key or EXTRACOT_BASE_URL/EXTRACOT_API_KEY.
Exit codes: 0 success, 1 server or connection error, 2 wrong usage, 130 interrupted,
141 nobody reads the output any more.
"""


class _Parser(argparse.ArgumentParser):
    """argparse, with errors on one line; for an unknown flag the nearest of the command's."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else list(args)
        commands = self._commands()
        # argparse takes an unknown flag's value for the command, and complains of that.
        before = next((n for n, word in enumerate(words) if word in commands), 0)
        self._check_flags([word for word in words[:before] if word.startswith("--")])
        found, rest = super().parse_known_args(args, namespace)
        if not commands:  # else a command's own parser has seen them
            self._check_flags([word for word in rest if word.startswith("--")], unknown=True)
        return found, rest

    def _commands(self) -> dict[str, argparse.ArgumentParser]:
        choices = (action.choices for action in self._actions if not action.option_strings)
        return next((c for c in choices if isinstance(c, dict)), {})

    def _check_flags(self, words: Sequence[str], *, unknown: bool = False) -> None:
        """Refuse the first of these words that is none of the flags, or the start of one."""
        own = [flag for flag in self._option_string_actions if flag.startswith("--")]
        others = (p._option_string_actions for p in self._commands().values())
        known = [*own, *(flag for flags in others for flag in flags if flag.startswith("--"))]
        for word in words:
            flag = word.partition("=")[0]
            if unknown or not any(one.startswith(flag) for one in own):
                if flag in known and not unknown:
                    self.error(f"{flag} goes behind the command")
                near = [one for one in known if one == _MEANT.get(flag)]
                near = near or difflib.get_close_matches(flag, known, n=1, cutoff=0.7)
                self.error(f"unknown flag {flag}" + (f"; did you mean {near[0]}?" if near else ""))

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"extracot: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """``--version``: the only flag that needs the package imported."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        import extracot

        sys.stdout.write(f"extracot {extracot.__version__}\n")
        parser.exit(OK)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; importing nothing heavy."""
    parser = _Parser(
        prog="extracot",
        description="Client of an Extra-CoT server: prompts with a reasoning budget.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    # Taken before the command, too, where people put them; shown in the commands' own help.
    _add_connection(parser, shown=False)
    parser.add_argument("--json", action="store_true", default=False, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_ask(commands)
    compare = _add(commands, "compare", "send one problem at all budgets, side by side")
    compare.add_argument("problem", help=_PROBLEM_HELP)
    _add_budgets(compare, "the server's levels, auto if it has a policy, native and none")
    _add_sampling(compare)
    _add_sweep(commands)
    _add_batch(commands)
    _add_calibrate(commands)
    _add_adherence(commands)
    _add(commands, "models", "list what the server serves")
    card = _add(commands, "card", "show a model's budget card and the operator's policy")
    card.add_argument("--model", metavar="NAME", help="default: the only one served")
    chat = _add(commands, "chat", "chat over several turns")
    chat.add_argument("-b", "--budget", help=BUDGET_HELP + "; /budget changes it")
    _add_sampling(chat)
    page = _add(
        commands, "playground", "serve a page in the browser to compare budgets", as_json=False
    )
    page.add_argument("--model", metavar="NAME", help="default: the only one served")
    page.add_argument("--host", default="127.0.0.1", help="address to listen on")
    page.add_argument("--port", type=int, default=7860, metavar="N", help="default 7860")
    return parser


def _add_connection(parser: argparse.ArgumentParser, *, shown: bool) -> None:
    default = argparse.SUPPRESS if shown else None
    for flag, metavar, kind, text in (
        ("--base-url", "URL", str, "default: EXTRACOT_BASE_URL, else http://127.0.0.1:8000"),
        ("--api-key", "KEY", str, "seen by other users of this machine; better: EXTRACOT_API_KEY"),
        ("--timeout", "S", float, "longest silence of the server, in seconds (default 120)"),
    ):
        hint = text if shown else argparse.SUPPRESS
        parser.add_argument(flag, metavar=metavar, type=kind, default=default, help=hint)


def _add(
    commands: Commands, name: str, text: str, *, as_json: bool = True
) -> argparse.ArgumentParser:
    """A command's parser. What is not given there leaves alone what stood before the command."""
    parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    _add_connection(parser, shown=True)
    if as_json:
        parser.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON for scripts"
        )
    return parser


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="NAME", help="default: the only one served")
    parser.add_argument("--system", metavar="TEXT", help="system prompt (no longer calibrated)")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="reasoning and answer together")
    parser.add_argument(
        "--max-reasoning-tokens", type=int, metavar="N", help="hard ceiling of the reasoning"
    )
    parser.add_argument("--enforce", choices=("soft", "hard"), help="how a ratio is enforced")
    for flag, metavar, kind in (("--temperature", "T", float), ("--top-p", "P", float)):
        parser.add_argument(flag, metavar=metavar, type=kind, help="default: the model's own")
    parser.add_argument("--seed", type=int, metavar="N", help="makes sampling repeatable")


def _add_budgets(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--budgets", metavar="A,B,…", help=f"default: {default}")
    parser.add_argument("--concurrency", type=int, default=4, metavar="N")


def _add_ask(commands: Commands) -> None:
    parser = _add(commands, "ask", "send one problem and stream the reply")
    parser.add_argument("problem", help=_PROBLEM_HELP)
    parser.add_argument("-b", "--budget", help=BUDGET_HELP)
    parser.add_argument(
        "--reasoning",
        choices=("auto", "show", "hide"),
        default="auto",
        help="auto shows it on a terminal only, so that a pipe gets the bare answer",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no usage summary")
    _add_sampling(parser)


def _add_sweep(commands: Commands) -> None:
    parser = _add(commands, "sweep", "send many problems at several budgets and summarise")
    parser.add_argument(
        "problems", help="JSONL or CSV with question, and optionally answer, id; - reads JSONL"
    )
    _add_budgets(parser, "as for compare")
    parser.add_argument(
        "-o", "--out", metavar="FILE.jsonl", help="write rows here; the same command resumes"
    )
    parser.add_argument("--csv", metavar="FILE.csv", help="write all rows as a table")
    parser.add_argument(
        "--plot", metavar="FILE.png", help="accuracy against tokens (needs matplotlib)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N problems")
    _add_sampling(parser)


def _add_batch(commands: Commands) -> None:
    parser = _add(commands, "batch", "run a file of requests on the server and fetch the results")
    parser.add_argument(
        "file", metavar="FILE.jsonl", help="OpenAI's batch format; the same command resumes"
    )
    parser.add_argument(
        "--endpoint",
        default="/v1/chat/completions",
        metavar="PATH",
        help="where its lines go (default /v1/chat/completions)",
    )
    parser.add_argument(
        "--window", default="24h", metavar="TIME", help="after this it expires (default 24h)"
    )
    parser.add_argument("--no-wait", action="store_true", help="submit, or look, and return")
    parser.add_argument("--cancel", action="store_true", help="stop it; what was answered is kept")


def _add_measuring(parser: argparse.ArgumentParser, prompt: str) -> None:
    """What the commands that measure a server share; ``prompt`` is what is sent if unsaid."""
    parser.add_argument(
        "--problems",
        metavar="FILE",
        help="JSONL or CSV with question and answer, such as GSM8K or MATH-500 "
        "(default: 60 word problems that come with this package)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N problems")
    parser.add_argument(
        "--prompt",
        metavar="TEXT",
        help="what is sent, with {question} in it (default: " + prompt,
    )
    parser.add_argument("--concurrency", type=int, default=4, metavar="N")
    parser.add_argument("--plot", metavar="FILE.png", help="a picture (needs matplotlib)")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="reasoning and answer together")
    for flag, metavar in (("--temperature", "T"), ("--top-p", "P")):
        parser.add_argument(flag, metavar=metavar, type=float, help="default: the model's own")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed")


def _add_calibrate(commands: Commands) -> None:
    parser = _add(commands, "calibrate", "measure a model without levels and write a budget card")
    parser.add_argument("url", nargs="?", metavar="URL", help="the server; else --base-url")
    parser.add_argument("--model", metavar="NAME", help="default: the only one served")
    parser.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="CARD.json",
        help="the card; rows are kept beside it, and the same command resumes",
    )
    parser.add_argument(
        "--ratios", default="0.2,0.4,0.6,0.8,1", metavar="A,B,…", help="caps (default: %(default)s)"
    )
    parser.add_argument(
        "--efforts", metavar="A,B,…", help="efforts (default: those that the chat template takes)"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="replies per problem")
    parser.add_argument(
        "--plan", action="store_true", help="say how many requests and tokens it takes, and stop"
    )
    _add_measuring(
        parser,
        "the question, and where the server has no instruction of its own a line that asks for "
        "the final answer in a box)",
    )


def _add_adherence(commands: Commands) -> None:
    parser = _add(commands, "adherence", "measure how well servers keep to reasoning budgets")
    parser.add_argument("urls", nargs="+", metavar="URL", help="OpenAI-compatible servers")
    each = "once for all servers, or once for each in their order"
    parser.add_argument(
        "--field",
        action="append",
        metavar="F",
        help="how a budget is sent: extracot, vllm, llama.cpp, openrouter, anthropic, gemini, "
        f"nvidia, qwen, or a path such as reasoning.max_tokens; {each} (default: extracot)",
    )
    parser.add_argument("--model", action="append", metavar="NAME", help=f"the model; {each}")
    parser.add_argument("--name", action="append", metavar="N", help="what to call each server")
    parser.add_argument(
        "--key-from",
        action="append",
        metavar="VAR",
        help="the variable that holds the key; once for each server in their order, - for none",
    )
    parser.add_argument(
        "--caps",
        metavar="A,B,…",
        help="reasoning tokens (default: 20, 40, 60 and 80 %% of what the first server needs)",
    )
    parser.add_argument(
        "-o", "--out", required=True, metavar="FILE.json", help="the report; the command resumes"
    )
    parser.add_argument(
        "--tokenizer", metavar="PATH", help="a tokenizer.json, to recount reasoning tokens with"
    )
    parser.add_argument("--think-start", default="<think>", metavar="TAG", help="of the model")
    parser.add_argument("--think-end", default="</think>", metavar="TAG", help="of the model")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="replies per problem")
    _add_measuring(parser, "the question, and a line that asks for the final answer in a box)")


def complain(text: str) -> None:
    """One line on standard error, whatever that can show."""
    try:
        sys.stderr.write(f"extracot: {printable(' '.join(text.split()))}\n")
        sys.stderr.flush()
    except OSError:
        return


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit code."""
    # A stream that was closed before the start is none at all: what it would hold goes nowhere.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  - for as long as it runs
    # What the encoding cannot express becomes a question mark, not a traceback; what is read is
    # never altered.
    for stream, errors in ((sys.stdin, "strict"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
    try:
        arguments = build_parser().parse_args(argv)
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes at exit, too: what is still buffered goes nowhere, quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NO_READER


def _run(arguments: argparse.Namespace) -> int:
    from extracot_client.errors import ConfigurationError, ExtracotClientError, InvalidArgumentError

    command = importlib.import_module(f"extracot_client.commands.{arguments.command}")
    try:
        return cast(int, command.run(arguments))
    except (ConfigurationError, InvalidArgumentError) as error:
        complain(str(error))
        return USAGE
    except ExtracotClientError as error:
        complain(str(error))
        return FAILED
    except BrokenPipeError:
        raise
    except UnicodeDecodeError as error:
        complain(f"standard input is not {error.encoding}: {error.reason}")
        return USAGE
    except UnicodeEncodeError as error:  # of bytes in an argument
        complain(f"what cannot be written as UTF-8 was given: {error.object[:80]!r}")
        return USAGE
    except OSError as error:
        complain(f"{error.filename or 'a file'}: {error.strerror or error}")
        return USAGE


if __name__ == "__main__":
    sys.exit(main())
