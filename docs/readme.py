"""README.md from nbs/index.ipynb, by the site's own converter. `--check` writes nothing and fails when README.md is out of date."""
import json
import re
import sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

from nbsite import convert

ROOT = Path(__file__).resolve().parent.parent
LOCAL = r"(?!\w+:|#|/|assets/)"    # a relative link: no scheme, no anchor of this page, not a picture written beside the README


def body_and_pictures():
    "The Markdown, with links that hold at the repository's root, and the pictures that its cells drew."
    nb = convert(json.loads((ROOT / "nbs" / "index.ipynb").read_text(encoding="utf-8")))
    nb["cells"] = [c for c in nb["cells"] if "remove-cell" not in c["metadata"].get("tags", [])]
    where = {"output_files_dir": "assets/readme", "unique_key": "readme"}
    body, found = MarkdownExporter().from_notebook_node(nbformat.reads(json.dumps(nb), as_version=4), resources=where)
    body = re.sub(rf"\]\({LOCAL}([^)\s]+)\)", r"](nbs/\1)", body)
    body = re.sub(rf'((?:src|href)="){LOCAL}([^"]+)"', r'\1nbs/\2"', body)
    body = re.sub(r"\bnbs/\.\./", "", body)
    body = "\n".join(line.rstrip() for line in body.splitlines())
    return re.sub(r"\n{3,}", "\n\n", body).strip() + "\n", found["outputs"]


def main():
    body, pictures = body_and_pictures()
    files = {ROOT / "README.md": body.encode(), **{ROOT / name: data for name, data in pictures.items()}}
    if "--check" not in sys.argv:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    elif any(not path.exists() or path.read_bytes() != data for path, data in files.items()):
        sys.exit("README.md is not what nbs/index.ipynb makes; run `python docs/readme.py`")


if __name__ == "__main__":
    main()
