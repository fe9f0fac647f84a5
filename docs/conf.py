"""The site's configuration. The prose is in nbs/; nbsite.py and reference.py beside this file do the work."""
import os
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]
os.environ.setdefault("MPLBACKEND", "agg")

import dlagg  # noqa: E402

project, author, copyright = "dlagg", "dlagg developers", "2026, dlagg developers"
version = release = dlagg.__version__
extensions = [
    "myst_nb", "nbsite", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary",
    "sphinx_copybutton", "sphinx_togglebutton",
]
root_doc = "index"
exclude_patterns = ["**/.ipynb_checkpoints", "**/*.tmp", "**/*.toml", "**/*.md"]

# Notebooks: the stored outputs are shown; nothing is run.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"    # tables in outputs
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "attrs_inline", "html_image"]
myst_heading_anchors = 4
myst_dmath_double_inline = True
nbsite_captions = {
    "0_course": "Course", "1_tables": "Tables", "2_mining": "Data mining", "3_nn": "Neural networks",
    "4_agg": "Aggregation", "5_scale": "Scale", "6_app": "Application", "7_cases": "Cases",
}
nbsite_extra = {          # files outside nbs/ that are pages too
    "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md", "data": "data/README.md",
}

# The reference
templates_path = [str(here / "_templates")]
autosummary_generate = False           # reference.py writes the pages, outside nbs/
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False     # Keras' own docstrings are Markdown
default_role = "py:obj"
numpydoc_show_class_members = False

# The look
html_theme = "sphinx_book_theme"
html_title = "dlagg"
html_static_path = [str(here / "_static")]
html_css_files = ["custom.css"]
html_js_files = ["site.js"]
html_logo = str(here / "_static" / "logo.svg")
html_favicon = str(here / "_static" / "favicon.svg")
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
html_context = {"default_mode": "auto"}   # without it the theme complains on a reader's first visit
html_theme_options = {
    "logo": {"text": "dlagg", "alt_text": "dlagg: rows become features, features become one row"},
    "navbar_persistent": [],           # the theme would show a second search box
    "show_navbar_depth": 1,
    "home_page_in_toc": False,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "pygments_light_style": "friendly",
    "pygments_dark_style": "github-dark",
    "search_bar_text": "Search the course and the reference",
    "toc_title": "On this page",
    "extra_footer": "",
    "footer_content_items": ["copyright.html"],
}
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
