"""The command `ziggurat`: the verbs, and one place where a mistake becomes one sentence and exit code 2."""

from __future__ import annotations

import errno
import os
import sys

import typer

import ziggurat
from ziggurat.cli import claiming, comparing, doctoring, listing, using

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Published methods of representation learning: compare them on your data, use the best one, and check what papers claim.",
    epilog="Start with: ziggurat compare digits mlp resnet18:stem=cifar --budget 30s",
)

app.command("list")(listing.list_)
app.command("show")(listing.show)
app.command("doctor")(doctoring.doctor)
app.command("claim")(claiming.claim)
app.command("compare")(comparing.compare)
app.command("train")(using.train)
app.command("evaluate")(using.evaluate)
app.command("explain")(using.explain)
app.command("export")(using.export)


def version(value: bool) -> None:
    if value:
        print(ziggurat.__version__)
        raise typer.Exit


@app.callback()
def main(
    show_version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
) -> None:
    """Options of the command itself."""


def sentence(error: BaseException) -> str:
    """What a person should read of an error."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some space or choose another folder with --out."
    return " ".join(str(error).split()) or type(error).__name__


def run() -> None:
    """Entry point: runs the command; a mistake ends with one sentence on stderr and exit code 2, Ctrl-C with 130."""
    try:
        app(standalone_mode=False)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("ZIGGURAT_DEBUG"):
            raise
        print(f"ziggurat: {sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("ziggurat: stopped.", file=sys.stderr)
        sys.exit(130)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except Exception as error:
        # typer's own mistakes (an unknown option, a missing argument) carry their sentence and their code
        if hasattr(error, "format_message"):
            print(f"ziggurat: {error.format_message()}", file=sys.stderr)
            sys.exit(2)
        raise


if __name__ == "__main__":
    run()
