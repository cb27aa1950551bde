"""One thing each. Whoever imports any of it learns first of a Python that is too old, and of a file in the project that
hides a package which others import: their tracebacks name neither."""

import os
import sys

PACKAGES = {"torch", "torchvision", "torchmetrics", "numpy", "tensorboard", "tqdm", "yaml", "PIL", "matplotlib"}


def _mistake() -> str:
    if sys.version_info < (3, 10):  # noqa: UP036 - whoever reads the message has one
        return f"{sys.executable} is Python {sys.version.split()[0]}. Use Python 3.10 or newer."
    try:
        os.getcwd()
    except OSError:  # torch itself would end on it
        return "the working directory has been deleted. Change to another one."
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for entry in sorted(os.listdir(root)):
        name = entry.removesuffix(".py")
        is_module = name != entry or os.path.isfile(os.path.join(root, entry, "__init__.py"))
        if is_module and name in PACKAGES | sys.stdlib_module_names:
            return f"{entry} in the project hides the package {name}. Rename it."
    return ""


if _found := _mistake():
    print(f"error: {_found}", file=sys.stderr)
    raise SystemExit(2)
