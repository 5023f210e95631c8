"""What the documentation says is tried: examples run, sections are there, commands exist."""

import ast
import doctest
import functools
import importlib
import inspect
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import keras
import pytest

import kerasformer
from pipelines.demo_corpus import corpus
from tests import ROOT, programs

README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [kerasformer] + [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(kerasformer.__path__, "kerasformer.")
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"-m apps\.(\w+)([^`#|;&\n]*)")


def public_objects():
    """Lists the public classes and functions of the library, each where it is defined.

    Not named tuples, which the text of their module explains, nor the layers that no package
    exports, which are the common ground of others.
    """
    exported = [*vars(kerasformer.layers).values(), *vars(kerasformer.models).values()]
    for module in MODULES:
        for name, value in vars(module).items():
            is_class = inspect.isclass(value) and not issubclass(value, tuple)
            if is_class and issubclass(value, keras.layers.Layer) and value not in exported:
                continue
            if (is_class or inspect.isfunction(value)) and name[0] != "_":
                if value.__module__ == module.__name__:
                    yield value


def examples():
    """Lists the docstrings that hold examples, and gives each what a reader would have imported."""
    for module in MODULES:
        public = {name: value for name, value in vars(module).items() if name[0] != "_"}
        for test in doctest.DocTestFinder(exclude_empty=True).find(module):
            if test.examples:
                test.globs = {"__name__": module.__name__, "keras": keras, "ops": keras.ops}
                test.globs |= public
                yield pytest.param(test, id=test.name)


