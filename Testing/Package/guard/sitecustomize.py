"""Python loads this at the start of every program of the run, workers included: what the checkout alone has stays
out of reach, and no connection leaves the computer.
"""

import os
import sys

CHECKOUT = os.environ["LIGHTSEG_CHECKOUT"] + os.sep
LOOPBACK = ("127.0.0.1", "::1")


def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 (pathlib is not loaded yet)
        if path.startswith(CHECKOUT):
            raise PermissionError(f"{path} is read from the checkout, not from the installed extension")
    elif event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in LOOPBACK:
        raise PermissionError(f"a connection to {arguments[1][0]} is opened")


sys.addaudithook(watch)
