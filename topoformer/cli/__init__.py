"""The command line: results on stdout, talk and progress on stderr, errors as one line."""

import io
import os
import sys
from collections.abc import Sequence

from graphs.errors import GraphError, UnsupportedOp
from topoformer.cli.commands import CANNOT, COMMANDS, DONE, INTERRUPTED, USAGE
from topoformer.cli.options import UsageError, parse


def console() -> None:
    """Entry point of the ``topoformer`` command."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 cannot do it or a verification fails, 2 usage."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # any name can be printed, whatever the encoding
    arguments = list(sys.argv[1:] if argv is None else argv)
    code = DONE
    try:
        if arguments[:1] == ["train"]:  # has a command line of its own, and needs PyTorch
            from topoformer.net.train import main as train

            return train(arguments[1:])
        options = parse(arguments)
        code = COMMANDS[options.command](options)
        if sys.stdout is not None:  # closed by who has started this
            sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse has printed the help or the version
        return stop.code if isinstance(stop.code, int) else USAGE
    except UsageError as error:
        return _fail(str(error), USAGE)
    except (GraphError, UnsupportedOp, ValueError) as error:
        return _fail(str(error), CANNOT)
    except MemoryError:
        return _fail("there is not enough memory for it", CANNOT)
    except BrokenPipeError:  # the reader, `head` say, has seen enough
        _abandon_stdout()
        return code
    except OSError as error:
        _abandon_stdout()
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", CANNOT)
    except (KeyboardInterrupt, SystemError) as error:
        from topoformer.schedulers.stopper import is_interrupt

        if not is_interrupt(error):
            raise
        return _fail("interrupted", INTERRUPTED)


def _fail(text: str, code: int) -> int:
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
    print(f"topoformer: {line[:2000]}", file=sys.stderr)
    return code


def _abandon_stdout() -> None:
    """Drop what could not be written: Python would try again at exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
