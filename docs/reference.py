"""The reference's pages, written from the real modules: one page a module, and an index by part."""
import importlib
import inspect
import pkgutil
from collections import namedtuple

import dlagg

Module = namedtuple("Module", "name line classes functions constants")


def first_line(obj):
    return (inspect.getdoc(obj) or "").strip().partition("\n\n")[0].replace("\n", " ")


def look(name):
    "What one module offers: the names in its `__all__`, or where it has none, the public ones it defines."
    mod = importlib.import_module(name)
    own = {k: v for k, v in vars(mod).items() if k in getattr(mod, "__all__", ()) or
           not hasattr(mod, "__all__") and getattr(v, "__module__", "") == name and not k.startswith("_")}
    classes = [k for k, v in own.items() if inspect.isclass(v) and v.__module__ == name]
    functions = [k for k, v in own.items() if k not in classes and callable(v) and getattr(v, "__module__", "") == name and v.__doc__]
    constants = [k for k in own if k.isupper() and k not in classes + functions]
    return Module(name, first_line(mod), classes, functions, constants)


def packages():
    "`{part package: [its modules]}`, in the order of `dlagg.__all__`."
    found = {}
    for part in (name for name in dlagg.__all__ if not name.startswith("_")):
        path = importlib.import_module(f"dlagg.{part}").__path__
        names = sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))
        found[part] = [look(f"dlagg.{part}.{name}") for name in names]
    return found


def underline(text, mark="="):
    return f"{text}\n{mark * (2 * len(text))}\n\n"


def module_page(module, home):
    "The page of one module: what it is, where it is written, a table of its names, and every entry."
    text = underline(module.name) + f".. py:module:: {module.name}\n\n{module.line}\n\n"
    if home:
        text += f"Written and explained in the notebook :doc:`/{home}`.\n\n"
    names = module.classes + module.functions
    if names:
        text += ".. autosummary::\n\n" + "".join(f"   {name}\n" for name in names) + "\n"
    for name in module.constants:
        value = repr(getattr(importlib.import_module(module.name), name))
        text += f".. py:data:: {name}\n   :value: {value if len(value) < 80 else value[:76] + ' ...'}\n\n"
    for kind, group in (("autoclass", module.classes), ("autofunction", module.functions)):
        for name in group:
            text += f".. {kind}:: {name}\n" + "   :members:\n" * (kind == "autoclass") + "\n"
    return text


def index_row(module):
    names = ", ".join(f":py:obj:`~{module.name}.{n}`" for n in module.classes + module.functions)
    short = module.name.removeprefix("dlagg.")
    return f"   * - :doc:`{short} </api/{module.name}>`\n     - {module.line}\n\n       {names}\n"


def index_page(found, captions):
    text = underline("Reference")
    text += ("Every public name of the package, by part. Each part also offers its most used names directly, "
             "as in ``from dlagg.course import share_path``.\n\n")
    titles = {folder.partition("_")[2]: caption for folder, caption in captions.items()}
    for part, modules in found.items():
        text += underline(titles.get(part, part), "-") + f"``dlagg.{part}``\n\n"
        if modules:
            text += ".. list-table::\n   :widths: 22 78\n   :class: modules\n\n" + "".join(map(index_row, modules)) + "\n"
    hidden = "".join(f"   {m.name.removeprefix('dlagg.')} </api/{m.name}>\n" for modules in found.values() for m in modules)
    return text + ".. toctree::\n   :hidden:\n\n" + hidden


def pages(homes, captions):
    "`{file name: text}` of the whole reference; `homes` maps a module to its notebook's page."
    found = {part: modules for part, modules in packages().items() if modules}
    texts = {f"api/{m.name}.rst": module_page(m, homes.get(m.name)) for modules in found.values() for m in modules}
    return {"api/index.rst": index_page(found, captions), **texts}
