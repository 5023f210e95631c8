"""The shape of the source, read with `ast`: who imports whom, how long things are, what BUILD says.

A rule takes a `Module` and yields what is wrong with it; each is first shown one that breaks it.
"""

import ast
import configparser
import graphlib
import importlib.metadata
import os
import re
import subprocess
import sys

import pytest

from tests import ROOT

FOLDERS = ("kerasformer", "pipelines", "apps", "tests")
OPTIONAL = (
    "matplotlib sklearn tensorflow_datasets ray tf2onnx onnx onnxruntime onnxruntime_extensions "
    "ai_edge_litert safetensors huggingface_hub ctranslate2"
)
WHAT_MAY_HIDE = f"{OPTIONAL} may, where `except ImportError` gives the `pip install` line"
PRIVATE = ("keras.src", "tensorflow.python")
PUBLIC_UNDERSCORES = {"_replace", "_asdict", "_fields", "_exit"}  # of named tuples, and of `os`
NEED_MORE_THAN_KERAS = ("kerasformer.tokenizers", "kerasformer.interop")
BAD_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
MAX_LINES, MAX_FUNCTION_LINES = 450, 60  # the latter without the docstring


def glob(patterns, exclude=()):
    paths = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    paths -= {path for pattern in exclude for path in ROOT.glob(pattern)}
    return sorted(path.relative_to(ROOT).as_posix() for path in paths)


def read_build():
    """Runs BUILD, whose language is a part of Python, with rules that only note their arguments."""
    targets = {}

    def rule(name, **attributes):
        targets[name] = attributes

    rules = dict.fromkeys(("py_library", "py_test", "filegroup"), rule)
    names = {**rules, "package": lambda **_: None, "glob": glob}
    exec(compile((ROOT / "BUILD").read_text(encoding="utf-8"), "BUILD", "exec"), names)
    return names["ROOMS"], names["OPEN"], names["PACKAGES"], targets


ROOMS, OPEN, PACKAGES, TARGETS = read_build()


def dotted(node):
    """Writes `a.b.c` for attributes of a name, and nothing for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    base = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return base and f"{base}.{node.attr}"


def inside(name, packages):
    """Tests whether a dotted name is one of the packages or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def nearest(table, name):
    """Finds the entry of a table of folders that a module lies in, or the closest around it."""
    entries = [entry for entry in table if inside(name, [entry.replace("/", ".")])]
    return max(entries, key=len, default=None)


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


def private_attributes(module, context):
    """Yields the private names of attributes that a module reads (`ast.Load`) or sets."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, context):
            if node.attr.startswith("_") and not node.attr.endswith("__"):
                yield node.attr


def definitions(module):
    """Returns the names of functions, classes, variables and private attributes of a module."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    names = {node.name for node in ast.walk(module.tree) if isinstance(node, kinds)}
    names |= {n.id for n in ast.walk(module.tree) if isinstance(n, ast.Name)}
    return names | set(private_attributes(module, ast.Store))


MODULES = read_modules()
PRIVATE_NAMES = set().union(PUBLIC_UNDERSCORES, *map(definitions, MODULES.values()))
PACKAGE_NAMES = {name.rpartition(".")[0] for name in MODULES}


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
    """Tests whether the tests of a module's folder import it, or those of all its users do."""
    folder = f"tests.{name.partition('.')[2].rpartition('.')[0]}".rstrip(".")
    tests = [test for test in MODULES if test.rpartition(".")[0] == folder]
    if f"{folder}.{name.rpartition('.')[2]}_test" in tests:
        return True
    if any({name, name.rpartition(".")[0]} & own_imports(MODULES[test]) for test in tests):
        return True
    users = [user for user in MODULES if name in own_imports(MODULES[user])]
    users = [user for user in users if not inside(user, ["tests"]) and user not in PACKAGE_NAMES]
    return bool(users) and all(map(is_tested, users))


def imports_what_its_room_may_not(module):
    room = nearest(ROOMS, module.name)
    shared = [entry for entry, tops in OPEN.items() if module.name.split(".")[0] in tops]
    allowed = [room, *ROOMS.get(room, ()), *shared]
    for name in module.imports:
        if name.startswith("."):
            yield f"imports {name}; write the whole name"
        elif room and inside(name, FOLDERS) and not nearest(allowed, owner(name) or name):
            yield f"imports {name}, but BUILD lets {room} import only {allowed[1:]}"


def imports_another_model(module):
    models = "kerasformer/models"
    if not module.name.startswith("kerasformer.models."):
        return
    for name in module.imports:
        # What several models are made of is a room of its own.
        is_model = nearest(ROOMS, owner(name) or name) == models
        if is_model and not owner(name).startswith(module.name):
            yield f"imports {name}; models never import each other"


