"""The command line: `sciml list | train | evaluate | compare | predict | benchmark | report | generate | info`."""

from sciml.cli._main import main as main
