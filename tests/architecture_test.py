"""The shape of the source, read with `ast`: who imports whom, how long things are, what BUILD says.

A rule takes a `Module` and yields what is wrong with it; each is first shown one that breaks it.
"""

import ast
import configparser
import fnmatch
import graphlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("kerasformer", "pipelines", "apps", "tests")
TASKS = {"pipelines.translation", "pipelines.classification"}
OPTIONAL = "matplotlib sklearn tensorflow_datasets ray tf2onnx onnx onnxruntime ai_edge_litert"
WHAT_MAY_HIDE = f"{OPTIONAL} may, where `except ImportError` gives the `pip install` line"
SERVES = "serving serving.* error_sentence image_files saved_models"
SERVING = [f"pipelines.{name}" for name in SERVES.split()]
PRIVATE = ("keras.src", "tensorflow.python")
NEED_MORE_THAN_KERAS = ("kerasformer.tokenizers", "kerasformer.interop")
BAD_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
MAX_LINES, MAX_FUNCTION_LINES = 350, 60  # the latter without the docstring

# What a module may import of this project; the first pattern that fits its name decides.
LAYERS = "kerasformer.layers"
MAY_IMPORT = (
    ("kerasformer", ("kerasformer",)),
    (LAYERS, (LAYERS,)),
    *((f"{LAYERS}.{name}", (LAYERS,)) for name in ("blocks", "pooling", "stacks", "stems")),
    (f"{LAYERS}.attention", (f"{LAYERS}.masks", f"{LAYERS}.positions")),
    (f"{LAYERS}.grid_positions", (f"{LAYERS}.positions",)),
    (f"{LAYERS}.*", (f"{LAYERS}.masks",)),
    ("kerasformer.models", ("kerasformer.models",)),
    ("kerasformer.models.vit", (LAYERS, "kerasformer.models.vit_variants")),
    ("kerasformer.models.*", (LAYERS,)),
    ("kerasformer.interop*", ("kerasformer.interop", "kerasformer.models", LAYERS)),
    ("kerasformer.inspect", (LAYERS,)),
    ("kerasformer.decoding", ("kerasformer.next_token",)),
    ("kerasformer.*", ()),
    ("pipelines.configs*", {*TASKS, "pipelines.configs"}),
    *((name, SERVING) for name in SERVING),
    ("pipelines*", ("kerasformer", "pipelines")),
    ("apps*", ("kerasformer", "pipelines", "apps")),
    ("tests*", FOLDERS),
)
# What a module may import beside the standard library: names of packages, or extras of setup.cfg.
MAY_USE = (
    ("kerasformer.tokenizers", ("pipelines",)),
    ("kerasformer.interop.*", ("pipelines", "numpy", "onnx", "litert")),
    ("kerasformer.inspect", ("numpy", "matplotlib")),
    ("kerasformer*", ()),
    ("pipelines.timm_peer", ("pipelines", "timm")),
    ("pipelines.serving.ray_engine", ("serve", "ray")),
    *((name, ("serve",)) for name in (*SERVING, "apps.program", "apps.serve")),
    *((name, ("serve", "demo")) for name in ("pipelines.page*", "apps.demo")),
    *((name, ("pipelines",)) for name in ("pipelines*", "apps*")),
    ("tests*", ("pipelines", "serve", "ray", "demo", "onnx", "litert", "test")),
)


def dotted(node):
    """Writes `a.b.c` for attributes of a name, and nothing for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    base = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return base and f"{base}.{node.attr}"


def inside(name, packages):
    """Says whether a dotted name is one of the packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def first_match(table, name):
    return next(value for pattern, value in table if fnmatch.fnmatchcase(name, pattern))


class Module:
    """A source file: its dotted name, its tree, and what it imports and refers to."""

    def __init__(self, name, source):
        self.name = name
        self.source = source
        self.tree = ast.parse(source, filename=name)
        self.functions = [n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef)]
        self.imports = []
        aliases = {}
        for node in ast.walk(self.tree):
            for bound, target in imported_names(node):
                self.imports.append(target)
                aliases[bound] = bound if target.startswith(f"{bound}.") else target
        self.references = self.imports + [
            ".".join([aliases[name.split(".")[0]], *name.split(".")[1:]])
            for name in map(dotted, ast.walk(self.tree))
            if name.split(".")[0] in aliases
        ]


def imported_names(node):
    """Lists `(bound name, full name)` of an import statement, or of an import by a string."""
    if isinstance(node, ast.Import):
        for name in node.names:
            yield (name.asname or name.name.split(".")[0]), name.name
    elif isinstance(node, ast.ImportFrom):
        for name in node.names:
            yield (name.asname or name.name), f"{'.' * node.level}{node.module or ''}.{name.name}"
    elif isinstance(node, ast.Call) and dotted(node.func).endswith(("import_module", "__import__")):
        if node.args and isinstance(node.args[0], ast.Constant):
            yield node.args[0].value, node.args[0].value


