"""The notebooks of the documentation: their code runs, shortened by their parameters."""

import json

import pytest

from tests import ROOT, programs

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(notebook):
    """Lists the code cells of a notebook: the text of each, its tags, and its outputs."""
    for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            yield "".join(cell["source"]), cell["metadata"].get("tags", ()), cell["outputs"]


@pytest.mark.integration
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_runs(notebook, tmp_path):
    lines = []
    for source, tags, _ in cells(notebook):
        lines.append(source)
        if "parameters" in tags:
            lines.append(f"STEPS, EPOCHS, WORKDIR = 2, 1, {str(tmp_path / 'run')!r}")
    assert len(lines) > sum(1 for _ in cells(notebook)), "no cell is tagged as parameters"
    script = tmp_path / "notebook.py"
    script.write_text("\n".join(lines))
    (done,) = programs.run([script], folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_a_notebook_shows_what_its_cells_gave(notebook):
    shown = [str(outputs) for _, _, outputs in cells(notebook)]
    assert any(shown) and not any("Traceback" in text for text in shown)
