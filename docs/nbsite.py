"""Sphinx extension: the nbdev notebooks as a site, through MyST-NB and without Quarto.

Notebooks are changed as they are read, never on disk: nbdev's `#|` directives become cell tags, names of the package become links
to the reference, and whatever needs a server or another host is replaced. The navigation is made from the folders. Pages that have
no notebook (the reference, "In depth") are written to a folder beside the output.
"""
import importlib.util
import json
import posixpath
import re
import runpy
import shutil
from pathlib import Path

from sphinx.project import Project

import reference

ROOT = Path(__file__).resolve().parent.parent
DIRECTIVE = re.compile(r"^\s*#\|\s*([\w-]+)\s*:?\s*(.*)$")
HIDE = {"hide", "default_exp", "exporti"}
ICON_FONT = re.compile(r'<link[^>]*href="https?://[^"]*font-awesome[^"]*"[^>]*>', re.S)
NAME = re.compile(r"(?<![`\w}])`([A-Za-z_][\w.]*)(?:\(\))?`(?!`)")
NOT_PROSE = re.compile(r"(^[ >]*```.*?^[ >]*```|\$\$.*?\$\$|^#+ .*?$|^\s*<.*?$|\[[^\]\n]*\]\([^)\n]*\))", re.S | re.M)
LINK = re.compile(r"\[([^\]\n]*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
HREF = re.compile(r'(<a [^>]*href=")(?!\w+:|#)([^"#]+)\.ipynb(?=["#])')
EXPORTS = re.compile(r"^#\| default_exp ([\w.]+)", re.M)
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = ('<p class="widget-note">A slider belongs here. It needs Python behind it: open this notebook in JupyterLab '
               '(<code>make learn</code>) to move it.</p>')


# ---- one notebook ----------------------------------------------------------------------------------------------------

def split_directives(src):
    "`({directive: argument}, code without the directive lines)`"
    found, body = {}, []
    for line in src.splitlines():
        if m := DIRECTIVE.match(line):
            found[m[1]] = m[2].strip().strip("\"'")
        else:
            body.append(line)
    return found, "\n".join(body).strip("\n")


def link_names(md, syms):
    "Turn `KMeans` into a link to its entry in the reference, but not in code, headings, HTML, mathematics or other links."
    parts = NOT_PROSE.split(md)
    parts[::2] = [NAME.sub(lambda m: "{py:obj}`%s <%s>`" % (m[1], syms[m[1]]) if m[1] in syms else m[0], p) for p in parts[::2]]
    return "".join(parts)


def tags_of(directives, code):
    "The MyST-NB cell tags that say what nbdev's directives say."
    pairs = {("echo", "false"): "remove-input", ("output", "false"): "remove-output", ("code-fold", "true"): "hide-input"}
    tags = {tag for (name, value), tag in pairs.items() if directives.get(name) == value}
    if HIDE & directives.keys() or directives.get("include") == "false" or not code.strip():
        tags.add("remove-cell")
    return tags


def offline(output):
    "An output that shows without a server and without another host."
    data = output.get("data", {})
    if WIDGET in data:
        return {"output_type": "display_data", "metadata": {}, "data": {"text/html": WIDGET_NOTE, "text/plain": "a slider"}}
    if "text/html" in data:
        data["text/html"] = ICON_FONT.sub("", "".join(data["text/html"]))
    return output


def convert_code(cell):
    directives, cell["source"] = split_directives("".join(cell["source"]))
    tags = set(cell["metadata"].get("tags", [])) | tags_of(directives, cell["source"])
    if "hide-input" in tags:
        label = directives.get("code-summary", "Code")
        cell["metadata"].setdefault("mystnb", {}).update(code_prompt_show=label, code_prompt_hide=label)
    cell["metadata"]["tags"] = sorted(tags)
    cell["outputs"] = [offline(o) for o in cell["outputs"]]
    return cell


def convert(nb, syms=()):
    "The notebook as it is published; `syms` maps a short name to the full name the reference knows."
    cells = []
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown":
            source = "".join(cell["source"])
            if re.fullmatch(r"#+ .* -", source.strip()):        # nbdev: '## Heading -' is not published
                continue
            cell["source"] = link_names(source, syms)
        elif cell["cell_type"] == "code":
            cell = convert_code(cell)
        cells.append(cell)
    nb["cells"] = cells
    nb["metadata"].pop("widgets", None)                         # or MyST-NB fetches a script from another host
    return nb


def summary(path):
    "`(title, one line)` of a notebook: its first heading and the block quote below it."
    cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    head = "".join(cells[0]["source"]) if cells else ""
    title, line = re.search(r"^# (.+)$", head, re.M), re.search(r"^> (.+(?:\n> .+)*)$", head, re.M)
    return (title[1] if title else Path(path).stem), (re.sub(r"\n> ", " ", line[1]) if line else "")


# ---- the navigation --------------------------------------------------------------------------------------------------

def depth(names):
    "`{lesson: [its in-depth notebooks]}` of one folder; None holds those that no lesson leads to (00_* and lone ones)."
    lessons, tree = [], {None: []}
    for name in sorted(names):
        owner = next((x for x in lessons if name.startswith(x + "_")), None)
        if owner:
            tree[owner].append(name)
        elif name.startswith("00_"):
            tree[None].append(name)
        else:
            lessons.append(name)
            tree[name] = []
    return tree


def toctree(pages, caption=""):
    caption = f":caption: {caption}\n" if caption else ""
    return "```{toctree}\n:hidden:\n%s\n%s\n```\n\n" % (caption, "\n".join(pages))


def parts(srcdir):
    "`{folder: tree}` for every folder with notebooks, in course order."
    found = {}
    for path in sorted(Path(srcdir).glob("*/*.ipynb")):
        found.setdefault(path.parent.name, []).append(path.stem)
    return {folder: depth(names) for folder, names in found.items()}


def navigation(app):
    "`{docname: Markdown with the toctrees that the page gets}`"
    nav, root = {}, ""
    for folder, tree in app.nbsite_parts.items():
        pages = [f"/{folder}/{name}" for name in tree if name] + [f"/{folder}/in_depth"] * bool(tree[None])
        root += toctree(pages, app.config.nbsite_captions.get(folder, folder.partition("_")[2].capitalize()))
        nav |= {f"{folder}/{name}": toctree(f"/{folder}/{x}" for x in under) for name, under in tree.items() if name and under}
    top = [f"/{p.stem}" for p in sorted(app.srcdir.glob("*.ipynb")) if p.stem != app.config.root_doc]
    extra = [f"/{name}" for name in app.nbsite_pages if "/" not in name]
    nav[app.config.root_doc] = root + toctree(["/api/index", *top, *extra], "Reference")
    return nav


def in_depth_page(app, folder, names):
    "A page that leads to the notebooks which no lesson leads to."
    caption = app.config.nbsite_captions.get(folder, folder)
    rows = []
    for name in names:
        title, line = summary(app.srcdir / folder / f"{name}.ipynb")
        rows.append(f"- [{title}](/{folder}/{name}.ipynb): {line}")
    return (f"# In depth\n\nWhat works behind the part *{caption}*, written for those who read or change the code. "
            "The lessons do not need it.\n\n" + "\n".join(rows) + "\n\n" + toctree(f"/{folder}/{n}" for n in names))


# ---- pages without a notebook ----------------------------------------------------------------------------------------

class Pages(Project):
    "Sphinx's list of documents, with those that lie outside the source folder."

    def discover(self, exclude_paths=(), include_paths=("**",)):
        super().discover(exclude_paths, include_paths)
        for name, path in self.outside.items():
            self.docnames.add(name)
            self._path_to_docname[path], self._docname_to_path[name] = name, path
        return self.docnames


def write_pages(app):
    "Write what has no notebook beside the output, never into nbs/, and tell Sphinx of it."
    folder = Path(app.doctreedir) / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    texts = reference.pages(app.nbsite_home, app.config.nbsite_captions)
    for part, tree in app.nbsite_parts.items():
        if tree[None]:
            texts[f"{part}/in_depth.md"] = in_depth_page(app, part, tree[None])
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    outside = {name.rpartition(".")[0]: folder / name for name in texts}
    app.project.__class__, app.project.outside = Pages, outside | app.nbsite_pages


def homes(srcdir):
    "`{module: docname}` of the notebooks that export one."
    found = {}
    for path in sorted(Path(srcdir).rglob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code" and (m := EXPORTS.search("".join(cell["source"]))):
                found[f"dlagg.{m[1]}"] = path.relative_to(srcdir).with_suffix("").as_posix()
    return found


def relink(md, home, pages):
    """Links that hold on the site, in the Markdown of the file `home` (its path in the repository).

    Files that are pages of the site lead there, notebooks too; a link to any other file of the repository, from outside nbs/, becomes plain text.
    """
    names = {path: name for name, path in pages.items()}
    level = "../" * (home.count("/") - 1 if home.startswith("nbs/") else 0)

    def link(m):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(home), m[2]))
        if path in names:
            return f'<a href="{level}{names[path]}.html{m[3] or ""}">{m[1]}</a>'
        if home.startswith("nbs/"):
            return m[0]
        return f"[{m[1]}](/{path[4:]}{m[3] or ''})" if path.startswith("nbs/") and path.endswith(".ipynb") else m[1]
    return HREF.sub(r"\1\2.html", LINK.sub(link, md))


