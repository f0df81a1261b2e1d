"""The command `ziggurat`: the verbs, and one place where a mistake becomes one sentence and exit code 2."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import NoReturn

import typer

import ziggurat
from ziggurat.cli import claiming, comparing, doctoring, editing, listing, remembering, showing, using
from ziggurat.cli.serving.serve import serve

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Published methods of representation learning: compare them on your data, use the best one, and check what papers claim.",
    epilog="Start with: ziggurat compare digits mlp resnet18:stem=cifar --budget 30s",
)

app.command("list")(listing.list_)
app.command("show")(showing.show)
app.command("doctor")(doctoring.doctor)
app.command("claim")(claiming.claim)
app.command("compare")(comparing.compare)
app.command("train")(using.train)
app.command("evaluate")(using.evaluate)
app.command("explain")(using.explain)
app.command("embed")(remembering.embed)
app.command("search")(remembering.search)
app.command("edit")(editing.edit)
app.command("forget")(editing.forget)
app.command("serve")(serve)
app.command("export")(using.export)


def version(value: bool) -> bool:
    """Prints the version and ends, where that was asked for."""
    if value:
        print(ziggurat.__version__)
        raise typer.Exit
    return value


@app.callback()
def main(
    show_version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
) -> None:
    """Options of the command itself."""


def sentence(error: BaseException) -> str:
    """What a person should read of an error."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "the disk is full; free some space or choose another folder with --out."
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}; check the path and its permissions."
    return " ".join(str(error).split()) or type(error).__name__


def run() -> None:
    """Entry point: runs the command; a mistake ends with one sentence on stderr and exit code 2, Ctrl-C with 130."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = show_warning
            for category in (DeprecationWarning, FutureWarning):  # of libraries, for their authors
                warnings.filterwarnings("ignore", category=category, append=True)
            code = app(standalone_mode=False)  # the parser returns 130 where it was interrupted
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads our output, `head` for instance, has enough
        give_up_stdout()
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        if os.environ.get("ZIGGURAT_DEBUG"):
            raise
        if isinstance(error, ValueError | OSError | FloatingPointError):
            stop(sentence(error), 2)
        if hasattr(error, "format_message"):  # the parser's own mistakes: an unknown option, a missing argument
            stop(error.format_message(), 2)
        raise
    if code == 130:
        stop("stopped; what was finished is kept.", 130)
    sys.exit(code if isinstance(code, int) else 0)


def show_warning(message: Warning | str, *where: object) -> None:
    """A warning as a person reads it: the sentence, without the place in the code."""
    print(f"ziggurat: {' '.join(str(message).split())}", file=sys.stderr)


def stop(text: str, code: int) -> NoReturn:
    """The one way in which a mistake ends."""
    if text:
        print(f"ziggurat: {text}", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        give_up_stdout()
    sys.exit(code)


def give_up_stdout() -> None:
    """Lets what is still in the buffer go nowhere: Python would raise over it once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    run()
