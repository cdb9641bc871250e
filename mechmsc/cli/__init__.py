"""The command line: parse, call one function, print. Defaults live in the library.

Results go to stdout, everything else to stderr.

Exit codes: 0 done, 1 the work failed, 2 the arguments are wrong.
"""

import sys
from collections.abc import Sequence

import typer

from mechmsc.cli import analyses, causes, conversations, lists
from mechmsc.errors import InputError, MechmscError

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help=__doc__.splitlines()[0].split(":")[0] + " of mechmsc."
)
app.add_typer(lists.models, name="models")
app.add_typer(lists.tasks, name="tasks")
for command in (*conversations.COMMANDS, *analyses.COMMANDS, *causes.COMMANDS):
    app.command()(command)

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: every error is one line on stderr, a traceback only with --debug (anywhere on the line)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="mechmsc", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        code, text = _explained(error)
        typer.echo(text, err=True)
    if code == INTERRUPTED:  # typer turns the interrupt into this code, and says nothing
        code, text = _explained(KeyboardInterrupt())
        typer.echo(text, err=True)
    sys.exit(code if isinstance(code, int) else 0)


def _explained(error: BaseException) -> tuple[int, str]:
    """Exit code and the one line that says what happened."""
    if hasattr(error, "format_message"):  # click's own: a usage error
        hint = " (see mechmsc --help)" if error.format_message() else ""
        return 2, f"mechmsc: {' '.join(error.format_message().split())}{hint}".rstrip()
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return 1, "mechmsc: interrupted; what was committed is kept, and the same command goes on from there"
    if isinstance(error, MechmscError):
        return (2 if isinstance(error, InputError) else 1), f"mechmsc: {' '.join(str(error).split())}"
    return 1, f"mechmsc: {type(error).__name__}: {' '.join(str(error).split())}; --debug shows where"