def imports_undeclared_packages(module):
    allowed = {"keras"} if module.name.startswith("kerasformer") else {"keras", "numpy"}
    for entry in PACKAGES[nearest(PACKAGES, module.name)]:
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


def uses_private_attributes_of_others(module):
    for name in sorted(set(private_attributes(module, ast.Load)) - PRIVATE_NAMES):
        yield f"uses {name}, a private attribute that nothing in this project defines"


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
    (imports_what_its_room_may_not, "kerasformer.layers.masks", "from kerasformer import models"),
    (imports_what_its_room_may_not, "kerasformer.layers.masks", "import kerasformer.layers.blocks"),
    (imports_what_its_room_may_not, "kerasformer.decoding.beam", "import kerasformer.layers.masks"),
    (imports_what_its_room_may_not, "kerasformer.losses", "from pipelines import error_sentence"),
    (imports_what_its_room_may_not, "kerasformer.layers.blocks", "from .masks import causal_mask"),
    (imports_another_model, "kerasformer.models.vit", "from kerasformer.models import transformer"),
    (imports_undeclared_packages, "kerasformer.layers.masks", "import tensorflow as tf"),
    (imports_undeclared_packages, "pipelines.text.batches", "import torch"),
    (imports_undeclared_packages, "apps.serve", "import sacrebleu"),
    (uses_private_parts, "pipelines.runs.export", "from keras.src import backend"),
    (uses_private_parts, "pipelines.runs.export", "import tensorflow as tf\ntf.python.ops"),
    (uses_private_parts, "pipelines.runs.export", "import_module('keras.src.backend')"),
    (uses_private_parts, "apps.train", "from pipelines.training.loop import _step"),
    (uses_private_parts, "tests.x_test", "from pipelines.training import loop as t\nt._step()"),
    (uses_private_attributes_of_others, "apps.train", "def f(x):\n  x._flatten_layers()"),
    (hides_imports, "pipelines.runs.export", "def save():\n  import tensorflow"),
    (hides_imports, "pipelines.runs.export", "def plot():\n  import matplotlib"),
    (passes_a_budget, "apps.train", "x = 1\n" * (MAX_LINES + 1)),
    (passes_a_budget, "apps.train", "def main():\n" + "  x = 1\n" * (MAX_FUNCTION_LINES + 1)),
    (has_a_name_that_says_nothing, "pipelines.utils", ""),
    (asserts_outside_tests, "pipelines.runs.export", "assert True"),
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
        assert not list(hides_imports(Module("pipelines.runs.export", source)))


class TreeTest:
    def test_imports_form_no_circle(self):
        graph = {name: own_imports(module) for name, module in MODULES.items()}
        assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(MODULES)

    def test_every_module_has_a_test_file(self):
        for name in set(MODULES) - PACKAGE_NAMES:
            if inside(name, ["kerasformer", "pipelines"]) and "configs" not in name:
                assert is_tested(name), name

    def test_the_wheel_holds_the_library_and_needs_keras_alone(self):
        assert SETUP["options.packages.find"]["include"] == "kerasformer*"
        assert SETUP["options"]["install_requires"].split() == ["keras>=3.15,<3.16"]


class BuildTest:
    def test_each_source_file_lies_in_one_room(self):
        named = [path for target in TARGETS.values() for path in target.get("srcs", ())]
        named = [path for path in named if path.endswith(".py")]
        libraries = [path for name in ROOMS for path in TARGETS[name]["srcs"]]
        assert sorted(libraries) == sorted(set(libraries))
        assert set(named) >= set(glob([f"{folder}/**/*.py" for folder in FOLDERS]))

    def test_no_room_is_empty(self):
        assert [room for room in ROOMS if not TARGETS[room]["srcs"]] == []

    def test_every_room_sees_in_bazel_what_it_may_import(self):
        seen = {name: set(TARGETS[name]["deps"]) for name in ROOMS}
        assert ":kerasformer/layers/masks" in seen["kerasformer/layers/mixers"]
        assert ":kerasformer/layers/blocks" not in seen["kerasformer/layers/mixers"]
        assert all(f":{name}" not in seen[name] for name in ROOMS)

    def test_rooms_form_no_circle(self):
        graph = {room: [d.removeprefix(":") for d in TARGETS[room]["deps"]] for room in ROOMS}
        assert set(graphlib.TopologicalSorter(graph).static_order()) == set(ROOMS)


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
