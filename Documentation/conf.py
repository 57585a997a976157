"""How Sphinx builds the documentation: `make docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "LightSeg")]

import LightSegLib  # noqa: E402 (the path must be set first)
from generated_pages import write_pages  # noqa: E402

write_pages(HERE / "reference" / "generated")

project, author = "LightSeg", "LightSeg developers"
release = LightSegLib.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["*.py"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nitpicky = False
# The pages are built without what computes: signatures and docstrings need none of it.
autodoc_mock_imports = ["SimpleITK", "numpy", "pydicom", "requests", "scipy", "torch", "urllib3"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = f"LightSeg {release}"
html_show_sphinx = False
