"""The one exception type that users are meant to read."""

from __future__ import annotations


class IsodistillError(Exception):
    """A mistake in the input or the configuration, told in one sentence with its place and its mend.

    The command line prints the message without a traceback and exits with code 2; library users may
    catch it. Bugs of our own raise ordinary exceptions instead.
    """
