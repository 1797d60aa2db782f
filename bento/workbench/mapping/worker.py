"""The process that computes t-SNE, with the arguments VECTORS RESULT NICENESS.

It prints the share that is done, a line each time, and ends with whoever holds its standard input.
"""

import os
import sys
import threading
from pathlib import Path


def main(vectors: Path, result: Path) -> None:
    import numpy as np

    from bento.workbench.mapping.plane import project_tsne

    points = project_tsne(np.load(vectors), lambda share: print(f"{share:.3f}", flush=True))
    np.save(result, points)


def end_with_parent() -> None:
    os.read(0, 1)  # Python cannot end while a thread waits in sys.stdin
    os._exit(1)


if __name__ == "__main__":
    os.nice(int(sys.argv[3]))
    threading.Thread(target=end_with_parent, daemon=True).start()
    main(Path(sys.argv[1]), Path(sys.argv[2]))