def read_modules():
    modules = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if source := path.read_text(encoding="utf-8"):  # Bazel adds empty `__init__.py` files
                modules[name] = Module(name, source)
    return modules


MODULES = read_modules()


def owner(name):
    """Finds the module of this project that a dotted name belongs to, or None."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def own_imports(module):
    """Lists the modules of this project that a module needs."""
    needed = {owner(name) for name in module.imports if inside(name, FOLDERS)}
    if any(inside(name, ["apps"]) for name in {module.name, *needed} - {None}):
        needed.add("apps")  # the package prepares TensorFlow for its programs
    return needed - {module.name, None}


def is_tested(name):
    """Says whether a module has a test file, or is a part of pipeline modules that have one."""
    if f"tests.{name.rpartition('.')[2]}_test" in MODULES:
        return True
    users = [user for user in MODULES if name in own_imports(MODULES[user])]
    users = [user for user in users if not inside(user, ["tests"])]
    return inside(name, ["pipelines"]) and bool(users) and all(map(is_tested, users))


def imports_upward(module):
    allowed = first_match(MAY_IMPORT, module.name)
    for name in module.imports:
        if name.startswith(".") or (inside(name, FOLDERS) and not inside(name, allowed)):
            yield f"imports {name}, but of this project it may only import {allowed}"
        if inside(module.name, ["pipelines"]) and inside(name, TASKS - set(allowed)):
            yield f"knows the task {name}; tasks are handed in by apps"


def imports_undeclared_packages(module):
    allowed = {"keras", "numpy"} if not module.name.startswith("kerasformer") else {"keras"}
    for entry in first_match(MAY_USE, module.name):
        allowed |= DECLARED.get(entry, {entry})
    roots = {name.split(".")[0] for name in module.imports if not name.startswith(".")}
    for root in sorted(roots - set(sys.stdlib_module_names) - set(FOLDERS) - allowed):
        yield f"imports {root}, which setup.cfg does not declare for it"


def uses_private_parts(module):
    for name in module.references:
        if inside(name, PRIVATE):
            yield f"uses {name}, which is private to its package"
        hidden = any(p.startswith("_") and not p.endswith("__") for p in name.split("."))
        if hidden and inside(name, (*FOLDERS, "keras", "tensorflow")):
            yield f"uses {name}, whose underscore says it is private"


def hides_imports(module):
    for function in module.functions:
        mended = set()
        for node in ast.walk(function):
            if isinstance(node, ast.ExceptHandler) and dotted(node.type) == "ImportError":
                mended = OPTIONAL.split() if "pip install" in module.source else mended
        for _, name in (pair for node in ast.walk(function) for pair in imported_names(node)):
            if name.split(".")[0] not in mended:
                yield f"hides the import of {name} in {function.name}; {WHAT_MAY_HIDE}"


def passes_a_budget(module):
    lines = len(module.source.splitlines())
    if lines > MAX_LINES:
        yield f"has {lines} lines, more than {MAX_LINES}"
    for function in module.functions:
        body = function.body[1:] if ast.get_docstring(function) else function.body
        lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
        if lines > MAX_FUNCTION_LINES:
            yield f"has {lines} lines in {function.name}, more than {MAX_FUNCTION_LINES}"


def has_a_name_that_says_nothing(module):
    stem = module.name.rpartition(".")[2]
    if stem in BAD_NAMES or stem.endswith(("_utils", "_helpers")):
        yield f"is called {stem}, which says nothing about its content"


def asserts_outside_tests(module):
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assert) and not module.name.startswith("tests."):
            yield f"asserts on line {node.lineno}; raise ValueError instead"


RULES_AND_BAD_EXAMPLES = [
    (imports_upward, "kerasformer.layers.masks", "import kerasformer.layers.attention"),
    (imports_upward, "kerasformer.decoding", "from kerasformer.layers import masks"),
    (imports_upward, "pipelines.image_files", "from kerasformer import inspect"),
    (imports_upward, "pipelines.training", "from pipelines import translation"),
    (imports_upward, "kerasformer.layers.blocks", "from .attention import MultiHeadAttention"),
    (imports_undeclared_packages, "kerasformer.layers.masks", "import tensorflow as tf"),
    (imports_undeclared_packages, "pipelines.batching", "import torch"),
    (imports_undeclared_packages, "apps.serve", "import sacrebleu"),
    (uses_private_parts, "pipelines.export", "from keras.src import backend"),
    (uses_private_parts, "pipelines.export", "import tensorflow as tf\ntf.python.ops"),
    (uses_private_parts, "pipelines.export", "import_module('keras.src.backend')"),
    (uses_private_parts, "apps.train", "from pipelines.training import _step"),
    (uses_private_parts, "tests.x_test", "from pipelines import training as t\nt._step()"),
    (hides_imports, "pipelines.export", "def save():\n  import tensorflow"),
    (hides_imports, "pipelines.export", "def plot():\n  import matplotlib"),
    (passes_a_budget, "apps.train", "x = 1\n" * (MAX_LINES + 1)),
    (passes_a_budget, "apps.train", "def main():\n" + "  x = 1\n" * (MAX_FUNCTION_LINES + 1)),
    (has_a_name_that_says_nothing, "pipelines.utils", ""),
    (asserts_outside_tests, "pipelines.export", "assert True"),
]
RULES = sorted({rule for rule, _, _ in RULES_AND_BAD_EXAMPLES}, key=lambda rule: rule.__name__)


def read_setup():
    """Reads setup.cfg: what is installed, and for each extra the import names it brings."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    declared = {}
    for extra, lines in setup["options.extras_require"].items():
        names = {re.split(r"[\[>]", line)[0].replace("_", "-") for line in lines.split()}
        declared[extra] = names | {  # What is not installed is imported by its own name.
            package
            for package, distributions in importlib.metadata.packages_distributions().items()
            if any(distribution.replace("_", "-") in names for distribution in distributions)
        }
    return setup, declared


