"""Looking into the folder of a cache."""

from graphs.synthetic import tree

OPEN = tree(60, seed=7)  # "dfs" orders it, and does not prove that nothing is better


def entries(cache):
    """The files of ``cache`` that hold an answer each."""
    return sorted(path for path in cache.folder.iterdir() if len(path.name) == len(f"{'0' * 64}.json.gz"))


def held(cache):
    """Bytes in them."""
    return sum(path.lstat().st_size for path in entries(cache))