def section(docstring, title):
    """Returns what stands under a title of a docstring, or None."""
    found = re.search(rf"^{title}:\n(.*?)(?=^\S|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return found and found[1]


def undocumented(docstring, title, function, implied=("self", "training")):
    """Lists the parameters of a function that a section does not explain."""
    names = [str(p).split(":")[0].split("=")[0] for p in parameters(function)]
    lines = re.findall(r"^    ([*\w, ]+): ", section(docstring, title) or "", re.MULTILINE)
    return [name for name in names if name not in (*", ".join(lines).split(", "), *implied)]


def parameters(function):
    return list(inspect.signature(function).parameters.values())


def is_hinted(function):
    """Tests whether the types stand in the code, so that one sentence is enough for the rest."""
    return inspect.signature(function).return_annotation is not inspect.Signature.empty


def has_example(documented):
    return bool(re.search(r"^ *Example:\n\n *>>> ", documented.__doc__, re.MULTILINE))


def returns_something(function):
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    return any(isinstance(node, ast.Return) and node.value for node in ast.walk(tree))


PUBLIC = list(public_objects())


@pytest.mark.parametrize("documented", PUBLIC)
class DocstringTest:
    def test_it_begins_with_what_it_does(self, documented):
        first, *rest = inspect.cleandoc(documented.__doc__).splitlines()
        verb = first.split()[0].rstrip(",")
        assert verb.endswith("s") and verb[0].isupper(), f"begin with an active verb: {first}"
        assert first.endswith(".") and not (rest and rest[0]), first

    def test_it_explains_arguments_result_and_errors(self, documented):
        docstring = inspect.cleandoc(documented.__doc__)
        if inspect.isclass(documented):
            if "__init__" in vars(documented):
                assert not undocumented(docstring, "Args", documented.__init__)
            if issubclass(documented, keras.layers.Layer) and "call" in vars(documented):
                assert not undocumented(docstring, "Call arguments", documented.call)
                assert section(docstring, "Returns") and "\nMasking: " in docstring
        elif section(docstring, "Args") or not is_hinted(documented):
            assert not undocumented(docstring, "Args", documented)
            assert section(docstring, "Returns") or not returns_something(documented)
        if "raise ValueError" in inspect.getsource(documented):
            assert re.search(r"^ *Raises:$", inspect.getsource(documented), re.MULTILINE)

    def test_an_example_shows_it(self, documented):
        if inspect.isclass(documented) or not is_hinted(documented):
            users = [
                other
                for other in PUBLIC
                if other.__module__ == documented.__module__
                and re.search(rf"\b{documented.__name__}\(", inspect.getsource(other))
            ]
            assert any(map(has_example, [documented, *users]))

    def test_its_methods_are_documented_where_keras_does_not_do_it(self, documented):
        known = (keras.Model, keras.optimizers.schedules.LearningRateSchedule)
        methods = vars(documented) if inspect.isclass(documented) else {}
        for name in methods:
            method = getattr(documented, name)
            if name[0] != "_" and inspect.isroutine(method):
                assert method.__doc__ or any(hasattr(base, name) for base in known), name


class ExampleTest:
    @pytest.mark.parametrize("example", list(examples()))
    def test_example_prints_what_it_says(self, example):
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        report = []
        doctest.DocTestRunner(optionflags=options).run(example, out=report.append)
        assert not report, "".join(report)


# What a test adds to the training of a document, to end in seconds: most of the time goes into
# graphs, which grow with the layers.
SHORT = " ".join(
    f"--config.{key}={value}"
    for key, value in {
        "train.steps": 47,
        "train.warmup_steps": 11,
        "train.validate_every": 47,
        "train.checkpoint_every": 47,
        "train.batch_tokens": 512,
        "tokenizer.vocabulary_size": 400,
        "model.num_layers": 1,
        "decode.prefix": "der",  # Without it, what is hardly trained may translate to nothing.
    }.items()
)
SHORT += " --profile=3:5"


def write_pairs(folder):
    """Writes the files that the README names, a few pairs each."""
    folder.mkdir()
    for split, pairs in corpus.splits().items():
        pairs = pairs[: 101 if split == "train" else 11]
        for language, lines in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
            text = "".join(line + "\n" for line in lines)
            (folder / f"{split}.{language}").write_text(text, encoding="utf-8")


def run_commands(code, folder):
    """Runs the lines of a shell block, all of them programs; returns what they print."""
    lines = code.replace("\\\n", " ").splitlines()
    assert all(line.startswith("python -m apps.") for line in lines), code
    done = programs.run(*(shlex.split(line)[2:] for line in lines), folder=folder)
    for program in done:
        assert program.returncode == 0, (program.args, program.stderr[-3000:])
    return "".join(program.stdout for program in done)


def run(command, folder):
    """Runs a command as a reader would in the checkout, but writes into another folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (command, done.stderr[-3000:])
    return done.stdout


def serve_and_ask(command, question, folder):
    """Runs the command of a server in a folder until it has answered what curl would ask it."""
    path = re.search(r"localhost:8501(\S+)", question)[1]
    body = re.search(r"-d '(.*?)'", question)[1].encode()
    with open(folder / "log", "w+") as log:
        server = programs.Program([*command.split()[2:], "--port=0"], log, log, folder)
        try:
            while not (address := re.search(r"Serving .* at (\S+)", (folder / "log").read_text())):
                assert server.poll() is None, (folder / "log").read_text()[-3000:]
                time.sleep(0.1)
            with urllib.request.urlopen(address[1] + path, body) as answer:
                return json.load(answer)
        finally:
            server.terminate()
            assert server.wait(timeout=60) == 0


@pytest.mark.integration
class ReadmeTest:
    @pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
    def test_python_blocks_run_one_after_the_other(self, document, tmp_path):
        text = document.read_text(encoding="utf-8")
        lines = [""] * len(text.splitlines())
        for block in FENCE.finditer(text):
            known = ("python", "sh", "text", "yaml")
            assert block[1] in known, f"unknown kind of block: {block[0]}"
            if block[1] == "python":
                start = text[: block.start(2)].count("\n")
                code = block[2].splitlines()
                lines[start : start + len(code)] = code
        assert any(lines) or document != README, "README.md has no Python block"
        # Line numbers of an error are those of the document.
        (tmp_path / "document.py").write_text("\n".join(lines), encoding="utf-8")
        (done,) = programs.run(["document.py"], folder=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]

    def test_the_commands_train_a_translator_on_ones_own_pairs_and_serve_it(self, tmp_path):
        write_pairs(tmp_path / "my_pairs")
        outputs = []
        for kind, code in FENCE.findall(README.read_text(encoding="utf-8")):
            if kind == "sh" and "apps.serve" in code:
                command = re.search(r"^python -m apps\.serve .*$", code, re.M)[0]
                (question,) = re.findall(r"^\$ (curl .*)$", README.read_text("utf-8"), re.M)
                (answer,) = serve_and_ask(command, question, tmp_path)["predictions"]
                assert isinstance(answer["translation"], str)
            elif kind == "sh" and "runs/mine" in code:
                code = code.replace("apps.train ", f"apps.train {SHORT} ")
                is_python = code.startswith("python -c")
                outputs.append(
                    run(["bash", "-ec", code], tmp_path)
                    if is_python
                    else run_commands(code, tmp_path)
                )
        assert '"bleu"' in outputs[0] and (tmp_path / "alignment.png").stat().st_size > 1009
        assert "'translation'" in outputs[1]
        # As docs/training.md says, for the TensorBoard of `runs`.
        assert list(tmp_path.glob("runs/mine/plugins/profile/*/*.xplane.pb"))

    @pytest.mark.slow
    def test_the_demo_reaches_its_scores_and_leaves_what_it_says(self, tmp_path):
        demo = tmp_path / "demo"
        output = run(["make", "-C", str(ROOT), "demo", f"DEMO={demo}"], tmp_path)
        for half, metric, least in (("words", "bleu", 95), ("pixels", "top1", 0.97)):
            scores = json.loads((demo / half / "evaluation-test.json").read_text())
            assert scores[metric] >= least and json.dumps(scores) in output
            assert {"1"} == set(os.listdir(demo / half / "export"))
        for picture in ("alignment.png", "attention.png"):
            assert (demo / picture).stat().st_size > 1009

    def test_what_the_pages_use_of_the_demo_is_what_it_writes(self):
        written = set(re.findall(r"\$\(DEMO\)/(\w+)", (ROOT / "Makefile").read_text("utf-8")))
        for document in DOCUMENTS:
            used = re.findall(r"runs/make_demo/(\w+)", document.read_text("utf-8"))
            assert set(used) <= written, document.name
            assert document.name not in ("serving.md", "demo.md") or used

    def test_links_lead_to_files_and_no_figure_is_left_open(self):
        for document in DOCUMENTS:
            prose = FENCE.sub("", document.read_text("utf-8"))
            assert not re.findall(r"@[A-Z0-9_]+@|TODO", prose), document.name
            for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose):
                assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_the_reference_has_each_public_module():
    """A module that a package hands on is shown with the package."""
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("*.md"))
    faces = [name for name in os.listdir(ROOT / "kerasformer") if name[0] not in "_."]
    for name in faces:
        assert re.search(rf"^::: kerasformer\.{Path(name).stem}\b", pages, re.MULTILINE), name


def commands_of(document):
    """Lists `(program, arguments)` of the commands in a document."""
    text = document.read_text("utf-8") if document.exists() else ""
    return COMMAND.findall(text.replace("\\\n", " "))


def commands():
    """Maps each program that a document runs to `(document, flag)` of all flags given to it."""
    programs = {}
    for document in DOCUMENTS:
        for program, rest in commands_of(document):
            flags = re.findall(r"(?<=\s)--([\w.]+)", rest)
            programs.setdefault(program, []).extend((document.name, flag) for flag in flags)
    return programs


@pytest.fixture(scope="module")
def helps():
    """Asks all programs for `--help`."""
    found = programs.run(*([program, "--help"] for program in commands()))
    return {done.args[0]: done.stdout for done in found}


@pytest.mark.integration
class CommandTest:
    def test_the_readme_runs_the_programs(self):
        assert {"train", "evaluate", "export", "predict"} <= set(commands())

    @pytest.mark.parametrize(("program", "given"), commands().items())
    def test_every_flag_of_a_command_exists(self, program, given, helps):
        flags = re.findall(r"^  (?:-\w,)?--(?:\[no\])?(\w+):", helps[program], re.MULTILINE)
        assert flags, helps[program]
        for document, flag in given:
            name = flag.split(".")[0]
            assert name in flags or name.removeprefix("no") in flags, f"{document}: --{flag}"

    def test_every_config_of_a_command_exists_and_has_its_keys(self):
        for rest in (rest for document in DOCUMENTS for _, rest in commands_of(document)):
            found = re.search(r"--config=(\w+)", rest)
            if found:
                name = found[1].replace("my_config", "multi30k_en_de")
                config = importlib.import_module(f"pipelines.configs.{name}").get_config()
                for key in re.findall(r"--config\.([\w.]+)", rest):
                    *parents, last = key.split(".")
                    part = functools.reduce(getattr, parents, config)
                    assert last in part or not part.is_locked, key  # as `override` takes it