SETUP, DECLARED = read_setup()


def read_build():
    """Runs BUILD, whose language is a part of Python, with rules that only note their arguments."""
    targets = {}

    def rule(name, **attributes):
        targets[name] = attributes

    def glob(patterns):
        found = [path for pattern in patterns for path in ROOT.glob(pattern)]
        return sorted(path.relative_to(ROOT).as_posix() for path in found)

    rules = dict.fromkeys(("py_library", "py_binary", "py_test"), rule)
    ignored = dict.fromkeys(("filegroup", "package"), lambda **_: None)
    source = (ROOT / "BUILD").read_text(encoding="utf-8")
    exec(compile(source, "BUILD", "exec"), {**rules, **ignored, "glob": glob})
    return targets


def module_of(path):
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


class RulesTest:
    @pytest.mark.parametrize(("rule", "name", "source"), RULES_AND_BAD_EXAMPLES)
    def test_a_rule_finds_what_breaks_it(self, rule, name, source):
        assert list(rule(Module(name, source)))

    @pytest.mark.parametrize("rule", RULES)
    def test_no_module_breaks_a_rule(self, rule):
        wrong = [f"{name} {what}" for name, module in MODULES.items() for what in rule(module)]
        assert not wrong, "\n".join(wrong)

    def test_an_optional_import_that_says_how_to_install_it_may_hide(self):
        source = (
            "def plot():\n  try:\n    import matplotlib\n"
            "  except ImportError as error:\n    raise ImportError('pip install x') from error"
        )
        assert not list(hides_imports(Module("pipelines.export", source)))


class TreeTest:
    def test_imports_form_no_circle(self):
        graph = {name: own_imports(module) for name, module in MODULES.items()}
        assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(MODULES)

    def test_every_module_has_a_test_file(self):
        packages = {name.rpartition(".")[0] for name in MODULES}
        for name in set(MODULES) - packages:
            if inside(name, ["kerasformer", "pipelines"]) and "configs" not in name:
                assert is_tested(name), name

    def test_the_wheel_holds_the_library_and_needs_keras_alone(self):
        assert SETUP["options.packages.find"]["include"] == "kerasformer*"
        assert SETUP["options"]["install_requires"].split() == ["keras>=3.15,<3.16"]


class BuildTest:
    def test_build_names_every_source_file_once(self):
        named = [s for target in read_build().values() for s in target.get("srcs", ())]
        named = sorted(module_of(source) for source in named if source != "tests/run.py")
        assert named == sorted(set(MODULES) - {"tests.run"})

    def test_build_repeats_the_imports_as_deps(self):
        targets = read_build()
        homes = {module_of(s): name for name, t in targets.items() for s in t.get("srcs", ())}
        wrong = []
        for name, target in targets.items():
            sources = {module_of(source) for source in target.get("srcs", ())} & set(MODULES)
            own = {home for s in sources for home in own_imports(MODULES[s])} & set(homes)
            own |= {"tests.conftest"} if "main" in target else set()
            needed = sorted({f":{homes[module]}" for module in own} - {f":{name}"})
            if sorted(target.get("deps", ())) != needed:
                wrong.append(f"{name}: deps should be {json.dumps(needed)}")
        assert not wrong, "\n".join(wrong)


class BackendTest:
    def test_the_library_imports_on_jax_where_only_keras_is_installed(self):
        names = [name for name in MODULES if inside(name, ["kerasformer"])]
        names = [name for name in names if not inside(name, NEED_MORE_THAN_KERAS)]
        absent = sorted(DECLARED["pipelines"] - {"absl"})  # absl comes with keras
        code = (
            f"import importlib, sys\nsys.modules.update(dict.fromkeys({absent}))\n"
            f"for name in {names}: importlib.import_module(name)\n"
            "import keras\nprint(keras.backend.backend())"
        )
        environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == "jax", done.stderr