# ---- what Sphinx calls -----------------------------------------------------------------------------------------------

def builder_inited(app):
    index = runpy.run_path(ROOT / "dlagg" / "_modidx.py")["d"]["syms"]
    app.nbsite_syms = {full[len(mod) + 1:]: full for mod, names in index.items() for full in names if "._" not in full}
    app.nbsite_pages = {n: ROOT / p for n, p in app.config.nbsite_extra.items() if (ROOT / p).is_file()}
    app.nbsite_home, app.nbsite_parts = homes(app.srcdir), parts(app.srcdir)
    app.nbsite_nav = navigation(app)
    write_pages(app)


def source_read(app, docname, source):
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md" and docname in app.nbsite_pages:
        source[0] = relink(source[0], app.config.nbsite_extra[docname], app.config.nbsite_extra)
    if path.suffix != ".ipynb":
        return
    nb = convert(json.loads(source[0]), app.nbsite_syms)
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = relink(cell["source"], f"nbs/{docname}.ipynb", app.config.nbsite_extra)
    if docname in app.nbsite_nav:
        nb["cells"].append({"cell_type": "markdown", "id": "nav", "metadata": {}, "source": app.nbsite_nav[docname]})
    source[0] = json.dumps(nb)


def page_context(app, pagename, templatename, context, doctree):
    "Tell the page what it is, for the style sheet: the home page, or an in-depth notebook."
    folder, _, name = pagename.rpartition("/")
    tree = app.nbsite_parts.get(folder, {})
    inner = name not in tree and any(name in names for names in tree.values())
    context["nbsite_kind"] = "home" if pagename == app.config.root_doc else "in-depth" if inner else "page"


def skip_member(app, what, name, obj, skip, options):
    "What scikit-learn and named tuples add by themselves says nothing of ours."
    doc = getattr(obj, "__doc__", None) or ""
    return True if re.fullmatch(r"set_\w+_request", name) or doc.startswith("Alias for field number") else None


def copy_mathjax(app, error):
    "Serve MathJax from the site itself: two files' worth of the 24 MB the package holds."
    if error or app.builder.format != "html":
        return
    package = Path(importlib.util.find_spec("sphinx-mathjax-offline").submodule_search_locations[0])
    source, target = package / "static" / "mathjax", Path(app.outdir) / "_static" / "mathjax"
    shutil.copytree(source / "output" / "chtml" / "fonts", target / "output" / "chtml" / "fonts", dirs_exist_ok=True)
    shutil.copy2(source / "tex-chtml.js", target)


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.config.mathjax_path = "mathjax/tex-chtml.js"
    app.add_config_value("nbsite_captions", {}, "env")
    app.add_config_value("nbsite_extra", {}, "env")
    app.add_source_suffix(".rst", "restructuredtext")
    app.connect("builder-inited", builder_inited)
    app.connect("source-read", source_read)
    app.connect("html-page-context", page_context)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("build-finished", copy_mathjax)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
