"""What every command shares: failures become one line, and a missing library names its extra."""

from __future__ import annotations

import sys
from typing import Any

import click

from actstore.cli import terminal
from actstore.errors import ActstoreError, needing, one_line


class Verb(click.Command):
    """A command that names the extra to install if a required library is missing."""

    def invoke(self, ctx: click.Context) -> Any:
        with needing(str(self.name)):
            return super().invoke(ctx)


class Commands(click.Group):
    """Turns every failure into one line, unless ``--debug``."""

    command_class = Verb

    def main(self, *args: Any, **kwargs: Any) -> Any:
        terminal.prepare()
        sys.exit(terminal.finish(self._status(*args, **kwargs)))

    def _status(self, *args: Any, **kwargs: Any) -> int:
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
        except click.exceptions.Exit as error:
            code = error.exit_code
        except SystemExit as error:
            code = error.code
        except click.UsageError as error:
            error.show()
            code = 2
        except click.Abort:
            terminal.say("interrupted: run the same command again to continue", error=True)
            code = 1
        except click.ClickException as error:
            error.show()
            code = 1
        except Exception as error:
            if isinstance(error, BrokenPipeError) and terminal.reader_left():
                return 1
            if "--debug" in (kwargs.get("args") or sys.argv):
                raise
            hint = "" if isinstance(error, ActstoreError | OSError) else " (actstore --debug … shows where)"
            terminal.say(f"actstore: {one_line(error)}{hint}", error=True)
            code = 1
        return code if isinstance(code, int) else 0
