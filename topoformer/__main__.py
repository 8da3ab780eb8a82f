"""``python -m topoformer``: the command line without an installed script."""

from topoformer.cli import console

if __name__ == "__main__":
    console()
