"""What can be said after `steptrack`."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from steptrack_callbacks import __version__
from steptrack_callbacks.values.limits import did_you_mean

from . import arguments

_PLACE = "a SQLite file of `install(ledger=...)`, or the URL of a ledger"


class Parser(argparse.ArgumentParser):
    """A parser that complains in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


class CommandParser(Parser):
    """The parser of one command: what it does not know, no other one does."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse, and complain in the command's own name."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            meant = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return options, unknown


def build() -> Parser:
    """Build the parser, without importing any other part of the package."""
    parser = Parser(prog="steptrack", description="Budgets for the steps of an LLM program.")
    parser.add_argument("--version", action="version", version=f"steptrack-callbacks {__version__}")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=CommandParser
    )
    for add in (_demo, _doctor, _proxy, _run, _report, _top, _prices, _check, _ledger, _completion):
        add(commands)
    return parser


def _demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo", help="run three steps with budgets, offline, and print what they spent"
    )
    demo.add_argument(
        "--proxy", action="store_true", help="through a LiteLLM proxy that is started on loopback"
    )
    _add_json(demo)


def _doctor(commands: Any) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="say what is installed, and try whether calls are held to limits",
        description="Say which versions are installed and which were tested, and whether each place where a"
        " package is touched is as it was known. Then try one mocked call through each entry point and call"
        " mode: it must be refused where no call is left, and charged once where one is. Nothing is sent,"
        " and what is printed can be shown to anybody. Exit code 1: something is not as it should be.",
    )
    _add_json(doctor)


def _proxy(commands: Any) -> None:
    proxy = commands.add_parser("proxy", help="run a LiteLLM proxy with mock models and budgets")
    proxy.add_argument(
        "--example",
        action="store_true",
        required=True,
        help="required: an example is all that it runs, without key or network",
    )
    proxy.add_argument("--port", type=arguments.count, default=4000, metavar="N", help="4000 by default")
    proxy.add_argument(
        "--folder", metavar="DIR", help="where its two files are, or are written; a temporary one by default"
    )


def _run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="run a Python program under a budget",
        usage="steptrack run [options] SCRIPT [args ...]\n       steptrack run [options] -m MODULE [...]",
        description="Run a Python program, as `python SCRIPT` or `python -m MODULE` does, under one outermost"
        " step. Its LiteLLM and LangChain calls are charged to it, in its threads too. At the end the tree"
        " of steps is printed on stderr. Exit code 3: the budget was exhausted, whatever the program did with"
        " it; else the program's own.",
    )
    run.add_argument("--max-usd", type=arguments.usd, metavar="USD", help="most US dollars to spend")
    run.add_argument("--max-tokens", type=arguments.count, metavar="N", help="most input and output tokens")
    run.add_argument("--max-calls", type=arguments.count, metavar="N", help="most requests to send")
    run.add_argument(
        "--max-seconds", type=arguments.seconds, metavar="S", help="seconds after which calls are refused"
    )
    run.add_argument(
        "--enforce", choices=("estimate", "strict", "observe"), help="how strictly the limits are kept"
    )
    run.add_argument(
        "--unpriced",
        choices=("warn", "free"),
        help="what to do, under --max-usd, with models of unknown price: by default they are refused",
    )
    run.add_argument("--ledger", metavar="FILE|URL", help="where shared budgets and records are kept")
    run.add_argument("--config", metavar="FILE", help="a steptrack.toml")
    run.add_argument("--name", type=arguments.name, help="the outermost step's name, if not the program's")
    run.add_argument("--run-id", metavar="ID", help="name of the run: its spend is found again in the ledger")
    run.add_argument("--json", action="store_true", help="print the tree as one line of JSON, on stderr too")
    run.add_argument("-m", dest="module", metavar="MODULE", nargs=argparse.REMAINDER, help="run a module")
    run.add_argument("program", metavar="SCRIPT", nargs=argparse.REMAINDER, help="a file, and its arguments")


def _report(commands: Any) -> None:
    report = commands.add_parser("report", help="print the steps that a ledger keeps, as a tree")
    _add_place(report)
    report.add_argument("--html", metavar="OUT", help="write the report as one HTML file")
    report.add_argument("--run", metavar="ID", help="only the steps of this run")
    report.add_argument(
        "--since",
        type=arguments.moment,
        metavar="WHEN",
        help="only steps that ended since: 1d ago, or a date",
    )
    _add_json(report)


def _top(commands: Any) -> None:
    top = commands.add_parser("top", help="watch the budgets and runs of a ledger; Ctrl-C ends it")
    _add_place(top)
    top.add_argument("--once", action="store_true", help="print once, as is done where output is piped")
    top.add_argument(
        "--interval", type=arguments.seconds, default=1.0, metavar="S", help="seconds between two updates"
    )
    _add_json(top)


def _prices(commands: Any) -> None:
    prices = commands.add_parser("prices", help="say what models cost, and where the price is from")
    models: Any = prices.add_argument("models", metavar="MODEL", nargs="+", help="such as gpt-4o-mini")
    models.completer = arguments.models
    prices.add_argument(
        "--provider", help="who serves the model, if its name does not say so: azure, bedrock"
    )
    prices.add_argument(
        "--usage", type=arguments.usage, metavar="COUNTS", help="price input_tokens=1000,output_tokens=200"
    )
    prices.add_argument("--config", metavar="FILE", help="a steptrack.toml with prices of your own")
    _add_json(prices)


def _check(commands: Any) -> None:
    check = commands.add_parser("check", help="check a steptrack.toml")
    check.add_argument("file", metavar="FILE", nargs="?", default="steptrack.toml", help="the file")
    check.add_argument("--schema", action="store_true", help="print the JSON schema of the file instead")
    _add_json(check)


def _ledger(commands: Any) -> None:
    ledger = commands.add_parser("ledger", help="look into a ledger, prune it, export it")
    verbs = ledger.add_subparsers(dest="verb", required=True, metavar="VERB")
    info = verbs.add_parser("info", help="say what is kept, and how much of it")
    prune = verbs.add_parser("prune", help="forget what ended or expired before a time")
    prune.add_argument(
        "--before", type=arguments.moment, required=True, metavar="WHEN", help="how long ago (90d), or a date"
    )
    export = verbs.add_parser("export", help="write records of steps, or the accounts, to stdout")
    export.add_argument("--of", choices=("records", "accounts"), default="records", help="what to write")
    export.add_argument(
        "--since", type=arguments.moment, metavar="WHEN", help="only records of steps that ended since"
    )
    export.add_argument("--csv", action="store_true", help="write CSV")
    for verb in (info, prune, export):
        _add_place(verb)
        _add_json(verb)


def _completion(commands: Any) -> None:
    completion = commands.add_parser(
        "completion",
        help="print what lets a shell complete steptrack's arguments",
        description='For bash and zsh: eval "$(steptrack completion bash)"; for fish: steptrack completion'
        " fish | source",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))


def _add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("place", metavar="FILE|URL", nargs="?", default=argparse.SUPPRESS, help=_PLACE)
    place.add_argument("--ledger", dest="place", metavar="FILE|URL", help="the same, as `run` has it")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")
