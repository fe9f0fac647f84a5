"""Run notebooks in place and keep their outputs: `make notebooks`, or `python docs/notebooks.py nbs/2_mining/04_kmeans.ipynb`.

The package is exported first, so that what a notebook imports is what the notebooks say, and again at the end.
"""
import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1_000_000    # bytes: a notebook larger than this is slow to open and to review


def notebooks():
    "Every notebook of the source, in course order."
    return sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def fold(nb):
    "What is hidden or folded on the site is folded in JupyterLab too, in place: a learner sees what teaches."
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("jupyter", None)
            if re.search(r"^#\|\s*(hide\s*$|code-fold: true)", cell.source, re.M):
                cell.metadata["jupyter"] = {"source_hidden": True}


def keep_pictures(nb):
    """Put what each slider showed into plain outputs, and drop the sliders' state, in place.

    The state is large and of no use without a kernel; the picture behind the slider is what a reader can see.
    """
    saved = nb.metadata.pop("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = [shown for output in cell.outputs for shown in [output, *behind(output, saved)]]


def behind(output, saved):
    "The outputs that a slider's own output area held when the notebook was saved."
    view = output.get("data", {}).get("application/vnd.jupyter.widget-view+json", {})
    slider = saved.get(view.get("model_id"), {}).get("state", {})
    areas = [saved.get(child.removeprefix("IPY_MODEL_"), {}) for child in slider.get("children", [])]
    return [nbformat.from_dict(shown) for area in areas for shown in area.get("state", {}).get("outputs", [])]


def run(path):
    "Execute one notebook in its own folder and write it back, whole or not at all."
    nb = nbformat.read(path, as_version=4)
    NotebookClient(nb, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    keep_pictures(nb)
    fold(nb)
    draft = path.with_suffix(".ipynb.tmp")
    nbformat.write(nb, draft)
    os.replace(draft, path)


def command(*args):
    subprocess.run([str(Path(sys.executable).with_name(args[0])), *args[1:]], check=True, cwd=ROOT)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks to run; all of them where none is named")
    parser.add_argument("--no-export", action="store_true", help="leave the exported package as it is")
    args = parser.parse_args()
    if not args.no_export:
        command("nbdev_export")
    failed = []
    for path in [p.resolve() for p in args.paths] or notebooks():
        start = time.perf_counter()
        try:
            run(path)
        except CellExecutionError as error:
            failed.append(path)
            print(error, file=sys.stderr)
        command("nbdev_clean", "--fname", str(path))
        size = path.stat().st_size
        if size > LIMIT:
            failed.append(path)
        print(f"{path.relative_to(ROOT)}  {time.perf_counter() - start:.1f} s  {size / 1e3:.0f} kB", flush=True)
    if failed:
        sys.exit("failed or over 1 MB: " + ", ".join(str(p.relative_to(ROOT)) for p in failed))
    if not args.no_export:
        command("nbdev_export")


if __name__ == "__main__":
    main()
