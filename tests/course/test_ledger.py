"""What the ledger and the cost panel do inside a real kernel."""
import nbformat
from nbclient import NotebookClient

CELLS = [
    "from dlagg.course.ledger import Ledger, cost_panel\nimport time",
    "panel = cost_panel([10, 20, 40], {'sleep': lambda n: lambda: time.sleep(n / 1e5)}, repeat=1)",
    "panel",
    "panel.plot();",
    "ledger = Ledger('t')\nledger.row('q', 1.0, 1.5, tol=0.1)\nledger.check()",
    "ledger = Ledger('t')\nledger.row('q', 1.0, 1.05, tol=0.1)\nledger.check()",
]


def test_a_figure_shows_once_and_a_failing_ledger_fails_its_cell():
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    NotebookClient(nb, timeout=60, kernel_name="python3", allow_errors=True).execute()
    outputs = [cell.outputs for cell in nb.cells]
    pictures = [sum("image/png" in o.get("data", {}) for o in out) for out in outputs]
    assert pictures == [0, 0, 1, 1, 0, 0]
    assert [o.get("ename") for o in outputs[4]] == ["ParityError"] and "q" in outputs[4][0].evalue
    assert "text/html" in outputs[5][0].data and "t" in outputs[5][0].data["text/plain"]
