"""`python -m deepgnn_cli` and the `deepgnn` command."""

import sys

from deepgnn_cli.cli.main import run_command
from deepgnn_cli.cli.terminal import finish, prepare


def main() -> None:
    """Run the command line and leave with its exit status."""
    prepare()
    sys.exit(finish(run_command(sys.argv[1:])))


if __name__ == "__main__":
    main()
